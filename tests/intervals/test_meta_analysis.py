"""Random-effects meta-analysis against published output of R's metafor."""

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import norm, t

from rps_utils.intervals.meta_analysis import pool_effects, pool_intervals, reml_tau2
from rps_utils.lab.levels.pooling import pooling_table

# Colditz 1994: 13 trials of the BCG vaccine; cases and others, vaccinated and not.
BCG = np.array(
    [
        *[(4, 119, 11, 128), (6, 300, 29, 274), (3, 228, 11, 209), (62, 13536, 248, 12619), (33, 5036, 47, 5761)],
        *[(180, 1361, 372, 1079), (8, 2537, 10, 619), (505, 87886, 499, 87892), (29, 7470, 45, 7232)],
        *[(17, 1699, 65, 1600), (186, 50448, 141, 27197), (5, 2493, 3, 2338), (27, 16886, 29, 17825)],
    ],
    float,
)
# Nine laboratories (Kacker 2004), as in the tests of statsmodels, whose values come from metafor.
MEANS = [61.00, 61.40, 62.21, 62.30, 62.34, 62.60, 62.70, 62.84, 65.90]
VARIANCES = [0.2025, 1.2100, 0.0900, 0.2025, 0.3844, 0.5625, 0.0676, 0.0225, 1.8225]


@pytest.fixture
def log_risk_ratios():
    ill, well, ill_control, well_control = BCG.T
    vaccinated, control = ill + well, ill_control + well_control
    variance = 1 / ill - 1 / vaccinated + 1 / ill_control - 1 / control
    return np.log(ill / vaccinated) - np.log(ill_control / control), variance


def test_reml_and_hartung_knapp_agree_with_metafor(log_risk_ratios):
    """``rma(yi, vi, test="knha")`` and ``predict(transf=exp)``, from the page of the package."""
    found = pool_effects(*log_risk_ratios)
    printed = (found.value, found.ci_low, found.ci_high, found.tau2, 100 * found.i2)
    assert np.round(printed[:4], 4).tolist() == [-0.7145, -1.1084, -0.3206, 0.3132]
    assert round(printed[4], 2) == 92.22
    assert found.p_alike < 0.0001
    # metafor takes k - 1 degrees of freedom for the prediction interval, Higgins and others k - 2.
    reach = (found.next_high - found.value) * t.ppf(0.975, 12) / t.ppf(0.975, 11)
    assert np.round(np.exp([found.value - reach, found.value + reach]), 2).tolist() == [0.14, 1.76]


def test_the_error_of_the_mean_agrees_with_metafor_to_the_last_digits():
    """``rma(y, v, method="DL", test="knha")``: tau2 is given, the rest is the same."""
    found = pool_effects(MEANS, VARIANCES, tau2=0.288049246973751)
    assert found.value == pytest.approx(62.3901386044504, abs=1e-11)
    assert (found.ci_low, found.ci_high) == pytest.approx((61.710383798052, 63.0698934108488), abs=1e-10)
    assert found.i2 == pytest.approx(0.67744403741711, abs=1e-12)
    assert found.p_alike == pytest.approx(0.00167935146372742, abs=1e-12)


def test_reml_is_the_top_of_the_restricted_likelihood(log_risk_ratios):
    effects, variances = log_risk_ratios

    def restricted(tau2):
        total = variances + tau2
        mean = np.average(effects, weights=1 / total)
        return -0.5 * (np.log(total).sum() + np.log((1 / total).sum()) + ((effects - mean) ** 2 / total).sum())

    found = reml_tau2(effects, variances)
    assert all(restricted(found) > restricted(found + step) for step in (-1e-3, 1e-3))


def test_estimates_that_agree_too_well_have_no_heterogeneity_and_no_narrower_interval():
    found = pool_effects([0.50, 0.51, 0.49, 0.50], [0.04] * 4)
    assert (found.tau2, found.i2) == (0, 0)
    assert found.ci_high - found.value == pytest.approx(t.ppf(0.975, 3) * 0.1)
    assert found.next_high - found.value == pytest.approx(t.ppf(0.975, 2) * 0.1)


def test_intervals_are_pooled_on_their_own_scale():
    centre, error = logit(np.array([0.6, 0.7, 0.8])), np.array([0.2, 0.3, 0.25])
    low, high = (expit(centre + sign * norm.ppf(0.975) * error) for sign in (-1, 1))
    found, direct = pool_intervals(expit(centre), low, high, scale="logit"), pool_effects(centre, error**2)
    assert found[:5] == pytest.approx([expit(x) for x in direct[:5]])
    assert found[5:] == pytest.approx(direct[5:])
    wide = pool_intervals(np.exp(centre), np.exp(centre - error), np.exp(centre + error), scale="log", level=0.6827)
    assert wide.value == pytest.approx(np.exp(direct.value), abs=1e-4)


@pytest.mark.parametrize(
    ("effects", "variances", "message"),
    [
        ([1, 2], [1, 1], r"2 estimates; allowed: 3 or more; show them one by one"),
        ([1, 2, np.nan], [1, 1, 1], r"effects, row 2: .*nan.* is not allowed; allowed: finite numbers"),
        ([1, 2, 3], [1, 0, 1], r"variances, row 1: .*0.0.* is not allowed; allowed: above 0; leave out"),
    ],
)
def test_what_cannot_be_pooled_is_refused(effects, variances, message):
    with pytest.raises(ValueError, match=message):
        pool_effects(effects, variances)


def test_an_unknown_scale_is_refused():
    with pytest.raises(ValueError, match="scale is 'probit'; allowed: logit, log; logit for C"):
        pool_intervals([0.6] * 3, [0.5] * 3, [0.7] * 3, scale="probit")


def test_a_prediction_interval_meets_a_next_centre_that_the_interval_of_the_mean_misses():
    """Ten centres that differ, 60 cohorts; the committed table has 500 in each row."""
    row = pooling_table(60, [("harrell_c", 10, 100, 0.3)]).iloc[0]
    assert row["mean_covered"] > 0.9 and row["next_covered"] > 0.85
    assert row["next_width"] > 2 * row["mean_width"]
