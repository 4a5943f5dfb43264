"""Files of a run folder: written whole or not at all, read without surprises."""

from __future__ import annotations

import codecs
import csv
import errno
import fcntl
import hashlib
import io
import json
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from rps_utils.machine.engines import WRITTEN
from rps_utils.texts.cells import NUMBER, safe_cell
from rps_utils.texts.counts import how_many

# How a cell of a table is read. Tables are read as text, and typed by the name of the column; nothing is guessed.
MISSING = ("", "na", "n/a", "nan", "null")  # in tables from elsewhere, in any capitals; our own tables write ""
WHOLE = re.compile(r"[+-]?\d{1,18}", re.ASCII)
TEXT = frozenset(  # columns whose cells name something, whatever they look like: NA, 001, 1e5, TRUE
    {
        "patient_id",
        "split",
        "centre",
        "data_kind",
        "distinct_from",
        "image_sha256",
        "mask_sha256",
        "reference_map_sha256",
    }
    | {"model", "kind", "made_by", "no_lrfs", "learned_from", "metric", "note", "why"}
    | {"term", "column", "level", "characteristic"}
)
FLAGS = frozenset({"enough", "holds", "unlike"})  # columns of True and False
MAY_BE_INFINITE = frozenset({"value", "ci_low", "ci_high", "threshold", "hazard_ratio"})

LARGEST_JSON = 64 * 2**20  # bytes
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what the system says of a full disk
PARTIAL = ".partial-"


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Give a temporary path that becomes `path` only when the block ends without an error.

    Parameters
    ----------
    path : str or Path
        Final place of the file. Its folder is made if missing.

    Yields
    ------
    Path
        Temporary path in the same folder, with the same suffixes, so that writers which look at the
        extension (``.nii.gz``) behave.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=PARTIAL) as folder, _held(Path(folder)):
        partial = Path(folder) / path.name
        yield partial
        os.replace(partial, path)
    _note(path)


@contextmanager
def _held(folder: Path) -> Iterator[bool]:
    """Hold a folder as long as the block lasts, or say that somebody else does. It ends with the process that holds."""
    stream = os.open(folder, os.O_RDONLY)
    try:
        yield _is_locked(stream)
    finally:
        os.close(stream)


def _is_locked(stream: int) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # somebody else has it, or the file system knows no locks
        return False
    return True


def remove_partial(folder: str | Path) -> int:
    """Remove what killed processes left half-written below a folder; return how many there were.

    What a living process is writing is held by it, and stays.
    """
    dead = 0
    for left in sorted(Path(folder).rglob(f"{PARTIAL}*")):
        with _held(left) as free:
            if free:
                shutil.rmtree(left, ignore_errors=True)
                dead += 1
    return dead


def _note(path: Path) -> None:
    """Enter a finished file, as seen from the list's folder, in the list that the environment names if it names one."""
    if WRITTEN in os.environ:
        name = os.path.relpath(path.resolve(), Path(os.environ[WRITTEN]).parent.resolve())
        with open(os.environ[WRITTEN], "a", encoding="utf-8") as written:
            written.write(f"{name}\n")


def write_text(text: str, path: str | Path) -> Path:
    """Write UTF-8 text, whole or not at all, and return the path."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")
    return Path(path)


def write_csv(table: pd.DataFrame, path: str | Path) -> Path:
    """Write a table without its index, whole or not at all, and return the path.

    Numbers keep their full precision, so the same table always gives the same bytes; what is missing becomes an empty
    cell. `read_csv` gives the same table back. The name of a column that a spreadsheet would run as a formula gets an
    apostrophe in front; cells are refused where they come in.

    Raises
    ------
    ValueError
        Two columns have one name, or a column has none: no reader could tell them apart.
    """
    names = [str(name) for name in table.columns]
    for name in names:
        if names.count(name) > 1 or not name:
            raise ValueError(f"{path}: column {name!r} is there twice, or has no name: rename it before writing")
    return write_text(table.rename(columns=_safe_name).to_csv(index=False, lineterminator="\n"), path)


def _safe_name(column: object) -> object:
    return safe_cell(column) if isinstance(column, str) else column


UNREADABLE = (
    *(UnicodeError, pd.errors.ParserError, pd.errors.EmptyDataError),
    *(json.JSONDecodeError, zipfile.BadZipFile, EOFError, RecursionError),
)


@contextmanager
def reading(path: str | Path, kind: str, also: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Name the file, in a ValueError, where what it holds is not of the kind that it should be.

    Parameters
    ----------
    path : str or Path
        The file that the block reads.
    kind : str
        What it should be, for example ``"JSON"``.
    also : tuple of type
        Further errors by which a reader says that it cannot make sense of a file, beside `UNREADABLE`.
    """
    try:
        yield
    except (*UNREADABLE, *also) as error:
        cause = " ".join(str(error).split()) or type(error).__name__
        name = str(path).replace("\n", "\\n")
        raise ValueError(f"{name}: not readable as {kind}: damaged or of another kind ({cause})") from error


class Lines(NamedTuple):
    """A table as it stands in the file: the header, and the cells of each further line by its number."""

    header: list[str]
    rows: dict[int, list[str]]


class TableError(ValueError):
    """A file is no table; `found`, `allowed` and `remedy` say why, the message says all three."""

    def __init__(self, path: str | Path, found: str, remedy: str) -> None:
        self.found, self.allowed, self.remedy = found, "CSV text in UTF-8, columns separated by commas", remedy
        name = str(path).replace("\n", "\\n")
        cause = f"damaged or of another kind ({found}); {remedy}"
        super().__init__(f"{name}: not readable as CSV text in UTF-8: {cause}")


OTHER_FORMATS = {
    b"PK\x03\x04": "a workbook of a spreadsheet, or another archive",
    b"\xd0\xcf\x11\xe0": "an old workbook of a spreadsheet",
    b"\x1f\x8b": "compressed by gzip",
    b"%PDF": "a PDF",
    b"{": "JSON",
    b"<": "HTML or XML",
    codecs.BOM_UTF16_LE: "text in UTF-16",
    codecs.BOM_UTF16_BE: "text in UTF-16",
}
SAVE_AS = "save it as `CSV UTF-8 (comma delimited)`"


def read_lines(path: str | Path) -> Lines:
    """Read a table as text, as it stands; a byte order mark and lines without anything are read over.

    Raises
    ------
    TableError
        The file is empty, of another format or encoding, or parts its columns by something other than commas.
    """
    path = Path(path)
    content = path.read_bytes()
    found = next((name for start, name in OTHER_FORMATS.items() if content.startswith(start)), "")
    if not content.strip(b"\xef\xbb\xbf \t\r\n"):
        raise TableError(path, "it is empty", "export the table again")
    if not found and content.count(0) > len(content) / 10:
        found = "text in UTF-16 or UTF-32, or no text"
    if found:
        raise TableError(path, f"it is {found}", SAVE_AS)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        found = f"byte 0x{content[error.start]:02x} in line {line} is no UTF-8: text in Latin-1 or Windows-1252?"
        raise TableError(path, found, SAVE_AS) from None
    return _split_lines(path, text)


def _split_lines(path: Path, text: str) -> Lines:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: dict[int, list[str]] = {}
    try:
        for row in reader:
            if row:
                rows[reader.line_num] = row
    except csv.Error as error:
        raise TableError(path, f"line {reader.line_num}: {error}", "close the quotes, or export it again") from None
    header = rows.pop(next(iter(rows))) if rows else [""]
    if len(header) == 1 and (sign := re.search(r"[;\t|]|^sep=", header[0])):
        shown = {";": "semicolons", "\t": "tabs", "|": "strokes"}.get(sign[0], "a line `sep=`, then perhaps semicolons")
        remedy = f"{SAVE_AS}; decimal commas become points"
        raise TableError(path, f"columns are separated by {shown}", remedy)
    return Lines(header, rows)


def read_csv(path: str | Path, missing: Collection[str] = ("",)) -> pd.DataFrame:
    """Read a table: every cell as text, then typed by the name of its column (`typed_column`).

    Parameters
    ----------
    path : str or Path
        A local file. Addresses (``http://``) are not followed.
    missing : collection of str
        Cells, in small letters, that mean a missing number: nothing in a table of ours; `MISSING` in one from
        elsewhere. In a column of text only the empty cell is missing.

    Raises
    ------
    FileNotFoundError
        The file does not exist; the message says which notebook step usually writes it.
    TableError
        The file is no table: see `read_lines`. Or two columns have one name, or a row has too many or too few cells.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: run the notebook that writes it first")
    header, rows = read_lines(path)
    for name in header:
        if header.count(name) > 1 or not name:
            remedy = "rename or remove one of them"
            raise TableError(path, f"column {name!r} is there twice, or has no name", remedy)
    for line, row in rows.items():
        if len(row) != len(header):
            found = f"line {line} has {how_many(len(row), 'cell')}, the header {len(header)}"
            raise TableError(path, found, "put cells that hold a comma in double quotes")
    columns = zip(*rows.values(), strict=True) if rows else [()] * len(header)
    return pd.DataFrame({name: typed_column(name, cells, missing) for name, cells in zip(header, columns, strict=True)})


def typed_column(name: str, cells: Sequence[str], missing: Collection[str] = ("",)) -> pd.Series:
    """Type the cells of a column, given as text.

    Parameters
    ----------
    name : str
        A column of `TEXT` stays text and one of `FLAGS` becomes bool. Any other is a column of numbers if every cell
        is a number or missing, and text otherwise; whole numbers written with leading zeros are codes (`are_codes`).
    cells : sequence of str
    missing : collection of str
        See `read_csv`.

    Returns
    -------
    Series
        Of int, float, bool or object (text, NaN where missing). A column without a value is float.
    """
    text = pd.Series(list(cells), dtype=object)
    if name in TEXT:
        return text.where(text != "", np.nan)
    given = [cell for cell in text if cell.lower() not in missing]
    if name in FLAGS and given and set(given) <= {"True", "False"}:
        known = text.map({"True": True, "False": False})
        return known.astype(bool) if len(given) == len(text) else known
    if not all(_is_number(name, cell) for cell in given) or are_codes(given):
        return text.map(lambda cell: np.nan if cell.lower() in missing else cell).astype(object)
    if given and len(given) == len(text) and all(map(WHOLE.fullmatch, given)):
        return text.astype("int64")
    return text.map(lambda cell: np.nan if cell.lower() in missing else float(cell)).astype(float)


def _is_number(name: str, cell: str) -> bool:
    return bool(NUMBER.fullmatch(cell)) or (name in MAY_BE_INFINITE and cell in ("inf", "-inf"))


def are_codes(cells: Collection[str]) -> bool:
    """Tell whether digits are the names of something: all of one width, two or more, and one begins with 0."""
    widths = {len(cell) for cell in cells}
    return len(widths) == 1 and widths != {1} and all(map(str.isdigit, cells)) and any(c[0] == "0" for c in cells)


def write_json(content: Any, path: str | Path) -> Path:
    """Write JSON with sorted keys, whole or not at all, and return the path."""
    return write_text(json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n", path)


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises
    ------
    ValueError
        Damaged, larger than `LARGEST_JSON`, with a name twice in one object, or with NaN or an infinite number. The
        message names the file.
    """
    path = Path(path)
    size = path.stat().st_size
    if size > LARGEST_JSON:
        raise ValueError(f"{path}: {size / 2**20:.0f} MiB; allowed: JSON of at most {LARGEST_JSON // 2**20} MiB")
    with reading(path, "JSON", (ValueError,)):
        return parse_json(path.read_text(encoding="utf-8"))


def parse_json(text: str) -> Any:
    """Read JSON, and refuse with a ValueError what JSON does not allow: one name for two values, NaN, Infinity."""
    return json.loads(text, object_pairs_hook=_each_name_once, parse_constant=_refuse_constant)


def _each_name_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice[:60]!r} stands twice in one object")
    return content


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is no number of JSON")


def file_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
