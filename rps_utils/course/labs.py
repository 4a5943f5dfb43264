"""Every lab with its solutions, executed, and a record: ``python -m rps_utils.course.labs RECORD SEED [FOLDER]``."""

from __future__ import annotations

import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

import pandas as pd
import papermill

from rps_utils.files import write_csv
from rps_utils.steps import NOTEBOOKS

LABS = NOTEBOOKS / "labs"
RECORDED = ("numpy", "pandas", "torch", "papermill")


def execute_labs(destination: Path, seed: int) -> pd.DataFrame:
    """Execute all labs on the cohort of a class and return what it took.

    Parameters
    ----------
    destination : Path
        Where the executed notebooks go.
    seed : int
        Of the class.

    Returns
    -------
    DataFrame
        ``lab, seed, seconds``; the first lab whose check fails raises papermill's error.
    """
    rows = []
    for path in sorted(LABS.glob("*.ipynb")):
        begin = monotonic()
        papermill.execute_notebook(
            path, destination / path.name, parameters={"seed": seed}, cwd=LABS, progress_bar=False
        )
        rows.append((path.stem, seed, round(monotonic() - begin)))
    return pd.DataFrame(rows, columns=["lab", "seed", "seconds"])


def with_versions(took: pd.DataFrame) -> pd.DataFrame:
    """Add to what the labs took the day and the versions they ran with."""
    versions = {name: version(name) for name in RECORDED}
    return took.assign(date=datetime.now(UTC).date().isoformat(), python=platform.python_version(), **versions)


def main() -> None:
    """Execute the labs, write the record, and say how long they took."""
    if len(sys.argv) not in (3, 4) or not sys.argv[2].isdecimal():
        sys.exit("use: python -m rps_utils.course.labs RECORD SEED [FOLDER], SEED a whole number from 0")
    with TemporaryDirectory() as spare:
        folder = Path(sys.argv[3] if len(sys.argv) == 4 else spare)
        folder.mkdir(parents=True, exist_ok=True)
        took = with_versions(execute_labs(folder, int(sys.argv[2])))
    write_csv(took, Path(sys.argv[1]))
    print(took[["lab", "seconds"]].to_string(index=False))


if __name__ == "__main__":
    main()
