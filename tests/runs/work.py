"""Work that the tests hand to other processes, which import it from here."""

import os
import signal
import time

import psutil

from rps_utils.files import write_text


def squares(count):
    return [n * n / 7 for n in range(count)]


def killed_once(n, mark):
    """Square a number; the first that comes to 3 kills its process."""
    time.sleep(0.2)
    if n == 3 and not mark.exists():
        mark.write_text("")
        os.kill(os.getpid(), signal.SIGKILL)
    return n * n / 7


def write_square(n, folder):
    write_text(repr(n * n / 7), folder / f"{n}.txt")


def lose_the_machine_once(mark):
    """Kill the step that this process belongs to with all it started, as a node that goes down does; but only once."""
    if not mark.exists():
        mark.write_text("")
        (step,) = [p for p in psutil.Process().parents() if "rps_utils.runs.notebook" in p.cmdline()]
        others = [p for p in step.children(recursive=True) if p.pid != os.getpid()]
        for process in [*others, step, psutil.Process()]:
            process.kill()
