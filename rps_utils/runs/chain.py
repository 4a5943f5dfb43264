"""Bring a run folder up to date: Snakemake decides what is missing or out of date and runs it side by side."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

from rps_utils.files import write_json
from rps_utils.runs.steps import Step, UsageError

SNAKEFILE = Path(__file__).with_name("Snakefile")


@contextmanager
def only_run_in(run: Path) -> Iterator[None]:
    """Refuse to work in a run folder in which another process works."""
    mark = run / ".running"
    if mark.exists() and psutil.pid_exists(int(mark.read_text() or 0)):
        raise UsageError(f"process {mark.read_text()} is running in {run}: wait for it, or choose another --out")
    run.mkdir(parents=True, exist_ok=True)
    mark.write_text(str(os.getpid()))
    try:
        yield
    finally:
        mark.unlink(missing_ok=True)


def run_chain(run: Path, steps: Sequence[Step], parameters: Mapping[str, Mapping[str, Any]], cores: int) -> bool:
    """Bring a run folder up to date.

    Parameters
    ----------
    run : Path
        Run folder.
    steps : sequence of Step
        Notebooks to run; files that none of them writes must be there.
    parameters : mapping
        Notebook to parameters, from `choose_parameters`.
    cores : int
        Processor cores to use.

    Returns
    -------
    bool
        Whether anything had to be done.

    Raises
    ------
    RuntimeError
        A notebook failed; what it said is above, its executed copy in ``RUN/notebooks``.
    """
    with only_run_in(run):
        before = {p: p.stat().st_mtime_ns for p in run.glob("logs/*.json")}
        write_json({"steps": [s.name for s in steps], "parameters": parameters}, run / "parameters.json")
        done = subprocess.run(_snakemake_command(run, cores), env=_quiet_environment(), check=False)
        if done.returncode:
            raise RuntimeError(f"the chain stopped; the executed notebooks are in {run / 'notebooks'}")
    return before != {p: p.stat().st_mtime_ns for p in run.glob("logs/*.json")}


def _snakemake_command(run: Path, cores: int) -> list[str]:
    options = f"--cores {cores} --nolock --rerun-incomplete --keep-going --rerun-triggers mtime input params".split()
    places = ["--snakefile", str(SNAKEFILE), "--directory", str(run)]
    return [sys.executable, "-m", "snakemake", *places, *options, "--quiet", "all"]


def _quiet_environment() -> dict[str, str]:
    """One thread a process: the same bytes on any number of cores, and no processes that wait for each other."""
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS", "NUMEXPR")}
    return {**os.environ, **threads, "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}


def is_up_to_date(path: Path, sources: Sequence[Path]) -> bool:
    """Tell whether `path` exists and is newer than each of `sources`."""
    return path.is_file() and all(source.stat().st_mtime <= path.stat().st_mtime for source in sources)


def manifest_files(manifest: Path) -> list[Path]:
    """Return the manifest and those of the files it names that exist; the check of the rest is ingest's."""
    with manifest.open(encoding="utf-8-sig") as stream:
        table = pd.read_csv(stream, dtype=str, keep_default_na=False)
    named = [name for column in ("image", "mask", "reference_map") for name in table.get(column, [])]
    return [manifest, *(manifest.parent / name for name in named if (manifest.parent / name).is_file())]
