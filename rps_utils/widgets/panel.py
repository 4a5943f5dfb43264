"""The one control panel: a function of a state, and sliders and lists that set the state."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import ipywidgets
import plotly.graph_objects as go

from rps_utils.figures.still.words import describe
from rps_utils.figures.style import PLOTLY, NotebookFigure, nothing_to_show, on_any_screen

_WIDE = {"width": "min(560px, 100%)"}
_WORDS = {"description_width": "200px"}


class View(NamedTuple):
    """What one state of the controls shows: a figure, and the number it is about in a sentence."""

    figure: go.Figure
    sentence: str


@dataclass(frozen=True)
class Slider:
    """A number between two ends; `unit` of the step decides how many digits are shown."""

    words: str
    low: float
    high: float
    step: float
    start: float

    def __post_init__(self) -> None:
        """Refuse a start that the slider cannot show."""
        if not self.low <= self.start <= self.high or self.step <= 0:
            ends = f"{self.low:g} to {self.high:g}, step above 0"
            raise ValueError(f"{self.words}: start = {self.start:g}, step = {self.step:g}; allowed: {ends}")

    def widget(self) -> ipywidgets.Widget:
        """Return it for ipywidgets; arrow keys move it by one step."""
        whole = all(float(number).is_integer() for number in (self.low, self.high, self.step, self.start))
        kind = ipywidgets.IntSlider if whole else ipywidgets.FloatSlider
        number = int if whole else float
        ends = {"min": number(self.low), "max": number(self.high), "step": number(self.step)}
        shown = {} if whole else {"readout_format": f".{_digits(self.step)}f"}
        return kind(value=number(self.start), description=self.words, **ends, **shown, layout=_WIDE, style=_WORDS)


def _digits(step: float) -> int:
    return max(len(f"{step:.6f}".rstrip("0").partition(".")[2]), 1)


@dataclass(frozen=True)
class Choice:
    """One of several words."""

    words: str
    options: Sequence[Any]
    start: Any

    def __post_init__(self) -> None:
        """Refuse a start that is not among the options."""
        if self.start not in self.options:
            raise ValueError(f"{self.words}: start = {self.start!r}; allowed: {list(self.options)}")

    def widget(self) -> ipywidgets.Widget:
        """Return it for ipywidgets: a list to click on."""
        chosen = {"options": list(self.options), "value": self.start}
        return ipywidgets.Dropdown(description=self.words, **chosen, layout=_WIDE, style=_WORDS)


class Panel(ipywidgets.VBox):
    """Controls, sentence and figure. Where no kernel runs, its text says where to look instead."""

    def __repr__(self) -> str:
        """Return what GitHub, a book or a printed page show in its place."""
        return "Controls: they move where the notebook runs. Their starting state follows as a figure."


def panel(show: Callable[..., View], controls: Mapping[str, Slider | Choice]) -> Panel:
    """Return controls that redraw a figure and its sentence at every move.

    Parameters
    ----------
    show : callable
        Takes the names in `controls` as keywords and returns a `View`. A ``ValueError`` becomes the sentence.
    controls : mapping
        Keyword of `show` to its control.

    Returns
    -------
    Panel
        Follow it by `at_start`: a panel is blank wherever no kernel runs.
    """
    movers = {name: control.widget() for name, control in controls.items()}
    sentence, picture = ipywidgets.HTML(), ipywidgets.Output()
    sentence.add_class("rps-sentence")

    def redraw(_: Any = None) -> None:
        view = answer(show, {name: mover.value for name, mover in movers.items()})
        # The place keeps the height of the figure, so that the page below does not jump while it is redrawn.
        picture.layout.min_height = f"{(view.figure.layout.height or 450) + 10}px"
        sentence.value = f"<b>{html.escape(view.sentence)}</b>"
        picture.outputs = ({"output_type": "display_data", "data": _bundle(view.figure), "metadata": {}},)

    for mover in movers.values():
        mover.observe(redraw, "value")
    redraw()
    return Panel([*movers.values(), sentence, picture])


def at_start(show: Callable[..., View], controls: Mapping[str, Slider | Choice]) -> NotebookFigure:
    """Print the sentence of the starting state and return its figure: for readers without a kernel."""
    view = answer(show, {name: control.start for name, control in controls.items()})
    print(view.sentence)
    return NotebookFigure(view.figure)


def answer(show: Callable[..., View], state: Mapping[str, Any]) -> View:
    """Return the view of a state; where the state has no answer, the reason takes its place."""
    try:
        return show(**state)
    except ValueError as error:
        return View(nothing_to_show("", str(error)), str(error))


def _bundle(figure: go.Figure) -> dict[str, Any]:
    return {PLOTLY: on_any_screen(figure), "text/plain": describe(figure)}
