"""One patient under two ids is found, however the image was altered; different patients are left in peace."""

import shutil

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from rps_utils.cli.main import main
from rps_utils.cohort import duplicates
from rps_utils.cohort.contract import clinical_columns, format_notices
from rps_utils.cohort.manifest import check_manifest, inspect_manifest
from rps_utils.imaging.volumes import Volume
from rps_utils.lab.phantom.ct import render_with_reference
from rps_utils.lab.phantom.patients import draw_patients, image_causes
from tests.finished.conftest import SPACING, save, scan, write_manifest

RAS = np.diag([SPACING] * 3 + [1.0])


def view(hu, mask, spacing=(SPACING,) * 3):
    return duplicates.coarse_view(Volume(hu, np.diag([*spacing, 1.0])), Volume(mask, np.diag([*spacing, 1.0])))


def resampled(hu, mask):
    zoomed = [ndimage.zoom(v.astype(np.float32), 1.25, order=1, grid_mode=True, mode="nearest") for v in (hu, mask)]
    return zoomed[0], zoomed[1] > 0.5, (SPACING / 1.25,) * 3


NOISE = np.random.default_rng(0).normal(0, 3, (48, 48, 32))
ALTERED = {
    "one voxel": lambda hu, mask: (hu + (np.indices(hu.shape).sum(axis=0) == 0), mask),
    "CT shifted by a voxel": lambda hu, mask: (np.roll(hu, 1, axis=0), mask),
    "both shifted": lambda hu, mask: (np.roll(hu, 1, axis=2), np.roll(mask, 1, axis=2)),
    "left and right": lambda hu, mask: (hu[::-1], mask[::-1]),
    "head and foot": lambda hu, mask: (hu[:, :, ::-1], mask[:, :, ::-1]),
    "turned round": lambda hu, mask: (hu[::-1, ::-1], mask[::-1, ::-1]),
    "3 HU of noise": lambda hu, mask: (hu + NOISE, mask),
    "another grid": resampled,
    "a larger mask": lambda hu, mask: (hu, ndimage.binary_dilation(mask, iterations=2)),
    "fewer slices": lambda hu, mask: (hu[:, :, 4:], mask[:, :, 4:]),
    "mirrored, noisy, on another grid": lambda hu, mask: resampled((hu + NOISE)[::-1, :, ::-1], mask[::-1, :, ::-1]),
}


@pytest.mark.parametrize("alter", ALTERED.values(), ids=ALTERED)
def test_an_altered_image_is_known_again(alter):
    hu, mask = scan(5)
    views = np.stack([view(*scan(4)), view(hu, mask), view(*alter(hu, mask)), view(*scan(6))])
    assert [(pair.first, pair.second) for pair in duplicates.near_equal_pairs(views)] == [(1, 2)]


def test_different_patients_are_far_apart():
    views = np.stack([view(*scan(seed)) for seed in range(40)])
    assert duplicates.near_equal_pairs(views, limit=1.3 * duplicates.SAME_HU) == []


def test_synthetic_patients_are_told_apart_and_a_noisy_mirror_image_is_not():
    causes = image_causes(draw_patients(5, 77, "full"), 77, "full").to_dict("records")
    rendered = [render_with_reference(own, int(own["image_seed"]))[:3] for own in causes]
    volumes = [(Volume(ct, affine), Volume(mask, affine)) for ct, mask, affine in rendered]
    ct, mask = volumes[2]
    noise = np.random.default_rng(1).normal(0, 3, ct.values.shape)
    copy = Volume((ct.values + noise)[::-1], ct.affine), Volume(mask.values[::-1], mask.affine)
    views = np.stack([duplicates.coarse_view(*pair) for pair in (*volumes, copy)])
    assert [(p.first, p.second) for p in duplicates.near_equal_pairs(views)] == [(2, 5)]
    assert [(p.first, p.second) for p in duplicates.near_equal_pairs(views[5:], views[:5])] == [(0, 2)]


def test_a_small_field_of_view_says_nothing():
    hu, mask = scan(5)
    small = view(hu[8:24, 14:32, 8:24], mask[8:24, 14:32, 8:24])
    assert duplicates.near_equal_pairs(np.stack([small, small])) == []


# ---------------------------------------------------------------- the manifest


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound")
    write_manifest(folder, patients=12)
    return folder


@pytest.fixture
def folder(sound, tmp_path):
    return shutil.copytree(sound, tmp_path / "cohort")


def look(manifest, **options):
    """Return problems and notices."""
    return inspect_manifest(manifest, **options)[1:3]


def edit(folder, change):
    path = folder / "data_manifest.csv"
    change(pd.read_csv(path, dtype=str, keep_default_na=False)).to_csv(path, index=False)
    return path


def mirror_into(folder, row):
    """The image of the first patient, mirrored and noisy, stands in another row."""
    hu, mask = scan(0)
    save(np.rint(hu + NOISE)[::-1].astype(np.int16), folder / f"images/p{row}_ct.nii.gz")
    save(mask[::-1], folder / f"images/p{row}_mask.nii.gz")
    return folder / "data_manifest.csv"


def test_a_sound_cohort_has_neither_problem_nor_notice(sound):
    assert look(sound / "data_manifest.csv") == ([], [])


def test_within_a_split_the_pair_is_named_and_let_in(folder, capsys):
    manifest = mirror_into(folder, 1)
    problems, notices = look(manifest)
    assert problems == [] and check_manifest(manifest) == []
    assert [(n.row, n.patient_id) for n in notices] == [(3, "P01")]
    assert "as line 2 (P00)" in notices[0].value and "nearly the same image" in format_notices(notices)
    with pytest.raises(SystemExit) as stop:
        main(["check", str(manifest)])
    assert stop.value.code == 0
    assert "1 notice; look at them\nline 3, P01: nearly the same image" in capsys.readouterr().out


@pytest.mark.parametrize("drawn", [False, True], ids=["in two splits", "split still to be drawn"])
def test_across_splits_the_pair_is_refused_unless_it_is_two(folder, drawn):
    manifest = mirror_into(folder, 3)
    if drawn:
        edit(folder, lambda cells: cells.drop(columns="split"))
    found = check_manifest(manifest)
    assert [(p.row, p.patient_id, p.column) for p in found] == [(5, "P03", "patient_id")]
    assert "write P00 into a column distinct_from" in found[0].remedy
    edit(folder, lambda cells: cells.assign(distinct_from=["P03", *[""] * 11]))
    assert look(manifest) == ([], [])


def test_whom_a_patient_is_not_must_be_there(folder):
    manifest = edit(folder, lambda cells: cells.assign(distinct_from=["P03 P99", "P01", *[""] * 10]))
    assert [(p.row, p.column) for p in check_manifest(manifest)] == [(2, "distinct_from"), (3, "distinct_from")]
    assert "distinct_from" not in clinical_columns(pd.read_csv(manifest))


def test_equal_rows_are_named_where_chance_would_not_make_them(folder):
    def copy_row(cells):
        cells.loc[2, ["time_months", "event", "age", "grade"]] = cells.loc[1, ["time_months", "event", "age", "grade"]]
        return cells

    problems, notices = look(edit(folder, copy_row))
    assert problems == [] and [n.patient_id for n in notices] == ["P02"]
    assert notices[0].value == "the same outcome and clinical values as line 3 (P01)"


def test_rows_that_are_often_equal_say_nothing():
    draw = np.random.default_rng(3)
    cells = pd.DataFrame({"patient_id": [f"P{i}" for i in range(200)]})
    cells["time_months"] = draw.integers(1, 60, 200).astype(str)
    cells["event"], cells["sex"] = draw.integers(0, 2, 200).astype(str), draw.choice(["male", "female"], 200)
    cells["grade"] = draw.choice(["G1", "G2", "G3"], 200)
    assert cells.drop(columns="patient_id").duplicated().sum() > 5
    assert duplicates.equal_rows(cells) == []
    cells["age"] = np.round(draw.normal(56, 12, 200), 1).astype(str)
    cells.loc[10, list(cells.columns[1:])] = cells.loc[20, list(cells.columns[1:])]
    assert duplicates.equal_rows(cells) == [(10, 20)]


def test_nobody_is_refused_where_a_finished_model_is_applied(folder):
    manifest = mirror_into(folder, 3)
    problems, notices = look(manifest, learn=False)
    assert problems == [] and [n.patient_id for n in notices] == ["P03"]
