"""CT volumes: files to Hounsfield units in a known orientation, resampling, cropping, and what a mask measures.

Every volume is held with the axes right, front, head (RAS): the index rises toward the patient's right, front and
head. Positions are in mm in the scanner's frame, given by the 4 x 4 affine of the volume.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from nibabel.filebasedimages import ImageFileError
from scipy import ndimage
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

from rps_utils.files import reading, whole_file
from rps_utils.imaging.formats.bounds import MOST_VOXELS, Unfit
from rps_utils.imaging.formats.images import check_voxels, open_image, split_segment

AIR_HU, SATURATED_HU = -1024.0, 3071.0
BODY_HU = -300.0
INTERPOLATORS = {"linear": sitk.sitkLinear, "bspline": sitk.sitkBSpline, "nearest": sitk.sitkNearestNeighbor}
TEXT_FIELDS = ("descrip", "db_name", "aux_file", "intent_name", "data_type")


@dataclass(frozen=True)
class Volume:
    """Voxels and where they lie.

    Attributes
    ----------
    values : numpy.ndarray
        3-D, axes right, front, head. HU for a CT, 0/1 for a mask.
    affine : numpy.ndarray
        4 x 4, index to mm (RAS).
    """

    values: np.ndarray
    affine: np.ndarray

    @property
    def spacing(self) -> np.ndarray:
        """Voxel size in mm along the three axes."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    @property
    def grid(self) -> Grid:
        """The grid on which the values lie."""
        return Grid(self.values.shape, self.affine)

    def box(self, slices: tuple[slice, ...]) -> Volume:
        """Return the part inside index slices, with its affine moved along."""
        return Volume(self.values[slices], self.grid.box(slices).affine)


@dataclass(frozen=True)
class Grid:
    """Where voxels lie: `shape` (3 integers) and `affine` (4 x 4, index to mm)."""

    shape: tuple[int, ...]
    affine: np.ndarray

    def box(self, slices: tuple[slice, ...]) -> Grid:
        """Return the part of the grid inside index slices."""
        starts, stops = zip(*(s.indices(n)[:2] for s, n in zip(slices, self.shape, strict=True)), strict=True)
        affine = self.affine.copy()
        affine[:3, 3] = self.affine[:3, :3] @ starts + self.affine[:3, 3]
        return Grid(tuple(stop - start for start, stop in zip(starts, stops, strict=True)), affine)


def load_volume(path: str | Path, most_voxels: int = MOST_VOXELS) -> Volume:
    """Read an image and turn its axes to right, front, head (RAS), without interpolation.

    Parameters
    ----------
    path : str or Path
        Of any kind that `formats.images.open_image` knows; checked by `manifest.check_manifest` beforehand.
    most_voxels : int
        More are refused from the header alone: a small compressed file can hold billions.

    Returns
    -------
    Volume
        Scaled values in the file's own type: int16 where the file stores HU as integers, which keeps reading a
        scan below half a second. `clip_hu` and `resample` give float32.

    Raises
    ------
    ValueError
        The file is no such image, or too large; the message names it.
    """
    if not split_segment(path)[0].is_file():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        with reading(path, "an image", (OSError, zlib.error, ImageFileError)):
            image = open_image(path)
            check_voxels(image, path, most_voxels)
            image = nib.as_closest_canonical(image)
            return Volume(np.asarray(image.dataobj), image.affine)
    except Unfit as error:
        raise ValueError(f"{path}: {error}") from error


def place_on_grid(mask: Volume, grid: Grid) -> Volume:
    """Return a mask that covers a part of a grid, voxel on voxel, on the whole of it; any other mask as it is.

    3D Slicer can store the part of a segmentation that holds something.
    """
    offset = (np.linalg.inv(grid.affine) @ mask.affine)[:3, 3]
    first, shape = np.rint(offset).astype(int), np.array(mask.values.shape)
    moved = grid.box(tuple(slice(a, a + n) for a, n in zip(first, shape, strict=True))).affine
    inside = (first >= 0).all() and (first + shape <= grid.shape).all()
    if not inside or tuple(shape) == tuple(grid.shape) or not np.allclose(moved, mask.affine, atol=1e-3):
        return mask
    whole = np.zeros(grid.shape, mask.values.dtype)
    whole[tuple(slice(a, a + n) for a, n in zip(first, shape, strict=True))] = mask.values
    return Volume(whole, grid.affine)


def load_pair(image: str | Path, mask: str | Path, most_voxels: int = MOST_VOXELS) -> tuple[Volume, Volume]:
    """Read CT and mask of a patient; the mask as uint8 with 1 in the tumour.

    Raises
    ------
    ValueError
        The two do not lie on one grid, the mask is empty, or one has more voxels than `most_voxels`.
    """
    ct, labels = load_volume(image, most_voxels), load_volume(mask, most_voxels)
    if ct.values.shape != labels.values.shape or not np.allclose(ct.affine, labels.affine, atol=1e-3):
        raise ValueError(f"{mask} does not lie on the grid of {image}: resample the mask to the CT")
    if not tumour_voxels(labels.values).any():
        raise ValueError(f"{mask} is empty: there is no tumour to study")
    return ct, Volume(tumour_voxels(labels.values).view(np.uint8), ct.affine)


def tumour_voxels(labels: np.ndarray) -> np.ndarray:
    """Return where a mask says tumour; half a label or less is what rounding leaves of 0."""
    return labels != 0 if labels.dtype.kind in "iub" else labels > 0.5


def write_volume(volume: Volume, path: str | Path) -> Path:
    """Write NIfTI, whole or not at all; the header's text fields stay blank, so no name can travel in them."""
    image = nib.Nifti1Image(volume.values, volume.affine)
    image.set_sform(volume.affine, code=1)
    image.set_qform(volume.affine, code=1)
    image.header.set_xyzt_units("mm")
    for field in TEXT_FIELDS:
        image.header[field] = b""
    with whole_file(path) as partial:
        nib.save(image, partial)
    return Path(path)


def rescale(stored: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """Turn stored grey values into Hounsfield units: HU = slope x stored + intercept (float32)."""
    return (np.asarray(stored, np.float64) * slope + intercept).astype(np.float32)


def clip_hu(values: np.ndarray) -> np.ndarray:
    """Clip to [-1024, 3071] HU (float32): scanners pad outside their field of view with values such as -3024.

    Done before any interpolation or statistic, or the padding would bleed into its neighbours.
    """
    hu = np.array(values, np.float32)
    return np.clip(hu, AIR_HU, SATURATED_HU, out=hu)


def apply_window(hu: np.ndarray, window: tuple[float, float] = (-160.0, 240.0)) -> np.ndarray:
    """Map HU to 0..1 within a window (low, high), clipped outside."""
    low, high = window
    return np.clip((np.asarray(hu, np.float32) - low) / (high - low), 0, 1)


def isotropic_grid(grid: Grid, spacing: float) -> Grid:
    """Return a grid of cubes that covers `grid` and shares its centre.

    Parameters
    ----------
    grid : Grid
        Original grid.
    spacing : float
        Edge of a voxel in mm.

    Notes
    -----
    Centres aligned and ``ceil(n x old / new)`` voxels an axis, as the IBSI recommends (reference manual,
    interpolation): features then agree with other software.
    """
    old = np.linalg.norm(grid.affine[:3, :3], axis=0)
    shape = np.ceil(np.round(np.array(grid.shape) * old / spacing, 6)).astype(int)
    directions = grid.affine[:3, :3] / old
    affine = np.eye(4)
    affine[:3, :3] = directions * spacing
    centre = grid.affine[:3, :3] @ ((np.array(grid.shape) - 1) / 2) + grid.affine[:3, 3]
    affine[:3, 3] = centre - affine[:3, :3] @ ((shape - 1) / 2)
    return Grid(tuple(shape.tolist()), affine)


def mask_corners(mask: Volume) -> np.ndarray:
    """Return the least and the greatest index of a mask along each axis, shape (2, 3)."""
    plane = np.any(mask.values, axis=0)
    if not plane.any():
        raise ValueError("the mask is empty: there is no tumour to study")
    spans = [np.flatnonzero(plane.any(axis=other))[[0, -1]] for other in (1, 0)]
    near = mask.values[:, spans[0][0] : spans[0][1] + 1, spans[1][0] : spans[1][1] + 1]
    return np.transpose([np.flatnonzero(near.any(axis=(1, 2)))[[0, -1]], *spans])


def tight_box(mask: Volume) -> tuple[slice, ...]:
    """Return the index slices that just hold a mask."""
    return tuple(slice(int(a), int(b) + 1) for a, b in mask_corners(mask).T)


def box_around(grid: Grid, mask: Volume, margin_mm: float) -> tuple[slice, ...]:
    """Return the index slices of `grid` that hold the mask and a margin around it, cut at the grid's border.

    Parameters
    ----------
    grid : Grid
        The grid to cut, with the same axis directions as the mask's.
    mask : Volume
        Not empty.
    margin_mm : float
        Kept free on every side where the image reaches so far.
    """
    to_grid = np.linalg.inv(grid.affine) @ mask.affine
    low, high = (to_grid[:3, :3] @ corner + to_grid[:3, 3] for corner in mask_corners(mask))
    margin = margin_mm / np.linalg.norm(grid.affine[:3, :3], axis=0)
    first = np.maximum(np.floor(low - margin) - 1, 0).astype(int)
    last = np.minimum(np.ceil(high + margin) + 2, grid.shape).astype(int)
    return tuple(slice(int(a), int(b)) for a, b in zip(first, last, strict=True))


def _itk_geometry(affine: np.ndarray) -> dict[str, tuple[float, ...]]:
    """Express an RAS affine as ITK does: origin, spacing and direction cosines toward left, back, head."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    return {
        "origin": tuple(lps[:3, 3].tolist()),
        "spacing": tuple(spacing.tolist()),
        "direction": tuple((lps[:3, :3] / spacing).ravel().tolist()),
    }


def to_itk(volume: Volume) -> sitk.Image:
    """Return a SimpleITK image of the same voxels at the same place."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.values.T))
    geometry = _itk_geometry(volume.affine)
    image.SetOrigin(geometry["origin"])
    image.SetSpacing(geometry["spacing"])
    image.SetDirection(geometry["direction"])
    return image


def resample(volume: Volume, grid: Grid, interpolation: str = "linear", fill: float = AIR_HU) -> Volume:
    """Interpolate a volume at the voxel centres of another grid.

    Parameters
    ----------
    volume : Volume
        CT (clipped: see `clip_hu`) or any other scalar volume.
    grid : Grid
        Where values are wanted.
    interpolation : {"linear", "bspline", "nearest"}
        Linear keeps within the range of the neighbours; a cubic B-spline is sharper and may overshoot at edges.
    fill : float
        Value outside the volume.

    Returns
    -------
    Volume
        float32 on `grid`.
    """
    if interpolation not in INTERPOLATORS:
        raise ValueError(f"interpolation = {interpolation!r}; allowed: {', '.join(INTERPOLATORS)}")
    task = sitk.ResampleImageFilter()
    geometry = _itk_geometry(grid.affine)
    task.SetNumberOfThreads(1)
    task.SetSize([int(n) for n in grid.shape])
    task.SetOutputOrigin(geometry["origin"])
    task.SetOutputSpacing(geometry["spacing"])
    task.SetOutputDirection(geometry["direction"])
    task.SetInterpolator(INTERPOLATORS[interpolation])
    task.SetDefaultPixelValue(float(fill))
    task.SetOutputPixelType(sitk.sitkFloat32)
    return Volume(sitk.GetArrayFromImage(task.Execute(to_itk(volume))).T, grid.affine)


def resample_mask(mask: Volume, grid: Grid) -> Volume:
    """Resample a mask: linear interpolation of 0 and 1, tumour where the result is at least one half (uint8).

    The same rule as the IBSI's; it keeps borders smoother than the nearest neighbour does.
    """
    share = resample(Volume(mask.values.astype(np.float32), mask.affine), grid, "linear", 0.0)
    return Volume((share.values >= 0.5).astype(np.uint8), grid.affine)


def volume_ml(mask: Volume) -> float:
    """Return the volume of a mask in millilitres."""
    return float((mask.values != 0).sum() * np.prod(mask.spacing) / 1000)


def centroid_mm(mask: Volume) -> np.ndarray:
    """Return the centre of gravity of a mask in mm (RAS)."""
    inside = mask.box(tight_box(mask))
    counts = [inside.values.sum(axis=tuple({0, 1, 2} - {axis}), dtype=float) for axis in range(3)]
    index = [np.average(np.arange(len(n)), weights=n) for n in counts]
    return inside.affine[:3, :3] @ index + inside.affine[:3, 3]


def longest_diameter_mm(mask: Volume) -> float:
    """Return the largest distance between two voxel centres of a mask, in mm (3-D)."""
    inside = mask.values[tight_box(mask)] != 0
    lines = np.argwhere(inside.any(axis=0))
    along = inside[:, lines[:, 0], lines[:, 1]]
    # Only the two ends of each line of voxels can be corners of the convex hull.
    ends = [along.argmax(axis=0), len(along) - 1 - along[::-1].argmax(axis=0)]
    points = np.concatenate([np.column_stack([end, lines]) for end in ends]) @ mask.affine[:3, :3].T
    solid = len(points) > 4 and min(inside.shape) > 1
    corners = points[ConvexHull(points).vertices] if solid else np.unique(points, axis=0)
    return float(pdist(corners).max()) if len(corners) > 1 else 0.0


def midline_mm(ct: Volume, mask: Volume) -> float:
    """Return the left-right position of the middle of the body, in mm (RAS), in the middle slice of the tumour.

    The middle of the largest connected part above -300 HU: the body without the table.
    """
    level = int(mask_corners(mask)[:, 2].mean())
    parts, count = ndimage.label(ct.values[:, :, level] > BODY_HU)
    if not count:
        raise ValueError(f"slice {level} holds nothing above {BODY_HU:g} HU: is this a CT in HU?")
    largest = np.argmax(np.bincount(parts.ravel())[1:]) + 1
    across = np.flatnonzero((parts == largest).any(axis=1))
    return float(ct.affine[0, 0] * across[[0, -1]].mean() + ct.affine[0, 3])


def tumour_side(ct: Volume, mask: Volume) -> str:
    """Tell on which side of the middle of the body the tumour's centre lies: ``"left"`` or ``"right"``."""
    return "right" if centroid_mm(mask)[0] > midline_mm(ct, mask) else "left"
