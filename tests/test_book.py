"""The book shows figures without a kernel or a network, folds solutions, and has no dead links."""

import importlib.util
import json
import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

ROOT = Path(__file__).parents[1]
BOOK = ROOT / "docs" / "book"
spec = importlib.util.spec_from_file_location("make_book", BOOK / "make_book.py")
make_book = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make_book)

FIGURE = {
    make_book.PLOTLY: {"data": [{"x": ["</script>"]}], "layout": {}},
    "image/png": "AAAA\n",
    "text/plain": 'C is "7"',
}


def executed(*outputs):
    notebook = new_notebook(cells=[new_code_cell("1", outputs=list(outputs))], metadata={"widgets": {"state": {}}})
    return make_book.for_the_book(notebook)


def test_a_figure_is_a_picture_with_words_that_scripts_may_replace():
    (output,) = executed(new_output("display_data", FIGURE)).cells[0].outputs
    page = output.data["text/html"]
    assert set(output.data) == {"text/html"}
    assert '<img alt="C is &quot;7&quot;" src="data:image/png;base64,AAAA">' in page
    (content,) = re.findall(r'<script type="application/json">(.*?)</script>', page)
    assert json.loads(content) == FIGURE[make_book.PLOTLY], "a text cannot end the script"


def test_a_figure_without_a_picture_keeps_its_words():
    data = {key: value for key, value in FIGURE.items() if key != "image/png"}
    (output,) = executed(new_output("display_data", data)).cells[0].outputs
    assert "<p>C is &quot;7&quot;</p>" in output.data["text/html"]


def test_panels_that_need_a_kernel_and_their_scripts_are_left_out():
    text = new_output("stream", text="7")
    notebook = executed(new_output("display_data", {make_book.WIDGET: {}, "text/plain": "panel"}), text)
    assert notebook.cells[0].outputs == [text] and "widgets" not in notebook.metadata


def test_solutions_are_folded_and_lose_their_markers():
    path = sorted((ROOT / "notebooks" / "exercises").glob("*.ipynb"))[0]
    notebook = make_book.with_folded_solutions(nbformat.read(path, 4))
    marked = [c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("solution")]
    assert len(marked) >= 3 and not [c for c in notebook.cells if "BEGIN SOLUTION" in c.source]
    assert all(c.metadata["tags"] == ["hide-input"] for c in marked)


def test_a_quiz_stands_on_the_page_with_its_questions_and_in_a_box_that_is_closed():
    folder = ROOT / "notebooks" / "exercises"
    notebook = make_book.with_quizzes(nbformat.read(folder / "05_clinical_cox.ipynb", 4), folder)
    (cell,) = [c for c in notebook.cells if c.cell_type == "code" and "display_quiz" in c.source]
    page = cell.outputs[0].data["text/html"]
    assert cell.metadata["tags"] == ["remove-input"]
    assert page.count("<div") == page.split("<script>")[0].count("</div>") == 1
    assert all(q["question"] in page for q in json.loads((folder / "quizzes" / "day_2.json").read_text("utf-8")))


def test_a_link_that_leads_out_of_the_book_becomes_its_words(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("")
    text = "[a](a.md#part), [code](../rps_utils/scores.py), [web](https://example.org), ![p](../x.png)"
    found = make_book.without_dead_links(text, Path("docs/b.md"), tmp_path)
    assert found == "[a](a.md#part), code, [web](https://example.org), ![p](../x.png)"


def test_a_run_that_lacks_a_notebook_is_named(tmp_path):
    with pytest.raises(SystemExit, match=r"00_start_here\.ipynb is not there: make the whole run first"):
        make_book.write_pages(tmp_path, tmp_path / "pages")


def test_every_notebook_and_manual_has_its_place():
    index = (BOOK / "index.md").read_text()
    pages = [*ROOT.glob("notebooks/[0-9]*.ipynb"), *(p for p in ROOT.glob("docs/*.md") if p.stem != "architecture")]
    assert not [page for page in pages if str(page.relative_to(ROOT).with_suffix("")) not in index]


@pytest.mark.parametrize("term", ["C-index", "Censored", "HU", "GLCM", "Net benefit", "Cross-fitted", "RMST", "IPCW"])
def test_the_glossary_has_the_words_of_survival_radiomics_and_ct(term):
    text = (ROOT / "docs" / "glossary.md").read_text()
    assert re.search(rf"^\* \*\*[^*]*\b{term}\b", text, re.MULTILINE)


def test_pages_ask_nothing_of_the_web():
    for path in (BOOK / "conf.py", BOOK / "figures.js", BOOK / "style.css"):
        assert "http" not in path.read_text()
