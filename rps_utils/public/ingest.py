"""A downloaded collection and its clinical table become a manifest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rps_utils.files import write_csv, write_text
from rps_utils.ingest.export import Outcome
from rps_utils.public.series import attribution, read_recipe
from rps_utils.texts.cells import is_formula
from rps_utils.texts.counts import how_many

LIVER_RECURRENCE = "progression_or_recurrence_liveronly"
MOST_DISAGREEING = 0.1  # share of patients in whom table and image, or two columns, may contradict each other


def ingest_collection(
    collection: str,
    source: str | Path,
    clinical: str | Path,
    out: str | Path,
    n_jobs: int = 1,
    *,
    without_quarantined: bool = False,
    progress: Callable[[str], Any] = print,
) -> Outcome:
    """Turn a verified download and the clinical table of a collection into a manifest, by the committed recipe.

    Parameters
    ----------
    collection : str
        A supported one.
    source : str or Path
        Folder of `public_download.download`; verified once more.
    clinical : str or Path
        The table of the collection, as published.
    out : str or Path
        Gets what `ingest.ingest` writes, and ``clinical.csv`` (the columns and patients that are used, codes as
        published), ``mapping.yml``, ``columns.csv`` (what became of each column, and why) and ``ATTRIBUTION.md``.
    n_jobs : int
        Processes.
    without_quarantined : bool
        Write the manifest of the others although patients are in quarantine.
    progress : callable
        Called with a line of text for each patient.

    Returns
    -------
    ingest.Outcome

    Raises
    ------
    FileNotFoundError, ValueError
        The download is not complete, or the table is not that of the collection: sheet, columns, ids or codes.
    """
    import yaml

    from rps_utils.ingest.clinical_table import read_table
    from rps_utils.ingest.export import ingest
    from rps_utils.public.download import verify_download

    source, out = Path(source), Path(out)
    recipe, series = read_recipe(collection), verify_download(source)
    sheet = read_table(clinical, recipe["mapping"]["sheet"])
    mapping = _mapping(recipe, sheet, series["patient_id"], Path(clinical).name)
    columns = describe_columns(recipe, sheet.columns, mapping["columns"]["patient_id"])
    rows = _downloaded_rows(sheet, mapping, series, Path(clinical).name)
    notes = [_sex_note(rows, mapping, series), _event_note(rows, mapping), *_column_notes(columns, rows, sheet)]
    write_csv(rows[list(mapping["columns"].values())], out / "clinical.csv")
    write_csv(columns, out / "columns.csv")
    write_text(attribution(collection, recipe), out / "ATTRIBUTION.md")
    write_text(yaml.safe_dump(mapping, sort_keys=False), out / "mapping.yml")
    tables = out / "clinical.csv", out, out / "mapping.yml"
    done = ingest(source, *tables, n_jobs, without_quarantined=without_quarantined, progress=progress)
    return done._replace(notes=[*notes, *done.notes])


def _mapping(recipe: Mapping[str, Any], sheet: pd.DataFrame, patients: pd.Series, name: str) -> dict[str, Any]:
    """Return the recipe's mapping, completed by the column that holds the ids of the images."""
    wanted = [*recipe["mapping"]["columns"].values(), *recipe["id_columns"]]
    lacking = [column for column in wanted if column not in sheet]
    if lacking:
        raise ValueError(f"{name}: no column {', '.join(lacking)}; there are {', '.join(filter(None, sheet.columns))}")
    found = {column: int(patients.drop_duplicates().isin(sheet[column]).sum()) for column in recipe["id_columns"]}
    ids = max(found, key=lambda column: found[column])
    if not found[ids]:
        seen = ", ".join(f"{column}: {sheet[column].iloc[0]}" for column in found)
        raise ValueError(f"{name}: no id of the images, such as {patients.iloc[0]}, in {seen}: is it the right table?")
    rules = {key: value for key, value in recipe["mapping"].items() if key != "sheet"}
    return {**rules, "columns": {"patient_id": ids, **rules["columns"]}}


def describe_columns(recipe: Mapping[str, Any], columns: Sequence[str], ids: str) -> pd.DataFrame:
    """Return what becomes of each column of a clinical table, and why: ``column, use, reason``."""
    taken = {theirs: ours for ours, theirs in recipe["mapping"]["columns"].items()}
    outcome = {theirs for theirs, ours in taken.items() if ours in ("time_months", "event")}
    rows = []
    for column in filter(None, columns):
        if column in recipe["id_columns"]:
            use, reason = ("id", "holds the ids of the images") if column == ids else ("left out", "another id")
        elif column in outcome:
            use, reason = taken[column], recipe["endpoint"]
        elif column in taken:
            use, reason = "clinical", recipe["reservations"].get(column, "known before the operation")
        else:
            use, reason = "left out", recipe["excluded"].get(column, "not known here")
        rows.append((column, use, reason))
    return pd.DataFrame(rows, columns=["column", "use", "reason"])


def _downloaded_rows(sheet: pd.DataFrame, mapping: Mapping[str, Any], series: pd.DataFrame, name: str) -> pd.DataFrame:
    rows = sheet[sheet[mapping["columns"]["patient_id"]].isin(series["patient_id"])]
    for column in mapping["columns"].values():
        for line in rows.index[rows[column].map(is_formula)]:
            raise ValueError(f"{name}, line {line}, {column}: a formula: replace formulas by their values")
    return rows


def _sex_note(rows: pd.DataFrame, mapping: Mapping[str, Any], series: pd.DataFrame) -> str:
    """Compare the sex of the table with that of the images: a wrong id column or a turned code shows here."""
    of_image = series.drop_duplicates("patient_id").set_index("patient_id")["sex"].fillna("")
    words = mapping["codes"]["sex"]
    said = [words.get(code, "")[:1].upper() for code in rows[mapping["columns"]["sex"]]]
    seen = rows[mapping["columns"]["patient_id"]].map(of_image)
    known = [(a, b) for a, b in zip(said, seen, strict=True) if a and b]
    remedy = "are its rows those of the images, and the codes " + ", ".join(f"{k} = {v}" for k, v in words.items())
    return _agreement("sex of table and image", [a != b for a, b in known], f"{remedy}?")


def _event_note(rows: pd.DataFrame, mapping: Mapping[str, Any]) -> str:
    """Compare the event with the flag of a recurrence in the liver, which is one: a turned code shows here."""
    recurred = rows[rows[LIVER_RECURRENCE] == "1"] if LIVER_RECURRENCE in rows else rows.iloc[:0]
    wrong = list(recurred[mapping["columns"]["event"]] != "1")
    return _agreement("event and recurrence in the liver", wrong, "does 1 mean an event?")


def _agreement(what: str, wrong: list[bool], remedy: str) -> str:
    text = f"{what}: {sum(wrong)} of {len(wrong)} patients contradict each other"
    if sum(wrong) > MOST_DISAGREEING * len(wrong):
        raise ValueError(f"{text} (allowed: {MOST_DISAGREEING:.0%}): {remedy}")
    return text


def _column_notes(columns: pd.DataFrame, rows: pd.DataFrame, sheet: pd.DataFrame) -> list[str]:
    unknown = columns.loc[columns["reason"] == "not known here", "column"]
    notes = [f"columns of the table that are not known here, left out: {', '.join(unknown)}"] if len(unknown) else []
    if len(rows) < len(sheet):
        left = how_many(len(sheet) - len(rows), "row of the table belongs", "rows of the table belong")
        notes.append(f"{left} to patients that were not downloaded")
    return notes
