"""Compilation of the few loops over patients or voxels that arrays cannot hold."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from numba import njit


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile at the first call, and keep the machine code on disk if any folder for it can be written."""
    try:
        return njit(cache=True, nogil=True)(function)
    except RuntimeError:  # neither the folder of this file nor the user's cache can be written
        return njit(nogil=True)(function)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile like `kernel`, and anew where the code that was kept is damaged; no other kernel can call the result."""
    inner: Any = kernel(function)

    @wraps(function)
    def call(*values: Any) -> Any:
        try:
            return inner(*values)
        except (EOFError, UnpicklingError):
            for kept in Path(str(inner.stats.cache_path)).glob(f"*.{function.__name__}-*"):
                kept.unlink(missing_ok=True)
            return inner(*values)

    return call
