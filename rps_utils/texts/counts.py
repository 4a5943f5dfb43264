"""Counts in sentences: one patient, two patients."""

from __future__ import annotations

from typing import SupportsInt


def how_many(number: SupportsInt, one: str, more: str = "") -> str:
    """Say a count and what is counted: ``1 patient``, ``0 patients``, ``1 row is``.

    Parameters
    ----------
    number : int
        Whole numbers of any library.
    one, more : str
        What stands behind one, and behind any other number; without `more` it is `one` and an s.
    """
    count = int(number)
    return f"{count} {one if count == 1 else more or f'{one}s'}"
