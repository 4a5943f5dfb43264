"""Two models in the same patients: Brier score, IPA and net benefit, and a word on many pairs."""

import numpy as np
import pandas as pd
import pytest

from rps_utils.evaluation.brier import brier_difference_rows, brier_rows
from rps_utils.evaluation.decision import net_benefit_difference_rows, net_benefit_rows
from rps_utils.evaluation.wording import holm, many_pairs_sentence
from rps_utils.scores import lrfs_column

from .test_evaluation import one, score_table

B = 200


@pytest.fixture(scope="module")
def scores():
    """The true model beside one that promises everybody the same, in 300 patients."""
    true = score_table(300, kinds=("validation",)).query("model == 'True'")
    flat = true.assign(model="Flat", risk=true["risk"] / 2)
    for landmark in (12, 36):
        flat[lrfs_column(landmark)] = true[lrfs_column(landmark)].mean()
    return pd.concat([true, flat], ignore_index=True)


def test_differences_are_those_of_the_single_values_and_see_the_better_model(scores):
    rows, single = brier_difference_rows(scores, [36], n_bootstrap=B), brier_rows(scores, [36], n_bootstrap=B)
    for metric, better in (("brier", -1), ("ipa", 1)):
        row = one(rows, metric=f"{metric}_difference")
        values = [one(single, metric=metric, model=m)["value"] for m in ("True", "Flat")]
        assert row["model"] == "True - Flat"
        assert row["value"] == pytest.approx(values[0] - values[1], abs=1e-12)
        assert row["value"] * better > 0 and row["ci_low"] * row["ci_high"] > 0
    benefit = net_benefit_difference_rows(scores, [36], [0.4], n_bootstrap=B).iloc[0]
    single = net_benefit_rows(scores, [36], [0.4], n_bootstrap=B)
    values = [one(single, metric="net_benefit_0.4", model=m)["value"] for m in ("True", "Flat")]
    assert benefit["metric"] == "net_benefit_difference_0.4"
    assert benefit["value"] == pytest.approx(values[0] - values[1], abs=1e-12)


def test_equal_models_differ_by_nothing(scores):
    twin = scores[scores["model"] == "True"].assign(model="Twin")
    rows = brier_difference_rows(pd.concat([twin, scores]), [36], n_bootstrap=B)
    row = one(rows, model="Twin - True", metric="brier_difference")
    assert row["value"] == 0 and np.isnan(row["ci_low"])


def test_only_patients_that_both_models_have_are_compared(scores):
    kept = scores.drop(scores.index[(scores["model"] == "Flat") & (np.arange(len(scores)) % 3 == 0)])
    both = set(kept.query("model == 'Flat'")["patient_id"])
    row = brier_difference_rows(kept, [36], n_bootstrap=B).iloc[0]
    assert row["n"] == len(both) < scores["patient_id"].nunique()
    single = brier_rows(kept[kept["patient_id"].isin(both)], [36], n_bootstrap=B)
    values = [one(single, metric="brier", model=m)["value"] for m in ("True", "Flat")]
    assert row["value"] == pytest.approx(values[0] - values[1], abs=1e-12)


def test_a_landmark_that_one_of_the_two_does_not_predict_has_its_reason(scores):
    without = scores.copy()
    without.loc[without["model"] == "Flat", lrfs_column(12)] = np.nan
    for rows in (
        brier_difference_rows(without, [12, 36], n_bootstrap=B),
        net_benefit_difference_rows(without, [12, 36], [0.4], n_bootstrap=B),
    ):
        assert rows.loc[rows["horizon_months"] == 36, "value"].notna().all()
        late = rows[rows["horizon_months"] == 12]
        assert late["value"].isna().all() and set(late["note"]) == {f"Flat gives no {lrfs_column(12)}"}


@pytest.mark.parametrize(
    ("p", "corrected"),  # R: p.adjust(p, "holm")
    [([0.01, 0.02, 0.03, 0.04], [0.04, 0.06, 0.06, 0.06]), ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]), ([0.7], [0.7])],
)
def test_holm_is_that_of_r(p, corrected):
    assert holm(np.array(p)) == pytest.approx(corrected)


def test_the_sentence_counts_what_luck_gives_and_what_is_left():
    pairs = pd.DataFrame({"model": ["A - B", "A - C", "B - C"], "value": [0.1, 0.2, 0.0]})
    pairs = pairs.assign(ci_low=[0.01, 0.1, -0.1], ci_high=[0.2, 0.3, 0.1])
    said = many_pairs_sentence(pairs, pairs.assign(value=[0.04, 0.001, 0.9]))
    assert said.startswith("2 of 3 intervals leave out zero; if no two models differed, about 0.2 would.")
    assert said.endswith("Corrected for 3 pairs (Holm) are left: A - C.")
    assert many_pairs_sentence(pairs, pairs.assign(value=0.5)).endswith("are left: none.")
    assert "Holm" not in many_pairs_sentence(pairs)
    nothing = many_pairs_sentence(pairs.assign(ci_low=np.nan), pairs.assign(value=np.nan))
    assert nothing == "0 of 0 intervals leave out zero; if no two models differed, about 0.0 would."
