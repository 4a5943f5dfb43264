"""One way to find and to open DICOM files: with or without preamble, within the folder, and bounded where deflated."""

from __future__ import annotations

import os
import zlib
from collections import Counter
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_file_meta_info
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from rps_utils.imaging.formats.bounds import Unfit

PREAMBLE = 128
MOST_UNPACKED = 2**27  # bytes of a deflated file; a CT slice has half a million
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00", b"\x00\x08")  # of the first element of a file without preamble
LABELMAP_SEGMENTATION = UID("1.2.840.10008.5.1.4.1.1.66.7")  # DICOM 2024d; pydicom 3.0 has no name for it
OTHER_FILES = {
    b"PK\x03\x04": "zip archive (unpack it first)",
    b"7z\xbc\xaf": "7z archive (unpack it first)",
    b"\x1f\x8b": "gzip file that is no NIfTI (unpack it first)",
    b"Rar!": "rar archive (unpack it first)",
}


def walk_files(source: Path) -> tuple[list[Path], Counter[str]]:
    """List the files below a folder, without following links, and count the links that were not followed.

    A link to something inside `source` shows nothing new, and a circle of them has no end; one that leads out would
    read what nobody named.
    """
    files: list[Path] = []
    left: Counter[str] = Counter()
    root = source.resolve()
    for folder, folders, names in os.walk(source):
        for path in (Path(folder) / name for name in (*folders, *names)):
            if path.is_symlink():
                left[_kind_of_link(path, root)] += 1
            elif path.is_file():
                files.append(path)
    return sorted(files), left


def _kind_of_link(path: Path, root: Path) -> str:
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError):
        return "link that leads nowhere or in a circle"
    if not target.is_relative_to(root):
        return "link that leaves the folder (copy its files in, or ingest that folder)"
    return "link to what the folder holds anyway"


def read_dicom(path: Path, **options: Any) -> Dataset:
    """Read a DICOM file, also one without the 128-byte preamble, as older exports are.

    Parameters
    ----------
    path : Path
    **options
        As of `pydicom.dcmread`.

    Returns
    -------
    pydicom.Dataset
        With a transfer syntax in its file meta information, also where the file has none.

    Raises
    ------
    InvalidDicomError
        The file does not begin as DICOM does.
    Unfit
        A deflated file unpacks to more than 128 MiB.
    """
    with path.open("rb") as stream:
        start = stream.read(PREAMBLE + 4)
    if start[PREAMBLE:] == b"DICM":
        deflated = _transfer_syntax(path) == DeflatedExplicitVRLittleEndian
        return dcmread(_inflate(path) if deflated else path, **options)
    if start[:2] not in _FIRST_GROUPS:
        raise InvalidDicomError("no DICOM file")
    dataset = dcmread(path, force=True, **options)
    if not (dataset.get("SOPClassUID") and dataset.get("SOPInstanceUID")):
        raise InvalidDicomError("no DICOM file")
    return _with_transfer_syntax(dataset)


def _transfer_syntax(path: Path) -> str:
    return str(read_file_meta_info(path).get("TransferSyntaxUID", ""))


def _inflate(path: Path) -> BytesIO:
    """Return a deflated file as a plain one; pydicom itself would unpack it whatever its size."""
    meta = read_file_meta_info(path)
    begin = PREAMBLE + 4 + 12 + int(meta.FileMetaInformationGroupLength)
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    data = unpacker.decompress(path.read_bytes()[begin:], MOST_UNPACKED)
    if unpacker.unconsumed_tail:
        value = f"deflated DICOM file of more than {MOST_UNPACKED // 2**20} MiB once unpacked"
        raise Unfit(value, "one slice or mask a file", "export it without compression")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    head = DicomBytesIO()
    write_file_meta_info(head, meta, enforce_standard=False)
    return BytesIO(bytes(PREAMBLE) + b"DICM" + head.getvalue() + data)


def _with_transfer_syntax(dataset: Dataset) -> Dataset:
    meta = getattr(dataset, "file_meta", None) or FileMetaDataset()
    if "TransferSyntaxUID" not in meta:
        implicit, little = dataset.original_encoding
        plain = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        meta.TransferSyntaxUID = plain if little else ExplicitVRBigEndian
    dataset.file_meta = meta
    return dataset


def kind_of_other_file(path: Path) -> str:
    """Say what a file is that is no DICOM: an archive that may hold some, or simply no DICOM file."""
    try:
        with path.open("rb") as stream:
            start = stream.read(4)
    except OSError:
        return "file that cannot be read (permission?)"
    return next((kind for sign, kind in OTHER_FILES.items() if start.startswith(sign)), "no DICOM file")
