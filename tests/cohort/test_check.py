"""The gate as a page and as JSON: every fault is in both, and neither shows anybody."""

import json
import re
import subprocess
import sys

import pandas as pd
import pytest

from rps_utils.cli.main import main
from rps_utils.cohort.check import IMAGE_FACTS, as_dict, check, write_page
from rps_utils.cohort.contract import UNDETECTABLE
from rps_utils.lab.faults.manifest import MANIFEST_FAULTS, write_small_manifest


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return write_small_manifest(tmp_path_factory.mktemp("sound"))


@pytest.fixture
def faulty(tmp_path):
    manifest = write_small_manifest(tmp_path)
    for fault in ("label 255", "formula in a manifest", "path that climbs"):
        MANIFEST_FAULTS[fault].plant(tmp_path)
    cells = pd.read_csv(manifest, dtype=str)
    cells.loc[3, "grade"] = "<script>alert(1)</script>"
    cells.loc[4, "event"] = "yes"
    cells.to_csv(manifest, index=False)
    return manifest


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main(["check", *map(str, arguments)])
    return stop.value.code, capsys.readouterr().out


def test_sound_cohort_is_described(sound):
    found = check(sound)
    assert found.problems == [] and found.data_kind == "synthetic"
    assert found.counts == {"patients": 6, "events": 3, "problems": 0, "rows with a problem": 0}
    assert tuple(found.images) == IMAGE_FACTS
    first = found.images.iloc[0]
    assert (first["matrix"], first["spacing_mm"], first["axes"]) == ("40 x 36 x 32", "5.5 x 6 x 5", "RAS")
    assert first["labels"] == "0, 1"
    # An ellipsoid of 4 x 4 x 5 voxels (half axes), each 5.5 x 6 x 5 mm, painted with 80 HU.
    assert first["tumour_ml"] == pytest.approx(4 / 3 * 3.1416 * 4 * 4 * 5 * 0.165, rel=0.06)
    assert abs(first["tumour_median_hu"] - 80) <= 2


def test_every_fault_is_a_row_of_the_page_and_of_the_json(faulty, tmp_path, capsys):
    page = tmp_path / "check.html"
    status, printed = run(capsys, faulty, "--json", "--html", page)
    told = json.loads(printed)
    assert status == 1 and not told["sound"] and told["data_kind"] == "synthetic"
    assert told["counts"]["problems"] == len(told["problems"]) == 4
    assert {(p["row"], p["column"]) for p in told["problems"]} == {
        *((3, "grade"), (3, "image"), (3, "mask"), (6, "event"))
    }
    text = page.read_text()
    faults = text[text.index('id="part-faults"') : text.index('id="part-looked-for"')]
    rows = re.findall(r"<tr><th scope=\"row\">(.*?)</tr>", faults, re.DOTALL)
    assert len(rows) == 4
    assert all(p["remedy"].replace("'", "&#39;") in text for p in told["problems"])
    assert told["images"][1]["labels"] == "0, 255" and told["images"][1]["matrix"] is None


def test_page_is_whole_offline_and_shows_nobody(faulty, tmp_path):
    text = write_page(check(faulty), tmp_path / "page.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!#)', text)
    assert "<script" not in text and "<img" not in text and "data:" not in text
    for name in UNDETECTABLE:
        assert name in text
    assert 'id="part-images"' in text and ":root {" in text


def test_page_lists_more_faults_than_a_terminal_shows(sound, tmp_path):
    found = check(sound)
    many = [found_problem(n) for n in range(300)]
    text = write_page(found._replace(problems=many), tmp_path / "page.html").read_text()
    assert text.count("a made-up fault") == 300 and "further rows" not in text


def found_problem(number):
    from rps_utils.cohort.contract import Problem

    return Problem(number, f"P{number}", "age", "a made-up fault", "none", "none")


@pytest.mark.parametrize(
    ("text", "column"),
    [("patient_id;image\nP1;a\n", "file"), ("patient_id\n", "file"), ("a,a\n1,2\n", "patient_id")],
    ids=["semicolons", "header only", "columns missing"],
)
def test_what_is_no_table_is_still_a_page(tmp_path, text, column):
    manifest = tmp_path / "data_manifest.csv"
    manifest.write_text(text)
    found = check(manifest)
    assert column in {problem.column for problem in found.problems}
    assert found.counts["patients"] == 0 and found.images.empty
    assert "Every fault" in write_page(found, tmp_path / "page.html").read_text()
    json.dumps(as_dict(found), allow_nan=False)


def test_unreadable_images_leave_empty_cells(tmp_path):
    manifest = write_small_manifest(tmp_path)
    MANIFEST_FAULTS["not an image"].plant(tmp_path)
    MANIFEST_FAULTS["gzip bomb"].plant(tmp_path)
    images = check(manifest).images
    assert images.loc[3, "matrix"] != images.loc[3, "matrix"] and images.loc[3, "labels"] == "0, 1"
    assert as_dict(check(manifest))["images"][1]["matrix"] is None


def test_sound_manifest_has_status_0(sound, capsys):
    assert run(capsys, sound) == (0, f"{sound}: no problem found\n")
    status, printed = run(capsys, sound, "--json")
    assert status == 0 and json.loads(printed)["sound"]


def test_check_and_its_faults_work_without_the_packages_for_dicom():
    absent = "import sys; sys.modules['pydicom'] = sys.modules['highdicom'] = None"
    modules = "rps_utils.cohort.check, rps_utils.report.page"
    code = f"{absent}; import {modules}; from rps_utils.lab.faults.manifest import MANIFEST_FAULTS"
    subprocess.run([sys.executable, "-c", code], check=True)
