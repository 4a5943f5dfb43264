"""Which steps are out of date, and why: decided by content, never by the time of a file.

Each step leaves in ``RUN/logs/STEP.json`` what it was made from and what it made, as hashes. It is out of date exactly
when one of these is another now. A step that runs again and writes the same bytes makes none of its followers run.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rps_utils.files import read_json
from rps_utils.sources import (
    PACKAGE,
    Contents,
    import_closure,
    imported_packages,
    notebook_code,
    notebook_sha256,
    relative_name,
    text_sha256,
)
from rps_utils.steps import NOTEBOOKS, DeclarationError, Step, declaration, in_order, writers

WORKSHOP = ".chain"  # folder of the run folder for what no reader needs
SNAKEFILE = Path(__file__).with_name("Snakefile")
MANIFEST = "manifest"  # the parameter whose file counts by content, with the images that it names
NO_MATTER = {"run_dir", "n_jobs", MANIFEST}  # parameters that say where and how fast, and not what
IMAGES = ("image", "mask", "reference_map")
FINGERPRINT = {  # part of a fingerprint to the word before a name
    "notebook": "its notebook",
    "workflow": "the workflow file",
    "packages": "package ",
    "code": "",
    "data": "",
    "parameters": "parameter ",
    "manifest": "",
    "inputs": "",
}


@dataclass(frozen=True)
class Decision:
    """What becomes of a step.

    Attributes
    ----------
    step : Step
    state : str
        ``"runs"``, ``"waits"`` (decided when the steps before it are done), or ``"reused"``.
    why : tuple of str
        Reasons to run, or the steps that it waits for.
    seconds : float or None
        How long it took the last time.
    """

    step: Step
    state: str
    why: tuple[str, ...] = ()
    seconds: float | None = None


def make_plan(
    run: Path, steps: Sequence[Step], parameters: Mapping[str, Mapping[str, Any]], contents: Contents
) -> list[Decision]:
    """Decide for each step whether it is out of date.

    Parameters
    ----------
    run : Path
        Run folder.
    steps : sequence of Step
    parameters : mapping
        Step to its parameters, from `choose_parameters`.
    contents : Contents
        Hashes of files.

    Returns
    -------
    list of Decision
        Each step after those whose files it reads.
    """
    busy: set[str] = set()
    plan = []
    for step in in_order(steps):
        record = read_record(run, step)
        why = reasons(record, fingerprint(step, parameters.get(step.name, {}), run, contents), run, contents)
        before = sorted(busy & set(writers(step, steps)))
        state = "runs" if why and not before else "waits" if before else "reused"
        took = record.get("seconds")
        seconds = float(took) if isinstance(took, int | float) else None
        plan.append(Decision(step, state, tuple(before or why), seconds))
        if state != "reused":
            busy.add(step.name)
    return plan


def read_record(run: Path, step: Step) -> dict[str, Any]:
    """Return what a step wrote of itself when it was done; empty if it never was, or if that is damaged."""
    try:
        record = read_json(record_path(run, step))
        return record if isinstance(record, dict) else {}
    except (OSError, ValueError):
        return {}


def record_path(run: Path, step: Step) -> Path:
    """Return where a step says what it was made from."""
    return run / ("logs" if step.notebook else WORKSHOP) / f"{step.name}.json"


def fingerprint(step: Step, parameters: Mapping[str, Any], run: Path, contents: Contents) -> dict[str, Any]:
    """Return everything that a step is made from, as hashes by name.

    Returns
    -------
    dict
        ``notebook`` and ``workflow`` (a hash each); ``code, data, manifest, inputs`` (file to hash), ``packages`` (name
        to version) and ``parameters`` (name to value).
    """
    cells = notebook_code(step.notebook) if step.notebook else []
    code = import_closure(
        cells if step.notebook else [f"import {step.module}, {step.module}.__main__"], contents, PACKAGE
    )
    source = parameters.get(MANIFEST)
    made_from = {
        "notebook": notebook_sha256(step.notebook) if step.notebook else "",
        "workflow": contents.sha256(SNAKEFILE),
        "code": {relative_name(path, PACKAGE.parent): sha for path, sha in code.items()},
        "packages": imported_packages(code, cells, contents),
        "data": _data_hashes(step, contents),
        "parameters": {name: value for name, value in parameters.items() if name not in NO_MATTER},
        "manifest": _manifest_hashes(Path(source), contents) if source else {},
        "inputs": {relative_name(path, run): contents.sha256(path) for path in matching(run, step.reads)},
    }
    return json.loads(json.dumps(made_from))  # as it will be read again: a tuple is a list


def matching(folder: Path, names: Iterable[str]) -> list[Path]:
    """Return the files of a folder that fit the names, ``*`` for any; a plain name stays though there is no file."""
    found = [sorted(folder.glob(name)) if "*" in name else [folder / name] for name in names]
    return [path for paths in found for path in paths]


def manifest_files(manifest: Path) -> list[Path]:
    """Return the manifest and the images that it names; whether they exist is the gate's question."""
    with manifest.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        try:
            rows = list(csv.DictReader(stream))
        except csv.Error:
            rows = []
    named = [row.get(column) for row in rows for column in IMAGES]
    return [manifest, *(manifest.parent / name for name in dict.fromkeys(filter(None, named)) if "\0" not in name)]


def reasons(record: Mapping[str, Any], now: Mapping[str, Any], run: Path, contents: Contents) -> list[str]:
    """Say why a step is out of date; nothing where it is not.

    Parameters
    ----------
    record : mapping
        What the step wrote of itself, empty if it never ran.
    now : mapping
        Its present `fingerprint`.
    run : Path
        Run folder.
    contents : Contents
        Hashes of files.
    """
    then, made = record.get("made_from"), record.get("made")
    if not (isinstance(then, dict) and isinstance(made, dict)):
        return ["new"]
    lost = [_what_became(name, sha, contents.sha256(run / name)) for name, sha in made.items()]
    changed = [text for part, word in FINGERPRINT.items() for text in _changes(word, then.get(part), now[part])]
    return [*filter(None, lost), *changed]


def _what_became(name: str, sha: str, now: str | None) -> str:
    if now is None:
        return f"{name} is missing"
    return f"{name} is not what it wrote" if sha not in (now, None) else ""


def _changes(word: str, then: Any, now: Any) -> list[str]:
    if not isinstance(now, dict):
        return [] if then == now else [f"{word} changed"]
    then = then if isinstance(then, dict) else {}
    shown = word in ("package ", "parameter ")
    return [
        _change(f"{word}{name}", then.get(name), now.get(name), name in then, name in now, shown)
        for name in dict.fromkeys([*now, *then])
        if name not in then or name not in now or then[name] != now[name]
    ]


def _change(what: str, old: Any, new: Any, was: bool, is_now: bool, shown: bool) -> str:
    if not was:
        return f"{what} is new to it"
    if not is_now:
        return f"{what} is used no more"
    if not shown and new is None:
        return f"{what} is missing"
    return f"{what} {old} -> {new}" if shown else f"{what} changed"


def _data_hashes(step: Step, contents: Contents) -> dict[str, str | None]:
    """Return hashes of the files of the package a step reads; of a notebook, what it declares."""
    found = {}
    for name in step.data:
        paths = matching(PACKAGE.parent if name.startswith(f"{NOTEBOOKS.name}/") else PACKAGE, [name])
        if not paths or not all(path.is_file() for path in paths):
            raise DeclarationError(f"{step.notebook}: its data file {name} is not in {PACKAGE}")
        for path in paths:
            sha = text_sha256(declaration(path)) if path.suffix == ".ipynb" else contents.sha256(path)
            found[relative_name(path, PACKAGE.parent)] = sha
    return found


def _manifest_hashes(manifest: Path, contents: Contents) -> dict[str, str | None]:
    if not manifest.is_file():
        raise FileNotFoundError(f"{manifest} does not exist")
    return {relative_name(path, manifest.parent): contents.sha256(path) for path in manifest_files(manifest)}
