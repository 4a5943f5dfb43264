"""Isotropic crops around the tumour: cut once for each patient, with what the images show."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from joblib import delayed

from rps_utils.files import file_sha256, read_json, write_json
from rps_utils.imaging.formats.bounds import MOST_CROP_VOXELS
from rps_utils.imaging.volumes import (
    Volume,
    box_around,
    clip_hu,
    isotropic_grid,
    load_pair,
    longest_diameter_mm,
    mask_corners,
    resample,
    resample_mask,
    tight_box,
    tumour_side,
    volume_ml,
    write_volume,
)
from rps_utils.machine.progress import in_parallel


def crop_paths(crops: str | Path, patient_id: str) -> tuple[Path, Path]:
    """Return where the stored crop of a patient lies: CT and mask."""
    return Path(crops) / f"{patient_id}_ct.nii.gz", Path(crops) / f"{patient_id}_mask.nii.gz"


def load_crop(crops: str | Path, patient_id: str) -> tuple[Volume, Volume]:
    """Read the stored crop of a patient; one of more voxels than any crop has is refused from its header."""
    return load_pair(*crop_paths(crops, patient_id), MOST_CROP_VOXELS)


def crop_isotropic(
    ct: Volume, mask: Volume, spacing: float, margin_mm: float, interpolation: str = "linear"
) -> tuple[Volume, Volume]:
    """Cut the tumour out on an isotropic grid.

    Parameters
    ----------
    ct, mask : Volume
        On one grid (see `load_pair`).
    spacing : float
        Edge of a voxel of the crop, mm.
    margin_mm : float
        Kept around the tumour, for filters that look beyond the mask (see `features.pad_mm`).
    interpolation : {"linear", "bspline"}
        For the CT; the mask by `resample_mask`.

    Returns
    -------
    ct, mask : Volume
        CT in whole HU (int16), mask uint8. The values are those of resampling the whole scan and cutting it
        afterwards; only the part that matters is computed.
    """
    target = isotropic_grid(ct.grid, spacing)
    target = target.box(box_around(target, mask, margin_mm))
    # Interpolation looks one voxel (linear) or a few (B-spline) beyond the box.
    near = box_around(
        ct.grid, mask, margin_mm + 2 * spacing + (8 if interpolation == "bspline" else 2) * ct.spacing.max()
    )
    part = ct.box(near)
    hu = resample(Volume(clip_hu(part.values), part.affine), target, interpolation)
    inside = resample_mask(mask.box(near), target)
    if not inside.values.any():
        raise ValueError(f"the tumour vanishes at {spacing:g} mm: choose a smaller spacing, or check the mask")
    return Volume(np.rint(clip_hu(hu.values)).astype(np.int16), target.affine), inside


def prepare_patient(
    patient_id: str, image: str | Path, mask: str | Path, crops: str | Path, spacing: float, margin_mm: float
) -> dict[str, Any]:
    """Store the isotropic crop of one patient and return what the images show.

    Parameters
    ----------
    patient_id : str
    image, mask : str or Path
        Original CT and mask.
    crops : str or Path
        Folder for the crops.
    spacing, margin_mm : float
        See `images.crop_isotropic`.

    Returns
    -------
    dict
        Matrix and spacing of the scan; side, volume, longest diameter and median HU of the tumour; spacing, edges,
        margin and tumour volume of the crop, and ``free_margin_mm``: the least distance of the tumour from the
        crop's border. Below ``margin_mm`` the scan ends there.
    """
    ct, labels = load_pair(image, mask)
    small_ct, small_mask = crop_isotropic(ct, labels, spacing, margin_mm)
    for volume, path in zip((small_ct, small_mask), crop_paths(crops, patient_id), strict=True):
        write_volume(volume, path)
    box = tight_box(labels)
    tumour = labels.box(box)
    return {
        "patient_id": patient_id,
        "matrix": " x ".join(map(str, ct.values.shape)),
        "spacing_in_plane_mm": round(float(ct.spacing[0]), 3),
        "slice_spacing_mm": round(float(ct.spacing[2]), 3),
        "side": tumour_side(ct, labels),
        "volume_ml": round(volume_ml(tumour), 1),
        "longest_diameter_mm": round(longest_diameter_mm(tumour), 1),
        "median_hu": round(float(np.median(clip_hu(ct.values[box][tumour.values != 0]))), 1),
        "crop": " x ".join(map(str, small_ct.values.shape)),
        "crop_spacing_mm": spacing,
        "crop_volume_ml": round(volume_ml(small_mask), 1),
        "margin_mm": margin_mm,
        "free_margin_mm": round(free_margin_mm(small_mask), 1),
    }


def free_margin_mm(mask: Volume) -> float:
    """Return the least distance in mm from a mask to the border of its volume."""
    low, high = mask_corners(mask)
    return float((np.minimum(low, np.array(mask.values.shape) - 1 - high) * mask.spacing).min())


def prepare_cohort(
    manifest: pd.DataFrame,
    root: str | Path,
    crops: str | Path,
    spacing: float,
    *,
    margin_mm: float,
    n_jobs: int = 1,
) -> pd.DataFrame:
    """Store the crops of all patients; whoever an earlier call had come to before it was stopped is kept.

    Parameters
    ----------
    manifest : pandas.DataFrame
        With ``patient_id, image, mask``.
    root : str or Path
        Folder of the manifest, from which its paths start.
    crops, spacing, margin_mm
        See `prepare_patient`.
    n_jobs : int
        Processes.

    Returns
    -------
    pandas.DataFrame
        One row a patient, in the order of the manifest: see `prepare_patient`.
    """
    root = Path(root)
    jobs = (
        delayed(_prepare_once)(row.patient_id, root / row.image, root / row.mask, crops, spacing, margin_mm)
        for row in manifest.itertuples()
    )
    return pd.DataFrame(in_parallel(jobs, n_jobs, "patients prepared"))


CROP_PARTS = ".parts"


def _prepare_once(
    patient_id: str, image: Path, mask: Path, crops: str | Path, spacing: float, margin_mm: float
) -> dict[str, Any]:
    part = Path(crops) / CROP_PARTS / f"{made_from([image, mask], patient_id, spacing, margin_mm)}.json"
    paths = crop_paths(crops, patient_id)
    if part.is_file() and all(path.is_file() for path in paths):
        kept = read_json(part)
        if kept["crops"] == [file_sha256(path) for path in paths]:
            return dict(kept["facts"])
    facts = prepare_patient(patient_id, image, mask, crops, spacing, margin_mm)
    # As pairs: the order of the facts is that of the table's columns.
    write_json({"facts": list(facts.items()), "crops": [file_sha256(path) for path in paths]}, part)
    return facts


def made_from(files: Sequence[str | Path], *settings: object) -> str:
    """Return a word for what a result is made from: the content of files, settings, and the code of this room."""
    states = [file_sha256(path) for path in files]
    code = [file_sha256(path) for path in sorted(Path(__file__).parent.glob("*.py"))]
    return hashlib.sha256(json.dumps([states, settings, code], default=asdict).encode()).hexdigest()[:32]
