"""How good an explanation is: attribution maps graded by reference maps and by replacement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from rps_utils.deep.maps import STRUCTURE, DeepScore, score_patches
from rps_utils.imaging.patches import PatchSettings
from rps_utils.survival.follow_up import Estimate


def regions(patches: np.ndarray, settings: PatchSettings) -> dict[str, np.ndarray]:
    """Return the share of each voxel inside the tumour, in the margin around it and elsewhere, (n, S, S, S) each."""
    patches = np.asarray(patches, np.float32)
    tumour, margin = (patches[:, settings.channels.index(name)] for name in STRUCTURE)
    return {"tumour": tumour, "margin": margin, "elsewhere": np.clip(1 - tumour - margin, 0, 1)}


def attribution_share(weight: np.ndarray, part: np.ndarray, within: np.ndarray | float = 1.0) -> float:
    """Return the share of a map's absolute weight that lies in a part of the region `within`.

    Parameters
    ----------
    weight : ndarray, (S, S, S)
        A map; its sign does not count.
    part : ndarray, (S, S, S)
        Share of each voxel in the part.
    within : ndarray or float
        Share of each voxel in the region that is looked at.
    """
    weight = np.abs(weight) * within
    return float((weight * part).sum() / weight.sum()) if weight.any() else float("nan")


def pointing(weight: np.ndarray, part: np.ndarray, within: np.ndarray) -> float:
    """Return the share of the part in the voxel at which a map points: the pointing game (Zhang et al. 2018).

    The voxel is the one with the largest absolute weight in the region. On a grid of large voxels hit or miss would
    depend on a threshold; the share is the chance that a needle through this voxel meets the part. A map that points
    at random gets the mean share over the region.
    """
    held = np.where(within >= 0.5, np.abs(weight), -1.0)
    return float(part[np.unravel_index(held.argmax(), held.shape)])


def grade_maps(
    maps: np.ndarray,
    patient_ids: Sequence[str],
    references: Mapping[int, Mapping[str, np.ndarray]],
    parts: Mapping[str, np.ndarray],
) -> pd.DataFrame:
    """Grade the maps of patients against their reference, label by label.

    A map is graded inside the region, tumour or margin, that holds most of the label: to find the tumour is no
    merit, since the input says where it is.

    Parameters
    ----------
    maps : ndarray, (n, S, S, S)
    patient_ids : sequence of str
        Whose they are.
    references : mapping
        Label to patient to the share of each voxel that bears the label, from `patches.read_references`. Patients
        without are left out.
    parts : mapping
        From `regions`, for the same patients.

    Returns
    -------
    DataFrame
        ``label, patient_id, region, share, pointing, chance``: share of the attribution and of the voxel pointed
        at, and what chance gives, the label's share of the region.
    """
    rows = []
    for label, reference in references.items():
        for place, patient in enumerate(patient_ids):
            if patient in reference and reference[patient].any():
                own = {name: part[place] for name, part in parts.items()}
                rows.append((label, patient, *_grade(maps[place], reference[patient], own)))
    return pd.DataFrame(rows, columns=["label", "patient_id", "region", "share", "pointing", "chance"])


def _grade(weight: np.ndarray, marked: np.ndarray, parts: Mapping[str, np.ndarray]) -> tuple[str, float, float, float]:
    region = max(("tumour", "margin"), key=lambda name: float((marked * parts[name]).sum()))
    within = parts[region]
    chance = attribution_share(np.ones_like(marked), marked, within)
    return region, attribution_share(weight, marked, within), pointing(weight, marked, within), chance


def rank_agreement(first: np.ndarray, second: np.ndarray, within: np.ndarray) -> float:
    """Return Spearman's correlation of two maps over the voxels at least half inside a region."""
    inside = within >= 0.5
    return float(stats.spearmanr(first[inside], second[inside]).statistic)


def replacement_curve(
    score: DeepScore,
    start: np.ndarray,
    end: np.ndarray,
    order: np.ndarray,
    within: np.ndarray,
    shares: Sequence[float],
) -> np.ndarray:
    """Replace voxels of one patch by those of another, the first in an order first, and follow the score.

    From the patient to the baseline this is deletion, from the baseline to the patient insertion (Petsiuk, Das &
    Saenko 2018).

    Parameters
    ----------
    score : DeepScore
    start, end : ndarray, (C, S, S, S)
    order : ndarray, (S, S, S)
        Voxels with the highest value are replaced first.
    within : ndarray, (S, S, S)
        Only voxels at least half inside this region are replaced.
    shares : sequence of float
        Of these voxels, 0 to 1.

    Returns
    -------
    ndarray, (len(shares),)
        Score minus the score of `start`.
    """
    places = np.flatnonzero(within.ravel() >= 0.5)
    first = places[np.argsort(-order.ravel()[places], kind="stable")]
    stages = np.stack([start] * len(shares)).astype(np.float32)
    for stage, share in zip(stages, shares, strict=True):
        replaced = first[: round(share * len(first))]
        stage.reshape(len(stage), -1)[:, replaced] = end.reshape(len(end), -1)[:, replaced]
    return score_patches(score, stages) - score_patches(score, start[None].astype(np.float32))


def grade_table(grades: pd.DataFrame) -> pd.DataFrame:
    """Return by map and label how far the grades exceed chance, means over patients with 95 % intervals.

    Parameters
    ----------
    grades : DataFrame
        From `grade_maps`, with a column ``map``.

    Returns
    -------
    DataFrame
        ``map, label, region, patients, chance, grade, value, ci_low, ci_high``; ``grade`` is "share" or "pointing",
        and ``value`` what it has beyond chance.
    """
    columns = ["map", "label", "region", "patients", "chance", "grade", "value", "ci_low", "ci_high"]
    rows = []
    for about, part in grades.groupby(["map", "label", "region"], sort=False):
        for grade in ("share", "pointing"):
            beyond = mean_interval(part[grade] - part["chance"])
            rows.append((*about, len(part), part["chance"].mean(), grade, *beyond[:3]))
    return pd.DataFrame(rows, columns=columns)


def mean_interval(values: Sequence[float] | pd.Series, level: float = 0.95) -> Estimate:
    """Return the mean over patients with its t interval; missing values are left out."""
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return Estimate(float(values.mean()) if len(values) else np.nan, np.nan, np.nan, "fewer than 2 patients")
    reach = stats.t.ppf(0.5 + level / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return Estimate(float(values.mean()), float(values.mean() - reach), float(values.mean() + reach), "")
