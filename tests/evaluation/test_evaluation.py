"""Evaluation of score tables: numbers against the library, and an explained gap wherever there is no number."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from lifelines.utils import concordance_index
from sklearn.metrics import roc_auc_score

from rps_utils.evaluation import risk_groups
from rps_utils.evaluation.brier import brier_difference_rows, brier_rows
from rps_utils.evaluation.calibration import calibration_rows, calibration_tables
from rps_utils.evaluation.decision import net_benefit_difference_rows, net_benefit_rows, net_benefit_table
from rps_utils.evaluation.discrimination import difference_rows, discrimination_rows
from rps_utils.evaluation.roc import auc_difference_rows, roc_table, td_auc_rows
from rps_utils.evaluation.slices import KINDS, METRIC_COLUMNS, missing_predictions, stacked
from rps_utils.evaluation.wording import interval_text, p_text, wide
from rps_utils.intervals.comparison import compare_c
from rps_utils.intervals.influence import compare_auc
from rps_utils.scores import by_cause, check_scores, lrfs_column
from rps_utils.survival.calibration import calibration_errors
from tests.conftest import draw_cohort

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
        discrimination_rows(scores, tau=tau, n_bootstrap=B),
        difference_rows(scores, tau=tau, n_bootstrap=B),
        td_auc_rows(scores, landmarks, n_bootstrap=B),
        auc_difference_rows(scores, landmarks, n_bootstrap=B),
        brier_rows(scores, landmarks, n_bootstrap=B),
        brier_difference_rows(scores, landmarks, n_bootstrap=B),
        calibration_rows(scores, landmarks, n_bootstrap=50),
        net_benefit_rows(scores, landmarks, [0.3], n_bootstrap=B),
        net_benefit_difference_rows(scores, landmarks, [0.3], n_bootstrap=B),
        risk_groups.risk_group_rows(scores, landmarks, tau=tau),
    ]
    return stacked([p for p in parts if len(p)])


def one(rows, **wanted):
    found = rows[np.logical_and.reduce([rows[k] == v for k, v in wanted.items()])]
    assert len(found) == 1, wanted
    return found.iloc[0]


def test_rows_follow_the_contract(scores):
    rows = every_row(scores)
    assert list(rows.columns) == METRIC_COLUMNS
    known = rows[rows["value"].notna() & rows["ci_low"].notna()]
    assert (known["ci_low"] <= known["value"]).all() and (known["value"] <= known["ci_high"]).all()
    assert rows.loc[rows["value"].isna(), "note"].str.len().gt(0).all(), "an empty value has a reason"
    assert set(rows["kind"]) == set(KINDS)


def test_harrell_c_is_the_librarys_and_tells_signal_from_noise(scores):
    rows = discrimination_rows(scores, tau=36.0, n_bootstrap=B)
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
        discrimination_rows(scores, tau=36.0, n_bootstrap=B).sort_values(
            ["kind", "model", "metric"], ignore_index=True
        ),
        discrimination_rows(shuffled, tau=36.0, n_bootstrap=B).sort_values(
            ["kind", "model", "metric"], ignore_index=True
        ),
    )


def test_differences_are_paired_and_named(scores):
    rows = difference_rows(scores, tau=36.0, n_bootstrap=B)
    c = discrimination_rows(scores, tau=36.0, n_bootstrap=B).query("metric == 'harrell_c' and kind == 'validation'")
    c = c.set_index("model")["value"]
    row = one(rows, kind="validation", metric="harrell_c_difference")
    assert row["model"] == "True - Noise"
    assert row["value"] == pytest.approx(c["True"] - c["Noise"])
    assert 0 < one(rows, kind="cross_fitted", metric="harrell_c_difference_p")["value"] < 0.05


def test_a_difference_uses_the_patients_that_both_models_have(scores):
    lost = scores["patient_id"].unique()[:30]
    fewer = scores[~((scores["model"] == "Noise") & scores["patient_id"].isin(lost))]
    row = one(difference_rows(fewer, tau=36.0, n_bootstrap=B), kind="cross_fitted", metric="harrell_c_difference")
    assert row["n"] == (fewer["model"].eq("Noise") & fewer["kind"].eq("cross_fitted")).sum()


NO_NUMBER = {
    "beyond the follow-up": (5000.0, "beyond the last follow-up"),
    "before the first event": (1e-6, "no event by"),
}


@pytest.mark.parametrize(("landmark", "why"), NO_NUMBER.values(), ids=NO_NUMBER)
def test_a_landmark_without_a_number_is_an_explained_gap(scores, landmark, why):
    for rows in (
        td_auc_rows(scores, [landmark], n_bootstrap=B),
        discrimination_rows(scores, tau=landmark, n_bootstrap=B),
    ):
        rows = rows[rows["metric"].isin(["td_auc", "uno_c"])]
        assert rows[["value", "ci_low", "ci_high"]].isna().all(axis=None)
        assert rows["note"].str.contains(why).all()
    assert roc_table(scores, [landmark]).empty


def test_few_patients_at_risk_are_said_and_stop_the_calibration_curve(scores):
    late = float(scores.loc[scores["kind"] == "validation", "time_months"].drop_duplicates().nlargest(3).min())
    few = scores[scores["kind"] == "validation"].assign(**{lrfs_column(late): 0.5})
    auc = td_auc_rows(few, [late], n_bootstrap=B)
    assert auc["note"].str.contains("at risk").all()
    ici = calibration_rows(few, [late], n_bootstrap=50).query("metric == 'ici'")
    assert ici["note"].str.contains("only 3 at risk").all()
    assert all(table.empty for table in calibration_tables(few, late))


def test_a_model_without_probabilities_is_left_out_and_named(scores):
    for rows in (
        brier_rows(scores, LANDMARKS, n_bootstrap=B),
        calibration_rows(scores, LANDMARKS, n_bootstrap=50),
        net_benefit_table(scores, LANDMARKS, [0.3]),
    ):
        assert set(rows["model"]) == {"True"}
    missing = missing_predictions(scores, LANDMARKS)
    assert set(missing["model"]) == {"Noise"}
    assert missing["why"].iloc[0] == "Noise gives no lrfs_12"


def test_without_any_probability_the_tables_are_empty_but_whole(scores):
    bare = scores.drop(columns=[lrfs_column(t) for t in LANDMARKS])
    assert list(brier_rows(bare, LANDMARKS).columns) == METRIC_COLUMNS
    assert calibration_rows(bare, LANDMARKS).empty
    assert net_benefit_table(bare, LANDMARKS, [0.3]).empty
    groups, curves = calibration_tables(bare, 36)
    assert "observed" in groups and "observed" in curves


def test_one_missing_probability_makes_no_number(scores):
    part = scores.copy()
    part.loc[(part["kind"] == "validation").idxmax(), "lrfs_36"] = np.nan
    row = one(brier_rows(part, LANDMARKS, n_bootstrap=B), kind="validation", metric="brier", horizon_months=36)
    assert np.isnan(row["value"])
    assert row["note"].startswith("1 of ")


def test_integrated_brier_names_its_grid(scores):
    rows = brier_rows(scores, [*LANDMARKS, 5000], n_bootstrap=B)
    row = one(rows, kind="validation", metric="ibs")
    assert (row["horizon_months"], row["note"]) == (36, "over 12, 36")
    alone = one(brier_rows(scores, [36], n_bootstrap=B), kind="validation", metric="ibs")
    assert np.isnan(alone["value"]) and "two landmarks" in alone["note"]


SHARPNESS = {"honest": (1.0, 0.8, 1.25), "exaggerated": (1.5, 0.5, 0.85), "timid": (0.5, 1.6, 2.6)}


@pytest.mark.parametrize(("sharpness", "low", "high"), SHARPNESS.values(), ids=SHARPNESS)
def test_the_calibration_slope_finds_what_was_done_to_the_probabilities(sharpness, low, high):
    scores = score_table(600, seed=3, kinds=("cross_fitted",), sharpness=sharpness)
    row = one(calibration_rows(scores, [36], n_bootstrap=50), metric="calibration_slope")
    assert low < row["value"] < high
    assert row["ci_low"] < row["value"] < row["ci_high"]


def test_certain_predictions_have_no_slope(scores):
    certain = scores[scores["model"] == "True"].assign(lrfs_36=1.0)
    row = one(calibration_rows(certain, LANDMARKS, n_bootstrap=50), kind="validation", metric="calibration_slope")
    assert row["horizon_months"] == 12
    row = one(calibration_rows(certain, [36], n_bootstrap=50), kind="validation", metric="calibration_slope")
    assert np.isnan(row["value"]) and "predicted LRFS of 0 or 1 taken as 0.0001 or 0.9999" in row["note"]


@pytest.mark.parametrize("certain", [0.0, 1.0])
def test_one_certain_prediction_removes_neither_errors_nor_curve(scores, certain):
    rows = scores[(scores["model"] == "True") & (scores["kind"] == "validation")].reset_index(drop=True)
    rows.loc[0, "lrfs_36"] = certain
    table = calibration_rows(rows, [36], n_bootstrap=50)
    for metric in ("ici", "e50", "e90", "calibration_slope"):
        row = one(table, metric=metric)
        assert np.isfinite(row["value"]) and "1 predicted LRFS of 0 or 1 taken as" in row["note"]
    expected = one(table, metric="ici_expected")
    assert 0 < expected["ci_low"] < expected["value"] < expected["ci_high"] < 0.5
    assert "never holds 0" in expected["note"]


def test_brier_and_ipa_prefer_the_honest_probabilities():
    honest, exaggerated = (
        brier_rows(score_table(500, 3, ("cross_fitted",), s), [36], n_bootstrap=B) for s in (1.0, 3.0)
    )
    assert one(honest, metric="brier")["value"] < one(exaggerated, metric="brier")["value"]
    assert one(honest, metric="ipa")["ci_low"] > 0


def test_net_benefit_marks_thresholds_with_few_patients_on_a_side(scores):
    table = net_benefit_table(scores, [36], [0.001, 0.3, 0.999])
    validation = table[table["kind"] == "validation"].set_index("threshold")
    assert validation["enough"].tolist() == [False, True, False]
    rows = net_benefit_rows(scores, [36], [0.3], n_bootstrap=B)
    own, everybody, gain = (
        one(rows, kind="validation", metric=f"net_benefit_{name}0.3") for name in ("", "all_", "over_all_")
    )
    assert own["value"] == pytest.approx(validation.loc[0.3, "net_benefit"])
    assert everybody["value"] == pytest.approx(validation.loc[0.3, "treat_all"])
    assert gain["value"] == pytest.approx(own["value"] - everybody["value"])
    for row in (own, everybody, gain):
        assert row["ci_low"] < row["value"] < row["ci_high"]
    assert gain["ci_high"] - gain["ci_low"] < own["ci_high"] - own["ci_low"], "paired: narrower than either"


def test_net_benefit_needs_follow_up_of_those_above_the_threshold(scores):
    part = scores[(scores["kind"] == "validation") & (scores["model"] == "True")]
    lost = part.assign(lrfs_36=np.where(part["time_months"] < 36, 0.2, 0.9), event=0)
    row = net_benefit_rows(lost, [36], [0.5], n_bootstrap=B).iloc[0]
    assert np.isnan(row["value"]) and "are not followed to 36" in row["note"]


def test_another_unit_of_time_gives_the_same_numbers(scores):
    days = 30.4375
    renamed = {lrfs_column(t): lrfs_column(t * days) for t in LANDMARKS}
    in_days = scores.assign(time_months=scores["time_months"] * days).rename(columns=renamed)
    months = every_row(scores)
    other = every_row(in_days, [t * days for t in LANDMARKS], 36.0 * days)
    unit = np.where(months["metric"].str.startswith("rmst"), days, 1.0)  # these have the unit of time themselves
    for column in ("value", "ci_low", "ci_high"):
        np.testing.assert_allclose(months[column] * unit, other[column], rtol=1e-6)
    np.testing.assert_allclose(other["horizon_months"], months["horizon_months"] * days)


def small_and_odd():
    scores = score_table(40)
    yield "ten validation patients", scores
    yield "deaths told apart", by_cause(scores.assign(event=scores["event"].where(scores["event"] == 1, 2)))
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


# ---------------------------------------------------------------- one contract, whatever the table is like


def test_a_reversed_score_is_named(scores):
    turned = scores.assign(risk=-scores["risk"])
    rows = discrimination_rows(turned, tau=36.0, n_bootstrap=B).query("model == 'True' and kind == 'validation'")
    assert rows["value"].lt(0.5).all() and rows["note"].str.contains("reversed score: C = ").all()
    right = discrimination_rows(scores, tau=36.0, n_bootstrap=B)
    assert not right["note"].str.contains("reversed").any()


def test_a_constant_score_is_one_half_and_says_why(scores):
    same = scores[scores["model"] == "Noise"].assign(risk=1.0)
    rows = discrimination_rows(same, tau=36.0, n_bootstrap=B)
    assert rows["value"].eq(0.5).all() and rows["ci_low"].isna().all()
    assert rows["note"].str.contains("same for every patient").all()
    assert td_auc_rows(same, [36], n_bootstrap=B)["value"].to_numpy() == pytest.approx(0.5)
    groups = risk_groups.risk_group_rows(same)
    assert groups["value"].isna().all() and groups["note"].str.contains("one side of the training cut-off").all()


def test_two_models_that_order_alike_have_difference_zero_and_no_p(scores):
    twins = pd.concat([scores[scores["model"] == "True"].assign(model=name) for name in ("A", "B")])
    rows = difference_rows(twins, tau=36.0, n_bootstrap=B)
    assert rows.loc[rows["metric"].str.endswith("difference"), "value"].eq(0).all()
    p = rows[rows["metric"].eq("harrell_c_difference_p")]
    assert p["value"].isna().all() and p["note"].str.len().gt(0).all()
    assert rows.loc[rows["metric"].eq("harrell_c_difference_permutation_p"), "value"].eq(1).all()


def test_the_p_of_a_difference_is_the_jackknifes_and_the_permutations(scores):
    rows = difference_rows(scores, tau=36.0, n_bootstrap=B).query("kind == 'validation'")
    own = {m: scores.query("model == @m and kind == 'validation'") for m in ("True", "Noise")}
    follow_up = own["True"]["time_months"], own["True"]["event"]
    for metric, tau in (("harrell_c", None), ("uno_c", 36.0)):
        result = compare_c(*follow_up, own["True"]["risk"], own["Noise"]["risk"], tau=tau, permutations=0)
        assert one(rows, metric=f"{metric}_difference_p")["value"] == pytest.approx(result.p)
    auc = auc_difference_rows(scores, [36], n_bootstrap=B).query("kind == 'validation'")
    expected = compare_auc(*follow_up, own["True"]["risk"], own["Noise"]["risk"], 36)
    assert one(auc, metric="td_auc_difference")["value"] == pytest.approx(expected.difference)
    assert one(auc, metric="td_auc_difference_p")["value"] == pytest.approx(expected.p)


def test_the_integrated_auc_lies_between_the_landmarks_and_names_them(scores):
    rows = td_auc_rows(scores, [*LANDMARKS, 5000], n_bootstrap=B).query("model == 'True' and kind == 'validation'")
    row, at = one(rows, metric="integrated_td_auc"), rows.query("metric == 'td_auc'")["value"].dropna()
    assert at.min() <= row["value"] <= at.max() and row["ci_low"] > 0.6
    assert row["horizon_months"] == 36 and row["note"].endswith("; over 12, 36")


def test_ipa_over_the_landmarks_compares_with_kaplan_meier(scores):
    rows = brier_rows(scores, LANDMARKS, n_bootstrap=B).query("kind == 'validation'")
    ibs, curve, gain = (one(rows, metric=m)["value"] for m in ("ibs", "ibs_km", "integrated_ipa"))
    assert gain == pytest.approx(1 - ibs / curve) and gain > 0
    brier, km, ipa = (one(rows, metric=m, horizon_months=36)["value"] for m in ("brier", "brier_km", "ipa"))
    assert ipa == pytest.approx(1 - brier / km)


def test_e50_and_e90_have_intervals_and_are_the_curves_own_distances(scores):
    rows = calibration_rows(scores, [36], n_bootstrap=B).query("kind == 'cross_fitted'")
    own = scores.query("model == 'True' and kind == 'cross_fitted'")
    errors = calibration_errors(own["time_months"], own["event"], own["lrfs_36"], 36)
    for name in ("ici", "e50", "e90"):
        row = one(rows, metric=name)
        assert row["value"] == pytest.approx(getattr(errors, name)) and row["ci_low"] < row["value"] < row["ci_high"]


def own_time_table(sharpness):
    scores = score_table(600, 3, ("cross_fitted",)).query("model == 'True'")
    hazard = np.exp(scores["risk"]) / 40
    return scores.assign(lrfs_own=np.exp(-hazard * scores["time_months"]) ** sharpness)


def test_all_of_follow_up_tells_honest_from_broken_promises():
    honest, broken = (calibration_rows(own_time_table(s), LANDMARKS, n_bootstrap=5) for s in (1.0, 0.6))
    assert one(honest, metric="d_calibration_p")["value"] > 0.01 > one(broken, metric="d_calibration_p")["value"]
    ratio = one(honest, metric="observed_expected_overall")
    assert ratio["ci_low"] < 1 < ratio["ci_high"]
    assert one(broken, metric="observed_expected_overall")["value"] == pytest.approx(ratio["value"] / 0.6)


def test_without_lrfs_at_the_own_time_the_gap_is_explained(scores):
    rows = calibration_rows(scores, LANDMARKS, n_bootstrap=5)
    gaps = rows[rows["metric"].isin(["d_calibration_p", "observed_expected_overall"])]
    assert gaps["value"].isna().all() and gaps["note"].str.contains("lrfs_own").all()


def test_times_at_which_everything_ties_are_counted_by_the_rules():
    """Two events and a censoring at 5, risks tied: the usable pairs are those of the hand count, in every metric."""
    table = pd.DataFrame(
        {
            "patient_id": list("ABCDEF"),
            **{"split": "validation", "kind": "validation", "model": "M"},
            "time_months": [5.0, 5, 5, 8, 9, 9],
            "event": [1, 1, 0, 1, 0, 0],
            "risk": [3.0, 1, 1, 1, 0, 2],
        }
    )
    # A: beats C D E F (4 of 4); B: ties C D, beats E, loses F (2 of 4); D: beats E, loses F (1 of 2)
    row = one(discrimination_rows(table, tau=8.0, n_bootstrap=B), metric="harrell_c")
    assert row["value"] == pytest.approx((4 + 2 + 1) / 10)
    assert one(discrimination_rows(table, tau=5.0, n_bootstrap=B), metric="uno_c")["value"] == pytest.approx(6 / 8)
    # at 5: cases A B, controls D E F: A beats all three, B ties D, beats E, loses F
    assert one(td_auc_rows(table, [5], n_bootstrap=B), metric="td_auc")["value"] == pytest.approx((3 + 1.5) / 6)


def test_without_censoring_weights_are_one(scores):
    """Everybody observed to the end: td_auc is the plain AUC, Brier the plain mean square, Uno's C Harrell's."""
    seen = scores[(scores["model"] == "True") & (scores["kind"] == "validation")].assign(event=1)
    recurred = seen["time_months"] <= 36
    auc = one(td_auc_rows(seen, [36], n_bootstrap=B), metric="td_auc")["value"]
    assert auc == pytest.approx(roc_auc_score(recurred, seen["risk"]))
    brier = one(brier_rows(seen, [36], n_bootstrap=B), metric="brier")["value"]
    assert brier == pytest.approx(np.mean((seen["lrfs_36"] - ~recurred) ** 2))
    c = discrimination_rows(seen, tau=seen["time_months"].max(), n_bootstrap=B).set_index("metric")["value"]
    assert c["uno_c"] == pytest.approx(c["harrell_c"])


NOTHING = ("harrell_c", "uno_c", "td_auc", "integrated_td_auc", "calibration_slope", "hazard_ratio", "logrank_p", "ipa")


def test_without_any_event_every_gap_says_so(scores):
    rows = every_row(scores[scores["model"] == "True"].assign(event=0))
    gone = rows[rows["metric"].isin(NOTHING)]
    assert set(gone["metric"]) == set(NOTHING)
    assert gone["value"].isna().all() and gone["note"].str.len().gt(0).all()
    assert rows.loc[rows["metric"] == "observed_expected", "value"].eq(0).all()
    assert rows["events"].eq(0).all()


def test_no_event_in_one_split_leaves_the_other_alone(scores):
    new = scores["kind"] == "validation"
    spared = discrimination_rows(scores.assign(event=scores["event"].where(~new, 0)), tau=36.0, n_bootstrap=B)
    usual = discrimination_rows(scores, tau=36.0, n_bootstrap=B)
    training = usual["kind"] != "validation"
    pd.testing.assert_frame_equal(spared[training], usual[training])
    assert spared.loc[~training, "value"].isna().all()
    assert spared.loc[~training, "note"].str.contains("no usable pair|no event").all()


def test_29_patients_get_wide_intervals_and_every_doubt_in_words():
    scores = score_table(116, seed=2, kinds=("validation",))
    assert scores["patient_id"].nunique() == 29
    rows = every_row(scores, [12, 36, 60], 36.0)
    c = one(rows, model="True", metric="harrell_c")
    assert c["n"] == 29 and 0.1 < c["ci_high"] - c["ci_low"] < 0.6
    late = rows.query("metric == 'td_auc' and horizon_months == 60")
    assert late["note"].str.contains("at risk").all(), "few are followed to 60, and that is said"
    assert rows.loc[rows["value"].isna(), "note"].str.len().gt(0).all()


def test_tables_for_reading_keep_the_order_and_mark_gaps(scores):
    rows = every_row(scores)
    table = wide(rows[rows["metric"] == "harrell_c"])
    assert table.columns.tolist() == ["model", "apparent", "cross_fitted", "validation"]
    assert table["model"].tolist() == ["True", "Noise"]
    assert table.loc[0, "validation"].count("to") == 1
    gaps = td_auc_rows(scores, [12, 5000], n_bootstrap=B)
    assert wide(gaps, "horizon_months")["5000"].eq("–").all()


WORDS = {
    "value with interval": ((0.7491, 0.601, 0.878), "0.749 (0.601 to 0.878)"),
    "value alone": ((0.73, np.nan, np.nan), "0.730"),
    "no minus zero": ((-1e-9, -0.1, 0.1), "0.000 (-0.100 to 0.100)"),
    "nothing": ((np.nan, np.nan, np.nan), "–"),
}


@pytest.mark.parametrize(("numbers", "words"), WORDS.values(), ids=WORDS)
def test_intervals_in_words(numbers, words):
    assert interval_text(*numbers, digits=3) == words


def test_small_p_values_are_not_printed_as_zero():
    assert [p_text(p) for p in (0.0004, 0.0124, np.nan)] == ["< 0.001", "0.012", "–"]


def test_evaluation_and_figures_never_load_torch():
    modules = "sys, rps_utils.evaluation.risk_groups, rps_utils.figures.effects, rps_utils.report.page"
    code = f"import {modules}; print('torch' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "False"
