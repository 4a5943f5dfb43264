"""Which files some code needs, read from its text."""

import pytest

from rps_utils.files import write_text
from rps_utils.sources import Contents, import_closure, module_files, notebook_code

PACKAGE = {
    "__init__.py": "",
    "a.py": "from pkg.room import b\n",
    "c.py": "",
    "room/__init__.py": "",
    "room/b.py": "from .. import c\nfrom .deeper.d import name\nfrom . import data\n",
    "room/data.py": "PAGE = 'page.html'\n",
    "room/page.html": "<p>",
    "room/deeper/__init__.py": "",
    "room/deeper/d.py": "name = 1\n",
    "other.py": "import pkg.a\n",
    "runner.py": "command = ['python', '-m', 'pkg.other']\n",
}
EVERYTHING_OF_A = {
    *("__init__.py", "a.py", "c.py", "room/__init__.py", "room/b.py", "room/data.py", "room/page.html"),
    *("room/deeper/__init__.py", "room/deeper/d.py"),
}


@pytest.fixture
def package(tmp_path):
    for name, text in PACKAGE.items():
        write_text(text, tmp_path / "pkg" / name)
    return tmp_path / "pkg"


@pytest.mark.parametrize(
    ("code", "needed"),
    [
        ("import numpy", set()),
        ("import pkg.c as x", {"__init__.py", "c.py"}),
        ("from pkg import c, nothing", {"__init__.py", "c.py"}),
        ("from pkg.c import function", {"__init__.py", "c.py"}),
        ("def f():\n    from pkg import a", EVERYTHING_OF_A),
        ("import pkg.runner", EVERYTHING_OF_A | {"runner.py", "other.py"}),
        ("from pkgs import c", set()),
        ("this is no Python", set()),
    ],
    ids=["foreign", "module", "from package", "from module", "within a function", "by name", "similar name", "broken"],
)
def test_the_closure_of_imports(package, tmp_path, code, needed):
    closure = import_closure([code], Contents(tmp_path / "memory.json"), package)
    assert {path.relative_to(package).as_posix() for path in closure} == needed


def test_only_what_python_reads_counts(package, tmp_path):
    def hashes():
        closure = import_closure(["import pkg.c"], Contents(tmp_path / "memory.json"), package)
        return closure[package / "c.py"]

    before = hashes()
    write_text("# a comment\n\n\n", package / "c.py")
    assert hashes() == before
    write_text("x = (1)\n", package / "c.py")
    one = hashes()
    write_text("x = 1  # the same\n", package / "c.py")
    assert hashes() == one != before


def test_names_that_are_not_ours_have_no_files(package):
    assert module_files("numpy.linalg", package) == module_files("pkg_else.a", package) == []


def test_lines_that_only_jupyter_understands_are_left_out(tmp_path):
    cells = '[{"cell_type": "code", "source": ["%matplotlib inline\\n", "import pkg.c\\n", "!ls"], "metadata": {}}]'
    write_text(f'{{"cells": {cells}}}', tmp_path / "x.ipynb")
    assert notebook_code(tmp_path / "x.ipynb") == ["import pkg.c"]
