"""Figures: kept whole and offline, in one look, with the right things on the right side."""

import json
import re

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import plotly.io as pio
import pytest

from rps_utils.figures.calibration import calibration_plot
from rps_utils.figures.decision import decision_bands, decision_curves
from rps_utils.figures.discrimination import c_index_plot
from rps_utils.figures.effects import forest_plot, interval_dots, place_labels, score_distributions, selected_features
from rps_utils.figures.risk_groups import incidence_plot, kaplan_meier_plot
from rps_utils.figures.roc import roc_curves, values_over_time
from rps_utils.figures.scans import ct_view, map_panels
from rps_utils.figures.style import (
    DARK_COLOURS,
    GREY,
    INK,
    MODEL_COLOURS,
    PAPER,
    SPARE_COLOURS,
    file_name,
    model_colours,
    new_figure,
    nothing_to_show,
    panel_at,
    panels,
    save_figure,
)
from rps_utils.report.page import read_figures
from rps_utils.run_folder import RunFolder

DATA = pd.DataFrame({"x": [1.0, 2.0], "y": [0.1, 1 / 3]})


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return np.dot([0.2126, 0.7152, 0.0722], linear)


def simple():
    return go.Figure(go.Scatter(x=DATA["x"], y=DATA["y"]))


def test_a_figure_is_kept_as_page_json_and_numbers(tmp_path):
    figure = simple()
    assert save_figure(figure, DATA, tmp_path, "07_test", "What is seen.").to_plotly_json() == figure.to_plotly_json()
    folder = tmp_path / "figures"
    assert {p.name for p in folder.iterdir()} == {"07_test.html", "07_test.json", "07_test.csv", "plotly.min.js"}
    pd.testing.assert_frame_equal(pd.read_csv(folder / "07_test.csv"), DATA, check_exact=True)
    assert json.loads((folder / "07_test.json").read_text())["layout"]["meta"]["caption"] == "What is seen."


def test_its_page_needs_nothing_from_outside(tmp_path):
    save_figure(simple(), DATA, tmp_path, "07_test")
    page = (tmp_path / "figures" / "07_test.html").read_text()
    assert re.findall(r'src="([^"]+)"', page) == ["plotly.min.js"]
    assert "http" not in page


def test_the_same_figure_gives_the_same_bytes(tmp_path):
    pages = []
    for _ in range(2):
        save_figure(simple(), DATA, tmp_path, "07_test")
        pages.append((tmp_path / "figures" / "07_test.html").read_bytes())
    assert pages[0] == pages[1]


EMPTY = {"no numbers": (simple(), DATA.iloc[:0]), "no traces": (nothing_to_show("Nothing"), DATA)}


@pytest.mark.parametrize(("figure", "data"), EMPTY.values(), ids=EMPTY)
def test_a_figure_with_nothing_in_it_is_not_kept_and_an_older_one_goes(tmp_path, figure, data):
    save_figure(simple(), DATA, tmp_path, "07_test")
    save_figure(figure, data, tmp_path, "07_test")
    assert {p.name for p in (tmp_path / "figures").iterdir()} == {"plotly.min.js"}


@pytest.mark.parametrize("name", ["../07_test", "07/test", "07.test"])
def test_a_name_that_is_no_plain_file_name_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="plain file name without extension"):
        save_figure(simple(), DATA, tmp_path, name)


def test_any_model_name_becomes_a_plain_file_name(tmp_path):
    name = file_name("11_km", "Cox (age/size) v1.2", "training")
    assert re.fullmatch(r"11_km_Cox-age-size-v1-2-[0-9a-f]{8}_training", name)
    save_figure(simple(), DATA, tmp_path, name)


def test_the_studys_own_figures_keep_their_names():
    assert file_name("11_km", "DLCM", "validation") == "11_km_DLCM_validation"
    assert file_name("07_c_index") == "07_c_index"


EASILY_CONFUSED = [
    *("A/B", "A B", "A_B", "A-B", "AB", "a b", "A  B", " A B", "A B.", "A\\B", "A:B", "A*B", "../A", ".", "", "-"),
    *("Модель А", "Модель Б", "モデル", "模型", "Ä", "A\u0308", "é", "e\u0301", "😀", "\u200b", "\ud800"),
    *("DL", "dl", "Dl", "dL", "training", "Training", "validation", "lesson", "A_training", "A", "cross", "fitted"),
    *("CON", "con", "NUL", "aux", "COM1", "LPT9", "x" * 240, "x" * 241, "x" * 239 + "y", "日" * 240),
    *("A_lesson_", "11_km", "07_c_index", "1", "2", "1.0", "NA", "None", "\n", "\t", "a\0b"),
]


def test_different_models_have_different_figures_on_every_file_system():
    names = [file_name("11_km", model, place) for model in EASILY_CONFUSED for place in ("training", "validation")]
    names += [file_name(model) for model in EASILY_CONFUSED if model != "11_km"]
    assert len({name.casefold() for name in names}) == len(names)
    assert all(re.fullmatch("[A-Za-z0-9_-]+", name) and len(name) <= 130 for name in names)
    assert not [
        name for name in names if "_lesson_" in name or re.fullmatch("(?i)con|nul|aux|prn|com[0-9]|lpt[0-9]", name)
    ]


def test_two_words_do_not_run_into_each_other():
    assert len({file_name("11_km", "A", "B"), file_name("11_km", "A_B"), file_name("11_km_a", "B")}) == 3


def test_the_report_shows_the_figures_of_all_models(tmp_path):
    models = ["A/B", "A B", "Модель", "モデル", "x" * 240, "a", "A", "CON"]
    for model in models:
        chart = simple()
        chart.update_layout(title=model)
        save_figure(chart, DATA, tmp_path, file_name("11_km", model, "validation"), f"of {model}")
    shown = read_figures(RunFolder(tmp_path), "11")
    assert sorted(figure["title"] for figure in shown) == sorted(models)
    assert sorted(figure["caption"] for figure in shown) == sorted(f"of {model}" for model in models)


def test_its_page_is_read_on_a_phone_and_on_a_dark_screen(tmp_path):
    save_figure(new_figure("A long title").add_scatter(x=[1], y=[1]), DATA, tmp_path, "07_test", "What is seen.")
    page = (tmp_path / "figures" / "07_test.html").read_text()
    assert '<meta name="viewport"' in page and "prefers-color-scheme: dark" in page
    assert '<h1 class="chart-title">A long title</h1>' in page  # above the figure, where it wraps under no button


def test_every_colour_of_the_look_has_contrast_on_a_dark_screen():
    night = luminance(DARK_COLOURS[PAPER])
    colours = [DARK_COLOURS.get(c, c) for c in (INK, GREY, *MODEL_COLOURS.values(), *SPARE_COLOURS)]
    assert min((luminance(c) + 0.05) / (night + 0.05) for c in colours) > 4.5
    assert not set(DARK_COLOURS.values()) & {INK, PAPER}


LABELS = {
    "with room": (["a", "b"], [0, 50], [True, True], ["a", "b"], ["bottom center", "bottom center"]),
    "above where it is needed": (
        ["LMS", "WDLPS"],
        [0, 2],
        [True, True],
        ["LMS", "WDLPS"],
        ["bottom center", "top center"],
    ),
    "joined where both sides are taken": (
        *(["G1", "other", "DDLPS"], [0, 1, 2], [True] * 3),
        *(["G1", "other, DDLPS", ""], ["bottom center", "top center", "bottom center"]),
    ),
    "left out where it is not needed": (
        ["1", "2", "3"],
        [0, 1, 9],
        [False, False, True],
        ["1", "", "3"],
        ["bottom center"] * 3,
    ),
}


@pytest.mark.parametrize(("labels", "points", "needed", "shown", "sides"), LABELS.values(), ids=LABELS)
def test_no_two_labels_of_an_axis_collide(labels, points, needed, shown, sides):
    assert place_labels(labels, points, needed) == (shown, sides)


def test_no_model_is_cut_off_below_the_decision_curves():
    table = pd.DataFrame({"horizon": 12.0, "model": "DL", "threshold": [0.2, 0.5], "net_benefit": [-0.1, -0.4]})
    figure = decision_curves(table.assign(treat_all=0.3), "Decision curves")
    assert figure.layout.yaxis.range[0] < -0.4


def test_more_than_three_panels_stand_in_several_rows():
    figure = panels(list("ABCDE"), "Five")
    assert panel_at(3) == {"row": 1, "col": 3} and panel_at(5) == {"row": 2, "col": 2}
    assert len({axis.domain for axis in figure.select_yaxes()}) == 2


def test_the_look_is_set_on_the_figure_and_nowhere_else():
    before = pio.templates.default, set(pio.templates)
    new_figure("Title")
    assert (pio.templates.default, set(pio.templates)) == before


def test_models_have_fixed_colours_and_others_get_free_ones():
    colours = model_colours(["A", "DLCM", "B", "A", "DL"])
    assert list(colours) == ["A", "DLCM", "B", "DL"]
    assert colours["DL"] == MODEL_COLOURS["DL"]
    assert len(set(colours.values())) == 4


def test_words_have_contrast_and_lines_can_be_seen_on_white():
    contrast = {c: 1.05 / (luminance(c) + 0.05) for c in [INK, *MODEL_COLOURS.values()]}
    assert contrast[INK] > 7
    assert min(contrast.values()) > 2


ROWS = pd.DataFrame(
    {
        "model": ["DL", "DL", "Rad"],
        "kind": ["apparent", "validation", "validation"],
        "horizon_months": [12.0, 12.0, 12.0],
        "value": [0.8, 0.7, np.nan],
        "ci_low": [0.7, np.nan, np.nan],
        "ci_high": [0.9, np.nan, np.nan],
        "note": ["", "", "no event by 12"],
    }
)


def words_in(figure):
    return " | ".join(annotation.text or "" for annotation in figure.layout.annotations)


def test_intervals_stand_beside_their_bars_in_words():
    figure = c_index_plot(ROWS, "C")
    assert "0.80 (0.70 to 0.90)" in words_in(figure)
    assert "0.70" in words_in(figure).split(" | ")
    assert list(figure.layout.yaxis.ticktext) == ["DL"]


def test_a_model_keeps_its_rows_together_and_the_order_of_mention():
    mixed = pd.concat([ROWS.iloc[[1]].assign(model="Rad"), ROWS.iloc[[0]], ROWS.iloc[[0]].assign(model="Rad")])
    figure = c_index_plot(mixed, "C")
    assert list(figure.layout.yaxis.ticktext) == ["Rad", "DL"]


def test_roc_panels_say_why_they_are_empty():
    curves = pd.DataFrame({"horizon": 12.0, "model": "DL", "fpr": [0, 0.5, 1], "tpr": [0, 0.9, 1]})
    areas = pd.DataFrame(
        {
            "horizon_months": [12.0, 60.0],
            "model": "DL",
            "value": [0.7, np.nan],
            "note": ["", "60 lies beyond the last follow-up"],
        }
    )
    figure = roc_curves(curves, areas, "ROC", "weeks")
    assert "DL 0.70" in words_in(figure) and "12 weeks" in words_in(figure)
    assert "60 lies beyond" in words_in(figure)


def km_inputs():
    curves = pd.DataFrame(
        {"group": ["low", "low", "high"], "time": [5.0, 9.0, 4.0], "survival": [0.9, 0.8, 0.5], "censored": [0, 1, 2]}
    )
    curves = curves.assign(ci_low=curves["survival"] - 0.1, ci_high=curves["survival"] + 0.1)
    at_risk = pd.DataFrame({"group": ["low", "low", "high", "high"], "time": [0, 6, 0, 6], "at_risk": [7, 3, 6, 1]})
    return curves, at_risk


def test_kaplan_meier_starts_at_one_and_carries_the_numbers_at_risk():
    figure = kaplan_meier_plot(*km_inputs(), "KM", ["log-rank p 0.012"], unit="days")
    lines = [t for t in figure.data if t.name in ("low", "high")]
    assert all((t.x[0], t.y[0]) == (0, 1) and t.line.shape == "hv" for t in lines)
    numbers = [list(t.text) for t in figure.data if t.mode == "text"]
    assert numbers == [["7", "3"], ["6", "1"]]
    assert "log-rank p 0.012" in words_in(figure) and "number at risk" in words_in(figure)
    assert figure.layout.xaxis.title.text == "time (days)"


def test_a_hazard_ratio_that_cannot_be_estimated_shows_its_reason():
    table = pd.DataFrame({"term": ["age", "R2"], "hazard_ratio": [2.0, np.nan], "note": ["", "separated"]})
    figure = forest_plot(table.assign(ci_low=[1.5, np.nan], ci_high=[2.7, np.nan]), "Cox")
    assert "2.00 (1.50 to 2.70)" in words_in(figure) and "separated" in words_in(figure)
    assert figure.layout.xaxis.type == "log"


def test_ct_is_shown_as_radiologists_look_at_it():
    """RAS: x grows to the patient's right, which belongs on the viewer's left; y grows to the front, which is up."""
    volume, mask = np.full((6, 5, 4), -50.0), np.zeros((6, 5, 4), int)
    volume[5, 4, 2], mask[1:3, 1:3, 2] = 100, 1
    figure = ct_view(volume, mask, (2.0, 3.0, 5.0))
    assert len(figure.data) == 2  # the slice with the largest outline, chosen by itself
    image = figure.data[0]
    assert np.asarray(image.z)[4, 5] == 100
    assert (image.dx, image.dy) == (2, 3)
    assert figure.layout.xaxis.autorange == "reversed"
    assert figure.layout.yaxis.autorange != "reversed"
    assert figure.layout.xaxis.title.text.startswith("← right")
    assert (image.zmin, image.zmax) == (-160, 240)


def test_several_slices_get_a_slider_that_shows_one_at_a_time():
    figure = ct_view(np.zeros((6, 5, 4)), None, (2.0, 3.0, 5.0), slices=[0, 1, 2])
    steps = figure.layout.sliders[0].steps
    assert [step.label for step in steps] == ["0", "5", "10"]
    assert [sum(step.args[0]["visible"]) for step in steps] == [2, 2, 2]
    assert [trace.visible for trace in figure.data] == [False, False, True, True, False, False]


def test_larger_coefficients_stand_on_top():
    figure = selected_features(pd.DataFrame({"feature": ["a", "b", "c"], "coefficient": [0.1, -0.9, 0.4]}))
    assert list(figure.data[0].y) == ["a", "c", "b"]


def calibration():
    groups = pd.DataFrame(
        {"model": "DL", "n": [7, 8], "predicted": [0.2, 0.6], "observed": [0.1, 0.7], "ci_low": 0.05, "ci_high": 0.9}
    )
    return groups, pd.DataFrame({"model": "DL", "predicted": [0.1, 0.7], "observed": [0.1, 0.8]})


def decisions():
    return pd.DataFrame(
        {
            "horizon": 36.0,
            "model": "DL",
            "threshold": [0.1, 0.2],
            "net_benefit": [0.2, 0.1],
            "treat_all": [0.2, 0.0],
        }
    )


def incidences():
    rows = {"group": "high", "time": [0.0, 5.0, 9.0], "incidence": [0, 0.2, 0.4], "one_minus_km": [0, 0.2, 0.5]}
    return pd.DataFrame({**rows, "ci_low": [np.nan, 0.1, 0.2], "ci_high": [np.nan, 0.4, 0.7]})


FULL = {
    "calibration": (calibration_plot, (*calibration(), "Calibration", "36 months")),
    "decisions": (decision_curves, (decisions(), "Decisions")),
    "decision bands": (decision_bands, (decisions().assign(ci_low=0.0, ci_high=0.3), "Bands")),
    "over time": (values_over_time, (ROWS, "AUC", "AUC", 0.5)),
    "incidence": (incidence_plot, (incidences(), "Incidence")),
    "scores": (score_distributions, (ROWS.assign(risk=[0.1, 0.2, 0.3], event=[0, 1, 1]),)),
}


@pytest.mark.parametrize(("build", "given"), FULL.values(), ids=FULL)
def test_builders_name_their_axes(build, given):
    figure = build(*given)
    assert figure.layout.yaxis.title.text
    assert figure.layout.title.text
    assert len(figure.data)


@pytest.mark.parametrize(("build", "given"), list(FULL.values())[:5], ids=list(FULL)[:5])
def test_builders_say_so_when_there_is_nothing_to_show(build, given):
    nothing = [part.iloc[:0] if isinstance(part, pd.DataFrame) else part for part in given]
    figure = build(*nothing)
    assert not figure.data
    assert re.search("no value to show|does not tell deaths", words_in(figure))


def test_bands_are_shaded_behind_the_lines():
    groups, curves = calibration()
    band = calibration_plot(groups, curves.assign(ci_low=0.0, ci_high=0.9), "Calibration", "36 months")
    assert [t.fill for t in band.data].count("tonexty") == 1
    assert not any(t.fill for t in calibration_plot(groups, curves, "Calibration", "36 months").data)


def test_interval_dots_show_every_series_and_leave_out_missing_values():
    rows = pd.DataFrame(
        {
            "place": ["a", "a", "b"],
            "series": ["x", "y", "x"],
            "value": [0.5, 0.6, np.nan],
            "ci_low": 0.4,
            "ci_high": 0.9,
        }
    )
    chart = interval_dots(rows, "place", "series", "Title", "Axis", null=0.5)
    assert [trace.name for trace in chart.data] == ["x", "y"]
    assert list(chart.data[0].x) == [0.5] and chart.data[1].error_x.arrayminus[0] == pytest.approx(0.2)


def test_map_panels_show_the_slice_with_the_most_weight_scaled_to_its_patient():
    hu, weight = np.zeros((8, 8, 8)), np.zeros((8, 8, 8))
    hu[:, :, 5], weight[2, 3, 5] = 77, -4.0
    mask = np.ones((8, 8, 8))
    panels = [{"name": "P1", "hu": hu, "mask": mask, "weight": weight, "marked": None}]
    chart = map_panels(panels, "Title")
    heat = [trace for trace in chart.data if trace.type == "heatmap"]
    assert (np.array(heat[0].z) == 77).all() and np.array(heat[1].z)[3, 2] == -1
    assert len(chart.data) == 4, "CT, map and the outline on both"
    assert len(map_panels([{**panels[0], "marked": mask}], "Title").data) == 6
