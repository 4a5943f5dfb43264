"""Rows of `metrics.csv`: observed against expected, slope, ICI; and the curves behind them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from rps_utils.evaluation.slices import (
    BAND_RESAMPLES,
    FEWEST_AT_RISK,
    Slice,
    beyond_note,
    labelled,
    metric_row,
    metric_table,
    missing_note,
    note_at,
    prediction_note,
    slices,
    stacked,
    undefined,
    usable_landmarks,
    with_note,
    with_predictions,
)
from rps_utils.intervals.resampling import joint_estimates, resample_counts
from rps_utils.scores import OWN_TIME
from rps_utils.survival.calibration import (
    calibration_band,
    calibration_groups,
    calibration_slope_interval,
    certain_note,
    d_calibration,
    errors_if_calibrated,
    ici_e50_e90,
    observed_expected,
    observed_expected_overall,
    within_bounds,
)
from rps_utils.survival.follow_up import Estimate

D_CALIBRATION_BINS = 10
ERRORS = ("ici", "e50", "e90")
EXPECTED_NOTE = "mean and central 95 % if every prediction were right; the interval of the error itself never holds 0"


def calibration_rows(
    scores: pd.DataFrame, landmarks: Sequence[float], *, n_bootstrap: int = 2000, seed: int = 2026
) -> pd.DataFrame:
    """Return O/E, ICI, E50 and E90 at every landmark, calibration slope, O/E of all follow-up, and D-calibration.

    Returns
    -------
    DataFrame
        Only of models that predict LRFS. ``observed_expected`` at each landmark; ``ici``, ``e50``, ``e90`` with BCa
        intervals, and a note where fewer than ten patients are still at risk; ``ici_expected`` and so on: what they
        would be if every prediction were right (`errors_if_calibrated`), with the central 95 % in place of an
        interval. The ``calibration_slope`` belongs to log(-log LRFS) at the last landmark with predictions within
        (0, 1), or at the last one with those of 0 and 1 moved inside (`within_bounds`); in a proportional-hazards
        model that is the linear predictor plus a constant, so any landmark gives the same.
        ``observed_expected_overall`` and ``d_calibration_p`` need the column ``lrfs_own``.
    """
    rows = []
    for part in slices(with_predictions(scores, landmarks)):
        rows += [_slope_row(part, landmarks), _overall_row(part), _d_calibration_row(part, landmarks)]
        counts = resample_counts(len(part.rows), replicates=n_bootstrap, seed=seed)
        for landmark in landmarks:
            rows.append(metric_row(part, "observed_expected", landmark, ratio_at(part, landmark)))
            rows += _error_rows(part, landmark, counts, seed)
    return metric_table(rows)


def _overall_row(part: Slice) -> dict:
    own = part.predicted(OWN_TIME)
    why = missing_note(part, OWN_TIME) or ("a predicted LRFS of 0 has no finite hazard" if own.min() == 0 else "")
    estimate = undefined(why) if why else observed_expected_overall(part.follow_up[1], own)
    return metric_row(part, "observed_expected_overall", np.nan, estimate)


def _d_calibration_row(part: Slice, landmarks: Sequence[float]) -> dict:
    """Test D-calibration with follow-up cut at the last usable landmark, so that no curve is read beyond it."""
    grid = usable_landmarks(part, landmarks)
    if not grid:
        why = f"needs a landmark that {part.model} predicts and the follow-up reaches{part.why_no_lrfs}"
        return metric_row(part, "d_calibration_p", max(landmarks), undefined(why))
    time, event = part.follow_up
    later = time > grid[-1]
    own = np.where(later, part.lrfs(grid[-1]), part.predicted(OWN_TIME))
    if why := missing_note(part, OWN_TIME):
        return metric_row(part, "d_calibration_p", grid[-1], undefined(why))
    result = d_calibration(event & ~later, own, bins=D_CALIBRATION_BINS)
    few = f"{result.df} bins of {D_CALIBRATION_BINS}: 5 recurrences must be expected in each"
    note = few if result.df < D_CALIBRATION_BINS else ""
    return metric_row(part, "d_calibration_p", grid[-1], Estimate(result.p, np.nan, np.nan, note))


def ratio_at(part: Slice, landmark: float) -> Estimate:
    """Return a slice's observed / expected at a landmark, with a note where few are followed so far."""
    if why := prediction_note(part, landmark) or beyond_note(part, landmark):
        return undefined(why)
    estimate = observed_expected(*part.follow_up, part.lrfs(landmark), landmark)
    return estimate if estimate.note else estimate._replace(note=note_at(part, landmark, fewest=FEWEST_AT_RISK))


def _slope_row(part: Slice, landmarks: Sequence[float]) -> dict:
    predicted = [t for t in sorted(landmarks) if not prediction_note(part, t)]
    # A certain prediction has no log hazard: a landmark where somebody has one is of no use here.
    usable = [t for t in predicted if part.lrfs(t).min() > 0 and part.lrfs(t).max() < 1]
    if not predicted:
        estimate = undefined(prediction_note(part, landmarks[0]))
    elif not part.follow_up[1].any():
        estimate = undefined("no event")
    else:
        usable = usable or predicted
        hazard = -np.log(within_bounds(part.lrfs(usable[-1])))
        estimate = with_note(
            calibration_slope_interval(*part.follow_up, np.log(hazard)), certain_note(part.lrfs(usable[-1]))
        )
    return metric_row(part, "calibration_slope", usable[-1] if usable else np.nan, estimate)


def _error_rows(part: Slice, landmark: float, counts: np.ndarray, seed: int) -> list[dict]:
    why = prediction_note(part, landmark) or note_at(part, landmark)
    names = [*ERRORS, *(f"{name}_expected" for name in ERRORS)]
    estimates = [undefined(why)] * len(names)
    if not why:
        given = (*part.follow_up, part.lrfs(landmark), landmark)
        notes = (note_at(part, landmark, fewest=FEWEST_AT_RISK), certain_note(part.lrfs(landmark)))
        note = "; ".join(text for text in notes if text)
        drawn = errors_if_calibrated(*given, seed=seed)
        estimates = joint_estimates(ici_e50_e90, *given, counts=counts, note=note)
        estimates += [_expected_error(values) for values in drawn]
    return [metric_row(part, name, landmark, e) for name, e in zip(names, estimates, strict=True)]


def _expected_error(values: np.ndarray) -> Estimate:
    """Return the mean and the central 95 % of an error in cohorts drawn from the predictions."""
    values = values[np.isfinite(values)]
    if not len(values):
        return undefined("no curve in any cohort drawn from the predictions")
    low, high = np.quantile(values, [0.025, 0.975])
    return Estimate(float(values.mean()), float(low), float(high), EXPECTED_NOTE)


def calibration_tables(
    scores: pd.DataFrame, landmark: float, *, groups: int = 4, seed: int = 2026
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return predicted against observed risk at a landmark, in groups and as a smooth curve.

    Returns
    -------
    groups : DataFrame
        ``split, kind, model, horizon, group, n, predicted, observed, ci_low, ci_high`` (risks of recurrence).
    curves : DataFrame
        ``split, kind, model, horizon, predicted, observed, ci_low, ci_high``, with a pointwise percentile band over
        500 resamples. Both only where ten patients are still at risk.
    """
    labels = ["split", "kind", "model", "horizon"]
    grouped = [pd.DataFrame(columns=[*labels, "group", "n", "predicted", "observed", "ci_low", "ci_high"])]
    curves = [pd.DataFrame(columns=[*labels, "predicted", "observed", "ci_low", "ci_high"])]
    for part in slices(with_predictions(scores, [landmark])):
        if prediction_note(part, landmark) or note_at(part, landmark, fewest=FEWEST_AT_RISK):
            continue
        given = (*part.follow_up, part.lrfs(landmark), landmark)
        grouped.append(labelled(part, calibration_groups(*given, groups=groups), landmark))
        counts = resample_counts(len(part.rows), replicates=BAND_RESAMPLES, seed=seed)
        curves.append(labelled(part, calibration_band(*given, counts).dropna(), landmark))
    return stacked(grouped), stacked(curves)
