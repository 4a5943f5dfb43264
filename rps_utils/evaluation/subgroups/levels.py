"""C, observed / expected and net benefit within the levels of a column, and what so few events allow to say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from rps_utils.evaluation.calibration import ratio_at
from rps_utils.evaluation.decision import benefits_at
from rps_utils.evaluation.slices import (
    METRIC_COLUMNS,
    Slice,
    beyond_note,
    metric_row,
    prediction_note,
    slices,
    undefined,
)
from rps_utils.intervals.meta_analysis import alike_p, on_scale
from rps_utils.intervals.resampling import c_interval, resample_counts
from rps_utils.survival.follow_up import Estimate
from rps_utils.texts.counts import how_many

EVENTS_FOR_NUMBER = 10  # of a level that gets a number at all
EVENTS_FOR_VERDICT = 100  # in each level of a column before anything is said about how they differ
MOST_LEVELS = 12
NOT_KNOWN = "not known"  # the level of patients without a value
LEVEL_COLUMNS = ["column", "level", *METRIC_COLUMNS]
SCALE_OF = {"harrell_c": "logit", "observed_expected": "log"}  # on which each is pooled


def level_rows(
    scores: pd.DataFrame,
    patients: pd.DataFrame,
    columns: Sequence[str],
    *,
    landmark: float,
    thresholds: Sequence[float] = (),
    n_bootstrap: int = 2000,
    seed: int = 2026,
) -> pd.DataFrame:
    """Judge every model in each level of some columns; nothing is fitted.

    Parameters
    ----------
    scores : DataFrame
        A score table.
    patients : DataFrame
        ``patient_id`` and the columns; one that is not there is left out.
    columns : sequence of str
        Categories, named beforehand: whoever tries all will find something.
    landmark : float
        Where observed / expected and net benefit are read, in the unit of the times.
    thresholds : sequence of float
        Predicted risks from which one acts, for net benefit.
    n_bootstrap, seed : int
        Resamples of the patients of a level.

    Returns
    -------
    DataFrame
        ``column, level`` and the columns of the metrics contract: ``harrell_c`` (bootstrap standard error on the logit
        scale), ``observed_expected`` (Greenwood), and ``net_benefit_over_all_<threshold>``. A level with fewer than
        `EVENTS_FOR_NUMBER` events has no number, and the note says so.

    Raises
    ------
    ValueError
        A column has more than `MOST_LEVELS` levels: it is no category.
    """
    rows = []
    for column in (c for c in columns if c in patients):
        level = patients.set_index("patient_id")[column].astype("string").fillna(NOT_KNOWN)
        if level.nunique() > MOST_LEVELS:
            remedy = "cut it into a few groups beforehand, or leave it out"
            raise ValueError(
                f"{column} has {how_many(level.nunique(), 'level')}; allowed: {MOST_LEVELS} at most; {remedy}"
            )
        for name, part in _parts(scores, level):
            found = _judged(part, landmark, thresholds, n_bootstrap, seed)
            rows += [{"column": column, "level": name, **metric_row(part, *each)} for each in found]
    return pd.DataFrame(rows, columns=LEVEL_COLUMNS)


def _parts(scores: pd.DataFrame, level: pd.Series) -> Iterator[tuple[str, Slice]]:
    for part in slices(scores):
        own = part.rows["patient_id"].map(level).fillna(NOT_KNOWN)
        for name in sorted(own.unique()):
            yield name, part._replace(rows=part.rows[own == name].reset_index(drop=True))


def _judged(
    part: Slice, landmark: float, thresholds: Sequence[float], n_bootstrap: int, seed: int
) -> list[tuple[str, float, Estimate]]:
    """Return (metric, horizon, estimate) of a model in a level."""
    counts = resample_counts(len(part.rows), replicates=n_bootstrap, seed=seed)
    events = int(part.follow_up[1].sum())
    few = (
        f"{how_many(events, 'event')}, fewer than {EVENTS_FOR_NUMBER}: no number" if events < EVENTS_FOR_NUMBER else ""
    )
    c = undefined(few) if few else c_interval(*part.follow_up, part.risk, counts=counts, method="logit")
    ratio = undefined(few) if few else ratio_at(part, landmark)
    found = [("harrell_c", np.nan, c), ("observed_expected", landmark, ratio)]
    if thresholds:
        why = few or prediction_note(part, landmark) or beyond_note(part, landmark)
        gains = [undefined(why)] * len(thresholds) if why else benefits_at(part, landmark, thresholds, counts)[2::3]
        names = [f"net_benefit_over_all_{x:g}" for x in thresholds]
        found += [(name, landmark, gain) for name, gain in zip(names, gains, strict=True)]
    return found


def level_verdicts(rows: pd.DataFrame) -> pd.DataFrame:
    """Say of each column what its levels allow to say: mostly that there are too few events.

    Parameters
    ----------
    rows : DataFrame
        From `level_rows`.

    Returns
    -------
    DataFrame
        ``kind, model, column, metric, levels, fewest_events, p_alike, verdict``, for C and observed / expected, of
        levels that are known. ``p_alike`` is that of Cochran's Q on the logit or log scale, times the number of
        columns tested (Bonferroni); it is given only where every level has `EVENTS_FOR_VERDICT` events.

    References
    ----------
    A hundred events: Vergouwe et al., J Clin Epidemiol 2005; Collins, Ogundimu & Altman, Stat Med 2016.
    """
    keys = ["kind", "model", "column", "metric"]
    known = rows[rows["metric"].isin(list(SCALE_OF)) & (rows["level"] != NOT_KNOWN)]
    found = [(*key, *_compared(part)) for key, part in known.groupby(keys, sort=False)]
    table = pd.DataFrame(found, columns=[*keys, "levels", "fewest_events", "p_alike", "verdict"])
    tested = table.groupby(keys[:2] + keys[3:])["p_alike"].transform("count")
    table["p_alike"] = (table["p_alike"] * tested).clip(upper=1.0)
    said = np.where(table["p_alike"] < 0.05, "the levels differ", "no difference shown; that is no proof of none")
    table["verdict"] = table["verdict"].where(table["p_alike"].isna(), said)
    return table


def _compared(part: pd.DataFrame) -> tuple[int, int, float, str]:
    """Return the number of levels, the fewest events, p that the levels are alike, and why there is none."""
    levels, fewest = len(part), int(part["events"].min())
    if levels < 2:
        return levels, fewest, np.nan, "one level: nothing to compare"
    if fewest < EVENTS_FOR_VERDICT:
        return (
            levels,
            fewest,
            np.nan,
            f"no verdict: {how_many(fewest, 'event')} in a level, fewer than {EVENTS_FOR_VERDICT}",
        )
    p = alike_p(*on_scale(part["value"], part["ci_low"], part["ci_high"], SCALE_OF[part["metric"].iloc[0]]))
    return levels, fewest, p, "no verdict: a level without an interval"


def verdicts_sentence(said: pd.DataFrame) -> str:
    """Say how many comparisons of levels allow a verdict, and which levels differ."""
    decided = said[said["p_alike"].notna()]
    if decided.empty:
        fewest = f"; the smallest has {said['fewest_events'].min()}" if len(said) else ""
        needed = f"{EVENTS_FOR_VERDICT} events in each level are needed"
        return f"None of {len(said)} comparisons allows a verdict: {needed}{fewest}."
    apart = decided[decided["p_alike"] < 0.05]
    names = "; ".join(f"{row.model} by {row.column} ({row.metric}, {row.kind})" for row in apart.itertuples())
    found = f"levels differ in {len(apart)}{': ' * bool(names)}{names}"
    return f"{len(decided)} of {len(said)} comparisons allow a verdict; {found}."
