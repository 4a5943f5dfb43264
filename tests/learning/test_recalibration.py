"""A frozen model in a hospital whose level and slope are known: both come back, and no teacher is a judge."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from rps_utils.cohort.splits import stratified_folds
from rps_utils.learning.refits.recalibration import apply_update, learn_update, recalibrate
from rps_utils.scores import check_scores
from rps_utils.survival.calibration import calibration_slope, observed_expected, observed_expected_overall
from rps_utils.survival.concordance import harrell_c

SHAPE, SCALE = 1.3, 80.0


def hospital(n=4000, factor=2.0, slope=0.6, seed=3, kind="validation"):
    """A model that is right elsewhere: here the hazard is `factor` times as high, its log `slope` times as wide."""
    draws = np.random.default_rng(seed)
    risk = draws.normal(0, 1, n)
    hazard = factor * np.exp(slope * risk)
    recurrence = SCALE * (draws.exponential(1, n) / hazard) ** (1 / SHAPE)
    end = draws.uniform(12, 120, n)
    time = np.minimum(recurrence, end)
    table = pd.DataFrame({"patient_id": [f"P{i}" for i in range(n)], "split": "validation", "kind": kind})
    table = table.assign(model="Cox", risk=risk, time_months=time, event=(recurrence <= end).astype(int))
    for column, at in (("lrfs_12", 12), ("lrfs_36", 36), ("lrfs_60", 60), ("lrfs_own", time)):
        table[column] = np.exp(-((np.asarray(at) / SCALE) ** SHAPE) * np.exp(risk))
    return table


def test_the_factor_and_the_slope_that_were_put_in_come_back():
    update = learn_update(hospital(), "level and slope")
    # The mean risk is 0, and x differs from the risk by a number that is the same for all.
    assert update.factor_low < 2.0 < update.factor_high and update.factor == pytest.approx(2.0, rel=0.08)
    assert update.slope_low < 0.6 < update.slope_high and update.slope == pytest.approx(0.6, abs=0.05)
    assert update.slope_high - update.slope_low < 0.15


def test_the_level_is_observed_over_expected_of_the_whole_follow_up():
    rows = hospital(500, slope=1.0)
    update, known = learn_update(rows, "level"), observed_expected_overall(rows["event"], rows["lrfs_own"])
    assert (update.factor, update.factor_low, update.factor_high) == pytest.approx(known[:3], rel=1e-6)
    assert update.slope == 1 and np.isnan(update.slope_low)


def test_the_estimates_are_those_that_maximise_the_likelihood():
    rows = hospital(300)
    own, middle = -np.log(rows["lrfs_own"]), np.log(-np.log(rows["lrfs_36"]))

    def minus_log_likelihood(b):
        linear = b[0] + b[1] * (middle - middle.mean())
        return (own * np.exp(linear) - rows["event"] * linear).sum()

    best = minimize(minus_log_likelihood, [0.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-9}).x
    update = learn_update(rows, "level and slope")
    assert (np.log(update.factor), update.slope - 1) == pytest.approx(best, abs=1e-5)


@pytest.mark.parametrize(("kind", "slope"), [("level", 1.0), ("level and slope", 0.6)])
def test_an_update_makes_promises_come_true_in_others(kind, slope):
    here, others = hospital(slope=slope), hospital(slope=slope, seed=8)
    updated = apply_update(learn_update(here, kind), others)
    outcome = others["time_months"], others["event"]
    assert observed_expected(*outcome, others["lrfs_36"], 36).value > 1.25
    assert observed_expected(*outcome, updated["lrfs_36"], 36).value == pytest.approx(1, abs=0.05)
    lp = np.log(-np.log(updated["lrfs_36"]))
    assert calibration_slope(*outcome, lp) == pytest.approx(1, abs=0.1)
    assert harrell_c(*outcome, -updated["lrfs_36"]) == pytest.approx(harrell_c(*outcome, others["risk"]), abs=1e-9)
    assert set(updated["model"]) == {f"Cox, {kind} updated"}


def test_intervals_of_factor_and_slope_hold_the_truth_as_often_as_they_say():
    found = [learn_update(hospital(120, seed=100 + i), "level and slope") for i in range(200)]
    assert 0.9 <= np.mean([u.slope_low < 0.6 < u.slope_high for u in found]) <= 0.985
    assert 0.9 <= np.mean([u.factor_low < 2.0 < u.factor_high for u in found]) <= 0.985


def test_nobody_is_judged_by_an_update_that_saw_the_patient():
    scores = hospital(200)
    before, _ = recalibrate(scores, ["Cox"])
    assert check_scores(before) == [] and before.groupby("model").size().tolist() == [200] * 3
    folds = stratified_folds(scores["time_months"], scores["event"], 5, [2026, 5])
    updated = before[before["model"] == "Cox, level updated"].set_index("patient_id")["lrfs_36"]
    power = np.log(updated[scores["patient_id"]].to_numpy()) / np.log(scores["lrfs_36"])
    for fold in range(5):
        others = learn_update(scores[folds != fold], "level").factor
        assert power[folds == fold].to_numpy() == pytest.approx(others, rel=1e-9)
        assert others != pytest.approx(learn_update(scores, "level").factor, rel=1e-6)


def test_only_validation_rows_and_models_with_probabilities_are_updated():
    scores = pd.concat([hospital(200), hospital(200, kind="apparent").assign(split="training")], ignore_index=True)
    without = hospital(200).assign(model="Score", lrfs_12=np.nan, lrfs_36=np.nan, lrfs_60=np.nan, lrfs_own=np.nan)
    updated, updates = recalibrate(pd.concat([scores, without]), ["Cox", "Score"])
    assert set(updated["kind"]) == {"validation"}
    assert [u.model for u in updates] == ["Cox", "Cox"]


def test_few_recurrences_allow_no_slope_and_fewer_no_level():
    scores = hospital(60)
    few = scores[scores["event"] == 0].head(30)
    for events, kinds in ((10, ["level"]), (30, ["level", "level and slope"])):
        part = pd.concat([few, scores[scores["event"] == 1].head(events)], ignore_index=True)
        assert [u.kind for u in recalibrate(part, ["Cox"])[1]] == kinds
    with pytest.raises(ValueError, match="3 recurrences; to learn a level in 5 folds at least 7 are needed"):
        recalibrate(pd.concat([few, scores[scores["event"] == 1].head(3)]), ["Cox"])
    with pytest.raises(ValueError, match="Cox: 3 recurrences to learn its level from; at least 5 are asked for"):
        learn_update(pd.concat([few, scores[scores["event"] == 1].head(3)]), "level")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s.assign(kind="apparent", split="training"), "no validation rows"),
        (lambda s: s.drop(columns="lrfs_own"), "needs the columns lrfs_own and"),
        (lambda s: s.assign(lrfs_12=np.nan, lrfs_36=np.nan, lrfs_60=np.nan), "no predicted LRFS in the rows of Cox"),
        (lambda s: s.assign(model="Other"), "no model Cox; there are Other"),
    ],
)
def test_what_cannot_be_recalibrated_is_named(change, says):
    with pytest.raises(ValueError, match=says):
        recalibrate(change(hospital(100)), ["Cox"])


def test_a_landmark_beyond_the_training_follow_up_stays_empty():
    updated, _ = recalibrate(hospital(200).assign(lrfs_60=np.nan))
    assert updated["lrfs_60"].isna().all() and updated["lrfs_36"].notna().all()
    assert check_scores(updated) == []
