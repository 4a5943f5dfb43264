"""Models fitted again: without a centre, in resamples, with curves."""

import numpy as np
import pytest

from rps_utils.learning import cox, crossfit, fusion
from rps_utils.learning.refits.centres import left_out_scores, why_not_by_centre
from tests.conftest import draw_cohort

PLAN = fusion.FusionPlan("Clinical", ["age", "grade"], 0.1)


@pytest.fixture
def by_centre():
    return draw_cohort(240).assign(centre=np.array(list("ABCD"))[np.arange(240) % 5 % 4])


def test_a_centre_is_judged_by_a_model_of_the_others(by_centre):
    scores = left_out_scores(by_centre, PLAN, None, [36])
    training = by_centre[by_centre["split"] == "training"]
    others, own = training[training["centre"] != "B"], training[training["centre"] == "B"]
    design = cox.learn_design(others, PLAN.columns)
    by_hand = cox.fit_cox(design.matrix(others), others, PLAN.ridge)
    found = scores.set_index("patient_id").loc[own["patient_id"]]
    np.testing.assert_allclose(found["risk"], by_hand.risk(design.matrix(own)))
    np.testing.assert_allclose(found["lrfs_36"], by_hand.lrfs(design.matrix(own), [36])["lrfs_36"])
    assert set(scores["patient_id"]) == set(training["patient_id"]) and set(scores["kind"]) == {"cross_fitted"}


def test_nothing_is_learned_from_the_outcomes_of_the_centre_nor_from_validation(by_centre):
    own = (by_centre["centre"] == "B") | (by_centre["split"] == "validation")
    spoiled = by_centre.assign(event=by_centre["event"].where(~own, 1), age=by_centre["age"])
    before, after = (left_out_scores(c, PLAN, None, [36]).set_index("patient_id")["risk"] for c in (by_centre, spoiled))
    judged = by_centre.loc[(by_centre["centre"] == "B") & (by_centre["split"] == "training"), "patient_id"]
    np.testing.assert_array_equal(before[judged], after[judged])
    assert (before != after).any(), "the models of the other centres have seen the spoiled ones"


def test_image_scores_enter_as_they_are(by_centre):
    by_id = by_centre.set_index("patient_id")["signal"]
    image = crossfit.assemble(by_centre, dict.fromkeys(crossfit.leave_out_sets(5), by_id))
    fused = left_out_scores(by_centre, fusion.FusionPlan("DLCM", ["age"], 0.1), image, [36])
    training = by_centre[by_centre["split"] == "training"].set_index("patient_id")
    others = training[training["centre"] != "A"]
    matrix = others[["age"]].assign(image_score=by_id)[["image_score", "age"]]
    model = cox.fit_cox(matrix, others.reset_index(), 0.1)
    own = training.index[training["centre"] == "A"]
    terms = training.loc[own, ["age"]].assign(image_score=by_id[own])
    np.testing.assert_allclose(fused.set_index("patient_id").loc[own, "risk"], model.risk(terms))


def test_patients_without_a_centre_take_no_part(by_centre):
    by_centre.loc[by_centre.index[:8], "centre"] = None
    scores = left_out_scores(by_centre, PLAN, None, [36])
    assert not set(scores["patient_id"]) & set(by_centre["patient_id"][:8])


@pytest.mark.parametrize(
    ("centres", "message"),
    [
        (None, "the manifest has no column centre: nobody can be judged"),
        (["A", "B"], "centre names 2 centres in training, fewer than 3"),
    ],
)
def test_too_few_centres_are_refused(cohort, centres, message):
    if centres:
        cohort["centre"] = np.array(centres)[np.arange(len(cohort)) % 2]
    assert why_not_by_centre(cohort, "centre").startswith(message)
    with pytest.raises(ValueError, match=message):
        left_out_scores(cohort, PLAN, None, [36])
