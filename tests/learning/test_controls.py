"""Controls: what is shuffled keeps what it must keep and loses the rest; exchanged images leave nobody their own."""

import numpy as np
import pandas as pd
import pytest

from rps_utils.imaging.crops import crop_paths
from rps_utils.imaging.features import ExtractionSettings, extract
from rps_utils.imaging.patches import PatchSettings, make_patch, tissue_grid
from rps_utils.imaging.volumes import Volume, load_pair, write_volume
from rps_utils.learning import controls

AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])
PLAIN = ExtractionSettings(("original",))


def toy_crop(seed=0, size=24):
    """Return a tumour with a gradient from left to right in noisy fat."""
    rng = np.random.default_rng(seed)
    x, y, z = np.indices((size,) * 3) - (size - 1) / 2
    mask = (x**2 + y**2 + z**2) < 8**2
    hu = rng.normal(-100, 10, mask.shape)
    hu[mask] = (60 + 10 * x + rng.normal(0, 5, mask.shape))[mask]
    return Volume(hu.round().astype(np.int16), AFFINE), Volume(mask.astype(np.uint8), AFFINE)


def toy_patches():
    """Return two patches with tumours of a gradient; the borders are partly covered."""
    settings = PatchSettings(size=16, spacing_mm=9.0, channels=("tumour", "mask", "deviation", "context", "rim", "hu"))
    ct, mask = toy_crop(size=36)
    return np.stack([make_patch(ct, mask, settings), make_patch(ct, mask, settings)]), settings


class TestShuffledTumour:
    def test_the_histogram_inside_and_everything_outside_stay(self):
        ct, mask = toy_crop()
        shuffled = controls.shuffled_tumour(ct, mask, np.random.default_rng(1))
        inside = mask.values > 0
        assert np.array_equal(np.sort(shuffled.values[inside]), np.sort(ct.values[inside]))
        assert np.array_equal(shuffled.values[~inside], ct.values[~inside])
        assert shuffled.values.dtype == ct.values.dtype

    def test_the_gradient_is_gone(self):
        ct, mask = toy_crop()
        inside, x = mask.values > 0, np.indices(ct.values.shape)[0]
        shuffled = controls.shuffled_tumour(ct, mask, np.random.default_rng(1))
        before, after = (np.corrcoef(x[inside], v.values[inside])[0, 1] for v in (ct, shuffled))
        assert before > 0.9 and abs(after) < 0.1

    def test_first_order_and_shape_features_stay_and_texture_moves(self):
        ct, mask = toy_crop()
        shuffled = controls.shuffled_tumour(ct, mask, np.random.default_rng(1))
        a, b = (pd.Series(extract(volume, mask, PLAIN)) for volume in (ct, shuffled))
        kept = a.index.str.contains("firstorder|shape")
        assert np.allclose(a[kept], b[kept], rtol=1e-9)
        moved = ((a - b).abs() > 0.05 * a.abs())[~kept]
        assert moved.mean() > 0.5

    def test_crops_are_shuffled_on_disk_the_same_in_any_company(self, tmp_path):
        for patient in ("A", "B"):
            for volume, path in zip(toy_crop(), crop_paths(tmp_path / "crops", patient), strict=True):
                write_volume(volume, path)
        controls.shuffle_crops(tmp_path / "crops", ["A", "B"], tmp_path / "both", seed=3)
        controls.shuffle_crops(tmp_path / "crops", ["B"], tmp_path / "one", seed=3)
        a, b, alone = (
            load_pair(*crop_paths(tmp_path / f, p))[0].values for f, p in (("both", "A"), ("both", "B"), ("one", "B"))
        )
        assert np.array_equal(b, alone) and not np.array_equal(a, b)


class TestShuffledPatches:
    def test_outline_surroundings_and_histogram_stay(self):
        patches, settings = toy_patches()
        shuffled = controls.shuffled_patches(patches, ["A", "B"], settings, 1)
        for name in ("mask", "context", "rim"):
            place = settings.channels.index(name)
            assert np.array_equal(shuffled[:, place], patches[:, place].astype(np.float32)), name
        cover = patches[0, settings.channels.index("mask")].astype(np.float32)
        inside = cover >= 0.5
        for name in ("tumour", "deviation"):
            place = settings.channels.index(name)
            a, b = (
                np.sort((p[0, place].astype(np.float32) / np.maximum(cover, 1e-3))[inside]) for p in (patches, shuffled)
            )
            assert np.allclose(a, b, atol=1e-5) and not np.array_equal(
                patches[0, place][inside], shuffled[0, place][inside]
            )

    def test_grey_value_and_deviation_move_together(self):
        patches, settings = toy_patches()
        shuffled = controls.shuffled_patches(patches, ["A", "B"], settings, 1)
        tumour, deviation, mask = (settings.channels.index(name) for name in ("tumour", "deviation", "mask"))
        before, after = (p[0].astype(np.float32) for p in (patches, shuffled))
        inside = before[mask] >= 0.5
        pairs = [np.stack([p[tumour][inside], p[deviation][inside]]) / p[mask][inside] for p in (before, after)]
        ordered = [pair[:, np.lexsort(pair.round(4))] for pair in pairs]
        assert np.allclose(*ordered, atol=1e-3)
        assert not np.allclose(*pairs, atol=1e-1)

    def test_the_seed_and_the_patient_decide(self):
        patches, settings = toy_patches()
        first, again = (controls.shuffled_patches(patches, ["A", "B"], settings, 1) for _ in range(2))
        other = controls.shuffled_patches(patches, ["A", "B"], settings, 2)
        assert np.array_equal(first, again) and not np.array_equal(first, other)
        assert not np.array_equal(first[0], first[1])

    def test_a_patch_without_a_mask_is_refused(self):
        with pytest.raises(ValueError, match="needs the channel mask"):
            controls.shuffled_patches(np.zeros((1, 1, 16, 16, 16)), ["A"], PatchSettings(channels=("hu",)), 1)


class TestExchange:
    @pytest.mark.parametrize("n", [2, 3, 29])
    def test_nobody_keeps_the_own_image(self, n):
        rng = np.random.default_rng(0)
        for _ in range(50):
            order = controls.derangement(n, rng)
            assert sorted(order) == list(range(n)) and not (order == np.arange(n)).any()

    def test_all_derangements_of_four_come_equally_often(self):
        rng = np.random.default_rng(0)
        drawn = pd.Series([tuple(controls.derangement(4, rng)) for _ in range(9000)]).value_counts()
        assert len(drawn) == 9 and drawn.between(900, 1100).all()

    def test_one_patient_cannot_exchange(self):
        with pytest.raises(ValueError, match="takes 2 patients at least"):
            controls.derangement(1, np.random.default_rng(0))

    def test_a_perfect_score_falls_to_chance(self):
        time, event = np.arange(1.0, 41), np.ones(40)
        c = controls.exchanged_c(time, event, -time, draws=300, seed=1)
        assert 0.46 < c.mean() < 0.52 and c.max() < 0.8
        assert np.array_equal(c, controls.exchanged_c(time, event, -time, draws=300, seed=1))


class TestScanner:
    @pytest.mark.parametrize("sd", [5.0, 15.0])
    def test_noise_in_fat_is_measured_and_the_tumour_does_not_count(self, sd):
        rng = np.random.default_rng(0)
        ct = np.full((30, 30, 30), -100.0) + rng.normal(0, sd, (30, 30, 30))
        mask = np.zeros(ct.shape, np.uint8)
        mask[:15] = 1
        ct[:15] = -100 + rng.normal(0, 40, ct[:15].shape)
        assert controls.noise_hu(Volume(ct, AFFINE), Volume(mask, AFFINE)) == pytest.approx(sd, rel=0.06)

    def test_without_fat_there_is_no_estimate(self):
        ct, mask = Volume(np.full((9, 9, 9), 40.0), AFFINE), Volume(np.zeros((9, 9, 9)), AFFINE)
        assert np.isnan(controls.noise_hu(ct, mask))

    def test_rank_correlation_has_an_interval_that_holds_the_truth(self):
        rng = np.random.default_rng(4)
        held = 0
        for _ in range(300):
            x = rng.normal(size=60)
            found = controls.rank_correlation(pd.Series(x), pd.Series(0.6 * x + 0.8 * rng.normal(size=60)))
            held += found.ci_low < 6 / np.pi * np.arcsin(0.3) < found.ci_high
        assert 0.92 < held / 300 < 0.985

    def test_a_constant_fact_has_no_correlation_and_says_why(self):
        found = controls.rank_correlation(pd.Series(range(9)), pd.Series([5.0] * 9))
        assert np.isnan(found.value) and found.note == "the same for everybody"


def test_the_grid_of_patches_is_the_one_that_coverage_means():
    """`INSIDE` names the channels that are weighted by coverage; a flat tumour shows that this is so."""
    _, mask = toy_crop()
    flat = Volume(np.where(mask.values > 0, 40, -100).astype(np.int16), AFFINE)
    settings = PatchSettings(size=16, spacing_mm=9.0)
    grid = tissue_grid(flat.values, mask.values > 0, flat.spacing, settings)
    assert np.allclose(grid.inside_hu[grid.coverage > 0.01], 40, atol=0.5)
