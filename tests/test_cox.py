import numpy as np
import pandas as pd
import pytest
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.util import Surv

from rps_utils import cox


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
