"""The network's input: a cube of a few thousand voxels around the tumour, in a frame of its own.

Canonical frame
    Axes run left-right, back-front, feet-head (RAS). A tumour on the right of the body is mirrored, so that in
    every patch the flank lies at low and the midline at high index of the first axis. The whole patient is
    mirrored, anatomy and label together, so nothing false is shown; organs that have a side (liver, spleen)
    do change it. The paper does not say how it dealt with the side: this is our choice.

Grid
    ``spacing_mm`` gives every patient the same physical scale. ``spacing_mm = None`` scales the patch to the
    tumour instead: its bounding box then takes the same share of every patch.

Channels
    Averages over the part of a patch voxel inside the tumour, and over the part outside it, are kept apart: at
    6 mm, mixing them would blur away the border that matters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from rps_utils.files import whole_file

AIR_HU = -1000.0
BODY_HU = -500.0
DEVIATION_HU = 100.0
CHANNELS = ("tumour", "mask", "deviation", "context")


@dataclass(frozen=True)
class PatchSettings:
    """How patches are cut.

    Attributes
    ----------
    size : int
        Edge in voxels.
    spacing_mm : float or None
        Edge of a voxel in mm; None scales to the tumour.
    tumour_share : float
        With ``spacing_mm = None``: longest edge of the tumour's bounding box, as a share of the patch.
    window_hu : tuple of float
        Window of the HU channels, mapped to -1..1 and clipped.
    channels : tuple of str
        ``tumour``: windowed HU inside the mask, 0 outside. ``mask``: share of the voxel inside the mask.
        ``deviation``: distance of the HU from the tumour's own median, in units of 100 HU, inside the mask:
        second tissues stand out whether they are denser (septa in fat) or less dense (necrosis).
        ``context``: windowed HU outside the mask, 0 inside. ``hu``: windowed HU everywhere.
    canonical : bool
        Mirror right-sided tumours.
    """

    size: int = 48
    spacing_mm: float | None = 6.0
    tumour_share: float = 0.75
    window_hu: tuple[float, float] = (-160.0, 240.0)
    channels: tuple[str, ...] = CHANNELS
    canonical: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be cut."""
        unknown = set(self.channels) - set(CHANNEL_MAKERS)
        if unknown or not self.channels:
            raise ValueError(f"channels = {self.channels!r}; allowed: one or more of {', '.join(CHANNEL_MAKERS)}")
        if self.size < 16:
            raise ValueError(f"size = {self.size}; allowed: 16 voxels or more")
        if self.spacing_mm is not None and not self.spacing_mm > 0:
            raise ValueError(f"spacing_mm = {self.spacing_mm}; allowed: above 0, or None to scale to the tumour")
        if not self.window_hu[0] < self.window_hu[1]:
            raise ValueError(f"window_hu = {self.window_hu}; allowed: low < high")


@dataclass(frozen=True)
class TissueGrid:
    """Averages on the patch grid.

    Attributes
    ----------
    inside_hu, outside_hu : ndarray
        Mean HU of the part of a voxel inside and outside the tumour (air where there is no such part).
    coverage : ndarray
        Share of the voxel inside the tumour.
    median_hu : float
        Median HU of the tumour, from the full grid.
    """

    inside_hu: np.ndarray
    outside_hu: np.ndarray
    coverage: np.ndarray
    median_hu: float


def overlap_weights(voxels: int, spacing: float, first_edge: float, cells: int, cell: float) -> np.ndarray:
    """Return how much of each output cell of one axis is covered by each voxel.

    Parameters
    ----------
    voxels, spacing : int, float
        Input axis: its first voxel begins at 0.
    first_edge, cells, cell : float, int, float
        Output axis: where its first cell begins, how many cells, how wide, all in mm.

    Returns
    -------
    ndarray, (cells, voxels)
        Shares between 0 and 1; a row sums to 1 where the cell lies inside the input.
    """
    begins = first_edge + cell * np.arange(cells)[:, None]
    starts = spacing * np.arange(voxels)[None]
    overlap = np.minimum(begins + cell, starts + spacing) - np.maximum(begins, starts)
    return np.clip(overlap, 0, None) / cell


def average_on_grid(volume: np.ndarray, weights: list[np.ndarray]) -> np.ndarray:
    """Average a volume over the cells of another grid, one axis after the other."""
    for axis_weights in weights:
        volume = np.tensordot(volume, axis_weights, axes=(0, 1))
    return volume


def is_right_sided(ct: np.ndarray, mask: np.ndarray) -> bool:
    """Tell on which side of the body the tumour's centre lies.

    Parameters
    ----------
    ct : ndarray
        HU, axes R, A, S.
    mask : ndarray of bool
        Same shape, not empty.

    Returns
    -------
    bool
        True if the centre lies to the patient's right of the middle of the body. The middle is that of the
        voxels above -500 HU in the slices that hold tumour, so it follows a patient who lies off centre.
    """
    slices = mask.any(axis=(0, 1))
    body = (ct[:, :, slices] > BODY_HU).sum(axis=(1, 2))
    tumour = mask.sum(axis=(1, 2))
    position = np.arange(len(body))
    middle = np.average(position, weights=body if body.any() else np.ones_like(body))
    return bool(np.average(position, weights=tumour) > middle)


def make_patch(
    ct: np.ndarray, mask: np.ndarray, spacing: tuple[float, float, float], settings: PatchSettings
) -> np.ndarray:
    """Cut the patch of one patient.

    Parameters
    ----------
    ct : ndarray
        HU, axes R, A, S (index rises toward the patient's right, front, head).
    mask : ndarray
        Nonzero = tumour, same shape.
    spacing : tuple of float
        Voxel size in mm along the three axes.
    settings : PatchSettings

    Returns
    -------
    ndarray of float16, (channels, size, size, size)

    Raises
    ------
    ValueError
        Shapes differ, or the mask is empty.
    """
    inside = np.asarray(mask) > 0
    if inside.shape != ct.shape:
        raise ValueError(f"mask shape {inside.shape} and CT shape {ct.shape} differ: both must lie on one grid")
    if not inside.any():
        raise ValueError("the mask is empty: there is no tumour to cut a patch around")
    grid = tissue_grid(ct, inside, spacing, settings)
    return np.stack([CHANNEL_MAKERS[name](grid, settings) for name in settings.channels]).astype(np.float16)


def tissue_grid(
    ct: np.ndarray, inside: np.ndarray, spacing: tuple[float, float, float], settings: PatchSettings
) -> TissueGrid:
    """Average a scan over the voxels of its patch, tumour and surroundings apart, in the canonical frame."""
    if settings.canonical and is_right_sided(ct, inside):
        ct, inside = ct[::-1], inside[::-1]
    weights = patch_weights(inside, spacing, settings)
    tumour = inside.astype(np.float32)
    hu = ct.astype(np.float32) - AIR_HU
    total, covered = average_on_grid(hu, weights), average_on_grid(tumour, weights)
    within = average_on_grid(hu * tumour, weights)
    return TissueGrid(
        inside_hu=AIR_HU + within / np.maximum(covered, 1e-3),
        outside_hu=AIR_HU + (total - within) / np.maximum(1 - covered, 1e-3),
        coverage=covered,
        median_hu=float(np.median(ct[inside])),
    )


def patch_weights(inside: np.ndarray, spacing: tuple[float, float, float], settings: PatchSettings) -> list[np.ndarray]:
    """Return the averaging weights of the three axes for a cube centred on the tumour's bounding box."""
    projections = [inside.any(axis=tuple({0, 1, 2} - {axis})) for axis in range(3)]
    edges = [
        (np.flatnonzero(p)[0] * s, (np.flatnonzero(p)[-1] + 1) * s) for p, s in zip(projections, spacing, strict=True)
    ]
    longest = max(high - low for low, high in edges)
    cell = settings.spacing_mm or longest / settings.tumour_share / settings.size
    half = settings.size * cell / 2
    return [
        overlap_weights(n, s, (low + high) / 2 - half, settings.size, cell).astype(np.float32)
        for n, s, (low, high) in zip(inside.shape, spacing, edges, strict=True)
    ]


def _window(hu: np.ndarray, settings: PatchSettings) -> np.ndarray:
    low, high = settings.window_hu
    return np.clip((2 * hu - low - high) / (high - low), -1, 1)


def _everywhere(grid: TissueGrid, settings: PatchSettings) -> np.ndarray:
    return _window(grid.inside_hu * grid.coverage + grid.outside_hu * (1 - grid.coverage), settings)


def _deviation(grid: TissueGrid, settings: PatchSettings) -> np.ndarray:
    low, high = settings.window_hu
    away = np.clip(grid.inside_hu, low, high) - np.clip(grid.median_hu, low, high)
    return np.abs(away) / DEVIATION_HU * grid.coverage


CHANNEL_MAKERS: dict[str, Callable[[TissueGrid, PatchSettings], np.ndarray]] = {
    "tumour": lambda grid, settings: _window(grid.inside_hu, settings) * grid.coverage,
    "mask": lambda grid, settings: grid.coverage,
    "deviation": _deviation,
    "context": lambda grid, settings: _window(grid.outside_hu, settings) * (1 - grid.coverage),
    "hu": _everywhere,
}
