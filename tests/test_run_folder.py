"""One module names the files of a run folder, and says who writes what is missing."""

import ast
import json
import re
from pathlib import Path

import pandas as pd
import pytest

from rps_utils.run_folder import MODELS, TABLE_NAMES, RunFolder, beside_notebooks
from rps_utils.steps import NOTEBOOKS

CELLS = {
    path.stem: "\n".join(
        "".join(cell["source"])
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
        if cell["cell_type"] == "code"
    )
    for path in sorted(NOTEBOOKS.glob("*.ipynb"))
}


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda run: run.table("table_1"), "'table_1' is no table of a run"),
        (lambda run: run.model("dl_cx"), "'dl_cx' is no model of a run"),
        (lambda run: run.workshop("tmp"), "'tmp' is no folder of a run; allowed: controls, study, bug_hunt"),
    ],
    ids=["table", "model", "folder"],
)
def test_a_name_that_is_not_listed_is_refused(tmp_path, ask, message):
    with pytest.raises(ValueError, match=message):
        ask(RunFolder(tmp_path))


@pytest.mark.parametrize(
    ("read", "file", "writer"),
    [
        (RunFolder.read_cohort, "cohort.csv", "01_ingest"),
        (RunFolder.read_scores, "scores.csv", "06_fusion"),
        (lambda run: run.read_part("Rad"), "Rad.csv", "04_radiomics"),
        (lambda run: run.read_table("images"), "images.csv", "01_ingest"),
    ],
    ids=["cohort", "scores", "one model", "a table"],
)
def test_what_is_missing_is_named_with_the_notebook_that_writes_it(tmp_path, read, file, writer):
    with pytest.raises(
        FileNotFoundError, match=rf"{file} is not there yet: notebook {writer} writes it; .*rps run --out"
    ):
        read(RunFolder(tmp_path))


def test_tables_and_models_come_back_as_they_were_written(tmp_path):
    run, table = RunFolder(tmp_path), pd.DataFrame({"patient_id": ["001", "NA"], "volume_ml": [0.1, 2.0]})
    run.write_table(table, "images")
    pd.testing.assert_frame_equal(run.read_table("images"), table)
    bounds = {"level": 0.9, "residual": {"DL": 0.1}}
    run.write_model(bounds, "bounds")
    assert run.read_model("bounds") == bounds
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.*")) == [
        "models/bounds.json",
        "tables/images.csv",
    ]


def test_a_run_folder_is_a_path_wherever_one_is_expected(tmp_path):
    assert Path(RunFolder(tmp_path)) == tmp_path and str(RunFolder(tmp_path)) == str(tmp_path)
    assert RunFolder(str(tmp_path)) == RunFolder(tmp_path)


def test_relative_paths_start_at_the_notebooks(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert beside_notebooks("../runs/default") == NOTEBOOKS.parent / "runs" / "default"
    assert beside_notebooks(tmp_path / "x") == tmp_path / "x"


@pytest.mark.parametrize("notebook", CELLS)
def test_a_notebook_asks_the_run_folder_for_its_files(notebook):
    code = CELLS[notebook]
    assert not re.search(r"\brun(?:\.path)? */|run_dir *\+|f[\"']\{run(?:_dir)?\}/", code), "a path made by hand"
    names = {
        node.args[-1].value
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("write_table", "read_table", "table")
        if node.args and isinstance(node.args[-1], ast.Constant)
    }
    assert names <= TABLE_NAMES


def test_every_listed_table_is_written_by_a_notebook():
    written = {name for code in CELLS.values() for name in re.findall(r'write_table\([^\n]*"(\w+)"\)', code)}
    assert written == TABLE_NAMES


def test_the_pattern_of_models_is_no_open_door():
    assert MODELS.fullmatch("rad_without_0_without_1") and MODELS.fullmatch("DLCM")
    assert not any(MODELS.fullmatch(name) for name in ("../DLCM", "rad_without_0/x", "cox", "dl_cox.json"))
