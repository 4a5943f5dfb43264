"""From DICOM to CT volumes: which series lie in a folder, and the gate that lets only sound ones through.

Several readers return a wrong volume without a word where a slice is missing, the gantry was tilted or two phases
share a series. So headers are checked first, each fault with its own words; then highdicom, which rejects what is no
regular volume, reads the voxels. Tolerances are constants of this module: no option raises them. Needs the optional
extra ``dicom``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import highdicom
import nibabel as nib
import numpy as np
from joblib import Parallel, delayed
from pydicom import Dataset
from pydicom.config import disable_value_validation
from pydicom.errors import InvalidDicomError
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    MediaStorageDirectoryStorage,
    RTStructureSetStorage,
    SegmentationStorage,
)

from rps_utils.cohort.contract import Fault
from rps_utils.imaging.formats.bounds import MOST_VOXELS, Unfit
from rps_utils.imaging.volumes import Volume
from rps_utils.ingest.persons import NUMERIC, VOCABULARIES, known_value, quiet_libraries
from rps_utils.ingest.readers.dicom_files import (
    LABELMAP_SEGMENTATION,
    kind_of_other_file,
    read_dicom,
    walk_files,
)
from rps_utils.ingest.readers.pairs import is_image_file
from rps_utils.texts.causes import cause_of
from rps_utils.texts.counts import how_many

SPACING_TOLERANCE_MM = 0.1  # between slices, and sideways from their common axis
ORIENTATION_TOLERANCE = 1e-4  # direction cosines
TILT_TOLERANCE_DEG = 0.1
LEAST_SLICES = 8
SKIPPED_SLICES = 1.5  # slice spacing over slice thickness
_SERIES_KINDS = {
    CTImageStorage: "CT",
    SegmentationStorage: "SEG",
    LABELMAP_SEGMENTATION: "SEG",
    RTStructureSetStorage: "RTSTRUCT",
}

IDENTITY = (
    *("PatientName", "PatientID", "PatientBirthDate", "OtherPatientIDs", "OtherPatientNames", "PatientAddress"),
    *("PatientTelephoneNumbers", "PatientMotherBirthName", "AccessionNumber", "PatientIdentityRemoved"),
    "BurnedInAnnotation",
)
_NEEDED_TAGS = {
    "ImageOrientationPatient": 6,
    "ImagePositionPatient": 3,
    "PixelSpacing": 2,
    "FrameOfReferenceUID": 1,
    "RescaleSlope": 1,
    "RescaleIntercept": 1,
}
GEOMETRY = ("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing")
ONE_VALUE = {
    "Rows": "slices of one matrix",
    "Columns": "slices of one matrix",
    "PixelSpacing": "one pixel spacing",
    "FrameOfReferenceUID": "one frame of reference",
    "PatientID": "one patient",
    "AcquisitionNumber": "one acquisition (phase)",
    "TemporalPositionIdentifier": "one point in time (phase)",
    "ContrastBolusAgent": "one phase",
    "ConvolutionKernel": "one reconstruction",
    "KVP": "one tube voltage",
    "PatientPosition": "one position of the patient",
}
TOLD = frozenset(ONE_VALUE) & {*NUMERIC, *VOCABULARIES}  # of the others, a fault counts the values
TAGS = (
    *IDENTITY,
    *_NEEDED_TAGS,
    *ONE_VALUE,
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "Modality", "ImageType"),
    *("FileSetID", "SliceThickness", "GantryDetectorTilt", "BitsAllocated", "BitsStored", "SamplesPerPixel"),
    *("PhotometricInterpretation", "LossyImageCompression", "Manufacturer", "TransferSyntaxUID"),
)


class Refused(ValueError):
    """A patient's images cannot be used.

    Attributes
    ----------
    faults : list of Fault
        Why.
    """

    def __init__(self, *faults: Fault) -> None:
        super().__init__("; ".join(f"{f.column}: {f.value} (allowed: {f.allowed}; {f.remedy})" for f in faults))
        self.faults = list(faults)


class Series(NamedTuple):
    """The files of one DICOM series.

    Attributes
    ----------
    uid : str
    patient : str
        PatientID of the files.
    kind : str
        ``CT``, ``SEG`` or ``RTSTRUCT``.
    paths : list of Path
    headers : list of pydicom.Dataset
        `TAGS` only, without pixels.
    """

    uid: str
    patient: str
    kind: str
    paths: list[Path]
    headers: list[Dataset]


class Discovery(NamedTuple):
    """What lies in a folder.

    Attributes
    ----------
    series : list of Series
    left_aside : Counter of (str, str)
        How many files of a PatientID were left aside for which reason.
    images : tuple of str
        NIfTI, NRRD and MetaImage files, relative to the folder.
    """

    series: list[Series]
    left_aside: Counter[tuple[str, str]]
    images: tuple[str, ...] = ()


@quiet_libraries()
def read_header(path: Path) -> Dataset | str:
    """Read the tags of `TAGS` from a file, or say what it is that is no DICOM file."""
    try:
        header = read_dicom(path, stop_before_pixels=True, specific_tags=list(TAGS))
        for _ in header:  # pydicom reads a value when it is asked for, and raises then what is wrong with it
            pass
    except InvalidDicomError:
        return kind_of_other_file(path)
    except Unfit as error:
        return error.value
    except Exception:  # a file that only begins as DICOM does makes pydicom raise anything
        return "DICOM file that cannot be read (copy it again)"
    return header


# Vendors and anonymisers write values longer than the standard allows every day; none of them is voxels or geometry.
without_value_warnings = disable_value_validation


@without_value_warnings()
def find_series(source: str | Path, n_jobs: int = 1) -> Discovery:
    """Group the DICOM files below a folder by series.

    Parameters
    ----------
    source : str or Path
        Searched with all its folders; names and extensions of files do not matter. Links are not followed.
    n_jobs : int
        Processes that read headers.

    Returns
    -------
    Discovery
        CT, SEG and RTSTRUCT series. Localizers, secondary captures and other modalities are left aside, counted.

    Raises
    ------
    FileNotFoundError
        `source` is no folder.
    """
    source = Path(source)
    if not source.is_dir():
        raise FileNotFoundError(f"{source} is no folder: give the folder that holds the DICOM files")
    files, links = walk_files(source)
    paths = [path for path in files if not is_image_file(path)]
    images = tuple(path.relative_to(source).as_posix() for path in files if is_image_file(path))
    headers = Parallel(n_jobs=n_jobs, batch_size=64)(delayed(read_header)(path) for path in paths)
    groups: dict[tuple[str, str, str], list[tuple[Path, Dataset]]] = {}
    left_aside = Counter({("", kind): count for kind, count in links.items()})
    for path, header in zip(paths, headers, strict=True):
        reason = header if isinstance(header, str) else reason_to_leave_aside(header)
        if isinstance(header, str) or reason:
            left_aside["" if isinstance(header, str) else str(header.get("PatientID", "")), reason] += 1
            continue
        key = (str(header.get("PatientID", "")), str(header.SeriesInstanceUID), _SERIES_KINDS[header.SOPClassUID])
        groups.setdefault(key, []).append((path, header))
    return Discovery([_series(*key, own) for key, own in groups.items()], left_aside, images)


def _series(patient: str, uid: str, kind: str, files: list[tuple[Path, Dataset]]) -> Series:
    paths, headers = zip(*files, strict=True)
    return Series(uid, patient, kind, list(paths), list(headers))


def reason_to_leave_aside(header: Dataset) -> str:
    """Say why a DICOM file is neither a CT slice nor a segmentation; empty where it is one."""
    kind = header.get("SOPClassUID")
    if kind == MediaStorageDirectoryStorage or header.get("FileSetID") is not None:
        return "DICOMDIR (a table of contents; the images are found without it)"
    if not header.get("SeriesInstanceUID"):
        return "no series UID"
    if kind == EnhancedCTImageStorage:
        return "enhanced multi-frame CT (not supported: export classic CT, one file a slice)"
    if kind not in _SERIES_KINDS:
        return f"no CT image ({known_value('Modality', header.get('Modality')) or 'modality unknown'})"
    image_type = [str(value).upper() for value in header.get("ImageType") or []]
    for word in ("LOCALIZER", "SECONDARY") if _SERIES_KINDS[kind] == "CT" else ():
        if word in image_type:
            return f"{word.lower()} image"
    return ""


def series_faults(headers: Sequence[Dataset]) -> list[Fault]:
    """List what keeps CT slices from being one volume in Hounsfield units, from their headers.

    Parameters
    ----------
    headers : sequence of pydicom.Dataset
        One a slice, in any order.

    Returns
    -------
    list of Fault
        Empty where the series is one regular volume: one orientation, unique positions, slice spacing uniform
        within 0.1 mm, slices stacked at right angles, one acquisition and reconstruction, grey values of 12 bits or
        more with a rescale.
    """
    try:
        lacking = list(_lacking(headers))
        further = (_instance_faults, _grey_faults, _mixture_faults, _stack_faults)
        return lacking or [fault for look in further for fault in look(headers)]
    except (ValueError, TypeError) as error:
        return [
            Fault(
                "CT series", f"unreadable header: {cause_of(error)}", "values as DICOM defines them", "export it again"
            )
        ]


def _lacking(headers: Sequence[Dataset]) -> Iterator[Fault]:
    for name, length in _NEEDED_TAGS.items():
        values = [h.get(name) for h in headers]
        found = [1 if isinstance(v, str | float | int) else len(v) for v in values if v not in (None, "")]
        without = len(headers) - sum(n == length for n in found)
        if without:
            remedy = "export the original series from the archive"
            yield Fault("CT series", f"{without} of {len(headers)} slices without {name}", f"{name} in each", remedy)
        elif name in GEOMETRY and not np.isfinite(np.array(values, float)).all():
            yield Fault("CT series", f"{name} with a value that is no number", "finite mm", "export the series again")
    if len(headers) < LEAST_SLICES:
        value = how_many(len(headers), "slice")
        yield Fault("CT series", value, f"{LEAST_SLICES} slices or more", "export the whole series")
    voxels = float(headers[0].get("Rows") or 0) * float(headers[0].get("Columns") or 0) * len(headers)
    if voxels > MOST_VOXELS:
        yield Fault("CT series", f"{voxels:.1e} voxels", f"{MOST_VOXELS:.0e} at most", "split the series")


def _instance_faults(headers: Sequence[Dataset]) -> Iterator[Fault]:
    """Slices at places of their own that share one UID: a de-identification that gave all of them the same."""
    instances = len({str(h.get("SOPInstanceUID")) for h in headers})
    places = len({tuple(h.ImagePositionPatient) for h in headers})
    if instances < places:
        value = f"{places} slices with {how_many(instances, 'SOPInstanceUID')}"
        remedy = "de-identify again, with a new UID for each slice"
        yield Fault("CT series", value, "a SOPInstanceUID of its own for each slice", remedy)


def _grey_faults(headers: Sequence[Dataset]) -> Iterator[Fault]:
    first = headers[0]
    stored = min(int(h.get("BitsStored") or 0) for h in headers)
    if stored < 12:
        yield Fault(
            "CT series", f"{how_many(stored, 'bit')} a pixel", "12 to 16 bits", "export the original, not a screen copy"
        )
    photometric = {known_value("PhotometricInterpretation", h.get("PhotometricInterpretation")) for h in headers}
    if photometric != {"MONOCHROME2"} or int(first.get("SamplesPerPixel") or 1) != 1:
        yield Fault("CT series", f"pixels {', '.join(sorted(photometric))}", "MONOCHROME2", "export the original")
    if any(str(h.get("LossyImageCompression", "00")) == "01" for h in headers):
        yield Fault("CT series", "lossy compression", "uncompressed or lossless", "export the original")
    if any(float(h.RescaleSlope) == 0 for h in headers):
        yield Fault("CT series", "RescaleSlope 0", "a slope above 0", "export the original")
    if any(str(h.get("BurnedInAnnotation", "")).upper() == "YES" for h in headers):
        yield Fault("CT series", "BurnedInAnnotation YES", "pixels without text", "export the images without overlay")


def _mixture_faults(headers: Sequence[Dataset]) -> Iterator[Fault]:
    for name, allowed in ONE_VALUE.items():
        values = sorted({_plain(h.get(name)) for h in headers})
        if len(values) > 1:
            told = sorted({known_value(name, h.get(name)) for h in headers}) if name in TOLD else []
            shown = (
                ", ".join(value or "none" for value in told[:4]) if len(told) > 1 else how_many(len(values), "value")
            )
            yield Fault("CT series", f"{name} {shown}", allowed, "split the series, keep the wanted part")


def _plain(value: object) -> str:
    if value is None:
        return ""
    parts = [value] if isinstance(value, str | float | int) else list(value)  # type: ignore[call-overload]
    return " x ".join(f"{p:g}" if isinstance(p, float) else str(p) for p in parts)


def _stack_faults(headers: Sequence[Dataset]) -> Iterator[Fault]:
    orientations = np.array([h.ImageOrientationPatient for h in headers], float)
    if np.ptp(orientations, axis=0).max() > ORIENTATION_TOLERANCE:
        count = len(np.unique(orientations.round(3), axis=0))
        yield Fault("CT series", f"{count} orientations", "one orientation", "take localizer and reformats out")
        return
    normal = np.cross(orientations[0, :3], orientations[0, 3:])
    if not np.isclose(np.linalg.norm(normal), 1, atol=1e-3):
        yield Fault("CT series", "rows and columns not at right angles", "right angles", "export the original")
        return
    positions = np.array([h.ImagePositionPatient for h in headers], float)
    yield from _spacing_faults(np.sort(positions @ normal), headers)
    yield from _tilt_faults(positions - np.outer(positions @ normal, normal), headers)


def _spacing_faults(places: np.ndarray, headers: Sequence[Dataset]) -> Iterator[Fault]:
    steps = np.diff(places)
    usual = float(np.median(steps))
    if steps.min() < SPACING_TOLERANCE_MM:
        repeated = how_many((steps < SPACING_TOLERANCE_MM).sum(), "position")
        value = f"{repeated} twice, first at {places[steps.argmin()]:g} mm"
        yield Fault("CT series", value, "one slice a position", "two phases, or a copy? keep one")
        return
    uneven = np.flatnonzero(np.abs(steps - usual) > SPACING_TOLERANCE_MM)
    if len(uneven):
        yield _uneven(places, steps, usual, uneven)
        return
    thick = min(float(h.get("SliceThickness") or np.inf) for h in headers)
    if usual > SKIPPED_SLICES * thick:
        value = f"slices of {thick:g} mm every {usual:g} mm"
        yield Fault("CT series", value, "slices without gaps", "export all slices of the series")


def _uneven(places: np.ndarray, steps: np.ndarray, usual: float, uneven: np.ndarray) -> Fault:
    gaps = steps[uneven] / usual
    first = f"from {places[uneven[0]]:g} to {places[uneven[0] + 1]:g} mm"
    if (np.abs(gaps - gaps.round()) * usual <= SPACING_TOLERANCE_MM).all() and (gaps.round() > 1).all():
        value = f"{how_many((gaps.round() - 1).sum(), 'slice')} missing, {first}"
        return Fault("CT series", value, "every slice", "export the series again, whole")
    value = f"steps of {steps.min():g} to {steps.max():g} mm, {first}"
    allowed = f"even spacing within {SPACING_TOLERANCE_MM:g} mm"
    return Fault("CT series", value, allowed, "split the series, or reconstruct it with one spacing")


def _tilt_faults(sideways: np.ndarray, headers: Sequence[Dataset]) -> Iterator[Fault]:
    drift = float(np.linalg.norm(sideways - sideways[0], axis=1).max())
    tilt = max(abs(float(h.get("GantryDetectorTilt") or 0)) for h in headers)
    remedy = "reconstruct without tilt, or correct it with a tool for that"
    if drift > SPACING_TOLERANCE_MM:
        value = f"slices drift sideways by {drift:.3g} mm"
        yield Fault("CT series", value, f"gantry not tilted: {SPACING_TOLERANCE_MM:g} mm at most", remedy)
    elif tilt > TILT_TOLERANCE_DEG:
        value = f"GantryDetectorTilt {tilt:g} degrees, but slices stacked straight"
        yield Fault("CT series", value, "gantry not tilted", remedy)


def read_ct(series: Series) -> highdicom.Volume:
    """Read the voxels of a series that passed `series_faults`, in HU (float32), on highdicom's own axes.

    Raises
    ------
    Refused
        Pixels cannot be decoded, or highdicom finds no regular volume.
    """
    try:
        datasets = [read_dicom(path) for path in series.paths]
        return highdicom.get_volume_from_series(
            datasets,
            dtype=np.float32,
            apply_modality_transform=True,
            apply_real_world_transform=False,
            apply_presentation_lut=False,
            atol=SPACING_TOLERANCE_MM,
            orientation_tol=ORIENTATION_TOLERANCE,
        )
    except (ValueError, RuntimeError, AttributeError, NotImplementedError, OSError, EOFError) as error:
        value = f"unreadable: {cause_of(error)}"
        remedy = "copy the files again; decompress them if a decoder is missing"
        raise Refused(Fault("CT series", value, "slices that form a volume", remedy)) from error


def to_ras(values: np.ndarray, geometry: highdicom.Volume) -> Volume:
    """Turn voxels on highdicom's axes into a volume with axes right, front, head, without interpolation."""
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ geometry.affine
    image = nib.as_closest_canonical(nib.Nifti1Image(values, affine))
    return Volume(np.ascontiguousarray(image.dataobj), image.affine)


def whole_hu(values: np.ndarray) -> np.ndarray:
    """Round HU to int16.

    Raises
    ------
    Refused
        Values lie outside of what int16 holds.
    """
    rounded = np.rint(values)
    limits = np.iinfo(np.int16)
    if rounded.min() < limits.min or rounded.max() > limits.max:
        value = f"{rounded.min():g} to {rounded.max():g} HU"
        raise Refused(Fault("CT series", value, "HU up to 4000", "export the original with its own rescale"))
    return rounded.astype(np.int16)
