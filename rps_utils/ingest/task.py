"""What one patient's ingest is given, and what it has seen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rps_utils.cohort.contract import Fault
from rps_utils.imaging.volumes import Volume
from rps_utils.ingest.clinical_table import Mapping
from rps_utils.ingest.series import Series

RECORD_FORMAT = 3  # raised when a record says more or other things: kept ones are then made again


class Task(NamedTuple):
    """All that is needed to convert one patient."""

    patient_id: str
    ct: list[Series]
    masks: list[Series]
    mask_file: str
    image_file: str
    source: Path
    out: Path
    mapping: Mapping
    identified: bool
    left_aside: str = ""
    file_faults: tuple[Fault, ...] = ()
    personal: frozenset[str] = frozenset()

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
