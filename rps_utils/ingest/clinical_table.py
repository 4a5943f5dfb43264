"""A clinic's table (CSV or Excel) in the words of the manifest, by a mapping of its column names and codes."""

from __future__ import annotations

import csv
import datetime
import json
import re
from collections.abc import Mapping as Dictionary
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from rps_utils.cohort.contract import DATA_KINDS, IDENTIFYING, MISSING, NUMBER, REQUIRED, Problem, is_formula
from rps_utils.files import reading
from rps_utils.imaging.formats.bounds import MOST_TABLE, check_archive

NEEDED = tuple(column for column in REQUIRED if column not in ("image", "mask"))
DICOM_ID = "dicom_patient_id"
MASK_FILE, IMAGE_FILE = "mask", "image"
OLDEST = 90  # ages above 89 identify; they are written as 90
AGES = re.compile(r"age|age_years|age_at_\w+")
DATE = re.compile(r"(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{4})([ T].*)?")
REAL_ID = re.compile(r"\d{6,}|.*(19|20)\d\d(0[1-9]|1[0-2])([0-2]\d|3[01]).*|\d{3}-\d{2}-\d{4}")


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
        raise FileNotFoundError(f"mapping {path} does not exist: give a YAML or JSON file")
    content = _parse(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path.name}: expected keys and values, such as `columns:`; README, From DICOM, shows one")
    unknown = sorted(set(content) - set(Mapping._fields))
    if unknown:
        raise ValueError(f"{path.name}: unknown key {unknown[0]!r}; allowed: {', '.join(Mapping._fields)}")
    return _checked(Mapping(**{key: _shaped(key, value, path.name) for key, value in content.items()}), path.name)


def _parse(path: Path) -> Any:
    import yaml

    with reading(path.name, "YAML or JSON", (yaml.YAMLError,)):
        # JSON is YAML; the base loader leaves every scalar text.
        return yaml.load(path.read_text(encoding="utf-8-sig"), Loader=yaml.BaseLoader)


def _shaped(key: str, value: Any, name: str) -> Any:
    example = Mapping._field_defaults[key]
    if isinstance(example, tuple):
        value = tuple(value) if isinstance(value, list) else (value,)
    if not isinstance(value, type(example)):
        kind = "names and values" if isinstance(example, dict) else "one word"
        raise ValueError(f"{name}: {key}: {json.dumps(value)} given, {kind} expected")
    return value


def _checked(mapping: Mapping, name: str) -> Mapping:
    for key, allowed in CHOICES.items():
        if getattr(mapping, key) not in allowed:
            raise ValueError(
                f"{name}: {key}: {getattr(mapping, key)!r} given; allowed: {', '.join(filter(None, allowed))}"
            )
    if mapping.segments == "named" and not mapping.roi:
        raise ValueError(f"{name}: segments: named, but no roi: list the names of the structures under `roi:`")
    return mapping


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
    cells = _renamed(read_table(path, mapping.sheet), mapping, path.name)
    _refuse_identifying(cells, path.name)
    problems = [p for column in cells for line in cells.index for p in _cell_problems(cells, line, column)]
    cells, unknown_codes = _recoded(cells, mapping)
    return _limit_ages(cells), [*problems, *unknown_codes]


def read_table(path: str | Path, sheet: str = "") -> pd.DataFrame:
    """Read a CSV or Excel table as text, with its own names; the index is the line of the file.

    Raises
    ------
    FileNotFoundError, ValueError
        There is no such file, or it is no table; see `read_clinical`.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"clinical table {path} does not exist: give the path of a local CSV or Excel file")
    rows = {".csv": _csv_rows, ".xlsx": _excel_rows}.get(path.suffix.lower(), _no_table)(path, sheet)
    return _table(rows, path.name)


def _no_table(path: Path, sheet: str) -> list:
    raise ValueError(f"{path.name}: allowed are .csv and .xlsx: save the table as one of them")


def _csv_rows(path: Path, sheet: str) -> list[tuple[int, list[str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream)
            return [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(row)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path.name}: CSV text in UTF-8 expected: save it as CSV UTF-8 ({error})") from error


def _excel_rows(path: Path, sheet: str) -> list[tuple[int, list[str]]]:
    import openpyxl

    with reading(path.name, "an Excel workbook", (Exception,)):
        check_archive(path, MOST_TABLE)
        # Formulas are read as formulas, not as the value that some program once computed.
        book = openpyxl.load_workbook(path, data_only=False, keep_links=False)
    names = book.sheetnames
    if (sheet and sheet not in names) or (not sheet and len(names) > 1):
        raise ValueError(f"{path.name}: sheet {sheet or 'not named'}; there are {', '.join(names)}: set `sheet:`")
    page = book[sheet or names[0]]
    rows = [(n, [_cell_text(value) for value in row]) for n, row in enumerate(page.iter_rows(values_only=True), 1)]
    return [(n, row) for n, row in rows if any(row)]


def _cell_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime.datetime | datetime.date):
        return value.isoformat()[:10]
    return f"{value:.15g}" if isinstance(value, float) else str(value).strip()


def _table(rows: list[tuple[int, list[str]]], name: str) -> pd.DataFrame:
    if len(rows) < 2:
        raise ValueError(f"{name}: a header and one row a patient expected, {len(rows)} rows found")
    header = rows[0][1]
    if len(header) == 1 and re.search(r"[;\t]", header[0]):
        raise ValueError(f"{name}: columns must be separated by commas: export it with a comma as separator")
    twice = sorted({column for column in header if column and header.count(column) > 1})
    if twice:
        raise ValueError(f"{name}: column {twice[0]!r} stands twice: rename or remove one of them")
    for line, row in rows[1:]:
        if len(row) != len(header):
            raise ValueError(f"{name}, line {line}: {len(row)} cells, the header has {len(header)}: quote commas")
    return pd.DataFrame.from_dict(dict(rows[1:]), orient="index", columns=header)


def _renamed(raw: pd.DataFrame, mapping: Mapping, name: str) -> pd.DataFrame:
    columns = mapping.columns or {column: column for column in raw if column}
    for ours, theirs in columns.items():
        if theirs not in raw:
            raise ValueError(f"{name}: no column {theirs!r} for {ours}; there are {', '.join(raw.columns)}")
    lacking = [column for column in NEEDED if column not in columns]
    if lacking:
        raise ValueError(f"{name}: no column {lacking[0]!r}: name the column that holds it in the mapping (columns:)")
    return pd.DataFrame({ours: raw[theirs] for ours, theirs in columns.items()})


def _refuse_identifying(cells: pd.DataFrame, name: str) -> None:
    for column in cells:
        if column != DICOM_ID and IDENTIFYING.search(column):
            raise ValueError(f"{name}: column {column!r} identifies a person: leave it out (mapping, columns:)")


def _cell_problems(cells: pd.DataFrame, line: int, column: str) -> list[Problem]:
    """Formulas, dates and ids that look real; a value that may identify is not repeated."""
    text = cells.loc[line, column]
    where = (line, cells.loc[line, "patient_id"], column)
    if column == "patient_id" and REAL_ID.fullmatch(text):
        where = (line, "", column)
        return [Problem(*where, "looks like a real id (not shown)", "a pseudonym", f"keep the real one in {DICOM_ID}")]
    if column == DICOM_ID:
        return []
    if DATE.fullmatch(text):
        remedy = "write months between surgery and last visit" if column == "time_months" else "write an age or months"
        return [Problem(*where, "a date (not shown)", "no full dates", remedy)]
    if is_formula(text):
        return [Problem(*where, safe_cell(text), "a value, no formula", "replace the formula by its value")]
    return []


def _recoded(cells: pd.DataFrame, mapping: Mapping) -> tuple[pd.DataFrame, list[Problem]]:
    absent = {value.lower() for value in mapping.missing}
    recoded = cells.apply(lambda column: column.where(~column.str.lower().isin(absent), ""))
    problems = []
    for column, codes in mapping.codes.items():
        if column not in cells:
            raise ValueError(f"mapping: codes of {column!r}, but columns: has no such column")
        wrong = ~recoded[column].isin(list(codes)) & ~recoded[column].str.lower().isin(MISSING)
        allowed = f"the codes {', '.join(codes)}"
        for line, text in recoded.loc[wrong, column].items():
            patient = cells.loc[line, "patient_id"]
            problems.append(Problem(line, patient, column, text, allowed, "add it under codes: in the mapping"))
        recoded[column] = recoded[column].replace(dict(codes))
    return recoded, problems


def _limit_ages(cells: pd.DataFrame) -> pd.DataFrame:
    limited = cells.copy()
    for column in (c for c in cells if AGES.fullmatch(c)):
        old = [bool(NUMBER.fullmatch(t)) and float(t) >= OLDEST for t in cells[column]]
        limited.loc[old, column] = str(OLDEST)
    return limited


def safe_cell(text: str) -> str:
    """Return a cell that no spreadsheet runs as a formula: such text gets an apostrophe in front."""
    return f"'{text}" if is_formula(text) else text
