"""The committed manifest is what the generator draws: same patients, same bytes."""

import zlib

import pandas as pd
import pytest

from rps_utils.files import file_sha256, read_csv
from rps_utils.lab.phantom.cohort import patient_names, write_patient
from rps_utils.lab.phantom.patients import draw_patients, image_causes
from rps_utils.sources import PACKAGE

SEED = 2026


@pytest.fixture(scope="module")
def listed():
    return read_csv(PACKAGE.parent / "data_manifest.csv")


def test_the_committed_cohort_has_the_size_of_the_paper(listed):
    assert listed["split"].value_counts().to_dict() == {"training": 86, "validation": 29}


def test_the_committed_patients_are_those_that_the_generator_draws(listed):
    drawn = draw_patients(len(listed), SEED)
    same = [c for c in ("time_months", "event", "age", "size_cm", "histology", "grade", "margin") if c in drawn]
    pd.testing.assert_frame_equal(listed[same], drawn[same], check_dtype=False)
    assert list(listed["patient_id"]) == patient_names(len(listed))


@pytest.mark.skipif("zlib-ng" in zlib.ZLIB_RUNTIME_VERSION, reason="zlib-ng compresses the same voxels to other bytes")
def test_a_rendered_patient_has_the_committed_hash(listed, tmp_path):
    drawn = draw_patients(len(listed), SEED)
    causes = image_causes(drawn, SEED).to_dict("records")
    write_patient(tmp_path, "RPS-003", causes[2])
    row = listed.iloc[2]
    assert file_sha256(tmp_path / "RPS-003_ct.nii.gz") == row["image_sha256"]
    assert file_sha256(tmp_path / "RPS-003_mask.nii.gz") == row["mask_sha256"]
    assert file_sha256(tmp_path / "RPS-003_reference.nii.gz") == row["reference_map_sha256"]


def test_the_committed_cohort_calls_itself_synthetic(listed):
    assert set(listed["data_kind"]) == {"synthetic"}
