"""Rows of `metrics.csv`: Brier score and index of prediction accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from rps_utils.evaluation.slices import (
    FEWEST_AT_RISK,
    Slice,
    beyond_note,
    metric_row,
    metric_table,
    note_at,
    prediction_note,
    slices,
    undefined,
    usable_landmarks,
    with_predictions,
)
from rps_utils.intervals.resampling import Metric, bootstrap_estimate, resample_counts
from rps_utils.survival.brier import (
    brier_score,
    integrated_brier,
    integrated_ipa,
    integrated_null_brier,
    ipa,
    null_brier,
)
from rps_utils.survival.follow_up import Estimate


def brier_rows(
    scores: pd.DataFrame, landmarks: Sequence[float], *, n_bootstrap: int = 2000, seed: int = 2026
) -> pd.DataFrame:
    """Return Brier scores at every landmark and integrated over them, beside Kaplan-Meier's, with BCa intervals.

    Returns
    -------
    DataFrame
        Only of models that predict LRFS. At a landmark: ``brier``, ``brier_km`` (of the Kaplan-Meier curve of the
        same patients, which knows nobody) and ``ipa`` = 1 - brier / brier_km. Integrated: ``ibs``, ``ibs_km`` and
        ``integrated_ipa``, by the trapezoid over the landmarks that are predicted and reached, which the note
        names; they stand at the last of them and need two.
    """
    rows = []
    for part in slices(with_predictions(scores, landmarks)):
        counts = resample_counts(len(part.rows), replicates=n_bootstrap, seed=seed)
        for name, metric in (("brier", brier_score), ("ipa", ipa)):
            for landmark in landmarks:
                rows.append(metric_row(part, name, landmark, _of_lrfs(metric, part, landmark, counts)))
        for landmark in landmarks:
            rows.append(metric_row(part, "brier_km", landmark, _of_curve(part, landmark, counts)))
        rows += _integrated_rows(part, landmarks, counts)
    return metric_table(rows)


def _of_curve(part: Slice, landmark: float, counts: np.ndarray) -> Estimate:
    if why := beyond_note(part, landmark):
        return undefined(why)
    note = note_at(part, landmark, fewest=FEWEST_AT_RISK)
    return bootstrap_estimate(null_brier, *part.follow_up, landmark, counts=counts, note=note)


def _of_lrfs(metric: Metric, part: Slice, landmark: float, counts: np.ndarray) -> Estimate:
    if why := prediction_note(part, landmark) or beyond_note(part, landmark):
        return undefined(why)
    given = (*part.follow_up, part.lrfs(landmark), landmark)
    note = note_at(part, landmark, fewest=FEWEST_AT_RISK)
    return bootstrap_estimate(metric, *given, counts=counts, note=note)


def _integrated_rows(part: Slice, landmarks: Sequence[float], counts: np.ndarray) -> list[dict]:
    grid = usable_landmarks(part, landmarks)
    if len(grid) < 2:
        why = undefined(f"needs two landmarks that {part.model} predicts and the follow-up reaches{part.why_no_lrfs}")
        return [metric_row(part, name, max(landmarks), why) for name in ("ibs", "ibs_km", "integrated_ipa")]
    matrix = np.column_stack([part.lrfs(t) for t in grid])
    note = "over " + ", ".join(f"{t:g}" for t in grid)
    plans: dict[str, tuple[Metric, tuple[Any, ...]]] = {
        "ibs": (integrated_brier, (matrix, grid)),
        "ibs_km": (integrated_null_brier, (grid,)),
        "integrated_ipa": (integrated_ipa, (matrix, grid)),
    }
    estimates = {
        name: bootstrap_estimate(metric, *part.follow_up, *given, counts=counts, note=note)
        for name, (metric, given) in plans.items()
    }
    return [metric_row(part, name, grid[-1], estimate) for name, estimate in estimates.items()]
