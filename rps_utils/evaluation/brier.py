"""Rows of `metrics.csv`: Brier score and index of prediction accuracy."""

from __future__ import annotations

from collections.abc import Sequence

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
    shared_landmarks,
    slice_pairs,
    slices,
    undefined,
    usable_landmarks,
    with_predictions,
)
from rps_utils.intervals.comparison import paired_differences
from rps_utils.intervals.resampling import bootstrap_estimate, joint_estimates, resample_counts
from rps_utils.survival.brier import brier_family, null_brier
from rps_utils.survival.follow_up import Estimate

INTEGRATED = ("ibs", "ibs_km", "integrated_ipa")


def brier_rows(
    scores: pd.DataFrame, landmarks: Sequence[float], *, n_bootstrap: int = 2000, seed: int = 2026
) -> pd.DataFrame:
    """Return Brier scores at every landmark and integrated over them, beside Kaplan-Meier's, with bootstrap intervals.

    BCa, but for Kaplan-Meier's own score: it can hardly exceed 1/4, where BCa covers too seldom and percentiles hold.

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
        estimates = _family(part, landmarks, counts)
        for name in ("brier", "ipa", "brier_km"):
            for landmark in landmarks:
                estimate = estimates.get((name, landmark)) or _without(part, name, landmark, counts)
                rows.append(metric_row(part, name, landmark, estimate))
        rows += _integrated_rows(part, landmarks, estimates)
    return metric_table(rows)


def brier_difference_rows(
    scores: pd.DataFrame, landmarks: Sequence[float], *, n_bootstrap: int = 2000, seed: int = 2026
) -> pd.DataFrame:
    """Return every paired difference of Brier score and IPA at every landmark between two models of a kind.

    Returns
    -------
    DataFrame
        Model ``A - B``; ``brier_difference`` (below 0: A is better) and ``ipa_difference`` (above 0: A is better), on
        the patients that both have, with basic bootstrap intervals.
    """
    rows = []
    for pair, other in slice_pairs(with_predictions(scores, landmarks)):
        counts = resample_counts(len(pair.rows), replicates=n_bootstrap, seed=seed)
        reasons = shared_landmarks(pair, other, landmarks)
        grid = [t for t in sorted(landmarks) if not reasons[t]]
        found = _differences(pair, other, grid, counts) if grid else {}
        for name in ("brier", "ipa"):
            for landmark in landmarks:
                estimate = found.get((name, landmark), undefined(reasons[landmark]))
                rows.append(metric_row(pair, f"{name}_difference", landmark, estimate))
    return metric_table(rows)


def _differences(
    pair: Slice, other: Slice, grid: Sequence[float], counts: np.ndarray
) -> dict[tuple[str, float], Estimate]:
    matrices = (np.column_stack([part.lrfs(t) for t in grid]) for part in (pair, other))
    keys = [(name, t) for name in ("brier", "ipa") for t in grid]
    notes = [note_at(pair, t, fewest=FEWEST_AT_RISK) for _, t in keys]
    found = paired_differences(
        _at_landmarks, *pair.follow_up, *matrices, grid, counts=counts, method="basic", note=notes
    )
    return dict(zip(keys, found, strict=True))


def _at_landmarks(
    time: np.ndarray, event: np.ndarray, matrix: np.ndarray, grid: Sequence[float], weights: np.ndarray | None = None
) -> np.ndarray:
    """Return Brier scores and IPA at the landmarks of a grid, without what is integrated over them."""
    return brier_family(time, event, matrix, grid, weights)[: 2 * len(grid)]


def _family(part: Slice, landmarks: Sequence[float], counts: np.ndarray) -> dict[tuple[str, float], Estimate]:
    """Return the estimates at the landmarks that are predicted and reached, by name and landmark."""
    grid = usable_landmarks(part, landmarks)
    if not grid:
        return {}
    keys = [(name, t) for name in ("brier", "ipa", "brier_km") for t in grid]
    notes = [note_at(part, t, fewest=FEWEST_AT_RISK) for _, t in keys]
    keys += [(name, grid[-1]) for name in INTEGRATED]
    notes += ["over " + ", ".join(f"{t:g}" for t in grid)] * len(INTEGRATED)
    matrix = np.column_stack([part.lrfs(t) for t in grid])
    methods = ["percentile" if name.endswith("_km") else "bca" for name, _ in keys]
    found = joint_estimates(brier_family, *part.follow_up, matrix, grid, counts=counts, note=notes, method=methods)
    return dict(zip(keys, found, strict=True))


def _without(part: Slice, name: str, landmark: float, counts: np.ndarray) -> Estimate:
    """Return the estimate at a landmark that is not predicted or not reached: at most Kaplan-Meier's own."""
    why = beyond_note(part, landmark)
    if name != "brier_km":
        return undefined(prediction_note(part, landmark) or why)
    return undefined(why) if why else _of_curve(part, landmark, counts)


def _of_curve(part: Slice, landmark: float, counts: np.ndarray) -> Estimate:
    note = note_at(part, landmark, fewest=FEWEST_AT_RISK)
    given = (null_brier, *part.follow_up, landmark)
    return bootstrap_estimate(*given, counts=counts, note=note, method="percentile")


def _integrated_rows(
    part: Slice, landmarks: Sequence[float], estimates: dict[tuple[str, float], Estimate]
) -> list[dict]:
    grid = usable_landmarks(part, landmarks)
    if len(grid) < 2:
        why = undefined(f"needs two landmarks that {part.model} predicts and the follow-up reaches{part.why_no_lrfs}")
        return [metric_row(part, name, max(landmarks), why) for name in INTEGRATED]
    return [metric_row(part, name, grid[-1], estimates[name, grid[-1]]) for name in INTEGRATED]
