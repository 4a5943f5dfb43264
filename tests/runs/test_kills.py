"""Kills while the report is written, and what `make kills` deals and damages."""

import os
import re
import subprocess
import sys
import time
from collections import Counter
from fnmatch import fnmatchcase
from random import Random

import numpy as np
import pandas as pd
import psutil
import pytest

from benchmarks.kills import HANDED_ON, KINDS, dealt, kill_family
from rps_utils.run_folder import NAMES
from rps_utils.runs.chain import closing_steps
from rps_utils.steps import read_steps

from .same_bytes import contents

# Read by every process that is started: the one that would put a file in its place waits there to be killed.
WAITS = """
import os, time
replace = os.replace
def waiting(source, target, **given):
    if os.environ.get("RPS_WAIT_AT") and str(target).endswith(os.environ["RPS_WAIT_AT"]):
        time.sleep(600)
    return replace(source, target, **given)
os.replace = waiting
"""


def test_kills_are_dealt_evenly_over_kinds_that_are_there():
    steps = [step.name for step in read_steps()] + ["report"]
    found = dealt(steps, 30, Random(1))
    assert Counter(kind for kind, _ in found) == dict.fromkeys(KINDS, 6)
    assert all(step in steps and step.startswith(KINDS[kind]) for kind, step in found)
    assert len({step for kind, step in found if kind == "evaluation"}) > 2
    assert [kind for kind, _ in dealt(steps, 3, Random(1))] == ["ingest", "radiomics", "training"]


def test_what_is_damaged_is_what_steps_write():
    steps = read_steps()
    written = [name for step in [*steps, *closing_steps(steps)] for name in step.writes]
    unknown = [p for p in HANDED_ON if not any(fnmatchcase(name, p) or fnmatchcase(p, name) for name in written)]
    assert unknown == ["features/*.json"]  # kept by a notebook for itself, patient by patient


def evaluate(folder, out, **surroundings):
    """Evaluate a small table of scores; each call gives the same command."""
    table = folder / "scores.csv"
    if not table.is_file():
        draw = np.random.default_rng(3)
        risk, time_months = draw.normal(size=40), draw.exponential(30, 40).round(1) + 1
        rows = pd.DataFrame({"patient_id": [f"P{i}" for i in range(40)], "split": "validation", "kind": "validation"})
        rows.assign(model="M", risk=risk, time_months=time_months, event=[0, 1] * 20).to_csv(table, index=False)
    command = [sys.executable, "-m", "rps_utils.cli", "evaluate", str(table), "--out", str(out), "--landmarks", "12"]
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, env={**os.environ, "PYTHONHASHSEED": "0", **surroundings}, **settings)


def finished(process):
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    return said


def report_without_costs(run):
    page = (run / NAMES["report"]).read_text()
    return re.sub(r'<section id="part-versions">.*?</section>', "", page, flags=re.DOTALL)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    finished(evaluate(folder, folder / "run"))
    return folder / "run"


@pytest.mark.chain
@pytest.mark.parametrize("name", ["report", "evidence", "record"])
def test_a_kill_in_the_report_leaves_no_half_page_and_the_next_run_makes_the_same(name, undisturbed, tmp_path):
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(WAITS)
    run, place = tmp_path / "killed", tmp_path / "killed" / NAMES[name]
    work = evaluate(tmp_path, run, PYTHONPATH=str(tmp_path / "hook"), RPS_WAIT_AT=f"killed/{NAMES[name]}")
    until = time.monotonic() + 120
    while not (partial := [*place.parent.glob(f".partial-*/{place.name}")] if place.parent.is_dir() else []):
        assert work.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    kill_family(psutil.Process(work.pid))
    work.communicate()
    assert partial[0].is_file() and not place.exists(), "killed while it was written"
    finished(evaluate(tmp_path, run))
    left = [path for path in run.rglob("*") if ".partial-" in path.name or path.name == ".running"]
    assert not left
    first, second = dict(contents(undisturbed)), dict(contents(run))
    assert [key for key in first.keys() | second.keys() if first.get(key) != second.get(key)] == []
    assert report_without_costs(run) == report_without_costs(undisturbed)
