"""Nomogram of a Cox model: points for each finding, their total, and the LRFS probability that belongs to it.

The conventions are those of R's ``rms``: each axis begins with 0 points at its low-risk end, the longest axis is
100 points long, and a numeric axis runs over round numbers that enclose the training values. The nomogram is the
model drawn, and nothing else: the points of a patient give back the model's own probability.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from rps_utils.learning.cox import CoxModel, bend_of
from rps_utils.scores import lrfs_column
from rps_utils.survival.calibration import restricted_cubic

LRFS_TICKS = [0.99, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.01]


@dataclass(frozen=True)
class Nomogram:
    """A Cox model laid out on axes.

    Attributes
    ----------
    model : CoxModel
    ticks : DataFrame
        ``axis, label, value, points``: every mark of every axis. ``value`` is empty on categorical axes, whose
        marks are the levels.
    points_per_log_hazard : float
        Length of one unit of the linear predictor.
    risk_at_zero : float
        The model's risk score of a patient with 0 points.
    knots : mapping
        Axis of a restricted cubic spline to its knots: its marks are not evenly spaced, and it may turn back.
    """

    model: CoxModel
    ticks: pd.DataFrame
    points_per_log_hazard: float
    risk_at_zero: float
    knots: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def total_of_risk(self, risk: pd.Series | np.ndarray | float) -> pd.Series | np.ndarray | float:
        """Return the total points of a risk score (the model's linear predictor)."""
        return (risk - self.risk_at_zero) * self.points_per_log_hazard

    def lrfs(self, total: Sequence[float], landmarks: Sequence[float]) -> pd.DataFrame:
        """Return the LRFS probabilities (patients x landmarks, months) that belong to total points."""
        risk = np.asarray(total, float) / self.points_per_log_hazard + self.risk_at_zero
        at_centre = self.model.lrfs(pd.DataFrame([self.model.centre], columns=self.model.terms), landmarks)
        return at_centre.iloc[[0] * len(risk)].reset_index(drop=True).pow(np.exp(risk), axis=0)


def pretty(low: float, high: float, *, intervals: int = 10) -> np.ndarray:
    """Return about `intervals` round steps that enclose [low, high], by the rule of R's ``pretty``.

    Steps are 1, 2 or 5 times a power of ten, with a leaning towards 5.

    Source
    ------
    R Core Team, ``R_pretty``; Becker, Chambers & Wilks, The New S Language, 1988.
    """
    if not low < high:
        raise ValueError(f"low = {low}, high = {high}; allowed: low below high")
    cell = (high - low) / intervals
    unit = base = 10.0 ** math.floor(math.log10(cell))
    for step, leaning in ((2, 1.5), (5, 2.75), (10, 1.5)):
        if step * base - cell < leaning * (cell - unit):
            unit = step * base
    first, last = math.floor(low / unit + 1e-10), math.ceil(high / unit - 1e-10)
    digits = max(0, -math.floor(math.log10(unit)))
    return np.round(np.arange(first, last + 1) * unit, digits)


def axis_values(values: pd.Series, discrete: int = 9) -> np.ndarray:
    """Return the marks of a numeric axis.

    Parameters
    ----------
    values : Series
        Of the training patients.
    discrete : int
        With this many different values or fewer, each is a mark; otherwise round numbers that enclose them all.
    """
    different = np.unique(values.dropna().to_numpy(float))
    if len(different) <= discrete:
        return different
    return pretty(different[0], different[-1])


def make_nomogram(
    model: CoxModel,
    matrix: pd.DataFrame,
    levels: Mapping[str, Sequence[str]] | None = None,
    knots: Mapping[str, Sequence[float]] | None = None,
) -> Nomogram:
    """Lay out a Cox model on axes.

    Parameters
    ----------
    model : CoxModel
    matrix : DataFrame
        Terms of the training patients: their range is that of the axes.
    levels : mapping, optional
        Categorical column to its levels, the reference first (``Design.levels``). Its terms ``column: level``
        share one axis.
    knots : mapping, optional
        Column that enters as a restricted cubic spline to its knots (``Design.knots``). Its two terms share one axis.

    Raises
    ------
    ValueError
        Every coefficient is 0: there is nothing to give points for.
    """
    weights = dict(zip(model.terms, model.coefficients, strict=True))
    axes = _axes(weights, matrix, levels or {}, knots or {})
    lengths = [np.ptp(effects) for _, _, effects in axes.values()]
    if not max(lengths) > 0:
        raise ValueError(f"all coefficients of {model.terms} are 0: a nomogram needs a term that matters")
    scale = 100 / max(lengths)
    marks = [
        pd.DataFrame({"axis": name, "label": labels, "value": values, "points": (effects - min(effects)) * scale})
        for name, (labels, values, effects) in axes.items()
    ]
    lowest = sum(min(effects) for _, _, effects in axes.values())
    return Nomogram(model, pd.concat(marks, ignore_index=True), scale, lowest - _centre_effect(model), knots or {})


def _centre_effect(model: CoxModel) -> float:
    return float(np.dot(model.centre, model.coefficients))


def _axes(
    weights: dict[str, float],
    matrix: pd.DataFrame,
    levels: Mapping[str, Sequence[str]],
    knots: Mapping[str, Sequence[float]],
) -> dict:
    """Return axis to (labels, values, log hazards) in the order of the model's terms."""
    axes: dict[str, tuple[list[str], float | np.ndarray, np.ndarray]] = {}
    owner = {f"{column}: {level}": column for column, found in levels.items() for level in found[1:]}
    for term, weight in weights.items():
        if term in owner:
            column = owner[term]
            names = list(levels[column])
            axes[column] = (names, np.nan, np.array([weights.get(f"{column}: {name}", 0.0) for name in names]))
        elif term not in map(bend_of, knots):
            values = axis_values(matrix[term])
            effects = _bent(weights, term, knots[term], values) if term in knots else weight * values
            axes[term] = ([f"{value:g}" for value in values], values, effects)
    return axes


def _bent(weights: Mapping[str, float], column: str, knots: Sequence[float], values: np.ndarray) -> np.ndarray:
    """Return the log hazards of a restricted cubic spline."""
    return restricted_cubic(values, np.array(knots)) @ [weights[column], weights[bend_of(column)]]


def read_points(nomogram: Nomogram, findings: Mapping[str, float | str]) -> pd.DataFrame:
    """Read the points of one patient off the axes, as one would with a ruler.

    Parameters
    ----------
    nomogram : Nomogram
    findings : mapping
        Axis to the patient's value or level. A level without a mark is read as the reference level, as in the model.

    Returns
    -------
    DataFrame
        ``axis, finding, points``; the sum of the points is the patient's total. Beyond the ends of a numeric axis
        the line is prolonged.
    """
    rows = []
    for name, marks in nomogram.ticks.groupby("axis", sort=False):
        if name not in findings:
            raise ValueError(f"findings has no {name!r}; needed: {list(nomogram.ticks['axis'].unique())}")
        curved = name in nomogram.knots
        points = _points_on_curve(nomogram, marks, findings[name]) if curved else _points_at(marks, findings[name])
        rows.append({"axis": name, "finding": findings[name], "points": points})
    return pd.DataFrame(rows)


def _points_on_curve(nomogram: Nomogram, marks: pd.DataFrame, finding: float | str) -> float:
    """Return the points of the model itself: between the marks of a curve a ruler is only nearly right."""
    name, first = str(marks["axis"].iloc[0]), marks.iloc[0]
    weights = dict(zip(nomogram.model.terms, nomogram.model.coefficients, strict=True))
    at, start = _bent(weights, name, nomogram.knots[name], np.array([float(finding), first["value"]]))
    return float(first["points"] + (at - start) * nomogram.points_per_log_hazard)


def _points_at(marks: pd.DataFrame, finding: float | str) -> float:
    if marks["value"].isna().all():
        at = marks["label"] == str(finding)
        return float(marks.loc[at if at.any() else marks.index[:1], "points"].iloc[0])
    first, last = marks.iloc[0], marks.iloc[-1]
    if first["value"] == last["value"]:
        return float(first["points"])
    slope = (last["points"] - first["points"]) / (last["value"] - first["value"])
    return float(first["points"] + slope * (float(finding) - first["value"]))


def total_range(nomogram: Nomogram) -> np.ndarray:
    """Return the marks of the axis of total points."""
    return pretty(0, nomogram.ticks.groupby("axis")["points"].max().sum())


def lrfs_ticks(nomogram: Nomogram, landmark: float) -> pd.DataFrame:
    """Return the marks of a probability axis: ``label, value`` (LRFS) and ``points`` (total), within reach.

    A landmark beyond the training follow-up has no axis: the table is empty.
    """
    column = lrfs_column(landmark)
    zero, most = 0.0, total_range(nomogram)[-1]
    at_zero = nomogram.lrfs([zero], [landmark])[column].iloc[0]
    if not 0 < at_zero < 1:
        return pd.DataFrame(columns=["label", "value", "points"])
    points = np.log(np.log(LRFS_TICKS) / np.log(at_zero)) * nomogram.points_per_log_hazard
    marks = pd.DataFrame({"label": [f"{p:g}" for p in LRFS_TICKS], "value": LRFS_TICKS, "points": points})
    return marks[marks["points"].between(zero, most)].reset_index(drop=True)


def nomogram_table(nomogram: Nomogram, landmarks: Sequence[float]) -> pd.DataFrame:
    """Return every mark of the drawing: ``axis, label, value, points`` (total points from ``total points`` down)."""
    total = total_range(nomogram)
    marks = [
        pd.DataFrame({"axis": "total points", "label": [f"{t:g}" for t in total], "value": total, "points": total})
    ]
    marks += [lrfs_ticks(nomogram, t).assign(axis=f"LRFS at {t:g} months") for t in landmarks]
    return pd.concat([nomogram.ticks, *(m for m in marks if len(m))], ignore_index=True)
