"""Cox models: design matrix, hazard-ratio tables, prediction of LRFS at landmark times.

Fitting is lifelines' with its convergence bound at 1e-12 (its default stops early: hazard ratios are then off in
the fourth digit) and short first steps (its default overshoots, and fails, in some small cohorts). A fitted model
is kept as plain numbers, so that it can be written as JSON and used again without the library that fitted it.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import pandas as pd
from lifelines import CoxPHFitter
from lifelines.exceptions import ConvergenceError, ConvergenceWarning
from scipy import stats

from rps_utils.cohort.contract import plain_column
from rps_utils.scores import DIED, incidence_column, lrfs_column
from rps_utils.survival.calibration import restricted_cubic, spline_knots
from rps_utils.survival.curves import kaplan_meier
from rps_utils.survival.partial_likelihood import fit_firth

IMAGE_SCORE = "image_score"  # the term that is a score of the image
SEPARATED_SE = 5.0
SEPARATED = "separated: a level with no event, or only events"
FEWEST_EVENTS = 10  # for each term
FEWEST_TO_BEND = 8  # different values of a column


@dataclass(frozen=True)
class Design:
    """How manifest columns become model terms, as learned from the training patients.

    Attributes
    ----------
    medians : dict
        Continuous column to its training median, which fills a missing value.
    levels : dict
        Categorical column to the levels that have a term; the first is the reference.
    modes : dict
        Categorical column to its most frequent training level, which fills a missing value.
    seen : dict
        Categorical column to every level that a training patient had.
    knots : dict
        Continuous column that enters as a restricted cubic spline to its three knots; its further term is named
        ``column, bend``.
    """

    medians: dict[str, float]
    levels: dict[str, list[str]]
    modes: dict[str, str]
    seen: dict[str, list[str]] = field(default_factory=dict)
    knots: dict[str, list[float]] = field(default_factory=dict)

    def matrix(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the terms of `rows` (patients x terms), indexed by ``patient_id``.

        A level without a term of its own (rare in training, or new) is read as the reference level.
        """
        rows = rows.set_index("patient_id")
        continuous = {c: rows[c].astype(float).fillna(m) for c, m in self.medians.items()}
        curves = {c: restricted_cubic(continuous[c].to_numpy(), np.array(k)) for c, k in self.knots.items()}
        bends = {bend_of(c): curve[:, 1] for c, curve in curves.items()}
        dummies = {
            f"{c}: {level}": (rows[c].fillna(self.modes[c]).astype(str) == level).astype(float)
            for c, levels in self.levels.items()
            for level in levels[1:]
        }
        return pd.DataFrame({**continuous, **bends, **dummies}, index=rows.index)


def bend_of(column: str) -> str:
    """Name the second term of a restricted cubic spline; the first is the column itself."""
    return f"{column}, bend"


def learn_knots(values: pd.Series, column: str) -> list[float]:
    """Return the three knots of a column for a restricted cubic spline: quantiles, no outcome among them.

    Raises
    ------
    ValueError
        The column is no number, or has too few different values to bend.
    """
    numeric = pd.api.types.is_numeric_dtype(values)
    known = values.dropna().to_numpy(float) if numeric else np.array([])
    different = len(np.unique(known))
    knots = spline_knots(known) if different >= FEWEST_TO_BEND else np.zeros(3)
    if (np.diff(knots) <= 0).any():
        found = f"{different} different numbers" if numeric else "words"
        allowed = f"{FEWEST_TO_BEND} different ones or more, whose quantiles of 10, 50 and 90 % differ"
        raise ValueError(f"rcs({column}): {found} in training; allowed: {allowed}; ask for {column}, a line, instead")
    return [float(k) for k in knots]


def learn_design(training: pd.DataFrame, columns: Sequence[str], minimum_per_level: int = 5) -> Design:
    """Learn imputation and levels from training patients only.

    Parameters
    ----------
    training : DataFrame
        Patients to learn from, with `columns`. Numeric columns are continuous, others categorical.
    columns : sequence of str
        Columns that enter the model; ``rcs(age)`` enters as a restricted cubic spline with three knots.
    minimum_per_level : int
        A level seen in fewer training patients gets no term: its coefficient would be noise or infinite.

    Raises
    ------
    ValueError
        A column is missing from the table, empty in training, or asked to bend and cannot (`learn_knots`).
    """
    curved = [plain_column(c) for c in columns if plain_column(c) != c]
    columns = [plain_column(c) for c in columns]
    absent = [c for c in columns if c not in training.columns]
    if absent:
        raise ValueError(f"clinical_columns names {absent}, not in the manifest; there: {list(training.columns)}")
    empty = [c for c in columns if training[c].isna().all()]
    if empty:
        raise ValueError(f"clinical columns {empty} have no value in the training patients: leave them out")
    numeric = [c for c in columns if pd.api.types.is_numeric_dtype(training[c])]
    words = {c: training[c].dropna().astype(str).value_counts() for c in columns if c not in numeric}
    modes = {c: min(n.index[n == n.max()]) for c, n in words.items()}
    return Design(
        medians={c: float(training[c].median()) for c in numeric},
        levels={c: sorted(n.index[n >= minimum_per_level]) or [modes[c]] for c, n in words.items()},
        modes=modes,
        seen={c: sorted(n.index) for c, n in words.items()},
        knots={c: learn_knots(training[c], c) for c in curved},
    )


@dataclass(frozen=True)
class CoxModel:
    """A fitted Cox model as plain numbers.

    Attributes
    ----------
    terms : list of str
        Names of the terms, in order.
    coefficients : list of float
        Log hazard ratio for one unit of each term; positive = earlier recurrence.
    centre : list of float
        Training mean of each term: the patient whose risk score is 0.
    times, cumulative_hazard : list of float
        Breslow's baseline at `centre`, at each time of the training follow-up (months).
    alive_before : list of float
        Kaplan-Meier's probability of not having died just before each of `times`, recurrences censored: the same for
        every patient. Empty where deaths without recurrence are not told apart.
    """

    terms: list[str]
    coefficients: list[float]
    centre: list[float]
    times: list[float]
    cumulative_hazard: list[float]
    alive_before: list[float] = field(default_factory=list)

    @property
    def wrong_way(self) -> str:
        """Say that this is the model of an image score alone whose coefficient is not positive; else an empty text.

        Such a score points the wrong way in the patients that the model learned from: its LRFS would rise with its
        own risk, and contradict it.
        """
        wrong = self.terms == [IMAGE_SCORE] and not self.coefficients[0] > 0
        return "the score points the wrong way in training" if wrong else ""

    def risk(self, matrix: pd.DataFrame) -> pd.Series:
        """Return the linear predictor, centred (log hazard ratio; higher = earlier recurrence)."""
        return (matrix[self.terms] - self.centre) @ np.asarray(self.coefficients)

    def lrfs(self, matrix: pd.DataFrame, landmarks: Sequence[float]) -> pd.DataFrame:
        """Return predicted LRFS probabilities (patients x landmarks, months).

        A landmark beyond the training follow-up is left empty: nothing was observed there to predict from.
        """
        at = np.where(np.asarray(landmarks) > self.times[-1], np.nan, self._baseline(landmarks))
        survival = np.exp(-np.exp(self.risk(matrix).to_numpy())[:, None] * at[None, :])
        return pd.DataFrame(survival, index=matrix.index, columns=[lrfs_column(t) for t in landmarks])

    def lrfs_at(self, matrix: pd.DataFrame, months: pd.Series) -> pd.Series:
        """Return each patient's predicted LRFS at a time of the patient's own, both by ``patient_id``.

        Beyond the training follow-up it stays at its last value: there it is the most that can be said.
        """
        return np.exp(-np.exp(self.risk(matrix)) * self._baseline(months[matrix.index]))

    def incidence(self, matrix: pd.DataFrame, landmarks: Sequence[float]) -> pd.DataFrame:
        """Return predicted probabilities of recurring by each landmark, deaths counted (patients x landmarks, months).

        The sum, over the times of the training follow-up, of the fall of the patient's LRFS at a time multiplied by the
        probability of being alive just before it. Without terms this is the Aalen-Johansen curve of the training
        patients. The hazard of dying without recurrence is taken to be the same for all: no clinical term enters it.

        Returns
        -------
        DataFrame
            Columns named by `scores.incidence_column`; empty beyond the training follow-up, as `lrfs`. No column where
            deaths are not told apart.

        References
        ----------
        Benichou & Gail, Biometrics 1990.
        """
        if not self.alive_before:
            return pd.DataFrame(index=matrix.index)
        hazard = np.exp(self.risk(matrix).to_numpy())[:, None] * np.concatenate(([0.0], self.cumulative_hazard))
        reached = np.cumsum(-np.diff(np.exp(-hazard), axis=1) * self.alive_before, axis=1)
        place = np.searchsorted(self.times, landmarks, side="right")
        at = np.where(np.asarray(landmarks) > self.times[-1], np.nan, np.pad(reached, ((0, 0), (1, 0)))[:, place])
        return pd.DataFrame(at, index=matrix.index, columns=[incidence_column(t) for t in landmarks])

    def _baseline(self, months: Sequence[float]) -> np.ndarray:
        place = np.searchsorted(self.times, months, side="right") - 1
        return np.where(place < 0, 0.0, np.asarray(self.cumulative_hazard)[place])

    def as_dict(self) -> dict:
        """Return the model as a dictionary of plain numbers, ready for JSON; ``CoxModel(**d)`` reads it back."""
        return {name: value for name, value in asdict(self).items() if value or name != "alive_before"}


def fit_lifelines(matrix: pd.DataFrame, cohort: pd.DataFrame, ridge: float = 0.0) -> CoxPHFitter:
    """Fit lifelines' Cox model (Efron ties) to the patients of `matrix`.

    Parameters
    ----------
    matrix : DataFrame
        Terms by ``patient_id``; who is in it is who is learned from.
    cohort : DataFrame
        With ``patient_id, time_months, event`` for at least these patients.
    ridge : float
        Penalty on standardised coefficients; 0 = maximum partial likelihood.

    Raises
    ------
    ValueError
        The fit does not converge: a term separates the events, or terms repeat each other.
    """
    outcome = cohort.set_index("patient_id").loc[matrix.index, ["time_months", "event"]]
    fitter = CoxPHFitter(penalizer=ridge, l1_ratio=0.0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            fitter.fit(matrix.join(outcome), "time_months", "event", fit_options={"precision": 1e-12, "step_size": 0.3})
    except (ConvergenceError, np.linalg.LinAlgError) as error:
        raise ValueError(
            f"the Cox model of {list(matrix.columns)} did not converge: use fewer terms, or ridge > 0"
        ) from error
    return fitter


def plain_model(fitter: CoxPHFitter) -> CoxModel:
    """Take the numbers out of a fitted lifelines model."""
    baseline = fitter.baseline_cumulative_hazard_.iloc[:, 0]
    return CoxModel(
        terms=list(fitter.params_.index),
        coefficients=[float(b) for b in fitter.params_],
        centre=[float(m) for m in fitter._norm_mean],
        times=[float(t) for t in baseline.index],
        cumulative_hazard=[float(h) for h in baseline],
    )


def fit_cox(matrix: pd.DataFrame, cohort: pd.DataFrame, ridge: float = 0.0) -> CoxModel:
    """Fit a Cox model and return it as plain numbers; see `fit_lifelines`.

    Where `cohort` tells deaths without recurrence apart (``died``), the model also keeps how many are alive.
    """
    model = plain_model(fit_lifelines(matrix, cohort, ridge))
    if DIED not in cohort:
        return model
    deaths = cohort.set_index("patient_id").loc[matrix.index, ["time_months", DIED]]
    curve = kaplan_meier(deaths["time_months"], deaths[DIED]).set_index("time")["survival"].shift(fill_value=1.0)
    return replace(model, alive_before=[float(s) for s in curve[model.times]])


def hazard_ratios(fitter: CoxPHFitter) -> pd.DataFrame:
    """Tabulate hazard ratios with Wald intervals.

    Returns
    -------
    DataFrame
        ``term, hazard_ratio, ci_low, ci_high, p, note``; above 1 = earlier recurrence. Where a level holds no
        event, or only events, the likelihood has no maximum (standard error above 5 on the log scale): the
        numbers are left empty and the note says so.
    """
    log_scale = fitter.summary[["coef", "coef lower 95%", "coef upper 95%", "p"]]
    separated = fitter.summary["se(coef)"] > SEPARATED_SE
    log_scale = log_scale.mask(separated).to_numpy()
    table = pd.DataFrame(np.exp(log_scale[:, :3]), columns=["hazard_ratio", "ci_low", "ci_high"])
    table.insert(0, "term", list(fitter.summary.index))
    note = np.where(separated, SEPARATED, "")
    return table.assign(p=log_scale[:, 3], note=note)


def firth_ratios(matrix: pd.DataFrame, cohort: pd.DataFrame) -> pd.DataFrame:
    """Tabulate hazard ratios by Firth's penalised likelihood: finite where terms are separated.

    Returns
    -------
    DataFrame
        ``term, hazard_ratio, ci_low, ci_high, p``, with profile-likelihood intervals and likelihood-ratio p-values;
        arguments as in `fit_lifelines`.
    """
    outcome = cohort.set_index("patient_id").loc[matrix.index, ["time_months", "event"]]
    fit = fit_firth(outcome["time_months"], outcome["event"], matrix)
    ratios = np.exp([fit.coefficients, fit.ci_low, fit.ci_high])
    columns = ["hazard_ratio", "ci_low", "ci_high"]
    return pd.DataFrame({"term": list(matrix), **dict(zip(columns, ratios, strict=True)), "p": fit.p})


def univariable_table(cohort: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Fit one Cox model a column and tabulate its terms.

    Parameters
    ----------
    cohort : DataFrame
        The patients to learn from: training only.
    columns : sequence of str
        Clinical columns.

    Returns
    -------
    DataFrame
        As `hazard_ratios`, with ``column`` and the likelihood-ratio p of the whole column, ``column_p``.
    """
    tables = []
    for column in columns:
        matrix = learn_design(cohort, [column]).matrix(cohort)
        if matrix.shape[1] == 0:
            continue
        fitter = fit_lifelines(matrix, cohort)
        tables.append(hazard_ratios(fitter).assign(column=column, column_p=likelihood_ratio_p(fitter)))
    return pd.concat(tables, ignore_index=True)


def likelihood_ratio_p(larger: CoxPHFitter, smaller: CoxPHFitter | None = None) -> float:
    """Return the p-value of the likelihood-ratio test of a Cox model against a nested one (default: no terms)."""
    if smaller is None:
        return float(larger.log_likelihood_ratio_test().p_value)
    statistic = 2 * (larger.log_likelihood_ - smaller.log_likelihood_)
    return float(stats.chi2.sf(statistic, len(larger.params_) - len(smaller.params_)))


def events_per_term(cohort: pd.DataFrame, matrix: pd.DataFrame) -> float:
    """Return the number of events for each term that a Cox model would fit."""
    events = cohort.set_index("patient_id").loc[matrix.index, "event"].sum()
    return float(events) / matrix.shape[1]


def events_warning(cohort: pd.DataFrame, matrix: pd.DataFrame) -> str:
    """Say that there are too few events for the terms of a Cox model (fewer than ten each), or return an empty text.

    References
    ----------
    Ten is Peduzzi's rule of thumb (1995); below it coefficients are biased away from zero and intervals unreliable.
    """
    each = events_per_term(cohort, matrix)
    if each >= FEWEST_EVENTS:
        return ""
    remedy = "use fewer terms or a penalty, and do not read the table as if it were settled"
    return f"WARNING: {each:.1f} events for each of {matrix.shape[1]} terms, fewer than {FEWEST_EVENTS}: {remedy}"


def schoenfeld_residuals(matrix: pd.DataFrame, cohort: pd.DataFrame) -> pd.DataFrame:
    """Return scaled Schoenfeld residuals: one row an event, ``time_months`` and one column a term.

    A trend over time shows an effect that changes (Grambsch and Therneau 1994).
    """
    outcome = cohort.set_index("patient_id").loc[matrix.index, ["time_months", "event"]]
    residuals = fit_lifelines(matrix, cohort).compute_residuals(matrix.join(outcome), "scaled_schoenfeld")
    residuals.columns = list(matrix.columns)
    times = outcome.loc[residuals.index, "time_months"]
    return residuals.assign(time_months=times).sort_values("time_months", kind="stable").reset_index(drop=True)
