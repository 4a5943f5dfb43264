import numpy as np
import pytest

from rps_utils.intervals.comparison import compare_c, paired_difference, permutation_p
from rps_utils.intervals.cutoffs import apply_cutoff, logrank_scan, maxstat_cutoff, median_cutoff
from rps_utils.intervals.influence import auc_estimate, brier_estimate, compare_auc
from rps_utils.intervals.resampling import (
    bootstrap_estimate,
    c_interval,
    c_standard_error,
    counts_of,
    interval_from,
    jackknife,
    optimism_bootstrap,
    replicate,
    resample_counts,
    reversed_score_note,
)
from rps_utils.survival.brier import brier_score, ipa
from rps_utils.survival.calibration import calibration_slope, ici, observed_expected
from rps_utils.survival.concordance import harrell_c, uno_c
from rps_utils.survival.curves import median_survival
from rps_utils.survival.follow_up import horizon_note
from rps_utils.survival.partial_likelihood import fit_partial_likelihood
from rps_utils.survival.roc import td_auc


def draw(n=60, seed=3, effect=1.0):
    """Exponential follow-up with hazard exp(effect * risk) / 30, censored uniformly; a second, noisier risk."""
    random = np.random.default_rng(seed)
    risk = random.normal(size=n)
    recurrence, visit = random.exponential(30 * np.exp(-effect * risk)), random.uniform(5, 70, n)
    noisy = risk + 3 * random.normal(size=n)
    return np.minimum(recurrence, visit).clip(0.1), (recurrence <= visit).astype(int), risk, noisy


def test_resamples_hold_every_patient_n_times_in_all_and_repeat_with_the_seed():
    counts = resample_counts(29, replicates=50, seed=1)
    assert counts.shape == (50, 29) and (counts.sum(axis=1) == 29).all()
    np.testing.assert_array_equal(counts, resample_counts(29, replicates=50, seed=1))
    assert (counts != resample_counts(29, replicates=50, seed=2)).any()
    assert counts_of([[0, 0, 2]], 4).tolist() == [[2, 0, 1, 0]]
    with pytest.raises(ValueError, match=r"n=0, replicates=2000 is not allowed; allowed: 1 or more"):
        resample_counts(0)


def test_blocks_do_not_change_the_replicates(monkeypatch):
    time, event, risk, _ = draw()
    counts = resample_counts(60, replicates=40)
    whole = replicate(uno_c, counts, time, event, risk, 24)
    left_out = jackknife(uno_c, 60, time, event, risk, 24)
    monkeypatch.setattr("rps_utils.intervals.resampling.CELLS", 300)
    np.testing.assert_allclose(replicate(uno_c, counts, time, event, risk, 24), whole, atol=1e-13)
    np.testing.assert_allclose(jackknife(uno_c, 60, time, event, risk, 24), left_out, atol=1e-13)


def test_jackknife_leaves_each_patient_out():
    time, event, risk, _ = draw(n=20)
    keep = [np.arange(20) != i for i in range(20)]
    loop = [harrell_c(time[k], event[k], risk[k]) for k in keep]
    np.testing.assert_allclose(jackknife(harrell_c, 20, time, event, risk), loop, atol=1e-13)


@pytest.mark.parametrize("method", ["bca", "logit", "percentile", "basic", "normal"])
def test_intervals_agree_with_the_jackknife_standard_error(method):
    time, event, risk, _ = draw(n=300)
    estimate = c_interval(time, event, risk, method=method)
    c, error = c_standard_error(time, event, risk)
    assert estimate.value == c and estimate.note == ""
    assert (estimate.ci_low, estimate.ci_high) == pytest.approx((c - 1.96 * error, c + 1.96 * error), abs=0.3 * error)


def test_intervals_by_hand():
    values = np.arange(1, 1002) / 1001
    assert interval_from(values, 0.5, method="percentile") == pytest.approx((26 / 1001, 976 / 1001))
    assert interval_from(values, 0.6, method="basic") == pytest.approx((1.2 - 976 / 1001, 1.2 - 26 / 1001))
    symmetric = interval_from(values, 501 / 1001, method="bca", left_out=np.array([0.4, 0.5, 0.6]))
    assert symmetric == pytest.approx((26 / 1001, 976 / 1001))
    error = values.std(ddof=1)
    odds = np.exp(np.array([-1, 1]) * 1.959963984540054 * error / 0.24) * 1.5
    assert interval_from(values, 0.6, method="logit") == pytest.approx(tuple(odds / (1 + odds)))


COVERAGE = {"bca": (0.90, 0.99), "logit": (0.90, 0.99)}


@pytest.mark.parametrize(("method", "band"), COVERAGE.items())
def test_both_intervals_cover_the_true_c_with_29_patients(method, band):
    """Truth from 4,000 patients; Wald intervals reach only about .88 to .91 here."""
    truth = harrell_c(*draw(n=4000, seed=99)[:3])
    hits = 0
    for seed in range(200):
        estimate = c_interval(*draw(n=29, seed=seed)[:3], counts=resample_counts(29, replicates=400), method=method)
        hits += estimate.ci_low <= truth <= estimate.ci_high
    assert band[0] <= hits / 200 <= band[1]


def test_failed_resamples_are_counted():
    time, event = np.array([1.0, 2, 3, 4, 5, 6]), np.array([1, 1, 0, 0, 0, 0])
    estimate = c_interval(time, event, [6, 4, 5, 3, 2, 1.0], counts=resample_counts(6, replicates=500))
    counts = resample_counts(6, replicates=500)
    failed = int(np.isnan(replicate(harrell_c, counts, time, event, np.arange(6.0))).sum())
    assert 20 < failed < 120
    assert estimate.note.startswith(f"{failed} of 500 resamples undefined and left out")


ODD = {
    "constant score": ([1, 2, 3, 4], [1, 1, 1, 0], [2, 2, 2, 2], 0.5, "the score is the same for every patient"),
    "nobody recurred": ([1, 2, 3, 4], [0, 0, 0, 0], [4, 3, 2, 1], np.nan, "no usable pair"),
    "perfect": (np.arange(1, 13), np.ones(12), -np.arange(12.0), 1.0, "no interval: the resamples do not vary"),
    "reversed": (np.arange(1, 31), np.ones(30), np.r_[np.arange(28.0), 1, 2], None, "reversed score: C = 0.1"),
}


@pytest.mark.parametrize(("time", "event", "risk", "value", "note"), ODD.values(), ids=ODD)
def test_odd_scores_are_explained(time, event, risk, value, note):
    estimate = c_interval(time, event, risk, counts=resample_counts(len(time), replicates=200))
    assert value is None or estimate.value == pytest.approx(value, nan_ok=True)
    assert note in estimate.note
    if value is not None:
        assert np.isnan(estimate.ci_low) and np.isnan(estimate.ci_high)


def test_chance_below_one_half_is_not_called_reversed():
    time, event, risk, _ = draw(n=29)
    risk = np.where(np.arange(29) % 2, risk, -1.2 * risk)
    assert 0.3 < harrell_c(time, event, risk) < 0.5
    assert reversed_score_note(time, event, risk) == ""


def test_the_callers_note_comes_first():
    time, event, risk, _ = draw()
    few = horizon_note(time, event, 55)
    estimate = bootstrap_estimate(td_auc, time, event, risk, 55, counts=resample_counts(60, replicates=50), note=few)
    assert few.startswith("only ") and estimate.note.startswith(few)
    beyond = bootstrap_estimate(td_auc, time, event, risk, 99, note="beyond the last follow-up")
    assert np.isnan(beyond.value) and beyond.note == "beyond the last follow-up"


def test_a_better_model_wins_the_paired_comparison():
    time, event, risk, noisy = draw(n=300)
    pair = compare_c(time, event, risk, noisy, counts=resample_counts(300, replicates=500))
    assert pair.difference.value == pytest.approx(pair.c_a - pair.c_b)
    assert 0 < pair.difference.ci_low < pair.difference.value < pair.difference.ci_high
    assert pair.p < 0.01 and pair.p_permutation < 0.01
    turned = compare_c(time, event, noisy, risk, counts=resample_counts(300, replicates=500))
    assert (turned.z, turned.p) == pytest.approx((-pair.z, pair.p))


def test_a_model_compared_with_itself_has_no_difference():
    time, event, risk, _ = draw()
    pair = compare_c(time, event, risk, risk, counts=resample_counts(60, replicates=50), permutations=99)
    assert pair.difference.value == 0 and pair.p_permutation == 1
    assert np.isnan(pair.z) and "no interval" in pair.difference.note


def test_tests_of_equal_models_keep_their_size():
    """200 null comparisons of 60 patients: about 5 % below .05; the band excludes 0 and twice the level."""
    p = []
    for seed in range(200):
        time, event, risk, _ = draw(n=60, seed=seed)
        first, second = (risk + np.random.default_rng([seed, k]).normal(size=60) for k in (1, 2))
        pair = compare_c(time, event, first, second, counts=resample_counts(60, replicates=2), permutations=199)
        p.append((pair.p, pair.p_permutation))
    assert np.all((np.mean(np.array(p) < 0.05, axis=0) > 0.005) & (np.mean(np.array(p) < 0.05, axis=0) < 0.10))


def test_permutation_p_by_hand():
    # Two patients with an event each: swapping either changes the sign, both gives the pair back.
    time, event = [1.0, 2.0], [1, 1]
    assert permutation_p(time, event, [2, 1.0], [1.0, 2], permutations=400) > 0.4


def test_paired_difference_serves_any_metric():
    time, event, risk, noisy = draw(n=200)
    first, second = (np.exp(-24 / 30 * np.exp(score)) for score in (risk, noisy))
    difference = paired_difference(
        brier_score, time, event, first, second, 24, counts=resample_counts(200, replicates=500)
    )
    by_hand = brier_score(time, event, first, 24) - brier_score(time, event, second, 24)
    assert difference.value == pytest.approx(by_hand) and difference.ci_high < 0


def test_influence_intervals_agree_with_the_bootstrap():
    time, event, risk, noisy = draw(n=300)
    lrfs = np.exp(-24 / 30 * np.exp(risk))
    counts = resample_counts(300)
    plans = ((auc_estimate, td_auc, risk), (brier_estimate, brier_score, lrfs))
    for estimate, metric, model in plans:
        wald = estimate(time, event, model, 24)
        boot = bootstrap_estimate(metric, time, event, model, 24, counts=counts, method="normal")
        assert wald.value == pytest.approx(boot.value, abs=1e-13)
        assert wald.ci_high - wald.ci_low == pytest.approx(boot.ci_high - boot.ci_low, rel=0.06)
    pair = compare_auc(time, event, risk, noisy, 24)
    assert pair.difference > 0 and pair.p < 0.05
    assert np.isnan(auc_estimate(time, event, risk, 0.01).value)
    assert "nobody is followed" in brier_estimate(time, event, lrfs, 500).note


def test_median_cutoff_is_learned_in_training_and_applied_unchanged():
    cutoff = median_cutoff([1.0, 2, 3, 4])
    assert cutoff.value == 2.5
    assert apply_cutoff([2.5, 2.6, 9], cutoff).tolist() == [False, True, True]


def test_maxstat_finds_a_step_in_the_hazard():
    random = np.random.default_rng(4)
    marker = random.uniform(size=300)
    time = random.exponential(np.where(marker > 0.7, 5, 30))
    best = maxstat_cutoff(time, np.ones(300), marker)
    assert best.value == pytest.approx(0.7, abs=0.03) and best.p_corrected < 1e-10
    assert best.p_naive < best.p_corrected and best.p_corrected_94 <= best.p_corrected
    scan = logrank_scan(time, np.ones(300), marker)
    assert scan.value == pytest.approx(0.7, abs=0.03)


def test_searching_noise_for_a_cut_is_significant_far_too_often():
    naive = corrected = 0
    for seed in range(200):
        time, event, _, _ = draw(n=40, seed=seed)
        scan = maxstat_cutoff(time, event, np.random.default_rng([seed, 7]).normal(size=40))
        naive += scan.p_naive < 0.05
        corrected += scan.p_corrected < 0.05
    assert 0.15 < naive / 200 < 0.50
    assert corrected / 200 < 0.10


NO_CUT = {
    "constant marker": (np.arange(1.0, 21), np.ones(20), np.ones(20)),
    "no event": (np.arange(1.0, 21), np.zeros(20), np.arange(20.0)),
}


@pytest.mark.parametrize(("time", "event", "marker"), NO_CUT.values(), ids=NO_CUT)
def test_no_cut_is_nan(time, event, marker):
    assert np.isnan(maxstat_cutoff(time, event, marker).value)
    assert np.isnan(logrank_scan(time, event, marker).value)


def test_optimism_is_large_for_a_fit_to_noise_and_failures_are_counted():
    time, event, _, _ = draw(n=60, effect=0)
    noise = np.random.default_rng(2).normal(size=(60, 8))
    calls = []

    def fit_and_score(rows):
        calls.append(rows)
        fit = fit_partial_likelihood(time[rows], event[rows], noise[rows])
        return noise @ fit.coefficients[0] if len(calls) != 3 else np.full(60, np.nan)

    resamples = np.random.default_rng(0).integers(0, 60, (30, 60))
    found = optimism_bootstrap(time, event, fit_and_score, resamples)
    assert found.failed == 1
    assert found.apparent > 0.6 and found.optimism > 0.08 and found.slope < 0.8
    assert found.corrected == pytest.approx(found.apparent - found.optimism)


def test_unknown_method_and_missing_jackknife_are_refused():
    with pytest.raises(ValueError, match=r"method is 'wald'; allowed: bca, logit"):
        interval_from(np.arange(5.0), 2.0, method="wald")
    with pytest.raises(ValueError, match=r"left_out is missing; the BCa interval needs"):
        interval_from(np.arange(5.0), 2.0)


EVERYTHING = {
    "C": lambda t, e, r, p, h, c: c_interval(t, e, r, counts=c),
    "Uno": lambda t, e, r, p, h, c: c_interval(t, e, r, tau=h, counts=c),
    "AUC": lambda t, e, r, p, h, c: bootstrap_estimate(td_auc, t, e, r, h, counts=c),
    "Brier": lambda t, e, r, p, h, c: bootstrap_estimate(brier_score, t, e, p, h, counts=c),
    "IPA": lambda t, e, r, p, h, c: bootstrap_estimate(ipa, t, e, p, h, counts=c),
    "ICI": lambda t, e, r, p, h, c: bootstrap_estimate(ici, t, e, p, h, counts=c),
    "slope": lambda t, e, r, p, h, c: bootstrap_estimate(calibration_slope, t, e, r, counts=c),
    "O/E": lambda t, e, r, p, h, c: observed_expected(t, e, p, h),
    "influence": lambda t, e, r, p, h, c: auc_estimate(t, e, r, h),
    "median": lambda t, e, r, p, h, c: median_survival(t, e),
}


@pytest.mark.parametrize("statistic", EVERYTHING.values(), ids=EVERYTHING)
def test_tiny_tables_full_of_ties_give_a_number_or_a_reason(statistic):
    """150 tables of 2 to 29 patients, whole months, some without events: no warning, no silent NaN."""
    for seed in range(150):
        random = np.random.default_rng(seed)
        n, horizon = int(random.integers(2, 30)), float(random.integers(1, 9))
        time, risk = random.integers(1, 8, n).astype(float), random.integers(0, 4, n).astype(float)
        event = random.random(n) < random.choice([0, 0.3, 0.7, 1])
        lrfs = np.round(random.random(n)) if seed % 5 == 0 else random.random(n)
        counts = resample_counts(n, replicates=40, seed=seed)
        found = statistic(time, event, risk, lrfs, horizon, counts)
        assert np.isfinite(found.value) or found.note


# ---------------------------------------------------------------- many patients


def test_among_many_patients_groups_are_left_out_by_turns():
    asked = []

    def metric(weights):
        asked.append(weights)
        return weights.sum(axis=1)

    sums = jackknife(metric, 3750)
    every = np.vstack(asked)
    assert len(sums) == len(every) == 468 and set(sums) == {3750.0 - 8}
    assert (every == 0).sum(axis=0).max() == 1 and (every == 0).sum() == 468 * 8
    assert len(jackknife(lambda weights: weights.sum(axis=1), 500)) == 500


def test_groups_left_out_give_the_interval_of_patients_left_out(monkeypatch):
    time, event, risk, _ = draw(1200)
    counts = resample_counts(1200, replicates=200, seed=1)
    grouped = bootstrap_estimate(harrell_c, time, event, risk, counts=counts)
    monkeypatch.setattr("rps_utils.intervals.resampling.MOST_LEFT_OUT", 1200)
    single = bootstrap_estimate(harrell_c, time, event, risk, counts=counts)
    assert grouped.value == single.value
    assert grouped.ci_low == pytest.approx(single.ci_low, abs=5e-4)
    assert grouped.ci_high == pytest.approx(single.ci_high, abs=5e-4)
