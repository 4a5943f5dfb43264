"""A radiomic score: selection of features and a LASSO-Cox model, learned from training patients only."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sksurv.linear_model import CoxnetSurvivalAnalysis
from sksurv.util import Surv

from rps_utils.cohort.splits import stratified_folds
from rps_utils.learning.harmonise import Harmonisation, learn_harmonisation
from rps_utils.texts.counts import how_many

# How far a single value may lie from the training mean, in SD: one odd scan must not decide a score.
CLIP_SD = 3.0
PENALTIES, WEAKEST_PENALTY = 40, 0.05


@dataclass(frozen=True)
class SelectionSettings:
    """How a radiomic score is learned from training patients.

    Attributes
    ----------
    correlation : float
        Of two features that correlate more strongly than this (absolute Pearson) only the better one is kept.
    candidates : int
        So many features, the best in a univariable Cox score test, enter the LASSO.
    inner_folds, repeats : int
        Inner cross-validation that chooses the penalty: event-stratified folds, dealt anew `repeats` times. Where
        there are fewer events than folds, there are as many folds as events.
    rule : {"min", "1se"}
        The penalty with the least cross-validated deviance, or the strongest within one standard error of it.
    """

    correlation: float = 0.9
    candidates: int = 12
    inner_folds: int = 5
    repeats: int = 3
    rule: str = "min"

    def __post_init__(self) -> None:
        """Refuse what cannot be done."""
        if self.rule not in ("min", "1se"):
            raise ValueError(f"rule = {self.rule!r}; allowed: min, 1se")
        if not 0 < self.correlation <= 1:
            raise ValueError(f"correlation = {self.correlation}; allowed: above 0, up to 1")
        if self.candidates < 1 or self.inner_folds < 2 or self.repeats < 1:
            raise ValueError("candidates and repeats must be at least 1, inner_folds at least 2")


@dataclass(frozen=True)
class RadiomicModel:
    """A fitted radiomic score: plain numbers, kept as JSON.

    Attributes
    ----------
    features : list of str
        Features with a weight.
    means, sds : list of float
        Of these features in the patients learned from.
    coefficients : list of float
        Log hazard for one SD.
    penalty : float
        LASSO penalty chosen.
    note : str
        Empty, or why the model is not what the rule asked for.
    harmonisation : Harmonisation or None
        Effects of the centres on these features, to be taken out first; None where they were taken as they are. A
        dict, as JSON gives it back, becomes one.
    """

    features: list[str]
    means: list[float]
    sds: list[float]
    coefficients: list[float]
    penalty: float
    note: str = ""
    harmonisation: Harmonisation | None = None

    def __post_init__(self) -> None:
        """Read the harmonisation back from JSON."""
        if isinstance(self.harmonisation, dict):
            object.__setattr__(self, "harmonisation", Harmonisation(**self.harmonisation))

    def risk(self, features: pd.DataFrame, centre: pd.Series | None = None) -> np.ndarray:
        """Return the linear predictor of each row (log relative hazard; higher = earlier recurrence).

        Parameters
        ----------
        features : pandas.DataFrame
        centre : pandas.Series, optional
            Centre of each row; needed by a model with a harmonisation. A centre it has not seen is left as it is.

        Raises
        ------
        ValueError
            A feature is missing, as a column or in a row, or the centres are.
        """
        absent = [name for name in self.features if name not in features]
        if absent:
            raise ValueError(f"feature {absent[0]} is missing: extract with the settings the model was learned with")
        if self.harmonisation is not None:
            if centre is None:
                raise ValueError("the model was learned from harmonised features: give the centre of each patient")
            features = self.harmonisation.apply(features, centre)
        values = features[self.features].to_numpy(float)
        if not np.isfinite(values).all():
            raise ValueError("a feature is not a finite number: extract the patient again")
        return clipped_scores(values, np.array(self.means), np.array(self.sds)) @ np.array(self.coefficients)


def clipped_scores(values: np.ndarray, means: np.ndarray, sds: np.ndarray) -> np.ndarray:
    """Standardise by given means and (population) SDs and clip at 3 SD."""
    return np.clip((values - means) / sds, -CLIP_SD, CLIP_SD)


def varying_features(features: pd.DataFrame) -> list[str]:
    """Return the features that differ between patients: more than a rounding error, in more than one in ten."""
    values = features.to_numpy(float)
    spread, size = values.std(axis=0), np.abs(values).max(axis=0)
    commonest = np.array([np.unique(column, return_counts=True)[1].max() for column in values.T])
    return list(features.columns[(spread > 1e-9 * size) & (commonest <= 0.9 * len(values))])


def score_statistics(z: np.ndarray, time: np.ndarray, event: np.ndarray) -> np.ndarray:
    """Return the univariable Cox score test of every column: a standard normal value where nothing is related.

    Parameters
    ----------
    z : numpy.ndarray, shape (n, p)
        Features.
    time, event : numpy.ndarray, shape (n,)
        Months, bool.

    Returns
    -------
    numpy.ndarray, shape (p,)
        Above 0: higher values recur earlier. One pass for all features; ranks them as p fitted Cox models would.
    """
    order = np.argsort(-time, kind="stable")
    z, time, event = z[order], time[order], event[order]
    last = np.searchsorted(-time, -time, side="right") - 1  # patients with the same time are at risk together
    size = np.arange(1, len(time) + 1)[:, None]
    mean = (np.cumsum(z, axis=0) / size)[last]
    variance = (np.cumsum(z**2, axis=0) / size)[last] - mean**2
    return (z - mean)[event].sum(axis=0) / np.sqrt(np.maximum(variance[event].sum(axis=0), 1e-12))


def choose_candidates(
    z: np.ndarray, time: np.ndarray, event: np.ndarray, correlation: float, most: int
) -> tuple[list[int], np.ndarray]:
    """Choose columns by their univariable score test, passing over those that resemble a better one.

    Parameters
    ----------
    z : numpy.ndarray, shape (n, p)
        Standardised features of the patients learned from.
    time, event : numpy.ndarray, shape (n,)
        Months, bool.
    correlation : float
        Largest absolute Pearson correlation between chosen columns.
    most : int
        Number of columns to choose, if there are so many.

    Returns
    -------
    chosen : list of int
        Best first.
    statistics : numpy.ndarray, shape (p,)
        Score tests of all columns.
    """
    statistics = score_statistics(z, time, event)
    unit = (z - z.mean(axis=0)) / np.maximum(z.std(axis=0), 1e-12) / np.sqrt(len(z))
    chosen: list[int] = []
    for column in np.argsort(-np.abs(statistics), kind="stable"):
        if not chosen or np.abs(unit[:, chosen].T @ unit[:, column]).max() <= correlation:
            chosen.append(int(column))
        if len(chosen) == most:
            break
    return chosen, statistics


def log_partial_likelihood(time: np.ndarray, event: np.ndarray, predictors: np.ndarray) -> np.ndarray:
    """Return the Cox log partial likelihood (Breslow) of several linear predictors, shape (n, m) -> (m,)."""
    order = np.argsort(-time, kind="stable")
    time, event, predictors = time[order], event[order], predictors[order]
    last = np.searchsorted(-time, -time, side="right") - 1
    log_at_risk = np.logaddexp.accumulate(predictors, axis=0)[last]
    return (predictors - log_at_risk)[event].sum(axis=0)


def lasso_path(
    z: np.ndarray, time: np.ndarray, event: np.ndarray, penalties: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Fit LASSO-Cox models for falling penalties.

    Returns
    -------
    penalties : numpy.ndarray, shape (m,)
    coefficients : numpy.ndarray, shape (p, m)
        Where the path ends early (everything explained) the last column is repeated.
    """
    path = {"n_alphas": PENALTIES, "alpha_min_ratio": WEAKEST_PENALTY} if penalties is None else {"alphas": penalties}
    model = CoxnetSurvivalAnalysis(l1_ratio=1.0, tol=1e-10, max_iter=100_000, **path)
    with warnings.catch_warnings():
        # An inner fold may leave every coefficient at zero for all penalties: an answer, not a failure.
        warnings.filterwarnings("ignore", message="all coefficients are zero")
        model.fit(z, Surv.from_arrays(event, time))
    missing = 0 if penalties is None else len(penalties) - model.coef_.shape[1]
    coefficients = np.pad(model.coef_, ((0, 0), (0, missing)), mode="edge")
    return (model.alphas_ if penalties is None else penalties), coefficients


def cross_validated_deviance(
    z: np.ndarray, time: np.ndarray, event: np.ndarray, penalties: np.ndarray, settings: SelectionSettings, seed: int
) -> np.ndarray:
    """Return the deviance per held-out event of every inner fold and penalty, shape (folds x repeats, m).

    A fold's share is the likelihood of all patients minus that of the patients learned from, under the model of
    the latter: it needs no risk sets inside a small fold.

    References
    ----------
    Verweij & van Houwelingen, Stat Med 1993.
    """
    rows = []
    folds = inner_folds(event, settings)
    for repeat in range(settings.repeats):
        fold = stratified_folds(time, event, folds, [seed, 3, repeat])
        for k in range(folds):
            learns = fold != k
            predictors = z @ lasso_path(z[learns], time[learns], event[learns], penalties)[1]
            gained = log_partial_likelihood(time, event, predictors)
            gained -= log_partial_likelihood(time[learns], event[learns], predictors[learns])
            rows.append(-2 * gained / event[~learns].sum())
    return np.array(rows)


def inner_folds(event: np.ndarray, settings: SelectionSettings) -> int:
    """Return the number of inner folds: as asked for, or one an event where these are fewer."""
    return min(settings.inner_folds, int(event.sum()))


def choose_penalty(deviance: np.ndarray, rule: str, folds: int) -> int:
    """Return the place of the penalty that `rule` prefers (see `SelectionSettings`)."""
    mean = deviance.mean(axis=0)
    best = int(np.argmin(mean))
    if rule == "min":
        return best
    error = deviance[:, best].std(ddof=1) / np.sqrt(folds)  # repeats deal the same patients again: no gain in error
    return int(np.flatnonzero(mean <= mean[best] + error)[0])


def fit_radiomic_model(
    features: pd.DataFrame,
    outcome: pd.DataFrame,
    settings: SelectionSettings | None = None,
    seed: int = 2026,
    centre: pd.Series | None = None,
) -> RadiomicModel:
    """Learn a radiomic score: features that vary, candidates by score test and correlation, LASSO-Cox.

    Everything, scaling included, is learned from the rows given: hand over training patients only.

    Parameters
    ----------
    features : pandas.DataFrame
        Features of the patients to learn from, one row each, numeric columns only.
    outcome : pandas.DataFrame
        Their ``time_months`` and ``event``, in the same order.
    settings : SelectionSettings, optional
    seed : int
        Deals the inner folds.
    centre : pandas.Series, optional
        Their centres, in the same order: the features are harmonised first.

    Returns
    -------
    RadiomicModel
        Never without a feature: where cross-validation prefers none, the strongest penalty that keeps one is
        taken and `note` says so. Such a score is no evidence of a signal.

    Raises
    ------
    ValueError
        Fewer than two events, or no feature varies.
    """
    settings = settings or SelectionSettings()
    time, event = outcome["time_months"].to_numpy(float), outcome["event"].to_numpy() == 1
    if event.sum() < 2:
        raise ValueError(
            f"{how_many(event.sum(), 'event')} among {how_many(len(event), 'patient')}: "
            "a score needs 2 at least; lower folds"
        )
    names = varying_features(features)
    if not names:
        raise ValueError("no feature varies between the patients: were all extracted from one image?")
    harmonisation = None if centre is None else learn_harmonisation(features[names], centre)
    if harmonisation is not None:
        names, features = harmonisation.features, harmonisation.apply(features, centre)
    values = features[names].to_numpy(float)
    means, sds = values.mean(axis=0), values.std(axis=0)
    z = clipped_scores(values, means, sds)
    chosen, _ = choose_candidates(z, time, event, settings.correlation, settings.candidates)
    penalties, paths = lasso_path(z[:, chosen], time, event)
    deviance = cross_validated_deviance(z[:, chosen], time, event, penalties, settings, seed)
    place, note = choose_penalty(deviance, settings.rule, inner_folds(event, settings)), ""
    if not paths[:, place].any():
        place = int(np.flatnonzero(paths.any(axis=0))[0])
        note = "cross-validation preferred no feature: the strongest penalty with any was taken"
    kept = [(j, float(beta)) for j, beta in zip(chosen, paths[:, place], strict=True) if beta]
    at = [j for j, _ in kept]
    chosen_names = [names[j] for j in at]
    return RadiomicModel(
        features=chosen_names,
        means=means[at].tolist(),
        sds=sds[at].tolist(),
        coefficients=[beta for _, beta in kept],
        penalty=float(penalties[place]),
        note=note,
        harmonisation=None if harmonisation is None else harmonisation.only(chosen_names),
    )
