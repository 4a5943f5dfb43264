"""Viewers: any slice of a CT in three planes and several windows, and any slice of a map of what moves a score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rps_utils.figures.scans import PLANES, ct_view, map_panels
from rps_utils.figures.style import nothing_to_show
from rps_utils.widgets.panel import View

WINDOWS = {"soft tissue": (-160.0, 240.0), "fat": (-200.0, 0.0), "lung": (-1350.0, 150.0), "bone": (-300.0, 1300.0)}


class Shown(NamedTuple):
    """What the viewer shows of a patient: HU and mask on one grid, and its spacing (mm)."""

    hu: np.ndarray
    mask: np.ndarray
    spacing: Sequence[float]


def scan_view(
    scans: Mapping[str, Shown],
    withheld: str,
    patient: str,
    plane: str,
    percent: float,
    window: str,
    outline: str,
) -> View:
    """Show one slice of a patient.

    Parameters
    ----------
    scans : mapping
        Patient to scan.
    withheld : str
        From `why_withheld`; if it is not empty these words stand in place of the picture.
    patient : str
    plane : str
        ``axial``, ``coronal`` or ``sagittal``.
    percent : float
        Place of the slice, from the first (0) to the last (100).
    window : str
        A name in `WINDOWS`.
    outline : str
        ``shown`` draws the tumour's outline.
    """
    title = f"{patient}, {plane}"
    if withheld:
        return View(nothing_to_show(title, withheld), withheld)
    scan, through = scans[patient], PLANES[plane][2]
    index = round(percent / 100 * (scan.hu.shape[through] - 1))
    mask = scan.mask if outline == "shown" else None
    words = f"{title}, {window} window"
    figure = ct_view(scan.hu, mask, scan.spacing, [index], plane, WINDOWS[window], words)
    here = np.take(scan.mask, index, axis=through) > 0
    area = here.sum() * np.prod(np.delete(scan.spacing, through)) / 100
    position = f"slice {index + 1} of {scan.hu.shape[through]}"
    if not here.any():
        return View(figure, f"{title}, {position}: no tumour in this slice")
    inside = np.take(scan.hu, index, axis=through)[here].mean()
    return View(figure, f"{title}, {position}: {area:.1f} cm² of tumour, mean {inside:.0f} HU")


def map_view(panels: Mapping[str, Mapping[str, Any]], withheld: str, patient: str, slice_number: int) -> View:
    """Show one axial slice of a patient's patch, and what moves the score in it.

    Parameters
    ----------
    panels : mapping
        Patient to a panel as `map_panels` takes it.
    withheld : str
        As in `scan_view`.
    patient : str
    slice_number : int
        From 1, the lowest.
    """
    title = f"What moves the score of {patient}"
    if withheld:
        return View(nothing_to_show(title, withheld), withheld)
    weight = panels[patient]["weight"]
    here, all_of_it = weight[:, :, slice_number - 1], np.abs(weight).sum()
    figure = map_panels([{**panels[patient], "at": slice_number - 1}], title)
    if not all_of_it:
        return View(figure, f"{patient}: nothing in the image moves the score")
    share = np.abs(here).sum() / all_of_it
    sentence = f"{patient}, slice {slice_number} of {weight.shape[2]}: {share:.1%} of all weight lies here"
    return View(figure, f"{sentence}; it moves the score by {here.sum():+.3f} of {weight.sum():+.3f}")
