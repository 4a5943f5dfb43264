"""One patient from DICOM or image files to NIfTI, or the reason why not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
from pydicom import Dataset

from rps_utils.cohort.contract import AFFINE_TOLERANCE, Fault
from rps_utils.cohort.scans import header_faults, path_fault, spacing_faults, voxel_faults
from rps_utils.files import NO_ROOM, file_sha256, read_json
from rps_utils.imaging.formats.bounds import Unfit
from rps_utils.imaging.formats.images import SLICER, split_segment
from rps_utils.imaging.formats.text_headers import list_slicer_segments, read_nrrd
from rps_utils.imaging.volumes import Volume, load_volume, place_on_grid, tumour_voxels, volume_ml, write_volume
from rps_utils.ingest.persons import Outlet, identity_faults, known_value, quiet_libraries
from rps_utils.ingest.quarantine import draw_positions, draw_slices
from rps_utils.ingest.segmentations import (
    Segment,
    choose_structures,
    link_faults,
    link_to,
    plausible_phase,
    read_documents,
    tumour_mask,
    vessel_hu,
)
from rps_utils.ingest.series import Refused, Series, read_ct, series_faults, to_ras, whole_hu, without_value_warnings
from rps_utils.ingest.task import RECORD_FORMAT, Seen, Task
from rps_utils.texts.causes import cause_of
from rps_utils.texts.persons import HIDDEN

FACT_TAGS = {
    "slice_thickness_mm": "SliceThickness",
    "manufacturer": "Manufacturer",
    "kernel": "ConvolutionKernel",
    "kvp": "KVP",
}

NO_HEADER = "no DICOM header"


@without_value_warnings()
@quiet_libraries()
def ingest_patient(task: Task) -> dict[str, Any]:
    """Convert one patient and return a record of it.

    Returns
    -------
    dict
        ``patient_id``, ``faults`` (empty where the patient is sound), ``state`` in words, ``facts``, hashes of the
        two files and of the CT's voxels, ``picture``, and the fingerprint of everything read.
    """
    seen = Seen()
    try:
        mark = _fingerprint(task)
        kept = _kept_record(task, mark)
        record = kept or _convert(task, seen)
    except Refused as refusal:
        return _refusal(task, seen, refusal.faults)
    except Exception as error:  # foreign files raise anything; whatever it was, this patient was not read
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise
        value = cause_of(error)
        return _refusal(task, seen, [Fault("files", value, "files that can be read", "look at the files; report it")])
    if kept:
        return kept
    record |= {"patient_id": task.patient_id, "faults": [], "picture": "", "fingerprint": mark}
    Outlet(task.personal).write_record(record, task.record)
    _picture_path(task).unlink(missing_ok=True)
    return record


def _kept_record(task: Task, mark: str) -> dict[str, Any] | None:
    """Return the record of an earlier call if what was read and what was written are as they were."""
    if not task.record.is_file():
        return None
    kept = read_json(task.record)
    if kept["fingerprint"] != mark or not _files_as_recorded(task, kept):
        return None
    return {**kept, "state": f"kept: {kept['state'].removeprefix('kept: ')}"}


def _fingerprint(task: Task) -> str:
    paths = sorted(path for series in (*task.ct, *task.masks) for path in series.paths)
    paths += _image_paths(task)
    states = [(str(p.relative_to(task.source)), p.stat().st_size, p.stat().st_mtime_ns) for p in paths if p.is_file()]
    chosen = (task.mapping.series, task.mapping.segments, task.mapping.roi)
    rules = (*chosen, task.identified, task.image_file, task.mask_file)
    return hashlib.sha256(json.dumps([RECORD_FORMAT, states, rules]).encode()).hexdigest()


def _image_paths(task: Task) -> list[Path]:
    """Return the image files of a patient, and what lies beside an ``.mhd``."""
    files = [split_segment(task.source / name)[0] for name in (task.image_file, task.mask_file) if name]
    beside = [p for f in files if f.suffix.lower() == ".mhd" and f.parent.is_dir() for p in f.parent.iterdir()]
    return [*files, *sorted(beside)]


def _files_as_recorded(task: Task, kept: dict) -> bool:
    places = {"image_sha256": task.place("ct"), "mask_sha256": task.place("mask")}
    return all(path.is_file() and file_sha256(path) == kept[name] for name, path in places.items())


def _refusal(task: Task, seen: Seen, faults: list[Fault]) -> dict[str, Any]:
    for path in (task.record, task.place("ct"), task.place("mask")):
        path.unlink(missing_ok=True)
    picture = _picture_path(task)
    faults = [Outlet(task.personal).fault(fault) for fault in faults]
    title = f"{task.patient_id}: {faults[0].column}, {faults[0].value}"
    if seen.ct is not None:
        draw_slices(seen.ct, seen.mask, title, picture)
    elif seen.series is not None:
        draw_positions(seen.series, title, picture)
    name = picture.relative_to(task.out).as_posix() if picture.is_file() else ""
    return {"patient_id": task.patient_id, "faults": faults, "picture": name}


def _picture_path(task: Task) -> Path:
    return task.out / "quarantine" / f"{task.patient_id}.html"


def _convert(task: Task, seen: Seen) -> dict[str, Any]:
    headers = (header for series in (*task.ct, *task.masks) for header in series.headers)
    _refuse([] if task.identified else identity_faults(headers, task.patient_id))
    if task.image_file or (task.file_faults and not task.ct):
        return _convert_files(task, seen)
    documents = [] if task.mask_file else read_documents(task.masks)
    series, documents = _choose_series(task, documents)
    seen.series = series
    misfits = [fault for _, document in documents for fault in link_faults(document, series)]
    _refuse([*series_faults(series.headers), *misfits])
    volume = read_ct(series)
    hu = whole_hu(volume.array)
    seen.ct = ct = to_ras(hu, volume)
    _refuse([*voxel_faults(ct.values, None, ct.affine), *spacing_faults(ct.spacing, "CT series")])
    mask, names = _read_mask(task, documents, series, volume, ct)
    seen.mask = mask
    _refuse(voxel_faults(ct.values, mask.values, ct.affine))
    facts = _facts(ct, mask, names) | _header_facts(series) | _phase_facts(vessel_hu(documents, volume, hu))
    return _store(task, ct, mask, facts)


def _convert_files(task: Task, seen: Seen) -> dict[str, Any]:
    """Convert a patient whose CT is an image file."""
    _refuse(task.file_faults)
    if not task.mask_file:
        remedy = "add it with mask or seg in its name, or name it in a column `mask`"
        raise Refused(Fault("segmentation", "no mask beside the image", "a mask of the tumour", remedy))
    read = _read_image(task, task.image_file, "image")
    _refuse(voxel_faults(read.values, None, read.affine))
    seen.ct = ct = Volume(whole_hu(read.values), read.affine)
    seen.mask = mask = _read_mask_file(task, ct)
    _refuse(voxel_faults(ct.values, mask.values, ct.affine))
    facts = dict.fromkeys(FACT_TAGS, "unknown") | {"contrast_agent": "not stated", "identity_removed": NO_HEADER}
    return _store(task, ct, mask, _facts(ct, mask, "image file") | facts | _phase_facts({}))


def _refuse(faults: Iterable[Fault]) -> None:
    found = list(faults)
    if found:
        raise Refused(*found)


def _store(task: Task, ct: Volume, mask: Volume, facts: dict[str, Any]) -> dict[str, Any]:
    write_volume(ct, task.place("ct"))
    write_volume(Volume(tumour_voxels(mask.values).astype(np.uint8), ct.affine), task.place("mask"))
    state = f"sound: {facts['matrix']}, {facts['volume_ml']:g} ml"
    if facts["identity_removed"].upper() not in ("YES", NO_HEADER.upper()):
        state += ", header does not say that the identity was removed"
    hashes = {"image_sha256": file_sha256(task.place("ct")), "mask_sha256": file_sha256(task.place("mask"))}
    voxels = hashlib.sha256(np.ascontiguousarray(ct.values).data).hexdigest()
    return {"state": state, "facts": facts, "voxels": voxels, **hashes}


def _facts(ct: Volume, mask: Volume, names: str) -> dict[str, Any]:
    return {
        "matrix": " x ".join(map(str, ct.values.shape)),
        "spacing_mm": " x ".join(f"{s:.4g}" for s in ct.spacing),
        "structures": names,
        "volume_ml": round(volume_ml(mask), 1),
        "median_hu": float(np.median(ct.values[tumour_voxels(mask.values)])),
    }


def _header_facts(series: Series) -> dict[str, Any]:
    first = series.headers[0]
    return {
        **{fact: known_value(tag, first.get(tag)) or "unknown" for fact, tag in FACT_TAGS.items()},
        "contrast_agent": "given" if first.get("ContrastBolusAgent") else "not stated",
        "identity_removed": known_value("PatientIdentityRemoved", first.get("PatientIdentityRemoved")) or "not stated",
    }


def _phase_facts(vessels: dict[str, float]) -> dict[str, str]:
    shown = ", ".join(f"{vessel} {hu:.0f}" for vessel, hu in sorted(vessels.items()))
    return {"phase": plausible_phase(vessels), "vessels_hu": shown or "not drawn"}


def _choose_series(task: Task, documents: list[tuple[Path, Dataset]]) -> tuple[Series, list[tuple[Path, Dataset]]]:
    """Return the CT series that was drawn on and what was drawn on it."""
    if not task.ct:
        remedy = "add the series, or correct the id in the table"
        value = f"no CT series with this PatientID{task.left_aside}"
        raise Refused(Fault("CT series", value, "one CT series", remedy))
    if not documents and not task.mask_file:
        remedy = "add SEG, RTSTRUCT or a mask file with the patient's id and `mask` in its name"
        value = f"none for this patient{task.left_aside}"
        raise Refused(Fault("segmentation", value, "a mask of the tumour", remedy))
    for strength in ("reference", "frame"):
        links = {ct.uid: [d for d in documents if link_to(d[1], ct) == strength] for ct in task.ct}
        candidates = [ct for ct in task.ct if links[ct.uid]] if documents else task.ct
        if candidates:
            series = _one_series(candidates, task.mapping.series)
            return series, links[series.uid]
    value = "refers to none of the patient's CT series"
    raise Refused(Fault("segmentation", value, "a mask drawn on this CT", "add that series, or the right mask"))


def _one_series(candidates: list[Series], rule: str) -> Series:
    sizes = sorted((len(series.paths) for series in candidates), reverse=True)
    if len(candidates) > 1 and (rule == "one" or sizes[0] == sizes[1]):
        value = f"{len(candidates)} CT series with {', '.join(map(str, sizes))} slices"
        allowed = "one, or a rule: series: largest" if rule == "one" else "one that is largest"
        raise Refused(Fault("CT series", value, allowed, "remove the others, or state the rule"))
    return max(candidates, key=lambda series: len(series.paths))


def _read_mask(
    task: Task, documents: list[tuple[Path, Dataset]], series: Series, volume: highdicom.Volume, ct: Volume
) -> tuple[Volume, str]:
    if task.mask_file:
        return _read_mask_file(task, ct), "image file"
    values, names = tumour_mask(documents, volume, task.mapping.segments, task.mapping.roi)
    return to_ras(values, volume), names


def _safe_file(task: Task, name: str, column: str) -> Path:
    """Return the file of a cell; `Refused` where it leaves the folder, or its header is unsound."""
    wrong = path_fault(name, task.source)
    if wrong:
        raise Refused(Fault(column, f"its path in the table {HIDDEN}", *wrong))
    return task.source / name


def _read_image(task: Task, name: str, column: str) -> Volume:
    path = _safe_file(task, name, column)
    _refuse(header_faults(path, column)[1])
    try:
        return load_volume(path)
    except Exception as error:  # a stream cut short makes readers raise anything
        raise Refused(Fault(column, "unreadable voxels", "a whole file", "copy the file again")) from error


def _read_mask_file(task: Task, ct: Volume) -> Volume:
    path = _safe_file(task, task.mask_file, "mask")
    mask = _slicer_mask(task, path) if path.name.lower().endswith(SLICER) else _read_image(task, task.mask_file, "mask")
    mask = place_on_grid(mask, ct.grid)
    if mask.values.shape != ct.values.shape or not np.allclose(mask.affine, ct.affine, atol=AFFINE_TOLERANCE):
        value = f"shape {mask.values.shape}, affine off by {np.abs(mask.affine - ct.affine).max():.3g}"
        allowed = f"the CT's grid, {ct.values.shape}, affine within {AFFINE_TOLERANCE:g}"
        raise Refused(Fault("mask", value, allowed, "draw or resample it on this CT"))
    return mask


def _slicer_mask(task: Task, path: Path) -> Volume:
    """Read the segments of a 3D Slicer file that the mapping's rule chooses."""
    try:
        found = list_slicer_segments(read_nrrd(path))
    except Unfit as error:
        raise Refused(Fault("mask", error.value, error.allowed, error.remedy)) from error
    segments = [Segment(segment.name, number, path, Dataset()) for number, segment in enumerate(found, 1)]
    chosen = choose_structures(segments, task.mapping.segments, task.mapping.roi)
    masks = [_read_image(task, f"{task.mask_file}#{segment.name}", "mask") for segment in chosen]
    if task.mapping.segments == "largest":
        masks = [max(masks, key=lambda mask: int(mask.values.sum()))]
    return Volume(np.logical_or.reduce([mask.values for mask in masks]).astype(np.uint8), masks[0].affine)
