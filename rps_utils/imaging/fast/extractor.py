"""pyradiomics' features without its repeated work: the same names and formulas, each pass over the voxels once.

Filters see no more of the image than they need, grey values are binned once an image, texture matrices come from
`textures`, and the diameters compare corners instead of all pairs. What pyradiomics defines stays its own code: the
mask's checks, the filters, the bin edges, every texture and shape formula, the marching cubes. First-order statistics
are written out again because a median needs no eight sorted copies.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import pywt
import SimpleITK as sitk
from radiomics import cShape, imageoperations
from radiomics.featureextractor import RadiomicsFeatureExtractor
from radiomics.glcm import RadiomicsGLCM
from radiomics.gldm import RadiomicsGLDM
from radiomics.glrlm import RadiomicsGLRLM
from radiomics.glszm import RadiomicsGLSZM
from radiomics.ngtdm import RadiomicsNGTDM
from radiomics.shape import RadiomicsShape
from scipy import ndimage
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

from rps_utils.imaging.fast import textures
from rps_utils.imaging.fast.gaussian import laplacian_of_gaussian

EPS = np.spacing(1)
Box = tuple[slice, ...]


class FastExtractor(RadiomicsFeatureExtractor):
    """An extractor that takes the short way where it leads to the same values, and pyradiomics' own elsewhere."""

    def execute(self, image: sitk.Image, mask: sitk.Image) -> dict[str, float]:
        """Return the features of the voxels where the mask is 1; arrays here have the axes z, y, x."""
        inside = sitk.GetArrayViewFromImage(mask) == self.settings["label"]
        box = bounding_box(inside)
        if box is None or not image.IsSameImageGeometryAs(mask):
            return super().execute(image, mask)  # which says what is wrong
        solid = inside = inside[box]
        if self.settings.get("resegmentRange"):
            cut = box[::-1]
            kept = imageoperations.resegmentMask(image[cut], mask[cut], **self.settings)
            inside = sitk.GetArrayViewFromImage(kept) == self.settings["label"]
            part = bounding_box(inside)
            if part is None:
                return super().execute(image, mask)
            # As in pyradiomics: the shape is that of the whole mask, within the box of what is kept.
            solid, inside = solid[part], inside[part]
            box = tuple(slice(b.start + p.start, b.start + p.stop) for b, p in zip(box, part, strict=True))
        spacing = image.GetSpacing()[::-1]
        features = _named("original_shape", Shape(solid, spacing))
        region = textures.Region(inside)
        for name, values in self._filtered(image, box):
            features |= features_of_image(name, values[inside], region, spacing, self.settings)
        return features

    def _filtered(self, image: sitk.Image, box: Box) -> Iterator[tuple[str, np.ndarray]]:
        sizes, spacing = np.array(image.GetSize()[::-1]), image.GetSpacing()[::-1]
        for kind, options in self.enabledImagetypes.items():
            if kind == "LoG":
                for sigma in options["sigma"]:
                    # pyradiomics leaves a filter out that is wider than the image.
                    if sizes.min() >= 4 and (sizes >= np.ceil(sigma / np.array(spacing)) + 1).all():
                        filtered = laplacian_of_gaussian(sitk.GetArrayViewFromImage(image), spacing, sigma, box)
                        yield f"log-sigma-{str(sigma).replace('.', '-')}-mm-3D", filtered
                continue
            window = window_around(box, sizes, pywt.Wavelet(options["wavelet"]).dec_len) if kind == "Wavelet" else box
            part = tuple(slice(b.start - w.start, b.stop - w.start) for b, w in zip(box, window, strict=True))
            make = getattr(imageoperations, f"get{kind}Image")
            for filtered, name, _ in make(image[window[::-1]], None, **self.settings, **options):
                yield name, sitk.GetArrayViewFromImage(filtered)[part]


def bounding_box(inside: np.ndarray) -> Box | None:
    """Return the slices that just hold a mask; None where it extends along fewer than two axes."""
    found = ndimage.find_objects(inside.view(np.uint8))
    extended = bool(found) and sum(s.stop - s.start > 1 for s in found[0]) >= 2
    return found[0] if extended else None


def window_around(box: Box, sizes: np.ndarray, margin: int) -> Box:
    """Return a box with a margin of voxels; where the image has not so many, its whole extent along that axis."""
    return tuple(
        slice(s.start - margin, s.stop + margin)
        if margin <= s.start and s.stop + margin <= size
        else slice(0, int(size))
        for s, size in zip(box, sizes, strict=True)
    )


# ---------------------------------------------------------------- one image


def features_of_image(
    name: str, values: np.ndarray, region: textures.Region, spacing: tuple[float, ...], settings: dict[str, Any]
) -> dict[str, float]:
    """Return first-order and texture features of the grey values inside a mask, in the order of `region.voxels`."""
    edges = imageoperations.getBinEdges(np.array([values.min(), values.max()]), **settings)
    if len(edges) > textures.HIGHEST_LEVEL:
        raise ValueError(f"{len(edges) - 1} grey levels in {name}; allowed: {textures.HIGHEST_LEVEL}: widen the bins")
    levels = textures.Levels(region, np.digitize(values, edges))
    statistics = first_order(values, levels.voxels, float(np.prod(spacing)))
    features = {f"{name}_firstorder_{key}": value for key, value in statistics.items()}
    for family, kind in TEXTURES.items():
        features |= _named(f"{name}_{family}", kind(levels))
    return features


def _named(prefix: str, feature_class: Any) -> dict[str, float]:
    return {f"{prefix}_{name}": value for name, value in feature_class.execute().items()}


def first_order(values: np.ndarray, counts: np.ndarray, voxel_mm3: float) -> dict[str, float]:
    """Return pyradiomics' first-order features.

    Parameters
    ----------
    values : numpy.ndarray, shape (n,)
        Grey values.
    counts : numpy.ndarray
        Voxels of each grey level that occurs, for entropy and uniformity.
    voxel_mm3 : float
        Volume of a voxel.
    """
    x = np.sort(values).astype(float)
    p10, p25, median, p75, p90 = np.percentile(x, [10, 25, 50, 75, 90])
    middle = x[np.searchsorted(x, p10) : np.searchsorted(x, p90, side="right")]
    centred = x - x.mean()
    squares = centred**2
    variance = squares.mean()
    scale = variance or 1.0
    energy = (x**2).sum()
    share = counts / len(x)
    return {
        "10Percentile": p10,
        "90Percentile": p90,
        "Energy": energy,
        "Entropy": -(share * np.log2(share + EPS)).sum(),
        "InterquartileRange": p75 - p25,
        "Kurtosis": (squares**2).mean() / scale**2,
        "Maximum": x[-1],
        "Mean": x.mean(),
        "MeanAbsoluteDeviation": np.abs(centred).mean(),
        "Median": median,
        "Minimum": x[0],
        "Range": x[-1] - x[0],
        "RobustMeanAbsoluteDeviation": np.abs(middle - middle.mean()).mean(),
        "RootMeanSquared": np.sqrt(energy / len(x)),
        "Skewness": (squares * centred).mean() / scale**1.5,
        "TotalEnergy": energy * voxel_mm3,
        "Uniformity": (share**2).sum(),
        "Variance": variance,
    }


# ---------------------------------------------------------------- texture: our counts, pyradiomics' formulas


class Counted:
    """What the texture classes of pyradiomics have in common here: they are handed levels instead of an image."""

    coefficients: dict[str, Any]

    def __init__(self, levels: textures.Levels) -> None:
        self.levels = levels
        nothing = sitk.Image(1, 1, 1, sitk.sitkUInt8)
        super().__init__(nothing, nothing)  # type: ignore[call-arg]  # a class of pyradiomics stands behind this one
        self.logger = logging.getLogger("radiomics")

    def _initSegmentBasedCalculation(self) -> None:
        self.coefficients |= {"grayLevels": self.levels.present, "Ng": self.levels.highest}

    def _applyBinning(self, matrix: np.ndarray) -> np.ndarray:
        return matrix


class Glcm(Counted, RadiomicsGLCM):
    """Pairs of neighbouring grey levels, counted both ways; directions without any are left out."""

    def _calculateMatrix(self, voxelCoordinates: None = None) -> np.ndarray:
        pairs = self.levels.pairs().astype(float)
        pairs = pairs[pairs.any(axis=(1, 2))]
        pairs = np.ascontiguousarray((pairs + pairs.transpose(0, 2, 1)).transpose(1, 2, 0))
        return (pairs / pairs.sum(axis=(0, 1)))[None]


class Glrlm(Counted, RadiomicsGLRLM):
    """Runs of one grey level."""

    def _calculateMatrix(self, voxelCoordinates: None = None) -> np.ndarray:
        runs = np.ascontiguousarray(self.levels.runs().transpose(1, 2, 0), float)[None]
        self.coefficients["Nr"] = runs.sum(axis=(1, 2))
        return runs


class Glszm(Counted, RadiomicsGLSZM):
    """Connected zones of one grey level; sizes that do not occur have no column."""

    def _calculateMatrix(self, voxelCoordinates: None = None) -> np.ndarray:
        zones, self.sizes = self.levels.zones()
        return zones[None].astype(float)

    def _calculateCoefficients(self) -> None:
        self.coefficients |= {
            "ps": self.P_glszm.sum(axis=1),
            "pg": self.P_glszm.sum(axis=2),
            "ivector": self.levels.present.astype(float),
            "jvector": self.sizes.astype(float),
            "Nz": self.P_glszm.sum(axis=(1, 2)),
            "Np": np.array([float(self.levels.voxels.sum())]),
        }


class Gldm(Counted, RadiomicsGLDM):
    """Neighbours of the same grey level; numbers of them that do not occur have no column."""

    def _calculateMatrix(self, voxelCoordinates: None = None) -> np.ndarray:
        alike, _ = self.levels.dependences
        occurs = np.flatnonzero(alike.any(axis=0))
        matrix = alike[None][:, :, occurs].astype(float)
        self.coefficients |= {
            "Nz": matrix.sum(axis=(1, 2)),
            "pd": matrix.sum(axis=1),
            "pg": matrix.sum(axis=2),
            "ivector": self.levels.present.astype(float),
            "jvector": occurs + 1.0,
        }
        return matrix


class Ngtdm(Counted, RadiomicsNGTDM):
    """How far a voxel is from the mean of its neighbours."""

    def _calculateMatrix(self, voxelCoordinates: None = None) -> np.ndarray:
        _, contrast = self.levels.dependences
        return np.stack([self.levels.voxels, contrast, self.levels.present], axis=1)[None].astype(float)


TEXTURES = {"glcm": Glcm, "gldm": Gldm, "glrlm": Glrlm, "glszm": Glszm, "ngtdm": Ngtdm}


# ---------------------------------------------------------------- shape


class Shape(RadiomicsShape):
    """pyradiomics' shape features of a mask, with a surface from a table and diameters from corners."""

    def __init__(self, inside: np.ndarray, spacing: tuple[float, ...]) -> None:
        self.padded, self.spacing = np.pad(inside, 1), spacing
        nothing = sitk.Image(1, 1, 1, sitk.sitkUInt8)
        super().__init__(nothing, nothing)
        self.logger = logging.getLogger("radiomics")

    def _initSegmentBasedCalculation(self) -> None:
        self.pixelSpacing = np.array(self.spacing)
        self.labelledVoxelCoordinates = np.nonzero(self.padded)
        self.SurfaceArea, self.Volume = measure_surface(self.padded, self.spacing)
        self.diameters = measure_diameters(self.padded, self.pixelSpacing)
        places = np.transpose(self.labelledVoxelCoordinates) * self.pixelSpacing
        places -= places.mean(axis=0)
        places /= np.sqrt(len(places))
        self.eigenValues = np.sort(np.linalg.eigvals(np.dot(places.T.copy(), places)))
        self.eigenValues[(self.eigenValues < 0) & (self.eigenValues > -1e-10)] = 0


@lru_cache
def cube_table(spacing: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what pyradiomics' marching cubes make of each of the 256 cubes of 2 x 2 x 2 voxels.

    Returns
    -------
    area : shape (256,)
        Of its piece of surface.
    volume : shape (256,)
        Its share of the enclosed volume if it lies at the origin.
    shift : shape (256, 3)
        What this share gains by a step of one voxel along each axis.
    """

    def measure(mask: np.ndarray) -> np.ndarray:
        return np.array(cShape.calculate_coefficients(np.ascontiguousarray(mask), np.array(spacing))[:2])

    cubes = (np.arange(256)[:, None] >> np.arange(8) & 1).astype(bool).reshape(256, 2, 2, 2)
    area, volume = np.array([measure(cube) for cube in cubes]).T
    shift = np.empty((256, 3))
    for axis in range(3):
        for n, cube in enumerate(cubes):
            before = cube.take([0, 0], axis)
            both = np.concatenate([before, cube.take([1], axis)], axis)
            shift[n, axis] = measure(both)[1] - measure(before)[1] - volume[n]
    return area, volume, shift


def measure_surface(padded: np.ndarray, spacing: tuple[float, ...]) -> tuple[float, float]:
    """Return area (mm2) and volume (mm3) of the marching-cubes surface of a mask with a layer of False around it."""
    corners = np.ndindex(2, 2, 2)
    low, high = slice(None, -1), slice(1, None)
    bits = [padded[tuple(high if c else low for c in corner)].view(np.uint8) << n for n, corner in enumerate(corners)]
    cubes = np.bitwise_or.reduce(bits)
    at = np.nonzero((cubes > 0) & (cubes < 255))
    kinds = cubes[at]
    area, volume, shift = cube_table(spacing)
    moved = sum((shift[kinds, axis] * at[axis]).sum() for axis in range(3))
    return area[kinds].sum(), volume[kinds].sum() + moved


def measure_diameters(padded: np.ndarray, spacing: np.ndarray) -> list[float]:
    """Return the largest distances (mm) between surface points: in planes across z, y, x, and in space.

    The points are those of pyradiomics: halfway between a voxel inside and a neighbour outside.
    """
    points = []
    for axis in range(3):
        crossed = np.argwhere(np.diff(padded, axis=axis))
        points.append(2 * crossed + (np.arange(3) == axis))
    every = np.concatenate(points)
    widest = []
    for axis in range(3):
        ends = line_ends(every, axis)
        planes = np.append(np.flatnonzero(np.diff(ends[:, axis], prepend=-1)), len(ends))
        across = [other for other in range(3) if other != axis]
        widest.append(textures.widest_in_planes(ends[:, across].astype(float), planes, spacing[across] / 2) ** 0.5)
    ends = ends * (spacing / 2)
    return [*widest, pdist(ends[ConvexHull(ends).vertices]).max()]


def line_ends(points: np.ndarray, axis: int) -> np.ndarray:
    """Return the first and the last point of each line, ordered by plane across `axis`: only they can be furthest."""
    order = [axis, *(other for other in range(3) if other != axis)]
    sizes = points.max(axis=0)[order] + 1
    keys = np.sort(np.ravel_multi_index(tuple(points[:, order].T), sizes))
    new = np.diff(keys // sizes[2], prepend=-1) != 0
    kept = np.unravel_index(keys[new | np.append(new[1:], True)], sizes)
    return np.transpose(kept)[:, np.argsort(order)]
