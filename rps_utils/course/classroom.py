"""A cohort for a class, and its key: ``python -m rps_utils.course.classroom COHORT STUDENTS KEY SEED``.

The cohort as it was rendered knows the truth: in a table, in a column of its manifest, in reference maps. Students get
the images, the masks, and a manifest without these; the key holds what follows from the truth.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import nbformat
import pandas as pd

from rps_utils.course.labs import LABS
from rps_utils.course.student import write_student_notebooks
from rps_utils.files import write_csv, write_text
from rps_utils.survival.concordance import harrell_c
from rps_utils.survival.curves import survival_at

COHORT_TABLE, TRUTH_TABLE = "data_manifest.csv", "truth.csv"
TELLS = ("risk_Oracle", "reference_map", "reference_map_sha256")
KEY_MONTHS = (12, 36, 60)
SEED_LINE = re.compile(r"^seed = \d+", re.MULTILINE)


def hand_out(cohort: Path, students: Path, seed: int) -> None:
    """Write what students get: images, masks, a manifest without the truth, and the labs with their seed."""
    manifest = pd.read_csv(cohort / COHORT_TABLE, dtype=str, keep_default_na=False)
    for name in [*manifest["image"], *manifest["mask"]]:
        target = students / "data" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(cohort / name, target)
    write_csv(manifest.drop(columns=[c for c in TELLS if c in manifest]), students / "data" / COHORT_TABLE)
    for path in write_student_notebooks(LABS, students / "labs"):
        set_seed(path, seed)


def set_seed(path: Path, seed: int) -> None:
    """Give a notebook the seed of the class, in its cell of parameters."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            cell.source = SEED_LINE.sub(f"seed = {seed}", cell.source)
    write_text(nbformat.writes(notebook) + "\n", path)


def answers(cohort: Path) -> pd.DataFrame:
    """Return what the truth says of a cohort.

    Returns
    -------
    DataFrame
        ``split, patients, recurrences, c_truth`` (Harrell's C of the true log hazard), ``km_12, km_36, km_60``
        (Kaplan-Meier LRFS; empty where nobody is watched so long); one row a part, and one for all.
    """
    manifest = pd.read_csv(cohort / COHORT_TABLE).merge(
        pd.read_csv(cohort / TRUTH_TABLE)[["patient_id", "eta"]], on="patient_id"
    )
    parts = {"all": manifest, **dict(iter(manifest.groupby("split")))}
    return pd.DataFrame([{"split": name, **_answers(part)} for name, part in parts.items()])


def _answers(part: pd.DataFrame) -> dict[str, float | None]:
    time, event = part["time_months"].to_numpy(), part["event"].to_numpy() == 1
    found: dict[str, float | None] = {"patients": len(part), "recurrences": int(event.sum())}
    found["c_truth"] = round(harrell_c(time, event, part["eta"].to_numpy()), 3) if event.any() else None
    watched: dict[str, float | None] = {
        f"km_{t}": round(survival_at(time, event, t), 3) if (time >= t).any() else None for t in KEY_MONTHS
    }
    return found | watched


def main() -> None:
    """Write the students' folder and the key of a rendered cohort; what is there is never overwritten."""
    if len(sys.argv) != 5 or not sys.argv[4].isdecimal():
        sys.exit("use: python -m rps_utils.course.classroom COHORT STUDENTS KEY SEED")
    cohort, students, key = map(Path, sys.argv[1:4])
    if students.exists() or (key / "answers.csv").exists():
        sys.exit(f"{students} or the key in {key} is there: move it away, or name another GROUP")
    hand_out(cohort, students, int(sys.argv[4]))
    write_csv(answers(cohort), key / "answers.csv")
    print(f"for the students: {students}; the key, which stays with you: {key}")


if __name__ == "__main__":
    main()
