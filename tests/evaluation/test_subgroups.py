"""Metrics within subgroups and centres: numbers of the rows concerned, refusals below, verdicts above enough events."""

import numpy as np
import pandas as pd
import pytest

from rps_utils.evaluation.decision import net_benefit_rows
from rps_utils.evaluation.discrimination import discrimination_rows
from rps_utils.evaluation.subgroups.centres import centre_lines, pooled_rows, pooled_sentences
from rps_utils.evaluation.subgroups.levels import (
    EVENTS_FOR_NUMBER,
    NOT_KNOWN,
    level_rows,
    level_verdicts,
    verdicts_sentence,
)
from rps_utils.intervals.meta_analysis import pool_intervals
from tests.conftest import draw_cohort
from tests.evaluation.test_evaluation import true_lrfs

B = 200


def judged_cohort(patients, seed=5, **columns):
    """Cross-fitted rows of a model that knows the hazard, and the patients with further columns."""
    cohort = draw_cohort(patients, seed).assign(split="training", **columns)
    risk = 1.2 * cohort["signal"] + 0.05 * (cohort["age"] - 56)
    rows = cohort[["patient_id", "split", "time_months", "event"]].assign(model="True", kind="cross_fitted", risk=risk)
    return rows.assign(lrfs_36=true_lrfs(cohort, 36)), cohort


def test_a_level_has_the_numbers_of_its_patients_alone():
    scores, cohort = judged_cohort(240)
    rows = level_rows(scores, cohort, ["grade", "sex"], landmark=36, thresholds=[0.2, 0.4], n_bootstrap=B)
    assert set(rows["column"]) == {"grade"} and set(rows["level"]) == {"G1", "G2", "G3"}
    own = scores[cohort["grade"].to_numpy() == "G2"]
    found = rows[rows["level"] == "G2"].set_index("metric")
    alone = discrimination_rows(own, tau=36, n_bootstrap=B).set_index("metric")
    assert found.loc["harrell_c", "value"] == alone.loc["harrell_c", "value"]
    assert found.loc["harrell_c", ["n", "events"]].tolist() == [len(own), own["event"].sum()]
    gain = net_benefit_rows(own, [36], [0.2, 0.4], n_bootstrap=B).set_index("metric").loc["net_benefit_over_all_0.4"]
    columns = ["value", "ci_low", "ci_high"]
    assert found.loc["net_benefit_over_all_0.4", columns].tolist() == gain[columns].tolist()
    assert found.loc["observed_expected", "ci_low"] < 1 < found.loc["observed_expected", "ci_high"]


def test_a_level_with_few_events_has_no_number():
    scores, cohort = judged_cohort(240)
    rare = np.where(np.arange(240) < 12, "rare", "usual")
    rows = level_rows(scores, cohort.assign(centre=rare), ["centre"], landmark=36, n_bootstrap=B)
    few = rows[rows["level"] == "rare"]
    assert (few["events"] < EVENTS_FOR_NUMBER).all() and few[["value", "ci_low", "ci_high"]].isna().all(axis=None)
    assert few["note"].str.match(r"\d events, fewer than 10: no number").all()


def test_patients_without_a_value_are_a_level_of_their_own_and_take_no_part_in_verdicts():
    scores, cohort = judged_cohort(240, sex=["female", "male", None] * 80)
    rows = level_rows(scores, cohort, ["sex"], landmark=36, n_bootstrap=B)
    assert set(rows["level"]) == {"female", "male", NOT_KNOWN}
    assert level_verdicts(rows)["levels"].tolist() == [2, 2]


def test_a_column_of_numbers_is_refused():
    scores, cohort = judged_cohort(60)
    with pytest.raises(ValueError, match=r"age has \d\d levels; allowed: 12 at most; cut it into a few groups"):
        level_rows(scores, cohort, ["age"], landmark=36, n_bootstrap=B)


def test_there_is_no_verdict_below_a_hundred_events_whatever_the_difference():
    scores, cohort = judged_cohort(240, sex=["female", "male"] * 120)
    scores["risk"] = np.where(cohort["sex"] == "male", -scores["risk"], scores["risk"])
    found = level_verdicts(level_rows(scores, cohort, ["sex"], landmark=36, n_bootstrap=B))
    assert found["p_alike"].isna().all()
    assert verdicts_sentence(found).startswith("None of 2 comparisons allows a verdict: 100 events in each level")
    assert found["verdict"].str.match(r"no verdict: \d\d events in a level, fewer than 100").all()


@pytest.mark.parametrize(("turned", "said"), [(True, "the levels differ"), (False, "no difference shown")])
def test_with_enough_events_the_verdict_follows_the_truth(turned, said):
    scores, cohort = judged_cohort(600, sex=["female", "male"] * 300, side=["left", "left", "right", "right"] * 150)
    if turned:
        scores["risk"] = np.where(cohort["sex"] == "male", 0.3 * cohort["noise"], scores["risk"])
    found = level_verdicts(level_rows(scores, cohort, ["sex", "side"], landmark=36, n_bootstrap=B))
    of_c = found[found["metric"] == "harrell_c"].set_index("column")
    assert of_c.loc["sex", "verdict"].startswith(said)
    assert of_c.loc["side", "verdict"].startswith("no difference shown")
    assert ("True by sex (harrell_c, cross_fitted)" in verdicts_sentence(found)) is turned


def test_p_is_multiplied_by_the_number_of_columns():
    scores, cohort = judged_cohort(600, sex=["female", "male"] * 300, again=["female", "male"] * 300)
    one, both = (
        level_verdicts(level_rows(scores, cohort, columns, landmark=36, n_bootstrap=B)).query("metric == 'harrell_c'")
        for columns in (["sex"], ["sex", "again"])
    )
    assert both["p_alike"].iloc[0] == pytest.approx(min(1, 2 * one["p_alike"].iloc[0]))


def test_centres_are_pooled_on_the_logit_and_log_scale():
    scores, cohort = judged_cohort(400, centre=list("ABCD") * 100)
    rows = level_rows(scores, cohort, ["centre"], landmark=36, n_bootstrap=B)
    pooled = pooled_rows(rows).set_index("metric")
    for metric, scale in (("harrell_c", "logit"), ("observed_expected", "log")):
        own = rows[rows["metric"] == metric]
        by_hand = pool_intervals(own["value"], own["ci_low"], own["ci_high"], scale=scale)
        assert pooled.loc[metric, ["value", "next_low", "i2"]].tolist() == [by_hand.value, by_hand.next_low, by_hand.i2]
    assert pooled["centres"].tolist() == [4, 4]
    lines = centre_lines(rows, pooled_rows(rows)).set_index("centre")
    assert list(lines.index) == ["A", "B", "C", "D", "mean of the centres", "another centre"]
    assert lines.loc["another centre", "ci_low"] == pooled.loc["harrell_c", "next_low"]
    assert pooled_sentences(pooled_rows(rows))[0].startswith("True, C: mean of 4 centres 0.")


def test_without_three_centres_that_have_a_number_nothing_is_pooled():
    scores, cohort = judged_cohort(160, centre=["A", "B"] * 75 + ["C"] * 10)
    pooled = pooled_rows(level_rows(scores, cohort, ["centre"], landmark=36, n_bootstrap=B))
    assert pooled["value"].isna().all() and pooled["centres"].tolist() == [2, 2]
    said = pooled_sentences(pooled)
    assert said[1] == "True, O/E at 36 months: 2 of 3 centres have a number, fewer than 3: nothing is pooled."


def test_no_scores_give_empty_tables():
    scores, cohort = judged_cohort(60)
    rows = level_rows(scores.iloc[:0], cohort, ["grade"], landmark=36, n_bootstrap=B)
    assert len(rows) == len(level_verdicts(rows)) == len(pooled_rows(rows)) == 0
    assert isinstance(rows, pd.DataFrame) and "level" in rows
