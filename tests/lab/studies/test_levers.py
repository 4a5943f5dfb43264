"""Levers and the reported score: each lever runs, learns from training patients only, and the tables resume."""

from functools import partial

import numpy as np
import pandas as pd
import pytest

from rps_utils.deep.training import TrainingSettings
from rps_utils.lab.phantom.patients import draw_patients
from rps_utils.lab.phantom.worlds import WORLDS
from rps_utils.lab.studies.held_out import (
    CHOSEN_ON,
    REPORTED_ON,
    SCORE_COLUMNS,
    SIZE_COLUMNS,
    SIZE_MODELS,
    VOLUME,
    draw_sized,
    held_out_table,
    measure_scores,
    measure_sizes,
    score_difference,
    size_table,
    told_hazard,
    world_means,
)
from rps_utils.lab.studies.levers import LEVER_COLUMNS, LEVERS, lever_table, measure_lever, run_levers
from rps_utils.lab.studies.pool import Pool
from rps_utils.lab.studies.replicates import StudySettings, draw_replicate
from rps_utils.lab.studies.tables import grow_table

HELD_OUT = "rps_utils.lab.studies.held_out"


@pytest.fixture(scope="module")
def pool():
    """A pool without images: patches are noise inside a ball that is as bright as the patient's hazard is high."""
    people = draw_patients(110, 5)
    people.insert(0, "patient_id", [f"P{i}" for i in range(len(people))])
    rng = np.random.default_rng(3)
    features = pd.DataFrame(rng.normal(size=(110, 12)), people["patient_id"], [f"f{i}" for i in range(12)])
    features[VOLUME] = people["size_cm"].to_numpy() ** 3
    patches = 0.3 * rng.random((110, 5, 16, 16, 16))
    axis = np.linspace(-1, 1, 16)
    ball = sum(a**2 for a in np.meshgrid(axis, axis, axis, indexing="ij")) < 0.5
    bright = 1 / (1 + np.exp(-people["eta"].to_numpy()))
    patches[:, 0] = (patches[:, 0] + bright[:, None, None, None]) * ball
    patches[:, 1], patches[:, 4] = ball, ~ball
    regional = pd.DataFrame({"midline_f": people["eta"].to_numpy()}, people["patient_id"])
    return Pool(people.drop(columns=["eta", "time_months", "event"]), patches.astype(np.float16), features, regional)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Cohorts of 36 + 12 patients and 24 more to judge on, three epochs."""
    for name in ("held_out.COHORT", "levers.TUNING_COHORT"):
        monkeypatch.setattr(f"rps_utils.lab.studies.{name}", StudySettings(patients=48, folds=3, reserve=24))


@pytest.mark.parametrize("lever", ["default", "no_convolution", "unlearned", "lateral_axis_kept"])
def test_a_lever_gives_a_row(pool, lever):
    (row,) = measure_lever({"depth": pool}, lever, "depth", 0)
    assert list(row) == LEVER_COLUMNS
    assert 0 < row["c_held_out"] < 1 and 0 < row["c_apparent"] < 1


def test_every_lever_has_settings_that_exist():
    for lever in LEVERS.values():
        assert TrainingSettings(**lever.settings) != TrainingSettings() or lever.what == "the default recipe"


def test_the_worlds_are_split_once():
    assert not set(CHOSEN_ON) & set(REPORTED_ON)
    assert set(CHOSEN_ON) | set(REPORTED_ON) == set(WORLDS)


def test_no_lever_learns_from_a_patient_it_is_judged_on(pool, monkeypatch):
    seen = []

    def train(patches, time, event, settings):
        seen.append((len(patches), len(time), len(event)))
        raise InterruptedError

    monkeypatch.setattr("rps_utils.lab.studies.levers.train_network", train)
    with pytest.raises(InterruptedError):
        measure_lever({"depth": pool}, "default", "depth", 0)
    assert seen == [(36, 36, 36)]


def test_unknown_lever_is_refused(tmp_path):
    with pytest.raises(ValueError, match="unknown lever magic; allowed: default, no_convolution"):
        run_levers(tmp_path / "a.csv", tmp_path, ["magic"])


class TestTables:
    def test_stopped_or_straight_or_in_parallel_the_table_is_the_same(self, tmp_path):
        def work(name, number):
            with (tmp_path / "log").open("a") as log:
                log.write("x")
            return [{"name": name, "number": number, "value": number / 3}]

        wanted = [(name, i) for i in range(3) for name in ("null", "b")]
        columns = ["name", "number", "value"]
        grow_table(tmp_path / "a.csv", columns=columns, keys=columns[:2], wanted=wanted, work=work)
        grow_table(tmp_path / "b.csv", columns=columns, keys=columns[:2], wanted=wanted[2:4], work=work)
        grow_table(tmp_path / "b.csv", columns=columns, keys=columns[:2], wanted=wanted, work=work, n_jobs=2)
        assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
        assert len((tmp_path / "log").read_text()) == 6 + 2 + 4, "two pieces were there"

    def test_differences_are_paired_by_cohort(self):
        base = np.array([0.6, 0.7, 0.8])
        rows = [
            ("default", world, i, c + up) for i, c in enumerate(base) for world, up in (("depth", 0.1), ("scale", -0.1))
        ]
        rows += [
            ("no_convolution", world, i, c + 0.01 * (i + 1))
            for i, c in enumerate(base[:2])
            for world in ("depth", "scale")
        ]
        columns = ["lever", "world", "cohort", "c_held_out"]
        table = pd.DataFrame(rows, columns=columns).assign(c_apparent=0.9, seconds=1.0)
        found = lever_table(table)
        assert list(found.index) == ["default", "no_convolution"] and found.loc["no_convolution", "cohorts"] == 2
        assert found.loc["no_convolution", "difference"] == pytest.approx(0.015)
        assert found.loc["no_convolution", "difference_se"] == pytest.approx(0.005)
        assert found.loc["no_convolution", "low"] == pytest.approx(0.015 - 12.706 * 0.005, abs=1e-4)
        assert found.loc["default", "depth"] == pytest.approx(0.8) and np.isnan(found.loc["default", "difference"])


@pytest.fixture(scope="module")
def rows(pool):
    """Rows of one larger cohort in three variants."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"{HELD_OUT}.COHORT", StudySettings(patients=54, folds=3, reserve=50))
        patch.setattr(f"{HELD_OUT}.TrainingSettings", partial(TrainingSettings, epochs=3))
        return {v: measure_scores({"depth": pool}, "depth", v, 1) for v in ("full", "null", "decoupled")}


class TestScores:
    def test_models_of_a_variant(self, rows):
        models = {variant: [row["model"] for row in part] for variant, part in rows.items()}
        fitted = ["DL", "DL without convolution", "Rad", "Rad by region", "volume"]
        assert models == {
            "full": [*fitted, "image latents", "told the hazard", "true hazard"],
            "null": fitted,
            "decoupled": [*fitted, "true hazard"],
        }

    def test_truth_leads_and_each_score_reads_what_it_is_given(self, rows):
        c = {row["model"]: row["c_held_out"] for row in rows["full"]}
        assert 0.75 < c["true hazard"] < 0.95 and 0.6 < c["image latents"] < c["true hazard"]
        assert c["DL"] > 0.6, "brightness is the hazard in this pool"
        assert c["told the hazard"] > 0.65
        assert c["Rad by region"] > max(0.65, c["Rad"]), "only a region holds the hazard"

    def test_summary(self, rows):
        table = pd.DataFrame([row for part in rows.values() for row in part], columns=SCORE_COLUMNS)
        second = table.assign(cohort=2, c_held_out=table["c_held_out"] + 0.02)
        elsewhere = table.assign(world="scale", c_held_out=table["c_held_out"] + 0.1)
        both = pd.concat([table, second, elsewhere])
        assert held_out_table(both).loc[("depth", "full", "DL"), "se"] == pytest.approx(0.01)
        gap = score_difference(both, ["depth"], "true hazard", "DL")
        assert gap["cohorts"] == 2 and gap["se"] == pytest.approx(0, abs=1e-12)
        own = world_means(both, ["depth", "scale"])["DL"]
        assert own[1] == pytest.approx(held_out_table(table).loc[("depth", "full", "DL"), "mean"] + 0.05)

    def test_told_the_hazard_is_told_that_of_training_patients_only(self, pool):
        draw = draw_replicate(pool, "full", 1, StudySettings(patients=54, folds=3, reserve=50))
        before = told_hazard(draw)
        judged = draw.cohort["split"] != "training"
        draw.cohort.loc[judged, "eta"] += np.arange(judged.sum())
        assert before.equals(told_hazard(draw))
        draw.cohort.loc[~judged, "eta"] *= -1
        assert np.corrcoef(before[judged.to_numpy()], told_hazard(draw)[judged.to_numpy()])[0, 1] < -0.9


class TestSizes:
    def test_a_smaller_training_set_is_part_of_a_larger_one_and_the_others_stay(self, pool, monkeypatch):
        monkeypatch.setattr(f"{HELD_OUT}.OTHERS", 40)
        small, large = (draw_sized(pool, n, 0) for n in (20, 40))
        assert list(large.training["patient_id"][:20]) == list(small.training["patient_id"])
        assert set(small.validation["patient_id"]) == set(large.validation["patient_id"])
        assert not set(large.training["patient_id"]) & set(large.validation["patient_id"])
        with pytest.raises(ValueError, match="a pool of 110 is too small for 80 patients and 40 others"):
            draw_sized(pool, 80, 0)

    def test_one_row_a_model(self, pool, monkeypatch):
        monkeypatch.setattr(f"{HELD_OUT}.OTHERS", 40)
        truth = lambda draw: {"held_out": draw.cohort.set_index("patient_id")["eta"]}  # noqa: E731
        monkeypatch.setitem(SIZE_MODELS, "plain network", truth)
        table = pd.DataFrame(measure_sizes(pool, SIZE_MODELS, 40, 0))
        assert list(table) == SIZE_COLUMNS and len(table) == 6
        found = size_table(pd.concat([table, table.assign(cohort=1)])).set_index("model")
        assert found.loc["DL", "mean"] > 0.55 and found.loc["plain network", "mean"] > 0.7
