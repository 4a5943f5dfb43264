"""The images a manifest names: paths, headers, then voxels."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from rps_utils.cohort.contract import (
    AFFINE_TOLERANCE,
    FILES,
    HASHES,
    HIGHEST_HU,
    LOWEST_HU_BELOW,
    MISSING,
    MOST_VOXELS,
    OPTIONAL_FILES,
    SMALLEST_TUMOUR_ML,
    SPACING_MM,
    TUMOUR_HU,
    Fault,
    Problem,
    is_missing,
    shown_id,
)
from rps_utils.files import file_sha256
from rps_utils.imaging.volumes import load_nifti
from rps_utils.texts.causes import cause_of
from rps_utils.texts.persons import unless_personal


def given_files(cells: pd.DataFrame, column: str) -> pd.DataFrame:
    """Leave out the rows in which an optional file, or its hash, is not given."""
    optional = column.removesuffix("_sha256") in OPTIONAL_FILES
    return cells[~is_missing(cells[column])] if optional else cells


def path_fault(text: str, root: Path) -> tuple[str, str] | None:
    """Say why a cell is no safe path to an image below `root` (the manifest's folder), or None.

    Refused are absolute paths, ``..``, links that lead out, backslashes, drive letters, addresses, ``~``, control
    characters, and extensions other than ``.nii`` and ``.nii.gz`` (some formats can point to further files).
    """
    if text.lower() in MISSING:
        return "a path in every row", "fill in the path or remove the patient"
    if re.search(r"[\\\x00-\x1f]|://|^~|^[A-Za-z]:", text):
        return (
            "a path with forward slashes, relative to the manifest",
            "no \\, drive letter, address, ~ or control sign",
        )
    if text.startswith("/") or ".." in text.split("/"):
        return "a path below the manifest's folder", "move the file there and write its relative path"
    if not text.endswith((".nii", ".nii.gz")):
        return "a file .nii or .nii.gz", "convert the image to NIfTI"
    if not (root / text).resolve().is_relative_to(root.resolve()):
        return "a path below the manifest's folder", "the link leads out of it: copy the file, or move the manifest"
    if not (root / text).is_file():
        return "a file that exists", "correct the path (capitals count), or copy the file there"
    return None


def check_paths(cells: pd.DataFrame, root: Path) -> tuple[dict[int, dict[str, Path]], list[Problem]]:
    """Return the safe paths of each line and the faults of the others, files named twice included."""
    paths: dict[int, dict[str, Path]] = {line: {} for line in cells.index}
    problems: list[Problem] = []
    seen: dict[Path, tuple[int, str]] = {}
    for column in (c for c in FILES if c in cells):
        for line, text in given_files(cells, column)[column].items():
            patient = shown_id(cells.loc[line, "patient_id"])
            wrong = path_fault(text, root)
            if wrong:
                problems.append(Problem(line, patient, column, unless_personal(text), *wrong))
                continue
            paths[line][column] = root / text
            first = seen.setdefault((root / text).resolve(), (line, column))
            if first != (line, column):
                value = f"{unless_personal(text)}, also {first[1]} of line {first[0]}"
                problems.append(Problem(line, patient, column, value, "a file of its own", "correct one of the paths"))
    return paths, problems


def header_faults(path: Path, column: str) -> tuple[nib.Nifti1Image | None, list[Fault]]:
    """Check what the header of an image tells, without reading a voxel.

    Returns
    -------
    image : nibabel image or None
        None where its voxels should not be read: unreadable, not 3-D, or beyond the largest size allowed.
    faults : list of Fault
    """
    try:
        image = load_nifti(path)
        shape, spacing = image.shape, image.header.get_zooms()[:3]
        kind = image.get_data_dtype().kind
    except Exception as error:  # nibabel raises many kinds on broken files; each is the same fault to the reader
        return None, [
            Fault(column, f"unreadable: {cause_of(error)}", "a NIfTI image", "convert or copy the file again")
        ]
    if len(shape) != 3:
        size = " x ".join(map(str, shape))
        return None, [Fault(column, f"{len(shape)}-D ({size})", "a 3-D volume", "export one volume a file")]
    if np.prod(shape, dtype=float) > MOST_VOXELS or min(shape) < 2 or kind not in "iuf":
        value = f"{' x '.join(map(str, shape))} voxels of type {image.get_data_dtype()}"
        allowed = f"2 voxels an axis, {MOST_VOXELS:.0e} at most, of numbers"
        return None, [Fault(column, value, allowed, "crop or resample the image, export grey values")]
    return image, list(_geometry_faults(image, column, spacing))


def _geometry_faults(image: nib.Nifti1Image, column: str, spacing: tuple[float, ...]) -> Iterator[Fault]:
    sform, qform = (get(coded=True)[0] for get in (image.get_sform, image.get_qform))
    if sform is None and qform is None:
        yield Fault(column, "no orientation stored", "an sform or qform", "convert again from DICOM")
    if sform is not None and qform is not None and not np.allclose(sform, qform, atol=AFFINE_TOLERANCE):
        gap = np.abs(sform - qform).max()
        yield Fault(column, f"sform and qform differ by {gap:.3g}", "equal within 0.001", "convert again from DICOM")
    if not all(SPACING_MM[0] <= s <= SPACING_MM[1] for s in spacing) or image.header.get_xyzt_units()[0] in (
        "meter",
        "micron",
    ):
        value = f"spacing {' x '.join(f'{s:.4g}' for s in spacing)} {image.header.get_xyzt_units()[0]}"
        yield Fault(column, value, f"{SPACING_MM[0]} to {SPACING_MM[1]} mm", "convert again from DICOM")
    axes = image.affine[:3, :3] / np.linalg.norm(image.affine[:3, :3], axis=0).clip(1e-9)
    if not np.allclose(axes.T @ axes, np.eye(3), atol=AFFINE_TOLERANCE):
        yield Fault(column, "axes are not at right angles", "an upright grid", "correct the gantry tilt on conversion")


def grid_faults(ct: nib.Nifti1Image, mask: nib.Nifti1Image, column: str = "mask") -> list[Fault]:
    """Compare the grids of CT and mask (or reference map): shape, and affine within 0.001."""
    remedy = f"resample the {column} to the CT (nearest neighbour), or export it on the CT"
    if ct.shape != mask.shape:
        return [Fault(column, f"shape {mask.shape}", f"the CT's shape {ct.shape}", remedy)]
    gap = np.abs(ct.affine - mask.affine).max()
    if not gap <= AFFINE_TOLERANCE:
        return [Fault(column, f"affine differs by {gap:.3g}", "the CT's affine within 0.001", remedy)]
    return []


def ct_faults(hu: np.ndarray) -> Iterator[Fault]:
    """Check the grey values of a CT: finite, and plausible as Hounsfield units."""
    if hu.dtype.kind == "f" and not np.isfinite(hu).all():
        count = int((~np.isfinite(hu)).sum())
        yield Fault("image", f"{count} voxels not finite", "finite HU", "set voxels outside the scan to -1024")
        return
    low, high = float(hu.min()), float(hu.max())
    if low > LOWEST_HU_BELOW:
        allowed = f"HU: air present, minimum {LOWEST_HU_BELOW:g} or below"
        yield Fault("image", f"minimum {low:g}", allowed, "apply rescale slope and intercept on conversion")
    if high > HIGHEST_HU:
        yield Fault("image", f"maximum {high:g}", f"HU up to {HIGHEST_HU:g}", "apply rescale slope and intercept")


def mask_faults(labels: np.ndarray, voxel_ml: float) -> Iterator[Fault]:
    """Check a mask: 0 and 1 only, not empty, of some size, and not touching every border."""
    plain = labels.dtype.kind in "iu" and labels.min() >= 0 and labels.max() <= 1
    other: list[float] = [] if plain else np.unique(labels[~((labels == 0) | (labels == 1))]).tolist()
    if other:
        shown = ", ".join(f"{v:g}" for v in other[:5])
        yield Fault("mask", f"labels {shown}", "0 (background) and 1 (tumour)", "keep one label, write it as 1")
    inside = labels != 0
    if not inside.any():
        yield Fault("mask", "no voxel labelled", "a tumour", "draw it, or name the right file")
        return
    if inside.sum() * voxel_ml < SMALLEST_TUMOUR_ML:
        value = f"{inside.sum() * voxel_ml:.2g} ml"
        yield Fault("mask", value, f"{SMALLEST_TUMOUR_ML:g} ml or more", "check the mask; too small for texture")
    borders = [inside.take(end, axis=axis).any() for axis in range(3) for end in (0, -1)]
    if all(borders):
        yield Fault(
            "mask", "touches every border", "background around the tumour", "is it inverted? give the whole scan"
        )


def reference_faults(labels: np.ndarray) -> Iterator[Fault]:
    """Check a reference map: whole labels from 0 to 255, and at least one voxel labelled."""
    if not ((labels >= 0) & (labels <= 255) & (labels == np.round(labels))).all():
        value = f"values {labels.min():g} to {labels.max():g}"
        yield Fault("reference_map", value, "whole labels 0 (nothing) to 255", "write every structure as one label")
    elif not labels.any():
        yield Fault("reference_map", "no voxel labelled", "something marked", "leave the cell empty without a map")


def tumour_faults(hu: np.ndarray, labels: np.ndarray) -> Iterator[Fault]:
    """Check that the mask lies on tissue: a mask flipped or shifted against its CT often lies on air."""
    median = float(np.median(hu[labels != 0]))
    if not TUMOUR_HU[0] <= median <= TUMOUR_HU[1]:
        allowed = f"soft tissue or fat, {TUMOUR_HU[0]:g} to {TUMOUR_HU[1]:g} HU"
        yield Fault("mask", f"median {median:.0f} HU inside", allowed, "is the mask flipped or of another scan?")


def _read_voxels(image: nib.Nifti1Image, column: str) -> tuple[np.ndarray | None, list[Fault]]:
    try:
        return np.asarray(image.dataobj), []
    except Exception as error:  # truncated or corrupt streams raise OSError, EOFError, zlib.error, ...
        return None, [Fault(column, f"unreadable: {cause_of(error)}", "all voxels", "copy the file again")]


class RowCheck(NamedTuple):
    """Faults of one row's images and a digest of the voxels of its CT."""

    faults: list[Fault]
    digest: str


def voxel_check(paths: dict[str, Path], hashes: dict[str, str]) -> RowCheck:
    """Check the files of one patient down to the voxels.

    Parameters
    ----------
    paths : dict
        ``image``, ``mask`` and ``reference_map``, where there is one and its header is sound.
    hashes : dict
        The same keys to the SHA-256 in the manifest, where given.
    """
    faults = [
        Fault(f"{column}_sha256", hashes[column], "the file's SHA-256", "the file has changed: restore or re-hash it")
        for column in paths
        if column in hashes and file_sha256(paths[column]) != hashes[column]
    ]
    voxels: dict[str, np.ndarray | None] = {}
    for column, path in paths.items():
        image = load_nifti(path)
        voxels[column], unreadable = _read_voxels(image, column)
        faults += unreadable
    ct, labels, reference = (voxels.get(column) for column in FILES)
    faults += [] if ct is None else ct_faults(ct)
    faults += [] if labels is None else mask_faults(labels, float(np.abs(np.linalg.det(image.affine[:3, :3]))) / 1000)
    faults += [] if reference is None else reference_faults(reference)
    if ct is not None and labels is not None and not faults and ct.shape == labels.shape:
        faults += tumour_faults(ct, labels)
    return RowCheck(faults, "" if ct is None else hashlib.sha256(np.ascontiguousarray(ct.T).data).hexdigest())


def check_images(
    cells: pd.DataFrame, paths: dict[int, dict[str, Path]], *, n_jobs: int = 1, voxels: bool = True
) -> list[Problem]:
    """Check headers of all images, then the voxels of those whose headers are sound."""
    found: list[tuple[int, Fault]] = []
    sound: dict[int, dict[str, Path]] = {}
    for line, own in paths.items():
        images: dict[str, nib.Nifti1Image] = {}
        for column, path in own.items():
            image, faults = header_faults(path, column)
            found += [(line, fault) for fault in faults]
            images |= {column: image} if image is not None else {}
        ct = images.get("image")
        if ct is not None:
            others = [(column, other) for column, other in images.items() if column != "image"]
            found += [(line, fault) for column, other in others for fault in grid_faults(ct, other, column)]
        sound[line] = {column: own[column] for column in images}
    if voxels:
        found += _check_voxels(cells, sound, n_jobs)
    return [Problem(line, shown_id(cells.loc[line, "patient_id"]), *fault) for line, fault in found]


def _check_voxels(cells: pd.DataFrame, sound: dict[int, dict[str, Path]], n_jobs: int) -> list[tuple[int, Fault]]:
    hashes = {
        line: {file: row[column] for column, file in HASHES.items() if row.get(column)}
        for line, row in cells.iterrows()
    }
    checks = Parallel(n_jobs=n_jobs)(delayed(voxel_check)(own, hashes[line]) for line, own in sound.items())
    found: list[tuple[int, Fault]] = []
    seen: dict[str, int] = {}
    for line, check in zip(sound, checks, strict=True):
        found += [(line, fault) for fault in check.faults]
        first = seen.setdefault(check.digest, line)
        if check.digest and first != line and sound[first]["image"].resolve() != sound[line]["image"].resolve():
            value = f"same voxels as line {first} ({shown_id(cells.loc[first, 'patient_id'])})"
            found.append((line, Fault("image", value, "a scan of its own", "one patient under two ids? correct it")))
    return found
