"""Fetch the series of a public cohort from its bucket and verify them: whole and as pinned, or not there at all.

A series is fetched into ``.partial`` and takes its place only when number of files, bytes and UIDs are those of the
list; the list of the whole download is written last. Needs the optional extra ``public``.
"""

from __future__ import annotations

import http.client
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

import pandas as pd

from rps_utils.files import write_csv, write_text
from rps_utils.ingest.series import read_header, without_value_warnings
from rps_utils.public.series import SERIES, attribution, read_recipe, read_series
from rps_utils.texts.counts import how_many

# https://learn.canceridc.dev, Organization of data, and the S3 operation ListObjectsV2, which public buckets answer
# without an account: <bucket>/<crdc_series_uuid>/<instance>.dcm.
BUCKET_ADDRESS = "https://{bucket}.s3.amazonaws.com"
INSTANCE = re.compile(r"[0-9a-f-]{36}\.dcm")
TIMEOUT_S, THREADS = 10.0, 8
PAUSES_S = (0.5, 1.0)  # before the second and the third try
BROKEN = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)


class DownloadError(RuntimeError):
    """A series could not be fetched, or is not the one of the list."""


def download(
    collection: str,
    series: pd.DataFrame,
    out: str | Path,
    patients: int | None = None,
    mirror: str = BUCKET_ADDRESS,
    progress: Callable[[str], Any] = print,
) -> Path:
    """Fetch and verify series; what is there already is verified and kept.

    Parameters
    ----------
    collection : str
        A supported one; its attribution is written beside the images.
    series : pandas.DataFrame
        From `public.pinned_series` or `public.read_series`.
    out : str or Path
        Gets ``<patient>/CT``, ``<patient>/SEG``, ``ATTRIBUTION.md`` and, last, ``series.csv``. After a failure what
        was verified stays, files of an unfinished series wait in ``.partial``, and there is no ``series.csv``.
    patients : int, optional
        Only the first so many of the list, and those that are there already.
    mirror : str
        Address of a server that answers as S3 does; ``{bucket}`` stands for the bucket of a series.
    progress : callable
        Called with a line of text for each series.

    Returns
    -------
    Path
        ``series.csv``.

    Raises
    ------
    DownloadError
        Which series, what was expected and what came.
    ValueError
        More patients asked for than there are, an address that is none, or a disk too small.
    """
    out = Path(out)
    wanted = _wanted_series(series, patients, out)
    if not re.match(r"https?://", mirror):
        raise ValueError(f"{mirror}: an address that begins with https:// or http:// expected")
    (out / SERIES).unlink(missing_ok=True)
    _refuse_full_disk(out, wanted)
    for number, row in enumerate(wanted.itertuples(), 1):
        try:
            state = _bring(row, out, mirror.replace("{bucket}", row.bucket).rstrip("/"))
        finally:
            _remove_empty(out / ".partial" / row.crdc_series_uuid, out / ".partial", _place(row, out).parent, out)
        progress(
            f"{number} of {len(wanted)}  {row.patient_id} {row.modality}  {how_many(row.instances, 'file')}  {state}"
        )
    write_text(attribution(collection, read_recipe(collection)), out / "ATTRIBUTION.md")
    return write_csv(wanted, out / SERIES)


def verify_download(folder: str | Path) -> pd.DataFrame:
    """Return the list of a finished download, after every series was compared with it.

    Raises
    ------
    FileNotFoundError
        The folder holds no finished download.
    ValueError
        A series is not as listed.
    """
    folder = Path(folder)
    if not (folder / SERIES).is_file():
        raise FileNotFoundError(f"{folder} holds no {SERIES}, so no finished download: run rps public download")
    series = read_series(folder / SERIES)
    for row in series.itertuples():
        faults = download_faults(_place(row, folder), row)
        if faults:
            raise ValueError(f"{_name(row)}: {'; '.join(faults)}: run rps public download again")
    return series


@without_value_warnings()
def download_faults(folder: Path, row: Any) -> list[str]:
    """Compare the files of a folder with a row of the list: number, bytes, and the UIDs in their headers."""
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    size = sum(path.stat().st_size for path in paths)
    faults = []
    if (len(paths), size) != (row.instances, row.bytes):
        faults.append(
            f"{how_many(row.instances, 'file')} of {row.bytes:,} bytes expected, {len(paths)} of {size:,} found"
        )
    wanted = (row.patient_id, row.study_uid, row.series_uid, row.modality)
    tags = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "Modality")
    headers = [read_header(path) for path in paths]
    strange = sum(isinstance(h, str) or tuple(str(h.get(tag, "")) for tag in tags) != wanted for h in headers)
    if strange:
        text = f"series {row.series_uid} of {row.patient_id} expected, {strange} of {len(paths)} files are not of it"
        faults.append(text)
    return faults


def _wanted_series(series: pd.DataFrame, patients: int | None, out: Path) -> pd.DataFrame:
    ids = list(series["patient_id"].drop_duplicates())
    if patients is not None and not 1 <= patients <= len(ids):
        raise ValueError(f"{how_many(patients, 'patient')} asked for: 1 to {len(ids)} allowed")
    there = [patient for patient in ids if (out / patient).is_dir()]
    return series[series["patient_id"].isin([*ids[:patients], *there])]


def _place(row: Any, out: Path) -> Path:
    return out / row.patient_id / row.modality


def _name(row: Any) -> str:
    return f"{row.patient_id} {row.modality} (series {row.crdc_series_uuid})"


def _refuse_full_disk(out: Path, wanted: pd.DataFrame) -> None:
    there = next(path for path in (out, *out.absolute().parents) if path.exists())
    lacking = sum(row.bytes for row in wanted.itertuples() if not _place(row, out).is_dir())
    free = shutil.disk_usage(there).free
    if lacking > free:
        raise ValueError(f"{there}: {free / 1e9:.1f} GB free, {lacking / 1e9:.1f} GB needed: choose another --out")


def _remove_empty(*folders: Path) -> None:
    """Leave no empty folder: it would look like a download of nothing."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def _bring(row: Any, out: Path, address: str) -> str:
    """Put a series in its place and say how; `DownloadError` where it cannot be had as listed."""
    place, partial = _place(row, out), out / ".partial" / row.crdc_series_uuid
    if place.is_dir():
        if not download_faults(place, row):
            return "kept"
        shutil.rmtree(partial, ignore_errors=True)
        partial.parent.mkdir(exist_ok=True)
        place.rename(partial)
    files = _listed_files(row, address)
    _fetch_files(row, files, partial, address)
    faults = download_faults(partial, row)
    if faults:
        shutil.rmtree(partial)
        raise DownloadError(f"{_name(row)}: {'; '.join(faults)}: nothing of it was kept")
    place.parent.mkdir(parents=True, exist_ok=True)
    partial.rename(place)
    return f"fetched, {row.bytes / 1e6:.1f} MB"


def _listed_files(row: Any, address: str) -> dict[str, int]:
    """Ask the bucket which files a series has; name to bytes."""
    answer = _get(f"{address}/?list-type=2&prefix={quote(row.crdc_series_uuid)}/", row)
    try:
        listed = [
            (found.findtext("{*}Key", ""), int(found.findtext("{*}Size", "-1")))
            for found in ElementTree.fromstring(answer).iterfind("{*}Contents")
        ]
    except (ElementTree.ParseError, ValueError) as error:
        raise DownloadError(f"{_name(row)}: {address} does not answer as S3 does: {error}") from error
    # Other keys, such as a marker of the folder itself, are no images. A listing ends at 1,000 keys, which no series
    # here has; a longer one would be refused for its number of files.
    names = [(key.removeprefix(f"{row.crdc_series_uuid}/"), size) for key, size in listed]
    files = {name: size for name, size in names if INSTANCE.fullmatch(name)}
    if (len(files), sum(files.values())) != (row.instances, row.bytes):
        found = f"{address} has {len(files)} of {sum(files.values()):,}"
        raise DownloadError(f"{_name(row)}: {how_many(row.instances, 'file')} of {row.bytes:,} bytes expected, {found}")
    return files


def _fetch_files(row: Any, files: dict[str, int], folder: Path, address: str) -> None:
    """Fetch the files that are not there in their size; others in the folder are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if files.get(path.name) != path.stat().st_size:  # cut off when the last call ended
            path.unlink()

    def fetch(name: str) -> None:
        content = _get(f"{address}/{row.crdc_series_uuid}/{name}", row)
        if len(content) != files[name]:
            raise DownloadError(f"{_name(row)}: {name}: {files[name]:,} bytes expected, {len(content):,} came")
        (folder / name).write_bytes(content)

    lacking = [name for name in files if not (folder / name).is_file()]
    pool = ThreadPoolExecutor(THREADS)
    try:
        list(pool.map(fetch, lacking))
    finally:
        pool.shutdown(cancel_futures=True)  # after the first failure the others are not tried


def _get(address: str, row: Any) -> bytes:
    """Read an address whole; a broken connection is tried again a few times."""
    pauses = iter(PAUSES_S)
    while True:
        try:
            with urllib.request.urlopen(address, timeout=TIMEOUT_S) as answer:
                return answer.read()
        except BROKEN as error:
            final = isinstance(error, urllib.error.HTTPError) and error.code < 500
            pause = next(pauses, None)
            if final or pause is None:
                reason = getattr(error, "reason", None) or error
                expected = f"{how_many(row.instances, 'file')} of {row.bytes:,} bytes expected"
                raise DownloadError(
                    f"{_name(row)}: {expected}, not fetched: {address.split('?')[0]}: {reason}. Check the connection"
                    " and call again: what is complete is kept"
                ) from error
            time.sleep(pause)
