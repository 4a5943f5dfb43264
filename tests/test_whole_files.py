"""Files appear whole or not at all: kills and full disks."""

import resource
import signal
import subprocess
import sys

import pandas as pd
import pytest

from rps_utils.files import remove_partial, whole_file, write_text
from rps_utils.imaging import crops, patches
from rps_utils.imaging.volumes import write_volume
from rps_utils.lab.faults.export import write_small_cohort
from rps_utils.lab.faults.manifest import small_scan
from rps_utils.runs.notebook import execute

WRITER = """
import sys, time
from rps_utils.files import whole_file
with whole_file(sys.argv[1]) as partial:
    partial.write_text("half")
    print("writing", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def writer(tmp_path):
    """A process in the middle of writing ``deep/a.csv``."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, tmp_path / "deep" / "a.csv"], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"writing\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_what_a_killed_process_left_is_removed(writer, tmp_path):
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert list(tmp_path.glob("deep/.partial-*"))
    assert remove_partial(tmp_path) == 1
    assert not [*(tmp_path / "deep").iterdir()]


def test_what_a_living_process_writes_stays(writer, tmp_path):
    assert remove_partial(tmp_path) == 0
    assert list(tmp_path.glob("deep/.partial-*/a.csv"))


def test_an_error_leaves_the_old_file(tmp_path):
    path = write_text("old", tmp_path / "a.txt")
    with pytest.raises(BlockingIOError), whole_file(path) as partial:
        partial.write_text("new")
        raise BlockingIOError(11, "of the block, not of the lock")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def limited(size):
    """Let the child write no file larger than `size`: what a full disk does, at a place that can be chosen."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.parametrize("size", [0, 200, 3000])
def test_full_disk_is_one_line_and_no_half_file(size, tmp_path):
    source, out = tmp_path / "source", tmp_path / "out"
    write_small_cohort(source)
    paths = ["ingest", str(source), "--clinical", str(source / "clinical.csv"), "--out", str(out), "--cores", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "rps_utils.cli", *paths], capture_output=True, text=True, preexec_fn=limited(size)
    )
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].endswith("make room, then give the same command again")
    assert "Traceback" not in done.stderr
    assert not list(out.rglob(".partial-*"))
    assert not (out / "data_manifest.csv").exists()


def pairs(folder, patients=3):
    """A manifest of small scans."""
    table = pd.DataFrame({"patient_id": [f"P{i}" for i in range(patients)]})
    for column, part in (("image", 0), ("mask", 1)):
        table[column] = [str(folder / f"{i}_{column}.nii.gz") for i in range(patients)]
        for i in range(patients):
            write_volume(small_scan(i + 1)[part], table[column][i])
    return table


def stops_at(monkeypatch, module, name, number):
    """Let the call `number` of a function fail, as a kill would, and count the calls."""
    made, calls = getattr(module, name), []

    def counted(*given, **named):
        calls.append(given)
        if len(calls) == number:
            raise KeyboardInterrupt
        return made(*given, **named)

    monkeypatch.setattr(module, name, counted)
    return calls


def test_crops_go_on_where_they_were_stopped(tmp_path, monkeypatch):
    table = pairs(tmp_path)
    whole = crops.prepare_cohort(table, tmp_path, tmp_path / "whole", 4.0, margin_mm=10)
    calls = stops_at(monkeypatch, crops, "prepare_patient", 3)
    with pytest.raises(KeyboardInterrupt):
        crops.prepare_cohort(table, tmp_path, tmp_path / "cut", 4.0, margin_mm=10)
    again = crops.prepare_cohort(table, tmp_path, tmp_path / "cut", 4.0, margin_mm=10)
    assert len(calls) == 4
    pd.testing.assert_frame_equal(again, whole)
    (tmp_path / "cut" / "P1_ct.nii.gz").write_bytes(b"damaged")
    crops.prepare_cohort(table, tmp_path, tmp_path / "cut", 4.0, margin_mm=10)
    crops.prepare_cohort(table, tmp_path, tmp_path / "cut", 5.0, margin_mm=10)
    assert len(calls) == 8


def test_patches_go_on_where_they_were_stopped(tmp_path, monkeypatch):
    table = pairs(tmp_path)
    whole = patches.make_patches(table, tmp_path / "whole.npz").read_bytes()
    calls = stops_at(monkeypatch, patches, "make_patch", 3)
    with pytest.raises(KeyboardInterrupt):
        patches.make_patches(table, tmp_path / "cut.npz")
    assert patches.make_patches(table, tmp_path / "cut.npz").read_bytes() == whole
    assert len(calls) == 4
    assert not list(tmp_path.glob(".parts*"))


NOTEBOOK = """{"cells": [
 {"cell_type": "code", "id": "a", "execution_count": null, "metadata": {"tags": ["parameters"]}, "outputs": [],
  "source": "run_dir = ''"},
 {"cell_type": "code", "id": "b", "execution_count": null, "metadata": {}, "outputs": [],
  "source": %s}],
 "metadata": {"kernelspec": {"display_name": "p", "language": "python", "name": "python3"}},
 "nbformat": 4, "nbformat_minor": 5}"""


def test_an_executed_notebook_appears_when_it_has_ended(tmp_path):
    (tmp_path / "01_x.ipynb").write_text(NOTEBOOK % "\"import os; print(os.listdir(run_dir + '/notebooks'))\"")
    place = execute(tmp_path / "01_x.ipynb", {}, tmp_path / "run", 1)
    assert "['.partial-" in place.read_text()
    assert [p.name for p in place.parent.iterdir()] == ["01_x.ipynb"]


def test_the_copy_of_a_failed_notebook_shows_how_far_it_came(tmp_path):
    (tmp_path / "01_x.ipynb").write_text(NOTEBOOK % "\"raise ValueError('seen')\"")
    with pytest.raises(Exception, match="seen"):
        execute(tmp_path / "01_x.ipynb", {}, tmp_path / "run", 1)
    assert "seen" in (tmp_path / "run" / "notebooks" / "01_x.ipynb").read_text()
