"""Run the notebooks: which reads what, with which parameters, at what cost.

The order of the notebooks is a graph of files, stated once in `STEPS`; Snakemake (``Snakefile`` beside this
module) decides from it what is missing or out of date and what may run side by side. The notebooks know nothing
of either.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

from rps_utils.files import file_sha256, read_csv, read_json, write_csv, write_json

PACKAGE = Path(__file__).parent
NOTEBOOKS = PACKAGE.parent / "notebooks"
QUIET_KERNEL = {
    "kernel_name": "python3",
    "progress_bar": False,
    "extra_arguments": ["--IPKernelApp.log_level=ERROR"],
}
PACKAGES = [
    *("torch", "monai", "torchsurv", "lifelines", "scikit-survival", "pyradiomics-cuda", "SimpleITK", "nibabel"),
    *("numpy", "scipy", "pandas", "plotly", "papermill", "snakemake"),
]
PROFILES: dict[str, dict[str, Any]] = {
    "paper": {},
    "quick": {
        "folds": 4,
        "comparison_epochs": 2,
        "epochs": 3,
        "n_bootstrap": 200,
        "image_types": ["original"],
        "clinical_columns": ["age", "size_cm", "grade"],
    },
}


class UsageError(ValueError):
    """A command was asked for something it cannot do; the message says what it can."""


@dataclass(frozen=True)
class Step:
    """One notebook in the graph of files.

    Attributes
    ----------
    name : str
        Notebook without its extension.
    reads, writes : tuple of str
        Files of the run folder that tie it to other notebooks (it may write more).
    heavy : bool
        Computes in several processes: gets its share of the cores.
    """

    name: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    heavy: bool = False


def _evaluation(name: str) -> Step:
    return Step(name, ("scores.csv",), (f"metrics/{name}.csv",))


EVALUATION = [
    _evaluation(name)
    for name in ("07_discrimination", "08_time_dependent_roc", "09_calibration", "10_decision_curves", "11_risk_groups")
]
STEPS = [
    Step("00_start_here", (), ("tables/packages.csv",)),
    Step("01_ingest", (), ("cohort.csv", "patches.npz", "references.npz", "tables/images.csv"), heavy=True),
    Step("02_augmentation", ("cohort.csv", "patches.npz"), ("tables/augmentation.csv",)),
    Step(
        "03_deep_learning",
        ("cohort.csv", "patches.npz"),
        ("scores/DL.csv", "scores/DL_nested.csv", "scores/DL_networks.csv", "ledger/DL.json"),
        heavy=True,
    ),
    Step(
        "04_radiomics",
        ("cohort.csv", "tables/images.csv"),
        ("scores/Rad.csv", "scores/Rad_nested.csv", "ledger/Rad.json"),
        heavy=True,
    ),
    Step("05_clinical_cox", ("cohort.csv",), ("scores/Clinical.csv", "ledger/Clinical.json")),
    Step(
        "06_fusion",
        (
            "cohort.csv",
            "scores/DL.csv",
            "scores/DL_nested.csv",
            "scores/Rad.csv",
            "scores/Rad_nested.csv",
            "scores/Clinical.csv",
        ),
        ("scores.csv", "tables/fusion_hazard_ratios.csv", "ledger/DLCM.json", "ledger/RSCM.json"),
    ),
    *EVALUATION,
    Step(
        "12_paper_and_run",
        (*(name for step in EVALUATION for name in step.writes), "tables/fusion_hazard_ratios.csv"),
        ("metrics.csv", "tables/paper_and_run.csv"),
    ),
    Step("13_claim_tested", (), ("tables/claim.csv",)),
    Step(
        "14_controls",
        (
            *("cohort.csv", "patches.npz", "tables/images.csv"),
            *("scores/DL.csv", "scores/Rad.csv", "scores/Clinical.csv"),
        ),
        ("scores/Volume.csv", "ledger/Volume.json", "tables/controls_rescoring.csv"),
        heavy=True,
    ),
    Step(
        "15_explanation",
        ("cohort.csv", "patches.npz", "references.npz", "scores/DL.csv"),
        ("tables/explanation_parts.csv", "tables/explanation_failures.csv"),
        heavy=True,
    ),
    Step(
        "16_doubt",
        ("cohort.csv", "patches.npz", "tables/images.csv", "scores.csv", "scores/DL_networks.csv"),
        ("models/bounds.json", "models/likeness.json", "tables/doubt_coverage.csv", "ledger/doubt.json"),
    ),
    Step("17_bug_hunt", (), ("tables/bug_hunt.csv",)),
]


def notebook_path(name: str) -> Path:
    """Return the path of a notebook in the repository."""
    path = NOTEBOOKS / f"{name}.ipynb"
    if not path.is_file():
        raise UsageError(f"{path} is missing: install the repository with `pip install -e .` from its own folder")
    return path


def default_parameters(name: str) -> dict[str, Any]:
    """Read the literals of a notebook's cell tagged ``parameters``."""
    cells = read_json(notebook_path(name))["cells"]
    tagged = [c for c in cells if "parameters" in c["metadata"].get("tags", [])]
    assignments = ast.parse("".join(tagged[0]["source"])).body
    return {a.targets[0].id: ast.literal_eval(a.value) for a in assignments if isinstance(a, ast.Assign)}


def choose_parameters(names: Sequence[str], profile: str, asked: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Give each notebook the profile's and the user's values of the parameters that it has.

    Parameters
    ----------
    names : sequence of str
        Notebooks.
    profile : str
        ``"paper"`` (the notebooks' own defaults) or ``"quick"`` (seconds; numbers mean nothing).
    asked : mapping
        The user's values by name; one name means the same in every notebook.

    Returns
    -------
    dict
        Notebook to its parameters, those left at their default included.

    Raises
    ------
    UsageError
        A name that no notebook has, or a value of another type than the default.
    """
    defaults = {name: default_parameters(name) for name in names}
    known = {key: value for parameters in defaults.values() for key, value in parameters.items()}
    for key, value in asked.items():
        _check_parameter(key, value, known)
    chosen = {**PROFILES[profile], **asked}
    return {name: {k: chosen.get(k, v) for k, v in own.items()} for name, own in defaults.items()}


def _check_parameter(key: str, value: Any, known: Mapping[str, Any]) -> None:
    if key not in known:
        raise UsageError(f"-p {key}: no notebook has this parameter; there are {', '.join(sorted(known))}")
    default = known[key]
    fits = isinstance(value, type(default)) or (isinstance(default, float) and isinstance(value, int))
    if not fits and default is not None:
        raise UsageError(f"-p {key}={value!r}: expected {type(default).__name__}, as in the default {default!r}")


def parse_parameter(text: str) -> tuple[str, Any]:
    """Parse ``NAME=VALUE``; a value that is no Python literal is text."""
    name, sign, value = text.partition("=")
    if not (sign and name.isidentifier()):
        raise UsageError(f"-p {text}: expected NAME=VALUE")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


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
    places = ["--snakefile", str(PACKAGE / "Snakefile"), "--directory", str(run)]
    return [sys.executable, "-m", "snakemake", *places, *options, "--quiet", "all"]


def _quiet_environment() -> dict[str, str]:
    """One thread a process: the same bytes on any number of cores, and no processes that wait for each other."""
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS", "NUMEXPR")}
    return {**os.environ, **threads, "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}


def is_up_to_date(path: Path, sources: Sequence[Path]) -> bool:
    """Tell whether `path` exists and is newer than each of `sources`."""
    return path.is_file() and all(source.stat().st_mtime <= path.stat().st_mtime for source in sources)


def code_files() -> list[Path]:
    """Return the files of the package whose change makes results out of date."""
    return sorted(p for p in PACKAGE.iterdir() if p.suffix in {".py", ".html", ".css", ".json"})


def code_hash() -> str:
    """Return the SHA-256 over package and notebooks, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for path in [*code_files(), *sorted(NOTEBOOKS.glob("*.ipynb"))]:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def manifest_files(manifest: Path) -> list[Path]:
    """Return the manifest and those of the files it names that exist; the check of the rest is ingest's."""
    with manifest.open(encoding="utf-8-sig") as stream:
        table = pd.read_csv(stream, dtype=str, keep_default_na=False)
    named = [name for column in ("image", "mask", "reference_map") for name in table.get(column, [])]
    return [manifest, *(manifest.parent / name for name in named if (manifest.parent / name).is_file())]


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


def collect_metrics(run: Path) -> pd.DataFrame:
    """Stack ``RUN/metrics/*.csv`` into ``RUN/metrics.csv``, the one table of results."""
    tables = [read_csv(path) for path in sorted(run.glob("metrics/*.csv"))]
    metrics = pd.concat([t for t in tables if len(t)], ignore_index=True)
    write_csv(metrics, run / "metrics.csv")
    return metrics


def write_run_record(run: Path) -> dict[str, Any]:
    """Write ``RUN/run.json``: parameters, versions, hashes, and the time and memory of each notebook."""
    asked = read_json(run / "parameters.json")
    manifest = asked["parameters"].get("01_ingest", {}).get("manifest")
    source = Path(manifest) if manifest else run / "scores.csv"
    record = {
        "parameters": asked["parameters"],
        "seeds": sorted({p["seed"] for p in asked["parameters"].values() if "seed" in p}),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "manifest": {"file": source.name, "sha256": file_sha256(source)},
        "code_sha256": code_hash(),
        "notebooks": {p.stem: read_json(p) for p in sorted(run.glob("logs/*.json"))},
    }
    write_json(record, run / "run.json")
    return record


def main() -> None:
    """Do one piece of work for Snakemake: execute a notebook, collect the metrics, or write the report."""
    parser = argparse.ArgumentParser(prog="python -m rps_utils.runs", description=main.__doc__)
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
