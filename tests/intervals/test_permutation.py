import numpy as np
import pytest
from scipy.stats import chi2

from rps_utils.intervals.permutation import (
    added_z,
    deal_outcomes,
    exceedance_p,
    less_told,
    predictive_p,
    shrunken_log_hazard,
)
from rps_utils.lab.levels.predictor import LEARNERS, draw_cohort
from rps_utils.lab.levels.predictor import tests_of as all_tests_of
from rps_utils.survival.partial_likelihood import fit_partial_likelihood


def test_outcomes_are_dealt_by_the_factors_of_the_partial_likelihood():
    """Three patients, hazards 1, 2 and 4: event, censoring, event. The chance of each order by hand."""
    hazard = np.array([1.0, 2.0, 4.0])
    dealt = deal_outcomes([1, 2, 3], [1, 0, 1], np.log(hazard), count=20_000, seed=1)
    assert (np.sort(dealt, axis=1) == [0, 1, 2]).all()
    first = [(dealt[:, patient] == 0).mean() for patient in range(3)]
    assert first == pytest.approx([1 / 7, 2 / 7, 4 / 7], abs=0.012)
    # The censoring falls on the other two alike.
    assert (dealt[dealt[:, 2] == 0][:, 0] == 1).mean() == pytest.approx(0.5, abs=0.015)


def test_at_a_tie_the_event_is_dealt_first():
    dealt = deal_outcomes([5, 5], [0, 1], np.log([1.0, 9.0]), count=4000, seed=2)
    assert (dealt[:, 1] == 1).mean() == pytest.approx(0.9, abs=0.015)


def test_the_signed_score_test_is_that_of_the_likelihood_to_first_order():
    draw = draw_cohort([3, 1], patients=200, folds=5, correlation=0.5, effect=0)
    x = 0.4 * draw.clinical[:, 0] + draw.features[:, -1]
    z = added_z(draw.time, draw.event, draw.clinical[None], x[None])[0]
    both = fit_partial_likelihood(draw.time, draw.event, np.column_stack([x, draw.clinical]), ties="breslow")
    alone = fit_partial_likelihood(draw.time, draw.event, draw.clinical, ties="breslow")
    assert z**2 == pytest.approx(2 * float((both.loglik - alone.loglik)[0]), rel=0.03)
    assert np.sign(z) == np.sign(both.coefficients[0, 0])
    assert added_z(draw.time, draw.event, draw.clinical[None], -x[None])[0] == pytest.approx(-z)


def test_a_score_that_the_columns_determine_has_no_test():
    draw = draw_cohort([3, 2], patients=60, folds=3, correlation=0, effect=0)
    assert abs(added_z(draw.time, draw.event, draw.clinical[None], draw.clinical[None, :, 0])[0]) < 0.05
    with pytest.raises(ValueError, match="not in rising order"):
        added_z([2, 1], [1, 1], np.zeros((1, 2, 0)), np.ones((1, 2)))


def test_overfitted_columns_are_shrunk_to_nothing_where_they_tell_nothing():
    rng = np.random.default_rng(4)
    time, event, columns = rng.exponential(20, 60) + 0.1, rng.random(60) < 0.5, rng.normal(size=(60, 8))
    fit = fit_partial_likelihood(time, event, columns)
    beta = fit.coefficients[0]
    wald = beta @ np.linalg.solve(fit.covariance[0], beta)
    expected = max(0, 1 - 8 / wald)
    assert chi2.sf(wald, 8) > 0.05
    np.testing.assert_allclose(shrunken_log_hazard(time, event, columns), columns @ beta * expected, atol=1e-12)
    assert (shrunken_log_hazard(time, event, np.zeros((60, 0))) == 0).all()


def test_p_by_counting_and_by_t():
    assert exceedance_p(3.0, np.arange(99) / 99) == pytest.approx(0.01)
    assert exceedance_p(0.5, [0.1, 0.9, np.nan]) == pytest.approx(2 / 3)
    assert np.isnan(exceedance_p(np.nan, [1.0]))
    assert predictive_p(2.0, [1.0, 2.0, 3.0]) == pytest.approx(0.5)
    assert np.isnan(predictive_p(2.0, [1.0, 1.0, 1.0]))


def test_what_the_columns_tell_is_learned_outside_the_fold():
    rng = np.random.default_rng(5)
    fold, held = np.arange(40) % 4, rng.normal(size=(40, 2))
    own = rng.normal(size=40)
    score = 2 + 3 * held[:, 0] + own
    nested = [np.where(fold == k, np.nan, 2 + 3 * held[:, 0]) for k in range(4)]
    np.testing.assert_allclose(less_told(score, nested, held, fold), own, atol=1e-12)


@pytest.mark.parametrize(
    ("folds", "correlation", "test", "band"),
    [
        (5, 0.0, "plain", (0.09, 0.30)),
        (20, 0.0, "halved", (0.06, 0.25)),
        (20, 0.0, "outcomes dealt anew", (0.0, 0.10)),
        (10, 0.9, "outcomes dealt anew", (0.0, 0.10)),
    ],
)
def test_pure_noise_and_a_learner_that_selects(folds, correlation, test, band):
    """The plain test rings too often, the halved one with many folds; with outcomes dealt anew neither."""
    p = [
        all_tests_of(
            draw_cohort([8, i], patients=86, folds=folds, correlation=correlation, effect=0),
            LEARNERS["best feature"],
            deals=59,
            seed=i,
        )[test]
        for i in range(100)
    ]
    assert band[0] <= np.mean(np.array(p) <= 0.05) <= band[1]
