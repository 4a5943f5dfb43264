"""The notebooks as steps of a graph of files: each says itself what it reads and what it writes.

A notebook declares in its metadata, under the key ``rps``, what ties it to the others::

    {"reads": ["cohort.csv", "crops/*.nii.gz"], "writes": ["scores/DL.csv"], "data": ["results/recipes.csv"],
     "heavy": true, "part": "evaluation"}

``reads`` and ``writes`` are files of the run folder, ``data`` files of the package; ``*`` stands for any name. The
graph follows from these; no list of notebooks is kept anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from rps_utils.files import read_json
from rps_utils.sources import PACKAGE

NOTEBOOKS = PACKAGE.parent / "notebooks"
NUMBERED = re.compile(r"\d\d_\w+\.ipynb")
KEY = "rps"
ENTRY_TYPES = {"reads": list, "writes": list, "data": list, "heavy": bool, "part": str}


class DeclarationError(ValueError):
    """What the notebooks declare does not make a graph; the message names the notebook and the remedy."""


@dataclass(frozen=True)
class Step:
    """One piece of work in the graph of files: a notebook, or a module of the package.

    Attributes
    ----------
    name : str
        Notebook without its extension, or a word for the module.
    reads, writes : tuple of str
        Files of the run folder, ``*`` for any name (it may write more).
    notebook : Path or None
        The notebook.
    module : str
        What ``python -m`` runs instead of a notebook, with the run folder as its argument.
    data : tuple of str
        Files of the package that it reads.
    heavy : bool
        Computes in several processes: gets its share of the cores.
    part : str
        Part of the chain that can be run alone, for example ``"evaluation"``.
    """

    name: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    notebook: Path | None = None
    module: str = ""
    data: tuple[str, ...] = ()
    heavy: bool = False
    part: str = ""


def read_steps(folder: str | Path | None = None) -> tuple[Step, ...]:
    """Read what the numbered notebooks (two digits, an underscore, a name) of a folder declare.

    Parameters
    ----------
    folder : str or Path, optional
        Default: the notebooks of this repository.

    Returns
    -------
    tuple of Step
        In the order of their names.

    Raises
    ------
    DeclarationError
        There are no notebooks, one declares nothing or not as it should, two write one file, one reads what nobody
        writes, or each of several waits for another.
    """
    folder = Path(folder or NOTEBOOKS)
    steps = tuple(_read_step(path) for path in sorted(folder.glob("*.ipynb")) if NUMBERED.fullmatch(path.name))
    if not steps:
        raise DeclarationError(
            f"{folder} holds no numbered notebook: install the repository with `pip install -e .` from its own folder"
        )
    _check_writers(steps)
    _check_readers(steps)
    in_order(steps)
    return steps


def part_of(steps: Iterable[Step], part: str) -> tuple[Step, ...]:
    """Return the steps that declare themselves a part of the chain."""
    return tuple(step for step in steps if step.part == part)


def writers(step: Step, steps: Iterable[Step]) -> list[str]:
    """Return the names of the steps that write what a step reads."""
    return [other.name for other in steps if any(_overlap(r, w) for r in step.reads for w in other.writes)]


def in_order(steps: Sequence[Step]) -> list[Step]:
    """Return the steps such that each comes after those whose files it reads."""
    by_name = {step.name: step for step in steps}
    try:
        return [by_name[n] for n in TopologicalSorter({s.name: writers(s, steps) for s in steps}).static_order()]
    except CycleError as error:
        circle = " -> ".join(reversed(error.args[1]))
        raise DeclarationError(
            f"these notebooks wait for each other in a circle: {circle} (each reads the next)"
        ) from None


def declaration(notebook: Path) -> dict[str, Any]:
    """Return what a notebook declares, checked, with nothing left out.

    Raises
    ------
    DeclarationError
        The notebook cannot be read, declares nothing, or declares something that is no declaration.
    """
    try:
        told = read_json(notebook)["metadata"][KEY]
    except KeyError:
        example = '{"reads": [], "writes": ["tables/NAME.csv"]}'
        raise DeclarationError(f'{notebook}: its metadata need "{KEY}", for example {example}') from None
    except (ValueError, TypeError, OSError) as error:
        raise DeclarationError(f"{notebook} cannot be read as a notebook: {error}") from None
    _check_declaration(notebook, told)
    return {name: told.get(name, kind()) for name, kind in ENTRY_TYPES.items()}


def _read_step(notebook: Path) -> Step:
    told = declaration(notebook)
    reads, writes, data = (tuple(told[name]) for name in ("reads", "writes", "data"))
    return Step(notebook.stem, reads, writes, notebook, data=data, heavy=told["heavy"], part=told["part"])


def _check_declaration(notebook: Path, told: Any) -> None:
    if not isinstance(told, dict):
        raise DeclarationError(f'{notebook}: "{KEY}" is {told!r}, allowed is an object with {", ".join(ENTRY_TYPES)}')
    for name, value in told.items():
        if name not in ENTRY_TYPES:
            raise DeclarationError(f'{notebook}: "{KEY}" has "{name}", allowed are {", ".join(ENTRY_TYPES)}')
        if type(value) is not ENTRY_TYPES[name]:
            raise DeclarationError(f'{notebook}: "{name}" is {value!r}, allowed is a {ENTRY_TYPES[name].__name__}')
    for name in ("reads", "writes", "data"):
        for file in told.get(name, []):
            if not isinstance(file, str) or not file or file.startswith("/") or ".." in file.split("/"):
                raise DeclarationError(f'{notebook}: "{name}" has {file!r}, allowed are files below the folder')
    if not told.get("writes"):
        raise DeclarationError(f'{notebook}: "writes" names no file, and what writes nothing is never up to date')


def _check_writers(steps: Sequence[Step]) -> None:
    owner: dict[str, Step] = {}
    for step in steps:
        for file in step.writes:
            for other, first in owner.items():
                if _overlap(file, other):
                    raise DeclarationError(f"{step.notebook}: {first.name} writes {other} too; a file has one writer")
        owner |= dict.fromkeys(step.writes, step)


def _check_readers(steps: Sequence[Step]) -> None:
    written = [file for step in steps for file in step.writes]
    for step in steps:
        for file in step.reads:
            if not any(_overlap(file, other) for other in written):
                raise DeclarationError(f"{step.notebook}: no notebook writes {file}, which it reads")


def _overlap(one: str, other: str) -> bool:
    return one == other or fnmatchcase(one, other) or fnmatchcase(other, one)
