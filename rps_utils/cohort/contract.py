"""What a cohort may hold: columns, limits, missing values, and how a fault is said."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

import pandas as pd

from rps_utils.files import FLAGS, MISSING, TEXT
from rps_utils.scores import READY_MADE
from rps_utils.texts.counts import how_many
from rps_utils.texts.persons import DATE, HIDDEN, personal_kind

OUTCOME = ("time_months", "event")
REQUIRED = ("patient_id", "image", "mask", *OUTCOME)
OPTIONAL_FILES = ("reference_map",)
FILES = ("image", "mask", *OPTIONAL_FILES)
HASHES = {f"{column}_sha256": column for column in FILES}
SPLITS = ("training", "validation")
DATA_KIND = "data_kind"
DATA_KINDS = ("synthetic", "public", "private")
DISTINCT = "distinct_from"  # ids of patients, separated by spaces, who look like this one and are somebody else
MANIFEST_TEXT = ("patient_id", "split", "centre", DATA_KIND, DISTINCT, *HASHES)
# The study's own tables use these names; a clinical column of that name would be read as something else.
OWN_COLUMNS = sorted((TEXT | FLAGS | {"risk", "cutoff", "image_score"}) - set(MANIFEST_TEXT))
RESERVED = {
    **dict.fromkeys(OWN_COLUMNS, "the study's own tables have such a column"),
    "fold": "folds are drawn by the study",
    "died": "death without local recurrence is written as event 2",
}
NOT_CLINICAL = (*REQUIRED, *OPTIONAL_FILES, "split", DATA_KIND, DISTINCT, *RESERVED, *HASHES)
STUDY_MODELS = ("DL", "Rad", "Clinical", "DLCM", "RSCM", "Volume")  # what a comparator must not be called
MISSING_CODES = ("-999", "-9999", "-999.0")

CURVED = re.compile(r"rcs\((.+)\)")  # a clinical column that enters a model as a restricted cubic spline
PATIENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
REAL_ID = re.compile(r"\d{6,}|.*(19|20)\d\d(0[1-9]|1[0-2])([0-2]\d|3[01]).*|\d{3}-\d{2}-\d{4}", re.ASCII)
IDENTIFYING = re.compile(r"(^|_)(name|surname|birth|birthdate|dob|mrn|address|phone|email)(_|$)", re.IGNORECASE)

LONGEST_FOLLOW_UP = 600.0  # months; more is a time in days
SPACING_MM = (0.2, 12.0)
AFFINE_TOLERANCE = 1e-3
LOWEST_HU_BELOW, MOST_HU = -500.0, 4000.0
TUMOUR_HU = (-250.0, 500.0)  # median inside the mask: outside lies air, lung or bone
SMALLEST_TUMOUR_ML = 1.0
LEAST_GROUPS = 3  # nested cross-fitting leaves two out and needs one to learn from

# No check of the files tells these from sound data.
UNDETECTABLE = {
    "whole scan mirrored": "left and right, or head and foot, exchanged in CT and mask alike: look at the anatomy",
    "mask mirrored onto tissue": "where the mirrored place is soft tissue too, nothing in the file tells it",
    "mask of another patient on an equal grid": "a NIfTI mask has no owner; on tissue it looks like any other",
    "last slices never exported": "unless a segmentation names them, or the tumour reaches the end of the scan",
    "outcomes exchanged between patients": "each value is allowed; only the source can tell",
    "event coded the other way round": "each code is allowed; the report shows the number of events",
    "wrong phase, or a scan after treatment": "headers seldom tell it; only drawn vessels make a phase plausible",
}


class Problem(NamedTuple):
    """One fault of a manifest.

    Attributes
    ----------
    row : int or None
        Line of the file (the header is line 1); None where a column or the whole table is meant.
    patient_id, column, value : str
        Where it is and what stands there.
    allowed, remedy : str
        What may stand there, and how to mend it.
    """

    row: int | None
    patient_id: str
    column: str
    value: str
    allowed: str
    remedy: str


class Notice(Problem):
    """Something to look at that keeps nobody out."""

    __slots__ = ()


class ManifestError(ValueError):
    """A manifest cannot be used; the message is the table of its faults."""


class Fault(NamedTuple):
    """A fault of one row, before it is known which row."""

    column: str
    value: str
    allowed: str
    remedy: str


def table_problem(column: str, value: str, allowed: str, remedy: str) -> Problem:
    """Return a fault that concerns the whole table or a whole column."""
    return Problem(None, "", column, value, allowed, remedy)


def is_missing(cells: pd.Series) -> pd.Series:
    """Tell which text cells stand for a missing value: empty, NA, N/A, NaN, null."""
    return cells.str.lower().isin(MISSING)


def data_kind(cohort: pd.DataFrame) -> str:
    """Return whose data a cohort holds: ``synthetic``, ``public``, or ``private`` where nobody says otherwise."""
    return str(cohort[DATA_KIND].iloc[0]) if DATA_KIND in cohort and len(cohort) else "private"


def why_withheld(cohort: pd.DataFrame, show_pixels: str = "auto") -> str:
    """Say why pictures of these patients are left out of notebooks and figures; empty where they may be shown.

    Parameters
    ----------
    cohort : pandas.DataFrame
        A manifest or ``cohort.csv``.
    show_pixels : {"auto", "yes", "no"}
        ``auto`` shows synthetic and public patients. Notebooks and reports are passed on more freely than scans.
    """
    if show_pixels not in ("auto", "yes", "no"):
        raise ValueError(f"show_pixels = {show_pixels!r}; allowed: auto, yes, no")
    if show_pixels == "no":
        return "not shown: show_pixels is set to no"
    if show_pixels == "yes" or data_kind(cohort) != "private":
        return ""
    return (
        f"not shown: the manifest does not call these patients synthetic or public (column {DATA_KIND}). "
        "To see them in notebooks that stay with you, set the parameter show_pixels to yes."
    )


def clinical_columns(columns: Iterable[str]) -> list[str]:
    """Return the names of the clinical columns: all but ids, files, outcome, split, kind and ``risk_<Name>``."""
    return [c for c in columns if c not in NOT_CLINICAL and not c.startswith(READY_MADE)]


def plain_column(wanted: str) -> str:
    """Return the column that a model is asked to use: ``age`` of ``rcs(age)``, any other as it is."""
    found = CURVED.fullmatch(wanted)
    return found[1] if found else wanted


def shown_id(text: str) -> str:
    """Return a patient's id for a message, unless it may be a real one or, having no digit, a name."""
    named = (len(text) > 3 and not re.search(r"\d", text)) or (re.search(r"[\s^,]", text) and personal_kind(text))
    return f"id {HIDDEN}" if named or REAL_ID.fullmatch(text) or DATE.search(text) else text


def problem_line(problem: Problem) -> int:
    """Return the line of a problem, 0 where it concerns the whole table: the order in which faults are shown."""
    return problem.row or 0


def format_problems(problems: list[Problem], alike: int = 5) -> str:
    """Write problems as an aligned table, one line each.

    Parameters
    ----------
    problems : list of Problem
    alike : int
        Of one kind (same column, same remedy) so many lines are shown; a last line counts the others.
    """
    if not problems:
        return "no problem found"
    shown: list[tuple[str, ...]] = []
    kinds: dict[tuple[str, str, str], int] = {}
    for p in problems:
        kind = (p.column, p.allowed, p.remedy)
        kinds[kind] = kinds.get(kind, 0) + 1
        if kinds[kind] <= alike:
            row = "-" if p.row is None else str(p.row)
            shown.append((row, plain_text(p.patient_id), p.column, plain_text(p.value), p.allowed, p.remedy))
    table = [("line", "patient", "column", "found", "allowed", "remedy"), *shown]
    widths = [max(len(row[i]) for row in table) for i in range(5)]
    lines = ["  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[5]]) for row in table]
    lines += [f"... and {n - alike} more like it in column {kind[0]}" for kind, n in kinds.items() if n > alike]
    return f"{how_many(len(problems), 'problem')}\n" + "\n".join(lines)


def format_notices(notices: list[Notice]) -> str:
    """Write notices, one line each."""
    lines = [f"line {n.row}, {plain_text(n.patient_id)}: {plain_text(n.value, 160)}; {n.remedy}" for n in notices]
    return "\n".join([f"{how_many(len(notices), 'notice')}; look at them", *lines])


def plain_text(text: str, width: int = 60) -> str:
    """Keep a cell on one line of `width`: control characters become visible, long text is cut."""
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return text if len(text) <= width else text[: width - 1] + "…"
