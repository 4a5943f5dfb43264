"""Follow-up of patients as arrays: the checks that every statistic makes first, and when a horizon lies too far out."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from rps_utils.texts.counts import how_many


class Estimate(NamedTuple):
    """A number with its interval, and why any of them is missing (`note` is empty when nothing is)."""

    value: float
    ci_low: float
    ci_high: float
    note: str = ""


class FollowUp(NamedTuple):
    """Checked follow-up: `time` in months (float), `event` (bool)."""

    time: np.ndarray
    event: np.ndarray


def refuse(field: str, bad: np.ndarray, values: np.ndarray, allowed: str, remedy: str) -> None:
    """Raise ValueError that names the first bad row, its value, what is allowed and the remedy."""
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise ValueError(f"{field}, row {row}: {values[row]!r} is not allowed; allowed: {allowed}; {remedy}")


def check_numbers(
    field: str, values: Any, n: int, low: float = -np.inf, high: float = np.inf, remedy: str = ""
) -> np.ndarray:
    """Return `values` as n finite floats within [low, high].

    Raises
    ------
    ValueError
        Wrong length, NaN, infinite, or outside the range; the message names field, row, value and remedy.
    """
    numbers = np.asarray(values, dtype=float)
    if numbers.shape != (n,):
        raise ValueError(
            f"{field} has shape {numbers.shape}, but time has {how_many(n, 'row')}; give one value per patient"
        )
    allowed = "finite numbers" + (f" from {low:g} to {high:g}" if np.isfinite(low) or np.isfinite(high) else "")
    bad = ~np.isfinite(numbers) | (numbers < low) | (numbers > high)
    refuse(field, bad, numbers, allowed, remedy or "leave the patient out of every model, or mend the value")
    return numbers


def check_follow_up(time: Any, event: Any) -> FollowUp:
    """Check times (months, > 0) and events (0 or 1), row by row.

    Returns
    -------
    FollowUp
        Float times and boolean events.

    Raises
    ------
    ValueError
        No rows, different lengths, a time that is no positive finite number, an event other than 0 and 1.
    """
    time = np.asarray(time, dtype=float)
    if time.ndim != 1 or not len(time):
        raise ValueError(f"time has shape {time.shape}; allowed: one row per patient; give a 1-D array")
    bad = ~(np.isfinite(time) & (time > 0))
    refuse("time", bad, time, "finite months above 0", "correct the date of the last visit or leave the patient out")
    raw = np.asarray(event)
    if raw.shape != time.shape:
        raise ValueError(
            f"event has shape {raw.shape}, but time has {how_many(len(time), 'row')}; give one event per patient"
        )
    refuse("event", ~np.isin(raw, (0, 1)), raw, "0 (no recurrence seen) or 1", "code competing causes elsewhere")
    return FollowUp(time, raw.astype(bool))


def check_weights(weights: Any, n: int) -> np.ndarray:
    """Return counts of shape (B, n) as floats; ``None`` is every patient once."""
    counts = np.ones((1, n)) if weights is None else np.asarray(weights, dtype=float)
    if counts.ndim != 2 or counts.shape[1] != n:
        raise ValueError(f"weights has shape {counts.shape}; allowed: (resamples, {n}); see resample_counts")
    if not np.isfinite(counts).all() or (counts < 0).any():
        raise ValueError("weights holds a negative or missing count; allowed: 0, 1, 2 ...; see resample_counts")
    return counts


def one_or_all(values: np.ndarray, weights: Any) -> Any:
    """Return a float when no weights were given, else one value per resample."""
    return float(values[0]) if weights is None else values


def ratio(above: np.ndarray, below: np.ndarray | float, empty: float = np.nan) -> np.ndarray:
    """Divide; where `below` is 0 the result is `empty`."""
    above, below = np.broadcast_arrays(above, below)
    return np.divide(above, below, out=np.full(below.shape, empty), where=below != 0)


def at_risk(time: Any, times: Any) -> np.ndarray:
    """Count patients with T >= t for every t; lifelines' tables count T > t."""
    return (np.asarray(time, float)[None, :] >= np.atleast_1d(np.asarray(times, float))[:, None]).sum(axis=1)


def horizon_note(time: Any, event: Any, horizon: float, *, minimum_at_risk: int = 10) -> str:
    """Say why nothing should be reported at `horizon` months; an empty text means that it may be.

    Parameters
    ----------
    time, event : array_like, shape (n,)
        Months and 0/1 of the rows evaluated.
    horizon : float
        Months.
    minimum_at_risk : int
        Fewest patients still followed (T >= horizon) at which a number is worth showing.
    """
    time, event = check_follow_up(time, event)
    if horizon > time.max():
        return f"{horizon:g} months lies beyond the last follow-up ({time.max():.1f} months)"
    if not (event & (time <= horizon)).any():
        return f"no event by {horizon:g} months"
    followed = int(at_risk(time, horizon)[0])
    if followed < minimum_at_risk:
        return f"only {followed} at risk at {horizon:g} months (fewer than {minimum_at_risk})"
    return ""


def check_grid(grid: Any, fewest: int) -> np.ndarray:
    """Return increasing months as an array, or raise ValueError."""
    grid = np.asarray(grid, float)
    if grid.ndim != 1 or len(grid) < fewest or (np.diff(grid) <= 0).any():
        allowed = f"at least {fewest} increasing months; sort grid and columns"
        raise ValueError(f"grid is {grid.tolist()}; allowed: {allowed}")
    return grid
