"""The fast engine against pyradiomics alone, which defines every feature: names, order and values."""

import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from rps_utils.imaging.crops import crop_isotropic, crop_paths
from rps_utils.imaging.fast import textures
from rps_utils.imaging.fast.gaussian import laplacian_of_gaussian
from rps_utils.imaging.features import ExtractionSettings, extract, extract_cohort, make_extractor, pad_mm
from rps_utils.imaging.volumes import Volume, clip_hu, load_pair, to_itk, write_volume
from rps_utils.lab.phantom.ct import render_patient

ALL = ExtractionSettings()
SHAPE = (26, 30, 24)
LATENTS = {"histology": "WDLPS", "size_cm": 9.0, "z_rad": 0.4, "z_spat": -0.3, "z_int": 0.2, "side": "left"}


def texture(shape=SHAPE, spacing=(2.0, 2.0, 2.0), seed=0):
    draw = np.random.default_rng(seed)
    hu = 480 * ndimage.gaussian_filter(draw.normal(size=shape), 2) + draw.normal(0, 15, shape)
    return Volume(np.rint(hu).astype(np.int16), np.diag([*spacing, 1.0]))


def mask_of(inside, spacing=(2.0, 2.0, 2.0)):
    return Volume(inside.astype(np.uint8), np.diag([*spacing, 1.0]))


def ball(shape=SHAPE, radius=9):
    places = np.stack(np.indices(shape), axis=-1) - np.array(shape) / 2
    return np.linalg.norm(places, axis=-1) < radius


def boxes(*corners):
    inside = np.zeros(SHAPE, bool)
    for corner in corners:
        inside[tuple(slice(*span) for span in corner)] = True
    return inside


def speckle():
    return boxes([(5, 22), (4, 24), (6, 20)]) & (np.random.default_rng(1).random(SHAPE) < 0.3)


def every_other():
    return boxes([(5, 22), (4, 24), (6, 20)]) & (np.indices(SHAPE).sum(axis=0) % 2 == 0)


MASKS = {
    "ball": ball(),
    "full box": np.ones(SHAPE, bool),
    "one sagittal slice": boxes([(9, 10), (4, 20), (3, 20)]),
    "one coronal slice": boxes([(4, 20), (9, 10), (3, 20)]),
    "one axial slice": boxes([(4, 20), (3, 20), (12, 13)]),
    "several parts": boxes([(3, 8), (3, 9), (4, 7)], [(14, 21), (14, 20), (15, 21)], [(22, 24), (3, 4), (20, 21)]),
    "speckle": speckle(),
    "voxels that meet at edges only": every_other(),
    "at the border of the image": boxes([(0, 12), (8, 30), (0, 14)]),
    "three voxels": boxes([(10, 12), (10, 11), (10, 11)], [(10, 11), (11, 12), (10, 11)]),
}
ODD = (0.7, 1.1, 3.2)
IMAGES = {
    "odd spacing": (texture(spacing=ODD), mask_of(ball(), ODD), ALL),
    "odd sizes, odd spacing, full box": (texture((25, 31, 23), ODD), mask_of(np.ones((25, 31, 23)), ODD), ALL),
    "one grey value": (Volume(np.full(SHAPE, 40, np.int16), np.diag([2.0, 2.0, 2.0, 1.0])), mask_of(ball()), ALL),
    "fractions of HU": (Volume(texture().values * np.float32(0.37), texture().affine), mask_of(ball()), ALL),
    "bins by number, outliers left out": (texture(), mask_of(ball()), replace(ALL, bin_count=32, outlier_sd=2.0)),
    "narrow bins": (texture(), mask_of(ball()), replace(ALL, bin_width_hu=5.0)),
    "long wavelet, other widths": (texture(), mask_of(ball()), replace(ALL, wavelet="sym8", log_sigma_mm=(1.0, 2.5))),
    "too small for the Gaussian": (texture((3, 3, 3)), mask_of(boxes([(0, 2)] * 3)[:3, :3, :3]), ALL),
}


def both_ways(ct, mask, settings):
    """Features by the fast engine and by pyradiomics alone, unchecked."""
    return [make_extractor(replace(settings, engine=e)).execute(to_itk(ct), to_itk(mask)) for e in ("fast", "plain")]


def assert_equal(fast, plain):
    """Equal to 1e-9; 1e-12 in absolute terms, for the mean of a band-pass that is 0 but for rounding."""
    assert sorted(fast) == sorted(plain)
    names = sorted(plain)
    got, wanted = (np.array([float(np.real(values[name])) for name in names]) for values in (fast, plain))
    wrong = ~np.isclose(got, wanted, rtol=1e-9, atol=1e-12, equal_nan=True)
    assert not wrong.any(), [(names[i], got[i], wanted[i]) for i in np.flatnonzero(wrong)[:5]]


@pytest.mark.parametrize("name", MASKS)
def test_every_feature_of_odd_masks(name):
    fast, plain = both_ways(texture(), mask_of(MASKS[name]), ALL)
    assert len(plain) == 14 + 11 * 93
    assert_equal(fast, plain)


@pytest.mark.parametrize("name", IMAGES)
def test_every_feature_of_odd_images(name):
    assert_equal(*both_ways(*IMAGES[name]))


@pytest.mark.filterwarnings("ignore:Mean of empty slice")
def test_voxels_without_a_neighbour():
    """Nothing is next to anything: there is no pair and no run, and the same features are undefined."""
    apart = np.zeros(SHAPE, bool)
    apart[3:24:3, 3:27:3, 3:21:3] = True
    logging.getLogger("radiomics").setLevel(logging.CRITICAL)
    fast, plain = both_ways(texture(), mask_of(apart), replace(ALL, image_types=("original",)))
    assert np.isnan(plain["original_glcm_Contrast"])
    assert_equal(fast, plain)


def test_synthetic_patient():
    hu, labels, affine = render_patient(LATENTS, 3)
    crop = crop_isotropic(Volume(clip_hu(hu), affine), Volume(labels, affine), 3.0, pad_mm(ALL, 3.0))
    assert_equal(*both_ways(*crop, ALL))


@pytest.mark.skipif("RPS_REALDATA" not in os.environ, reason="RPS_REALDATA names no folder with the sarcoma CT")
@pytest.mark.parametrize("case", ["STS_001", "STS_002"])
def test_real_sarcoma(case):
    folder = Path(os.environ["RPS_REALDATA"]) / "sts_ct" / case / "nifti"
    crop = crop_isotropic(*load_pair(folder / "image.nii.gz", folder / "mask.nii.gz"), 2.0, pad_mm(ALL, 2.0))
    assert_equal(*both_ways(*crop, ALL))


REFUSED = {
    "one voxel": (boxes([(5, 6)] * 3), "mask only contains 1 segmented voxel"),
    "a line": (boxes([(5, 15), (5, 6), (5, 6)]), "mask has too few dimensions"),
    "no voxel": (boxes(), "No labels found in this mask"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("engine", ["fast", "plain"])
def test_both_engines_refuse_the_same(name, engine):
    inside, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        extract(texture(), mask_of(inside), replace(ALL, engine=engine))


def test_outliers_alone_are_no_tumour():
    with pytest.raises(ValueError, match="Resegmentation excluded too many voxels"):
        extract(texture(), mask_of(ball()), replace(ALL, outlier_sd=1e-6))


def test_mask_of_another_grid_is_refused():
    with pytest.raises(ValueError, match="mismatch"):
        extract(texture(), mask_of(ball(), (2.0, 2.0, 2.5)), ALL)


def test_levels_beyond_the_counts_are_refused():
    wide = Volume(texture().values.astype(np.float32) * 1e4, texture().affine)
    with pytest.raises(ValueError, match=r"grey levels in original; allowed: 65535: widen the bins"):
        extract(wide, mask_of(ball()), replace(ALL, image_types=("original",), bin_width_hu=1.0))


@pytest.mark.parametrize("spacing", [(2.0, 2.0, 2.0), ODD])
@pytest.mark.parametrize("sigma", [1.0, 3.0, 5.0])
def test_laplacian_of_gaussian_is_that_of_itk_to_the_bit(spacing, sigma):
    image = to_itk(texture(spacing=spacing))
    itk = sitk.LaplacianRecursiveGaussian(image, sigma, True)
    box = slice(3, 20), slice(0, 30), slice(7, 26)
    got = laplacian_of_gaussian(sitk.GetArrayFromImage(image), image.GetSpacing()[::-1], sigma, box)
    np.testing.assert_array_equal(got, sitk.GetArrayFromImage(itk)[box])


def test_zones_by_hand():
    levels = np.array([[[1, 1, 2, 1], [2, 2, 1, 1]]])
    zones, sizes = textures.Levels(textures.Region(np.ones((1, 2, 4), bool)), levels.ravel()).zones()
    assert sizes.tolist() == [3, 5]
    assert zones.tolist() == [[0, 1], [1, 0]]


def test_cohort_agrees_with_the_plain_engine(tmp_path):
    for n in range(2):
        for volume, path in zip((texture(seed=n), mask_of(ball())), crop_paths(tmp_path, f"P{n}"), strict=True):
            write_volume(volume, path)
    tables = [
        extract_cohort(tmp_path, ["P0", "P1"], replace(ALL, engine=engine), tmp_path / engine).set_index("patient_id")
        for engine in ("fast", "plain")
    ]
    assert tables[0].columns.tolist() == tables[1].columns.tolist()
    for patient in ("P0", "P1"):
        assert_equal(*(table.loc[patient].to_dict() for table in tables))


COUNT = """
import numpy as np
from rps_utils.imaging.fast import textures
print(textures.Levels(textures.Region(np.ones((2, 2, 2), bool)), np.ones(8, int)).pairs().sum())
"""


def run_count(cache, before=""):
    done = subprocess.run(
        [sys.executable, "-c", before + COUNT],
        capture_output=True,
        text=True,
        env=os.environ | {"NUMBA_CACHE_DIR": str(cache)},
    )
    assert done.stdout == "28\n", done.stderr


def test_compiled_code_needs_no_folder_to_be_kept_in(tmp_path):
    """Neither the package's folder nor a home can be written: compiled anew, not refused."""
    run_count(tmp_path, "from numba.core import caching; caching.CacheImpl._locator_classes = []")
    assert not list(tmp_path.rglob("*.nb?"))


@pytest.mark.parametrize("kind", ["nbi", "nbc"])
def test_damaged_compiled_code_is_made_anew(tmp_path, kind):
    run_count(tmp_path)
    (kept,) = tmp_path.rglob(f"*count_pairs*.{kind}")
    whole = kept.read_bytes()
    kept.write_bytes(whole[:100])
    run_count(tmp_path)
    (mended,) = tmp_path.rglob(f"*count_pairs*.{kind}")
    assert len(mended.read_bytes()) == len(whole)
