"""Rows of `metrics.csv`: time-dependent AUC, and the curves behind it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from rps_utils.evaluation.slices import (
    FEWEST_AT_RISK,
    Slice,
    labelled,
    metric_row,
    metric_table,
    note_at,
    p_column,
    slice_pairs,
    slices,
    stacked,
    undefined,
)
from rps_utils.intervals.comparison import paired_differences
from rps_utils.intervals.influence import compare_auc
from rps_utils.intervals.resampling import bootstrap_estimate, joint_estimates, resample_counts
from rps_utils.survival.follow_up import Estimate
from rps_utils.survival.roc import integrated_td_auc, roc_curve_at, td_auc, td_aucs


def td_auc_rows(
    scores: pd.DataFrame, landmarks: Sequence[float], *, n_bootstrap: int = 2000, seed: int = 2026
) -> pd.DataFrame:
    """Return the cumulative/dynamic AUC at every landmark and over them, with BCa intervals over patients.

    Returns
    -------
    DataFrame
        ``td_auc``, and ``integrated_td_auc``: the mean over the landmarks that have an AUC, which its note names,
        weighted by the recurrences between them (`metrics.integrated_td_auc`); it stands at the last of them.
    """
    rows = []
    for part in slices(scores):
        counts = resample_counts(len(part.rows), replicates=n_bootstrap, seed=seed)
        found = zip(landmarks, _aucs(part, landmarks, counts), strict=True)
        rows += [metric_row(part, "td_auc", landmark, estimate) for landmark, estimate in found]
        rows.append(_integrated_auc_row(part, landmarks, counts))
    return metric_table(rows)


def _integrated_auc_row(part: Slice, landmarks: Sequence[float], counts: np.ndarray) -> dict:
    grid = [t for t in sorted(landmarks) if np.isfinite(td_auc(*part.follow_up, part.risk, t))]
    if not grid:
        return metric_row(part, "integrated_td_auc", max(landmarks), undefined("no landmark has an AUC"))
    few = note_at(part, grid[-1], fewest=FEWEST_AT_RISK)
    note = "; ".join(text for text in (few, "over " + ", ".join(f"{t:g}" for t in grid)) if text)
    given = (integrated_td_auc, *part.follow_up, part.risk, grid)
    estimate = bootstrap_estimate(*given, counts=counts, note=note)
    return metric_row(part, "integrated_td_auc", grid[-1], estimate)


def auc_difference_rows(
    scores: pd.DataFrame, landmarks: Sequence[float], *, n_bootstrap: int = 2000, seed: int = 2026
) -> pd.DataFrame:
    """Return every paired difference of the AUC at every landmark between two models of a kind.

    Returns
    -------
    DataFrame
        Model ``A - B``; ``td_auc_difference`` with its basic bootstrap interval (it covers .95 with 29
        patients where BCa covers .93), and ``td_auc_difference_p``, two-sided, by
        influence functions (`influence.compare_auc`).
    """
    rows = []
    for pair, other in slice_pairs(scores):
        counts = resample_counts(len(pair.rows), replicates=n_bootstrap, seed=seed)
        reached = [t for t in landmarks if not note_at(pair, t)]
        given = (td_aucs, *pair.follow_up, pair.risk, other.risk, reached)
        found = dict(
            zip(reached, paired_differences(*given, counts=counts, method="basic") if reached else [], strict=True)
        )
        for landmark in landmarks:
            why = note_at(pair, landmark)
            difference = found.get(landmark, undefined(why))
            p = np.nan if why else compare_auc(*pair.follow_up, pair.risk, other.risk, landmark).p
            rows.append(metric_row(pair, "td_auc_difference", landmark, difference))
            rows.append(metric_row(pair, "td_auc_difference_p", landmark, p_column(p, why or difference.note)))
    return metric_table(rows)


def _aucs(part: Slice, landmarks: Sequence[float], counts: np.ndarray) -> list[Estimate]:
    reached = [t for t in landmarks if not note_at(part, t)]
    if not reached:
        return [undefined(note_at(part, t)) for t in landmarks]
    notes = [note_at(part, t, fewest=FEWEST_AT_RISK) for t in reached]
    estimates = joint_estimates(td_aucs, *part.follow_up, part.risk, reached, counts=counts, note=notes)
    found = dict(zip(reached, estimates, strict=True))
    return [found[t] if t in found else undefined(note_at(part, t)) for t in landmarks]


def roc_table(scores: pd.DataFrame, landmarks: Sequence[float]) -> pd.DataFrame:
    """Return ROC curves: ``split, kind, model, horizon, threshold, fpr, tpr``; none where the AUC is undefined."""
    curves = [pd.DataFrame(columns=["split", "kind", "model", "horizon", "threshold", "fpr", "tpr"])]
    for part in slices(scores):
        for landmark in landmarks:
            curve = roc_curve_at(*part.follow_up, part.risk, landmark).dropna()
            curves.append(labelled(part, curve, landmark))
    return stacked(curves)
