"""Harmonisation: the published equations, learned from some patients, applied to others; folds that are centres."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.naive_bayes import GaussianNB

from rps_utils.cli.main import main
from rps_utils.cohort.manifest import check_cells
from rps_utils.cohort.splits import group_folds, study_table
from rps_utils.files import read_csv, read_json, write_csv, write_json
from rps_utils.lab.faults.manifest import write_small_manifest
from rps_utils.learning import crossfit
from rps_utils.learning.harmonise import Harmonisation, centres, check_centres, learn_harmonisation
from rps_utils.learning.radiomics import RadiomicModel, fit_radiomic_model

REFERENCE = Path(__file__).parents[1] / "reference" / "combat.json"
CENTRES = ["north", "south", "west", "east"]


def draw_centres(each=40, features=30, seed=0, effect=1.0):
    """Features of four centres, shifted and spread; the first drives the hazard, and the cohort around it."""
    draw = np.random.default_rng(seed)
    centre = np.tile(CENTRES, each)
    plain = draw.normal(size=(len(centre), features))
    shift, spread = draw.normal(0, 2 * effect, (4, features)), np.exp(draw.normal(0, 0.2 * effect, (4, features)))
    at = np.tile(range(4), each)
    table = pd.DataFrame(plain * spread[at] + shift[at]).rename(columns=lambda i: f"r{i}")
    hazard = np.exp(plain[:, 0]) / 40
    recurrence, censoring = draw.exponential(1 / hazard), draw.uniform(6, 90, len(centre))
    cohort = pd.DataFrame(
        {
            "patient_id": [f"P{i:03d}" for i in range(len(centre))],
            "split": np.where(np.arange(len(centre)) // 4 % 4 == 3, "validation", "training"),
            "time_months": np.minimum(recurrence, censoring).clip(0.5),
            "event": (recurrence <= censoring).astype(int),
            "centre": centre,
        }
    )
    table.index = pd.Index(cohort["patient_id"])
    return table, cohort.assign(fold=group_folds(cohort, "centre"))


def test_it_is_combat():
    """Against neuroCombat's values, see reference/combat.py."""
    reference = json.loads(REFERENCE.read_text())
    features, centre = pd.DataFrame(reference["features"]).rename(columns=str), pd.Series(reference["centre"])
    learned = learn_harmonisation(features, centre)
    np.testing.assert_allclose(learned.apply(features, centre), reference["harmonised"], rtol=1e-9)
    for name in "ABC":
        np.testing.assert_allclose(learned.shifts[name], reference["shift"][name], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(np.square(learned.scales[name]), reference["variance"][name], rtol=1e-9)


def accuracy(learns, learns_of, new, new_of):
    return GaussianNB().fit(learns, learns_of).score(new, new_of)


def test_centre_is_readable_before_and_not_after():
    found = []
    for seed in range(5):
        table, _ = draw_centres(seed=seed)
        learns = np.arange(len(table)) % 8 < 4
        centre = pd.Series(np.tile(CENTRES, 40), table.index)
        corrected = learn_harmonisation(table[learns], centre[learns]).apply(table, centre)
        found.append([accuracy(t[learns], centre[learns], t[~learns], centre[~learns]) for t in (table, corrected)])
    before, after = np.mean(found, axis=0)
    assert before > 0.95
    assert abs(after - 0.25) < 0.08  # chance, 3 SE of 400 guesses


def test_harmonised_score_finds_the_signal_that_centres_hide():
    c = {False: [], True: []}
    for seed in range(4):
        table, cohort = draw_centres(seed=seed)
        training = (cohort["split"] == "training").to_numpy()
        centre = centres(cohort)
        for harmonise, values in c.items():
            own = centre[training] if harmonise else None
            model = fit_radiomic_model(table[training], cohort[training], seed=seed, centre=own)
            risk = model.risk(table[~training], centre[~training])
            values.append(np.corrcoef(risk, learned_truth(table, centre)[~training])[0, 1])
    assert np.mean(c[True]) > np.mean(c[False]) + 0.2 and np.mean(c[True]) > 0.7


def learned_truth(table, centre):
    """The signal behind r0: its value within the centre, in SD."""
    groups = table["r0"].groupby(centre)
    return (table["r0"] - groups.transform("mean")) / groups.transform("std")


@pytest.mark.parametrize("left_out", [(), (1,), (0, 2)], ids=str)
def test_held_out_patients_move_nobodys_correction(left_out):
    table, cohort = draw_centres()
    cohort["fold"] = np.where(cohort["split"] == "training", np.arange(len(cohort)) // 4 % 3, np.nan)
    centre = centres(cohort)

    def scores(values):
        ids = crossfit.learning_patients(cohort, left_out)
        outcome = cohort.set_index("patient_id").loc[ids]
        return pd.Series(
            fit_radiomic_model(values.loc[ids], outcome, centre=centre[ids]).risk(values, centre), centre.index
        )

    changed = table.copy()
    held_out = ~table.index.isin(crossfit.learning_patients(cohort, left_out))
    changed[held_out] = changed[held_out] * 50 - 7
    before, after = scores(table), scores(changed)
    pd.testing.assert_series_equal(before[~held_out], after[~held_out], check_exact=True)
    assert (before[held_out] != after[held_out]).any()


def test_a_centre_not_learned_from_stays_as_it_is():
    table, cohort = draw_centres()
    centre = centres(cohort)
    known = (centre != "west").to_numpy()
    learned = learn_harmonisation(table[known], centre[known])
    assert learned.unseen(centre) == ["west"]
    corrected = learned.apply(table, centre)
    np.testing.assert_allclose(corrected[~known], table[~known], rtol=1e-9)
    assert (corrected[known] - table[known]).abs().to_numpy().max() > 0.5


def test_one_centre_has_no_effect():
    table, _ = draw_centres()
    one = pd.Series("only", table.index)
    np.testing.assert_allclose(learn_harmonisation(table, one).apply(table, one), table, rtol=1e-9)


def test_features_that_tell_only_the_centre_are_left_out():
    table, cohort = draw_centres()
    table["label"] = cohort["centre"].map({name: float(n) for n, name in enumerate(CENTRES)}).to_numpy()
    assert "label" not in learn_harmonisation(table, centres(cohort)).features


def test_frozen_model_keeps_its_correction(tmp_path):
    table, cohort = draw_centres()
    centre = centres(cohort)
    model = fit_radiomic_model(table, cohort, centre=centre)
    assert model.harmonisation.features == model.features
    write_json(asdict(model), tmp_path / "model.json")
    again = RadiomicModel(**read_json(tmp_path / "model.json"))
    assert isinstance(again.harmonisation, Harmonisation)
    np.testing.assert_array_equal(again.risk(table, centre), model.risk(table, centre))
    with pytest.raises(ValueError, match="learned from harmonised features: give the centre of each patient"):
        again.risk(table)


def test_a_model_without_correction_needs_no_centre():
    table, cohort = draw_centres(effect=0)
    model = fit_radiomic_model(table, cohort)
    assert model.harmonisation is None
    np.testing.assert_array_equal(model.risk(table), model.risk(table, centres(cohort)))


def without(column):
    return lambda cohort: cohort.drop(columns=column)


def few(cohort):
    keep = (cohort["centre"] != "east") | (cohort["patient_id"] < "P008")
    return cohort[keep].reset_index(drop=True)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("centre"), "the manifest has no column centre: add it, or set harmonise to False"),
        (lambda c: c.assign(centre=c["centre"].where(c.index != 2)), "centre is empty for P002: fill it in"),
        (few, r"centre east has 2 patients to learn from; needed: 3: merge centres"),
    ],
    ids=["no column", "a gap", "two patients"],
)
def test_cohorts_that_cannot_be_harmonised_are_refused_early(spoil, message):
    with pytest.raises(ValueError, match=message):
        check_centres(spoil(draw_centres()[1]), [()])


def test_one_feature_is_too_few():
    table, cohort = draw_centres()
    with pytest.raises(ValueError, match="1 feature varies within centres: 2 are needed"):
        learn_harmonisation(table[["r0"]], centres(cohort))


# ---------------------------------------------------------------- leave one centre out


def manifest_cells():
    _, cohort = draw_centres(8)
    cells = cohort.drop(columns="fold").astype(str)
    return cells.set_axis(range(2, len(cells) + 2))


def test_each_centre_is_a_fold_and_is_scored_by_models_that_never_saw_it():
    _, cohort = draw_centres()
    table = study_table(cohort.drop(columns="fold"), 5, 1, "centre")
    training = table[table["split"] == "training"]
    assert training.groupby("fold")["centre"].unique().map(list).tolist() == [[name] for name in sorted(CENTRES)]
    assert table.loc[table["split"] == "validation", "fold"].isna().all()
    centre = table.set_index("patient_id")["centre"]
    for left_out in crossfit.leave_out_sets(4):
        gone = {sorted(CENTRES)[k] for k in left_out}
        assert set(centre[crossfit.learning_patients(table, left_out)]) == set(CENTRES) - gone


def test_numbers_as_names_of_centres_stay_names(tmp_path):
    _, cohort = draw_centres(8)
    write_csv(
        cohort.assign(centre=cohort["centre"].map(dict(zip(CENTRES, ["01", "2", "10", "3"], strict=True)))),
        tmp_path / "c.csv",
    )
    assert set(centres(read_csv(tmp_path / "c.csv"))) == {"01", "2", "10", "3"}


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (lambda c: c, []),
        (without("centre"), [(None, "no such column")]),
        (lambda c: c.assign(centre=c["centre"].where(c.index != 3, "")), [(3, "empty")]),
        (lambda c: c.assign(centre=c["centre"].where(c["centre"] == "east", "west")), [(None, "2 groups")]),
        (
            lambda c: c.assign(event=c["event"].where(c["centre"] != "east", "0")),
            [(None, "east: 6 patients, 0 events")],
        ),
    ],
    ids=["sound", "no column", "a gap", "two centres", "no event in a centre"],
)
def test_door_names_what_keeps_centres_from_being_folds(spoil, found):
    problems = check_cells(spoil(manifest_cells()), 5, split_by="centre")
    assert [p.row for p in problems] == [row for row, _ in found]
    assert all(p.column == "centre" and p.value.startswith(v) for p, (_, v) in zip(problems, found, strict=True))


@pytest.mark.parametrize(
    "spoil", [lambda c: c[c["centre"] < "s"], lambda c: c.assign(event=0)], ids=["two", "no event"]
)
def test_folds_of_centres_are_refused_where_they_cannot_be(spoil):
    with pytest.raises(ValueError, match=r"split_by = 'centre' gives .*; needed: 3 groups or more, events in each"):
        group_folds(spoil(draw_centres()[1]), "centre")


def test_run_stops_at_the_door_where_there_are_no_centres(tmp_path, capsys):
    manifest = write_small_manifest(tmp_path / "data")
    with pytest.raises(SystemExit) as stop:
        main(["run", "--manifest", str(manifest), "--out", str(tmp_path / "run"), "-p", "split_by=centre"])
    assert stop.value.code == 1
    assert "centre no such column the column of split_by" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()
