"""Kill a run at random moments, damage what it has written, and see whether the same command ends in the same bytes.

    python -m benchmarks.kills [--kills 30] [--patients 24] [--seed 2026]

Kills are dealt evenly over five kinds of step: ingest, radiomics, training, evaluation, report. For each, what the step
has made is taken away where it was done already, the command is given, and some time after that step has started, by
chance within its usual length, the command and every process that it has started are killed by SIGKILL. Kinds come in
the order of the study, so that it gets on. After the last kill the command is left alone. Then files of each kind that
one step hands to the next are cut in half, one after the other, and the command is given again.
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
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import psutil

from benchmarks.radiomics import machine
from rps_utils.run_folder import NAMES
from rps_utils.steps import read_steps
from tests.runs.same_bytes import contents

RECORD = Path(__file__).with_name("kills.json")
STARTED, DONE = re.compile(r"\] (\S+) +started"), re.compile(r"\] (\S+) +done in (\d+) s")
# One file of each kind that a step hands to the next.
HANDED_ON = (
    *(NAMES["cohort"], NAMES["patches"], NAMES["references"], "crops/*.nii.gz", "features/*.json", NAMES["features"]),
    *("models/*.safetensors", "models/*.json", "ledger/*.json", "scores/*.csv", NAMES["scores"]),
    *("metrics/*.csv", NAMES["metrics"], "tables/*.csv"),
)
KINDS = {  # by the beginnings of the names of steps
    "ingest": ("01",),
    "radiomics": ("04",),
    "training": ("03", "05", "06"),
    "evaluation": ("07", "08", "09", "10", "11", "12"),
    "report": ("report",),
}


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
        """Kill the command some seconds after `step` has started; return what was hit."""
        begun = ""
        for process, line in self.lines():
            if (started := STARTED.search(line)) and started[1] == step:
                begun = started[1]
                time.sleep(seconds)
                kill_family(process)
        return begun or "nothing: the step did not run"

    def undo(self, step: str) -> None:
        """Take away what a step has made, so that it runs again."""
        written = [name for one in read_steps() if one.name == step for name in one.writes]
        for pattern in written or [NAMES["report"], NAMES["evidence"]]:
            for path in self.out.glob(pattern):
                path.unlink()

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
    if lacking := [pattern for pattern in HANDED_ON if not [*undisturbed.out.glob(pattern)]]:
        sys.exit(f"nothing of a run is called {', '.join(lacking)}: mend HANDED_ON")
    hit = []
    for kind, step in dealt(list(Study.steps), kills, draw):
        seconds = round(draw.uniform(0, Study.steps[step]), 1)
        killed.undo(step)
        hit.append({"kind": kind, "step": killed.kill(step, seconds), "seconds_after_its_start": seconds})
        print(hit[-1], flush=True)
    killed.finish()
    after_kills = compare(undisturbed.out, killed.out)
    damaged = [damage(pattern, undisturbed, killed) for pattern in HANDED_ON]
    return {"kills": hit, "not_the_same_after_kills": after_kills, "damage": damaged}


def dealt(steps: Sequence[str], kills: int, draw: Random) -> list[tuple[str, str]]:
    """Deal kills evenly over `KINDS`, within a kind by chance; return kind and step of each, kinds in their order."""
    names = list(KINDS)
    numbers = sorted(number % len(names) for number in range(kills))
    return [(names[n], draw.choice([step for step in steps if step.startswith(KINDS[names[n]])])) for n in numbers]


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
