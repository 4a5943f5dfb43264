"""Every statistic against R: 4,537 values of four public data sets and a hand-made one full of ties."""

import csv
import importlib.util
import math
from collections import defaultdict
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "reference"
TOLERANCE = {"exact": (1e-8, 1e-8), "iter": (1e-7, 1e-6), "spline": (1e-6, 1e-5), "se_approx": (1e-6, 1e-5)}
TOLERANCE["glmnet"] = (2e-5, 1e-4)

specification = importlib.util.spec_from_file_location("reference_compute", FOLDER / "compute.py")
compute = importlib.util.module_from_spec(specification)
specification.loader.exec_module(compute)
DATA = compute.load(FOLDER)

# Fewest values that must be compared, so that a renamed key cannot empty a test.
FEWEST = {"meta": 4, "coxph": 140, "cox_zph": 48, "concordance": 32, "td_auc": 6, "brier": 18, "ibs": 2, "dca": 198}
FEWEST |= {"riskRegression": 60, "calibration": 50, "km": 114, "logrank": 10, "paired_c": 18, "cutoff": 27}
FEWEST |= {"lasso": 50, "bootstrap": 65, "optimism": 5, "crossfit": 17, "nomogram": 53}


def read_reference():
    table = defaultdict(dict)
    with (FOLDER / "reference.csv").open(encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            name, family, _ = row["key"].split("/", 2)
            table[name, family][row["key"]] = row
    return table


REFERENCE = read_reference()
COMPUTED = {family.__name__: family for family in compute.FAMILIES}


def agrees(row, value):
    if not math.isfinite(value):
        return row["value"] == "" or row["accept_null"] == "1"
    a, r = TOLERANCE[row["kind"]]
    return row["value"] != "" and abs(value - float(row["value"])) <= a + r * abs(float(row["value"]))


@pytest.mark.parametrize(("name", "family"), [key for key in REFERENCE if key[1] in COMPUTED])
def test_family_agrees_with_r(name, family):
    found = compute.results(DATA[name], COMPUTED[family])
    wanted = {key: row for key, row in REFERENCE[name, family].items() if row["kind"] != "info" and key in found}
    wrong = {key: (row["value"], found[key]) for key, row in wanted.items() if not agrees(row, found[key])}
    assert not wrong
    assert len(wanted) >= min(FEWEST[family], 45 if (name, family) == ("small29_open", "calibration") else 999)


def test_a_wrong_convention_is_caught():
    """The tolerances are tight enough to tell Uno's G(T-) from G(T), and n from n - 1."""
    row = REFERENCE["veteran", "concordance"]["veteran/concordance/A_train/uno_c/R_nG2/tau=tau"]
    other = REFERENCE["veteran", "concordance"]["veteran/concordance/A_train/uno_c/G=test_right_excl/tau=tau"]
    assert agrees(row, float(row["value"])) and not agrees(row, float(other["value"]))
