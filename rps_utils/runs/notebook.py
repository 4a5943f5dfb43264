"""Execute one notebook in a run folder, and record its time and memory."""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from rps_utils.files import read_json, write_json
from rps_utils.runs.record import collect_metrics, write_run_record
from rps_utils.runs.steps import NOTEBOOKS, notebook_path

QUIET_KERNEL = {
    "kernel_name": "python3",
    "progress_bar": False,
    "extra_arguments": ["--IPKernelApp.log_level=ERROR"],
}


def execute(name: str, run: Path, n_jobs: int) -> None:
    """Execute one notebook into ``RUN/notebooks`` and record its time and memory in ``RUN/logs``.

    Raises
    ------
    papermill.PapermillExecutionError
        A cell raised an error.
    """
    import papermill

    parameters = dict(read_json(run / "parameters.json")["parameters"][name])
    parameters |= {"run_dir": str(run)} | ({"n_jobs": n_jobs} if "n_jobs" in parameters else {})
    place = run / "notebooks" / f"{name}.ipynb"
    place.parent.mkdir(exist_ok=True)
    started = time.time()
    print(f"{name:24s} started", flush=True)
    with watch_memory() as peak:
        papermill.execute_notebook(notebook_path(name), place, parameters, cwd=NOTEBOOKS, **QUIET_KERNEL)
    seconds = round(time.time() - started, 1)
    write_json({"seconds": seconds, "peak_mib": peak["mib"]}, run / "logs" / f"{name}.json")
    print(f"{name:24s} done in {seconds:.0f} s, {peak['mib']} MiB", flush=True)


@contextmanager
def watch_memory(every: float = 0.25) -> Iterator[dict[str, int]]:
    """Record the peak memory (MiB, resident) of this process and all it starts, sampled `every` seconds."""
    peak, stop = {"mib": 0}, threading.Event()

    def sample() -> None:
        while not stop.wait(every):
            peak["mib"] = max(peak["mib"], _tree_mib())

    watcher = threading.Thread(target=sample, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        stop.set()
        watcher.join()


def _tree_mib() -> int:
    total = 0
    own = psutil.Process()
    for process in [own, *own.children(recursive=True)]:
        try:
            total += process.memory_info().rss
        except psutil.Error:  # it ended between listing and asking
            continue
    return total // 2**20


def main() -> None:
    """Do one piece of work for Snakemake: execute a notebook, collect the metrics, or write the report."""
    parser = argparse.ArgumentParser(prog="python -m rps_utils.runs.notebook", description=main.__doc__)
    parser.add_argument("work", help="name of a notebook, or `metrics`, or `report`")
    parser.add_argument("--n-jobs", type=int, default=1)
    asked = parser.parse_args()
    run = Path.cwd()
    if asked.work == "metrics":
        collect_metrics(run)
    elif asked.work == "report":
        from rps_utils.report import write_report

        write_run_record(run)
        write_report(run)
    else:
        sys.exit(_execute_or_explain(asked.work, run, asked.n_jobs))


def _execute_or_explain(name: str, run: Path, n_jobs: int) -> str | None:
    from papermill.exceptions import PapermillExecutionError

    try:
        execute(name, run, n_jobs)
    except PapermillExecutionError as error:
        return f"{name:24s} failed in cell {error.exec_count}: {error.ename}: {error.evalue}"
    return None


if __name__ == "__main__":
    main()
