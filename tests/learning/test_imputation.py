"""Gaps filled several times: Rubin's rules against R, fillings against a known truth, and nobody teaches his judge."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from lifelines.datasets import load_lung
from scipy import stats

from rps_utils.files import read_csv
from rps_utils.lab.levels import tables
from rps_utils.lab.levels.imputation import TRUTH, patients_without_gaps, three_ways
from rps_utils.learning import cox, fusion
from rps_utils.learning.refits.imputation import (
    blank_at_random,
    filling_table,
    fillings,
    pool_fillings,
    pooled_cox,
    pooled_risk,
)
from rps_utils.survival.concordance import harrell_c
from tests.conftest import draw_cohort

R = json.loads((Path(__file__).parents[1] / "reference" / "imputation.json").read_text(encoding="utf-8"))
TABLE = Path(tables.__file__).parent / "results" / "imputation.csv"
COLUMNS = ["signal", "age", "grade"]


def parts(cohort):
    return (cohort[cohort["split"] == part] for part in ("training", "validation"))


def gappy(patients=160, column="signal", share=0.3):
    return blank_at_random(draw_cohort(patients), column, "age", share)


@pytest.mark.parametrize(("size", "left"), [("large", np.inf), ("small", 19)])
def test_three_estimates_are_pooled_as_by_pool_scalar_of_mice(size, left):
    found, expected = pool_fillings([1, 2, 4], [0.5, 0.4, 0.6], left).iloc[0], R["scalar"][size]
    assert found["estimate"] == pytest.approx(expected["qbar"], rel=1e-10)
    assert found["se"] ** 2 == pytest.approx(expected["t"], rel=1e-10)
    assert found[["df", "fmi"]].tolist() == pytest.approx([expected["df"], expected["fmi"]], rel=1e-10)


def test_cox_models_are_pooled_as_by_pool_of_mice():
    """Five fillings of survival::lung by mice, fitted by coxph; their degrees of freedom are events less terms."""
    few = R["few"]
    found = pool_fillings(few["estimates"], few["variances"], few["dfcom"])
    for column in ("estimate", "se", "low", "high", "df", "fmi"):
        np.testing.assert_allclose(found[column], few[column], rtol=1e-7, atol=1e-11, err_msg=column)
    assert few["dfcom"] == 165 - len(R["terms"])


def test_equal_fillings_leave_nothing_missing():
    found = pool_fillings([1.5, 1.5, 1.5], [0.04, 0.04, 0.04]).iloc[0]
    assert found["fmi"] == 0 and np.isinf(found["df"]) and found["se"] == pytest.approx(0.2)
    assert found["high"] == pytest.approx(1.5 + stats.norm.ppf(0.975) * 0.2)


@pytest.mark.parametrize(
    ("estimates", "variances", "left", "message"),
    [
        ([1.0], [0.1], 9, "two fillings or more"),
        ([1.0, 2.0], [0.1], 9, "one of each a term"),
        ([1.0, np.nan], [0.1, 0.1], 9, "look for a fit that failed"),
        ([1.0, 2.0], [0.1, 0.0], 9, "variances and complete_df above 0"),
        ([1.0, 2.0], [0.1, 0.1], 0, "variances and complete_df above 0"),
    ],
)
def test_what_cannot_be_pooled_is_refused(estimates, variances, left, message):
    with pytest.raises(ValueError, match=message):
        pool_fillings(estimates, variances, left)


def test_lung_comes_out_as_by_mice():
    """Of 228 patients 61 lack something, calories above all. Other draws, so within a band of standard errors."""
    lung = load_lung().rename(columns={"time": "time_months", "status": "event"})
    lung = lung.assign(patient_id=[f"L{i}" for i in range(len(lung))])
    made = fillings(lung, lung.head(1), R["terms"], m=20, seed=1)
    found, many = pooled_cox(lung, made), R["many"]
    assert (np.abs(found["estimate"] - many["estimate"]) / many["se"]).max() < 0.3
    np.testing.assert_allclose(found["se"], many["se"], rtol=0.06)
    assert found.loc["meal.cal", "fmi"] == pytest.approx(many["fmi"][-1], abs=0.12)
    whole = lung.dropna(subset=R["terms"])
    alone = cox.fit_lifelines(whole.set_index("patient_id")[R["terms"]], whole)
    assert (np.abs(alone.params_.to_numpy() - many["estimate"]) / many["se"]).max() > 0.3, "complete cases do differ"


def test_what_is_known_stays_and_no_gap_is_left():
    training, validation = parts(blank_at_random(gappy(), "grade", "age", 0.2, seed=4))
    made = fillings(training, validation, COLUMNS, m=3)
    design = cox.learn_design(training, COLUMNS)
    for rows, of in ((training, "training"), (validation, "judged")):
        terms, own = design.matrix(rows), rows.set_index("patient_id")
        for filling in made:
            matrix = getattr(filling, of)
            assert list(matrix) == list(terms) and matrix.notna().all(axis=None)
            known = own["signal"].notna()
            np.testing.assert_allclose(matrix.loc[known, "signal"], terms.loc[known, "signal"])
            levels = [c for c in terms if c.startswith("grade")]
            assert (matrix.loc[own["grade"].notna(), levels] == terms.loc[own["grade"].notna(), levels]).all(axis=None)
            assert set(matrix[levels].to_numpy().ravel()) == {0.0, 1.0} and (matrix[levels].sum(axis=1) <= 1).all()
    gaps = training.set_index("patient_id")["signal"].isna()
    assert (made[0].training.loc[gaps, "signal"] != made[1].training.loc[gaps, "signal"]).all()


def test_the_same_seed_gives_the_same_fillings_and_another_one_others():
    training, validation = parts(gappy(80))
    one, again, other = (fillings(training, validation, COLUMNS, m=2, seed=s) for s in (1, 1, 2))
    pd.testing.assert_frame_equal(one[1].judged, again[1].judged)
    assert not one[1].training.equals(other[1].training)


def test_nobody_to_be_judged_teaches_a_filling_and_no_outcome_of_theirs_is_asked():
    training, validation = parts(gappy(120))
    alone = validation[["patient_id", *COLUMNS]]
    before = fillings(training, alone, COLUMNS, m=2)
    spoiled = alone.assign(age=alone["age"] + 30)
    after = fillings(training, spoiled, COLUMNS, m=2)
    pd.testing.assert_frame_equal(before[0].training, after[0].training)
    others = fillings(training.assign(event=1 - training["event"]), alone, COLUMNS, m=2)
    pd.testing.assert_frame_equal(before[0].judged, others[0].judged)
    assert not before[0].training.equals(others[0].training), "the gaps of those who teach are drawn given the outcome"


def test_a_column_with_gaps_in_those_to_be_judged_only_is_learned():
    training, validation = parts(draw_cohort(200))
    follows = training["signal"] * 2
    training, validation = training.assign(twice=follows), validation.assign(twice=np.nan)
    drawn = fillings(training, validation, ["signal", "twice"], m=2)[0].judged
    assert np.corrcoef(drawn["twice"], drawn["signal"])[0, 1] > 0.95


def test_drawn_levels_are_as_common_as_the_levels_that_were_blanked():
    cohort = draw_cohort(2000).assign(split="training")
    cohort["grade"] = np.random.default_rng(1).choice(["G1", "G2", "G3"], 2000, p=[0.6, 0.3, 0.1])
    gaps = blank_at_random(cohort, "grade", "age", 0.3)
    lost = gaps["grade"].isna().to_numpy()
    drawn = fillings(gaps, gaps.head(1), ["grade", "age", "signal"], m=5)
    shares = np.mean([f.training.loc[lost, ["grade: G2", "grade: G3"]].mean() for f in drawn], axis=0)
    assert shares == pytest.approx([0.3, 0.1], abs=0.06), "the single fill has 0 of both"


def test_the_risk_is_the_mean_over_the_fillings():
    training, validation = parts(gappy(120))
    made = fillings(training, validation, ["signal", "age"], m=2)
    by_hand = []
    for filling in made:
        fit = cox.fit_lifelines(filling.training, training, 0.1)
        by_hand.append((filling.judged - filling.training.mean()) @ fit.params_)
    np.testing.assert_allclose(pooled_risk(training, made, 0.1), (by_hand[0] + by_hand[1]) / 2, rtol=1e-6)


def test_a_separated_term_stays_empty():
    training, validation = parts(gappy(120))
    nobody = training.loc[training["event"] == 0, "patient_id"].head(8)
    training, validation = (p.assign(rare=p["patient_id"].isin(nobody).astype(float)) for p in (training, validation))
    found = pooled_cox(training, fillings(training, validation, ["age", "signal", "rare"], m=3))
    assert found.loc["rare", ["estimate", "se", "fmi"]].isna().all() and found.loc["rare", "note"].startswith(
        "separated"
    )
    assert found.loc[["age", "signal"], "estimate"].notna().all()


def test_without_gaps_both_halves_of_the_table_say_the_same(cohort):
    table = filling_table(cohort, COLUMNS, 0.1, m=2).set_index("term")
    np.testing.assert_allclose(table["single"], table["multiple"], rtol=1e-6)
    terms = table.index.drop(["C, cross-fitted", "C, validation"])
    assert (table.loc[terms, "fmi"] == 0).all() and table.loc["C, validation", ["single_se", "fmi"]].isna().all()
    scores, _ = fusion.cox_scores(cohort, fusion.FusionPlan("Clinical", COLUMNS, 0.1), None, [36])
    for kind, row in (("cross_fitted", "C, cross-fitted"), ("validation", "C, validation")):
        rows = scores[scores["kind"] == kind]
        assert table.loc[row, "single"] == pytest.approx(harrell_c(rows["time_months"], rows["event"], rows["risk"]))


def test_with_gaps_the_table_says_how_much_is_missing():
    table = filling_table(gappy(200, share=0.4), ["signal", "age"], 0.1, m=6).set_index("term")
    assert 0.15 < table.loc["signal", "fmi"] < 0.8
    assert table.loc["signal", "multiple_se"] > table.loc["signal", "single_se"]
    assert table.loc["signal", "multiple"] == pytest.approx(1.2, abs=0.5)
    assert table.loc["C, cross-fitted", "multiple"] > 0.6 and table.loc["C, validation", "multiple"] > 0.6


def test_cells_are_blanked_the_more_often_the_higher_the_driver():
    cohort = draw_cohort(4000)
    lost = blank_at_random(cohort, "signal", "age", 0.3)["signal"].isna()
    assert lost.mean() == pytest.approx(0.3, abs=0.03)
    old = cohort["age"] > cohort["age"].median()
    assert lost[old].mean() == pytest.approx(0.45, abs=0.04) and lost[~old].mean() == pytest.approx(0.15, abs=0.04)
    assert cohort["signal"].notna().all()
    with pytest.raises(ValueError, match=r"allowed: above 0, at most 0\.5"):
        blank_at_random(cohort, "signal", "age", 0.6)


def test_no_filling_is_refused(cohort):
    with pytest.raises(ValueError, match="m = 0 fillings"):
        fillings(*parts(cohort), COLUMNS, m=0)


def test_the_committed_table_is_that_of_these_functions():
    """Three of its 500 cohorts; whoever changes the fillings makes the table anew (`rps study levels`)."""
    table = read_csv(TABLE).set_index(["n", "driver", "way", "term"])
    assert set(table["replicates"]) == {500}
    many, one = (table.xs(way, level="way") for way in ("multiple imputation", "single fill"))
    assert many["covered"].between(0.935, 0.985).all() and (one["covered"] < many["covered"]).all()
    assert one.loc[(300, "age", "age"), "high"] < 0.85, "the age takes over what the filled sizes have lost"
    covered, widths = [], []
    for i in range(3):
        gaps = blank_at_random(patients_without_gaps(300, [7, 300, i]), "size_cm", "age", 0.3, seed=i)
        found = three_ways(gaps, 10, i).loc["multiple imputation"]
        truth = found.index.map(TRUTH)
        covered += ((found["low"] <= truth) & (truth <= found["high"])).tolist()
        widths.append(found.loc["size_cm", "high"] - found.loc["size_cm", "low"])
    assert sum(covered) >= 4
    assert np.mean(widths) == pytest.approx(table.loc[(300, "age", "multiple imputation", "size_cm"), "width"], rel=0.2)
