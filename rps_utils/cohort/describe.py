"""The cohort in numbers: Table 1, follow-up, patient flow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from rps_utils.cohort.contract import SPLITS, clinical_columns
from rps_utils.scores import DIED
from rps_utils.survival.curves import median_survival


def table_one(cohort: pd.DataFrame, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Describe the patients of both splits.

    Parameters
    ----------
    cohort : pandas.DataFrame
        With ``split`` and the columns to describe.
    columns : sequence of str, optional
        All clinical columns if not given.

    Returns
    -------
    pandas.DataFrame
        ``characteristic, level, all, training, validation, missing, smd``. Numbers as median [quartiles],
        categories as n (%) of the known. ``smd`` is the standardised mean difference of the splits: it measures
        how far they differ, which a p-value, driven by the number of patients, does not.
    """
    columns = clinical_columns(cohort.columns) if columns is None else columns
    size = {name: len(rows) for name, rows in _groups(cohort).items()}
    rows = [{"characteristic": "patients", "level": "", **{name: str(n) for name, n in size.items()}}]
    for column in columns:
        described = _numbers(cohort, column) if cohort[column].dtype.kind in "fi" else _levels(cohort, column)
        described[0] |= {
            "missing": str(int(cohort[column].isna().sum())),
            "smd": f"{standardised_difference(cohort[column], cohort['split'] == 'training'):.2f}",
        }
        rows += described
    return pd.DataFrame(rows).fillna("")


def _groups(cohort: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {"all": cohort, **{name: cohort[cohort["split"] == name] for name in SPLITS}}


def _numbers(cohort: pd.DataFrame, column: str) -> list[dict[str, str]]:
    quartiles = {name: rows[column].quantile([0.5, 0.25, 0.75]) for name, rows in _groups(cohort).items()}
    words = {name: f"{q.iloc[0]:.3g} [{q.iloc[1]:.3g}, {q.iloc[2]:.3g}]" for name, q in quartiles.items()}
    return [{"characteristic": column, "level": "median [quartiles]", **words}]


def _levels(cohort: pd.DataFrame, column: str) -> list[dict[str, str]]:
    rows = []
    for level in sorted(cohort[column].dropna().unique()):
        counts = {name: ((g[column] == level).sum(), g[column].notna().sum()) for name, g in _groups(cohort).items()}
        words = {name: f"{n} ({100 * n / max(known, 1):.0f}%)" for name, (n, known) in counts.items()}
        rows.append({"characteristic": column, "level": str(level), **words})
    return rows


def standardised_difference(values: pd.Series, first: pd.Series) -> float:
    """Return the standardised mean difference of a column between two groups; below 0.1 it is usually called small.

    Numbers: difference of means over the pooled SD. Categories: the same for all proportions together.

    Parameters
    ----------
    values : pandas.Series
        Numbers or categories; missing values are left out.
    first : pandas.Series of bool
        True for the first group.

    References
    ----------
    Yang & Dalton, SAS Global Forum 2012.
    """
    known = values.notna()
    values, first = values[known], first[known]
    numbers = values.dtype.kind in "fi"
    # Of k proportions the last follows from the others.
    parts = values.astype(float).to_frame() if numbers else pd.get_dummies(values, dtype=float).iloc[:, 1:]
    groups = parts[first].to_numpy(), parts[~first].to_numpy()
    if min(map(len, groups)) < 2:
        return float("nan")
    if not parts.shape[1]:  # one category, shared by all
        return 0.0
    difference = groups[0].mean(axis=0) - groups[1].mean(axis=0)
    pooled = sum(np.atleast_2d(np.cov(g.T, bias=not numbers)) for g in groups) / 2
    return float(np.sqrt(max(difference @ np.linalg.pinv(pooled) @ difference, 0.0)))


def follow_up(cohort: pd.DataFrame) -> pd.DataFrame:
    """Return patients, events and median follow-up by split.

    Returns
    -------
    pandas.DataFrame
        ``split, patients, events, median_months, ci_low, ci_high, note``, and ``deaths`` after the events where
        the cohort has any. The median is the reverse Kaplan-Meier one, with a log-log interval: recurrences (and
        deaths, where they are told apart) end the observation of patients who might have been followed for
        longer, so they count as censored here.

    References
    ----------
    Schemper & Smith, Control Clin Trials 1996.
    """
    rows = []
    for name, group in _groups(cohort).items():
        median = median_survival(group["time_months"], left_observation(group))
        rows.append({"split": name, **_counts(group), "median_months": median.value})
        rows[-1] |= {"ci_low": median.ci_low, "ci_high": median.ci_high, "note": median.note}
    return pd.DataFrame(rows)


def left_observation(rows: pd.DataFrame) -> pd.Series:
    """Return 1 for patients whose observation ended without recurrence or death: the event of reverse Kaplan-Meier."""
    return 1 - rows["event"] - rows.get(DIED, 0)


def _counts(rows: pd.DataFrame) -> dict[str, int]:
    deaths = {"deaths": int(rows[DIED].sum())} if DIED in rows else {}
    return {"patients": len(rows), "events": int(rows["event"].sum()), **deaths}


def cohort_flow(cohort: pd.DataFrame) -> pd.DataFrame:
    """Return the way of the patients through the study, to the single folds: ``step, patients, events[, deaths]``."""
    steps = [
        ("in the manifest, images and outcome sound", cohort),
        ("of these with every clinical value", cohort.dropna(subset=clinical_columns(cohort.columns))),
        *((name, cohort[cohort["split"] == name]) for name in SPLITS),
        *((f"training, fold {int(k)}", rows) for k, rows in cohort.groupby("fold")),
    ]
    return pd.DataFrame([{"step": step, **_counts(rows)} for step, rows in steps])
