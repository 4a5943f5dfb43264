"""Files of a run folder: written whole or not at all, read without surprises."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from rps_utils.texts.cells import safe_cell

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what the system says of a full disk
PARTIAL = ".partial-"
WRITTEN = "RPS_WRITTEN"  # environment variable: a text file that lists what `whole_file` finished


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
    """Enter a finished file in the list that the environment names, if it names one."""
    if WRITTEN in os.environ:
        with open(os.environ[WRITTEN], "a", encoding="utf-8") as written:
            written.write(f"{path.resolve()}\n")


def write_text(text: str, path: str | Path) -> Path:
    """Write UTF-8 text, whole or not at all, and return the path."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")
    return Path(path)


def write_csv(table: pd.DataFrame, path: str | Path) -> Path:
    """Write a table without its index, whole or not at all, and return the path.

    Numbers keep their full precision: the same table always gives the same bytes. The name of a column that a
    spreadsheet would run as a formula gets an apostrophe in front; cells are refused where they come in.
    """
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


def read_csv(path: str | Path, **text_columns: type) -> pd.DataFrame:
    """Read a table that this project wrote; ``patient_id`` and ``centre`` stay text.

    Parameters
    ----------
    path : str or Path
        A local file. Addresses (``http://``) are not followed.
    **text_columns : type
        Further columns with a fixed type, for example ``grade=str``.

    Raises
    ------
    FileNotFoundError
        The file does not exist; the message says which notebook step usually writes it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: run the notebook that writes it first")
    with reading(path, "CSV text in UTF-8"), path.open(encoding="utf-8") as stream:
        return pd.read_csv(
            stream, dtype={"patient_id": str, "centre": str, **text_columns}, float_precision="round_trip"
        )


def write_json(content: Any, path: str | Path) -> Path:
    """Write JSON with sorted keys, whole or not at all, and return the path."""
    return write_text(json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n", path)


def read_json(path: str | Path) -> Any:
    """Read a JSON file."""
    with reading(path, "JSON"):
        return json.loads(Path(path).read_text(encoding="utf-8"))


def file_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
