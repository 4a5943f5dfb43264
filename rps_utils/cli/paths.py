"""Paths on the command line, looked at before any work: what is read is there, what is written can be."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import click

from rps_utils.cli.errors import explain_os_error

ROOT = Path(__file__).resolve().parents[2]
SOURCE = tuple(ROOT / name for name in ("rps_utils", "notebooks", "tests", "docs", "benchmarks", "lock", ".git"))
PROJECT = ("notebooks", ".git", "pyproject.toml")  # what a folder of somebody's own work holds
ROOM = 2**20  # bytes; less than this is no room


class RefusedPath(click.ClickException):
    """What was given to read is not there, or not what it should be. Exit status 1, as for all problems found."""

    def show(self, file: Any = None) -> None:
        """Say so in one line."""
        line = self.message.replace("\n", "\\n")  # a file name may hold one
        click.echo(f"rps: {line}", file=file, err=True)


class InputFile(click.ParamType):
    """A file to read."""

    name = "file"

    def __init__(self, what: str) -> None:
        self.what = what

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path, or raise `RefusedPath`."""
        path = Path(value)
        _refuse_unreadable(path, f"give the path of {self.what}")
        if path.is_dir():
            raise RefusedPath(f"{path} is a folder: give the path of {self.what}")
        if not path.is_file():
            raise RefusedPath(f"{path} is no ordinary file: give the path of {self.what}")
        return path


class InputFolder(click.ParamType):
    """A folder to read, which may have to hold a certain file."""

    name = "directory"

    def __init__(self, what: str, holding: str = "") -> None:
        self.what, self.holding = what, holding

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path, or raise `RefusedPath`."""
        path = Path(value)
        if self.holding and not (path / self.holding).exists():
            raise RefusedPath(f"{path} holds no {self.holding}: give the path of {self.what}")
        _refuse_unreadable(path, f"give the path of {self.what}")
        if not path.is_dir():
            raise RefusedPath(f"{path} is no folder: give the path of {self.what}")
        return path


def _refuse_unreadable(path: Path, remedy: str) -> None:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        is_link = path.is_symlink()
        raise RefusedPath(f"{path} {'is a link to nothing' if is_link else 'does not exist'}: {remedy}") from None
    except OSError as error:
        raise RefusedPath(explain_os_error(error)) from None
    if not os.access(path, os.R_OK):
        raise RefusedPath(f"{path} may not be read: ask for the permission, or {remedy}")


class OutFolder(click.ParamType):
    """A folder to write into; it need not exist, and is neither this repository nor somebody's project.

    Parameters
    ----------
    is_run : bool
        It becomes a run folder, or is one: then it may hold the notebooks of a run that was begun in it.
    """

    name = "directory"

    def __init__(self, *, is_run: bool = False) -> None:
        self.is_run = is_run

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path, or fail as wrong use."""
        if not str(value):
            self.fail("it is empty: give the path of a folder", param, ctx)
        if fault := folder_fault(Path(value)) or self._other_use(Path(value)):
            self.fail(fault, param, ctx)
        return Path(value)

    def _other_use(self, folder: Path) -> str:
        """Say what a folder is already, where its files would be mixed with others or replaced by them."""
        place = folder.resolve()
        if place in (ROOT, *ROOT.parents) or any(own in (place, *place.parents) for own in SOURCE):
            return f"{folder} is the source of this repository: name a folder of its own, {self._example()}"
        found = [name for name in PROJECT if (place / name).exists()]
        if found and not (self.is_run and is_begun(place)):
            used = "and is no run folder" if self.is_run else "so it is somebody's project or a run"
            return f"{folder} holds {found[0]} {used}: name an empty or a new folder"
        return ""

    def _example(self) -> str:
        return "runs/NAME" if self.is_run else "data/NAME"


def is_begun(folder: Path) -> bool:
    """Tell whether a run was begun in a folder."""
    from rps_utils.run_folder import RunFolder

    return RunFolder(folder).parameters.is_file()


class OutFile(click.ParamType):
    """A file to write; neither it nor its folder need exist."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path, or fail as wrong use."""
        path = Path(value)
        if fault := _name_fault(path) or folder_fault(path.parent):
            self.fail(fault, param, ctx)
        if not path.name or path.is_dir():
            self.fail(f"{path} is a folder: give the path of a file", param, ctx)
        return path


def folder_fault(folder: Path) -> str:
    """Say why nothing can be written into a folder that may not be there yet; empty where it can."""
    if fault := _name_fault(folder):
        return fault
    nearest = next(place for place in (folder, *folder.absolute().parents) if os.path.lexists(place))
    if not nearest.is_dir():
        kind = "a link to nothing" if nearest.is_symlink() and not nearest.exists() else "a file"
        return f"{nearest} is {kind}, and in the way: choose another place"
    try:
        # The only test that is right on every file system, and for every user.
        with tempfile.TemporaryFile(dir=nearest):
            free = shutil.disk_usage(nearest).free
    except OSError as error:
        return explain_os_error(OSError(error.errno, error.strerror, str(nearest)))
    return "" if free >= ROOM else f"{nearest}: no room left: make room, or choose another place"


def _name_fault(path: Path) -> str:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        return explain_os_error(error)
    return ""


def refuse_overwriting(params: dict[str, Any], command: click.Command) -> None:
    """Raise a usage error where an output is a file that is read, or a new run the folder in which it lies."""
    kinds = {option.name: option for option in command.params}
    given = [(kinds[n], Path(v).resolve()) for n, v in params.items() if n in kinds and isinstance(v, Path)]
    read = {path: option for option, path in given if isinstance(option.type, InputFile)}
    for option, path in given:
        if isinstance(option.type, OutFile) and path in read:
            one, other = option.human_readable_name, read[path].human_readable_name
            raise click.UsageError(f"{path} is given twice, as {one} to write and {other} to read")
        inside = [file.name for file in read if file.parent == path]
        if isinstance(option.type, OutFolder) and option.type.is_run and inside and not is_begun(path):
            raise click.UsageError(f"--out {path} holds {inside[0]}, which is read: name a folder of its own")


OUT_FOLDER, RUN_FOLDER, OUT_FILE = OutFolder(), OutFolder(is_run=True), OutFile()
MANIFEST_FILE = InputFile("a local CSV file, one row a patient")
