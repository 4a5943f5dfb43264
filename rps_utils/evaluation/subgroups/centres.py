"""Internal-external validation: what the centres, each judged by models that had not seen it, say together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from rps_utils.evaluation.subgroups.levels import NOT_KNOWN, SCALE_OF
from rps_utils.evaluation.wording import interval_text
from rps_utils.intervals.meta_analysis import FEWEST_POOLED, pool_intervals

POOLED_COLUMNS = [
    *("model", "metric", "horizon_months", "centres", "value", "ci_low", "ci_high"),
    *("next_low", "next_high", "tau", "i2", "note"),
]


def pooled_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Pool C and observed / expected over the centres by a random-effects meta-analysis.

    Parameters
    ----------
    rows : DataFrame
        From `levels.level_rows`, of scores by models refitted without the centre.

    Returns
    -------
    DataFrame
        ``model, metric, horizon_months, centres`` (those with an interval), ``value, ci_low, ci_high`` of the mean
        (REML, Hartung and Knapp), ``next_low, next_high`` (prediction interval of another centre), ``tau`` on the
        logit (C) or log scale (O/E), ``i2``, and ``note``. Without three centres that have a number nothing is pooled.
    """
    judged = rows[rows["metric"].isin(list(SCALE_OF)) & (rows["level"] != NOT_KNOWN)]
    found = [
        (model, metric, *_pooled(part)) for (model, metric), part in judged.groupby(["model", "metric"], sort=False)
    ]
    return pd.DataFrame(found, columns=POOLED_COLUMNS)


def _pooled(part: pd.DataFrame) -> tuple:
    horizon, metric = part["horizon_months"].iloc[0], part["metric"].iloc[0]
    given = part.dropna(subset=["value", "ci_low", "ci_high"])
    left = f"{len(part) - len(given)} of {len(part)} centres have no number" if len(given) < len(part) else ""
    if len(given) < FEWEST_POOLED:
        why = f"{len(given)} of {len(part)} centres have a number, fewer than {FEWEST_POOLED}: nothing is pooled"
        return horizon, len(given), *[np.nan] * 7, why
    pooled = pool_intervals(given["value"], given["ci_low"], given["ci_high"], scale=SCALE_OF[metric])
    return horizon, len(given), *pooled[:5], np.sqrt(pooled.tau2), pooled.i2, left


def pooled_sentences(pooled: pd.DataFrame) -> list[str]:
    """Return one sentence a row of `pooled_rows`: the mean, and where another centre may lie."""
    return [_sentence(row) for row in pooled.itertuples()]


def _sentence(row: Any) -> str:
    name = f"{row.model}, {'C' if row.metric == 'harrell_c' else f'O/E at {row.horizon_months:g} months'}"
    if not np.isfinite(row.value):
        return f"{name}: {row.note}."
    mean = interval_text(row.value, row.ci_low, row.ci_high)
    another = f"{row.next_low:.2f} and {row.next_high:.2f}"
    return f"{name}: mean of {row.centres} centres {mean}; another centre between {another}."


def centre_lines(rows: pd.DataFrame, pooled: pd.DataFrame, metric: str = "harrell_c") -> pd.DataFrame:
    """Return ``model, centre, value, ci_low, ci_high`` of a metric for drawing: each centre, their mean, another one.

    The line of another centre has the prediction interval in place of a confidence interval.
    """
    columns = ["model", "centre", "value", "ci_low", "ci_high"]
    mean = pooled[pooled["metric"] == metric].assign(centre="mean of the centres")
    another = mean.assign(centre="another centre", ci_low=mean["next_low"], ci_high=mean["next_high"])
    each = rows[rows["metric"] == metric].rename(columns={"level": "centre"})
    return pd.concat([part[columns] for part in (each, mean, another)], ignore_index=True)
