import numpy as np
import pandas as pd
import pytest
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.util import Surv

from rps_utils.learning import cox


def test_coefficients_and_survival_equal_another_library(cohort):
    matrix = cohort.set_index("patient_id")[["signal", "age"]]
    model = cox.fit_cox(matrix, cohort)
    outcome = Surv.from_arrays(cohort["event"] == 1, cohort["time_months"])
    other = CoxPHSurvivalAnalysis(ties="efron", tol=1e-12).fit(matrix, outcome)
    np.testing.assert_allclose(model.coefficients, other.coef_, rtol=1e-7)
    curves = other.predict_survival_function(matrix.iloc[:5])
    expected = [[curve(t) for t in (12, 36, 60)] for curve in curves]
    np.testing.assert_allclose(model.lrfs(matrix.iloc[:5], [12, 36, 60]), expected, atol=2e-3)


def test_higher_risk_means_lower_lrfs_and_earlier_recurrence(cohort):
    matrix = cohort.set_index("patient_id")[["signal"]]
    model = cox.fit_cox(matrix, cohort)
    assert 0.7 < model.coefficients[0] < 1.7  # the cohort was drawn with 1.2
    order = model.risk(matrix).sort_values().index
    assert (np.diff(model.lrfs(matrix, [36]).loc[order, "lrfs_36"]) <= 0).all()


def test_a_landmark_beyond_the_follow_up_has_no_prediction(cohort):
    matrix = cohort.set_index("patient_id")[["signal"]]
    predicted = cox.fit_cox(matrix, cohort).lrfs(matrix, [0.1, 36, 500])
    assert (predicted["lrfs_0.1"] == 1).all()
    assert predicted["lrfs_36"].between(0, 1).all()
    assert predicted["lrfs_500"].isna().all()


def test_a_model_survives_being_written_as_json(cohort):
    matrix = cohort.set_index("patient_id")[["signal", "age"]]
    model = cox.fit_cox(matrix, cohort)
    again = cox.CoxModel(**model.as_dict())
    pd.testing.assert_frame_equal(again.lrfs(matrix, [12]), model.lrfs(matrix, [12]))


def test_design_learns_medians_and_levels_from_its_own_patients(cohort):
    training = cohort.head(60).copy()
    training["site"] = ["left"] * 30 + ["right"] * 28 + ["midline"] * 2
    training.loc[0, "age"] = np.nan
    design = cox.learn_design(training, ["age", "site"])
    assert design.levels == {"site": ["left", "right"]}  # two midline tumours carry no term
    new = pd.DataFrame({"patient_id": ["N1", "N2"], "age": [np.nan, 70.0], "site": ["nowhere", "right"]})
    matrix = design.matrix(new)
    assert matrix.loc["N1", "age"] == training["age"].median()
    assert list(matrix["site: right"]) == [0.0, 1.0]


@pytest.mark.parametrize(
    ("columns", "message"),
    [(["weight"], r"clinical_columns names \['weight'\], not in the manifest"), (["empty"], "have no value")],
    ids=["unknown column", "empty column"],
)
def test_design_refuses(cohort, columns, message):
    with pytest.raises(ValueError, match=message):
        cox.learn_design(cohort.assign(empty=np.nan), columns)


def test_repeated_terms_do_not_pass_as_a_fit(cohort):
    matrix = cohort.set_index("patient_id")[["signal"]].assign(twin=lambda m: m["signal"])
    with pytest.raises(ValueError, match="did not converge: use fewer terms, or ridge > 0"):
        cox.fit_cox(matrix, cohort)


def test_ridge_draws_coefficients_towards_zero(cohort):
    matrix = cohort.set_index("patient_id")[["signal", "noise"]]
    free, drawn = cox.fit_cox(matrix, cohort), cox.fit_cox(matrix, cohort, ridge=1.0)
    assert abs(drawn.coefficients[0]) < 0.7 * abs(free.coefficients[0])


def test_separation_is_noted_not_believed(cohort):
    separated = cohort.assign(flag=((cohort["event"] == 0) & (cohort["noise"] > 0.5)).astype(float))
    table = cox.hazard_ratios(cox.fit_lifelines(separated.set_index("patient_id")[["flag"]], separated))
    assert table.loc[0, "note"].startswith("separated")


def test_univariable_table_tests_a_whole_categorical_column(cohort):
    table = cox.univariable_table(cohort, ["signal", "grade"])
    assert list(table["term"]) == ["signal", "grade: G2", "grade: G3"]
    assert table.loc[0, "column_p"] < 1e-4 < 0.01 < table.loc[1, "column_p"]
    assert table.loc[0, "ci_low"] > 1


def test_likelihood_ratio_of_nested_models(cohort):
    matrix = cohort.set_index("patient_id")[["age", "signal", "noise"]]
    small, signal, noise = (
        cox.fit_lifelines(matrix[terms], cohort) for terms in (["age"], ["age", "signal"], ["age", "noise"])
    )
    assert cox.likelihood_ratio_p(signal, small) < 1e-4
    assert cox.likelihood_ratio_p(noise, small) > 0.01
    assert cox.events_per_term(cohort, matrix) == cohort["event"].sum() / 3


# ---------------------------------------------------------------- few events, separation

MONTHS = [3, 5, 6, 8, 9, 12, 14, 15, 18, 21, 24, 26, 30, 33, 36, 40]
EVENTS = [1, 1, 1, 0, 1, 1, 0, 1, 0, 1, 0, 1, 0, 0, 0, 0]
FLAG = [0, 0, 0, 1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 1, 1, 0]  # nobody with it recurs
MARKER = [0.5, 1.2, -0.3, 0.1, 0.9, -1.1, 0.4, 0.2, -0.6, 0.8, -0.2, -1.4, 0.3, -0.9, -0.5, 0.6]


def test_firths_penalty_gives_what_another_library_gives():
    """Values of firthmodels 0.8.2 (held by its authors to R's coxphf), which stops at a step of 1e-6."""
    table = pd.DataFrame({"patient_id": range(16), "time_months": MONTHS, "event": EVENTS})
    matrix = pd.DataFrame({"flag": FLAG, "marker": MARKER}, index=pd.Index(range(16), name="patient_id"), dtype=float)
    firth = cox.firth_ratios(matrix, table)
    np.testing.assert_allclose(np.log(firth["hazard_ratio"]), [-2.16924295, 0.09766162], rtol=1e-5)
    np.testing.assert_allclose(np.log(firth["ci_low"]), [-7.04379362, -0.713910758], rtol=1e-5)
    np.testing.assert_allclose(np.log(firth["ci_high"]), [-0.00637834376, 1.08411258], rtol=1e-4)
    np.testing.assert_allclose(firth["p"], [0.04917177, 0.82333737], rtol=1e-5)
    assert cox.hazard_ratios(cox.fit_lifelines(matrix, table))["note"].str.startswith("separated").tolist() == [
        True,
        False,
    ]


def test_firths_estimate_of_one_event_is_known_by_hand():
    """One event, with the factor, among 2 with and 3 without: log p + log(p (1 - p)) / 2 peaks at p = 3/4."""
    table = pd.DataFrame({"patient_id": range(5), "time_months": [1, 2, 3, 4, 5], "event": [1, 0, 0, 0, 0]})
    matrix = pd.DataFrame({"factor": [1.0, 1, 0, 0, 0]}, index=pd.Index(range(5), name="patient_id"))
    assert cox.firth_ratios(matrix, table)["hazard_ratio"][0] == pytest.approx(3 * 3 / 2, rel=1e-5)


def test_firth_moves_little_where_events_are_many(cohort):
    matrix = cohort.set_index("patient_id")[["signal", "noise"]]
    free, firth = cox.hazard_ratios(cox.fit_lifelines(matrix, cohort)), cox.firth_ratios(matrix, cohort)
    np.testing.assert_allclose(firth["hazard_ratio"], free["hazard_ratio"], rtol=0.03)
    np.testing.assert_allclose(firth[["ci_low", "ci_high"]], free[["ci_low", "ci_high"]], rtol=0.06)


def test_few_events_for_the_terms_are_warned_of(cohort):
    matrix = cohort.set_index("patient_id")[["signal", "noise", "age"]]
    few = cohort.assign(event=cohort["event"].where(cohort["event"].cumsum() <= 12, 0))
    assert cox.events_warning(few, matrix).startswith(
        "WARNING: 4.0 events for each of 3 terms, fewer than 10: use fewer"
    )
    assert cohort["event"].sum() >= 30 and cox.events_warning(cohort, matrix) == ""


def test_lrfs_at_the_own_time_is_that_of_the_curve(cohort):
    matrix = cohort.set_index("patient_id")[["signal"]]
    model = cox.fit_cox(matrix, cohort)
    own = model.lrfs_at(matrix.iloc[:3], pd.Series([9999.0, 36.0, 12.0], matrix.index[[2, 1, 0]]))
    curve = model.lrfs(matrix.iloc[:3], [12, 36, model.times[-1]])
    np.testing.assert_allclose(own, [curve.iloc[0, 0], curve.iloc[1, 1], curve.iloc[2, 2]])


def test_a_curve_adds_the_spline_term_of_hmisc_and_keeps_its_knots(cohort):
    """Harrell's truncated power basis, by its definition; with 90 patients the outer knots are the fifth values."""
    training = cohort[cohort["split"] == "training"]
    design = cox.learn_design(training, ["rcs(age)", "grade"])
    low, middle, high = design.knots["age"]
    ages = np.sort(training["age"].to_numpy())
    assert (low, high) == (ages[4], ages[-5]) and middle == np.median(ages)
    x = np.array([low - 5, (low + middle) / 2, high + 7])
    cube = np.maximum(x - np.array([[low], [middle], [high]]), 0) ** 3
    ratio = np.array([1, -(high - low) / (high - middle), (middle - low) / (high - middle)])
    rows = pd.DataFrame({"patient_id": list("ABC"), "age": x, "grade": "G1"})
    found = design.matrix(rows)
    assert list(found) == ["age", "age, bend", "grade: G2", "grade: G3"]
    np.testing.assert_allclose(found["age, bend"], ratio @ cube / (high - low) ** 2, atol=1e-9)


def test_a_curve_fills_gaps_by_the_median_and_a_design_without_knots_has_lines(cohort):
    design = cox.learn_design(cohort, ["rcs(age)"])
    gap = pd.DataFrame({"patient_id": ["A", "B"], "age": [np.nan, design.medians["age"]]})
    filled = design.matrix(gap)
    assert (filled.loc["A"] == filled.loc["B"]).all() and filled.notna().all(axis=None)
    older = {name: value for name, value in vars(design).items() if name != "knots"}
    assert list(cox.Design(**older).matrix(gap)) == ["age"]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (
            "rcs(grade)",
            r"rcs\(grade\): words in training; allowed: 8 different ones or more, .*; ask for grade, a line",
        ),
        ("rcs(organs)", r"rcs\(organs\): 3 different numbers in training; allowed: 8 different ones"),
        ("rcs(gone)", r"clinical_columns names \['gone'\], not in the manifest"),
    ],
)
def test_a_column_that_cannot_bend_is_refused(cohort, column, message):
    cohort["organs"] = np.arange(len(cohort)) % 3
    with pytest.raises(ValueError, match=message):
        cox.learn_design(cohort, [column, "age"])
