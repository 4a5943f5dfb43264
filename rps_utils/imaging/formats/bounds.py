"""How much a compressed file may unpack to: asked before anything is unpacked, from its header and its size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from zipfile import ZipFile

import numpy as np
from numpy.lib.npyio import NpzFile

MOST_VOXELS = 300_000_000  # 512 x 512 x 1,144
MOST_BYTES = 1_300_000_000  # of voxels as they are stored: 512 x 512 x 600 of the widest kind
MOST_CROP_VOXELS = 64_000_000  # 400 mm cubed at 1 mm
MOST_HEADER = 2**24  # bytes before the first voxel; real ones have thousands
MOST_TABLE = 2**25  # bytes of an unpacked workbook; 2,000 patients with 50 columns take 4 million
HIGHEST_RATIO = 1040  # of deflate; a file cannot hold more


class Unfit(ValueError):
    """A file cannot be used; says what was found, what is allowed, and what to do."""

    def __init__(self, value: str, allowed: str = "", remedy: str = "") -> None:
        super().__init__(value, allowed, remedy)  # as they came, so that it travels between processes
        self.value, self.allowed, self.remedy = value, allowed, remedy

    def __str__(self) -> str:
        """Return the three parts in one line."""
        return f"{self.value} (allowed: {self.allowed}; {self.remedy})" if self.allowed else self.value


def check_size(path: Path, shape: Sequence[int], item: int, *, most_voxels: int = MOST_VOXELS) -> None:
    """Refuse voxels that are too many, or more than the file can hold.

    Parameters
    ----------
    path : Path
    shape : sequence of int
        As the header says.
    item : int
        Bytes of a voxel.
    most_voxels : int

    Raises
    ------
    Unfit
    """
    voxels = math.prod(int(n) for n in shape)
    size = " x ".join(map(str, shape))
    if voxels > most_voxels or voxels * item > MOST_BYTES:
        value = f"{size} voxels of {item} bytes"
        allowed = f"{most_voxels / 1e6:.0f} million voxels and {MOST_BYTES / 1e6:.0f} MB at most"
        raise Unfit(value, allowed, "crop or resample the image")
    if voxels * item > path.stat().st_size * HIGHEST_RATIO:
        value = f"{size} voxels in a file of {path.stat().st_size} bytes"
        raise Unfit(value, f"{HIGHEST_RATIO} times the file's size at most", "the file is cut short: copy it again")


def check_archive(path: str | Path, most: int, called: str = "") -> None:
    """Refuse a zip archive (.xlsx, .npz) whose members unpack to more than `most` bytes in all.

    Nothing is unpacked: members never give more than the archive's own list says.

    Parameters
    ----------
    path : str or Path
    most : int
    called : str
        What the message calls the file; its path if empty.

    Raises
    ------
    Unfit
    """
    with ZipFile(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > most:
        value = f"{called or path}: {unpacked / 1e6:.0f} MB once unpacked"
        raise Unfit(value, f"{most / 1e6:.0f} MB at most", "is it the right file?")


def open_archive(path: str | Path, most: int) -> NpzFile:
    """Open an archive of arrays (.npz) that unpacks to at most `most` bytes; ValueError if it is something else."""
    check_archive(path, most)
    stored = np.load(path, allow_pickle=False)
    if not isinstance(stored, NpzFile):
        raise ValueError(f"{path} holds one array, and is no archive of arrays (.npz)")
    return stored
