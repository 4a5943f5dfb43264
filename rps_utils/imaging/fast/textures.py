"""Counts behind the texture features, compiled by numba: pairs of grey levels, runs, zones, dependences.

All of them walk over the voxels of a mask in a flat array of grey levels with zeros around it, so that no neighbour
needs a test whether it exists. They count and nothing more: what becomes of the counts is pyradiomics' own code.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numba import njit

from rps_utils.machine.compiled import compiled

# One of each two opposite neighbours, as steps along the axes of the array: the one that comes later in it. First the
# step along a row, then those of which the earlier end lies one column further on (see `count_zones`).
HALF_NEIGHBOURS = sorted(
    ((z, y, x) for z in (0, 1) for y in (-1, 0, 1) for x in (-1, 0, 1) if (z, y, x) > (0, 0, 0)),
    key=lambda step: (step != (0, 0, 1), step[2]),
)
HIGHEST_LEVEL = int(np.iinfo(np.uint16).max)


@compiled
def count_pairs(levels: np.ndarray, voxels: np.ndarray, steps: np.ndarray, highest: int) -> np.ndarray:
    """Return how often one level precedes another in each direction, shape (13, highest + 1, highest + 1)."""
    width = np.uint64(highest + 1)
    pairs = np.zeros((len(steps), (highest + 1) ** 2), np.uint32)
    for k in range(len(steps)):
        row = pairs[k]
        for i in voxels:
            row[levels[i - steps[k]] * width + levels[i]] += np.uint32(1)
    return pairs.reshape((len(steps), highest + 1, highest + 1))


@compiled
def count_runs(levels: np.ndarray, voxels: np.ndarray, steps: np.ndarray, highest: int, longest: int) -> np.ndarray:
    """Return the number of runs by direction, length and level, shape (13, longest, highest + 1).

    A voxel that is the n-th of its run counts at n; runs of length n are then those with an n-th and no next voxel.
    """
    width = np.uint64(highest + 1)
    reached = np.zeros((len(steps), (longest + 2) * (highest + 1)), np.uint32)
    place = np.zeros(len(levels), np.uint16)
    for k in range(len(steps)):
        row = reached[k]
        for i in voxels:
            level, before = levels[i], i - steps[k]
            nth = np.uint16(place[before] * np.uint16(levels[before] == level) + np.uint16(1))
            place[i] = nth
            row[nth * width + level] += np.uint32(1)
    runs = reached.reshape((len(steps), longest + 2, highest + 1))
    return runs[:, 1:-1] - runs[:, 2:]


@compiled
def count_dependences(
    levels: np.ndarray, voxels: np.ndarray, steps: np.ndarray, neighbours: np.ndarray, highest: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return what the 26 neighbours of the voxels of each level are like.

    Returns
    -------
    alike : shape (highest + 1, 27)
        Voxels by level and number of neighbours of the same level.
    contrast : shape (highest + 1,)
        Sum of the distances between level and mean level of the neighbours.
    """
    alike = np.zeros((highest + 1, 27), np.int64)
    contrast = np.zeros(highest + 1)
    for n in range(len(voxels)):
        i = voxels[n]
        level, same, total = levels[i], 0, 0
        for step in steps:
            same += (levels[i - step] == level) + (levels[i + step] == level)
            total += levels[i - step] + levels[i + step]
        alike[level, same] += 1
        if neighbours[n] > 0:
            contrast[level] += abs(level - total / neighbours[n])
    return alike, contrast


@njit
def find_root(parent: np.ndarray, i: np.uint32) -> np.uint32:
    """Return the first voxel of a zone, and shorten the way there."""
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@compiled
def count_zones(levels: np.ndarray, voxels: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Return the size of each zone of one level (26 neighbours), at its first voxel, 0 elsewhere; shape as `levels`.

    Where the voxel before in the row is of the same level, it has already joined all earlier neighbours of both but
    the four that lie one column further on.
    """
    parent, size = np.zeros(len(levels), np.uint32), np.zeros(len(levels), np.uint32)
    for i in voxels:
        root, others = i, steps[1:]
        if levels[i - steps[0]] == levels[i]:
            root, others = find_root(parent, np.uint32(i - steps[0])), steps[1:5]
        parent[i] = root
        for step in others:
            before = np.uint32(i - step)
            if levels[before] == levels[i] and parent[before] != root:
                other = find_root(parent, before)
                low, high = min(root, other), max(root, other)
                parent[high] = root = low
    for i in voxels:
        size[find_root(parent, i)] += np.uint32(1)
    return size


@compiled
def widest_in_planes(points: np.ndarray, planes: np.ndarray, half: np.ndarray) -> float:
    """Return the largest squared distance between two points of one plane.

    Parameters
    ----------
    points : shape (n, 2)
        Places within the planes, in half voxels, plane by plane.
    planes : shape (m + 1,)
        Where the points of each plane begin, and n.
    half : shape (2,)
        Half a voxel in mm.
    """
    widest = 0.0
    for p in range(len(planes) - 1):
        for i in range(planes[p], planes[p + 1]):
            for j in range(i + 1, planes[p + 1]):
                a = (points[i, 0] - points[j, 0]) * half[0]
                b = (points[i, 1] - points[j, 1]) * half[1]
                widest = max(widest, a * a + b * b)
    return widest


class Region:
    """The voxels of a mask, laid out for the counts.

    Attributes
    ----------
    inside : numpy.ndarray
        3-D, bool: the mask.
    voxels : numpy.ndarray
        Places of its voxels in the flat array with a layer of zeros around, rising.
    steps : numpy.ndarray
        `HALF_NEIGHBOURS` as distances in that array.
    """

    def __init__(self, inside: np.ndarray) -> None:
        padded = np.pad(inside, 1)
        self.inside, self.size = inside, padded.size
        self.voxels = np.flatnonzero(padded).astype(np.uint32)
        _, rows, columns = padded.shape
        self.steps = (np.array(HALF_NEIGHBOURS) @ [rows * columns, columns, 1]).astype(np.uint32)

    @cached_property
    def neighbours(self) -> np.ndarray:
        """How many of its 26 neighbours each voxel has inside the mask."""
        flat = self.lay_out(np.ones(len(self.voxels)))
        return sum(flat[self.voxels + step] + flat[self.voxels - step] for step in self.steps)

    def lay_out(self, levels: np.ndarray) -> np.ndarray:
        """Return the flat array that holds the levels of the voxels (1 and higher), and 0 elsewhere."""
        flat = np.zeros(self.size, np.uint16)
        flat[self.voxels] = levels
        return flat

    def meets_two(self, direction: tuple[int, int, int]) -> bool:
        """Whether some line of a direction meets two voxels: elsewhere there is nothing to run along."""
        places, step = np.argwhere(self.inside), np.array(direction)
        axis = np.flatnonzero(step)[0]
        starts = places - places[:, [axis]] * (step * step[axis])
        return len(np.unique(starts, axis=0)) < len(starts)


class Levels:
    """Grey levels in a region, and what is counted of them; only levels that occur have a row.

    Attributes
    ----------
    region : Region
    flat : numpy.ndarray
        The levels laid out.
    present, voxels : numpy.ndarray
        Levels that occur, rising, and how many voxels each has.
    """

    def __init__(self, region: Region, levels: np.ndarray) -> None:
        counts = np.bincount(levels)
        self.region, self.flat = region, region.lay_out(levels)
        self.present = np.flatnonzero(counts)
        self.voxels, self.highest = counts[self.present], len(counts) - 1

    def pairs(self) -> np.ndarray:
        """Return how often one level precedes another in each of 13 directions, shape (13, levels, levels)."""
        counts = count_pairs(self.flat, self.region.voxels, self.region.steps, self.highest)
        return counts[:, self.present][:, :, self.present]

    def runs(self) -> np.ndarray:
        """Return the number of runs by direction, level and length, shape (directions with any, levels, longest)."""
        longest = max(self.region.inside.shape)
        counts = count_runs(self.flat, self.region.voxels, self.region.steps, self.highest, longest)
        counts = counts[:, :, self.present].transpose(0, 2, 1)
        long = counts[:, :, 1:].any(axis=(1, 2))
        return counts[[yes or self.region.meets_two(step) for yes, step in zip(long, HALF_NEIGHBOURS, strict=True)]]

    def zones(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the number of zones by level and size, shape (levels, sizes), and the sizes that occur."""
        size = count_zones(self.flat, self.region.voxels, self.region.steps)
        first = np.flatnonzero(size)
        occurs = np.bincount(size[first]) > 0
        column = (np.cumsum(occurs) - 1)[size[first]]
        row = np.searchsorted(self.present, self.flat[first])
        shape = len(self.present), int(occurs.sum())
        counts = np.bincount(row * shape[1] + column, minlength=shape[0] * shape[1])
        return counts.reshape(shape), np.flatnonzero(occurs)

    @cached_property
    def dependences(self) -> tuple[np.ndarray, np.ndarray]:
        """Voxels by level and number of like neighbours, shape (levels, 27), and `count_dependences`' contrast."""
        region = self.region
        alike, contrast = count_dependences(self.flat, region.voxels, region.steps, region.neighbours, self.highest)
        return alike[self.present], contrast[self.present]
