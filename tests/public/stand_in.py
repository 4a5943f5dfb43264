"""A synthetic stand-in for a public cohort: images, list of series and clinical table of the same form, no person.

With it the whole way from download to manifest can be walked without a network. Names of segments and columns, and
the codes, are those of the collection; shapes, values and outcomes are made up. Needs the optional extra ``public``.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from pydicom import Dataset, dcmread

from rps_utils.files import whole_file, write_csv
from rps_utils.imaging.volumes import Volume
from rps_utils.lab.faults.manifest import SEED, small_scan
from rps_utils.lab.phantom.dicom import write_ct, write_seg
from rps_utils.public.series import ROLES, SERIES_COLUMNS

FIRST_ID = 9001  # ids that the collection does not use
BUCKET = "stand-in"
SHEET = "TCIA_n=197"
SEGMENTS = ("Liver", "Liver_Remnant", "Hepatic", "Portal", "Tumor_1", "Tumor_2")

# The columns of the sheet in its own order, as the Imaging Data Commons and public code that reads it name them.
COLUMNS = (
    *("Patient-ID", "De-identify Scout Name", "age", "sex", "major_comorbidity", "body_mass_index"),
    *("node_positive_primary", "synchronous_crlm", "multiple_metastases", "clinrisk_score", "clinrisk_stratified"),
    *("carcinoembryonic_antigen", "max_tumor_size", "bilobar_disease", "extrahep_disease"),
    *("chemo_before_liver_resection", "preoperative_pve", "steatosis_yesno", "presence_sinusoidal_dilata"),
    *("NASH_score", "NASH_yesno", "NASH_greater_4", "total_response_percent", "necrosis_percent", "fibrosis_percent"),
    *("fibrosis_greater_40_percent", "mucin_percent", "overall_survival_months", "vital_status"),
    *("progression_or_recurrence", "months_to_DFS_progression", "vital_status_DFS"),
    *("progression_or_recurrence_liveronly", "months_to_liver_DFS_progression", "vital_status_liver_DFS"),
    "relevant_notes",
)


class StandIn(NamedTuple):
    """Where a stand-in lies.

    Attributes
    ----------
    bucket : Path
        ``<crdc_series_uuid>/<instance>.dcm``, as in the bucket.
    series : Path
        List of series, in the form of the pinned one.
    table : Path
        Clinical table (Excel).
    """

    bucket: Path
    series: Path
    table: Path


def write_stand_in(folder: str | Path, patients: int = 6) -> StandIn:
    """Write a synthetic stand-in of the collection ``colorectal_liver_metastases``.

    Parameters
    ----------
    folder : str or Path
    patients : int
        Every second has two tumours.

    Returns
    -------
    StandIn
    """
    folder = Path(folder)
    rows = [row for number in range(patients) for row in _write_patient(number, folder / "bucket")]
    series = pd.DataFrame(rows, columns=[*SERIES_COLUMNS, "index_version"])
    return StandIn(
        folder / "bucket", write_csv(series, folder / "series.csv"), _write_table(patients, folder / "clinical.xlsx")
    )


def _patient(number: int) -> str:
    return f"CRLM-CT-{FIRST_ID + number}"


def _sex(number: int) -> str:
    return "MF"[number % 2]


def stand_in_scan(number: int) -> tuple[Volume, Volume]:
    """Return CT and segments of a patient; segments on a fourth axis, in the order of `SEGMENTS`, overlapping."""
    ct, tumour = small_scan(100 + number)
    x, y, z = np.meshgrid(*(np.arange(n) for n in ct.values.shape), indexing="ij")
    liver = ((x - 13) / 8) ** 2 + ((y - 11) / 6) ** 2 + ((z - 14) / 11) ** 2 < 1
    parts = {
        "Liver": liver | (tumour.values != 0),
        "Liver_Remnant": liver & (x > 13),
        "Hepatic": liver & (abs(x - 16) < 2) & (abs(y - 12) < 2),
        "Portal": liver & (abs(x - 16) < 2) & (abs(z - 9) < 2),
        "Tumor_1": tumour.values != 0,
        "Tumor_2": ((x - 14) / 2.5) ** 2 + ((y - 11) / 2.5) ** 2 + ((z - 17) / 3) ** 2 < 1,  # overlaps the first
    }
    kept = _segments(number)
    return ct, Volume(np.stack([parts[name] for name in kept], axis=-1), ct.affine)


def _segments(number: int) -> Sequence[str]:
    return SEGMENTS if number % 2 else SEGMENTS[:-1]


def _write_patient(number: int, bucket: Path) -> list[dict]:
    ct, segments = stand_in_scan(number)
    patient = _patient(number)
    folders = {modality: bucket / str(uuid.uuid5(uuid.NAMESPACE_OID, f"{patient} {modality}")) for modality in ROLES}
    images = write_ct(ct, patient, folders["CT"])
    write_seg(segments, images, folders["SEG"] / "segments.dcm", _segments(number))
    return [_series_row(_renamed(folder), modality, number) for modality, folder in folders.items()]


def _renamed(folder: Path) -> Path:
    """Give the files names as in the bucket, in which the order of slices is lost."""
    for path in sorted(folder.iterdir()):
        path.rename(folder / f"{uuid.uuid5(uuid.NAMESPACE_OID, f'{folder.name} {path.name}')}.dcm")
    return folder


def _series_row(folder: Path, modality: str, number: int) -> dict:
    paths = sorted(folder.iterdir())
    header: Dataset = dcmread(paths[0], stop_before_pixels=True)
    return {
        "patient_id": _patient(number),
        "role": ROLES[modality],
        "modality": modality,
        "study_uid": header.StudyInstanceUID,
        "series_uid": header.SeriesInstanceUID,
        "crdc_series_uuid": folder.name,
        "bucket": BUCKET,
        "instances": len(paths),
        "bytes": sum(path.stat().st_size for path in paths),
        "sex": _sex(number),
        "licence": "none: synthetic",
        "doi": "none",
        "index_version": "stand-in",
    }


def _write_table(patients: int, path: Path) -> Path:
    rows = pd.DataFrame([_table_row(number) for number in range(patients)], columns=list(COLUMNS))
    legend = pd.DataFrame({"column": COLUMNS})
    with whole_file(path) as partial, pd.ExcelWriter(partial) as book:
        rows.to_excel(book, sheet_name=SHEET, index=False)
        legend.to_excel(book, sheet_name="columns", index=False)
    return path


def _table_row(number: int) -> dict:
    """Return one row of the sheet: 0 and 1, sex 1 and 2, -999 where missing, shares with a percent sign or without."""
    draw = np.random.default_rng([SEED, number])
    event, months = (number + 1) % 2, 5.5 + 7.25 * number
    row = {column: int(draw.integers(2)) for column in COLUMNS}
    row |= {column: int(draw.integers(101)) for column in COLUMNS if column.endswith("_percent")}
    return row | {
        "Patient-ID": f"Patient-{number + 1}",
        "De-identify Scout Name": _patient(number),
        "age": int(draw.integers(35, 85)),
        "sex": 1 + "MF".index(_sex(number)),
        "body_mass_index": round(draw.uniform(18, 35), 1),
        "carcinoembryonic_antigen": -999 if number == 1 else round(draw.lognormal(2, 1), 1),
        "max_tumor_size": round(draw.uniform(1, 9), 1),
        "clinrisk_score": -999 if number == 1 else int(draw.integers(6)),
        "NASH_score": int(draw.integers(9)),
        "necrosis_percent": f"{row['necrosis_percent']}%",
        "total_response_percent": -999 if number == 2 else row["total_response_percent"],
        "overall_survival_months": months + 12,
        "months_to_DFS_progression": months,
        "months_to_liver_DFS_progression": months,
        "vital_status_liver_DFS": event,
        "progression_or_recurrence_liveronly": event,
        "relevant_notes": "",
    }
