"""One patient from DICOM to NIfTI, or the reason why not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
from pydicom import Dataset

from rps_utils.cohort.contract import AFFINE_TOLERANCE, Fault
from rps_utils.cohort.scans import ct_faults, header_faults, mask_faults, path_fault, tumour_faults
from rps_utils.files import NO_ROOM, file_sha256, read_json
from rps_utils.imaging.volumes import Volume, load_volume, volume_ml, write_volume
from rps_utils.ingest.persons import Outlet, identity_faults, known_value, quiet_libraries
from rps_utils.ingest.quarantine import draw_positions, draw_slices
from rps_utils.ingest.segmentations import (
    link_to,
    plausible_phase,
    read_documents,
    reference_faults,
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
    if task.mask_file:
        paths.append(task.source / task.mask_file)
    states = [(str(p.relative_to(task.source)), p.stat().st_size, p.stat().st_mtime_ns) for p in paths if p.is_file()]
    rules = (task.mapping.series, task.mapping.segments, task.mapping.roi, task.identified, task.mask_file)
    return hashlib.sha256(json.dumps([RECORD_FORMAT, states, rules]).encode()).hexdigest()


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
    documents = [] if task.mask_file else read_documents(task.masks)
    series, documents = _choose_series(task, documents)
    seen.series = series
    misfits = [fault for _, document in documents for fault in reference_faults(document, series)]
    _refuse([*series_faults(series.headers), *misfits])
    volume = read_ct(series)
    hu = whole_hu(volume.array)
    seen.ct = ct = to_ras(hu, volume)
    _refuse(ct_faults(hu))
    mask, names = _read_mask(task, documents, series, volume, ct)
    seen.mask = mask
    _refuse(mask_faults(mask.values, float(np.prod(mask.spacing)) / 1000))
    _refuse([*_border_faults(mask), *tumour_faults(ct.values, mask.values)])
    facts = _facts(series, ct, mask, names) | _phase_facts(vessel_hu(documents, volume, hu))
    return _store(task, series, ct, mask, facts)


def _refuse(faults: Iterable[Fault]) -> None:
    found = list(faults)
    if found:
        raise Refused(*found)


def _store(task: Task, series: Series, ct: Volume, mask: Volume, facts: dict[str, Any]) -> dict[str, Any]:
    write_volume(ct, task.place("ct"))
    write_volume(Volume(mask.values.astype(np.uint8), ct.affine), task.place("mask"))
    state = f"sound: {facts['matrix']}, {facts['volume_ml']:g} ml"
    if str(series.headers[0].get("PatientIdentityRemoved", "")).upper() != "YES":
        state += ", header does not say that the identity was removed"
    hashes = {"image_sha256": file_sha256(task.place("ct")), "mask_sha256": file_sha256(task.place("mask"))}
    voxels = hashlib.sha256(np.ascontiguousarray(ct.values).data).hexdigest()
    return {"state": state, "facts": facts, "voxels": voxels, **hashes}


def _facts(series: Series, ct: Volume, mask: Volume, names: str) -> dict[str, Any]:
    first = series.headers[0]
    return {
        "matrix": " x ".join(map(str, ct.values.shape)),
        "spacing_mm": " x ".join(f"{s:.4g}" for s in ct.spacing),
        **{fact: known_value(tag, first.get(tag)) or "unknown" for fact, tag in FACT_TAGS.items()},
        "contrast_agent": "given" if first.get("ContrastBolusAgent") else "not stated",
        "structures": names,
        "volume_ml": round(volume_ml(mask), 1),
        "median_hu": float(np.median(ct.values[mask.values != 0])),
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
        remedy = "add SEG or RTSTRUCT, or a column `mask` with NIfTI files"
        raise Refused(Fault("segmentation", "none for this patient", "a mask of the tumour", remedy))
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
        return _nifti_mask(task, ct), "NIfTI"
    values, names = tumour_mask(documents, volume, task.mapping.segments, task.mapping.roi)
    return to_ras(values, volume), names


def _nifti_mask(task: Task, ct: Volume) -> Volume:
    wrong = path_fault(task.mask_file, task.source)
    if wrong:
        raise Refused(Fault("mask", f"its path in the table {HIDDEN}", *wrong))
    _refuse(header_faults(task.source / task.mask_file, "mask")[1])
    mask = load_volume(task.source / task.mask_file)
    if mask.values.shape != ct.values.shape or not np.allclose(mask.affine, ct.affine, atol=AFFINE_TOLERANCE):
        value = f"shape {mask.values.shape}, affine off by {np.abs(mask.affine - ct.affine).max():.3g}"
        allowed = f"the CT's grid, {ct.values.shape}, affine within {AFFINE_TOLERANCE:g}"
        raise Refused(Fault("mask", value, allowed, "draw or resample it on this CT"))
    return mask


def _border_faults(mask: Volume) -> Iterator[Fault]:
    """Refuse a tumour that reaches the end of the scan: nobody knows how far it goes on."""
    inside = mask.values != 0
    names = (("left", "right"), ("back", "front"), ("foot", "head"))
    ends = [names[axis][-end] for axis in range(3) for end in (0, -1) if inside.take(end, axis=axis).any()]
    if ends:
        value = f"tumour reaches the {', '.join(ends)} end of the scan"
        yield Fault("mask", value, "the whole tumour inside the scan", "take a scan that covers it")
