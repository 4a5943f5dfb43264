"""Parameters: what the notebooks have, and what the user may ask for."""

import re

import pytest

from rps_utils.runs.parameters import (
    PROFILES,
    UsageError,
    check_parameters,
    choose_parameters,
    chosen_value,
    default_parameters,
    parse_parameter,
)
from rps_utils.steps import DeclarationError, read_steps

from .conftest import write_notebook


@pytest.fixture
def steps(tmp_path, monkeypatch):
    """Two notebooks with a parameters cell each."""
    cells = {
        "01_a": "run_dir = '.'\nepochs: int = 30  # passes\nlandmarks = [12, 36]\n",
        "02_b": "run_dir = '.'\nlandmarks = [12, 36]\nridge = 0.1\n",
    }
    for name, source in cells.items():
        write_notebook(tmp_path, name, {"writes": [f"{name}.csv"]}, source)
    monkeypatch.setitem(PROFILES, "quick", {"epochs": 3})
    return read_steps(tmp_path)


def test_profile_and_wish_reach_the_notebooks_that_know_them(steps):
    chosen = choose_parameters(steps, "quick", {"landmarks": [24], "ridge": 1})
    assert chosen == {
        "01_a": {"run_dir": ".", "epochs": 3, "landmarks": [24]},
        "02_b": {"run_dir": ".", "landmarks": [24], "ridge": 1},
    }
    assert chosen_value(chosen, "ridge") == 1
    assert chosen_value(chosen, "manifest") is None


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"epoch": 5}, "-p epoch: there is no such parameter; there are epochs, landmarks, ridge, run_dir"),
        ({"epochs": "many"}, r"-p epochs='many': expected int, as in the default 30"),
        ({"landmarks": 12}, "-p landmarks=12: expected list"),
    ],
    ids=["unknown name", "text for a number", "number for a list"],
)
def test_a_wrong_parameter_is_refused_before_anything_runs(steps, asked, message):
    with pytest.raises(UsageError, match=message):
        choose_parameters(steps, "paper", asked)


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


@pytest.mark.parametrize("line", ["a = 1 + n", "import os", "a = b = 1", "a.b = 1", "a ="])
def test_the_parameters_of_a_notebook_are_independent_literals(tmp_path, line):
    path = write_notebook(tmp_path, "01_a", {}, line)
    with pytest.raises(DeclarationError, match=r"01_a\.ipynb: the cell of parameters holds more than NAME = literal"):
        default_parameters(path)


@pytest.mark.parametrize(
    ("injected", "message"),
    [
        ({"sead": 7}, "-p sead: there is no such parameter; there are run_dir, seed"),
        ({"seed": "hello"}, "-p seed='hello': expected int, as in the default 2026"),
        ({"seed": -1}, "seed = -1; allowed: "),
    ],
    ids=["unknown", "of another type", "out of range"],
)
def test_a_notebook_refuses_what_it_does_not_know(injected, message):
    fresh = {"In": ["", "seed = 2026"], "Out": {}, "run_dir": "x", "seed": 2026, "NAME": "an import", "print": print}
    check_parameters("17_bug_hunt", fresh)
    with pytest.raises(UsageError, match=re.escape(message)):
        check_parameters("17_bug_hunt", fresh | injected)


def test_names_of_later_cells_are_the_notebooks_own():
    check_parameters("17_bug_hunt", {"In": ["", *"abcde"], "run_dir": "x", "seed": 2026, "draw": "anything"})
