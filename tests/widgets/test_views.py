"""Each function from a state to a figure and a sentence, held to numbers that others computed."""

import re

import numpy as np
import pandas as pd
import pytest
from lifelines.statistics import logrank_test
from lifelines.utils import concordance_index

from rps_utils.widgets.panel import Choice, Slider, View, answer, at_start, panel
from rps_utils.widgets.probabilities import decision_view, stretch_view
from rps_utils.widgets.risk_groups import cut_view


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
