"""The student's copies of notebooks with solutions: ``python -m rps_utils.course.student SOURCE DESTINATION``.

One source holds exercise and solution. What stands between ``### BEGIN SOLUTION`` and ``### END SOLUTION`` becomes a
line to fill in; what stands between ``### BEGIN HIDDEN TESTS`` and ``### END HIDDEN TESTS`` is left out. The markers
are those of nbgrader, which may grade the same source. A copy that is already there, perhaps with answers, is kept.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from rps_utils.files import write_text
from rps_utils.texts.counts import how_many

SOLUTION = re.compile(r"^([ \t]*)### BEGIN SOLUTION\n.*?^[ \t]*### END SOLUTION$", re.DOTALL | re.MULTILINE)
HIDDEN_TESTS = re.compile(r"^[ \t]*### BEGIN HIDDEN TESTS\n.*?^[ \t]*### END HIDDEN TESTS\n?", re.DOTALL | re.MULTILINE)
MARKER = re.compile(r"### (?:BEGIN|END) (?:SOLUTION|HIDDEN TESTS)")
STUB = r"\1...  # your answer here"
QUIZZES = "quizzes"


class MarkerError(ValueError):
    """A marker has no partner; the message names the cell."""


def without_solution(source: str) -> str:
    """Return the source of a cell as a student gets it.

    Raises
    ------
    MarkerError
        A beginning has no end, or an end no beginning.
    """
    left = HIDDEN_TESTS.sub("", SOLUTION.sub(STUB, source)).rstrip("\n")
    if lonely := MARKER.search(left):
        raise MarkerError(f"`{lonely[0]}` has no partner, in the cell that begins {source[:60]!r}")
    return left


def student_notebook(notebook: NotebookNode) -> NotebookNode:
    """Return a copy of a notebook for students: no solutions, no hidden tests, no outputs.

    A check that fails does not end "Run All": its cell says, by a tag that Jupyter knows, that it may.
    """
    copy = nbformat.from_dict(notebook)
    for cell in copy.cells:
        cell.source = without_solution(cell.source)
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        if cell.metadata.get("nbgrader", {}).get("grade"):
            cell.metadata.tags = [*cell.metadata.get("tags", []), "raises-exception"]
    return copy


def write_student_notebooks(source: Path, destination: Path) -> list[Path]:
    """Write the student's copy of every notebook of a folder, and its quizzes unchanged.

    Returns
    -------
    list of Path
        The notebooks that were written: those that were there before are left as they are.
    """
    written = []
    (destination / QUIZZES).mkdir(parents=True, exist_ok=True)
    for path in sorted(source.glob("*.ipynb")):
        if not (destination / path.name).exists():
            text = nbformat.writes(student_notebook(nbformat.read(path, as_version=4))) + "\n"
            written.append(write_text(text, destination / path.name))
    for path in sorted((source / QUIZZES).glob("*.json")):
        write_text(path.read_text(encoding="utf-8"), destination / QUIZZES / path.name)
    return written


def main() -> None:
    """Write the copies and say where they are."""
    if len(sys.argv) != 3:
        sys.exit("use: python -m rps_utils.course.student SOURCE DESTINATION")
    source, destination = Path(sys.argv[1]), Path(sys.argv[2])
    found = len(list(source.glob("*.ipynb")))
    if not found:
        sys.exit(f"{source} holds no notebooks")
    if source.resolve() == destination.resolve():
        sys.exit(f"{destination} is the folder of the solutions: name another")
    written = len(write_student_notebooks(source, destination))
    kept = f"; {found - written} were there and are kept: delete one to begin it anew" if written < found else ""
    print(f"{how_many(written, 'notebook')} without solutions written to {destination}{kept}")


if __name__ == "__main__":
    main()
