"""The commands that bring data in: ``rps check``, ``ingest`` and ``public``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rps_utils.cli.options import AT_LEAST_ONE, CORES, Command, Group, cores
from rps_utils.cli.paths import MANIFEST_FILE, OUT_FILE, OUT_FOLDER, InputFile, InputFolder
from rps_utils.texts.counts import how_many

if TYPE_CHECKING:
    from rps_utils.ingest.export import Outcome

DICOM_FOLDER = InputFolder("the folder with the DICOM or image files")
DOWNLOAD = InputFolder("a folder that rps public download filled", holding="series.csv")
TABLE = InputFile("a clinical table, .csv or .xlsx")
MAPPING = InputFile("a mapping, YAML or JSON")
SERIES_LIST = InputFile("a list of series, CSV")

without_quarantined = click.option(
    "--without-quarantined", is_flag=True, help="write the manifest of the others although some are refused"
)
collection = click.argument("collection", metavar="COLLECTION")


@click.command("check", cls=Command)
@click.argument("manifest", type=MANIFEST_FILE, metavar="MANIFEST")
@click.option("--html", type=OUT_FILE, metavar="FILE", help="write the check as a page as well")
@click.option("--json", "as_json", is_flag=True, help="print problems, counts and images as JSON")
def check_command(manifest: Path, html: Path | None, as_json: bool) -> int:
    """Check a manifest and every file it names."""
    from rps_utils.cohort.check import as_dict, check, write_page
    from rps_utils.cohort.contract import format_notices, format_problems
    from rps_utils.cohort.manifest import inspect_manifest

    if html or as_json:
        found = check(manifest, n_jobs=CORES)
        problems, notices = found.problems, found.notices
    else:
        _, problems, notices, _ = inspect_manifest(manifest, n_jobs=CORES)
    if html:
        write_page(found, html)
    if as_json:
        click.echo(json.dumps(as_dict(found), indent=1, allow_nan=False))
    else:
        click.echo(format_problems(problems) if problems else f"{manifest}: no problem found")
        if notices:
            click.echo(format_notices(notices))
    return 1 if problems else 0


@click.command("ingest", cls=Command)
@click.argument("source", type=DICOM_FOLDER, metavar="SOURCE")
@click.option(
    "--clinical",
    type=TABLE,
    required=True,
    metavar="TABLE",
    help=".csv or .xlsx, one row a patient",
)
@click.option("--out", type=OUT_FOLDER, required=True, metavar="DIR", help="folder of the manifest and its images")
@click.option("--mapping", type=MAPPING, metavar="FILE", help="YAML or JSON: columns, codes, rules")
@without_quarantined
@click.option("--identified-source", is_flag=True, help="the DICOM headers hold names, and may; none is written")
@cores
def ingest_command(
    source: Path,
    clinical: Path,
    out: Path,
    mapping: Path | None,
    without_quarantined: bool,
    identified_source: bool,
    cores: int,
) -> int:
    """Turn DICOM series or image files, masks and a table into a manifest.

    SOURCE is the folder with the DICOM files, or with NIfTI, NRRD or MetaImage files named after their patients; it
    is left as it is.
    """
    with _extra("dicom"):
        from rps_utils.ingest.export import ingest

    done = ingest(
        source, clinical, out, mapping, cores, without_quarantined=without_quarantined, identified=identified_source
    )
    return _tell(done, out)


@click.group("public", cls=Group)
def public() -> None:
    """List, download and ingest cohorts that anyone may download."""


@public.command("list")
def public_list_command() -> None:
    """Say which public collections are known, and what is missing."""
    from rps_utils.public.series import describe_collections

    click.echo(describe_collections())


@public.command("manifest")
@collection
@click.option("--out", type=OUT_FILE, required=True, metavar="FILE.csv", help="list to write")
def public_manifest_command(collection: str, out: Path) -> None:
    """Write the list of the series of COLLECTION from the index, offline."""
    from rps_utils.files import write_csv
    from rps_utils.public.series import compare_series, index_series, pinned_series

    pinned = pinned_series(collection)
    with _extra("public"):
        series = index_series(collection)
    size = f"{series['bytes'].sum() / 1e9:.1f} GB"
    click.echo(
        f"{len(series)} series of {how_many(series['patient_id'].nunique(), 'patient')}, {size}: "
        f"{write_csv(series, out)}"
    )
    click.echo(f"index {series['index_version'].iloc[0]}: {compare_series(series, pinned)}")


@public.command("download")
@collection
@click.option("--out", type=OUT_FOLDER, required=True, metavar="DIR", help="a second call goes on where it ended")
@click.option("--patients", type=AT_LEAST_ONE, metavar="N", help="only the first N (default: all)")
@click.option(
    "--manifest",
    type=SERIES_LIST,
    metavar="FILE.csv",
    help="list of series (default: the committed one)",
)
@click.option("--mirror", metavar="URL", help="another server that answers as S3 does")
def public_download_command(
    collection: str, out: Path, patients: int | None, manifest: Path | None, mirror: str | None
) -> None:
    """Fetch the series of COLLECTION and verify them, or fail."""
    from rps_utils.public.series import pinned_series, read_series

    series = pinned_series(collection)
    with _extra("public"):
        from rps_utils.public.download import BUCKET_ADDRESS, download

    series = read_series(manifest) if manifest else series
    click.echo(f"complete, verified: {download(collection, series, out, patients, mirror or BUCKET_ADDRESS)}")


@public.command("ingest")
@collection
@click.option(
    "--source",
    type=DOWNLOAD,
    required=True,
    metavar="DIR",
    help="folder of the download",
)
@click.option(
    "--clinical",
    type=TABLE,
    required=True,
    metavar="TABLE.xlsx",
    help="the table, as published",
)
@click.option("--out", type=OUT_FOLDER, required=True, metavar="DIR", help="folder of the manifest and its images")
@without_quarantined
@cores
def public_ingest_command(
    collection: str, source: Path, clinical: Path, out: Path, without_quarantined: bool, cores: int
) -> int:
    """Turn a download of COLLECTION and its clinical table into a manifest."""
    from rps_utils.public.ingest import ingest_collection

    with _extra("public"):
        done = ingest_collection(
            collection, source, clinical, out, n_jobs=cores, without_quarantined=without_quarantined
        )
    return _tell(done, out)


@contextmanager
def _extra(name: str) -> Iterator[None]:
    """Say which optional extra to install where one of its packages is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise click.UsageError(f"{error.name} is missing: pip install 'rps-lrfs[{name}]'") from error


def _tell(done: Outcome, out: Path) -> int:
    """Say what an ingest led to, and return the exit status."""
    click.echo("\n".join(["", *done.notes]))
    refused = done.quarantine["patient_id"].nunique()
    if refused:
        click.echo(f"{refused} in quarantine: {out / 'quarantine.csv'}", err=True)
    if done.manifest is None:
        remedy = "mend them, or go on without them: --without-quarantined" if refused else "no patient at all"
        click.echo(f"no manifest written: {remedy}", err=True)
        return 1
    click.echo(f"manifest: {done.manifest}")
    return 0
