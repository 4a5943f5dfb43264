"""One folder, one owner."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from rps_utils.machine import locks
from rps_utils.machine.locks import FolderInUseError, own_folder

HOLD = """
import sys, time
from rps_utils.machine.locks import own_folder
with own_folder(sys.argv[1]):
    print("in", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def start(*arguments, code=HOLD, **options):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, **pipes, **options)


def write_lock(folder, **changes):
    owner = {**json.loads(json.dumps(vars(locks._this_process()))), **changes}
    (folder / ".running").write_text(json.dumps(owner))


def test_two_owners_never_share_a_folder(tmp_path):
    with start(tmp_path, 60) as first:
        assert first.stdout.readline() == "in\n"
        with (
            pytest.raises(FolderInUseError, match=rf"process {first.pid} on .* is running in {tmp_path}"),
            own_folder(tmp_path),
        ):
            pass
        first.kill()
    with own_folder(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_block_within_a_block_is_the_same_owner(tmp_path):
    with own_folder(tmp_path), own_folder(tmp_path / "." / ""):
        pass
    assert not list(tmp_path.iterdir())


def test_of_many_that_start_at_once_exactly_one_enters(tmp_path):
    write_lock(tmp_path, pid=2**22 + 1)  # and all of them find a dead owner's lock
    wait = (
        "import sys; from rps_utils.machine.locks import own_folder; print('ready', flush=True); sys.stdin.readline()\n"
    )
    many = [start(tmp_path / "x" / "..", 8, code=wait + HOLD) for _ in range(20)]
    (tmp_path / "x").mkdir()
    try:
        assert all(one.stdout.readline() == "ready\n" for one in many)
        for one in many:
            one.stdin.write("\n")
            one.stdin.flush()
        said = [one.communicate() for one in many]
    finally:
        for one in many:
            one.kill()
    entered = [out for out, _ in said if "in\n" in out]
    assert len(entered) == 1 and "does not run any more: taken over" in entered[0]
    assert sum("FolderInUseError" in error for _, error in said) == 19


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"boot": "another start of this machine"}, "taken over"),
        ({"pid": 2**22 + 1}, "taken over"),
        ({"pid": 1}, "taken over"),
        ({"started": 1.0}, "taken over"),
        ({"pid": 10**30}, "taken over"),
        ({"host": "container", "space": "pid:[1]", "pid": 1}, "taken over"),
    ],
    ids=["rebooted", "gone", "number used again", "other start", "no such number", "another container"],
)
def test_a_dead_owner_is_no_obstacle_and_is_named(tmp_path, capsys, changes, said):
    write_lock(tmp_path, **changes)
    with own_folder(tmp_path):
        assert json.loads((tmp_path / ".running").read_text())["pid"] == os.getpid()
    assert said in capsys.readouterr().out


def test_an_owner_that_lives_is_respected_though_the_kernel_holds_no_lock(tmp_path):
    with start(tmp_path / "other", 60) as living:
        living.stdout.readline()
        (tmp_path / ".running").write_bytes((tmp_path / "other" / ".running").read_bytes())
        with pytest.raises(FolderInUseError, match="is running in"), own_folder(tmp_path):
            pass
        living.kill()


def test_an_owner_on_another_machine_is_respected_and_the_way_out_is_named(tmp_path):
    write_lock(tmp_path, host="far", boot="away", pid=12)
    with (
        pytest.raises(FolderInUseError, match=rf"process 12 on far.*delete {tmp_path}/\.running"),
        own_folder(tmp_path),
    ):
        pass
    assert (tmp_path / ".running").exists()


@pytest.mark.parametrize("content", ["", "4711", "garbage", "{}", "[1, 2]", '{"pid": "x"}', "\0\0\0"])
def test_a_lock_that_names_nobody_is_no_obstacle(tmp_path, capsys, content):
    (tmp_path / ".running").write_text(content)
    with own_folder(tmp_path):
        pass
    assert not content or "names no process: taken over" in capsys.readouterr().out


def test_a_lock_that_is_a_link_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".running").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match=r"\.running"), own_folder(tmp_path / "run"):
        pass
    assert (tmp_path / "precious").read_text() == "kept"


# Whoever starts the tests in the background may have them ignore the signals of a terminal.
PARENT = """
import signal, subprocess, sys, time
signal.signal(signal.SIGHUP, signal.SIG_DFL), signal.signal(signal.SIGINT, signal.default_int_handler)
from rps_utils.machine.locks import own_folder
with own_folder(sys.argv[1]):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    print(child.pid, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda n: n.name)
def test_a_signal_ends_all_that_was_started_and_leaves_no_lock(tmp_path, number):
    with start(tmp_path, code=PARENT) as parent:
        child = int(parent.stdout.readline())
        parent.send_signal(number)
        try:
            parent.communicate(timeout=30)
        finally:
            parent.kill()
    assert parent.returncode
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE
    assert not list(tmp_path.iterdir())


def test_what_a_killed_owner_left_is_ended_by_the_next(tmp_path, capsys):
    with start(tmp_path, code=PARENT) as parent:
        child = int(parent.stdout.readline())
        parent.kill()
    assert psutil.pid_exists(child)
    with own_folder(tmp_path):
        pass
    assert "and 1 of its processes ended" in capsys.readouterr().out
    time.sleep(0.1)
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE
