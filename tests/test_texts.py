"""Formulas: refused in cells and in names of columns at every door, neutralised where a table is written."""

import ast
import re

import numpy as np
import pandas as pd
import pytest

from rps_utils.cohort.contract import format_problems
from rps_utils.cohort.manifest import check_manifest
from rps_utils.files import read_csv, write_csv
from rps_utils.ingest.clinical_table import Mapping, read_clinical
from rps_utils.lab.faults.manifest import clinical_rows, write_small_manifest
from rps_utils.scores import ScoreTableError, read_scores
from rps_utils.sources import PACKAGE
from rps_utils.texts.causes import cause_of
from rps_utils.texts.cells import is_formula, safe_cell
from rps_utils.texts.counts import how_many

FORMULAS = ("=cmd|' /C calc'!A0", "+SUM(A1)", "-2+3", "@SUM(A1)", "\t=1+1", "＝1+1")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return write_small_manifest(tmp_path_factory.mktemp("manifest"))


@pytest.mark.parametrize("name", [*FORMULAS, "risk_=1+1"])
def test_manifest_refuses_a_column_that_is_a_formula(name, manifest):
    table = read_csv(manifest).rename(columns={"grade": name.strip()})
    table.to_csv(manifest.with_name("faulty.csv"), index=False)
    said = format_problems(check_manifest(manifest.with_name("faulty.csv"), voxels=False))
    assert "a formula (not shown)" in said
    assert name not in said


@pytest.mark.parametrize("name", [*FORMULAS, "risk_=1+1"])
def test_clinical_table_refuses_a_column_that_is_a_formula(name, tmp_path):
    clinical_rows().rename(columns={"grade": name.strip()}).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(ValueError, match=r"column 5 is a formula: begin its name with a letter"):
        read_clinical(tmp_path / "t.csv", Mapping())


def test_mapping_cannot_make_a_formula(tmp_path):
    clinical_rows().to_csv(tmp_path / "t.csv", index=False)
    own = {c: c for c in ("patient_id", "time_months", "event")}
    with pytest.raises(ValueError, match="is a formula"):
        read_clinical(tmp_path / "t.csv", Mapping(columns={**own, "=1+1": "grade"}))


@pytest.mark.parametrize("name", FORMULAS)
def test_score_table_refuses_formulas_in_names_and_cells(name, tmp_path):
    rows = pd.DataFrame(
        {"patient_id": ["A", "B"], "split": "validation", "time_months": [5.0, 7], "event": [1, 0]}
    ).assign(model="M", kind="validation", risk=[0.5, 0.1])
    rows.assign(**{name: 1}).to_csv(tmp_path / "column.csv", index=False)
    with pytest.raises(ScoreTableError, match="column 8: its name is a formula"):
        read_scores(tmp_path / "column.csv")
    rows.assign(model=name).to_csv(tmp_path / "cell.csv", index=False)
    with pytest.raises(ScoreTableError, match="row 2, column model: a formula"):
        read_scores(tmp_path / "cell.csv")


@pytest.mark.parametrize("name", FORMULAS)
def test_written_tables_have_no_formula_as_header(name, tmp_path):
    write_csv(pd.DataFrame({name: [1]}), tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text().lstrip('"').startswith("'")


@pytest.mark.parametrize("text", ["-3", "+1.5", "-1,5", "G1", "a=b", "-", "1e-5", ""])
def test_plain_values_are_no_formulas(text):
    assert not is_formula(text)
    assert safe_cell(text) == text


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("could not convert string to float: 'Doe^Jane'"), "damaged or of another kind (ValueError)"),
        (EOFError("Compressed file ended before the end-of-stream marker"), "cut short (EOFError)"),
        (FileNotFoundError(2, "No such file or directory", "Doe.dcm"), "no such file (FileNotFoundError)"),
        (RuntimeError("Unable to decompress 'JPEG': missing plugins for Doe"), "no decoder"),
    ],
)
def test_causes_are_told_in_our_own_words(error, told):
    assert told in cause_of(error)
    assert "Doe" not in cause_of(error)


@pytest.mark.parametrize(
    ("number", "said"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (np.int64(1), "1 row"), (1.0, "1 row")]
)
def test_one_is_said_as_one(number, said):
    assert how_many(number, "row") == said
    assert how_many(number, "row is", "rows are") == said.replace("row", "row is").replace("row iss", "rows are")


COUNTED = [
    *("patients", "recurrences", "events", "rows", "cells", "features", "files", "columns", "terms", "images"),
    *(
        "masks",
        "models",
        "centres",
        "figures",
        "notebooks",
        "problems",
        "faults",
        "findings",
        "numbers",
        "estimates",
        "voxels",
        "slices",
        "points",
    ),
]
A_COUNT = re.compile(rf"(?<!of )(?<!of its )\{{(?!how_many)([^{{}}]*)\}} (?:[a-z]+ )?(?:{'|'.join(COUNTED)})\b")
# Numbers that are never one where the sentence is said, parts of a name, and measures.
NEVER_ONE = {
    *("{width} cells", "{folds} folds 3 patients", "{len(high)} patients", "{len(drawn)} slices", "{places} slices"),
    *("{voxels:.1e} voxels", "{size} voxels", "{most_voxels / 1000000.0:.0f} million voxels", "{count} finite numbers"),
    *(
        "{n} patients",
        "{patients} patients",
        "{settings.patients} patients",
        "{p:.1f} points",
        "{left} to patients",
        "{total:.1f} points",
    ),
    *("{each:.1f} events", "{different} different numbers", "{' x '.join(map(str, shape))} voxels"),
    *("{', '.join(map(str, sizes))} slices", "{found[0]} has no rows", "{model} points", "{kind} patients"),
}


def sentences(path):
    """The texts of a module that hold values, each value as its expression in braces."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            yield re.sub(r"^f(['\"])(.*)\1$", r"\2", ast.unparse(node), flags=re.DOTALL)


def test_no_sentence_counts_one_patients():
    """A number before a plural is said by `how_many`, unless it can never be one."""
    texts = (text for path in sorted(PACKAGE.rglob("*.py")) for text in sentences(path))
    said = {m[0] for text in texts for m in A_COUNT.finditer(text) if not re.match(r"\{(len\(edges\)|[A-Z_]+\b)", m[0])}
    assert len(said) > 10
    assert sorted(said - NEVER_ONE) == []


def test_a_sentence_that_counts_one_patients_is_found(tmp_path):
    (tmp_path / "m.py").write_text("def f(n):\n    return f'{len(n)} local recurrences', f'{n} of {n} rows'\n")
    found = [m[0] for text in sentences(tmp_path / "m.py") for m in A_COUNT.finditer(text)]
    assert found == ["{len(n)} local recurrences"]


UNSEEN = {"NUL": "\0", "bell": "\x07", "escape": "\x1b[31m", "mark of direction": "\u202e", "no width": "\u200b"}
SAID_UNSEEN = r"a sign that cannot be seen \(U\+"


@pytest.fixture(params=UNSEEN.values(), ids=list(UNSEEN))
def unseen(request):
    return f"G{request.param}1"


def small_scores():
    rows = pd.DataFrame({"patient_id": ["A", "B"], "split": "validation", "time_months": [5.0, 7], "event": [1, 0]})
    return rows.assign(model="M", kind="validation", risk=[0.5, 0.1])


@pytest.mark.parametrize("column", ["grade", "mine"])
def test_manifest_refuses_signs_that_cannot_be_seen(column, unseen, manifest):
    table = read_csv(manifest).assign(mine="a")
    table.loc[0, column] = unseen
    table.to_csv(manifest.with_name("cell.csv"), index=False)
    said = format_problems(check_manifest(manifest.with_name("cell.csv"), voxels=False))
    assert re.search(rf"2 +P1 +{column} +{SAID_UNSEEN}", said) and unseen not in said
    read_csv(manifest).assign(**{unseen: "a"}).to_csv(manifest.with_name("name.csv"), index=False)
    said = format_problems(check_manifest(manifest.with_name("name.csv"), voxels=False))
    assert re.search(rf"column \d+ +{SAID_UNSEEN}", said) and unseen not in said


def test_score_table_refuses_signs_that_cannot_be_seen(unseen, tmp_path):
    small_scores().assign(mine=["a", unseen]).to_csv(tmp_path / "cell.csv", index=False)
    with pytest.raises(ScoreTableError, match=f"row 3, column mine: {SAID_UNSEEN}") as told:
        read_scores(tmp_path / "cell.csv")
    assert unseen not in str(told.value)
    small_scores().assign(**{unseen: 1}).to_csv(tmp_path / "name.csv", index=False)
    with pytest.raises(ScoreTableError, match=f"column 8: its name has {SAID_UNSEEN}") as told:
        read_scores(tmp_path / "name.csv")
    assert unseen not in str(told.value)


@pytest.mark.parametrize("ending", ["csv", "xlsx"])
def test_clinical_table_refuses_formulas_and_signs_that_cannot_be_seen(ending, tmp_path):
    """A workbook cannot hold NUL and its like; the writer refuses them."""

    def problems(value, header="grade"):
        table = clinical_rows()
        table.loc[table.index[0], "grade"] = value
        table = table.rename(columns={"grade": header})
        place = tmp_path / f"t.{ending}"
        table.to_csv(place, index=False) if ending == "csv" else table.to_excel(place, index=False)
        return format_problems(read_clinical(place, Mapping())[1])

    for sign in UNSEEN.values() if ending == "csv" else ("\u202e", "\u200b"):
        assert re.search(rf"grade +{SAID_UNSEEN}", problems(f"G{sign}1"))
        with pytest.raises(ValueError, match=rf"column 5 has {SAID_UNSEEN}"):
            problems("G1", f"grad{sign}e")
    assert "a formula (not shown)" in problems("=cmd|' /C calc'!A0")
    with pytest.raises(ValueError, match="column 5 is a formula"):
        problems("G1", "=cmd|' /C calc'!A0")
