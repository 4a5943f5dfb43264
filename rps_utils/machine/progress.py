"""Work in several processes that shows where it is: a bar where somebody looks on, lines in a log."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

from tqdm.auto import tqdm

from rps_utils.machine.engines import work_on

DELAY_S = 2.0  # quicker work says nothing


def in_parallel(
    jobs: Iterable[Any], n_jobs: int, words: str, *, ordered: bool = True, before: int = 0
) -> Iterator[Any]:
    """Do jobs in several processes and give their results one by one, showing how many are done.

    In a terminal and in JupyterLab a bar shows the time left; elsewhere, as in a log, standard error gets a line at
    every tenth. The environment variable ``TQDM_DISABLE=1`` silences both.

    Parameters
    ----------
    jobs : iterable
        Made with `joblib.delayed`.
    n_jobs : int
        Processes.
    words : str
        What is counted, such as ``"patients prepared"``.
    ordered : bool
        Give the results in the order of the jobs, or as soon as each is there.
    before : int
        How many were done before and are counted as such.

    Yields
    ------
    object
        What a job returned.
    """
    jobs = list(jobs)
    results = work_on(jobs, n_jobs, return_as="generator" if ordered else "generator_unordered")
    if not jobs or os.environ.get("TQDM_DISABLE", "0") not in ("", "0"):
        yield from results
    elif _in_a_notebook() or sys.stderr.isatty():
        total = before + len(jobs)
        yield from tqdm(results, words, total, initial=before, delay=DELAY_S, dynamic_ncols=True)
    else:
        yield from _with_lines(results, before, len(jobs), words)


def _in_a_notebook() -> bool:
    """Whether this process is a kernel; having imported its package is not enough."""
    kernel = sys.modules.get("ipykernel.kernelapp")
    return kernel is not None and kernel.IPKernelApp.initialized()


def _with_lines(results: Iterable[Any], before: int, count: int, words: str) -> Iterator[Any]:
    started = time.monotonic()
    for done, result in enumerate(results, start=1):
        seconds = time.monotonic() - started
        if done * 10 // count > (done - 1) * 10 // count and seconds >= DELAY_S:
            left = f", about {tqdm.format_interval(seconds / done * (count - done))} left" if done < count else ""
            print(f"{before + done} of {before + count} {words}{left}", file=sys.stderr, flush=True)
        yield result
