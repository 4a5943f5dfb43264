"""A pool of rendered phantom patients from which studies draw their cohorts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from joblib import delayed
from scipy import ndimage

from rps_utils.files import whole_file
from rps_utils.imaging.crops import crop_isotropic
from rps_utils.imaging.features import ExtractionSettings, extract, pad_mm, regional_features
from rps_utils.imaging.patches import PatchSettings, is_right_sided, make_patch
from rps_utils.imaging.regions import MARGIN_MM, REGIONS
from rps_utils.imaging.volumes import Volume
from rps_utils.lab.phantom.ct import render_worlds
from rps_utils.lab.phantom.patients import draw_patients, image_causes
from rps_utils.lab.phantom.worlds import DEFAULT_WORLD
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
        Radiomic features of the tumour, indexed by ``patient_id``.
    regional : DataFrame
        The same features of its regions (`rps_utils.imaging.regions`), without shape; no columns where not asked for.
    """

    patients: pd.DataFrame
    patches: np.ndarray
    features: pd.DataFrame
    regional: pd.DataFrame = field(default_factory=pd.DataFrame)


def make_pool(
    folder: str | Path,
    patients: int = POOL_PATIENTS,
    *,
    seed: int = POOL_SEED,
    n_jobs: int = 1,
    smoothing_mm: float = 0.0,
) -> Pool:
    """Render a pool of synthetic patients in the default world, without regions; see `make_pools`."""
    pools = make_pools(folder, patients, (DEFAULT_WORLD,), seed=seed, n_jobs=n_jobs, smoothing_mm=smoothing_mm)
    return pools[DEFAULT_WORLD]


def make_pools(
    folder: str | Path,
    patients: int,
    worlds: Sequence[str],
    *,
    seed: int = POOL_SEED,
    n_jobs: int = 1,
    smoothing_mm: float = 0.0,
    regional: bool = False,
) -> dict[str, Pool]:
    """Render a pool of synthetic patients in several worlds, or read what of it is there.

    Parameters
    ----------
    folder : str or Path
        Keeps one small file a patient and world (patch and features; the CT is not kept). A run that was stopped
        goes on.
    patients : int
        A pool that is large against the cohorts drawn from it keeps replicates nearly independent.
    worlds : sequence of str
        Names in `rps_utils.lab.phantom.worlds.WORLDS`. The patients are the same in all of them.
    seed : int
        Of covariates, latents and images; no other cohort of the project uses the default.
    n_jobs : int
        Processes; a patient takes about a second.
    smoothing_mm : float
        SD of a Gaussian that blurs each CT before anything is read of it: brings scans of several scanners nearer
        to one resolution and one noise. Such a pool needs a folder of its own.
    regional : bool
        Compute the features of the regions as well.

    Returns
    -------
    dict of str to Pool
    """
    people = draw_patients(patients, seed)
    people.insert(0, "patient_id", [f"POOL-{i:04d}" for i in range(patients)])
    reading = Reading(smoothing_mm, regional)
    jobs = (
        delayed(render_or_read)(row, name, Path(folder), tuple(worlds), reading)
        for name, row in zip(people["patient_id"], image_causes(people, seed).to_dict("records"), strict=True)
    )
    read = list(in_parallel(jobs, n_jobs, "synthetic patients in the pool"))
    known = people.drop(columns=["eta", "time_months", "event"])
    return {world: _pool_of(known, [one[world] for one in read]) for world in worlds}


def _pool_of(people: pd.DataFrame, read: list[tuple[np.ndarray, dict[str, float]]]) -> Pool:
    table = pd.DataFrame([features for _, features in read], index=pd.Index(people["patient_id"]))
    of_region = table.columns.str.startswith(tuple(f"{name}_" for name in REGIONS))
    return Pool(people, np.stack([patch for patch, _ in read]), table.loc[:, ~of_region], table.loc[:, of_region])


@dataclass(frozen=True)
class Reading:
    """What is read of each CT of a pool: see `make_pools`."""

    smoothing_mm: float = 0.0
    regional: bool = False

    def card(self, causes: dict[str, Any], world: str) -> str:
        """Return what a patient's file was made from, as text."""
        settings = {"patch": asdict(PATCHES), "features": asdict(FEATURES), "crop_spacing_mm": CROP_SPACING_MM}
        return json.dumps({"causes": causes, "world": world, **settings, **asdict(self)}, sort_keys=True)


def render_or_read(
    causes: dict[str, Any], name: str, folder: Path, worlds: Sequence[str], reading: Reading
) -> dict[str, tuple[np.ndarray, dict[str, float]]]:
    """Return patch and features of one patient in each world, from files made from the same causes and settings."""
    found = {world: _kept(folder / world / f"{name}.npz", reading.card(causes, world)) for world in worlds}
    missing = [world for world, kept in found.items() if kept is None]
    for world, hu, labels, affine in render_worlds(causes, int(causes["image_seed"]), missing):
        patch, features = read_image(Volume(hu, affine), Volume(labels, affine), reading)
        names, values = np.array(list(features), dtype=str), np.array(list(features.values()))
        with whole_file(folder / world / f"{name}.npz") as partial:
            card = np.array(reading.card(causes, world))
            np.savez_compressed(partial, patch=patch, names=names, values=values, card=card)
        found[world] = patch, features
    return {world: kept for world, kept in found.items() if kept is not None}


def _kept(path: Path, card: str) -> tuple[np.ndarray, dict[str, float]] | None:
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as kept:
        if str(kept["card"]) != card:
            return None
        return kept["patch"], dict(zip(kept["names"].tolist(), kept["values"].tolist(), strict=True))


def read_image(ct: Volume, mask: Volume, reading: Reading) -> tuple[np.ndarray, dict[str, float]]:
    """Return the patch of the networks and the radiomic features of a CT."""
    ct = smoothed(ct, reading.smoothing_mm)
    reach = max(pad_mm(FEATURES, CROP_SPACING_MM), MARGIN_MM + CROP_SPACING_MM if reading.regional else 0.0)
    crop, inside = crop_isotropic(ct, mask, CROP_SPACING_MM, reach)
    features = extract(crop, inside, FEATURES)
    if reading.regional:
        features |= regional_features(crop, inside, is_right_sided(ct.values, mask.values > 0), FEATURES)
    return make_patch(ct, mask, PATCHES), features


def smoothed(ct: Volume, sd_mm: float) -> Volume:
    """Blur a CT with a Gaussian of this SD (mm) along each axis; 0 leaves it as it is."""
    if not sd_mm:
        return ct
    return Volume(ndimage.gaussian_filter(ct.values.astype(np.float32), sd_mm / ct.spacing, mode="nearest"), ct.affine)
