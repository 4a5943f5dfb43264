"""Kill a run at random moments, damage what it has written, and see whether the same command ends in the same bytes.

    python -m benchmarks.kills [--kills 30] [--patients 24] [--seed 2026]

Each time a step is drawn, the command is given again, and some time after that step has started, by chance within its
usual length, the command and every process that it has started are killed by SIGKILL. Steps are drawn in the order of
the study, so that it gets on. After the last kill the command is left alone. Then files of each kind that one step
hands to the next are cut in half, one after the other, and the command is given again.
Compared with a run that nobody disturbed: every file but times and logs; what a killed run has left lying about.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import psutil

from benchmarks.radiomics import machine
from tests.runs.same_bytes import contents

RECORD = Path(__file__).with_name("kills.json")
STARTED, DONE = re.compile(r"\] (\S+) +started"), re.compile(r"\] (\S+) +done in (\d+) s")
HANDED_ON = ("features/*.json", "crops/*.npz", "models/*.safetensors", "scores/*.csv", "scores.csv", "metrics.csv")


class Study:
    """One command line, given as often as asked; its lines and the seconds of its steps are kept."""

    def __init__(self, manifest: Path, out: Path) -> None:
        run = ["run", "--manifest", str(manifest), "--out", str(out), "--profile", "quick"]
        self.command = [sys.executable, "-m", "rps_utils.cli", *run]
        self.out, self.printed = out, list[str]()

    def lines(self) -> Iterator[tuple[psutil.Process, str]]:
        """Give the command; yield what it prints, with its process."""
        self.printed = []
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        with subprocess.Popen(self.command, text=True, env=os.environ | {"PYTHONHASHSEED": "0"}, **pipes) as process:
            for line in process.stdout or ():
                self.printed.append(line)
                yield psutil.Process(process.pid), line

    def finish(self) -> dict[str, int]:
        """Leave the command alone; return the seconds of each step that ran."""
        found = [DONE.search(line) for _, line in self.lines()]
        return {step[1]: int(step[2]) for step in found if step}

    def kill(self, step: str, seconds: float) -> str:
        """Kill the command some seconds after `step`, or one after it, has started; return what was hit."""
        order, begun = list(self.steps), ""
        for process, line in self.lines():
            if (started := STARTED.search(line)) and order.index(started[1]) >= order.index(step):
                begun = started[1]
                time.sleep(seconds)
                kill_family(process)
        return begun or "nothing: it had ended"

    steps: dict[str, int] = {}  # noqa: RUF012 - the seconds of an undisturbed run, in the order of its steps


def kill_family(process: psutil.Process) -> None:
    """Kill a process and all it has started, children first stopped so that none is missed."""
    process.suspend()
    for one in [*process.children(recursive=True), process]:
        one.kill()


def compare(undisturbed: Path, other: Path) -> list[str]:
    """Return the names of the files that are not the same, and of what should have gone."""
    first, second = dict(contents(undisturbed)), dict(contents(other))
    differs = [name for name in sorted(first.keys() | second.keys()) if first.get(name) != second.get(name)]
    left = [str(p.relative_to(other)) for p in other.rglob("*") if ".partial-" in p.name or p.name == ".running"]
    return differs + left


def cut_in_half(path: Path) -> None:
    """Leave the first half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def main() -> None:
    """Write the record of this run and print it."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--kills", type=int, default=30)
    asked.add_argument("--patients", type=int, default=24)
    asked.add_argument("--seed", type=int, default=2026)
    chosen = asked.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = report(Path(folder), chosen.kills, chosen.patients, Random(chosen.seed))
    text = json.dumps(machine() | found, indent=1) + "\n"
    RECORD.write_text(text, encoding="utf-8")
    print(text)


def report(folder: Path, kills: int, patients: int, draw: Random) -> dict[str, object]:
    """Kill, damage and compare."""
    make = ["phantom", str(folder / "cohort"), "--patients", str(patients)]
    subprocess.run([sys.executable, "-m", "rps_utils.cli", *make], check=True, capture_output=True)
    manifest = folder / "cohort" / "data_manifest.csv"
    undisturbed, killed = Study(manifest, folder / "undisturbed"), Study(manifest, folder / "killed")
    Study.steps = undisturbed.finish()
    order = list(Study.steps)
    hit = []
    for step in sorted(draw.choices(order, k=kills), key=order.index):
        seconds = round(draw.uniform(0, Study.steps[step]), 1)
        hit.append({"step": killed.kill(step, seconds), "seconds_after_its_start": seconds})
        print(hit[-1], flush=True)
    killed.finish()
    after_kills = compare(undisturbed.out, killed.out)
    damaged = [damage(pattern, undisturbed, killed) for pattern in HANDED_ON if [*killed.out.glob(pattern)]]
    return {"kills": hit, "not_the_same_after_kills": after_kills, "damage": damaged}


def damage(pattern: str, undisturbed: Study, killed: Study) -> dict[str, object]:
    """Cut one file in half and give the command again."""
    path = sorted(killed.out.glob(pattern))[0]
    cut_in_half(path)
    rerun = killed.finish()
    named = [line.strip() for line in killed.printed if path.name in line]
    differs = compare(undisturbed.out, killed.out)
    found = {"cut": str(path.relative_to(killed.out)), "named": named, "steps_rerun": [*rerun], "not_the_same": differs}
    print(found, flush=True)
    return found


if __name__ == "__main__":
    main()
