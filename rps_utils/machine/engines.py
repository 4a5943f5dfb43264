"""Where the work is done: on this machine, on the nodes of a cluster, or by the workers of a dask scheduler."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DASK = "RPS_DASK"  # the environment variable that names a dask scheduler, such as tcp://host:8786
WRITTEN = "RPS_WRITTEN"  # and this one a text file that lists what `files.whole_file` finished
HANDED_ON = (WRITTEN, "PYTHONHASHSEED", "TQDM_DISABLE")  # from the environment of who sends a job to who does it


@dataclass(frozen=True)
class Engine:
    """Where the steps of a chain run, and where the work within a step.

    Attributes
    ----------
    cores : int
        Processes side by side on this machine, or that one job of a cluster may use.
    executor : str
        ``"local"`` or ``"slurm"``: the executors of the workflow engine.
    jobs : int
        Jobs that may be in the cluster's queue at once.
    profile : Path or None
        Folder with a profile of the workflow engine: partition, account, memory, run time.
    dask : str or None
        Address of a dask scheduler; its workers take the patients, folds and replicates of every step.
    """

    cores: int
    executor: str = "local"
    jobs: int = 8
    profile: Path | None = None
    dask: str | None = None

    @property
    def is_remote(self) -> bool:
        """Whether steps run where this process cannot hear them."""
        return self.executor != "local"

    def threads(self, heavy: bool) -> int:
        """Return how many processes a step may use: on this machine two heavy ones share it, a job has its own."""
        return (self.cores if self.is_remote else max(1, self.cores // 2)) if heavy else 1

    def options(self) -> list[str]:
        """Return the options of the workflow engine."""
        where = (
            ["--executor", self.executor, "--jobs", str(self.jobs)] if self.is_remote else ["--cores", str(self.cores)]
        )
        return [*where, *(["--profile", str(self.profile.resolve())] if self.profile else [])]

    def environment(self) -> dict[str, str]:
        """Return what the steps are told by their environment."""
        return {DASK: self.dask} if self.dask else {}


def work_on(jobs: Iterable[Any], n_jobs: int, return_as: str = "list") -> Any:
    """Do jobs side by side: in processes of this machine, or by the workers of the scheduler that `DASK` names.

    Parameters
    ----------
    jobs : iterable
        Made with `joblib.delayed`. Paths in them must mean the same on every worker.
    n_jobs : int
        Processes on this machine; a scheduler uses all its workers.
    return_as : str
        As for `joblib.Parallel`; results of a scheduler come when all are there, in order.

    Returns
    -------
    list or iterator
        Results, the same wherever they were computed.
    """
    from joblib import Parallel, parallel_config

    if DASK not in os.environ:
        return Parallel(n_jobs=n_jobs, return_as=return_as)(jobs)
    from distributed import Client

    told = {name: os.environ[name] for name in HANDED_ON if name in os.environ}
    sent = [(_told, (told, function, *values), named) for function, values, named in jobs]
    with Client(os.environ[DASK], set_as_default=False) as client, parallel_config(backend="dask", client=client):
        results = Parallel(n_jobs=-1)(sent)
    return results if return_as == "list" else iter(results)


def _told(told: dict[str, str], function: Callable[..., Any], *values: Any, **named: Any) -> Any:
    """Do a job in the environment of the process that sent it, with a list of written files of this worker's own."""
    if WRITTEN in told:
        listed = Path(told[WRITTEN])
        own = f"{listed.stem}@{socket.gethostname()}-{os.getpid()}{listed.suffix}"  # no two machines append to one file
        told = {**told, WRITTEN: str(listed.with_name(own))}
    before = {name: os.environ.get(name) for name in told}
    os.environ.update(told)
    try:
        return function(*values, **named)
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
