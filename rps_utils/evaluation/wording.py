"""Estimates and their intervals in words and in wide tables."""

from __future__ import annotations

import numpy as np
import pandas as pd

from rps_utils.evaluation.slices import KINDS


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
