import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2, norm

from rps_utils.learning import crossfit


def seen_by(cohort, ids):
    """A 'model' whose score of a patient tells whether it learned from the patient (1) or not (0)."""
    return pd.Series(cohort["patient_id"].isin(ids).to_numpy(float), index=pd.Index(cohort["patient_id"]))


@pytest.mark.parametrize(
    ("folds", "whole", "count"),
    [(3, True, 1 + 3 + 3), (5, True, 1 + 5 + 10), (5, False, 5 + 10)],
    ids=["three folds", "five folds", "five folds, ensemble"],
)
def test_number_of_models(folds, whole, count):
    sets = crossfit.leave_out_sets(folds, whole=whole)
    assert len(sets) == len(set(sets)) == count


def test_two_folds_leave_nobody_to_learn_from():
    with pytest.raises(ValueError, match="folds = 2: nested cross-fitting needs at least 3"):
        crossfit.leave_out_sets(2)


@pytest.mark.parametrize("whole", [True, False])
def test_nobody_is_scored_by_a_model_that_saw_the_patient_except_apparent(cohort, whole):
    sets = crossfit.leave_out_sets(5, whole=whole)
    scores = {s: seen_by(cohort, crossfit.learning_patients(cohort, s)) for s in sets}
    fitted = crossfit.assemble(cohort, scores)
    assert (fitted.apparent == 1).all()
    assert (fitted.cross_fitted == 0).all()
    assert (fitted.validation == 0).all()
    assert all((s == 0).all() for s in fitted.nested.values())


def test_nested_scores_come_from_models_that_never_saw_the_outer_fold(cohort):
    sets = crossfit.leave_out_sets(5, whole=False)
    scores = {s: pd.Series(float(10 * s[0] + s[-1]), index=pd.Index(cohort["patient_id"])) for s in sets}
    nested = crossfit.assemble(cohort, scores).nested
    fold = cohort.set_index("patient_id")["fold"]
    for outer, risk in nested.items():
        assert set(fold[risk.index]) == set(range(5)) - {outer}
        pairs = risk.astype(int).map(lambda v: {v // 10, v % 10})
        assert all(pair == {outer, int(fold[i])} for i, pair in pairs.items())


def test_tables_bring_the_same_scores_back(cohort):
    draw = np.random.default_rng(0)
    index = pd.Index(cohort["patient_id"])
    scores = {s: pd.Series(draw.normal(size=len(index)), index=index) for s in crossfit.leave_out_sets(5)}
    fitted = crossfit.assemble(cohort, scores)
    kinds = {"apparent": fitted.apparent, "cross_fitted": fitted.cross_fitted, "validation": fitted.validation}
    rows = [pd.DataFrame({"patient_id": s.index, "kind": kind, "risk": s.values}) for kind, s in kinds.items()]
    back = crossfit.fitted_scores(pd.concat(rows), crossfit.nested_table(fitted))
    for kind, series in kinds.items():
        pd.testing.assert_series_equal(getattr(back, kind), series, check_names=False)
    pd.testing.assert_series_equal(back.nested[2], fitted.nested[2], check_names=False)


def test_standardising_makes_fold_models_comparable(cohort):
    def fit_and_score(ids):
        scale = 1 + 100 * (len(ids) % 7) + 5 * ("P000" in ids)
        return pd.Series(cohort["signal"].to_numpy() * scale + scale, index=pd.Index(cohort["patient_id"]))

    scores = crossfit.score_left_out(cohort, crossfit.leave_out_sets(5), fit_and_score)
    pooled = crossfit.assemble(cohort, scores).cross_fitted
    truth = cohort.set_index("patient_id").loc[pooled.index, "signal"]
    assert np.corrcoef(pooled, truth)[0, 1] > 0.98


@pytest.mark.parametrize(
    ("raw", "message"),
    [([1.0, 1.0, 1.0], "the same risk"), ([1.0, np.nan, 2.0], "not a finite number"), ([1.0, np.inf, 2.0], "finite")],
    ids=["constant", "missing", "infinite"],
)
def test_a_model_that_ranks_nobody_stops_the_run(raw, message):
    series = pd.Series(raw, index=["A", "B", "C"])
    with pytest.raises(ValueError, match=message):
        crossfit.standardise(series, series.index)


def test_the_corrected_p_keeps_its_promise_where_nothing_is_related():
    """Scores learned from the other folds, on pure noise: the plain test rings three times too often."""
    draw = np.random.default_rng(7)
    fold = np.arange(90) % 5
    others = fold[:, None] != fold[None, :]
    z = []
    for _ in range(1500):
        outcome, features = draw.normal(size=90), draw.normal(size=(90, 30))
        score = (features @ features.T * others) @ outcome
        z.append(score @ outcome / np.linalg.norm(score))
    plain = 2 * norm.sf(np.abs(z))
    corrected = crossfit.correct_p(plain)
    assert 0.13 < (plain < 0.05).mean() < 0.20
    assert 0.035 < (corrected < 0.05).mean() < 0.065
    assert 0.08 < (corrected < 0.10).mean() < 0.12


def test_correcting_halves_the_chi_square():
    assert crossfit.correct_p(chi2.sf(7.0, 1)) == pytest.approx(chi2.sf(3.5, 1))
    assert crossfit.correct_p([1.0, 0.05, np.nan])[:2] == pytest.approx([1.0, 0.165776], abs=1e-6)
    assert np.isnan(crossfit.correct_p(np.nan))


def test_the_claim_of_a_predictor_has_a_direction():
    p = crossfit.predictor_p([0.05, 0.05, np.nan], [3.0, 0.3, 3.0])
    assert p[:2] == pytest.approx([0.082888, 0.917112], abs=1e-6) and np.isnan(p[2])


def test_held_covariates_pull_a_blind_score_below_one_and_the_directed_test_stays_silent():
    """Features and covariates tell the same; nothing is related to the outcome."""
    draw = np.random.default_rng(5)
    fold = np.arange(90) % 5
    z = []
    for _ in range(600):
        covariates, outcome = draw.normal(size=(90, 10)), draw.normal(size=90)
        features = covariates @ draw.normal(size=(10, 30)) + draw.normal(size=(90, 30))
        score = (features @ features.T * (fold[:, None] != fold[None, :])) @ outcome
        held = np.eye(90) - covariates @ np.linalg.pinv(covariates)
        z.append(score @ held @ outcome / np.linalg.norm(held @ score))
    p, ratio = 2 * norm.sf(np.abs(z)), np.exp(z)
    assert np.mean(z) < -0.3
    assert (crossfit.correct_p(p) < 0.05).mean() > 0.06
    assert (crossfit.predictor_p(p, ratio) < 0.05).mean() < 0.05
