"""Level and power of the test of an independent predictor: folds, learners, and what clinical factors already tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy.stats import binomtest, norm

from rps_utils.intervals.permutation import (
    added_z,
    deal_outcomes,
    exceedance_p,
    less_told,
    predictive_p,
    shrunken_log_hazard,
)
from rps_utils.learning.radiomics import SelectionSettings, fit_radiomic_model

IMAGE_FEATURES, CLINICAL = 40, 3
LEVEL_FOLDS, CORRELATIONS = (3, 5, 10, 20), (0.0, 0.5, 0.9)
EFFECT = 0.35  # log hazard for one SD of each of three features, where there is a signal
FEW = 19


@dataclass(frozen=True)
class Draw:
    """A cohort in order of time: features (n, p), clinical columns (n, q), outcomes and folds."""

    features: np.ndarray
    clinical: np.ndarray
    time: np.ndarray
    event: np.ndarray
    fold: np.ndarray


Learner = Callable[[Draw, np.ndarray, np.ndarray], np.ndarray]


def draw_cohort(seed: list[int], *, patients: int, folds: int, correlation: float, effect: float) -> Draw:
    """Draw patients whose first features tell the clinical columns, with folds dealt within events.

    Every clinical column is told by five features, each correlated with it as asked. Clinical columns carry a log
    hazard of 0.5 for one SD; the last three features, which tell none of them, one of `effect`.
    """
    rng = np.random.default_rng(seed)
    clinical = rng.standard_normal((patients, CLINICAL))
    features = rng.standard_normal((patients, IMAGE_FEATURES))
    told = np.repeat(np.arange(CLINICAL), 5)
    features[:, : len(told)] *= np.sqrt(1 - correlation**2)
    features[:, : len(told)] += correlation * clinical[:, told]
    hazard = np.exp(0.5 * clinical.sum(axis=1) + effect * features[:, -3:].sum(axis=1))
    recurs, leaves = rng.exponential(1 / hazard) / 0.015, rng.uniform(12, 72, patients)
    time, event = np.minimum(recurs, leaves), recurs <= leaves
    order = np.argsort(time)
    fold = np.empty(patients, int)
    for kind in (True, False):
        rows = np.flatnonzero(event[order] == kind)
        fold[rows] = rng.permutation(np.arange(len(rows)) + rng.integers(folds)) % folds
    return Draw(features[order], clinical[order], time[order], event[order], fold)


def martingale(event: np.ndarray, learns: np.ndarray) -> np.ndarray:
    """Return null martingale residuals of the patients learned from, in order of time; 0 for the others."""
    at_risk = np.cumsum(learns[::-1])[::-1]
    hazard = np.cumsum(np.where(event & learns, 1 / np.maximum(at_risk, 1), 0.0))
    return (event - hazard) * learns


def pull_of(draw: Draw, placed: np.ndarray, learns: np.ndarray) -> np.ndarray:
    """Return the residual of every patient (B, n) when the outcomes that `learns` marks are dealt as in `placed`."""
    pull = np.zeros(placed.shape)
    np.put_along_axis(pull, placed, np.broadcast_to(martingale(draw.event, learns), placed.shape), axis=1)
    return pull


def ridge(draw: Draw, placed: np.ndarray, learns: np.ndarray) -> np.ndarray:
    """Return weights (B, p) of a ridge regression on the residuals, all features kept."""
    gram = draw.features.T @ draw.features + 20 * np.eye(draw.features.shape[1])
    return np.linalg.solve(gram, draw.features.T @ pull_of(draw, placed, learns).T).T


def best_feature(draw: Draw, placed: np.ndarray, learns: np.ndarray) -> np.ndarray:
    """Return weights (B, p) that keep the one feature with the largest score test."""
    found = pull_of(draw, placed, learns) @ (draw.features / draw.features.std(axis=0))
    best = np.abs(found).argmax(axis=1)
    weights = np.zeros_like(found)
    rows = np.arange(len(found))
    weights[rows, best] = np.sign(found[rows, best])
    return weights


def radiomic(draw: Draw, placed: np.ndarray, learns: np.ndarray) -> np.ndarray:
    """Return weights (B, p) of `fit_radiomic_model`: candidates by score test, LASSO by inner cross-validation.

    Three inner folds, dealt once: a hundred thousand models are fitted here.
    """
    names = [f"f{j}" for j in range(draw.features.shape[1])]
    outcome = pd.DataFrame({"time_months": draw.time, "event": draw.event.astype(int)})[learns]
    settings = SelectionSettings(inner_folds=3, repeats=1)
    weights = pd.DataFrame(0.0, index=range(len(placed)), columns=names)
    for b, row in enumerate(placed):
        model = fit_radiomic_model(pd.DataFrame(draw.features[row[learns]], columns=names), outcome, settings)
        weights.loc[b, model.features] = np.array(model.coefficients) / np.array(model.sds)
    return weights.to_numpy()


LEARNERS: dict[str, Learner] = {"ridge": ridge, "best feature": best_feature, "radiomic LASSO": radiomic}


def score_by(draw: Draw, placed: np.ndarray, left_out: tuple[int, ...], learner: Learner) -> np.ndarray:
    """Return standardised scores (B, n) in order of the outcomes by a model that left out folds.

    `placed` (B, n): the patient who holds each outcome. Folds belong to the outcomes.
    """
    learns = ~np.isin(draw.fold, left_out)
    raw = np.take_along_axis(learner(draw, placed, learns) @ draw.features.T, placed, axis=1)
    own = raw[:, learns]
    return (raw - own.mean(axis=1, keepdims=True)) / own.std(axis=1, keepdims=True)


def out_of_fold(draw: Draw, placed: np.ndarray, learner: Learner) -> np.ndarray:
    """Return cross-fitted scores (B, n) in order of the outcomes."""
    scores = np.empty(placed.shape)
    for k in range(draw.fold.max() + 1):
        own = draw.fold == k
        scores[:, own] = score_by(draw, placed, (k,), learner)[:, own]
    return scores


def nested(draw: Draw, placed: np.ndarray, learner: Learner) -> list[np.ndarray]:
    """Return for every fold k the scores (n,) of those outside it, by models that saw neither k nor their own fold."""
    folds = draw.fold.max() + 1
    made = [np.full(len(draw.time), np.nan) for _ in range(folds)]
    for k, other in combinations(range(folds), 2):
        score = score_by(draw, placed, (k, other), learner)[0]
        for outer, inner in ((k, other), (other, k)):
            made[outer][draw.fold == inner] = score[draw.fold == inner]
    return made


def tests_of(draw: Draw, learner: Learner, *, deals: int, seed: int) -> dict[str, float]:
    """Return the one-sided p of every test of one cohort."""
    hazard = shrunken_log_hazard(draw.time, draw.event, draw.clinical)
    dealt = deal_outcomes(draw.time, draw.event, hazard, count=deals, seed=seed)
    placed = np.vstack([np.arange(len(draw.time)), np.argsort(dealt, axis=1)])
    scores = out_of_fold(draw, placed, learner)
    left = less_told(scores[0], nested(draw, placed[:1], learner), draw.clinical, draw.fold)
    z = added_z(draw.time, draw.event, draw.clinical[placed], scores)
    cleaned = added_z(draw.time, draw.event, draw.clinical[None], left[None])[0]
    return {
        "plain": norm.sf(z[0]),
        "halved": norm.sf(z[0] / np.sqrt(2)),
        "halved, clinical part taken out": norm.sf(cleaned / np.sqrt(2)),
        "outcomes dealt anew": exceedance_p(z[0], z[1:]),
        f"outcomes dealt anew {FEW} times, by t": predictive_p(z[0], z[1 : FEW + 1]),
    }


def level_table(replicates: int = 500, *, deals: int = 99, seed: int = 14, n_jobs: int = 1) -> pd.DataFrame:
    """Return how often each test rings at .05 with 86 patients, without a signal (level) and with one (power).

    Returns
    -------
    DataFrame
        ``learner, folds, correlation, effect, test, replicates, share, low, high`` with exact binomial intervals.
    """
    found = Parallel(n_jobs=n_jobs)(delayed(_cell)(cell, replicates, deals, seed) for cell in cells())
    columns = ["learner", "folds", "correlation", "effect", "test", "replicates", "share", "low", "high"]
    return pd.DataFrame([row for rows in found for row in rows], columns=columns)


def _cell(cell: tuple[str, int, float, float], replicates: int, deals: int, seed: int) -> list[tuple]:
    learner, folds, correlation, effect = cell
    drawn = (
        draw_cohort([seed, i], patients=86, folds=folds, correlation=correlation, effect=effect)
        for i in range(replicates)
    )
    found = [tests_of(draw, LEARNERS[learner], deals=deals, seed=seed + i) for i, draw in enumerate(drawn)]
    return [(*cell, *row) for row in shares(pd.DataFrame(found))]


def cells() -> list[tuple[str, int, float, float]]:
    """Return every combination of learner, folds, correlation and effect."""
    return [
        (name, k, c, e)
        for name in ("ridge", "best feature")
        for k in LEVEL_FOLDS
        for c in CORRELATIONS
        for e in (0.0, EFFECT)
    ]


def shares(found: pd.DataFrame, level: float = 0.05) -> list[tuple[str, int, float, float, float]]:
    """Return test, replicates, share at or below `level` and its exact interval, for every column of p-values."""
    rows = []
    for test, p in found.items():
        rang = int((p <= level + 1e-12).sum())
        limits = binomtest(rang, len(p)).proportion_ci()
        rows.append((str(test), len(p), rang / len(p), float(limits.low), float(limits.high)))
    return rows
