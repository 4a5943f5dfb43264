"""Gaps of clinical columns filled several times instead of once: Cox models of each filling, pooled by Rubin's rules.

The draws are scikit-learn's (`IterativeImputer`, a Bayesian ridge for each column with gaps, column after column).
Each filling has an imputer of its own, fitted to a resample of the training patients: the library draws each gap by
itself and never draws the coefficients that all gaps of a filling share, and intervals would be too narrow.
The library knows numbers only. A category enters as one indicator a level; its draws go to the level with the largest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import t as student
from sklearn.experimental import enable_iterative_imputer  # noqa: F401  # without it the next name is not there
from sklearn.impute import IterativeImputer
from sklearn.linear_model import BayesianRidge
from sksurv.nonparametric import nelson_aalen_estimator

from rps_utils.learning.cox import SEPARATED, SEPARATED_SE, Design, fit_cox, fit_lifelines, learn_design
from rps_utils.survival.concordance import harrell_c

ROUNDS = 5  # through the columns with gaps, in each imputer
AGREE = 1e-12  # a part of the variance that is rounding
WALD = ["estimate", "se", "low", "high"]
POOLED = [*WALD, "df", "fmi"]


def pool_fillings(estimates: ArrayLike, variances: ArrayLike, complete_df: float = np.inf) -> pd.DataFrame:
    """Pool the estimates of several fillings by Rubin's rules.

    Parameters
    ----------
    estimates, variances : array_like
        An estimate and its squared standard error for each filling (fillings x terms, or fillings).
    complete_df : float
        Degrees of freedom that the estimate would have without gaps; for a Cox model events less terms, as R's mice
        takes it. Infinite: Rubin's (1987) large-sample rule.

    Returns
    -------
    DataFrame
        One row a term: ``estimate`` (mean), ``se`` (from the mean variance and 1 + 1/m times the variance between the
        fillings), ``low, high`` (95 %, Student's t), ``df`` and ``fmi``, the fraction of information that is missing;
        0 where the fillings agree.

    Raises
    ------
    ValueError
        Fewer than two fillings, shapes that differ, or an estimate or a variance that is no finite number (a variance
        above 0), or degrees of freedom not above 0.

    References
    ----------
    Rubin, Multiple Imputation for Nonresponse in Surveys 1987, ch. 3; Barnard & Rubin, Biometrika 1999 (`df`).
    """
    q, u = _as_fillings(estimates), _as_fillings(variances)
    if q.shape != u.shape or len(q) < 2:
        shapes = f"estimates of shape {q.shape}, variances of shape {u.shape}"
        raise ValueError(f"{shapes}: pass one of each a term, of two fillings or more")
    if not (np.isfinite(q).all() and np.isfinite(u).all() and (u > 0).all() and complete_df > 0):
        raise ValueError("estimates must be finite, variances and complete_df above 0: look for a fit that failed")
    m, between = len(q), q.var(axis=0, ddof=1)
    total = u.mean(axis=0) + (1 + 1 / m) * between
    share = (1 + 1 / m) * between / total
    df = _degrees_of_freedom(share, m, complete_df)
    more = share / (1 - share)
    reach = student.ppf(0.975, df) * np.sqrt(total)
    mean = q.mean(axis=0)
    fmi = np.where(share > AGREE, (more + 2 / (df + 3)) / (more + 1), 0.0)
    return pd.DataFrame(dict(zip(POOLED, (mean, np.sqrt(total), mean - reach, mean + reach, df, fmi), strict=True)))


def _as_fillings(numbers: ArrayLike) -> np.ndarray:
    """Return an array of fillings x terms."""
    array = np.asarray(numbers, float)
    return array[:, None] if array.ndim == 1 else array


def _degrees_of_freedom(share: np.ndarray, m: int, complete_df: float) -> np.ndarray:
    """Return Barnard and Rubin's degrees of freedom; `share` is the part of the variance that the gaps bring."""
    of_fillings = share**2 / (m - 1)
    if np.isinf(complete_df):
        of_observed = np.zeros_like(share)
    else:
        of_observed = (complete_df + 3) / (complete_df + 1) / complete_df / (1 - share)
    with np.errstate(divide="ignore"):  # no gaps and no bound: infinite, the normal distribution
        return 1 / (of_fillings + of_observed)


@dataclass(frozen=True)
class Filling:
    """The training patients, and those to be judged, with every gap filled once.

    Attributes
    ----------
    training, judged : DataFrame
        ``patient_id`` and the clinical columns, as terms of the design (patients x terms) by ``patient_id``.
    """

    training: pd.DataFrame
    judged: pd.DataFrame


def fillings(
    training: pd.DataFrame, judged: pd.DataFrame, columns: Sequence[str], *, m: int = 20, seed: int = 2026
) -> list[Filling]:
    """Fill the gaps of clinical columns `m` times, by draws from what the training patients tell.

    Parameters
    ----------
    training : DataFrame
        ``patient_id, time_months, event`` and the columns. Their gaps are drawn given the other columns, the event and
        the cumulative hazard (Nelson-Aalen) at the patient's own time: without the outcome, hazard ratios would be
        drawn towards 1.
    judged : DataFrame
        ``patient_id`` and the columns, of patients to be scored. Their gaps are drawn by imputers that know no
        outcome, fitted to the training patients: when a patient is scored nobody knows it. With a single column
        there is nothing to draw from, and the mean fills the gap.
    columns : sequence of str
        As in `learn_design`, which is asked once, with gaps: levels and knots are the same in all fillings.
    m : int
        Fillings, one at least.
    seed : int
        Same seed, same fillings.

    Returns
    -------
    list of Filling

    References
    ----------
    White & Royston, Stat Med 2009 (the outcome); Honaker & King, Am J Polit Sci 2010 (resamples); Allison, Missing Data
    2001 (indicators of a category).
    """
    if m < 1:
        raise ValueError(f"m = {m} fillings; at least 1 is asked for")
    design = learn_design(training, columns)
    numbers, asked = _numbers(design, training), _numbers(design, judged)
    centre, spread = numbers.mean(), numbers.std(ddof=0).replace(0.0, 1.0)
    numbers, asked = (numbers - centre) / spread, (asked - centre) / spread
    known = numbers.join(_outcome_columns(training))
    made = []
    for filling in range(m):
        draw = np.random.default_rng([seed, filling])
        taken = draw.integers(0, len(numbers), len(numbers))
        own = _fill(known, known, taken, draw)[numbers.columns]
        others = _fill(numbers, asked, taken, draw)
        completed = (_completed(design, z * spread + centre, rows) for z, rows in ((own, training), (others, judged)))
        made.append(Filling(*map(design.matrix, completed)))
    return made


def _numbers(design: Design, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the columns as numbers with their gaps, by ``patient_id``: one indicator for each level with a term."""
    rows = rows.set_index("patient_id")
    numbers = {column: rows[column].astype(float) for column in design.medians}
    for column, levels in design.levels.items():
        words = rows[column].astype(str).where(rows[column].notna())
        numbers |= {f"{column}: {level}": (words == level).astype(float).where(words.notna()) for level in levels[1:]}
    return pd.DataFrame(numbers, index=rows.index)


def _outcome_columns(training: pd.DataFrame) -> pd.DataFrame:
    """Return event and cumulative hazard at the own time, in SD from their mean."""
    event, time = training["event"].to_numpy(bool), training["time_months"].to_numpy(float)
    at, hazard = nelson_aalen_estimator(event, time)
    columns = {"outcome: event": event, "outcome: hazard": hazard[np.searchsorted(at, time)]}
    outcome = pd.DataFrame(columns, pd.Index(training["patient_id"]), dtype=float)
    return (outcome - outcome.mean()) / outcome.std(ddof=0).replace(0.0, 1.0)


def _fill(learners: pd.DataFrame, rows: pd.DataFrame, taken: np.ndarray, draw: np.random.Generator) -> pd.DataFrame:
    """Fill the gaps of `rows` by an imputer fitted to those `taken` of `learners`."""
    gaps = (learners.isna().any() | rows.isna().any()).to_numpy()
    if not rows.isna().any(axis=None):
        return rows
    # The last row is empty in every column that has gaps, and so teaches none of them. It makes the imputer learn a
    # column whose gaps are in `rows` only, or were not drawn.
    fitted_to = np.vstack([learners.to_numpy()[taken], np.where(gaps, np.nan, 0.0)])
    imputer = IterativeImputer(
        # The priors bound the penalty: left free, it takes weak predictors out, the outcome among them.
        BayesianRidge(lambda_1=1, lambda_2=1),
        sample_posterior=True,
        max_iter=ROUNDS,
        skip_complete=True,
        keep_empty_features=True,
        random_state=int(draw.integers(2**31)),
    ).fit(fitted_to)
    return pd.DataFrame(imputer.transform(rows.to_numpy()), rows.index, rows.columns)


def _completed(design: Design, numbers: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the clinical columns of `rows` with their gaps filled: categories by the level whose draw is largest."""
    filled = {column: numbers[column] for column in design.medians}
    for column, levels in design.levels.items():
        drawn = numbers[[f"{column}: {level}" for level in levels[1:]]].to_numpy()
        largest = np.column_stack([1 - drawn.sum(axis=1), drawn]).argmax(axis=1)
        own = rows.set_index("patient_id")[column]
        filled[column] = own.astype(str).where(own.notna(), np.array(levels, object)[largest])
    return pd.DataFrame(filled, index=numbers.index).reset_index(names="patient_id")


def pooled_cox(training: pd.DataFrame, made: Sequence[Filling], ridge: float = 0.0) -> pd.DataFrame:
    """Fit a Cox model in each filling and pool the log hazard ratios by Rubin's rules.

    Returns
    -------
    DataFrame
        Columns of `pool_fillings` by term; positive = earlier recurrence. Where a term is separated in a filling its
        numbers are empty (as in `cox.hazard_ratios`), and ``note`` says so.

    Raises
    ------
    ValueError
        Fewer than two fillings, or a filling whose model does not converge.
    """
    fits = [fit_lifelines(filling.training, training, ridge) for filling in made]
    errors = np.array([fit.standard_errors_ for fit in fits])
    left = max(int(training["event"].sum()) - errors.shape[1], 1)
    pooled = pool_fillings([fit.params_ for fit in fits], errors**2, left)
    pooled.index = pd.Index(fits[0].params_.index, name="term")
    separated = (errors > SEPARATED_SE).any(axis=0)
    pooled[separated] = np.nan
    return pooled.assign(note=np.where(separated, SEPARATED, ""))


def pooled_risk(training: pd.DataFrame, made: Sequence[Filling], ridge: float) -> pd.Series:
    """Return the risk of the patients to be judged, by ``patient_id``: the mean linear predictor over the fillings.

    Each filling has its own model and its own values of the patient. Higher = earlier recurrence.

    References
    ----------
    Wood, Royston & White, Biom J 2015.
    """
    risks = [fit_cox(filling.training, training, ridge).risk(filling.judged) for filling in made]
    return pd.concat(risks, axis=1).mean(axis=1)


def filling_table(
    cohort: pd.DataFrame, columns: Sequence[str], ridge: float, *, m: int = 20, seed: int = 2026
) -> pd.DataFrame:
    """Compare one filling (training median, most frequent level) with several: hazard ratios, order of patients.

    Parameters
    ----------
    cohort : DataFrame
        ``patient_id, split, fold, time_months, event`` and the columns.
    columns : sequence of str
    ridge : float
        Of the models that rank; the log hazard ratios are unpenalised, as in the tables of a run.
    m, seed : int
        As in `fillings`.

    Returns
    -------
    DataFrame
        One row a term, with log hazard ratios of the training patients (``single, single_se, single_low, single_high,
        multiple, multiple_se, multiple_low, multiple_high, df, fmi, note``), and two rows with Harrell's C:
        cross-fitted, with the fillings made anew in each fold, and of validation patients. C has no interval here.
    """
    training, validation = (cohort[cohort["split"] == part] for part in ("training", "validation"))
    made = fillings(training, validation, columns, m=m, seed=seed)
    single, multiple = single_fill(training, columns), pooled_cox(training, made)
    effects = single.rename(columns=_named("single")).join(multiple.rename(columns=_named("multiple")))
    crossed = []
    for fold in sorted(training["fold"].unique()):
        learners, own = training[training["fold"] != fold], training[training["fold"] == fold]
        again = fillings(learners, own, columns, m=m, seed=seed)
        crossed.append((_single_risk(learners, own, columns, ridge), pooled_risk(learners, again, ridge)))
    judged = (_single_risk(training, validation, columns, ridge), pooled_risk(training, made, ridge))
    ranks = {
        "C, cross-fitted": (training, *map(pd.concat, zip(*crossed, strict=True))),
        "C, validation": (validation, *judged),
    }
    c = {name: {"single": _c(rows, one), "multiple": _c(rows, many)} for name, (rows, one, many) in ranks.items()}
    order = pd.DataFrame(c).T.assign(note="")
    return pd.concat([effects, order]).rename_axis("term").reset_index()


def _named(way: str) -> dict[str, str]:
    return {"estimate": way, **{word: f"{way}_{word}" for word in WALD[1:]}}


def single_fill(training: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return log hazard ratios where each gap is filled once, by median or most frequent level; by term.

    Returns
    -------
    DataFrame
        ``estimate, se, low, high`` (95 %, Wald); empty where a term is separated.
    """
    summary = fit_lifelines(learn_design(training, columns).matrix(training), training).summary
    effects = summary[["coef", "se(coef)", "coef lower 95%", "coef upper 95%"]]
    return effects.mask(summary["se(coef)"] > SEPARATED_SE).set_axis(WALD, axis="columns")


def _single_risk(learners: pd.DataFrame, judged: pd.DataFrame, columns: Sequence[str], ridge: float) -> pd.Series:
    design = learn_design(learners, columns)
    return fit_cox(design.matrix(learners), learners, ridge).risk(design.matrix(judged))


def _c(rows: pd.DataFrame, risk: pd.Series) -> float:
    return harrell_c(rows["time_months"], rows["event"], risk[rows["patient_id"]])


def blank_at_random(rows: pd.DataFrame, column: str, driver: str, share: float, *, seed: int = 2026) -> pd.DataFrame:
    """Blank cells of a column, the more often the higher another column is: missing at random, given that column.

    Parameters
    ----------
    rows : DataFrame
    column, driver : str
        What is blanked, and what drives the chance: it rises with the rank of the driver from 0 to twice the share.
    share : float
        Of cells to be blanked in the mean, above 0 and at most 0.5.
    seed : int

    Returns
    -------
    DataFrame
        A copy. Drawn for a demonstration or a study, never for an analysis.
    """
    if not 0 < share <= 0.5:
        raise ValueError(f"share = {share:g}; allowed: above 0, at most 0.5")
    chance = 2 * share * rows[driver].rank(pct=True)
    blank = np.random.default_rng(seed).random(len(rows)) < chance
    return rows.assign(**{column: rows[column].mask(blank)})
