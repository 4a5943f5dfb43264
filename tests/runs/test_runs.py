import json
import subprocess
import sys
import threading
import tomllib

import pytest

from rps_utils.runs import steps
from rps_utils.runs.chain import only_run_in
from rps_utils.runs.notebook import watch_memory
from rps_utils.runs.parameters import PROFILES, choose_parameters, default_parameters, parse_parameter
from rps_utils.runs.steps import NOTEBOOKS, PACKAGE, STEPS, UsageError
from rps_utils.files import write_json


@pytest.fixture
def notebooks(tmp_path, monkeypatch):
    """Two notebooks with a parameters cell each."""
    cells = {
        "a": "run_dir = '.'\nepochs = 30\nlandmarks = [12, 36]\n",
        "b": "run_dir = '.'\nlandmarks = [12, 36]\nridge = 0.1\n",
    }
    for name, source in cells.items():
        cell = {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": [source], "outputs": []}
        write_json({"cells": [cell]}, tmp_path / f"{name}.ipynb")
    monkeypatch.setattr(steps, "NOTEBOOKS", tmp_path)
    monkeypatch.setitem(PROFILES, "quick", {"epochs": 3})
    return ["a", "b"]


def test_profile_and_wish_reach_the_notebooks_that_know_them(notebooks):
    chosen = choose_parameters(notebooks, "quick", {"landmarks": [24], "ridge": 1})
    assert chosen == {
        "a": {"run_dir": ".", "epochs": 3, "landmarks": [24]},
        "b": {"run_dir": ".", "landmarks": [24], "ridge": 1},
    }


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"epoch": 5}, "-p epoch: no notebook has this parameter; there are epochs, landmarks, ridge, run_dir"),
        ({"epochs": "many"}, r"-p epochs='many': expected int, as in the default 30"),
        ({"landmarks": 12}, "-p landmarks=12: expected list"),
    ],
    ids=["unknown name", "text for a number", "number for a list"],
)
def test_a_wrong_parameter_is_refused_before_anything_runs(notebooks, asked, message):
    with pytest.raises(UsageError, match=message):
        choose_parameters(notebooks, "paper", asked)


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("epochs=5", ("epochs", 5)),
        ("landmarks=[12, 24]", ("landmarks", [12, 24])),
        ("network=resnet10", ("network", "resnet10")),
        ("clinical_columns=['age']", ("clinical_columns", ["age"])),
    ],
)
def test_parameters_are_read_as_literals(text, parsed):
    assert parse_parameter(text) == parsed


def test_a_parameter_without_a_value_is_refused():
    with pytest.raises(UsageError, match="expected NAME=VALUE"):
        parse_parameter("epochs")


def test_two_runs_never_share_a_folder(tmp_path):
    with only_run_in(tmp_path), pytest.raises(UsageError, match="is running in"), only_run_in(tmp_path):
        pass
    assert not (tmp_path / ".running").exists()


def test_a_mark_left_by_a_killed_run_is_no_obstacle(tmp_path):
    (tmp_path / ".running").write_text("999999999")
    with only_run_in(tmp_path):
        pass


def test_every_file_that_a_step_reads_is_written_by_an_earlier_one():
    written = set()
    for step in STEPS:
        assert set(step.reads) <= written, step.name
        written |= set(step.writes)


def test_the_chain_is_the_notebooks_in_the_repository():
    found = sorted(p.stem for p in NOTEBOOKS.glob("*.ipynb"))
    assert [s.name for s in STEPS] == found
    for profile in PROFILES.values():
        known = set().union(*(default_parameters(name) for name in found))
        assert set(profile) <= known


def test_one_name_means_one_default_in_all_notebooks():
    defaults = {}
    for step in STEPS:
        for name, value in default_parameters(step.name).items():
            assert defaults.setdefault(name, value) == value, (step.name, name)


def test_memory_is_watched(tmp_path):
    with watch_memory(every=0.01) as peak:
        block = bytearray(200 * 2**20)
        block[::4096] = b"x" * len(block[::4096])
        threading.Event().wait(0.3)
    assert peak["mib"] > 200


def test_conda_and_pip_install_the_same_set():
    root = PACKAGE.parent
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    pinned = project["dependencies"] + project["optional-dependencies"]["test"]
    lines = (root / "environment.yml").read_text().split("- pip:\n")[1].splitlines()
    assert [line.strip().removeprefix("- ") for line in lines if line.strip()] == [*pinned, "-e ."]


def test_importing_the_metrics_loads_no_network_library():
    code = "import sys, json, rps_utils.evaluation, rps_utils.report; print(json.dumps([m for m in sys.modules]))"
    loaded = json.loads(subprocess.check_output([sys.executable, "-c", code]))
    assert not {"torch", "monai", "radiomics", "SimpleITK"} & set(loaded)
