"""Write docs/architecture.md from the code and from what the notebooks declare: ``python docs/architecture.py``.

Nothing in that page is drawn by hand: the rooms and their first sentences are read from the package, the order of
imports is the rule that the tests hold, and the flow of data is what the notebooks say that they read and write.
"""

from __future__ import annotations

import ast
from fnmatch import fnmatchcase
from pathlib import Path

from rps_utils.steps import Step, read_steps

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "rps_utils"
PAGE = ROOT / "docs" / "architecture.md"

# A room imports from itself and from floors below its own (above in this list); rooms of one floor do not know each
# other. tests/test_house.py holds it.
FLOORS = [
    "texts machine",
    "files",
    "sources pages schema",
    "steps scores survival",
    "run_folder intervals imaging",
    "cohort",
    "evaluation learning",
    "deep",
    "figures",
    "widgets ingest runs",
    "finished",
    "public report course",
    "lab",
    "cli",
]

HEAD = """# How the house is built

*Written by `make docs` from the code and the notebooks; a test fails where it is not up to date.*

Data flows one way: each notebook reads files of the run folder that earlier ones wrote, and writes its own; nothing
passes through memory. Notebooks hold choices, calls, interpretation and the lesson; the package holds what is used
twice or can be silently wrong. All file names of a run folder stand in `run_folder.py`.
"""


def first_sentence(path: Path) -> str:
    """Return the first line of a module's docstring."""
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").splitlines()[0]


def rooms() -> list[str]:
    """Return a table of the rooms in the order of imports, and one of the modules in each."""
    lines = ["## Rooms, in the order of imports", "", "| floor | room | what belongs there |", "|---|---|---|"]
    for number, names in enumerate(FLOORS, 1):
        for name in names.split():
            path = PACKAGE / name / "__init__.py" if (PACKAGE / name).is_dir() else PACKAGE / f"{name}.py"
            lines.append(f"| {number} | `{name}` | {first_sentence(path)} |")
    lines += [
        "",
        "A room imports from itself and from floors with a smaller number, never sideways or up. A folder holds at",
        "most eight modules. torch, MONAI and torchsurv are imported in `deep`, `finished` and `lab` only.",
        "",
        "## Modules",
    ]
    for folder in sorted({path.parent for path in PACKAGE.rglob("*.py")}):
        modules = [path for path in sorted(folder.glob("*.py")) if path.stem not in ("__init__", "__main__")]
        if folder != PACKAGE and modules:
            lines += ["", f"**`{folder.relative_to(PACKAGE).as_posix()}/`**", ""]
            lines += [f"* `{path.name}`: {first_sentence(path)}" for path in modules]
    return lines


def passes(giver: Step, taker: Step) -> list[str]:
    """Return the files that go from one step to another."""
    return [w for w in giver.writes if any(fnmatchcase(w, r) or fnmatchcase(r, w) for r in taker.reads)]


def flow(steps: tuple[Step, ...]) -> list[str]:
    """Return the flow of data between the notebooks as a diagram, and as a table."""
    lines = ["## Data flow", "", "```mermaid", "flowchart LR"]
    lines += [f'    n{step.name[:2]}["{step.name.replace("_", " ")}"]' for step in steps]
    for taker in steps:
        for giver in steps:
            if passes(giver, taker):
                lines.append(f"    n{giver.name[:2]} --> n{taker.name[:2]}")
    lines += ["```", "", "| notebook | reads | writes |", "|---|---|---|"]
    for step in steps:
        data = [f"package: `{name}`" for name in step.data]
        reads = ", ".join([*(f"`{name}`" for name in step.reads), *data]) or "nothing of the run"
        lines.append(f"| {step.name} | {reads} | {', '.join(f'`{name}`' for name in step.writes)} |")
    return lines


def page() -> str:
    """Return the whole page."""
    return "\n".join([HEAD, *rooms(), "", *flow(read_steps()), ""])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
