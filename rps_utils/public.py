"""Public cohorts by name: what is known of them, a pinned list of their series, and the way into a manifest.

The list of series comes from the index of the Imaging Data Commons, which the package ``idc-index-data`` carries as a
file, so that nothing is asked of a server. Download: `rps_utils.public_download`. Needs the optional extra ``public``,
except to list the collections.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from rps_utils.files import read_csv, write_csv, write_text
from rps_utils.manifest import PATIENT_ID, is_formula

if TYPE_CHECKING:
    from rps_utils.ingest import Outcome

COHORTS = Path(__file__).parent / "cohorts"
SERIES = "series.csv"  # in the folder of a download; written last
ROLES = {"CT": "image", "SEG": "mask"}
SERIES_COLUMNS = {
    "patient_id": "PatientID",
    "role": "Modality",
    "modality": "Modality",
    "study_uid": "StudyInstanceUID",
    "series_uid": "SeriesInstanceUID",
    "crdc_series_uuid": "crdc_series_uuid",
    "bucket": "aws_bucket",
    "instances": "instanceCount",
    # The index counts in millions of bytes, with six decimals: nothing is lost.
    "bytes": "cast(round(series_size_MB * 1000000) as bigint)",
    "sex": "PatientSex",
    "licence": "license_short_name",
    "doi": "source_DOI",
}
LIVER_RECURRENCE = "progression_or_recurrence_liveronly"
MOST_DISAGREEING = 0.1  # share of patients in whom table and image, or two columns, may contradict each other


# ---------------------------------------------------------------- what is known


def read_collections() -> pd.DataFrame:
    """Return the collections that are known here, one a row.

    Returns
    -------
    pandas.DataFrame
        Text: ``collection, title, doi, licence, patients, masks, endpoint, traps, missing, source``. ``missing`` says
        what is lacking to run the collection from here; it is empty where everything is there.
    """
    return pd.read_csv(COHORTS / "collections.csv", dtype=str, keep_default_na=False)


def describe_collections() -> str:
    """Write the collections as text, one block each."""
    blocks = []
    for row in read_collections().to_dict("records"):
        state = f"not supported: {row['missing']}" if row["missing"] else "supported: manifest, download, ingest"
        facts = {key: row[key] for key in ("title", "doi", "licence", "patients", "masks", "endpoint", "traps")}
        lines = [f"  {key:<9} {value}" for key, value in {**facts, "here": state, "source": row["source"]}.items()]
        blocks.append("\n".join([row["collection"], *lines]))
    return "\n\n".join(blocks)


def read_recipe(collection: str) -> dict[str, Any]:
    """Return how a collection becomes a manifest: the content of ``cohorts/<collection>.yml``, every value as text.

    Raises
    ------
    ValueError
        The collection is not known here, or not supported from end to end.
    """
    known = read_collections().set_index("collection")["missing"]
    supported = ", ".join(known.index[known == ""])
    if collection not in known:
        raise ValueError(f"no collection {collection!r}: supported is {supported}; rps public list shows what is known")
    if known[collection]:
        raise ValueError(f"{collection} is not supported: {known[collection]}; supported is {supported}")
    import yaml

    return yaml.load((COHORTS / f"{collection}.yml").read_text(encoding="utf-8"), Loader=yaml.BaseLoader)


# ---------------------------------------------------------------- the list of series


def read_series(path: str | Path) -> pd.DataFrame:
    """Read a list of series.

    Raises
    ------
    FileNotFoundError
        There is none.
    ValueError
        A column is lacking (`SERIES_COLUMNS` and ``index_version`` are needed), or a value of which a path is made is
        none of the allowed.
    """
    table = read_csv(path)
    lacking = [column for column in (*SERIES_COLUMNS, "index_version") if column not in table]
    if lacking:
        raise ValueError(f"{path}: no column {lacking[0]!r}: make the list anew with rps public manifest")
    for column, allowed in (("patient_id", PATIENT_ID), ("modality", "CT|SEG"), ("crdc_series_uuid", r"[0-9a-f-]{36}")):
        wrong = table.loc[~table[column].astype(str).str.fullmatch(allowed), column]
        if len(wrong):
            raise ValueError(f"{path}: {column} {wrong.iloc[0]!r}: make the list anew with rps public manifest")
    return table


def pinned_series(collection: str) -> pd.DataFrame:
    """Return the committed list of series of a supported collection."""
    read_recipe(collection)
    return read_series(COHORTS / f"{collection}.csv")


def index_series(collection: str) -> pd.DataFrame:
    """List the series of a collection in the index that is installed: one CT and one mask a patient.

    Parameters
    ----------
    collection : str
        A supported one.

    Returns
    -------
    pandas.DataFrame
        `SERIES_COLUMNS` and ``index_version``, by patient, CT first. Segmentations that others made of the collection
        by program (analysis results) are left out.

    Raises
    ------
    ValueError
        The index has the collection in another form than one CT and one SEG a patient, in one study.
    """
    from importlib.metadata import version

    import duckdb
    from idc_index_data import IDC_INDEX_PARQUET_FILEPATH

    read_recipe(collection)
    columns = ", ".join(f"{theirs} as {ours}" for ours, theirs in SERIES_COLUMNS.items())
    query = f"select {columns} from read_parquet($1) where collection_id = $2 and analysis_result_id is null"
    with duckdb.connect() as index:
        table = index.execute(query, [str(IDC_INDEX_PARQUET_FILEPATH), collection]).df()
    table = table.assign(role=table["modality"].map(ROLES), index_version=version("idc-index-data"))
    _refuse_irregular(table, collection)
    return table.sort_values(["patient_id", "modality"], ignore_index=True)


def _refuse_irregular(table: pd.DataFrame, collection: str) -> None:
    patients = table.groupby("patient_id")
    regular = patients["modality"].apply(lambda own: sorted(own) == sorted(ROLES))
    regular &= patients["study_uid"].agg("nunique").eq(1)
    odd = list(regular.index[~regular])
    if regular.empty or odd:
        found = f"{', '.join(odd[:3])} and others" if odd else "no series"
        raise ValueError(f"{collection}: one CT and one SEG a patient, in one study, expected; not so: {found}")


def compare_series(fresh: pd.DataFrame, pinned: pd.DataFrame) -> str:
    """Say in words how a list of series differs from the pinned one, whatever the version of the index."""
    new, old = (t.drop(columns="index_version").set_index("crdc_series_uuid") for t in (fresh, pinned))
    both = new.index.intersection(old.index)
    changed = int((new.loc[both] != old.loc[both]).any(axis=1).sum())
    counts = {"new": len(new) - len(both), "gone": len(old) - len(both), "changed": changed}
    if any(counts.values()):
        return "differs from the committed list: " + ", ".join(f"{n} series {what}" for what, n in counts.items())
    return "equals the committed list"


# ---------------------------------------------------------------- table and images to a manifest


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

    from rps_utils.clinical_table import read_table
    from rps_utils.ingest import ingest
    from rps_utils.public_download import verify_download

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
        notes.append(f"{len(sheet) - len(rows)} rows of the table belong to patients that were not downloaded")
    return notes


def attribution(collection: str, recipe: Mapping[str, Any]) -> str:
    """Write whom the images come from, under which licence, and what was changed."""
    row = read_collections().set_index("collection").loc[collection]
    return f"""# {row["title"]}

{recipe["citation"]}

Licence of images and table: {recipe["licence"]}. Collection `{collection}`, doi {row["doi"]}, of The Cancer Imaging
Archive (doi 10.1007/s10278-013-9622-7), distributed by the Imaging Data Commons. Its terms of use forbid any attempt
to identify or contact the persons shown. Segmentations made by others of these images are not included.

Changes: files are sorted into folders. What `rps public ingest` makes of them is NIfTI (CT as whole Hounsfield units,
the mask on its grid), and a part of the table with its codes translated; `columns.csv` says what was left out and why.

Endpoint: {recipe["endpoint"]}

Tumours: {recipe["tumours"]}
"""
