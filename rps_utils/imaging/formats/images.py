"""One door for image files of every kind: the header at once, the voxels when asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib

from rps_utils.imaging.formats.bounds import Unfit, check_size
from rps_utils.imaging.formats.nifti import open_nifti
from rps_utils.imaging.formats.text_headers import (
    as_image,
    choose_segment,
    list_slicer_segments,
    read_metaimage,
    read_nrrd,
)

SLICER = ".seg.nrrd"
SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha", ".mhd")


def split_segment(name: str | Path) -> tuple[Path, str]:
    """Part ``folder/file.seg.nrrd#segment`` into the file and the name of the segment; other names stay whole."""
    file, mark, segment = str(name).partition(f"{SLICER}#")
    return (Path(file + SLICER), segment) if mark else (Path(name), "")


def open_image(path: str | Path) -> nib.Nifti1Image:
    """Open an image file, whatever its kind, as an image of nibabel.

    Parameters
    ----------
    path : str or Path
        One of `SUFFIXES`. ``file.seg.nrrd#name`` names a segment; without a name there must be one only.

    Raises
    ------
    Unfit
        The header points elsewhere, does not say where the patient lies, or promises more than is allowed.
    """
    file, segment = split_segment(path)
    name = file.name.lower()
    return next((reader for end, reader in READERS.items() if name.endswith(end)), _no_image)(file, segment)


def _open_nifti(path: Path, segment: str) -> nib.Nifti1Image:
    return open_nifti(path)


def _open_slicer(path: Path, segment: str) -> nib.Nifti1Image:
    header = read_nrrd(path)
    chosen = choose_segment(list_slicer_segments(header), segment)
    return as_image(header, layer=chosen.layer, label=chosen.label)


def _open_nrrd(path: Path, segment: str) -> nib.Nifti1Image:
    header = read_nrrd(path)
    if header.layers > 1:
        raise Unfit(f"{header.layers} volumes in the file", "a 3-D volume", "export one volume a file")
    return as_image(header)


def _open_metaimage(path: Path, segment: str) -> nib.Nifti1Image:
    return as_image(read_metaimage(path))


def _no_image(path: Path, segment: str) -> nib.Nifti1Image:
    raise Unfit(f"a file {path.suffix or 'without extension'}", f"a file {', '.join(SUFFIXES)}", "convert the image")


READERS: dict[str, Callable[[Path, str], nib.Nifti1Image]] = {
    ".nii": _open_nifti,
    ".nii.gz": _open_nifti,
    SLICER: _open_slicer,
    ".nrrd": _open_nrrd,
    ".mha": _open_metaimage,
    ".mhd": _open_metaimage,
}


def check_voxels(image: nib.Nifti1Image, path: str | Path, most_voxels: int) -> None:
    """Refuse an image whose voxels are too many to be read: see `bounds.check_size`."""
    check_size(split_segment(path)[0], image.shape, image.get_data_dtype().itemsize, most_voxels=most_voxels)
