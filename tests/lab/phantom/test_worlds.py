"""Worlds: the same patients, the latents written otherwise; what each world moves is found where it says."""

import numpy as np
import pytest

from rps_utils.files import read_csv
from rps_utils.lab.phantom.cohort import write_cohort
from rps_utils.lab.phantom.ct import SECOND_TISSUE, STRANDS, render_patient, render_with_reference, render_worlds
from rps_utils.lab.phantom.worlds import DEFAULT_WORLD, WORLDS, World, find_world

PATIENT = {"histology": "DDLPS", "size_cm": 14.0, "z_rad": 0.0, "z_spat": 0.0, "z_int": 0.0, "side": "right"}
COARSE = (4.0, 4.0, 6.0)


def shown(world, z_spat, **latents):
    """Return mask, labels and voxel places (lateral, front, head; mm) of one patient."""
    _, mask, affine, labels = render_with_reference(PATIENT | {"z_spat": z_spat} | latents, 4, COARSE, world)
    places = np.moveaxis(np.indices(mask.shape), 0, -1) @ affine[:3, :3].T
    return mask > 0, labels, places


def centre_of_second(world, z_spat):
    mask, labels, places = shown(world, z_spat)
    return places[labels == SECOND_TISSUE].mean(axis=0) - places[mask].mean(axis=0)


@pytest.mark.parametrize(
    ("world", "direction"),
    [
        ("lateral", (-1, 0, 0)),
        ("front", (0, 1, 0)),
        ("height", (0, 0, 1)),
        ("oblique", (-1, 1, 1)),
        ("far_side", (0, -1, 0)),
    ],
)
def test_the_second_tissue_moves_as_the_world_says(world, direction):
    moved = centre_of_second(world, 1.5) - centre_of_second(world, -1.5)
    along = np.array(direction) * moved
    assert all(along[np.array(direction) != 0] > 6.0), moved
    assert np.abs(moved[np.array(direction) == 0]).max(initial=0.0) < 0.4 * np.abs(moved).max(), moved


def test_the_second_tissue_moves_from_core_to_rim():
    def depth(z_spat):
        mask, labels, places = shown("depth", z_spat)
        away = np.linalg.norm(places - places[mask].mean(axis=0), axis=-1)
        return away[labels == SECOND_TISSUE].mean() / away[mask].mean()

    assert depth(1.5) > 1.1 > 0.9 > depth(-1.5)


@pytest.mark.parametrize("world", WORLDS)
def test_the_share_of_second_tissue_is_that_of_z_rad_in_every_world(world):
    """Foci and calcifications hide some of it, the same in all worlds to a few hundredths."""
    mask, labels, _ = shown(world, 1.0, z_rad=0.5)
    share = (labels == SECOND_TISSUE).sum() / mask.sum()
    assert 0.25 < share < 0.39


def test_only_the_outline_world_changes_the_mask():
    default = shown(DEFAULT_WORLD, 2.0)[0]
    for world in WORLDS:
        same = np.array_equal(shown(world, 2.0)[0], default)
        assert same == (world != "outline"), world


def test_the_interface_lies_on_the_other_side():
    def side(world):
        mask, labels, places = shown(world, 0.0, z_int=2.0)
        return places[labels == STRANDS].mean(axis=0)[1] - places[mask].mean(axis=0)[1]

    assert side("lateral") < -5 < 5 < side("far_side"), "back, and front"


def test_patterns_differ_in_length():
    world = World("a test", stretch=0.5)
    assert world.pattern_mm(10.0, 1.0) == pytest.approx([10 * np.exp(-0.5), 10 * np.exp(0.5), 10.0])
    assert WORLDS["scale"].pattern_mm(10.0, 9.0) == pytest.approx(np.full(3, 10 * np.exp(1.2))), "clipped at 3"


def test_several_worlds_at_once_are_each_as_alone():
    patient = PATIENT | {"z_spat": 1.0}
    for world, ct, mask, affine in render_worlds(patient, 7, ("front", "outline", "nodules")):
        alone = render_patient(patient, 7, world=world)
        assert all(np.array_equal(a, b) for a, b in zip((ct, mask, affine), alone, strict=True)), world


def test_a_cohort_of_another_world_has_the_same_outcomes_and_is_not_mixed_in(tmp_path):
    here, there = write_cohort(tmp_path / "a", 3), write_cohort(tmp_path / "b", 3, world="depth")
    outcome = ["patient_id", "time_months", "event", "risk_Oracle"]
    assert read_csv(here)[outcome].equals(read_csv(there)[outcome])
    assert not read_csv(here)["image_sha256"].equals(read_csv(there)["image_sha256"])
    with pytest.raises(ValueError, match="holds a cohort of another seed, variant, world or size"):
        write_cohort(tmp_path / "b", 3)


def test_an_unknown_world_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="world 'flat' is unknown: choose one of lateral, front"):
        find_world("flat")
