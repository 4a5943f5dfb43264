"""A hospital's DICOM folder and table become a manifest; whoever is not sound goes to quarantine, with the reason.

Nobody is repaired on the way and nobody is lost: a patient is either in the manifest or in ``quarantine.csv``, with
a picture. Needs the optional extra ``dicom``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from joblib import Parallel, delayed

from rps_utils.cohort.contract import DATA_KIND, PATIENT_ID, Fault, shown_id
from rps_utils.cohort.manifest import check_cells
from rps_utils.files import remove_partial
from rps_utils.imaging.formats.images import split_segment
from rps_utils.ingest.clinical_table import DICOM_ID, IMAGE_FILE, MASK_FILE, read_clinical, read_mapping
from rps_utils.ingest.patient import NO_HEADER, ingest_patient
from rps_utils.ingest.persons import Outlet, personal_words, quiet_libraries, without_content
from rps_utils.ingest.quarantine import put_plotly
from rps_utils.ingest.readers.pairs import Pair, match_files, shown_name
from rps_utils.ingest.segmentations import read_documents, references
from rps_utils.ingest.series import Discovery, Series, find_series, without_value_warnings
from rps_utils.ingest.task import Task
from rps_utils.texts.counts import how_many
from rps_utils.texts.persons import HIDDEN, shown

NOT_LISTED = "not in the table"
NOT_WRITTEN = (DICOM_ID, IMAGE_FILE, MASK_FILE)
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
    """Turn DICOM series, or image files, with masks and a table into NIfTI files and a manifest.

    Parameters
    ----------
    source : str or Path
        Folder with DICOM files, in any order and nesting, or with image files whose names or folders hold the ids of
        their patients (see `readers.pairs`); left as it is.
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
    remove_partial(out)
    with quiet_libraries(), without_content(out):
        return _ingest(source, Path(clinical), out, mapping, n_jobs, without_quarantined, identified, progress)


def _ingest(
    source: Path,
    clinical: Path,
    out: Path,
    mapping: str | Path | None,
    n_jobs: int,
    without_quarantined: bool,
    identified: bool,
    progress: Callable[[str], Any],
) -> Outcome:
    rules = read_mapping(mapping)
    cells, problems = read_clinical(clinical, rules)
    cells[DATA_KIND] = rules.data_kind or cells.get(DATA_KIND, "private")
    found = find_series(source, n_jobs)
    outlet = Outlet(personal_words(cells["patient_id"], (h for series in found.series for h in series.headers)))
    # Before anything is converted, written or said.
    outlet.refuse(cells.drop(columns=[c for c in NOT_WRITTEN if c in cells]), "data_manifest.csv")
    refused = _table_faults(cells, problems)
    blank = Task("", [], [], "", "", source, out, rules, identified, personal=outlet.personal)
    tasks = _tasks(cells, set(refused), found, blank)
    records = _convert_all(tasks, n_jobs, outlet, progress)
    rows = [*_quarantine_rows(cells, refused, records), *_unlisted_rows(cells, found)]
    sound = {r["patient_id"]: r for r in records if r["patient_id"] not in {row["patient_id"] for row in rows}}
    quarantine = pd.DataFrame(rows, columns=QUARANTINE_COLUMNS)
    tables = {"ingest.csv": _facts_table(sound), "data_manifest.csv": _manifest_table(cells, sound)}
    manifest = _write(out, tables, quarantine, outlet, without_quarantined)
    return Outcome(manifest, quarantine, _notes(found, cells, list(sound.values()), tables["data_manifest.csv"]))


def _convert_all(tasks: Sequence[Task], n_jobs: int, outlet: Outlet, progress: Callable[[str], Any]) -> list[dict]:
    records = []
    for record in Parallel(n_jobs=n_jobs, return_as="generator")(delayed(ingest_patient)(task) for task in tasks):
        records.append(record)
        faults = record["faults"]
        state = f"quarantine: {faults[0][0]}: {faults[0][1]}" if faults else record["state"]
        outlet.say(f"{len(records)} of {len(tasks)}  {record['patient_id']}  {state}", progress)
    return records


def _table_faults(cells: pd.DataFrame, problems: Sequence) -> dict[int, list[Fault]]:
    """Return the faults of each line of the table; faults of the whole table raise ValueError."""
    refused: dict[int, list[Fault]] = {}
    manifest = cells.drop(columns=[c for c in NOT_WRITTEN if c in cells])
    named = {(p.row, p.column) for p in problems}
    also = [p for p in check_cells(manifest) if (p.row, p.column) not in named]
    for problem in [*problems, *also]:
        if problem.row is not None:
            value = problem.value if problem.value.endswith(HIDDEN) else shown(problem.value)
            fault = Fault(f"table, {problem.column}", value, problem.allowed, problem.remedy)
            refused.setdefault(problem.row, []).append(fault)
        elif problem.column not in ("event", "split"):  # too few of them: a note, no fault of the files
            raise ValueError(
                f"column {problem.column}: {shown(problem.value)} (allowed: {problem.allowed}): {problem.remedy}"
            )
    return refused


def _tasks(cells: pd.DataFrame, refused: set[int], found: Discovery, blank: Task) -> list[Task]:
    series = {kind: [s for s in found.series if (s.kind == "CT") == (kind == "CT")] for kind in ("CT", "mask")}
    named = {mask.uid: _named_in(mask) for mask in series["mask"]}
    pairs, _ = _match_images(cells, found)
    tasks = []
    for line, row in cells.iterrows():
        dicom_id = row.get(DICOM_ID, row["patient_id"])
        ct = [s for s in series["CT"] if s.patient == dicom_id]
        own = {s.uid for s in ct}
        masks = [m for m in series["mask"] if m.patient == dicom_id or named[m.uid] & own]
        if line not in refused:
            own_task = blank._replace(patient_id=row["patient_id"], ct=ct, masks=masks)
            own_task = own_task._replace(left_aside=_left_aside(found, dicom_id))
            tasks.append(_with_files(own_task, row, pairs.get(dicom_id, Pair("", "", []))))
    return tasks


def _match_images(cells: pd.DataFrame, found: Discovery) -> tuple[dict[str, Pair], list[str]]:
    """Match the image files that no column of the table names to patients: see `pairs.match_files`."""
    named = {split_segment(text)[0].as_posix() for c in (IMAGE_FILE, MASK_FILE) if c in cells for text in cells[c]}
    return match_files([f for f in found.images if f not in named], cells.get(DICOM_ID, cells["patient_id"]))


def _with_files(task: Task, row: pd.Series, pair: Pair) -> Task:
    """Add the patient's image files: those of the table first, those found by name where DICOM has none."""
    image, mask = row.get(IMAGE_FILE, ""), row.get(MASK_FILE, "")
    if not image and not mask:
        image, mask = "" if task.ct else pair.image, "" if task.masks else pair.mask
        task = task._replace(file_faults=() if task.ct and task.masks else tuple(pair.faults))
    return task._replace(image_file=image, mask_file=mask)


def _left_aside(found: Discovery, dicom_id: str) -> str:
    """Say which files of the patient were left aside, and which of unknown owner, but those that are no images."""
    mine = [f"{n} {reason}" for (patient, reason), n in sorted(found.left_aside.items()) if patient == dicom_id]
    others = [item for item in sorted(found.left_aside.items()) if not item[0][0]]
    lost = [f"{n} {reason}" for (_, reason), n in others if reason != "no DICOM file"]
    texts = {"left aside": mine, "of unknown patients": lost if dicom_id else []}
    return "".join(f"; {what}: {', '.join(files)}" for what, files in texts.items() if files)


def _named_in(mask: Series) -> set[str]:
    try:
        return {uid for _, document in read_documents([mask]) for uid in references(document)}
    except Exception:  # a broken file raises anything; told again, with its patient, when that one is converted
        return set()


def _quarantine_rows(cells: pd.DataFrame, refused: dict[int, list[Fault]], records: list[dict]) -> Iterator[dict]:
    doubled = cells["patient_id"][cells["patient_id"].duplicated(keep=False)]
    for line, faults in refused.items():
        patient = cells.loc[line, "patient_id"]
        shown = patient if PATIENT_ID.fullmatch(patient) and shown_id(patient) == patient else f"line {line}"
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
            value = f"a series of {len(series.paths)} slices"
            yield _row(NOT_LISTED, Fault("CT series", value, "a row in the clinical table", remedy))
    if not any(series.kind == "CT" for series in found.series):
        for file in _match_images(cells, found)[1]:
            place = f"{found.images.index(file) + 1} of {len(found.images)} by the alphabet"
            value = f"image file {place}: {shown_name(file)}"
            remedy = "put the patient's id into its name or folder, name it in the table, or take it out"
            yield _row(NOT_LISTED, Fault("image files", value, "files that name one patient of the table", remedy))


def _facts_table(sound: dict[str, dict]) -> pd.DataFrame:
    rows = [{"patient_id": name, **record["facts"]} for name, record in sound.items()]
    return pd.DataFrame(rows, columns=["patient_id", *FACTS])


def _manifest_table(cells: pd.DataFrame, sound: dict[str, dict]) -> pd.DataFrame:
    table = cells[cells["patient_id"].isin(sound)].drop(columns=[c for c in NOT_WRITTEN if c in cells])
    ids = table["patient_id"]
    table.insert(1, "image", "images/" + ids + "_ct.nii.gz")
    table.insert(2, "mask", "images/" + ids + "_mask.nii.gz")
    hashes = {name: [sound[i][name] for i in ids] for name in ("image_sha256", "mask_sha256")}
    return table.assign(**hashes)


def _write(
    out: Path, tables: dict[str, pd.DataFrame], quarantine: pd.DataFrame, outlet: Outlet, go_on: bool
) -> Path | None:
    manifest = out / "data_manifest.csv"
    manifest.unlink(missing_ok=True)  # an older one names other patients
    outlet.write_table(quarantine, out / "quarantine.csv")
    outlet.write_table(tables["ingest.csv"], out / "ingest.csv")
    put_plotly(out / "quarantine")
    if (len(quarantine) and not go_on) or tables["data_manifest.csv"].empty:
        return None
    return outlet.write_table(tables["data_manifest.csv"], manifest)


def _stray_images(found: Discovery, cells: pd.DataFrame) -> int:
    """Count the image files beside a cohort in DICOM that no row of the table names."""
    if not any(series.kind == "CT" for series in found.series):
        return 0
    pairs, unmatched = _match_images(cells, found)
    return len(unmatched) + sum(bool(pair.image) for pair in pairs.values())


def _notes(found: Discovery, cells: pd.DataFrame, sound: Sequence[dict], manifest: pd.DataFrame) -> list[str]:
    reasons: Counter[str] = Counter()
    for (_, reason), count in found.left_aside.items():
        reasons[reason] += count
    notes = [f"{how_many(count, 'file')} left aside: {reason}" for reason, count in sorted(reasons.items())]
    stray = _stray_images(found, cells)
    if stray:
        notes.append(f"{how_many(stray, 'image file')} left aside: of patients with DICOM series, or not in the table")
    silent = [r for r in sound if r["facts"]["identity_removed"].upper() not in ("YES", NO_HEADER.upper())]
    if silent:
        notes.append(
            f"{how_many(len(silent), 'patient')}: PatientIdentityRemoved is not YES; were the headers de-identified?"
        )
    if len(manifest):
        few = check_cells(manifest)
        notes += [f"{p.column}: {p.value}; needed: {p.allowed}" for p in few]
    phases = Counter(record["facts"]["phase"] for record in sound)
    told = ", ".join(f"{count} {phase}" for phase, count in sorted(phases.items())) or "nobody"
    notes.append(f"contrast phase, where aorta and vena cava tell it: {told}; a mirrored scan cannot be seen here")
    return notes
