"""Rows of `metrics.csv`: net benefit, and the curves behind it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from rps_utils.evaluation.slices import (
    BAND_RESAMPLES,
    FEWEST_AT_RISK,
    FEWEST_IN_GROUP,
    Slice,
    beyond_note,
    labelled,
    metric_row,
    metric_table,
    note_at,
    prediction_note,
    shared_landmarks,
    slice_pairs,
    slices,
    stacked,
    undefined,
    with_predictions,
)
from rps_utils.intervals.comparison import paired_differences
from rps_utils.intervals.resampling import interval_from, joint_estimates, replicate, resample_counts
from rps_utils.survival.decision import net_benefit, net_benefit_at, net_benefits
from rps_utils.survival.follow_up import Estimate


def net_benefit_table(scores: pd.DataFrame, landmarks: Sequence[float], thresholds: Sequence[float]) -> pd.DataFrame:
    """Return decision curves at every landmark that the follow-up reaches.

    Returns
    -------
    DataFrame
        ``split, kind, model, horizon, threshold, n_positive, net_benefit, treat_all, treat_none,
        interventions_avoided, enough``; `enough` where five patients at least lie on both sides of the threshold.
    """
    columns = ["split", "kind", "model", "horizon", "threshold", "n_positive", "net_benefit", "treat_all", "treat_none"]
    tables = [pd.DataFrame(columns=[*columns, "interventions_avoided", "enough"])]
    for part in slices(with_predictions(scores, landmarks)):
        for landmark in landmarks:
            if prediction_note(part, landmark) or beyond_note(part, landmark):
                continue
            table = net_benefit(*part.follow_up, 1 - part.lrfs(landmark), landmark, thresholds)
            fewer = np.minimum(table["n_positive"], len(part.rows) - table["n_positive"])
            tables.append(labelled(part, table.assign(enough=fewer >= FEWEST_IN_GROUP), landmark))
    return stacked(tables)


def net_benefit_bands(
    scores: pd.DataFrame, landmark: float, thresholds: Sequence[float], *, seed: int = 2026
) -> pd.DataFrame:
    """Return decision curves at one landmark with pointwise percentile bands over 500 resamples of patients.

    Returns
    -------
    DataFrame
        ``split, kind, model, horizon, threshold, net_benefit, ci_low, ci_high, treat_all``, only where five patients
        at least lie on both sides of the threshold.
    """
    curves = net_benefit_table(scores, [landmark], thresholds)
    curves, bands = curves[curves["enough"].astype(bool)], []
    for part in slices(scores):
        own = curves[(curves["kind"] == part.kind) & (curves["model"] == part.model)]
        counts = resample_counts(len(part.rows), replicates=BAND_RESAMPLES, seed=seed)
        for row in own.itertuples():
            given = (*part.follow_up, 1 - part.lrfs(landmark), landmark, row.threshold)
            values = replicate(net_benefit_at, counts, *given)
            bands.append(interval_from(values, row.net_benefit, method="percentile"))
    limits = pd.DataFrame(bands, columns=["ci_low", "ci_high"], index=curves.index, dtype=float)
    return curves.drop(columns=["n_positive", "treat_none", "interventions_avoided", "enough"]).join(limits)


def net_benefit_rows(
    scores: pd.DataFrame,
    landmarks: Sequence[float],
    thresholds: Sequence[float],
    *,
    n_bootstrap: int = 2000,
    seed: int = 2026,
) -> pd.DataFrame:
    """Return net benefits at a few thresholds named beforehand, with BCa intervals over patients.

    Returns
    -------
    DataFrame
        ``net_benefit_<threshold>`` of acting on the model, ``net_benefit_all_<threshold>`` of acting on everybody,
        and ``net_benefit_over_all_<threshold>``, their paired difference, with a basic bootstrap interval (with 29
        patients it covers .94, BCa .87). Acting on nobody is 0.
    """
    rows = []
    for part in slices(with_predictions(scores, landmarks)):
        counts = resample_counts(len(part.rows), replicates=n_bootstrap, seed=seed)
        for landmark in landmarks:
            why = prediction_note(part, landmark) or beyond_note(part, landmark)
            found = [undefined(why)] * 3 * len(thresholds) if why else benefits_at(part, landmark, thresholds, counts)
            names = [f"net_benefit_{name}{x:g}" for x in thresholds for name in ("", "all_", "over_all_")]
            rows += [metric_row(part, name, landmark, e) for name, e in zip(names, found, strict=True)]
    return metric_table(rows)


def net_benefit_difference_rows(
    scores: pd.DataFrame,
    landmarks: Sequence[float],
    thresholds: Sequence[float],
    *,
    n_bootstrap: int = 2000,
    seed: int = 2026,
) -> pd.DataFrame:
    """Return every paired difference of net benefit between two models of a kind, at thresholds named beforehand.

    Returns
    -------
    DataFrame
        Model ``A - B``; ``net_benefit_difference_<threshold>`` (above 0: A is better), on the patients that both have,
        with basic bootstrap intervals.
    """
    rows = []
    for pair, other in slice_pairs(with_predictions(scores, landmarks)):
        counts = resample_counts(len(pair.rows), replicates=n_bootstrap, seed=seed)
        for landmark, why in shared_landmarks(pair, other, landmarks).items():
            found = [undefined(why)] * len(thresholds)
            if not why:
                risks = (1 - part.lrfs(landmark) for part in (pair, other))
                given = (*pair.follow_up, *risks, landmark, thresholds)
                note = note_at(pair, landmark, fewest=FEWEST_AT_RISK)
                found = paired_differences(_model_benefits, *given, counts=counts, method="basic", note=note)
            names = [f"net_benefit_difference_{x:g}" for x in thresholds]
            rows += [metric_row(pair, name, landmark, e) for name, e in zip(names, found, strict=True)]
    return metric_table(rows)


def _model_benefits(
    time: np.ndarray,
    event: np.ndarray,
    risk: np.ndarray,
    landmark: float,
    thresholds: Sequence[float],
    weights: np.ndarray | None = None,
) -> np.ndarray:
    return np.array([net_benefit_at(time, event, risk, landmark, threshold, weights) for threshold in thresholds])


def benefits_at(part: Slice, landmark: float, thresholds: Sequence[float], counts: np.ndarray) -> list[Estimate]:
    """Return, at each threshold, the net benefit of acting on the model, on everybody, and the difference."""
    risk, followed = 1 - part.lrfs(landmark), note_at(part, landmark, fewest=FEWEST_AT_RISK)
    own = [_positives_note(part, risk, landmark, x) or followed for x in thresholds]
    notes = [note for each in own for note in (each, followed, each)]
    methods = ["bca", "bca", "basic"] * len(thresholds)
    given = (net_benefits, *part.follow_up, risk, landmark, thresholds)
    return joint_estimates(*given, counts=counts, note=notes, method=methods)


def _positives_note(part: Slice, risk: np.ndarray, landmark: float, threshold: float) -> str:
    """Say that too few lie on a side of the threshold, or that those above it are not followed so far."""
    positive, patients = int((risk >= threshold).sum()), len(part.rows)
    if np.isnan(net_benefit_at(*part.follow_up, risk, landmark, threshold)):
        return f"the {positive} of {patients} above the threshold are not followed to {landmark:g}"
    few = min(positive, patients - positive) < FEWEST_IN_GROUP
    return f"{positive} of {patients} above the threshold" if few else ""
