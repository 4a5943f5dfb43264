"""The distance of a patient from the training patients: its rate of false alarms, and the strangers it must find."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rps_utils.imaging import likeness
from rps_utils.imaging.patches import PatchSettings, make_patch
from rps_utils.imaging.volumes import Volume, load_pair
from rps_utils.lab.phantom.ct import render_patient
from rps_utils.lab.phantom.patients import draw_patients, image_causes

REALDATA = os.environ.get("RPS_REALDATA", "")
CUT = PatchSettings(size=16, spacing_mm=18.0)


def summaries_of(scans):
    """Summaries of pairs of CT and mask, by name."""
    facts = [(name, ct.spacing[0], ct.spacing[2]) for name, (ct, _) in scans.items()]
    patches = np.stack([make_patch(ct, mask, CUT) for ct, mask in scans.values()])
    return likeness.summarise(patches, CUT, pd.DataFrame(facts, columns=["patient_id", *likeness.SPACINGS]))


def phantoms(n, seed):
    causes = image_causes(draw_patients(n, seed), seed).to_dict("records")
    rendered = (render_patient(row, int(row["image_seed"])) for row in causes)
    return {f"{seed}-{i}": (Volume(ct, affine), Volume(mask, affine)) for i, (ct, mask, affine) in enumerate(rendered)}


@pytest.fixture(scope="module")
def training():
    return summaries_of(phantoms(20, 3))


@pytest.fixture(scope="module")
def reference(training):
    return likeness.learn_reference(training, pd.Series(np.arange(20) % 4, training.index), 0.05)


@pytest.fixture(scope="module")
def others():
    return phantoms(3, 77)


def shifted(ct, mask):
    return Volume(ct.values + np.int16(100), ct.affine), mask


def cut_down(ct, mask):
    """A scan that ends where the tumour does."""
    near = np.zeros(mask.values.shape, bool)
    low, high = np.argwhere(mask.values).min(axis=0), np.argwhere(mask.values).max(axis=0)
    near[tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))] = True
    return Volume(np.where(near, ct.values, -1000).astype(np.int16), ct.affine), mask


def test_rate_of_false_alarms_is_the_stated_one():
    """Cohorts of 60 with correlated summaries; 200 others each. Without the cross-fitting it would be about 0.11."""
    draw, rates = np.random.default_rng(4), []
    mixing = np.tril(np.ones((8, 8))) * 0.5 + np.eye(8)
    for _ in range(40):
        values = pd.DataFrame(draw.normal(size=(260, 8)) @ mixing, columns=list("abcdefgh"))
        known = likeness.learn_reference(values[:60], pd.Series(np.arange(60) % 5), 0.05)
        rates.append((known.distance(values[60:]) > known.limit).mean())
    assert 0.03 <= np.mean(rates) <= 0.065


def test_strangers_are_flagged_and_others_are_not(reference, others):
    assert (reference.distance(summaries_of(others)) <= reference.limit).all()
    for alter in (shifted, cut_down):
        altered = {name: alter(*scan) for name, scan in others.items()}
        assert (reference.distance(summaries_of(altered)) > reference.limit).all(), alter.__name__


@pytest.mark.skipif(not REALDATA, reason="RPS_REALDATA names no folder with STS_001 and STS_002")
@pytest.mark.parametrize("with_spacing", [True, False])
def test_real_sarcomas_are_flagged_among_phantoms(training, reference, with_spacing):
    if not with_spacing:  # by what is seen, not by how the scan was taken
        seen = [name for name in training if not name.endswith("_mm")]
        reference = likeness.learn_reference(training[seen], pd.Series(np.arange(20) % 4, training.index), 0.05)
    folders = {name: Path(REALDATA) / "sts_ct" / name / "nifti" for name in ("STS_001", "STS_002")}
    scans = {name: load_pair(f / "image.nii.gz", f / "mask.nii.gz") for name, f in folders.items()}
    assert (reference.distance(summaries_of(scans)) > 1.5 * reference.limit).all()


def test_distance_by_hand():
    precision = np.linalg.inv([[1, 0.8], [0.8, 1]])
    known = likeness.Reference(["a", "b"], [1.0, 2.0], [2.0, 0.5], precision.tolist())
    shown = pd.DataFrame({"a": [4.0], "b": [1.25]}, index=["P"])
    assert known.in_sd(shown).to_numpy().tolist() == [[1.5, -1.5]]
    assert known.distance(shown)["P"] == pytest.approx(np.sqrt(2 * 1.5**2 * (1 / (1 - 0.8)) / 2))


def test_a_share_out_of_reach_becomes_the_least_possible():
    values = pd.DataFrame(np.random.default_rng(0).normal(size=(12, 3)), columns=list("abc"))
    fold = pd.Series(np.arange(12) % 3)
    known = likeness.learn_reference(values, fold, 0.01)
    assert known.share == pytest.approx(1 / 13)
    assert known.limit == likeness.cross_fitted_distances(values, fold).max()


def test_what_cannot_be_measured_is_refused(reference):
    with pytest.raises(ValueError, match=r"summary .* is missing: cut the patches"):
        reference.distance(pd.DataFrame({"other": [1.0]}))
    with pytest.raises(ValueError, match="needed: mask and rim"):
        likeness.summarise(np.zeros((1, 1, 16, 16, 16)), PatchSettings(channels=("hu",)), pd.DataFrame())
    with pytest.raises(ValueError, match="share = 1"):
        likeness.learn_reference(pd.DataFrame(), pd.Series(), 1)
