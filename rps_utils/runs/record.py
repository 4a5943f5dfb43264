"""What a run was made from and what came out: ``run.json`` and ``metrics.csv``."""

from __future__ import annotations

import hashlib
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from rps_utils.files import file_sha256, read_csv, read_json, write_csv, write_json
from rps_utils.runs.steps import NOTEBOOKS, PACKAGE

PACKAGES = [
    *("torch", "monai", "torchsurv", "lifelines", "scikit-survival", "pyradiomics-cuda", "SimpleITK", "nibabel"),
    *("numpy", "scipy", "pandas", "plotly", "papermill", "snakemake"),
]


def code_files() -> list[Path]:
    """Return the files of the package whose change makes results out of date."""
    return sorted(p for p in PACKAGE.rglob("*") if p.suffix in {".py", ".html", ".css", ".json"})


def code_hash() -> str:
    """Return the SHA-256 over package and notebooks, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for path in [*code_files(), *sorted(NOTEBOOKS.glob("*.ipynb"))]:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


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
