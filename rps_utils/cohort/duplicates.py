"""The same patient twice: under two ids, with the image altered a little, mirrored, resampled or noisy.

A patient in two splits, or in two folds, is learned from and judged. Equal voxels are easily found; this module looks
for what is nearly equal.

Images
    Each scan is averaged over cubes of 24 mm around the tumour, in the window of soft tissue, and two scans are
    compared by the root mean square of their difference in HU, in all eight mirror images. One voxel changed, 20 HU of
    noise, 10 HU more, a shift of CT or mask by one voxel, another grid, a larger mask, fewer slices or a blur of one
    voxel leave at most 13 HU between copies of one patient; of 44,850 pairs of 300 different synthetic patients the
    nearest are 22 HU apart. `SAME_HU` lies between.
Rows
    Equal outcome and equal clinical columns say something only where two patients hardly agree by chance: how often
    other patients share each value says how many equal rows chance would give, and where that is more than one in ten,
    nothing is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import NamedTuple

import nibabel as nib
import numpy as np
import pandas as pd

from rps_utils.cohort.contract import DISTINCT, OUTCOME, Notice, Problem, clinical_columns, is_missing
from rps_utils.imaging.patches import PatchSettings, average_on_grid, overlap_weights, patch_hu
from rps_utils.imaging.volumes import Volume

CUBES, CUBE_MM = 12, 24.0
WINDOW_HU = (-160.0, 240.0)
SAME_HU = 15.0  # root mean square difference below which two images show one patient
LEAST_SHARED = 0.1  # of the cubes that both scans must cover; small fields of view say too little
BY_CHANCE = 0.1  # equal rows that chance may give in the whole cohort
FEWEST_VALUES = 2  # clinical values that equal rows must have
MIRRORS = tuple(product((1, -1), repeat=3))
BLOCK = 256


class Double(NamedTuple):
    """Two patients, by their places, and how far their images are apart (HU)."""

    first: int
    second: int
    difference: float


def coarse_view(ct: Volume, mask: Volume) -> np.ndarray:
    """Average a scan over cubes around its tumour.

    Parameters
    ----------
    ct, mask : Volume
        HU and tumour, on one grid, axes right, front, head.

    Returns
    -------
    numpy.ndarray of float32, (12, 12, 12)
        HU within the window of soft tissue; NaN where a cube is not wholly inside the scan.
    """
    weights = []
    for axis, (voxels, spacing) in enumerate(zip(mask.values.shape, mask.spacing, strict=True)):
        held = np.flatnonzero(mask.values.any(axis=tuple({0, 1, 2} - {axis})))
        first_edge = ((held[0] + held[-1] + 1) * spacing - CUBES * CUBE_MM) / 2
        weights.append(overlap_weights(voxels, spacing, first_edge, CUBES, CUBE_MM).astype(np.float32))
    covered = [axis_weights.sum(axis=1) > 0.999 for axis_weights in weights]
    needed = [np.flatnonzero(axis_weights.any(axis=0)) for axis_weights in weights]
    near = tuple(slice(found[0], found[-1] + 1) for found in needed)
    part = np.clip(ct.values[near], *WINDOW_HU).astype(np.float32)
    view = average_on_grid(part, [w[:, s] for w, s in zip(weights, near, strict=True)])
    return np.where(np.einsum("i,j,k->ijk", *covered), view, np.nan).astype(np.float32)


def patch_views(patches: np.ndarray, settings: PatchSettings) -> np.ndarray:
    """Average network patches (n, channels, size, size, size) over as many cubes as `coarse_view` has; HU."""
    weights = [overlap_weights(settings.size, 1.0, 0.0, CUBES, settings.size / CUBES)] * 3
    return np.stack([average_on_grid(patch_hu(patch, settings), weights) for patch in patches]).astype(np.float32)


def near_equal_pairs(views: np.ndarray, others: np.ndarray | None = None, limit: float = SAME_HU) -> list[Double]:
    """Return the pairs of images that show one patient, mirrored or not.

    Parameters
    ----------
    views : numpy.ndarray, (n, 12, 12, 12)
        From `coarse_view` or `patch_views`, all from one of them.
    others : numpy.ndarray, (m, 12, 12, 12), optional
        Images to compare with, `second` in each pair. Default: the views themselves, each pair once.
    limit : float
        Largest difference, HU.
    """
    compared = views if others is None else others
    found = []
    for start in range(0, len(views), BLOCK):
        apart = _differences(views[start : start + BLOCK], compared)
        for row, column in zip(*np.nonzero(apart < limit), strict=True):
            if others is not None or start + row < column:
                found.append(Double(int(start + row), int(column), float(apart[row, column])))
    return found


def _differences(views: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the least difference over the mirror images, (n, m) HU; infinite where too little is shared."""
    given, x = _flat(views)
    least = np.full((len(views), len(others)), np.inf)
    for flips in MIRRORS:
        also, y = _flat(others[:, :: flips[0], :: flips[1], :: flips[2]])
        shared = given @ also.T
        squares = (x**2) @ also.T + given @ (y**2).T - 2 * x @ y.T
        apart = np.sqrt(np.clip(squares, 0, None) / np.maximum(shared, 1))
        least = np.minimum(least, np.where(shared >= LEAST_SHARED * x.shape[1], apart, np.inf))
    return least


def _flat(views: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    flat = views.reshape(len(views), -1).astype(float)
    given = np.isfinite(flat)
    return given.astype(float), np.where(given, flat, 0.0)


def equal_rows(cells: pd.DataFrame) -> list[tuple[int, int]]:
    """Return pairs of places whose outcome and clinical values are equal, where chance would hardly make them so.

    Parameters
    ----------
    cells : DataFrame
        Of text, as in a manifest.
    """
    columns = [c for c in (*OUTCOME, *clinical_columns(cells.columns)) if c in cells]
    text = cells[columns].apply(lambda column: column.mask(is_missing(column), "").map(_plain_number))
    filled = (text.drop(columns=list(OUTCOME), errors="ignore") != "").sum(axis=1)
    groups = text.reset_index(drop=True).groupby(columns, sort=False).indices.values() if columns else ()
    pairs = [(int(a), int(b)) for group in groups for i, a in enumerate(group) for b in group[i + 1 :]]
    told = [(a, b) for a, b in pairs if filled.iloc[a] >= FEWEST_VALUES]
    return told if told and _expected_by_chance(text, len(told)) <= BY_CHANCE else []


def _plain_number(text: str) -> str:
    try:
        return f"{float(text):g}"
    except ValueError:
        return text


def _expected_by_chance(text: pd.DataFrame, doubtful: int) -> float:
    """Return how many pairs would be equal in every column if columns were independent.

    The share of equal pairs in a column is counted without the doubtful ones, plus one: no column is taken for perfect.
    """
    pairs = len(text) * (len(text) - 1) / 2
    equal = [(n := text[column].value_counts()).mul(n - 1).sum() / 2 for column in text]
    return pairs * float(np.prod([min(max(e - doubtful, 0) + 1, pairs) / pairs for e in equal]))


def told_apart(distinct: pd.Series, one: str, other: str) -> bool:
    """Tell whether the user has said of two patients that they are two, in the row of either."""
    given = [str(distinct.get(a, "")).split() for a in (one, other)]
    return other in given[0] or one in given[1]


def suspected_pairs(cells: pd.DataFrame, views: Sequence[np.ndarray | None]) -> Iterator[tuple[int, int, str]]:
    """Yield places of two patients of a manifest who look like one, and why; those told apart are left out.

    Parameters
    ----------
    cells : DataFrame
        Of text, as in a manifest.
    views : sequence of ndarray or None
        `coarse_view` of each row; None where its files cannot be read.
    """
    empty = np.full((CUBES,) * 3, np.nan, np.float32)
    stacked = np.stack([empty if view is None else view for view in views]) if len(views) else empty[None]
    why: dict[tuple[int, int], list[str]] = {}
    for first, second, apart in near_equal_pairs(stacked):
        why.setdefault((first, second), []).append(
            f"nearly the same image ({apart:.1f} HU apart, mirror images included)"
        )
    for first, second in equal_rows(cells):
        why.setdefault((first, second), []).append("the same outcome and clinical values")
    ids = cells["patient_id"].to_list()
    distinct = cells.set_index("patient_id")[DISTINCT] if DISTINCT in cells else pd.Series(dtype=str)
    distinct = distinct[~distinct.index.duplicated()]
    for (first, second), reasons in sorted(why.items()):
        if not told_apart(distinct, ids[first], ids[second]):
            yield first, second, " and ".join(reasons)


def view_of(affine: np.ndarray, hu: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the `coarse_view` of voxels as they lie in their file, with the axes that their affine tells."""
    turn = nib.io_orientation(affine)
    turned = affine @ nib.orientations.inv_ornt_aff(turn, hu.shape)
    ct, mask = (Volume(nib.apply_orientation(values, turn), turned) for values in (hu, labels != 0))
    return coarse_view(ct, mask)


def same_patient_problems(
    cells: pd.DataFrame, views: Mapping[int, np.ndarray | None], known: Mapping[int, str], *, learn: bool = True
) -> Iterator[Problem]:
    """Yield what looks like one patient under two ids, with both named.

    Parameters
    ----------
    cells : DataFrame
        Of text, as in a manifest; its index is the line.
    views : mapping
        Line to `coarse_view`, None where the files cannot be read.
    known : mapping
        Line to a digest of the voxels: pairs with equal ones are named elsewhere.
    learn : bool
        False where a finished model is applied: nobody is split, so nothing is refused.

    Yields
    ------
    Problem
        A `Notice` within one split. Across splits, or where the split is still to be drawn, a fault: what is learned
        from one would be judged on the other.
    """
    ids, lines = cells["patient_id"].to_list(), cells.index.to_list()
    split = cells["split"].to_list() if "split" in cells else None
    digests = [known.get(line, "") for line in lines]
    for first, second, why in suspected_pairs(cells, [views.get(line) for line in lines]):
        if digests[first] == digests[second] != "":
            continue
        kind = Problem if learn and (split is None or split[first] != split[second]) else Notice
        yield kind(
            lines[second],
            ids[second],
            "patient_id",
            f"{why} as line {lines[first]} ({ids[first]})",
            "each patient once",
            f"keep one of them; if they are two patients, write {ids[first]} into a column {DISTINCT}",
        )
