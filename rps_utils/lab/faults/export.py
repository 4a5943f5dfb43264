"""A library of faults: each is planted in a sound synthetic cohort and has to be named by the gate it meets.

For tests, and for whoever wants to practise: plant one, look at the files, then ask the gate. The cohorts are small
and synthetic. Needs the optional extra ``dicom``.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from pydicom import Dataset, dcmread
from pydicom.config import disable_value_validation
from pydicom.uid import UID, EnhancedCTImageStorage, MRImageStorage, generate_uid

from rps_utils.cohort.contract import format_problems
from rps_utils.cohort.manifest import check_manifest
from rps_utils.files import read_csv, write_csv, write_text
from rps_utils.imaging.volumes import Volume, write_volume
from rps_utils.ingest.export import ingest
from rps_utils.lab.faults.manifest import (
    MANIFEST_FAULTS,
    SHAPE,
    SPACING,
    PlantedFault,
    clinical_rows,
    small_scan,
    write_cell,
    write_small_manifest,
)
from rps_utils.lab.phantom.dicom import (
    MASK_KINDS,
    edit_files,
    save,
    write_ct,
    write_dicom_patient,
    write_rtstruct,
    write_seg,
)


def write_small_cohort(folder: Path) -> Path:
    """Write six synthetic patients as DICOM, with ``clinical.csv``; return that table."""
    table = clinical_rows()
    for number, patient in enumerate(table["patient_id"]):
        write_dicom_patient(*small_scan(number + 1), patient, folder, MASK_KINDS[number % 2])
    return write_csv(table, folder / "clinical.csv")


def write_sound(gate: str, folder: Path) -> Path:
    """Write the sound cohort of a gate."""
    return {"ingest": write_small_cohort, "check": write_small_manifest}[gate](folder)


def findings(gate: str, folder: Path, out: Path) -> str:
    """Return what a gate says of a cohort; empty where it finds nothing.

    Parameters
    ----------
    gate : {"ingest", "check"}
    folder : Path
        From `write_sound`, with or without a fault. A mapping ``map.yml`` in it is used.
    out : Path
        Where ``ingest`` may write.
    """
    if gate == "check":
        problems = check_manifest(folder / "data_manifest.csv")
        return format_problems(problems) if problems else ""
    mapping = folder / "map.yml"
    table = next(iter(folder.glob("clinical.*")))
    try:
        done = ingest(folder, table, out, mapping if mapping.is_file() else None, progress=lambda line: None)
    except (ValueError, FileNotFoundError) as error:
        return str(error)
    return "\n".join("  ".join(map(str, row)) for row in done.quarantine.itertuples(index=False))


def _slices(folder: Path, patient: str = "P2") -> list[Path]:
    return sorted((folder / patient / "CT").glob("*.dcm"))


def _headers(part: slice = slice(None), patient: str = "P2", **attributes: object) -> Callable[[Path], None]:
    """Set attributes in some of a patient's slices."""
    return lambda folder: edit_files(_slices(folder, patient)[part], **attributes)


def _move(shift: Callable[[int], tuple[float, float, float]]) -> Callable[[Path], None]:
    """Move slice k of P2 by ``shift(k)`` mm."""

    def plant(folder: Path) -> None:
        for k, path in enumerate(_slices(folder)):
            header = dcmread(path)
            place = np.array(header.ImagePositionPatient, float) + shift(k)
            edit_files([path], ImagePositionPatient=[f"{v:.6g}" for v in place])

    return plant


def _remove(part: slice, patient: str = "P2") -> Callable[[Path], None]:
    def plant(folder: Path) -> None:
        for path in _slices(folder, patient)[part]:
            path.unlink()

    return plant


def _copies(**attributes: object) -> Callable[[Path], None]:
    """Put a second set of slices into the series of P2."""

    def plant(folder: Path) -> None:
        for path in _slices(folder):
            copy = path.with_name(f"b{path.name}")
            shutil.copy(path, copy)
            edit_files([copy], SOPInstanceUID=generate_uid(entropy_srcs=[path.name, "b"]), **attributes)

    return plant


def _half_way_between(folder: Path) -> None:
    _copies(AcquisitionNumber=2)(folder)
    for path in sorted((folder / "P2" / "CT").glob("b*.dcm")):
        place = [float(v) for v in dcmread(path).ImagePositionPatient]
        edit_files([path], ImagePositionPatient=[*place[:2], place[2] + SPACING[2] / 2])


def _eight_bits(folder: Path) -> None:
    pixels = bytes(SHAPE[0] * SHAPE[1])
    _headers(BitsAllocated=8, BitsStored=8, HighBit=7, PixelData=pixels)(folder)


def _short_matrix(folder: Path) -> None:
    path = _slices(folder)[5]
    pixels = dcmread(path).pixel_array[:-2]
    edit_files([path], Rows=len(pixels), PixelData=pixels.tobytes())


def _cut_file(path: str, share: float) -> Callable[[Path], None]:
    def plant(folder: Path) -> None:
        content = (folder / path).read_bytes()
        (folder / path).write_bytes(content[: int(len(content) * share)])

    return plant


def _write_file(path: str, text: str) -> Callable[[Path], object]:
    return lambda folder: write_text(text, folder / path)


def _sop_class(uid: UID) -> Callable[[Path], None]:
    def plant(folder: Path) -> None:
        for path in _slices(folder):
            header = dcmread(path)
            header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = uid
            save(header, path)

    return plant


def _second_series(folder: Path) -> None:
    ct, mask = small_scan(2)
    images = write_ct(ct, "P2", folder / "P2" / "late", series="late")
    write_rtstruct(mask, images, folder / "P2" / "late.dcm")


def _twin_of_p1(folder: Path) -> None:
    shutil.rmtree(folder / "P5")
    write_dicom_patient(*small_scan(1), "P5", folder, "seg")


def _everywhere(patient: str, **attributes: object) -> Callable[[Path], None]:
    """Set attributes in all files of a patient."""
    return lambda folder: edit_files(sorted((folder / patient).rglob("*.dcm")), **attributes)


def _seg(change: Callable[[Dataset], object]) -> Callable[[Path], None]:
    """Change the SEG of P3."""
    return _document("P3/seg.dcm", change)


def _rtstruct(change: Callable[[Dataset], object]) -> Callable[[Path], None]:
    """Change the RTSTRUCT of P2."""
    return _document("P2/rtstruct.dcm", change)


def _document(name: str, change: Callable[[Dataset], object]) -> Callable[[Path], None]:
    def plant(folder: Path) -> None:
        document = dcmread(folder / name)
        change(document)
        save(document, folder / name)

    return plant


def _set(**attributes: object) -> Callable[[Dataset], None]:
    def change(document: Dataset) -> None:
        for name, value in attributes.items():
            setattr(document, name, value)

    return change


def _move_frames(mm: float) -> Callable[[Dataset], None]:
    def change(document: Dataset) -> None:
        for frame in document.PerFrameFunctionalGroupsSequence:
            place = frame.PlanePositionSequence[0]
            x, y, z = (float(v) for v in place.ImagePositionPatient)
            place.ImagePositionPatient = [x + mm, y, z]

    return change


def _move_contours(*mm: float) -> Callable[[Dataset], None]:
    def change(document: Dataset) -> None:
        for contour in document.ROIContourSequence[0].ContourSequence:
            points = np.array(contour.ContourData, float).reshape(-1, 3) + mm
            contour.ContourData = [f"{v:.6g}" for v in points.ravel()]

    return change


def _every_second_contour(document: Dataset) -> None:
    roi = document.ROIContourSequence[0]
    roi.ContourSequence = list(roi.ContourSequence)[::2]


def _points_only(document: Dataset) -> None:
    for contour in document.ROIContourSequence[0].ContourSequence:
        contour.ContourGeometricType = "POINT"


def _no_structure(document: Dataset) -> None:
    document.StructureSetROISequence = document.ROIContourSequence = []


def _new_seg(
    edit: Callable[[np.ndarray], object], labels: tuple[str, ...] = ("tumour",), **attributes: object
) -> Callable[[Path], None]:
    """Draw the SEG of P3 anew, from an edited mask."""

    def plant(folder: Path) -> None:
        mask = small_scan(3)[1]
        edit(mask.values)
        write_seg(mask, [dcmread(path) for path in _slices(folder, "P3")], folder / "P3" / "seg.dcm", labels)
        edit_files([folder / "P3" / "seg.dcm"], **attributes)

    return plant


def _to_the_end(values: np.ndarray) -> None:
    values[:, :, :12] = values[:, :, 12:13]


def _second_label(values: np.ndarray) -> None:
    values[20:24, 12:16, 20:24] = 2


def _speck(values: np.ndarray) -> None:
    values[:] = 0
    values[11, 10, 12:14] = 1


def _mask_of_p1(folder: Path) -> None:
    shutil.copy(folder / "P1" / "seg.dcm", folder / "P3" / "seg.dcm")
    edit_files([folder / "P3" / "seg.dcm"], PatientID="P3")


def _nifti_mask(name: str, label: int = 1, spacing: tuple[float, ...] = SPACING) -> Callable[[Path], None]:
    """Give P3 a NIfTI mask, named in a column of the table."""

    def plant(folder: Path) -> None:
        mask = small_scan(3)[1]
        affine = np.diag([*spacing, 1.0])
        affine[:3, 3] = mask.affine[:3, 3]
        if name.startswith("m"):
            write_volume(Volume(mask.values * np.uint8(label), affine), folder / name)
        _cell("mask", name, 2)(folder)

    return plant


def _cell(column: str, value: str, row: int = 1) -> Callable[[Path], None]:
    return write_cell(column, value, row, "clinical.csv")


def _text(old: str, new: str, table: str = "clinical.csv", encoding: str = "utf-8") -> Callable[[Path], None]:
    def plant(folder: Path) -> None:
        text = (folder / table).read_text(encoding="utf-8")
        (folder / table).write_text(text.replace(old, new, 1 if old != "," else -1), encoding=encoding)

    return plant


def _map(text: str) -> Callable[[Path], object]:
    return _write_file("map.yml", text)


def _excel(sheets: int, cell: object = None) -> Callable[[Path], None]:
    """Turn the table into Excel."""

    def plant(folder: Path) -> None:
        table = read_csv(folder / "clinical.csv").astype(object)
        if cell is not None:
            table.loc[1, "time_months"] = cell
        with pd.ExcelWriter(folder / "clinical.xlsx") as book:
            for number in range(sheets):
                table.to_excel(book, sheet_name=f"sheet{number}", index=False)
        (folder / "clinical.csv").unlink()

    return plant


CORONAL = [1, 0, 0, 0, 0, -1]
OTHER_UID = generate_uid(entropy_srcs=["elsewhere"])

SERIES_FAULTS = {
    "missing slice": ("one slice is deleted", "1 slice missing", _remove(slice(10, 11))),
    "text instead of a slice": ("a slice becomes a text", "1 slice missing", _write_file("P2/CT/0010.dcm", "lost")),
    "first slice lost": ("a slice that was drawn on is deleted", "1 image that the CT series", _remove(slice(0, 1))),
    "every second slice": ("half of the slices are deleted", "slices of 5 mm every 10", _remove(slice(0, None, 2))),
    "few slices": ("five slices are left", "5 slices", _remove(slice(5, None))),
    "two spacings": ("5 mm, then 7 mm", "steps of 5 to 7 mm", _move(lambda k: (0, 0, max(0, 2.0 * (k - 19))))),
    "one slice off its place": (
        "a slice lies 0.5 mm too high",
        "4.5 to 5.5 mm",
        _move(lambda k: (0, 0, 0.5 * (k == 9))),
    ),
    "gantry tilt": ("slices are sheared by 15 degrees", "drift sideways", _move(lambda k: (0, 1.34 * k, 0))),
    "gantry tilt in the tag only": ("GantryDetectorTilt 15", "GantryDetectorTilt 15", _headers(GantryDetectorTilt=15)),
    "localizer mixed in": (
        "a slice is coronal, unmarked",
        "2 orientations",
        _headers(slice(0, 1), ImageOrientationPatient=CORONAL),
    ),
    "two phases": ("a second set at the same places", "AcquisitionNumber 1, 2", _copies(AcquisitionNumber=2)),
    "two phases, unnumbered": ("the same with one number", "32 positions twice", _copies()),
    "two phases, half-way between": ("a second set in the gaps", "AcquisitionNumber 1, 2", _half_way_between),
    "contrast in half of the slices": (
        "an agent is named in some",
        "ContrastBolusAgent none, Iodine",
        _headers(slice(0, 9), ContrastBolusAgent="Iodine"),
    ),
    "two points in time": (
        "two phases by the tag",
        "TemporalPosition",
        _headers(slice(9), TemporalPositionIdentifier=2),
    ),
    "two kernels": ("one slice is sharper", "ConvolutionKernel", _headers(slice(3, 4), ConvolutionKernel="BONE")),
    "two voltages": ("half at 80 kV", "KVP 120, 80", _headers(slice(9), KVP=80)),
    "patient turned": ("half feet first", "PatientPosition FFS, HFS", _headers(slice(9), PatientPosition="FFS")),
    "pixel spacing differs": (
        "one slice with 6 x 6 mm",
        "PixelSpacing 6 x 5.5, 6 x 6",
        _headers(slice(1), PixelSpacing=[6, 6]),
    ),
    "matrix differs": ("one slice lacks two rows", "Rows 34, 36", _short_matrix),
    "two frames of reference": (
        "a slice from elsewhere",
        "FrameOfRef",
        _headers(slice(1), FrameOfReferenceUID=OTHER_UID),
    ),
    "no frame of reference": ("the tag is gone", "without FrameOfReferenceUID", _headers(FrameOfReferenceUID=None)),
    "no position": (
        "the tag is gone in one",
        "1 of 32 slices without ImagePositionPatient",
        _headers(slice(1), ImagePositionPatient=None),
    ),
    "8-bit copy": ("grey values for a screen", "8 bits a pixel", _eight_bits),
    "no rescale": ("slope is gone", "without RescaleSlope", _headers(RescaleSlope=None)),
    "unrescaled": ("intercept 0 for values from 0 up", "air present", _headers(RescaleIntercept=0)),
    "slope ten times": ("RescaleSlope 10", "maximum", _headers(RescaleSlope=10)),
    "slope of zero": ("RescaleSlope 0", "RescaleSlope 0", _headers(RescaleSlope=0)),
    "lossy compression": ("the tag says lossy", "lossy compression", _headers(LossyImageCompression="01")),
    "text in the pixels": ("burned-in annotation", "BurnedInAnnotation YES", _headers(BurnedInAnnotation="YES")),
    "inverted grey values": ("MONOCHROME1", "pixels MONOCHROME1", _headers(PhotometricInterpretation="MONOCHROME1")),
    "half a file": ("a slice is cut short", "unreadable", _cut_file("P2/CT/0007.dcm", 0.6)),
    "MR instead of CT": ("another modality", "32 no CT image", _sop_class(MRImageStorage)),
    "enhanced CT": ("multi-frame kind", "32 enhanced multi-frame CT", _sop_class(EnhancedCTImageStorage)),
    "secondary images": ("reformats only", "32 secondary image", _headers(ImageType=["DERIVED", "SECONDARY", "MPR"])),
    "two series drawn on": ("an early and a late series", "2 CT series with 32, 32 slices", _second_series),
    "scan under two ids": ("P5 is P1 once more", "same voxels as P1", _twin_of_p1),
}

MASK_FAULTS = {
    "no segmentation": ("the file is deleted", "none for this patient", lambda f: (f / "P3" / "seg.dcm").unlink()),
    "mask with another patient's id": (
        "PatientID of the SEG",
        "PatientID is not that of the CT",
        _seg(_set(PatientID="P1")),
    ),
    "wrong patient's mask": ("P1's SEG under P3's name", "none of the patient's CT series", _mask_of_p1),
    "mask in another frame": (
        "frame of reference",
        "another frame of reference",
        _seg(_set(FrameOfReferenceUID=OTHER_UID)),
    ),
    "half a SEG": ("the file is cut short", "segmentation", _cut_file("P3/seg.dcm", 0.9)),
    "empty SEG": (
        "no pixel set",
        "no voxel labelled",
        _seg(lambda d: setattr(d, "PixelData", bytes(len(d.PixelData)))),
    ),
    "SEG off the grid": ("moved by half a pixel", "not on the grid of the CT", _seg(_move_frames(2.7))),
    "SEG far away": ("moved by 220 mm", "outside the CT", _seg(_move_frames(220))),
    "fractional SEG": ("probabilities", "fractional segmentation", _seg(_set(SegmentationType="FRACTIONAL"))),
    "two segments": (
        "a node beside the tumour",
        "2 structures: tumour, node",
        _new_seg(_second_label, ("tumour", "node")),
    ),
    "tumour beyond the scan": (
        "drawn down to the first slice",
        "cut off at the border of the scan (foot end)",
        _new_seg(_to_the_end),
    ),
    "speck": ("two voxels", "0.33 ml", _new_seg(_speck)),
    "contours between slices": ("moved by 2 mm along z", "2 mm off its slice", _rtstruct(_move_contours(0, 0, 2))),
    "contours on every second slice": ("half are deleted", "no two side by side", _rtstruct(_every_second_contour)),
    "contours far away": ("moved by 500 mm", "a contour outside the CT", _rtstruct(_move_contours(500, 0, 0))),
    "contours on air": ("moved 84 mm to the front", "HU inside", _rtstruct(_move_contours(0, -84, 0))),
    "points only": ("no closed contour", "without closed contours", _rtstruct(_points_only)),
    "no structure": ("an empty structure set", "no structure in the file", _rtstruct(_no_structure)),
    "structure of another name": ("the mapping names GTV", "one of roi: GTV", _map("segments: named\nroi: GTV\n")),
    "NIfTI label 255": ("0 and 255", "labels 255", _nifti_mask("m.nii.gz", 255)),
    "NIfTI mask, spacing swapped": (
        "axes exchanged",
        "affine off by",
        _nifti_mask("m.nii.gz", spacing=(6.0, 5.5, 5.0)),
    ),
    "NIfTI mask by address": ("a URL as path", "forward slashes", _nifti_mask("https://example.org/a.nii.gz")),
    "NIfTI mask from outside": ("a path that climbs", "below the manifest", _nifti_mask("../../a.nii.gz")),
}

PERSON_FAULTS = {
    "name in the header": ("Doe^Jane", "PatientName is filled (not shown)", _everywhere("P2", PatientName="Doe^Jane")),
    "birth date in the header": (
        "19500102",
        "PatientBirthDate is filled",
        _everywhere("P2", PatientBirthDate="19500102"),
    ),
    "address in the header": ("a street", "PatientAddress is filled", _headers(PatientAddress="1 Long Street")),
    "real id": ("eight digits in the table", "looks like a real id (not shown)", _cell("patient_id", "48151623")),
    "id that is a path": ("../../P2", "1 to 64 letters", _cell("patient_id", "../../P2")),
    "id that is a name": ("Jane Doe", "(not shown)", _cell("patient_id", "Jane Doe")),
    "column that identifies": ("date_of_birth", "'date_of_birth' identifies", _cell("date_of_birth", "1950")),
    "full date": ("a date as clinical value", "a date (not shown)", _cell("surgery", "2019-03-04")),
    "patient without files": ("a row more", "no CT series with this PatientID", _cell("patient_id", "P9")),
    "files without a row": (
        "a patient is left out of the table",
        "a row in the clinical table",
        _text("P2,13.5,0,47,G2\n", ""),
    ),
}

TABLE_FAULTS = {
    "event in words": ("yes", "event  yes  0 (no local", _cell("event", "yes")),
    "unknown event code": ("3", "2 (death without it)", _cell("event", "3")),
    "negative time": ("-3", "months above 0", _cell("time_months", "-3")),
    "time in days": ("1460", "months up to 600", _cell("time_months", "1460")),
    "date as time": ("2021-05-06", "no full dates", _cell("time_months", "2021-05-06")),
    "decimal comma": ("12,5", "decimal point", _cell("time_months", "12,5")),
    "code for missing": ("-999, unannounced", "empty cell where it is missing", _cell("age", "-999")),
    "number with a unit": ("56 y", "digits only", _cell("age", "56 y")),
    "formula cell": ("=HYPERLINK(...)", "a value, no formula", _cell("grade", '=HYPERLINK("http://x","G1")')),
    "duplicated patient": ("P1 twice", "P1 again", _cell("patient_id", "P1")),
    "row too short": ("a cell is missing", "4 cells, the header has 5", _text("P2,13.5,0,47,G2", "P2,13.5,0,47")),
    "semicolons": ("another separator", "separated by commas", _text(",", ";")),
    "other encoding": ("UTF-16", "CSV UTF-8", _text("", "", encoding="utf-16")),
    "column twice": ("age under two heads", "'age' stands twice", _text("grade", "age")),
    "column missing": ("no event", "no column 'event'", _text("event", "status")),
    "mapping names no column": (
        "a name misspelt",
        "no column 'Event'",
        _map("columns: {patient_id: patient_id, event: Event}"),
    ),
    "mapping with an unknown key": ("colums:", "unknown key 'colums'", _map("colums: {}")),
    "mapping with an unknown rule": ("segments: biggest", "'biggest' given", _map("segments: biggest")),
    "code not in the mapping": ("G3 has no code", "the codes G1, G2", _map("codes: {grade: {G1: low, G2: high}}")),
    "two sheets": ("which one?", "sheet not named", _excel(2)),
    "Excel formula": ("=6*2", "a value, no formula", _excel(1, "=6*2")),
    "Excel date": ("a date as time", "no full dates", _excel(1, pd.Timestamp("2021-05-06"))),
}

FAULTS: dict[str, PlantedFault] = {
    name: PlantedFault(gate, *fault)
    for gate, part in (
        ("ingest", SERIES_FAULTS),
        ("ingest", MASK_FAULTS),
        ("ingest", PERSON_FAULTS),
        ("ingest", TABLE_FAULTS),
    )
    for name, fault in part.items()
} | MANIFEST_FAULTS


@disable_value_validation()
def plant(name: str, folder: Path) -> PlantedFault:
    """Plant a fault of `FAULTS` in a folder that `write_sound` has written, and return its description."""
    if name not in FAULTS:
        raise ValueError(f"no fault {name!r}; there are {', '.join(FAULTS)}")
    FAULTS[name].plant(folder)
    return FAULTS[name]
