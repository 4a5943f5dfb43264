"""Levers and the reported score: each lever runs, learns from training patients only, and the tables resume."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from rps_utils.deep.training import TrainingSettings, cox_loss, predict_risk
from rps_utils.lab.phantom.patients import draw_patients
from rps_utils.lab.studies import levers
from rps_utils.lab.studies.held_out import SCORE_COLUMNS, VOLUME, held_out_table, measure_scores, score_difference
from rps_utils.lab.studies.levers import (
    LEVER_COLUMNS,
    LEVERS,
    Lesson,
    Lever,
    Stopped,
    WithMomentum,
    WithTasks,
    as_scanned,
    channels,
    learn_to_paint,
    lever_table,
    mean_score,
    measure_lever,
    run_levers,
)
from rps_utils.lab.studies.pool import PATCHES, Pool
from rps_utils.lab.studies.replicates import StudySettings, draw_replicate
from rps_utils.lab.studies.tables import grow_table
from rps_utils.learning.crossfit import FittedScores

SLOW = ("resnet10", "all_orientations", "epochs_15", "epochs_60")  # nothing in them that the others have not

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
    return Pool(people.drop(columns=["eta", "time_months", "event"]), patches.astype(np.float16), features)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Cohorts of 36 + 12 patients and 24 more to judge on, three epochs."""
    for name in ("held_out.COHORT", "levers.TUNING_COHORT"):
        monkeypatch.setattr(f"rps_utils.lab.studies.{name}", StudySettings(patients=48, folds=3, reserve=24))
    for module in ("held_out", "levers"):
        monkeypatch.setattr(f"rps_utils.lab.studies.{module}.TrainingSettings", partial(TrainingSettings, epochs=3))


@pytest.mark.parametrize("lever", [name for name in LEVERS if name not in SLOW])
def test_every_lever_gives_a_row(pool, lever):
    (row,) = measure_lever({LEVERS[lever].cut: pool}, lever, 0)
    assert list(row) == LEVER_COLUMNS
    assert 0 < row["c_held_out"] < 1 and 0 < row["c_apparent"] < 1


def lesson(pool):
    draw = draw_replicate(pool, "full", 0, levers.TUNING_COHORT)
    settings = TrainingSettings(epochs=3, seed=1)
    everybody = Lesson(torch.from_numpy(draw.patches), draw.cohort, draw.features, settings)
    return everybody.part((draw.cohort["split"] == "training").to_numpy())


class TestLevers:
    def test_no_lever_sees_a_patient_it_is_judged_on(self, pool, monkeypatch):
        seen = []

        def learn(lesson):
            seen.append(lesson)
            return lambda patches: patches[:, 0].double().mean(dim=(1, 2, 3)).numpy()

        monkeypatch.setitem(LEVERS, "spy", Lever("spy", learn=learn))
        (row,) = measure_lever({PATCHES: pool}, "spy", 0)
        (given,) = seen
        assert len(given.patches) == len(given.features) == len(given.cohort) == 36
        assert set(given.cohort["split"]) == {"training"}
        assert not {"eta", "z_rad", "z_spat", "z_int", "aggressiveness"} & set(given.cohort), (
            "the truth is out of bounds"
        )
        assert row["c_held_out"] > 0.6, "brightness is the hazard in this pool"

    def test_channels_are_chosen_by_name(self, pool):
        draw = draw_replicate(pool, "full", 0, levers.TUNING_COHORT)
        shown = channels("hu", "rim")(draw)
        assert np.array_equal(shown[:, 0], draw.patches[:, 0] + draw.patches[:, 3])
        assert np.array_equal(shown[:, 1], draw.patches[:, 4])

    def test_only_right_sided_patients_are_mirrored_back(self, pool):
        draw = draw_replicate(pool, "full", 0, levers.TUNING_COHORT)
        shown, right = as_scanned(draw), (draw.cohort["side"] == "right").to_numpy()
        assert np.array_equal(shown[~right], draw.patches[~right])
        assert np.array_equal(shown[right], draw.patches[right][:, :, ::-1])

    def test_momentum_keeps_the_slow_twin(self, pool):
        given = lesson(pool)
        training = WithMomentum(given.patches, *given.outcome(), given.settings)
        slow = training.finish()
        assert slow is training.twins[0].target and not slow.training
        assert not torch.equal(slow.blocks[0][0].weight, training.network.blocks[0][0].weight)

    def test_early_stopping_keeps_the_epoch_best_in_the_inner_fold(self, pool):
        given = lesson(pool)
        inside = (given.cohort["fold"] == 0).to_numpy()
        learned, inner = given.part(~inside), given.part(inside)
        stopped = Stopped(learned.patches, *learned.outcome(), learned.settings, inner=inner)
        losses = []
        for _ in range(3):
            stopped.train_epoch()
            risk = predict_risk(stopped.network.eval(), inner.patches)
            losses.append(float(cox_loss(torch.from_numpy(risk), *inner.outcome())))
        assert stopped.best[0] == pytest.approx(min(losses))

    def test_further_tasks_are_learned(self, pool):
        given = lesson(pool)
        targets = (given.patches[:, [0]].float().mean(dim=(2, 3, 4)) - 0.2) * 10
        training = WithTasks(given.patches, *given.outcome(), given.with_settings(epochs=12).settings, targets=targets)
        network = training.finish()
        with torch.no_grad():
            said = network(given.patches.float())[:, 1]
        assert np.corrcoef(said, targets[:, 0])[0, 1] > 0.6

    def test_painting_changes_the_convolutions_only(self, pool):
        learned = learn_to_paint(lesson(pool), epochs=2)
        assert set(learned) == {f"blocks.{i}.{name}" for i in (0, 1) for name in ("0.weight", "1.weight", "1.bias")}

    def test_the_scale_of_a_network_does_not_weigh_in_a_mean(self, pool):
        given = lesson(pool)
        first = lambda patches: patches[:, 0].double().mean(dim=(1, 2, 3)).numpy()  # noqa: E731
        second = lambda patches: -patches[:, 1].double().std(dim=(1, 2, 3)).numpy() + first(patches) * 0.5  # noqa: E731
        mean = mean_score([first, second], given)(given.patches)
        again = mean_score([first, lambda patches: 7 + 1000 * second(patches)], given)(given.patches)
        assert np.allclose(mean, again)

    def test_unknown_lever_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match="unknown lever magic; allowed: default, plain_hu_raw"):
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
        rows = [("default", i, c) for i, c in enumerate(base)]
        rows += [("dropout", i, c + 0.01 * (i + 1)) for i, c in enumerate(base[:2])]
        table = pd.DataFrame(rows, columns=["lever", "cohort", "c_held_out"]).assign(c_apparent=0.9, seconds=1.0)
        found = lever_table(table)
        assert list(found.index) == ["default", "dropout"] and found.loc["dropout", "cohorts"] == 2
        assert found.loc["dropout", "difference"] == pytest.approx(0.015)
        assert found.loc["dropout", "difference_se"] == pytest.approx(0.005)
        assert found.loc["dropout", "low"] == pytest.approx(0.015 - 12.706 * 0.005, abs=1e-4)
        assert np.isnan(found.loc["default", "difference"])


def volume_as_radiomics(draw, _):
    value, learned = draw.features[VOLUME], draw.training["patient_id"]
    return FittedScores(value[learned], value[learned], value.drop(learned), {})


@pytest.fixture(scope="module")
def rows(pool):
    """Rows of one larger cohort in three variants."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"{HELD_OUT}.COHORT", StudySettings(patients=54, folds=3, reserve=50))
        patch.setattr(f"{HELD_OUT}.TrainingSettings", partial(TrainingSettings, epochs=3))
        patch.setattr(f"{HELD_OUT}.radiomic_scores", volume_as_radiomics)  # the real one is tested with the study
        return {v: measure_scores(pool, v, 1) for v in ("full", "null", "decoupled")}


class TestScores:
    def test_models_of_a_variant(self, rows):
        models = {variant: [row["model"] for row in part] for variant, part in rows.items()}
        fitted = ["DL", "Rad", "volume"]
        assert models == {
            "full": [*fitted, "image latents", "true hazard"],
            "null": fitted,
            "decoupled": [*fitted, "true hazard"],
        }

    def test_truth_leads_and_the_network_sees_the_brightness(self, rows):
        c = {row["model"]: row["c_held_out"] for row in rows["full"]}
        assert 0.75 < c["true hazard"] < 0.95 and 0.6 < c["image latents"] < c["true hazard"]
        assert c["DL"] > 0.6

    def test_summary(self, rows):
        table = pd.DataFrame([row for part in rows.values() for row in part], columns=SCORE_COLUMNS)
        second = table.assign(cohort=2, c_held_out=table["c_held_out"] + 0.02)
        both = pd.concat([table, second])
        assert held_out_table(both).loc[("full", "DL"), "se"] == pytest.approx(0.01)
        gap = score_difference(both, "full", "true hazard", "DL")
        assert gap["cohorts"] == 2 and gap["se"] == pytest.approx(0, abs=1e-12)
