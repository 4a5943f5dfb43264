"""Promised and true shares of patients who outlast their bound, where the truth is known."""

import numpy as np
import pytest

from rps_utils.intervals import conformal

MONTHS = np.linspace(0.01, 60, 1500)  # nobody is followed for longer, so no bound lies beyond
BASELINE = MONTHS / 30  # cumulative hazard of a patient with log hazard 0


def coverage(distort, level, patients=86, cohorts=100, learn=True):
    """Mean true share of outlasting patients, over cohorts censored between 6 and 60 months."""
    draw, shares = np.random.default_rng(7), []
    for _ in range(cohorts):
        log_hazard = draw.normal(size=patients + 200)
        recurrence = np.maximum(draw.exponential(30 * np.exp(-log_hazard[:patients])), 1e-6)
        end = draw.uniform(6, 60, patients)
        time, seen = np.minimum(recurrence, end), distort(log_hazard)
        own = np.maximum(np.exp(-time / 30 * np.exp(seen[:patients])), 1e-300)
        limit = conformal.calibrate(time, recurrence <= end, own, level=level) if learn else -np.log(level)
        bound = conformal.lower_bound(MONTHS, BASELINE, log_hazard=seen[patients:], residual=limit)
        shares.append(np.exp(-bound / 30 * np.exp(log_hazard[patients:])).mean())
    return np.mean(shares)


DISTORTED = {
    "right": lambda r: r,
    "too extreme": lambda r: 2 * r,
    "knows nothing": lambda r: 0 * r,
    "hazard halved": lambda r: r - 0.7,
}


@pytest.mark.parametrize("distort", DISTORTED.values(), ids=DISTORTED)
@pytest.mark.parametrize("level", [0.8, 0.9])
def test_the_promise_is_kept_whatever_the_model_is_worth(distort, level):
    # The rank of one patient in 87, and three standard errors over 100 cohorts.
    assert level - 0.01 <= coverage(distort, level) <= level + 1 / 87 + 0.012


@pytest.mark.parametrize("name", ["too extreme", "knows nothing", "hazard halved"])
def test_without_calibration_the_same_models_break_it(name):
    assert coverage(DISTORTED[name], 0.9, learn=False) < 0.875


def test_uncensored_limit_is_an_order_statistic():
    residual = np.random.default_rng(1).exponential(size=49)
    limit = conformal.calibrate(np.arange(1, 50), np.ones(49), np.exp(-residual), level=0.9)
    assert limit == pytest.approx(np.sort(residual)[5 - 1])


def test_seen_recurrences_stand_for_the_hidden_ones():
    """Four of ten are censored before the fifth month: each recurrence after it counts 10/6 of a patient."""
    time = np.array([1, 2, 3, 4, 5, 6, 7, 8, 9, 10.0])
    event = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 1])
    own = np.exp(-time / 10)
    # One patient (worst case, 10/6) and m earlier ones (10/6 each) among 11: m = 1 gives 0.303, m = 2 0.454.
    assert conformal.calibrate(time, event, own, level=0.65) == pytest.approx(0.6)
    assert conformal.calibrate(time, event, own, level=0.50) == pytest.approx(0.7)


def test_too_few_patients_promise_nothing():
    assert conformal.calibrate([1, 2, 3], [1, 1, 1], [0.9, 0.8, 0.7], level=0.9) == 0
    assert conformal.lower_bound(MONTHS, BASELINE, log_hazard=[-2.0, 0.0, 2.0], residual=0.0).tolist() == [0, 0, 0]


def test_bound_falls_with_the_risk_and_stops_where_nothing_was_observed():
    bound = conformal.lower_bound([10, 20, 30], [0.1, 0.2, 0.4], log_hazard=[2.0, 0.0, -0.5, -9.0], residual=0.2)
    assert bound.tolist() == [10, 20, 30, 30]


def test_share_outlasting_by_hand():
    """One of four recurs before the bound, when three of four censorings are still to come."""
    assert conformal.share_outlasting([5, 6, 7, 8], [1, 0, 0, 0], [6, 6, 6, 6]) == pytest.approx(0.75)
    # The censoring at 4 months leaves 2/3 under observation: the recurrence at 5 stands for 1.5 of 3 patients.
    assert conformal.share_outlasting([4, 5, 9], [0, 1, 0], [6, 6, 6]) == pytest.approx(0.5)
    resampled = conformal.share_outlasting([4, 5, 9], [0, 1, 0], [6, 6, 6], weights=np.array([[1, 1, 1], [1, 0, 2]]))
    assert resampled.tolist() == pytest.approx([0.5, 1.0])


@pytest.mark.parametrize(
    ("arguments", "level", "message"),
    [
        (([1, 2], [1, 0], [0.9, 0.8]), 1.0, "level = 1.0; allowed: between 0 and 1"),
        (([1, 2], [1, 0], [0.9, 1.8]), 0.9, "lrfs_own, row 1: .*1.8"),
        (([1, 2], [1, 0], [0.9, np.nan]), 0.9, "lrfs_own, row 1: .*nan"),
        (([1, -2], [1, 0], [0.9, 0.8]), 0.9, "time, row 1"),
    ],
)
def test_what_is_no_calibration_is_refused(arguments, level, message):
    with pytest.raises(ValueError, match=message):
        conformal.calibrate(*arguments, level=level)
