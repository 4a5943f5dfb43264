"""Rows of `metrics.csv` where deaths are told apart: how good the predicted probability of recurring is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from rps_utils.evaluation.competing.measures import (
    accuracy,
    incidence_at,
    incidence_auc,
    incidence_groups,
    incidence_ratio,
)
from rps_utils.evaluation.slices import (
    FEWEST_AT_RISK,
    Slice,
    beyond_note,
    labelled,
    metric_row,
    metric_table,
    missing_note,
    note_at,
    slices,
    stacked,
    undefined,
    with_note,
)
from rps_utils.intervals.resampling import bootstrap_estimate, joint_estimates, resample_counts
from rps_utils.scores import incidence_column
from rps_utils.survival.follow_up import Estimate

SCORES = ("incidence_brier", "incidence_brier_aj", "incidence_ipa")


def competing_rows(
    scores: pd.DataFrame,
    landmarks: Sequence[float],
    thresholds: Sequence[float] = (),
    *,
    n_bootstrap: int = 2000,
    seed: int = 2026,
) -> pd.DataFrame:
    """Return AUC, O/E, Brier score, IPA and net benefit with deaths counted, at every landmark.

    Parameters
    ----------
    scores : DataFrame
        A score table with ``died``; without that column there are no rows.
    landmarks, thresholds : sequence of float
        Times, and risks at which one might act.
    n_bootstrap, seed : int
        Resamples of patients, and their seed.

    Returns
    -------
    DataFrame
        ``incidence_td_auc`` of the risk score; and of the predicted ``incidence_<t>``: ``incidence_observed_expected``
        (delta method), ``incidence_brier``, ``incidence_brier_aj`` (of the Aalen-Johansen curve of the same patients),
        ``incidence_ipa``, and at each threshold ``incidence_net_benefit_<x>``, ``..._all_<x>`` of acting on everybody
        and ``..._over_all_<x>``, their difference. BCa intervals; percentile for the curve, whose Brier score can
        hardly exceed 1/4, and basic for the difference: coverage in docs/statistics.md.
    """
    rows = []
    for part in slices(scores):
        if part.died is None:
            continue
        counts = resample_counts(len(part.rows), replicates=n_bootstrap, seed=seed)
        for landmark in landmarks:
            found = {"incidence_td_auc": _auc(part, part.died, landmark, counts)}
            found |= _predicted(part, part.died, landmark, thresholds, counts)
            rows += [metric_row(part, name, landmark, estimate) for name, estimate in found.items()]
    return metric_table(rows)


def _auc(part: Slice, died: np.ndarray, landmark: float, counts: np.ndarray) -> Estimate:
    if why := note_at(part, landmark):
        return undefined(why)
    note = note_at(part, landmark, fewest=FEWEST_AT_RISK)
    return bootstrap_estimate(incidence_auc, *part.follow_up, died, part.risk, landmark, counts=counts, note=note)


def _predicted(
    part: Slice, died: np.ndarray, landmark: float, thresholds: Sequence[float], counts: np.ndarray
) -> dict[str, Estimate]:
    kinds = ("net_benefit", "net_benefit_all", "net_benefit_over_all")
    names = [*SCORES, *(f"incidence_{kind}_{x:g}" for x in thresholds for kind in kinds)]
    if why := missing_note(part, incidence_column(landmark)) or beyond_note(part, landmark):
        return dict.fromkeys(["incidence_observed_expected", *names], undefined(why))
    given = (*part.follow_up, died, part.incidence(landmark), landmark)
    note = note_at(part, landmark, fewest=FEWEST_AT_RISK)
    methods = ["bca", "percentile", "bca"] + ["bca", "bca", "basic"] * len(thresholds)
    estimates = joint_estimates(accuracy, *given, thresholds, counts=counts, note=note, method=methods)
    first = {"incidence_observed_expected": with_note(incidence_ratio(*given), note)}
    return first | dict(zip(names, estimates, strict=True))


def promised_and_seen(scores: pd.DataFrame, landmarks: Sequence[float]) -> pd.DataFrame:
    """Return what each model promises of recurrence, as if nobody died and with deaths, beside what was seen.

    Returns
    -------
    DataFrame
        ``split, kind, model, horizon, if_nobody_died`` (mean of 1 - LRFS), ``with_deaths`` (mean of the predicted
        incidence), ``one_minus_km, aalen_johansen`` (seen in the same patients). Empty without ``died``.
    """
    columns = ["split", "kind", "model", "horizon", "if_nobody_died", "with_deaths", "one_minus_km", "aalen_johansen"]
    rows = [
        (part.split, part.kind, part.model, float(t), *_means(part, part.died, t))
        for part in slices(scores)
        if part.died is not None
        for t in landmarks
        if not missing_note(part, incidence_column(t))
    ]
    return pd.DataFrame(rows, columns=columns)


def _means(part: Slice, died: np.ndarray, landmark: float) -> tuple[float, float, float, float]:
    time, event = part.follow_up
    censored = incidence_at(time, event, np.zeros(len(time), bool), landmark)
    seen = incidence_at(time, event, died, landmark)
    return float((1 - part.lrfs(landmark)).mean()), float(part.incidence(landmark).mean()), censored, seen


def competing_groups(scores: pd.DataFrame, landmark: float, *, groups: int = 4) -> pd.DataFrame:
    """Return predicted against Aalen-Johansen risk at a landmark, in groups of the prediction.

    Returns
    -------
    DataFrame
        ``split, kind, model, horizon, group, n, predicted, observed, ci_low, ci_high``; only where deaths are told
        apart, the model predicts an incidence, and ten patients are still at risk.
    """
    labels = ["split", "kind", "model", "horizon"]
    tables = [pd.DataFrame(columns=[*labels, "group", "n", "predicted", "observed", "ci_low", "ci_high"])]
    for part in slices(scores):
        few = note_at(part, landmark, fewest=FEWEST_AT_RISK)
        if part.died is not None and not (missing_note(part, incidence_column(landmark)) or few):
            given = (*part.follow_up, part.died, part.incidence(landmark), landmark)
            tables.append(labelled(part, incidence_groups(*given, groups=groups), landmark))
    return stacked(tables)
