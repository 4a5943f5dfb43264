"""Maps and their grades, on networks whose answer is known by construction."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from rps_utils.deep import grades, maps
from rps_utils.deep.folds import fit_fold_networks
from rps_utils.deep.networks import build_network
from rps_utils.deep.training import TrainingSettings
from rps_utils.imaging.patches import CHANNELS, PatchSettings
from rps_utils.learning.crossfit import assemble, leave_out_sets

SIZE = 16
SETTINGS = PatchSettings(size=SIZE)
PLACE = (slice(3, 6), slice(8, 11), slice(4, 7))


class Linear(nn.Module):
    """A network that sums one channel over one place."""

    def __init__(self, channel=2, factor=1.0):
        super().__init__()
        weights = torch.zeros(1, len(CHANNELS), SIZE, SIZE, SIZE)
        weights[(0, channel, *PLACE)] = factor
        self.weights = nn.Parameter(weights)

    def forward(self, patches):
        return (patches * self.weights).sum(dim=(1, 2, 3, 4))[:, None]


def toy_patches(n=6, seed=0):
    """Return patches with a spherical tumour of random grey values and a margin of one voxel."""
    rng = np.random.default_rng(seed)
    distance = np.sqrt(((np.indices((SIZE,) * 3) - 7.5) ** 2).sum(axis=0))
    mask, rim = (distance < 5).astype(float), ((distance >= 5) & (distance < 7)).astype(float)
    hu = rng.uniform(-1, 1, (n, SIZE, SIZE, SIZE))
    uneven = rng.uniform(0, 1, hu.shape) * mask
    stack = [hu * mask, mask + 0 * hu, np.abs(hu) * mask, hu * (1 - mask), rim + 0 * hu, uneven]
    return np.stack(stack, axis=1).astype(np.float16)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two seeds a fold, trained for two epochs; the cohort, the folder and the validation scores made the usual way."""
    n = 40
    rng = np.random.default_rng(1)
    split = np.where(np.arange(n) % 5 == 4, "validation", "training")
    cohort = pd.DataFrame(
        {
            "patient_id": [f"P{i}" for i in range(n)],
            "split": split,
            "fold": np.where(split == "training", np.arange(n) % 3, np.nan),
            "time_months": rng.uniform(1, 60, n).round(1),
            "event": np.arange(n) % 2,
        }
    )
    patches, folder = toy_patches(n), tmp_path_factory.mktemp("models")
    settings = TrainingSettings(epochs=2, network_options={"widths": (4,)}, seeds_per_fold=2)
    scores = fit_fold_networks(patches, cohort, leave_out_sets(3, whole=False), settings, folder)
    return cohort, patches, folder, assemble(cohort, scores, "DL").validation


class TestDeepScore:
    def test_it_is_the_score_of_the_study(self, trained):
        cohort, patches, folder, validation = trained
        score = maps.read_score(folder)
        found = pd.Series(maps.score_patches(score, patches), cohort["patient_id"])[validation.index]
        assert len(score.networks) == 6 and validation.std() > 0.1
        assert np.abs(found - validation).max() < 1e-6

    def test_the_members_add_up_to_it(self, trained):
        _, patches, folder, _ = trained
        score = maps.read_score(folder)
        parts = sum(maps.score_patches(member, patches[:4]) for member in score.members())
        assert np.allclose(parts + score.offset, maps.score_patches(score, patches[:4]), atol=1e-5)

    def test_shuffled_weights_are_the_same_numbers_in_other_places(self):
        score = maps.DeepScore([Linear()], [1.0])
        other = score.shuffled(1)
        a, b = (s.networks[0].weights.flatten() for s in (score, other))
        assert torch.equal(a.sort().values, b.sort().values) and not torch.equal(a, b)
        assert torch.equal(b, score.shuffled(1).networks[0].weights.flatten())

    def test_what_is_missing_is_named(self, trained, tmp_path):
        with pytest.raises(
            FileNotFoundError, match=r"DL_ensembles.json is missing: train the networks of this run again"
        ):
            maps.read_score(tmp_path)
        shutil.copy(trained[2] / "DL_ensembles.json", tmp_path)
        with pytest.raises(
            FileNotFoundError, match=r"DL_without_0_0.safetensors is missing: train the networks of this run again"
        ):
            maps.read_score(tmp_path)


class TestFlatBaseline:
    def test_outline_and_mean_stay_and_nothing_deviates(self):
        patches = toy_patches()
        flat = maps.flat_baseline(patches, SETTINGS)
        tumour, mask, deviation, context, rim, uneven = (flat[:, i] for i in range(6))
        assert np.array_equal(mask, patches[:, 1]) and np.array_equal(rim, patches[:, 4])
        assert not deviation.any() and not uneven.any()
        assert tumour[0][mask[0] == 1].std() < 1e-6 and context[0][mask[0] == 0].std() < 1e-6
        assert np.allclose(tumour.sum(axis=(1, 2, 3)), patches[:, 0].sum(axis=(1, 2, 3), dtype=float), atol=0.05)

    def test_without_a_mask_it_is_refused(self):
        with pytest.raises(ValueError, match="needs the channel mask"):
            maps.flat_baseline(np.zeros((1, 1, 16, 16, 16)), PatchSettings(channels=("hu",)))


class TestIntegratedGradients:
    def test_a_linear_network_gets_its_attribution_where_it_looks(self):
        patches = toy_patches().astype(np.float32)
        flat, score = maps.flat_baseline(patches, SETTINGS), maps.DeepScore([Linear(2, 3.0)], [0.5])
        found = maps.integrated_gradients(score, patches, flat, steps=2)
        assert np.allclose(found[(slice(None), 2, *PLACE)], 1.5 * patches[(slice(None), 2, *PLACE)], atol=1e-5)
        found[(slice(None), 2, *PLACE)] = 0
        assert not found.any()

    @pytest.mark.parametrize(
        ("name", "orientations", "steps"), [("region", "lateral_axis_kept", 16), ("plain", "none", 64)]
    )
    def test_attributions_add_up_to_the_difference_of_the_scores(self, name, orientations, steps):
        torch.manual_seed(0)
        network = build_network(name, len(CHANNELS), SIZE)
        if name == "region":  # its last layer begins at zero
            nn.init.normal_(network.head.weight)
        patches, score = toy_patches(2), maps.DeepScore([network], [1.0], 0.3, orientations)
        flat = maps.flat_baseline(patches, SETTINGS)
        gap = maps.completeness_gap(score, patches, flat, maps.integrated_gradients(score, patches, flat, steps=steps))
        difference = maps.score_patches(score, patches) - maps.score_patches(score, flat)
        assert np.abs(difference).max() > 1e-3
        assert np.abs(gap).max() < 0.03 * np.abs(difference).max()

    def test_a_network_of_monai_is_explained_too(self):
        """Its kinks are many and untrained it hardly tells patients apart: the gap is held against all that moves."""
        torch.manual_seed(0)
        patches, score = toy_patches(1), maps.DeepScore([build_network("resnet10", len(CHANNELS), SIZE)], [1.0])
        flat = maps.flat_baseline(patches, SETTINGS)
        found = maps.integrated_gradients(score, patches, flat, steps=40)
        gap = maps.completeness_gap(score, patches, flat, found)
        assert found.any() and np.abs(gap).max() < 0.02 * np.abs(found).sum()

    def test_too_few_steps_are_seen_by_the_gap(self):
        class Step(nn.Module):
            def forward(self, patches):
                return torch.sigmoid(60 * (patches[:, 0].mean(dim=(1, 2, 3)) - 0.4))[:, None]

        patches, score = np.ones((1, 5, SIZE, SIZE, SIZE), np.float32), maps.DeepScore([Step()], [1.0])
        flat = np.zeros_like(patches)
        gaps = [
            maps.completeness_gap(score, patches, flat, maps.integrated_gradients(score, patches, flat, steps=n)).item()
            for n in (2, 200)
        ]
        assert abs(gaps[0]) > 0.5 and abs(gaps[1]) < 0.01


def test_grad_cam_points_at_the_bright_place():
    network = nn.Sequential(nn.Conv3d(5, 1, 3, padding=1, bias=False), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten())
    nn.init.constant_(network[0].weight, 1.0)
    patch = np.zeros((1, 5, SIZE, SIZE, SIZE), np.float32)
    patch[(0, 0, *PLACE)] = 1.0
    cam = maps.grad_cam(network, patch)
    assert cam.shape == (1, SIZE, SIZE, SIZE)
    assert np.unravel_index(cam[0].argmax(), cam[0].shape) == (4, 9, 5)
    with pytest.raises(ValueError, match="no convolution: Grad-CAM needs one"):
        maps.grad_cam(Linear(), patch)


class TestGrades:
    def setup_method(self):
        self.parts = {name: part[:1] for name, part in grades.regions(toy_patches(), SETTINGS).items()}
        self.marked = np.zeros((SIZE,) * 3, np.float32)
        self.marked[5:8, 5:8, 5:8] = 1.0

    def grade(self, weight):
        table = grades.grade_maps(weight[None], ["A"], {1: {"A": self.marked}}, self.parts)
        assert table["region"].tolist() == ["tumour"]
        return table.iloc[0]

    def test_the_regions_share_out_every_voxel(self):
        assert np.allclose(sum(self.parts.values()), 1)

    def test_a_perfect_map_hits(self):
        found = self.grade(-2 * self.marked)
        assert found["pointing"] == 1 and found["share"] == 1 and 0.02 < found["chance"] < 0.1

    def test_a_map_that_is_everywhere_the_same_has_the_share_of_chance(self):
        found = self.grade(np.ones_like(self.marked))
        assert found["share"] == pytest.approx(found["chance"])

    def test_random_maps_point_by_chance(self):
        rng = np.random.default_rng(0)
        hits = [self.grade(rng.normal(size=self.marked.shape)) for _ in range(600)]
        found = grades.mean_interval([h["pointing"] for h in hits])
        assert found.ci_low < hits[0]["chance"] < found.ci_high

    def test_weight_outside_the_region_is_no_merit_and_no_fault(self):
        outside = 100 * self.parts["elsewhere"][0]
        assert self.grade(self.marked + outside)["share"] == 1

    def test_what_lies_around_the_tumour_is_graded_in_the_margin(self):
        marked = self.parts["margin"][0].copy()
        marked[8:] = 0
        table = grades.grade_maps(marked[None], ["A"], {1: {"A": marked}}, self.parts)
        assert table["region"].item() == "margin" and table["pointing"].item() == 1

    def test_the_table_says_how_far_beyond_chance(self):
        maps = np.stack([self.marked, np.ones_like(self.marked)])
        parts = {name: np.concatenate([part, part]) for name, part in self.parts.items()}
        graded = grades.grade_maps(maps, ["A", "B"], {1: {"A": self.marked, "B": self.marked}}, parts)
        table = grades.grade_table(graded.assign(map="both")).set_index("grade")
        assert table.loc["share", "value"] == pytest.approx((1 - graded["chance"][0]) / 2)
        assert (table["patients"] == 2).all() and table.loc["share", "ci_low"] < table.loc["share", "value"]
        assert grades.grade_table(graded.assign(map="none")[:0]).empty

    def test_patients_without_a_reference_are_left_out(self):
        table = grades.grade_maps(np.zeros((1, SIZE, SIZE, SIZE)), ["B"], {1: {"A": self.marked}}, self.parts)
        assert table.empty and "share" in table


class TestReplacement:
    def test_deletion_of_a_linear_score_is_the_sum_of_what_was_deleted(self):
        patch = toy_patches(1)[0].astype(np.float32)
        score, flat = maps.DeepScore([Linear(0)], [1.0]), np.zeros_like(patch)
        order, within = np.zeros((SIZE,) * 3), np.zeros((SIZE,) * 3)
        within[PLACE] = 1.0
        order[PLACE] = patch[(0, *PLACE)]
        values = np.sort(patch[(0, *PLACE)].ravel())[::-1]
        curve = grades.replacement_curve(score, patch, flat, order, within, [0, 10 / 27, 1])
        assert np.allclose(curve, [0, -values[:10].sum(), -values.sum()], atol=1e-4)

    def test_nothing_outside_the_region_is_replaced(self):
        patch = toy_patches(1)[0].astype(np.float32)
        score = maps.DeepScore([Linear(0)], [1.0])
        curve = grades.replacement_curve(score, patch, 0 * patch, patch[0], np.zeros((SIZE,) * 3), [0, 0.5, 1])
        assert not curve.any()


def test_agreement_of_a_map_with_itself_and_with_its_opposite():
    first, within = np.random.default_rng(0).normal(size=(8, 8, 8)), np.ones((8, 8, 8))
    assert grades.rank_agreement(first, first**3, within) == pytest.approx(1)
    assert grades.rank_agreement(first, -first, within) == pytest.approx(-1)


def test_a_mean_has_the_t_interval():
    found = grades.mean_interval([1.0, 2.0, 3.0, np.nan])
    assert found.value == 2 and found.ci_high - 2 == pytest.approx(4.302653 / np.sqrt(3), rel=1e-5)
    assert grades.mean_interval([1.0]).note == "fewer than 2 patients"
