"""The synthetic sarcoma: its shape, what it is made of, and the fat plane around it.

Lengths in mm, RAS. "Outward" is the lateral direction on the tumour's own side: +1 (patient right) for a right
tumour, -1 for a left one. All placement is written with it, so the law of a left tumour is the mirror image of
the law of a right one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

SHELL_MM = 16.0
FIELD_MM = 11.0
STRAND_MM = 3.5
WIDEST_MM, DEEPEST_MM = 98.0, 84.0


def random_field(
    coordinates: list[np.ndarray], scale_mm: ArrayLike, rng: np.random.Generator, waves: int = 120
) -> np.ndarray:
    """Return a smooth Gaussian-like field of unit variance on the grid of three 1-D coordinate arrays.

    White noise blurred with a Gaussian of SD `scale_mm` has the covariance exp(-d^2 / 4 scale^2). A sum of plane
    waves with normal wave vectors has it too, and its value at a point does not depend on the grid.
    """
    vectors = rng.standard_normal((waves, 3)) / (np.sqrt(2.0) * np.asarray(scale_mm))
    phase = rng.uniform(0, 2 * np.pi, waves)
    first, second, third = (np.exp(1j * np.outer(c, k)) for c, k in zip(coordinates, vectors.T, strict=True))
    plane = ((second * np.exp(1j * phase))[:, None, :] * third[None, :, :]).reshape(-1, waves)
    field = first.real @ plane.real.T - first.imag @ plane.imag.T
    return np.sqrt(2.0 / waves) * field.reshape([len(c) for c in coordinates])


@dataclass(frozen=True)
class TumourShape:
    """A lobulated ellipsoid: star-shaped about its centre, so every voxel has a level (below 1 = inside).

    Attributes
    ----------
    centre : ndarray
        Centre, mm.
    to_unit : ndarray
        3 x 3 matrix from offsets in mm to the frame where the ellipsoid is the unit sphere.
    waves, phase, height : ndarray
        Waves on the unit sphere whose sum modulates the radius.
    half : ndarray
        Half extents of the surface along x, y, z, mm.
    """

    centre: np.ndarray
    to_unit: np.ndarray
    waves: np.ndarray
    phase: np.ndarray
    height: np.ndarray
    half: np.ndarray

    def radius(self, directions: list[np.ndarray]) -> np.ndarray:
        """Return the radius (unit frame) in the direction of unit vectors given as three arrays."""
        total = np.ones_like(directions[0])
        for k, phase, height in zip(self.waves, self.phase, self.height, strict=True):
            argument = k[0] * directions[0]
            argument += k[1] * directions[1]
            argument += k[2] * directions[2]
            total += height * np.cos(argument + phase)
        return total

    def level(self, x: ArrayLike, y: ArrayLike, z: ArrayLike) -> np.ndarray:
        """Return distance from the centre over distance of the surface in that direction."""
        offsets = [np.asarray(v) - c for v, c in zip((x, y, z), self.centre, strict=True)]
        unit = [sum(m * o for m, o in zip(row, offsets, strict=True)) for row in self.to_unit]
        norm = np.sqrt(unit[0] ** 2 + unit[1] ** 2 + unit[2] ** 2) + 1e-9
        return norm / self.radius([u / norm for u in unit])

    def envelope(self, x: ArrayLike, y: ArrayLike, z: ArrayLike) -> np.ndarray:
        """Return the same for the ellipsoid with the tumour's half extents, without lobules."""
        offsets = (((np.asarray(v) - c) / h) ** 2 for v, c, h in zip((x, y, z), self.centre, self.half, strict=True))
        return np.sqrt(sum(offsets))


def outside_mm(level: np.ndarray, x: ArrayLike, y: ArrayLike, z: ArrayLike, centre: np.ndarray) -> np.ndarray:
    """Return the distance beyond the surface along the ray from the centre, mm (negative inside)."""
    reach = np.sqrt((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2)
    return reach * (1 - 1 / np.maximum(level, 1e-6))


def sphere_directions(count: int = 600) -> np.ndarray:
    """Return evenly spread unit vectors (count x 3) on a golden spiral."""
    i = np.arange(count) + 0.5
    z, turn = 1 - 2 * i / count, np.pi * (1 + 5**0.5) * i
    ring = np.sqrt(1 - z**2)
    return np.stack([ring * np.cos(turn), ring * np.sin(turn), z], axis=1)


def surface_points(shape: TumourShape) -> np.ndarray:
    """Return points on the surface relative to the centre, mm."""
    directions = sphere_directions()
    return (directions * shape.radius(list(directions.T))[:, None]) @ np.linalg.inv(shape.to_unit).T


def soft_limit(length: float, limit: float) -> float:
    """Return nearly `length` where it is well below `limit`, and nearly `limit` where it is well above."""
    return float((length**-4.0 + limit**-4.0) ** -0.25)


def draw_shape(size_cm: float, rng: np.random.Generator, lobulation: float = 1.0) -> TumourShape:
    """Draw a tumour at the origin whose longest diameter is `size_cm`; `lobulation` multiplies its surface's waves.

    Width and depth level off near 196 and 168 mm, because an abdomen has no more room: beyond about 20 cm the
    tumour grows along the body axis, which is always its longest.
    """
    long_half = 5.0 * size_cm
    across = [soft_limit(long_half * rng.uniform(0.72, 1.0), w) for w in (WIDEST_MM, DEEPEST_MM)]
    half = np.array([*across, long_half])
    tilt = np.deg2rad(rng.normal(0, 6, 3))
    waves = np.concatenate([rng.standard_normal((7, 3)) * 1.6, rng.standard_normal((7, 3)) * 3.6])
    height = np.concatenate([np.full(7, 1.0), np.full(7, 0.8)])
    height *= lobulation * rng.uniform(0.06, 0.12) * np.sqrt(2 / (height**2).sum())
    turn = rotation(tilt)
    shape = TumourShape(np.zeros(3), np.diag(1 / half) @ turn, waves, rng.uniform(0, 2 * np.pi, 14), height, half)
    points = surface_points(shape)
    longest = np.sqrt(((points[:, None, :] - points[None, :, :]) ** 2).sum(axis=-1)).max()
    scale = 10 * size_cm / longest
    return replace(shape, to_unit=shape.to_unit / scale, half=np.abs(points).max(axis=0) * scale)


def rotation(angles: np.ndarray) -> np.ndarray:
    """Return the rotation matrix of turns about x, y, z (radians), applied in this order."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def tissue_pair(histology: str, rng: np.random.Generator, gain: float) -> tuple[float, float]:
    """Return HU of the main and the second tissue; `gain` scales the enhancement above 45 HU."""
    means = {
        "WDLPS": (rng.normal(-95, 6), 45.0 + rng.normal(0, 5)),
        "DDLPS": (rng.normal(-92, 6), 45.0 + (rng.normal(85, 12) - 45) * gain),
        "LMS": (45.0 + (rng.normal(90, 12) - 45) * gain, rng.normal(18, 4)),
        "SFT": (45.0 + (rng.normal(118, 12) - 45) * gain, rng.normal(22, 4)),
        "other": (45.0 + (rng.normal(72, 12) - 45) * gain, rng.normal(18, 4)),
    }
    return means[histology]


def second_tissue(inside: np.ndarray, pull: np.ndarray, field: np.ndarray, z_rad: float, septal: bool) -> np.ndarray:
    """Return how much of each voxel is second tissue (0 to 1; 0 outside the tumour).

    Parameters
    ----------
    inside : ndarray of bool
        The tumour.
    pull : ndarray
        Where the second tissue is drawn to, in SD of the field; broadcastable to `inside`.
    field : ndarray
        Random field.
    z_rad : float
        Fixes the share of voxels with more second than main tissue: .08 + .42 Phi(z_rad), exactly.
    septal : bool
        True: sheets (where the field crosses zero) instead of blobs.
    """
    values = -np.abs(field[inside]) if septal else field[inside]
    values = (values - values.mean()) / values.std()
    key = values + np.broadcast_to(pull, inside.shape)[inside]
    second = np.zeros(inside.shape)
    second[inside] = soft_top(key, 0.08 + 0.42 * special.ndtr(z_rad))
    return second


def soft_top(values: np.ndarray, share: float) -> np.ndarray:
    """Return 1 for the highest values, 0 for the lowest; the `share` of them is above .5, with a narrow slope."""
    return np.clip(0.5 + (values - np.quantile(values, 1 - share)) / 0.3, 0.0, 1.0)


def scatter_foci(shape: TumourShape, radius: float, count: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Return centres of small foci inside the tumour that do not touch each other."""
    points = surface_points(shape)
    centres: list[np.ndarray] = []
    for _ in range(20 * count):
        candidate = points[rng.integers(len(points))] * rng.uniform(0.2, 0.8) + shape.centre
        if all(np.linalg.norm(candidate - c) > 2.2 * radius for c in centres):
            centres.append(candidate)
        if len(centres) == count:
            break
    return centres


def nodular_field(
    shape: TumourShape, coordinates: tuple[np.ndarray, ...], count: int, rng: np.random.Generator
) -> np.ndarray:
    """Return minus the distance to the nearest of `count` points scattered in the tumour, mm: its top are round."""
    points = surface_points(shape)
    directions = points[rng.integers(len(points), size=count)]
    centres = shape.centre + directions * (0.9 * rng.random((count, 1)) ** (1 / 3))
    nearest = np.full(np.broadcast_shapes(*(c.shape for c in coordinates)), np.inf)
    for centre in centres:
        np.minimum(nearest, sum((c - m) ** 2 for c, m in zip(coordinates, centre, strict=True)), out=nearest)
    return -np.sqrt(nearest)


def facing(x: ArrayLike, y: ArrayLike, centre: np.ndarray, outward: float, side: tuple[float, float]) -> np.ndarray:
    """Return 1 on a side of the tumour (direction lateral, front), 0 on the opposite side, with a slope between."""
    right, front = x - centre[0], y - centre[1]
    cosine = (side[0] * outward * right + side[1] * front) / (np.hypot(right, front) + 1e-6)
    return np.clip(cosine / 0.35, 0.0, 1.0)


def lost_plane(shell: np.ndarray, field: np.ndarray, z_int: float) -> np.ndarray:
    """Return how much of each voxel of the fat plane is strand: the share .05 + .65 Phi(z_int) of its voxels."""
    strands = np.zeros(shell.shape)
    if shell.any():
        strands[shell] = soft_top(field[shell], 0.05 + 0.65 * special.ndtr(z_int))
    return strands
