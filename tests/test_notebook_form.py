"""The form that every notebook keeps, so that a reader finds the same things in the same places."""

import ast
import re
from statistics import median, quantiles

import nbformat
import pytest

from rps_utils.runs.parameters import default_parameters
from rps_utils.steps import NOTEBOOKS, read_steps

NOTEBOOKS = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
# The only ones that may load torch.
DEEP = {"02_augmentation", "03_deep_learning", "14_controls", "15_explanation", "16_doubt"}


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture
def notebook(path):
    return nbformat.read(path, as_version=4)


def texts(notebook, kind="markdown"):
    return [cell.source for cell in notebook.cells if cell.cell_type == kind]


def lines_of(source):
    return [line for line in source.splitlines() if line.strip()]


def parameters(notebook):
    tagged = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    assert len(tagged) == 1, "exactly one cell is tagged `parameters`"
    return tagged[0]


def test_there_is_a_notebook_for_every_step():
    assert {step.name for step in read_steps()} == {path.stem for path in NOTEBOOKS}
    assert [path.stem[:2] for path in NOTEBOOKS] == [f"{number:02d}" for number in range(len(NOTEBOOKS))]


def test_it_opens_with_title_question_abilities_files_and_minutes(notebook, path):
    opening = texts(notebook)[0]
    assert notebook.cells[0].cell_type == "markdown"
    assert re.match(rf"# {path.stem[:2]} · \S", opening)
    question = re.search(r"\*\*Question\.?\*\*\s*(.+)", opening)
    assert question, "the opening states the **Question**"
    assert question[1].count("?") == 1, "the question is one sentence"
    able = re.search(r"\*\*You will be able to\*\*:?\n+((?:[*-] .+\n?)+)", opening)
    assert able and len(lines_of(able[1])) == 3, "three bullets follow **You will be able to**"
    for word in ("**Needs**", "**Reads**", "**Writes**", "**Minutes**"):
        assert word in opening, f"the opening says what it {word}"


def test_parameters_are_independent_literals(notebook):
    for statement in ast.parse(parameters(notebook).source).body:
        assert isinstance(statement, ast.Assign) and len(statement.targets) == 1
        ast.literal_eval(statement.value)


def test_parameters_come_before_all_other_code(notebook):
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code[0] is parameters(notebook)
    assert "run_dir" in code[0].source


def test_a_parameter_means_the_same_in_all_notebooks():
    """`-p NAME=VALUE` sets it everywhere, so at least its type must be the same."""
    kinds = {}
    for path in NOTEBOOKS:
        for name, value in default_parameters(path).items():
            kinds.setdefault(name, set()).add(type(value).__name__)
    assert {name: found for name, found in kinds.items() if len(found) > 1} == {}


def test_it_closes_with_recap_limits_and_next(notebook, path):
    closing = texts(notebook)[-1]
    assert notebook.cells[-1].cell_type == "markdown"
    recap = re.search(r"## Recap\n+((?:[*-] .+\n?)+)", "\n\n".join(texts(notebook)))
    assert recap and len(lines_of(recap[1])) == 3, "the recap mirrors the three abilities"
    assert "**Limits" in closing and "**Next" in closing
    following = [p.name for p in NOTEBOOKS if p.stem[:2] > path.stem[:2]][:1]
    links = re.findall(r"\]\((\d\d_\w+\.ipynb)\)", closing[closing.index("**Next") :])
    assert links, "Next links to a notebook"
    assert not following or following[0] in links


def test_links_lead_to_files_that_exist(notebook, path):
    for target in re.findall(r"\]\(([^)#]+)\)", "\n".join(texts(notebook))):
        assert target.startswith("https://") or (path.parent / target).exists(), target


def test_it_is_committed_without_results(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None
    assert notebook.metadata.kernelspec.name == "python3"
    assert set(notebook.metadata) <= {"kernelspec", "language_info", "rps"}


def test_cells_are_short(notebook):
    lengths = [len(lines_of(source)) for source in texts(notebook, "code")]
    assert max(lengths) <= 30
    assert median(lengths) <= 6
    assert quantiles(lengths, n=10, method="inclusive")[-1] <= 15


def test_code_is_explained_as_it_goes(notebook):
    kinds = "".join("c" if cell.cell_type == "code" else "m" for cell in notebook.cells)
    assert "ccc" not in kinds, "at most two code cells in a row"
    prose = sum(len(source.split()) for source in texts(notebook))
    code = sum(len(lines_of(source)) for source in texts(notebook, "code"))
    assert prose >= 7 * code, f"{prose} words for {code} lines of code"


def test_no_path_of_one_machine_and_no_branch_for_the_phantom(notebook):
    code = "\n".join(texts(notebook, "code"))
    assert not re.search(r"""["'](/|~|[A-Z]:\\)""", code), "absolute path"
    assert not re.search(r"\bif\b.*(phantom|synthetic)", code, re.IGNORECASE)


def test_grey_values_are_shown_only_where_they_may(notebook):
    """A picture of a patient asks the manifest first: see `manifest.why_withheld`."""
    code = "\n".join(texts(notebook, "code"))
    assert "withheld" in code or not re.search(r"ct_view|heatmap|imshow", code, re.IGNORECASE)


def test_every_code_cell_parses(notebook):
    for source in texts(notebook, "code"):
        ast.parse(source)


def test_only_the_deep_learning_notebooks_import_torch(notebook, path):
    if path.stem not in DEEP:
        deep = r"^\s*(?:import|from) (?:torch|monai|rps_utils\.deep)"
        assert not re.search(deep, "\n".join(texts(notebook, "code")), re.MULTILINE)
