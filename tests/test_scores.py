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
    "event two": ("event", 2, "row 2, column event: .*2.*; allowed: 1 = local recurrence, 0 = censored"),
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
