"""Estimates and their intervals in words and in wide tables."""

from __future__ import annotations

import numpy as np
import pandas as pd

from rps_utils.evaluation.slices import KINDS
from rps_utils.texts.counts import how_many


def interval_text(value: float, low: float, high: float, *, digits: int = 2) -> str:
    """Write ``0.75 (0.60 to 0.88)``; a dash where the value is missing, no bracket where the interval is."""
    if not np.isfinite(value):
        return "–"
    # Adding zero turns a rounded -0.0 into 0.0.
    text, *limits = (f"{round(number, digits) + 0.0:.{digits}f}" for number in (value, low, high))
    return f"{text} ({limits[0]} to {limits[1]})" if np.isfinite([low, high]).all() else text


def p_text(p: float) -> str:
    """Write a p-value: ``0.012``, or ``< 0.001``; a dash where it is missing."""
    if not np.isfinite(p):
        return "–"
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def in_words(row: pd.Series, digits: int = 3) -> str:
    """Write a row of metrics: a p-value, or a value with its interval."""
    if row["metric"].endswith("_p"):
        return p_text(float(row["value"]))
    value, low, high = (float(row[c]) for c in ("value", "ci_low", "ci_high"))
    return interval_text(value, low, high, digits=digits)


def wide(rows: pd.DataFrame, columns: str = "kind", digits: int = 3) -> pd.DataFrame:
    """Lay rows of metrics out for reading, values and intervals in words.

    Parameters
    ----------
    rows : DataFrame
        One metric, or several when `columns` is ``metric``.
    columns : str
        What the columns stand for: ``kind``, ``horizon_months`` or ``metric``.
    digits : int
        Decimals.

    Returns
    -------
    DataFrame
        A line for each kind and model, or each model when the columns are the kinds; a dash without a value.
    """
    index = [c for c in ("kind", "model") if c != columns]
    words = rows.assign(words=[in_words(row, digits) for _, row in rows.iterrows()])
    words["kind"] = pd.Categorical(words["kind"], [k for k in KINDS if k in set(rows["kind"])])
    words["model"] = pd.Categorical(words["model"], list(dict.fromkeys(rows["model"])))
    table = words.pivot_table("words", index, columns, aggfunc="first", observed=True)
    names = [f"{name:g}" if isinstance(name, float) else str(name) for name in table.columns]
    return table.set_axis(names, axis="columns").reset_index().astype(str).replace("nan", "–")


def side_of(low: float, high: float, *, null: float = 0.5) -> str:
    """Say on which side of `null` an interval lies: ``above``, ``below``, ``around``, or ``unknown`` without one."""
    if not np.isfinite([low, high]).all():
        return "unknown"
    return "above" if low > null else "below" if high < null else "around"


AGAINST_CHANCE = {
    "above": "the whole interval lies above 0.5: the order is better than chance",
    "below": "the whole interval lies below 0.5: the score points the wrong way",
    "around": "the interval holds 0.5: these patients do not show that the order is better than chance",
    "unknown": "there is no interval, so nothing is said about chance",
}


def c_sentences(rows: pd.DataFrame) -> list[str]:
    """Return one sentence a row of C: the value, its interval, and what that says about chance.

    Parameters
    ----------
    rows : DataFrame
        ``model, value, ci_low, ci_high``, one kind of score.
    """
    shown = rows.dropna(subset="value")
    numbers = shown[["value", "ci_low", "ci_high"]].astype(float).to_numpy()
    return [
        f"{model}: C {interval_text(value, low, high)}; {AGAINST_CHANCE[side_of(low, high)]}."
        for model, (value, low, high) in zip(shown["model"], numbers, strict=True)
    ]


def holm(p: np.ndarray) -> np.ndarray:
    """Return p-values corrected for how many there are (Holm 1979): each holds its level whatever the others do."""
    order = np.argsort(p)
    corrected = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    return corrected[np.argsort(order)]


def many_pairs_sentence(intervals: pd.DataFrame, p_values: pd.DataFrame | None = None) -> str:
    """Say what it means that many pairs were compared: how many would ring by luck, and which are left after Holm.

    Parameters
    ----------
    intervals : DataFrame
        ``model, value, ci_low, ci_high`` of paired differences with 95 % intervals, one line a pair.
    p_values : DataFrame, optional
        ``model, value``: two-sided p of the same pairs.
    """
    pairs = intervals.dropna(subset=["value", "ci_low", "ci_high"])
    ringing = int(((pairs["ci_low"] > 0) | (pairs["ci_high"] < 0)).sum())
    by_luck = f"if no two models differed, about {0.05 * len(pairs):.1f} would"
    said = f"{ringing} of {len(pairs)} intervals leave out zero; {by_luck}"
    known = pairs.iloc[:0] if p_values is None else p_values.dropna(subset="value")
    if known.empty:
        return f"{said}."
    left = known["model"][holm(known["value"].to_numpy(float)) <= 0.05]
    return f"{said}. Corrected for {how_many(len(known), 'pair')} (Holm) are left: {', '.join(left) or 'none'}."


def pairs_sentence(rows: pd.DataFrame) -> str:
    """Say how many paired differences of C are told apart from zero, and which.

    Parameters
    ----------
    rows : DataFrame
        ``model`` (``A - B``), ``value, ci_low, ci_high``; one kind of score, one metric.
    """
    shown = rows.dropna(subset=["value", "ci_low", "ci_high"])
    if shown.empty:
        return "No two models could be compared."
    apart = [
        side_of(low, high, null=0.0) != "around" for low, high in zip(shown["ci_low"], shown["ci_high"], strict=True)
    ]
    names = ", ".join(shown["model"][apart])
    found = f"{sum(apart)} of {len(shown)} pairs of models are told apart (interval without zero)"
    return f"{found}: {names}." if names else f"{found}; for every pair the better model is not known."
