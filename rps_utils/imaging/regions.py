"""Regions of a tumour, so that handcrafted features may read where something is, not only what is there.

Features of a whole tumour are averages over it, and the texture classes average over directions as well: they cannot
tell midline from flank. The same features of a few regions can. The regions are what anyone would choose who knows
anatomy and has not seen the data: the margin around the tumour, and its outer thirds along the axes of the body.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import ndimage

from rps_utils.imaging.volumes import Volume

# Low and high end of each axis of the canonical frame, where the flank lies low and the midline high.
THIRDS = (("flank", "midline"), ("back", "front"), ("feet", "head"))
MARGIN = "margin"
MARGIN_MM = 20.0
REGIONS = (MARGIN, *(name for pair in THIRDS for name in pair))


def region_masks(mask: Volume, right_sided: bool, *, margin_mm: float = MARGIN_MM) -> dict[str, Volume]:
    """Return the regions of a tumour.

    Parameters
    ----------
    mask : Volume
        1 = tumour; axes right, front, head, with at least `margin_mm` around the tumour.
    right_sided : bool
        On which side of the body the tumour lies (`rps_utils.imaging.patches.is_right_sided`): there the first axis
        runs from midline to flank.
    margin_mm : float
        Width of the shell outside the mask.

    Returns
    -------
    dict of str to Volume
        A mask for each name in `REGIONS`. The thirds have equal volumes, and thirds of different axes overlap.
    """
    inside = mask.values > 0
    away = ndimage.distance_transform_edt(~inside, mask.spacing)
    regions = {MARGIN: (away > 0) & (away <= margin_mm)}
    places = np.argwhere(inside)
    for axis, (low, high) in enumerate(THIRDS):
        names = (high, low) if axis == 0 and right_sided else (low, high)
        # By rank and not by coordinate: a third of the voxels even where many share a slice.
        order = np.argsort(places[:, axis], kind="stable")
        third = len(order) // 3
        for name, rows in zip(names, (order[:third], order[len(order) - third :]), strict=True):
            regions[name] = np.zeros_like(inside)
            regions[name][tuple(places[rows].T)] = True
    return {name: Volume(regions[name].astype(np.uint8), mask.affine) for name in REGIONS}


def right_sided(facts: pd.DataFrame) -> dict[str, bool]:
    """Return for each patient of a table of images (``patient_id, side``) whether the tumour lies on the right."""
    return dict(zip(facts["patient_id"], facts["side"] == "right", strict=True))
