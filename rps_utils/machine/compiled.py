"""Compilation of the few loops over patients or voxels that arrays cannot hold."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from numba import njit


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile at the first call, and keep the machine code on disk if any folder for it can be written."""
    try:
        kernel = njit(cache=True, nogil=True)(function)
    except RuntimeError:  # neither the folder of this file nor the user's cache can be written
        return njit(nogil=True)(function)

    @wraps(function)
    def call(*values: Any) -> Any:
        try:
            return kernel(*values)
        except (EOFError, UnpicklingError):  # what was kept is damaged: compile it anew
            for kept in Path(str(kernel.stats.cache_path)).glob(f"*.{function.__name__}-*"):
                kept.unlink(missing_ok=True)
            return kernel(*values)

    return call
