"""NRRD and MetaImage: a few lines of text, then voxels. The lines are read here, the voxels by ITK, when asked for.

ITK would follow a header to any file that it names, and takes what a header leaves out as zero; so headers are read
first, and those that point elsewhere, or do not say where the patient lies, are refused. Names of keys and values that
are not known here are left alone: some programs write names of patients there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import SimpleITK as sitk

from rps_utils.imaging.formats.bounds import Unfit, check_size

MOST_LINES = 2**20  # bytes of header; 3D Slicer writes a few hundred a segment
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
NO_PLACE = ("orientation, origin and spacing in the header", "export it again from DICOM, or as NIfTI")


class TextHeader(NamedTuple):
    """What the header of an NRRD or MetaImage says.

    Attributes
    ----------
    path : Path
    reader : str
        ITK's reader of the voxels.
    shape : tuple of int
        Left-right, back-front, foot-head in any order and direction; `layers` are not counted.
    dtype : numpy.dtype
    affine : numpy.ndarray
        4 x 4, index to mm (RAS).
    layers : int
        Volumes in the file.
    fields : dict of str to str
        All lines.
    """

    path: Path
    reader: str
    shape: tuple[int, ...]
    dtype: np.dtype
    affine: np.ndarray
    layers: int
    fields: dict[str, str]


class LazyVoxels:
    """Voxels in a file, as nibabel wants them: shape and type at once, values when asked for.

    Parameters
    ----------
    header : TextHeader
    layer, label : int, optional
        Give 1 where that layer holds that label, else 0, instead of the values.
    """

    is_proxy = True

    def __init__(self, header: TextHeader, layer: int = 0, label: int | None = None) -> None:
        self.header, self.layer, self.label = header, layer, label
        self.shape, self.ndim = header.shape, len(header.shape)
        self.dtype = header.dtype if label is None else np.dtype(np.uint8)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Read the voxels."""
        image = sitk.ReadImage(str(self.header.path), imageIO=self.header.reader)
        values = sitk.GetArrayFromImage(image).T
        values = values[self.layer] if values.ndim == len(self.shape) + 1 else values
        if values.shape != self.shape:
            raise ValueError(f"voxels {values.shape}, header {self.shape}")
        values = values if self.label is None else (values == self.label).astype(np.uint8)
        return values if dtype is None else values.astype(dtype, copy=False)

    def __getitem__(self, index: Any) -> np.ndarray:
        """Read the voxels and return a part."""
        return np.asarray(self)[index]


def as_image(header: TextHeader, *, layer: int = 0, label: int | None = None) -> nib.Nifti1Image:
    """Return the file as an image of nibabel, not yet read."""
    check_size(header.path, (*header.shape, header.layers), header.dtype.itemsize)
    voxels = LazyVoxels(header, layer, label)
    image = nib.Nifti1Image(voxels, header.affine, dtype=voxels.dtype)
    image.header.set_xyzt_units("mm")
    return image


def _read_start(path: Path, end: bytes) -> str:
    """Return the text up to and with `end` (a pattern)."""
    with path.open("rb") as stream:
        start = stream.read(MOST_LINES)
    found = re.search(end, start)
    if not found:
        raise Unfit("no end of the header", "a header of text, then voxels in the same file", "write the file anew")
    return start[: found.end()].decode("latin-1")


def _numbers(text: str, count: int, what: str) -> np.ndarray:
    try:
        values = np.array(text.split(), float)
    except ValueError:
        values = np.array([])
    if len(values) != count or not np.isfinite(values).all():
        raise Unfit(f"{what}: not {count} finite numbers", *NO_PLACE)
    return values


def _sizes(text: str) -> list[int]:
    if not re.fullmatch(r"\s*\d{1,9}(\s+\d{1,9})*\s*", text):
        raise Unfit("sizes that are no whole numbers", "the number of voxels along each axis", "write the file anew")
    return [int(n) for n in text.split()]


# ---------------------------------------------------------------- NRRD

NRRD_TYPES = {
    "int8": "signed char, int8, int8_t",
    "uint8": "uchar, unsigned char, uint8, uint8_t",
    "int16": "short, short int, signed short, signed short int, int16, int16_t",
    "uint16": "ushort, unsigned short, unsigned short int, uint16, uint16_t",
    "int32": "int, signed int, int32, int32_t",
    "uint32": "uint, unsigned int, uint32, uint32_t",
    "int64": "longlong, long long, long long int, signed long long, signed long long int, int64, int64_t",
    "uint64": "ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t",
    "float32": "float",
    "float64": "double",
}
NRRD_SPACES = {
    "left-posterior-superior": (-1, -1, 1),
    "lps": (-1, -1, 1),
    "right-anterior-superior": (1, 1, 1),
    "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1),
    "las": (-1, 1, 1),
}


def read_nrrd(path: Path) -> TextHeader:
    """Read the header of an NRRD file whose voxels lie in the same file.

    Raises
    ------
    Unfit
        The header names another file, or does not say where the patient lies.
    """
    fields = _nrrd_fields(path)
    if {"data file", "datafile"} & set(fields):
        raise Unfit("header apart from its voxels", "NRRD with both in one file", "save it as one file, .nrrd")
    sizes = _sizes(fields.get("sizes", ""))
    if fields.get("encoding") not in ("raw", "gzip", "gz"):
        raise Unfit("voxels in another encoding", "raw or gzip", "save it as one of them")
    kind = next((k for k, names in NRRD_TYPES.items() if fields.get("type") in names.split(", ")), None)
    if kind is None:
        raise Unfit("values of another type", "numbers of 1 to 8 bytes", "save it as 16-bit integers")
    shape, layers, affine = _nrrd_grid(fields, sizes)
    return TextHeader(path, "NrrdImageIO", shape, np.dtype(kind), affine, layers, fields)


def _nrrd_fields(path: Path) -> dict[str, str]:
    lines = _read_start(path, rb"\r?\n\r?\n").splitlines()
    if not lines[0].startswith("NRRD000"):
        raise Unfit("no NRRD file", "a file that begins with NRRD000", "what kind of file is it?")
    parts = (re.split(r":=|: ?", line, maxsplit=1) for line in lines[1:] if line and not line.startswith("#"))
    fields = {part[0].strip(): part[1].strip() for part in parts if len(part) == 2}
    return {name if name.startswith("Segment") else name.lower(): text for name, text in fields.items()}


def _nrrd_grid(fields: dict[str, str], sizes: list[int]) -> tuple[tuple[int, ...], int, np.ndarray]:
    space = NRRD_SPACES.get(fields.get("space", "").lower())
    vectors = re.findall(r"none|\([^)]*\)", fields.get("space directions", ""))
    units = set(re.findall(r'"([^"]*)"', fields.get("space units", "")))
    if space is None or len(vectors) != len(sizes) or "space origin" not in fields:
        raise Unfit("no orientation stored", *NO_PLACE)
    if units - {"mm", ""}:
        raise Unfit("another unit of length", "mm", "convert again from DICOM")
    along = [i for i, vector in enumerate(vectors) if vector != "none"]
    layers = [n for i, n in enumerate(sizes) if i not in along]
    if len(along) != 3 or len(layers) > 1 or (layers and along != [1, 2, 3]):
        size = " x ".join(map(str, sizes))
        raise Unfit(f"{len(sizes)}-D ({size})", "a 3-D volume", "export one volume a file")
    affine = np.eye(4)
    affine[:3, :3] = np.transpose([_numbers(re.sub("[(),]", " ", vectors[i]), 3, "space directions") for i in along])
    affine[:3, 3] = _numbers(re.sub("[(),]", " ", fields["space origin"]), 3, "space origin")
    return tuple(sizes[i] for i in along), layers[0] if layers else 1, np.diag([*space, 1.0]) @ affine


# ---------------------------------------------------------------- MetaImage

META_TYPES = {
    "MET_CHAR": "int8",
    "MET_UCHAR": "uint8",
    "MET_SHORT": "int16",
    "MET_USHORT": "uint16",
    "MET_INT": "int32",
    "MET_UINT": "uint32",
    "MET_LONG_LONG": "int64",
    "MET_ULONG_LONG": "uint64",
    "MET_FLOAT": "float32",
    "MET_DOUBLE": "float64",
}
OPPOSITE = dict(zip("RLAPIS", "LRPASI", strict=True))


def read_metaimage(path: Path) -> TextHeader:
    """Read the header of a MetaImage; the voxels of an ``.mhd`` lie in one file beside it.

    Raises
    ------
    Unfit
        The header names files elsewhere, or does not say where the patient lies.
    """
    text = _read_start(path, rb"ElementDataFile[ \t]*=[^\n]*(\n|$)")
    fields = dict(re.findall(r"(?m)^[ \t]*(\w+)[ \t]*=[ \t]*(.*?)[ \t]*\r?$", text))
    _refuse_data_elsewhere(path, fields["ElementDataFile"])
    sizes = _sizes(fields.get("DimSize", ""))
    channels = fields.get("ElementNumberOfChannels", "1")
    if len(sizes) != 3 or channels != "1":
        raise Unfit(f"{len(sizes)}-D, or several values a voxel", "a 3-D volume", "export one volume a file")
    kind = META_TYPES.get(fields.get("ElementType", ""))
    if kind is None:
        raise Unfit("values of another type", "numbers of 1 to 8 bytes", "save it as MET_SHORT")
    packed = _sizes(fields.get("CompressedDataSize", "0"))[0]
    if packed > max(p.stat().st_size for p in (path, _data_file(path, fields["ElementDataFile"]))):
        raise Unfit("CompressedDataSize above the file's own", "a whole file", "copy the file again")
    return TextHeader(path, "MetaImageIO", tuple(sizes), np.dtype(kind), _meta_affine(fields), 1, fields)


def _data_file(path: Path, name: str) -> Path:
    return path if name.upper() == "LOCAL" else path.parent / name


def _refuse_data_elsewhere(path: Path, name: str) -> None:
    data = _data_file(path, name)
    inside = re.fullmatch(r"[^/\\%\s:]+", name) and name.upper() != "LIST"
    if not inside or not data.is_file() or not data.resolve().is_relative_to(path.parent.resolve()):
        allowed = "LOCAL, or the name of one file in the same folder"
        raise Unfit("ElementDataFile names no file in the header's folder", allowed, "save it as one file, .mha")


def _meta_affine(fields: dict[str, str]) -> np.ndarray:
    names = ("TransformMatrix", "Rotation", "Orientation"), ("Offset", "Position", "Origin"), ("ElementSpacing",)
    given = [next((fields[name] for name in group if name in fields), None) for group in names]
    if None in given:
        raise Unfit("no orientation stored", *NO_PLACE)
    axes, origin, spacing = (
        _numbers(str(text), count, group[0]) for text, count, group in zip(given, (9, 3, 3), names, strict=True)
    )
    affine = np.eye(4)
    affine[:3, :3] = axes.reshape(3, 3).T * spacing  # each three numbers are the direction of one axis
    affine[:3, 3] = origin
    affine = LPS_TO_RAS @ affine
    _refuse_contradiction(affine, fields.get("AnatomicalOrientation", ""))
    return affine


def _refuse_contradiction(affine: np.ndarray, code: str) -> None:
    """Compare the three letters (where each axis comes from) with the matrix; programs write ``???`` for unknown."""
    if not re.fullmatch("[RLAPIS]{3}", code) or not np.linalg.det(affine):
        return
    own = "".join(OPPOSITE[axis] for axis in nib.aff2axcodes(affine))
    if own != code:
        value = f"AnatomicalOrientation {code}, but TransformMatrix {own}"
        raise Unfit(value, "one orientation", "convert again from DICOM")


# ---------------------------------------------------------------- segments of 3D Slicer


class SlicerSegment(NamedTuple):
    """One segment of a ``.seg.nrrd``: its name, and in which layer which label stands for it."""

    name: str
    layer: int
    label: int


def list_slicer_segments(header: TextHeader) -> list[SlicerSegment]:
    """List the segments; files of before 2020 name neither layer nor label: one layer each, label 1."""
    numbers = sorted({int(n) for key in header.fields for n in re.findall(r"^Segment(\d{1,4})_", key)})
    segments = []
    for n in numbers:
        name, layer, label = (header.fields.get(f"Segment{n}_{key}", "") for key in ("Name", "Layer", "LabelValue"))
        if not all(re.fullmatch(r"\d{0,6}", text) for text in (layer, label)):
            raise Unfit(f"segment {n}: layer or label is no number", "whole numbers", "save the segmentation again")
        segments.append(SlicerSegment(name, int(layer or (n if header.layers > 1 else 0)), int(label or 1)))
    wrong = [s for s in segments if s.layer >= header.layers]
    if wrong or not segments:
        value = "a segment in a layer that the file lacks" if wrong else "no segment"
        raise Unfit(value, "segments with their layers", "save the segmentation again, or save a labelmap as .nrrd")
    return segments


def choose_segment(segments: Sequence[SlicerSegment], name: str) -> SlicerSegment:
    """Return the segment of a name (capitals do not matter); without a name the only one."""
    found = [s for s in segments if not name or s.name.lower() == name.lower()]
    if len(found) != 1:
        wanted = "of that name" if name else ""
        value = f"{len(found)} of {len(segments)} segments {wanted}".rstrip()
        raise Unfit(value, "one segment, or file.seg.nrrd#name", "name the tumour's segment after #")
    return found[0]
