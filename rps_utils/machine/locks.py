"""One folder, one owner: who works in a folder says so in a lock, and the next one believes only what is alive."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

LOCK = ".running"
OWNER = "RPS_OWNER"  # the environment variable by which the processes of an owner are known, whoever started them
_held: set[Path] = set()


class FolderInUseError(RuntimeError):
    """Somebody else works in the folder; the message says who, and what to do."""


@dataclass(frozen=True)
class Owner:
    """A process, described so that no other can be taken for it.

    Attributes
    ----------
    host, boot : str
        Machine, and its current start. Containers of one machine share the boot and not the host.
    pid, started : int, float
        Process id, and when it started (s since the epoch): ids are used again.
    space : str
        Process id namespace: in each container ids count from 1.
    token : str
        Word that the owner hands to all its processes in their environment.
    """

    host: str
    boot: str
    pid: int
    started: float
    space: str
    token: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@contextmanager
def own_folder(folder: str | Path) -> Iterator[Owner]:
    """Work in a folder alone, as long as the block lasts; a block inside the block changes nothing.

    Parameters
    ----------
    folder : str or Path
        Made if missing.

    Yields
    ------
    Owner
        This process. Whatever it starts inherits its token in the environment variable `OWNER`.

    Raises
    ------
    FolderInUseError
        A living process owns the folder, or one on another machine of which nothing can be known from here.
    """
    folder = Path(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if folder in _held:
        yield _this_process()
        return
    stream = _take(folder / LOCK)
    _held.add(folder)
    try:
        with _ending_what_it_started():
            yield _this_process()
    finally:
        _held.discard(folder)
        (folder / LOCK).unlink(missing_ok=True)
        os.close(stream)


@contextmanager
def _ending_what_it_started() -> Iterator[None]:
    """Mark all that this process starts, and end it when this process is told to end (Ctrl-C, SIGTERM, SIGHUP)."""
    before = os.environ.get(OWNER)
    os.environ[OWNER] = _TOKEN
    try:
        with _signals_raise():
            yield
    except (KeyboardInterrupt, SystemExit):
        end_processes(_TOKEN)
        raise
    finally:
        if before is None:
            del os.environ[OWNER]
        else:
            os.environ[OWNER] = before


@contextmanager
def _signals_raise() -> Iterator[None]:
    """Turn the signals that end a process into `SystemExit`, so that it can clear up; ignored ones stay ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    wanted = [s for s in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(s) is signal.SIG_DFL]
    before = {number: signal.signal(number, leave) for number in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_processes(token: str, patience: float = 5.0) -> int:
    """End every process that carries a token in its environment, but this one; return how many there were.

    They are asked first, and after `patience` seconds killed, until none is left.
    """
    ended = 0
    for ask in (psutil.Process.terminate, *[psutil.Process.kill] * 5):
        left = _processes_with(token)
        if not left:
            break
        ended = max(ended, len(left))
        for process in left:
            _try(ask, process)
        psutil.wait_procs(left, timeout=patience)
    return ended


def _take(lock: Path) -> int:
    """Return the open lock, held and describing this process. The kernel lets go of it when this process ends."""
    while True:
        stream = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            _hold(stream, lock)
            if not _is_same_file(stream, lock):  # its last owner removed it in between
                os.close(stream)
                continue
            _judge(lock)
            _write(stream, _this_process())
        except BaseException:
            os.close(stream)
            raise
        return stream


def _hold(stream: int, lock: Path) -> None:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise FolderInUseError(_in_use(lock, _read_owner(lock.read_bytes() if lock.is_file() else b""))) from None
    except OSError:  # a file system without such locks: what is written in the file decides alone
        return


def _judge(lock: Path) -> None:
    """Refuse a lock whose owner may be alive; say so where one is taken over."""
    content = lock.read_bytes()
    owner, here = _read_owner(content), _this_process()
    if owner is None:
        if content:
            print(f"{lock} names no process: taken over", flush=True)
        return
    if owner.host != here.host and owner.boot != here.boot:
        raise FolderInUseError(
            f"{lock.parent} is in use by {owner}, of which nothing can be known from {here.host}: "
            f"wait for it, or delete {lock} if it does not run any more"
        )
    if _is_alive(owner, here):
        raise FolderInUseError(_in_use(lock, owner))
    left = end_processes(owner.token)
    also = f", and {left} of its processes ended" if left else ""
    print(f"{lock}: {owner} does not run any more: taken over{also}", flush=True)


def _in_use(lock: Path, owner: Owner | None) -> str:
    who = str(owner) if owner else "another process"
    return f"{who} is running in {lock.parent}: wait for it, or choose another folder"


def _is_alive(owner: Owner, here: Owner) -> bool:
    """Tell whether the owner runs. In another process id space the free lock itself has shown that it does not."""
    if (owner.boot, owner.space) != (here.boot, here.space):
        return False
    try:
        process = psutil.Process(owner.pid)
        return process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - owner.started) < 1
    except (psutil.Error, ValueError, OverflowError):  # no such process, or a number that is no process id
        return False


def _this_process() -> Owner:
    process = psutil.Process()
    words = {"host": socket.gethostname(), "boot": _boot(), "space": _space(), "token": _TOKEN}
    return Owner(pid=process.pid, started=process.create_time(), **words)


_TOKEN = uuid.uuid4().hex


def _boot() -> str:
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.is_file() else f"{psutil.boot_time():.0f}"


def _space() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _read_owner(content: bytes) -> Owner | None:
    """Return whom a lock names; None for an empty or damaged one."""
    try:
        told = json.loads(content)
        owner = Owner(**told)
    except (ValueError, TypeError):
        return None
    kinds = {"host": str, "boot": str, "pid": int, "started": float, "space": str, "token": str}
    return owner if all(isinstance(told[name], kind) for name, kind in kinds.items()) and owner.token else None


def _write(stream: int, owner: Owner) -> None:
    os.ftruncate(stream, 0)
    os.pwrite(stream, (json.dumps(asdict(owner), sort_keys=True) + "\n").encode(), 0)


def _is_same_file(stream: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(stream), path.stat())
    except FileNotFoundError:
        return False


def _processes_with(token: str) -> list[psutil.Process]:
    def carries(process: psutil.Process) -> bool:
        try:
            return process.environ().get(OWNER) == token and process.status() != psutil.STATUS_ZOMBIE
        except (psutil.Error, OSError):
            return False

    return [p for p in psutil.process_iter() if p.pid != os.getpid() and carries(p)]


def _try(ask: object, process: psutil.Process) -> None:
    try:
        ask(process)  # type: ignore[operator]
    except psutil.Error:  # it ended meanwhile
        return
