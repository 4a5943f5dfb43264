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
    slices,
    stacked,
    undefined,
    with_predictions,
)
from rps_utils.intervals.resampling import bootstrap_estimate, interval_from, replicate, resample_counts
from rps_utils.survival.decision import gain_over_all, net_benefit, net_benefit_at
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
        and ``net_benefit_over_all_<threshold>``, their paired difference. Acting on nobody is 0.
    """
    rows = []
    for part in slices(with_predictions(scores, landmarks)):
        counts = resample_counts(len(part.rows), replicates=n_bootstrap, seed=seed)
        for landmark in landmarks:
            why = prediction_note(part, landmark) or beyond_note(part, landmark)
            for threshold in thresholds:
                three = [undefined(why)] * 3 if why else _net_benefits(part, landmark, threshold, counts)
                for name, estimate in zip(("", "all_", "over_all_"), three, strict=True):
                    rows.append(metric_row(part, f"net_benefit_{name}{threshold:g}", landmark, estimate))
    return metric_table(rows)


def _net_benefits(part: Slice, landmark: float, threshold: float, counts: np.ndarray) -> list[Estimate]:
    """Return the net benefit of acting on the model, on everybody, and the difference."""
    risk, patients = 1 - part.lrfs(landmark), len(part.rows)
    positive = int((risk >= threshold).sum())
    few = min(positive, patients - positive) < FEWEST_IN_GROUP
    followed = note_at(part, landmark, fewest=FEWEST_AT_RISK)
    own = f"{positive} of {patients} above the threshold" if few else followed
    if np.isnan(net_benefit_at(*part.follow_up, risk, landmark, threshold)):
        own = f"the {positive} of {patients} above the threshold are not followed to {landmark:g}"
    plans = (
        (net_benefit_at, risk, own),
        (net_benefit_at, np.ones(patients), followed),
        (gain_over_all, risk, own),
    )
    return [
        bootstrap_estimate(plan, *part.follow_up, x, landmark, threshold, counts=counts, note=note)
        for plan, x, note in plans
    ]
