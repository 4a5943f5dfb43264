"""The fast counting against the tables of pairs that it replaces, written out here."""

import numpy as np
import pytest

from rps_utils.intervals.comparison import permutation_p
from rps_utils.intervals.influence import compare_auc
from rps_utils.intervals.resampling import c_interval, jackknife, replicate, resample_counts
from rps_utils.survival.concordance import harrell_c, pair_counts, pair_influence, uno_c
from rps_utils.survival.curves import censoring_curve, count_steps, just_before
from rps_utils.survival.roc import roc_curve_at, td_auc, td_aucs


def draw(seed, n, ties):
    rng = np.random.default_rng(seed)
    risk = rng.normal(size=n)
    recurs, leaves = rng.exponential(40 * np.exp(-risk)), rng.uniform(5, 80, n)
    time = np.maximum(np.minimum(recurs, leaves), 0.01)
    time, risk = (np.ceil(time / 4), risk.round(1)) if ties else (time, risk)
    return time, recurs <= leaves, risk


def pairs_of(time, event, risk):
    """Usable pairs (earlier x later) and their scores."""
    own = time[:, None]
    usable = event[:, None] & ((time > own) | ((time == own) & ~event))
    return usable, usable * ((risk[:, None] > risk) + 0.5 * (risk[:, None] == risk))


def slow_c(time, event, risk, counts, tau=None):
    usable, won = pairs_of(time, event, risk)
    weight = np.ones((len(counts), len(time)))
    if tau is not None:
        steps = count_steps(time, event, counts)
        before = just_before(censoring_curve(steps), steps)
        weight = np.where(before > 0, (time <= tau) / np.where(before > 0, before, 1) ** 2, 0)
    weight = weight * counts
    return np.sum(weight * (counts @ won.T), axis=1) / np.sum(weight * (counts @ usable.T), axis=1)


def slow_auc(time, event, risk, counts, horizon):
    steps = count_steps(time, event, counts)
    before = just_before(censoring_curve(steps), steps)
    case = np.where(before > 0, counts / np.where(before > 0, before, 1), 0) * (event & (time <= horizon))
    control = counts * (time > horizon)
    wins = (risk[:, None] > risk) + 0.5 * (risk[:, None] == risk)
    return np.sum(case * (control @ wins.T), axis=1) / (case.sum(axis=1) * control.sum(axis=1))


CASES = [(seed, n, ties) for seed, n in enumerate((29, 60, 150)) for ties in (False, True)]


@pytest.mark.parametrize(("seed", "n", "ties"), CASES)
def test_trees_count_the_pairs_of_the_table(seed, n, ties):
    time, event, risk = draw(seed, n, ties)
    counts = resample_counts(n, replicates=40, seed=seed).astype(float)
    tau = float(np.median(time))
    np.testing.assert_array_equal(harrell_c(time, event, risk, counts), slow_c(time, event, risk, counts))
    np.testing.assert_allclose(
        uno_c(time, event, risk, tau, counts), slow_c(time, event, risk, counts, tau), rtol=1e-13
    )
    np.testing.assert_allclose(
        td_auc(time, event, risk, tau, counts), slow_auc(time, event, risk, counts, tau), rtol=1e-13
    )
    usable, won = pairs_of(time, event, risk)
    c, influence = pair_influence(time, event, risk)
    np.testing.assert_allclose(
        influence,
        (won.sum(0) + won.sum(1) - c * (usable.sum(0) + usable.sum(1))) / usable.sum(),
        atol=1e-14,
    )
    found = pair_counts(time, event, risk)
    assert (found.concordant, found.tied_risk) == ((won == 1).sum(), (won == 0.5).sum())
    assert sum(found[:3]) == usable.sum()


@pytest.mark.parametrize("ties", [False, True])
def test_the_jackknife_of_c_is_that_of_the_rows_kept(ties):
    time, event, risk = draw(7, 40, ties)
    kept = [np.arange(40) != i for i in range(40)]
    loop = [harrell_c(time[k], event[k], risk[k]) for k in kept]
    np.testing.assert_array_equal(jackknife(harrell_c, 40, time, event, risk), loop)


def test_several_horizons_in_any_order_are_those_one_by_one():
    time, event, risk = draw(8, 90, True)
    counts = resample_counts(90, replicates=30)
    grid = [9.0, 3.0, 6.0]
    np.testing.assert_array_equal(
        td_aucs(time, event, risk, grid, counts), [td_auc(time, event, risk, t, counts) for t in grid]
    )
    curve = roc_curve_at(time, event, risk, 6.0)
    assert np.trapezoid(curve["tpr"], curve["fpr"]) == pytest.approx(td_auc(time, event, risk, 6.0), abs=1e-12)


def test_swapped_ranks_are_counted_as_scores_would_be():
    time, event, risk = draw(9, 50, True)
    other = np.random.default_rng(1).permutation(risk)
    ranks = [np.array([(x < v).sum() + (x <= v).sum() for v in x]) for x in (risk, other)]
    swap = np.random.default_rng(2026).random((200, 50)) < 0.5
    one = np.ones((1, 50))
    gap = [
        slow_c(time, event, np.where(s, ranks[1], ranks[0]), one)[0]
        - slow_c(time, event, np.where(s, ranks[0], ranks[1]), one)[0]
        for s in swap
    ]
    seen = abs(slow_c(time, event, risk, one)[0] - slow_c(time, event, other, one)[0])
    expected = (1 + np.sum(np.abs(gap) >= seen - 1e-12)) / 201
    assert permutation_p(time, event, risk, other, permutations=200) == expected


def test_resamples_do_not_depend_on_the_blocks_they_are_drawn_in(monkeypatch):
    whole = resample_counts(31, replicates=50, seed=12)
    rows = np.random.default_rng(12).integers(0, 31, size=(50, 31))
    np.testing.assert_array_equal(whole, [np.bincount(r, minlength=31) for r in rows])


def test_beyond_two_thousand_patients_groups_are_left_out_and_the_limits_hardly_move(monkeypatch):
    time, event, risk = draw(10, 2200, False)
    counts = resample_counts(2200, replicates=200)
    assert jackknife(harrell_c, 2200, time, event, risk).shape == (500,)
    grouped = c_interval(time, event, risk, counts=counts)
    monkeypatch.setattr("rps_utils.intervals.resampling.SINGLY", 3000)
    one_by_one = c_interval(time, event, risk, counts=counts)
    error = replicate(harrell_c, counts, time, event, risk).std()
    assert grouped.value == one_by_one.value
    assert abs(grouped.ci_low - one_by_one.ci_low) < 0.05 * error


def test_twenty_thousand_patients_need_no_table_of_pairs():
    time, event, risk = draw(11, 20_000, False)
    other = risk + np.random.default_rng(3).normal(size=20_000)
    counts = resample_counts(20_000, replicates=20)
    estimate = c_interval(time, event, risk, counts=counts)
    assert estimate.ci_low < estimate.value < estimate.ci_high and estimate.ci_high - estimate.ci_low < 0.02
    assert compare_auc(time, event, risk, other, 36.0).z > 10
