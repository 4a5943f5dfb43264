"""Whether a text points to a person."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pandas as pd
from pydicom import Dataset

from rps_utils.cohort.contract import Fault
from rps_utils.ingest.clinical_table import REAL_ID
from rps_utils.ingest.series import Discovery
from rps_utils.ingest.task import Task

ANONYMOUS = {"anonymous", "anonymized", "anonymised", "anon", "removed", "deidentified", "unknown", "none", "phantom"}
PERSONAL = (
    *("PatientBirthDate", "OtherPatientIDs", "OtherPatientNames", "PatientAddress", "PatientTelephoneNumbers"),
    "PatientMotherBirthName",
)


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
