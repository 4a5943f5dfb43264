"""Write a CT and its mask as DICOM: a CT series, DICOM-SEG, RTSTRUCT. For synthetic cohorts and tests only.

The writer knows nothing of the reader (`rps_utils.dicom`), so that each can show a fault of the other. Needs the
optional extra ``dicom``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from pydicom import Dataset, dcmread
from pydicom import Sequence as DicomSequence
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid
from pydicom.valuerep import DSfloat

from rps_utils.cohort.contract import FILES, HASHES
from rps_utils.files import read_csv, whole_file, write_csv
from rps_utils.imaging.volumes import Volume, load_pair

INTERCEPT = -1024
MASK_KINDS = ("seg", "rtstruct")


def lps_slices(volume: Volume) -> tuple[np.ndarray, np.ndarray]:
    """Turn a RAS volume into DICOM's order: slices, rows toward the back, columns toward the left.

    Returns
    -------
    slices : numpy.ndarray, shape (slices, rows, columns)
    affine : numpy.ndarray, 4 x 4
        Index (column, row, slice) to mm in DICOM's frame (left, back, head).
    """
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    flip[:2, 3] = np.array(volume.values.shape[:2]) - 1
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine @ flip
    return volume.values[::-1, ::-1].T, affine


def _decimals(values: Sequence[float]) -> list[DSfloat]:
    return [DSfloat(float(v) + 0.0, auto_format=True) for v in values]


def write_ct(volume: Volume, patient: str, folder: Path, series: str = "CT", frame: str = "") -> list[Dataset]:
    """Write a CT series, one file a slice, and return its datasets.

    Parameters
    ----------
    volume : Volume
        Whole HU, -1024 to 64511, RAS.
    patient : str
        Becomes name and id.
    folder : Path
        Gets ``0000.dcm``, ``0001.dcm`` ... from feet to head.
    series : str
        Different names give different series UIDs.
    frame : str
        Different names give different frames of reference.
    """
    slices, affine = lps_slices(volume)
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for k, hu in enumerate(slices):
        header = _ct_header(patient, series, frame, k)
        _place(header, affine, k)
        _set_pixels(header, hu)
        save(header, folder / f"{k:04d}.dcm")
        made.append(header)
    return made


def _ct_header(patient: str, series: str, frame: str, k: int) -> Dataset:
    header = _patient_header(patient, CTImageStorage, f"{series} {k}")
    header.Modality = "CT"
    header.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    header.SeriesInstanceUID = generate_uid(entropy_srcs=[patient, series])
    header.FrameOfReferenceUID = generate_uid(entropy_srcs=[patient, "frame", frame])
    header.SeriesNumber, header.AcquisitionNumber, header.InstanceNumber = 1, 1, k + 1
    header.KVP, header.GantryDetectorTilt, header.ConvolutionKernel = 120, 0, "SYNTHETIC"
    header.PatientPosition, header.PositionReferenceIndicator = "HFS", ""
    return header


def _patient_header(patient: str, sop_class: UID, name: str) -> Dataset:
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID = sop_class
    instance = generate_uid(entropy_srcs=[patient, name])
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID = instance
    header.StudyInstanceUID = generate_uid(entropy_srcs=[patient])
    header.PatientName, header.PatientID = f"{patient}^", patient
    header.PatientBirthDate = header.PatientSex = header.AccessionNumber = header.StudyID = ""
    header.StudyDate, header.StudyTime, header.ReferringPhysicianName = "20000101", "000000", ""
    header.Manufacturer = "synthetic"
    header.PatientIdentityRemoved, header.DeidentificationMethod = "YES", "synthetic, no person"
    return header


def _place(header: Dataset, affine: np.ndarray, k: int) -> None:
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    axes = affine[:3, :3] / spacing
    header.ImageOrientationPatient = _decimals([*axes[:, 0], *axes[:, 1]])
    header.ImagePositionPatient = _decimals(affine[:3, 3] + k * affine[:3, 2])
    header.PixelSpacing = _decimals([spacing[1], spacing[0]])  # between rows first
    header.SliceThickness = _decimals([spacing[2]])[0]


def _set_pixels(header: Dataset, hu: np.ndarray) -> None:
    if hu.min() < INTERCEPT:
        raise ValueError(f"{hu.min()} HU cannot be stored: the least is {INTERCEPT}")
    header.Rows, header.Columns = hu.shape
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 16, 15, 0
    header.RescaleSlope, header.RescaleIntercept, header.RescaleType = 1, INTERCEPT, "HU"
    header.PixelData = (hu.astype(np.int32) - INTERCEPT).astype("<u2").tobytes()


def save(header: Dataset, path: Path) -> None:
    """Write one dataset as a DICOM file."""
    with whole_file(path) as partial:
        header.save_as(partial, enforce_file_format=True)


def write_seg(mask: Volume, images: Sequence[Dataset], path: Path, labels: Sequence[str] = ("tumour",)) -> None:
    """Write a mask as binary DICOM-SEG; label value i + 1 becomes the segment ``labels[i]``.

    Segments that overlap come as a fourth axis of the mask: ``mask.values[..., i]`` is then ``labels[i]``.
    """
    from highdicom import AlgorithmIdentificationSequence, seg
    from pydicom.sr.codedict import codes

    values = mask.values if mask.values.ndim == 4 else mask.values[..., None] == np.arange(1, len(labels) + 1)
    parts = [lps_slices(Volume(part, mask.affine))[0] for part in np.moveaxis(values, -1, 0)]
    method = AlgorithmIdentificationSequence("truth", codes.DCM.ArtificialIntelligence, "1")
    kinds = (codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Neoplasm, seg.SegmentAlgorithmTypeValues.AUTOMATIC)
    described = [seg.SegmentDescription(i + 1, name, *kinds, method) for i, name in enumerate(labels)]
    pixels = np.stack(parts, axis=-1).astype(np.uint8)
    own = [generate_uid(entropy_srcs=[images[0].PatientID, "seg", path.name, kind]) for kind in ("series", "object")]
    made = seg.Segmentation(
        images,
        pixels,
        seg.SegmentationTypeValues.BINARY,
        described,
        *(own[0], 2, own[1], 1),
        *("synthetic", "synthetic", "1", "0"),
    )
    made.PatientIdentityRemoved, made.DeidentificationMethod = "YES", "synthetic, no person"
    _without_clock(made, generate_uid(entropy_srcs=[*own, "dimensions"]))
    save(made, path)


def _without_clock(made: Dataset, dimensions: str) -> None:
    """Take out of a segmentation what its writer draws anew each time: same input, same bytes."""
    made.InstanceCreationDate, made.InstanceCreationTime = midnight = ("20000101", "000000")
    made.ContentDate, made.ContentTime = midnight
    for equipment in made.get("ContributingEquipmentSequence", []):
        equipment.ContributionDateTime = "".join(midnight)
    for item in (*made.DimensionOrganizationSequence, *made.DimensionIndexSequence):
        item.DimensionOrganizationUID = dimensions


def write_rtstruct(mask: Volume, images: Sequence[Dataset], path: Path, name: str = "tumour") -> None:
    """Write a mask as RTSTRUCT: on each slice the outlines of the voxels, holes as outlines of their own."""
    patient = str(images[0].PatientID)
    header = _patient_header(patient, RTStructureSetStorage, path.name)
    header.Modality, header.StructureSetLabel = "RTSTRUCT", "synthetic"
    header.SeriesInstanceUID = generate_uid(entropy_srcs=[patient, "rtstruct", path.name])
    header.FrameOfReferenceUID = images[0].FrameOfReferenceUID
    header.ReferencedFrameOfReferenceSequence = DicomSequence([_frame_reference(images)])
    roi = _dataset(ROINumber=1, ROIName=name, ReferencedFrameOfReferenceUID=images[0].FrameOfReferenceUID)
    roi.ROIGenerationAlgorithm = "AUTOMATIC"
    header.StructureSetROISequence = DicomSequence([roi])
    slices, affine = lps_slices(mask)
    contours = [
        _contour(outline, affine, k, images[k])
        for k in range(len(slices))
        for outline in (trace_outlines(slices[k] != 0) if slices[k].any() else [])
    ]
    drawn = _dataset(ReferencedROINumber=1, ContourSequence=DicomSequence(contours))
    header.ROIContourSequence = DicomSequence([drawn])
    save(header, path)


def _dataset(**attributes: object) -> Dataset:
    made = Dataset()
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def _frame_reference(images: Sequence[Dataset]) -> Dataset:
    instances = DicomSequence([_image_reference(image) for image in images])
    series = _dataset(SeriesInstanceUID=images[0].SeriesInstanceUID, ContourImageSequence=instances)
    study = _dataset(ReferencedSOPInstanceUID=images[0].StudyInstanceUID, RTReferencedSeriesSequence=[series])
    return _dataset(FrameOfReferenceUID=images[0].FrameOfReferenceUID, RTReferencedStudySequence=[study])


def _image_reference(image: Dataset) -> Dataset:
    return _dataset(ReferencedSOPClassUID=image.SOPClassUID, ReferencedSOPInstanceUID=image.SOPInstanceUID)


def _contour(outline: np.ndarray, affine: np.ndarray, k: int, image: Dataset) -> Dataset:
    points = outline @ affine[:3, :2].T + affine[:3, 2] * k + affine[:3, 3]
    return _dataset(
        ContourGeometricType="CLOSED_PLANAR",
        NumberOfContourPoints=len(points),
        ContourData=_decimals(points.ravel()),
        ContourImageSequence=DicomSequence([_image_reference(image)]),
    )


def trace_outlines(inside: np.ndarray) -> list[np.ndarray]:
    """Return closed outlines along the edges of pixels; inside lies where the outlines cross an odd number of times.

    Parameters
    ----------
    inside : numpy.ndarray of bool, shape (rows, columns)

    Returns
    -------
    list of numpy.ndarray, shape (points, 2)
        Corners (column, row); they lie half-way between pixel centres, so no centre lies on an outline.
    """
    after = _edges(np.pad(inside, 1))
    outlines = []
    while after:
        start = point = next(iter(after))
        outline: list[tuple[int, int]] = []
        while not outline or point != start:
            outline.append(point)
            ends = after[point]
            point = ends.pop()
            if not ends:
                del after[outline[-1]]
        outlines.append(_corners(np.array(outline, float)) - 1.5)
    return outlines


def _edges(padded: np.ndarray) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """Map each pixel corner (column, row) to the next ones of the directed edges between inside and outside."""
    after: dict[tuple[int, int], list[tuple[int, int]]] = {}
    side = padded.astype(np.int8)
    for axis, (dx, dy) in ((0, (1, 0)), (1, (0, 1))):
        change = np.diff(side, axis=axis)
        for row, column in np.argwhere(change):
            # The edge before the pixel on the far side of the change.
            x, y = (column, row + 1) if axis == 0 else (column + 1, row)
            ends = (int(x), int(y)), (int(x + dx), int(y + dy))
            forward = (change[row, column] > 0) == (axis == 0)
            start, end = ends if forward else ends[::-1]
            after.setdefault(start, []).append(end)
    return after


def _corners(outline: np.ndarray) -> np.ndarray:
    """Leave out points in the middle of straight lines."""
    before, behind = outline - np.roll(outline, 1, axis=0), np.roll(outline, -1, axis=0) - outline
    return outline[(before != behind).any(axis=1)]


def write_twin(manifest: str | Path, folder: str | Path) -> Path:
    """Write a cohort of NIfTI files as DICOM, masks by turns as SEG and RTSTRUCT.

    Parameters
    ----------
    manifest : str or Path
        Manifest of a synthetic cohort.
    folder : str or Path
        Gets a folder a patient, and ``clinical.csv``: the manifest without its files.

    Returns
    -------
    Path
        ``clinical.csv``.
    """
    table, root, folder = read_csv(manifest), Path(manifest).parent, Path(folder)
    for number, row in enumerate(table.itertuples()):
        write_dicom_patient(
            *load_pair(root / row.image, root / row.mask), row.patient_id, folder, MASK_KINDS[number % 2]
        )
    clinical = table.drop(columns=[c for c in (*FILES, *HASHES) if c in table])
    return write_csv(clinical.astype(pd.StringDtype()).fillna(""), folder / "clinical.csv")


def write_dicom_patient(ct: Volume, mask: Volume, patient: str, folder: Path, kind: str) -> None:
    """Write one patient: CT series and mask (``seg`` or ``rtstruct``)."""
    images = write_ct(ct, patient, folder / patient / "CT")
    write = {"seg": write_seg, "rtstruct": write_rtstruct}[kind]
    write(mask, images, folder / patient / f"{kind}.dcm")


def edit_files(paths: Sequence[Path], **attributes: object) -> None:
    """Set attributes of DICOM files in place; None takes one away."""
    for path in paths:
        header = dcmread(path)
        for name, value in attributes.items():
            if value is not None:
                setattr(header, name, value)
            elif name in header:
                delattr(header, name)
        save(header, path)
