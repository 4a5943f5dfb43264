"""Models fitted again: without a centre, in resamples, with curves."""

from pathlib import Path

import formulaic
import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter

from rps_utils.files import read_csv
from rps_utils.lab.levels import tables
from rps_utils.lab.levels.curves import BENT, patients_with_a_bend
from rps_utils.learning import cox, crossfit, fusion
from rps_utils.learning.refits.centres import left_out_scores, why_not_by_centre
from rps_utils.learning.refits.curves import cross_validated_likelihood, curve_tests
from rps_utils.learning.refits.instability import instability_table, risks_by_resample
from tests.conftest import draw_cohort

TABLE = Path(tables.__file__).parent / "results" / "curves.csv"
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


def resamples(n, count, seed=3):
    return np.random.default_rng(seed).integers(0, n, (count, n))


def test_models_of_resamples_are_those_that_lifelines_fits_to_them(cohort):
    plan, (drawn_rows,) = fusion.FusionPlan("Clinical", ["age", "signal"]), resamples(len(cohort), 1)
    promised, drawn = risks_by_resample(cohort, plan, 36, [drawn_rows])
    columns = ["time_months", "event", "age", "signal"]
    for rows, found in ((np.arange(len(cohort)), promised), (drawn_rows, drawn[0])):
        fitter = CoxPHFitter().fit(cohort.iloc[rows][columns], "time_months", "event")
        by_library = 1 - fitter.predict_survival_function(cohort[columns], times=[36]).iloc[0]
        np.testing.assert_allclose(found, by_library, atol=1e-3)


def test_scatter_is_that_of_the_covariance_matrix():
    """Between two patients the baseline drops out of log(-log): what is left has the variance of the coefficients."""
    cohort = draw_cohort(300)
    promised, drawn = risks_by_resample(cohort, fusion.FusionPlan("C", ["age", "signal"]), 36, resamples(300, 120))
    first, second = promised.to_numpy().argsort()[[60, 200]]
    fitter = cox.fit_lifelines(cohort.set_index("patient_id")[["age", "signal"]], cohort)
    apart = (cohort.loc[first, ["age", "signal"]] - cohort.loc[second, ["age", "signal"]]).to_numpy(float)
    expected = np.sqrt(apart @ fitter.variance_matrix_.to_numpy() @ apart)
    hazard = np.log(-np.log1p(-drawn.iloc[[first, second]]))
    assert (hazard.iloc[0] - hazard.iloc[1]).std() == pytest.approx(expected, rel=0.2)


def test_more_patients_mean_steadier_promises():
    plan = fusion.FusionPlan("Clinical", ["age", "signal", "noise"])
    mape = {}
    for n in (60, 480):
        table = instability_table(*risks_by_resample(draw_cohort(n), plan, 36, resamples(n, 30)))
        mape[n] = table["mape"].mean()
    assert 1.9 < mape[60] / mape[480] < 4.5, "about the root of eight"


def test_instability_by_hand():
    ids = pd.Index(["A", "B"], name="patient_id")
    promised = pd.Series([0.5, 0.2], ids)
    drawn = pd.DataFrame([[0.3, 0.5, 0.7, 0.6], [0.2, 0.1, 0.5, 0.4]], ids)
    table = instability_table(promised, drawn, threshold=0.45).set_index("patient_id")
    assert list(table.index) == ["B", "A"]
    assert table["mape"].tolist() == pytest.approx([(0 + 0.1 + 0.3 + 0.2) / 4, (0.2 + 0 + 0.2 + 0.1) / 4])
    assert table["decided_otherwise"].tolist() == [0.25, 0.25]
    assert table.loc["A", "middle"] == pytest.approx(0.55)


def test_a_resample_that_cannot_be_fitted_is_left_out(cohort):
    nobody = np.resize(np.flatnonzero(cohort["event"] == 0), len(cohort))
    drawn = risks_by_resample(cohort, fusion.FusionPlan("C", ["age"]), 36, [*resamples(len(cohort), 2), nobody])[1]
    assert drawn.shape == (len(cohort), 2)
    table = instability_table(*risks_by_resample(cohort, fusion.FusionPlan("C", ["age"]), 36, [nobody]))
    assert table[["middle", "low", "high", "mape"]].isna().all(axis=None) and table["predicted"].notna().all()


def bent_cohort(patients=400):
    """Recurrence rises with the distance of the age from 56: no straight line tells it."""
    cohort = draw_cohort(patients).assign(split="training", fold=np.arange(patients) % 5)
    draw = np.random.default_rng(8)
    recurrence = draw.exponential(40 * np.exp(1.5 - 0.12 * (cohort["age"] - 56).abs()))
    leaves = draw.uniform(6, 90, patients)
    return cohort.assign(time_months=np.minimum(recurrence, leaves), event=(recurrence <= leaves).astype(int))


def test_a_bend_is_found_where_there_is_one_and_only_there():
    found = curve_tests(bent_cohort(), ["age", "signal", "grade"]).set_index("column")
    assert found.loc["age", "p"] < 1e-6 and found.loc["age", "gain"] > 5
    assert found.loc["signal", "p"] > 0.05 and found.loc["signal", "gain"] < 1
    assert "grade" not in found.index


def test_the_committed_table_is_that_of_these_functions():
    """Four of its 200 cohorts; whoever changes a rule makes the table anew."""
    table = read_csv(TABLE)
    assert set(table["rule"]) == {"p", "gain", "both"} and set(table["truth"]) == set(BENT)
    share = table.set_index(["truth", "rule"])["share"]
    found = [curve_tests(patients_with_a_bend(86, 0.3, [6, 86, i]), ["age", "size_cm", "grade"], 0.1) for i in range(4)]
    assert share["curve", "both"] > 0.6 and sum((f["p"][0] < 0.05) and f["gain"][0] > 0 for f in found) >= 2
    assert share["line", "both"] < 0.1 < share["line", "gain"]


def test_the_likelihood_ratio_is_that_of_a_natural_spline_of_formulaic():
    """Another basis of the same curves, constant included: one of its three terms is taken off."""
    cohort = bent_cohort(200)
    found = curve_tests(cohort, ["signal", "age"]).set_index("column").loc["signal"]
    low, middle, high = np.quantile(cohort["signal"], [0.1, 0.5, 0.9])
    spline = f"cr(signal, knots=[{middle}], lower_bound={low}, upper_bound={high}) - 1"
    basis = formulaic.model_matrix(spline, cohort).iloc[:, 1:].set_axis(["one", "two"], axis=1)
    rows = cohort.assign(**basis).set_index("patient_id")
    fits = [cox.fit_lifelines(rows[[*c, "age"]], cohort) for c in (["one", "two"], ["signal"])]
    assert found["p"] == pytest.approx(cox.likelihood_ratio_p(*fits), rel=1e-6)


def test_the_cross_validated_likelihood_by_hand(cohort):
    training = cohort[(cohort["split"] == "training") & ~cohort["time_months"].duplicated()]
    matrix = training.set_index("patient_id")[["age"]]

    def likelihood(rows, beta):
        """No two times are equal, so no rule for ties is needed."""
        hazard = beta * rows["age"]
        at_risk = [np.log(np.exp(hazard[rows["time_months"] >= t]).sum()) for t in rows["time_months"]]
        return (rows["event"] * (hazard - at_risk)).sum()

    total = 0
    for fold in range(5):
        others = training[training["fold"] != fold]
        beta = CoxPHFitter().fit(others[["age", "time_months", "event"]], "time_months", "event").params_["age"]
        total += likelihood(training, beta) - likelihood(others, beta)
    assert cross_validated_likelihood(matrix, training) == pytest.approx(total, abs=1e-3)


def test_a_column_of_few_values_stays_a_line(cohort):
    cohort["organs"] = np.arange(len(cohort)) % 3
    found = curve_tests(cohort[cohort["split"] == "training"], ["organs", "age"]).set_index("column")
    assert found.loc["organs", "note"].startswith("rcs(organs): 3 different numbers in training; allowed: 8")
    assert np.isnan(found.loc["organs", "p"])
    assert found.loc["age", "note"] == "" and 0 < found.loc["age", "p"] <= 1
