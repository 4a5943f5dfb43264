"""The score table: the one door between models and their evaluation."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from rps_utils.files import read_csv
from rps_utils.texts.cells import is_formula

COLUMNS = ["patient_id", "split", "time_months", "event", "model", "kind", "risk"]
KINDS_OF_SPLIT = {"training": ("apparent", "cross_fitted"), "validation": ("validation",)}
READY_MADE = "risk_"
MADE_BY = "made_by"
OWN_TIME = "lrfs_own"  # predicted LRFS at the patient's own last time
CUTOFF = "cutoff"  # of a frozen model: high risk is risk above it
DIED = "died"  # 1 = death without local recurrence; only where deaths are told apart from other censoring


class ScoreTableError(ValueError):
    """A table of scores breaks the contract; the message has one line for each fault."""


def lrfs_column(landmark: float) -> str:
    """Name the column of the predicted LRFS probability at a landmark time, for example ``lrfs_36``."""
    return f"lrfs_{landmark:g}"


def lrfs_landmarks(scores: pd.DataFrame) -> list[float]:
    """Return the landmark times for which the table has predicted LRFS, in rising order."""
    found = (re.fullmatch(r"lrfs_(\d+(?:\.\d+)?)", column) for column in scores.columns)
    return sorted(float(match[1]) for match in found if match)


def by_cause(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose ``event`` may be 2 (death without local recurrence) with ``event`` 0 or 1.

    Where there is a 2, a column ``died`` (0 or 1) keeps it, and the patient is censored at death: models and tests
    then speak of the cause-specific hazard of local recurrence.
    """
    if not (table["event"] == 2).any():
        return table
    died = ((table["event"] == 2) | (table.get(DIED, 0) == 1)).astype(int)
    first = [*table.columns[: table.columns.get_loc("event") + 1], DIED]
    table = table.assign(event=(table["event"] == 1).astype(int), **{DIED: died})
    return table[[*first, *(c for c in table.columns if c not in first)]]


def score_rows(
    cohort: pd.DataFrame,
    model: str,
    kind: str,
    risk: pd.Series,
    lrfs: pd.DataFrame | None = None,
    made_by: pd.Series | None = None,
) -> pd.DataFrame:
    """Make the rows of one model and kind.

    Parameters
    ----------
    cohort : DataFrame
        With ``patient_id, split, time_months, event`` and, where deaths are told apart, ``died``.
    model, kind : str
        For example ``"DL"`` and ``"cross_fitted"``.
    risk : Series
        Risk score by ``patient_id`` (higher = earlier recurrence).
    lrfs : DataFrame, optional
        Predicted LRFS probability by ``patient_id``, one column a landmark, named by `lrfs_column`, and perhaps
        ``lrfs_own``.
    made_by : Series, optional
        By ``patient_id``, the names of the fitted objects that made the row, joined by ``+``; the audit asks
        whom they had seen. The last column.

    Returns
    -------
    DataFrame
        In the order of `risk`, with the columns of the contract.
    """
    outcome = ["split", "time_months", "event", *([DIED] if DIED in cohort else [])]
    rows = cohort.set_index("patient_id").loc[risk.index, outcome].reset_index()
    rows = rows.assign(model=model, kind=kind, risk=risk.to_numpy())
    rows = rows if lrfs is None else rows.join(lrfs.loc[risk.index].reset_index(drop=True))
    return rows if made_by is None else rows.assign(**{MADE_BY: made_by[risk.index].to_numpy()})


def ready_made_name(model: str) -> str:
    """Name the object behind a ready-made score, as the ledger knows it."""
    return f"ready-made {model}".replace("+", " and ")


def ready_made_scores(cohort: pd.DataFrame) -> pd.DataFrame:
    """Turn the manifest's columns ``risk_<Name>`` into score rows of a model ``<Name>``.

    Such a score comes from outside, a published nomogram for example. It learned from nobody in this cohort,
    so its training rows stand beside the cross-fitted ones.
    """
    tables = []
    for column in [c for c in cohort.columns if c.startswith(READY_MADE)]:
        for split, kind in (("training", "cross_fitted"), ("validation", "validation")):
            risk = cohort.loc[cohort["split"] == split].set_index("patient_id")[column].astype(float)
            model = column.removeprefix(READY_MADE)
            made_by = pd.Series(ready_made_name(model), risk.index)
            tables.append(score_rows(cohort, model, kind, risk, made_by=made_by))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS)


def read_scores(path: str | Path) -> pd.DataFrame:
    """Read a score table and check it.

    Parameters
    ----------
    path : str or Path
        CSV with ``patient_id, split, time_months, event, model, kind, risk`` and optionally ``lrfs_<t>`` (predicted
        LRFS at a landmark), ``lrfs_own`` (at the patient's own last time), ``died``, ``cutoff`` and ``made_by``.
        ``time_months`` may be in any unit, as long as landmarks and tau are in the same. ``event`` may hold 2 =
        death without local recurrence; `by_cause` then makes it 0 and adds ``died``.

    Returns
    -------
    DataFrame
        Checked by `check_scores`.

    Raises
    ------
    ScoreTableError
        With one line for each fault: column, row, value, what is allowed.
    """
    scores = read_csv(path)
    faults = check_scores(scores)
    if faults:
        raise ScoreTableError(f"{path}: {len(faults)} fault(s)\n" + "\n".join(faults))
    scores = by_cause(scores.assign(event=scores["event"].astype(int)))
    return scores.assign(**{DIED: scores[DIED].astype(int)}) if DIED in scores else scores


def check_scores(scores: pd.DataFrame) -> list[str]:
    """List what is wrong with a score table, one line for each fault; an empty list means sound."""
    missing = [column for column in COLUMNS if column not in scores.columns]
    if missing:
        return [f"column {column}: missing; a score table has the columns {', '.join(COLUMNS)}" for column in missing]
    if scores.empty:
        return ["the table has no rows; expected one row a patient, model and kind"]
    return [
        *_formula_faults(scores),
        *_cell_faults(scores),
        *_kind_faults(scores),
        *_patient_faults(scores),
        *_cutoff_faults(scores),
    ]


def _formula_faults(scores: pd.DataFrame) -> Iterator[str]:
    """Refuse names and texts that a spreadsheet would run: they go into every table of the evaluation."""
    for number, column in enumerate(scores.columns, 1):
        if is_formula(str(column)):
            yield f"column {number}: its name is a formula; allowed: names; begin it with a letter"
        elif scores[column].dtype == object:
            for row, text in enumerate(scores[column], 2):
                if isinstance(text, str) and is_formula(text):
                    yield f"row {row}, column {column}: a formula; allowed: a value; remove the sign in front"


def _cell_faults(scores: pd.DataFrame) -> list[str]:
    lrfs = [*(lrfs_column(t) for t in lrfs_landmarks(scores)), *([OWN_TIME] if OWN_TIME in scores else [])]
    numbers = {c: pd.to_numeric(scores[c], errors="coerce") for c in ["time_months", "event", "risk", *lrfs]}
    given = {c: scores[c].notna() for c in lrfs}
    rules = [
        ("patient_id", scores["patient_id"].isna(), "a text that names the patient"),
        ("model", scores["model"].isna(), "the name of a model"),
        ("split", ~scores["split"].isin(KINDS_OF_SPLIT), "training or validation"),
        (
            "time_months",
            ~(np.isfinite(numbers["time_months"]) & (numbers["time_months"] > 0)),
            "a number above 0",
        ),
        ("event", ~numbers["event"].isin([0, 1, 2]), "1 = local recurrence, 0 = censored, 2 = death without it"),
        ("risk", ~np.isfinite(numbers["risk"]), "a finite number, higher for earlier recurrence"),
    ]
    if DIED in scores:
        died = pd.to_numeric(scores[DIED], errors="coerce")
        wrong = ~died.isin([0, 1]) | ((died == 1) & (numbers["event"] == 1)) | ((died == 0) & (numbers["event"] == 2))
        rules.append((DIED, wrong, "1 = death without local recurrence, else 0; in agreement with event"))
    rules += [(c, given[c] & ~numbers[c].between(0, 1), "empty, or an LRFS probability from 0 to 1") for c in lrfs]
    return [_fault(scores, column, wrong, allowed) for column, wrong, allowed in rules if wrong.any()]


def _fault(scores: pd.DataFrame, column: str, wrong: pd.Series, allowed: str) -> str:
    first = int(np.flatnonzero(wrong)[0])
    more = f" (and {int(wrong.sum()) - 1} more rows)" if wrong.sum() > 1 else ""
    return f"row {first + 2}, column {column}: {scores[column].tolist()[first]!r}; allowed: {allowed}{more}"


def _kind_faults(scores: pd.DataFrame) -> list[str]:
    known = scores[scores["split"].isin(KINDS_OF_SPLIT)]
    pairs = known[["split", "kind"]].drop_duplicates().itertuples(index=False)
    return [
        f"column kind: {kind!r} in split {split}; allowed there: {' or '.join(KINDS_OF_SPLIT[split])}"
        for split, kind in pairs
        if kind not in KINDS_OF_SPLIT[split]
    ]


def _patient_faults(scores: pd.DataFrame) -> list[str]:
    faults = []
    twice = scores[scores.duplicated(["patient_id", "model", "kind"])]
    if len(twice):
        row = twice.iloc[0]
        faults.append(
            f"patient {row['patient_id']} has more than one row of model {row['model']}, kind {row['kind']}: keep one"
        )
    for column in ("split", "time_months", "event", *([DIED] if DIED in scores else [])):
        values = scores.groupby("patient_id")[column].nunique(dropna=False)
        if (values > 1).any():
            faults.append(
                f"patient {values.idxmax()} has {values.max()} different values of {column}: a patient has one"
            )
    return faults


def _cutoff_faults(scores: pd.DataFrame) -> list[str]:
    if CUTOFF not in scores:
        return []
    values = pd.to_numeric(scores[CUTOFF], errors="coerce")
    unread = scores[CUTOFF].notna() & ~np.isfinite(values)
    found = values.groupby(scores["model"]).nunique()
    several = [f"model {m} has {n} different values of {CUTOFF}: a model has one" for m, n in found.items() if n > 1]
    return ([_fault(scores, CUTOFF, unread, "empty, or a finite number")] if unread.any() else []) + several


def merge_scores(paths: Sequence[str | Path]) -> pd.DataFrame:
    """Stack checked score tables; columns ``lrfs_<t>`` that a model does not give stay empty."""
    tables = [read_scores(path) for path in paths]
    merged = pd.concat(tables, ignore_index=True)
    last = [c for c in merged.columns if c == MADE_BY]
    merged = merged[[c for c in merged.columns if c != MADE_BY] + last]
    faults = check_scores(merged)
    if faults:
        raise ScoreTableError("the models' tables do not fit together\n" + "\n".join(faults))
    return merged
