import gzip
import hashlib
import shutil
import struct

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from rps_utils.cli.main import main
from rps_utils.cohort.contract import ManifestError, clinical_columns, format_problems
from rps_utils.cohort.manifest import check_manifest, image_files, lacking_columns, read_cells, read_manifest
from rps_utils.files import read_csv, write_csv
from rps_utils.texts.cells import comma_remedy

SHAPE, SPACING = (24, 20, 16), (5.0, 5.0, 6.0)
HEADER = ["patient_id", "image", "mask", "split", "time_months", "event", "age", "grade"]


def save(values, path, spacing=SPACING, **header):
    image = nib.Nifti1Image(values, np.diag([*spacing, 1.0]))
    image.set_qform(image.affine, code=1)
    for key, value in header.items():
        image.header[key] = value
    nib.save(image, path)


def scan(seed=0):
    """A box of soft tissue in air, with a denser tumour in it."""
    hu = np.random.default_rng(seed).integers(-1010, -990, SHAPE).astype(np.int16)
    hu[3:21, 3:17, :] = 40
    hu[6:12, 6:12, 4:12] = 80
    mask = np.zeros(SHAPE, np.uint8)
    mask[6:12, 6:12, 4:12] = 1
    return hu, mask


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Folder with a cohort of twelve that has no fault."""
    folder = tmp_path_factory.mktemp("sound")
    rows = []
    for i in range(12):
        hu, mask = scan(i)
        save(hu, folder / f"p{i}_ct.nii.gz")
        save(mask, folder / f"p{i}_mask.nii.gz")
        split = "validation" if i % 4 == 3 else "training"
        grade = ["G1", "G2", "NA"][i % 3]
        rows.append([f"P{i}", f"p{i}_ct.nii.gz", f"p{i}_mask.nii.gz", split, f"{6 + 3.5 * i}", f"{i % 2}", "56", grade])
    pd.DataFrame(rows, columns=HEADER).to_csv(folder / "data_manifest.csv", index=False)
    return folder


@pytest.fixture
def cohort(sound, tmp_path):
    """A copy to break."""
    folder = tmp_path / "data"
    shutil.copytree(sound, folder)
    return folder


def table(folder):
    return pd.read_csv(folder / "data_manifest.csv", dtype=str, keep_default_na=False)


def edit(folder, row, column, value):
    cells = table(folder)
    if column not in cells:
        cells[column] = ""
    cells.loc[row, column] = value
    cells.to_csv(folder / "data_manifest.csv", index=False)


def problems(folder, **options):
    return check_manifest(folder / "data_manifest.csv", **options)


def only_problem(folder, **options):
    found = problems(folder, **options)
    assert len(found) == 1, format_problems(found)
    return found[0]


def test_sound_cohort_has_no_problem(cohort):
    assert problems(cohort, folds=3) == []
    assert format_problems([]) == "no problem found"


def test_two_processes_find_the_same(cohort):
    edit(cohort, 2, "event", "9")
    save(np.zeros(SHAPE, np.uint8), cohort / "p5_mask.nii.gz")
    assert problems(cohort, n_jobs=2) == problems(cohort)


# ---------------------------------------------------------------- cells

CELLS = {
    "id with a space": ("patient_id", "P 3", "letters, digits"),
    "id that climbs": ("patient_id", "../P1", "letters, digits"),
    "id missing": ("patient_id", "", "letters, digits"),
    "id of 65 characters": ("patient_id", "P" * 64 + "4", "1 to 64"),
    "time in words": ("time_months", "two years", "finite number"),
    "time with decimal comma": ("time_months", "12,5", "decimal point"),
    "time of zero": ("time_months", "0", "above 0"),
    "time below zero": ("time_months", "-3", "above 0"),
    "time infinite": ("time_months", "inf", "finite number"),
    "time overflowing": ("time_months", "1e999", "finite number"),
    "time with underscore": ("time_months", "1_2", "finite number"),
    "time missing": ("time_months", "NA", "every row"),
    "time in days": ("time_months", "1460", "up to 600"),
    "event in words": ("event", "yes", "0 .no local recurrence seen., 1"),
    "event missing": ("event", "", "0 .no local recurrence seen., 1"),
    "unknown event code": ("event", "3", "2 .death without it."),
    "split misspelt": ("split", "test", "training or validation"),
    "split with capital": ("split", "Training", "training or validation"),
    "number with decimal comma": ("age", "56,5", "decimal point"),
    "number with unit": ("age", "56 y", "finite number"),
    "code for missing": ("age", "-999", "empty cell"),
    "address as path": ("image", "https://example.org/ct.nii.gz", "forward slashes"),
    "absolute path": ("image", "/etc/hosts.nii.gz", "below the manifest's folder"),
    "path that climbs": ("image", "../data/p1_ct.nii.gz", "below the manifest's folder"),
    "backslash": ("image", "images\\ct.nii.gz", "forward slashes"),
    "drive letter": ("image", "C:/ct.nii.gz", "forward slashes"),
    "home": ("image", "~/ct.nii.gz", "forward slashes"),
    "format that can point elsewhere": ("image", "p1.nhdr", "nii.gz"),
    "file that is not there": ("image", "p99_ct.nii.gz", "file that exists"),
    "mask missing": ("mask", "", "every row"),
}


@pytest.mark.parametrize("name", CELLS)
def test_wrong_cell_is_named(cohort, name):
    column, value, allowed = CELLS[name]
    edit(cohort, 4, column, value)
    found = only_problem(cohort)
    assert (found.row, found.column, found.value) == (6, column, value)
    assert found.patient_id == (value if column == "patient_id" else "P4")
    assert pd.Series([found.allowed]).str.contains(allowed).all(), found
    assert found.remedy


def test_nul_in_path_is_shown_on_one_line(cohort):
    edit(cohort, 4, "image", "p4\x00_ct.nii.gz")
    text = format_problems([only_problem(cohort)])
    assert "p4\\x00_ct.nii.gz" in text
    assert len(text.splitlines()) == 3


def test_link_out_of_the_folder_is_refused(cohort, sound):
    (cohort / "p4_ct.nii.gz").unlink()
    (cohort / "p4_ct.nii.gz").symlink_to(sound / "p4_ct.nii.gz")
    assert "leads out" in only_problem(cohort).remedy


def test_same_patient_in_both_splits(cohort):
    edit(cohort, 3, "patient_id", "P2")
    found = only_problem(cohort)
    assert found.value == "P2 again, first in line 4, there training, here validation"


def test_ready_made_score_must_be_complete(cohort):
    for row in range(12):
        edit(cohort, row, "risk_Nomogram", "" if row == 7 else "0.5")
    found = only_problem(cohort)
    assert (found.row, found.column, found.allowed) == (9, "risk_Nomogram", "a number in every row")


def test_clinical_value_may_be_missing_but_not_all(cohort):
    edit(cohort, 4, "age", "")
    assert problems(cohort) == []
    for row in range(12):
        edit(cohort, row, "age", "NA")
    assert only_problem(cohort).value == "no value at all"


# ---------------------------------------------------------------- the table

HEADERS = {
    "column missing": ("time_months", "months", "time_months", "no such column"),
    "column twice": ("age", "grade", "grade", "used twice"),
    "column without a name": ("age", "", "(no name)", "column without a name"),
    "column that is reserved": ("age", "fold", "fold", "reserved name"),
    "column that tells the outcome": ("age", "died", "died", "reserved name"),
    "column of our own tables": ("age", "model", "model", "reserved name"),
    "column of predictions": ("age", "lrfs_36", "lrfs_36", "reserved name"),
    "column that a spreadsheet would run": ("age", "=cmd|' /C calc'!A0", "column 7", "a formula (not shown)"),
    "column that identifies": ("age", "date_of_birth", "date_of_birth", "identifies a person"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_wrong_header_is_named(cohort, name):
    old, new, column, value = HEADERS[name]
    path = cohort / "data_manifest.csv"
    path.write_text(path.read_text().replace(f",{old}", f",{new}", 1))
    found = only_problem(cohort)
    assert (found.row, found.column, found.value) == (None, column, value)


def test_semicolons_are_recognised(cohort):
    path = cohort / "data_manifest.csv"
    path.write_text(path.read_text().replace(",", ";"))
    found = only_problem(cohort)
    assert found.value == "columns are separated by semicolons" and "separated by commas" in found.allowed


def test_row_with_an_unquoted_comma_is_named(cohort):
    path = cohort / "data_manifest.csv"
    path.write_text(path.read_text().replace("G1\n", "G1, partly G2\n", 1))
    found = only_problem(cohort)
    assert (found.row, found.value) == (2, "9 cells")


def test_byte_order_mark_is_read_over_and_other_encodings_are_refused(cohort):
    path = cohort / "data_manifest.csv"
    text = path.read_text()
    path.write_text(text, encoding="utf-8-sig")
    assert problems(cohort) == []
    path.write_text(text, encoding="utf-16")
    assert "text in UTF-16" in only_problem(cohort).value
    path.write_text(text.replace("G1", "Größe"), encoding="latin-1")
    assert "in line 2 is no UTF-8: text in Latin-1 or Windows-1252?" in only_problem(cohort).value


def test_empty_table_is_refused(cohort):
    (cohort / "data_manifest.csv").write_text(",".join(HEADER) + "\n")
    assert "one row a patient" in only_problem(cohort).allowed


def test_a_file_without_anything_is_called_empty(cohort):
    (cohort / "data_manifest.csv").write_text("\n\n")
    assert only_problem(cohort).value == "it is empty"


COMMAS = {
    "1,234": "write 1234 if the comma parts thousands, 1.234 if it is the decimal sign",
    "-12,345": "write -12345 if the comma parts thousands, -12.345 if it is the decimal sign",
    "0,123": "write 0.123",
    "12,5": "write 12.5",
    "1234,567": "write 1234.567",
    "1,234,567": "write 1234567",
    "1,234.5": "write 1234.5",
    "1.234,5": "write 1234.5",
    "1.234.567": "write 1234567",
    "1 234": "write 1234",
    "1'234,5": "write 1234.5",
    "1\u202f234": "write 1234",
    "12": "",
    "G1, G2": "",
    "1,23,4": "",
}


@pytest.mark.parametrize("text", COMMAS, ids=ascii)
def test_a_comma_is_a_decimal_sign_or_parts_thousands(text):
    assert comma_remedy(text) == COMMAS[text]


def test_a_remedy_for_a_comma_that_may_be_either_says_both(cohort):
    edit(cohort, 4, "age", "1,234")
    assert "1234 if the comma parts thousands, 1.234 if" in only_problem(cohort).remedy


COMPARATORS = {
    "of the study": ("risk_DL", "the name of DL"),
    "of the study, in small letters": ("risk_dlcm", "the name of DLCM"),
    "none": ("risk_", "a score without a name"),
}


@pytest.mark.parametrize("name", COMPARATORS)
def test_a_comparator_needs_a_name_of_its_own(cohort, name):
    column, value = COMPARATORS[name]
    for row in range(12):
        edit(cohort, row, column, "0.5")
    found = only_problem(cohort)
    assert (found.column, found.value) == (column, value)


def test_categories_keep_their_spelling(cohort):
    """What pandas would read as missing, as a flag or as a number of its own kind is a category."""
    spelt = {"flag": ["TRUE", "FALSE"], "gone": ["None", "#N/A"], "code": ["001", "012"], "mixed": ["1e5", "A"]}
    cells = table(cohort)
    for column, two in spelt.items():
        cells[column] = [two[i % 2] for i in range(12)]
    cells.loc[0, "patient_id"] = "NA"
    cells.to_csv(cohort / "data_manifest.csv", index=False)
    assert problems(cohort) == []
    read = read_manifest(cohort / "data_manifest.csv")
    again = read_csv(write_csv(read, cohort / "cohort.csv"))
    for column, two in spelt.items():
        assert read[column].tolist() == again[column].tolist() == [two[i % 2] for i in range(12)]
    assert again["patient_id"].tolist()[0] == "NA"
    pd.testing.assert_frame_equal(again, read)


def test_addresses_are_not_followed():
    with pytest.raises(FileNotFoundError, match="does not exist: give the path of a local CSV"):
        read_manifest("https://example.org/data_manifest.csv")


def test_split_without_events_is_refused(cohort):
    cells = table(cohort)
    cells.loc[cells["split"] == "validation", "event"] = "0"
    cells.to_csv(cohort / "data_manifest.csv", index=False)
    assert only_problem(cohort).value == "3 patients, 0 events in validation"


def test_more_folds_than_events_are_refused(cohort):
    assert problems(cohort, folds=3) == []
    found = only_problem(cohort, folds=5)
    assert found.value == "9 patients, 3 events in training"
    assert found.remedy.startswith("lower the parameter folds")


def test_times_in_days_are_told_by_their_median(cohort):
    cells = table(cohort)
    cells["time_months"] = [str(190 + 30 * i) for i in range(12)]
    cells.to_csv(cohort / "data_manifest.csv", index=False)
    found = only_problem(cohort)
    assert (found.column, found.value) == ("time_months", "median 355") and "days" in found.remedy
    assert problems(cohort, learn=False) == []


def test_a_landmark_that_nobody_reaches_is_named(cohort):
    assert problems(cohort, landmarks=[12, 36]) == []
    found = only_problem(cohort, landmarks=[60, 120])
    assert found.value == "44.5 at most" and "years" in found.remedy


# ---------------------------------------------------------------- images


def nan_voxel(folder):
    hu = scan()[0].astype(np.float32)
    hu[0, 0, 0] = np.nan
    save(hu, folder / "p4_ct.nii.gz")


def stored_values(folder):
    save((scan()[0] + 1024).astype(np.int16), folder / "p4_ct.nii.gz")


def metal_or_scale(folder):
    hu = scan()[0]
    hu[0, 0, 0] = 9000
    save(hu, folder / "p4_ct.nii.gz")


def four_dimensions(folder):
    save(np.zeros((*SHAPE, 2), np.int16), folder / "p4_ct.nii.gz")


def crossed_forms(folder):
    image = nib.load(folder / "p4_ct.nii.gz")
    image.set_qform(np.diag([-5.0, 5.0, 6.0, 1.0]), code=1)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), None, image.header), folder / "p4_ct.nii.gz")


def no_forms(folder):
    image = nib.Nifti1Image(scan()[0], None)
    image.header.set_zooms(SPACING)
    nib.save(image, folder / "p4_ct.nii.gz")


def metres(folder):
    save(scan()[0], folder / "p4_ct.nii.gz", xyzt_units=1)


def cut_off(folder):
    path = folder / "p4_ct.nii.gz"
    path.write_bytes(path.read_bytes()[:800])


def text_file(folder):
    (folder / "p4_ct.nii.gz").write_text("not an image")


def bomb(folder):
    header = nib.Nifti1Header()
    header.set_data_shape((1000, 1000, 1000))
    header.set_data_dtype(np.int16)
    header["magic"], header["vox_offset"] = b"n+1", 352
    with gzip.open(folder / "p4_ct.nii.gz", "wb") as stream:
        stream.write(header.binaryblock + struct.pack("4x"))


def other_shape(folder):
    save(scan()[1][:-1], folder / "p4_mask.nii.gz")


def other_place(folder):
    save(scan()[1], folder / "p4_mask.nii.gz", spacing=(5.0, 5.0, 6.1))


def empty_mask(folder):
    save(np.zeros(SHAPE, np.uint8), folder / "p4_mask.nii.gz")


def many_labels(folder):
    save(scan()[1] * 3, folder / "p4_mask.nii.gz")


def fractional_mask(folder):
    save(scan()[1] * np.float32(0.7), folder / "p4_mask.nii.gz")


def inverted_mask(folder):
    save(1 - scan()[1], folder / "p4_mask.nii.gz")


def speck(folder):
    mask = np.zeros(SHAPE, np.uint8)
    mask[8, 8, 8] = 1
    save(mask, folder / "p4_mask.nii.gz")


def mask_on_air(folder):
    mask = np.zeros(SHAPE, np.uint8)
    mask[1:3, 1:19, 1:15] = 1
    save(mask, folder / "p4_mask.nii.gz")


def same_voxels(folder):
    save(scan(1)[0], folder / "p4_ct.nii.gz", descrip=b"saved again")


def save_mask(folder, mask, affine=None, slope=None):
    image = nib.Nifti1Image(mask, np.diag([*SPACING, 1.0]) if affine is None else affine)
    image.set_qform(image.affine, code=1)
    if slope:
        image.header.set_slope_inter(slope, 0)
    nib.save(image, folder / "p4_mask.nii.gz")


def down_to_the_foot_end(folder):
    mask = scan()[1]
    mask[6:12, 6:12, 0:4] = 1
    save_mask(folder, mask)


def stored_from_head_to_foot(folder):
    """The third axis runs down: the last slice is the foot end."""
    hu, mask = scan()
    mask[6:12, 6:12, 12:] = 1
    down = np.diag([5.0, 5.0, -6.0, 1.0])
    image = nib.Nifti1Image(hu, down)
    image.set_qform(down, code=1)
    nib.save(image, folder / "p4_ct.nii.gz")
    save_mask(folder, mask, down)


def out_of_the_side(folder):
    mask = scan()[1]
    mask[6:24, 6:12, 4:12] = 1
    save_mask(folder, mask)


def nearly_one(folder):
    save_mask(folder, scan()[1] * 1.00001)


def no_number_in_the_affine(folder):
    image = nib.Nifti1Image(scan()[0], np.diag([*SPACING, 1.0]))
    image.header["srow_x"][0] = np.nan
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), None, image.header), folder / "p4_ct.nii.gz")


def no_number_in_the_quaternion(folder):
    image = nib.load(folder / "p4_ct.nii.gz")
    image.header["quatern_c"] = np.inf
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), None, image.header), folder / "p4_ct.nii.gz")


def flat_affine(folder):
    image = nib.Nifti1Image(scan()[0], None)
    image.header.set_sform(np.diag([5.0, 5.0, 0.0, 1.0]), code=1)
    nib.save(image, folder / "p4_ct.nii.gz")


IMAGES = {
    down_to_the_foot_end: ("mask", "the tumour is cut off at the border of the scan (foot end)"),
    stored_from_head_to_foot: ("mask", "the tumour is cut off at the border of the scan (foot end)"),
    out_of_the_side: ("mask", "the tumour is cut off at the border of the scan (right end)"),
    nearly_one: ("mask", "labels 1.00001"),
    no_number_in_the_affine: ("image", "not finite"),
    no_number_in_the_quaternion: ("image", "not finite"),
    flat_affine: ("image", "affine without volume"),
    nan_voxel: ("image", "1 voxel not finite"),
    stored_values: ("image", "minimum 14"),
    metal_or_scale: ("image", "maximum 9000"),
    four_dimensions: ("image", "4-D (24 x 20 x 16 x 2)"),
    crossed_forms: ("image", "sform and qform differ by 10"),
    no_forms: ("image", "no orientation stored"),
    metres: ("image", "spacing 5 x 5 x 6 meter"),
    cut_off: ("image", "unreadable"),
    text_file: ("image", "unreadable"),
    bomb: ("image", "1000 x 1000 x 1000 voxels"),
    other_shape: ("mask", "shape (23, 20, 16)"),
    other_place: ("mask", "affine differs by 0.1"),
    empty_mask: ("mask", "no voxel labelled"),
    many_labels: ("mask", "labels 3"),
    fractional_mask: ("mask", "labels 0.7"),
    inverted_mask: ("mask", "touches every border"),
    speck: ("mask", "0.15 ml"),
    mask_on_air: ("mask", "HU inside"),
    same_voxels: ("image", "same voxels as line 3 (P1)"),
}


@pytest.mark.parametrize("spoil", IMAGES, ids=lambda f: f.__name__)
def test_wrong_image_is_named(cohort, spoil):
    spoil(cohort)
    column, value = IMAGES[spoil]
    found = problems(cohort)
    assert [(p.row, p.patient_id, p.column) for p in found[:1]] == [(6, "P4", column)]
    assert value in found[0].value, format_problems(found)
    assert found[0].remedy


def test_a_header_without_numbers_is_not_called_tilted(cohort):
    no_number_in_the_affine(cohort)
    found = only_problem(cohort)
    assert "finite numbers in the header" in found.allowed and "tilt" not in found.remedy


def test_255_with_a_scale_of_a_255th_is_one(cohort):
    """The labels that a reader gets are 0 and 1, so the mask is sound."""
    path = cohort / "p4_mask.nii.gz"
    header = nib.load(path).header.copy()
    header["scl_slope"], header["scl_inter"], header["magic"], header["vox_offset"] = 1 / 255, 0, b"n+1", 352
    with gzip.open(path, "wb") as stream:
        stream.write(header.binaryblock + bytes(4) + (scan()[1] * 255).tobytes(order="F"))
    assert np.unique(nib.load(path).dataobj.get_unscaled()).tolist() == [0, 255]
    assert problems(cohort) == []


def test_both_doors_have_one_list_of_rules():
    """What DICOM is refused for, a manifest is refused for, and the other way round."""
    import inspect

    from rps_utils.cohort import scans
    from rps_utils.ingest import patient

    assert "voxel_faults" in inspect.getsource(patient) and "voxel_faults" in inspect.getsource(scans.voxel_check)
    singles = ("mask_faults", "tumour_faults", "ct_faults", "_border_faults")
    assert not [name for name in singles if name in vars(patient)]


def test_patients_that_differ_in_capitals_only_are_refused(cohort):
    edit(cohort, 4, "patient_id", "p2")
    found = only_problem(cohort)
    assert (found.row, found.column) == (6, "patient_id") and "P2 of line 4" in found.value


def test_one_file_under_two_ids_is_named(cohort):
    edit(cohort, 4, "image", "./p1_ct.nii.gz")
    found = only_problem(cohort)
    assert (found.row, found.value) == (6, "./p1_ct.nii.gz, also image of line 3")


def test_changed_file_is_told_by_its_hash(cohort):
    for row in range(12):
        sha = hashlib.sha256((cohort / f"p{row}_ct.nii.gz").read_bytes()).hexdigest()
        edit(cohort, row, "image_sha256", sha)
    assert problems(cohort) == []
    save(scan(99)[0], cohort / "p4_ct.nii.gz")
    found = only_problem(cohort)
    assert (found.row, found.column) == (6, "image_sha256")


def test_headers_alone_leave_voxels_unread(cohort):
    empty_mask(cohort)
    assert problems(cohort, voxels=False) == []


# ---------------------------------------------------------------- all together


def test_ten_faults_give_ten_lines_and_nothing_is_written(cohort):
    edit(cohort, 0, "event", "3")
    edit(cohort, 1, "time_months", "12,5")
    edit(cohort, 2, "split", "test")
    edit(cohort, 3, "patient_id", "P0")
    edit(cohort, 5, "image", "../elsewhere.nii.gz")
    edit(cohort, 6, "mask", "p66_mask.nii.gz")
    edit(cohort, 7, "age", "unknown")
    stored_values(cohort)
    save(np.zeros(SHAPE, np.uint8), cohort / "p8_mask.nii.gz")
    save(scan()[1][:-1], cohort / "p9_mask.nii.gz")
    before = sorted(cohort.rglob("*"))
    found = problems(cohort)
    lines = format_problems(found).splitlines()
    assert lines[0] == "10 problems"
    assert [p.row for p in found] == [2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    assert len(lines) == 2 + 10
    assert sorted(cohort.rglob("*")) == before


def test_many_alike_are_counted(cohort):
    cells = table(cohort)
    cells["event"] = "yes"
    cells.to_csv(cohort / "data_manifest.csv", index=False)
    lines = format_problems(problems(cohort)).splitlines()
    assert lines[0] == "12 problems"
    assert len(lines) == 2 + 5 + 1
    assert lines[-1] == "... and 7 more like it in column event"


def test_types_after_reading(cohort):
    cells = read_manifest(cohort / "data_manifest.csv")
    assert cells["time_months"].tolist()[:3] == [6.0, 9.5, 13.0]
    assert cells["event"].dtype == int
    assert cells["age"].dtype == float
    assert cells["grade"].tolist()[:2] == ["G1", "G2"]
    assert cells["grade"].isna().sum() == 4


def test_reading_refuses_wrong_cells_with_the_table(cohort):
    edit(cohort, 4, "event", "3")
    with pytest.raises(ManifestError, match=r"1 problem\n.*\n6 +P4 +event +3 +0 .*, 1 .* or 2 \(death without it\)"):
        read_manifest(cohort / "data_manifest.csv")


def test_death_without_recurrence_passes_the_door(cohort):
    edit(cohort, 4, "event", "2")
    assert problems(cohort) == []
    assert read_manifest(cohort / "data_manifest.csv")["event"].tolist()[4] == 2


def test_columns_that_the_models_want_are_asked_for_before_any_work(cohort, capsys):
    (lacking,) = lacking_columns(read_cells(cohort / "data_manifest.csv")[0], ["age", "smoking"])
    assert (lacking.column, lacking.value) == ("smoking", "no such column") and "age" in lacking.allowed
    with pytest.raises(SystemExit) as stopped:
        wanted = ["--out", str(cohort / "run"), "-p", "clinical_columns=['age','smoking']"]
        main(["run", "--manifest", str(cohort / "data_manifest.csv"), *wanted])
    assert stopped.value.code == 1 and not (cohort / "run").exists()
    assert "-p clinical_columns" in capsys.readouterr().err


# ---------------------------------------------------------------- reference maps


@pytest.fixture
def mapped(cohort):
    """The second and fourth patient have a reference map of two labels; the others have none."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[6:9, 6:12, 4:12], labels[14:16, 6:12, 4:12] = 1, 2
    for row, missing in ((1, ""), (3, "NA")):
        save(labels, cohort / f"map{row}.nii.gz")
        edit(cohort, row, "reference_map", f"map{row}.nii.gz")
        edit(cohort, row + 1, "reference_map", missing)
    return cohort


def test_a_reference_map_is_optional_patient_by_patient(mapped):
    assert problems(mapped) == []
    table = read_manifest(mapped / "data_manifest.csv")
    assert table["reference_map"].notna().sum() == 2 and "reference_map" not in clinical_columns(table.columns)
    files = image_files(table, mapped)
    assert files["reference_map"].dropna().tolist() == [str(mapped / f"map{row}.nii.gz") for row in (1, 3)]


def test_without_the_column_nobody_has_a_map(cohort):
    files = image_files(read_manifest(cohort / "data_manifest.csv"), cohort)
    assert list(files.columns) == ["patient_id", "image", "mask", "reference_map"]
    assert files["reference_map"].isna().all() and files["image"].notna().all()


MAPS = {
    "not there": (None, "a file that exists"),
    "on another grid": (np.ones((24, 20, 15), np.uint8), "the CT's shape"),
    "shares": (np.full(SHAPE, 0.5, np.float32), "whole labels 0"),
    "below 0": (np.full(SHAPE, -1, np.int16), "whole labels 0"),
    "not a number": (np.full(SHAPE, np.nan, np.float32), "whole labels 0"),
    "nothing marked": (np.zeros(SHAPE, np.uint8), "something marked"),
}


@pytest.mark.parametrize("name", MAPS)
def test_a_wrong_reference_map_is_named(mapped, name):
    values, allowed = MAPS[name]
    (mapped / "map1.nii.gz").unlink() if values is None else save(values, mapped / "map1.nii.gz")
    found = only_problem(mapped)
    assert (found.row, found.patient_id, found.column) == (3, "P1", "reference_map")
    assert allowed in found.allowed and found.remedy


def test_a_changed_reference_map_is_told_by_its_hash(mapped):
    edit(mapped, 1, "reference_map_sha256", hashlib.sha256(b"another").hexdigest())
    found = only_problem(mapped)
    assert (found.row, found.column) == (3, "reference_map_sha256") and "changed" in found.remedy


def test_a_map_must_not_be_the_mask_itself(mapped):
    edit(mapped, 1, "reference_map", "p1_mask.nii.gz")
    assert only_problem(mapped).allowed == "a file of its own"
