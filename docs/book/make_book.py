"""Build the book: ``python docs/book/make_book.py RUN OUT`` writes a static site of an executed run into OUT/html.

The executed notebooks of the run, the exercises and labs with folded solutions, the manuals and the glossary become
pages that need no network: mathematics is MathML, figures are pictures that turn interactive where scripts run.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import nbformat
from jupyterquiz import display_quiz
from nbformat import NotebookNode
from nbformat.v4 import new_output
from plotly.offline import get_plotlyjs
from sphinx.cmd.build import main as build

from rps_utils.course.student import MARKER
from rps_utils.figures.style import PLOTLY

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
WIDGET = "application/vnd.jupyter.widget-view+json"
QUIZ = re.compile(r'display_quiz\("([^"]+)"\)')
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")
FIGURE = '<figure class="rps-figure">{picture}<script type="application/json">{data}</script></figure>'


def for_the_book(notebook: NotebookNode) -> NotebookNode:
    """Return an executed notebook as the book has it: without panels, figures as pictures that scripts may replace."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [_shown(output) for output in cell.outputs if WIDGET not in output.get("data", {})]
    return notebook


def _shown(output: NotebookNode) -> NotebookNode:
    data = output.get("data", {})
    if PLOTLY not in data:
        return output
    words = html.escape(data.get("text/plain", "a figure"), quote=True)
    picture = (
        f'<img alt="{words}" src="data:image/png;base64,{data["image/png"].strip()}">' if "image/png" in data else ""
    )
    content = json.dumps(data[PLOTLY], separators=(",", ":")).replace("</", "<\\/")
    output.data = NotebookNode({"text/html": FIGURE.format(picture=picture or f"<p>{words}</p>", data=content)})
    output.metadata = NotebookNode()
    return output


def with_folded_solutions(notebook: NotebookNode) -> NotebookNode:
    """Return exercises with each solution behind a button."""
    for cell in notebook.cells:
        marks = cell.metadata.get("nbgrader", {})
        if cell.cell_type == "code" and (marks.get("solution") or marks.get("grade")):
            words = "Show a solution" if marks.get("solution") else "Show how an answer is checked"
            cell.metadata["tags"] = ["hide-input"]
            cell.metadata["mystnb"] = {"code_prompt_show": words}
            cell.source = "\n".join(line for line in cell.source.splitlines() if not MARKER.search(line))
    return notebook


def with_quizzes(notebook: NotebookNode, folder: Path) -> NotebookNode:
    """Return exercises whose quizzes answer a click on the page, as they do in JupyterLab.

    Parameters
    ----------
    notebook : NotebookNode
    folder : Path
        Where the notebook lies; the quizzes are named from there.
    """
    for cell in notebook.cells:
        if cell.cell_type == "code" and (found := QUIZ.search(cell.source)):
            cell.outputs = [new_output("display_data", {"text/html": quiz_page(folder / found[1])})]
            cell.metadata["tags"] = ["remove-input"]
    return notebook


def quiz_page(path: Path) -> str:
    """Return the piece of a page that shows a quiz; its box, which jupyterquiz leaves open, is closed."""
    shown: list[Any] = []
    with patch("jupyterquiz.dynamic.display.display", shown.append):
        display_quiz(str(path))
    box, script = (part.data for part in shown)
    return f"{box}</div><script>{script}</script>"


def without_dead_links(text: str, page: Path, pages: Path) -> str:
    """Return a text whose links lead to other pages of the book or to the web; of others only the words are left."""

    def kept(found: re.Match[str]) -> str:
        words, target = found[1], found[2]
        web = target.startswith(("http:", "https:", "mailto:"))
        return found[0] if web or (pages / page.parent / target).resolve().is_file() else words

    return LINK.sub(kept, text)


def write_pages(run: Path, pages: Path) -> None:
    """Write the sources of all pages, in the folders that they have in the repository.

    Raises
    ------
    SystemExit
        The run lacks a notebook.
    """
    for path in [*ROOT.glob("docs/*.md"), *ROOT.glob("docs/course/*.md"), *ROOT.glob("docs/images/*")]:
        if path.name != "architecture.md":  # for contributors, and drawn by what GitHub knows
            _copy(path, pages / path.relative_to(ROOT))
    for path in (HERE / "index.md", HERE / "conf.py"):
        _copy(path, pages / path.name)
    for path in sorted(ROOT.glob("notebooks/[0-9]*.ipynb")):
        executed = run / "notebooks" / path.name
        if not executed.is_file():
            raise SystemExit(
                f"{executed} is not there: make the whole run first (make reproduce, or rps run --out {run})"
            )
        _write(for_the_book(nbformat.read(executed, 4)), pages / "notebooks" / path.name)
    for path in sorted([*ROOT.glob("notebooks/exercises/*.ipynb"), *ROOT.glob("notebooks/labs/*.ipynb")]):
        notebook = with_quizzes(with_folded_solutions(nbformat.read(path, 4)), path.parent)
        _write(notebook, pages / path.relative_to(ROOT))
    for path in sorted([*pages.rglob("*.md"), *pages.rglob("*.ipynb")]):
        _mend_links(path, pages)
    static = pages / "_static"
    for path in (HERE / "figures.js", HERE / "style.css"):
        _copy(path, static / path.name)
    (static / "plotly.min.js").write_text(get_plotlyjs(), encoding="utf-8")


def _mend_links(path: Path, pages: Path) -> None:
    page = path.relative_to(pages)
    if path.suffix == ".md":
        path.write_text(without_dead_links(path.read_text(encoding="utf-8"), page, pages), encoding="utf-8")
        return
    notebook = nbformat.read(path, 4)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = without_dead_links(cell.source, page, pages)
    _write(notebook, path)


def _write(notebook: NotebookNode, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


def _copy(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)


def main() -> None:
    """Build the book of a run; end with 1 where a page has a warning."""
    if len(sys.argv) != 3:
        sys.exit("use: python docs/book/make_book.py RUN OUT")
    run, out = Path(sys.argv[1]), Path(sys.argv[2]).resolve()
    shutil.rmtree(out, ignore_errors=True)
    write_pages(run, out / "pages")
    status = build(["-q", "-j", "auto", "-W", "--keep-going", str(out / "pages"), str(out / "html")])
    print(f"the book: {out / 'html' / 'index.html'}" if not status else "the book has warnings, named above")
    sys.exit(status)


if __name__ == "__main__":
    main()
