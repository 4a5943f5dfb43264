"""The notebooks' computed sentences follow the cohort: one in which a signal is there, one in which there is none."""

import re

import nbformat
import numpy as np
import pandas as pd
import papermill
import pytest

from rps_utils.learning import fusion
from rps_utils.run_folder import RunFolder
from rps_utils.scores import read_scores
from rps_utils.steps import NOTEBOOKS
from tests.conftest import draw_cohort

pytestmark = pytest.mark.chain
FACTORS = ["age", "signal", "grade"]
LANDMARKS = [12, 36]


def without_signal(cohort: pd.DataFrame) -> pd.DataFrame:
    """The same patients with each other's outcomes; and in one grade nobody recurs, so that its term is separated."""
    order = np.random.default_rng(3).permutation(len(cohort))
    outcome = cohort[["time_months", "event"]].to_numpy()[order]
    shuffled = cohort.assign(time_months=outcome[:, 0], event=outcome[:, 1].astype(int))
    free = shuffled[shuffled["event"] == 0].index[::8]
    rare = np.where(shuffled.index.isin(free), "G9", shuffled["grade"])
    return shuffled.assign(grade=rare)


def executed(name, run, **parameters):
    """Execute a notebook on a run folder and return what its cells printed."""
    place = run.path / f"{name}.ipynb"
    given = {"run_dir": str(run.path), "seed": 7, **parameters}
    papermill.execute_notebook(NOTEBOOKS / f"{name}.ipynb", place, given, cwd=NOTEBOOKS, progress_bar=False)
    outputs = [o for c in nbformat.read(place, as_version=4).cells for o in c.get("outputs", [])]
    return "".join(o["text"] for o in outputs if o.get("name") == "stdout")


def printed_by(folder, cohort):
    """Execute 05, 07, 09 and 11 on a cohort with a clinical model and one that knows nothing."""
    run = RunFolder(folder)
    run.write_cohort(cohort)
    printed = {"05": executed("05_clinical_cox", run, clinical_columns=FACTORS, landmarks=LANDMARKS)}
    noise, _ = fusion.cox_scores(cohort, fusion.FusionPlan("Noise", ("noise",), 0.1), None, LANDMARKS)
    run.write_scores(pd.concat([read_scores(run.part("Clinical")), noise], ignore_index=True))
    printed["07"] = executed("07_discrimination", run, tau=36.0, n_bootstrap=200)
    printed["09"] = executed("09_calibration", run, landmarks=LANDMARKS, n_bootstrap=50)
    printed["11"] = executed("11_risk_groups", run, landmarks=LANDMARKS, tau=36.0)
    return printed


@pytest.fixture(scope="module")
def signal(tmp_path_factory):
    return printed_by(tmp_path_factory.mktemp("signal"), draw_cohort(400))


@pytest.fixture(scope="module")
def silence(tmp_path_factory):
    return printed_by(tmp_path_factory.mktemp("silence"), without_signal(draw_cohort(400)))


SENTENCES = {
    "separated terms": ("05", "terms left empty above: none", r"terms left empty above: grade: G9"),
    "C against chance": (
        "07",
        r"Clinical: C 0\.[78]\d .*lies above 0\.5: the order is better than chance",
        r"Clinical: C 0\.[3-6]\d .*holds 0\.5: these patients do not show",
    ),
    "pairs of models": (
        "07",
        r"1 of 1 pairs of models are told apart .*: Clinical - Noise",
        r"0 of 1 pairs of models .*the better model is not known",
    ),
    "calibration slope": (
        "09",
        r"Clinical, validation: slope [01]\.\d+ \(.*\), not told apart from 1",
        r"Clinical, validation: slope .*\), (the interval holds both 0|too extreme|against what happened)",
    ),
    "risk groups": (
        "11",
        "Clinical: high against low risk recurs earlier",
        "Clinical: high against low risk is not told apart",
    ),
}


@pytest.mark.parametrize(("notebook", "there", "absent"), SENTENCES.values(), ids=SENTENCES)
def test_a_sentence_says_what_the_cohort_holds(signal, silence, notebook, there, absent):
    assert re.search(there, signal[notebook]), signal[notebook]
    assert not re.search(absent, signal[notebook])
    assert re.search(absent, silence[notebook]), silence[notebook]
    assert not re.search(there, silence[notebook])


def test_what_noise_does_to_c_is_said_for_each_kind_by_its_sign(signal, silence):
    for printed in (signal["05"], silence["05"]):
        said = re.findall(r"(\w+): ten columns that know nothing (raised|did not raise) C \(([+-][\d.]+)\)", printed)
        assert [kind for kind, _, _ in said] == ["apparent", "cross_fitted", "validation"]
        assert all((verb == "raised") == (float(by) > 0) for _, verb, by in said)
        assert said[0][1] == "raised"  # coefficients adapt to the noise in the patients who are then asked


def test_the_trend_of_the_residuals_is_given_its_direction_and_its_p(signal):
    assert re.search(r"the trend goes (up|down)wards, p = 0\.\d{3}; (no )?more than chance", signal["05"])
