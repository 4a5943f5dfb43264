"""A hospital's DICOM folder and table become a manifest; whoever is not sound goes to quarantine, with the reason.

Nobody is repaired on the way and nobody is lost: a patient is either in the manifest or in ``quarantine.csv``, with
a picture. Needs the optional extra ``dicom``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import highdicom
import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from pydicom import Dataset

from rps_utils.clinical_table import (
    DICOM_ID,
    MASK_FILE,
    REAL_ID,
    Mapping,
    read_clinical,
    read_mapping,
    safe_cell,
)
from rps_utils.dicom import (
    Discovery,
    Refused,
    Series,
    find_series,
    read_ct,
    series_faults,
    to_ras,
    whole_hu,
    without_value_warnings,
)
from rps_utils.files import file_sha256, read_json, write_csv, write_json
from rps_utils.images import Volume, load_volume, volume_ml, write_volume
from rps_utils.manifest import (
    AFFINE_TOLERANCE,
    DATA_KIND,
    PATIENT_ID,
    Fault,
    check_cells,
    ct_faults,
    header_faults,
    mask_faults,
    path_fault,
    tumour_faults,
)
from rps_utils.phase import plausible_phase
from rps_utils.quarantine import draw_positions, draw_slices, put_plotly
from rps_utils.segmentations import (
    link_to,
    read_documents,
    reference_faults,
    references,
    tumour_mask,
    vessel_hu,
)

RECORD_FORMAT = 2  # raised when a record says more or other things: kept ones are then made again
NOT_LISTED = "not in the table"
ANONYMOUS = {"anonymous", "anonymized", "anonymised", "anon", "removed", "deidentified", "unknown", "none", "phantom"}
PERSONAL = (
    *("PatientBirthDate", "OtherPatientIDs", "OtherPatientNames", "PatientAddress", "PatientTelephoneNumbers"),
    "PatientMotherBirthName",
)
FACTS = (
    *("matrix", "spacing_mm", "slice_thickness_mm", "manufacturer", "kernel", "kvp", "contrast_agent"),
    *("phase", "vessels_hu", "structures", "volume_ml", "median_hu", "identity_removed"),
)
QUARANTINE_COLUMNS = ("patient_id", "what", "value", "allowed", "remedy", "picture")


class Outcome(NamedTuple):
    """What an ingest led to.

    Attributes
    ----------
    manifest : Path or None
        None where patients are in quarantine and nobody said to go on without them.
    quarantine : pandas.DataFrame
        ``patient_id, what, value, allowed, remedy, picture``.
    notes : list of str
        What is no fault and should be known.
    """

    manifest: Path | None
    quarantine: pd.DataFrame
    notes: list[str]


class Task(NamedTuple):
    """All that is needed to convert one patient."""

    patient_id: str
    ct: list[Series]
    masks: list[Series]
    mask_file: str
    source: Path
    out: Path
    mapping: Mapping
    identified: bool
    left_aside: str = ""

    def place(self, kind: str) -> Path:
        """Return the path of the patient's ``ct`` or ``mask``."""
        return self.out / "images" / f"{self.patient_id}_{kind}.nii.gz"

    @property
    def record(self) -> Path:
        """Path of what is kept of the conversion."""
        return self.out / "records" / f"{self.patient_id}.json"


@dataclass
class Seen:
    """How far a patient came, for the picture of what went wrong."""

    series: Series | None = None
    ct: Volume | None = None
    mask: Volume | None = None


# ---------------------------------------------------------------- the whole


@without_value_warnings()
def ingest(
    source: str | Path,
    clinical: str | Path,
    out: str | Path,
    mapping: str | Path | None = None,
    n_jobs: int = 1,
    *,
    without_quarantined: bool = False,
    identified: bool = False,
    progress: Callable[[str], Any] = print,
) -> Outcome:
    """Turn DICOM series, segmentations and a table into NIfTI files and a manifest.

    Parameters
    ----------
    source : str or Path
        Folder with DICOM files, in any order and nesting; left as it is.
    clinical : str or Path
        Table, one row a patient: see `clinical_table.read_clinical`.
    out : str or Path
        Gets ``images/``, ``ingest.csv``, ``quarantine.csv``, ``quarantine/`` and, last, ``data_manifest.csv``. A
        second call converts only what is new or was in quarantine.
    mapping : str or Path, optional
        See `clinical_table.Mapping`.
    n_jobs : int
        Processes.
    without_quarantined : bool
        Write the manifest of the others although patients are in quarantine.
    identified : bool
        Names and birth dates in the DICOM headers are known of and accepted. They are never written, and the
        tables are searched for them before they are.
    progress : callable
        Called with a line of text for each patient.

    Returns
    -------
    Outcome

    Raises
    ------
    FileNotFoundError, ValueError
        Source, table or mapping cannot be read, or a table to be written holds what identifies a patient.
    """
    source, out = Path(source), Path(out)
    rules = read_mapping(mapping)
    cells, problems = read_clinical(clinical, rules)
    cells[DATA_KIND] = rules.data_kind or cells.get(DATA_KIND, "private")
    found = find_series(source, n_jobs)
    refused = _table_faults(cells, problems)
    tasks = _tasks(cells, set(refused), found, Task("", [], [], "", source, out, rules, identified))
    records = _convert_all(tasks, n_jobs, progress)
    rows = [*_quarantine_rows(cells, refused, records), *_unlisted_rows(cells, found)]
    sound = {r["patient_id"]: r for r in records if r["patient_id"] not in {row["patient_id"] for row in rows}}
    quarantine = pd.DataFrame(rows, columns=QUARANTINE_COLUMNS)
    tables = {"ingest.csv": _facts_table(sound), "data_manifest.csv": _manifest_table(cells, sound)}
    manifest = _write(out, tables, quarantine, _personal_words(cells, found), without_quarantined)
    return Outcome(manifest, quarantine, _notes(found, list(sound.values()), tables["data_manifest.csv"]))


def _convert_all(tasks: Sequence[Task], n_jobs: int, progress: Callable[[str], Any]) -> list[dict]:
    records = []
    for record in Parallel(n_jobs=n_jobs, return_as="generator")(delayed(ingest_patient)(task) for task in tasks):
        records.append(record)
        faults = record["faults"]
        state = f"quarantine: {faults[0][0]}: {faults[0][1]}" if faults else record["state"]
        progress(f"{len(records)} of {len(tasks)}  {record['patient_id']}  {state}")
    return records


def _table_faults(cells: pd.DataFrame, problems: Sequence) -> dict[int, list[Fault]]:
    """Return the faults of each line of the table; faults of the whole table raise ValueError."""
    refused: dict[int, list[Fault]] = {}
    manifest = cells.drop(columns=[c for c in (DICOM_ID, MASK_FILE) if c in cells])
    named = {(p.row, p.column) for p in problems}
    also = [p for p in check_cells(manifest) if (p.row, p.column) not in named]
    for problem in [*problems, *also]:
        if problem.row is not None:
            hide = problem.column == "patient_id" and not PATIENT_ID.fullmatch(problem.patient_id)
            value = "(not shown)" if hide and problem.patient_id else problem.value
            fault = Fault(f"table, {problem.column}", value, problem.allowed, problem.remedy)
            refused.setdefault(problem.row, []).append(fault)
        elif problem.column not in ("event", "split"):  # too few of them: a note, no fault of the files
            raise ValueError(f"column {problem.column}: {problem.value} (allowed: {problem.allowed}): {problem.remedy}")
    return refused


def _tasks(cells: pd.DataFrame, refused: set[int], found: Discovery, blank: Task) -> list[Task]:
    series = {kind: [s for s in found.series if (s.kind == "CT") == (kind == "CT")] for kind in ("CT", "mask")}
    named = {mask.uid: _named_in(mask) for mask in series["mask"]}
    tasks = []
    for line, row in cells.iterrows():
        dicom_id = row.get(DICOM_ID, row["patient_id"])
        ct = [s for s in series["CT"] if s.patient == dicom_id]
        own = {s.uid for s in ct}
        masks = [m for m in series["mask"] if m.patient == dicom_id or named[m.uid] & own]
        if line not in refused:
            mask_file = row.get(MASK_FILE, "")
            own_task = blank._replace(patient_id=row["patient_id"], ct=ct, masks=masks, mask_file=mask_file)
            tasks.append(own_task._replace(left_aside=_left_aside(found, dicom_id)))
    return tasks


def _left_aside(found: Discovery, dicom_id: str) -> str:
    files = [f"{n} {reason}" for (patient, reason), n in sorted(found.left_aside.items()) if patient == dicom_id]
    return f"; left aside: {', '.join(files)}" if files else ""


def _named_in(mask: Series) -> set[str]:
    try:
        return {uid for _, document in read_documents([mask]) for uid in references(document)}
    except Refused:  # told again, with its patient, when that one is converted
        return set()


# ---------------------------------------------------------------- one patient


@without_value_warnings()
def ingest_patient(task: Task) -> dict[str, Any]:
    """Convert one patient and return a record of it.

    Returns
    -------
    dict
        ``patient_id``, ``faults`` (empty where the patient is sound), ``state`` in words, ``facts``, hashes of the
        two files and of the CT's voxels, ``picture``, and the fingerprint of everything read.
    """
    mark = _fingerprint(task)
    if task.record.is_file():
        kept = read_json(task.record)
        if kept["fingerprint"] == mark and _files_as_recorded(task, kept):
            return {**kept, "state": f"kept: {kept['state'].removeprefix('kept: ')}"}
    seen = Seen()
    try:
        record = _convert(task, seen)
    except Refused as refusal:
        return _refusal(task, seen, refusal.faults)
    except Exception as error:  # foreign files raise anything; whatever it was, this patient was not read
        value = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
        return _refusal(task, seen, [Fault("files", value, "files that can be read", "look at the files; report it")])
    record |= {"patient_id": task.patient_id, "faults": [], "picture": "", "fingerprint": mark}
    write_json(record, task.record)
    _picture_path(task).unlink(missing_ok=True)
    return record


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
    # Names of structures are free text: they stay out of the picture, which no search for names reaches.
    found = "" if faults[0].column == "segmentation" else f", {faults[0].value}"
    title = f"{task.patient_id}: {faults[0].column}{found}"
    if seen.ct is not None:
        draw_slices(seen.ct, seen.mask, title, picture)
    elif seen.series is not None:
        draw_positions(seen.series, title, picture)
    name = picture.relative_to(task.out).as_posix() if picture.is_file() else ""
    return {"patient_id": task.patient_id, "faults": faults, "picture": name}


def _picture_path(task: Task) -> Path:
    return task.out / "quarantine" / f"{task.patient_id}.html"


def _convert(task: Task, seen: Seen) -> dict[str, Any]:
    _refuse(_identity_faults(task))
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
        "slice_thickness_mm": str(first.get("SliceThickness") or "unknown"),
        "manufacturer": str(first.get("Manufacturer") or "unknown"),
        "kernel": str(first.get("ConvolutionKernel") or "unknown"),
        "kvp": str(first.get("KVP") or "unknown"),
        "contrast_agent": "given" if first.get("ContrastBolusAgent") else "not stated",
        "structures": names,
        "volume_ml": round(volume_ml(mask), 1),
        "median_hu": float(np.median(ct.values[mask.values != 0])),
        "identity_removed": str(first.get("PatientIdentityRemoved") or "not stated"),
    }


def _phase_facts(vessels: dict[str, float]) -> dict[str, str]:
    shown = ", ".join(f"{vessel} {hu:.0f}" for vessel, hu in sorted(vessels.items()))
    return {"phase": plausible_phase(vessels), "vessels_hu": shown or "not drawn"}


# ---------------------------------------------------------------- which series, which mask


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
        raise Refused(Fault("mask", task.mask_file, *wrong))
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


# ---------------------------------------------------------------- identity


def _identity_faults(task: Task) -> list[Fault]:
    """Find names, birth dates and real ids in the headers; their values are never repeated."""
    if task.identified:
        return []
    headers = [header for series in (*task.ct, *task.masks) for header in series.headers]
    found = sorted({tag for header in headers for tag in _personal_tags(header, task.patient_id)})
    remedy = "de-identify the files, or state that they are identified (--identified-source)"
    return [Fault("DICOM header", f"{tag} is filled (not shown)", "no personal data", remedy) for tag in found]


def _personal_tags(header: Dataset, patient_id: str) -> Iterator[str]:
    yield from (tag for tag in PERSONAL if str(header.get(tag) or "").strip())
    dicom_id = str(header.get("PatientID", ""))
    if dicom_id != patient_id and REAL_ID.fullmatch(dicom_id):
        yield "PatientID"
    name = str(header.get("PatientName") or "")
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    known = {re.sub(r"[^a-z0-9]", "", text.lower()) for text in (dicom_id, patient_id)} | ANONYMOUS | {""}
    if plain not in known and not re.search(r"\d", plain):
        yield "PatientName"


def _personal_words(cells: pd.DataFrame, found: Discovery) -> set[str]:
    """Return the words of the headers that may stand in no table: names, birth dates, ids other than pseudonyms."""
    pseudonyms = {word for text in cells["patient_id"] for word in _words(text)}
    words: set[str] = set()
    for header in (series.headers[0] for series in found.series):
        for tag in (*PERSONAL, "PatientName", "PatientID", "AccessionNumber"):
            words |= {word for word in _words(str(header.get(tag) or "")) if len(word) > 3}
    return words - pseudonyms - ANONYMOUS


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


def _refuse_personal(tables: dict[str, pd.DataFrame], personal: set[str]) -> None:
    for name, table in tables.items():
        for column in table.columns:
            for text in table[column].astype(str) if not column.endswith("_sha256") else ():
                if personal.intersection(_words(text)):
                    raise ValueError(
                        f"{name} would hold, in column {column}, a word that stands in a DICOM header as name, birth"
                        " date or id (not shown): no table was written. Remove it from the table or the ROI names."
                    )


# ---------------------------------------------------------------- tables


def _quarantine_rows(cells: pd.DataFrame, refused: dict[int, list[Fault]], records: list[dict]) -> Iterator[dict]:
    doubled = cells["patient_id"][cells["patient_id"].duplicated(keep=False)]
    for line, faults in refused.items():
        patient = cells.loc[line, "patient_id"]
        shown = patient if PATIENT_ID.fullmatch(patient) and not REAL_ID.fullmatch(patient) else f"line {line}"
        yield from (_row(shown, fault) for fault in faults)
    for record in records:
        faults = [Fault(*fault) for fault in record["faults"]] or _same_scan(record, records)
        if record["patient_id"] in set(doubled) and not faults:
            faults = [Fault("table, patient_id", "in two rows", "one row a patient", "remove one of the rows")]
        yield from (_row(record["patient_id"], fault, record["picture"]) for fault in faults)


def _same_scan(record: dict, records: list[dict]) -> list[Fault]:
    own = record["patient_id"]
    twins = [r["patient_id"] for r in records if r.get("voxels") == record["voxels"] and r["patient_id"] != own]
    remedy = "one patient under two ids? correct it"
    return [Fault("CT series", f"same voxels as {', '.join(twins)}", "a scan of its own", remedy)] if twins else []


def _row(patient_id: str, fault: Fault, picture: str = "") -> dict[str, str]:
    return dict(zip(QUARANTINE_COLUMNS, (patient_id, *fault, picture), strict=True))


def _unlisted_rows(cells: pd.DataFrame, found: Discovery) -> Iterator[dict]:
    listed = set(cells.get(DICOM_ID, cells["patient_id"]))
    for series in found.series:
        if series.patient not in listed and series.kind == "CT":
            remedy = "add the patient to the table, or remove the files"
            value = f"series ...{series.uid[-12:]}, {len(series.paths)} slices"
            yield _row(NOT_LISTED, Fault("CT series", value, "a row in the clinical table", remedy))


def _facts_table(sound: dict[str, dict]) -> pd.DataFrame:
    rows = [{"patient_id": name, **record["facts"]} for name, record in sound.items()]
    return pd.DataFrame(rows, columns=["patient_id", *FACTS])


def _manifest_table(cells: pd.DataFrame, sound: dict[str, dict]) -> pd.DataFrame:
    table = cells[cells["patient_id"].isin(sound)].drop(columns=[c for c in (DICOM_ID, MASK_FILE) if c in cells])
    ids = table["patient_id"]
    table.insert(1, "image", "images/" + ids + "_ct.nii.gz")
    table.insert(2, "mask", "images/" + ids + "_mask.nii.gz")
    hashes = {name: [sound[i][name] for i in ids] for name in ("image_sha256", "mask_sha256")}
    return table.assign(**hashes)


def _write(
    out: Path, tables: dict[str, pd.DataFrame], quarantine: pd.DataFrame, personal: set[str], go_on: bool
) -> Path | None:
    _refuse_personal({**tables, "quarantine.csv": quarantine}, personal)
    manifest = out / "data_manifest.csv"
    manifest.unlink(missing_ok=True)  # an older one names other patients
    write_csv(_safe(quarantine), out / "quarantine.csv")
    write_csv(_safe(tables["ingest.csv"]), out / "ingest.csv")
    put_plotly(out / "quarantine")
    if (len(quarantine) and not go_on) or tables["data_manifest.csv"].empty:
        return None
    return write_csv(_safe(tables["data_manifest.csv"]), manifest)


def _safe(table: pd.DataFrame) -> pd.DataFrame:
    return table.map(lambda cell: safe_cell(cell) if isinstance(cell, str) else cell)


def _notes(found: Discovery, sound: Sequence[dict], manifest: pd.DataFrame) -> list[str]:
    reasons: Counter[str] = Counter()
    for (_, reason), count in found.left_aside.items():
        reasons[reason] += count
    notes = [f"{count} files left aside: {reason}" for reason, count in sorted(reasons.items())]
    silent = [r for r in sound if r["facts"]["identity_removed"].upper() != "YES"]
    if silent:
        notes.append(f"{len(silent)} patients: PatientIdentityRemoved is not YES; were the headers de-identified?")
    if len(manifest):
        few = check_cells(manifest)
        notes += [f"{p.column}: {p.value}; needed: {p.allowed}" for p in few]
    phases = Counter(record["facts"]["phase"] for record in sound)
    told = ", ".join(f"{count} {phase}" for phase, count in sorted(phases.items())) or "nobody"
    notes.append(f"contrast phase, where aorta and vena cava tell it: {told}; a mirrored scan cannot be seen here")
    return notes
