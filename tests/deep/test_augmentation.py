"""Augmentation moves and recolours; it must not invent anatomy, and it must be repeatable."""

import pytest
import torch

from rps_utils.deep.augmentation import (
    NO_AUGMENTATION,
    Augmentation,
    augment,
    change_contrast,
    legal_orientations,
    orient,
    shift,
)


def random_patches(n=3, channels=2, size=6, seed=0):
    return torch.rand(n, channels, size, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("kind", "count"), [("none", 1), ("lateral_axis_kept", 8), ("both_sides", 16), ("all", 48)])
def test_orientations_are_distinct_and_the_first_is_the_patch_itself(kind, count):
    patches = random_patches(n=1)
    turned = [orient(patches, o) for o in legal_orientations(kind)]
    assert len(turned) == count
    assert torch.equal(turned[0], patches)
    assert len({t.numpy().tobytes() for t in turned}) == count


def test_orientations_form_a_group():
    patches = random_patches(n=1)
    for kind in ("lateral_axis_kept", "all"):
        orientations = legal_orientations(kind)
        known = {orient(patches, o).contiguous().numpy().tobytes() for o in orientations}
        twice = {
            orient(orient(patches, a), b).contiguous().numpy().tobytes() for a in orientations for b in orientations
        }
        assert twice == known


def test_kept_lateral_axis_never_mixes_lateral_and_medial():
    ramp = torch.arange(6.0).view(1, 1, 6, 1, 1).expand(1, 1, 6, 6, 6)
    assert all(torch.equal(orient(ramp, o), ramp) for o in legal_orientations("lateral_axis_kept"))
    flipped = [o for o in legal_orientations("all") if torch.equal(orient(ramp, o), ramp.flip(2))]
    assert len(flipped) == 8, "all 48 hold the left-right flips that are illegal in the canonical frame"


@pytest.mark.parametrize("voxels", [(0, 0, 0), (2, 0, 0), (0, -1, 0), (1, 2, -2)])
def test_shift_moves_by_whole_voxels_and_repeats_the_border(voxels):
    size = 7
    patches = random_patches(n=1, channels=1, size=size)
    source = [[min(max(i - v, 0), size - 1) for i in range(size)] for v in voxels]
    expected = patches[:, :, source[0]][:, :, :, source[1]][..., source[2]]
    assert torch.equal(shift(patches, voxels), expected)


def test_contrast_leaves_voxels_without_tissue_alone():
    patches = torch.tensor([0.0, 0.5, -1.0, 0.0]).view(1, 1, 4, 1, 1)
    changed = change_contrast(patches, torch.tensor([2.0]), torch.tensor([0.1])).flatten()
    assert torch.allclose(changed, torch.tensor([0.0, 1.1, -1.9, 0.0]))


def test_same_generator_state_gives_the_same_batch_and_the_input_stays():
    patches = random_patches()
    kept = patches.clone()
    first, second, third = (
        augment(patches, torch.Generator().manual_seed(seed), Augmentation(), [0]) for seed in (5, 5, 6)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, third)
    assert torch.equal(patches, kept)


def test_global_randomness_is_left_alone():
    before = torch.random.get_rng_state()
    augment(random_patches(), torch.Generator().manual_seed(1), Augmentation(), [0])
    assert torch.equal(before, torch.random.get_rng_state())


def test_mask_channel_is_moved_but_not_recoloured():
    patches = random_patches()
    patches[:, 1] = (patches[:, 1] > 0.5).float()
    changed = augment(patches, torch.Generator().manual_seed(2), Augmentation(shift_voxels=0), [0])
    assert set(changed[:, 1].unique().tolist()) == {0.0, 1.0}
    assert torch.equal(changed[:, 1].sum((1, 2, 3)), patches[:, 1].sum((1, 2, 3)))


def test_no_augmentation_changes_nothing():
    patches = random_patches()
    assert torch.equal(augment(patches, torch.Generator().manual_seed(3), NO_AUGMENTATION, [0, 1]), patches)


def test_unknown_orientations_are_refused_with_the_allowed_ones():
    with pytest.raises(ValueError, match=r"orientations = 'mirror'; allowed: none, lateral_axis_kept, both_sides, all"):
        legal_orientations("mirror")
