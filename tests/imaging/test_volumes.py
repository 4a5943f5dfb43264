import nibabel as nib
import numpy as np
import pytest

from rps_utils.imaging.crops import crop_isotropic
from rps_utils.imaging.volumes import (
    Grid,
    Volume,
    apply_window,
    box_around,
    clip_hu,
    isotropic_grid,
    load_pair,
    load_volume,
    longest_diameter_mm,
    midline_mm,
    resample,
    resample_mask,
    rescale,
    tumour_side,
    volume_ml,
    write_volume,
)


def positions(grid):
    """World position (mm) of every voxel, shape (..., 3)."""
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    return index @ grid.affine[:3, :3].T + grid.affine[:3, 3]


def slope_field(grid):
    """A field that linear interpolation must reproduce exactly: 2 x - y + 0.5 z."""
    return positions(grid) @ np.array([2.0, -1.0, 0.5])


def oblique_grid():
    turn = np.deg2rad(12)
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1.0]])
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag([2.0, 2.5, 4.0])
    affine[:3, 3] = [-30, 12, 7]
    return Grid((30, 26, 14), affine)


def ball(radius_mm=30.0, spacing=(2.0, 2.0, 4.0), side="right"):
    """A body (ellipse of fat in air) with a ball of soft tissue on one side."""
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = [-150, -100, 0]
    grid = Grid((150, 100, 40), affine)
    mm = positions(grid)
    body = (mm[..., 0] / 130) ** 2 + (mm[..., 1] / 90) ** 2 < 1
    centre = np.array([45.0 if side == "right" else -45.0, 0.0, 80.0])
    inside = np.linalg.norm(mm - centre, axis=-1) < radius_mm
    hu = np.where(inside, 60, np.where(body, -100, -1000)).astype(np.int16)
    return Volume(hu, affine), Volume(inside.astype(np.uint8), affine)


# ---------------------------------------------------------------- reading


@pytest.mark.parametrize("codes", [("R", "A", "S"), ("L", "P", "S"), ("P", "I", "R"), ("A", "L", "I")], ids="".join)
def test_every_orientation_is_read_as_right_front_head(tmp_path, codes):
    grid = oblique_grid()
    image = nib.Nifti1Image(slope_field(grid).astype(np.float32), grid.affine)
    turned = nib.orientations.ornt_transform(nib.io_orientation(grid.affine), nib.orientations.axcodes2ornt(codes))
    nib.save(image.as_reoriented(turned), tmp_path / "x.nii.gz")
    volume = load_volume(tmp_path / "x.nii.gz")
    assert nib.aff2axcodes(volume.affine) == ("R", "A", "S")
    np.testing.assert_allclose(volume.affine, grid.affine, atol=1e-5)
    np.testing.assert_allclose(volume.values, slope_field(grid), atol=1e-4)


def test_slope_and_intercept_of_the_file_are_applied(tmp_path):
    image = nib.Nifti1Image(np.full((4, 5, 6), 1064, np.int16), np.eye(4))
    image.header.set_slope_inter(1, -1024)
    nib.save(image, tmp_path / "x.nii")
    assert load_volume(tmp_path / "x.nii").values.max() == 40
    np.testing.assert_array_equal(rescale(np.array([0, 1064]), 1, -1024), [-1024, 40])


def test_written_volume_comes_back_with_blank_text_and_the_same_bytes(tmp_path):
    ct, _ = ball()
    for name in ("a", "b"):
        write_volume(ct, tmp_path / f"{name}.nii.gz")
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    back = nib.load(tmp_path / "a.nii.gz")
    assert all(not bytes(back.header[f].tobytes()).strip(b"\0") for f in ("descrip", "db_name", "aux_file"))
    assert not back.header.extensions
    np.testing.assert_array_equal(load_volume(tmp_path / "a.nii.gz").values, ct.values)
    np.testing.assert_allclose(load_volume(tmp_path / "a.nii.gz").affine, ct.affine)


def test_mask_must_fit_the_ct(tmp_path):
    ct, mask = ball()
    write_volume(ct, tmp_path / "ct.nii")
    write_volume(Volume(mask.values[1:], mask.affine), tmp_path / "short.nii")
    write_volume(Volume(0 * mask.values, mask.affine), tmp_path / "empty.nii")
    with pytest.raises(ValueError, match=r"short.nii does not lie on the grid .* resample the mask"):
        load_pair(tmp_path / "ct.nii", tmp_path / "short.nii")
    with pytest.raises(ValueError, match=r"empty.nii is empty"):
        load_pair(tmp_path / "ct.nii", tmp_path / "empty.nii")


# ---------------------------------------------------------------- grey values


def test_padding_is_clipped_and_window_maps_to_zero_and_one():
    np.testing.assert_array_equal(clip_hu(np.array([-3024, -1024, 40, 5000])), [-1024, -1024, 40, 3071])
    np.testing.assert_allclose(apply_window(np.array([-500, -160, 40, 240, 900])), [0, 0, 0.5, 1, 1])


def test_padding_does_not_bleed_into_the_patient():
    ct, mask = ball()
    padded = ct.values.copy()
    padded[ct.values == -1000] = -3024
    clean = crop_isotropic(Volume(clip_hu(padded).astype(np.int16), ct.affine), mask, 3, 40)[0]
    np.testing.assert_array_equal(crop_isotropic(Volume(padded, ct.affine), mask, 3, 40)[0].values, clean.values)
    assert clean.values.min() == -1024


# ---------------------------------------------------------------- grids


@pytest.mark.parametrize("spacing", [1.0, 3.0, 5.0])
def test_isotropic_grid_covers_and_shares_the_centre(spacing):
    old = oblique_grid()
    new = isotropic_grid(old, spacing)
    np.testing.assert_allclose(np.linalg.norm(new.affine[:3, :3], axis=0), spacing)
    np.testing.assert_allclose(positions(new).mean(axis=(0, 1, 2)), positions(old).mean(axis=(0, 1, 2)), atol=1e-9)
    extent_old, extent_new = np.array(old.shape) * [2, 2.5, 4], np.array(new.shape) * spacing
    assert (extent_new >= extent_old - 1e-9).all()
    assert (extent_new < extent_old + spacing).all()


@pytest.mark.parametrize("interpolation", ["linear", "bspline"])
def test_interpolation_reproduces_a_slope_on_an_oblique_grid(interpolation):
    old = oblique_grid()
    new = isotropic_grid(old, 3.0).box((slice(4, -4), slice(4, -4), slice(4, -4)))
    got = resample(Volume(slope_field(old).astype(np.float32), old.affine), new, interpolation)
    np.testing.assert_allclose(got.values, slope_field(new), atol=0.02 if interpolation == "linear" else 0.5)


def test_outside_is_filled_and_unknown_interpolation_is_refused():
    ct, _ = ball()
    outside = Grid((2, 2, 2), np.diag([1.0, 1, 1, 1]) + np.array([[0, 0, 0, 9999]] + [[0] * 4] * 3))
    assert (resample(ct, outside).values == -1024).all()
    with pytest.raises(ValueError, match=r"interpolation = 'cubic'; allowed: linear, bspline, nearest"):
        resample(ct, outside, "cubic")


def test_resampled_mask_keeps_its_volume():
    _, mask = ball()
    sphere = 4 / 3 * np.pi * 3**3  # ml
    assert volume_ml(mask) == pytest.approx(sphere, rel=0.02)
    assert volume_ml(resample_mask(mask, isotropic_grid(mask.grid, 3.0))) == pytest.approx(sphere, rel=0.02)


@pytest.mark.parametrize("interpolation", ["linear", "bspline"])
def test_crop_equals_resampling_everything_and_cutting(interpolation):
    ct, mask = ball()
    noisy = ct.values + np.random.default_rng(0).integers(-20, 20, ct.values.shape).astype(np.int16)
    crop, small = crop_isotropic(Volume(noisy, ct.affine), mask, 3.0, 15.0, interpolation)
    whole = isotropic_grid(ct.grid, 3.0)
    all_hu, all_mask = resample(Volume(clip_hu(noisy), ct.affine), whole, interpolation), resample_mask(mask, whole)
    start = np.rint((np.linalg.inv(whole.affine) @ crop.affine)[:3, 3]).astype(int)
    part = tuple(slice(a, a + n) for a, n in zip(start, crop.values.shape, strict=True))
    # A B-spline has unlimited reach; eight voxels away its share is below a fiftieth of a HU.
    np.testing.assert_allclose(crop.values, all_hu.values[part], atol=0.501 if interpolation == "linear" else 0.52)
    np.testing.assert_array_equal(small.values, all_mask.values[part])
    assert small.values.sum() == all_mask.values.sum()


def test_crop_keeps_the_margin_and_stops_at_the_scan():
    ct, mask = ball()
    for margin, expected in ((15.0, 15.0), (500.0, None)):
        crop, small = crop_isotropic(ct, mask, 3.0, margin)
        spans = [np.flatnonzero(small.values.any(axis=tuple({0, 1, 2} - {a})))[[0, -1]] for a in range(3)]
        free = min(min(s[0], n - 1 - s[1]) * 3.0 for s, n in zip(spans, small.values.shape, strict=True))
        if expected:
            assert expected <= free <= expected + 3 * 3.0
        else:
            assert crop.values.shape == isotropic_grid(ct.grid, 3.0).shape


def test_box_follows_the_mask_on_another_grid():
    _, mask = ball()
    grid = isotropic_grid(mask.grid, 1.0)
    box = grid.box(box_around(grid, mask, 0.0))
    corners = [box.affine[:3, 3], box.affine[:3, 3] + np.array(box.shape) - 1]
    np.testing.assert_allclose(corners, [[15, -30, 50], [75, 30, 110]], atol=5)


def test_tumour_that_vanishes_is_an_error():
    ct, mask = ball()
    dot = np.zeros_like(mask.values)
    dot[100, 50, 20] = 1
    with pytest.raises(ValueError, match="vanishes at 10 mm: choose a smaller spacing"):
        crop_isotropic(ct, Volume(dot, mask.affine), 10.0, 20.0)


# ---------------------------------------------------------------- what a mask measures


def test_geometry_of_a_ball():
    _, mask = ball(30.0)
    assert longest_diameter_mm(mask) == pytest.approx(60, abs=3)


def test_diameter_of_flat_and_single_voxel_masks():
    values = np.zeros((5, 5, 5), np.uint8)
    values[2, 2, 2] = 1
    assert longest_diameter_mm(Volume(values, np.eye(4))) == 0
    values[2, 0:5, 2] = 1
    assert longest_diameter_mm(Volume(values, np.diag([1.0, 2.0, 1.0, 1.0]))) == 8


@pytest.mark.parametrize("side", ["left", "right"])
def test_side_follows_the_body_not_the_picture(side):
    ct, mask = ball(side=side)
    assert tumour_side(ct, mask) == side
    # The same patient lying 40 mm off the centre of the picture.
    rolled = [Volume(np.roll(v.values, 9, axis=0), v.affine) for v in (ct, mask)]
    assert tumour_side(*rolled) == side
    assert midline_mm(*rolled) == pytest.approx(midline_mm(ct, mask) + 18, abs=2.1)


def test_side_needs_hounsfield_units():
    ct, mask = ball()
    with pytest.raises(ValueError, match="nothing above -300 HU: is this a CT in HU"):
        tumour_side(Volume(0 * ct.values - 1000, ct.affine), mask)
