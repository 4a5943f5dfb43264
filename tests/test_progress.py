import io
import sys
import time

import pytest
from joblib import delayed

from rps_utils.machine import progress
from rps_utils.machine.progress import in_parallel


def later(value):
    """Answer after a time that puts the first job last."""
    time.sleep(0.2 if value == 0 else 0)
    return value


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(progress, "DELAY_S", 0.0)
    monkeypatch.delenv("TQDM_DISABLE", raising=False)


def test_results_come_in_the_order_of_the_jobs():
    assert list(in_parallel((delayed(later)(i) for i in range(4)), 2, "done")) == [0, 1, 2, 3]


def test_or_as_soon_as_they_are_there():
    given = list(in_parallel([delayed(later)(i) for i in range(4)], 2, "done", ordered=False))
    assert sorted(given) == [0, 1, 2, 3] and given[0] != 0


def test_a_log_gets_a_line_at_every_tenth(capsys):
    list(in_parallel([delayed(abs)(i) for i in range(40)], 1, "patients prepared", before=2))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[0].startswith("6 of 42 patients prepared, about 00:00 left")
    assert lines[-1] == "42 of 42 patients prepared"


def test_a_process_that_only_imported_the_kernel_is_a_log(capsys):
    import ipykernel.kernelapp  # noqa: F401

    list(in_parallel([delayed(abs)(i) for i in range(10)], 1, "done"))
    assert len(capsys.readouterr().err.splitlines()) == 10


def test_a_kernel_gets_a_bar(monkeypatch, capsys):
    from ipykernel.kernelapp import IPKernelApp

    monkeypatch.setattr(IPKernelApp, "initialized", classmethod(lambda cls: True))
    list(in_parallel([delayed(abs)(i) for i in range(5)], 1, "patients prepared"))
    assert "patients prepared: 100%|" in capsys.readouterr().err


def test_a_terminal_gets_a_bar(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    list(in_parallel([delayed(abs)(i) for i in range(5)], 1, "patients prepared"))
    assert "patients prepared: 100%|" in sys.stderr.getvalue() and "5/5" in sys.stderr.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
def test_it_can_be_silenced(terminal, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal() if terminal else io.StringIO())
    monkeypatch.setenv("TQDM_DISABLE", "1")
    assert list(in_parallel([delayed(abs)(-1)], 1, "done")) == [1]
    assert sys.stderr.getvalue() == ""


def test_quick_work_says_nothing(monkeypatch, capsys):
    monkeypatch.setattr(progress, "DELAY_S", 60.0)
    list(in_parallel([delayed(abs)(i) for i in range(5)], 1, "done"))
    assert capsys.readouterr().err == ""


def test_an_error_in_a_job_reaches_the_caller():
    with pytest.raises(ZeroDivisionError):
        list(in_parallel([delayed(divmod)(1, 0)], 1, "done"))
