"""Do one step, for the workflow engine: execute its notebook in a run folder and record what it was made from."""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rps_utils.files import file_sha256, read_json, whole_file, write_json, write_text
from rps_utils.machine.engines import WRITTEN
from rps_utils.run_folder import RunFolder
from rps_utils.runs.freshness import WORKSHOP, fingerprint, matching, read_record, reasons, record_path
from rps_utils.runs.record import keep_costs
from rps_utils.sources import Contents, relative_name, text_sha256
from rps_utils.steps import Step

QUIET_KERNEL = {
    "kernel_name": "python3",
    "progress_bar": False,
    # Jupyter interrupts a kernel before it asks it to end, and a sound one calls that an error: "KeyboardInterrupt
    # caught in kernel". What a kernel dies of is no log line and is still told.
    "extra_arguments": ["--IPKernelApp.log_level=CRITICAL"],
}


def do_step(step: Step, parameters: Mapping[str, Any], run: Path, n_jobs: int) -> str:
    """Bring one step up to date; every step before it is.

    Parameters
    ----------
    step : Step
    parameters : mapping
        Its parameters.
    run : Path
        Run folder.
    n_jobs : int
        Processes that it may use.

    Returns
    -------
    str
        What was done, in words.

    Raises
    ------
    papermill.PapermillExecutionError
        A cell raised an error.
    RuntimeError
        A module failed, or a file that the notebook declares to write was not written.
    """
    keep_costs(run)
    contents = Contents(run / WORKSHOP / "hashes.json")
    made_from = fingerprint(step, parameters, run, contents)
    why = reasons(read_record(run, step), made_from, run, contents)
    if not why:
        return "reused: what it reads came out the same"
    print(f"{step.name:24s} started: {why[0]}", flush=True)
    record_path(run, step).unlink(missing_ok=True)
    written = run / WORKSHOP / "written" / f"{step.name}.txt"
    _forget_work_of_other_code(written, text_sha256([made_from["code"], made_from["packages"]]))
    started = time.time()
    with _listing_files(written):
        _work(step, parameters, run, n_jobs)
    cost = {"seconds": round(time.time() - started, 1), "peak_mib": _largest_process_mib()}
    write_json({**cost, "made_from": made_from, "made": _made(step, run, written)}, record_path(run, step))
    return f"done in {cost['seconds']:.0f} s, {cost['peak_mib']} MiB"


def _forget_work_of_other_code(written: Path, code: str) -> None:
    """Remove what a step wrote by other code than today's, so that nothing it keeps for later (features, networks) is.

    The first line of the list names the code, the others the files. What a stopped step wrote by the same code stays.
    """
    first = written.read_text(encoding="utf-8").partition("\n")[0] if written.is_file() else code
    if first != code:
        for path in (*_listed_files(written), *_lists(written)[1:]):
            path.unlink()
    if first != code or not written.is_file():
        write_text(f"{code}\n", written)


def _listed_files(written: Path) -> list[Path]:
    """Return the files of the run folder in a list that are there."""
    run = written.parents[2].resolve()
    names = [name for kept in _lists(written) for name in kept.read_text(encoding="utf-8").splitlines()]
    paths = {(written.parent / name).resolve() for name in names}
    return sorted(path for path in paths if path.is_relative_to(run) and path.is_file())


def _lists(written: Path) -> list[Path]:
    """Return the list of a step, and those that workers elsewhere keep beside it."""
    return [written, *sorted(written.parent.glob(f"{written.stem}@*{written.suffix}"))]


@contextmanager
def _listing_files(written: Path) -> Iterator[None]:
    """Have every file that is finished in the block, in whatever process, entered in a list."""
    os.environ[WRITTEN] = str(written)
    try:
        yield
    finally:
        del os.environ[WRITTEN]


def _work(step: Step, parameters: Mapping[str, Any], run: Path, n_jobs: int) -> None:
    if step.notebook:
        execute(step.notebook, parameters, run, n_jobs)
        return
    done = subprocess.run([sys.executable, "-m", step.module, str(run)], capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        raise RuntimeError(done.stderr.strip().rpartition("\n")[2])


def execute(notebook: Path, parameters: Mapping[str, Any], run: Path, n_jobs: int) -> Path:
    """Execute a notebook into ``RUN/notebooks``, and return the executed copy.

    The copy appears when the notebook has ended, whole; that of a notebook that failed shows how far it came.

    Raises
    ------
    papermill.PapermillExecutionError
        A cell raised an error.
    """
    import papermill

    given = {**parameters, "run_dir": str(run)} | ({"n_jobs": n_jobs} if "n_jobs" in parameters else {})
    place, failure = RunFolder(run).notebooks / notebook.name, None
    with whole_file(place) as partial:
        as_they_are = [
            str(path).replace("{", "{{").replace("}", "}}") for path in (notebook, partial)
        ]  # it fills in paths
        try:
            papermill.execute_notebook(*as_they_are, given, cwd=notebook.parent, **QUIET_KERNEL)
        except papermill.PapermillExecutionError as error:
            failure = error
    if failure:
        raise failure
    return place


def _made(step: Step, run: Path, written: Path) -> dict[str, str | None]:
    """Return the hash of each file of the run folder that a step wrote; its executed copy must only be there."""
    lacking = [path.name for path in matching(run, step.writes) if not path.is_file()]
    if lacking:
        raise RuntimeError(f"it declares to write {', '.join(lacking)}, and did not")
    paths = {*matching(run, step.writes), *_listed_files(written)}
    made: dict[str, str | None] = {relative_name(path, run): file_sha256(path) for path in sorted(paths)}
    return made | ({f"notebooks/{step.notebook.name}": None} if step.notebook else {})


def _largest_process_mib() -> int:
    """Return the peak memory of the largest process that this one started; the engine samples all of them together."""
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return peak // (2**20 if sys.platform == "darwin" else 2**10)


def main() -> None:
    """Do one step of the plan in the run folder around the working folder; say what was done in one line."""
    parser = argparse.ArgumentParser(prog="python -m rps_utils.runs.notebook", description=main.__doc__)
    parser.add_argument("step", help="name of a step in the plan")
    parser.add_argument("--n-jobs", type=int, default=1)
    asked = parser.parse_args()
    # As it is imported, with papermill, this one builds a grammar of addresses in all alphabets: more than a second for
    # a check that notebooks do not ask for. Its importer does without where it is not there.
    sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]
    run = Path.cwd().parents[1]
    plan = read_json("plan.json")
    told = next(step for step in plan["steps"] if step["name"] == asked.step)
    step = Step(**{**told, "notebook": Path(told["notebook"]) if told["notebook"] else None})
    try:
        said = do_step(step, plan["parameters"].get(step.name, {}), run, asked.n_jobs)
    except Exception as error:
        traceback.print_exc()
        print(f"{step.name:24s} failed{_place_and_cause(error)}", flush=True)
        sys.exit(1)
    print(f"{step.name:24s} {said}", flush=True)


def _place_and_cause(error: Exception) -> str:
    from papermill.exceptions import PapermillExecutionError

    if isinstance(error, PapermillExecutionError):
        return f" in cell {error.exec_count}: {error.ename}: {_one_line(error.evalue)}"
    if "Kernel died before" in str(error):
        return f": the kernel of the notebook does not start: {_why_no_kernel()}"
    return f": {_one_line(f'{type(error).__name__}: {error}')}"


def _why_no_kernel() -> str:
    """Ask the kernel's program for its version: what keeps it from starting keeps it from answering, and is told."""
    asked = [sys.executable, "-m", "ipykernel_launcher", "--version"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    said = done.stderr.strip().rpartition("\n")[2] if done.returncode else ""
    return _one_line(said) or "it ended without a word; install this repository again, with make install"


def _one_line(text: str) -> str:
    return " ".join(text.split())[:500]


if __name__ == "__main__":
    main()
