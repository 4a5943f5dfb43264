"""Rows of `metrics.csv`: C-indices and their differences."""

from __future__ import annotations

import numpy as np
import pandas as pd

from rps_utils.evaluation.slices import (
    FEWEST_AT_RISK,
    Slice,
    metric_row,
    metric_table,
    note_at,
    p_column,
    slice_pairs,
    slices,
    undefined,
    with_note,
)
from rps_utils.intervals.comparison import PairedDifference, compare_c
from rps_utils.intervals.resampling import c_interval, resample_counts
from rps_utils.survival.follow_up import Estimate


def discrimination_rows(scores: pd.DataFrame, *, tau: float, n_bootstrap: int = 2000, seed: int = 2026) -> pd.DataFrame:
    """Return Harrell's C and Uno's C up to tau, with BCa intervals over patients.

    Parameters
    ----------
    scores : DataFrame
        A score table.
    tau : float
        Truncation time of Uno's C, fixed beforehand, in the unit of the times.
    n_bootstrap, seed : int
        Resamples of patients, and their seed.

    Returns
    -------
    DataFrame
        Rows of the metrics contract, ``harrell_c`` (no horizon) and ``uno_c`` (horizon tau).
    """
    rows = []
    for part in slices(scores):
        counts = resample_counts(len(part.rows), replicates=n_bootstrap, seed=seed)
        rows.append(metric_row(part, "harrell_c", np.nan, c_interval(*part.follow_up, part.risk, counts=counts)))
        rows.append(metric_row(part, "uno_c", tau, _uno(part, tau, counts)))
    return metric_table(rows)


def _uno(part: Slice, tau: float, counts: np.ndarray) -> Estimate:
    if why := note_at(part, tau):
        return undefined(why)
    estimate = c_interval(*part.follow_up, part.risk, tau=tau, counts=counts)
    return with_note(estimate, note_at(part, tau, fewest=FEWEST_AT_RISK))


def difference_rows(scores: pd.DataFrame, *, tau: float, n_bootstrap: int = 2000, seed: int = 2026) -> pd.DataFrame:
    """Return every paired difference of C between two models of a kind, on the patients that both have.

    Returns
    -------
    DataFrame
        Model ``A - B``; ``harrell_c_difference`` and ``uno_c_difference`` (up to tau) with BCa intervals. Two-sided
        p-values: ``harrell_c_difference_p`` and ``uno_c_difference_p`` by the infinitesimal-jackknife z (Uno: G
        taken as known), ``harrell_c_difference_permutation_p`` by `n_bootstrap` swaps of the two models' ranks.
    """
    rows = []
    for pair, other in slice_pairs(scores):
        counts = resample_counts(len(pair.rows), replicates=n_bootstrap, seed=seed)
        harrell = compare_c(
            *pair.follow_up, pair.risk, other.risk, tau=None, counts=counts, permutations=n_bootstrap, seed=seed
        )
        rows += _difference_rows(pair, "harrell_c", np.nan, harrell)
        swapped = p_column(harrell.p_permutation, harrell.difference.note)
        rows.append(metric_row(pair, "harrell_c_difference_permutation_p", np.nan, swapped))
        if why := note_at(pair, tau):
            rows += [metric_row(pair, f"uno_c_difference{end}", tau, undefined(why)) for end in ("", "_p")]
            continue
        uno = compare_c(*pair.follow_up, pair.risk, other.risk, tau=tau, counts=counts, permutations=0)
        rows += _difference_rows(pair, "uno_c", tau, uno)
    return metric_table(rows)


def _difference_rows(pair: Slice, metric: str, horizon: float, result: PairedDifference) -> list[dict]:
    why = result.difference.note or "the two scores order the patients alike"
    return [
        metric_row(pair, f"{metric}_difference", horizon, result.difference),
        metric_row(pair, f"{metric}_difference_p", horizon, p_column(result.p, why)),
    ]
