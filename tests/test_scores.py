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
    "comma for a point": ("risk", "0,5", "row 2, column risk: '0,5'; .*write 0.5"),
    "comma of either kind": (
        "time_months",
        "1,234",
        "1234 if the comma parts thousands, 1.234 if",
    ),
    "a person in a cell of numbers": ("risk", "Doe^Jane", r"row 2, column risk: a name \(not shown\); allowed"),
    "an id with a date": (
        "patient_id",
        "P-1961-03-07",
        r"patient_id: a date \(not shown\); allowed: a pseudonym",
    ),
    "an id that is a name": ("patient_id", "Jane Doe", r"column patient_id: a name \(not shown\)"),
    "an id that is a telephone number": ("patient_id", "tel 030 1234567", r"a long number \(not shown\)"),
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


# ---------------------------------------------------------------- names, landmarks, predictions


def two_models(table, first, second):
    return pd.concat([table.assign(model=first), table.assign(model=second)], ignore_index=True)


ALIKE = {
    "space behind": ("A", "A "),
    "capitals": ("DLCM", "dlcm"),
    "Cyrillic": ("RSCM", "RS\u0421M"),
    "Greek": ("Rad", "R\u03b1d"),
    "space inside": ("A B", "AB"),
    "invisible sign": ("A", "A\u200b"),
    "soft hyphen": ("AB", "A\u00adB"),
    "composed and not": ("caf\u00e9", "cafe\u0301"),
    "wide letters": ("A1", "Ａ１"),
    "tab": ("A", "A\t"),
}


@pytest.mark.parametrize(("first", "second"), ALIKE.values(), ids=ALIKE)
def test_two_models_that_read_alike_are_refused(table, tmp_path, first, second):
    with pytest.raises(scores.ScoreTableError, match=r"column model: .*(differ in|allowed: printable text)"):
        scores.read_scores(write_csv(two_models(table, first, second), tmp_path / "s.csv"))


@pytest.mark.parametrize(
    ("first", "second"), [("1", "2"), ("NA", "None"), ("A/B", "A-B"), ("Ä", "日本"), ("1e5", "1e6")]
)
def test_names_that_differ_are_text_and_stay_apart(table, tmp_path, first, second):
    read = scores.read_scores(write_csv(two_models(table, first, second), tmp_path / "s.csv"))
    assert list(dict.fromkeys(read["model"])) == [first, second] and len(read) == 2 * len(table)


COLUMNS_OF_LRFS = {
    "twice": (["lrfs_12", "lrfs_12.0"], "columns lrfs_12, lrfs_12.0: one landmark"),
    "twice, other digits": (["lrfs_012", "lrfs_12.00"], "columns lrfs_012, lrfs_12.00: one landmark"),
    "capitals": (["LRFS_36"], "column 'LRFS_36': not understood"),
    "with a unit": (["lrfs_36m"], "column 'lrfs_36m': not understood"),
    "below 0": (["lrfs_-12"], "column 'lrfs_-12': not understood"),
    "at 0": (["lrfs_0"], "column 'lrfs_0': not understood"),
    "not a number": (["lrfs_nan"], "column 'lrfs_nan': not understood"),
    "space": (["lrfs_ 36"], "column 'lrfs_ 36': not understood"),
}


@pytest.mark.parametrize(("columns", "message"), COLUMNS_OF_LRFS.values(), ids=COLUMNS_OF_LRFS)
def test_a_landmark_is_written_once_and_in_one_way(table, tmp_path, columns, message):
    wrong = table.drop(columns="lrfs_36").assign(**dict.fromkeys(columns, 0.5))
    with pytest.raises(scores.ScoreTableError, match=message):
        scores.read_scores(write_csv(wrong, tmp_path / "s.csv"))


@pytest.mark.parametrize("column", ["lrfs_036", "lrfs_36.0", "lrfs_36.00"])
def test_another_spelling_of_a_landmark_is_read_as_the_landmark(table, tmp_path, column):
    read = scores.read_scores(write_csv(table.rename(columns={"lrfs_36": column}), tmp_path / "s.csv"))
    assert "lrfs_36" in read and scores.lrfs_landmarks(read) == [36.0]


def test_a_column_that_is_there_twice_is_refused(table, tmp_path):
    path = write_csv(table.assign(other=1.0), tmp_path / "s.csv")
    path.write_text(path.read_text().replace("other", "risk", 1))
    with pytest.raises(ValueError, match="column 'risk' is there twice"):
        scores.read_scores(path)


def test_missing_numbers_of_other_programs_are_missing(table, tmp_path):
    path = write_csv(table.assign(lrfs_60=np.nan), tmp_path / "s.csv")
    text = path.read_text().splitlines()
    path.write_text("\n".join([text[0], *(line + "NA" for line in text[1:])]) + "\n")
    assert scores.read_scores(path)["lrfs_60"].isna().all()


def predicted(table, **columns):
    return table.drop(columns="lrfs_36").assign(**columns)


IMPOSSIBLE = {
    "rises": ({"lrfs_12": 0.5, "lrfs_36": 0.6}, "column lrfs_36: 0.6; allowed: no higher than at an earlier landmark"),
    "rises over a gap": (
        {"lrfs_12": 0.5, "lrfs_36": np.nan, "lrfs_60": 0.6},
        "column lrfs_60: 0.6; allowed: no higher",
    ),
    "own time too high": ({"lrfs_0.001": 0.5, "lrfs_own": 0.9}, "column lrfs_own: 0.9; .*agreement with lrfs_0.001"),
    "own time too low": ({"lrfs_9000": 0.5, "lrfs_own": 0.1}, "column lrfs_own: 0.1; .*agreement with lrfs_9000"),
    "infinite": ({"lrfs_36": "inf"}, "column lrfs_36: 'inf'; allowed: empty, or an LRFS probability"),
}


@pytest.mark.parametrize(("columns", "message"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_lrfs_that_cannot_be_is_refused(table, tmp_path, columns, message):
    with pytest.raises(scores.ScoreTableError, match=message):
        scores.read_scores(write_csv(predicted(table, **columns), tmp_path / "s.csv"))


def test_lrfs_that_stays_equal_or_falls_passes(table):
    assert scores.check_scores(predicted(table, lrfs_12=0.5, lrfs_36=0.5, lrfs_60=0.4)) == []


def falling(table):
    """LRFS that falls as risk rises."""
    return table.assign(lrfs_36=1 / (1 + np.exp(table["risk"])), risk=table["risk"] + (table["kind"] == "apparent"))


def test_nothing_is_odd_about_a_sound_table(table):
    assert scores.odd_scores(falling(table), [12, 36]) == []


ODD = {
    "risk in lrfs": (lambda t: t.assign(lrfs_36=1 - t["lrfs_36"]), "DL, validation: lrfs_36 rises with the risk"),
    "no rank": (lambda t: t.assign(risk=1.0), "DL, validation: every patient has the same risk"),
    "days": (lambda t: t.assign(time_months=t["time_months"] * 30), "days"),
    "years": (lambda t: t.assign(time_months=t["time_months"] / 120), "first landmark 12: other units"),
    "apparent twice": (lambda t: t.assign(risk=-t["lrfs_36"]), "judged on patients it learned"),
    "one model twice": (lambda t: two_models(t, "A", "B"), "A and B, validation: the same risk for every patient"),
}


@pytest.mark.parametrize(("change", "sentence"), ODD.values(), ids=ODD)
def test_what_is_odd_is_said(table, change, sentence):
    wrong = change(falling(table))
    assert scores.check_scores(wrong) == []
    assert sentence in "\n".join(scores.odd_scores(wrong, [12, 36]))


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


def test_a_column_that_is_not_needed_may_hold_no_person(table, tmp_path):
    """The evaluation copies the whole table."""
    noted = table.assign(note=["seen 07.03.1961", *[""] * (len(table) - 1)])
    with pytest.raises(
        scores.ScoreTableError, match=r"row 2, column note: a date \(not shown\); remove the column"
    ) as told:
        scores.read_scores(write_csv(noted, tmp_path / "s.csv"))
    assert "1961" not in str(told.value)
    plain = table.assign(note="second reading")
    assert list(scores.read_scores(write_csv(plain, tmp_path / "s.csv"))["note"].unique()) == ["second reading"]
