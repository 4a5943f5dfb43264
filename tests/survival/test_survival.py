import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from lifelines import AalenJohansenFitter, CoxPHFitter, KaplanMeierFitter
from lifelines.statistics import multivariate_logrank_test
from lifelines.utils import concordance_index
from sksurv.metrics import brier_score as sksurv_brier
from sksurv.metrics import cumulative_dynamic_auc
from sksurv.util import Surv

from rps_utils.lab.levels import coverage
from rps_utils.survival import calibration
from rps_utils.survival.brier import brier_score, integrated_brier, ipa
from rps_utils.survival.calibration import (
    calibration_curve,
    calibration_errors,
    calibration_groups,
    calibration_slope,
    calibration_slope_interval,
    certain_note,
    d_calibration,
    errors_if_calibrated,
    ici,
    ici_e50_e90,
    observed_expected,
    observed_expected_overall,
    spline_knots,
    within_bounds,
)
from rps_utils.survival.concordance import harrell_c, pair_counts, uno_c
from rps_utils.survival.curves import (
    count_steps,
    cumulative_incidence,
    event_curve,
    incidence_curve,
    kaplan_meier,
    logrank,
    median_survival,
    rmst,
    rmst_difference,
    survival_at,
)
from rps_utils.survival.decision import gain_over_all, net_benefit, net_benefit_at
from rps_utils.survival.follow_up import at_risk, horizon_note
from rps_utils.survival.partial_likelihood import (
    baseline_hazard,
    fit_partial_likelihood,
    ph_score_test,
    score_test_at_zero,
)
from rps_utils.survival.roc import integrated_td_auc, roc_curve_at, td_auc

MONTHS = np.arange(1.0, 7.0)
EVERYBODY = np.ones(6, int)
FALLING = np.array([6.0, 5, 4, 3, 2, 1])


def draw(n=60, seed=3, ties=False, effect=1.0):
    """Exponential follow-up with hazard exp(effect * risk) / 30, censored uniformly; whole months give ties."""
    random = np.random.default_rng(seed)
    risk = random.normal(size=n)
    recurrence, visit = random.exponential(30 * np.exp(-effect * risk)), random.uniform(5, 70, n)
    time = np.minimum(recurrence, visit).clip(0.1)
    return (np.ceil(time) if ties else time), (recurrence <= visit).astype(int), np.round(risk, 1 if ties else 12)


def lrfs_at(risk, horizon=24):
    return np.exp(-horizon / 30 * np.exp(risk))


# time, event, risk, Harrell's C worked out by hand: won / usable pairs
PAIRS = {
    "perfect": (MONTHS, EVERYBODY, FALLING, 15 / 15),
    "reversed": (MONTHS, EVERYBODY, -FALLING, 0 / 15),
    "constant score counts one half": (MONTHS, EVERYBODY, np.zeros(6), 7.5 / 15),
    "two events at once are not used": ([1, 1, 2], [1, 1, 1], [3, 1, 2], 1 / 2),
    "event and censoring at once are used": ([1, 1, 2], [1, 0, 0], [3, 1, 2], 2 / 2),
    "tied risks count one half": ([1, 2, 3], [1, 1, 0], [5, 5, 1], 2.5 / 3),
    "heavy censoring leaves one event": ([1, 2, 3, 4], [0, 1, 0, 0], [9, 5, 7, 1], 1 / 2),
    "one swap": (MONTHS, EVERYBODY, [6, 5, 3, 4, 2, 1], 14 / 15),
}


@pytest.mark.parametrize(("time", "event", "risk", "c"), PAIRS.values(), ids=PAIRS)
def test_harrell_c_by_hand(time, event, risk, c):
    assert harrell_c(time, event, risk) == pytest.approx(c, abs=1e-15)
    counts = pair_counts(time, event, risk)
    usable = counts.concordant + counts.discordant + counts.tied_risk
    assert (counts.concordant + counts.tied_risk / 2) / usable == pytest.approx(c, abs=1e-15)


@pytest.mark.parametrize("ties", [False, True])
def test_harrell_c_equals_lifelines_with_the_sign_turned(ties):
    time, event, risk = draw(ties=ties)
    assert harrell_c(time, event, risk) == pytest.approx(concordance_index(time, -risk, event), abs=1e-14)


def test_uno_c_by_hand():
    # G(3-) = 3/4 after the censoring at 2: the pair begun at 3 weighs 16/9, each of the three begun at 1 weighs 1.
    time, event, risk = [1, 2, 3, 4], [1, 0, 1, 0], [4, 3, 1, 2]
    g = 1 - 1 / 3
    assert uno_c(time, event, risk, 10) == pytest.approx((3 + 0 / g**2) / (3 + 1 / g**2), abs=1e-15)
    assert uno_c(time, event, risk, 2) == 1.0


def test_uno_c_counts_an_event_exactly_at_tau():
    assert uno_c([1, 2, 3], [1, 1, 1], [1, 3, 2], 2) == pytest.approx(1 / 3)
    assert uno_c([1, 2, 3], [1, 1, 1], [1, 3, 2], 1.9) == 0.0


def test_uno_c_without_censoring_is_harrell_c():
    time, _, risk = draw()
    everybody = np.ones(len(time))
    assert uno_c(time, everybody, risk, 1e9) == pytest.approx(harrell_c(time, everybody, risk))


def test_censored_and_event_at_one_time_the_event_comes_first():
    # The patient censored at 2 was at risk with the event at 2: of three left after it, one is censored.
    case = td_auc([1, 2, 2, 3, 4, 4], [1, 1, 0, 1, 0, 0], [6, 5, 4, 1, 3, 2], 3)
    weight = 1 / (1 - 1 / 4)  # the event at 3 after G fell by one of the four at risk of censoring at 2
    assert case == pytest.approx((2 + 2 + 0 * weight) / (2 * (2 + weight)))


def test_auc_and_brier_equal_scikit_survival_where_no_event_meets_a_censoring():
    time, event, risk = draw(n=80)
    y, times = Surv.from_arrays(event == 1, time), [12.0, 24.0]
    found = [td_auc(time, event, risk, t) for t in times]
    np.testing.assert_allclose(found, cumulative_dynamic_auc(y, y, risk, times)[0], atol=1e-12)
    lrfs = np.column_stack([lrfs_at(risk, t) for t in times])
    found = [brier_score(time, event, lrfs[:, k], t) for k, t in enumerate(times)]
    np.testing.assert_allclose(found, sksurv_brier(y, y, lrfs, times)[1], atol=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_area_under_the_roc_curve_is_the_auc(ties):
    time, event, risk = draw(ties=ties)
    curve = roc_curve_at(time, event, risk, 24)
    assert np.trapezoid(curve["tpr"], curve["fpr"]) == pytest.approx(td_auc(time, event, risk, 24), abs=1e-13)
    assert curve[["fpr", "tpr"]].iloc[[0, -1]].to_numpy().tolist() == [[0, 0], [1, 1]]


def test_brier_by_hand():
    # No censoring before 3: the mean of lrfs^2 over events and (1 - lrfs)^2 over the others.
    lrfs = np.array([0.1, 0.2, 0.7, 0.9, 0.9, 0.6])
    assert brier_score(MONTHS, [1, 1, 0, 1, 0, 0], lrfs, 2.5) == pytest.approx(
        (0.01 + 0.04 + 0.09 + 0.01 + 0.01 + 0.16) / 6
    )


def test_ipa_is_zero_for_kaplan_meier_and_one_for_a_prophet():
    time, event, _ = draw()
    km = np.full(len(time), survival_at(time, event, 24))
    assert ipa(time, event, km, 24) == pytest.approx(0, abs=1e-14)
    assert ipa(MONTHS, EVERYBODY, (MONTHS > 3).astype(float), 3) == 1.0


def test_integrated_brier_is_the_trapezoid_of_brier():
    time, event, risk = draw()
    grid = np.array([6.0, 12, 30])
    matrix = np.column_stack([lrfs_at(risk, t) for t in grid])
    scores = [brier_score(time, event, matrix[:, k], t) for k, t in enumerate(grid)]
    by_hand = (6 * (scores[0] + scores[1]) / 2 + 18 * (scores[1] + scores[2]) / 2) / 24
    assert integrated_brier(time, event, matrix, grid) == pytest.approx(by_hand, abs=1e-14)


@pytest.mark.parametrize("ties", [False, True])
def test_kaplan_meier_equals_lifelines(ties):
    time, event, _ = draw(ties=ties)
    table = kaplan_meier(time, event)
    fitter = KaplanMeierFitter().fit(time, event)
    np.testing.assert_allclose(table["survival"], fitter.survival_function_.to_numpy()[1:, 0], atol=1e-14)
    limits = table[["ci_low", "ci_high"]][table["survival"].between(1e-9, 1 - 1e-9)].to_numpy()
    theirs = fitter.confidence_interval_survival_function_.to_numpy()[1:]
    np.testing.assert_allclose(limits, theirs[table["survival"].between(1e-9, 1 - 1e-9)], atol=1e-12)


def test_number_at_risk_counts_those_whose_time_is_t():
    assert at_risk([1, 2, 2, 3], [0, 2, 2.5, 4]).tolist() == [4, 3, 1, 0]


def test_the_median_is_the_middle_of_a_stretch_at_one_half():
    assert median_survival([1, 2, 3, 4], [1, 1, 1, 1]).value == 2.5
    assert median_survival([1, 2, 3], [1, 1, 1]).value == 2
    not_reached = median_survival([1, 2, 3], [1, 0, 0])
    assert np.isnan(not_reached.value) and not_reached.note == "the curve does not fall to 0.5"


def test_rmst_by_hand_and_its_standard_error():
    mean = rmst([2, 4, 6, 8], [1, 1, 1, 1], 6)
    assert mean.value == pytest.approx(2 + 2 * 0.75 + 2 * 0.5)
    # Greenwood with areas left of 2.5 after month 2 and 1.0 after month 4
    variance = 2.5**2 * 1 / (4 * 3) + 1.0**2 * 1 / (3 * 2)
    assert (mean.ci_high - mean.value) / 1.959963984540054 == pytest.approx(np.sqrt(variance))


@pytest.mark.parametrize("groups", [2, 3])
def test_logrank_equals_lifelines(groups):
    time, event, _ = draw(ties=True)
    group = np.arange(len(time)) % groups
    theirs = multivariate_logrank_test(time, group, event)
    np.testing.assert_allclose(logrank(time, event, group), (theirs.test_statistic, theirs.p_value), rtol=1e-10)


def test_a_group_without_events_still_has_a_test():
    chi2, p = logrank([1, 2, 3, 4, 5, 6], [1, 1, 1, 0, 0, 0], list("aaabbb"))
    assert chi2 == pytest.approx(5.051, abs=0.001) and p < 0.05


def test_cumulative_incidence_by_hand():
    # months 1 recurrence, 2 death, 3 recurrence, 4 censored
    table = cumulative_incidence([1, 2, 3, 4], [1, 2, 1, 0], [1, 3.5, 5])
    np.testing.assert_allclose(table["recurrence"], [1 / 4, 2 / 4, np.nan])
    np.testing.assert_allclose(table["competing"], [0, 1 / 4, np.nan])
    np.testing.assert_allclose(table["one_minus_km"], [1 / 4, 1 - 3 / 4 * 1 / 2, np.nan])


def deaths_and_recurrences(n=80):
    draw = np.random.default_rng(1)
    return draw.exponential(30, n) + 0.01, draw.choice([0, 1, 2], n, p=[0.3, 0.45, 0.25])


def test_cumulative_incidence_and_its_error_equal_another_librarys():
    time, cause = deaths_and_recurrences()
    theirs = AalenJohansenFitter(calculate_variance=True).fit(time, cause, event_of_interest=1)
    ours = incidence_curve(time, cause)
    np.testing.assert_allclose(ours["incidence"], theirs.cumulative_density_.to_numpy()[1:, 0], rtol=1e-12)
    np.testing.assert_allclose(ours["std_error"] ** 2, np.ravel(theirs.variance_)[1:], rtol=1e-9, atol=1e-15)


def test_without_deaths_cumulative_incidence_is_kaplan_meier_turned_over():
    time, cause = deaths_and_recurrences()
    ours = incidence_curve(time, np.where(cause == 1, 1, 0))
    km = kaplan_meier(time, cause == 1)
    for own, other in (("incidence", "survival"), ("ci_low", "ci_high"), ("ci_high", "ci_low")):
        np.testing.assert_allclose(ours[own], 1 - km[other], atol=1e-12)
    np.testing.assert_allclose(ours["std_error"], km["std_error"].fillna(0), atol=1e-12)


def test_the_incidences_and_the_free_add_up():
    time, cause = deaths_and_recurrences()
    table = cumulative_incidence(time, cause, [6, 24, 48])
    free = [survival_at(time, cause > 0, t) for t in table["horizon"]]
    np.testing.assert_allclose(table["recurrence"] + table["competing"] + free, 1)
    assert (table["recurrence"] <= table["one_minus_km"]).all()


def test_difference_of_restricted_means_by_hand():
    # low: free to 10; high: one of two recurs at 4
    result = rmst_difference([12, 12, 4, 12], [0, 0, 1, 0], [0, 0, 1, 1], 10)
    assert result.value == pytest.approx(10 - (10 + 4) / 2)
    assert result.ci_high - result.value == pytest.approx(1.959964 * (6 / 2) * np.sqrt(1 / (2 * 1)), rel=1e-6)
    assert rmst_difference([12, 12], [0, 1], [1, 1], 10).note == "one of the groups is empty"


def test_integrated_auc_by_hand_and_as_another_library_weighs_it():
    time, event, risk = draw()
    grid = [6.0, 12.0, 24.0]
    survival = np.array([1.0, *(survival_at(time, event, t) for t in grid)])
    areas = [td_auc(time, event, risk, t) for t in grid]
    expected = np.sum(areas * -np.diff(survival)) / (1 - survival[-1])
    assert integrated_td_auc(time, event, risk, grid) == pytest.approx(expected)
    counts = np.vstack([np.ones(len(time)), 2 * np.ones(len(time))])
    np.testing.assert_allclose(integrated_td_auc(time, event, risk, grid, counts), expected)


def test_net_benefit_in_a_resample_is_that_of_the_rows_drawn():
    time, event, risk = draw()
    predicted = 1 / (1 + np.exp(-risk))
    counts = np.random.default_rng(0).multinomial(len(time), np.full(len(time), 1 / len(time)), size=5)
    values = net_benefit_at(time, event, predicted, 24, 0.4, counts)
    gains = gain_over_all(time, event, predicted, 24, 0.4, counts)
    for value, gain, count in zip(values, gains, counts, strict=True):
        rows = np.repeat(np.arange(len(time)), count)
        table = net_benefit(time[rows], event[rows], predicted[rows], 24, [0.4]).iloc[0]
        assert value == pytest.approx(table["net_benefit"])
        assert gain == pytest.approx(table["net_benefit"] - table["treat_all"])


def test_ici_e50_e90_in_a_resample_are_those_of_the_rows_drawn():
    time, event, risk = draw()
    lrfs = np.exp(-0.4 * np.exp(risk))
    together = ici_e50_e90(time, event, lrfs, 24)
    errors = calibration_errors(time, event, lrfs, 24)
    np.testing.assert_allclose(together, [errors.ici, errors.e50, errors.e90])
    counts = np.random.default_rng(0).multinomial(len(time), np.full(len(time), 1 / len(time)), size=4)
    resampled = ici_e50_e90(time, event, lrfs, 24, counts)
    np.testing.assert_allclose(resampled[0], ici(time, event, lrfs, 24, counts))
    assert (resampled[1] <= resampled[2]).all()


def test_observed_over_expected_of_all_follow_up_by_hand():
    result = observed_expected_overall([1, 1, 0, 0], np.exp([-1.0, -0.5, -0.3, -0.2]))
    assert result.value == pytest.approx(2 / 2)
    assert result.ci_high == pytest.approx(np.exp(1.959964 / np.sqrt(2)), rel=1e-6)
    assert observed_expected_overall([0, 0], [0.5, 0.5]).note == "no event"


def test_net_benefit_by_hand():
    risk = np.array([0.9, 0.6, 0.6, 0.1])
    table = net_benefit([1, 2, 9, 9], [1, 1, 0, 0], risk, 5, [0.2, 0.5, 0.95])
    np.testing.assert_allclose(table["net_benefit"], [2 / 4 - 1 / 4 * 0.25, 2 / 4 - 1 / 4, 0])
    np.testing.assert_allclose(table["treat_all"], [0.5 - 0.5 * 0.25, 0, 0.5 - 0.5 * 19])
    np.testing.assert_allclose(table["interventions_avoided"][:2], [1 / 4, 1 / 4])
    assert table["n_positive"].tolist() == [3, 3, 0]


def test_net_benefit_when_follow_up_of_the_positives_ends_early():
    risk = np.array([0.9, 0.9, 0.1, 0.1])
    all_recurred = net_benefit([1, 2, 9, 9], [1, 1, 0, 0], risk, 5, [0.5])
    last_censored = net_benefit([1, 2, 9, 9], [1, 0, 0, 0], risk, 5, [0.5])
    assert all_recurred["net_benefit"][0] == 0.5
    assert np.isnan(last_censored["net_benefit"][0])


def test_the_true_risks_are_calibrated_and_doubled_hazards_are_not():
    time, event, risk = draw(n=3000, seed=1)
    truth, doubled = lrfs_at(risk), lrfs_at(risk) ** 2
    ratio = observed_expected(time, event, truth, 24)
    assert ratio.ci_low < 1 < ratio.ci_high
    assert observed_expected(time, event, doubled, 24).ci_high < 1
    slope = calibration_slope_interval(time, event, risk)
    assert slope.ci_low < 1 < slope.ci_high
    assert calibration_slope_interval(time, event, 2 * risk).ci_high < 1
    assert ici(time, event, truth, 24) < 0.02 < 0.1 < ici(time, event, doubled, 24)
    groups = calibration_groups(time, event, truth, 24, groups=5)
    assert ((groups["ci_low"] <= groups["predicted"]) & (groups["predicted"] <= groups["ci_high"])).sum() >= 4
    assert d_calibration(event, np.exp(-time / 30 * np.exp(risk))).p > 0.05
    assert d_calibration(event, np.exp(-time / 15 * np.exp(risk))).p < 1e-6


def test_calibration_errors_are_those_of_the_curve():
    time, event, risk = draw(n=200)
    curve = calibration_curve(time, event, lrfs_at(risk), 24)
    distance = (curve["observed"] - curve["predicted"]).abs()
    errors = calibration_errors(time, event, lrfs_at(risk), 24)
    assert errors == pytest.approx((distance.mean(), distance.median(), distance.quantile(0.9), distance.max()))
    assert curve["predicted"].is_monotonic_increasing


def test_the_calibration_curve_does_not_depend_on_the_unit_of_time():
    time, event, risk = draw(n=200)
    in_days = ici(time * 30.4375, event, lrfs_at(risk), 24 * 30.4375)
    assert in_days == pytest.approx(ici(time, event, lrfs_at(risk), 24), abs=1e-9)


@pytest.mark.parametrize("ties", [False, True])
def test_cox_fit_equals_lifelines(ties):
    time, event, risk = draw(n=120, ties=ties)
    table = pd.DataFrame({"time": time, "event": event, "risk": risk, "other": np.sin(np.arange(120))})
    fitter = CoxPHFitter().fit(table, "time", "event", fit_options={"precision": 1e-12})
    fit = fit_partial_likelihood(time, event, table[["risk", "other"]])
    np.testing.assert_allclose(fit.coefficients[0], fitter.params_, atol=1e-7)
    np.testing.assert_allclose(fit.covariance[0], fitter.variance_matrix_, atol=1e-7)
    assert fit.loglik[0] == pytest.approx(fitter.log_likelihood_, abs=1e-8)


def test_cox_fit_does_not_report_a_likelihood_without_a_maximum():
    separated = fit_partial_likelihood(MONTHS, EVERYBODY, FALLING > 3.5)
    assert np.isnan(separated.coefficients).all() and np.isnan(separated.covariance).all()
    nothing_seen = fit_partial_likelihood(MONTHS, np.zeros(6), FALLING)
    assert np.isnan(nothing_seen.coefficients).all()
    assert np.isnan(calibration_slope(MONTHS, EVERYBODY, np.ones(6)))


def test_cox_fit_takes_many_covariates_and_refuses_collinear_ones():
    time, event, risk = draw(n=400)
    many = np.column_stack([risk, np.random.default_rng(1).normal(size=(400, 24)) * 1000])
    assert fit_partial_likelihood(time, event, many).coefficients[0, 0] == pytest.approx(1, abs=0.3)
    twice = fit_partial_likelihood(time, event, np.column_stack([risk, 2 * risk]))
    assert np.isnan(twice.coefficients).all()


def test_score_test_for_trend_equals_the_log_rank_test_without_ties():
    time, event, _ = draw()
    group = np.arange(60) % 2
    assert score_test_at_zero(time, event, group)[1] == pytest.approx(logrank(time, event, group).chi2)


def test_breslow_baseline_without_covariate_effect_is_nelson_aalen():
    time, event, risk = draw(ties=True)
    steps = count_steps(time, event == 1, np.ones((1, len(time))))
    until = steps.times <= 24
    by_hand = (steps.events[0] / steps.at_risk[0])[until].sum()
    assert baseline_hazard(time, event, risk, [0.0], 24, ties="breslow")[0] == pytest.approx(by_hand)


def test_ph_score_test_finds_an_effect_that_vanishes():
    random = np.random.default_rng(8)
    arm = np.arange(600) % 2
    early, late = random.exponential(20 * np.exp(-1.5 * arm)), random.exponential(20, 600)
    time = np.where(early < 10, early, 10 + late)
    table = ph_score_test(time, np.ones(600), arm, fit_partial_likelihood(time, np.ones(600), arm).coefficients[0])
    assert table["covariate"].tolist() == ["x1", "GLOBAL"]
    assert (table["p"] < 1e-6).all()
    with pytest.raises(ValueError, match=r"do not maximise the partial likelihood.*refit without penalty"):
        ph_score_test(time, np.ones(600), arm, [0.1])


WEIGHTED = {
    "harrell_c": (harrell_c, "risk", ()),
    "uno_c": (uno_c, "risk", (24,)),
    "td_auc": (td_auc, "risk", (24,)),
    "brier_score": (brier_score, "lrfs", (24,)),
    "ipa": (ipa, "lrfs", (24,)),
    "integrated_brier": (integrated_brier, "matrix", ([6, 12, 24],)),
    "survival_at": (survival_at, None, (24,)),
    "calibration_slope": (calibration_slope, "risk", ()),
}


@pytest.mark.parametrize("ties", [False, True], ids=["no ties", "whole months"])
@pytest.mark.parametrize(("metric", "needs", "rest"), WEIGHTED.values(), ids=WEIGHTED)
def test_counts_equal_a_loop_over_resamples(metric, needs, rest, ties):
    time, event, risk = draw(n=40, ties=ties)
    given = {"risk": risk, "lrfs": lrfs_at(risk), "matrix": np.column_stack([lrfs_at(risk, t) for t in (6, 12, 24)])}
    rows = np.random.default_rng(0).integers(0, 40, (25, 40))
    counts = np.array([np.bincount(row, minlength=40) for row in rows])
    model = () if needs is None else (given[needs],)
    loop = [metric(time[row], event[row], *(m[row] for m in model), *rest) for row in rows]
    np.testing.assert_allclose(metric(time, event, *model, *rest, weights=counts), loop, atol=1e-12)


def test_counts_equal_a_loop_for_the_ici_with_the_knots_kept(monkeypatch):
    time, event, risk = draw(n=80)
    lrfs = lrfs_at(risk)
    knots = spline_knots(np.log(-np.log(lrfs)))
    monkeypatch.setattr(calibration, "spline_knots", lambda x: knots)
    rows = np.random.default_rng(0).integers(0, 80, (10, 80))
    counts = np.array([np.bincount(row, minlength=80) for row in rows])
    loop = [ici(time[row], event[row], lrfs[row], 24) for row in rows]
    np.testing.assert_allclose(ici(time, event, lrfs, 24, weights=counts), loop, atol=1e-10)


UNDEFINED = {
    "C, nobody recurred": lambda: harrell_c(MONTHS, np.zeros(6), FALLING),
    "C, only the last patient recurred": lambda: harrell_c(MONTHS, [0, 0, 0, 0, 0, 1], FALLING),
    "Uno, no event by tau": lambda: uno_c(MONTHS, EVERYBODY, FALLING, 0.5),
    "AUC, no event by the horizon": lambda: td_auc(MONTHS, [0, 0, 0, 1, 1, 1], FALLING, 3),
    "AUC, nobody beyond the horizon": lambda: td_auc(MONTHS, EVERYBODY, FALLING, 6),
    "Brier, horizon beyond follow-up": lambda: brier_score(MONTHS, [1, 1, 1, 1, 1, 0], FALLING / 7, 8),
    "S, horizon beyond follow-up": lambda: survival_at(MONTHS, [1, 1, 1, 1, 1, 0], 8),
    "O/E, horizon beyond follow-up": lambda: observed_expected(MONTHS, [1] * 5 + [0], FALLING / 7, 8).value,
    "RMST beyond follow-up": lambda: rmst(MONTHS, [1, 1, 1, 1, 1, 0], 8).value,
    "log-rank, one group": lambda: logrank(MONTHS, EVERYBODY, np.ones(6)).p,
    "log-rank, no event": lambda: logrank(MONTHS, np.zeros(6), [0, 0, 0, 1, 1, 1]).chi2,
    "ICI, six patients": lambda: ici(MONTHS, EVERYBODY, FALLING / 7, 3),
    "ICI, all predictions alike": lambda: ici(*draw()[:2], np.full(60, 0.5), 24),
}


@pytest.mark.parametrize("value", UNDEFINED.values(), ids=UNDEFINED)
def test_undefined_is_nan_and_silent(value):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(value())


def test_everybody_recurred_is_defined():
    assert survival_at(MONTHS, EVERYBODY, 8) == 0
    assert brier_score(MONTHS, EVERYBODY, np.zeros(6), 8) == 0
    table = kaplan_meier(MONTHS, EVERYBODY)
    assert table["survival"].iloc[-1] == 0 and np.isnan(table["std_error"].iloc[-1])


def test_a_curve_still_at_one_has_no_log_log_interval():
    table = kaplan_meier([1, 2, 3], [0, 1, 0])
    assert table["survival"][0] == 1 and np.isnan(table["ci_low"][0]) and np.isnan(table["ci_high"][0])


HORIZONS = {
    "beyond follow-up": (7, 0, "7 months lies beyond the last follow-up (6.0 months)"),
    "no event yet": (0.5, 0, "no event by 0.5 months"),
    "few at risk": (5, 3, "only 2 at risk at 5 months (fewer than 3)"),
    "fine": (4, 3, ""),
}


@pytest.mark.parametrize(("horizon", "fewest", "note"), HORIZONS.values(), ids=HORIZONS)
def test_horizon_note(horizon, fewest, note):
    assert horizon_note(MONTHS, EVERYBODY, horizon, minimum_at_risk=fewest) == note


def changed(values, row, value):
    values = np.array(values, dtype=float)
    values[row] = value
    return values


INVALID = {
    "negative time": (changed(MONTHS, 2, -3), EVERYBODY, FALLING, r"time, row 2: .*-3.0.*months above 0; correct"),
    "time missing": (changed(MONTHS, 1, np.nan), EVERYBODY, FALLING, r"time, row 1: .*nan.*finite months"),
    "event two": (MONTHS, changed(EVERYBODY, 4, 2), FALLING, r"event, row 4: .*2.0.*allowed: 0 .* or 1"),
    "event missing": (MONTHS, changed(EVERYBODY, 4, np.nan), FALLING, r"event, row 4: .*nan.*allowed"),
    "risk missing": (MONTHS, EVERYBODY, changed(FALLING, 5, np.nan), r"risk, row 5: .*nan.*finite numbers; leave"),
    "risk too short": (MONTHS, EVERYBODY, FALLING[:5], r"risk has shape \(5,\), but time has 6 rows"),
    "event too short": (MONTHS, EVERYBODY[:5], FALLING, r"event has shape \(5,\), but time has 6 rows"),
    "no patient": ([], [], [], r"time has shape \(0,\)"),
}


@pytest.mark.parametrize(("time", "event", "risk", "message"), INVALID.values(), ids=INVALID)
def test_invalid_input_is_named(time, event, risk, message):
    with pytest.raises(ValueError, match=message):
        harrell_c(time, event, risk)


REFUSED = {
    "lrfs in percent": (
        lambda: brier_score(MONTHS, EVERYBODY, changed(FALLING / 7, 3, 50), 3),
        r"lrfs, row 3: .*50.0.*from 0 to 1; give a probability",
    ),
    "risk outside 0..1": (
        lambda: net_benefit(MONTHS, EVERYBODY, FALLING, 3, [0.5]),
        r"predicted_risk, row 0: .*6.0.*give 1 - lrfs",
    ),
    "threshold of one": (
        lambda: net_benefit(MONTHS, EVERYBODY, FALLING / 7, 3, [0.5, 1]),
        r"thresholds are \[0.5, 1.0\]; allowed: within \(0, 1\)",
    ),
    "weights of another cohort": (
        lambda: harrell_c(MONTHS, EVERYBODY, FALLING, np.ones((3, 7))),
        r"weights has shape \(3, 7\); allowed: \(resamples, 6\)",
    ),
    "negative count": (
        lambda: harrell_c(MONTHS, EVERYBODY, FALLING, -np.ones((3, 6))),
        r"weights holds a negative",
    ),
    "grid unsorted": (
        lambda: integrated_brier(MONTHS, EVERYBODY, np.ones((6, 2)), [3, 2]),
        r"grid is \[3.0, 2.0\]; allowed: .* increasing",
    ),
    "columns missing": (
        lambda: integrated_brier(MONTHS, EVERYBODY, np.ones((6, 3)), [2, 3]),
        r"lrfs_matrix has shape \(6, 3\); allowed: \(6, 2\)",
    ),
    "cause three": (
        lambda: cumulative_incidence([1, 2], [1, 3], [1]),
        r"cause, row 1: .*3.*allowed: 0, 1 or 2",
    ),
    "group missing": (
        lambda: logrank([1, 2], [1, 1], ["a", None]),
        r"group, row 1: None .*a label for every patient",
    ),
    "unknown interval": (lambda: kaplan_meier(MONTHS, EVERYBODY, "wald"), r"'wald'; allowed: 'log-log'"),
    "unknown ties": (lambda: fit_partial_likelihood(MONTHS, EVERYBODY, FALLING, ties="exact"), r"'exact'; allowed"),
    "covariate missing": (
        lambda: fit_partial_likelihood(MONTHS, EVERYBODY, changed(FALLING, 2, np.nan)),
        r"covariates column 0, row 2: nan .*fill the gap",
    ),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_refusals_name_what_is_allowed(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_curves_of_many_resamples_start_at_one():
    time, event, _ = draw()
    curves = event_curve(count_steps(time, event == 1, np.random.default_rng(1).integers(0, 3, (4, len(time)))))
    assert (curves[:, 0] == 1).all() and (np.diff(curves) <= 0).all()


def test_importing_the_metrics_loads_neither_torch_nor_matplotlib():
    heavy = {"torch", "matplotlib", "lifelines", "sksurv"}
    code = f"import sys, rps_utils.survival.brier, rps_utils.intervals.comparison; print({heavy} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "set()\n"


def test_certain_predictions_move_just_inside_the_others():
    moved = within_bounds(np.array([0.0, 0.5, 1.0, 0.99999, 0.2]))
    assert moved.tolist() == [1e-4, 0.5, 0.99999, 0.99999, 0.2]
    assert certain_note(np.array([0.0, 0.5, 1.0])) == "2 predicted LRFS of 0 or 1 taken as 0.0001 or 0.9999"
    assert certain_note(np.array([0.5])) == ""


def test_greenwood_interval_of_the_ratio_by_hand():
    """Ten patients, four events by month 5, nobody censored before: S = .6, SE(S)^2 = .6 * .4 / 10."""
    time, event = np.arange(1.0, 11), np.r_[1, 1, 1, 1, np.zeros(6)]
    found = observed_expected(time, event, np.full(10, 0.5), 5)
    factor = np.exp(1.959964 * np.sqrt(0.024) / 0.4)
    assert found[:3] == pytest.approx((0.8, 0.8 / factor, 0.8 * factor), rel=1e-6)
    poisson = observed_expected(time, event, np.full(10, 0.5), 5, interval="poisson")
    assert poisson.ci_high / poisson.value == pytest.approx(np.exp(1.959964 / 2), rel=1e-6)
    with pytest.raises(ValueError, match="interval is 'wald'; allowed: greenwood, poisson"):
        observed_expected(time, event, np.full(10, 0.5), 5, interval="wald")
    everybody = observed_expected(time, np.ones(10), np.full(10, 0.5), 10)
    assert everybody.value == 2 and np.isnan(everybody.ci_low) and "all have recurred" in everybody.note


def test_greenwood_covers_and_is_narrower_than_poisson():
    hits, widths = {"greenwood": 0, "poisson": 0}, {"greenwood": 0.0, "poisson": 0.0}
    for seed in range(200):
        cohort = coverage.draw(29, [5, seed])
        for kind in hits:
            _, low, high, _ = observed_expected(*cohort[:2], cohort.lrfs, coverage.HORIZON, interval=kind)
            hits[kind] += low <= 1 <= high
            widths[kind] += (high - low) / 200
    assert 0.91 <= hits["greenwood"] / 200 <= 0.99
    assert widths["greenwood"] < 0.75 * widths["poisson"]


def test_d_calibration_rings_as_promised_under_heavy_censoring():
    level, power = (
        np.mean(
            [
                coverage.tests_of_calibration(coverage.draw(86, [6, i], excess=excess, censored=(6, 60)))[1] <= 0.05
                for i in range(400)
            ]
        )
        for excess in (1.0, 1.5)
    )
    assert 0.025 < level < 0.09 and power > 0.5


def test_d_calibration_needs_five_expected_recurrences():
    few = d_calibration([1, 0, 0], [0.5, 0.9, 0.9])
    assert np.isnan(few.p) and few.df == 0 and few.shares.sum() == pytest.approx(1)


def test_errors_expected_of_a_right_model_shrink_with_the_patients():
    small, large = (
        errors_if_calibrated(*cohort[:2], cohort.lrfs, coverage.HORIZON, draws=30)[0].mean()
        for cohort in (coverage.draw(60, [7]), coverage.draw(1500, [7]))
    )
    assert 0.03 < small < 0.15 and large < 0.3 * small
