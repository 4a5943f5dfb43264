import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter
from scipy.stats import chi2, spearmanr
from sksurv.metrics import concordance_index_censored

from rps_utils.evaluation.brier import brier_rows
from rps_utils.evaluation.calibration import calibration_rows
from rps_utils.evaluation.decision import net_benefit_rows
from rps_utils.files import write_csv
from rps_utils.learning import crossfit, fusion
from rps_utils.scores import odd_scores, read_scores
from tests.conftest import draw_cohort


def c_index(rows):
    return concordance_index_censored(rows["event"] == 1, rows["time_months"], rows["risk"])[0]


def memorising_score(cohort):
    """An image model that predicts nothing, but reproduces the outcome of every patient it learned from."""

    def fit_and_score(ids):
        draw = np.random.default_rng(len(ids))
        outcome = -np.log(cohort["time_months"]) + 2 * cohort["event"]
        seen = cohort["patient_id"].isin(ids)
        risk = np.where(seen, outcome, draw.normal(outcome.mean(), outcome.std(), len(cohort)))
        return pd.Series(risk, index=pd.Index(cohort["patient_id"]))

    return crossfit.assemble(cohort, crossfit.score_left_out(cohort, crossfit.leave_out_sets(5), fit_and_score))


def perfect_score(cohort):
    by_id = cohort.set_index("patient_id")["signal"]
    return crossfit.assemble(cohort, dict.fromkeys(crossfit.leave_out_sets(5), by_id))


def test_fusion_beats_either_part_when_both_carry_signal(cohort):
    plans = {
        "image": fusion.FusionPlan("DL"),
        "clinical": fusion.FusionPlan("Clinical", ["age"]),
        "both": fusion.FusionPlan("DLCM", ["age"]),
    }
    image = {"image": perfect_score(cohort), "clinical": None, "both": perfect_score(cohort)}
    rows = {name: fusion.cox_scores(cohort, plan, image[name], [36])[0] for name, plan in plans.items()}
    c = {name: c_index(table[table["kind"] == "cross_fitted"]) for name, table in rows.items()}
    assert c["both"] > c["image"] > c["clinical"] > 0.5


def test_a_memorising_image_model_gains_nothing_in_the_fusion(cohort):
    image = memorising_score(cohort)
    rows, model = fusion.cox_scores(cohort, fusion.FusionPlan("DLCM", ["age"]), image, [36])
    assert abs(model.coefficients[0]) < 0.35
    own = fusion.cox_scores(cohort, fusion.FusionPlan("DL"), image, [36])[0]
    c = {kind: c_index(part) for kind, part in own.groupby("kind")}
    assert c["apparent"] > 0.9
    assert abs(c["cross_fitted"] - 0.5) < 0.12
    assert set(rows["kind"]) == {"apparent", "cross_fitted", "validation"}


@pytest.mark.parametrize("columns", [[], ["age", "grade"]], ids=["image alone", "with clinical"])
def test_every_patient_has_its_kinds_and_a_probability(cohort, columns):
    rows, _ = fusion.cox_scores(cohort, fusion.FusionPlan("M", columns), perfect_score(cohort), [12, 36])
    counts = rows.groupby("kind")["patient_id"].nunique()
    training = (cohort["split"] == "training").sum()
    assert counts.to_dict() == {"apparent": training, "cross_fitted": training, "validation": len(cohort) - training}
    assert rows[["lrfs_12", "lrfs_36"]].apply(lambda c: c.between(0, 1)).all(axis=None)
    assert (rows["lrfs_36"] <= rows["lrfs_12"]).all()


def test_outcomes_of_held_out_patients_change_nothing_they_are_judged_by(cohort):
    plan, image = fusion.FusionPlan("DLCM", ["age"]), perfect_score(cohort)
    before = fusion.cox_scores(cohort, plan, image, [36])[0]
    spoiled = cohort.copy()
    held_out = (cohort["fold"] == 2) | (cohort["split"] == "validation")
    spoiled.loc[held_out, "time_months"] = 1.0
    spoiled.loc[held_out, "event"] = 1
    after = fusion.cox_scores(spoiled, plan, image, [36])[0]
    judged = (before["kind"] == "cross_fitted") & before["patient_id"].isin(
        cohort.loc[cohort["fold"] == 2, "patient_id"]
    )
    np.testing.assert_array_equal(before.loc[judged, "risk"], after.loc[judged, "risk"])
    assert not np.allclose(before.loc[~judged, "risk"], after.loc[~judged, "risk"])


def test_the_test_of_a_predictor_has_a_direction_and_holds_the_columns_fixed(cohort):
    training = cohort[cohort["split"] == "training"]
    signal = training.set_index("patient_id")["signal"]
    found = fusion.independent_predictor(training, ["age"], signal)
    both = CoxPHFitter().fit(training[["time_months", "event", "signal", "age"]], "time_months", "event")
    alone = CoxPHFitter().fit(training[["time_months", "event", "age"]], "time_months", "event")
    assert found["hazard_ratio"] == pytest.approx(both.hazard_ratios_["signal"], rel=1e-4) and found["ci_low"] > 1
    assert found["p"] == pytest.approx(chi2.sf(2 * (both.log_likelihood_ - alone.log_likelihood_), 1), rel=1e-3)
    assert found["p"] < found["p_predictor"] < 1e-3
    turned = fusion.independent_predictor(training, [], -signal)
    assert turned["hazard_ratio"] < 1 and turned["p"] < 1e-3 and turned["p_predictor"] > 0.99


# ---------------------------------------------------------------- direction


def scored_by(cohort, weight, seed):
    """An image score that carries `weight` of the signal; below 0 it points the wrong way."""
    by_id = cohort.set_index("patient_id")["signal"]
    score = weight * by_id + np.random.default_rng(seed).normal(size=len(by_id))
    return crossfit.assemble(cohort, dict.fromkeys(crossfit.leave_out_sets(5), score))


def contradictions(rows):
    """Fitted objects by whose rows LRFS does not fall as risk rises."""
    known = rows.dropna(subset="lrfs_36")
    agree = {
        maker: spearmanr(part["risk"], 1 - part["lrfs_36"]).statistic
        for maker, part in known.groupby(["kind", "made_by"])
        if len(part) > 2
    }
    return {maker: value for maker, value in agree.items() if value < 1 - 1e-9}


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("weight", [-0.8, -0.2, 0.0, 0.2, 0.8])
def test_lrfs_never_contradicts_the_risk(weight, seed):
    cohort = draw_cohort(seed=seed)
    image = scored_by(cohort, weight, seed)
    for plan in (fusion.FusionPlan("Rad"), fusion.FusionPlan("RSCM", ["age"])):
        rows, model = fusion.cox_scores(cohort, plan, image, [36])
        assert not contradictions(rows)
        assert rows["lrfs_36"].isna().equals(rows["lrfs_own"].isna())
        if plan.columns:
            assert rows["lrfs_36"].notna().all() and "no_lrfs" not in rows
        elif model.coefficients[0] <= 0:
            assert rows["lrfs_36"].isna().all() and rows["no_lrfs"].notna().all()
        else:
            assert rows.loc[rows["kind"] != "cross_fitted", "lrfs_36"].notna().all()


def test_a_score_that_points_the_wrong_way_is_named_and_its_fusion_is_not_turned(cohort):
    image = scored_by(cohort, -0.8, 1)
    rows, alone = fusion.cox_scores(cohort, fusion.FusionPlan("Rad"), image, [36])
    fused_rows, fused = fusion.cox_scores(cohort, fusion.FusionPlan("RSCM", ["age"]), image, [36])
    assert alone.coefficients[0] < -0.1 > fused.coefficients[0]
    assert set(rows["no_lrfs"]) == {"the score points the wrong way in training"} and rows.columns[-1] == "made_by"
    told = fusion.score_directions({"Rad": alone, "RSCM": fused}).set_index("model")
    assert told["points"].tolist() == ["wrong way", "wrong way"]
    assert told.loc["Rad", "note"].startswith("Rad points the wrong way in training: hazard ratio 0.")
    assert "predicts no LRFS" in told.loc["Rad", "note"] and "turns it round" in told.loc["RSCM", "note"]
    assert c_index(fused_rows[fused_rows["kind"] == "cross_fitted"]) > 0.6


def test_a_score_that_points_the_right_way_needs_no_word(cohort):
    _, alone = fusion.cox_scores(cohort, fusion.FusionPlan("DL"), scored_by(cohort, 0.8, 1), [36])
    _, clinical = fusion.cox_scores(cohort, fusion.FusionPlan("Clinical", ["age"]), None, [36])
    told = fusion.score_directions({"DL": alone, "Clinical": clinical})
    assert told["model"].tolist() == ["DL"] and told["points"].tolist() == ["right way"] and not told["note"].any()


def test_the_reason_travels_into_the_notes_of_the_metrics(cohort, tmp_path):
    rows, _ = fusion.cox_scores(cohort, fusion.FusionPlan("Rad"), scored_by(cohort, -0.8, 1), [12, 36])
    scores = read_scores(write_csv(rows, tmp_path / "s.csv"))
    assert not [sentence for sentence in odd_scores(scores, [12, 36]) if "rises" in sentence]
    tables = [
        calibration_rows(scores, [12, 36], n_bootstrap=20),
        brier_rows(scores, [12, 36], n_bootstrap=20),
        net_benefit_rows(scores, [36], [0.2], n_bootstrap=20),
    ]
    for table in tables:
        predicted = table[~table["metric"].isin(["brier_km", "net_benefit_all_0.2"])]
        assert set(predicted["kind"]) == {"apparent", "cross_fitted", "validation"}
        assert predicted["value"].isna().all()
        assert predicted["note"].str.contains("points the wrong way in training").all()


def cross_fit(rows, learn):
    """Cross-fitted scores, one model a fold, standardised by the patients it learned from."""
    scores = pd.Series(np.nan, index=pd.Index(rows["patient_id"]))
    for fold in sorted(rows["fold"].unique()):
        own = (rows["fold"] == fold).to_numpy()
        risk = pd.Series(np.asarray(learn(rows[~own])(scores.index), float), index=scores.index)
        scores[own] = crossfit.standardise(risk, scores.index[~own])[own]
    return scores


def by_sum(rows):
    """Cross-fitted scores of a learner that adds up features by their covariance with the outcome."""
    draws = np.random.default_rng(4).normal(size=(400, 12))
    features = pd.DataFrame(draws[: len(rows)], index=rows["patient_id"])

    def learn(learners):
        outcome = learners["event"] - learners["time_months"] / learners["time_months"].mean()
        weights = features.loc[learners["patient_id"]].T.to_numpy() @ outcome.to_numpy()
        return lambda ids: features.loc[ids].to_numpy() @ weights

    return cross_fit(rows, learn)


def test_outcomes_dealt_anew_find_noise_to_be_noise_and_repeat(cohort):
    training = cohort[cohort["split"] == "training"]
    score = by_sum(training)
    first, again = (
        fusion.independent_predictor(training, ["age"], score, refit=by_sum, deals=19, seed=3) for _ in range(2)
    )
    assert first == again and first["test"] == "outcomes dealt anew 19 times"
    assert 0.01 < first["p_predictor"] < 1
    counted = fusion.independent_predictor(training, [], score, refit=by_sum, deals=99, folds_stay=True)
    assert counted["p_predictor"] * 100 == pytest.approx(round(counted["p_predictor"] * 100))


def test_a_refit_that_is_not_the_score_is_refused(cohort):
    training = cohort[cohort["split"] == "training"]
    signal = training.set_index("patient_id")["signal"]
    with pytest.raises(ValueError, match="refit gives other scores"):
        fusion.independent_predictor(training, [], signal, refit=by_sum)
    with pytest.raises(ValueError, match="deals is 5; allowed: 19 or more"):
        fusion.independent_predictor(training, [], signal, refit=by_sum, deals=5)


def test_many_folds_without_refits_give_no_p(cohort):
    training = cohort[cohort["split"] == "training"].copy()
    training["fold"] = np.arange(len(training)) % 10
    found = fusion.independent_predictor(training, [], training.set_index("patient_id")["signal"])
    assert np.isnan(found["p_predictor"]) and found["test"].startswith("10 folds: without refits no test is known")


def test_the_test_is_named(cohort):
    training, validation = (cohort[cohort["split"] == split] for split in ("training", "validation"))
    fitted = perfect_score(cohort)
    assert fusion.independent_predictor(training, ["age"], fitted)["test"] == "halved, clinical part taken out"
    assert fusion.independent_predictor(training, ["age"], fitted)["p_predictor"] < 1e-3
    assert fusion.independent_predictor(training, ["age"], fitted.cross_fitted)["test"] == "halved"
    plain = fusion.independent_predictor(validation, [], fitted.validation)
    assert plain["test"].startswith("plain") and plain["p_predictor"] == pytest.approx(plain["p"] / 2)
