"""A quiz answers real clicks: in JupyterLab, and on a page of the book without a kernel."""

import json
import shutil
from pathlib import Path

import nbformat
import pytest

from tests.test_book import make_book
from tests.widgets.browser import MISSING, Page, chromium, jupyter_lab, wait_until

pytestmark = [pytest.mark.browser, pytest.mark.skipif(bool(MISSING), reason=MISSING)]
FOLDER = Path(__file__).parents[2] / "notebooks" / "exercises"
QUIZ = FOLDER / "quizzes" / "day_2.json"


def answer_all(driver):
    """Click the first wrong answer of each question, then the right one, and compare what is said."""
    for question in json.loads(QUIZ.read_text(encoding="utf-8")):
        wrong = next(a for a in question["answers"] if not a["correct"])
        right = next(a for a in question["answers"] if a["correct"])
        for answer in (wrong, right):
            labels = driver.find_elements("css selector", ".MCButton, .correctButton, .incorrectButton")
            label = next(found for found in labels if found.get_attribute("data-feedback") == answer["feedback"])
            driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", label)
            label.click()
            reply = ".Feedback." + ("correct" if answer["correct"] else "incorrect")
            said = [found.text for found in driver.find_elements("css selector", reply)]
            assert answer["feedback"] in said


def questions(driver):
    return driver.find_elements("css selector", ".MultipleChoiceQn")


def test_on_a_page_without_a_kernel(tmp_path):
    (tmp_path / "quiz.html").write_text(f"<!DOCTYPE html><meta charset='utf-8'>{make_book.quiz_page(QUIZ)}", "utf-8")
    with chromium() as driver:
        driver.get(f"file://{tmp_path}/quiz.html")
        wait_until(lambda: questions(driver), 20, "no question is shown")
        answer_all(driver)


def test_in_jupyterlab(tmp_path):
    notebook = nbformat.read(FOLDER / "05_clinical_cox.ipynb", 4)
    notebook.cells = [cell for cell in notebook.cells if "quiz" in cell.id]
    nbformat.write(notebook, tmp_path / "quiz.ipynb")
    shutil.copytree(QUIZ.parent, tmp_path / "quizzes")
    with jupyter_lab(tmp_path) as address, chromium() as driver:
        Page(driver, address, "quiz.ipynb").run_all(0)
        wait_until(lambda: questions(driver), 60, "no question is shown")
        answer_all(driver)
