"""A folder of images and masks with a table, and single files beside DICOM."""

import numpy as np
import pytest
import SimpleITK as sitk

from rps_utils.cohort.manifest import check_manifest
from rps_utils.files import read_csv
from rps_utils.imaging.volumes import Volume, load_volume, to_itk, write_volume
from rps_utils.ingest.export import ingest
from rps_utils.ingest.readers.pairs import match_files, shown_name
from rps_utils.lab.faults.export import write_small_cohort
from rps_utils.lab.faults.manifest import clinical_rows, small_scan
from tests.imaging.test_formats import segments, write_nrrd

FORMATS = (".nii.gz", ".nrrd", ".mha", ".nii", ".mhd", ".nrrd")


def save(volume, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    if ".nii" in path.name:
        write_volume(volume, path)
    else:
        sitk.WriteImage(to_itk(volume), str(path), useCompression=True)


@pytest.fixture
def source(tmp_path):
    """Six patients in all formats, by the names of files or of folders."""
    folder = tmp_path / "source"
    table = clinical_rows()
    for number, (patient, end) in enumerate(zip(table["patient_id"], FORMATS, strict=True)):
        ct, mask = small_scan(number + 1)
        where = f"{patient}_ct{end}", f"{patient}_mask{end}"
        if number % 2:
            where = f"{patient}/scan{end}", f"{patient}/tumour_seg{end}"
        save(ct, folder / where[0])
        save(mask, folder / where[1])
    table.to_csv(folder / "clinical.csv", index=False)
    return folder


def run(source, **options):
    return ingest(source, source / "clinical.csv", source.parent / "out", progress=lambda line: None, **options)


def out(source, patient, kind):
    return load_volume(source.parent / "out" / "images" / f"{patient}_{kind}.nii.gz")


def test_folder_of_pairs_becomes_a_manifest(source):
    done = run(source)
    assert done.quarantine.empty, done.quarantine.to_string()
    assert check_manifest(done.manifest) == []
    for number, patient in enumerate(read_csv(done.manifest)["patient_id"]):
        for kind, volume in zip(("ct", "mask"), small_scan(number + 1), strict=True):
            ours = out(source, patient, kind)
            np.testing.assert_array_equal(ours.values, volume.values)
            np.testing.assert_allclose(ours.affine, volume.affine, atol=1e-5)
    assert not [note for note in done.notes if "PatientIdentityRemoved" in note]


def test_second_call_keeps_and_notices_a_changed_file(source):
    run(source)
    lines = []
    save(small_scan(9)[0], source / "P4" / "scan.nii")
    ingest(source, source / "clinical.csv", source.parent / "out", progress=lines.append)
    assert ["kept" in line for line in lines] == [True, True, True, False, True, True]


def refused(source):
    return run(source).quarantine.set_index("patient_id")


def remove(*names):
    return lambda folder: [(folder / name).unlink() for name in names]


def two_scans(folder):
    save(small_scan(1)[0], folder / "P1_arterial.nii.gz")


def no_word_for_the_mask(folder):
    (folder / "P1_mask.nii.gz").rename(folder / "P1_b.nii.gz")


def cut_short(folder):
    path = folder / "P1_ct.nii.gz"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def other_grid(folder):
    mask = small_scan(1)[1]
    save(Volume(mask.values, mask.affine + np.outer([0, 3, 0, 0], [0, 0, 0, 1])), folder / "P1_mask.nii.gz")


def gap(folder):
    mask = small_scan(1)[1]
    mask.values[:, :, 12] = 0
    save(mask, folder / "P1_mask.nii.gz")


def to_the_end(folder):
    mask = small_scan(1)[1]
    mask.values[:, :, :12] = mask.values[:, :, 12:13]
    save(mask, folder / "P1_mask.nii.gz")


PLANTED = {
    "no mask": (remove("P1_mask.nii.gz"), "no mask beside the image"),
    "no image": (remove("P1_ct.nii.gz"), "no CT series with this PatientID"),
    "two scans": (two_scans, "2 images and 1 mask by their names"),
    "mask not called so": (no_word_for_the_mask, "2 images and 0 masks by their names"),
    "cut short": (cut_short, "unreadable"),
    "mask on another grid": (other_grid, "affine off by 3"),
    "slice left out": (gap, "1 empty slice inside the tumour, at -340 mm"),
    "tumour at the end": (to_the_end, "cut off at the border of the scan (foot end)"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_faulty_pair_is_named(source, name):
    plant, says = PLANTED[name]
    plant(source)
    found = refused(source)
    assert set(found.index) == {"P1"}
    assert says in found.loc["P1", "value"]
    assert found.loc["P1", "remedy"]


def test_files_of_nobody_are_named_without_their_names(source):
    save(small_scan(7)[0], source / "Doe_Jane_1950_ct.nii.gz")
    found = refused(source)
    assert found.index.tolist() == ["not in the table"]
    assert found["value"].tolist() == ["image file 1 of 13 by the alphabet: …_…_…_ct.nii.gz"]


def test_table_may_name_the_files(source):
    (source / "P1_ct.nii.gz").rename(source / "a.nii.gz")
    (source / "P1_mask.nii.gz").rename(source / "b.nii.gz")
    table = read_csv(source / "clinical.csv").assign(image="", mask="")
    table.loc[0, ["image", "mask"]] = ["a.nii.gz", "b.nii.gz"]
    table.to_csv(source / "clinical.csv", index=False)
    done = run(source)
    assert done.quarantine.empty, done.quarantine.to_string()
    assert (out(source, "P1", "mask").values == small_scan(1)[1].values).all()


@pytest.mark.parametrize("path", ["../x.nii.gz", "/etc/x.nii.gz", "https://example.org/x.nii.gz"])
def test_named_file_stays_inside_the_folder(source, path):
    table = read_csv(source / "clinical.csv").assign(image="", mask="")
    table.loc[0, ["image", "mask"]] = [path, "P1_mask.nii.gz"]
    table.to_csv(source / "clinical.csv", index=False)
    assert "path" in refused(source).loc["P1", "allowed"]


# ---------------------------------------------------------------- segments of 3D Slicer


def slicer_mask(path, names=("tumour", "node"), part=None):
    mask = small_scan(1)[1]
    labels = mask.values.copy()
    labels[20:24, 12:16, 20:24] = 2
    box = part or (slice(None),) * 3
    cut = Volume(labels, mask.affine).box(box)
    ras = {"space": "RAS", "space_directions": "(5.5,0,0) (0,6,0) (0,0,5)"}
    ras["space_origin"] = "({:g},{:g},{:g})".format(*cut.affine[:3, 3])
    described = [{"Name": name, "Layer": 0, "LabelValue": n} for n, name in enumerate(names, 1)]
    write_nrrd(path, np.ascontiguousarray(cut.values), segments(*described), **ras)
    return labels


@pytest.mark.parametrize(("rule", "label"), [("named\nroi: [NODE]", [2]), ("largest", [1]), ("union", [1, 2])])
def test_segment_by_the_rule_of_the_mapping(source, rule, label):
    (source / "P1_mask.nii.gz").unlink()
    labels = slicer_mask(source / "P1.seg.nrrd")
    (source / "map.yml").write_text(f"segments: {rule}\n")
    done = run(source, mapping=source / "map.yml")
    assert done.quarantine.empty, done.quarantine.to_string()
    assert (out(source, "P1", "mask").values == np.isin(labels, label)).all()


def test_two_segments_without_a_rule_are_refused(source):
    (source / "P1_mask.nii.gz").unlink()
    slicer_mask(source / "P1.seg.nrrd")
    assert refused(source).loc["P1", "value"].startswith("2 structures")


def test_segmentation_cut_to_what_it_holds(source):
    (source / "P1_mask.nii.gz").unlink()
    labels = slicer_mask(source / "P1.seg.nrrd", ("tumour", "aorta"), (slice(5, 30), slice(4, 20), slice(3, 28)))
    assert run(source).quarantine.empty
    assert (out(source, "P1", "mask").values == (labels == 1)).all()


def test_segment_by_name_in_a_manifest(source):
    done = run(source)
    folder = done.manifest.parent
    slicer_mask(folder / "images" / "P1.seg.nrrd")
    table = read_csv(done.manifest).drop(columns=["mask_sha256"])
    table.loc[0, "mask"] = "images/P1.seg.nrrd"
    table.to_csv(done.manifest, index=False)
    (problem,) = check_manifest(done.manifest)
    assert problem.value == "2 of 2 segments"
    table.loc[0, "mask"] = "images/P1.seg.nrrd#tumour"
    table.to_csv(done.manifest, index=False)
    assert check_manifest(done.manifest) == []


# ---------------------------------------------------------------- beside DICOM


def test_mask_file_beside_dicom_needs_no_column(tmp_path):
    folder = tmp_path / "source"
    write_small_cohort(folder)
    (folder / "P3" / "seg.dcm").unlink()
    save(small_scan(3)[1], folder / "P3" / "mask.nrrd")
    save(small_scan(1)[0], folder / "P1" / "copy.nii.gz")
    done = run(folder)
    assert done.quarantine.empty, done.quarantine.to_string()
    assert (out(folder, "P3", "mask").values == small_scan(3)[1].values).all()
    assert any("1 image file left aside" in note for note in done.notes)


def test_names_in_headers_reach_no_output(source, capsys):
    image = to_itk(small_scan(2)[0])
    for key in ("0010|0010", "PatientName", "ITK_InputFilterName"):
        image.SetMetaData(key, "Doe^Jane 1950-01-02")
    (source / "P2" / "scan.nrrd").unlink()
    sitk.WriteImage(image, str(source / "P2" / "scan.nrrd"))
    assert b"Jane" in (source / "P2" / "scan.nrrd").read_bytes()
    assert run(source).quarantine.empty
    for path in (source.parent / "out").rglob("*.*"):
        assert b"Jane" not in path.read_bytes()


# ---------------------------------------------------------------- names

OWNERS = {
    "P1_ct.nii.gz": "P1",
    "P10_ct.nii.gz": "P10",
    "P1-2/ct.nii.gz": "P1-2",
    "site/P1/series 3/image.nrrd": "P1",
    "P1/P2_ct.nii.gz": "P2",
    "P1_and_P2.nii.gz": "",
    "XP1_ct.nii.gz": "",
    "p1_ct.nii.gz": "",
}


@pytest.mark.parametrize("file", OWNERS)
def test_owner_of_a_file(file):
    pairs, unmatched = match_files([file], ["P1", "P2", "P10", "P1-2"])
    assert list(pairs) == ([OWNERS[file]] if OWNERS[file] else [])
    assert unmatched == ([] if OWNERS[file] else [file])


@pytest.mark.parametrize("image", ["P1.nii.gz", "P1_ct.nii.gz", "images/P1.nii.gz"])
@pytest.mark.parametrize(
    "mask", ["P1_mask.nrrd", "P1.seg.nrrd", "P1-GTV.nii", "masks/P1.nii.gz", "P1/Segmentation.mha"]
)
def test_image_and_mask_by_their_names(image, mask):
    pairs, _ = match_files([image, mask], ["P1"])
    assert pairs["P1"] == (image, mask, [])


def test_only_known_words_of_a_name_are_shown():
    assert shown_name("a/Doe_Jane-CT.seg.nrrd") == "…_…_CT.seg.nrrd"
