"""ITK's Laplacian of Gaussian, value for value, on those lines only that a box needs.

A Gaussian is the sum of two damped oscillations, which a recursion of four terms forth and back along a line
reproduces (Deriche 1993; constants by Farnebäck and Westin, J Math Imaging Vis 2006). ITK filters line by line; here
all lines of a plane move together, in ITK's order of operations, so that not a bit differs and no grey value can
change its bin.
"""

from __future__ import annotations

from math import cos, exp, sin

import numpy as np

from rps_utils.machine.compiled import compiled

DECAY, FREQUENCY = (-1.3932, -1.3732), (0.6681, 2.0787)
# Weights of the two cosines and the two sines: Gaussian (order 0) and its second derivative.
COSINES, SINES = {0: (1.3530, -0.3531), 2: (-1.3563, 0.3446)}, {0: (1.8151, 0.0902), 2: (5.2318, -2.2355)}
Recursion = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def design_recursion(sigma_mm: float, spacing: float, order: int) -> Recursion:
    """Return the recursion that smooths (order 0), or takes sigma squared times the second derivative (order 2).

    Returns
    -------
    forth, back : shape (4,)
        Weights of the last four values; `back` leaves out the value itself.
    feedback : shape (4,)
        Weights of the last four results, to be subtracted.
    steady : shape (2, 4)
        `feedback` times the results of a constant 1, forth and back: before its first value a line is constant.
    """
    sigma = sigma_mm / spacing
    (c0, c1), (s0, s1) = ([f(w / sigma) for w in FREQUENCY] for f in (cos, sin))
    e0, e1 = (exp(decay / sigma) for decay in DECAY)

    def taps(order: int) -> list[float]:
        (a0, a1), (b0, b1) = COSINES[order], SINES[order]
        first = e1 * (b1 * s1 - (a1 + 2 * a0) * c1) + e0 * (b0 * s0 - (a0 + 2 * a1) * c0)
        second = ((a0 + a1) * c1 * c0 - (b0 * c1 * s0 + b1 * c0 * s1)) * (2 * e0 * e1) + (a1 * e0 * e0 + a0 * e1 * e1)
        return [a0 + a1, first, second, e1 * e0 * e0 * (b1 * s1 - a1 * c1) + e0 * e1 * e1 * (b0 * s0 - a0 * c0)]

    d = [-2 * (e1 * c1 + e0 * c0), 4 * c1 * c0 * e0 * e1 + (e0 * e0 + e1 * e1)]
    d += [-2 * c0 * e0 * e1 * e1 + -2 * c1 * e1 * e0 * e0, e0 * e0 * e1 * e1]
    n, total = taps(0), sum([1.0, *d])
    if order == 0:
        scale = 1 / (2 * sum(n) / total - n[0])
    else:
        n2 = taps(2)
        beta = -(2 * sum(n2) - total * n2[0]) / (2 * sum(n) - total * n[0])
        scale = sigma_mm * sigma_mm / _second_moment(_moments(n2), _moments(n), beta, _moments([1.0, *d]))
        n = [q + beta * p for q, p in zip(n2, n, strict=True)]
    n = [value * scale for value in n]
    m = [n[1] - d[0] * n[0], n[2] - d[1] * n[0], n[3] - d[2] * n[0], -d[3] * n[0]]
    return np.array(n), np.array(m), np.array(d), np.array([[w * sum(side) / total for w in d] for side in (n, m)])


def _moments(taps: list[float]) -> tuple[float, float, float]:
    return sum(taps), sum(k * tap for k, tap in enumerate(taps)), sum(k * k * tap for k, tap in enumerate(taps))


def _second_moment(second: tuple, zeroth: tuple, beta: float, feedback: tuple) -> float:
    sn, dn, en = (q + beta * p for q, p in zip(second, zeroth, strict=True))
    sd, dd, ed = feedback
    return (en * sd * sd - ed * sn * sd - 2 * dn * dd * sd + 2 * dd * dd * sn) / (sd * sd * sd)


@compiled
def run_along(lines: np.ndarray, taps: np.ndarray, feedback: np.ndarray, steady: np.ndarray) -> np.ndarray:
    """Run the recursion down the rows of `lines`, all columns at once; shape and type (float64) as `lines`.

    Products are stored before they are added: left together, the compiler would fuse and round them once.
    """
    n, width = lines.shape
    result, fed, kept = np.empty((n, width)), np.empty((4, 4, width)), np.empty((4, 4, width))
    for k in range(4):
        for row in range(4):
            for v in range(width):
                fed[k, row, v] = lines[0, v] * taps[k]
                kept[k, row, v] = lines[0, v] * steady[k]
    for i in range(n):
        now, a, b, c = i % 4, (i + 3) % 4, (i + 2) % 4, (i + 1) % 4
        for k in range(4):
            for v in range(width):
                fed[k, now, v] = lines[i, v] * taps[k]
        for v in range(width):
            result[i, v] = (fed[0, now, v] + fed[1, a, v] + fed[2, b, v] + fed[3, c, v]) - (
                kept[0, a, v] + kept[1, b, v] + kept[2, c, v] + kept[3, now, v]
            )
        for k in range(4):
            for v in range(width):
                kept[k, now, v] = result[i, v] * feedback[k]
    return result


def filter_axis(image: np.ndarray, recursion: Recursion, axis: int, kept: slice) -> np.ndarray:
    """Filter along an axis and return the part `kept` of it, in ITK's single precision."""
    forth, back, feedback, steady = recursion
    planes = np.moveaxis(image, axis, 0)
    result = np.empty((kept.stop - kept.start, *planes.shape[1:]), np.float32)
    for u in range(planes.shape[1]):
        lines = np.array(planes[:, u], float, order="C")
        later = np.concatenate([lines[-1:], lines[:0:-1]])
        behind = run_along(later, back, feedback, steady[1])[::-1]
        result[:, u] = (run_along(lines, forth, feedback, steady[0]) + behind)[kept]
    return np.moveaxis(result, 0, axis)


def laplacian_of_gaussian(
    image: np.ndarray, spacing: tuple[float, ...], sigma_mm: float, box: tuple[slice, ...]
) -> np.ndarray:
    """Return sigma squared times the Laplacian of the smoothed image inside a box of it.

    Parameters
    ----------
    image : numpy.ndarray
        3-D, at least 4 voxels along each axis.
    spacing : tuple of float
        Voxel size in mm along its axes z, y, x.
    sigma_mm : float
        Width of the Gaussian.
    box : tuple of slice
        Where values are wanted.
    """
    total: np.ndarray = np.zeros(1, np.float32)
    for axis in (2, 1, 0):
        part = image
        for along in (axis, *(other for other in (2, 1, 0) if other != axis)):
            recursion = design_recursion(sigma_mm, spacing[along], 2 if along == axis else 0)
            part = filter_axis(part, recursion, along, box[along])
        total = (total + part * (1 / np.float64(spacing[axis]) ** 2)).astype(np.float32)
    return total
