"""Parameters of the notebooks: their defaults, the profiles, and what the user asked for."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any

from rps_utils.files import read_json
from rps_utils.runs.steps import UsageError, notebook_path

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


def default_parameters(name: str) -> dict[str, Any]:
    """Read the literals of a notebook's cell tagged ``parameters``."""
    cells = read_json(notebook_path(name))["cells"]
    tagged = [c for c in cells if "parameters" in c["metadata"].get("tags", [])]
    assignments = ast.parse("".join(tagged[0]["source"])).body
    return {a.targets[0].id: ast.literal_eval(a.value) for a in assignments if isinstance(a, ast.Assign)}


def choose_parameters(names: Sequence[str], profile: str, asked: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Give each notebook the profile's and the user's values of the parameters that it has.

    Parameters
    ----------
    names : sequence of str
        Notebooks.
    profile : str
        ``"paper"`` (the notebooks' own defaults) or ``"quick"`` (seconds; numbers mean nothing).
    asked : mapping
        The user's values by name; one name means the same in every notebook.

    Returns
    -------
    dict
        Notebook to its parameters, those left at their default included.

    Raises
    ------
    UsageError
        A name that no notebook has, or a value of another type than the default.
    """
    defaults = {name: default_parameters(name) for name in names}
    known = {key: value for parameters in defaults.values() for key, value in parameters.items()}
    for key, value in asked.items():
        _check_parameter(key, value, known)
    chosen = {**PROFILES[profile], **asked}
    return {name: {k: chosen.get(k, v) for k, v in own.items()} for name, own in defaults.items()}


def _check_parameter(key: str, value: Any, known: Mapping[str, Any]) -> None:
    if key not in known:
        raise UsageError(f"-p {key}: no notebook has this parameter; there are {', '.join(sorted(known))}")
    default = known[key]
    fits = isinstance(value, type(default)) or (isinstance(default, float) and isinstance(value, int))
    if not fits and default is not None:
        raise UsageError(f"-p {key}={value!r}: expected {type(default).__name__}, as in the default {default!r}")


def parse_parameter(text: str) -> tuple[str, Any]:
    """Parse ``NAME=VALUE``; a value that is no Python literal is text."""
    name, sign, value = text.partition("=")
    if not (sign and name.isidentifier()):
        raise UsageError(f"-p {text}: expected NAME=VALUE")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value
