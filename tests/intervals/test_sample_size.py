"""Sizes of studies: published examples, and simulations that could refute what stands between C and R2."""

import numpy as np
import pytest
from lifelines import CoxPHFitter
from lifelines.utils import concordance_index
from sklearn.metrics import roc_auc_score

from rps_utils.intervals.sample_size import (
    SE_SLOPE,
    Incidence,
    development_sizes,
    expected_r2,
    incidence_of,
    largest_r2,
    spread_of_log_hazard,
    standard_error_of_c,
    validation_sizes,
)

# The recurrent thrombosis of Riley and others (Stat Med 2019;38:1276): rate 0.065 a year, 2.07 years of follow-up,
# 30 parameters, R2 0.051, risk at 2 years.
THROMBOSIS = Incidence(share=0.065 * 2.07, rate=0.065)


def test_the_published_example_of_thrombosis():
    found = development_sizes(30, 0.051, THROMBOSIS, 2.0)
    assert found["patients"].tolist()[:2] == [5143, 1039]
    assert found["events"].iloc[0] == 692
    assert found["events"].iloc[0] / 30 == pytest.approx(23.07, abs=0.01)
    assert largest_r2(THROMBOSIS.share) == pytest.approx(0.555, abs=5e-4)


def test_the_margin_of_the_mean_risk_is_what_was_asked_for():
    needed = development_sizes(30, 0.051, THROMBOSIS, 2.0)["patients"].iloc[2]
    rates = 0.065 + 1.96 * np.sqrt(0.065 / (needed * 2.07)) * np.array([-1, 1])
    assert THROMBOSIS.by(2) == pytest.approx(0.122, abs=5e-4)
    assert np.abs(-np.expm1(-2 * rates) - THROMBOSIS.by(2)).max() == pytest.approx(0.05, abs=5e-4)


def drawn(spread, n, censored, seed=4):
    draws = np.random.default_rng(seed)
    log_hazard = spread * draws.standard_normal(n)
    recurrence = draws.exponential(60 * np.exp(-log_hazard))
    end = draws.uniform(0, censored, n) if censored else np.full(n, np.inf)
    return np.minimum(recurrence, end), (recurrence <= end).astype(int), log_hazard


def cox(time, event, log_hazard):
    import pandas as pd

    table = pd.DataFrame({"time": time, "event": event, "x": log_hazard})
    return CoxPHFitter().fit(table, "time", "event")


@pytest.mark.parametrize("spread", [0.5, 0.9, 1.3])
def test_spread_and_r2_that_go_with_a_c_index_are_those_of_simulated_patients(spread):
    time, event, log_hazard = drawn(spread, 20_000, None)
    c = concordance_index(time, -log_hazard, event)
    assert spread_of_log_hazard(c) == pytest.approx(spread, rel=0.03)
    ratio = cox(time, event, log_hazard).log_likelihood_ratio_test().test_statistic
    assert expected_r2(c, 1.0) == pytest.approx(-np.expm1(-ratio / len(time)), rel=0.12)


def test_r2_with_many_censored_is_about_that_of_simulated_patients():
    time, event, log_hazard = drawn(0.9, 20_000, 80)
    c = concordance_index(time, -log_hazard, event)
    ratio = cox(time, event, log_hazard).log_likelihood_ratio_test().test_statistic
    assert 0.3 < event.mean() < 0.5
    assert expected_r2(c, event.mean()) == pytest.approx(-np.expm1(-ratio / len(time)), rel=0.2)


def test_the_slope_is_as_uncertain_as_its_size_says():
    time, event, log_hazard = drawn(0.9, 40_000, 80)
    c = concordance_index(time, -log_hazard, event)
    size = validation_sizes(c, incidence_of(time, event), 36)["patients"].iloc[2]
    error = cox(time[:size], event[:size], log_hazard[:size]).standard_errors_.iloc[0]
    assert error == pytest.approx(SE_SLOPE, rel=0.2)


def test_newcombes_error_is_that_of_simulated_areas():
    draws = np.random.default_rng(1)
    sick = np.repeat([1, 0], [60, 140])
    areas = [roc_auc_score(sick, draws.standard_normal(200) + 1.0 * sick) for _ in range(2000)]
    assert standard_error_of_c(np.mean(areas), 0.3, np.array([200]))[0] == pytest.approx(np.std(areas), rel=0.1)
    needed = validation_sizes(0.75, Incidence(0.4, 0.01), 36)["patients"].iloc[1]
    errors = standard_error_of_c(0.75, Incidence(0.4, 0.01).by(36), np.array([0.99 * needed, needed]))
    assert errors[0] > 0.0255 >= errors[1]


def test_more_terms_and_less_to_tell_need_more_patients():
    sizes = [development_sizes(p, r2, THROMBOSIS, 2.0)["patients"].max() for p, r2 in ((5, 0.1), (50, 0.1), (50, 0.02))]
    assert sizes[0] < sizes[1] < sizes[2]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: expected_r2(0.5, 0.4), r"c is 0\.5; allowed: above 0\.5 and below 0\.97"),
        (lambda: expected_r2(1.0, 0.4), r"c is 1; allowed"),
        (lambda: development_sizes(0, 0.1, THROMBOSIS, 2.0), "terms is 0; allowed: 1 or more"),
        (lambda: development_sizes(5, 0.9, THROMBOSIS, 2.0), r"r2 is 0\.9; allowed: above 0, below 0\.555"),
        (lambda: incidence_of([3.0, 4.0], [0, 0]), "none of the patients has the event"),
    ],
)
def test_what_cannot_be_planned_is_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()
