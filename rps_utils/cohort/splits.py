"""Who learns and who is tested: split, folds, and the table of the cohort that later steps read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from rps_utils.cohort.contract import FILES, HASHES, LEAST_GROUPS
from rps_utils.scores import DIED, by_cause
from rps_utils.texts.counts import how_many


def draw_split(event: pd.Series, seed: int, *, training_share: float = 0.75) -> np.ndarray:
    """Draw ``training`` or ``validation`` for every patient, at the same event rate in both as nearly as it goes.

    Within those with and those without a recurrence the draw is free: a split that also matched the times would make
    validation more like training than the next hospital is.

    Parameters
    ----------
    event : pandas.Series
        1 = local recurrence; anything else is none.
    seed : int
        The same seed draws the same patients.
    training_share : float
        Between 0 and 1. 115 patients give 86 and 29.

    Returns
    -------
    numpy.ndarray of str, shape (n,)

    Raises
    ------
    ValueError
        One of the two would be empty.
    """
    wanted = round(len(event) * (1 - training_share))
    if not 0 < wanted < len(event):
        raise ValueError(f"training_share = {training_share} leaves a split of {len(event)} patients empty")
    draw = np.random.default_rng([seed, 86])
    recurred = event.to_numpy() == 1
    with_event = round(wanted * recurred.sum() / len(event))
    chosen = [
        *draw.permutation(np.flatnonzero(recurred))[:with_event],
        *draw.permutation(np.flatnonzero(~recurred))[: wanted - with_event],
    ]
    return np.where(np.isin(np.arange(len(event)), chosen), "validation", "training")


def draw_folds(cohort: pd.DataFrame, folds: int, seed: int) -> pd.Series:
    """Deal the training patients into folds that are alike in events and in times.

    Parameters
    ----------
    cohort : pandas.DataFrame
        With ``split, time_months, event``.
    folds : int
        Number of folds K.
    seed : int

    Returns
    -------
    pandas.Series of Int64
        0..K-1 in training, missing in validation. Sizes, and numbers of events, differ by one at most.
    """
    if folds < LEAST_GROUPS:
        raise ValueError(f"folds = {folds}; allowed: {LEAST_GROUPS} or more, as nested cross-fitting leaves two out")
    training = cohort[cohort["split"] == "training"]
    if training["event"].sum() < folds:
        raise ValueError(
            f"folds = {folds}, but training has {how_many(training['event'].sum(), 'event')}: choose fewer folds"
        )
    dealt = stratified_folds(training["time_months"], training["event"], folds, [seed, 2])
    return pd.Series(dealt, index=training.index, dtype="Int64").reindex(cohort.index)


def group_folds(cohort: pd.DataFrame, column: str) -> pd.Series:
    """Make a fold of each value of a column, in alphabetical order: the cross-fitted scores then leave it out.

    Parameters
    ----------
    cohort : pandas.DataFrame
        With ``split`` and `column`, ``centre`` for example.
    column : str

    Returns
    -------
    pandas.Series of Int64
        0..K-1 in training, missing in validation.

    Raises
    ------
    ValueError
        Fewer than three groups in training, a value is missing, or a group has no event.
    """
    training = cohort[cohort["split"] == "training"]
    events = (training["event"] == 1).groupby(training[column], dropna=False).sum()
    if len(events) < LEAST_GROUPS or events.index.isna().any() or not events.all():
        found = ", ".join(f"{name}: {how_many(count, 'event')}" for name, count in events.items())
        raise ValueError(f"split_by = {column!r} gives {found}; needed: {LEAST_GROUPS} groups or more, events in each")
    number = {name: k for k, name in enumerate(sorted(events.index))}
    return training[column].map(number).astype("Int64").reindex(cohort.index)


def stratified_folds(time: ArrayLike, event: ArrayLike, folds: int, seed: int | Sequence[int]) -> np.ndarray:
    """Deal patients into folds that are alike in events and in times.

    Parameters
    ----------
    time, event : array_like, shape (n,)
        Months, 0/1.
    folds : int
        Number of folds K.
    seed : int or sequence of int
        For ``numpy.random.default_rng``.

    Returns
    -------
    numpy.ndarray of int, shape (n,)
        0..K-1; every K neighbours in the ranking by event and time get one fold each, in a random order.
    """
    draw = np.random.default_rng(seed)
    ranked = _by_outcome(time, event)
    fold = np.empty(len(ranked), int)
    rounds = -(-len(ranked) // folds)
    fold[ranked] = np.concatenate([draw.permutation(folds) for _ in range(rounds)])[: len(ranked)]
    return fold


def _by_outcome(time: ArrayLike, event: ArrayLike) -> np.ndarray:
    return np.lexsort((np.asarray(time), -np.asarray(event, int)))


def study_table(manifest: pd.DataFrame, folds: int, seed: int, split_by: str = "") -> pd.DataFrame:
    """Return the cohort as later steps read it: ids, split, fold, outcome, then all other columns but files.

    Parameters
    ----------
    manifest : pandas.DataFrame
        From `manifest.read_manifest`. Without a column ``split`` one is drawn (75/25) by `seed`.
    folds, seed : int
        See `draw_folds`.
    split_by : str
        Column whose values become the folds (`group_folds`); empty: they are drawn.

    Returns
    -------
    pandas.DataFrame
        ``event`` is 1 = local recurrence and 0 = none seen; where the manifest has deaths without it (``event`` 2),
        a column ``died`` marks them. The models censor at death; evaluation shows what that means.
    """
    cohort = by_cause(manifest.drop(columns=[c for c in (*FILES, *HASHES) if c in manifest]))
    if "split" not in cohort:
        cohort["split"] = draw_split(cohort["event"], seed)
    cohort["fold"] = group_folds(cohort, split_by) if split_by else draw_folds(cohort, folds, seed)
    first = ["patient_id", "split", "fold", "time_months", "event", *([DIED] if DIED in cohort else [])]
    return cohort[[*first, *(c for c in cohort.columns if c not in first)]]
