"""Public collections: what is known of them, and their pinned lists of series."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from rps_utils.cohort.contract import PATIENT_ID
from rps_utils.files import read_csv

COHORTS = Path(__file__).parent / "collections"
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
