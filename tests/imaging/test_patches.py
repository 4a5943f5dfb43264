"""Patches: averages that conserve what they average, and a frame in which left and right tumours look alike."""

import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from rps_utils.imaging.patches import (
    PatchSettings,
    average_on_grid,
    is_right_sided,
    make_patch,
    make_patches,
    overlap_weights,
    read_patches,
    tissue_grid,
    write_patches,
)
from rps_utils.imaging.reference_maps import make_reference, make_references, read_references
from rps_utils.imaging.volumes import Volume

SPACING = (4.0, 4.0, 8.0)


def toy_patient(centre_mm=(70.0, 100.0, 120.0), radius_mm=45.0, medial_hu=30.0):
    """Return a body of fat with a tumour of 90 HU whose half toward high x has another HU, 100 mm off the middle."""
    shape = (80, 60, 30)
    x, y, z = np.meshgrid(*[(np.arange(n) + 0.5) * s for n, s in zip(shape, SPACING, strict=True)], indexing="ij")
    body = ((x - 160) / 140) ** 2 + ((y - 120) / 100) ** 2 < 1
    mask = (x - centre_mm[0]) ** 2 + (y - centre_mm[1]) ** 2 + (z - centre_mm[2]) ** 2 < radius_mm**2
    ct = np.where(body, -100.0, -1000.0)
    ct[mask] = 90.0
    ct[mask & (x > centre_mm[0] + 10)] = medial_hu
    affine = np.diag([*SPACING, 1.0])
    return Volume(ct.astype(np.int16), affine), Volume(mask.astype(np.uint8), affine)


def mirrored(volume):
    return Volume(volume.values[::-1].copy(), volume.affine)


def test_overlap_weights_by_hand():
    weights = overlap_weights(voxels=3, spacing=2.0, first_edge=1.0, cells=2, cell=3.0)
    assert np.allclose(weights, [[1 / 3, 2 / 3, 0], [0, 0, 2 / 3]]), "the second cell hangs over by a third"


def test_averaging_keeps_the_total():
    volume = np.random.default_rng(0).normal(size=(12, 12, 12))
    weights = [overlap_weights(12, 2.0, 0.0, 4, 6.0)] * 3
    small = average_on_grid(volume, weights)
    assert np.allclose(small, volume.reshape(4, 3, 4, 3, 4, 3).mean(axis=(1, 3, 5)))


def test_right_sided_tumour_and_its_mirror_image_give_the_same_patch():
    ct, mask = toy_patient()
    assert not is_right_sided(ct.values, mask.values)
    assert is_right_sided(mirrored(ct).values, mirrored(mask).values)
    left = make_patch(ct, mask, PatchSettings())
    right = make_patch(mirrored(ct), mirrored(mask), PatchSettings())
    assert np.abs(left.astype(float) - right.astype(float)).max() < 2e-3
    loose = PatchSettings(canonical=False)
    assert np.abs(make_patch(ct, mask, loose) - make_patch(mirrored(ct), mirrored(mask), loose)).max() > 0.5


def test_flipping_the_crop_but_not_the_patient_is_seen():
    ct, mask = toy_patient()
    patch = make_patch(ct, mask, PatchSettings()).astype(float)
    position = np.arange(patch.shape[1])
    deviation = patch[2].sum(axis=(1, 2))
    flipped = deviation[::-1]
    centre = (patch[1].sum(axis=(1, 2)) * position).sum() / patch[1].sum()
    moment = [(profile * (position - centre)).sum() / profile.sum() for profile in (deviation, flipped)]
    assert moment[0] > 0.5, "the second tissue lies on the medial side"
    assert moment[1] < -0.5, "the flipped crop shows it on the lateral side: another patient"


def test_a_patient_who_lies_off_centre_keeps_the_side():
    ct, mask = toy_patient()
    moved = [Volume(np.roll(v.values, 15, axis=0), v.affine) for v in (ct, mask)]
    moved[0].values[:15] = -1000
    assert not is_right_sided(moved[0].values, moved[1].values)


def test_channels_mean_what_they_say():
    ct, mask = toy_patient()
    settings = PatchSettings(size=32, spacing_mm=8.0, channels=("tumour", "mask", "deviation", "context", "rim", "hu"))
    tumour, share, deviation, context, rim, hu = make_patch(ct, mask, settings).astype(float)
    volume_ml = share.sum() * 8.0**3 / 1000
    assert volume_ml == pytest.approx(mask.values.sum() * 128 / 1000, rel=1e-3)
    core = share > 0.999
    assert set(np.round(tumour[core], 2)) >= {0.25, -0.05}, "90 and 30 HU in the window -160..240"
    assert np.round(deviation[core].max(), 2) == pytest.approx(0.6), "60 HU from the tumour's median"
    assert np.abs(context[core]).max() == 0
    assert np.allclose(hu[core], tumour[core], atol=2e-3)
    assert hu[0, 0, 0] == -1, "air outside the scan"
    shell_ml = rim.sum() * 8.0**3 / 1000
    assert 4 / 3 * np.pi * (60**3 - 45**3) / 1000 < shell_ml < 4 / 3 * np.pi * (70**3 - 45**3) / 1000


def test_tumour_scaled_patches_give_large_and_small_tumours_the_same_share():
    settings = PatchSettings(spacing_mm=None, tumour_share=0.75)
    shares = [make_patch(*toy_patient(radius_mm=r), settings)[1].mean() for r in (24.0, 48.0)]
    assert shares[0] == pytest.approx(shares[1], rel=0.15)
    assert tissue_grid(
        toy_patient()[0].values, toy_patient()[1].values > 0, SPACING, settings
    ).cell_mm == pytest.approx(88 / 0.75 / 24, rel=0.1)


def test_padding_far_below_air_does_not_bleed_into_the_patch():
    ct, mask = toy_patient()
    padded = Volume(np.where(ct.values < -900, -3024, ct.values).astype(np.int16), ct.affine)
    settings = PatchSettings()
    assert np.abs(make_patch(ct, mask, settings) - make_patch(padded, mask, settings)).max() < 0.02


def test_cohort_is_written_whole_and_read_in_the_order_asked_for(tmp_path):
    rows = []
    for number, medial in enumerate((30.0, 60.0)):
        volumes = toy_patient(medial_hu=medial)
        paths = [tmp_path / f"{number}_{kind}.nii.gz" for kind in ("ct", "mask")]
        for volume, path in zip(volumes, paths, strict=True):
            nib.save(nib.Nifti1Image(volume.values, volume.affine), path)
        rows.append({"patient_id": f"P{number}", "image": paths[0], "mask": paths[1]})
    path = make_patches(pd.DataFrame(rows), tmp_path / "run" / "patches.npz")
    patches, settings = read_patches(path, ["P1", "P0"])
    assert settings == PatchSettings()
    assert patches.shape == (2, 6, 24, 24, 24)
    assert patches.dtype == np.float16
    assert np.array_equal(patches[1], make_patch(*toy_patient(medial_hu=30.0), PatchSettings()))
    with np.load(path, allow_pickle=False) as stored:
        assert json.loads(str(stored["settings"]))["spacing_mm"] == 12.0


def test_same_patches_give_the_same_bytes(tmp_path):
    patches = np.zeros((1, 5, 24, 24, 24), np.float16)
    paths = [write_patches(["P1"], patches, PatchSettings(), tmp_path / name) for name in ("a.npz", "b.npz")]
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": ("tumour", "bone")}, r"channels = .*; allowed: one or more of tumour, mask"),
        ({"channels": ()}, r"channels = \(\); allowed"),
        ({"size": 8}, r"size = 8; allowed: 16 voxels or more"),
        ({"spacing_mm": 0.0}, r"spacing_mm = 0.0; allowed: above 0, or None"),
        ({"window_hu": (240.0, -160.0)}, r"window_hu = .*; allowed: low < high"),
    ],
)
def test_settings_that_cannot_be_cut_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        PatchSettings(**arguments)


def test_wrong_masks_are_refused():
    ct, mask = toy_patient()
    with pytest.raises(ValueError, match="the mask is empty"):
        make_patch(ct, Volume(np.zeros_like(mask.values), mask.affine), PatchSettings())
    with pytest.raises(ValueError, match=r"mask shape \(80, 60, 29\) and CT shape \(80, 60, 30\) differ"):
        make_patch(ct, Volume(mask.values[..., :-1], mask.affine), PatchSettings())


def test_missing_patients_and_files_are_named(tmp_path):
    path = write_patches(["P1"], np.zeros((1, 5, 24, 24, 24), np.float16), PatchSettings(), tmp_path / "p.npz")
    with pytest.raises(ValueError, match=r"no patch of \['P7'\]"):
        read_patches(path, ["P1", "P7"])
    with pytest.raises(FileNotFoundError, match="does not exist: run the notebook"):
        read_patches(tmp_path / "nowhere.npz", ["P1"])


def toy_reference():
    """Return the toy patient and a map: label 3 is the part of the tumour that has another HU."""
    ct, mask = toy_patient()
    return ct, mask, ((ct.values == 30) & (mask.values > 0)).astype(np.uint8) * 3


def test_a_reference_lies_where_the_patch_shows_it():
    ct, mask, labels = toy_reference()
    share = make_reference(ct, mask, labels, [3], PatchSettings())[0].astype(float)
    deviation = make_patch(ct, mask, PatchSettings())[2].astype(float)
    assert np.corrcoef(share.ravel(), deviation.ravel())[0, 1] > 0.99
    assert share.sum() * 12.0**3 == pytest.approx((labels == 3).sum() * np.prod(SPACING), rel=0.01)


def test_the_reference_of_a_mirrored_patient_is_the_same():
    ct, mask, labels = toy_reference()
    left = make_reference(ct, mask, labels, [3], PatchSettings())
    right = make_reference(mirrored(ct), mirrored(mask), labels[::-1], [3], PatchSettings())
    assert np.abs(left.astype(float) - right.astype(float)).max() < 2e-3


def test_references_are_written_for_those_who_have_one(tmp_path):
    ct, mask, labels = toy_reference()
    paths = [tmp_path / f"{kind}.nii.gz" for kind in ("ct", "mask", "reference")]
    for values, path in zip((ct.values, mask.values, labels), paths, strict=True):
        nib.save(nib.Nifti1Image(values, ct.affine), path)
    images = pd.DataFrame(
        [("A", *paths), ("B", *paths[:2], None)], columns=["patient_id", "image", "mask", "reference_map"]
    )
    found = read_references(make_references(images, tmp_path / "r.npz"))
    assert list(found) == [3] and list(found[3]) == ["A"]
    assert np.array_equal(found[3]["A"], make_reference(ct, mask, labels, [3], PatchSettings())[0].astype(np.float32))
    assert read_references(make_references(images[1:], tmp_path / "none.npz")) == {}
    with pytest.raises(FileNotFoundError, match="run the notebook that writes it"):
        read_references(tmp_path / "nowhere.npz")


def test_uneven_is_what_the_grid_is_too_coarse_for():
    """Stripes of half a voxel: the mean of each voxel is the same, the SD of its parts is that of the stripes."""
    settings = PatchSettings(size=16, channels=("tumour", "uneven", "mask"))
    ct, mask = np.zeros((64, 64, 64)), np.zeros((64, 64, 64), np.uint8)
    mask[16:48, 16:48, 16:48] = 1
    ct[(np.arange(64) // 2) % 2 == 1] = 100.0  # 2 voxels of 3 mm are half a voxel of 12 mm
    grid = np.diag([3.0, 3.0, 3.0, 1.0])
    tumour, uneven, inside = make_patch(Volume(ct, grid), Volume(mask, grid), settings).astype(float)
    core = inside > 0.99
    assert np.ptp(tumour[core]) < 1e-2
    assert uneven[core] == pytest.approx(0.5, abs=1e-2), "SD of 0 and 100 HU, in units of 100 HU"
    flat = make_patch(Volume(np.full(ct.shape, 40.0), grid), Volume(mask, grid), settings)
    assert np.abs(flat[1]).max() < 1e-2
