"""A frozen model in another hospital: its level, or level and slope, learned anew from patients with known outcomes.

The order of the patients stays. Both updates come from a Poisson model of the recurrences, with the logarithm of the
cumulative hazard that the frozen model promised each patient up to the patient's own last time as offset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product

import numpy as np
import pandas as pd
from scipy.stats import norm
from sklearn.linear_model import PoissonRegressor

from rps_utils.cohort.splits import stratified_folds
from rps_utils.scores import OWN_TIME, incidence_columns, lrfs_column, lrfs_columns, lrfs_landmarks
from rps_utils.survival.calibration import within_bounds
from rps_utils.texts.counts import how_many

EVENTS_TO_LEARN = {"level": 5, "level and slope": 20}
UPDATE_FOLDS = 5


@dataclass(frozen=True)
class Update:
    """What a new hospital changes: LRFS becomes ``LRFS ** (factor * exp((slope - 1) * (x - centre)))``.

    x is the log cumulative hazard that the frozen model promises the patient at the middle landmark.

    Attributes
    ----------
    model, kind : str
        Which frozen model, and ``level`` or ``level and slope``.
    patients, events : int
        From how many it was learned.
    factor, factor_low, factor_high : float
        Hazard here over the hazard promised, for a patient with x at the centre; 95 % Wald interval.
    slope, slope_low, slope_high : float
        Calibration slope: 1 is right, below 1 the predictions were too extreme. 1 without interval where only the
        level is updated.
    centre : float
        Mean of x where the update was learned.
    """

    model: str
    kind: str
    patients: int
    events: int
    factor: float
    factor_low: float
    factor_high: float
    slope: float
    slope_low: float
    slope_high: float
    centre: float


def _log_hazard(lrfs: pd.Series) -> np.ndarray:
    return np.log(-np.log(within_bounds(np.asarray(lrfs, float))))


def learn_update(rows: pd.DataFrame, kind: str) -> Update:
    """Learn an update of one frozen model from patients whom it has not seen.

    Parameters
    ----------
    rows : DataFrame
        One model's rows of a table of scores: ``model, event, lrfs_own`` and at least one ``lrfs_<landmark>``.
    kind : {"level", "level and slope"}

    Raises
    ------
    ValueError
        Too few recurrences for this kind of update.

    References
    ----------
    Crowson, Atkinson and Therneau, Stat Methods Med Res 2016;25:1692.
    """
    model, events = rows["model"].iloc[0], int(rows["event"].sum())
    if events < EVENTS_TO_LEARN[kind]:
        raise ValueError(
            f"{model}: {how_many(events, 'recurrence')} to learn its {kind} from; "
            f"at least {EVENTS_TO_LEARN[kind]} are asked for"
        )
    promised = np.exp(_log_hazard(rows[OWN_TIME]))
    middle = _at_middle(rows)
    centre = float(middle.mean())
    terms = (middle - centre)[:, None] * (kind == "level and slope")
    # An offset of log(promised) is the same as a rate, events by hazard promised, weighted by the hazard promised.
    fit = PoissonRegressor(alpha=0, tol=1e-10, max_iter=1000).fit(terms, rows["event"] / promised, promised)
    expected = promised * fit.predict(terms)
    design = np.column_stack([np.ones(len(rows)), terms][: 1 + (kind == "level and slope")])
    errors = np.sqrt(np.diag(np.linalg.inv(design.T @ (expected[:, None] * design))))
    reach = norm.ppf(0.975) * errors
    factor = np.exp(fit.intercept_ + np.array([0, -reach[0], reach[0]]))
    own = 1 + fit.coef_[0]
    slope = (own, own - reach[1], own + reach[1]) if len(reach) > 1 else (1.0, np.nan, np.nan)
    (level, low, high), (steep, flat, steeper) = map(float, factor), map(float, slope)
    return Update(model, kind, len(rows), events, level, low, high, steep, flat, steeper, centre)


def _at_middle(rows: pd.DataFrame) -> np.ndarray:
    """Return the log cumulative hazard promised to each patient at the middle landmark."""
    landmarks = lrfs_landmarks(rows)
    return _log_hazard(rows[lrfs_column(landmarks[len(landmarks) // 2])])


def apply_update(update: Update, rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows of the frozen model with every LRFS updated; their order by risk stays (a slope below 0 aside).

    A predicted cumulative incidence is left out: it needs the hazard of dying in the new patients too.
    """
    power = update.factor * np.exp((update.slope - 1) * (_at_middle(rows) - update.centre))
    changed = {column: rows[column] ** power for column in lrfs_columns(rows)}
    return rows.drop(columns=incidence_columns(rows)).assign(model=f"{update.model}, {update.kind} updated", **changed)


def recalibrate(
    scores: pd.DataFrame, models: Sequence[str] = (), *, seed: int = 2026
) -> tuple[pd.DataFrame, list[Update]]:
    """Update frozen models in the patients of a table of scores, cross-fitted: nobody teaches the update that judges.

    Parameters
    ----------
    scores : DataFrame
        A table of scores with outcomes, `OWN_TIME` and LRFS; only its ``validation`` rows are used.
    models : sequence of str
        Which to update; none: all that have probabilities.
    seed : int
        Deals the patients into `UPDATE_FOLDS` folds.

    Returns
    -------
    scores : DataFrame
        The frozen rows, and behind them those of ``<model>, level updated`` and ``<model>, level and slope updated``,
        each patient's from the other folds. An update for which there are too few recurrences is not among them.
    updates : list of Update
        Learned from all patients: what one would carry to the patients who come next.

    Raises
    ------
    ValueError
        Nothing can be updated; the message says what is missing.
    """
    able = _updatable(scores, models)
    parts, updates = [scores[scores["kind"] == "validation"]], list[Update]()
    for rows, kind in product(able, EVENTS_TO_LEARN):
        if rows["event"].sum() * (UPDATE_FOLDS - 1) // UPDATE_FOLDS < EVENTS_TO_LEARN[kind]:
            continue
        folds = stratified_folds(rows["time_months"], rows["event"], UPDATE_FOLDS, [seed, 5])
        updates.append(learn_update(rows, kind))
        for fold in range(UPDATE_FOLDS):
            parts.append(apply_update(learn_update(rows[folds != fold], kind), rows[folds == fold]))
    if not updates:
        most = max(int(rows["event"].sum()) for rows in able)
        raise ValueError(
            f"{how_many(most, 'recurrence')}; to learn a level in {UPDATE_FOLDS} folds at least 7 are needed"
        )
    return pd.concat(parts, ignore_index=True), updates


def _updatable(scores: pd.DataFrame, models: Sequence[str]) -> list[pd.DataFrame]:
    """Return the validation rows of each model asked for that has probabilities, or say why there are none."""
    frozen = scores[scores["kind"] == "validation"]
    if frozen.empty:
        raise ValueError("no validation rows: a model is recalibrated in patients whom it has not seen")
    unknown = sorted(set(models) - set(frozen["model"]))
    if unknown:
        raise ValueError(f"no model {', '.join(unknown)}; there are {', '.join(frozen['model'].unique())}")
    if OWN_TIME not in frozen or not lrfs_landmarks(frozen):
        raise ValueError(f"needs the columns {OWN_TIME} and lrfs_<landmark>; rps predict writes them")
    chosen = models or frozen["model"].unique()
    able = [_with_probabilities(frozen[frozen["model"] == name]) for name in chosen]
    if not any(len(rows) for rows in able):
        raise ValueError(f"no predicted LRFS in the rows of {', '.join(chosen)}: there is nothing to recalibrate")
    return [rows for rows in able if len(rows)]


def _with_probabilities(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with every LRFS that the model gives; a landmark that it gives nobody is left out."""
    nowhere = [column for column in lrfs_columns(rows) if rows[column].isna().all()]
    if OWN_TIME in nowhere or set(nowhere) >= set(map(lrfs_column, lrfs_landmarks(rows))):
        return rows.iloc[:0]
    kept = rows.drop(columns=nowhere)
    return kept.dropna(subset=lrfs_columns(kept)).reset_index(drop=True)


def updates_table(updates: Sequence[Update]) -> pd.DataFrame:
    """Return one row an update, with the columns of `Update`."""
    return pd.DataFrame([asdict(update) for update in updates])


def update_sentence(update: Update) -> str:
    """Say in words what an update found."""
    said = f"{update.model}, {update.kind}, from {how_many(update.events, 'recurrence')}: "
    said += f"hazard times {update.factor:.2f} ({update.factor_low:.2f} to {update.factor_high:.2f})"
    if np.isfinite(update.slope_low):
        said += f", slope {update.slope:.2f} ({update.slope_low:.2f} to {update.slope_high:.2f})"
    return said
