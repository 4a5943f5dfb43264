"""The door of the study: reads a data manifest and names everything that is wrong with it, before anything runs.

A manifest is a CSV file with one row a patient. Cells are read as text and parsed afterwards, so that nothing is
guessed on the way: ``1,5`` stays ``1,5`` and can be named. The checks go from cheap to dear: cells, then file
names, then image headers, then voxels. All are run, so that one look shows every fault, and nothing is written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from rps_utils.cohort.contract import (
    DATA_KIND,
    DATA_KINDS,
    DISTINCT,
    FILES,
    HASHES,
    IDENTIFYING,
    LEAST_GROUPS,
    LONGEST_FOLLOW_UP,
    MISSING_CODES,
    OUTCOME,
    PATIENT_ID,
    REQUIRED,
    RESERVED,
    SPLITS,
    STUDY_MODELS,
    ManifestError,
    Notice,
    Problem,
    clinical_columns,
    format_problems,
    is_missing,
    plain_column,
    problem_line,
    shown_id,
    table_problem,
)
from rps_utils.cohort.scans import check_images, check_paths, given_files
from rps_utils.files import MISSING, TableError, are_codes, read_lines, typed_column
from rps_utils.scores import LONGEST_MEDIAN, READY_MADE, alike
from rps_utils.texts.cells import NUMBER, comma_remedy, hidden_sign, is_formula
from rps_utils.texts.counts import how_many
from rps_utils.texts.persons import HIDDEN, personal_kind, shown, unless_personal


def read_manifest(path: str | Path) -> pd.DataFrame:
    """Read a manifest into typed columns.

    Parameters
    ----------
    path : str or Path
        A local CSV file in UTF-8. Addresses (``https://``) are not followed.

    Returns
    -------
    pandas.DataFrame
        One row a patient. ``time_months`` float, ``event`` int (0 censored, 1 local recurrence, 2 death without
        it; `scores.by_cause` makes it 0/1), clinical columns float where every cell is a number and text otherwise,
        missing cells NaN; ``image``, ``mask`` and, if given, ``reference_map`` stay relative to the manifest.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ManifestError
        A cell is wrong. Images are not opened here: see `check_manifest`.
    """
    cells, problems = read_cells(path)
    problems = problems or check_cells(cells)
    if problems:
        raise ManifestError(format_problems(problems))
    typed = {column: _typed_column(column, cells[column]) for column in cells.columns}
    return pd.DataFrame(typed).reset_index(drop=True)


def image_files(manifest: pd.DataFrame, root: str | Path) -> pd.DataFrame:
    """Return ``patient_id`` and, for each file of a patient, its path from `root`; missing where there is none."""
    table = manifest.reindex(columns=["patient_id", *FILES])
    for column in FILES:
        table[column] = [str(Path(root) / name) if isinstance(name, str) else None for name in table[column]]
    return table


def _typed_column(column: str, cells: pd.Series) -> pd.Series:
    """Type text cells as `files.read_csv` will type them when they come back from ``cohort.csv``."""
    if column == "patient_id":  # a patient may be called NA
        return cells
    known = cells.where(~is_missing(cells), "")
    if column in FILES:
        return known.replace("", np.nan)
    typed = typed_column(column, known.tolist()).set_axis(cells.index)
    if column == "event":
        return typed.astype(int)
    return typed.astype(float) if typed.dtype.kind == "i" else typed


def read_cells(path: str | Path, learn: bool = True) -> tuple[pd.DataFrame, list[Problem]]:
    """Read a manifest as text.

    Parameters
    ----------
    path : str or Path
    learn : bool
        See `check_manifest`.

    Returns
    -------
    cells : pandas.DataFrame
        Stripped text; the index is the line of the file.
    problems : list of Problem
        What keeps the file from being a table: encoding, separator, rows of other length, columns missing.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"manifest {path} does not exist: give the path of a local CSV file")
    try:
        names, rows = read_lines(path)
    except TableError as error:
        return pd.DataFrame(), [table_problem("file", error.found, error.allowed, error.remedy)]
    lines = {line: row for line, row in rows.items() if any(map(str.strip, row))}
    if not lines:
        value = "a header and no row"
        return pd.DataFrame(), [table_problem("file", value, "a header and one row a patient", "add the patients")]
    header = [name.strip() for name in names]
    problems = [*_header_problems(header, learn), *_length_problems(lines, len(header))]
    sound = {line: row for line, row in lines.items() if len(row) == len(header)}
    cells = pd.DataFrame.from_dict(sound, orient="index", columns=header)
    return (cells if problems else cells.apply(lambda column: column.str.strip())), problems


def _header_problems(header: list[str], learn: bool) -> Iterator[Problem]:
    outcome_free = not learn and not set(OUTCOME) & set(header)
    for column in REQUIRED:
        if column not in header and not (outcome_free and column in OUTCOME):
            yield table_problem(column, "no such column", f"the columns {', '.join(REQUIRED)}", "add it to the header")
    yield from _name_problems(header)
    for column in sorted({c for c in header if header.count(c) > 1}):
        yield table_problem(
            column_shown(column, header) or "(no name)",
            "used twice",
            "names that differ",
            "rename or remove one of them",
        )
    if "" in header and header.count("") == 1:
        yield table_problem("(no name)", "column without a name", "a name for every column", "name or remove it")
    for column in header:
        if column in RESERVED or column.startswith("lrfs_"):
            why = RESERVED.get(column, "such columns hold predicted LRFS")
            yield table_problem(column, "reserved name", "any other name", f"rename the column: {why}")
    yield from _comparator_problems(header)
    for column in header:
        if IDENTIFYING.search(column):
            yield table_problem(
                column_shown(column, header),
                "identifies a person",
                "pseudonyms only",
                "remove the column from the file",
            )


def column_shown(column: str, header: Sequence[str]) -> str:
    """Return a column's name for a message, or its place in the header where the name may point to a person."""
    doubtful = personal_kind(column) or IDENTIFYING.search(column) or not column.isprintable()
    hidden = _is_formula_name(column) or hidden_sign(column) or (doubtful and shown(column) != column)
    return f"column {list(header).index(column) + 1}" if hidden else column


def _is_formula_name(column: str) -> bool:
    return is_formula(column) or is_formula(column.removeprefix(READY_MADE))  # what follows becomes the name of a model


def _name_problems(header: list[str]) -> Iterator[Problem]:
    """Refuse names of columns that a spreadsheet would run, or that point to a person."""
    for column in header:
        if _is_formula_name(column):
            remedy = "begin the name with a letter"
            yield table_problem(column_shown(column, header), f"a formula {HIDDEN}", "names, no formulas", remedy)
        elif unseen := hidden_sign(column):
            yield table_problem(column_shown(column, header), unseen, "printable names", "type the name again")
        elif personal_kind(column):
            value = f"{personal_kind(column)} {HIDDEN}"
            yield table_problem(column_shown(column, header), value, "names of what is measured", "rename the column")


def _comparator_problems(header: list[str]) -> Iterator[Problem]:
    """Refuse ready-made scores whose name is empty, or is that of another model for one who reads it."""
    taken = {alike(name): name for name in STUDY_MODELS}
    for column in (c for c in header if c.startswith(READY_MADE)):
        name = column.removeprefix(READY_MADE)
        allowed = f"a name of its own: {READY_MADE}<Name>"
        if not alike(name):
            yield table_problem(column, "a score without a name", allowed, "name the score, risk_Nomogram for example")
        elif alike(name) in taken and taken[alike(name)] != column:
            yield table_problem(column, f"the name of {taken[alike(name)]}", allowed, "rename the column")
        taken.setdefault(alike(name), column)


def _length_problems(lines: dict[int, list[str]], width: int) -> Iterator[Problem]:
    for line, row in lines.items():
        if len(row) != width:
            remedy = "put cells that hold a comma in double quotes" if len(row) > width else "fill up the row"
            yield Problem(
                line,
                shown_id(row[0].strip()),
                "row",
                how_many(len(row), "cell"),
                f"{width} cells, as in the header",
                remedy,
            )


def lacking_columns(cells: pd.DataFrame, wanted: Iterable[str]) -> list[Problem]:
    """List the clinical columns that models are to use and the cells of a manifest (`read_cells`) do not have."""
    there = clinical_columns(cells.columns)
    allowed, remedy = f"the manifest has {', '.join(there)}", "add it, or name others: -p clinical_columns=[...]"
    lacking = (column for column in map(plain_column, wanted) if column not in there)
    return [table_problem(column, "no such column", allowed, remedy) for column in lacking]


def check_cells(
    cells: pd.DataFrame,
    folds: int | None = None,
    split_by: str = "",
    learn: bool = True,
    landmarks: Sequence[float] = (),
) -> list[Problem]:
    """List the faults of a manifest that show without opening a file.

    Parameters
    ----------
    cells : pandas.DataFrame
        From `read_cells`.
    folds : int, optional
        Number of folds planned: training must hold an event and three patients for each.
    split_by : str
        Column whose values are to be the folds, such as ``centre``, in place of `folds` drawn ones.
    learn : bool
        See `check_manifest`.
    landmarks : sequence of float
        Months at which the models are to be judged, if it is known.
    """
    ready_made = [c for c in cells.columns if c.startswith(READY_MADE)]
    found = [
        *_patient_problems(cells),
        *(_distinct_problems(cells) if learn and DISTINCT in cells else ()),
        *(_cell_problems(cells, "time_months", _time_fault) if "time_months" in cells else ()),
        *(_cell_problems(cells, "event", _event_fault) if "event" in cells else ()),
        *(_cell_problems(cells, "split", _split_fault) if "split" in cells else ()),
        *(_kind_problems(cells) if DATA_KIND in cells else ()),
        *(p for c in ready_made for p in _cell_problems(cells, c, _number_fault)),
        *(p for c in HASHES if c in cells for p in _cell_problems(given_files(cells, c), c, _hash_fault)),
        *(p for c in clinical_columns(cells.columns) for p in _clinical_problems(cells, c, learn)),
    ]
    if found or not learn:
        return sorted(found, key=problem_line)
    groups = _group_problems(cells, split_by) if split_by else ()
    return [*_size_problems(cells, None if split_by else folds), *groups, *_unit_problems(cells, landmarks)]


def _cell_problems(cells: pd.DataFrame, column: str, fault: Any) -> Iterator[Problem]:
    for line, text in cells[column].items():
        wrong = fault(text)
        if wrong:
            yield Problem(line, shown_id(cells.loc[line, "patient_id"]), column, unless_personal(text), *wrong)


def _patient_problems(cells: pd.DataFrame) -> Iterator[Problem]:
    yield from _cell_problems(cells, "patient_id", _id_fault)
    ids = cells["patient_id"]
    firsts = {patient: line for line, patient in reversed(list(ids.items()))}
    for line in ids.index[ids.duplicated() & (ids != "")]:
        first = firsts[ids[line]]
        value = f"{shown_id(ids[line])} again, first in line {first}"
        if "split" in cells and cells.loc[first, "split"] != cells.loc[line, "split"]:
            there, here = (unless_personal(cells.loc[n, "split"]) for n in (first, line))
            value += f", there {there}, here {here}"
        allowed, remedy = "one row a patient, in one split", "remove one of the rows"
        yield Problem(line, shown_id(ids[line]), "patient_id", value, allowed, remedy)
    spelt: dict[str, tuple[int, str]] = {}
    for line, text in ids.items():
        first, as_first = spelt.setdefault(text.casefold(), (line, text))
        if as_first != text:
            value = f"{shown_id(text)} differs from {shown_id(as_first)} of line {first} in capitals only"
            remedy = "rename one: some file systems would put both into one file"
            yield Problem(line, shown_id(text), "patient_id", value, "names that differ in more than capitals", remedy)


def _distinct_problems(cells: pd.DataFrame) -> Iterator[Problem]:
    for line, text in cells.loc[~is_missing(cells[DISTINCT]), DISTINCT].items():
        patient = cells.loc[line, "patient_id"]
        unknown = [name for name in text.split() if name == patient or name not in set(cells["patient_id"])]
        if unknown:
            allowed = "ids of other patients of this manifest, separated by spaces"
            yield Problem(line, patient, DISTINCT, text, allowed, f"correct {unknown[0]}, or empty the cell")


def _id_fault(text: str) -> tuple[str, str] | None:
    if not PATIENT_ID.fullmatch(text):
        return "1 to 64 letters, digits, . _ -; first a letter or digit", "give the patient a pseudonym of that form"
    return None


def _number_fault(text: str) -> tuple[str, str] | None:
    if text.lower() in MISSING:
        return "a number in every row", "fill in the value or remove the patient"
    if remedy := comma_remedy(text):
        return "a number with a decimal point, and no sign between thousands", remedy
    if not NUMBER.fullmatch(text) or not np.isfinite(float(text)):
        return "a finite number", "write digits only, without unit or sign such as > or ~"
    return None


def _time_fault(text: str) -> tuple[str, str] | None:
    wrong = _number_fault(text)
    if wrong:
        return wrong
    if float(text) <= 0:
        return "months above 0", "correct the dates of surgery and last visit; leave out who was never seen again"
    if float(text) > LONGEST_FOLLOW_UP:
        return f"months up to {LONGEST_FOLLOW_UP:g}", "divide times in days by 30.4375"
    return None


def _event_fault(text: str) -> tuple[str, str] | None:
    if text in ("0", "1", "2", "0.0", "1.0", "2.0"):
        return None
    allowed = "0 (no local recurrence seen), 1 (local recurrence) or 2 (death without it)"
    return allowed, "write 0, 1 or 2; leave out who has no follow-up"


def _split_fault(text: str) -> tuple[str, str] | None:
    return None if text in SPLITS else (" or ".join(SPLITS), "correct it, or remove the column to have it drawn")


def _kind_problems(cells: pd.DataFrame) -> Iterator[Problem]:
    yield from _cell_problems(cells, DATA_KIND, _kind_fault)
    kinds = sorted(set(cells[DATA_KIND]))
    if len(kinds) > 1 and set(kinds) <= set(DATA_KINDS):
        remedy = "write private in all rows, or make a manifest of each kind"
        yield table_problem(DATA_KIND, ", ".join(kinds), "one kind for the whole cohort", remedy)


def _kind_fault(text: str) -> tuple[str, str] | None:
    return None if text in DATA_KINDS else (" or ".join(DATA_KINDS), "correct it; without the column it is private")


def _hash_fault(text: str) -> tuple[str, str] | None:
    if re.fullmatch(r"[0-9a-f]{64}", text):
        return None
    return "64 hexadecimal digits, lower case", "write the file's SHA-256, or remove the column"


def _clinical_problems(cells: pd.DataFrame, column: str, learn: bool) -> Iterator[Problem]:
    """Refuse text in a column of numbers; a column without a majority of numbers is a category."""
    given = cells.loc[~is_missing(cells[column]), column]
    if given.empty and not learn:
        return
    if given.empty:
        yield table_problem(column, "no value at all", "a value in some rows", "remove the column")
        return
    for line in given.index[given.map(is_formula)]:
        remedy = "write the value itself, without = + - @ in front"
        yield Problem(
            line, shown_id(cells.loc[line, "patient_id"]), column, f"a formula {HIDDEN}", "a value, no formula", remedy
        )
    unseen = given.map(hidden_sign)
    for line, sign in unseen[unseen != ""].items():
        yield Problem(
            line, shown_id(cells.loc[line, "patient_id"]), column, sign, "printable text", "type the value again"
        )
    given = given[~given.map(is_formula) & (unseen == "")]
    yield from _personal_problems(cells, column, given, learn)
    numeric = given.map(lambda text: bool(NUMBER.fullmatch(text) or comma_remedy(text)))
    if numeric.mean() <= 0.5 or are_codes(list(given)):
        return
    for line, text in given.items():
        wrong = _number_fault(text)
        if text in MISSING_CODES:
            wrong = "a value, or an empty cell where it is missing", "empty the cell"
        if wrong:
            yield Problem(line, shown_id(cells.loc[line, "patient_id"]), column, unless_personal(text), *wrong)


def _personal_problems(cells: pd.DataFrame, column: str, given: pd.Series, learn: bool) -> Iterator[Problem]:
    """Refuse dates, addresses, long numbers and, where no other patient has the same text, what looks like a name."""
    alone = ~given.duplicated(keep=False) & learn
    for line, text in given.items():
        kind = personal_kind(text)
        if kind and (kind != "a name" or alone[line]):
            allowed, remedy = "nothing that points to a person", "write an age, months or a code in small letters"
            patient = shown_id(cells.loc[line, "patient_id"])
            yield Problem(line, patient, column, f"{kind} {HIDDEN}", allowed, remedy)


def _size_problems(cells: pd.DataFrame, folds: int | None) -> Iterator[Problem]:
    """Faults of the cohort as a whole; asked only once every cell is sound."""
    event = cells["event"].astype(float) == 1
    split = cells.get("split")
    for name in SPLITS if split is not None else ():
        events = int(event[split == name].sum())
        if not events:
            value = f"{how_many((split == name).sum(), 'patient')}, 0 events in {name}"
            yield table_problem("split", value, "events in both splits", "move patients, or remove the column")
    share = 0.75 if split is None else 1.0
    training = event if split is None else event[split == "training"]
    if training.sum() * share < max(folds or 0, 2) or len(training) * share < 3 * (folds or 1):
        value = f"{how_many(len(training), 'patient')}, {how_many(training.sum(), 'event')}" + (
            "" if split is None else " in training"
        )
        allowed = f"for {folds} folds 3 patients and 1 event a fold" if folds else "2 events to learn from"
        yield table_problem("event", value, allowed, "lower the parameter folds, or add patients")


def _unit_problems(cells: pd.DataFrame, landmarks: Sequence[float]) -> Iterator[Problem]:
    """Faults of all times together: each is possible, all of them are in another unit."""
    time = cells["time_months"].astype(float)
    if time.median() > LONGEST_MEDIAN:
        allowed = f"a median of {LONGEST_MEDIAN:g} months ({LONGEST_MEDIAN / 12:g} years) at most"
        yield table_problem("time_months", f"median {time.median():g}", allowed, "divide times in days by 30.4375")
    if len(landmarks) and min(landmarks) > time.max():
        allowed = f"somebody followed until the first landmark, {min(landmarks):g} months"
        remedy = "multiply times in years by 12, or lower the parameter landmarks"
        yield table_problem("time_months", f"{time.max():g} at most", allowed, remedy)


def _group_problems(cells: pd.DataFrame, column: str) -> Iterator[Problem]:
    """Faults of a split in which each value of a column is a fold (leave one centre out)."""
    remedy = "set split_by to nothing, or merge groups"
    if column not in cells:
        yield table_problem(column, "no such column", "the column of split_by", "add it, or set split_by to nothing")
        return
    missing = cells.index[is_missing(cells[column])]
    yield from (
        Problem(n, shown_id(cells.loc[n, "patient_id"]), column, "empty", "a value", "fill it in") for n in missing
    )
    training = cells[cells["split"] == "training"] if "split" in cells else cells
    groups = training[~is_missing(training[column])].groupby(column)["event"]
    if len(groups) < LEAST_GROUPS:
        value = f"{len(groups)} groups in training ({', '.join(map(unless_personal, groups.groups))})"
        yield table_problem(column, value, f"{LEAST_GROUPS} or more, one a fold", "set split_by to nothing")
    for name, event in groups:
        events = int((event.astype(float) == 1).sum())
        if len(event) < 3 or not events:
            value = (
                f"{unless_personal(name)}: {how_many(len(event), 'patient')}, {how_many(events, 'event')} in training"
            )
            yield table_problem(column, value, "3 patients and 1 event a group", remedy)


def check_manifest(
    path: str | Path,
    *,
    folds: int | None = None,
    n_jobs: int = 1,
    voxels: bool = True,
    split_by: str = "",
    learn: bool = True,
    landmarks: Sequence[float] = (),
) -> list[Problem]:
    """List everything that is wrong with a manifest and with the files it names. Nothing is written.

    Parameters
    ----------
    path : str or Path
        Manifest (CSV).
    folds : int, optional
        Number of folds planned, to check that there are patients and events for them.
    n_jobs : int
        Processes that read voxels.
    voxels : bool
        False stops after the headers: a second instead of a tenth of a second a patient.
    split_by : str
        Column whose values are to be the folds.
    learn : bool
        False where a finished model is applied: nobody has to be numerous, a clinical column may be empty, and
        ``time_months`` and ``event`` may both be absent.
    landmarks : sequence of float
        Months at which the models are to be judged, if it is known.

    Returns
    -------
    list of Problem
        In the order of the file; empty if it can be used.

    Raises
    ------
    FileNotFoundError
        There is no such manifest.
    """
    given: dict[str, Any] = {"folds": folds, "split_by": split_by, "learn": learn, "landmarks": landmarks}
    return inspect_manifest(path, n_jobs=n_jobs, voxels=voxels, **given).problems


class Inspected(NamedTuple):
    """A manifest as text, faults, what to look at, and what its images hold, by line; no cells if it is no table."""

    cells: pd.DataFrame
    problems: list[Problem]
    notices: list[Notice]
    facts: dict[int, dict[str, Any]]


def inspect_manifest(
    path: str | Path,
    *,
    folds: int | None = None,
    n_jobs: int = 1,
    voxels: bool = True,
    split_by: str = "",
    learn: bool = True,
    landmarks: Sequence[float] = (),
) -> Inspected:
    """Look at a manifest and at the files it names; each file is read once. Arguments as in `check_manifest`."""
    cells, problems = read_cells(path, learn)
    if problems:
        return Inspected(cells.iloc[:0], problems, [], {})
    paths, wrong_paths = check_paths(cells, Path(path).parent)
    wrong_cells = check_cells(cells, folds, split_by=split_by, learn=learn, landmarks=landmarks)
    scans = check_images(cells, paths, n_jobs=n_jobs, voxels=voxels, learn=learn)
    found = sorted([*wrong_cells, *wrong_paths, *scans.problems], key=problem_line)
    notices = [one for one in found if isinstance(one, Notice)]
    return Inspected(cells, [one for one in found if not isinstance(one, Notice)], notices, scans.facts)
