"""What a user is told instead of a traceback: one line with the file, the cause and the remedy."""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NamedTuple, NoReturn

OWN_CODE = str(Path(__file__).resolve().parents[1])
REMEDIES = {
    errno.EACCES: "choose another place, or ask for the permission",
    errno.EPERM: "choose another place, or ask for the permission",
    errno.EROFS: "choose another place",
    errno.ENOSPC: "make room, then give the same command again",
    errno.EDQUOT: "make room, then give the same command again",
    errno.EFBIG: "make room, then give the same command again",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "a link leads back to itself: choose another place",
    errno.EEXIST: "something of another kind is in the way: choose another name",
    errno.ENOTDIR: "a file is in the way: choose another place",
    errno.EISDIR: "a folder is in the way: choose another name",
    errno.ENOENT: "look for a mistake in the path",
    errno.EMFILE: "ask for fewer --cores",
    errno.EAGAIN: "ask for fewer --cores",
    errno.ENOMEM: "ask for fewer --cores",
}
KEPT = "no file is half-written, and the same command can be given again"


class Terminated(KeyboardInterrupt):
    """The process was asked to end by a signal other than Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = signal.Signals(number)


class Told(NamedTuple):
    """A line for standard error, and the exit status."""

    line: str
    status: int


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """End on SIGTERM and SIGHUP as on Ctrl-C: what is open is closed, what was started is ended."""
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # What is ignored (nohup) stays ignored.
    changed = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in changed:
        signal.signal(number, _terminate)
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, signal.SIG_DFL)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(number, signal.SIG_IGN)  # a second one would interrupt the tidying
    raise Terminated(number)


def explain(error: BaseException) -> Told:
    """Turn what stopped a command into one line and an exit status.

    Parameters
    ----------
    error : BaseException
        Anything. What the package raises on purpose speaks for itself; what comes from the system or from a library
        is put into words; what is left is a fault of the program, and said to be one.
    """
    from rps_utils.files import UNREADABLE
    from rps_utils.runs.parameters import UsageError

    if isinstance(error, Terminated):
        return Told(f"ended by {error.number.name}; {KEPT}", 128 + error.number)
    if isinstance(error, KeyboardInterrupt):
        return Told(f"stopped; {KEPT}", 130)
    if isinstance(error, UsageError):
        return Told(str(error), 2)
    if isinstance(error, MemoryError):
        return Told("not enough memory: ask for fewer --cores, or use a larger machine", 1)
    if isinstance(error, OSError) and error.errno:
        return Told(explain_os_error(error), 1)
    if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("rps_utils"):
        return Told(f"the package {error.name} is missing: install this repository again, with make install", 1)
    if type(error).__name__ == "TerminatedWorkerError":
        return Told("a process was killed, most likely for want of memory: ask for fewer --cores", 1)
    if isinstance(error, UNREADABLE) and not isinstance(error, RecursionError):
        return Told(f"{_file_at_hand(error)} is damaged or of another kind ({_one_line(error)})", 1)
    if isinstance(error, (ValueError, RuntimeError, FileNotFoundError)) and _is_said_by_the_package(error):
        return Told(str(error), 1)
    return Told(f"this is a fault of rps: {type(error).__name__}: {_one_line(error)}; run again with --debug", 1)


def explain_os_error(error: OSError) -> str:
    """Name the file, what the system said of it, and the remedy."""
    name = error.filename2 or error.filename
    name = os.fsdecode(name) if isinstance(name, str | bytes | Path) else ""
    cause = (error.strerror or str(error)).lower()
    remedy = REMEDIES.get(error.errno or 0, "run again with --debug to see where")
    return f"{f'{name}: ' if name else ''}{cause}: {remedy}"


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else f"{text[:300]} ..."


def _frames(error: BaseException) -> list[FrameType]:
    """Return the frames through which an error came, the place where it was raised last."""
    frames, trace = [], error.__traceback__
    while trace:
        frames.append(trace.tb_frame)
        trace = trace.tb_next
    return frames


def _is_said_by_the_package(error: BaseException) -> bool:
    """Tell whether our own code raised it, here or in a worker process."""
    if isinstance(error, RecursionError | NotImplementedError):
        return False
    worker = re.findall(r'^ *File "(.+?)", line', str(error.__cause__), re.MULTILINE)
    frames = _frames(error)
    origin = worker[-1] if worker else frames[-1].f_code.co_filename if frames else ""
    return origin.startswith(OWN_CODE)


def _file_at_hand(error: BaseException) -> str:
    """Name the file that our code was reading; its readers call it `path`."""
    own = [f for f in _frames(error) if f.f_code.co_filename.startswith(OWN_CODE)]
    paths = [f.f_locals["path"] for f in own if isinstance(f.f_locals.get("path"), str | Path)]
    return str(paths[-1]) if paths else "a file"


def make_printable() -> None:
    """Escape what the terminal cannot show (a file name that is no text) instead of failing at it."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
