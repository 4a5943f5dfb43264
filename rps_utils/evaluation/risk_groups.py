"""Risk groups: a cut-off learned in training and carried unchanged, and how the groups part.

Like evaluation.py, these functions take a score table and return rows of metrics or tables to draw. Where the table
tells death without local recurrence apart, the groups' cumulative incidences stand beside 1 - Kaplan-Meier.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from rps_utils.evaluation.slices import (
    FEWEST_AT_RISK,
    Slice,
    metric_row,
    metric_table,
    note_at,
    slices,
    undefined,
    with_note,
)
from rps_utils.intervals.cutoffs import Cutoff, maxstat_cutoff, median_cutoff
from rps_utils.scores import CUTOFF, DIED
from rps_utils.survival.calibration import calibration_slope_interval
from rps_utils.survival.curves import (
    cumulative_incidence,
    incidence_curve,
    kaplan_meier,
    logrank,
    rmst,
    rmst_difference,
)
from rps_utils.survival.follow_up import Estimate, at_risk

GROUPS = ("low", "high")
CUTOFF_RULES = "None or 'median' (of the training scores), 'maxstat' (searched in training), or a number"


def training_cutoffs(scores: pd.DataFrame, rule: str | float | None = None) -> pd.DataFrame:
    """Return the cut-off of every model and kind, and from which scores it was taken.

    Parameters
    ----------
    scores : DataFrame
        A score table.
    rule : str, float or None
        None or ``median``: of the training scores, no outcome enters. ``maxstat``: the cut with the largest
        standardised log-rank statistic in training (`inference.maxstat_cutoff`). A number: that number for all.

    Returns
    -------
    DataFrame
        ``model, kind, cutoff, learned_from, p_corrected``. A training kind has its own cut-off; validation takes
        that of the cross-fitted scores, or of the apparent ones where there are none, or else the column
        ``cutoff`` of the table (``learned_from`` is then ``given``, as for a number). Empty without any of these:
        a cut-off is never taken from validation. ``p_corrected`` only for ``maxstat``: of the search in training.
    """
    parts = list(slices(scores))
    learned = {(p.model, p.kind): _learn(p, rule) for p in parts if p.split == "training"}
    rows = []
    for part in parts:
        sources = [part.kind] if part.split == "training" else ["cross_fitted", "apparent"]
        source = next((s for s in sources if (part.model, s) in learned), "given")
        cutoff = learned.get((part.model, source), Cutoff(_given_cutoff(part, rule)))
        source = "given" if isinstance(rule, (int, float)) else source if np.isfinite(cutoff.value) else ""
        rows.append((part.model, part.kind, cutoff.value, source, cutoff.p_corrected))
    return pd.DataFrame(rows, columns=["model", "kind", CUTOFF, "learned_from", "p_corrected"])


def _learn(part: Slice, rule: str | float | None) -> Cutoff:
    if rule in (None, "median"):
        return median_cutoff(part.risk)
    if rule == "maxstat":
        return maxstat_cutoff(*part.follow_up, part.risk)
    if isinstance(rule, (int, float)) and not isinstance(rule, bool):
        return Cutoff(float(rule))
    raise ValueError(f"cutoff is {rule!r}; allowed: {CUTOFF_RULES}; it is the parameter `cutoff`")


def _given_cutoff(part: Slice, rule: str | float | None) -> float:
    if isinstance(rule, (int, float)):
        return float(rule)
    given = part.rows[CUTOFF].unique() if CUTOFF in part.rows else []
    return float(given[0]) if len(given) == 1 else np.nan


def with_groups(scores: pd.DataFrame, rule: str | float | None = None) -> pd.DataFrame:
    """Return the score rows with ``cutoff`` and ``group`` (high: risk above it), those without one left out."""
    cutoffs = training_cutoffs(scores, rule)
    rows = scores.drop(columns=CUTOFF, errors="ignore").merge(cutoffs, on=["model", "kind"]).dropna(subset=CUTOFF)
    return rows.assign(group=np.where(rows["risk"] > rows[CUTOFF], "high", "low"))


NOT_EVIDENCE = {
    "apparent": "not evidence: score and cut-off were learned from these patients",
    "cross_fitted": "not evidence: the cut-off was learned from these patients",
    "validation": "",
}


def risk_group_rows(
    scores: pd.DataFrame, landmarks: Sequence[float] = (), *, tau: float | None = None, rule: str | float | None = None
) -> pd.DataFrame:
    """Compare the groups above and below the training cut-off.

    Parameters
    ----------
    scores : DataFrame
        A score table.
    landmarks : sequence of float
        Where the groups' risks of recurrence are read.
    tau : float, optional
        Up to where the restricted means reach.
    rule : str, float or None
        See `training_cutoffs`.

    Returns
    -------
    DataFrame
        ``hazard_ratio`` (high to low, Wald interval of a Cox model with Efron's ties) and ``logrank_p``;
        ``rmst_low``, ``rmst_high`` and ``rmst_difference`` (low minus high, Wald intervals, unit of time); at every
        landmark ``one_minus_km_low`` and ``one_minus_km_high`` (log-log intervals). Where deaths are told apart,
        also ``cumulative_incidence_low`` and ``..._high`` (Aalen-Johansen) and ``death_hazard_ratio``. In training
        the note says that these are no evidence: the cut-off, and for apparent scores the score too, was learned
        from the same patients.
    """
    cutoffs = training_cutoffs(scores, rule).set_index(["model", "kind"])[CUTOFF]
    rows = []
    for part in slices(scores):
        cutoff = cutoffs[part.model, part.kind]
        high = part.risk > cutoff
        why = _one_group(part, cutoff, high)
        plans = [*_comparisons(part, high, tau, why), *_risks(part, high, landmarks, why)]
        rows += [metric_row(part, name, horizon, _noted(e, part.kind)) for name, horizon, e in plans]
    return metric_table(rows)


def _one_group(part: Slice, cutoff: float, high: np.ndarray) -> str:
    if np.isnan(cutoff):
        return "no training scores of this model to take a cut-off from"
    if high.all() or not high.any():
        return f"all {len(high)} patients lie on one side of the training cut-off"
    return ""


def _noted(estimate: Estimate, kind: str) -> Estimate:
    return with_note(estimate, NOT_EVIDENCE[kind]) if np.isfinite(estimate.value) else estimate


def _comparisons(part: Slice, high: np.ndarray, tau: float | None, why: str) -> list[tuple[str, float, Estimate]]:
    """Return (metric, horizon, estimate) of what compares the two groups."""
    found = [
        ("hazard_ratio", np.nan, undefined(why) if why else _hazard_ratio(*part.follow_up, high)),
        ("logrank_p", np.nan, undefined(why) if why else _logrank_p(*part.follow_up, high)),
    ]
    if part.died is not None:
        of_death = undefined(why) if why else _hazard_ratio(part.follow_up[0], part.died, high)
        found.append(("death_hazard_ratio", np.nan, of_death))
    if tau is not None:
        means = [undefined(why)] * 3 if why else _restricted_means(part, high, tau)
        found += [(f"rmst_{n}", tau, e) for n, e in zip((*GROUPS, "difference"), means, strict=True)]
    return found


def _hazard_ratio(time: np.ndarray, event: np.ndarray, high: np.ndarray) -> Estimate:
    log_ratio = calibration_slope_interval(time, event, high.astype(float))
    if event.any() and np.isnan(log_ratio.value):
        return undefined(
            f"no event in the {'low' if event[high].any() else 'high'} group: the ratio has no finite value"
        )
    value, low, high_limit = np.exp(log_ratio[:3])
    return Estimate(value, low, high_limit, log_ratio.note if event.any() else "no event")


def _logrank_p(time: np.ndarray, event: np.ndarray, high: np.ndarray) -> Estimate:
    p = logrank(time, event, high).p
    return Estimate(p, np.nan, np.nan, "" if np.isfinite(p) else "no event")


def _restricted_means(part: Slice, high: np.ndarray, tau: float) -> list[Estimate]:
    time, event = part.follow_up
    each = [rmst(time[own], event[own], tau) for own in (~high, high)]
    still = [g for g, own in zip(GROUPS, (~high, high), strict=True) if not (event & own & (time < tau)).any()]
    note = f"no event in the {' and '.join(still)} group by {tau:g}: the interval misses its part" if still else ""
    difference = rmst_difference(time, event, high, tau)
    found = [*(_with_width(e, tau) for e in each), with_note(difference, note) if not difference.note else difference]
    return [e._replace(note=e.note.replace(" months", "")) for e in found]


def _with_width(mean: Estimate, tau: float) -> Estimate:
    """Take the limits away from a mean of a group without events: its Wald interval has no width."""
    return Estimate(mean.value, np.nan, np.nan, f"no event by {tau:g}") if mean.ci_high == mean.ci_low else mean


def _risks(part: Slice, high: np.ndarray, landmarks: Sequence[float], why: str) -> list[tuple[str, float, Estimate]]:
    """Return (metric, horizon, estimate) of the groups' risks of recurrence by each landmark."""
    found = []
    names = ["one_minus_km", *(["cumulative_incidence"] if part.died is not None else [])]
    for landmark in landmarks:
        for group, own in zip(GROUPS, (~high, high), strict=True):
            rows = part._replace(rows=part.rows[own]) if not why else part
            estimates = [undefined(why)] * 2 if why else risks_at(rows, landmark)
            found += [(f"{name}_{group}", landmark, e) for name, e in zip(names, estimates, strict=False)]
    return found


def risks_at(part: Slice, landmark: float) -> tuple[Estimate, Estimate]:
    """Return a slice's risk of recurrence by a landmark: 1 - Kaplan-Meier, and cumulative incidence beside death.

    Both are NaN beyond the last follow-up, and equal where nobody died.
    """
    time, event = part.follow_up
    died = np.zeros(len(time), bool) if part.died is None else part.died
    estimates = []
    for cause in (event.astype(int), event + 2 * died):
        row = cumulative_incidence(time, cause, [landmark]).iloc[0]
        value, low, high = (float(row[c]) for c in ("recurrence", "ci_low", "ci_high"))
        note = note_at(part, landmark, fewest=FEWEST_AT_RISK)
        estimates.append(Estimate(value, low, high, note if np.isfinite([value, low]).all() or note else "no event"))
    return estimates[0], estimates[1]


def incidence_curves(grouped: pd.DataFrame) -> pd.DataFrame:
    """Return cumulative incidence and 1 - Kaplan-Meier of the groups, where deaths are told apart.

    Parameters
    ----------
    grouped : DataFrame
        From `with_groups`, one model and kind.

    Returns
    -------
    DataFrame
        ``group, time, incidence, ci_low, ci_high, one_minus_km``, from time 0; no rows without the column ``died``.
    """
    curves = [pd.DataFrame(columns=["group", "time", "incidence", "ci_low", "ci_high", "one_minus_km"])]
    for group in GROUPS if DIED in grouped else ():
        rows = grouped[grouped["group"] == group]
        if len(rows):
            curve = incidence_curve(rows["time_months"], rows["event"] + 2 * rows[DIED])
            curve["one_minus_km"] = 1 - kaplan_meier(rows["time_months"], rows["event"])["survival"]
            start = pd.DataFrame({"time": [0.0], "incidence": 0.0, "one_minus_km": 0.0})
            curve = pd.concat([start, curve.drop(columns="std_error")], ignore_index=True)
            curves.append(curve.assign(group=group)[list(curves[0])])
    return pd.concat(curves[1:], ignore_index=True) if len(curves) > 1 else curves[0]


def group_curves(grouped: pd.DataFrame, ticks: int = 6) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return Kaplan-Meier curves of the groups of one model and kind, and their numbers at risk.

    Parameters
    ----------
    grouped : DataFrame
        From `with_groups`, one model and kind.
    ticks : int
        About how many times the numbers at risk are given at.

    Returns
    -------
    curves, at_risk : DataFrame
        As `figures.kaplan_meier_plot` takes them.
    """
    times = tick_times(grouped["time_months"].max(), ticks=ticks)
    curves, followed_up = [], []
    for group in GROUPS:
        rows = grouped[grouped["group"] == group]
        if len(rows):
            curves.append(kaplan_meier(rows["time_months"], rows["event"]).assign(group=group))
            followed = at_risk(rows["time_months"], times)
            followed_up.append(pd.DataFrame({"group": group, "time": times, "at_risk": followed}))
    return pd.concat(curves, ignore_index=True), pd.concat(followed_up, ignore_index=True)


def tick_times(last: float, *, ticks: int = 6) -> np.ndarray:
    """Return round times from 0 up to `last`, about as many as `ticks`; whole years where the unit may be months."""
    steps = np.sort([*np.outer(10.0 ** np.arange(-3, 6), [1, 2.5, 5]).ravel(), 12, 24])
    step = steps[np.searchsorted(steps, last / ticks)]
    return np.arange(0, last * (1 + 1e-9), step)
