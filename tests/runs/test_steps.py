"""The graph of files, as the notebooks declare it."""

from fnmatch import fnmatchcase

import pytest

from rps_utils.files import write_text
from rps_utils.runs.parameters import PROFILES, default_parameters
from rps_utils.steps import DeclarationError, in_order, part_of, read_steps, writers

from .conftest import write_notebook

WRITES_A = {"writes": ["a.csv"]}


def declare(folder, **declared):
    for name, told in declared.items():
        write_notebook(folder, f"{name[1:]}_x", told, "run_dir = '.'\n")


def test_the_order_follows_from_the_files_and_not_from_the_numbers(tmp_path):
    declare(tmp_path, n01={"reads": ["b/*.csv"], "writes": ["a.csv"]}, n02={"writes": ["b/1.csv"], "part": "late"})
    write_notebook(tmp_path, "draft", None, "run_dir = '.'\n")  # no number: no step
    steps = read_steps(tmp_path)
    assert [step.name for step in steps] == ["01_x", "02_x"]
    assert [step.name for step in in_order(steps)] == ["02_x", "01_x"]
    assert writers(steps[0], steps) == ["02_x"]
    assert part_of(steps, "late") == (steps[1],)


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"n01": None}, r'01_x\.ipynb: its metadata need "rps", for example'),
        ({"n01": ["a.csv"]}, r"01_x\.ipynb: \"rps\" is \['a\.csv'\], allowed is an object with reads, writes"),
        ({"n01": {**WRITES_A, "write": []}}, r'01_x\.ipynb: "rps" has "write", allowed are reads, writes, data'),
        ({"n01": {"writes": "a.csv"}}, r'01_x\.ipynb: "writes" is \'a\.csv\', allowed is a list'),
        ({"n01": {**WRITES_A, "heavy": 1}}, r'01_x\.ipynb: "heavy" is 1, allowed is a bool'),
        ({"n01": {"writes": [1]}}, r'01_x\.ipynb: "writes" has 1, allowed are files below the folder'),
        ({"n01": {"writes": ["../a.csv"]}}, r'01_x\.ipynb: "writes" has \'\.\./a\.csv\', allowed are files below'),
        ({"n01": {"reads": []}}, r'01_x\.ipynb: "writes" names no file'),
        ({"n01": WRITES_A, "n02": WRITES_A}, r"02_x\.ipynb: 01_x writes a\.csv too; a file has one writer"),
        ({"n01": WRITES_A, "n02": {"writes": ["*.csv"]}}, r"02_x\.ipynb: 01_x writes a\.csv too"),
        ({"n01": {**WRITES_A, "reads": ["b.csv"]}}, r"01_x\.ipynb: no notebook writes b\.csv, which it reads"),
        ({"n01": {**WRITES_A, "reads": ["a.csv"]}}, r"in a circle: 01_x -> 01_x"),
        (
            {"n01": {**WRITES_A, "reads": ["b"]}, "n02": {"writes": ["b"], "reads": ["a.csv"]}},
            r"circle: 0._x -> 0._x -> 0._x",
        ),
        ({}, r"holds no numbered notebook"),
    ],
    ids=[
        *(
            "missing",
            "no object",
            "unknown key",
            "text for a list",
            "number for a bool",
            "number for a file",
            "outside",
        ),
        *(
            "writes nothing",
            "two writers",
            "two writers by pattern",
            "nobody writes",
            "reads itself",
            "circle",
            "empty",
        ),
    ],
)
def test_a_declaration_that_makes_no_graph_is_refused_with_its_notebook(tmp_path, declared, message):
    declare(tmp_path, **declared)
    with pytest.raises(DeclarationError, match=message):
        read_steps(tmp_path)


def test_a_file_that_is_no_notebook_is_named(tmp_path):
    write_text("{", tmp_path / "01_x.ipynb")
    with pytest.raises(DeclarationError, match=r"01_x\.ipynb cannot be read as a notebook"):
        read_steps(tmp_path)


def test_each_notebook_of_the_repository_reads_what_earlier_ones_write():
    written = set()
    for step in read_steps():
        named = [name for name in step.reads if "*" not in name]
        assert all(any(fnmatchcase(name, other) for other in written) for name in named), step.name
        assert set(writers(step, read_steps())) <= {s.name for s in read_steps() if s.name < step.name}
        written |= set(step.writes)
    assert [step.name[:2] for step in part_of(read_steps(), "evaluation")] == ["07", "08", "09", "10", "11"]


def test_profiles_name_parameters_that_exist_and_one_name_has_one_default():
    defaults = {}
    for step in read_steps():
        for name, value in default_parameters(step.notebook).items():
            assert defaults.setdefault(name, value) == value, (step.name, name)
    for profile in PROFILES.values():
        assert set(profile) <= set(defaults)
