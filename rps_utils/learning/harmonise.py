"""Harmonisation of features across centres: ComBat's location and scale, learned from given patients only.

Scanners and protocols leave their mark on radiomic features. ComBat estimates how far each centre's features lie from
the common mean and how much wider they spread, shrinks both toward what the centre does to features in general
(empirical Bayes), and takes them out. Published programs do so for a whole cohort at once, patients to be judged
included; here it is learned from training patients, and applied to others as it is.

What truly differs between the patients of two centres is taken out as well: nothing here can tell it from a scanner.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rps_utils.learning.crossfit import LeftOut, learning_patients
from rps_utils.texts.counts import how_many

CENTRE = "centre"
LEAST_LEARNERS = 3  # patients of a centre; fewer give no spread


@dataclass(frozen=True)
class Harmonisation:
    """What was learned about centres: plain numbers, kept as JSON inside a model.

    Attributes
    ----------
    features : list of str
        Features that vary within centres; others tell nothing but the centre and are not harmonised.
    means, sds : list of float
        Common mean, and SD within centres, of each feature.
    shifts, scales : dict of str to list of float
        Centre to its additive (in SD) and multiplicative effect on each feature.
    """

    features: list[str]
    means: list[float]
    sds: list[float]
    shifts: dict[str, list[float]]
    scales: dict[str, list[float]]

    def apply(self, features: pd.DataFrame, centre: pd.Series) -> pd.DataFrame:
        """Return the features without the effects of the centres learned from.

        Parameters
        ----------
        features : pandas.DataFrame, one row a patient
            With the columns `features` at least.
        centre : pandas.Series
            Of the same patients, in the same order.

        Returns
        -------
        pandas.DataFrame
            The columns `features`. Rows of a centre not learned from are left as they are: see `unseen`.
        """
        sds, means = np.array(self.sds), np.array(self.means)
        z = (features[self.features].to_numpy(float) - means) / sds
        for name, shift in self.shifts.items():
            rows = centre.to_numpy(str) == name
            z[rows] = (z[rows] - shift) / np.array(self.scales[name])
        return pd.DataFrame(z * sds + means, features.index, self.features)

    def unseen(self, centre: Iterable[str]) -> list[str]:
        """Return the centres that were not learned from: their patients' features stay as they are."""
        return sorted(set(map(str, centre)) - set(self.shifts))

    def only(self, features: list[str]) -> Harmonisation:
        """Return what concerns some of the features."""
        at = [self.features.index(name) for name in features]

        def take(values: list[float]) -> list[float]:
            return [values[i] for i in at]

        effects = [{name: take(v) for name, v in by_centre.items()} for by_centre in (self.shifts, self.scales)]
        return Harmonisation(list(features), take(self.means), take(self.sds), *effects)


def learn_harmonisation(features: pd.DataFrame, centre: pd.Series) -> Harmonisation:
    """Learn the effects of centres on features. Hand over the patients to learn from, and nobody else.

    Parameters
    ----------
    features : pandas.DataFrame
        One row a patient, numeric columns only.
    centre : pandas.Series
        Of the same patients, in the same order.

    Returns
    -------
    Harmonisation
        With one centre, no effect.

    Raises
    ------
    ValueError
        A centre has fewer than three patients, or fewer than two features vary within centres.

    References
    ----------
    Johnson, Li & Rabinovic, Biostatistics 2007; without covariates.
    """
    _refuse_few(centre)
    values, of = features.to_numpy(float), centre.to_numpy(str)
    names = sorted(set(of))
    means = values.mean(axis=0)
    within = values - np.array([values[of == name].mean(axis=0) for name in names])[np.searchsorted(names, of)]
    sds = within.std(axis=0)
    kept = sds > 1e-9 * np.abs(values).max(axis=0)
    if kept.sum() < 2:
        raise ValueError(
            f"{how_many(kept.sum(), 'feature varies', 'features vary')} within centres: 2 are "
            "needed to learn what centres do"
        )
    z = (values[:, kept] - means[kept]) / sds[kept]
    effects = {name: _shrunken(z[of == name]) if len(names) > 1 else _none(z) for name in names}
    parts = [{name: effect[i].tolist() for name, effect in effects.items()} for i in (0, 1)]
    return Harmonisation(list(features.columns[kept]), means[kept].tolist(), sds[kept].tolist(), *parts)


def _none(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(z.shape[1]), np.ones(z.shape[1])


def _shrunken(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return shift and scale of one centre's features, shape (n, p) -> (p,), (p,), by Johnson's two equations."""
    n, shift, variance = len(z), z.mean(axis=0), z.var(axis=0, ddof=1)
    prior_shift, prior_spread = shift.mean(), shift.var(ddof=1)
    v, s2 = variance.mean(), variance.var(ddof=1)
    shape, rate = v**2 / s2 + 2, v**3 / s2 + v  # of the inverse gamma law with mean v and variance s2
    squares, own = (z**2).sum(axis=0), shift
    for _ in range(1000):
        before = variance
        shift = (n * prior_spread * own + variance * prior_shift) / (n * prior_spread + variance)
        variance = (rate + (squares - 2 * shift * n * own + n * shift**2) / 2) / (n / 2 + shape - 1)
        if np.allclose(variance, before, rtol=1e-12, atol=0):
            break
    return shift, np.sqrt(variance)


def centres(cohort: pd.DataFrame) -> pd.Series:
    """Return the centre of each patient as text, indexed by ``patient_id``; ValueError where it is not known."""
    if CENTRE not in cohort:
        raise ValueError(
            f"harmonise is set, but the manifest has no column {CENTRE}: add it, or set harmonise to False"
        )
    unknown = cohort.loc[cohort[CENTRE].isna(), "patient_id"]
    if len(unknown):
        raise ValueError(f"{CENTRE} is empty for {', '.join(unknown[:3])}: fill it in, or set harmonise to False")
    return cohort.set_index("patient_id")[CENTRE].astype(str)


def check_centres(cohort: pd.DataFrame, left_out_sets: Iterable[LeftOut]) -> None:
    """Refuse, before anything is computed, centres too small to learn from in one of the left-out sets."""
    of = centres(cohort)
    for left_out in left_out_sets:
        _refuse_few(of[learning_patients(cohort, left_out)], f" without folds {left_out}" if left_out else "")


def _refuse_few(centre: pd.Series, where: str = "") -> None:
    counts = centre.value_counts()
    if counts.min() < LEAST_LEARNERS:
        found = f"{counts.idxmin()} has {how_many(counts.min(), 'patient')} to learn from{where}"
        raise ValueError(f"centre {found}; needed: {LEAST_LEARNERS}: merge centres, lower folds, or do not harmonise")
