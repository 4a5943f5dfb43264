"""The tables of levels, powers and coverage in ``results/``, and how they are made anew."""

from __future__ import annotations

from pathlib import Path

from rps_utils.files import write_csv
from rps_utils.lab.levels.competing import competing_coverage
from rps_utils.lab.levels.coverage import calibration_tests, coverage_table
from rps_utils.lab.levels.curves import curve_table
from rps_utils.lab.levels.imputation import imputation_table
from rps_utils.lab.levels.pooling import pooling_table
from rps_utils.lab.levels.predictor import level_table


def make_level_tables(folder: Path, n_jobs: int = 1) -> None:
    """Write the tables of a folder that are not there yet: about twenty minutes of one core from nothing."""
    plans = {
        "coverage.csv": lambda: coverage_table(),
        "calibration_tests.csv": lambda: calibration_tests(2000),
        "competing.csv": lambda: competing_coverage(),
        "curves.csv": lambda: curve_table(),
        "imputation.csv": lambda: imputation_table(n_jobs=n_jobs),
        "pooling.csv": lambda: pooling_table(500),
        "predictor.csv": lambda: level_table(n_jobs=n_jobs),
    }
    for name, make in plans.items():
        if not (folder / name).is_file():
            write_csv(make().round(4), folder / name)
