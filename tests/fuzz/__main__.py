"""Fuzz every door in turn for some minutes: ``python -m tests.fuzz MINUTES``. What breaks one is kept as a seed."""

import argparse
import hashlib
import random
import time
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, given, seed, settings

from tests.fuzz.damage import damage, damaged
from tests.fuzz.doors import DOORS, knock, sound_bytes

CORPUS = Path(__file__).parent / "corpus"
ROUND = 25  # examples a door and turn


def fuzz(name: str, number: int, tried: Counter) -> None:
    """Do a turn at one door; keep the smallest file that breaks it."""
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
        print(f"{name}: {error} ({cause!r:.200}), kept as {path.name}", flush=True)


def main() -> None:
    """Fuzz until the time is up, and count."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=main.__doc__)
    parser.add_argument("minutes", type=float)
    parser.add_argument("--doors", nargs="*", choices=DOORS, default=list(DOORS))
    asked = parser.parse_args()
    CORPUS.mkdir(exist_ok=True)
    tried: Counter = Counter()
    end, numbers = time.monotonic() + 60 * asked.minutes, random.Random()
    while time.monotonic() < end:
        for name in asked.doors:
            fuzz(name, numbers.getrandbits(32), tried)
    print(", ".join(f"{name} {count}" for name, count in tried.items()))


if __name__ == "__main__":
    main()
