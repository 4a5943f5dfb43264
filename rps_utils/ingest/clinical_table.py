"""A clinic's table (CSV or Excel) in the words of the manifest, by a mapping of its column names and codes."""

from __future__ import annotations

import csv
import datetime
import re
from collections.abc import Collection, Iterator, Sequence
from collections.abc import Mapping as Dictionary
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from rps_utils.cohort.contract import (
    DATA_KINDS,
    IDENTIFYING,
    MISSING,
    PATIENT_ID,
    READY_MADE,
    REAL_ID,
    REQUIRED,
    Problem,
    clinical_columns,
    shown_id,
)
from rps_utils.cohort.manifest import column_shown
from rps_utils.imaging.formats.bounds import MOST_TABLE, Unfit, check_archive
from rps_utils.texts.cells import NUMBER, hidden_sign, is_formula
from rps_utils.texts.counts import how_many
from rps_utils.texts.persons import HIDDEN, kind_of, personal_kind, shown, unless_personal

_NEEDED = tuple(column for column in REQUIRED if column not in ("image", "mask"))
DICOM_ID = "dicom_patient_id"
MASK_FILE, IMAGE_FILE = "mask", "image"
OLDEST = 90  # ages above 89 identify; they are written as 90
AGES = re.compile(r"age|age_years|age_at_\w+")
_TABLE, _MAPPING = "clinical table", "mapping"  # what messages call the two files: their names may hold a person's


class Mapping(NamedTuple):
    """How a table and a folder of images are to be read; every field is a key of the mapping file.

    Attributes
    ----------
    sheet : str
        Sheet of an Excel file; the only one if empty.
    columns : dict
        Column of the manifest to column of the table. Without it the table's own names are taken. Columns not
        named here are left out. ``dicom_patient_id`` names the column with the PatientID of the DICOM files, where
        that is not ``patient_id``; ``image`` and ``mask`` name columns with paths of image files below the source
        folder, where names of files and folders do not tell whose they are.
    codes : dict
        Column of the manifest to {value in the table: value in the manifest}.
    missing : list of str
        Values that mean missing, such as ``-999``, in every column.
    series : str
        ``one`` or ``largest``: what to do with several CT series of a patient.
    segments : str
        ``one``, ``largest``, ``union`` or ``named``: what to do with several structures. In names, ``*`` stands for
        any letters, as in ``Tumor_*``.
    roi : list of str
        The names, for ``named``.
    data_kind : str
        ``synthetic``, ``public`` or ``private``: whose data these are. Without it the table's own column of that
        name counts, and without that the cohort is private: its patients are not pictured in notebooks.
    """

    sheet: str = ""
    columns: Dictionary[str, str] = {}
    codes: Dictionary[str, Dictionary[str, str]] = {}
    missing: tuple[str, ...] = ()
    series: str = "one"
    segments: str = "one"
    roi: tuple[str, ...] = ()
    data_kind: str = ""


CHOICES = {
    "series": ("one", "largest"),
    "segments": ("one", "largest", "union", "named"),
    "data_kind": ("", *DATA_KINDS),
}


def read_mapping(path: str | Path | None) -> Mapping:
    """Read a mapping file (YAML or JSON); every value is taken as text, so ``yes`` and ``01`` stay what they are.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        A key or a value is not one of those of `Mapping`.
    """
    if path is None:
        return Mapping()
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{_MAPPING} does not exist: give a YAML or JSON file")
    content = _parse(path)
    if not isinstance(content, dict):
        raise ValueError(f"{_MAPPING}: expected keys and values, such as `columns:`; README, From DICOM, shows one")
    unknown = sorted(set(content) - set(Mapping._fields))
    if unknown:
        key = _quoted(unknown[0], Mapping._fields)
        raise ValueError(f"{_MAPPING}: unknown key {key}; allowed: {', '.join(Mapping._fields)}")
    return _checked(Mapping(**{key: _shaped(key, value) for key, value in content.items()}))


def _parse(path: Path) -> Any:
    import yaml

    try:
        text = path.read_text(encoding="utf-8-sig")
        # JSON is YAML; the base loader leaves every scalar text.
        return yaml.load(text, Loader=yaml.BaseLoader)
    except (UnicodeError, yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        raise ValueError(
            f"{_MAPPING}{place}: not readable as YAML or JSON in UTF-8: look for colons and quotes"
        ) from None


def _shaped(key: str, value: Any) -> Any:
    example = Mapping._field_defaults[key]
    if isinstance(example, tuple):
        value = tuple(value) if isinstance(value, list) else (value,)
    kind = _expected(example, value)
    if kind:
        raise ValueError(f"{_MAPPING}: {key}: {kind} expected")
    return value


def _expected(example: Any, value: Any) -> str:
    """Say what should stand there; empty if it does."""
    if isinstance(example, dict):
        parts = value.values() if isinstance(value, dict) else [None]
        flat = all(isinstance(part, str) for part in parts)
        nested = all(isinstance(part, dict) and all(isinstance(v, str) for v in part.values()) for part in parts)
        return "" if flat or nested else "names and values"
    if isinstance(example, tuple):
        return "" if all(isinstance(part, str) for part in value) else "a word, or a list of words,"
    return "" if isinstance(value, str) else "one word"


def _checked(mapping: Mapping) -> Mapping:
    for key, allowed in CHOICES.items():
        if getattr(mapping, key) not in allowed:
            given = getattr(mapping, key)
            given = (
                repr(given) if re.fullmatch("[a-z]{1,12}", given) else _quoted(given)
            )  # a word for a rule, or a slip
            raise ValueError(f"{_MAPPING}: {key}: {given} given; allowed: {', '.join(filter(None, allowed))}")
    if not all(isinstance(theirs, str) for theirs in mapping.columns.values()):
        raise ValueError(f"{_MAPPING}: columns: names and values expected")
    if not all(isinstance(codes, dict) for codes in mapping.codes.values()):
        raise ValueError(f"{_MAPPING}: codes: for each column, values and codes expected")
    if mapping.segments == "named" and not mapping.roi:
        raise ValueError(f"{_MAPPING}: segments: named, but no roi: list the names of the structures under `roi:`")
    return mapping


def _quoted(text: str, known: Collection[str] = ()) -> str:
    """Return a text in quotes if it may be shown (see `texts.shown`), else what it is."""
    seen = shown(text, known)
    return repr(seen) if seen == text else seen


def read_clinical(path: str | Path, mapping: Mapping) -> tuple[pd.DataFrame, list[Problem]]:
    """Read a clinical table into the columns and codes of the manifest, as text.

    Parameters
    ----------
    path : str or Path
        ``.csv`` (UTF-8, commas) or ``.xlsx``.
    mapping : Mapping

    Returns
    -------
    cells : pandas.DataFrame
        Text; the index is the line of the file.
    problems : list of Problem
        Formulas, dates, ids that look real.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The file is no such table, or columns are missing or identify a person.
    """
    path = Path(path)
    cells = _renamed(read_table(path, mapping.sheet), mapping)
    _refuse_names(list(cells))
    problems = [p for column in cells for line in cells.index for p in _cell_problems(cells, line, column)]
    cells, unknown_codes = _recoded(cells, mapping)
    problems += [*unknown_codes, *_lonely_words(cells, mapping)]
    return _limit_ages(cells), problems


def read_table(path: str | Path, sheet: str = "") -> pd.DataFrame:
    """Read a CSV or Excel table as text, with its own names; the index is the line of the file.

    Raises
    ------
    FileNotFoundError, ValueError
        There is no such file, or it is no table; see `read_clinical`.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{_TABLE} does not exist: give the path of a local CSV or Excel file")
    rows = {".csv": _csv_rows, ".xlsx": _excel_rows}.get(path.suffix.lower(), _no_table)(path, sheet)
    return _table(rows)


def _no_table(path: Path, sheet: str) -> list:
    raise ValueError(f"{_TABLE}: allowed are .csv and .xlsx: save the table as one of them")


def _csv_rows(path: Path, sheet: str) -> list[tuple[int, list[str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream)
            return [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(row)]
    except (UnicodeDecodeError, csv.Error) as error:
        place = f" (byte {error.start})" if isinstance(error, UnicodeDecodeError) else ""
        raise ValueError(f"{_TABLE}: CSV text in UTF-8 expected: save it as CSV UTF-8{place}") from None


def _excel_rows(path: Path, sheet: str) -> list[tuple[int, list[str]]]:
    import openpyxl

    try:
        check_archive(path, MOST_TABLE, _TABLE)
        # Formulas are read as formulas, not as the value that some program once computed.
        book = openpyxl.load_workbook(path, data_only=False, keep_links=False)
    except Unfit as error:
        raise ValueError(str(error)) from None
    except Exception:  # a broken workbook raises anything, and quotes what it holds
        raise ValueError(
            f"{_TABLE}: not readable as an Excel workbook: damaged or of another kind: save it anew"
        ) from None
    names = book.sheetnames
    if (sheet and sheet not in names) or (not sheet and len(names) > 1):
        wanted = f"sheet {unless_personal(sheet)}" if sheet else "sheet not named"
        there = ", ".join(shown(name, [sheet]) for name in names)
        raise ValueError(f"{_TABLE}: {wanted}; there are {there}: set `sheet:` in the mapping")
    page = book[sheet or names[0]]
    rows = [(n, [_cell_text(value) for value in row]) for n, row in enumerate(page.iter_rows(values_only=True), 1)]
    return [(n, row) for n, row in rows if any(row)]


def _cell_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime.datetime | datetime.date):
        return value.isoformat()[:10]
    return f"{value:.15g}" if isinstance(value, float) else str(value).strip()


def _table(rows: list[tuple[int, list[str]]]) -> pd.DataFrame:
    if len(rows) < 2:
        raise ValueError(f"{_TABLE}: a header and one row a patient expected, {how_many(len(rows), 'row')} found")
    header = rows[0][1]
    if len(header) == 1 and re.search(r"[;\t]", header[0]):
        raise ValueError(f"{_TABLE}: columns must be separated by commas: export it with a comma as separator")
    twice = sorted({column for column in header if column and header.count(column) > 1})
    if twice:
        raise ValueError(
            f"{_TABLE}: column {_column_quoted(twice[0], header)} stands twice: rename or remove one of them"
        )
    for line, row in rows[1:]:
        if len(row) != len(header):
            raise ValueError(
                f"{_TABLE}, line {line}: {how_many(len(row), 'cell')}, the header has {len(header)}: quote commas"
            )
    return pd.DataFrame.from_dict(dict(rows[1:]), orient="index", columns=header)


def _column_quoted(column: str, header: list[str]) -> str:
    """Return a column's name for a message, in quotes, or its place where the name is not to be shown."""
    name = column_shown(column, header)
    return repr(name) if name == column else name.removeprefix("column ")


def _columns_shown(header: Sequence[str]) -> str:
    """List the names of columns that are made of words of this field, and count the others."""
    named = [column for column in header if column and shown(column) == column]
    others = len([column for column in header if column]) - len(named)
    return ", ".join([*named, *([f"{others} {'others' if named else 'columns'} {HIDDEN}"] if others else [])])


def _renamed(raw: pd.DataFrame, mapping: Mapping) -> pd.DataFrame:
    columns = mapping.columns or {column: column for column in raw if column}
    for ours, theirs in columns.items():
        if theirs not in raw:
            wanted = _quoted(theirs, (ours,))
            raise ValueError(f"{_TABLE}: no column {wanted} for {shown(ours)}; there are {_columns_shown(raw.columns)}")
    lacking = [column for column in _NEEDED if column not in columns]
    if lacking:
        raise ValueError(f"{_TABLE}: no column {lacking[0]!r}: name the column that holds it in the mapping (columns:)")
    return pd.DataFrame({ours: raw[theirs] for ours, theirs in columns.items()})


def _refuse_names(header: list[str]) -> None:
    """Refuse columns whose names say whom they describe, or that a spreadsheet would run."""
    for column in header:
        where = f"{_TABLE}: column {_column_quoted(column, header)}"
        if is_formula(column) or is_formula(column.removeprefix(READY_MADE)):
            raise ValueError(f"{where} is a formula: begin its name with a letter (mapping, columns:)")
        if unseen := hidden_sign(column):
            raise ValueError(f"{where} has {unseen} in its name: type the name again")
        if column != DICOM_ID and IDENTIFYING.search(column):
            raise ValueError(f"{where} identifies a person: leave it out (mapping, columns:)")
        if personal_kind(column):
            raise ValueError(f"{where} holds {personal_kind(column)} in its name: give it another (mapping, columns:)")


def _cell_problems(cells: pd.DataFrame, line: int, column: str) -> list[Problem]:
    """Formulas, signs that cannot be seen, dates and ids that look real; a value that may identify is not repeated."""
    text = cells.loc[line, column]
    where = (line, cells.loc[line, "patient_id"], column)
    if column == "patient_id" and text and shown_id(text) != text and PATIENT_ID.fullmatch(text):
        value = "looks like a real id (not shown)" if REAL_ID.fullmatch(text) else "an id without a digit (not shown)"
        return [Problem(line, "", column, value, "a pseudonym", f"keep the real one in {DICOM_ID}")]
    if column in (DICOM_ID, "patient_id", MASK_FILE):
        return []
    if is_formula(text):
        return [Problem(*where, f"a formula {HIDDEN}", "a value, no formula", "replace the formula by its value")]
    if unseen := hidden_sign(text):
        return [Problem(*where, unseen, "printable text", "type the value again")]
    kind = personal_kind(text)
    if kind == "a date":
        remedy = "write months between surgery and last visit" if column == "time_months" else "write an age or months"
        return [Problem(*where, f"a date {HIDDEN}", "no full dates", remedy)]
    if kind and kind != "a name":
        return [Problem(*where, f"{kind} {HIDDEN}", "nothing that points to a person", "remove it from the cell")]
    return []


def _lonely_words(cells: pd.DataFrame, mapping: Mapping) -> Iterator[Problem]:
    """Refuse a text that only one patient has, unless it is known: it may be a name, and no model learns from it."""
    for column in clinical_columns(cells.columns):
        listed = set(mapping.codes.get(column, {}).values())
        lonely = ~cells[column].duplicated(keep=False)
        for line, text in cells.loc[lonely, column].items():
            if (
                text.lower() not in MISSING
                and text not in listed
                and not (NUMBER.fullmatch(text) or shown(text) == text)
            ):
                value = f"{personal_kind(text) or kind_of(text)} that no other patient has {HIDDEN}"
                remedy = f"list it under codes: {{{column}: ...}} in the mapping, or join it with another group"
                yield Problem(line, cells.loc[line, "patient_id"], column, value, "codes and known words", remedy)


def _recoded(cells: pd.DataFrame, mapping: Mapping) -> tuple[pd.DataFrame, list[Problem]]:
    absent = {value.lower() for value in mapping.missing}
    recoded = cells.apply(lambda column: column.where(~column.str.lower().isin(absent), ""))
    problems = []
    for column, codes in mapping.codes.items():
        if column not in cells:
            raise ValueError(f"{_MAPPING}: codes of {_quoted(column, cells.columns)}, but columns: has no such column")
        wrong = ~recoded[column].isin(list(codes)) & ~recoded[column].str.lower().isin(MISSING)
        allowed = f"the codes {', '.join(map(shown, codes))}"
        for line, text in recoded.loc[wrong, column].items():
            patient = cells.loc[line, "patient_id"]
            problems.append(Problem(line, patient, column, shown(text), allowed, "add it under codes: in the mapping"))
        recoded[column] = recoded[column].replace(dict(codes))
    return recoded, problems


def _limit_ages(cells: pd.DataFrame) -> pd.DataFrame:
    limited = cells.copy()
    for column in (c for c in cells if AGES.fullmatch(c)):
        old = [bool(NUMBER.fullmatch(t)) and float(t) >= OLDEST for t in cells[column]]
        limited.loc[old, column] = str(OLDEST)
    return limited
