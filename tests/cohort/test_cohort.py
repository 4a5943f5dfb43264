import numpy as np
import pandas as pd
import pytest

from rps_utils.cohort.describe import cohort_flow, follow_up, standardised_difference, table_one
from rps_utils.cohort.splits import draw_folds, draw_split, stratified_folds, study_table
from rps_utils.imaging.crops import crop_paths, free_margin_mm, prepare_cohort
from rps_utils.imaging.volumes import Volume, load_pair, write_volume


def manifest(patients=115, split=True):
    draw = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "patient_id": [f"P{i:03d}" for i in range(patients)],
            "image": "ct.nii.gz",
            "mask": "mask.nii.gz",
            "time_months": draw.exponential(30, patients).round(1) + 0.5,
            "event": (draw.random(patients) < 0.45).astype(int),
            "age": draw.normal(56, 12, patients).round(),
            "grade": draw.choice(["G1", "G2", "G3"], patients),
            "risk_Nomogram": draw.normal(size=patients),
            "image_sha256": "0" * 64,
        }
    )
    if split:
        table["split"] = draw_split(table["event"], 1)
    return table


# ---------------------------------------------------------------- split and folds


def test_split_has_the_paper_s_size_and_equal_event_rates():
    cohort = manifest()
    counts = cohort["split"].value_counts()
    assert counts.to_dict() == {"training": 86, "validation": 29}
    rates = cohort.groupby("split")["event"].mean()
    assert abs(rates["training"] - rates["validation"]) < 0.03


def test_split_follows_the_seed_alone():
    cohort = manifest()
    event = cohort["event"]
    np.testing.assert_array_equal(draw_split(event, 1), cohort["split"])
    assert (draw_split(event, 2) != cohort["split"]).any()
    with pytest.raises(ValueError, match=r"training_share = 1\.0 leaves a split of 115 patients empty"):
        draw_split(event, 1, training_share=1.0)


@pytest.mark.parametrize(("events", "seed"), [(49, 2026), (43, 1), (58, 2)])
def test_the_split_is_stratified_by_event(events, seed):
    event = pd.Series(np.random.default_rng(seed).permutation([1] * events + [0] * (115 - events)))
    split = draw_split(event, seed)
    assert (split == "training").sum() == 86 and (split == "validation").sum() == 29
    assert abs(event[split == "validation"].mean() - event.mean()) < 0.02


def test_deaths_told_apart_leave_the_split_as_it_is():
    event = pd.Series(np.random.default_rng(0).choice([0, 1, 2], 60))
    told, plain = (draw_split(e, 3) for e in (event, (event == 1).astype(int)))
    assert (told == plain).all() and (told == "validation").sum() == 15


@pytest.mark.parametrize("folds", [3, 5, 10])
def test_folds_share_patients_and_events_evenly(folds):
    cohort = manifest()
    fold = draw_folds(cohort, folds, 2026)
    assert fold[cohort["split"] == "validation"].isna().all()
    training = cohort.assign(fold=fold).dropna(subset="fold")
    for counts in (training["fold"].value_counts(), training.groupby("fold")["event"].sum()):
        assert len(counts) == folds
        assert counts.max() - counts.min() <= 1


def test_folds_need_events():
    cohort = manifest().assign(event=0)
    with pytest.raises(ValueError, match="folds = 5, but training has 0 events: choose fewer folds"):
        draw_folds(cohort, 5, 1)


def test_folds_are_drawn_not_fixed_by_the_ranking():
    time, event = np.arange(1.0, 41), np.tile([True, False], 20)
    drawn = {tuple(stratified_folds(time, event, 4, seed)) for seed in range(10)}
    assert len(drawn) == 10


def test_study_table_has_the_columns_of_the_contract():
    table = study_table(manifest(), 5, 2026)
    assert table.columns.tolist() == [
        *("patient_id", "split", "fold", "time_months", "event", "age", "grade", "risk_Nomogram")
    ]


def test_study_table_draws_a_missing_split_and_keeps_a_given_one():
    given = manifest()
    assert study_table(given, 5, 7)["split"].tolist() == given["split"].tolist()
    drawn = study_table(manifest(split=False), 5, 7)
    assert drawn["split"].value_counts()["validation"] == 29
    pd.testing.assert_frame_equal(drawn, study_table(manifest(split=False), 5, 7))


# ---------------------------------------------------------------- description


def test_table_one_counts_by_hand():
    cohort = pd.DataFrame(
        {
            "patient_id": list("abcdef"),
            "split": ["training"] * 4 + ["validation"] * 2,
            "time_months": 1.0,
            "event": 1,
            "age": [40.0, 50, 60, np.nan, 70, 80],
            "sex": ["f", "f", "m", None, "m", "m"],
            "risk_X": 0.0,
        }
    )
    table = table_one(cohort).set_index(["characteristic", "level"])
    assert table.loc[("patients", ""), ["all", "training", "validation"]].tolist() == ["6", "4", "2"]
    assert table.loc[("age", "median [quartiles]"), "training"] == "50 [45, 55]"
    assert table.loc[("age", "median [quartiles]"), "missing"] == "1"
    assert table.loc[("sex", "f"), ["training", "validation"]].tolist() == ["2 (67%)", "0 (0%)"]
    assert "risk_X" not in table.index.get_level_values(0)


def test_standardised_difference_by_hand():
    first = pd.Series([True] * 3 + [False] * 3)
    assert standardised_difference(pd.Series([1.0, 2, 3, 2, 3, 4]), first) == pytest.approx(1.0)
    shares = pd.Series(list("yynynn"))  # 2/3 and 1/3
    assert standardised_difference(shares, first) == pytest.approx((1 / 3) / np.sqrt(2 / 9))
    assert standardised_difference(pd.Series(list("abcabc")), first) == pytest.approx(0)
    assert standardised_difference(pd.Series(["no"] * 6), first) == 0
    assert np.isnan(standardised_difference(pd.Series([1.0, 2, 3, 4, None, None]), first))


def test_follow_up_is_that_of_the_censored():
    """Everybody is followed for 50 months unless a recurrence ends it: the plain median would be 20."""
    cohort = pd.DataFrame({"split": ["training", "validation"] * 20, "time_months": 50.0, "event": 0})
    cohort.loc[:23, ["time_months", "event"]] = 20.0, 1
    table = follow_up(cohort).set_index("split")
    assert cohort["time_months"].median() == 20
    assert table["median_months"].tolist() == [50, 50, 50]
    assert table["events"].tolist() == [24, 12, 12]


def test_follow_up_without_censoring_says_why_it_is_empty():
    cohort = pd.DataFrame({"split": ["training", "validation"] * 5, "time_months": 10.0, "event": 1})
    table = follow_up(cohort)
    assert table["median_months"].isna().all()
    assert table["note"].str.len().gt(0).all()


def test_deaths_are_counted_and_end_observation_as_recurrences_do():
    """Who died would have been followed to 50 months as everybody else: the median of follow-up does not move."""
    rows = manifest()
    rows["event"] = rows["event"].where((rows["event"] == 1) | (rows.index % 3 > 0), 2)
    cohort = study_table(rows, 5, 1)
    assert set(cohort["event"]) == {0, 1} and cohort["died"].sum() == (rows["event"] == 2).sum() > 10
    assert cohort["event"].sum() == (rows["event"] == 1).sum()
    flow = cohort_flow(cohort).set_index("step")
    assert flow.loc[["training", "validation"], "deaths"].sum() == flow["deaths"].iloc[0] == cohort["died"].sum()
    assert "died" not in table_one(cohort)["characteristic"].tolist()
    same = pd.DataFrame({"split": ["training", "validation"] * 20, "time_months": 50.0, "event": 0, "died": 0})
    same.loc[:23, ["time_months", "died"]] = 20.0, 1
    assert follow_up(same)[["median_months", "deaths"]].to_numpy().tolist() == [[50, 24], [50, 12], [50, 12]]


def test_a_cohort_without_deaths_has_no_column_for_them():
    cohort = study_table(manifest(), 5, 1)
    assert "died" not in cohort and "deaths" not in cohort_flow(cohort) and "deaths" not in follow_up(cohort)


def test_flow_adds_up():
    cohort = study_table(manifest(), 5, 1)
    cohort.loc[3, "age"] = np.nan
    flow = cohort_flow(cohort).set_index("step")["patients"]
    assert flow.iloc[0] == 115
    assert flow.iloc[1] == 114
    assert flow["training"] + flow["validation"] == 115
    assert flow.filter(like="fold").sum() == flow["training"]


# ---------------------------------------------------------------- images


def test_crops_and_facts_of_a_cohort(tmp_path):
    hu = np.full((40, 32, 20), -1000, np.int16)
    hu[4:36, 4:28, :] = -100
    hu[6:14, 10:18, 5:11] = 50
    mask = (hu == 50).astype(np.uint8)
    affine = np.diag([4.0, 4.0, 5.0, 1.0])
    for i in range(2):
        write_volume(Volume(hu, affine), tmp_path / f"{i}_ct.nii.gz")
        write_volume(Volume(mask, affine), tmp_path / f"{i}_mask.nii.gz")
    rows = pd.DataFrame({"patient_id": ["A", "B"], "image": ["0_ct.nii.gz", "1_ct.nii.gz"]})
    rows["mask"] = rows["image"].str.replace("ct", "mask")
    facts = prepare_cohort(rows, tmp_path, tmp_path / "crops", 3.0, margin_mm=15.0)
    first = facts.iloc[0]
    assert (first["patient_id"], first["side"], first["matrix"]) == ("A", "left", "40 x 32 x 20")
    assert first["volume_ml"] == pytest.approx(8 * 8 * 6 * 0.08, abs=0.05)
    assert first["longest_diameter_mm"] == pytest.approx(np.hypot(np.hypot(28, 28), 25), abs=0.1)
    assert first["median_hu"] == 50
    assert first["free_margin_mm"] >= first["margin_mm"] == 15
    assert first["crop_volume_ml"] == pytest.approx(first["volume_ml"], rel=0.15)
    ct, small = load_pair(*crop_paths(tmp_path / "crops", "A"))
    np.testing.assert_allclose(ct.spacing, 3.0)
    assert ct.values.dtype == np.int16
    assert free_margin_mm(small) == first["free_margin_mm"]
