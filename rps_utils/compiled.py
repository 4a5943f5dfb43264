"""Compilation of the few loops over patients that arrays cannot hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile at the first call, and keep the machine code on disk if any folder for it can be written."""
    try:
        return njit(cache=True, nogil=True)(function)
    except RuntimeError:  # neither the folder of this file nor the user's cache can be written
        return njit(nogil=True)(function)
