"""Tumour masks from DICOM-SEG and RTSTRUCT, on the grid of the CT series they were drawn on. Needs extra ``dicom``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import highdicom
import numpy as np
from pydicom import Dataset

from rps_utils.cohort.contract import Fault
from rps_utils.imaging.formats.bounds import MOST_VOXELS
from rps_utils.ingest.persons import known_structure
from rps_utils.ingest.readers.contours import CLOSED, Contour, Unclear, fill_slice
from rps_utils.ingest.readers.dicom_files import read_dicom
from rps_utils.ingest.series import Refused, Series
from rps_utils.texts.causes import cause_of
from rps_utils.texts.counts import how_many
from rps_utils.texts.persons import shown

GRID_TOLERANCE = 1e-3  # of highdicom's match_geometry: direction, spacing, origin in voxels
OFF_SLICE_MM = 0.1
BACKGROUND = 0  # in a LABELMAP; other kinds count segments from 1
LEAST_VESSEL = 20  # voxels; a median of fewer says little
SEVERAL = "one, or a rule: segments: largest | union | named"


class Segment(NamedTuple):
    """One drawn structure.

    Attributes
    ----------
    name : str
        Segment label or ROI name.
    number : int
        Segment or ROI number.
    path : Path
    document : pydicom.Dataset
        The whole SEG or RTSTRUCT.
    """

    name: str
    number: int
    path: Path
    document: Dataset

    @property
    def shown(self) -> str:
        """Its name for messages and tables: of listed words only, since whoever draws may name the patient."""
        return known_structure(self.name, self.number)


def references(document: Dataset) -> set[str]:
    """Return the UIDs of all series and images that a SEG or RTSTRUCT refers to."""
    wanted = ("ReferencedSOPInstanceUID", "SeriesInstanceUID")
    nested = (e for top in document if top.VR == "SQ" for item in top.value for e in item.iterall())
    return {str(element.value) for element in nested if element.keyword in wanted}


def read_documents(masks: Sequence[Series]) -> list[tuple[Path, Dataset]]:
    """Read SEG and RTSTRUCT files whole.

    Raises
    ------
    Refused
        A file is broken.
    """
    documents: list[tuple[Path, Dataset]] = []
    for path in (path for series in masks for path in series.paths):
        try:
            documents.append((path, read_dicom(path)))
        except Exception as error:  # a file cut short makes pydicom raise anything
            value = f"unreadable: {cause_of(error)}"
            raise Refused(_mask_fault(value, "a whole file", "copy the file again")) from error
    return documents


def link_to(document: Dataset, ct: Series) -> str:
    """Tell how a SEG or RTSTRUCT is tied to a CT series.

    Returns
    -------
    str
        ``reference``: it names the series or one of its images. ``frame``: it names neither, but shares patient and
        frame of reference, as after an export that renewed the UIDs of the images. Empty: not at all.
    """
    if references(document) & {ct.uid, *_instances(ct)}:
        return "reference"
    same_patient = str(document.get("PatientID", "")) == ct.patient
    return "frame" if same_patient and _frame(ct) in _frames(document) else ""


def _instances(ct: Series) -> set[str]:
    return {str(h.SOPInstanceUID) for h in ct.headers}


def _frame(ct: Series) -> str:
    return str(ct.headers[0].get("FrameOfReferenceUID") or "no frame of reference")


def _frames(document: Dataset) -> set[str]:
    return {str(e.value) for e in document.iterall() if e.keyword == "FrameOfReferenceUID"}


def link_faults(document: Dataset, ct: Series) -> Iterator[Fault]:
    """Check that mask and CT belong together: patient, frame of reference, and every image referred to is there."""
    if str(document.get("PatientID", "")) != ct.patient:
        yield _mask_fault("PatientID is not that of the CT", "a mask of the same patient", "name the right mask")
    if _frames(document) and _frame(ct) not in _frames(document):
        remedy = "register it, or draw it on this CT"
        yield _mask_fault("another frame of reference than the CT", "the CT's frame of reference", remedy)
    missing = image_references(document) - _instances(ct)
    if missing and link_to(document, ct) == "reference":
        value = f"refers to {how_many(len(missing), 'image')} that the CT series lacks"
        yield _mask_fault(value, "every image that was drawn on", "export the whole CT series")


def image_references(document: Dataset) -> set[str]:
    """Return the UIDs of the single CT images that a SEG or RTSTRUCT names as its source."""
    sequences = ("ReferencedInstanceSequence", "ContourImageSequence", "SourceImageSequence")
    items = (item for e in document.iterall() if e.keyword in sequences for item in e.value)
    return {str(item.ReferencedSOPInstanceUID) for item in items if "ReferencedSOPInstanceUID" in item}


def _mask_fault(value: str, allowed: str, remedy: str) -> Fault:
    return Fault("segmentation", value, allowed, remedy)


def list_segments(documents: Sequence[tuple[Path, Dataset]]) -> list[Segment]:
    """List the structures of SEG and RTSTRUCT documents."""
    segments = []
    for path, document in documents:
        if "SegmentSequence" in document:
            labels = [(s.get("SegmentLabel", ""), s.SegmentNumber) for s in document.SegmentSequence]
            named = [(name, number) for name, number in labels if int(number) != BACKGROUND]
        else:
            named = [(s.get("ROIName", ""), s.ROINumber) for s in document.get("StructureSetROISequence", [])]
        segments += [Segment(str(name), int(number), path, document) for name, number in named]
    return segments


def tumour_mask(
    documents: Sequence[tuple[Path, Dataset]], ct: highdicom.Volume, rule: str = "one", roi: Sequence[str] = ()
) -> tuple[np.ndarray, str]:
    """Return the tumour drawn in SEG or RTSTRUCT documents, on the grid of a CT.

    Parameters
    ----------
    documents : sequence of (path, pydicom.Dataset)
        Drawn on this CT.
    ct : highdicom.Volume
        From `dicom.read_ct`.
    rule : {"one", "largest", "union", "named"}
        What to do with several structures: refuse, keep the largest, join all, or join those whose names stand in
        `roi`. The default refuses: which structure is the tumour is no question for a program. Aorta and inferior
        vena cava, by their names, are no candidates unless named.
    roi : sequence of str
        Names, for ``named``; capitals do not matter, and ``*`` stands for any letters.

    Returns
    -------
    mask : numpy.ndarray of uint8
        On the axes of `ct`.
    names : str
        Which structures it holds.

    Raises
    ------
    Refused
        No structure, or several without a rule, or one that does not fit the CT.
    """
    chosen = choose_structures(list_segments(documents), rule, roi)
    masks = [read_segment(segment, ct) for segment in chosen]
    if rule == "largest":
        best = int(np.argmax([mask.sum() for mask in masks]))
        chosen, masks = [chosen[best]], [masks[best]]
    return np.logical_or.reduce(masks).astype(np.uint8), " + ".join(segment.shown for segment in chosen)


def choose_structures(segments: Sequence[Segment], rule: str, roi: Sequence[str]) -> list[Segment]:
    """Return the structures that may be the tumour by a rule: see `tumour_mask`; `Refused` where it does not decide."""
    names = ", ".join(segment.shown for segment in segments)
    if rule == "named":
        wanted = [name.lower() for name in roi]
        chosen = [s for s in segments if any(n == s.name.lower() or fnmatchcase(s.name.lower(), n) for n in wanted)]
        if not chosen:
            allowed = f"one of roi: {', '.join(map(shown, roi))}"
            raise Refused(_mask_fault(f"structures {names or 'none'}", allowed, "correct the names in the mapping"))
        return chosen
    candidates = [segment for segment in segments if not vessel_of(segment.name)]
    if not candidates:
        value = f"nothing but {names}" if names else "no structure in the file"
        raise Refused(_mask_fault(value, "one tumour", "export the segmentation again"))
    if rule == "one" and len(candidates) > 1:
        value = f"{len(candidates)} structures: {', '.join(segment.shown for segment in candidates)}"
        raise Refused(_mask_fault(value, SEVERAL, "state the rule in the mapping"))
    return candidates


def vessel_hu(documents: Sequence[tuple[Path, Dataset]], ct: highdicom.Volume, hu: np.ndarray) -> dict[str, float]:
    """Return the median HU of aorta and inferior vena cava, as far as they are drawn and fit the CT.

    Parameters
    ----------
    documents : sequence of (path, pydicom.Dataset)
        Drawn on this CT.
    ct : highdicom.Volume
    hu : numpy.ndarray
        HU on its axes.
    """
    medians: dict[str, float] = {}
    for segment in list_segments(documents):
        vessel = vessel_of(segment.name)
        if not vessel or vessel in medians:
            continue
        try:
            inside = read_segment(segment, ct)
        except Refused:  # the tumour decides about the patient; an unreadable vessel tells no phase
            continue
        if inside.sum() >= LEAST_VESSEL:
            medians[vessel] = float(np.median(hu[inside]))
    return medians


def read_segment(segment: Segment, ct: highdicom.Volume) -> np.ndarray:
    """Return one structure as bool array on the grid of the CT; `Refused` where it does not fit."""
    read: Callable = _read_seg if "SegmentSequence" in segment.document else _read_contours
    return read(segment, ct)


def _read_seg(segment: Segment, ct: highdicom.Volume) -> np.ndarray:
    kind = str(segment.document.get("SegmentationType", ""))
    if kind == "FRACTIONAL":
        raise Refused(_mask_fault("fractional segmentation", "inside or outside (BINARY)", "export it as binary"))
    _refuse_frames(segment)
    try:
        document = highdicom.seg.Segmentation.from_dataset(segment.document)
        own = document.get_volume(segment_numbers=[segment.number], atol=OFF_SLICE_MM)
        placed = own.match_geometry(ct, tol=GRID_TOLERANCE)
    except (ValueError, RuntimeError, AttributeError, TypeError, IndexError, KeyError, OSError, EOFError) as error:
        value = f"{segment.shown} is not on the grid of the CT: {cause_of(error)}"
        raise Refused(_mask_fault(value, "the CT's grid", "export the segmentation on the CT")) from error
    if placed.spatial_shape != ct.spatial_shape or not np.allclose(placed.affine, ct.affine, atol=OFF_SLICE_MM):
        # highdicom pads instead of cropping where the two do not overlap
        raise Refused(_outside(segment.shown, "all of it"))
    inside = placed.array[..., 0] != 0
    lost = int((own.array != 0).sum() - inside.sum())
    if lost:
        raise Refused(_outside(segment.shown, how_many(lost, "voxel")))
    return inside


def _refuse_frames(segment: Segment) -> None:
    """Refuse a SEG that is larger than any scan, or that has two frames for one slice of one segment."""
    document = segment.document
    voxels = float(document.Rows) * float(document.Columns) * float(document.get("NumberOfFrames") or 1)
    if voxels > MOST_VOXELS * max(1, len(document.SegmentSequence)):
        raise Refused(_mask_fault(f"{segment.shown}: {voxels:.1e} voxels", f"{MOST_VOXELS:.0e} at most", "crop it"))
    places = Counter(_frame_places(document, segment.number))
    twice = sorted(place for place, count in places.items() if count > 1)
    if twice:
        heights = ", ".join(f"{place[2]:g} mm" for place in twice[:3]) + ", ..." * (len(twice) > 3)
        value = f"{segment.shown}: two frames for one slice, at {heights}"
        raise Refused(_mask_fault(value, "one frame a slice and segment", "export the segmentation again"))


def _frame_places(document: Dataset, number: int) -> Iterator[tuple[float, ...]]:
    """Yield the place of each frame of a segment; frames of a LABELMAP hold all segments."""
    shared = next(iter(document.get("SharedFunctionalGroupsSequence", [])), Dataset())
    for frame in document.get("PerFrameFunctionalGroupsSequence", []):
        named = frame.get("SegmentIdentificationSequence") or shared.get("SegmentIdentificationSequence")
        place = frame.get("PlanePositionSequence") or shared.get("PlanePositionSequence")
        if place and (not named or int(named[0].ReferencedSegmentNumber) == number):
            yield tuple(round(float(mm), 2) for mm in place[0].ImagePositionPatient)


def _outside(name: str, what: str) -> Fault:
    return _mask_fault(f"{name}: {what} outside the CT", "a mask inside the CT", "is it of another scan?")


def _read_contours(segment: Segment, ct: highdicom.Volume) -> np.ndarray:
    slices: dict[int, list[Contour]] = {}
    for number, kind, points in _closed_contours(segment):
        k, index = _on_slice(points, number, ct, segment.shown)
        slices.setdefault(k, []).append(Contour(number, kind, index))
    if not slices:
        raise Refused(_mask_fault(f"{segment.shown} without closed contours", "closed contours", "draw it anew"))
    _refuse_skipped(sorted(slices), ct, segment.shown)
    inside = np.zeros(ct.spatial_shape, bool)
    for k, contours in sorted(slices.items()):
        try:
            inside[k] = fill_slice(contours, inside.shape[1:], ct.spacing[1:])
        except Unclear as error:
            value = f"{segment.shown}, {_place(ct, k)}: {error.value}"
            raise Refused(_mask_fault(value, error.allowed, error.remedy)) from error
    return inside


def _closed_contours(segment: Segment) -> Iterator[tuple[int, str, np.ndarray]]:
    """Yield number (from 1), kind and points (mm) of the closed contours of a structure."""
    own = [r for r in segment.document.get("ROIContourSequence", []) if int(r.ReferencedROINumber) == segment.number]
    for number, contour in enumerate((c for roi in own for c in roi.get("ContourSequence", [])), 1):
        if str(contour.get("ContourGeometricType")) not in CLOSED:
            continue
        values = np.array(contour.get("ContourData") or [], float).ravel()
        if len(values) % 3 or not np.isfinite(values).all() or not len(values):
            value = f"{segment.shown}, contour {number}: {how_many(len(values), 'number')}"
            raise Refused(_mask_fault(value, "finite x, y, z of each point", "export the structure set again"))
        yield number, str(contour.ContourGeometricType), values.reshape(-1, 3)


def _on_slice(points: np.ndarray, number: int, ct: highdicom.Volume, name: str) -> tuple[int, np.ndarray]:
    """Return slice and corners (row, column) of a contour; `Refused` between slices or outside the CT."""
    to_index = np.linalg.inv(ct.affine)
    index = points @ to_index[:3, :3].T + to_index[:3, 3]
    k = int(np.rint(index[:, 0].mean()))
    off = float(np.abs(index[:, 0] - k).max() * ct.spacing[0])
    if off > OFF_SLICE_MM:
        value = f"{name}: contour {number} lies {off:.3g} mm off its slice"
        raise Refused(_mask_fault(value, f"{OFF_SLICE_MM:g} mm at most", "was it drawn on another series?"))
    last = np.array(ct.spatial_shape) - 1
    if not 0 <= k <= last[0] or (index[:, 1:] < -0.5).any() or (index[:, 1:] > last[1:] + 0.5).any():
        raise Refused(_outside(name, "a contour"))
    return k, index[:, 1:]


def _place(ct: highdicom.Volume, k: int) -> str:
    """Return a slice in words: its number from the foot (or whatever end lies lowest), and its height in mm."""
    number = k + 1 if ct.affine[2, 0] > 0 else ct.spatial_shape[0] - k
    return f"slice {number} from below at {(ct.affine @ [k, 0, 0, 1])[2]:g} mm"


def _refuse_skipped(drawn: list[int], ct: highdicom.Volume, name: str) -> None:
    skipped = sorted(set(range(drawn[0], drawn[-1] + 1)) - set(drawn))
    if not skipped:
        return
    if len(drawn) > 1 and np.diff(drawn).min() > 1:
        value = f"{name}: contours on {len(drawn)} slices of {drawn[-1] - drawn[0] + 1}, no two side by side"
    else:
        places = ", ".join(_place(ct, k) for k in skipped[:3]) + ", ..." * (len(skipped) > 3)
        value = f"{name}: {how_many(len(skipped), 'slice')} without a contour between drawn ones, {places}"
    remedy = "draw or interpolate them; two tumours are two structures"
    raise Refused(_mask_fault(value, "a contour on every slice", remedy))


UNKNOWN = "unknown"
NO_CONTRAST_HU = 75.0  # above blood, below any enhanced vessel
PORTAL_AORTA_HU = (100.0, 220.0)  # 150, 3.5 SD to the bright side
MIXED = 0.6  # vena cava over aorta: 0.87 in the portal venous phase, below one half before blood returns from the legs
VESSELS = {
    "aorta": re.compile(r"((abdominal|infrarenal|thoracic|descending) )?aorta( abdominalis)?", re.IGNORECASE),
    "IVC": re.compile(r"ivc|((infrarenal|infrahepatic) )?inferior vena cava|vena cava( inferior)?", re.IGNORECASE),
}


def vessel_of(structure: str) -> str:
    """Return ``aorta`` or ``IVC`` for the name of a structure; empty for any other, ``tumour of the IVC`` included."""
    words = " ".join(re.split(r"[\s_-]+", structure.strip()))
    return next((vessel for vessel, pattern in VESSELS.items() if pattern.fullmatch(words)), "")


def plausible_phase(median_hu: Mapping[str, float]) -> str:
    """Return the phase that fits the vessels.

    Parameters
    ----------
    median_hu : mapping
        ``aorta`` and ``IVC`` to their median HU, as far as they are drawn.

    Returns
    -------
    str
        ``non-contrast``, ``arterial``, ``portal venous`` or ``unknown``. Plausible, not proven: a late or weak
        injection can look like another phase.
    """
    if median_hu and max(median_hu.values()) < NO_CONTRAST_HU:
        return "non-contrast"
    if len(median_hu) < len(VESSELS) or median_hu["aorta"] < PORTAL_AORTA_HU[0]:
        return UNKNOWN
    if median_hu["IVC"] < MIXED * median_hu["aorta"]:
        return "arterial"
    return "portal venous" if median_hu["aorta"] <= PORTAL_AORTA_HU[1] else UNKNOWN
