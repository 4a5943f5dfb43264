"""The door of the study: reads a data manifest and names everything that is wrong with it, before anything runs.

A manifest is a CSV file with one row a patient. Cells are read as text and parsed afterwards, so that nothing is
guessed on the way: ``1,5`` stays ``1,5`` and can be named. The checks go from cheap to dear: cells, then file
names, then image headers, then voxels. All are run, so that one look shows every fault, and nothing is written.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from rps_utils.files import file_sha256
from rps_utils.images import load_nifti

OUTCOME = ("time_months", "event")
REQUIRED = ("patient_id", "image", "mask", *OUTCOME)
OPTIONAL_FILES = ("reference_map",)
FILES = ("image", "mask", *OPTIONAL_FILES)
HASHES = {f"{column}_sha256": column for column in FILES}
SPLITS = ("training", "validation")
READY_MADE = "risk_"
DATA_KIND = "data_kind"
DATA_KINDS = ("synthetic", "public", "private")
RESERVED = {"fold": "folds are drawn by the study", "died": "death without local recurrence is written as event 2"}
NOT_CLINICAL = (*REQUIRED, *OPTIONAL_FILES, "split", DATA_KIND, *RESERVED, *HASHES)
MISSING = ("", "na", "n/a", "nan", "null")
MISSING_CODES = ("-999", "-9999", "-999.0")

PATIENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
IDENTIFYING = re.compile(r"(^|_)(name|surname|birth|birthdate|dob|mrn|address|phone|email)(_|$)", re.IGNORECASE)

LONGEST_FOLLOW_UP = 600.0  # months; more is a time in days
MOST_VOXELS = 300_000_000  # 512 x 512 x 1,144
SPACING_MM = (0.2, 12.0)
AFFINE_TOLERANCE = 1e-3
LOWEST_HU_BELOW, HIGHEST_HU = -500.0, 4000.0
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


class ManifestError(ValueError):
    """A manifest cannot be used; the message is the table of its faults."""


class Fault(NamedTuple):
    """A fault of one row, before it is known which row."""

    column: str
    value: str
    allowed: str
    remedy: str


# ---------------------------------------------------------------- reading


def read_manifest(path: str | Path) -> pd.DataFrame:
    """Read a manifest into typed columns.

    Parameters
    ----------
    path : str or Path
        A local CSV file in UTF-8. Addresses (``https://``) are not followed.

    Returns
    -------
    pandas.DataFrame
        One row a patient. ``time_months`` float, ``event`` int (0 censored, 1 local recurrence, 2 death without
        it; `scores.by_cause` makes it 0/1), clinical columns float where every cell is a number and text otherwise,
        missing cells NaN; ``image``, ``mask`` and, if given, ``reference_map`` stay relative to the manifest.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ManifestError
        A cell is wrong. Images are not opened here: see `check_manifest`.
    """
    cells, problems = read_cells(path)
    problems = problems or check_cells(cells)
    if problems:
        raise ManifestError(format_problems(problems))
    typed = {column: _typed_column(column, cells[column]) for column in cells.columns}
    return pd.DataFrame(typed).reset_index(drop=True)


def image_files(manifest: pd.DataFrame, root: str | Path) -> pd.DataFrame:
    """Return ``patient_id`` and, for each file of a patient, its path from `root`; missing where there is none."""
    table = manifest.reindex(columns=["patient_id", *FILES])
    for column in FILES:
        table[column] = [str(Path(root) / name) if isinstance(name, str) else None for name in table[column]]
    return table


def _typed_column(column: str, cells: pd.Series) -> pd.Series:
    if column in (*HASHES, "image", "mask", "patient_id", "split"):
        return cells
    given = cells.where(~is_missing(cells))
    if column == "centre" or not given.dropna().str.fullmatch(NUMBER).all():
        return given
    return given.astype(float).astype(int) if column == "event" else given.astype(float)


def read_cells(path: str | Path, learn: bool = True) -> tuple[pd.DataFrame, list[Problem]]:
    """Read a manifest as text.

    Parameters
    ----------
    path : str or Path
    learn : bool
        See `check_manifest`.

    Returns
    -------
    cells : pandas.DataFrame
        Stripped text; the index is the line of the file.
    problems : list of Problem
        What keeps the file from being a table: encoding, separator, rows of other length, columns missing.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"manifest {path} does not exist: give the path of a local CSV file")
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            lines = [(reader.line_num, row) for reader in [csv.reader(stream)] for row in reader if any(row)]
    except (UnicodeDecodeError, csv.Error) as error:
        return pd.DataFrame(), [_of_table("file", path.name, "CSV text in UTF-8", f"save it as CSV UTF-8 ({error})")]
    if len(lines) < 2:
        return pd.DataFrame(), [_of_table("file", path.name, "a header and one row a patient", "add the patients")]
    header = [name.strip() for name in lines[0][1]]
    problems = [*_header_problems(header, learn), *_length_problems(lines[1:], len(header))]
    sound = {line: row for line, row in lines[1:] if len(row) == len(header)}
    cells = pd.DataFrame.from_dict(sound, orient="index", columns=header)
    return (cells if problems else cells.apply(lambda column: column.str.strip())), problems


def _of_table(column: str, value: str, allowed: str, remedy: str) -> Problem:
    return Problem(None, "", column, value, allowed, remedy)


def _header_problems(header: list[str], learn: bool) -> Iterator[Problem]:
    if len(header) == 1 and re.search(r"[;\t]", header[0]):
        yield _of_table("header", header[0], "columns separated by commas", "export with a comma as separator")
        return
    outcome_free = not learn and not set(OUTCOME) & set(header)
    for column in REQUIRED:
        if column not in header and not (outcome_free and column in OUTCOME):
            yield _of_table(column, "no such column", f"the columns {', '.join(REQUIRED)}", "add it to the header")
    for column in sorted({c for c in header if header.count(c) > 1}):
        yield _of_table(column or "(no name)", "used twice", "names that differ", "rename or remove one of them")
    if "" in header and header.count("") == 1:
        yield _of_table("(no name)", "column without a name", "a name for every column", "name or remove it")
    for column in RESERVED:
        if column in header:
            yield _of_table(column, "reserved name", "any other name", f"rename the column: {RESERVED[column]}")
    for column in header:
        if IDENTIFYING.search(column):
            yield _of_table(column, "identifies a person", "pseudonyms only", "remove the column from the file")


def _length_problems(lines: list[tuple[int, list[str]]], width: int) -> Iterator[Problem]:
    for line, row in lines:
        if len(row) != width:
            remedy = "put cells that hold a comma in double quotes" if len(row) > width else "fill up the row"
            yield Problem(line, row[0].strip(), "row", f"{len(row)} cells", f"{width} cells, as in the header", remedy)


def is_missing(cells: pd.Series) -> pd.Series:
    """Tell which text cells stand for a missing value: empty, NA, N/A, NaN, null."""
    return cells.str.lower().isin(MISSING)


# ---------------------------------------------------------------- whose data


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


# ---------------------------------------------------------------- cells


def clinical_columns(columns: Iterable[str]) -> list[str]:
    """Return the names of the clinical columns: all but ids, files, outcome, split, kind and ``risk_<Name>``."""
    return [c for c in columns if c not in NOT_CLINICAL and not c.startswith(READY_MADE)]


def lacking_columns(path: str | Path, wanted: Iterable[str]) -> list[Problem]:
    """List the clinical columns that models are to use and a manifest does not have; nothing if it cannot be read."""
    cells, unreadable = read_cells(path)
    there = clinical_columns(cells.columns)
    allowed, remedy = f"the manifest has {', '.join(there)}", "add it, or name others: -p clinical_columns=[...]"
    absent = [] if unreadable else [column for column in wanted if column not in there]
    return [_of_table(column, "no such column", allowed, remedy) for column in absent]


def check_cells(cells: pd.DataFrame, folds: int | None = None, split_by: str = "", learn: bool = True) -> list[Problem]:
    """List the faults of a manifest that show without opening a file.

    Parameters
    ----------
    cells : pandas.DataFrame
        From `read_cells`.
    folds : int, optional
        Number of folds planned: training must hold an event and three patients for each.
    split_by : str
        Column whose values are to be the folds, such as ``centre``, in place of `folds` drawn ones.
    learn : bool
        See `check_manifest`.
    """
    ready_made = [c for c in cells.columns if c.startswith(READY_MADE)]
    found = [
        *_patient_problems(cells),
        *(_cell_problems(cells, "time_months", _time_fault) if "time_months" in cells else ()),
        *(_cell_problems(cells, "event", _event_fault) if "event" in cells else ()),
        *(_cell_problems(cells, "split", _split_fault) if "split" in cells else ()),
        *(_kind_problems(cells) if DATA_KIND in cells else ()),
        *(p for c in ready_made for p in _cell_problems(cells, c, _number_fault)),
        *(p for c in HASHES if c in cells for p in _cell_problems(_given(cells, c), c, _hash_fault)),
        *(p for c in clinical_columns(cells.columns) for p in _clinical_problems(cells, c, learn)),
    ]
    if found or not learn:
        return sorted(found, key=_line)
    groups = _group_problems(cells, split_by) if split_by else ()
    return [*_size_problems(cells, None if split_by else folds), *groups]


def _given(cells: pd.DataFrame, column: str) -> pd.DataFrame:
    """Leave out the rows in which an optional file, or its hash, is not given."""
    optional = column.removesuffix("_sha256") in OPTIONAL_FILES
    return cells[~is_missing(cells[column])] if optional else cells


def _cell_problems(cells: pd.DataFrame, column: str, fault: Any) -> Iterator[Problem]:
    for line, text in cells[column].items():
        wrong = fault(text)
        if wrong:
            yield Problem(line, cells.loc[line, "patient_id"], column, text, *wrong)


def _patient_problems(cells: pd.DataFrame) -> Iterator[Problem]:
    yield from _cell_problems(cells, "patient_id", _id_fault)
    ids = cells["patient_id"]
    for line in ids.index[ids.duplicated() & (ids != "")]:
        first = ids.index[ids == ids[line]][0]
        value = f"{ids[line]} again, first in line {first}"
        if "split" in cells and cells.loc[first, "split"] != cells.loc[line, "split"]:
            value += f", there {cells.loc[first, 'split']}, here {cells.loc[line, 'split']}"
        yield Problem(line, ids[line], "patient_id", value, "one row a patient, in one split", "remove one of the rows")


def _id_fault(text: str) -> tuple[str, str] | None:
    if not PATIENT_ID.fullmatch(text):
        return "1 to 64 letters, digits, . _ -; first a letter or digit", "give the patient a pseudonym of that form"
    return None


def _number_fault(text: str) -> tuple[str, str] | None:
    if text.lower() in MISSING:
        return "a number in every row", "fill in the value or remove the patient"
    if DECIMAL_COMMA.fullmatch(text):
        return "a number with a decimal point", f"write {text.replace(',', '.')}"
    if not NUMBER.fullmatch(text) or not np.isfinite(float(text)):
        return "a finite number", "write digits only, without unit or sign such as > or ~"
    return None


def _time_fault(text: str) -> tuple[str, str] | None:
    wrong = _number_fault(text)
    if wrong:
        return wrong
    if float(text) <= 0:
        return "months above 0", "correct the dates of surgery and last visit; leave out who was never seen again"
    if float(text) > LONGEST_FOLLOW_UP:
        return f"months up to {LONGEST_FOLLOW_UP:g}", "divide times in days by 30.4375"
    return None


def _event_fault(text: str) -> tuple[str, str] | None:
    if text in ("0", "1", "2", "0.0", "1.0", "2.0"):
        return None
    allowed = "0 (no local recurrence seen), 1 (local recurrence) or 2 (death without it)"
    return allowed, "write 0, 1 or 2; leave out who has no follow-up"


def _split_fault(text: str) -> tuple[str, str] | None:
    return None if text in SPLITS else (" or ".join(SPLITS), "correct it, or remove the column to have it drawn")


def _kind_problems(cells: pd.DataFrame) -> Iterator[Problem]:
    yield from _cell_problems(cells, DATA_KIND, _kind_fault)
    kinds = sorted(set(cells[DATA_KIND]))
    if len(kinds) > 1 and set(kinds) <= set(DATA_KINDS):
        remedy = "write private in all rows, or make a manifest of each kind"
        yield _of_table(DATA_KIND, ", ".join(kinds), "one kind for the whole cohort", remedy)


def _kind_fault(text: str) -> tuple[str, str] | None:
    return None if text in DATA_KINDS else (" or ".join(DATA_KINDS), "correct it; without the column it is private")


def _hash_fault(text: str) -> tuple[str, str] | None:
    if re.fullmatch(r"[0-9a-f]{64}", text):
        return None
    return "64 hexadecimal digits, lower case", "write the file's SHA-256, or remove the column"


def _clinical_problems(cells: pd.DataFrame, column: str, learn: bool) -> Iterator[Problem]:
    """Refuse text in a column of numbers; a column without a majority of numbers is a category."""
    given = cells.loc[~is_missing(cells[column]), column]
    if given.empty and not learn:
        return
    if given.empty:
        yield _of_table(column, "no value at all", "a value in some rows", "remove the column")
        return
    for line in given.index[given.map(is_formula)]:
        remedy = "write the value itself, without = + - @ in front"
        yield Problem(line, cells.loc[line, "patient_id"], column, given[line], "a value, no formula", remedy)
    given = given[~given.map(is_formula)]
    numeric = given.str.fullmatch(NUMBER) | given.str.fullmatch(DECIMAL_COMMA)
    if numeric.mean() <= 0.5:
        return
    for line, text in given.items():
        wrong = _number_fault(text)
        if text in MISSING_CODES:
            wrong = "a value, or an empty cell where it is missing", "empty the cell"
        if wrong:
            yield Problem(line, cells.loc[line, "patient_id"], column, text, *wrong)


def is_formula(text: str) -> bool:
    """Tell whether a spreadsheet would run a cell: it begins with = + - @ or a tab, and is no number."""
    number = NUMBER.fullmatch(text) or DECIMAL_COMMA.fullmatch(text)
    return len(text) > 1 and text[0] in "=+-@\t\r" and not number


def _size_problems(cells: pd.DataFrame, folds: int | None) -> Iterator[Problem]:
    """Faults of the cohort as a whole; asked only once every cell is sound."""
    event = cells["event"].astype(float) == 1
    split = cells.get("split")
    for name in SPLITS if split is not None else ():
        events = int(event[split == name].sum())
        if not events:
            value = f"{int((split == name).sum())} patients, 0 events in {name}"
            yield _of_table("split", value, "events in both splits", "move patients, or remove the column")
    share = 0.75 if split is None else 1.0
    training = event if split is None else event[split == "training"]
    if training.sum() * share < max(folds or 0, 2) or len(training) * share < 3 * (folds or 1):
        value = f"{len(training)} patients, {int(training.sum())} events" + ("" if split is None else " in training")
        allowed = f"for {folds} folds 3 patients and 1 event a fold" if folds else "2 events to learn from"
        yield _of_table("event", value, allowed, "lower the parameter folds, or add patients")


def _group_problems(cells: pd.DataFrame, column: str) -> Iterator[Problem]:
    """Faults of a split in which each value of a column is a fold (leave one centre out)."""
    remedy = "set split_by to nothing, or merge groups"
    if column not in cells:
        yield _of_table(column, "no such column", "the column of split_by", "add it, or set split_by to nothing")
        return
    missing = cells.index[is_missing(cells[column])]
    yield from (Problem(n, cells.loc[n, "patient_id"], column, "empty", "a value", "fill it in") for n in missing)
    training = cells[cells["split"] == "training"] if "split" in cells else cells
    groups = training[~is_missing(training[column])].groupby(column)["event"]
    if len(groups) < LEAST_GROUPS:
        value = f"{len(groups)} groups in training ({', '.join(groups.groups)})"
        yield _of_table(column, value, f"{LEAST_GROUPS} or more, one a fold", "set split_by to nothing")
    for name, event in groups:
        events = int((event.astype(float) == 1).sum())
        if len(event) < 3 or not events:
            value = f"{name}: {len(event)} patients, {events} events in training"
            yield _of_table(column, value, "3 patients and 1 event a group", remedy)


# ---------------------------------------------------------------- files


def path_fault(text: str, root: Path) -> tuple[str, str] | None:
    """Say why a cell is no safe path to an image below `root` (the manifest's folder), or None.

    Refused are absolute paths, ``..``, links that lead out, backslashes, drive letters, addresses, ``~``, control
    characters, and extensions other than ``.nii`` and ``.nii.gz`` (some formats can point to further files).
    """
    if text.lower() in MISSING:
        return "a path in every row", "fill in the path or remove the patient"
    if re.search(r"[\\\x00-\x1f]|://|^~|^[A-Za-z]:", text):
        return (
            "a path with forward slashes, relative to the manifest",
            "no \\, drive letter, address, ~ or control sign",
        )
    if text.startswith("/") or ".." in text.split("/"):
        return "a path below the manifest's folder", "move the file there and write its relative path"
    if not text.endswith((".nii", ".nii.gz")):
        return "a file .nii or .nii.gz", "convert the image to NIfTI"
    if not (root / text).resolve().is_relative_to(root.resolve()):
        return "a path below the manifest's folder", "the link leads out of it: copy the file, or move the manifest"
    if not (root / text).is_file():
        return "a file that exists", "correct the path (capitals count), or copy the file there"
    return None


def check_paths(cells: pd.DataFrame, root: Path) -> tuple[dict[int, dict[str, Path]], list[Problem]]:
    """Return the safe paths of each line and the faults of the others, files named twice included."""
    paths: dict[int, dict[str, Path]] = {line: {} for line in cells.index}
    problems: list[Problem] = []
    seen: dict[Path, tuple[int, str]] = {}
    for column in (c for c in FILES if c in cells):
        for line, text in _given(cells, column)[column].items():
            patient = cells.loc[line, "patient_id"]
            wrong = path_fault(text, root)
            if wrong:
                problems.append(Problem(line, patient, column, text, *wrong))
                continue
            paths[line][column] = root / text
            first = seen.setdefault((root / text).resolve(), (line, column))
            if first != (line, column):
                value = f"{text}, also {first[1]} of line {first[0]}"
                problems.append(Problem(line, patient, column, value, "a file of its own", "correct one of the paths"))
    return paths, problems


# ---------------------------------------------------------------- images


def header_faults(path: Path, column: str) -> tuple[nib.Nifti1Image | None, list[Fault]]:
    """Check what the header of an image tells, without reading a voxel.

    Returns
    -------
    image : nibabel image or None
        None where its voxels should not be read: unreadable, not 3-D, or beyond the largest size allowed.
    faults : list of Fault
    """
    try:
        image = load_nifti(path)
        shape, spacing = image.shape, image.header.get_zooms()[:3]
        kind = image.get_data_dtype().kind
    except Exception as error:  # nibabel raises many kinds on broken files; each is the same fault to the reader
        return None, [Fault(column, f"unreadable: {error}", "a NIfTI image", "convert or copy the file again")]
    if len(shape) != 3:
        size = " x ".join(map(str, shape))
        return None, [Fault(column, f"{len(shape)}-D ({size})", "a 3-D volume", "export one volume a file")]
    if np.prod(shape, dtype=float) > MOST_VOXELS or min(shape) < 2 or kind not in "iuf":
        value = f"{' x '.join(map(str, shape))} voxels of type {image.get_data_dtype()}"
        allowed = f"2 voxels an axis, {MOST_VOXELS:.0e} at most, of numbers"
        return None, [Fault(column, value, allowed, "crop or resample the image, export grey values")]
    return image, list(_geometry_faults(image, column, spacing))


def _geometry_faults(image: nib.Nifti1Image, column: str, spacing: tuple[float, ...]) -> Iterator[Fault]:
    sform, qform = (get(coded=True)[0] for get in (image.get_sform, image.get_qform))
    if sform is None and qform is None:
        yield Fault(column, "no orientation stored", "an sform or qform", "convert again from DICOM")
    if sform is not None and qform is not None and not np.allclose(sform, qform, atol=AFFINE_TOLERANCE):
        gap = np.abs(sform - qform).max()
        yield Fault(column, f"sform and qform differ by {gap:.3g}", "equal within 0.001", "convert again from DICOM")
    if not all(SPACING_MM[0] <= s <= SPACING_MM[1] for s in spacing) or image.header.get_xyzt_units()[0] in (
        "meter",
        "micron",
    ):
        value = f"spacing {' x '.join(f'{s:.4g}' for s in spacing)} {image.header.get_xyzt_units()[0]}"
        yield Fault(column, value, f"{SPACING_MM[0]} to {SPACING_MM[1]} mm", "convert again from DICOM")
    axes = image.affine[:3, :3] / np.linalg.norm(image.affine[:3, :3], axis=0).clip(1e-9)
    if not np.allclose(axes.T @ axes, np.eye(3), atol=AFFINE_TOLERANCE):
        yield Fault(column, "axes are not at right angles", "an upright grid", "correct the gantry tilt on conversion")


def grid_faults(ct: nib.Nifti1Image, mask: nib.Nifti1Image, column: str = "mask") -> list[Fault]:
    """Compare the grids of CT and mask (or reference map): shape, and affine within 0.001."""
    remedy = f"resample the {column} to the CT (nearest neighbour), or export it on the CT"
    if ct.shape != mask.shape:
        return [Fault(column, f"shape {mask.shape}", f"the CT's shape {ct.shape}", remedy)]
    gap = np.abs(ct.affine - mask.affine).max()
    if not gap <= AFFINE_TOLERANCE:
        return [Fault(column, f"affine differs by {gap:.3g}", "the CT's affine within 0.001", remedy)]
    return []


def ct_faults(hu: np.ndarray) -> Iterator[Fault]:
    """Check the grey values of a CT: finite, and plausible as Hounsfield units."""
    if hu.dtype.kind == "f" and not np.isfinite(hu).all():
        count = int((~np.isfinite(hu)).sum())
        yield Fault("image", f"{count} voxels not finite", "finite HU", "set voxels outside the scan to -1024")
        return
    low, high = float(hu.min()), float(hu.max())
    if low > LOWEST_HU_BELOW:
        allowed = f"HU: air present, minimum {LOWEST_HU_BELOW:g} or below"
        yield Fault("image", f"minimum {low:g}", allowed, "apply rescale slope and intercept on conversion")
    if high > HIGHEST_HU:
        yield Fault("image", f"maximum {high:g}", f"HU up to {HIGHEST_HU:g}", "apply rescale slope and intercept")


def mask_faults(labels: np.ndarray, voxel_ml: float) -> Iterator[Fault]:
    """Check a mask: 0 and 1 only, not empty, of some size, and not touching every border."""
    plain = labels.dtype.kind in "iu" and labels.min() >= 0 and labels.max() <= 1
    other: list[float] = [] if plain else np.unique(labels[~((labels == 0) | (labels == 1))]).tolist()
    if other:
        shown = ", ".join(f"{v:g}" for v in other[:5])
        yield Fault("mask", f"labels {shown}", "0 (background) and 1 (tumour)", "keep one label, write it as 1")
    inside = labels != 0
    if not inside.any():
        yield Fault("mask", "no voxel labelled", "a tumour", "draw it, or name the right file")
        return
    if inside.sum() * voxel_ml < SMALLEST_TUMOUR_ML:
        value = f"{inside.sum() * voxel_ml:.2g} ml"
        yield Fault("mask", value, f"{SMALLEST_TUMOUR_ML:g} ml or more", "check the mask; too small for texture")
    borders = [inside.take(end, axis=axis).any() for axis in range(3) for end in (0, -1)]
    if all(borders):
        yield Fault(
            "mask", "touches every border", "background around the tumour", "is it inverted? give the whole scan"
        )


def reference_faults(labels: np.ndarray) -> Iterator[Fault]:
    """Check a reference map: whole labels from 0 to 255, and at least one voxel labelled."""
    if not ((labels >= 0) & (labels <= 255) & (labels == np.round(labels))).all():
        value = f"values {labels.min():g} to {labels.max():g}"
        yield Fault("reference_map", value, "whole labels 0 (nothing) to 255", "write every structure as one label")
    elif not labels.any():
        yield Fault("reference_map", "no voxel labelled", "something marked", "leave the cell empty without a map")


def tumour_faults(hu: np.ndarray, labels: np.ndarray) -> Iterator[Fault]:
    """Check that the mask lies on tissue: a mask flipped or shifted against its CT often lies on air."""
    median = float(np.median(hu[labels != 0]))
    if not TUMOUR_HU[0] <= median <= TUMOUR_HU[1]:
        allowed = f"soft tissue or fat, {TUMOUR_HU[0]:g} to {TUMOUR_HU[1]:g} HU"
        yield Fault("mask", f"median {median:.0f} HU inside", allowed, "is the mask flipped or of another scan?")


def _read_voxels(image: nib.Nifti1Image, column: str) -> tuple[np.ndarray | None, list[Fault]]:
    try:
        return np.asarray(image.dataobj), []
    except Exception as error:  # truncated or corrupt streams raise OSError, EOFError, zlib.error, ...
        return None, [Fault(column, f"unreadable: {error}", "all voxels", "copy the file again")]


class RowCheck(NamedTuple):
    """Faults of one row's images and a digest of the voxels of its CT."""

    faults: list[Fault]
    digest: str


def voxel_check(paths: dict[str, Path], hashes: dict[str, str]) -> RowCheck:
    """Check the files of one patient down to the voxels.

    Parameters
    ----------
    paths : dict
        ``image``, ``mask`` and ``reference_map``, where there is one and its header is sound.
    hashes : dict
        The same keys to the SHA-256 in the manifest, where given.
    """
    faults = [
        Fault(f"{column}_sha256", hashes[column], "the file's SHA-256", "the file has changed: restore or re-hash it")
        for column in paths
        if column in hashes and file_sha256(paths[column]) != hashes[column]
    ]
    voxels: dict[str, np.ndarray | None] = {}
    for column, path in paths.items():
        image = load_nifti(path)
        voxels[column], unreadable = _read_voxels(image, column)
        faults += unreadable
    ct, labels, reference = (voxels.get(column) for column in FILES)
    faults += [] if ct is None else ct_faults(ct)
    faults += [] if labels is None else mask_faults(labels, float(np.abs(np.linalg.det(image.affine[:3, :3]))) / 1000)
    faults += [] if reference is None else reference_faults(reference)
    if ct is not None and labels is not None and not faults and ct.shape == labels.shape:
        faults += tumour_faults(ct, labels)
    return RowCheck(faults, "" if ct is None else hashlib.sha256(np.ascontiguousarray(ct.T).data).hexdigest())


def check_images(
    cells: pd.DataFrame, paths: dict[int, dict[str, Path]], *, n_jobs: int = 1, voxels: bool = True
) -> list[Problem]:
    """Check headers of all images, then the voxels of those whose headers are sound."""
    found: list[tuple[int, Fault]] = []
    sound: dict[int, dict[str, Path]] = {}
    for line, own in paths.items():
        images: dict[str, nib.Nifti1Image] = {}
        for column, path in own.items():
            image, faults = header_faults(path, column)
            found += [(line, fault) for fault in faults]
            images |= {column: image} if image is not None else {}
        ct = images.get("image")
        if ct is not None:
            others = [(column, other) for column, other in images.items() if column != "image"]
            found += [(line, fault) for column, other in others for fault in grid_faults(ct, other, column)]
        sound[line] = {column: own[column] for column in images}
    if voxels:
        found += _check_voxels(cells, sound, n_jobs)
    return [Problem(line, cells.loc[line, "patient_id"], *fault) for line, fault in found]


def _check_voxels(cells: pd.DataFrame, sound: dict[int, dict[str, Path]], n_jobs: int) -> list[tuple[int, Fault]]:
    hashes = {
        line: {file: row[column] for column, file in HASHES.items() if row.get(column)}
        for line, row in cells.iterrows()
    }
    checks = Parallel(n_jobs=n_jobs)(delayed(voxel_check)(own, hashes[line]) for line, own in sound.items())
    found: list[tuple[int, Fault]] = []
    seen: dict[str, int] = {}
    for line, check in zip(sound, checks, strict=True):
        found += [(line, fault) for fault in check.faults]
        first = seen.setdefault(check.digest, line)
        if check.digest and first != line and sound[first]["image"].resolve() != sound[line]["image"].resolve():
            value = f"same voxels as line {first} ({cells.loc[first, 'patient_id']})"
            found.append((line, Fault("image", value, "a scan of its own", "one patient under two ids? correct it")))
    return found


# ---------------------------------------------------------------- the whole door


def check_manifest(
    path: str | Path,
    *,
    folds: int | None = None,
    n_jobs: int = 1,
    voxels: bool = True,
    split_by: str = "",
    learn: bool = True,
) -> list[Problem]:
    """List everything that is wrong with a manifest and with the files it names. Nothing is written.

    Parameters
    ----------
    path : str or Path
        Manifest (CSV).
    folds : int, optional
        Number of folds planned, to check that there are patients and events for them.
    n_jobs : int
        Processes that read voxels.
    voxels : bool
        False stops after the headers: a second instead of a tenth of a second a patient.
    split_by : str
        Column whose values are to be the folds.
    learn : bool
        False where a finished model is applied: nobody has to be numerous, a clinical column may be empty, and
        ``time_months`` and ``event`` may both be absent.

    Returns
    -------
    list of Problem
        In the order of the file; empty if it can be used.

    Raises
    ------
    FileNotFoundError
        There is no such manifest.
    """
    cells, problems = read_cells(path, learn)
    if problems:
        return problems
    paths, wrong_paths = check_paths(cells, Path(path).parent)
    wrong_cells = check_cells(cells, folds, split_by=split_by, learn=learn)
    return sorted([*wrong_cells, *wrong_paths, *check_images(cells, paths, n_jobs=n_jobs, voxels=voxels)], key=_line)


def _line(problem: Problem) -> int:
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
    return f"{len(problems)} problem{'s' * (len(problems) != 1)}\n" + "\n".join(lines)


def plain_text(text: str, width: int = 60) -> str:
    """Keep a cell on one line of `width`: control characters become visible, long text is cut."""
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return text if len(text) <= width else text[: width - 1] + "…"
