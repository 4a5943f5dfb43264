"""Tell whether a patient is like those that the networks learned from.

A network answers whatever it is shown. What it is shown is summed up here by a few numbers: how grey the tumour is
and how uneven, what lies around it, how large it is, how fine the scan. The distance of a patient is that of these
numbers from their mean in the training patients, in SD, correlations taken into account (Mahalanobis, covariance
shrunk by Ledoit & Wolf 2004). One is a typical training patient.

The limit is a quantile of cross-fitted distances: training patients measured by the other folds, as a new patient
would be. So a stated share of patients like them is flagged too; the flag asks for a look, it is no verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from rps_utils.imaging.patches import PatchSettings
from rps_utils.texts.counts import how_many

SPACINGS = ("spacing_in_plane_mm", "slice_spacing_mm")


@dataclass(frozen=True)
class Reference:
    """What training patients look like: plain numbers, kept as JSON.

    Attributes
    ----------
    names : list of str
        Summaries used, see `summarise`.
    means, sds : list of float
        Of the training patients.
    precision : list of list of float
        Inverse of the shrunken covariance of the standardised summaries.
    limit : float
        Distance above which a patient is flagged.
    share : float
        Share of patients like the training patients who are flagged, on average.
    """

    names: list[str]
    means: list[float]
    sds: list[float]
    precision: list[list[float]]
    limit: float = float("inf")
    share: float = 0.0

    def in_sd(self, summaries: pd.DataFrame) -> pd.DataFrame:
        """Return summaries in SD from their training mean; the largest says in what a patient is unusual."""
        absent = [name for name in self.names if name not in summaries]
        if absent:
            raise ValueError(f"summary {absent[0]} is missing: cut the patches with the channels of the training run")
        return (summaries[self.names] - self.means) / self.sds

    def distance(self, summaries: pd.DataFrame) -> pd.Series:
        """Return the distance of each row, per square root of the number of summaries: 1 is typical."""
        z = self.in_sd(summaries).to_numpy(float)
        squared = np.einsum("ij,jk,ik->i", z, np.asarray(self.precision), z)
        return pd.Series(np.sqrt(squared / len(self.names)), summaries.index, name="distance")


def summarise(patches: np.ndarray, settings: PatchSettings, facts: pd.DataFrame) -> pd.DataFrame:
    """Sum up what the networks see of each patient, and how fine the scan was.

    Parameters
    ----------
    patches : numpy.ndarray, (n, channels, size, size, size)
    settings : PatchSettings
        With which they were cut; channels ``mask`` and ``rim`` are needed.
    facts : DataFrame
        Rows of ``tables/images.csv`` in the order of the patches: ``patient_id`` and both spacings (mm).

    Returns
    -------
    DataFrame
        By ``patient_id``: of every other channel its mean inside the tumour, in the margin around it and elsewhere
        and its SD over the patch, the logarithms of the tumour's voxels and of the spacings.
    """
    if not {"mask", "rim"} <= set(settings.channels):
        raise ValueError(f"channels = {settings.channels}; needed: mask and rim, which tell the regions apart")
    channels = {name: patches[:, i].astype(np.float32) for i, name in enumerate(settings.channels)}
    inside, around = channels.pop("mask"), channels.pop("rim")
    regions = {"inside": inside, "around": around, "elsewhere": np.clip(1 - inside - around, 0, 1)}
    found = {
        f"{channel} {place}": (values * region).sum(axis=(1, 2, 3)) / np.maximum(region.sum(axis=(1, 2, 3)), 1e-3)
        for channel, values in channels.items()
        for place, region in regions.items()
    }
    found |= {f"{channel} SD": values.std(axis=(1, 2, 3)) for channel, values in channels.items()}
    found["log volume"] = np.log(np.maximum(inside.sum(axis=(1, 2, 3)), 1e-3))
    found |= {f"log {name}": np.log(facts[name].to_numpy(float)) for name in SPACINGS}
    return pd.DataFrame(found, index=pd.Index(facts["patient_id"], name="patient_id")).astype(float)


def describe_training(summaries: pd.DataFrame) -> Reference:
    """Learn mean, SD and covariance from training patients; summaries that do not vary are left out."""
    from sklearn.covariance import LedoitWolf

    sds = summaries.std(ddof=0)
    names = list(summaries.columns[sds > 1e-4])
    if len(names) < 2 or len(summaries) < 3:
        raise ValueError(
            f"{how_many(len(summaries), 'patient')} with "
            f"{how_many(len(names), 'summary that varies', 'summaries that vary')}: 3 and 2 are needed"
        )
    means, sds = summaries[names].mean(), sds[names]
    precision = LedoitWolf(assume_centered=True).fit(((summaries[names] - means) / sds).to_numpy()).precision_
    return Reference(names, means.tolist(), sds.tolist(), precision.tolist())


def cross_fitted_distances(summaries: pd.DataFrame, fold: pd.Series) -> pd.Series:
    """Measure every training patient by the training patients of the other folds.

    Parameters
    ----------
    summaries : DataFrame
        Of the training patients, by ``patient_id``.
    fold : Series
        Fold of each, by ``patient_id``.
    """
    fold = fold[summaries.index]
    parts = [describe_training(summaries[fold != k]).distance(summaries[fold == k]) for k in sorted(fold.unique())]
    return pd.concat(parts)[summaries.index]


def learn_reference(summaries: pd.DataFrame, fold: pd.Series, share: float = 0.05) -> Reference:
    """Learn what training patients look like, and the distance above which a patient is flagged.

    Parameters
    ----------
    summaries, fold
        See `cross_fitted_distances`.
    share : float
        Wanted share of flags among patients like these. With n patients it cannot be less than 1/(n + 1): then
        the largest distance is the limit, and `Reference.share` says what it comes to.
    """
    if not 0 < share < 1:
        raise ValueError(f"share = {share}; allowed: between 0 and 1, for example 0.05")
    distances = np.sort(cross_fitted_distances(summaries, fold).to_numpy())
    share = max(share, 1 / (len(distances) + 1))
    rank = int(np.ceil((1 - share) * (len(distances) + 1) - 1e-9))
    known: Mapping[str, Any] = vars(describe_training(summaries))
    return Reference(**{**known, "limit": float(distances[rank - 1]), "share": share})
