import os
import shutil
import threading
import tomllib
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import numpy as np
import openpyxl
import pandas as pd
import pytest
import yaml
from pydicom import dcmread

from rps_utils.cli.main import main
from rps_utils.cohort.manifest import check_manifest
from rps_utils.files import read_csv
from rps_utils.imaging.volumes import load_volume
from rps_utils.ingest.clinical_table import read_mapping
from rps_utils.ingest.series import find_series, series_faults
from rps_utils.lab.phantom.dicom import edit_files
from rps_utils.public import download as fetching
from rps_utils.public.download import DownloadError, download, download_faults
from rps_utils.public.ingest import describe_columns, ingest_collection
from rps_utils.public.series import COHORTS, compare_series, pinned_series, read_collections, read_recipe, read_series
from tests.public.stand_in import COLUMNS, SEGMENTS, SHEET, stand_in_scan, write_stand_in

CRLM = "colorectal_liver_metastases"
NOWHERE = "http://127.0.0.1:9"  # the port of `discard`: nothing listens
REALDATA = os.environ.get("RPS_REALDATA", "")


PATIENTS = 6


def quiet(line):
    """No progress lines."""


# ---------------------------------------------------------------- what is known


def test_collections_are_those_of_the_index():
    import duckdb
    from idc_index_data import IDC_INDEX_PARQUET_FILEPATH, INDEX_METADATA

    known = read_collections().set_index("collection")
    assert list(known.index[known["missing"] == ""]) == [CRLM]
    query = """
        select collection_id, count(distinct PatientID) as patients, any_value(source_DOI) as doi,
               any_value(license_short_name) as licence from read_parquet($1)
        where analysis_result_id is null and Modality in ('SEG', 'RTSTRUCT') group by collection_id"""
    with duckdb.connect() as index:
        counted = index.execute(query, [str(IDC_INDEX_PARQUET_FILEPATH)]).df().set_index("collection_id")
        path = str(INDEX_METADATA["collections_index"]["parquet_filepath"])
        collections = index.execute("select collection_id from read_parquet($1)", [path]).df()["collection_id"]
    assert set(known.index) <= set(collections)
    for name, row in known.iterrows():
        assert (int(row["patients"]), row["doi"], row["licence"]) == tuple(counted.loc[name])


def test_pinned_list_is_that_of_the_index(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["public", "manifest", CRLM, "--out", str(tmp_path / "list.csv")])
    assert stop.value.code == 0
    assert (tmp_path / "list.csv").read_bytes() == (COHORTS / f"{CRLM}.csv").read_bytes()
    assert "394 series of 197 patients, 10.9 GB" in (said := capsys.readouterr().out)
    assert "equals the committed list" in said


def test_pinned_list_has_one_ct_and_one_mask_a_patient():
    series = pinned_series(CRLM)
    assert series["patient_id"].nunique() == 197
    assert series.groupby("patient_id")["modality"].apply(list).map(tuple).unique().tolist() == [("CT", "SEG")]
    assert series.groupby("patient_id")["study_uid"].nunique().max() == 1
    assert set(series["doi"]) == {"10.7937/qxk2-qg03"}, "segmentations made by programs are not of the collection"
    assert set(series["licence"]) == {"CC BY 4.0"}
    for column in ("series_uid", "crdc_series_uuid"):
        assert series[column].is_unique
    # A listing of the bucket is cut at 1,000 files: the download relies on no series being that long.
    assert series["instances"].max() < 1000


def test_a_changed_index_is_described():
    pinned = pinned_series(CRLM)
    fresh = pinned.assign(index_version="26.0.0")
    assert compare_series(fresh, pinned) == "equals the committed list"
    fresh.loc[3, "bytes"] += 1
    assert compare_series(fresh.iloc[2:], pinned).endswith("0 series new, 2 series gone, 1 series changed")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["manifest", "crlm", "--out", "x.csv"], "no collection 'crlm': supported is colorectal_liver_metastases"),
        (["download", "hcc_tace_seg", "--out", "x"], "hcc_tace_seg is not supported: no pinned manifest"),
        (["download", CRLM, "--out", "x", "--patients", "198"], "198 patients asked for: 1 to 197 allowed"),
        (["download", CRLM, "--out", "x", "--mirror", "ftp://a"], "ftp://a: an address that begins with https://"),
        (["ingest", CRLM, "--source", "x", "--clinical", "y", "--out", "z"], "x holds no series.csv"),
    ],
)
def test_wrong_calls(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["public", *arguments])
    assert stop.value.code == 1
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_missing_extra_is_named(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "duckdb", None)
    with pytest.raises(SystemExit) as stop:
        main(["public", "manifest", CRLM, "--out", str(tmp_path / "x.csv")])
    assert stop.value.code == 2
    assert "duckdb is missing: pip install 'rps-lrfs[public]'" in capsys.readouterr().err


def test_extras_are_pinned_alike():
    project = tomllib.loads((COHORTS.parents[2] / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert set(extras["dicom"]) < set(extras["public"]) < set(extras["test"])


# ---------------------------------------------------------------- the recipe


def test_recipe_accounts_for_every_column_of_the_sheet():
    recipe = read_recipe(CRLM)
    uses = describe_columns(recipe, COLUMNS, "Patient-ID").set_index("column")
    assert list(uses.index) == list(COLUMNS)
    assert not (uses["reason"] == "not known here").any()
    assert uses.loc["months_to_liver_DFS_progression", "use"] == "time_months"
    assert uses.loc["vital_status_liver_DFS", "use"] == "event"
    leaks = uses.index[uses["reason"].str.startswith("leakage")]
    for part in ("necrosis", "response", "fibrosis", "mucin", "steatosis", "sinusoidal", "NASH"):
        assert any(part in column for column in leaks)
    assert (uses.loc[leaks, "use"] == "left out").all()
    assert set(recipe["reservations"]) <= set(uses.index[uses["use"] == "clinical"])


def test_mapping_of_the_recipe_is_one_that_ingest_reads(tmp_path):
    rules = read_recipe(CRLM)["mapping"]
    (tmp_path / "map.yml").write_text(yaml.safe_dump(rules))
    mapping = read_mapping(tmp_path / "map.yml")
    assert (mapping.segments, mapping.roi, mapping.missing) == ("named", ("Tumor_*",), ("-999",))
    assert mapping.sheet == SHEET


# ---------------------------------------------------------------- a server that answers as the bucket does


class Bucket(SimpleHTTPRequestHandler):
    """Lists and serves a folder; what was asked for is kept in `server.asked`."""

    def do_GET(self):
        asked = urlparse(self.path)
        if asked.query:
            self._list(parse_qs(asked.query)["prefix"][0])
            return
        self.server.asked.append(Path(asked.path).name)
        if len(self.server.asked) > self.server.breaks_after:
            self.send_error(404)
            return
        super().do_GET()

    def _list(self, prefix):
        files = sorted((Path(self.directory) / prefix).glob("*"))
        keys = [(prefix, 0), *((f"{prefix}{path.name}", path.stat().st_size) for path in files)]
        rows = "".join(f"<Contents><Key>{k}</Key><Size>{s}</Size></Contents>" for k, s in keys)
        name = "http://s3.amazonaws.com/doc/2006-03-01/"
        body = f'<?xml version="1.0"?><ListBucketResult xmlns="{name}">{rows}</ListBucketResult>'.encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        """Stay silent."""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return write_stand_in(tmp_path_factory.mktemp("stand_in"))


@pytest.fixture
def copy(made, tmp_path):
    """A stand-in that may be broken."""
    shutil.copytree(made.bucket.parent, tmp_path / "stand_in")
    return type(made)(*(tmp_path / "stand_in" / path.name for path in made))


def serve(folder):
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Bucket, directory=str(folder)))
    server.asked, server.breaks_after = [], 10**6
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture
def server(copy):
    running = serve(copy.bucket)
    yield running
    running.shutdown()
    running.server_close()


def address(server):
    return f"http://127.0.0.1:{server.server_port}"


def fetch(copy, server, out, **options):
    return download(CRLM, read_series(copy.series), out, mirror=address(server), progress=quiet, **options)


def fetch_once(made, out, **options):
    running = serve(made.bucket)
    fetch(made, running, out, **options)
    running.shutdown()
    running.server_close()
    return out


@pytest.fixture(scope="module")
def fetched(made, tmp_path_factory):
    """A finished download of the stand-in."""
    return fetch_once(made, tmp_path_factory.mktemp("download") / "dicom")


@pytest.fixture(scope="module")
def two(made, tmp_path_factory):
    """A finished download of its first two patients."""
    return fetch_once(made, tmp_path_factory.mktemp("two") / "dicom", patients=2)


# ---------------------------------------------------------------- the download


def test_download_is_verified_and_complete(made, fetched):
    series = read_series(fetched / "series.csv")
    assert series.equals(read_series(made.series))
    for row in series.itertuples():
        theirs = made.bucket / row.crdc_series_uuid
        ours = fetched / row.patient_id / row.modality
        assert {p.name: p.read_bytes() for p in ours.iterdir()} == {p.name: p.read_bytes() for p in theirs.iterdir()}
    assert "CC BY 4.0, https://creativecommons.org" in (fetched / "ATTRIBUTION.md").read_text()
    assert not (fetched / ".partial").exists()


def test_offline_fails_at_once_and_leaves_nothing(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["public", "download", CRLM, "--out", str(tmp_path / "dl"), "--patients", "1", "--mirror", NOWHERE])
    assert stop.value.code == 1
    said = capsys.readouterr().err
    assert "CRLM-CT-1001 CT (series 7e1b9aa1-be25-41ee-b40f-8ffa8e39bb03)" in said
    assert "161 files of 84,839,046 bytes expected, not fetched" in said
    assert "Connection refused" in said
    assert not (tmp_path / "dl").exists()


def test_download_goes_on_where_it_ended(copy, server, tmp_path):
    server.breaks_after = 50  # in the second CT
    with pytest.raises(DownloadError, match=r"CRLM-CT-9002 CT .*32 files of .* expected, not fetched: .*Not Found"):
        fetch(copy, server, tmp_path / "dl")
    assert not (tmp_path / "dl" / "series.csv").exists()
    assert not (tmp_path / "dl" / "CRLM-CT-9002").exists()
    there = {path.name for path in (tmp_path / "dl").rglob("*.dcm")}
    server.asked.clear()
    server.breaks_after = 10**6
    assert fetch(copy, server, tmp_path / "dl").is_file()
    assert len(there) == 50
    assert not there & set(server.asked), "what was there is not fetched again"
    assert len(server.asked) == PATIENTS * 33 - 50


def test_a_part_of_the_patients(copy, server, tmp_path):
    listed = fetch(copy, server, tmp_path / "dl", patients=1)
    assert read_series(listed)["patient_id"].unique().tolist() == ["CRLM-CT-9001"]
    server.asked.clear()
    lines = []
    series = read_series(copy.series)
    download(CRLM, series, tmp_path / "dl", 2, address(server), lines.append)
    assert [line.split("  ")[-1].split(",")[0] for line in lines] == ["kept", "kept", "fetched", "fetched"]
    # Whoever is there already stays in the list: it names all that lies in the folder.
    assert len(read_series(fetch(copy, server, tmp_path / "dl", patients=1))) == 4


@pytest.mark.parametrize(
    ("column", "value"), [("patient_id", "../x"), ("modality", "/tmp"), ("crdc_series_uuid", "a/../b")]
)
def test_a_list_from_which_a_path_would_lead_out_is_refused(column, value, copy, tmp_path):
    read_csv(copy.series).assign(**{column: value}).to_csv(tmp_path / "list.csv", index=False)
    with pytest.raises(ValueError, match=f"{column} '{value}': make the list anew"):
        read_series(tmp_path / "list.csv")


def some(bucket, k):
    """A slice of the first patient."""
    return sorted((bucket / read_csv(bucket.parent / "series.csv")["crdc_series_uuid"][0]).iterdir())[k]


def add_byte(path):
    path.write_bytes(path.read_bytes() + b"\0")


FAULTS = {
    "a file is lacking": (lambda b: some(b, 3).unlink(), "32 files of [0-9,]+ bytes expected, .* has 31 of"),
    "all are lacking": (lambda b: [p.unlink() for p in some(b, 0).parent.iterdir()], "bytes expected, .* has 0 of 0"),
    "a file has grown": (lambda b: add_byte(some(b, 3)), "32 files of .* bytes expected, .* has 32 of"),
    "another series": (
        lambda b: edit_files([some(b, 3)], SeriesInstanceUID=dcmread(some(b, 3)).SeriesInstanceUID[:-1] + "0"),
        "of CRLM-CT-9001 expected, 1 of 32 files are not of it: nothing of it was kept",
    ),
    "another patient": (
        lambda b: edit_files([some(b, 3)], PatientID="CRLM-CT-9999"),
        "of CRLM-CT-9001 expected, 1 of 32 files are not of it",
    ),
    "no DICOM file": (
        lambda b: some(b, 3).write_bytes(b"\0" * some(b, 3).stat().st_size),
        "of CRLM-CT-9001 expected, 1 of 32 files are not of it",
    ),
    "a name that leads out": (lambda b: some(b, 3).rename(some(b, 3).parent / "..%2f.dcm"), ".* has 31 of"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_arrives_otherwise_is_refused(name, copy, server, tmp_path):
    plant, message = FAULTS[name]
    plant(copy.bucket)
    with pytest.raises(DownloadError, match=rf"CRLM-CT-9001 CT \(series .*{message}"):
        fetch(copy, server, tmp_path / "dl")
    assert not (tmp_path / "dl").exists()


def test_an_answer_that_is_no_listing_is_refused(copy, tmp_path):
    copy.bucket.joinpath("index.html").write_text("a log-in page")

    class Page(SimpleHTTPRequestHandler):
        log_message = Bucket.log_message

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Page, directory=str(copy.bucket)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.raises(DownloadError, match="does not answer as S3 does"):
        fetch(copy, server, tmp_path / "dl")
    server.shutdown()
    server.server_close()
    assert not (tmp_path / "dl").exists()


def test_a_damaged_download_is_mended(copy, server, tmp_path):
    fetch(copy, server, tmp_path / "dl", patients=1)
    damaged = sorted((tmp_path / "dl" / "CRLM-CT-9001" / "CT").iterdir())[5]
    damaged.write_bytes(b"")
    with pytest.raises(ValueError, match=r"CRLM-CT-9001 CT .*32 files of .* expected, 32 of .* found"):
        fetching.verify_download(tmp_path / "dl")
    server.asked.clear()
    fetch(copy, server, tmp_path / "dl", patients=1)
    assert server.asked == [damaged.name]
    assert len(fetching.verify_download(tmp_path / "dl")) == 2


def test_too_small_a_disk_is_told_beforehand(copy, server, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, 0))
    with pytest.raises(ValueError, match=r"0\.0 GB free, 0\.0 GB needed: choose another --out"):
        fetch(copy, server, tmp_path / "dl")
    assert not server.asked


# ---------------------------------------------------------------- the way into a manifest


def test_the_whole_way_from_the_command_line(copy, server, tmp_path, capsys):
    """List, download, ingest, check."""
    source, out = str(tmp_path / "dicom"), str(tmp_path / "mine")
    calls = [
        ["public", "download", CRLM, "--out", source, "--manifest", str(copy.series), "--mirror", address(server)],
        ["public", "ingest", CRLM, "--source", source, "--clinical", str(copy.table), "--out", out, "--cores", "1"],
        ["check", f"{out}/data_manifest.csv"],
    ]
    for call in calls:
        with pytest.raises(SystemExit) as stop:
            main(call)
        assert stop.value.code == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert "complete, verified" in said
    assert "sex of table and image: 0 of 6 patients contradict each other" in said
    assert "no problem found" in said


def take(made, fetched, out, table=None, **options):
    return ingest_collection(CRLM, fetched, table or made.table, out, progress=quiet, **options)


@pytest.fixture(scope="module")
def taken(made, fetched, tmp_path_factory):
    """The stand-in, ingested."""
    done = take(made, fetched, tmp_path_factory.mktemp("taken"))
    assert done.quarantine.empty, done.quarantine.to_string()
    return done.manifest


def test_manifest_holds_the_endpoint_and_nothing_that_leaks(taken):
    assert check_manifest(taken) == []
    table = read_csv(taken)
    assert list(table.columns)[:5] == ["patient_id", "image", "mask", "time_months", "event"]
    table = table.set_index("patient_id")
    assert table["time_months"].tolist() == [5.5, 12.75, 20.0, 27.25, 34.5, 41.75]
    assert table["event"].tolist() == [1, 0, 1, 0, 1, 0]
    assert table["sex"].tolist() == ["male", "female"] * 3
    assert table["carcinoembryonic_antigen"].isna().tolist() == [False, True, False, False, False, False]
    written = {p.name: p.read_text() for p in taken.parent.glob("*.csv") if p.name != "columns.csv"}
    for left_out in read_recipe(CRLM)["excluded"]:
        assert not any(left_out in text.splitlines()[0].split(",") for text in written.values())
    reasons = read_csv(taken.parent / "columns.csv").set_index("column")["reason"]
    assert reasons["necrosis_percent"].startswith("leakage")
    assert "whichever came first" in (taken.parent / "ATTRIBUTION.md").read_text()


def test_mask_is_the_union_of_the_tumours_and_nothing_else(taken):
    facts = read_csv(taken.parent / "ingest.csv").set_index("patient_id")["structures"]
    assert facts.tolist() == ["Tumor_1", "Tumor_1 + Tumor_2"] * 3
    for number in range(PATIENTS):
        _, segments = stand_in_scan(number)
        names = SEGMENTS[: segments.values.shape[-1]]
        tumours = segments.values[..., [i for i, name in enumerate(names) if name.startswith("Tumor")]]
        got = load_volume(taken.parent / "images" / f"CRLM-CT-{9001 + number}_mask.nii.gz").values
        assert (got == tumours.any(axis=-1)).all()
    assert (tumours.sum(axis=-1) == 2).any(), "two tumours overlap, and count once"


def test_cohort_is_marked_public(taken):
    table = read_csv(taken)
    assert set(table["data_kind"]) == {"public"}


def test_a_part_of_the_patients_gives_a_manifest_of_that_part(made, two, tmp_path):
    done = take(made, two, tmp_path / "out")
    assert len(read_csv(done.manifest)) == 2
    assert "4 rows of the table belong to patients that were not downloaded" in done.notes


def edited(made, tmp_path, edit):
    """The table of the stand-in with cells changed: `edit(cell)` where cell(column, row) is an openpyxl cell."""
    book = openpyxl.load_workbook(made.table)
    page = book[SHEET]
    place = {cell.value: cell.column for cell in page[1]}
    edit(lambda column, row=None: page.cell(1 if row is None else row + 2, place[column]))
    book.save(tmp_path / "clinical.xlsx")
    return tmp_path / "clinical.xlsx"


def set_all(column, values):
    def edit(cell):
        for row, value in enumerate(values):
            cell(column, row).value = value

    return edit


def set_header(column, text):
    return lambda cell: setattr(cell(column), "value", text)


TABLES = {
    "a column is lacking": (set_header("age", "years"), "no column age; there are Patient-ID"),
    "the endpoint is lacking": (set_header("vital_status_liver_DFS", "status"), "no column vital_status_liver_DFS"),
    "ids of other images": (
        set_all("De-identify Scout Name", [f"A{i}" for i in range(PATIENTS)]),
        "no id of the images, such as CRLM-CT-9001, in Patient-ID: Patient-1, De-identify Scout Name: A0",
    ),
    "sex coded the other way": (set_all("sex", [2, 1] * 3), "sex of table and image: 6 of 6 patients contradict"),
    "rows exchanged": (
        set_all("De-identify Scout Name", [f"CRLM-CT-{9001 + i}" for i in (1, 0, 3, 2, 5, 4)]),
        "sex of table and image: 6 of 6",
    ),
    "event coded the other way": (
        set_all("vital_status_liver_DFS", [0, 1] * 3),
        "event and recurrence in the liver: 3 of 3 patients contradict each other .* does 1 mean an event",
    ),
    "a formula": (set_all("age", ["=40+5"]), "clinical.xlsx, line 2, age: a formula"),
}


@pytest.mark.parametrize("name", TABLES)
def test_another_table_than_expected_is_refused(name, made, fetched, tmp_path):
    edit, message = TABLES[name]
    with pytest.raises(ValueError, match=message):
        take(made, fetched, tmp_path / "out", edited(made, tmp_path, edit))
    assert not (tmp_path / "out").exists()


def test_another_sheet_is_refused(made, fetched, tmp_path):
    book = openpyxl.load_workbook(made.table)
    book[SHEET].title = "TCIA_n=198"
    book.save(tmp_path / "clinical.xlsx")
    with pytest.raises(ValueError, match="sheet TCIA_n=197; there are TCIA_n=198, columns"):
        take(made, fetched, tmp_path / "out", tmp_path / "clinical.xlsx")


@pytest.mark.parametrize(
    ("column", "value", "what"),
    [
        ("months_to_liver_DFS_progression", -999, "table, time_months"),
        ("vital_status_liver_DFS", 2, "table, event"),
        ("sex", 3, "table, sex"),
    ],
)
def test_a_patient_without_endpoint_or_with_another_code_is_in_quarantine(column, value, what, made, two, tmp_path):
    table = edited(made, tmp_path, lambda cell: setattr(cell(column, 1), "value", value))
    done = take(made, two, tmp_path / "out", table)
    assert done.manifest is None
    assert set(done.quarantine["patient_id"]) == {"CRLM-CT-9002"}
    assert what in set(done.quarantine["what"])
    others = take(made, two, tmp_path / "out", table, without_quarantined=True).manifest
    assert read_csv(others)["patient_id"].tolist() == ["CRLM-CT-9001"]


def test_a_patient_who_is_not_in_the_table_is_in_quarantine(made, two, tmp_path):
    table = edited(made, tmp_path, lambda cell: setattr(cell("De-identify Scout Name", 1), "value", "CRLM-CT-1"))
    done = take(made, two, tmp_path / "out", table)
    assert done.manifest is None
    assert done.quarantine["allowed"].tolist() == ["a row in the clinical table"]


def test_a_column_that_is_not_known_is_left_out_and_named(made, two, tmp_path):
    table = edited(made, tmp_path, set_header("relevant_notes", "new_marker"))
    done = take(made, two, tmp_path / "out", table)
    assert "columns of the table that are not known here, left out: new_marker" in done.notes
    assert "new_marker" not in read_csv(done.manifest)


def test_the_other_id_column_serves_as_well(made, two, tmp_path):
    ids = [f"CRLM-CT-{9001 + i}" for i in range(PATIENTS)]
    table = edited(made, tmp_path, set_all("Patient-ID", ids))
    assert len(read_csv(take(made, two, tmp_path / "out", table).manifest)) == 2


def test_stand_in_is_the_same_each_time(made, tmp_path):
    again = write_stand_in(tmp_path, 1)
    assert made.series.read_text().startswith(again.series.read_text())
    tables = [pd.read_excel(part.table, sheet_name=SHEET).head(1) for part in (again, made)]
    pd.testing.assert_frame_equal(*tables)


# ---------------------------------------------------------------- twelve slices of the real collection


@pytest.fixture
def twelve(tmp_path):
    """The slices alone, without the licence that lies beside them."""
    if not REALDATA:
        pytest.skip("RPS_REALDATA names no folder with crlm_ct_1004_subset")
    folder = tmp_path / "CRLM-CT-1004" / "CT"
    folder.mkdir(parents=True)
    for path in (Path(REALDATA) / "crlm_ct_1004_subset").glob("*.dcm"):
        shutil.copy(path, folder)
    return folder


def test_real_slices_are_of_a_pinned_series(twelve):
    header = dcmread(next(twelve.iterdir()), stop_before_pixels=True)
    row = pinned_series(CRLM).set_index("series_uid").loc[header.SeriesInstanceUID]
    assert (row["patient_id"], row["study_uid"]) == (header.PatientID, header.StudyInstanceUID)
    assert (row["modality"], row["sex"], row["instances"]) == ("CT", header.PatientSex, 41)
    # Each slice has the same size, and the index the sum of all: the pinned number of bytes is exact.
    assert row["bytes"] == 41 * next(twelve.iterdir()).stat().st_size


def test_real_slices_pass_the_gate_as_a_volume_and_not_as_a_download(twelve):
    (series,) = find_series(twelve).series
    assert series_faults(series.headers) == []
    assert np.isclose(float(series.headers[0].SliceThickness), 5)
    rows = pinned_series(CRLM)
    (row,) = rows[rows["series_uid"] == series.uid].itertuples()
    assert download_faults(twelve, row) == [
        "41 files of 21,626,680 bytes expected, 12 of 6,329,760 found",
    ]
