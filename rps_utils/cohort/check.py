"""The gate for an existing manifest, as one page and as JSON: faults, counts, what was looked for, what images hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from rps_utils.cohort.contract import (
    AFFINE_TOLERANCE,
    HIGHEST_HU,
    LONGEST_FOLLOW_UP,
    LOWEST_HU_BELOW,
    SMALLEST_TUMOUR_ML,
    SPACING_MM,
    SPLITS,
    TUMOUR_HU,
    UNDETECTABLE,
    Notice,
    Problem,
    data_kind,
    plain_text,
    shown_id,
)
from rps_utils.cohort.manifest import inspect_manifest
from rps_utils.files import write_text
from rps_utils.imaging.formats.bounds import MOST_VOXELS

LOOKED_FOR = {
    "file": "CSV text in UTF-8, separated by commas, equal rows, no column twice or without a name",
    "persons": "no column that identifies somebody; pseudonyms of letters, digits, . _ -",
    "patients": "each once, in one split; no scan under two ids, altered or mirrored either; no file named twice",
    "outcome": f"months above 0 and up to {LONGEST_FOLLOW_UP:g}; a known event code; recurrences in every split",
    "clinical columns": "numbers with a decimal point, without units and codes for missing; no formula",
    "paths": "files .nii or .nii.gz below the manifest's folder: no address, link or .. that leads out",
    "checksums": "where given, those of the files",
    "grid": f"3-D, {MOST_VOXELS / 1e6:.0f} million voxels at most, {SPACING_MM[0]:g} to {SPACING_MM[1]:g} mm, right "
    f"angles; sform and qform, CT and mask alike within {AFFINE_TOLERANCE:g}",
    "CT": f"finite; air at {LOWEST_HU_BELOW:g} HU or below, nothing above {HIGHEST_HU:g} HU",
    "mask": f"0 and 1 only, {SMALLEST_TUMOUR_ML:g} ml or more, background around it, "
    f"on tissue (median {TUMOUR_HU[0]:g} to {TUMOUR_HU[1]:g} HU)",
}
IMAGE_FACTS = (
    *("patient_id", "matrix", "spacing_mm", "axes", "lowest_hu", "median_hu", "highest_hu"),
    *("labels", "tumour_ml", "tumour_median_hu"),
)


class Check(NamedTuple):
    """What the gate says of a manifest.

    Attributes
    ----------
    manifest : str
        File name.
    data_kind : str
        See `manifest.data_kind`.
    counts : dict of str to int
        Patients, events and problems, as far as the file can be read.
    problems : list of Problem
    notices : list of Notice
        To be looked at; they keep nobody out.
    images : pandas.DataFrame
        `IMAGE_FACTS`, one row a patient; empty cells where a file cannot be read.
    """

    manifest: str
    data_kind: str
    counts: dict[str, int]
    problems: list[Problem]
    notices: list[Notice]
    images: pd.DataFrame


def check(path: str | Path, n_jobs: int = 1) -> Check:
    """Check a manifest and tell what its images hold. Nothing is written.

    Parameters
    ----------
    path : str or Path
    n_jobs : int
        Processes that read voxels.

    Raises
    ------
    FileNotFoundError
        There is no such manifest.
    """
    cells, problems, notices, facts = inspect_manifest(path, n_jobs=n_jobs)
    rows = [facts.get(line, {}) for line in cells.index]
    images = pd.DataFrame(rows, columns=list(IMAGE_FACTS[1:]), index=cells.index)
    images.insert(0, "patient_id", cells.get("patient_id", pd.Series(dtype=str)).map(shown_id))
    return Check(Path(path).name, data_kind(cells), _counts(cells, problems), problems, notices, images)


def _counts(cells: pd.DataFrame, problems: list[Problem]) -> dict[str, int]:
    counts = {"patients": len(cells)}
    if len(cells):
        counts["events"] = int(cells["event"].isin(("1", "1.0")).sum())
        counts |= {name: int((cells["split"] == name).sum()) for name in SPLITS if "split" in cells}
    rows = {problem.row for problem in problems if problem.row is not None}
    return counts | {"problems": len(problems), "rows with a problem": len(rows)}


def as_dict(found: Check) -> dict[str, Any]:
    """Return a check as plain values for JSON: ``manifest, data_kind, sound, counts, problems, notices, images``."""
    images = found.images.astype(object).where(found.images.notna(), None)
    return {
        "manifest": found.manifest,
        "data_kind": found.data_kind,
        "sound": not found.problems,
        "counts": found.counts,
        "problems": [problem._asdict() for problem in found.problems],
        "notices": [notice._asdict() for notice in found.notices],
        "images": images.to_dict("records"),
    }


def write_page(found: Check, path: str | Path) -> Path:
    """Write a check as one page that works offline, with every fault as a row and no picture of anybody."""
    from rps_utils.pages import page_table, render_page

    told = [*found.problems, *found.notices]
    rows = [[plain_text(str(cell), 200) if cell is not None else "" for cell in p] for p in told]
    header = ["row", "patient", "column", "value", "allowed", "remedy"]
    faults = page_table(
        pd.DataFrame(rows, columns=header),
        "Every fault, then what to look at. Rows count lines, the header is 1.",
        None,
    )
    images = found.images.assign(patient_id=found.images["patient_id"].map(plain_text))
    page = render_page(
        "check.html",
        manifest=found.manifest,
        data_kind=found.data_kind,
        counts=found.counts,
        faults=faults,
        looked_for=LOOKED_FOR,
        undetectable=UNDETECTABLE,
        images=page_table(images, "Read from the files; no cell where a file cannot be read.", None),
    )
    return write_text(page, path)
