"""The network's input: a small cube around the tumour, in a frame of its own.

Canonical frame
    Axes run left-right, back-front, feet-head (RAS). A tumour on the right of the body is mirrored, so that in
    every patch the flank lies at low and the midline at high index of the first axis. The whole patient is
    mirrored, anatomy and label together, so nothing false is shown; organs that have a side (liver, spleen)
    do change it. The paper does not say how it dealt with the side: this is our choice.

Grid
    ``spacing_mm`` gives every patient the same physical scale. ``spacing_mm = None`` scales the patch to the
    tumour instead: its bounding box then takes the same share of every patch.

Channels
    See `PatchSettings`. Averages over the part of a patch voxel inside the tumour, and over the part outside it,
    are kept apart: on a coarse grid, mixing them would blur away the border that matters.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from joblib import delayed
from scipy import ndimage

from rps_utils.files import parse_json, reading, whole_file
from rps_utils.imaging.crops import CROP_PARTS, made_from
from rps_utils.imaging.formats.bounds import open_archive
from rps_utils.imaging.volumes import Volume, apply_window, clip_hu, load_pair
from rps_utils.machine.progress import in_parallel
from rps_utils.schema import PATCH, check_content

EMPTY_HU = -1000.0
OUTSIDE_BODY_HU = -500.0
DEVIATION_HU = 100.0
CHANNELS = ("tumour", "mask", "deviation", "context", "rim", "uneven")
HU_CHANNELS = ("tumour", "context", "hu")


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
        ``context``: windowed HU outside the mask, 0 inside. ``rim``: share of the voxel in the margin
        around the mask. ``uneven``: SD of the HU of the eight parts of a voxel, in units of 100 HU, inside the mask:
        a pattern too fine for the grid. Each part is a mean over many voxels of the scan, so that noise hardly enters.
        ``hu``: windowed HU everywhere.
    rim_mm : float
        Width of that margin.
    canonical : bool
        Mirror right-sided tumours.
    """

    size: int = 24
    spacing_mm: float | None = 12.0
    tumour_share: float = 0.75
    window_hu: tuple[float, float] = (-160.0, 240.0)
    channels: tuple[str, ...] = CHANNELS
    rim_mm: float = 20.0
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

    def hu_channels(self) -> tuple[int, ...]:
        """Return the channels whose contrast and brightness vary between scans."""
        return tuple(i for i, name in enumerate(self.channels) if name in HU_CHANNELS)


@dataclass(frozen=True)
class TissueGrid:
    """Averages on the patch grid.

    Attributes
    ----------
    inside_hu, outside_hu : ndarray
        Mean HU of the part of a voxel inside and outside the tumour (air where there is no such part).
    coverage : ndarray
        Share of the voxel inside the tumour.
    uneven_hu : ndarray
        SD of the HU, clipped to the window, of the eight parts of the voxel inside the tumour.
    median_hu : float
        Median HU of the tumour, from the full grid.
    cell_mm : float
        Edge of a patch voxel.
    """

    inside_hu: np.ndarray
    outside_hu: np.ndarray
    coverage: np.ndarray
    uneven_hu: np.ndarray
    median_hu: float
    cell_mm: float


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
        volume = np.tensordot(volume, axis_weights, axes=(0, 1))  # the finished axis goes last
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
    body = (ct[:, :, slices] > OUTSIDE_BODY_HU).sum(axis=(1, 2))
    tumour = mask.sum(axis=(1, 2))
    position = np.arange(len(body))
    middle = np.average(position, weights=body if body.any() else np.ones_like(body))
    return bool(np.average(position, weights=tumour) > middle)


def make_patch(ct: Volume, mask: Volume, settings: PatchSettings) -> np.ndarray:
    """Cut the patch of one patient.

    Parameters
    ----------
    ct : Volume
        HU, axes right, front, head: the whole scan, not the crop, for the context and the side.
    mask : Volume
        Nonzero = tumour, on the same grid.
    settings : PatchSettings

    Returns
    -------
    ndarray of float16, (channels, size, size, size)

    Raises
    ------
    ValueError
        Shapes differ, or the mask is empty.
    """
    inside = mask.values > 0
    if inside.shape != ct.values.shape:
        raise ValueError(f"mask shape {inside.shape} and CT shape {ct.values.shape} differ: they must share a grid")
    if not inside.any():
        raise ValueError("the mask is empty: there is no tumour to cut a patch around")
    grid = tissue_grid(ct.values, inside, ct.spacing, settings)
    return np.stack([CHANNEL_MAKERS[name](grid, settings) for name in settings.channels]).astype(np.float16)


def tissue_grid(ct: np.ndarray, inside: np.ndarray, spacing: np.ndarray, settings: PatchSettings) -> TissueGrid:
    """Average a scan over the voxels of its patch, tumour and surroundings apart, in the canonical frame."""
    if settings.canonical and is_right_sided(ct, inside):
        ct, inside = ct[::-1], inside[::-1]
    cell, weights = patch_weights(inside, spacing, settings, parts=2)
    near, weights = reached_part(weights)
    above_air, tumour = clip_hu(ct[near]), inside[near].astype(np.float32)
    above_air -= EMPTY_HU
    total, covered = average_on_grid(above_air, weights), average_on_grid(tumour, weights)
    above_air *= tumour
    within = average_on_grid(above_air, weights)
    uneven = spread_of_parts(np.clip(EMPTY_HU + within / np.maximum(covered, 1e-3), *settings.window_hu), covered)
    total, covered, within = (mean_of_parts(fine) for fine in (total, covered, within))
    return TissueGrid(
        inside_hu=EMPTY_HU + within / np.maximum(covered, 1e-3),
        outside_hu=EMPTY_HU + (total - within) / np.maximum(1 - covered, 1e-3),
        coverage=np.clip(covered, 0, 1),
        uneven_hu=uneven,
        median_hu=float(np.median(ct[inside])),
        cell_mm=cell,
    )


def mean_of_parts(fine: np.ndarray) -> np.ndarray:
    """Return the mean over the eight parts of each voxel of a grid half as fine."""
    pairs = [n for size in fine.shape for n in (size // 2, 2)]
    return fine.reshape(pairs).mean(axis=(1, 3, 5))


def spread_of_parts(hu: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """Return the SD of HU over the eight parts of each voxel, as far as they are covered by the tumour."""
    weight = np.maximum(mean_of_parts(covered), 1e-3)
    mean = mean_of_parts(hu * covered) / weight
    return np.sqrt(np.maximum(mean_of_parts(hu**2 * covered) / weight - mean**2, 0.0))


def patch_weights(
    inside: np.ndarray, spacing: np.ndarray, settings: PatchSettings, parts: int = 1
) -> tuple[float, list[np.ndarray]]:
    """Return the edge of a patch voxel in mm, and for each axis how much of its cells the scan's voxels cover.

    With `parts` each edge of a patch voxel is cut into as many cells.
    """
    cell, corner = patch_frame(inside, spacing, settings)
    count, width = settings.size * parts, cell / parts
    axes = zip(inside.shape, spacing, corner, strict=True)
    return cell, [overlap_weights(n, s, first, count, width).astype(np.float32) for n, s, first in axes]


def reached_part(weights: list[np.ndarray]) -> tuple[tuple[slice, ...], list[np.ndarray]]:
    """Return the part of the scan that a patch covers, and its weights alone: the rest need not become float32."""
    ends = [np.flatnonzero(axis.any(axis=0))[[0, -1]] for axis in weights]
    near = tuple(slice(int(first), int(last) + 1) for first, last in ends)
    return near, [axis[:, part] for axis, part in zip(weights, near, strict=True)]


def patch_frame(inside: np.ndarray, spacing: np.ndarray, settings: PatchSettings) -> tuple[float, list[float]]:
    """Return the edge of a patch voxel, and where the patch begins on each axis, in mm from the scan's edge.

    The patch is a cube centred on the tumour's bounding box.
    """
    projections = [np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    spans = [(p[0] * s, (p[-1] + 1) * s) for p, s in zip(projections, spacing, strict=True)]
    longest = max(high - low for low, high in spans)
    cell = settings.spacing_mm or longest / settings.tumour_share / settings.size
    return cell, [(low + high - settings.size * cell) / 2 for low, high in spans]


def _window(hu: np.ndarray, settings: PatchSettings) -> np.ndarray:
    return 2 * apply_window(hu, settings.window_hu) - 1


def _everywhere(grid: TissueGrid, settings: PatchSettings) -> np.ndarray:
    return _window(grid.inside_hu * grid.coverage + grid.outside_hu * (1 - grid.coverage), settings)


def _deviation(grid: TissueGrid, settings: PatchSettings) -> np.ndarray:
    low, high = settings.window_hu
    away = np.clip(grid.inside_hu, low, high) - np.clip(grid.median_hu, low, high)
    return np.abs(away) / DEVIATION_HU * grid.coverage


def _rim(grid: TissueGrid, settings: PatchSettings) -> np.ndarray:
    away = ndimage.distance_transform_edt(grid.coverage < 0.5)
    return np.clip(settings.rim_mm / grid.cell_mm - away + 0.5, 0, 1) * (1 - grid.coverage)


CHANNEL_MAKERS: dict[str, Callable[[TissueGrid, PatchSettings], np.ndarray]] = {
    "tumour": lambda grid, settings: _window(grid.inside_hu, settings) * grid.coverage,
    "mask": lambda grid, settings: grid.coverage,
    "deviation": _deviation,
    "context": lambda grid, settings: _window(grid.outside_hu, settings) * (1 - grid.coverage),
    "rim": _rim,
    "uneven": lambda grid, settings: grid.uneven_hu / DEVIATION_HU * grid.coverage,
    "hu": _everywhere,
}


def patch_hu(patch: np.ndarray, settings: PatchSettings) -> np.ndarray:
    """Return a patch as HU within its window, for the eye: channel ``hu``, or ``tumour`` and ``context`` together.

    Parameters
    ----------
    patch : ndarray, (channels, size, size, size)
    settings : PatchSettings
        With which it was cut.
    """
    channels = dict(zip(settings.channels, np.asarray(patch, np.float32), strict=True))
    shown = channels["hu"] if "hu" in channels else channels["tumour"] + channels["context"]
    low, high = settings.window_hu
    return low + (shown + 1) / 2 * (high - low)


def make_patches(
    images: pd.DataFrame,
    path: str | Path,
    settings: PatchSettings | None = None,
    n_jobs: int = 1,
) -> Path:
    """Cut the patches of a cohort and write them to one file, whole or not at all.

    Parameters
    ----------
    images : DataFrame
        ``patient_id, image, mask``: NIfTI files that passed the check of the manifest.
    path : path
        ``RUN/patches.npz`` with the arrays ``patient_id``, ``patches`` (n, channels, size, size, size; float16)
        and ``settings`` (JSON).
    settings : PatchSettings, optional
    n_jobs : int
        Processes; a patient takes about 0.1 s once the files are read.
    """
    settings = settings or PatchSettings()
    parts = Path(path).with_name(f"{CROP_PARTS}-{Path(path).stem}")  # what is left of a call that was stopped
    jobs = (delayed(_cut_once)(row.image, row.mask, settings, parts) for row in images.itertuples())
    patches = list(in_parallel(jobs, n_jobs, "patches cut"))
    written = write_patches(images["patient_id"], np.stack(patches), settings, path)
    shutil.rmtree(parts, ignore_errors=True)
    return written


def _cut_once(image: str | Path, mask: str | Path, settings: PatchSettings, parts: Path) -> np.ndarray:
    part = parts / f"{made_from([image, mask], settings)}.npy"
    if part.is_file():
        return np.load(part, allow_pickle=False)
    patch = make_patch(*load_pair(image, mask), settings)
    with whole_file(part) as partial:
        np.save(partial, patch)
    return patch


def write_patches(patient_ids: Sequence[str], patches: np.ndarray, settings: PatchSettings, path: str | Path) -> Path:
    """Write patches with the ids of their patients and the settings with which they were cut."""
    ids, card = np.array(list(patient_ids), dtype=str), np.array(json.dumps(asdict(settings), sort_keys=True))
    with whole_file(path) as partial:
        np.savez(partial, patient_id=ids, patches=patches, settings=card)
    return Path(path)


def open_stored(path: str | Path) -> Any:
    """Open an archive of arrays that was written without compression, so that none is larger than its file."""
    return open_archive(path, 2 * Path(path).stat().st_size)


def read_patches(path: str | Path, patient_ids: Sequence[str]) -> tuple[np.ndarray, PatchSettings]:
    """Read patches in the order of `patient_ids`, and the settings with which they were cut.

    Raises
    ------
    FileNotFoundError, ValueError
        No such file; patients without a patch, or with two.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} does not exist: run the notebook that writes it first")
    with reading(path, "patches", (ValueError, KeyError, OSError)), open_stored(path) as stored:
        row = pd.Series(np.arange(len(stored["patient_id"])), index=stored["patient_id"])
        missing = [i for i in patient_ids if i not in row.index]
        if missing or row.index.has_duplicates:
            faults = f"no patch of {missing[:5]}" if missing else "a patient has two patches"
            raise ValueError(f"{faults}; make the patches again from the cohort's manifest")
        card: dict[str, Any] = check_content(parse_json(str(stored["settings"])), PATCH, "settings")
        patches = stored["patches"][row[list(patient_ids)].to_numpy()]
    card |= {name: tuple(value) for name, value in card.items() if isinstance(value, list)}
    return patches, PatchSettings(**card)
