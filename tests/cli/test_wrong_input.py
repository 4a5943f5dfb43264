"""Every command with wrong input of each kind: an exit status, a line that helps, never a traceback."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
import yaml

from rps_utils.cli.errors import Terminated, explain
from rps_utils.cli.main import main
from rps_utils.cli.paths import ROOT
from rps_utils.files import read_csv, read_json, reading
from rps_utils.lab.phantom.cohort import write_images

CRLM = "colorectal_liver_metastases"
NO_TRACE = "Traceback"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with one wrong file of each kind."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dir").mkdir()
    (tmp_path / "ok.csv").write_text("patient_id,time_months,event\nA,1,1\n")
    (tmp_path / "empty.csv").touch()
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00\x81")
    (tmp_path / "not.xlsx").write_bytes(b"PK\x03\x04 no archive")
    (tmp_path / "broken.json").write_text('{"columns": [')
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    return tmp_path


def call(capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    printed = capsys.readouterr()
    return stop.value.code, " ".join((printed.out + printed.err).split())


READ = {
    "check": "check {}",
    "evaluate": "evaluate {} --out out",
    "predict": "predict dir --manifest {} --out s.csv",
    "run": "run --manifest {} --out out",
    "ingest, table": "ingest dir --clinical {} --out out",
    "ingest, mapping": "ingest dir --clinical ok.csv --mapping {} --out out",
    "public download": f"public download {CRLM} --manifest {{}} --out out",
}
UNREADABLE = {
    "gone.csv": "gone.csv does not exist: give the path of",
    "dir": "dir is a folder: give the path of",
    "nowhere": "nowhere is a link to nothing",
    "loop": "loop: too many levels of symbolic links",
    "/dev/null": "/dev/null is no ordinary file",
    "x" * 300: "file name too long: choose a shorter name",
    "ok.csv/x": "ok.csv/x does not exist",
    "new\nline": r"new\nline does not exist",
}


@pytest.mark.parametrize("path", UNREADABLE, ids=lambda p: repr(p[:12]))
@pytest.mark.parametrize("command", READ)
def test_what_cannot_be_read_is_said_at_the_door(command, path, folder, capsys):
    arguments = [path if word == "{}" else word for word in READ[command].split()]
    status, said = call(capsys, arguments)
    assert status == 1 and said.startswith("rps: ") and UNREADABLE[path] in said
    assert NO_TRACE not in said and not (folder / "out").exists()


WRITE = {
    "phantom": "phantom {}",
    "phantom, dicom": "phantom out --dicom {}",
    "run": "run --manifest ok.csv --out {}",
    "evaluate": "evaluate ok.csv --out {}",
    "ingest": "ingest dir --clinical ok.csv --out {}",
    "study, pool": "study dl --pool {} --out t.csv",
    "public download": f"public download {CRLM} --out {{}}",
}
WRITE_FILE = {
    "check": "check ok.csv --html {}",
    "phantom, manifest": "phantom out --manifest {}",
    "predict": "predict dir --manifest ok.csv --out {}",
    "public manifest": f"public manifest {CRLM} --out {{}}",
    **{f"study {name}": f"study {name} --out {{}}" for name in ("replicates", "shortcut", "power", "recipes", "dl")},
}
UNWRITABLE = {
    "empty.csv/x": "empty.csv is a file, and in the way: choose another place",
    "/dev/null/x/y": "/dev/null is a file, and in the way",
    "/proc/x/y": "/proc: ",
    "nowhere/x": "nowhere is a link to nothing, and in the way",
    "y" * 300: "file name too long: choose a shorter name",
}


@pytest.mark.parametrize("path", UNWRITABLE, ids=lambda p: p[:12])
@pytest.mark.parametrize("command", [*WRITE, *WRITE_FILE])
def test_what_cannot_be_written_is_said_before_any_work(command, path, folder, capsys):
    status, said = call(capsys, ({**WRITE, **WRITE_FILE})[command].format(path).split())
    assert status == 2 and "Invalid value for" in said and UNWRITABLE[path] in said
    assert NO_TRACE not in said and not (folder / "out").exists()


@pytest.mark.parametrize("command", WRITE_FILE)
def test_a_folder_is_no_file_to_write(command, folder, capsys):
    status, said = call(capsys, WRITE_FILE[command].format("dir").split())
    assert status == 2 and "dir is a folder: give the path of a file" in said


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ("check empty.csv", 1, "it is empty"),
        ("check bytes.csv", 1, "save it as `CSV UTF-8"),
        ("evaluate empty.csv --out out", 1, "empty.csv: not readable as CSV text in UTF-8"),
        ("evaluate bytes.csv --out out", 1, "bytes.csv: not readable as CSV text in UTF-8"),
        ("run --manifest empty.csv --out out", 1, "it is empty"),
        ("run --manifest bytes.csv --out out", 1, "save it as `CSV UTF-8"),
        ("ingest dir --clinical not.xlsx --out out", 1, "clinical table: not readable as an Excel workbook"),
        (
            "ingest dir --clinical ok.csv --mapping broken.json --out out",
            1,
            "not readable as YAML or JSON",
        ),
        ("ingest dir --clinical ok.csv --mapping bytes.csv --out out", 1, "not readable as YAML or JSON"),
        ("ingest ok.csv --clinical ok.csv --out out", 1, "ok.csv is no folder"),
        ("public ingest X --source dir --clinical ok.csv --out out", 1, "dir holds no series.csv"),
        ("predict dir --manifest ok.csv --out s.csv", 1, "dir is no finished run"),
        ("audit dir", 1, "scores made elsewhere prove nothing"),
        ("phantom out --cores 0", 2, "0 is not in the range x>=1"),
        ("phantom out --patients 2", 2, "2 is not in the range x>=3"),
        ("phantom out --patients many", 2, "'many' is not a valid integer"),
        ("phantom out --seed -1", 2, "-1 is not in the range x>=0"),
        ("phantom out --variant nul", 2, "'nul' is not one of"),
        ("evaluate ok.csv --out out --landmarks 12 -5", 2, "-5.0 is not in the range x>0"),
        ("evaluate ok.csv --out out --landmarks 12 nan", 2, "nan is not a number above 0"),
        ("evaluate ok.csv --out out --tau 0", 2, "0.0 is not in the range x>0"),
        ("evaluate ok.csv --out out --landmarks", 2, "'--landmarks' requires an argument"),
        ("study recipes --cohorts 5 2 --out t.csv", 2, "FIRST must lie below END"),
        ("study recipes --out t.csv --cohorts 5", 2, "'--cohorts' requires 2 arguments"),
        ("study recipes --lever none --out t.csv", 1, "unknown lever none; allowed: default"),
        ("study replicates --pool-patients 20 --out t.csv", 2, "--pool-patients 20: at least 315"),
        ("study replicates --folds 1 --out t.csv", 2, "1 is not in the range x>=2"),
        ("check ok.csv --html ok.csv", 2, "is given twice, as html to write and"),
        ("run -p epochs --out out", 2, "expected NAME=VALUE"),
        ("--nonsense", 2, "No such option '--nonsense'"),
        ("study", 2, "Usage: rps study"),
    ],
)
def test_wrong_use_and_wrong_content(arguments, status, message, folder, capsys):
    ended, said = call(capsys, arguments.split())
    assert (ended, message in said) == (status, True), said
    assert NO_TRACE not in said and not (folder / "out").exists()


@pytest.mark.parametrize("error", [KeyError("size"), ZeroDivisionError("by zero"), AssertionError(), TypeError("no")])
def test_a_fault_of_the_program_is_called_one(error, folder, capsys, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr("rps_utils.cli.main.rps.invoke", fail)
    status, said = call(capsys, ["audit", "dir"])
    assert status == 1 and said.startswith(f"rps: this is a fault of rps: {type(error).__name__}")
    assert said.endswith("run again with --debug") and NO_TRACE not in said
    for arguments in (["--debug", "audit", "dir"], ["audit", "dir", "--debug"]):
        assert NO_TRACE in call(capsys, arguments)[1]


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (KeyboardInterrupt(), 130, "stopped; no file is half-written"),
        (Terminated(signal.SIGTERM), 143, "ended by SIGTERM; no file is half-written"),
        (MemoryError(), 1, "not enough memory: ask for fewer --cores"),
        (OSError(errno.ENOSPC, "No space left on device", "a.csv"), 1, "a.csv: no space left on device: make room"),
        (PermissionError(errno.EACCES, "Permission denied", "a"), 1, "a: permission denied: choose another place"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", ".p/a", None, "a"), 1, "a: is a directory: a folder is in"),
        (ModuleNotFoundError("x", name="duckdb"), 1, "the package duckdb is missing"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), 1, "a file is damaged or of another kind"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_errors_of_the_system_are_put_into_words(error, status, line):
    told = explain(error)
    assert told.status == status and told.line.startswith(line) and "\n" not in told.line


def test_an_error_of_a_library_is_no_message_of_ours():
    try:
        pd.Series([1]).reindex([[1]], method="wrong")
    except (ValueError, TypeError) as error:
        assert explain(error).line.startswith("this is a fault of rps: ")


@pytest.mark.parametrize(
    ("name", "read"), [("bytes.csv", read_csv), ("empty.csv", read_csv), ("broken.json", read_json)]
)
def test_a_reader_names_the_file(name, read, folder):
    with pytest.raises(ValueError, match=rf"{name}: not readable as .*: damaged or of another kind \("):
        read(folder / name)


def test_further_errors_can_be_named():
    with pytest.raises(ValueError, match=r"m\.yml: not readable as YAML"), reading("m.yml", "YAML", (yaml.YAMLError,)):
        yaml.safe_load("a: [")


# ---------------------------------------------------------------- as processes


def started(folder, *arguments, **settings):
    command = [sys.executable, "-m", "rps_utils.cli", *arguments]
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", **settings
    )


@pytest.fixture
def hostile(tmp_path):
    """A working folder whose files have the names of modules, and names that are awkward to show."""
    for name in ("random", "queue", "json", "numpy", "pandas", "click", "tqdm", "joblib"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the working folder was imported')\n")
    for name in (b"-x.csv", b"a b.csv", b"new\nline.csv", "Größe.csv".encode(), b"\xff.csv"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).touch()
    return tmp_path


def test_hostile_folder_without_home_in_the_c_locale(hostile):
    """Worker processes too: they are started by name, and look for modules in the working folder."""
    bare = {"LC_ALL": "C", "HOME": "/dev/null/x", "PATH": os.defpath, "OMP_NUM_THREADS": "1"}
    work = started(hostile, "phantom", "cohort", "--patients", "4", "--cores", "2", env=bare)
    out, err = work.communicate(timeout=300)
    assert work.returncode == 0, err
    assert out.splitlines() == ["4 synthetic patients: cohort/data_manifest.csv"] and NO_TRACE not in err


@pytest.mark.parametrize(
    "name", ["./-x.csv", "a b.csv", "new\nline.csv", "Größe.csv", os.fsdecode(b"\xff.csv")], ids=ascii
)
def test_awkward_names(name, hostile):
    work = started(hostile, "evaluate", name, "--out", "out", env={**os.environ, "LC_ALL": "C"})
    _, err = work.communicate(timeout=120)
    assert work.returncode == 1 and len(err.splitlines()) == 1 and "not readable as CSV text" in err


def living_in_group(leader):
    """Process ids of a group that still run; one that has ended and was not yet collected (a zombie) does not."""
    living = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getpgid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                living.append(process.pid)
    return living


def wait_until(holds, patience=30):
    until = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.2)


def test_sigterm_ends_in_one_line_and_leaves_no_process(tmp_path):
    work = started(tmp_path, "phantom", "cohort", "--patients", "400", "--cores", "2", start_new_session=True)
    while not list(tmp_path.glob("cohort/images/*_ct.nii.gz")):
        assert work.poll() is None
        time.sleep(0.2)
    work.terminate()
    _, err = work.communicate(timeout=60)
    last = err.splitlines()[-1]
    assert work.returncode == 143 and last.startswith("rps: ended by SIGTERM") and NO_TRACE not in err
    wait_until(lambda: not living_in_group(work.pid))
    # A worker that was ended while it wrote may leave a part; the next rendering removes it and loses nothing.
    images = tmp_path / "cohort" / "images"
    (images / ".partial-planted").mkdir()
    whole = sorted(images.glob("*.nii.gz"))
    write_images(tmp_path / "cohort", pd.Series(dtype=str), pd.DataFrame(), 1)
    assert whole and sorted(images.iterdir()) == whole


def test_a_reader_that_has_enough_is_no_error(tmp_path):
    with started(tmp_path, "study", "recipes", "--help") as work:
        work.stdout.close()
        assert work.wait(60) == 141 and work.stderr.read() == ""


RUN_FOLDERS = {"run": "run --manifest data/in.csv --out {}", "evaluate": "evaluate data/in.csv --out {}"}
COHORTS = {
    "phantom": "phantom {}",
    "phantom, dicom": "phantom new --dicom {}",
    "ingest": "ingest data --clinical data/in.csv --out {}",
    "public download": f"public download {CRLM} --out {{}}",
    "study, pool": "study dl --pool {} --out t.csv",
    "study levels": "study levels --out {}",
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A working folder with data, and somebody's project."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "project" / "notebooks").mkdir(parents=True)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "in.csv").write_text("patient_id\nA\n")
    return tmp_path


@pytest.mark.parametrize("command", [*RUN_FOLDERS, *COHORTS])
@pytest.mark.parametrize(
    ("out", "message"),
    [
        (ROOT, "is the source of this repository"),
        (ROOT.parent, "is the source of this repository"),
        (ROOT / "notebooks", "is the source of this repository"),
        (ROOT / "rps_utils" / "deep", "is the source of this repository"),
        (Path("link"), "is the source of this repository"),
        (Path("project"), "project holds notebooks"),
    ],
    ids=["repository", "above", "notebooks", "package", "a link to it", "another project"],
)
def test_a_folder_that_holds_something_else_is_not_written_into(command, out, message, project, capsys):
    (project / "link").symlink_to(ROOT)
    before = sorted(ROOT.iterdir())
    status, said = call(capsys, ({**RUN_FOLDERS, **COHORTS})[command].format(out).split())
    assert status == 2 and message in said and NO_TRACE not in said
    assert sorted(ROOT.iterdir()) == before and not (project / "new").exists()


@pytest.mark.parametrize("command", RUN_FOLDERS)
def test_a_new_run_does_not_go_where_its_input_lies(command, project, capsys):
    status, said = call(capsys, RUN_FOLDERS[command].format("data").split())
    assert status == 2 and "holds in.csv, which is read: name a folder of its own" in said


@pytest.mark.parametrize("asked", ["network=../x", "network=resnet", "weights=gone.safetensors", "device=gpu"])
def test_a_parameter_that_no_run_can_use_is_refused_before_any_work(asked, project, capsys):
    status, said = call(capsys, ["run", "--manifest", "data/in.csv", "--out", "out", "-p", asked])
    assert status == 2 and "; allowed: " in said and not (project / "out").exists()
