"""What a figure shows, in words computed from it: for readers who do not see it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import plotly.graph_objects as go

from rps_utils.figures.still.axes import axis_of, own_part, values_of
from rps_utils.figures.still.text import written_lines

DESCRIBED = 12  # more of them are counted, not described


def describe(figure: go.Figure) -> str:
    """Return title, caption, what the axes count, and each series with its range.

    Of a figure with a slider, the words describe where it starts, as the picture does.
    """
    shown = [trace for trace in figure.data if trace.visible in (None, True)]
    said = [_of(trace) for trace in shown if trace.name or trace.type == "heatmap"]
    kinds = list(dict.fromkeys(text for text in said if text))
    rest = [f"and {len(kinds) - DESCRIBED} more"] if len(kinds) > DESCRIBED else []
    parts = [_line(figure.layout.title.text), (figure.layout.meta or {}).get("caption", ""), *_axes(figure, shown)]
    parts += ["; ".join([*kinds[:DESCRIBED], *rest])] if kinds else list(_only_words(figure, shown))
    return " ".join(part if part.endswith((".", "?", "!")) else f"{part}." for part in parts if part)


def _line(text: str | None) -> str:
    return " ".join(" ".join(written_lines(text)).split())


def _axes(figure: go.Figure, shown: list[Any]) -> list[str]:
    """Return what is counted across and up, each title once."""
    said = []
    for side, word in (("x", "Across"), ("y", "Up")):
        names = dict.fromkeys(own_part(trace, f"{side}axis") or side for trace in shown)
        titles = dict.fromkeys(_line(axis_of(figure, name).title.text) for name in names)
        said += [f"{word}: {', '.join(title for title in titles if title)}"] if any(titles) else []
    return said


def _of(trace: Any) -> str:
    """Return a series in words: its name, how many values, and from where to where."""
    name = _line(trace.name)
    if trace.type == "heatmap":
        grid = values_of(trace.z).astype(float)
        return f"a grid of {grid.shape[1]} by {grid.shape[0]} values, {_range(grid)}"
    flat = own_part(trace, "orientation") == "h" or trace.type == "histogram" or own_part(trace, "y") is None
    along = "x" if flat else "y"
    if own_part(trace, along) is None or not (values := list(_numbers(trace[along]))):
        return name
    if trace.type == "scatter" and "markers" not in (trace.mode or "lines"):
        return f"{name}: a line from {values[0]:.3g} to {values[-1]:.3g}"
    return f"{name}: {f'{len(values)} values, {_range(values)}' if len(values) > 1 else f'{values[0]:.3g}'}"


def _numbers(values: Any) -> Iterator[float]:
    for value in values_of(values):
        if not isinstance(value, str) and value is not None and np.isfinite(value):
            yield float(value)


def _range(values: Any) -> str:
    return f"{np.nanmin(values):.3g} to {np.nanmax(values):.3g}"


def _only_words(figure: go.Figure, shown: list[Any]) -> Iterator[str]:
    """Say how many series without a name there are, or what stands in an empty figure."""
    if shown:
        numbers = [n for trace in shown if "y" in trace and trace.y is not None for n in _numbers(trace.y)]
        yield f"{len(shown)} series" + (f", up from {_range(numbers)}" if numbers else "")
    else:
        yield from (_line(note.text) for note in figure.layout.annotations)
