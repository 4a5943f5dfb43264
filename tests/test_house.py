"""The rules of the house: rooms of a size that a reader surveys, imports one way, one name in one home."""

import ast
import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

import rps_utils
from docs.architecture import FLOORS, PAGE, page
from rps_utils.run_folder import NAMES

PACKAGE = Path(rps_utils.__file__).parent
NOTEBOOKS = PACKAGE.parent / "notebooks"
MODULES = {
    path.relative_to(PACKAGE.parent).with_suffix("").as_posix().replace("/", "."): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}

FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms.split()}
MOST_MODULES = 8
DEEP_LEARNING = {"torch", "monai", "torchsurv"}
MAY_USE_TORCH = {"deep", "finished", "lab"}
# Words that mean the same in each module that has them.
COMMON = {"main"}


def room_of(module):
    return module.split(".")[1] if "." in module else ""


def imported(tree):
    """The modules that a file imports, names of this package in full, imports inside functions included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            known = [name for name in inside if name in MODULES or f"{name}.__init__" in MODULES]
            yield from known or [node.module]


def misdirected(module, tree, floor=FLOOR):
    """The imports of a module that go up, or sideways to another room of its floor."""
    own = room_of(module)
    rooms = {room_of(name) for name in imported(tree) if name.startswith("rps_utils.")} - {own, ""}
    return sorted(room for room in rooms if floor[room] >= floor[own])


def defined(tree):
    """The public names that a module defines at its top."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Assign):
            names = [part.id for target in node.targets for part in ast.walk(target) if isinstance(part, ast.Name)]
        else:
            names = [node.target.id] if isinstance(node, ast.AnnAssign) else []
        yield from (name for name in names if not name.startswith("_"))


def words(tree):
    """Every name that a file reads, as a variable, an attribute, an import or inside a text."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.ImportFrom):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from re.findall(r"\w+", node.value) if len(node.value) < 200 else ()


@pytest.mark.parametrize(
    ("module", "source", "found"),
    [
        ("rps_utils.survival.roc", "from rps_utils.figures.style import INK", ["figures"]),
        ("rps_utils.survival.roc", "from rps_utils.scores import read_scores", ["scores"]),
        ("rps_utils.learning.cox", "def f():\n    from rps_utils.lab import phantom", ["lab"]),
        ("rps_utils.figures.roc", "from rps_utils.figures.style import INK\nfrom rps_utils.survival import roc", []),
        ("rps_utils.cli.run", "from rps_utils.lab.phantom.cohort import write_cohort", []),
    ],
    ids=["up", "sideways", "hidden in a function", "own room and down", "cli knows the lab"],
)
def test_a_wrong_import_is_found(module, source, found):
    assert misdirected(module, ast.parse(source)) == found


def test_every_room_has_a_floor():
    assert {room_of(name) for name in MODULES} - {"", "__init__"} == set(FLOOR)


@pytest.mark.parametrize("module", [name for name in MODULES if room_of(name) not in ("", "__init__")])
def test_imports_point_one_way(module):
    assert misdirected(module, TREES[module]) == []


def test_no_room_is_too_large():
    sizes = defaultdict(list)
    for path in MODULES.values():
        if path.name != "__init__.py":
            sizes[path.parent.relative_to(PACKAGE.parent).as_posix()].append(path.stem)
    crowded = {folder: names for folder, names in sizes.items() if len(names) > MOST_MODULES}
    assert not crowded, f"more than {MOST_MODULES} modules"


@pytest.mark.parametrize("module", MODULES)
def test_a_module_says_first_what_belongs_there(module):
    text = ast.get_docstring(TREES[module])
    assert text, "no docstring"
    assert len(text.splitlines()[0]) > 15 and text.splitlines()[0].endswith((".", "?", ":")), text.splitlines()[0]
    if module.endswith("__init__") and module != "rps_utils.__init__":
        assert len(TREES[module].body) == 1, "a package re-exports nothing"


def test_torch_stays_in_its_rooms():
    users = {name for name, tree in TREES.items() if {m.split(".")[0] for m in imported(tree)} & DEEP_LEARNING}
    assert {room_of(name) for name in users} <= MAY_USE_TORCH, sorted(users)


def test_no_name_has_two_homes():
    homes = defaultdict(list)
    for module, tree in TREES.items():
        for name in set(defined(tree)):
            homes[name].append(module)
    assert not {name: places for name, places in homes.items() if len(places) > 1 and name not in COMMON}


def test_every_public_name_is_used_by_more_than_its_test():
    used = defaultdict(int)
    trees = list(TREES.values())
    for path in NOTEBOOKS.rglob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        trees += [ast.parse("".join(cell["source"])) for cell in cells if cell["cell_type"] == "code"]
    trees += [ast.parse(path.read_text(encoding="utf-8")) for path in (PACKAGE.parent / "benchmarks").glob("*.py")]
    for tree in trees:
        for word in words(tree):
            used[word] += 1
    idle = {
        f"{module}.{name}"
        for module, tree in TREES.items()
        for name in defined(tree)
        if not used[name] and name != "main" and not name.endswith("_command")  # click calls these by decorator
    }
    assert not idle


def test_the_library_knows_no_notebook():
    """Which notebooks there are, and what each reads and writes, stands in the notebooks alone."""
    names = [path.stem for path in NOTEBOOKS.glob("*.ipynb")]
    found = {module: name for module in TREES for name in names if name in MODULES[module].read_text(encoding="utf-8")}
    assert not found
    numbered = re.compile(r"\bnotebooks? \d\d\b")
    told = {m: numbered.findall(path.read_text(encoding="utf-8")) for m, path in MODULES.items()}
    assert not {module: hits for module, hits in told.items() if hits}


def test_the_page_on_the_architecture_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == page(), "make docs"


def test_evaluation_loads_no_network_library():
    rooms = ("survival", "intervals", "evaluation", "figures", "report")
    modules = [name.removesuffix(".__init__") for name in MODULES if room_of(name) in rooms]
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert len(modules) > 30 and not {"torch", "monai", "torchsurv", "radiomics"} & set(loaded)


def test_the_run_folder_owns_its_file_names():
    """Rules for the content of files stand in `schema`, by file name, on a lower floor; nobody else spells one."""
    names, own = set(NAMES.values()), {"rps_utils.run_folder", "rps_utils.schema"}
    texts = ((m, n.value) for m, tree in TREES.items() for n in ast.walk(tree) if isinstance(n, ast.Constant))
    assert not {module: text for module, text in texts if text in names and module not in own}
