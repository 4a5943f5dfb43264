"""Toy notebooks through Snakemake, papermill and a kernel, in surroundings that are against them."""

import signal
import subprocess
import sys
import time

import psutil
import pytest

from rps_utils.machine.engines import Engine
from rps_utils.runs import chain
from rps_utils.runs.parameters import UsageError, choose_parameters
from rps_utils.steps import read_steps

from .conftest import write_notebook

WRITE = """
from pathlib import Path
from rps_utils.files import write_text
assert not fail, "asked to"
write_text("1", Path(run_dir) / "{name}.txt")
"""
RUN = """
import sys
from pathlib import Path
from rps_utils.machine.engines import Engine
from rps_utils.runs import chain
from rps_utils.runs.parameters import choose_parameters
from rps_utils.steps import read_steps
chain.closing_steps = lambda steps: []
steps = read_steps(sys.argv[1])
chain.run_chain(Path(sys.argv[2]), steps, choose_parameters(steps, "paper", {}), Engine(2))
"""


@pytest.fixture
def notebooks(tmp_path, monkeypatch):
    """Two notebooks, the second reads the first; nothing follows them."""
    monkeypatch.setattr(chain, "closing_steps", lambda steps: [])
    folder = tmp_path / "notebooks"
    for name, read in {"01_first": [], "02_second": ["01_first.txt"]}.items():
        declared = {"reads": read, "writes": [f"{name}.txt"]}
        write_notebook(folder, name, declared, "run_dir = '.'\nfail = False\n", WRITE.format(name=name))
    return folder


def run_notebooks(notebooks, run, **asked):
    steps = read_steps(notebooks)
    return chain.run_chain(run, steps, choose_parameters(steps, "paper", asked), Engine(2))


def test_hostile_files_in_the_working_folder_and_no_home(notebooks, tmp_path, monkeypatch, capfd):
    """No process imports what lies in the working folder, the run folder or beside the notebooks."""
    run = tmp_path / "a run {of} mine"
    for place in (tmp_path / "work", run, run / ".chain" / "engine", notebooks):
        place.mkdir(parents=True, exist_ok=True)
        for name in ("random", "queue", "numpy", "pandas", "snakemake", "papermill", "rps_utils"):
            (place / f"{name}.py").write_text("raise SystemExit('a file of the working folder was imported')\n")
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", "/dev/null")
    assert run_notebooks(notebooks, run)
    said = capfd.readouterr().out
    assert "01_first: new" in said and "wait for these, and run if what they read changes: 02_second" in said
    assert "[ 2/2] 02_second                done in" in said
    assert not run_notebooks(notebooks, run)
    assert capfd.readouterr().out == "unchanged: 2 of 2 steps reused\n"
    assert not (run / ".running").exists()


def test_what_failed_why_and_where_to_look(notebooks, tmp_path):
    copy = tmp_path / "run" / "notebooks" / "01_first.ipynb"
    message = (
        r"1 of 2 steps failed; what is done is kept:\n"
        rf"  01_first +failed in cell 3: AssertionError: asked to\n    look at {copy}"
    )
    with pytest.raises(RuntimeError, match=message):
        run_notebooks(notebooks, tmp_path / "run", fail=True)


def test_an_engine_that_cannot_start_says_its_own_cause(notebooks, tmp_path, monkeypatch):
    monkeypatch.setattr(chain, "SNAKEFILE", tmp_path / "nowhere" / "Snakefile")
    with pytest.raises(
        RuntimeError, match=r"the workflow engine failed:\n(.*\n)*.*nowhere(.*\n)*all that it said"
    ) as failed:
        run_notebooks(notebooks, tmp_path / "run")
    assert "notebooks are in" not in str(failed.value)


def test_a_file_that_nobody_writes_or_brings_is_named(notebooks, tmp_path):
    (second,) = [step for step in read_steps(notebooks) if step.name == "02_second"]
    with pytest.raises(UsageError, match=r"02_second reads .*01_first\.txt, which is not there"):
        chain.run_chain(tmp_path / "run", [second], {}, Engine(1))


def test_a_run_whose_reader_went_away_leaves_nothing_and_says_its_own_error(notebooks, tmp_path, monkeypatch):
    def break_pipe(*given):
        raise BrokenPipeError("nobody reads")

    monkeypatch.setattr(chain.Progress, "follow", break_pipe)
    before = set(psutil.Process().children(recursive=True))  # workers of other tests may be among them
    with pytest.raises(BrokenPipeError, match="nobody reads"):
        run_notebooks(notebooks, tmp_path / "run")
    assert not [process for process in set(psutil.Process().children(recursive=True)) - before if _lives(process)]
    assert not (tmp_path / "run" / ".running").exists()


def test_a_terminated_run_leaves_no_process_and_no_lock(notebooks, tmp_path):
    wait = "import time\nprint('asleep')\ntime.sleep(600)\n"
    write_notebook(notebooks, "01_first", {"writes": ["01_first.txt"]}, "run_dir = '.'\nfail = False\n", wait)
    command = [sys.executable, "-c", RUN, str(notebooks), str(tmp_path / "run")]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert any("01_first" in line and "started" in line for line in run.stdout)
        family = _family(run.pid)
        run.send_signal(signal.SIGTERM)
        run.communicate(timeout=60)
    finally:
        run.kill()
        run.stdout.close()
    assert run.returncode == 128 + signal.SIGTERM
    assert not [process for process in family if _lives(process)]
    assert not (tmp_path / "run" / ".running").exists()


@pytest.mark.parametrize("seconds", [0.3, 2.5])
def test_a_run_killed_with_all_it_started_is_finished_by_the_same_command(notebooks, tmp_path, seconds):
    slow = "import time\nfrom pathlib import Path\nfrom rps_utils.files import write_text\n"
    slow += "for n in range(20):\n    write_text(str(n), Path(run_dir) / 'many' / f'{n}.txt')\n    time.sleep(0.1)\n"
    write_notebook(
        notebooks,
        "01_first",
        {"writes": ["01_first.txt", "many/*.txt"]},
        "run_dir = '.'\nfail = False\n",
        slow,
        WRITE.format(name="01_first"),
    )
    command = [sys.executable, "-c", RUN, str(notebooks), str(tmp_path / "killed")]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert any("01_first" in line and "started" in line for line in run.stdout)
        _family(run.pid)
        time.sleep(seconds)
    finally:
        for process in [*psutil.Process(run.pid).children(recursive=True), run]:
            process.kill()
        run.communicate()
    assert not (tmp_path / "killed" / "02_second.txt").exists()
    for name in ("killed", "undisturbed"):
        assert run_notebooks(notebooks, tmp_path / name)
    assert _texts(tmp_path / "killed") == _texts(tmp_path / "undisturbed")
    assert not [
        path for path in (tmp_path / "killed").rglob("*") if ".partial-" in path.name or path.name == ".running"
    ]


def _texts(run):
    found = {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*.txt") if ".chain" not in path.parts}
    assert len(found) == 22
    return found


def _family(pid):
    """Return the processes that a run started, once its kernel is there too."""
    end = time.time() + 60
    while True:
        found = psutil.Process(pid).children(recursive=True)
        if any("ipykernel_launcher" in " ".join(process.cmdline()) for process in found if _lives(process)):
            return found
        assert time.time() < end, found
        time.sleep(0.2)


def _lives(process):
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
