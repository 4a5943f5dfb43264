"""Levers and the reported score: each lever runs, learns from training patients only, and the tables resume."""

from functools import partial

import numpy as np
import pandas as pd
import pytest

from rps_utils import recipes, study
from rps_utils.phantom_patients import draw_patients
from rps_utils.training import TrainingSettings

# In the smallest inner folds the weakest LASSO penalties do not converge; the penalty chosen is another one.
pytestmark = pytest.mark.filterwarnings("ignore:Optimization terminated early")


@pytest.fixture(scope="module")
def pool():
    """A pool without images: patches are noise inside a ball that is as bright as the patient's hazard is high."""
    people = draw_patients(110, 5)
    people.insert(0, "patient_id", [f"P{i}" for i in range(len(people))])
    rng = np.random.default_rng(3)
    features = pd.DataFrame(rng.normal(size=(110, 12)), people["patient_id"], [f"f{i}" for i in range(12)])
    features[recipes.VOLUME] = people["size_cm"].to_numpy() ** 3
    patches = 0.3 * rng.random((110, 5, 16, 16, 16))
    axis = np.linspace(-1, 1, 16)
    ball = sum(a**2 for a in np.meshgrid(axis, axis, axis, indexing="ij")) < 0.5
    bright = 1 / (1 + np.exp(-people["eta"].to_numpy()))
    patches[:, 0] = (patches[:, 0] + bright[:, None, None, None]) * ball
    patches[:, 1], patches[:, 4] = ball, ~ball
    return study.Pool(people.drop(columns=["eta", "time_months", "event"]), patches.astype(np.float16), features)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Cohorts of 36 + 12 patients and 24 more to judge on, three epochs."""
    for name in ("COHORT", "TUNING_COHORT"):
        monkeypatch.setattr(recipes, name, study.StudySettings(patients=48, folds=3, reserve=24))
    monkeypatch.setattr(recipes, "TrainingSettings", partial(TrainingSettings, epochs=3))


@pytest.mark.parametrize("lever", [name for name in recipes.LEVERS if name not in ("resnet10",)])
def test_every_lever_gives_a_row(pool, lever):
    (row,) = recipes.measure_lever({recipes.LEVERS[lever].cut: pool}, lever, 0)
    assert list(row) == recipes.LEVER_COLUMNS
    assert 0 < row["c_held_out"] < 1 and 0 < row["c_apparent"] < 1
