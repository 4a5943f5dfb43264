"""Checks of an exercise that say what is wrong, not only that something is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

EMPTY = "Nothing is entered yet: replace the dots by your answer, run that cell, then this one again."


class NotYet(AssertionError):
    """An answer that is not right yet; the message says what to think about."""

    def _render_traceback_(self) -> list[str]:
        """Return what Jupyter shows: the message, without the lines of code that led to it."""
        return [f"Not yet. {self}"]


def check_answer(
    answer: Any, right: Any, mistakes: Mapping[str, Any], otherwise: str, why: str = "", within: float = 1e-6
) -> None:
    """Compare an answer with the right one and with the typical wrong ones.

    Parameters
    ----------
    answer : number, text, array or callable
        What the student entered, or a function without arguments that computes it.
    right : number, text or array
        The right answer.
    mistakes : mapping
        What to say about each typical mistake, and the answer that it leads to.
    otherwise : str
        What to say about any other answer.
    why : str, optional
        Why the right answer is right, printed with the praise.
    within : float, optional
        How far a number may lie from the right one.

    Raises
    ------
    NotYet
        The answer is missing or wrong.
    """
    given = _computed(answer)
    if _missing(given):
        raise NotYet(EMPTY)
    if _same(given, right, within):
        print(f"Right. {why}".rstrip())
        return
    for message, wrong in mistakes.items():
        if _same(given, wrong, within):
            raise NotYet(message)
    raise NotYet(f"{otherwise} (Your answer: {given!r}.)")


def _computed(answer: Any) -> Any:
    try:
        return answer() if isinstance(answer, Callable) else answer  # type: ignore[arg-type]
    except NotImplementedError:
        return None


def _missing(given: Any) -> bool:
    return given is None or given is ... or (isinstance(given, str) and not given.strip())


def _same(given: Any, other: Any, within: float) -> bool:
    if isinstance(given, str) or isinstance(other, str):
        return str(given).strip().lower() == str(other).strip().lower()
    try:
        one, two = np.asarray(given, dtype=float), np.asarray(other, dtype=float)
    except (TypeError, ValueError):
        return False
    return one.shape == two.shape and bool(np.allclose(one, two, rtol=0, atol=within, equal_nan=True))
