"""The score table: the one door between models and their evaluation."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pandas as pd

from rps_utils.files import MISSING, read_csv
from rps_utils.texts.cells import comma_remedy, hidden_sign, is_formula
from rps_utils.texts.counts import how_many
from rps_utils.texts.persons import HIDDEN, personal_kind, unless_personal

COLUMNS = ["patient_id", "split", "time_months", "event", "model", "kind", "risk"]
KINDS_OF_SPLIT = {"training": ("apparent", "cross_fitted"), "validation": ("validation",)}
READY_MADE = "risk_"
MADE_BY = "made_by"
OWN_TIME = "lrfs_own"  # predicted LRFS at the patient's own last time
CUTOFF = "cutoff"  # of a frozen model: high risk is risk above it
NO_LRFS = "no_lrfs"  # why a row has no predicted LRFS, where its model is one that could have given it
DIED = "died"  # 1 = death without local recurrence; only where deaths are told apart from other censoring


ROUNDING = 1e-9
LONGEST_MEDIAN = 180.0  # months of follow-up; more is most likely a time in days
LANDMARK_COLUMN = re.compile(r"(lrfs|incidence)_(\d+(?:\.\d+)?)", re.ASCII)


class ScoreTableError(ValueError):
    """A table of scores breaks the contract; the message has one line for each fault."""


def lrfs_column(landmark: float) -> str:
    """Name the column of the predicted LRFS probability at a landmark time, for example ``lrfs_36``."""
    return f"lrfs_{landmark:g}"


def lrfs_landmarks(scores: pd.DataFrame) -> list[float]:
    """Return the landmark times for which the table has predicted LRFS, in rising order."""
    return _landmarks(scores, "lrfs")


def _landmarks(scores: pd.DataFrame, what: str) -> list[float]:
    found = (LANDMARK_COLUMN.fullmatch(column) for column in scores.columns)
    return sorted({float(match[2]) for match in found if match and match[1] == what})


def incidence_column(landmark: float) -> str:
    """Name the column of the predicted probability of recurring by a landmark, deaths counted: ``incidence_36``."""
    return f"incidence_{landmark:g}"


def incidence_columns(scores: pd.DataFrame) -> list[str]:
    """Return the names of the columns of predicted cumulative incidence, in rising order of their landmarks."""
    return list(map(incidence_column, _landmarks(scores, "incidence")))


def lrfs_columns(scores: pd.DataFrame) -> list[str]:
    """Return the names of the columns of predicted LRFS, ``lrfs_own`` included."""
    return [*map(lrfs_column, lrfs_landmarks(scores)), *([OWN_TIME] if OWN_TIME in scores else [])]


def predicted_columns(scores: pd.DataFrame) -> list[str]:
    """Return the names of all columns of predicted probabilities: LRFS, and cumulative incidence."""
    return [*lrfs_columns(scores), *incidence_columns(scores)]


# Letters of Cyrillic and Greek that are drawn like a Latin one, small or capital.
LOOK_ALIKE = str.maketrans("авеԁгһіјкмнорԛстухѕѡᴦαβεζηικμνορτυχ", "abedrhijkmhopqctyxswrabezhikmvoptyx")


def alike(name: str) -> str:
    """Return a name as a reader may confuse it: without capitals, spaces, invisible signs, variants, alphabets.

    Two names that are alike must not stand for two things: a reader cannot tell them apart, nor can some file systems.
    """
    seen = (c for c in unicodedata.normalize("NFKC", name) if unicodedata.category(c)[0] not in "CZ")
    return unicodedata.normalize("NFKC", "".join(seen).casefold()).translate(LOOK_ALIKE)


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
        ``lrfs_own`` and columns named by `incidence_column`.
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
        LRFS at a landmark, as if nobody died without recurrence), ``lrfs_own`` (at the patient's own last time),
        ``no_lrfs`` (why there is none), ``incidence_<t>`` (predicted probability of recurring by a landmark, deaths
        counted), ``died``, ``cutoff`` and ``made_by``. ``NA`` and the like (`files.MISSING`) are missing numbers.
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
    TableError
        The file is no table (`files.read_csv`).
    """
    scores = _plain_landmarks(read_csv(path, MISSING))
    faults = check_scores(scores)
    if faults:
        raise ScoreTableError(f"{path}: {how_many(len(faults), 'fault')}\n" + "\n".join(faults))
    scores = by_cause(scores.assign(event=scores["event"].astype(int)))
    return scores.assign(**{DIED: scores[DIED].astype(int)}) if DIED in scores else scores


def _plain_landmarks(scores: pd.DataFrame) -> pd.DataFrame:
    """Write ``lrfs_012`` and ``lrfs_12.0`` as ``lrfs_12``; where that is there already, `check_scores` says so."""
    found = {column: LANDMARK_COLUMN.fullmatch(column) for column in scores.columns}
    plain = {column: f"{match[1]}_{float(match[2]):g}" for column, match in found.items() if match}
    taken = [*(c for c in scores.columns if c not in plain), *plain.values()]
    return scores.rename(columns={old: new for old, new in plain.items() if taken.count(new) == 1})


def check_scores(scores: pd.DataFrame) -> list[str]:
    """List what is wrong with a score table, one line for each fault; an empty list means sound."""
    missing = [column for column in COLUMNS if column not in scores.columns]
    if missing:
        return [f"column {column}: missing; a score table has the columns {', '.join(COLUMNS)}" for column in missing]
    if scores.empty:
        return ["the table has no rows; expected one row a patient, model and kind"]
    if faults := [*_text_faults(scores), *_column_faults(scores), *_name_faults(scores), *_person_faults(scores)]:
        return faults
    faults = [*_cell_faults(scores), *_kind_faults(scores), *_patient_faults(scores), *_cutoff_faults(scores)]
    return faults or [*_prediction_faults(scores), *_incidence_faults(scores)]


def _column_faults(scores: pd.DataFrame) -> Iterator[str]:
    like: dict[str, list[str]] = {}
    kinds = (("lrfs", "lrfs", "LRFS", f", and {OWN_TIME}"), ("incidence_", "incidence", "cumulative incidence", ""))
    for begin, kind, what, more in kinds:
        for name in (name for name in scores.columns if alike(name).startswith(begin) and name != OWN_TIME):
            match = LANDMARK_COLUMN.fullmatch(name)
            if not match or float(match[2]) <= 0:
                allowed = f"{kind}_<landmark above 0>, such as {kind}_36 or {kind}_7.5{more}"
                yield f"column {name!r}: not understood as predicted {what}; allowed: {allowed}"
            else:
                like.setdefault(f"{kind}_{float(match[2]):g}", []).append(name)
    for landmark, several in like.items():
        if several != [landmark]:
            yield f"columns {', '.join(several)}: one landmark; call it {landmark}, once"


def _name_faults(scores: pd.DataFrame) -> Iterator[str]:
    for column in ("model", "patient_id"):
        seen: dict[str, str] = {}
        for name in scores[column].dropna().unique():
            shown = ascii(name) if not str(name).isprintable() else repr(name)
            if column == "patient_id" and (kind := personal_kind(str(name))):
                yield f"column {column}: {kind} {HIDDEN}; allowed: a pseudonym, that leads to nobody"
                continue
            if not isinstance(name, str) or not alike(name) or name != name.strip() or not name.isprintable():
                yield f"column {column}: {shown}; allowed: printable text that neither begins nor ends with a space"
                continue
            first = seen.setdefault(alike(name), name)
            if first != name:
                only = f"{first!a} and {name!a} differ in capitals, spaces or invisible signs only"
                yield f"column {column}: {only}; one name for one, names that a reader can tell apart for two"


def _person_faults(scores: pd.DataFrame) -> Iterator[str]:
    """Refuse what points to a person in columns that the contract does not know: the evaluation copies them."""
    known = {*COLUMNS, DIED, NO_LRFS, MADE_BY, CUTOFF, *predicted_columns(scores)}
    for column in (c for c in scores.columns if c not in known and scores[c].dtype == object):
        for row, text in enumerate(scores[column], 2):
            if isinstance(text, str) and (kind := personal_kind(text)):
                where = f"row {row}, column {unless_personal(column)}"
                yield f"{where}: {kind} {HIDDEN}; remove the column, it is not needed"
                break


def _text_faults(scores: pd.DataFrame) -> Iterator[str]:
    """Refuse what a spreadsheet would run, and what nobody can see: it goes into every table of the evaluation."""
    for number, column in enumerate(scores.columns, 1):
        if is_formula(str(column)):
            yield f"column {number}: its name is a formula; allowed: names; begin it with a letter"
        elif unseen := hidden_sign(str(column)):
            yield f"column {number}: its name has {unseen}; allowed: printable names; type it again"
        elif scores[column].dtype == object:
            for row, text in enumerate(scores[column], 2):
                if isinstance(text, str) and is_formula(text):
                    yield f"row {row}, column {column}: a formula; allowed: a value; remove the sign in front"
                elif isinstance(text, str) and (unseen := hidden_sign(text)):
                    yield f"row {row}, column {column}: {unseen}; allowed: printable text; type it again"


def _cell_faults(scores: pd.DataFrame) -> list[str]:
    predicted = predicted_columns(scores)
    numbers = {c: pd.to_numeric(scores[c], errors="coerce") for c in ["time_months", "event", "risk", *predicted]}
    given = {c: scores[c].notna() for c in predicted}
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
    if NO_LRFS in scores:
        rules += [(c, given[c] & scores[NO_LRFS].notna(), f"empty where {NO_LRFS} says why") for c in predicted]
    rules += [
        (c, given[c] & ~numbers[c].between(0, 1), "empty, or an LRFS probability from 0 to 1")
        for c in lrfs_columns(scores)
    ]
    allowed = "empty, or a probability of recurring from 0 to 1"
    rules += [(c, given[c] & ~numbers[c].between(0, 1), allowed) for c in incidence_columns(scores)]
    return [_fault(scores, column, wrong, allowed) for column, wrong, allowed in rules if wrong.any()]


def _fault(scores: pd.DataFrame, column: str, wrong: pd.Series, allowed: str) -> str:
    first = int(np.flatnonzero(wrong)[0])
    more = f" (and {how_many(wrong.sum() - 1, 'more row')})" if wrong.sum() > 1 else ""
    value = scores[column].tolist()[first]
    said = unless_personal(value) if isinstance(value, str) else ""
    remedy = comma_remedy(value) if isinstance(value, str) else ""
    shown = said if said != value and said else repr(value)
    return f"row {first + 2}, column {column}: {shown}; allowed: {allowed}{more}{'; ' * bool(remedy)}{remedy}"


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


def _prediction_faults(scores: pd.DataFrame) -> Iterator[str]:
    """Refuse LRFS that rises with time: who recurs before one landmark has recurred before the next."""
    landmarks = lrfs_landmarks(scores)
    predicted = scores.reindex(columns=[lrfs_column(t) for t in landmarks]).to_numpy(float)
    reached = np.fmin.accumulate(predicted, axis=1) if len(landmarks) else predicted
    for k, landmark in enumerate(landmarks):
        if k:
            allowed = "no higher than at an earlier landmark: LRFS falls with time"
            rising = pd.Series(predicted[:, k] > reached[:, k - 1] + ROUNDING, scores.index)
            yield from [_fault(scores, lrfs_column(landmark), rising, allowed)] if rising.any() else []
        if OWN_TIME in scores:
            own, time = scores[OWN_TIME].to_numpy(float), scores["time_months"].to_numpy(float)
            late = (time >= landmark) & (own > predicted[:, k] + ROUNDING)
            early = (time <= landmark) & (own < predicted[:, k] - ROUNDING)
            wrong = pd.Series(late | early, scores.index)
            allowed = f"LRFS at the patient's own last time, in agreement with {lrfs_column(landmark)}"
            yield from [_fault(scores, OWN_TIME, wrong, allowed)] if wrong.any() else []


def _incidence_faults(scores: pd.DataFrame) -> Iterator[str]:
    """Refuse a cumulative incidence that falls with time, or exceeds what it would be if nobody died."""
    reached = np.full(len(scores), -np.inf)
    for landmark in _landmarks(scores, "incidence"):
        column, free = incidence_column(landmark), lrfs_column(landmark)
        predicted = scores[column].to_numpy(float)
        allowed = "no lower than at an earlier landmark: a cumulative incidence rises with time"
        falling = pd.Series(predicted < reached - ROUNDING, scores.index)
        yield from [_fault(scores, column, falling, allowed)] if falling.any() else []
        reached = np.fmax(reached, predicted)
        if free in scores:
            more = pd.Series(predicted > 1 - scores[free].to_numpy(float) + ROUNDING, scores.index)
            allowed = f"at most 1 - {free}, which is the chance of recurring if nobody died"
            yield from [_fault(scores, column, more, allowed)] if more.any() else []


def odd_scores(scores: pd.DataFrame, landmarks: Iterable[float] = ()) -> list[str]:
    """Say what is possible in a sound score table and yet seldom meant, one sentence each.

    Parameters
    ----------
    scores : DataFrame
        From `read_scores`.
    landmarks : iterable of float
        Landmarks that are to be evaluated, to compare them with the times.
    """
    by_maker = ["model", "kind", *([MADE_BY] if MADE_BY in scores else [])]
    against: dict[tuple[str, str], set[str]] = {}
    for (model, kind, *_), rows in scores.groupby(by_maker, sort=False, dropna=False):
        columns = {column for column in map(lrfs_column, lrfs_landmarks(rows)) if _rises_with_risk(rows, column)}
        against.setdefault((model, kind), set()).update(columns)
    doubt = "rises with the risk, and should fall: is it the chance of recurrence, or the risk itself?"
    lines = [
        f"{model}, {kind}: {', '.join(sorted(found))} {doubt}" for (model, kind), found in against.items() if found
    ]
    return [*_odd_times(scores, sorted(landmarks)), *_odd_copies(scores), *lines]


def _rises_with_risk(rows: pd.DataFrame, column: str) -> bool:
    known = rows[["risk", column]].dropna()
    if len(known) < 3 or min(len(set(known["risk"])), len(set(known[column]))) < 2:
        return False
    from scipy.stats import spearmanr  # a second that nobody else here needs

    return bool(spearmanr(known["risk"], known[column]).statistic > 0)


def _odd_times(scores: pd.DataFrame, landmarks: list[float]) -> Iterator[str]:
    times = scores.drop_duplicates("patient_id")["time_months"]
    if times.median() > LONGEST_MEDIAN:
        yield f"median time {times.median():g}, over {LONGEST_MEDIAN:g} months: days? landmarks are in the same unit"
    if landmarks and landmarks[0] > times.max():
        yield f"longest time {times.max():g}, first landmark {landmarks[0]:g}: other units? no landmark is reached"
    elif landmarks and landmarks[-1] < times.quantile(0.05):
        yield f"last landmark {landmarks[-1]:g}, before nearly all times (median {times.median():g}): other units?"


def _odd_copies(scores: pd.DataFrame) -> Iterator[str]:
    """Compare scores to the last digit: equal in all patients, apparent and cross-fitted, or of two models."""
    parts = scores.sort_values("patient_id").groupby(["model", "kind"], sort=False)[["patient_id", "risk"]]
    risks = {part: rows.set_index("patient_id")["risk"] for part, rows in parts}
    for (model, kind), risk in risks.items():
        if len(set(risk)) == 1:
            yield f"{model}, {kind}: every patient has the same risk, so it ranks nobody"
        elif kind == "cross_fitted" and risk.equals(risks.get((model, "apparent"))):
            yield f"{model}: apparent and cross-fitted scores are equal: judged on patients it learned from?"
    for (first, second), kind in product(
        combinations(dict.fromkeys(scores["model"]), 2), dict.fromkeys(scores["kind"])
    ):
        if (first, kind) in risks and risks[first, kind].equals(risks.get((second, kind))):
            yield f"{first} and {second}, {kind}: the same risk for every patient: one model twice?"


def merge_scores(paths: Sequence[str | Path]) -> pd.DataFrame:
    """Stack checked score tables; columns of predictions that a model does not give stay empty."""
    tables = [read_scores(path) for path in paths]
    merged = pd.concat(tables, ignore_index=True)
    last = [c for c in merged.columns if c == MADE_BY]
    merged = merged[[c for c in merged.columns if c != MADE_BY] + last]
    faults = check_scores(merged)
    if faults:
        raise ScoreTableError("the models' tables do not fit together\n" + "\n".join(faults))
    return merged
