"""Each function from a state to a figure and a sentence, held to numbers that others computed."""

import re

import numpy as np
import pandas as pd
import pytest
from lifelines.statistics import logrank_test
from lifelines.utils import concordance_index
from sklearn.metrics import roc_auc_score

from rps_utils.cohort.splits import draw_split
from rps_utils.imaging.features import ExtractionSettings, extract
from rps_utils.imaging.volumes import Volume
from rps_utils.learning.cox import CoxModel
from rps_utils.learning.nomogram import make_nomogram
from rps_utils.widgets.features import entropy_view, filter_margins, penalty_path, penalty_view
from rps_utils.widgets.luck import redraw_splits, split_view, studies_view, true_differences
from rps_utils.widgets.panel import Choice, Slider, View, answer, at_start, panel
from rps_utils.widgets.probabilities import decision_view, finding_controls, patient_view, stretch_view
from rps_utils.widgets.risk_groups import cut_view
from rps_utils.widgets.roc import weights_view
from rps_utils.widgets.scans import Shown, map_view, scan_view


def numbers(sentence):
    return [float(number) for number in re.findall(r"-?\d+\.?\d*", sentence)]


@pytest.fixture
def patients():
    draw = np.random.default_rng(3)
    risk = draw.normal(size=60)
    time, censoring = draw.exponential(40 / np.exp(risk)), draw.uniform(5, 90, 60)
    return pd.DataFrame({"time_months": np.minimum(time, censoring), "event": (time <= censoring) * 1, "risk": risk})


@pytest.mark.parametrize("percent", [20, 50, 85])
def test_a_cut_gives_the_log_rank_p_of_lifelines(patients, percent):
    cut = np.sort(patients["risk"])[round(60 * percent / 100) - 1]
    low, high = patients[patients["risk"] <= cut], patients[patients["risk"] > cut]
    theirs = logrank_test(low["time_months"], high["time_months"], low["event"], high["event"]).p_value
    view = cut_view(patients, percent)
    assert numbers(view.sentence)[1:3] == [len(low), len(high)]
    assert numbers(view.sentence)[3] == pytest.approx(theirs, abs=5e-5)
    first = [trace.text[0] for trace in view.figure.data if trace.mode == "text"]
    assert first == [str(len(low)), str(len(high))]


@pytest.mark.parametrize("percent", [0, 100])
def test_a_cut_that_leaves_a_group_empty_says_so(patients, percent):
    assert cut_view(patients, percent).sentence.startswith("All 60 patients lie on one side")


def test_a_cut_among_patients_without_events_says_so(patients):
    assert "nobody recurred" in cut_view(patients.assign(event=0), 50).sentence


RISK = np.array([0.9, 0.7, 0.6, 0.5, 0.4, 0.35, 0.25, 0.2, 0.1, 0.05])
RECURS = np.array([1, 1, 0, 1, 1, 0, 1, 0, 1, 0])
FOLLOW_UP = (np.where(RECURS == 1, 20.0, 50.0), RECURS)
CURVE = pd.DataFrame(
    {"model": "toy", "horizon": 36, "threshold": [0.2, 0.4], "net_benefit": [0.4, 0.3], "treat_all": [0.5, 0.3]}
)


@pytest.mark.parametrize(("threshold", "acted", "hits"), [(0.3, 6, 4), (0.55, 3, 2), (0.05, 10, 6)])
def test_a_threshold_gives_the_counts_of_patients_without_censoring(threshold, acted, hits):
    found = numbers(decision_view(CURVE, FOLLOW_UP, RISK, threshold).sentence)
    by_hand = hits / 10 - (acted - hits) / 10 * threshold / (1 - threshold)
    assert found[1:5] == [acted, 10, hits, acted - hits]
    assert found[6] == pytest.approx(by_hand, abs=5e-4)


def test_a_threshold_that_nobody_reaches_says_so():
    assert decision_view(CURVE, FOLLOW_UP, RISK, 0.95).sentence.startswith("Nobody's risk reaches 95%")


def test_stretching_keeps_c_and_turns_the_slope(patients):
    follow_up, log_hazard = (patients["time_months"], patients["event"]), patients["risk"].to_numpy()
    found = {f: numbers(stretch_view(follow_up, log_hazard, 0.9, 36, f).sentence) for f in (0.5, 1.0, 2.0)}
    theirs = concordance_index(patients["time_months"], -patients["risk"], patients["event"])
    assert [values[0] for values in found.values()] == pytest.approx([theirs] * 3, abs=5e-4)
    assert found[0.5][1] == pytest.approx(4 * found[2.0][1], abs=0.03)
    assert found[1.0][2] < min(found[0.5][2], found[2.0][2])


def test_a_panel_redraws_figure_and_sentence_at_every_move():
    def show(number, word):
        import plotly.graph_objects as go

        return View(go.Figure(go.Bar(y=[number])), f"{word} is {number}")

    controls = {"number": Slider("a number", 0, 9, 1, 3), "word": Choice("a word", ["this", "that"], "this")}
    box = panel(show, controls)
    slider, choice, sentence, picture = box.children

    def drawn():
        return picture.outputs[0]["data"]["application/vnd.plotly.v1+json"]["data"][0]["y"]

    assert (sentence.value, drawn()) == ("<b>this is 3</b>", [3])
    slider.value = 5
    choice.value = "that"
    assert (sentence.value, drawn()) == ("<b>that is 5</b>", [5])
    assert "starting state" in repr(box)


def test_the_plain_figure_is_that_of_the_starting_state(capsys, patients):
    figure = at_start(lambda percent: cut_view(patients, percent), {"percent": Slider("%", 0, 100, 1, 50)})
    view = cut_view(patients, 50)
    assert figure == view.figure and capsys.readouterr().out.strip() == view.sentence


def test_a_state_without_an_answer_is_answered_by_the_reason():
    def show(number):
        raise ValueError(f"{number} is too small")

    view = answer(show, {"number": 0})
    assert view.sentence == "0 is too small" and not view.figure.data


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Slider("n", 0, 5, 1, 6), "n: start = 6, step = 1; allowed: 0 to 5"),
        (lambda: Choice("word", ["a"], "b"), r"word: start = 'b'; allowed: \['a'\]"),
    ],
    ids=["slider", "choice"],
)
def test_a_control_whose_start_it_cannot_show_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def stub_draw(n, draws, spreads):
    """Everybody recurs; the first score orders them, the second gets one neighbouring pair wrong."""
    time = np.arange(1.0, n + 1)
    worse = -time.copy()
    worse[[0, 1]] = worse[[1, 0]]
    return time, np.ones(n, bool), np.array([-time, worse] + [-time] * (len(spreads) - 2))


def test_studies_report_the_differences_that_lifelines_finds():
    truth = pd.Series([0.0, 0.1], index=[0.5, 1.0])
    time, event, scores = stub_draw(20, None, [0, 0])
    theirs = [concordance_index(time, -score, event) for score in scores]
    found = numbers(studies_view(stub_draw, truth, 20, 0.05).sentence)
    assert found[1:3] == pytest.approx([theirs[0] - theirs[1]] * 2, abs=5e-4) and found[3] == 0


def test_studies_of_patients_without_events_say_so():
    def nobody(n, draws, spreads):
        return np.ones(n), np.zeros(n, bool), np.zeros((2, n))

    assert "no study has a pair" in studies_view(nobody, pd.Series([0.0, 0.1], index=[0, 1]), 20, 0.05).sentence


def test_the_true_difference_is_zero_at_the_first_noise_and_rises():
    def draw(n, draws, spreads):
        hazard = draws.normal(size=n)
        time = draws.exponential(1 / np.exp(hazard))
        return time, np.ones(n, bool), hazard + np.asarray(spreads)[:, None] * draws.normal(size=(len(spreads), n))

    truth = true_differences(draw, [0.5, 1.0, 3.0], patients=500)
    assert truth.iloc[0] == 0 and 0.02 < truth.iloc[1] < truth.iloc[2] < 0.3


def test_a_split_is_judged_as_lifelines_judges_it(patients):
    from lifelines import CoxPHFitter

    table = patients.assign(other=np.random.default_rng(1).normal(size=60))
    splits = redraw_splits(table, ["risk", "other"], 5)
    new = draw_split(table["event"], 4) == "validation"
    fit = CoxPHFitter().fit(table[~new], "time_months", "event")
    hazard = fit.predict_partial_hazard(table)
    c = [concordance_index(t["time_months"], -hazard[t.index], t["event"]) for t in (table[new], table[~new])]
    found = numbers(split_view(splits, 4).sentence)
    assert found[1:5] == pytest.approx([c[0], new.sum(), table.loc[new, "event"].sum(), c[1]], abs=5e-4)
    assert "cannot be fitted" in split_view(splits.assign(validation=np.nan), 4).sentence


def test_weights_are_those_of_a_kaplan_meier_curve_of_the_losses(patients):
    from lifelines import KaplanMeierFitter

    draw = np.random.default_rng(5)
    recurrence, risk, waiting = draw.exponential(40, 80), draw.normal(size=80), draw.exponential(size=80)
    view = weights_view(recurrence, risk, waiting, 36, 50)
    time, event = np.minimum(recurrence, 50 * waiting), recurrence <= 50 * waiting
    staying = KaplanMeierFitter().fit(time, ~event)
    case = event & (time <= 36)
    weight = 1 / staying.predict(time[case] - 1e-9).to_numpy()
    trace = next(trace for trace in view.figure.data if trace.name == "case")
    assert np.allclose(np.sort(np.asarray(trace.marker.size) ** 2 / 81), np.sort(weight))
    found = numbers(view.sentence)
    assert found[1:5] == [case.sum(), (time > 36).sum(), 80 - case.sum() - (time > 36).sum(), round(weight.max(), 2)]
    label, everybody = case.astype(int), np.ones(80, bool)
    assert found[6] == pytest.approx(roc_auc_score(label[everybody], risk), abs=5e-4)
    assert found[7] == pytest.approx(roc_auc_score(recurrence <= 36, risk), abs=5e-4)
    assert "there is no AUC" in weights_view(recurrence, risk, waiting, 0.0001, 50).sentence


@pytest.fixture(scope="module")
def tumour():
    draw = np.random.default_rng(8)
    ct = Volume(draw.normal(40, 60, (34, 36, 38)), np.diag([3.0, 3.0, 3.0, 1.0]))
    mask = np.zeros(ct.values.shape)
    mask[14:20, 14:21, 14:22] = 1
    return ct, Volume(mask, ct.affine)


@pytest.mark.parametrize("width", [10.0, 25.0])
def test_the_entropy_is_that_of_pyradiomics(tumour, width):
    values = filter_margins(*tumour, 3.0, (1, 13))
    settings = ExtractionSettings(("log",), [3.0], bin_width_hu=width, engine="plain")
    theirs = extract(*tumour, settings)["log-sigma-3-0-mm-3D_firstorder_Entropy"]
    found = numbers(entropy_view(values, "3 mm", width).sentence)
    assert found[:2] == [3, width] and found[-1] == pytest.approx(theirs, abs=2e-3) and found[2] != found[-1]


def test_the_penalty_leaves_nothing_at_first_and_remembers_at_last():
    draw = np.random.default_rng(2)
    ids = [f"P{i}" for i in range(80)]
    values = pd.DataFrame(draw.normal(size=(80, 30)), index=ids).rename(columns=str)
    time, censoring = draw.exponential(40, 80), draw.uniform(5, 90, 80)
    outcome = {"time_months": np.minimum(time, censoring), "event": time <= censoring}
    training = pd.DataFrame({"patient_id": ids, "fold": np.arange(80) % 4, **outcome})
    path = penalty_path(values, training)
    first, last = (numbers(penalty_view(path, step).sentence) for step in (1, len(path.penalties)))
    assert first[1:4] == [0, 12, 0.5] and last[1] > 8
    assert last[3] > 0.6 and last[5] > 0.08 and abs(last[4] - 0.5) < 0.12  # noise: remembered, not known
    z = values[path.coefficients.index]
    risk = ((z - z.mean()) / z.std(ddof=0)).clip(-3, 3) @ path.coefficients.iloc[:, -1]
    assert last[3] == pytest.approx(concordance_index(training["time_months"], -risk, training["event"]), abs=5e-4)


def paper_model():
    model = CoxModel(["size_cm", "grade: G3"], [0.1, 0.7], [10.0, 0.5], [0.0, 12.0, 36.0], [0.0, 0.2, 0.6])
    matrix = pd.DataFrame({"size_cm": np.linspace(2, 30, 40), "grade: G3": [0.0, 1.0] * 20})
    return make_nomogram(model, matrix, {"grade": ["G1", "G3"]})


def test_a_patient_entered_gets_the_probability_of_the_cox_formula():
    controls = finding_controls(paper_model(), {"size_cm": 17.3, "grade": "G3"})
    assert (controls["size_cm"].start, controls["grade"].start, controls["grade"].options) == (17, "G3", ["G1", "G3"])
    for size, grade in ((17, "G3"), (5, "G1")):
        found = numbers(patient_view(paper_model(), [12, 36], size_cm=size, grade=grade).sentence)
        risk = 0.1 * (size - 10) + 0.7 * ((grade == "G3") - 0.5)
        assert found[1::2] == pytest.approx([100 * np.exp(-h * np.exp(risk)) for h in (0.2, 0.6)], abs=0.06)
    assert "beyond the follow-up" in patient_view(paper_model(), [60], size_cm=5, grade="G1").sentence


SHOWN = {"A": Shown(np.arange(4 * 5 * 6.0).reshape(4, 5, 6), np.zeros((4, 5, 6)), (1.0, 2.0, 5.0))}
SHOWN["A"].mask[1:3, 2, 4] = 1


@pytest.mark.parametrize(
    ("plane", "percent", "said", "corner"),
    [
        ("axial", 80, "slice 5 of 6: 0.0 cm² of tumour, mean 61 HU", 4.0),
        ("axial", 0, "slice 1 of 6: no tumour", 0.0),
        ("coronal", 50, "slice 3 of 5: 0.1 cm² of tumour, mean 61 HU", 12.0),
        ("sagittal", 100, "slice 4 of 4: no tumour", 90.0),
    ],
)
def test_the_viewer_shows_the_slice_asked_for(plane, percent, said, corner):
    view = scan_view(SHOWN, "", "A", plane, percent, "fat", "shown")
    assert said in view.sentence and view.figure.data[0].z[0][0] == corner
    assert (view.figure.data[0].zmin, view.figure.data[0].zmax) == (-200, 0)
    assert view.figure.data[1].z.max() == ("no tumour" not in said)
    assert scan_view(SHOWN, "", "A", plane, percent, "fat", "hidden").figure.data[1].z.max() == 0


def test_what_may_not_be_shown_is_not():
    view = scan_view({}, "pictures are withheld", "A", "axial", 0, "fat", "shown")
    assert view.sentence == "pictures are withheld" and not view.figure.data
    assert not map_view({}, "pictures are withheld", "A", 1).figure.data


def test_a_slice_of_a_map_holds_its_share_of_the_weight():
    weight = np.zeros((3, 3, 4))
    weight[0, 0, 1], weight[1, 1, 2] = 0.3, -0.1
    leaves = {"A": {"name": "A", "hu": np.zeros((3, 3, 4)), "mask": weight > 0, "weight": weight, "marked": None}}
    assert (
        "75.0% of all weight lies here; it moves the score by +0.300 of +0.200" in map_view(leaves, "", "A", 2).sentence
    )
    leaves["A"]["weight"] = 0 * weight
    assert "nothing in the image" in map_view(leaves, "", "A", 2).sentence
