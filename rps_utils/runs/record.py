"""What a run was made from and what came out: ``run.json`` and ``metrics.csv``."""

from __future__ import annotations

import csv
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from rps_utils.files import file_sha256, read_json, write_csv, write_json
from rps_utils.run_folder import NAMES, RunFolder
from rps_utils.sources import text_sha256

PACKAGES = [
    *("torch", "monai", "torchsurv", "lifelines", "scikit-survival", "pyradiomics-cuda", "SimpleITK", "nibabel"),
    *("numpy", "scipy", "pandas", "plotly", "papermill", "snakemake"),
]
CODE = ("notebook", "workflow", "code", "packages", "data")  # what `run.json` says of the sources of a step
COSTS = ".chain/engine/costs"
# What is read again from a finished run, by those who apply or audit it.
SEALED = (
    *(NAMES[name] for name in ("cohort", "patches", "features", "scores", "metrics")),
    "tables/images.csv",
    *("tables/risk_groups_cutoffs.csv", "scores/*.csv", "metrics/*.csv", "ledger/*.json"),
    *("models/*.json", "models/*.safetensors"),
)


def collect_metrics(folder: str | os.PathLike[str]) -> pd.DataFrame:
    """Stack ``RUN/metrics/*.csv`` into ``RUN/metrics.csv``, the one table of results."""
    run = RunFolder(folder)
    metrics = pd.concat([t for t in run.read_metric_parts() if len(t)], ignore_index=True)
    write_csv(metrics, run.metrics)
    return metrics


def keep_costs(run: Path) -> None:
    """Enter the peak memory that the workflow engine measured in the logs of the steps that are done."""
    for path in sorted((run / COSTS).glob("*.tsv")):
        log = RunFolder(run).logs / f"{path.stem}.json"
        peak = _measured_mib(path)
        if log.is_file() and (told := read_json(log)).get("peak_mib", 0) < peak:
            write_json({**told, "peak_mib": peak}, log)


def _measured_mib(benchmark: Path) -> int:
    """Return the largest resident memory (MiB) of a step and all it started; 0 where it was too short to measure."""
    with benchmark.open(encoding="utf-8") as stream:
        peaks = [row["max_rss"] for row in csv.DictReader(stream, delimiter="\t")]
    return max((int(float(peak)) for peak in peaks if peak not in ("NA", "-")), default=0)


def sealed_files(run: str | Path) -> dict[str, str]:
    """Return the SHA-256 of each file that is read again from a finished run, by its place in the folder."""
    run = Path(run)
    paths = sorted(path for name in SEALED for path in run.glob(name) if path.is_file())
    return {path.relative_to(run).as_posix(): file_sha256(path) for path in paths}


def write_run_record(run: Path) -> dict[str, Any]:
    """Write ``RUN/run.json``: parameters, versions, hashes of its files, and of each notebook its cost and sources."""
    keep_costs(run)
    asked = read_json(RunFolder(run).parameters)
    logs = {name: read_json(RunFolder(run).logs / f"{name}.json") for name in sorted(asked["steps"])}
    sources = {name: {part: log["made_from"][part] for part in CODE} for name, log in logs.items()}
    record = {
        "parameters": asked["parameters"],
        "seeds": sorted({p["seed"] for p in asked["parameters"].values() if "seed" in p}),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "manifest": _manifest(run, asked["parameters"], logs),
        "files": sealed_files(run),
        "code_sha256": text_sha256(sources),
        "notebooks": {
            name: {"seconds": log["seconds"], "peak_mib": log["peak_mib"], "sources": sources[name]}
            for name, log in logs.items()
        },
    }
    write_json(record, RunFolder(run).record)
    return record


def _manifest(run: Path, parameters: dict[str, Any], logs: dict[str, Any]) -> dict[str, str]:
    """Return name and hash of the manifest that was read and the hash of its images; else of the table of scores."""
    for step, own in parameters.items():
        if "manifest" in own and step in logs:
            name, read = Path(own["manifest"]).name, dict(logs[step]["made_from"]["manifest"])
            return {"file": name, "sha256": read.pop(name), "images_sha256": text_sha256(read)}
    return {"file": NAMES["scores"], "sha256": file_sha256(RunFolder(run).scores)}


if __name__ == "__main__":
    collect_metrics(Path(sys.argv[1]))
