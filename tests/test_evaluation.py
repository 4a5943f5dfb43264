"""Evaluation of score tables: numbers against the library, and an explained gap wherever there is no number."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import draw_cohort
from lifelines import CoxPHFitter
from lifelines.utils import concordance_index

from rps_utils import evaluation
from rps_utils.scores import check_scores, lrfs_column

LANDMARKS = [12, 36]
B = 200


def true_lrfs(cohort, landmark, sharpness=1.0):
    """What conftest's hazard promises: exponential times, so LRFS = exp(-hazard t)."""
    hazard = np.exp(sharpness * (1.2 * cohort["signal"] + 0.05 * (cohort["age"] - 56))) / 40
    return np.exp(-hazard * landmark)


def score_table(patients=160, seed=5, kinds=("apparent", "cross_fitted", "validation"), sharpness=1.0):
    """Model `True` knows the hazard and predicts LRFS; model `Noise` knows nothing and predicts nothing."""
    cohort = draw_cohort(patients, seed)
    base = cohort[["patient_id", "split", "time_months", "event"]]
    tables = []
    for kind in kinds:
        split = "validation" if kind == "validation" else "training"
        risk = 1.2 * cohort["signal"] + 0.05 * (cohort["age"] - 56)
        knows = base.assign(model="True", kind=kind, risk=risk)
        for landmark in LANDMARKS:
            knows[lrfs_column(landmark)] = true_lrfs(cohort, landmark, sharpness)
        tables += [t[t["split"] == split] for t in (knows, base.assign(model="Noise", kind=kind, risk=cohort["noise"]))]
    scores = pd.concat(tables, ignore_index=True)
    assert check_scores(scores) == []
    return scores


@pytest.fixture(scope="module")
def scores():
    return score_table()


def every_row(scores, landmarks=LANDMARKS, tau=36.0):
    parts = [
        evaluation.discrimination_rows(scores, tau, B),
        evaluation.difference_rows(scores, B),
        evaluation.td_auc_rows(scores, landmarks, B),
        evaluation.brier_rows(scores, landmarks, B),
        evaluation.calibration_rows(scores, landmarks, 50),
        evaluation.net_benefit_rows(scores, landmarks, [0.3]),
        evaluation.risk_group_rows(scores),
    ]
    return evaluation.stacked([p for p in parts if len(p)])


def one(rows, **wanted):
    found = rows[np.logical_and.reduce([rows[k] == v for k, v in wanted.items()])]
    assert len(found) == 1, wanted
    return found.iloc[0]


def test_rows_follow_the_contract(scores):
    rows = every_row(scores)
    assert list(rows.columns) == evaluation.METRIC_COLUMNS
    known = rows[rows["value"].notna() & rows["ci_low"].notna()]
    assert (known["ci_low"] <= known["value"]).all() and (known["value"] <= known["ci_high"]).all()
    assert rows.loc[rows["value"].isna(), "note"].str.len().gt(0).all(), "an empty value has a reason"
    assert set(rows["kind"]) == set(evaluation.KINDS)


def test_harrell_c_is_the_librarys_and_tells_signal_from_noise(scores):
    rows = evaluation.discrimination_rows(scores, 36.0, B)
    part = scores[(scores["model"] == "True") & (scores["kind"] == "cross_fitted")]
    row = one(rows, metric="harrell_c", model="True", kind="cross_fitted")
    assert row["value"] == pytest.approx(concordance_index(part["time_months"], -part["risk"], part["event"]))
    assert row["ci_low"] > 0.6
    noise = one(rows, metric="harrell_c", model="Noise", kind="cross_fitted")
    assert noise["ci_low"] < 0.5 < noise["ci_high"]
    assert (row["n"], row["events"]) == (len(part), part["event"].sum())


def test_the_order_of_rows_changes_nothing(scores):
    shuffled = scores.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(
        evaluation.discrimination_rows(scores, 36.0, B).sort_values(["kind", "model", "metric"], ignore_index=True),
        evaluation.discrimination_rows(shuffled, 36.0, B).sort_values(["kind", "model", "metric"], ignore_index=True),
    )


def test_differences_are_paired_and_named(scores):
    rows = evaluation.difference_rows(scores, B)
    c = evaluation.discrimination_rows(scores, 36.0, B).query("metric == 'harrell_c' and kind == 'validation'")
    c = c.set_index("model")["value"]
    row = one(rows, kind="validation", metric="harrell_c_difference")
    assert row["model"] == "True - Noise"
    assert row["value"] == pytest.approx(c["True"] - c["Noise"])
    assert 0 < one(rows, kind="cross_fitted", metric="harrell_c_difference_p")["value"] < 0.05


def test_a_difference_uses_the_patients_that_both_models_have(scores):
    lost = scores["patient_id"].unique()[:30]
    fewer = scores[~((scores["model"] == "Noise") & scores["patient_id"].isin(lost))]
    row = one(evaluation.difference_rows(fewer, B), kind="cross_fitted", metric="harrell_c_difference")
    assert row["n"] == (fewer["model"].eq("Noise") & fewer["kind"].eq("cross_fitted")).sum()


NO_NUMBER = {
    "beyond the follow-up": (5000.0, "beyond the last follow-up"),
    "before the first event": (1e-6, "no event by"),
}


@pytest.mark.parametrize(("landmark", "why"), NO_NUMBER.values(), ids=NO_NUMBER)
def test_a_landmark_without_a_number_is_an_explained_gap(scores, landmark, why):
    for rows in (evaluation.td_auc_rows(scores, [landmark], B), evaluation.discrimination_rows(scores, landmark, B)):
        rows = rows[rows["metric"].isin(["td_auc", "uno_c"])]
        assert rows[["value", "ci_low", "ci_high"]].isna().all(axis=None)
        assert rows["note"].str.contains(why).all()
    assert evaluation.roc_table(scores, [landmark]).empty


def test_few_patients_at_risk_are_said_and_stop_the_calibration_curve(scores):
    late = float(scores.loc[scores["kind"] == "validation", "time_months"].drop_duplicates().nlargest(3).min())
    few = scores[scores["kind"] == "validation"].assign(**{lrfs_column(late): 0.5})
    auc = evaluation.td_auc_rows(few, [late], B)
    assert auc["note"].str.contains("at risk").all()
    ici = evaluation.calibration_rows(few, [late], 50).query("metric == 'ici'")
    assert ici["value"].isna().all() and ici["note"].str.contains("only 3 at risk").all()
    assert all(table.empty for table in evaluation.calibration_tables(few, late))


def test_a_model_without_probabilities_is_left_out_and_named(scores):
    for rows in (
        evaluation.brier_rows(scores, LANDMARKS, B),
        evaluation.calibration_rows(scores, LANDMARKS, 50),
        evaluation.net_benefit_table(scores, LANDMARKS, [0.3]),
    ):
        assert set(rows["model"]) == {"True"}
    missing = evaluation.missing_predictions(scores, LANDMARKS)
    assert set(missing["model"]) == {"Noise"}
    assert missing["why"].iloc[0] == "Noise gives no lrfs_12"


def test_without_any_probability_the_tables_are_empty_but_whole(scores):
    bare = scores.drop(columns=[lrfs_column(t) for t in LANDMARKS])
    assert list(evaluation.brier_rows(bare, LANDMARKS).columns) == evaluation.METRIC_COLUMNS
    assert evaluation.calibration_rows(bare, LANDMARKS).empty
    assert evaluation.net_benefit_table(bare, LANDMARKS, [0.3]).empty
    groups, curves = evaluation.calibration_tables(bare, 36)
    assert "observed" in groups and "observed" in curves


def test_one_missing_probability_makes_no_number(scores):
    part = scores.copy()
    part.loc[(part["kind"] == "validation").idxmax(), "lrfs_36"] = np.nan
    row = one(evaluation.brier_rows(part, LANDMARKS, B), kind="validation", metric="brier", horizon_months=36)
    assert np.isnan(row["value"])
    assert row["note"].startswith("1 of ")


def test_integrated_brier_names_its_grid(scores):
    rows = evaluation.brier_rows(scores, [*LANDMARKS, 5000], B)
    row = one(rows, kind="validation", metric="ibs")
    assert (row["horizon_months"], row["note"]) == (36, "over 12, 36")
    alone = one(evaluation.brier_rows(scores, [36], B), kind="validation", metric="ibs")
    assert np.isnan(alone["value"]) and "two landmarks" in alone["note"]


SHARPNESS = {"honest": (1.0, 0.8, 1.25), "exaggerated": (1.5, 0.5, 0.85), "timid": (0.5, 1.6, 2.6)}


@pytest.mark.parametrize(("sharpness", "low", "high"), SHARPNESS.values(), ids=SHARPNESS)
def test_the_calibration_slope_finds_what_was_done_to_the_probabilities(sharpness, low, high):
    scores = score_table(600, seed=3, kinds=("cross_fitted",), sharpness=sharpness)
    row = one(evaluation.calibration_rows(scores, [36], 50), metric="calibration_slope")
    assert low < row["value"] < high
    assert row["ci_low"] < row["value"] < row["ci_high"]


def test_certain_predictions_have_no_slope(scores):
    certain = scores[scores["model"] == "True"].assign(lrfs_36=1.0)
    row = one(evaluation.calibration_rows(certain, LANDMARKS, 50), kind="validation", metric="calibration_slope")
    assert row["horizon_months"] == 12
    row = one(evaluation.calibration_rows(certain, [36], 50), kind="validation", metric="calibration_slope")
    assert np.isnan(row["value"]) and "exactly 0 or 1" in row["note"]


def test_brier_and_ipa_prefer_the_honest_probabilities():
    honest, exaggerated = (
        evaluation.brier_rows(score_table(500, 3, ("cross_fitted",), s), [36], B) for s in (1.0, 3.0)
    )
    assert one(honest, metric="brier")["value"] < one(exaggerated, metric="brier")["value"]
    assert one(honest, metric="ipa")["ci_low"] > 0


def test_net_benefit_marks_thresholds_with_few_patients_on_a_side(scores):
    table = evaluation.net_benefit_table(scores, [36], [0.001, 0.3, 0.999])
    validation = table[table["kind"] == "validation"].set_index("threshold")
    assert validation["enough"].tolist() == [False, True, False]
    rows = evaluation.net_benefit_rows(scores, [36], [0.3])
    assert one(rows, kind="validation")["value"] == pytest.approx(validation.loc[0.3, "net_benefit"])
    assert one(rows, kind="validation")["metric"] == "net_benefit_0.3"


def test_net_benefit_needs_follow_up_of_those_above_the_threshold(scores):
    part = scores[(scores["kind"] == "validation") & (scores["model"] == "True")]
    lost = part.assign(lrfs_36=np.where(part["time_months"] < 36, 0.2, 0.9), event=0)
    row = evaluation.net_benefit_rows(lost, [36], [0.5]).iloc[0]
    assert np.isnan(row["value"]) and "are not followed to 36" in row["note"]


def test_validation_takes_its_cutoff_from_cross_fitted_training_scores(scores):
    shifted = scores.assign(risk=scores["risk"] + 10 * (scores["kind"] == "apparent"))
    cutoffs = evaluation.training_cutoffs(shifted).set_index(["model", "kind"])
    crossed = shifted[(shifted["model"] == "True") & (shifted["kind"] == "cross_fitted")]
    assert cutoffs.loc[("True", "validation"), "cutoff"] == crossed["risk"].median()
    assert cutoffs.loc[("True", "validation"), "learned_from"] == "cross_fitted"
    apparent = score_table(kinds=("apparent", "validation"))
    assert set(evaluation.training_cutoffs(apparent)["learned_from"]) == {"apparent"}


def test_the_cutoff_never_moves_with_the_validation_scores(scores):
    new = scores["kind"] == "validation"
    moved = scores.assign(risk=np.where(new, scores["risk"] * 3 + 1, scores["risk"]))
    assert evaluation.training_cutoffs(moved).equals(evaluation.training_cutoffs(scores))
    away = scores.assign(risk=np.where(new, scores["risk"] + 100, scores["risk"]))
    row = one(evaluation.risk_group_rows(away), model="True", kind="validation", metric="logrank_p")
    assert np.isnan(row["value"]) and "one side of the training cut-off" in row["note"]


def test_without_training_scores_there_is_no_cutoff(scores):
    new = scores[scores["kind"] == "validation"]
    rows = evaluation.risk_group_rows(new)
    assert rows["value"].isna().all()
    assert rows["note"].str.contains("no training scores").all()
    assert evaluation.with_groups(new).empty


def test_training_p_values_are_labelled_as_no_evidence(scores):
    rows = evaluation.risk_group_rows(scores)
    training = rows["split"] == "training"
    assert rows.loc[training, "note"].str.startswith("not evidence").all()
    assert (rows.loc[~training, "note"] == "").all()


def test_the_hazard_ratio_is_that_of_a_cox_model_on_the_groups(scores):
    grouped = evaluation.with_groups(scores).query("model == 'True' and kind == 'validation'")
    data = grouped.assign(high=(grouped["group"] == "high").astype(int))[["time_months", "event", "high"]]
    fit = CoxPHFitter().fit(data, "time_months", "event", fit_options={"precision": 1e-12})
    row = one(evaluation.risk_group_rows(scores), model="True", kind="validation", metric="hazard_ratio")
    interval = np.exp(fit.confidence_intervals_.to_numpy()[0])
    expected = [fit.hazard_ratios_["high"], *interval]
    np.testing.assert_allclose(row[["value", "ci_low", "ci_high"]].to_numpy(float), expected, rtol=1e-5)


def test_group_curves_come_with_numbers_at_risk(scores):
    grouped = evaluation.with_groups(scores).query("model == 'True' and kind == 'validation'")
    curves, at_risk = evaluation.group_curves(grouped)
    start = at_risk[at_risk["time"] == 0].set_index("group")["at_risk"]
    assert start.to_dict() == grouped["group"].value_counts().to_dict()
    assert curves.groupby("group")["survival"].apply(lambda s: s.is_monotonic_decreasing).all()


def test_another_unit_of_time_gives_the_same_numbers(scores):
    days = 30.4375
    renamed = {lrfs_column(t): lrfs_column(t * days) for t in LANDMARKS}
    in_days = scores.assign(time_months=scores["time_months"] * days).rename(columns=renamed)
    months = every_row(scores)
    other = every_row(in_days, [t * days for t in LANDMARKS], 36.0 * days)
    for column in ("value", "ci_low", "ci_high"):
        np.testing.assert_allclose(months[column], other[column], rtol=1e-6)
    np.testing.assert_allclose(other["horizon_months"], months["horizon_months"] * days)


def small_and_odd():
    scores = score_table(40)
    yield "ten validation patients", scores
    yield "one model", scores[scores["model"] == "True"]
    yield "validation only", scores[scores["kind"] == "validation"]
    yield "apparent only", scores[scores["kind"] == "apparent"]
    yield "no event", scores.assign(event=0)
    yield "everybody recurs", scores.assign(event=1)
    yield "constant score", scores.assign(risk=1.0)
    yield "scores without probabilities", scores[scores["model"] == "Noise"]


@pytest.mark.parametrize("scores", [t for _, t in small_and_odd()], ids=[name for name, _ in small_and_odd()])
def test_any_table_that_passes_the_door_is_evaluated(scores):
    rows = every_row(scores, [12, 36, 999], 36.0)
    assert rows.loc[rows["value"].isna(), "note"].str.len().gt(0).all()
    assert not np.isinf(rows[["value", "ci_low", "ci_high"]].to_numpy(float)).any()


def test_tables_for_reading_keep_the_order_and_mark_gaps(scores):
    rows = every_row(scores)
    table = evaluation.wide(rows[rows["metric"] == "harrell_c"])
    assert table.columns.tolist() == ["model", "apparent", "cross_fitted", "validation"]
    assert table["model"].tolist() == ["True", "Noise"]
    assert table.loc[0, "validation"].count("to") == 1
    gaps = evaluation.td_auc_rows(scores, [12, 5000], B)
    assert evaluation.wide(gaps, "horizon_months")["5000"].eq("–").all()


WORDS = {
    "value with interval": ((0.7491, 0.601, 0.878), "0.749 (0.601 to 0.878)"),
    "value alone": ((0.73, np.nan, np.nan), "0.730"),
    "no minus zero": ((-1e-9, -0.1, 0.1), "0.000 (-0.100 to 0.100)"),
    "nothing": ((np.nan, np.nan, np.nan), "–"),
}


@pytest.mark.parametrize(("numbers", "words"), WORDS.values(), ids=WORDS)
def test_intervals_in_words(numbers, words):
    assert evaluation.interval_text(*numbers, digits=3) == words


def test_small_p_values_are_not_printed_as_zero():
    assert [evaluation.p_text(p) for p in (0.0004, 0.0124, np.nan)] == ["< 0.001", "0.012", "–"]


@pytest.mark.parametrize(("last", "step"), [(110, 24), (60, 10), (3000, 500), (7, 2.5)])
def test_numbers_at_risk_stand_at_round_times(last, step):
    times = evaluation.tick_times(last)
    assert times[0] == 0 and times[-1] <= last
    assert np.diff(times) == pytest.approx(step)


def test_evaluation_and_figures_never_load_torch():
    code = "import sys; import rps_utils.evaluation, rps_utils.figures, rps_utils.report; print('torch' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "False"
