"""Curves for straight lines: whether a restricted cubic spline of a column fits better, asked in training alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from lifelines import CoxPHFitter

from rps_utils.learning.cox import bend_of, fit_lifelines, learn_design, likelihood_ratio_p


def curve_tests(training: pd.DataFrame, columns: Sequence[str], ridge: float = 0.0) -> pd.DataFrame:
    """Ask of each continuous column whether a curve in its place is worth a further term.

    Parameters
    ----------
    training : DataFrame
        ``patient_id, fold, time_months, event`` and the columns: training patients only, so that no choice is made
        on patients who judge.
    columns : sequence of str
        All columns of the model. Categorical ones stay as they are, and so does ``rcs(age)``, which is bent already.
    ridge : float
        Of the cross-validated fits. The likelihood-ratio test is unpenalised.

    Returns
    -------
    DataFrame
        ``column, knots, p, gain, note``. ``p`` is that of the likelihood ratio, one degree of freedom, all other
        columns in the model; ``gain`` is that in cross-validated log partial likelihood over the folds, positive
        where the curve foresees patients it did not learn from better than the line. Knots (three) are quantiles of all
        training patients, no outcome among them. A column that cannot bend (`cox.learn_knots`) has a note instead.

    References
    ----------
    Harrell, Regression Modeling Strategies 2015 (knots); Verweij & van Houwelingen, Stat Med 1993 (cross-validated
    partial likelihood).
    """
    line = learn_design(training, columns).matrix(training)
    numbers = [c for c in columns if c in line]
    rows = [_tested(training, line, columns, column, ridge) for column in numbers]
    return pd.DataFrame(rows, columns=["column", "knots", "p", "gain", "note"])


def _tested(training: pd.DataFrame, line: pd.DataFrame, columns: Sequence[str], column: str, ridge: float) -> tuple:
    try:
        design = learn_design(training, [f"rcs({c})" if c == column else c for c in columns])
    except ValueError as error:
        return column, "", np.nan, np.nan, str(error)
    curve = line.assign(**{bend_of(column): design.matrix(training)[bend_of(column)]})
    p = likelihood_ratio_p(fit_lifelines(curve, training), fit_lifelines(line, training))
    gain = cross_validated_likelihood(curve, training, ridge) - cross_validated_likelihood(line, training, ridge)
    return column, ", ".join(f"{k:g}" for k in design.knots[column]), p, gain, ""


def cross_validated_likelihood(matrix: pd.DataFrame, training: pd.DataFrame, ridge: float = 0.0) -> float:
    """Return the log partial likelihood of patients left out, summed over the folds.

    What fold k adds is the likelihood of everybody less that of all others, both at the coefficients that the others
    gave: the partial likelihood of a fold alone would leave out most of its risk sets.

    References
    ----------
    Verweij & van Houwelingen, Stat Med 1993.
    """
    rows = training.set_index("patient_id").loc[matrix.index]
    total = 0.0
    for fold in sorted(rows["fold"].unique()):
        others = rows.index[rows["fold"] != fold]
        fitter = fit_lifelines(matrix.loc[others], training, ridge)
        total += _log_likelihood(fitter, matrix, rows) - _log_likelihood(fitter, matrix.loc[others], rows)
    return total


def _log_likelihood(fitter: CoxPHFitter, matrix: pd.DataFrame, rows: pd.DataFrame) -> float:
    """Return the log partial likelihood of patients at the coefficients of a fitted model; lifelines gives its mean."""
    outcome = rows.loc[matrix.index, ["time_months", "event"]]
    return float(fitter.score(matrix.join(outcome), scoring_method="log_likelihood")) * len(matrix)
