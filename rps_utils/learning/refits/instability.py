"""Would another sample have promised these patients the same? Models of resamples, asked about the same patients."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from joblib import delayed

from rps_utils.learning.cox import fit_cox, learn_design
from rps_utils.learning.fusion import FusionPlan
from rps_utils.machine.engines import work_on


def risks_by_resample(
    training: pd.DataFrame, plan: FusionPlan, landmark: float, draws: Iterable[np.ndarray], n_jobs: int = 1
) -> tuple[pd.Series, pd.DataFrame]:
    """Return the risk that the model promises each training patient, and what models of resamples promise.

    Parameters
    ----------
    training : DataFrame
        ``patient_id, time_months, event`` and the clinical columns.
    plan : FusionPlan
        Clinical columns only. All that is learned is learned again in each resample: filling, levels, coefficients,
        baseline.
    landmark : float
        Months.
    draws : iterable of ndarray
        Row numbers of each resample, counted from 0, with repeats.
    n_jobs : int
        Processes; the numbers do not depend on it.

    Returns
    -------
    promised : Series
        Predicted risk of recurrence by the landmark, by ``patient_id``.
    drawn : DataFrame
        The same by the model of each resample (patients x resamples). A resample whose fit fails, or whose follow-up
        ends before the landmark, is left out.
    """
    own, *found = work_on((delayed(_risks)(training, plan, landmark, rows) for rows in [None, *draws]), n_jobs)
    drawn = pd.concat(found, axis=1, keys=range(len(found))) if found else pd.DataFrame(index=own.index)
    return own, drawn.dropna(axis="columns", how="any")


def _risks(training: pd.DataFrame, plan: FusionPlan, landmark: float, rows: np.ndarray | None) -> pd.Series:
    learners = training if rows is None else training.iloc[rows]
    learners = learners.assign(patient_id=[f"row {i}" for i in range(len(learners))])
    nothing = pd.Series(np.nan, index=pd.Index(training["patient_id"]))
    if not learners["event"].any():
        return nothing
    try:
        design = learn_design(learners, plan.columns)
        model = fit_cox(design.matrix(learners), learners, plan.ridge)
    except ValueError:  # a column without a value, or no maximum of the likelihood
        if rows is None:
            raise
        return nothing
    return 1 - model.lrfs(design.matrix(training), [landmark]).iloc[:, 0]


def instability_table(promised: pd.Series, drawn: pd.DataFrame, threshold: float | None = None) -> pd.DataFrame:
    """Return how far the promises of other samples scatter, patient by patient.

    Parameters
    ----------
    promised, drawn
        From `risks_by_resample`.
    threshold : float, optional
        A risk from which one would act.

    Returns
    -------
    DataFrame
        ``patient_id, predicted, middle, low, high`` (median and middle 95 % over the resamples), ``mape`` (mean
        absolute difference from `predicted`) and, with a threshold, ``decided_otherwise``: the share of resamples on
        its other side. In the order of the promised risk; missing without a resample.

    References
    ----------
    Riley & Collins, Biometrical Journal 2023.
    """
    low, middle, high = (drawn.quantile(q, axis=1) for q in (0.025, 0.5, 0.975))
    away = drawn.sub(promised, axis="index").abs().mean(axis=1)
    table = pd.DataFrame({"predicted": promised, "middle": middle, "low": low, "high": high, "mape": away})
    if threshold is not None:
        table["decided_otherwise"] = (drawn >= threshold).ne(promised >= threshold, axis="index").mean(axis=1)
    return table.sort_values("predicted", kind="stable").reset_index()
