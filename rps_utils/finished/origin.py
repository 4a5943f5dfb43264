"""Where a file of a run comes from: the step that writes it, its parameters, and whether it is still what was written.

``run.json`` holds the hash of each file that is read again. The hashes tell damage and later changes. They are no
signature: whoever writes a run folder can write hashes that fit what is in it, and against that the audit computes
things again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from rps_utils.files import file_sha256
from rps_utils.run_folder import NAMES
from rps_utils.runs.record import sealed_files
from rps_utils.schema import confined, read_run_json
from rps_utils.steps import DeclarationError, Step, read_steps

RECORD, ASKED = NAMES["record"], NAMES["parameters"]


def writer_of(name: str) -> Step | None:
    """Return the step that declares to write a file of a run; None where none does, or no notebook is installed."""
    try:
        return next((step for step in read_steps() if any(fnmatchcase(name, w) for w in step.writes)), None)
    except DeclarationError:
        return None


def parameters_of(run: str | Path, name: str) -> dict[str, Any]:
    """Return the parameters of the step that writes a file; empty where the run does not tell them."""
    writer = writer_of(name)
    if writer is None or not (Path(run) / ASKED).is_file():
        return {}
    return read_run_json(run, ASKED)["parameters"].get(writer.name, {})


def read_seal(run: str | Path) -> dict[str, str]:
    """Return the hashes that a run has written of its files.

    Raises
    ------
    FileNotFoundError, ValueError
        There is no ``run.json``, or it has no hashes.
    """
    if not (Path(run) / RECORD).is_file():
        raise FileNotFoundError(f"{Path(run) / RECORD} is missing: finish the run with `rps run --out {run}`")
    seal = read_run_json(run, RECORD).get("files")
    if not seal:
        raise ValueError(f"{Path(run) / RECORD} has no hashes of the run's files: `rps run --out {run}` writes them")
    return seal


def altered_files(run: str | Path, names: Iterable[str], seal: dict[str, str]) -> Iterator[str]:
    """Yield one line for each file that is not what the run wrote: altered, missing, or never recorded."""
    for name in names:
        path = confined(run, name)
        if name not in seal:
            yield f"{path} is not in {RECORD}: the run did not write it"
        elif not path.is_file():
            yield f"{path} is missing, and {RECORD} names it"
        elif file_sha256(path) != seal[name]:
            yield f"{path} is not what the run wrote: its hash is another than in {RECORD}"


def broken_seal(run: str | Path) -> list[str]:
    """Return one line for each file of a run that was altered, removed or added since the run ended."""
    seal = read_seal(run)
    return list(altered_files(run, sorted({*seal, *sealed_files(run)}), seal))


def refuse_altered(run: str | Path, names: Iterable[str]) -> None:
    """Raise a ValueError that names every one of these files that is not what the run wrote."""
    lines = list(altered_files(run, names, read_seal(run)))
    if lines:
        remedy = f"`rps run --out {run}` makes them anew from the cohort; for a run from elsewhere, ask for it again"
        raise ValueError("\n".join([*lines, remedy]))
