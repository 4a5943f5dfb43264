"""Labs keep their form, are no steps of the chain, and their checks tell an empty and a wrong answer what is wrong."""

import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from rps_utils.course.classroom import TELLS, answers, hand_out
from rps_utils.course.labs import LABS
from rps_utils.course.student import student_notebook
from rps_utils.steps import read_steps

PATHS = sorted(LABS.glob("lab_*.ipynb"))
READ = {path.stem: nbformat.read(path, as_version=4) for path in PATHS}
SYLLABUS = Path(__file__).parents[2] / "docs" / "course" / "syllabus.md"
RECORD = Path(__file__).parents[2] / "docs" / "course" / "labs_run.csv"


def marks(cell):
    return cell.metadata.get("nbgrader", {})


def answered(stem):
    return [marks(c)["grade_id"] for c in READ[stem].cells if marks(c).get("solution")]


CASES = [(stem, answer) for stem in READ for answer in answered(stem)]


def run_until_check(stem, answer, change):
    """Run the cells up to the first check after an answer, that answer changed."""
    names, reached = {"__name__": "lab"}, False
    for cell in READ[stem].cells:
        if cell.cell_type != "code":
            continue
        mine = marks(cell).get("grade_id") == answer
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(change(cell.source) if mine else cell.source, answer, "exec"), names)
        reached = reached or mine
        if reached and marks(cell).get("grade"):
            return


def emptied(stem, answer):
    return {marks(c).get("grade_id"): c.source for c in student_notebook(READ[stem]).cells}[answer]


@pytest.mark.parametrize(("stem", "answer"), CASES)
def test_an_empty_answer_is_told_that_it_is_empty(stem, answer):
    with pytest.raises(AssertionError, match="yet"):
        run_until_check(stem, answer, lambda _: emptied(stem, answer))


MISTAKES = [
    ("lab_1_leakage_on_null", 0, "steps[time <= t]", "steps[time < t]", "use <=, not <"),
    ("lab_1_leakage_on_null", 1, "choose(x[training], residual)", "choose(x, residuals(time, event))", "still learns"),
    (
        "lab_1_leakage_on_null",
        2,
        "choose(x, residuals(time, event))",
        "choose(x[training], residuals(time[training], event[training]))",
        "same as honest",
    ),
    ("lab_2_hunt_the_bug", 0, "time >= now", "time > now", "was at risk at that time"),
    ("lab_2_hunt_the_bug", 1, "0.0, np.nan)", "0.0, 0.0)", "counted as free at 36"),
    ("lab_2_hunt_the_bug", 2, "event[i] == 1 and ", "", "so the pair is not usable"),
    ("lab_2_hunt_the_bug", 3, "x[training].std()", "x.std()", "validation patients set the scale"),
    ("lab_3_luck_of_a_split", 0, "replace=False", "replace=True", "drawn twice"),
    ("lab_3_luck_of_a_split", 1, "risk[chosen])", "-risk[chosen])", "turned around"),
    ("lab_4_censoring_by_hand", 0, "time >= t", "time > t", "month|watched"),
    ("lab_4_censoring_by_hand", 2, "1.0 if risk[i] > risk[j]", "1.0 if risk[i] < risk[j]", "lower risk"),
    ("lab_5_scanner", 0, "network.eval()\n", "pass\n", "who is scored beside"),
    ("lab_5_scanner", 0, "loss.backward()", "(-loss).backward()", "down and not up"),
    ("lab_5_scanner", 1, "harrell_c(*elsewhere", "harrell_c(*here", "here once more"),
    ("lab_5_scanner", 1, "*here, score(network, images[~", "time, event, score(network, images[", "of its teachers"),
    ("lab_5_scanner", 2, " / np.sqrt(2)", "", "root of 2"),
    ("lab_5_scanner", 2, "np.median(steps) / 0.6745 / np.sqrt(2)", "image.std()", "tissues count as noise"),
    ("lab_5_scanner", 3, "np.mean([", "np.median([", "return the mean"),
    ("lab_5_scanner", 4, "(0, 2.5, 2.5)", "2.5", "patients are mixed"),
    ("lab_5_scanner", 4, "score(other, smooth(images[~teach]))", "score(other, images[~teach])", "smooth the new"),
    ("lab_5_scanner", 4, "score(other, ", "score(network, ", "the old network"),
    (
        "lab_6_your_own_model",
        0,
        "predict((new - mean) / sd)",
        "predict((new - new.mean()) / sd)",
        "who is scored beside",
    ),
    ("lab_6_your_own_model", 0, "lambda new: model", "lambda new: -model", "turned around"),
    ("lab_6_your_own_model", 1, "training[inside], training[~inside]", "training[inside], training", "had a say"),
    ("lab_6_your_own_model", 2, '"validation", new)', '"cross_fitted", new)', "training patients are cross_fitted"),
    ("lab_6_your_own_model", 3, "append(one - two)", "append(two)", "differs from itself"),
    (
        "lab_7_another_hospital",
        0,
        "(1 - survival_at(time, event, month)) / (1 - lrfs).mean()",
        "(1 - lrfs).mean() / (1 - survival_at(time, event, month))",
        "upside down",
    ),
    ("lab_7_another_hospital", 1, "lrfs**f", "lrfs * f", "leaves 0 to 1"),
    ("lab_7_another_hospital", 2, "factor(event[half], own[half])", "factor(event, own)", "judged on"),
]


@pytest.mark.parametrize(("stem", "number", "right", "wrong", "says"), MISTAKES)
def test_a_typical_mistake_is_named(stem, number, right, wrong, says):
    def change(source):
        assert right in source
        return source.replace(right, wrong)

    with pytest.raises(AssertionError, match=says):
        run_until_check(stem, answered(stem)[number], change)


@pytest.mark.parametrize("stem", READ)
def test_a_lab_has_its_form(stem):
    notebook = READ[stem]
    opening, closing = notebook.cells[0].source, notebook.cells[-1].source
    prose = "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    assert opening.startswith(f"# Lab {stem[4]} · ")
    for word in ("**Question.**", "**You will be able to**", "**Needs**", "**Minutes**"):
        assert word in opening
    minutes = [int(n) for n in re.findall(r"\b(\d+)\b", opening.split("**Minutes**")[1].split(". ")[0])]
    assert 60 <= sum(minutes) <= 90, f"the parts take {sum(minutes)} minutes: 60 to 90"
    assert "## Recap" in closing and "**Limits" in closing and "**Next" in closing
    assert prose.count("**Predict") >= 2 and prose.count("**Explain") >= 2
    for target in re.findall(r"\]\(([^)#]+)\)", prose):
        assert (LABS / target).exists(), target


@pytest.mark.parametrize("stem", READ)
def test_a_lab_is_committed_without_results_and_takes_the_seed_of_a_class(stem):
    code = [c for c in READ[stem].cells if c.cell_type == "code"]
    assert all(c.outputs == [] and c.execution_count is None for c in code)
    assert code[0].metadata["tags"] == ["parameters"] and code[0].source.startswith("seed = 2026")
    ids = [marks(c)["grade_id"] for c in code if marks(c)]
    assert len(ids) == len(set(ids)) and len(answered(stem)) >= 3
    assert max(len(c.source.splitlines()) for c in code) <= 30


def test_labs_are_no_steps_of_the_chain():
    assert not [step.name for step in read_steps() if step.name.startswith("lab")]


def test_the_record_names_every_lab():
    assert list(pd.read_csv(RECORD)["lab"]) == [path.stem for path in PATHS]


@pytest.fixture
def cohort(tmp_path):
    folder = tmp_path / "cohort"
    (folder / "images").mkdir(parents=True)
    columns = {"patient_id": ["a", "b", "c"], "time_months": [5.0, 70.0, 90.0], "event": [1, 0, 0]}
    table = pd.DataFrame(columns).assign(split="training", risk_Oracle=0, reference_map="r", reference_map_sha256="h")
    for kind in ("image", "mask"):
        table[kind] = "images/" + table["patient_id"] + f"_{kind}"
        for name in table[kind]:
            (folder / name).write_text(kind)
    table.to_csv(folder / "data_manifest.csv", index=False)
    pd.DataFrame({"patient_id": ["c", "b", "a"], "eta": [0.0, 1.0, 2.0]}).to_csv(folder / "truth.csv", index=False)
    return folder


def test_students_get_no_truth(cohort, tmp_path):
    hand_out(cohort, tmp_path / "students", 7)
    manifest = pd.read_csv(tmp_path / "students" / "data" / "data_manifest.csv")
    assert not set(TELLS) & set(manifest) and len(manifest) == 3
    assert not list((tmp_path / "students").rglob("truth*"))
    labs = list((tmp_path / "students" / "labs").glob("*.ipynb"))
    assert len(labs) == len(PATHS)
    assert all("seed = 7 " in p.read_text() and "SOLUTION" not in p.read_text() for p in labs)


def test_the_key_is_computed_from_the_truth_by_patient(cohort):
    key = answers(cohort).set_index("split")
    assert key.loc["all", "c_truth"] == 1 and key.loc["all", "recurrences"] == 1
    assert key.loc["training", "km_12"] == pytest.approx(2 / 3, abs=1e-3)


def test_the_command_never_overwrites(cohort, tmp_path):
    command = [sys.executable, "-m", "rps_utils.course.classroom", cohort, tmp_path / "s", tmp_path / "k", "7"]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    again = subprocess.run(command, check=False, capture_output=True, text=True)
    assert again.returncode and "is there: move it away" in again.stderr


def words_and_lines(path):
    cells = nbformat.read(path, as_version=4).cells
    words = sum(len(c.source.split()) for c in cells if c.cell_type == "markdown")
    code = [line for c in cells if c.cell_type == "code" for line in c.source.splitlines() if line.strip()]
    return words, len(code)


def test_minutes_of_reading_are_those_of_the_notebooks_and_evaluation_stays_under_thirty():
    row = r"^\| \[\d\d\]\(\.\./\.\./notebooks/(\S+)\) \| \d+ \| \d+ \| (\d+) "
    stated = re.findall(row, SYLLABUS.read_text(), re.MULTILINE)
    assert [name for name, _ in stated] == sorted(path.name for path in LABS.parent.glob("[0-9]*.ipynb"))
    for name, minutes in stated:
        words, code = words_and_lines(LABS.parent / name)
        now = words / 200 + code / 15
        assert abs(now - int(minutes)) <= 5, f"{name}: {now:.0f} minutes to read, the syllabus says {minutes}"
        assert now < 30 or not "07" <= name[:2] <= "13"


def test_the_syllabus_names_the_exercises_that_there_are():
    rows = [line.split("|") for line in SYLLABUS.read_text().splitlines() if re.match(r"\| [1-5] \|", line)]
    named = [number for row in rows for number in re.findall(r"\b\d\d\b", row[5])]
    assert sorted(named) == [path.name[:2] for path in sorted((LABS.parent / "exercises").glob("*.ipynb"))]
