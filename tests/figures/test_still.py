"""Pictures and words of figures: drawn without a browser, true of the figure, and the same each time."""

import io

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import plotly.io
import pytest
from PIL import Image

from rps_utils.figures.still.picture import png
from rps_utils.figures.still.words import describe
from rps_utils.figures.style import (
    DARK_COLOURS,
    EITHER_COLOURS,
    INK,
    PLOTLY,
    SPARE_COLOURS,
    NotebookFigure,
    new_figure,
    nothing_to_show,
    on_any_screen,
    panel_words,
    panels,
    save_figure,
)


def line():
    figure = new_figure("A curve <b>falls</b>").add_scatter(x=[0, 5, 9], y=[1, 0.5, 0.2], name="low", mode="lines")
    figure.update_layout(meta={"caption": "How it falls."})
    return figure.update_xaxes(title="months").update_yaxes(title="LRFS", range=[0, 1])


KINDS = {
    "line": line,
    "points with bars": lambda: new_figure("p").add_scatter(
        x=["a", "b"], y=[1, 2], mode="markers", error_y={"array": [1, 1]}
    ),
    "boxes": lambda: new_figure("b").add_box(y=[1, 2, 3, 9], name="one", boxpoints="all"),
    "flat bars": lambda: new_figure("b").add_bar(x=[1, -2], y=["up", "down"], orientation="h"),
    "counts": lambda: new_figure("h").add_histogram(x=[1, 1, 2], xbins={"start": 0, "end": 3, "size": 1}),
    "slice": lambda: new_figure("s").add_heatmap(z=[[0, 1], [2, 3]], colorscale="gray").add_contour(z=[[0, 1], [0, 1]]),
    "panels": lambda: panels(["one", "two"], "two panels").add_scatter(x=[1, 2], y=[1, 2], row=1, col=2),
    "nothing": lambda: nothing_to_show("Empty", "no value to show"),
}


def pixels(figure):
    return np.asarray(Image.open(io.BytesIO(png(figure))).convert("RGB")).astype(int)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_figure_has_a_small_picture_the_same_each_time(kind):
    first, again = png(KINDS[kind]()), png(plotly.io.from_json(KINDS[kind]().to_json()))
    assert first == again and len(first) < 60_000
    assert len(np.unique(pixels(KINDS[kind]()).reshape(-1, 3), axis=0)) > 4, "something is drawn"


def test_a_line_lies_where_its_numbers_say():
    figure = new_figure("").add_scatter(x=[0, 1], y=[0.25, 0.25], mode="lines", line={"color": "#ff0000", "width": 4})
    figure.update_yaxes(range=[0, 1], showgrid=False)
    rows = np.unique(np.nonzero((pixels(figure) - [255, 0, 0] == 0).all(axis=2))[0])
    high = figure.add_hline(y=0.75, line={"color": "#0000ff", "width": 4})
    blue = np.unique(np.nonzero((pixels(high) - [0, 0, 255] == 0).all(axis=2))[0])
    assert 0 < len(rows) < 12 and blue.max() < rows.min(), "above is up"
    assert 150 < rows.mean() - blue.mean() < 260, "half of the plot's height"


def test_a_slider_shows_where_it_starts():
    figure = new_figure("s").add_scatter(x=[0, 1], y=[0, 1], line={"color": "#ff0000"}, visible=False)
    figure.add_scatter(x=[0, 1], y=[0, 1], line={"color": "#00aa00"})
    assert not (pixels(figure) == [255, 0, 0]).all(axis=2).any()


def test_a_trace_without_a_picture_is_named_and_still_shown(capsys):
    figure = go.Figure(go.Pie(values=[1, 2]))
    with pytest.raises(ValueError, match="'pie' has no still picture; there is one of: scatter, box"):
        png(figure)


def test_the_words_are_computed_from_the_figure():
    words = describe(line())
    assert words == "A curve falls. How it falls. Across: months. Up: LRFS. low: a line from 1 to 0.2."
    assert describe(line().update_traces(y=[1, 0.5, 0.1])) != words
    assert "no value to show" in describe(KINDS["nothing"]())
    assert "a grid of 2 by 2 values, 0 to 3" in describe(KINDS["slice"]())
    many = new_figure("m")
    for number in range(15):
        many.add_scatter(x=[1], y=[number], name=f"s{number}", mode="markers")
    assert describe(many).endswith("s11: 11; and 3 more.")


def test_a_notebook_gets_plotly_a_picture_and_words(tmp_path, monkeypatch):
    kept, shown = save_figure(line(), pd.DataFrame({"a": [1]}), tmp_path, "07_x", "Why."), []
    monkeypatch.setattr("IPython.display.display", lambda data, **given: shown.append((data, given["metadata"])))
    kept._ipython_display_()
    NotebookFigure(go.Figure(go.Pie(values=[1, 2])))._ipython_display_()
    (data, about), (pie, nothing) = shown
    assert set(data) == {PLOTLY, "image/png", "text/plain"} and "plotly.min.js" not in str(data)
    assert about["image/png"]["alt"] == data["text/plain"] == describe(kept)
    assert set(pie) == {PLOTLY, "text/plain"} and nothing == {}


def contrast(one, other):
    def light(colour):
        parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]

    low, high = sorted([light(one), light(other)])
    return (high + 0.05) / (low + 0.05)


def test_what_a_notebook_draws_is_seen_on_white_and_on_black():
    text = str(on_any_screen(line()))
    assert "#ffffff" not in text and INK not in text and "rgba(0,0,0,0)" in text
    for page in ("#ffffff", "#111111"):
        assert contrast(EITHER_COLOURS[INK], page) > 4.1
        lines = [c for c in {*SPARE_COLOURS, *DARK_COLOURS} if c.startswith("#0") or c in SPARE_COLOURS[:4]]
        assert min(contrast(EITHER_COLOURS.get(c, c), page) for c in lines) > 2.9


def test_words_in_two_colours_stay_on_the_paper():
    figure = panels(["one"], "p").add_scatter(x=[1, 2], y=[1, 2])
    panel_words(figure, 1, [("red", "#ff0000")], "upper left")
    assert (pixels(figure) == [255, 0, 0]).all(axis=2).any()
