"""Arguments that could be mistaken for each other are given by name."""

import ast
from pathlib import Path

import pytest

import rps_utils

FILES = sorted(Path(rps_utils.__file__).parent.rglob("*.py"))
PLAIN = {"bool", "int", "float", "int | None", "float | None", "str | float | None"}
# Known by their order everywhere: n, low, high; patients, seed; count, n_jobs.
IN_ORDER = {"check_numbers", "write_cohort", "run_scores"}


def mistakable(function):
    """Return pairs of neighbours that may be given by position, both plain numbers, the second one optional."""
    given = [(a.arg, ast.unparse(a.annotation)) for a in function.args.args if a.annotation]
    first = len(given) - len(function.args.defaults)
    pairs = zip(given, given[1:], range(1, len(given)), strict=False)
    return [(a[0], b[0]) for a, b, place in pairs if place >= first and {a[1], b[1]} <= PLAIN]


@pytest.mark.parametrize(
    ("signature", "pairs"),
    [
        (
            "scores: DataFrame, tau: float, n_bootstrap: int = 2000, seed: int = 1",
            [("tau", "n_bootstrap"), ("n_bootstrap", "seed")],
        ),
        ("scores: DataFrame, *, tau: float, n_bootstrap: int = 2000", []),
        ("scores: DataFrame, landmarks: Sequence[float], rule: str = 'a'", []),
        ("value: float, low: float", []),
    ],
)
def test_neighbours_that_can_be_swapped_are_found(signature, pairs):
    assert mistakable(ast.parse(f"def f({signature}): ...").body[0]) == pairs


def test_no_public_function_takes_two_plain_settings_in_a_row_by_position():
    functions = [(file, f) for file in FILES for f in ast.parse(file.read_text(encoding="utf-8")).body]
    found = [
        f"{file.name}: {f.name}: {pairs}"
        for file, f in functions
        if isinstance(f, ast.FunctionDef) and not f.name.startswith("_") and f.name not in IN_ORDER
        if (pairs := mistakable(f))
    ]
    assert not found
