"""Each half day ends with a quiz: every question has one right answer, and every answer a reply of its own."""

import json
import re
from pathlib import Path

import nbformat
import pytest

from rps_utils.course.student import QUIZZES, write_student_notebooks

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "notebooks" / "exercises"
READ = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted((FOLDER / QUIZZES).glob("*.json"))}
QUESTIONS = [pytest.param(q, id=f"{stem}-{n}") for stem, quiz in READ.items() for n, q in enumerate(quiz, start=1)]


@pytest.mark.parametrize("question", QUESTIONS)
def test_one_answer_is_right_and_every_answer_has_its_own_reply(question):
    assert set(question) == {"question", "type", "answers"} and question["type"] == "multiple_choice"
    assert [answer["correct"] for answer in question["answers"]].count(True) == 1 and len(question["answers"]) == 4
    for column in ("answer", "feedback"):
        said = [answer[column].strip() for answer in question["answers"]]
        assert len(set(said)) == 4 and all(said)
    assert all(len(answer["feedback"]) >= 20 for answer in question["answers"])


def test_no_question_is_asked_twice_and_the_right_answer_has_no_place_of_its_own():
    asked = [question.values[0] for question in QUESTIONS]
    assert len({q["question"] for q in asked}) == len(asked)
    assert len({[a["correct"] for a in q["answers"]].index(True) for q in asked}) == 4


def test_nothing_in_a_quiz_can_end_the_script_that_holds_it():
    assert not [stem for stem, quiz in READ.items() if "<" in json.dumps(quiz)]


def test_each_day_of_the_syllabus_has_five_questions_or_more_after_its_last_exercises():
    rows = re.findall(r"^\| ([1-5]) \|.*", (ROOT / "docs" / "course" / "syllabus.md").read_text(), re.MULTILINE)
    assert list(READ) == [f"day_{day}" for day in rows] and min(map(len, READ.values())) >= 5
    shown = {}
    for path in sorted(FOLDER.glob("*.ipynb")):
        text = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
        shown |= {day: path.stem[:2] for day in re.findall(r'display_quiz\("quizzes/(\w+)\.json"\)', text)}
    assert shown == {"day_1": "17", "day_2": "05", "day_3": "06", "day_4": "11", "day_5": "16"}


def test_students_get_the_quizzes_beside_their_notebooks(tmp_path):
    write_student_notebooks(FOLDER, tmp_path)
    assert {p.stem: json.loads(p.read_text(encoding="utf-8")) for p in (tmp_path / QUIZZES).iterdir()} == READ
