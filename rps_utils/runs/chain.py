"""Bring a run folder up to date: say what is out of date and why, and let Snakemake do it side by side."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from rps_utils.files import remove_partial, write_json
from rps_utils.machine.engines import Engine
from rps_utils.machine.locks import end_processes, own_folder
from rps_utils.run_folder import NAMES, RunFolder
from rps_utils.runs.freshness import MANIFEST, SNAKEFILE, WORKSHOP, Decision, make_plan, matching
from rps_utils.runs.parameters import UsageError
from rps_utils.runs.record import keep_costs
from rps_utils.sources import Contents
from rps_utils.steps import Step, writers

EVENT = re.compile(r"(?P<step>\S+) +(?P<said>started|done|reused|failed)\b.*")
UNKNOWN_S = 10.0  # how long a step takes of which nothing is known
BAR = "{percentage:3.0f} %|{bar:24}| {elapsed}, {remaining} left {desc}"


def plan_chain(run: Path, steps: Sequence[Step], parameters: Mapping[str, Mapping[str, Any]]) -> list[Decision]:
    """Decide what would be done in a run folder, and do nothing.

    Parameters
    ----------
    run : Path
        Run folder.
    steps : sequence of Step
        Notebooks to run.
    parameters : mapping
        Step to parameters, from `choose_parameters`.

    Returns
    -------
    list of Decision
        One of each notebook and of what closes the chain (the table of metrics, the report).

    Raises
    ------
    UsageError
        A file that a notebook reads and none of these notebooks writes is not there.
    """
    _check_given_files(run, steps)
    contents = Contents(run / WORKSHOP / "hashes.json")
    plan = make_plan(run, [*steps, *closing_steps(steps)], parameters, contents)
    if run.is_dir():
        contents.remember()
    return plan


def run_chain(run: Path, steps: Sequence[Step], parameters: Mapping[str, Mapping[str, Any]], engine: Engine) -> bool:
    """Bring a run folder up to date.

    Parameters
    ----------
    run : Path
        Run folder.
    steps : sequence of Step
        Notebooks to run; files that none of them writes must be there.
    parameters : mapping
        Step to parameters, from `choose_parameters`.
    engine : Engine
        Where the work is done.

    Returns
    -------
    bool
        Whether anything had to be done.

    Raises
    ------
    RuntimeError
        Steps failed; the message names each, its cause and where to look.
    FolderInUseError
        Another process works in the run folder.
    """
    with own_folder(run) as owner:
        remove_partial(run)
        write_json({"steps": [s.name for s in steps], "parameters": parameters}, RunFolder(run).parameters)
        plan = plan_chain(run, steps, parameters)
        print(plan_text(plan), flush=True)
        todo = [decision for decision in plan if decision.state != "reused"]
        if todo:
            _run_engine(run, todo, parameters, engine, owner.token)
            remove_partial(run)  # again: what was killed a moment ago may have been dying then, and still held its own
    return bool(todo)


def is_manifest_unchanged(plan: Iterable[Decision], parameters: Mapping[str, Mapping[str, Any]]) -> bool:
    """Tell whether the step that reads the manifest is up to date, so that the manifest needs no other check."""
    return all(d.state == "reused" for d in plan if MANIFEST in parameters.get(d.step.name, {}))


def closing_steps(steps: Sequence[Step]) -> list[Step]:
    """Return what follows the notebooks: the table of metrics, unless one of them writes it, and the report."""
    written = tuple(name for step in steps for name in step.writes)
    closing = []
    if NAMES["metrics"] not in written:
        tables = tuple(name for name in written if name.startswith("metrics/"))
        closing.append(Step("metrics", tables, (NAMES["metrics"],), module="rps_utils.runs.record"))
    read = (*written, NAMES["metrics"], "logs/*.json")
    return [
        *closing,
        Step("report", read, (NAMES["report"], NAMES["evidence"], NAMES["record"]), module="rps_utils.report.page"),
    ]


def plan_text(plan: Sequence[Decision]) -> str:
    """Say what runs and why, what waits for what, and how much is reused."""
    lines = []
    for decision in plan:
        if decision.state == "runs":
            more = f" and {len(decision.why) - 3} more" if len(decision.why) > 3 else ""
            lines.append(f"  {decision.step.name}: {', '.join(decision.why[:3])}{more}")
    waiting = [decision.step.name for decision in plan if decision.state == "waits"]
    if waiting:
        lines.append(f"  wait for these, and run if what they read changes: {', '.join(waiting)}")
    unchanged = sum(decision.state == "reused" for decision in plan)
    return "\n".join([*lines, f"unchanged: {unchanged} of {len(plan)} steps reused"])


def _check_given_files(run: Path, steps: Sequence[Step]) -> None:
    """Refuse to start where a file is read that nobody writes and nobody brought."""
    for step in steps:
        for name in step.reads:
            alone = not writers(Step(step.name, (name,), ()), steps)
            if alone and not any(path.is_file() for path in matching(run, [name])):
                raise UsageError(
                    f"{step.name} reads {run / name}, which is not there and which no step of these writes"
                )


# ---------------------------------------------------------------- the workflow engine


def _run_engine(run: Path, todo: Sequence[Decision], parameters: Mapping[str, Any], where: Engine, token: str) -> None:
    place = run / WORKSHOP / "engine"
    shutil.rmtree(place, ignore_errors=True)
    steps = [decision.step for decision in todo]
    plan = {
        "steps": [{**asdict(s), "notebook": str(s.notebook) if s.notebook else None} for s in steps],
        "after": {step.name: writers(step, steps) for step in steps},
        "parameters": parameters,
        "threads": {step.name: where.threads(step.heavy) for step in steps},
        "remote": where.is_remote,
    }
    write_json(plan, place / "plan.json")
    (place / "said").mkdir()
    with _writable_home() as home, (place / "output.log").open("w", encoding="utf-8") as log:
        engine = subprocess.Popen(
            _snakemake_command(place, where),
            env={**_quiet_environment(), **home, **where.environment()},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        said = engine.stdout or io.StringIO()
        try:
            lines = with_words_of_jobs(said, place / "said") if where.is_remote else said
            failed = Progress(todo).follow(lines, log)
            engine.wait()
        finally:
            said.close()
            if engine.poll() is None:  # this process is stopped: by a signal, or because nobody reads what it prints
                end_processes(token)
                engine.wait()
    keep_costs(run)
    if engine.returncode:
        raise RuntimeError(_what_failed(run, steps, failed, place / "output.log"))


def with_words_of_jobs(lines: Iterable[str], folder: Path) -> Iterator[str]:
    """Yield the lines of the engine and, as they are found, those that jobs elsewhere left in the folder."""
    heard: dict[Path, int] = {}
    for line in chain(lines, [""]):
        yield line
        for path in sorted(folder.glob("*.txt")):
            words = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
            whole = [word for word in words if word.endswith("\n")]
            yield from whole[heard.get(path, 0) :]
            heard[path] = len(whole)


def _snakemake_command(place: Path, where: Engine) -> list[str]:
    plan = ["--snakefile", str(SNAKEFILE), "--directory", str(place)]
    options = ["--nolock", "--keep-going", "--nocolor", "--rerun-triggers", "mtime"]
    return [sys.executable, "-m", "snakemake", *plan, *where.options(), *options]


def _quiet_environment() -> dict[str, str]:
    """One thread a process: the same bytes on any number of cores, and no processes that wait for each other.

    The safe path keeps Python from importing what lies in the working folder: a ``random.py`` beside somebody's data.
    """
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS", "NUMEXPR")}
    quiet = {"ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1", "TQDM_DISABLE": "1"}
    return {**os.environ, **threads, **quiet, "PYTHONSAFEPATH": "1"}


@contextmanager
def _writable_home() -> Iterator[dict[str, str]]:
    """Yield settings that give Jupyter and Snakemake a home for their notes where the user's cannot be written."""
    if _home_can_be_written():
        yield {}
    else:
        with tempfile.TemporaryDirectory(prefix="rps-home-") as home:
            yield {"HOME": home, **{f"XDG_{kind}_HOME": f"{home}/{kind}" for kind in ("CACHE", "CONFIG", "DATA")}}


def _home_can_be_written() -> bool:
    try:
        with tempfile.TemporaryDirectory(dir=Path.home(), prefix=".rps-"):
            return True
    except (OSError, RuntimeError):  # not there, no folder, not ours, a full or read-only disk; or no home at all
        return False


def _what_failed(run: Path, steps: Sequence[Step], failed: Mapping[str, str], log: Path) -> str:
    """Say which steps failed, why and where to look; where none did, what the engine said last."""
    if not failed:
        said = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        return "\n".join(["the workflow engine failed:", *said[-12:], f"all that it said: {log}"])
    lines = []
    for step in steps:
        if step.name in failed:
            copy = RunFolder(run).notebooks / f"{step.name}.ipynb"
            lines += [f"  {failed[step.name]}", f"    look at {copy if ' in cell ' in failed[step.name] else log}"]
    return "\n".join([f"{len(failed)} of {len(steps)} steps failed; what is done is kept:", *lines])


class Progress:
    """What a reader sees while the engine works: a line for each event, and in a terminal a bar with the time left.

    Parameters
    ----------
    todo : sequence of Decision
        Steps that run or wait. How long each took the last time makes the estimate.
    """

    def __init__(self, todo: Sequence[Decision]) -> None:
        known = [d.seconds for d in todo if d.seconds]
        usual = sum(known) / len(known) if known else UNKNOWN_S
        self._seconds = {d.step.name: d.seconds or usual for d in todo}
        self._started: dict[str, float] = {}
        self._ended: set[str] = set()

    def follow(self, lines: Iterable[str], log: TextIO) -> dict[str, str]:
        """Show the events among the lines of the engine, write all lines to a log, and return those of failures."""
        failed: dict[str, str] = {}
        with tqdm(total=sum(self._seconds.values()), bar_format=BAR, disable=None) as bar, self._ticking(bar):
            for line in lines:
                log.write(line)
                log.flush()
                event = EVENT.fullmatch(line.strip())
                if event and event["step"] in self._seconds:
                    self._enter(event["step"], event["said"])
                    bar.write(f"[{len(self._ended):2d}/{len(self._seconds)}] {line.strip()}")
                    sys.stdout.flush()  # a log is read while the run goes on
                    self._show(bar)
                    failed.pop(event["step"], None)  # the engine tried again
                    if event["said"] == "failed":
                        failed[event["step"]] = line.strip()
        return failed

    def _enter(self, step: str, said: str) -> None:
        if said == "started":
            self._started[step] = time.monotonic()
        else:
            self._started.pop(step, None)
            self._ended.add(step)

    def _show(self, bar: tqdm) -> None:
        now = time.monotonic()
        running = dict(self._started)
        under_way = sum(min(now - start, self._seconds[name]) for name, start in running.items())
        bar.n = sum(self._seconds[name] for name in self._ended) + under_way
        waiting = len(self._seconds) - len(self._ended) - len(running)
        bar.set_description_str(f"| runs {', '.join(running) or '–'} | {waiting} wait")

    @contextmanager
    def _ticking(self, bar: tqdm, every_s: float = 1.0) -> Iterator[None]:
        """Keep the bar moving while nothing happens."""
        stop = threading.Event()

        def tick() -> None:
            while not stop.wait(every_s):
                self._show(bar)

        if not bar.disable:
            threading.Thread(target=tick, daemon=True).start()
        try:
            yield
        finally:
            stop.set()
