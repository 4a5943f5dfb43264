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
    note_at,
    prediction_note,
    slices,
    stacked,
    undefined,
    usable_landmarks,
    with_predictions,
)
from rps_utils.intervals.resampling import joint_estimates, resample_counts
from rps_utils.scores import OWN_TIME
from rps_utils.survival.calibration import (
    calibration_band,
    calibration_groups,
    calibration_slope_interval,
    d_calibration,
    ici_e50_e90,
    observed_expected,
    observed_expected_overall,
)
from rps_utils.survival.follow_up import Estimate

D_CALIBRATION_BINS = 10
ERRORS = ("ici", "e50", "e90")


def calibration_rows(
    scores: pd.DataFrame, landmarks: Sequence[float], *, n_bootstrap: int = 2000, seed: int = 2026
) -> pd.DataFrame:
    """Return O/E, ICI, E50 and E90 at every landmark, calibration slope, O/E of all follow-up, and D-calibration.

    Returns
    -------
    DataFrame
        Only of models that predict LRFS. ``observed_expected`` at each landmark; ``ici``, ``e50``, ``e90`` with BCa
        intervals, and a note where fewer than ten patients are still at risk. The ``calibration_slope`` belongs to
        log(-log LRFS) at the last landmark with predictions within (0, 1); in a proportional-hazards model that is
        the linear predictor plus a constant, so any landmark gives the same. ``observed_expected_overall`` and
        ``d_calibration_p`` need the column ``lrfs_own``.
    """
    rows = []
    for part in slices(with_predictions(scores, landmarks)):
        rows += [_slope_row(part, landmarks), _overall_row(part), _d_calibration_row(part, landmarks)]
        counts = resample_counts(len(part.rows), replicates=n_bootstrap, seed=seed)
        for landmark in landmarks:
            rows.append(metric_row(part, "observed_expected", landmark, _observed_expected(part, landmark)))
            rows += _ici_rows(part, landmark, counts)
    return metric_table(rows)


def _own_time(part: Slice) -> np.ndarray:
    """Return predicted LRFS at every patient's own last time; NaN where the table does not give it."""
    return part.rows.get(OWN_TIME, pd.Series(np.nan, part.rows.index)).to_numpy(float)


def _own_time_note(part: Slice, own: np.ndarray) -> str:
    missing = int(np.isnan(own).sum())
    if missing == len(own):
        return f"{part.model} gives no {OWN_TIME}{part.why_no_lrfs}"
    return f"{missing} of {len(own)} patients have no {OWN_TIME}{part.why_no_lrfs}" if missing else ""


def _overall_row(part: Slice) -> dict:
    own = _own_time(part)
    why = _own_time_note(part, own) or ("a predicted LRFS of 0 has no finite hazard" if own.min() == 0 else "")
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
    own = np.where(later, part.lrfs(grid[-1]), _own_time(part))
    if why := _own_time_note(part, own):
        return metric_row(part, "d_calibration_p", grid[-1], undefined(why))
    few = len(time) < 5 * D_CALIBRATION_BINS
    note = f"only {len(time)} patients for {D_CALIBRATION_BINS} bins" if few else ""
    result = d_calibration(event & ~later, own, bins=D_CALIBRATION_BINS)
    return metric_row(part, "d_calibration_p", grid[-1], Estimate(result.p, np.nan, np.nan, note))


def _observed_expected(part: Slice, landmark: float) -> Estimate:
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
    elif not usable:
        estimate = undefined("a predicted LRFS of exactly 0 or 1 has no log hazard")
    elif not part.follow_up[1].any():
        estimate = undefined("no event")
    else:
        estimate = calibration_slope_interval(*part.follow_up, np.log(-np.log(part.lrfs(usable[-1]))))
    return metric_row(part, "calibration_slope", usable[-1] if usable else np.nan, estimate)


def _ici_rows(part: Slice, landmark: float, counts: np.ndarray) -> list[dict]:
    why = prediction_note(part, landmark) or note_at(part, landmark)
    estimates = [undefined(why)] * 3
    if not why:
        given = (*part.follow_up, part.lrfs(landmark), landmark)
        note = note_at(part, landmark, fewest=FEWEST_AT_RISK)
        estimates = joint_estimates(ici_e50_e90, *given, counts=counts, note=note)
    return [metric_row(part, *named, e) for named, e in zip(((n, landmark) for n in ERRORS), estimates, strict=True)]


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
