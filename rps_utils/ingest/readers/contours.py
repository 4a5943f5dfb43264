"""Closed contours of one structure, slice by slice, to the pixels inside; what is no clear outline is refused.

DICOM (PS3.3, C.8.8.6.3) knows two ways to draw a hole: one outline with a keyhole, or several CLOSEDPLANAR_XOR
outlines. Most programs write holes as plain CLOSED_PLANAR outlines inside others, so nested outlines are read that way
too. Nothing says what outlines that cross mean: one system joins them, another cuts one out of the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from rps_utils.texts.counts import how_many

SAME_MM = 0.1  # two outlines nowhere farther apart are one
FINE = 8  # pixels are cut in so many parts, to compare areas
_PART_AREA = 1 / FINE**2
TRIFLE = 1.0  # pixels of area; less is rounding or the end of a stroke
SHARE = 0.02  # of the smaller area, likewise
XOR = "CLOSEDPLANAR_XOR"
CLOSED = ("CLOSED_PLANAR", XOR)


class Contour(NamedTuple):
    """One closed outline on its slice.

    Attributes
    ----------
    number : int
        Its place in the structure, from 1.
    kind : str
        ``CLOSED_PLANAR`` or ``CLOSEDPLANAR_XOR``.
    points : numpy.ndarray, shape (n, 2)
        Corners (row, column) in pixels.
    """

    number: int
    kind: str
    points: np.ndarray


class Unclear(ValueError):
    """Contours do not say what is inside; the message holds their numbers and what is wrong with them."""

    def __init__(self, value: str, allowed: str, remedy: str) -> None:
        super().__init__(value)
        self.value, self.allowed, self.remedy = value, allowed, remedy


def fill_slice(contours: Sequence[Contour], shape: tuple[int, int], spacing: Sequence[float]) -> np.ndarray:
    """Return the pixels inside the contours of one slice.

    Parameters
    ----------
    contours : sequence of Contour
    shape : (int, int)
        Rows and columns.
    spacing : sequence of float
        Between rows and between columns, mm.

    Returns
    -------
    numpy.ndarray of bool
        An outline inside another is a hole, one inside a hole is an island. An outline stored twice counts once.

    Raises
    ------
    Unclear
        An outline crosses itself or another, is no area, or is nearly another one.
    """
    for contour in contours:
        _refuse_no_area(contour)
    kept = list(_without_repeats(contours, spacing))
    inside = np.zeros(shape, bool)
    touched = np.zeros(shape, bool)
    for contour in kept:
        own = inside_polygon(contour.points, shape)
        inside, touched = inside ^ own, touched | own
    if touched.any() and not inside.any():
        raise Unclear(f"{_numbers(kept)} cancel each other", "outlines that leave something inside", "draw them anew")
    return inside


def _numbers(contours: Iterable[Contour]) -> str:
    numbers = [str(contour.number) for contour in contours]
    return f"contour{'s' * (len(numbers) > 1)} {' and '.join(numbers[:5])}"


def _refuse_no_area(contour: Contour) -> None:
    points = np.unique(contour.points, axis=0)
    if len(points) < 3:
        value = f"{_numbers([contour])} has {how_many(len(points), 'point')}"
        raise Unclear(value, "3 points or more", "remove the stray contour where it was drawn")
    if np.linalg.svd(points - points.mean(axis=0), compute_uv=False)[1] < 1e-3:
        raise Unclear(f"{_numbers([contour])} is a line", "an outline with an area", "remove it where it was drawn")
    enclosed = _fine_mask(contour.points, _box([contour])).sum() * _PART_AREA
    if abs(enclosed - abs(_signed_area(contour.points))) > max(TRIFLE, SHARE * enclosed):
        raise Unclear(f"{_numbers([contour])} crosses itself", "outlines that do not cross", "draw it anew")


def _signed_area(points: np.ndarray) -> float:
    """Return the area by the shoelace formula; parts that run round the other way count negative, twice round twice."""
    (y, x), (next_y, next_x) = points.T, np.roll(points, -1, axis=0).T
    return float((x * next_y - next_x * y).sum() / 2)


def _without_repeats(contours: Sequence[Contour], spacing: Sequence[float]) -> Iterator[Contour]:
    """Yield each outline once; `Unclear` for two that cross, or that are nearly but not quite the same."""
    kept: list[Contour] = []
    for contour in contours:
        if any([_is_repeat(contour, other, spacing) for other in kept]):
            continue
        kept.append(contour)
        yield contour


def _is_repeat(one: Contour, other: Contour, spacing: Sequence[float]) -> bool:
    if _apart(one, other):
        return False
    box = _box([one, other])
    a, b = _fine_mask(one.points, box), _fine_mask(other.points, box)
    shared, smaller, differing = (
        (a & b).sum() * _PART_AREA,
        min(a.sum(), b.sum()) * _PART_AREA,
        (a ^ b).sum() * _PART_AREA,
    )
    both = _numbers([other, one])
    if differing < _length(one.points):  # less than a strip of one pixel along the outline
        if _farthest_mm(one, other, spacing) > SAME_MM:
            raise Unclear(f"{both} are nearly the same", "each outline once", "keep one of them")
        if XOR in (one.kind, other.kind):
            raise Unclear(f"{both} are the same, and XOR would cancel them", "each outline once", "keep one of them")
        return True
    trifle = max(TRIFLE / 2, SHARE * smaller)
    crossing = shared > trifle and smaller - shared > trifle
    if crossing and not one.kind == other.kind == XOR:
        raise Unclear(f"{both} cross or overlap", "apart, or one inside the other (a hole)", "join or part them")
    return False


def _apart(one: Contour, other: Contour) -> bool:
    (a, b), (c, d) = ((p.min(axis=0), p.max(axis=0)) for p in (one.points, other.points))
    return bool((b <= c).any() or (d <= a).any())


def _length(points: np.ndarray) -> float:
    return float(np.linalg.norm(points - np.roll(points, 1, axis=0), axis=1).sum())


def _box(contours: Sequence[Contour]) -> tuple[np.ndarray, np.ndarray]:
    points = np.concatenate([contour.points for contour in contours])
    return np.floor(points.min(axis=0)), np.ceil(points.max(axis=0))


def _fine_mask(points: np.ndarray, box: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Fill an outline on a grid of fine parts of pixels, whose centres seldom lie on an outline."""
    low, high = box
    rows, columns = ((high - low + 1) * FINE).astype(int)
    return inside_polygon((points - low) * FINE + 0.317, (int(rows), int(columns)))


def _farthest_mm(one: Contour, other: Contour, spacing: Sequence[float]) -> float:
    """Return the largest distance between two outlines, in mm (Hausdorff)."""
    a, b = one.points * np.asarray(spacing), other.points * np.asarray(spacing)
    return max(_to_outline(a, b).max(), _to_outline(b, a).max())


def _to_outline(points: np.ndarray, outline: np.ndarray) -> np.ndarray:
    """Return the distance of each point from the nearest edge of an outline."""
    along = np.roll(outline, -1, axis=0) - outline
    away = points[:, None] - outline
    share = (away * along).sum(axis=-1) / np.maximum((along**2).sum(axis=-1), 1e-12)
    return np.linalg.norm(away - share.clip(0, 1)[..., None] * along, axis=-1).min(axis=1)


def inside_polygon(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return which pixel centres lie inside a closed polygon.

    Parameters
    ----------
    points : numpy.ndarray, shape (n, 2)
        Corners (row, column) in pixels; the centre of the first pixel is (0, 0).
    shape : (int, int)
        Rows and columns.

    Returns
    -------
    numpy.ndarray of bool
        Even-odd rule: a centre is inside where a ray to the right crosses the outline an odd number of times. Keyhole
        outlines and holes, as outlines joined by XOR, come out right.
    """
    inside = np.zeros(shape, bool)
    columns = np.arange(shape[1])
    for (row, column), (next_row, next_column) in zip(points, np.roll(points, -1, axis=0), strict=True):
        low, high = sorted((row, next_row))
        # Half-open, so that a corner on a row of centres counts once.
        rows = np.arange(max(int(np.ceil(low)), 0), min(int(np.ceil(high)), shape[0]))
        if len(rows):
            crossing = column + (rows - row) / (next_row - row) * (next_column - column)
            inside[rows] ^= columns < crossing[:, None]
    return inside
