"""What chance does to a C-index: many studies of one truth, many splits of one cohort."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from rps_utils.cohort.splits import draw_split
from rps_utils.figures.style import GREY, INK, new_figure
from rps_utils.survival.concordance import harrell_c
from rps_utils.survival.partial_likelihood import fit_partial_likelihood
from rps_utils.texts.counts import how_many
from rps_utils.widgets.panel import View

STUDIES = 100
DrawStudy = Callable[[int, np.random.Generator, Sequence[float]], tuple[np.ndarray, np.ndarray, np.ndarray]]


def true_differences(draw: DrawStudy, spreads: Sequence[float], *, seed: int = 2026, patients: int = 4000) -> pd.Series:
    """Return by how much C falls below that of the first spread, for each spread of noise; 0 for the first.

    Parameters
    ----------
    draw : callable
        Number of patients, generator, spreads of noise -> months, events, scores (one row a spread).
    spreads : sequence of float
        Rising.
    seed, patients : int
        Of the sample that stands for the truth.
    """
    time, event, scores = draw(patients, np.random.default_rng(seed), spreads)
    c = np.array([harrell_c(time, event, score) for score in scores])
    return pd.Series(np.maximum.accumulate(c[0] - c), index=pd.Index(spreads, name="spread"))


def studies_view(draw: DrawStudy, truth: pd.Series, n: int, difference: float, *, seed: int = 2026) -> View:
    """Show the difference of C that each of 100 simulated studies would report.

    Parameters
    ----------
    draw, truth
        As in `true_differences`, and what it returned.
    n : int
        Patients of a study.
    difference : float
        True difference between the two scores.
    seed : int
        Of the studies.
    """
    spread = [truth.index[0], float(np.interp(difference, truth, truth.index))]
    draws = np.random.default_rng([seed, n])
    studies = (draw(n, draws, spread) for _ in range(STUDIES))
    found = np.array([harrell_c(t, e, s[0]) - harrell_c(t, e, s[1]) for t, e, s in studies])
    found = found[np.isfinite(found)]
    figure = new_figure(f"{len(found)} studies of {n} patients; truth: a difference of {difference:.2f}", 380)
    figure.add_histogram(x=found, xbins={"start": -0.5, "end": 0.5, "size": 0.02}, marker={"color": GREY})
    for at, dash in ((0, "dash"), (difference, "solid")):
        figure.add_vline(x=at, line={"color": INK, "dash": dash, "width": 2})
    figure.update_xaxes(title="difference of Harrell's C, better minus worse score", range=[-0.4, 0.4])
    figure.update_yaxes(title="studies")
    if not len(found):
        return View(figure, f"With {n} patients no study has a pair that can be compared.")
    low, high = np.quantile(found, [0.05, 0.95])
    lost = f"the worse score wins in {(found < 0).mean():.0%}" if difference else "there is no better score"
    return View(figure, f"With {n} patients nine in ten studies report {low:+.3f} to {high:+.3f}; {lost}.")


def redraw_splits(patients: pd.DataFrame, terms: Sequence[str], splits: int = 200) -> pd.DataFrame:
    """Fit a Cox model in training and judge it in validation, for many draws of the split.

    Parameters
    ----------
    patients : DataFrame
        ``time_months, event`` and the terms.
    terms : sequence of str
        Numeric columns.
    splits : int
        Draws, by seed 0, 1, ...

    Returns
    -------
    DataFrame
        By seed: ``n, events`` (of validation), ``apparent, validation`` (Harrell's C).
    """
    rows, x = {}, patients[list(terms)].to_numpy(float)
    time, event = patients["time_months"].to_numpy(float), patients["event"].to_numpy() == 1
    for seed in range(splits):
        new = draw_split(patients["event"], seed) == "validation"
        risk = x @ fit_partial_likelihood(time[~new], event[~new], x[~new]).coefficients[0]
        c = [harrell_c(time[part], event[part], risk[part]) for part in (~new, new)] if np.isfinite(risk).all() else []
        rows[seed] = (int(new.sum()), int(event[new].sum()), *(c or [np.nan] * 2))
    return pd.DataFrame.from_dict(rows, "index", columns=["n", "events", "apparent", "validation"])


def split_view(splits: pd.DataFrame, seed: int) -> View:
    """Show the C-index of one split among those of all others of the same patients.

    Parameters
    ----------
    splits : DataFrame
        From `redraw_splits`.
    seed : int
        Which of them.
    """
    own, known = splits.loc[seed], splits["validation"].dropna()
    figure = new_figure("Same patients, same recipe: C in validation by the draw of the split", 380)
    figure.add_histogram(x=known, xbins={"start": 0, "end": 1, "size": 0.02}, marker={"color": GREY})
    figure.update_xaxes(title="Harrell's C in validation", range=[0.3, 1]).update_yaxes(title="splits")
    if np.isnan(own["validation"]):
        return View(figure, f"Split {seed}: the model cannot be fitted, or no pair of its validation can be compared.")
    figure.add_vline(x=own["validation"], line={"color": INK, "width": 2})
    low, high = known.quantile([0.05, 0.95])
    sentence = (
        f"Split {seed}: C {own['validation']:.3f} in {how_many(own['n'], 'patient')} with "
        f"{how_many(own['events'], 'recurrence')} "
        f"(apparent {own['apparent']:.3f}); nine in ten splits lie between {low:.3f} and {high:.3f}"
    )
    return View(figure, sentence)
