"""Every solution passes its check; the untouched exercise and typical wrong answers fail it, with words meant for them.

The wrong answers stand in ``wrong_answers/``, a file for each notebook: after ``# %% EXERCISE: WORDS`` follows what
somebody might write into that exercise, and the words must be in the message that comes back.
"""

import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from rps_utils.course.checks import EMPTY, NotYet
from rps_utils.course.student import MarkerError, student_notebook, without_solution, write_student_notebooks
from rps_utils.steps import read_steps

FOLDER = Path(__file__).parents[2] / "notebooks" / "exercises"
READ = {path.stem: nbformat.read(path, as_version=4) for path in sorted(FOLDER.glob("*.ipynb"))}
WRONG = re.compile(r"^# %% (\S+): (.+)\n((?:(?!# %%).*\n)+)", re.MULTILINE)


def grade_id(cell):
    return cell.metadata.get("nbgrader", {}).get("grade_id", "")


def exercises(notebook):
    return [grade_id(cell) for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("solution")]


def wrong_answers(stem):
    path = Path(__file__).parent / "wrong_answers" / f"{stem}.py"
    return WRONG.findall(path.read_text(encoding="utf-8") if path.exists() else "")


EXERCISES = [(stem, exercise) for stem, notebook in READ.items() for exercise in exercises(notebook)]
MISTAKES = [
    pytest.param(stem, *wrong, id=f"{wrong[0]}-{number}")
    for stem in READ
    for number, wrong in enumerate(wrong_answers(stem))
]


def run_one(notebook, exercise, answer=None):
    """Run what is given and one exercise, perhaps with another answer, as a kernel would: one cell after the other."""
    names, own = {}, {"", exercise, f"{exercise}-check"}
    for cell in notebook.cells:
        if cell.cell_type == "code" and grade_id(cell) in own and "display_quiz" not in cell.source:
            code = answer if answer is not None and grade_id(cell) == exercise else cell.source
            with contextlib.redirect_stdout(io.StringIO()) as said:
                exec(compile(code, grade_id(cell) or "cell", "exec"), names)
    return said.getvalue()


@pytest.mark.parametrize(("stem", "exercise"), EXERCISES)
def test_the_solution_passes_alone(stem, exercise):
    assert run_one(READ[stem], exercise) is not None


@pytest.mark.parametrize(("stem", "exercise"), EXERCISES)
def test_the_untouched_exercise_asks_for_an_answer(stem, exercise):
    untouched = {grade_id(c): c.source for c in student_notebook(READ[stem]).cells}[exercise]
    assert "SOLUTION" not in untouched and "your answer here" in untouched
    with pytest.raises(NotYet) as told:
        run_one(READ[stem], exercise, untouched)
    assert str(told.value) == EMPTY


@pytest.mark.parametrize(("stem", "exercise", "words", "code"), MISTAKES)
def test_a_typical_mistake_is_named(stem, exercise, words, code):
    with pytest.raises(NotYet) as told:
        run_one(READ[stem], exercise, code)
    assert words in str(told.value)


@pytest.mark.parametrize("stem", READ)
def test_every_exercise_has_two_mistakes_of_its_own(stem):
    wrong = wrong_answers(stem)
    assert {exercise for exercise, _, _ in wrong} == set(exercises(READ[stem]))
    for exercise in exercises(READ[stem]):
        words = [said for name, said, _ in wrong if name == exercise]
        assert len(set(words)) >= 2 and min(map(len, words)) >= 12, exercise


@pytest.mark.parametrize("stem", READ)
def test_the_form(stem):
    """Three or four exercises, each a text with a hint that folds, an answer, and a check that is folded."""
    notebook = READ[stem]
    names = exercises(notebook)
    assert 3 <= len(names) <= 4 and len(set(names)) == len(names)
    assert notebook.cells[0].source.startswith(f"# Exercises {stem[:2]} · ")
    assert (FOLDER.parent / f"{stem}.ipynb").exists() and f"../{stem}.ipynb" in notebook.cells[0].source
    cells = {grade_id(cell): cell for cell in notebook.cells}
    for number, exercise in enumerate(names, start=1):
        place = notebook.cells.index(cells[exercise])
        text, check = notebook.cells[place - 1], notebook.cells[place + 1]
        assert re.match(rf"## {number} · (Predict|Write|Interpret): \S", text.source)
        assert "<details><summary>Hint</summary>" in text.source
        assert check is cells[f"{exercise}-check"] and check.metadata.nbgrader.points > 0
        assert check.metadata.jupyter.source_hidden and "hide-input" in check.metadata.tags
        assert max(len(cell.source.splitlines()) for cell in (cells[exercise], check)) <= 40


def test_students_get_no_solution_and_the_rest_unchanged(tmp_path):
    written = write_student_notebooks(FOLDER, tmp_path)
    assert [path.stem for path in written] == list(READ)
    for path in written:
        copy = nbformat.read(path, as_version=4)
        nbformat.validate(copy)
        assert "### BEGIN" not in path.read_text(encoding="utf-8")
        pairs = list(zip(copy.cells, READ[path.stem].cells, strict=True))
        assert {grade_id(a) for a, b in pairs if a.source != b.source} == set(exercises(READ[path.stem]))


def test_a_copy_with_answers_is_kept(tmp_path):
    mine, *others = write_student_notebooks(FOLDER, tmp_path)
    mine.write_text("my answers", encoding="utf-8")
    for path in others:
        path.unlink()
    command = [sys.executable, "-m", "rps_utils.course.student", FOLDER, tmp_path]
    said = subprocess.run(command, text=True, capture_output=True, check=True).stdout
    assert f"{len(others)} notebooks without solutions" in said and "1 were there and are kept" in said
    assert mine.read_text(encoding="utf-8") == "my answers" and all(path.exists() for path in others)


def test_a_marker_without_partner_is_named():
    with pytest.raises(MarkerError, match="BEGIN SOLUTION` has no partner"):
        without_solution("x = 1\n### BEGIN SOLUTION\ny = 2")
    assert without_solution("a = 1\n### BEGIN HIDDEN TESTS\nassert a\n### END HIDDEN TESTS\nb = 2") == "a = 1\nb = 2"


def test_the_command_refuses_to_overwrite_the_solutions(tmp_path):
    command = [sys.executable, "-m", "rps_utils.course.student"]
    same = subprocess.run([*command, FOLDER, FOLDER], text=True, capture_output=True, check=False)
    none = subprocess.run([*command, tmp_path, tmp_path / "x"], text=True, capture_output=True, check=False)
    assert "name another" in same.stderr and "holds no notebooks" in none.stderr
    assert same.returncode and none.returncode


def test_exercises_are_no_steps_of_the_chain():
    assert {step.notebook.parent for step in read_steps()} == {FOLDER.parent}


def test_a_kernel_shows_the_message_without_a_traceback_and_goes_on():
    """All cells run, those after a failed check included; all that a student sees of an error is one line."""
    copy = student_notebook(READ["07_discrimination"])
    NotebookClient(copy, timeout=120, resources={"metadata": {"path": FOLDER}}).execute()
    checks = [cell for cell in copy.cells if grade_id(cell).endswith("-check")]
    assert len(checks) == len(exercises(copy))
    for cell in checks:
        assert [output.output_type for output in cell.outputs] == ["error"]
        assert cell.outputs[0].traceback == [f"Not yet. {EMPTY}"]
    assert [cell.execution_count for cell in copy.cells if cell.cell_type == "code"][-1] == 2 * len(checks) + 1
