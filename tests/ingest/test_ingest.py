import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from pydicom import dcmread

from rps_utils.cli.main import main
from rps_utils.cohort.manifest import check_manifest
from rps_utils.files import read_csv
from rps_utils.imaging.crops import crop_isotropic
from rps_utils.imaging.features import ExtractionSettings, extract
from rps_utils.imaging.volumes import TEXT_FIELDS, Volume, load_pair, load_volume, write_volume
from rps_utils.ingest.clinical_table import Mapping, read_clinical, read_mapping
from rps_utils.ingest.export import ingest
from rps_utils.ingest.readers.contours import inside_polygon
from rps_utils.ingest.segmentations import vessel_of
from rps_utils.ingest.series import find_series, read_ct, series_faults, to_ras, whole_hu
from rps_utils.lab.faults.export import write_small_cohort
from rps_utils.lab.faults.manifest import small_scan
from rps_utils.lab.phantom.cohort import write_cohort
from rps_utils.lab.phantom.dicom import edit_files, trace_outlines, write_ct, write_seg, write_twin

REALDATA = os.environ.get("RPS_REALDATA", "")


def quiet(line):
    """No progress lines."""


def run(source, out, **options):
    return ingest(source, source / "clinical.csv", out, progress=quiet, **options)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    write_small_cohort(folder)
    return folder


@pytest.fixture
def source(tmp_path):
    write_small_cohort(tmp_path / "source")
    return tmp_path / "source"


def same_voxels(first, second):
    a, b = load_volume(first), load_volume(second)
    assert a.values.shape == b.values.shape
    assert np.abs(a.affine - b.affine).max() < 1e-6
    return int((a.values != b.values).sum())


def original_features(root, row):
    crop = crop_isotropic(*load_pair(root / row["image"], root / row["mask"]), 4.0, 20.0)
    return extract(*crop, ExtractionSettings(("original",)))


# ---------------------------------------------------------------- the phantom there and back


def test_phantom_as_dicom_comes_back_voxel_by_voxel(tmp_path):
    manifest = write_cohort(tmp_path / "nifti", 3, seed=5)
    write_twin(manifest, tmp_path / "dicom")
    done = run(tmp_path / "dicom", tmp_path / "out")
    assert done.quarantine.empty
    twin, table = read_csv(manifest), read_csv(done.manifest)
    unhashed = [c for c in twin if c != "reference_map" and not c.endswith("_sha256")]  # no map in DICOM
    assert table[unhashed].equals(twin[unhashed])
    for row in twin.itertuples():
        for name in (row.image, row.mask):
            assert same_voxels(tmp_path / "nifti" / name, tmp_path / "out" / name) == 0
    assert load_volume(tmp_path / "out" / twin["image"][0]).values.dtype == np.int16
    features = [original_features(place, twin.iloc[1]) for place in (tmp_path / "nifti", tmp_path / "out")]
    assert len(features[0]) > 100
    np.testing.assert_allclose(list(features[1].values()), list(features[0].values()), rtol=1e-9)


@pytest.mark.skipif(not REALDATA, reason="RPS_REALDATA names no folder with STS_002")
def test_real_series_gives_the_published_voxels(tmp_path):
    table = tmp_path / "clinical.csv"
    table.write_text("patient_id,time_months,event\nSTS_002,12,1\n")
    patient = Path(REALDATA) / "sts_ct" / "STS_002"
    done = ingest(patient / "dicom", table, tmp_path / "out", progress=quiet)
    assert done.quarantine.empty
    for kind, published in (("ct", "image"), ("mask", "mask")):
        ours = load_volume(tmp_path / "out" / "images" / f"STS_002_{kind}.nii.gz")
        theirs = load_volume(patient / "nifti" / f"{published}.nii.gz")
        assert np.abs(ours.affine - theirs.affine).max() < 1e-3
        assert np.count_nonzero(ours.values != theirs.values) == 0
    assert ours.values.sum() == 17090


# ---------------------------------------------------------------- the sound cohort


def test_small_cohort_is_sound_and_blank(small, tmp_path):
    done = run(small, tmp_path)
    assert done.quarantine.empty, done.quarantine.to_string()
    assert check_manifest(done.manifest) == []
    for path in (tmp_path / "images").iterdir():
        header = nib.load(path).header
        assert all(header[field].item() == b"" for field in TEXT_FIELDS)
        assert not header.extensions


def test_two_processes_give_the_same_files(small, tmp_path):
    tables = [run(small, tmp_path / str(n), n_jobs=n).manifest.read_text() for n in (1, 2)]
    assert tables[0] == tables[1]


def test_second_call_keeps_what_is_sound_and_mends_what_is_not(source, tmp_path):
    lines = []
    missing = source / "P2" / "CT" / "0010.dcm"
    kept = missing.rename(tmp_path / "slice")
    assert run(source, tmp_path / "out").manifest is None
    kept.rename(missing)
    done = ingest(source, source / "clinical.csv", tmp_path / "out", progress=lines.append)
    assert done.manifest is not None
    assert ["kept" in line for line in lines] == [True, False, True, True, True, True]
    assert not list((tmp_path / "out" / "quarantine").glob("P2*"))


def test_changed_output_is_written_again(small, tmp_path):
    before = run(small, tmp_path).manifest.read_text()
    (tmp_path / "images" / "P1_ct.nii.gz").write_bytes(b"broken")
    assert run(small, tmp_path).manifest.read_text() == before
    assert check_manifest(tmp_path / "data_manifest.csv") == []


@pytest.mark.parametrize("without", [False, True])
def test_goes_on_only_when_told(source, tmp_path, without, capsys):
    (source / "P2" / "CT" / "0010.dcm").unlink()
    options = ["--without-quarantined"] if without else []
    paths = [str(source), "--clinical", str(source / "clinical.csv"), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as stop:
        main(["ingest", *paths, "--cores", "1", *options])
    assert stop.value.code == (0 if without else 1)
    assert "1 in quarantine" in capsys.readouterr().err
    assert (tmp_path / "out" / "data_manifest.csv").is_file() == without
    rows = read_csv(tmp_path / "out" / "quarantine.csv")
    assert set(rows["patient_id"]) == {"P2"}
    page = (tmp_path / "out" / rows["picture"][0]).read_text()
    assert "slice missing" in page
    assert "plotly.min.js" in page
    assert (tmp_path / "out" / "quarantine" / "plotly.min.js").is_file()
    if without:
        assert check_manifest(tmp_path / "out" / "data_manifest.csv") == []


def test_old_manifest_does_not_outlive_a_new_refusal(source, tmp_path):
    assert run(source, tmp_path / "out").manifest.is_file()
    (source / "P2" / "CT" / "0010.dcm").unlink()
    assert run(source, tmp_path / "out").manifest is None
    assert not (tmp_path / "out" / "data_manifest.csv").exists()
    assert not (tmp_path / "out" / "images" / "P2_ct.nii.gz").exists()


# ---------------------------------------------------------------- variants that are no fault


def oblique(volume):
    angle = np.radians(12)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return Volume(volume.values, turn @ volume.affine)


SOUND = {
    "files in another order": lambda ct, folder: write_ct(ct, "P1", folder),
    "oblique": lambda ct, folder: write_ct(oblique(ct), "P1", folder),
}


@pytest.mark.parametrize("name", SOUND)
def test_sound_series_gives_its_voxels(name, tmp_path):
    ct, _ = small_scan(1)
    SOUND[name](ct, tmp_path)
    for number, path in enumerate(sorted(tmp_path.glob("*.dcm"), reverse=True)):
        path.rename(tmp_path / f"x{number:03d}")
    series = find_series(tmp_path).series[0]
    assert series_faults(series.headers) == []
    volume = read_ct(series)
    back = to_ras(whole_hu(volume.array), volume)
    assert (back.values == ct.values).all()
    expected = oblique(ct).affine if name == "oblique" else ct.affine
    assert np.abs(back.affine - expected).max() < 1e-6


def test_each_slice_has_its_own_rescale(source, tmp_path):
    path = source / "P1" / "CT" / "0003.dcm"
    header = dcmread(path)
    header.PixelData = (header.pixel_array // 2).astype("<u2").tobytes()
    header.RescaleSlope = 2
    header.save_as(path, enforce_file_format=True)
    assert run(source, tmp_path / "out").quarantine.empty
    expected = small_scan(1)[0].values.copy()
    expected[:, :, 3] = (expected[:, :, 3] + 1024) // 2 * 2 - 1024
    assert (load_volume(tmp_path / "out" / "images" / "P1_ct.nii.gz").values == expected).all()


def test_localizer_is_left_aside(source, tmp_path):
    ct, _ = small_scan(1)
    write_ct(ct, "P1", source / "P1" / "scout", series="scout")
    edit_files([*(source / "P1" / "scout").iterdir()], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    done = run(source, tmp_path / "out")
    assert done.quarantine.empty
    assert "32 files left aside: localizer image" in done.notes


def test_largest_series_is_taken_when_the_rule_says_so(source, tmp_path):
    (source / "P3" / "seg.dcm").unlink()
    ct, mask = small_scan(3)
    part = Volume(ct.values[:, :, 2:-2], ct.grid.box((slice(None), slice(None), slice(2, -2))).affine)
    images = write_ct(part, "P3", source / "P3" / "thin", series="thin")
    write_seg(Volume(mask.values[:, :, 2:-2], part.affine), images, source / "P3" / "a.dcm")
    write_seg(mask, [dcmread(p) for p in sorted((source / "P3" / "CT").iterdir())], source / "P3" / "b.dcm")
    rules = tmp_path / "map.yml"
    rules.write_text("series: largest\n")
    assert "2 CT series with 32, 28 slices" in run(source, tmp_path / "a").quarantine["value"].tolist()
    assert run(source, tmp_path / "b", mapping=rules).quarantine.empty


@pytest.mark.parametrize(("rule", "expected"), [("largest", 1), ("union", 3), ("named\nroi: [NODE]", 2)])
def test_several_segments_by_a_rule(source, tmp_path, rule, expected):
    ct, mask = small_scan(2)
    labels = mask.values.copy()
    labels[10:16, 10:16, 20:24] = 2
    (source / "P2" / "rtstruct.dcm").unlink()
    images = [dcmread(p) for p in sorted((source / "P2" / "CT").iterdir())]
    write_seg(Volume(labels, ct.affine), images, source / "P2" / "both.dcm", ("tumour", "node"))
    (tmp_path / "map.yml").write_text(f"segments: {rule}\n")
    refused = run(source, tmp_path / "out", mapping=tmp_path / "map.yml").quarantine
    # Only P2 has a structure of that name: the others are refused under `named`.
    assert set(refused["patient_id"]) == ({"P1", "P3", "P4", "P5", "P6"} if expected == 2 else set())
    got = load_volume(tmp_path / "out" / "images" / "P2_mask.nii.gz").values
    assert (got == np.isin(labels, {1: [1], 2: [2], 3: [1, 2]}[expected])).all()


# ---------------------------------------------------------------- contrast phase

PHASES = {
    "portal venous": ({"aorta": 150, "inferior_vena_cava": 130}, "portal venous", "IVC 130, aorta 150"),
    "arterial": ({"Aorta": 320, "IVC": 60}, "arterial", "IVC 60, aorta 320"),
    "no contrast": ({"aorta": 42, "ivc": 40}, "non-contrast", "IVC 40, aorta 42"),
    "aorta alone, bright": ({"abdominal aorta": 150}, "unknown", "aorta 150"),
    "aorta alone, plain": ({"aorta": 45}, "non-contrast", "aorta 45"),
    "between phases": ({"aorta": 260, "IVC": 240}, "unknown", "IVC 240, aorta 260"),
}


@pytest.mark.parametrize("name", PHASES)
def test_drawn_vessels_make_a_phase_plausible(source, tmp_path, name):
    """P3 gets vessels beside the spine; under the rule `one` they are no candidates for the tumour."""
    vessels, phase, shown = PHASES[name]
    ct, mask = small_scan(3)
    for number, hu in enumerate(vessels.values()):
        box = (slice(22 + 5 * number, 25 + 5 * number), slice(12, 15), slice(2, 30))
        ct.values[box], mask.values[box] = hu, number + 2
    images = write_ct(ct, "P3", source / "P3" / "CT")
    write_seg(mask, images, source / "P3" / "seg.dcm", ("tumour", *vessels))
    done = run(source, tmp_path / "out")
    assert done.quarantine.empty, done.quarantine.to_string()
    facts = read_csv(tmp_path / "out" / "ingest.csv").set_index("patient_id")
    assert facts.loc["P3", ["phase", "vessels_hu", "structures"]].tolist() == [phase, shown, "tumour"]
    assert facts.loc["P1", ["phase", "vessels_hu"]].tolist() == ["unknown", "not drawn"]
    assert same_voxels(tmp_path / "out" / "images" / "P3_mask.nii.gz", mask_file(tmp_path, mask)) == 0
    assert any(note.startswith("contrast phase, where aorta and vena cava tell it:") for note in done.notes)


def mask_file(folder, labels):
    write_volume(Volume((labels.values == 1).astype(np.uint8), labels.affine), folder / "expected.nii.gz")
    return folder / "expected.nii.gz"


@pytest.mark.parametrize(
    ("structure", "vessel"),
    [
        *(("Aorta", "aorta"), ("inferior_vena_cava", "IVC"), ("IVC", "IVC"), ("vena cava inferior", "IVC")),
        *(
            ("IVC tumour", ""),
            ("leiomyosarcoma of the inferior vena cava", ""),
            ("tumour", ""),
            ("para-aortic node", ""),
        ),
    ],
)
def test_only_the_vessel_itself_is_one(structure, vessel):
    assert vessel_of(structure) == vessel


def test_vessels_alone_are_no_tumour(source, tmp_path):
    images = [dcmread(p) for p in sorted((source / "P3" / "CT").iterdir())]
    write_seg(small_scan(3)[1], images, source / "P3" / "seg.dcm", ("aorta",))
    assert run(source, tmp_path).quarantine["value"].tolist() == ["nothing but aorta"]


# ---------------------------------------------------------------- outlines


def test_outlines_of_any_mask_fill_to_the_same_mask():
    for seed in range(30):
        inside = np.random.default_rng(seed).random((12, 15)) < 0.5
        filled = np.zeros_like(inside)
        for outline in trace_outlines(inside):
            filled ^= inside_polygon(outline[:, ::-1], inside.shape)
        assert (filled == inside).all()


def test_hole_in_a_polygon():
    outer = np.array([[0.5, 0.5], [0.5, 6.5], [6.5, 6.5], [6.5, 0.5]])
    inner = np.array([[2.5, 2.5], [2.5, 4.5], [4.5, 4.5], [4.5, 2.5]])
    filled = inside_polygon(outer, (8, 8)) ^ inside_polygon(inner, (8, 8))
    assert filled.sum() == 36 - 4
    assert not filled[3:5, 3:5].any()


# ---------------------------------------------------------------- the table


def test_table_in_the_words_of_the_clinic(tmp_path):
    (tmp_path / "t.csv").write_text("\ufeffNo,DFS,Status,Sex,Age,Note\nA1,12.5,yes,1,93,x\nA2,-999,no,2,40,y\n")
    (tmp_path / "m.yml").write_text(
        "columns: {patient_id: No, time_months: DFS, event: Status, sex: Sex, age: Age}\n"
        "codes:\n  event: {yes: 1, no: 0}\n  sex: {1: male, 2: female}\nmissing: [-999]\n"
    )
    cells, problems = read_clinical(tmp_path / "t.csv", read_mapping(tmp_path / "m.yml"))
    assert problems == []
    assert cells.to_dict("list") == {
        "patient_id": ["A1", "A2"],
        "time_months": ["12.5", ""],
        "event": ["1", "0"],
        "sex": ["male", "female"],
        "age": ["90", "40"],
    }


def test_excel_gives_the_same_as_csv(small, tmp_path):
    table = read_csv(small / "clinical.csv")
    table.to_excel(tmp_path / "t.xlsx", index=False, sheet_name="patients")
    excel, problems = read_clinical(tmp_path / "t.xlsx", Mapping(sheet="patients"))
    text, _ = read_clinical(small / "clinical.csv", Mapping())
    assert problems == []
    pd.testing.assert_frame_equal(excel.astype(table.dtypes), text.astype(table.dtypes))


@pytest.mark.parametrize(
    ("table_says", "mapping", "kind"),
    [("", "", "private"), ("", "data_kind: public\n", "public"), ("synthetic", "", "synthetic")],
    ids=["nobody says", "the mapping", "the table"],
)
def test_manifest_says_whose_data_it_holds(source, tmp_path, table_says, mapping, kind):
    if table_says:
        table = read_csv(source / "clinical.csv")
        table.assign(data_kind=table_says).to_csv(source / "clinical.csv", index=False)
    (tmp_path / "m.yml").write_text(mapping or "{}\n")
    done = run(source, tmp_path / "out", mapping=tmp_path / "m.yml")
    assert set(read_csv(done.manifest)["data_kind"]) == {kind}


def test_mapping_with_another_kind_is_refused(tmp_path):
    (tmp_path / "m.yml").write_text("data_kind: secret\n")
    with pytest.raises(ValueError, match="data_kind: 'secret' given; allowed: synthetic, public, private"):
        read_mapping(tmp_path / "m.yml")


def test_real_ids_and_names_stay_behind(source, tmp_path):
    """A source that says who the patient is, and a table with pseudonyms beside the real ids."""
    files = [p for p in (source / "P1").rglob("*.dcm")]
    edit_files(files, PatientID="48151623", PatientName="Doe^Jane", PatientBirthDate="19500102")
    table = read_csv(source / "clinical.csv").astype(str)
    table["mrn"] = ["48151623", *table["patient_id"][1:]]
    table.to_csv(source / "clinical.csv", index=False)
    columns = ", ".join(f"{c}: {c}" for c in ("patient_id", "time_months", "event", "age", "grade"))
    (tmp_path / "m.yml").write_text(f"columns: {{{columns}, dicom_patient_id: mrn}}\n")
    assert run(source, tmp_path / "a", mapping=tmp_path / "m.yml").manifest is None
    done = run(source, tmp_path / "b", mapping=tmp_path / "m.yml", identified=True)
    assert done.quarantine.empty
    written = [p for p in (tmp_path / "b").rglob("*") if p.is_file()]
    for word in (b"48151623", b"Jane", b"19500102"):
        assert not any(word in p.read_bytes() or word.decode() in p.name for p in written)


def test_name_from_a_header_in_the_table_stops_everything(source, tmp_path):
    edit_files([*(source / "P1").rglob("*.dcm")], PatientName="Doering^Jane")
    table = (source / "clinical.csv").read_text().replace("G1", "G1 Doering", 1)
    (source / "clinical.csv").write_text(table)
    with pytest.raises(ValueError, match="would hold, in column grade, a word that stands in a DICOM header"):
        run(source, tmp_path / "out", identified=True)
    assert not list((tmp_path / "out").glob("*.csv"))


def test_missing_marker_is_a_note(source, tmp_path):
    edit_files([*(source / "P1").rglob("*.dcm")], PatientIdentityRemoved=None)
    done = run(source, tmp_path / "out")
    assert done.quarantine.empty
    assert any(note.startswith("1 patient: PatientIdentityRemoved is not YES") for note in done.notes)
