"""A chain of four notebooks, a package with one module for each relation to them, and a cohort of two images."""

import json
import os
import shutil

import pytest

from rps_utils.files import write_text
from rps_utils.runs import freshness, notebook
from rps_utils.runs.parameters import choose_parameters
from rps_utils.sources import Contents
from rps_utils.steps import in_order, read_steps


def write_notebook(folder, name, declared, *cells):
    """Write a notebook whose first cell holds the parameters."""
    tagged = [{"tags": ["parameters"]}, *[{}] * (len(cells) - 1)]
    written = [
        {
            **{"cell_type": "code", "id": f"c{place}", "metadata": metadata, "source": source.splitlines(True)},
            **{"outputs": [], "execution_count": None},
        }
        for place, (source, metadata) in enumerate(zip(cells, tagged, strict=True))
    ]
    about = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    metadata = about | ({"rps": declared} if declared is not None else {})
    content = {"cells": written, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return write_text(json.dumps(content), folder / f"{name}.ipynb")


PACKAGE = {
    "__init__.py": "",
    "used.py": "import numpy\nfrom . import near\n\n"
    "def show():\n    from toy import far\n    return open('pages/page.html')\n",
    "near.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from toy.typed import Kind\n",
    "far.py": "import importlib\nworker = importlib.import_module('toy.named')\n",
    "named.py": "",
    "typed.py": "class Kind: pass\n",
    "unrelated.py": "from toy import used\n",
    "pages/page.html": "{% include 'style.css' %}",
    "pages/style.css": "p {}",
    "pages/other.html": "",
    "results/power.csv": "events,power\n12,0.1\n",
}


class Chain:
    """The toy chain; `bring` does what the workflow engine would, without a kernel, and names the steps it executed."""

    def __init__(self, root, monkeypatch):
        self.root, self.run, self.package = root, root / "run", root / "toy"
        for name, text in PACKAGE.items():
            write_text(text, self.package / name)
        write_text("patient_id,image\nA,ct/a.nii\nB,ct/b.nii\n", root / "cohort" / "manifest.csv")
        for name in "ab":
            write_text(f"pixels of {name}", root / "cohort" / "ct" / f"{name}.nii")
        write_text("the rules", root / "Snakefile")
        self.executed, self.asked = [], {"manifest": str(root / "cohort" / "manifest.csv")}
        for name, value in {"PACKAGE": self.package, "SNAKEFILE": root / "Snakefile"}.items():
            monkeypatch.setattr(freshness, name, value)
        monkeypatch.setattr(notebook, "execute", self._execute)
        self._write_notebooks(root / "notebooks")

    def _write_notebooks(self, folder):
        run_dir = "run_dir = '.'\n"
        add = {"reads": [], "writes": ["cohort.csv"]}
        write_notebook(folder, "01_read", add, f"{run_dir}manifest = ''\nn_jobs = 2\n", "print('read')")
        fit = {"reads": ["cohort.csv"], "writes": ["fits/*.csv"]}
        write_notebook(folder, "02_fit", fit, f"{run_dir}epochs = 60\n", "from toy import used")
        write_notebook(folder, "03_claim", {"writes": ["claim.csv"], "data": ["results/power.csv"]}, run_dir, "1")
        end = {"reads": ["fits/*.csv", "claim.csv"], "writes": ["end.csv"]}
        write_notebook(folder, "04_end", end, run_dir, "import toy.near")

    def _execute(self, source, parameters, run, n_jobs):
        name, inputs = source.stem, ""
        if name == "01_read":
            inputs = (self.root / "cohort" / "manifest.csv").read_text()
        if name == "02_fit":
            inputs = (run / "cohort.csv").read_text() + str(parameters["epochs"])
        if name == "03_claim":
            inputs = (self.package / "results" / "power.csv").read_text()
        if name == "04_end":
            inputs = (run / "fits" / "a.csv").read_text() + (run / "claim.csv").read_text()
        places = {"01_read": "cohort.csv", "02_fit": "fits/a.csv", "03_claim": "claim.csv", "04_end": "end.csv"}
        write_text(inputs, run / places[name])
        write_text(f"drawn by {name}", run / "figures" / f"{name}.html")
        write_text("{}", run / "notebooks" / source.name)
        self.executed.append(name)

    def steps(self):
        return read_steps(self.root / "notebooks")

    def parameters(self):
        return choose_parameters(self.steps(), "paper", self.asked)

    def contents(self):
        return Contents(self.run / ".chain" / "hashes.json")

    def plan(self):
        contents = self.contents()
        plan = freshness.make_plan(self.run, self.steps(), self.parameters(), contents)
        contents.remember()
        return {decision.step.name: decision for decision in plan}

    def bring(self):
        self.executed.clear()
        plan = self.plan()
        for step in in_order(self.steps()):
            if plan[step.name].state != "reused":
                notebook.do_step(step, self.parameters()[step.name], self.run, 1)
        return list(self.executed)


@pytest.fixture
def chain(tmp_path, monkeypatch):
    made = Chain(tmp_path, monkeypatch)
    assert sorted(made.bring()) == ["01_read", "02_fit", "03_claim", "04_end"]
    return made


def age(path, seconds):
    """Move the times of a file."""
    state = path.stat()
    os.utime(path, (state.st_atime + seconds, state.st_mtime + seconds))


def copy_away_and_back(folder):
    """Copy a folder with its times, as an archive or another checkout would."""
    shutil.copytree(folder, folder.with_name("copy"))
    shutil.rmtree(folder)
    shutil.copytree(folder.with_name("copy"), folder)
