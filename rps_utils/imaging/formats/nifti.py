"""NIfTI, version 1 and 2."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib

from rps_utils.imaging.formats.bounds import MOST_HEADER, Unfit

SIZES = {348: nib.Nifti1Header, 540: nib.Nifti2Header}


def open_nifti(path: Path) -> nib.Nifti1Image:
    """Open a NIfTI file: its header is read, its voxels only when asked for.

    Raises
    ------
    Unfit
        Extensions of the header are larger than 16 MiB: nibabel would read them whole.
    TypeError
        An image of another kind, CIFTI for example.
    """
    _refuse_long_header(path)
    image = nib.load(path)
    if not isinstance(image, nib.Nifti1Image):
        raise TypeError(f"{path.name} holds a {type(image).__name__}; allowed: a NIfTI volume; convert it")
    return image


def _refuse_long_header(path: Path) -> None:
    with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as stream:
        block = stream.read(540)
    sizes = (int.from_bytes(block[:4], order) for order in ("little", "big"))
    kind = next((SIZES[size] for size in sizes if size in SIZES), None)
    if kind is None:
        return  # nibabel says what it is instead
    header = kind(block[: kind.sizeof_hdr], check=False)
    if not float(header["vox_offset"]) <= MOST_HEADER:
        value = f"header of {float(header['vox_offset']):.2g} bytes"
        raise Unfit(value, f"{MOST_HEADER // 2**20} MiB at most", "write the image without header extensions")
