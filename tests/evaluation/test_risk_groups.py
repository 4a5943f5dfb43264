"""Risk groups: the cut-off comes from training and stays, and death beside recurrence is counted rightly."""

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter

from rps_utils.evaluation import risk_groups
from rps_utils.intervals.cutoffs import maxstat_cutoff
from rps_utils.scores import by_cause
from rps_utils.survival.curves import kaplan_meier, survival_at
from tests.evaluation.test_evaluation import LANDMARKS, one, score_table


@pytest.fixture(scope="module")
def scores():
    return score_table()


def test_validation_takes_its_cutoff_from_cross_fitted_training_scores(scores):
    shifted = scores.assign(risk=scores["risk"] + 10 * (scores["kind"] == "apparent"))
    cutoffs = risk_groups.training_cutoffs(shifted).set_index(["model", "kind"])
    crossed = shifted[(shifted["model"] == "True") & (shifted["kind"] == "cross_fitted")]
    assert cutoffs.loc[("True", "validation"), "cutoff"] == crossed["risk"].median()
    assert cutoffs.loc[("True", "validation"), "learned_from"] == "cross_fitted"
    apparent = score_table(kinds=("apparent", "validation"))
    assert set(risk_groups.training_cutoffs(apparent)["learned_from"]) == {"apparent"}


def test_the_cutoff_never_moves_with_the_validation_scores(scores):
    new = scores["kind"] == "validation"
    moved = scores.assign(risk=np.where(new, scores["risk"] * 3 + 1, scores["risk"]))
    assert risk_groups.training_cutoffs(moved).equals(risk_groups.training_cutoffs(scores))
    away = scores.assign(risk=np.where(new, scores["risk"] + 100, scores["risk"]))
    row = one(risk_groups.risk_group_rows(away), model="True", kind="validation", metric="logrank_p")
    assert np.isnan(row["value"]) and "one side of the training cut-off" in row["note"]


def test_without_training_scores_there_is_no_cutoff(scores):
    new = scores[scores["kind"] == "validation"]
    rows = risk_groups.risk_group_rows(new)
    assert rows["value"].isna().all()
    assert rows["note"].str.contains("no training scores").all()
    assert risk_groups.with_groups(new).empty


def test_training_p_values_are_labelled_as_no_evidence(scores):
    rows = risk_groups.risk_group_rows(scores)
    training = rows["split"] == "training"
    assert rows.loc[training, "note"].str.startswith("not evidence").all()
    assert (rows.loc[~training, "note"] == "").all()


def test_the_hazard_ratio_is_that_of_a_cox_model_on_the_groups(scores):
    grouped = risk_groups.with_groups(scores).query("model == 'True' and kind == 'validation'")
    data = grouped.assign(high=(grouped["group"] == "high").astype(int))[["time_months", "event", "high"]]
    fit = CoxPHFitter().fit(data, "time_months", "event", fit_options={"precision": 1e-12})
    row = one(risk_groups.risk_group_rows(scores), model="True", kind="validation", metric="hazard_ratio")
    interval = np.exp(fit.confidence_intervals_.to_numpy()[0])
    expected = [fit.hazard_ratios_["high"], *interval]
    np.testing.assert_allclose(row[["value", "ci_low", "ci_high"]].to_numpy(float), expected, rtol=1e-5)


def test_group_curves_come_with_numbers_at_risk(scores):
    grouped = risk_groups.with_groups(scores).query("model == 'True' and kind == 'validation'")
    curves, at_risk = risk_groups.group_curves(grouped)
    start = at_risk[at_risk["time"] == 0].set_index("group")["at_risk"]
    assert start.to_dict() == grouped["group"].value_counts().to_dict()
    assert curves.groupby("group")["survival"].apply(lambda s: s.is_monotonic_decreasing).all()


@pytest.mark.parametrize(("last", "step"), [(110, 24), (60, 10), (3000, 500), (7, 2.5)])
def test_numbers_at_risk_stand_at_round_times(last, step):
    times = risk_groups.tick_times(last)
    assert times[0] == 0 and times[-1] <= last
    assert np.diff(times) == pytest.approx(step)


# ---------------------------------------------------------------- rules for the cut-off


def test_a_searched_cutoff_is_that_of_training_with_its_corrected_p(scores):
    cutoffs = risk_groups.training_cutoffs(scores, "maxstat").set_index(["model", "kind"])
    own = scores[(scores["model"] == "True") & (scores["kind"] == "cross_fitted")]
    best = maxstat_cutoff(own["time_months"], own["event"], own["risk"])
    for kind in ("cross_fitted", "validation"):
        found = cutoffs.loc[("True", kind)]
        assert (found["cutoff"], found["p_corrected"], found["learned_from"]) == (
            best.value,
            best.p_corrected,
            "cross_fitted",
        )
    assert (
        cutoffs.loc[("True", "validation"), "p_corrected"] < 0.05 < cutoffs.loc[("Noise", "validation"), "p_corrected"]
    )


def test_a_fixed_cutoff_needs_no_training_rows(scores):
    new = scores[scores["kind"] == "validation"]
    cutoffs = risk_groups.training_cutoffs(new, 0.25)
    assert cutoffs["cutoff"].eq(0.25).all() and cutoffs["learned_from"].eq("given").all()
    assert one(risk_groups.risk_group_rows(new, rule=0.25), model="True", metric="hazard_ratio")["ci_low"] > 1


def test_a_frozen_models_cutoff_comes_with_its_table(scores):
    """Without training rows the column `cutoff` is used; with them, training decides."""
    given = scores.assign(cutoff=0.1)
    new = given[given["kind"] == "validation"]
    cutoffs = risk_groups.training_cutoffs(new)
    assert cutoffs["cutoff"].eq(0.1).all() and cutoffs["learned_from"].eq("given").all()
    grouped = risk_groups.with_groups(new)
    assert (grouped["group"] == "high").equals(grouped["risk"] > 0.1)
    pd.testing.assert_frame_equal(risk_groups.training_cutoffs(given), risk_groups.training_cutoffs(scores))


def test_an_unknown_rule_is_named(scores):
    with pytest.raises(ValueError, match=r"cutoff is 'best'; allowed: None or 'median'.*'maxstat'.*or a number"):
        risk_groups.training_cutoffs(scores, "best")


# ---------------------------------------------------------------- how the groups part


def test_restricted_means_are_areas_under_the_curves(scores):
    rows = risk_groups.risk_group_rows(scores, tau=36.0)
    found = {n: one(rows, model="True", kind="validation", metric=f"rmst_{n}") for n in ("low", "high", "difference")}
    assert found["difference"]["value"] == pytest.approx(found["low"]["value"] - found["high"]["value"])
    own = risk_groups.with_groups(scores).query("model == 'True' and kind == 'validation' and group == 'high'")
    fine = np.arange(0.005, 36, 0.01)
    area = np.mean([survival_at(own["time_months"], own["event"], t) for t in fine]) * 36
    assert found["high"]["value"] == pytest.approx(area, abs=0.01)
    assert found["difference"]["ci_low"] > 0
    noise = one(rows, model="Noise", kind="validation", metric="rmst_difference")
    assert noise["ci_low"] < 0 < noise["ci_high"]


def test_restricted_means_beyond_the_follow_up_are_an_explained_gap(scores):
    rows = risk_groups.risk_group_rows(scores, tau=5000.0)
    rows = rows[rows["metric"].str.startswith("rmst")]
    assert rows["value"].isna().all() and rows["note"].str.contains("beyond the last follow-up").all()


def test_risks_of_the_groups_are_kaplan_meiers(scores):
    rows = risk_groups.risk_group_rows(scores, LANDMARKS)
    own = risk_groups.with_groups(scores).query("model == 'True' and kind == 'validation' and group == 'low'")
    km = kaplan_meier(own["time_months"], own["event"]).query("time <= 36").iloc[-1]
    row = one(rows, model="True", kind="validation", metric="one_minus_km_low", horizon_months=36)
    expected = [1 - km["survival"], 1 - km["ci_high"], 1 - km["ci_low"]]
    np.testing.assert_allclose(row[["value", "ci_low", "ci_high"]].to_numpy(float), expected, rtol=1e-12)
    assert not rows["metric"].str.contains("cumulative_incidence|death").any(), "nobody is known to have died"


def test_a_group_without_events_has_a_named_gap(scores):
    part = scores[(scores["model"] == "True") & (scores["kind"] != "apparent")]
    cutoff = risk_groups.training_cutoffs(part)["cutoff"].iloc[0]
    spared = part.assign(event=part["event"].where((part["risk"] > cutoff) | (part["kind"] != "validation"), 0))
    rows = risk_groups.risk_group_rows(spared, [36], tau=36.0).query("kind == 'validation'")
    ratio = one(rows, metric="hazard_ratio")
    assert np.isnan(ratio["value"]) and ratio["note"].startswith("no event in the low group")
    assert 0 < one(rows, metric="logrank_p")["value"] < 0.05
    assert one(rows, metric="one_minus_km_low")["value"] == 0
    mean = one(rows, metric="rmst_low")
    assert mean["value"] == 36 and np.isnan(mean["ci_low"]) and mean["note"] == "no event by 36"
    assert one(rows, metric="rmst_difference")["note"].startswith("no event in the low group by 36")


# ---------------------------------------------------------------- death without recurrence


@pytest.fixture(scope="module")
def deaths():
    """Half of the censored patients of `True`'s low group died."""
    scores = score_table(400, seed=9, kinds=("cross_fitted", "validation")).query("model == 'True'")
    draw = np.random.default_rng(0).random(len(scores)) < np.where(scores["risk"] > 0, 0.1, 0.6)
    return by_cause(scores.assign(event=scores["event"].mask((scores["event"] == 0) & draw, 2)))


def test_where_deaths_are_known_both_risks_and_both_hazards_stand_side_by_side(deaths):
    rows = risk_groups.risk_group_rows(deaths, [36], tau=36.0).query("kind == 'validation'")
    for group in ("low", "high"):
        beside = one(rows, metric=f"cumulative_incidence_{group}")
        alone = one(rows, metric=f"one_minus_km_{group}")
        assert beside["value"] < alone["value"] and beside["ci_low"] < beside["value"] < beside["ci_high"]
    assert one(rows, metric="hazard_ratio")["ci_low"] > 1, "high risk recurs earlier"
    grouped = risk_groups.with_groups(deaths).query("kind == 'validation'")
    data = grouped.assign(high=(grouped["group"] == "high").astype(int))[["time_months", "died", "high"]]
    fit = CoxPHFitter().fit(data, "time_months", "died", fit_options={"precision": 1e-12})
    ratio = one(rows, metric="death_hazard_ratio")
    assert ratio["value"] == pytest.approx(fit.hazard_ratios_["high"], rel=1e-5)
    assert ratio["note"] == ""


def test_cumulative_incidence_rows_are_the_curves(deaths):
    grouped = risk_groups.with_groups(deaths).query("kind == 'validation'")
    curves = risk_groups.incidence_curves(grouped).query("group == 'high' and time <= 36").iloc[-1]
    rows = risk_groups.risk_group_rows(deaths, [36]).query("kind == 'validation'")
    assert one(rows, metric="cumulative_incidence_high")["value"] == pytest.approx(curves["incidence"])
    assert one(rows, metric="one_minus_km_high")["value"] == pytest.approx(curves["one_minus_km"])


def test_without_deaths_there_is_no_incidence_to_draw(scores):
    assert risk_groups.incidence_curves(risk_groups.with_groups(scores)).empty
