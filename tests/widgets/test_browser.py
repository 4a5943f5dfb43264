"""Every panel in a real JupyterLab, moved by keys and clicks: figure and number change to the right value."""

import json

import nbformat
import numpy as np
import pandas as pd
import pytest
from lifelines.statistics import logrank_test
from lifelines.utils import concordance_index
from sklearn.metrics import roc_auc_score

from tests.widgets.browser import MISSING, Page, chromium, jupyter_lab, numbers

pytestmark = [pytest.mark.browser, pytest.mark.skipif(bool(MISSING), reason=MISSING)]
RIGHT, LEFT = "\ue014", "\ue012"

# One cohort for all panels: what the notebooks have from a run is made up here, and made up again by the tests.
COHORT = """
import numpy as np, pandas as pd
def cohort():
    draw = np.random.default_rng(3)
    risk = draw.normal(size=120)
    recurrence, waiting = draw.exponential(50 / np.exp(risk)), draw.exponential(size=120)
    time, event = np.minimum(recurrence, 60 * waiting), recurrence <= 60 * waiting
    x = risk[:, None] + 2 * draw.normal(size=(120, 3))
    return risk, recurrence, waiting, time, event, x
risk, recurrence, waiting, time, event, x = cohort()
"""
PANELS = {
    "cut": """
from functools import partial
from rps_utils.widgets.panel import Choice, Slider, panel
from rps_utils.widgets.risk_groups import cut_view
patients = pd.DataFrame({"time_months": time, "event": event.astype(int), "risk": risk})
panel(partial(cut_view, patients), {"percent_low": Slider("patients called low risk (%)", 0, 100, 1, 50)})""",
    "studies": """
from rps_utils.widgets.luck import redraw_splits, split_view, studies_view, true_differences
def draw(n, draws, spread):
    hazard = draws.normal(size=n)
    noisy = hazard + np.asarray(spread)[:, None] * draws.normal(size=(len(spread), n))
    return draws.exponential(60 / np.exp(hazard)), np.ones(n, bool), noisy
truth = true_differences(draw, [0.6, 1.2, 2.4])
panel(partial(studies_view, draw, truth), {
    "n": Slider("patients", 20, 300, 10, 30), "difference": Slider("true difference of C", 0, 0.15, 0.01, 0.05)})""",
    "threshold": """
from rps_utils.survival.decision import net_benefit
from rps_utils.widgets.probabilities import decision_view, finding_controls, patient_view, stretch_view
chance, follow_up = 1 - np.exp(-0.6 * np.exp(risk)), (recurrence, np.ones(120))
curve = net_benefit(*follow_up, chance, 36, np.arange(0.05, 0.95, 0.05)).assign(model="model", horizon=36)
panel(partial(decision_view, curve, follow_up, chance), {
    "threshold": Slider("threshold risk", 0.05, 0.95, 0.05, 0.3)})""",
    "viewer": """
from rps_utils.widgets.scans import WINDOWS, Shown, scan_view
hu = np.arange(40)[:, None, None] + 100.0 * np.arange(30)[:, None] + 0 * np.arange(21.0)
inside = np.zeros(hu.shape); inside[10:20, 10:20, 8:12] = 1
scans = {"A": Shown(hu, inside, (2.0, 2.0, 5.0)), "B": Shown(-hu, inside, (2.0, 2.0, 5.0))}
panel(partial(scan_view, scans, ""), {
    "patient": Choice("patient", ["A", "B"], "A"), "plane": Choice("plane", ["axial", "coronal", "sagittal"], "axial"),
    "percent": Slider("slice, in percent of all", 0, 100, 1, 50), "window": Choice("window", list(WINDOWS), "bone"),
    "outline": Choice("outline of the tumour", ["shown", "hidden"], "shown")})""",
    "weights": """
from rps_utils.widgets.roc import weights_view
panel(partial(weights_view, recurrence, risk, waiting), {
    "landmark": Slider("landmark", 6, 60, 6, 36), "lost_after": Slider("lost on average after", 10, 200, 10, 60)})""",
    "bins": """
from rps_utils.widgets.features import entropy_view, penalty_path, penalty_view
filtered = {"3 mm": 40 * risk, "39 mm": 50 * risk}
panel(partial(entropy_view, filtered), {
    "margin": Choice("margin", list(filtered), "39 mm"), "bin_width": Slider("bin width (HU)", 1, 100, 1, 25)})""",
    "penalty": """
ids = [str(i) for i in range(120)]
training = pd.DataFrame({"patient_id": ids, "fold": np.arange(120) % 4, "time_months": time, "event": event})
path = penalty_path(pd.DataFrame(x, index=ids, columns=list("abc")), training)
panel(partial(penalty_view, path), {"step": Slider("step towards a weaker penalty", 1, 40, 1, 10)})""",
    "stretch": """
panel(partial(stretch_view, (time, event), risk, 0.6, 36), {
    "stretch": Slider("log hazard times", 0.2, 3.0, 0.1, 1.0)})""",
    "nomogram": """
from rps_utils.learning.cox import CoxModel
from rps_utils.learning.nomogram import make_nomogram
model = CoxModel(["size_cm", "grade: G3"], [0.1, 0.7], [10.0, 0.5], [0.0, 12.0, 36.0], [0.0, 0.2, 0.6])
matrix = pd.DataFrame({"size_cm": np.linspace(2, 30, 40), "grade: G3": [0.0, 1.0] * 20})
nomogram = make_nomogram(model, matrix, {"grade": ["G1", "G3"]})
panel(partial(patient_view, nomogram, [12, 36]), finding_controls(nomogram, {"size_cm": 12, "grade": "G1"}))""",
    "split": """
table = patients.assign(a=x[:, 0], b=x[:, 1])
panel(partial(split_view, redraw_splits(table, ["a", "b"], 50)), {"seed": Slider("draw of the split", 0, 49, 1, 7)})""",
}
PLACE = {name: place for place, name in enumerate(PANELS)}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    cells = [nbformat.v4.new_code_cell(source.strip()) for source in (COHORT, *PANELS.values())]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / "panels.ipynb")
    with jupyter_lab(folder) as address, chromium() as driver:
        page = Page(driver, address, "panels.ipynb")
        page.run_all(len(PANELS))
        yield page


@pytest.fixture(scope="module")
def made_up():
    scope = {}
    exec(COHORT, scope)
    return pd.DataFrame({name: scope[name] for name in ("risk", "recurrence", "waiting", "time", "event")})


def test_the_cut_off(page, made_up):
    told = numbers(page.move(PLACE["cut"], 0, RIGHT * 10))
    low = made_up["risk"] <= np.sort(made_up["risk"])[71]
    times, events = made_up["time"], made_up["event"]
    p = logrank_test(times[low], times[~low], events[low], events[~low]).p_value
    assert told[1:3] == [72, 48] and told[3] == pytest.approx(p, abs=5e-5)
    at_risk = json.loads(page.picture(PLACE["cut"]))
    assert len(at_risk[0]) >= 4


def test_the_number_of_patients_of_a_study(page):
    before = numbers(page.sentence(PLACE["studies"]))
    after = numbers(page.move(PLACE["studies"], 0, RIGHT * 20))
    assert (before[0], after[0]) == (30, 230)
    # The spread of a mean falls with the root of the number: 2.8 times as narrow, within the luck of 100 studies.
    assert 1.8 < (before[2] - before[1]) / (after[2] - after[1]) < 4.2
    assert after[1] < 0.05 < after[2]


def test_the_threshold(page, made_up):
    told = numbers(page.move(PLACE["threshold"], 0, RIGHT * 2))
    acted = 1 - np.exp(-0.6 * np.exp(made_up["risk"])) >= 0.4
    hits, alarms = (acted & (made_up["recurrence"] <= 36)).sum(), (acted & (made_up["recurrence"] > 36)).sum()
    assert told[0] == 40 and told[1:5] == [acted.sum(), 120, hits, alarms]
    assert told[6] == pytest.approx(hits / 120 - alarms / 120 * 0.4 / 0.6, abs=6e-4)
    shapes = json.loads(page.picture(PLACE["threshold"]))[1]
    assert any(shape["x0"] == pytest.approx(0.4) == shape["x1"] for shape in shapes)


def test_the_viewer(page):
    assert "slice 11 of 21: 4.0 cm² of tumour, mean 1464 HU" in page.sentence(PLACE["viewer"])
    assert "A, coronal, slice 15 of 30" in page.choose(PLACE["viewer"], 1, "coronal")
    assert "slice 1 of 30: no tumour" in page.move(PLACE["viewer"], 2, LEFT * 50)
    assert "B, coronal" in page.choose(PLACE["viewer"], 0, "B")


def test_the_landmark(page, made_up):
    told = numbers(page.move(PLACE["weights"], 0, LEFT * 2))
    case, control = made_up["event"] & (made_up["time"] <= 24), made_up["time"] > 24
    assert told[:4] == [24, case.sum(), control.sum(), 120 - case.sum() - control.sum()]
    assert told[7] == pytest.approx(roc_auc_score(made_up["recurrence"] <= 24, made_up["risk"]), abs=6e-4)


def test_the_bin_width(page, made_up):
    told = numbers(page.move(PLACE["bins"], 1, RIGHT * 5))
    share = np.unique(np.floor(50 * made_up["risk"] / 30), return_counts=True)[1] / 120
    assert told[:2] == [39, 30] and told[2] == pytest.approx(-(share * np.log2(share)).sum(), abs=6e-4)


def test_the_penalty(page):
    before = numbers(page.sentence(PLACE["penalty"]))
    after = numbers(page.move(PLACE["penalty"], 0, LEFT * 9))
    assert after[0] > before[0] and after[1:4] == [0, 3, 0.5]


def test_the_stretch(page, made_up):
    before, after = (
        numbers(told) for told in (page.sentence(PLACE["stretch"]), page.move(PLACE["stretch"], 0, RIGHT * 10))
    )
    c = concordance_index(made_up["time"], -made_up["risk"], made_up["event"])
    assert before[0] == after[0] == pytest.approx(c, abs=6e-4)
    assert after[1] == pytest.approx(before[1] / 2, abs=0.011) and after[2] > before[2]


def test_the_patient_entered(page):
    told = numbers(page.choose(PLACE["nomogram"], 1, "G3"))
    assert told[1] == pytest.approx(100 * np.exp(-0.2 * np.exp(0.2 + 0.35)), abs=0.06)
    told = numbers(page.move(PLACE["nomogram"], 0, RIGHT * 5))
    assert told[3] == pytest.approx(100 * np.exp(-0.6 * np.exp(0.7 + 0.35)), abs=0.06)


def test_the_split(page):
    before = page.sentence(PLACE["split"])
    told = page.move(PLACE["split"], 0, RIGHT * 3)
    assert told.startswith("Split 10:") and told != before and numbers(told)[2] == 30
