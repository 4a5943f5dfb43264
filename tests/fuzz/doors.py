"""The doors where strangers' bytes come in: a sound example of each, and what reads it.

A door may refuse in the project's own words (`ValueError` and its kinds, raised by this package) and in no other way,
within `SECONDS` of processor time and `MIB` of further memory.
"""

from __future__ import annotations

import json
import resource
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import pandas as pd

from rps_utils.cli.errors import _is_said_by_the_package
from rps_utils.cohort.manifest import check_manifest
from rps_utils.cohort.scans import header_faults, voxel_check
from rps_utils.files import read_csv, read_json
from rps_utils.ingest.clinical_table import Mapping, read_clinical, read_mapping
from rps_utils.ingest.export import ingest
from rps_utils.lab.faults.manifest import clinical_rows, small_scan, write_small_manifest
from rps_utils.lab.phantom.dicom import write_dicom_patient
from rps_utils.scores import read_scores

SECONDS, MIB = 10.0, 700


class Door(NamedTuple):
    """A file that a stranger may send.

    Attributes
    ----------
    files : dict of str to bytes
        What lies around it, sound.
    target : str
        The file whose bytes are changed.
    read : callable
        Reads it, given the folder.
    """

    files: dict[str, bytes]
    target: str
    read: Callable[[Path], object]


def _as_bytes(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@cache
def hospital() -> dict[str, bytes]:
    """Return one patient of 20 slices with SEG, one with RTSTRUCT, their table and a mapping."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for number, kind in enumerate(("seg", "rtstruct"), 1):
            ct, mask = small_scan(number)
            box = (slice(4, 24), slice(2, 22), slice(4, 24))
            write_dicom_patient(ct.box(box), mask.box(box), f"P{number}", folder, kind)
        clinical_rows().head(2).to_csv(folder / "clinical.csv", index=False)
        (folder / "map.yml").write_text("columns: {patient_id: patient_id, time_months: time_months, event: event}\n")
        with pd.ExcelWriter(folder / "clinical.xlsx") as book:
            clinical_rows().head(2).to_excel(book, index=False)
        return _as_bytes(folder)


@cache
def cohort() -> dict[str, bytes]:
    """Return a small manifest and its images."""
    with tempfile.TemporaryDirectory() as place:
        write_small_manifest(Path(place))
        for path in Path(place).glob("P[3-6]*"):
            path.unlink()
        table = read_csv(Path(place) / "data_manifest.csv").head(2)
        table.to_csv(Path(place) / "data_manifest.csv", index=False)
        return _as_bytes(Path(place))


@cache
def plain_nifti() -> dict[str, bytes]:
    """Return an image that is not compressed, so that changed bytes reach header and voxels."""
    with tempfile.TemporaryDirectory() as place:
        values = np.arange(8 * 8 * 8, dtype=np.int16).reshape(8, 8, 8)
        nib.save(nib.Nifti1Image(values, np.eye(4)), Path(place) / "ct.nii")
        return _as_bytes(Path(place))


@cache
def score_table() -> dict[str, bytes]:
    """Return a score table of two models."""
    rows = [
        {
            "patient_id": f"P{i}",
            "split": split,
            "time_months": 5.5 + i,
            "event": i % 2,
            "model": model,
            "kind": kind,
            "risk": i,
        }
        for i in range(6)
        for model in ("A", "B")
        for split, kind in [("training", "cross_fitted") if i < 3 else ("validation", "validation")]
    ]
    return {"scores.csv": pd.DataFrame(rows).assign(lrfs_12=0.5).to_csv(index=False).encode()}


def run_json() -> dict[str, bytes]:
    """Return a model of a run folder as JSON."""
    return {"models/rad.json": json.dumps({"features": ["a"], "coefficients": [1.5], "penalty": 0.1}).encode()}


def _ingest(folder: Path) -> object:
    return ingest(folder, folder / "clinical.csv", folder / "out", progress=lambda line: None)


def _image(name: str) -> Callable[[Path], object]:
    def read(folder: Path) -> object:
        image, faults = header_faults(folder / name, "image")
        return faults if image is None else voxel_check({"image": folder / name}, {})

    return read


DOORS: dict[str, Callable[[], Door]] = {
    "ct-slice": lambda: Door(hospital(), "P1/CT/0007.dcm", _ingest),
    "seg": lambda: Door(hospital(), "P1/seg.dcm", _ingest),
    "rtstruct": lambda: Door(hospital(), "P2/rtstruct.dcm", _ingest),
    "nifti": lambda: Door(plain_nifti(), "ct.nii", _image("ct.nii")),
    "nifti-gz": lambda: Door(cohort(), "P1_ct.nii.gz", _image("P1_ct.nii.gz")),
    "manifest": lambda: Door(cohort(), "data_manifest.csv", lambda f: check_manifest(f / "data_manifest.csv")),
    "scores": lambda: Door(score_table(), "scores.csv", lambda f: read_scores(f / "scores.csv")),
    "mapping": lambda: Door(hospital(), "map.yml", lambda f: read_mapping(f / "map.yml")),
    "table-csv": lambda: Door(hospital(), "clinical.csv", lambda f: read_clinical(f / "clinical.csv", Mapping())),
    "table-xlsx": lambda: Door(hospital(), "clinical.xlsx", lambda f: read_clinical(f / "clinical.xlsx", Mapping())),
    "json": lambda: Door(run_json(), "models/rad.json", lambda f: read_json(f / "models/rad.json")),
}


def knock(name: str, content: bytes) -> None:
    """Bring changed bytes to a door; AssertionError where it does anything but read or refuse within its bounds."""
    door = DOORS[name]()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as place:
        folder = Path(place)
        for path, sound in door.files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content if path == door.target else sound)
        before, started = _peak_mib(), time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                door.read(folder)
            except (ValueError, FileNotFoundError) as refusal:
                assert _is_said_by_the_package(refusal), f"{name}: {type(refusal).__name__} of a library"
            except Exception as error:
                raise AssertionError(f"{name}: {type(error).__name__}") from error
        seconds, mib = time.process_time() - started, _peak_mib() - before
        assert seconds < SECONDS, f"{name}: {seconds:.1f} s"
        assert mib < MIB, f"{name}: {mib} MiB"
        shutil.rmtree(folder / "out", ignore_errors=True)


def _peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def sound_bytes(name: str) -> bytes:
    """Return the sound file of a door."""
    door = DOORS[name]()
    return door.files[door.target]
