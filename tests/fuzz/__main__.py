"""Fuzz every door in turn for some minutes: ``python -m tests.fuzz MINUTES``.

What breaks a door is kept in ``corpus``, and ``last_run.json`` says how long the last run was and what it found.
"""

import argparse
import hashlib
import random
import time
from collections import Counter
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from platform import python_version

from hypothesis import HealthCheck, given, seed, settings

from rps_utils.files import write_json
from tests.fuzz.damage import damage, damaged
from tests.fuzz.doors import DOORS, knock, sound_bytes

CORPUS = Path(__file__).parent / "corpus"
RECORD = Path(__file__).parent / "last_run.json"
ROUND = 25  # examples a door and turn


def fuzz(name: str, number: int, tried: Counter) -> str:
    """Do a turn at one door; keep the smallest file that breaks it, and say how."""
    last = b""

    @seed(number)
    @settings(
        max_examples=ROUND,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(changes=damage)
    def run(changes):
        nonlocal last
        last = damaged(sound_bytes(name), changes)
        tried[name] += 1
        knock(name, last)

    try:
        run()
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        path = CORPUS / f"{name}.{hashlib.sha256(last).hexdigest()[:12]}"
        path.write_bytes(last)
        cause = error.__cause__ or error
        said = f"{error} ({cause!r:.200}), kept as {path.name}"
        print(f"{name}: {said}", flush=True)
        return said
    return ""


def write_record(minutes: float, tried: Counter, found: list[str]) -> None:
    """Say what was tried and what broke."""
    packages = {name: version(name) for name in ("hypothesis", "pydicom", "nibabel", "pandas")}
    record = {"ended": f"{datetime.now(UTC):%Y-%m-%d}", "minutes": round(minutes, 1), "python": python_version()}
    write_json({**record, "packages": packages, "files_tried": dict(sorted(tried.items())), "found": found}, RECORD)


def main() -> None:
    """Fuzz until the time is up, and count."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=main.__doc__)
    parser.add_argument("minutes", type=float)
    parser.add_argument("--doors", nargs="*", choices=DOORS, default=list(DOORS))
    asked = parser.parse_args()
    CORPUS.mkdir(exist_ok=True)
    tried: Counter = Counter()
    start, numbers, found = time.monotonic(), random.Random(), []
    while time.monotonic() < start + 60 * asked.minutes:
        for name in asked.doors:
            said = fuzz(name, numbers.getrandbits(32), tried)
            found += [said] if said else []
        write_record((time.monotonic() - start) / 60, tried, found)
    print(", ".join(f"{name} {count}" for name, count in tried.items()))


if __name__ == "__main__":
    main()
