import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from rps_utils.files import file_sha256
from rps_utils.lab.phantom.cohort import MANIFEST_COLUMNS, patient_names, write_cohort


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return write_cohort(tmp_path_factory.mktemp("phantom"), patients=3, seed=4, training_share=0.6)


def test_manifest_columns_paths_and_hashes(cohort):
    table = pd.read_csv(cohort)
    assert cohort.name == "data_manifest.csv"
    assert tuple(table.columns) == MANIFEST_COLUMNS
    assert list(table["patient_id"]) == ["RPS-001", "RPS-002", "RPS-003"]
    assert sorted(table["split"]) == ["training", "training", "validation"]
    for row in table.itertuples():
        assert row.image == f"images/{row.patient_id}_ct.nii.gz"
        assert file_sha256(cohort.parent / row.image) == row.image_sha256
        assert file_sha256(cohort.parent / row.mask) == row.mask_sha256
        assert file_sha256(cohort.parent / row.reference_map) == row.reference_map_sha256


def test_images_are_plain_nifti(cohort):
    ct, mask = (nib.load(cohort.parent / "images" / f"RPS-001_{kind}.nii.gz") for kind in ("ct", "mask"))
    assert ct.get_data_dtype() == np.int16 and mask.get_data_dtype() == np.uint8
    assert np.array_equal(ct.affine, mask.affine) and nib.aff2axcodes(ct.affine) == ("R", "A", "S")
    assert set(np.unique(mask.get_fdata())) == {0.0, 1.0}
    assert bytes(ct.header["descrip"]).rstrip(b"\0") == b"synthetic"
    assert not any(bytes(ct.header[name]).rstrip(b"\0") for name in ("aux_file", "intent_name", "db_name", "data_type"))
    assert not ct.header.extensions


def test_the_archive_has_no_clock_and_no_name(cohort):
    head = (cohort.parent / "images" / "RPS-001_ct.nii.gz").read_bytes()[:10]
    assert head[3] == 0 and head[4:8] == bytes(4)


def test_truth_explains_the_manifest(cohort):
    table, truth = pd.read_csv(cohort), pd.read_csv(cohort.parent / "truth.csv")
    assert list(truth["patient_id"]) == list(table["patient_id"])
    assert np.array_equal(truth["eta"], table["risk_Oracle"])
    assert {"z_rad", "z_spat", "z_int", "side", "image_seed", "image_z_spat"} <= set(truth.columns)


def test_a_stopped_run_goes_on_and_gives_the_same_bytes(cohort):
    folder, before = cohort.parent, cohort.read_bytes()
    kept = (folder / "images" / "RPS-003_ct.nii.gz").stat().st_mtime_ns
    (folder / "images" / "RPS-002_reference.nii.gz").unlink()
    cohort.unlink()
    again = write_cohort(folder, patients=3, seed=4, training_share=0.6)
    assert again.read_bytes() == before
    assert (folder / "images" / "RPS-003_ct.nii.gz").stat().st_mtime_ns == kept
    assert not list(folder.rglob(".partial-*"))


def test_a_folder_holds_one_cohort(cohort):
    with pytest.raises(
        ValueError, match="holds a cohort of another seed, variant, world or size: choose an empty folder"
    ):
        write_cohort(cohort.parent, patients=3, seed=5)
    with pytest.raises(ValueError, match=r"training_share is 1\.5: it must lie between 0 and 1"):
        write_cohort(cohort.parent, patients=3, seed=4, training_share=1.5)


def test_names_have_enough_digits():
    assert patient_names(2) == ["RPS-001", "RPS-002"]
    assert patient_names(2000)[-1] == "RPS-2000"
