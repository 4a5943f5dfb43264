"""Deaths counted: every measure against R, against the measures without deaths, and against states that are known."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rps_utils.evaluation.competing import measures
from rps_utils.evaluation.competing.rows import competing_groups, competing_rows, promised_and_seen
from rps_utils.learning.cox import CoxModel, fit_cox
from rps_utils.scores import check_scores, incidence_column, read_scores
from rps_utils.survival.brier import brier_score, ipa, null_brier
from rps_utils.survival.calibration import observed_expected
from rps_utils.survival.decision import net_benefit_at
from rps_utils.survival.roc import td_auc
from tests.evaluation.test_evaluation import one, score_table

REFERENCE = Path(__file__).parents[1] / "reference"
HORIZONS = [12.5, 24, 36.5, 48]


@pytest.fixture(scope="module")
def patients():
    return pd.read_csv(REFERENCE / "inputs" / "competing_validation.csv")


@pytest.fixture(scope="module")
def known():
    return pd.read_csv(REFERENCE / "competing.csv").set_index(["what", "horizon"])["value"]


def causes(rows):
    return rows["time"].to_numpy(float), rows["cause"].to_numpy() == 1, rows["cause"].to_numpy() == 2


@pytest.mark.parametrize("horizon", HORIZONS)
def test_the_measures_are_those_of_r(patients, known, horizon):
    """riskRegression's Score (AUC, Brier, IPA), survival's survfit (incidence, and net benefit made of it)."""
    given, predicted = causes(patients), patients[f"predicted_{horizon:g}"]
    brier, null, gained, benefit, _, _, benefit_30, _, _ = measures.accuracy(*given, predicted, horizon, [0.15, 0.3])
    found = {
        "auc": measures.incidence_auc(*given, predicted, horizon),
        "brier": brier,
        "brier_null": null,
        "ipa": gained,
        "incidence": measures.incidence_at(*given, horizon),
        "observed_expected": measures.incidence_ratio(*given, predicted, horizon).value,
        "net_benefit_0.15": benefit,
        "net_benefit_0.3": benefit_30,
    }
    for what, value in found.items():
        assert value == pytest.approx(known[what, horizon], abs=1e-10), what


def test_a_cox_model_promises_what_r_s_cause_specific_models_promise(known):
    """`CSC` takes steps of hazards, this model steps of probabilities: the same up to the steps of 400 patients."""
    rows = pd.read_csv(REFERENCE / "inputs" / "competing_training.csv")
    time, event, died = causes(rows)
    ids = [f"P{i}" for i in range(len(rows))]
    cohort = pd.DataFrame(
        {"patient_id": ids, "time_months": time, "event": event.astype(int), "died": died.astype(int)}
    )
    model = fit_cox(pd.DataFrame({"x": rows["x"].to_numpy()}, index=ids), cohort)
    new = pd.DataFrame({"x": [-1.0, 0.0, 1.0]}, index=["a", "b", "c"])
    promised = model.incidence(new, HORIZONS)
    for place, horizon in enumerate(HORIZONS):
        r = [known[f"csc_{k}", horizon] for k in (1, 2, 3)]
        assert promised[incidence_column(horizon)].to_numpy() == pytest.approx(r, abs=0.02), place
    assert (1 - model.lrfs(new, [48]).to_numpy() > promised[["incidence_48"]].to_numpy() + 0.02).all()
    assert np.isnan(model.incidence(new, [1000]).to_numpy()).all(), "beyond the training follow-up"
    again = CoxModel(**model.as_dict())
    assert again.incidence(new, HORIZONS).equals(promised)


def test_without_terms_the_model_is_the_aalen_johansen_curve_of_its_patients():
    """One patient a time: Breslow's and Kaplan-Meier's steps differ by less than 1/n."""
    draws = np.random.default_rng(3)
    n = 400
    recurs, dies, leaves = draws.exponential(50, n), draws.exponential(70, n), draws.uniform(20, 90, n)
    time = np.minimum(np.minimum(recurs, dies), leaves)
    event, died = recurs == time, dies == time
    ids = [f"P{i}" for i in range(n)]
    cohort = pd.DataFrame(
        {"patient_id": ids, "time_months": time, "event": event.astype(int), "died": died.astype(int)}
    )
    model = fit_cox(pd.DataFrame({"x": draws.normal(size=n)}, index=ids), cohort, ridge=1e6)
    for horizon in (12, 36, 60):
        own = model.incidence(pd.DataFrame({"x": [0.0]}, index=["a"]), [horizon]).iloc[0, 0]
        assert own == pytest.approx(measures.incidence_at(time, event, died, horizon), abs=0.003)


def test_without_deaths_every_measure_is_the_one_of_survival(patients):
    time, event, _ = causes(patients)
    nobody, predicted = np.zeros(len(time), bool), patients["predicted_24"].to_numpy()
    brier, null, gained, benefit, everybody, _ = measures.accuracy(time, event, nobody, predicted, 24, [0.3])
    free = 1 - predicted
    assert measures.incidence_auc(time, event, nobody, predicted, 24) == pytest.approx(
        td_auc(time, event, predicted, 24)
    )
    assert brier == pytest.approx(brier_score(time, event, free, 24))
    assert null == pytest.approx(null_brier(time, event, 24)) and gained == pytest.approx(ipa(time, event, free, 24))
    assert benefit == pytest.approx(net_benefit_at(time, event, predicted, 24, 0.3))
    assert everybody == pytest.approx(net_benefit_at(time, event, np.ones(len(time)), 24, 0.3))
    ratio, km = measures.incidence_ratio(time, event, nobody, predicted, 24), observed_expected(time, event, free, 24)
    assert ratio[:3] == pytest.approx(km[:3])


def test_nobody_lost_every_measure_is_a_count():
    """All states are known at 20: three recurred, three died, four are free."""
    time = np.array([3, 5, 8, 4, 9, 12, 30, 30, 31, 32])
    event, died = np.arange(10) < 3, (np.arange(10) >= 3) & (np.arange(10) < 6)
    promised = np.array([0.9, 0.6, 0.4, 0.5, 0.3, 0.2, 0.4, 0.1, 0.2, 0.1])
    brier, _, _, benefit, _, _ = measures.accuracy(time, event, died, promised, 20, [0.35])
    assert brier == pytest.approx(np.mean((event - promised) ** 2))
    assert benefit == pytest.approx(3 / 10 - 2 / 10 * 0.35 / 0.65), "3 hits; one who dies and one who stays free"
    pairs = [np.sign(a - b) for a in promised[event] for b in promised[~event]]
    assert measures.incidence_auc(time, event, died, promised, 20) == pytest.approx(0.5 + np.mean(pairs) / 2)
    groups = measures.incidence_groups(time, event, died, promised, 20, groups=2)
    assert groups["observed"].tolist() == pytest.approx([0, 3 / 5]) and groups["n"].tolist() == [5, 5]


def test_a_threshold_lies_within_0_and_1(patients):
    with pytest.raises(ValueError, match=r"thresholds are \[0\.3, 1\.0\]; allowed: within \(0, 1\)"):
        measures.accuracy(*causes(patients), patients["predicted_24"], 24, [0.3, 1])


def test_weights_are_repeated_patients(patients):
    given, predicted = causes(patients), patients["predicted_24"].to_numpy()
    drawn = np.random.default_rng(1).integers(0, len(patients), len(patients))
    counts = np.bincount(drawn, minlength=len(patients))[None]
    again = measures.accuracy(*(part[drawn] for part in given), predicted[drawn], 24, [0.3])
    assert measures.accuracy(*given, predicted, 24, [0.3], counts)[:, 0] == pytest.approx(again)
    auc = measures.incidence_auc(*(part[drawn] for part in given), predicted[drawn], 24)
    assert measures.incidence_auc(*given, predicted, 24, counts)[0] == pytest.approx(auc)


REFUSED = {
    "both at once": ({"died": [1, 1, 0, 0]}, "row 0: recurred and died without recurrence"),
    "a score": ({"predicted": [2.1, 0.2, 0.1, 0.3]}, "predicted, row 0: .*2.1.* give a probability of recurring"),
    "death coded 2": ({"died": [0, 2, 0, 0]}, "event, row 1: .*2.* is not allowed"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused(case):
    given = {"time": [5, 8, 20, 30], "event": [1, 0, 0, 0], "died": [0, 1, 0, 0], "predicted": [0.5, 0.4, 0.2, 0.1]}
    changed, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        measures.incidence_brier(**(given | changed), horizon=10)


# ---------------------------------------------------------------- score tables


@pytest.fixture(scope="module")
def mortal():
    """Model `True` promises LRFS and incidence by its known hazards; a third of all die without recurrence."""
    scores = score_table(400, seed=9, kinds=("cross_fitted", "validation"))
    patients = scores.drop_duplicates("patient_id").set_index("patient_id")
    dies = pd.Series(np.random.default_rng(4).exponential(60, len(patients)), patients.index).loc[scores["patient_id"]]
    first = dies.to_numpy() < scores["time_months"]
    scores["time_months"] = np.where(first, dies.to_numpy(), scores["time_months"])
    scores["event"] = np.where(first, 2, scores["event"])
    for landmark in (12, 36):
        hazard = -np.log(scores[f"lrfs_{landmark}"]) / landmark
        both = hazard + 1 / 60
        scores[f"incidence_{landmark}"] = hazard / both * -np.expm1(-both * landmark)
    return scores


def test_the_right_promise_is_kept_and_that_of_a_world_without_deaths_is_not(mortal, tmp_path):
    mortal.to_csv(tmp_path / "scores.csv", index=False)
    scores = read_scores(tmp_path / "scores.csv")
    rows = competing_rows(scores, [12, 36], [0.3], n_bootstrap=200).query("kind == 'validation'")
    kept = one(rows, model="True", metric="incidence_observed_expected", horizon_months=36)
    assert kept["ci_low"] < 1 < kept["ci_high"] and kept["ci_high"] / kept["ci_low"] < 3
    assert one(rows, model="True", metric="incidence_ipa", horizon_months=36)["ci_low"] > 0
    assert one(rows, model="True", metric="incidence_td_auc", horizon_months=36)["ci_low"] > 0.5
    means = promised_and_seen(scores, [36]).query("kind == 'validation' and model == 'True'").iloc[0]
    assert means["if_nobody_died"] > means["with_deaths"] + 0.05
    assert means["one_minus_km"] > means["aalen_johansen"] + 0.05
    assert abs(means["with_deaths"] - means["aalen_johansen"]) < 0.1
    noise = rows[(rows["model"] == "Noise") & (rows["metric"] == "incidence_brier")]
    assert noise["value"].isna().all() and noise["note"].str.startswith("Noise gives no incidence_").all()
    groups = competing_groups(scores, 36).query("kind == 'validation'")
    assert groups["observed"].iloc[-1] > groups["observed"].iloc[0] + 0.2, "promised more, recurs more"


def test_where_deaths_are_not_told_apart_there_are_no_rows():
    alive = score_table()
    assert competing_rows(alive, [12]).empty and promised_and_seen(alive, [12]).empty
    assert competing_groups(alive, 12).empty


FAULTS = {
    "falls with time": ("incidence_36", 0.0, "row .*column incidence_36: .*rises with time"),
    "more than without deaths": ("incidence_12", 0.9999, "column incidence_12: .*at most 1 - lrfs_12"),
    "percent": ("incidence_12", 40.0, "column incidence_12: 40.0; allowed: empty, or a probability of recurring"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_an_incidence_that_cannot_be_is_refused(mortal, case):
    column, value, message = FAULTS[case]
    wrong = mortal.assign(**{column: mortal[column].mask(mortal.index == mortal.index[0], value)})
    assert pd.Series(check_scores(wrong)).str.contains(message).any()


def test_a_column_of_incidence_is_named_after_its_landmark(mortal):
    faults = check_scores(mortal.rename(columns={"incidence_36": "incidence_at_36"}))
    assert faults == [
        "column 'incidence_at_36': not understood as predicted cumulative incidence; "
        "allowed: incidence_<landmark above 0>, such as incidence_36 or incidence_7.5"
    ]
