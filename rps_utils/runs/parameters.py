"""Parameters of the notebooks: their defaults, the profiles, and what the user asked for."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rps_utils.cohort.allowed import value_fault
from rps_utils.sources import cell_sources
from rps_utils.steps import NOTEBOOKS, DeclarationError, Step
from rps_utils.texts.counts import how_many

PROFILES: dict[str, dict[str, Any]] = {
    "paper": {},
    "quick": {
        "folds": 4,
        "comparison_epochs": 2,
        "epochs": 3,
        "n_bootstrap": 200,
        "image_types": ["original"],
        "clinical_columns": ["age", "size_cm", "grade"],
    },
}


class UsageError(ValueError):
    """A command was asked for something it cannot do; the message says what it can."""


def default_parameters(notebook: Path) -> dict[str, Any]:
    """Read the literals of a notebook's cell tagged ``parameters``.

    Raises
    ------
    DeclarationError
        There is not exactly one such cell, or it holds something other than ``NAME = literal``.
    """
    tagged = [source for _, source, tags in cell_sources(notebook) if "parameters" in tags]
    if len(tagged) != 1:
        raise DeclarationError(
            f"{notebook}: {how_many(len(tagged), 'cell is', 'cells are')} tagged `parameters`, allowed is one"
        )
    try:
        return dict(_literal(line) for line in ast.parse(tagged[0]).body)
    except (ValueError, SyntaxError) as error:
        raise DeclarationError(f"{notebook}: the cell of parameters holds more than NAME = literal: {error}") from None


def _literal(line: ast.stmt) -> tuple[str, Any]:
    match line:
        case (
            ast.Assign(targets=[ast.Name(id=name)], value=value)
            | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
        ):
            return name, ast.literal_eval(value)
    raise ValueError(ast.unparse(line))


def choose_parameters(steps: Iterable[Step], profile: str, asked: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Give each notebook the profile's and the user's values of the parameters that it has.

    Parameters
    ----------
    steps : iterable of Step
        Notebooks.
    profile : str
        ``"paper"`` (the notebooks' own defaults) or ``"quick"`` (seconds; numbers mean nothing).
    asked : mapping
        The user's values by name; one name means the same in every notebook.

    Returns
    -------
    dict
        Step to its parameters, those left at their default included.

    Raises
    ------
    UsageError
        A name that no notebook has, or a value of another type than the default or out of range (`cohort.allowed`).
    """
    defaults = {step.name: default_parameters(step.notebook) for step in steps if step.notebook}
    known = {key: value for parameters in defaults.values() for key, value in parameters.items()}
    for key, value in asked.items():
        _check_parameter(key, value, known)
    chosen = {**PROFILES[profile], **asked}
    return {name: {k: chosen.get(k, v) for k, v in own.items()} for name, own in defaults.items()}


def check_parameters(notebook: str, given: Mapping[str, Any]) -> None:
    """Refuse in a notebook's first cell what papermill injected and the notebook does not know or cannot use.

    Parameters
    ----------
    notebook : str
        Name of the notebook, without its extension.
    given : mapping
        Its ``globals()``. Names that the notebook does not know are looked at in the first cells only: later they
        are its own.

    Raises
    ------
    UsageError
        A parameter has another type than its default, or the notebook has no parameter of that name.
    """
    known = default_parameters(NOTEBOOKS / f"{notebook}.ipynb")
    for name, value in given.items():
        if name in known or _is_injected(name, value, given):
            _check_parameter(name, value, known)


def _is_injected(name: str, value: Any, given: Mapping[str, Any]) -> bool:
    """Tell a value that was given to the notebook: a fresh kernel has no plain values in small letters."""
    fresh = len([source for source in given.get("In", ()) if source]) <= 4
    plain = isinstance(value, str | int | float | list | dict) or value is None
    return fresh and plain and name.islower() and not name.startswith("_")


def chosen_value(parameters: Mapping[str, Mapping[str, Any]], name: str) -> Any:
    """Return the value of a parameter, which is the same in every notebook that has it; None where none has it."""
    return next((own[name] for own in parameters.values() if name in own), None)


def _check_parameter(key: str, value: Any, known: Mapping[str, Any]) -> None:
    if key not in known:
        raise UsageError(f"-p {key}: there is no such parameter; there are {', '.join(sorted(known))}")
    default = known[key]
    fits = isinstance(value, type(default)) or (isinstance(default, float) and isinstance(value, int))
    if not fits and default is not None:
        raise UsageError(f"-p {key}={value!r}: expected {type(default).__name__}, as in the default {default!r}")
    if fault := value_fault(key, value):
        raise UsageError(f"-p {fault}")


def parse_parameter(text: str) -> tuple[str, Any]:
    """Parse ``NAME=VALUE``; a value that is no Python literal is text."""
    name, sign, value = text.partition("=")
    if not (sign and name.isidentifier()):
        raise UsageError(f"-p {text}: expected NAME=VALUE")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value
