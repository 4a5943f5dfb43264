"""A synthetic cohort on disk: images, masks and manifest in the form of a real one, plus the truth beside them.

Everything is synthetic. The manifest, the images and their folder look like those of a real cohort, so nothing
that reads them needs to know. ``risk_Oracle`` holds the true log hazard as a ready-made score to compare with:
no model can do better than it, except by chance. In the variant without any signal it is 0 for everybody.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from joblib import delayed

from rps_utils.cohort.splits import draw_split
from rps_utils.files import file_sha256, remove_partial, whole_file, write_csv
from rps_utils.lab.phantom.ct import render_with_reference
from rps_utils.lab.phantom.patients import draw_patients, image_causes
from rps_utils.lab.phantom.worlds import DEFAULT_WORLD, find_world
from rps_utils.machine.progress import in_parallel

MANIFEST_COLUMNS = (
    *("patient_id", "image", "mask", "reference_map", "split", "time_months", "event"),
    *("age", "sex", "size_cm", "histology", "grade"),
    *("multifocal", "symptoms", "margin", "rupture", "organs_resected", "radiotherapy", "chemotherapy"),
    *("risk_Oracle", "data_kind", "image_sha256", "mask_sha256", "reference_map_sha256"),
)
IMAGE_KINDS = {"image": "ct", "mask": "mask", "reference_map": "reference"}  # column to the end of the file's name
COMPRESSION = 1


def write_cohort(
    folder: str | Path,
    patients: int = 115,
    seed: int = 2026,
    variant: str = "full",
    *,
    n_jobs: int = 1,
    training_share: float = 0.75,
    endpoint: str = "lr",
    visit_grid: bool = True,
    missing: bool = False,
    world: str = DEFAULT_WORLD,
) -> Path:
    """Write a synthetic cohort: images, masks, manifest and truth.

    Parameters
    ----------
    folder : str or Path
        Gets ``images/``, ``truth.csv`` and, last, ``data_manifest.csv``. Images already there are kept: a run
        that was stopped goes on where it was. Use a folder of its own for every seed and variant.
    patients, seed, variant, endpoint, visit_grid, missing
        See `phantom_patients.draw_patients`.
    n_jobs : int
        Processes that render side by side.
    training_share : float
        Share of patients in the training split, drawn within events and non-events. 115 give 86 and 29.
    world : str
        A name in `rps_utils.lab.phantom.worlds.WORLDS`: how the latents are written into the image. Patients and
        outcomes are the same in all of them.

    Returns
    -------
    Path
        The manifest.

    Raises
    ------
    ValueError
        The folder holds a cohort drawn otherwise, or an argument is out of range.
    """
    if not 0 < training_share < 1:
        raise ValueError(f"training_share is {training_share}: it must lie between 0 and 1")
    find_world(world)
    folder = Path(folder)
    cohort = draw_patients(patients, seed, variant, endpoint, visit_grid=visit_grid, missing=missing)
    cohort.insert(0, "patient_id", patient_names(patients))
    causes = image_causes(cohort, seed, variant)
    keep_one_cohort(folder, truth_table(cohort, causes, world))
    write_images(folder, cohort["patient_id"], causes, n_jobs, world)
    manifest = manifest_table(
        folder, cohort.assign(split=draw_split(cohort["event"], seed, training_share=training_share))
    )
    return write_csv(manifest, folder / "data_manifest.csv")


def patient_names(patients: int) -> list[str]:
    """Return RPS-001, RPS-002, ... with as many digits as the cohort needs, at least three."""
    digits = max(3, len(str(patients)))
    return [f"RPS-{i + 1:0{digits}d}" for i in range(patients)]


def truth_table(cohort: pd.DataFrame, causes: pd.DataFrame, world: str = DEFAULT_WORLD) -> pd.DataFrame:
    """Return what is true of each patient: log hazard, latents, what the image was rendered from, and its world."""
    own = cohort[["patient_id", "eta", "aggressiveness", "z_rad", "z_spat", "z_int", "side"]]
    table = own.join(causes.add_prefix("image_").rename(columns={"image_image_seed": "image_seed"}))
    return table if world == DEFAULT_WORLD else table.assign(world=world)


def keep_one_cohort(folder: Path, truth: pd.DataFrame) -> None:
    """Write ``truth.csv``, or raise ValueError where the folder already holds another cohort."""
    path = folder / "truth.csv"
    text = truth.to_csv(index=False, lineterminator="\n")
    if path.is_file() and path.read_text(encoding="utf-8") != text:
        raise ValueError(f"{folder} holds a cohort of another seed, variant, world or size: choose an empty folder")
    write_csv(truth, path)


def write_images(
    folder: Path,
    names: pd.Series,
    causes: pd.DataFrame,
    n_jobs: int,
    world: str = DEFAULT_WORLD,
) -> None:
    """Render every patient of whom a file is not there yet; each file appears whole."""
    remove_partial(folder / "images")  # of a rendering that was killed
    rows = causes.to_dict("records")
    jobs = [
        delayed(write_patient)(folder / "images", name, row, world)
        for name, row in zip(names, rows, strict=True)
        if not all((folder / "images" / f"{name}_{kind}.nii.gz").is_file() for kind in IMAGE_KINDS.values())
    ]
    for _ in in_parallel(jobs, n_jobs, "synthetic patients", ordered=False, before=len(names) - len(jobs)):
        pass


def write_patient(folder: Path, name: str, latents: Mapping, world: str = DEFAULT_WORLD) -> None:
    """Render one patient and write CT, mask and reference map."""
    ct, mask, affine, reference = render_with_reference(latents, int(latents["image_seed"]), world=world)
    for volume, kind in zip((ct, mask, reference), IMAGE_KINDS.values(), strict=True):
        write_nifti(volume, affine, folder / f"{name}_{kind}.nii.gz")


def write_nifti(volume: np.ndarray, affine: np.ndarray, path: Path) -> None:
    """Write a volume as NIfTI; the same volume always gives the same bytes (no clock, no file name inside)."""
    image = nib.Nifti1Image(volume, affine)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = b"synthetic"
    with (
        whole_file(path) as partial,
        partial.open("wb") as stream,
        gzip.GzipFile(filename="", mode="wb", compresslevel=COMPRESSION, fileobj=stream, mtime=0) as packed,
    ):
        packed.write(image.to_bytes())


def manifest_table(folder: Path, cohort: pd.DataFrame) -> pd.DataFrame:
    """Return the manifest: paths relative to `folder` with forward slashes, outcome, covariates and hashes."""
    table = cohort.assign(risk_Oracle=cohort["eta"], data_kind="synthetic")
    for column, kind in IMAGE_KINDS.items():
        table[column] = "images/" + cohort["patient_id"] + f"_{kind}.nii.gz"
        table[f"{column}_sha256"] = [file_sha256(folder / path) for path in table[column]]
    return table[list(MANIFEST_COLUMNS)]
