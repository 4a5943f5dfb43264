"""A pool of rendered phantom patients from which studies draw their cohorts."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from joblib import delayed
from scipy import ndimage

from rps_utils.files import whole_file
from rps_utils.imaging.crops import crop_isotropic
from rps_utils.imaging.features import ExtractionSettings, extract, pad_mm
from rps_utils.imaging.patches import PatchSettings, make_patch
from rps_utils.imaging.volumes import Volume
from rps_utils.lab.phantom.ct import render_patient
from rps_utils.lab.phantom.patients import draw_patients, image_causes
from rps_utils.machine.progress import in_parallel

POOL_SEED, POOL_PATIENTS = 770_001, 600
CROP_SPACING_MM = 3.0
FEATURES = ExtractionSettings(image_types=("original",))
PATCHES = PatchSettings()


@dataclass(frozen=True)
class Pool:
    """Synthetic patients with what the image models read of them.

    Attributes
    ----------
    patients : DataFrame
        ``patient_id``, clinical columns, latents and ``scanner``; no outcome.
    patches : ndarray of float16, (n, channels, S, S, S)
        Input of the networks.
    features : DataFrame
        Radiomic features, indexed by ``patient_id``.
    """

    patients: pd.DataFrame
    patches: np.ndarray
    features: pd.DataFrame


def make_pool(
    folder: str | Path,
    patients: int = POOL_PATIENTS,
    *,
    seed: int = POOL_SEED,
    n_jobs: int = 1,
    smoothing_mm: float = 0.0,
) -> Pool:
    """Render a pool of synthetic patients, or read what of it is there.

    Parameters
    ----------
    folder : str or Path
        Keeps one small file a patient (patch and features; the CT is not kept). A run that was stopped goes on.
    patients : int
        A pool that is large against the cohorts drawn from it keeps replicates nearly independent.
    seed : int
        Of covariates, latents and images; no other cohort of the project uses the default.
    n_jobs : int
        Processes; a patient takes about a second.
    smoothing_mm : float
        SD of a Gaussian that blurs each CT before anything is read of it: brings scans of several scanners nearer
        to one resolution and one noise. Such a pool needs a folder of its own.
    """
    people = draw_patients(patients, seed)
    people.insert(0, "patient_id", [f"POOL-{i:04d}" for i in range(patients)])
    jobs = (
        delayed(render_or_read)(row, Path(folder) / f"{name}.npz", smoothing_mm)
        for name, row in zip(people["patient_id"], image_causes(people, seed).to_dict("records"), strict=True)
    )
    patches, features = zip(*in_parallel(jobs, n_jobs, "synthetic patients in the pool"), strict=True)
    table = pd.DataFrame(list(features), index=pd.Index(people["patient_id"]))
    return Pool(people.drop(columns=["eta", "time_months", "event"]), np.stack(patches), table)


def render_or_read(
    causes: dict[str, Any], path: Path, smoothing_mm: float = 0.0
) -> tuple[np.ndarray, dict[str, float]]:
    """Return patch and features of one patient, from `path` if it was made from the same causes and settings."""
    settings = {"patch": asdict(PATCHES), "features": asdict(FEATURES), "crop_spacing_mm": CROP_SPACING_MM}
    settings |= {"smoothing_mm": smoothing_mm} if smoothing_mm else {}
    card = json.dumps({"causes": causes, **settings}, sort_keys=True)
    if path.is_file():
        with np.load(path, allow_pickle=False) as kept:
            if str(kept["card"]) == card:
                return kept["patch"], dict(zip(kept["names"].tolist(), kept["values"].tolist(), strict=True))
    patch, features = read_image(causes, smoothing_mm)
    names, values = np.array(list(features), dtype=str), np.array(list(features.values()))
    with whole_file(path) as partial:
        np.savez_compressed(partial, patch=patch, names=names, values=values, card=np.array(card))
    return patch, features


def read_image(causes: dict[str, Any], smoothing_mm: float = 0.0) -> tuple[np.ndarray, dict[str, float]]:
    """Render one patient; return the patch of the networks and the radiomic features."""
    hu, labels, affine = render_patient(causes, int(causes["image_seed"]))
    ct, mask = smoothed(Volume(hu, affine), smoothing_mm), Volume(labels, affine)
    crop = crop_isotropic(ct, mask, CROP_SPACING_MM, pad_mm(FEATURES, CROP_SPACING_MM))
    return make_patch(ct, mask, PATCHES), extract(*crop, FEATURES)


def smoothed(ct: Volume, sd_mm: float) -> Volume:
    """Blur a CT with a Gaussian of this SD (mm) along each axis; 0 leaves it as it is."""
    if not sd_mm:
        return ct
    return Volume(ndimage.gaussian_filter(ct.values.astype(np.float32), sd_mm / ct.spacing, mode="nearest"), ct.affine)
