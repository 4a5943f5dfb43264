"""The one way out for what ingest has to say: headers are searched for persons first, and no text leaves unseen."""

from __future__ import annotations

import json
import logging
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from joblib.externals.loky.process_executor import BrokenProcessPool
from pydicom import Dataset

from rps_utils.cohort.contract import HASHES, REAL_ID, Fault
from rps_utils.files import write_csv, write_json
from rps_utils.texts.cells import NUMBER, safe_cell
from rps_utils.texts.persons import HIDDEN, PSEUDONYMS, WORDS, is_pseudonym, words

ANONYMOUS = {"anonymous", "anonymized", "anonymised", "anon", "removed", "deidentified", "unknown", "none", "phantom"}
PERSONAL = (
    *("PatientBirthDate", "OtherPatientIDs", "OtherPatientNames", "PatientAddress", "PatientTelephoneNumbers"),
    *("PatientMotherBirthName", "PatientBirthName"),
)
_PACKAGE = Path(__file__).resolve().parents[1]
TALKATIVE = ("pydicom", "highdicom", "nibabel", "nibabel.global", "py.warnings")  # loggers that quote what they read


def identity_faults(headers: Iterable[Dataset], patient_id: str) -> list[Fault]:
    """Find names, birth dates and real ids in the headers of a patient; their values are never repeated."""
    found = sorted({tag for header in headers for tag in _personal_tags(header, patient_id)})
    remedy = "de-identify the files, or state that they are identified (--identified-source)"
    return [Fault("DICOM header", f"{tag} is filled {HIDDEN}", "no personal data", remedy) for tag in found]


def _personal_tags(header: Dataset, patient_id: str) -> Iterator[str]:
    yield from (tag for tag in PERSONAL if header_text(header, tag))
    for tag in ("PatientID", "PatientName"):
        text = header_text(header, tag)
        plain = "".join(words(text))
        if plain and plain not in ANONYMOUS and (tag == "PatientName" or text != patient_id):
            real = REAL_ID.fullmatch(text) and plain != "".join(words(patient_id))
            if real or not is_pseudonym(text, patient_id):
                yield tag


def header_text(header: Dataset, tag: str) -> str:
    """Return a value of a header as text; where pydicom cannot read it, its raw bytes count as filled."""
    try:
        value = header.get(tag)
        return "" if value is None else str(value).strip(" ^\0")
    except Exception:  # pydicom raises many kinds on values that break their own rules
        return "unreadable"


def personal_words(patient_ids: Iterable[str], headers: Iterable[Dataset]) -> frozenset[str]:
    """Return the words of the headers that may stand nowhere: names, birth dates, ids other than pseudonyms."""
    pseudonyms = {word for text in patient_ids for word in words(text)}
    tags = (*PERSONAL, "PatientName", "PatientID", "AccessionNumber")
    texts = {header_text(header, tag) for header in headers for tag in tags}
    found_words = {word for text in texts for word in words(text) if len(word) > 3}
    return frozenset(found_words - pseudonyms - ANONYMOUS - WORDS - PSEUDONYMS)


class Outlet:
    """Writes tables, records and lines, and lets no personal word through.

    Parameters
    ----------
    personal : frozenset of str
        From `personal_words`.
    """

    def __init__(self, personal: frozenset[str]) -> None:
        self.personal = personal

    def clean(self, text: str) -> str:
        """Return a text if no personal word stands in it; else a note in its place."""
        return HIDDEN if self.personal.intersection(words(text)) else text

    def say(self, line: str, progress: Callable[[str], Any]) -> None:
        """Pass a line on."""
        progress(self.clean(line))

    def fault(self, fault: Iterable[str]) -> Fault:
        """Return a fault whose value holds no personal word."""
        column, value, allowed, remedy = fault
        return Fault(column, self.clean(value), allowed, remedy)

    def write_record(self, record: dict[str, Any], path: Path) -> None:
        """Write what is kept of a patient."""
        write_json(json.loads(json.dumps(record), object_hook=self._cleaned), path)

    def _cleaned(self, part: dict[str, Any]) -> dict[str, Any]:
        return {key: self.clean(value) if isinstance(value, str) else value for key, value in part.items()}

    def write_table(self, table: pd.DataFrame, path: Path) -> Path:
        """Write a table of which every cell is safe for a spreadsheet, and none holds a personal word."""
        self.refuse(table, path.name)
        return write_csv(table.map(lambda cell: safe_cell(cell) if isinstance(cell, str) else cell), path)

    def refuse(self, table: pd.DataFrame, name: str) -> None:
        """Raise ValueError where a personal word stands in a cell or in the name of a column."""
        for number, column in enumerate(table.columns, 1):
            texts = {column, *(table[column].astype(str) if column not in HASHES else ())}
            if any(self.personal.intersection(words(text)) for text in texts):
                raise ValueError(
                    f"{name} would hold, in column {self._named(column, number)}, a word that stands in a DICOM header"
                    f" as name, birth date or id {HIDDEN}: no table was written. Remove it from the clinical table."
                )

    def _named(self, column: str, number: int) -> str:
        return str(number) if self.personal.intersection(words(column)) else column


# What may stand in a header, and what is written in its place. The header's own text is matched, never copied.
def _same(names: str) -> dict[str, str]:
    return {name.casefold(): name for name in names.split()}


VOCABULARIES = {
    "Manufacturer": {
        **_same("Siemens Philips Toshiba Canon Hitachi Fujifilm GE Neusoft Shimadzu Imatron Picker Elscint Marconi"),
        **{"general": "GE", "united": "United Imaging", "uih": "United Imaging", "synthetic": "synthetic"},
    },
    "ConvolutionKernel": _same(
        "STANDARD SOFT BONE DETAIL LUNG CHEST EDGE SMOOTH SHARP BODY HEAD ULTRA SYNTHETIC A B C D L YA YB"
    ),
    "ContrastBolusAgent": _same(
        "Omnipaque Visipaque Ultravist Iomeron Isovue Optiray Imeron Xenetix Accupaque Oxilan Iohexol Iodixanol"
        " Iopromide Iomeprol Iopamidol Ioversol Iobitridol Iodine IV oral water none no yes contrast applied given"
    ),
    "Modality": _same("CT MR PT NM US CR DX MG XA RF OT SC SR PR KO DOC SEG REG RTSTRUCT RTPLAN RTDOSE RTIMAGE"),
    "PhotometricInterpretation": _same("MONOCHROME1 MONOCHROME2 RGB YBR PALETTE"),
    "PatientPosition": _same("HFS HFP HFDR HFDL FFS FFP FFDR FFDL"),
    "PatientIdentityRemoved": _same("YES NO"),
}
NUMERIC = {
    "Rows",
    "Columns",
    "PixelSpacing",
    "AcquisitionNumber",
    "TemporalPositionIdentifier",
    "KVP",
    "SliceThickness",
}
KERNEL = re.compile(r"([A-Z]{1,2}[a-z]?\d{2}[a-z]?)(?![A-Za-z\d])")  # Br40d, B31f, FC08
OTHER = "other"


def known_value(tag: str, value: Any) -> str:
    """Return what a header says, in the words of a list or as short numbers; empty where it says nothing.

    Parameters
    ----------
    tag : str
        Keyword of the attribute.
    value : object
        As pydicom gives it, of one or several parts.

    Returns
    -------
    str
        ``other`` where a text stands there that no list knows, or a number of more than six digits.
    """
    parts = [value] if isinstance(value, str | float | int) or value is None else list(value)
    texts = [str(part).strip() for part in parts if part not in (None, "")]
    matched = [_number(text) if tag in NUMERIC else _listed(tag, text) for text in texts]
    return " x ".join(matched) if tag in NUMERIC else " ".join(dict.fromkeys(matched))


def _number(text: str) -> str:
    plain = NUMBER.fullmatch(text) and len(text) <= 16 and abs(float(text)) < 1e5
    return f"{float(text):g}" if plain else OTHER


def _listed(tag: str, text: str) -> str:
    kernel = KERNEL.match(text) if tag == "ConvolutionKernel" else None
    known = VOCABULARIES.get(tag, {})
    found = (known[word] for word in words(text) if word in known)
    return kernel[1] if kernel else next(found, OTHER)


STRUCTURES = frozenset(
    words("""
    tumour tumor tumours tumors neoplasm lesion mass gtv ctv ptv roi node metastasis sarcoma lps lms cyst necrosis
    abdominal infrarenal thoracic descending infrahepatic aorta inferior vena cava ivc abdominalis liver kidney spine
    left right body external
    """)
)


def known_structure(name: str, number: int) -> str:
    """Return the name of a drawn structure if it is made of listed words and at most four digits; else its number."""
    parts = [part for part in words(name) if not part.isdigit()]
    plain = re.fullmatch(r"[A-Za-z][\w .-]{0,40}", name, re.ASCII) and len(re.findall(r"\d", name)) <= 4
    return name if plain and STRUCTURES.issuperset(parts) else f"structure {number} (name not shown)"


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep warnings and log lines of the readers of files from standard error: they quote what they read."""
    loggers = [logging.getLogger(name) for name in TALKATIVE]
    before = [logger.disabled for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.disabled = True
        try:
            yield
        finally:
            for logger, disabled in zip(loggers, before, strict=True):
                logger.disabled = disabled


@contextmanager
def without_content(out: Path) -> Iterator[None]:
    """Let no error of a library or of the system through that quotes a file: its kind and place are told instead.

    What this package says on purpose passes, and so does the system's word on a file below `out`.
    """
    try:
        yield
    except OSError as error:
        own = error.filename is None or Path(str(error.filename)).resolve().is_relative_to(out.resolve())
        if own:
            raise
        raise type(error)(error.errno, f"a file of the source: {error.strerror}") from None
    except (MemoryError, ModuleNotFoundError, BrokenProcessPool):  # they speak of the machine
        raise
    except Exception as error:
        if isinstance(error, ValueError) and not isinstance(error, UnicodeError) and _is_ours(error):
            raise type(error)(*error.args) from None
        raise RuntimeError(f"ingest failed ({type(error).__name__}), and wrote no manifest: report it") from None


def _is_ours(error: Exception) -> bool:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and Path(trace.tb_frame.f_code.co_filename).is_relative_to(_PACKAGE)
