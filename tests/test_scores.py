import numpy as np
import pandas as pd
import pytest

from rps_utils import scores
from rps_utils.files import write_csv


@pytest.fixture
def table(cohort):
    rows = []
    for split, kinds in scores.KINDS_OF_SPLIT.items():
        part = cohort[cohort["split"] == split]
        risk = part.set_index("patient_id")["signal"]
        lrfs = pd.DataFrame({"lrfs_36": np.full(len(part), 0.5)}, index=risk.index)
        rows += [scores.score_rows(cohort, "DL", kind, risk, lrfs) for kind in kinds]
    return pd.concat(rows, ignore_index=True)


def test_a_sound_table_comes_back_as_it_was(table, tmp_path):
    pd.testing.assert_frame_equal(scores.read_scores(write_csv(table, tmp_path / "s.csv")), table)


FAULTS = {
    "negative time": ("time_months", -1.0, "row 2, column time_months: .*-1.0.*; allowed: a number above 0"),
    "event three": ("event", 3, "row 2, column event: .*3.*; allowed: 1 = local recurrence, 0 = censored, 2 = death"),
    "a death and no death": ("event", 2, "patient P000 has 2 different values of event"),
    "risk missing": ("risk", np.nan, "row 2, column risk: .*nan.*; allowed: a finite number, higher for earlier"),
    "lrfs in percent": ("lrfs_36", 50.0, "row 2, column lrfs_36: .*50.*; allowed: empty, or an LRFS probability"),
    "unknown split": ("split", "test", "row 2, column split: 'test'; allowed: training or validation"),
    "kind of the other split": ("kind", "validation", "column kind: 'validation' in split training; allowed there"),
    "patient twice": ("patient_id", "P001", "patient P001 has more than one row of model DL, kind apparent"),
}


@pytest.mark.parametrize(("column", "value", "message"), FAULTS.values(), ids=FAULTS)
def test_each_fault_is_named(table, tmp_path, column, value, message):
    table = table.astype({column: object})
    table.loc[0, column] = value
    with pytest.raises(scores.ScoreTableError, match=message):
        scores.read_scores(write_csv(table, tmp_path / "s.csv"))


def test_missing_column_and_empty_table_are_named(table):
    assert scores.check_scores(table.drop(columns="risk"))[0].startswith("column risk: missing")
    assert "no rows" in scores.check_scores(table.iloc[:0])[0]


def test_one_patient_has_one_outcome(table):
    table.loc[0, "time_months"] = 99.0
    assert "different values of time_months" in scores.check_scores(table)[0]


def test_landmarks_are_read_from_column_names():
    frame = pd.DataFrame(columns=["lrfs_60", "lrfs_7.5", "lrfs_x", "risk"])
    assert scores.lrfs_landmarks(frame) == [7.5, 60.0]
    assert scores.lrfs_column(7.5) == "lrfs_7.5"


def test_ready_made_scores_are_judged_without_being_fitted(cohort):
    rows = scores.ready_made_scores(cohort.assign(risk_Nomogram=cohort["signal"]))
    assert set(rows["model"]) == {"Nomogram"}
    assert dict(rows.groupby("split")["kind"].first()) == {"training": "cross_fitted", "validation": "validation"}
    assert len(rows) == len(cohort)
    assert scores.ready_made_scores(cohort).empty


# ---------------------------------------------------------------- deaths without local recurrence


def dead(table):
    """Every second censored patient died."""
    patients = sorted(table.loc[table["event"] == 0, "patient_id"].unique())[::2]
    return table.assign(event=table["event"].mask(table["patient_id"].isin(patients), 2))


def test_death_is_event_2_at_the_door_and_censored_behind_it(table, tmp_path):
    given = dead(table)
    read = scores.read_scores(write_csv(given, tmp_path / "s.csv"))
    assert read["event"].tolist() == (given["event"] == 1).astype(int).tolist()
    assert read["died"].tolist() == (given["event"] == 2).astype(int).tolist()
    assert list(read.columns[:5]) == ["patient_id", "split", "time_months", "event", "died"]
    pd.testing.assert_frame_equal(scores.read_scores(write_csv(read, tmp_path / "again.csv")), read)


def test_deaths_travel_from_the_cohort_into_every_score_row(cohort):
    cohort = scores.by_cause(dead(cohort))
    rows = scores.ready_made_scores(cohort.assign(risk_Nomogram=cohort["signal"]))
    assert rows.set_index("patient_id")["died"].to_dict() == cohort.set_index("patient_id")["died"].to_dict()
    assert cohort["died"].sum() > 10


def test_without_deaths_there_is_no_such_column(table):
    assert scores.by_cause(table) is table


DEATHS = {
    "died in words": ("died", "yes", "row 2, column died: 'yes'; allowed: 1 = death without local recurrence, else 0"),
    "died after recurring": ("event", 1, "row 2, column died: 1; allowed"),
    "death for one model only": ("died", 0, "patient P00. has 2 different values of died"),
}


@pytest.mark.parametrize(("column", "value", "message"), DEATHS.values(), ids=DEATHS)
def test_deaths_that_contradict_themselves_are_named(table, tmp_path, column, value, message):
    wrong = scores.by_cause(dead(table)).sort_values("died", ascending=False, ignore_index=True)
    wrong = wrong.astype({column: object})
    wrong.loc[0, column] = value
    with pytest.raises(scores.ScoreTableError, match=message):
        scores.read_scores(write_csv(wrong, tmp_path / "s.csv"))
