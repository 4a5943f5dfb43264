"""Faults of manifests and NIfTI files, each planted in a sound synthetic cohort and to be named by ``rps check``.

For tests, and for whoever wants to practise: plant one, look at the files, then ask the gate. The cohort is small and
synthetic; the fault sits in its second patient. `rps_utils.faults` adds those of DICOM files, which need more packages.
"""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage

from rps_utils.files import file_sha256, write_csv, write_text
from rps_utils.imaging.formats.images import open_image
from rps_utils.imaging.volumes import Volume, write_volume

SHAPE, SPACING = (40, 36, 32), (5.5, 6.0, 5.0)
PATIENTS = 6  # P1, P3, P5 with SEG, the others with RTSTRUCT
SEED = 2026


class PlantedFault(NamedTuple):
    """A fault of the library.

    Attributes
    ----------
    gate : str
        ``ingest`` for a DICOM folder and its table, ``check`` for NIfTI files and a manifest.
    does : str
        What is done to the sound cohort.
    says : str
        Part of the message in which the gate has to name it.
    plant : callable
        Does it, in a folder.
    """

    gate: str
    does: str
    says: str
    plant: Callable[[Path], object]


def small_scan(seed: int) -> tuple[Volume, Volume]:
    """Return a small synthetic CT and its mask: an oval body in air, a spine, a tumour left of it.

    Each has a muscle of its own, uneven by some 80 HU: no two may pass for one patient.
    """
    noise = np.random.default_rng([SEED, seed]).normal(0, 8, SHAPE)
    uneven = ndimage.gaussian_filter(np.random.default_rng([SEED, seed, 1]).normal(size=SHAPE), 3)
    x, y, z = np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij")
    hu = np.full(SHAPE, -1000.0)
    hu[((x - 19.5) / 17) ** 2 + ((y - 13) / 11) ** 2 < 1] = -90
    muscle = ((x - 19.5) / 14) ** 2 + ((y - 13) / 9) ** 2 < 1
    hu[muscle] = 40 + 80 * (uneven / uneven.std())[muscle]
    hu[((x - 19.5) / 3) ** 2 + ((y - 6) / 2.5) ** 2 < 1] = 300
    tumour = ((x - 11) / 4) ** 2 + ((y - 10) / 4) ** 2 + ((z - 12) / 5) ** 2 < 1
    hu[tumour] = 80
    affine = np.diag([*SPACING, 1.0])
    affine[:3, 3] = -100, -80, -400
    return Volume(np.rint(hu + noise).clip(-1024).astype(np.int16), affine), Volume(tumour.astype(np.uint8), affine)


def clinical_rows() -> pd.DataFrame:
    """Return outcome and clinical values of six synthetic patients."""
    number = np.arange(PATIENTS)
    return pd.DataFrame(
        {
            "patient_id": [f"P{i + 1}" for i in number],
            "time_months": 6 + 7.5 * number,
            "event": (number + 1) % 2,
            "age": 41 + 6 * number,
            "grade": [f"G{1 + i % 3}" for i in number],
        }
    )


def write_small_manifest(folder: Path) -> Path:
    """Write the same patients as NIfTI; return the manifest."""
    table = clinical_rows().assign(data_kind="synthetic")
    for number, patient in enumerate(table["patient_id"]):
        for volume, kind in zip(small_scan(number + 1), ("ct", "mask"), strict=True):
            write_volume(volume, folder / f"{patient}_{kind}.nii.gz")
    for column, kind in (("image", "ct"), ("mask", "mask")):
        table[column] = table["patient_id"] + f"_{kind}.nii.gz"
        table[f"{column}_sha256"] = [file_sha256(folder / name) for name in table[column]]
    return write_csv(table, folder / "data_manifest.csv")


def write_cell(column: str, value: str, row: int, table: str) -> Callable[[Path], None]:
    """Return what writes a cell of a table in a folder; a new column is empty elsewhere."""

    def plant(folder: Path) -> None:
        cells = _read_cells(folder / table)
        cells.loc[row, column] = value
        write_csv(cells.fillna(""), folder / table)

    return plant


def _read_cells(path: Path) -> pd.DataFrame:
    with path.open(encoding="utf-8") as stream:
        return pd.read_csv(stream, dtype=str, keep_default_na=False)


def _row(column: str, value: str) -> Callable[[Path], None]:
    return write_cell(column, value, 1, "data_manifest.csv")


def _image(
    kind: str, edit: Callable[[np.ndarray], np.ndarray], affine: np.ndarray | None = None, **header: object
) -> Callable[[Path], None]:
    """Write P2's ct or mask anew, from edited voxels."""

    def plant(folder: Path) -> None:
        volume = small_scan(2)[kind == "mask"]
        image = nib.Nifti1Image(edit(volume.values.copy()), volume.affine if affine is None else affine)
        image.set_qform(image.affine, code=1)
        for name, value in header.items():
            image.header[name] = value
        nib.save(image, folder / f"P2_{kind}.nii.gz")
        _unhash(folder)

    return plant


def _unhash(folder: Path) -> None:
    """Take the hashes out, so that only the fault itself is left to find."""
    table = _read_cells(folder / "data_manifest.csv")
    write_csv(table.drop(columns=[c for c in table if c.endswith("_sha256")]), folder / "data_manifest.csv")


def _same(values: np.ndarray) -> np.ndarray:
    return values


def _with_nan(values: np.ndarray) -> np.ndarray:
    values = values.astype(np.float32)
    values[0, 0, 0] = np.nan
    return values


def _screen_grey(values: np.ndarray) -> np.ndarray:
    return ((values.clip(-160, 240) + 160) / 400 * 255).astype(np.uint8)


def _affine(spacing: tuple[float, ...], shift: float = 0) -> np.ndarray:
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = np.array([-100, -80, -400]) + shift
    return affine


def _tilted() -> np.ndarray:
    affine = _affine(SPACING)
    affine[1, 2] = 1.3
    return affine


def _forms_apart(folder: Path) -> None:
    image = open_image(folder / "P2_ct.nii.gz")
    image.set_qform(_affine((-5.5, 6.0, 5.0)), code=1)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), None, image.header), folder / "P2_ct.nii.gz")
    _unhash(folder)


def _gzip_bomb(folder: Path) -> None:
    header = nib.Nifti1Header()
    header.set_data_shape((2000, 2000, 500))
    header.set_data_dtype(np.int16)
    header["magic"], header["vox_offset"] = b"n+1", 352
    with gzip.open(folder / "P2_ct.nii.gz", "wb") as stream:
        stream.write(header.binaryblock + bytes(4 + 2**20))
    _unhash(folder)


def _link_out(folder: Path) -> None:
    outside = folder.parent / "outside.nii.gz"
    shutil.move(folder / "P2_ct.nii.gz", outside)
    os.symlink(outside, folder / "P2_ct.nii.gz")


def _detached(folder: Path) -> None:
    write_text("ObjectType = Image\nElementDataFile = /etc/hostname\n", folder / "P2_ct.mhd")
    _row("image", "P2_ct.mhd")(folder)


def _copy_of_p1(folder: Path) -> None:
    write_volume(small_scan(1)[0], folder / "P2_ct.nii.gz")
    _unhash(folder)


def _changed_since(folder: Path) -> None:
    write_volume(small_scan(9)[0], folder / "P2_ct.nii.gz")


def _write_text(path: str, text: str) -> Callable[[Path], object]:
    return lambda folder: write_text(text, folder / path)


MANIFEST_PARTS: dict[str, dict[str, tuple[str, str, Callable[[Path], object]]]] = {
    "paths": {
        "address as path": ("https://...", "forward slashes", _row("image", "https://example.org/ct.nii.gz")),
        "path that climbs": ("../...", "below the manifest's folder", _row("image", "../P2_ct.nii.gz")),
        "absolute path": ("/etc/...", "below the manifest's folder", _row("image", "/etc/hosts.nii.gz")),
        "backslash": ("a path of Windows", "forward slashes", _row("image", "images\\P2.nii.gz")),
        "link out of the folder": ("a symbolic link", "leads out", _link_out),
        "detached header": (".mhd that points elsewhere", "names no file in the header's folder", _detached),
    },
    "files": {
        "gzip bomb": ("2 billion voxels in a small file", "2000 x 2000 x 500 voxels", _gzip_bomb),
        "not an image": ("text named .nii.gz", "unreadable", _write_text("P2_ct.nii.gz", "text")),
        "file changed since": ("other voxels, old hash", "the file has changed", _changed_since),
    },
    "grids": {
        "spacing swapped": (
            "mask with its axes exchanged",
            "affine differs by",
            _image("mask", _same, _affine((6, 5.5, 5))),
        ),
        "origin shifted": ("mask 3 mm off", "affine differs by 3", _image("mask", _same, _affine(SPACING, 3))),
        "mask on another grid": ("one slice less", "shape (40, 36, 31)", _image("mask", lambda v: v[:, :, 1:])),
        "four dimensions": (
            "two phases in a file",
            "4-D",
            _image("ct", lambda v: np.stack([v, v], -1), _affine(SPACING)),
        ),
        "sform and qform differ": ("left and right exchanged in one", "sform and qform differ", _forms_apart),
        "metres": ("the unit says metre", "meter", _image("ct", _same, xyzt_units=1)),
        "sheared grid": (
            "tilt kept in the affine",
            "not at right angles",
            _image("ct", _same, _tilted()),
        ),
    },
    "voxels": {
        "mask flipped onto air": ("front and back exchanged", "HU inside", _image("mask", lambda v: v[:, ::-1])),
        "mask inverted": ("1 outside", "touches every border", _image("mask", lambda v: 1 - v)),
        "label 255": ("0 and 255", "labels 255", _image("mask", lambda v: v * 255)),
        "empty mask": ("all 0", "no voxel labelled", _image("mask", lambda v: v * 0)),
        "fractional mask": ("0 and 0.7", "labels 0.7", _image("mask", lambda v: v * np.float32(0.7))),
        "voxel not a number": ("NaN", "1 voxel not finite", _image("ct", _with_nan)),
        "unrescaled NIfTI": ("values from 0 up", "air present", _image("ct", lambda v: v + 1024)),
        "grey values of a screen": ("0 to 255", "air present", _image("ct", _screen_grey)),
        "voxels of another patient": ("P1's CT under P2", "same voxels as line 2", _copy_of_p1),
    },
    "rows": {
        "time as date": ("2021-05-06", "a finite number", _row("time_months", "2021-05-06")),
        "patient twice": ("P1 again", "P1 again", _row("patient_id", "P1")),
        "formula in a manifest": ("=1+1", "no formula", _row("grade", "=1+1")),
    },
}

MANIFEST_FAULTS = {
    name: PlantedFault("check", *fault) for part in MANIFEST_PARTS.values() for name, fault in part.items()
}
