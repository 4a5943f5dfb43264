"""Cox models on an image score, clinical columns or both, judged apparent, cross-fitted and on validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from rps_utils.cox import CoxModel, fit_cox, learn_design
from rps_utils.crossfit import FittedScores, learning_patients
from rps_utils.scores import score_rows


@dataclass(frozen=True)
class FusionPlan:
    """What a Cox model is made of.

    Attributes
    ----------
    model : str
        Name in the score table, for example ``"DLCM"``.
    columns : sequence of str
        Clinical columns; empty for a model of the image score alone.
    ridge : float
        Penalty on standardised coefficients.
    """

    model: str
    columns: Sequence[str] = ()
    ridge: float = 0.0


def terms_of(
    plan: FusionPlan, learners: pd.DataFrame, rows: pd.DataFrame, image_score: pd.Series | None
) -> pd.DataFrame:
    """Return the model terms of `rows`, with imputation and levels learned from `learners`.

    Parameters
    ----------
    plan : FusionPlan
    learners, rows : DataFrame
        Patients to learn the design from, and patients to describe.
    image_score : Series or None
        Risk score by ``patient_id`` for `rows`; becomes the first term, ``image_score``.
    """
    matrix = learn_design(learners, plan.columns).matrix(rows)
    if image_score is not None:
        matrix.insert(0, "image_score", image_score[matrix.index])
    return matrix


def cox_scores(
    cohort: pd.DataFrame, plan: FusionPlan, image: FittedScores | None, landmarks: Sequence[float]
) -> tuple[pd.DataFrame, CoxModel]:
    """Fit a Cox model in all training patients and in each set of K-1 folds, and score everybody.

    Parameters
    ----------
    cohort : DataFrame
        ``patient_id, split, fold, time_months, event`` and the clinical columns.
    plan : FusionPlan
    image : FittedScores or None
        Scores of an image model. The Cox model learns from cross-fitted ones: in-sample scores are too good,
        and would take a weight that new patients do not honour. The model that judges fold k learns from
        nested scores, made by image models that had not seen fold k.
    landmarks : sequence of float
        Landmark times (months) for predicted LRFS.

    Returns
    -------
    scores : DataFrame
        Rows of kinds apparent, cross_fitted and validation. ``risk`` is the linear predictor, or the image
        score itself where no clinical column enters.
    model : CoxModel
        Fitted in all training patients.
    """
    training = cohort[cohort["split"] == "training"]
    validation = cohort[cohort["split"] == "validation"]
    fitted = image.cross_fitted if image else None
    matrix = terms_of(plan, training, training, fitted)
    model = fit_cox(matrix, training, plan.ridge)
    new = terms_of(plan, training, validation, image.validation if image else None)
    parts = [
        _rows(cohort, plan, "apparent", *_apparent(plan, training, image, matrix, model), landmarks),
        _cross_fitted(cohort, plan, image, landmarks),
        _rows(cohort, plan, "validation", new, model, landmarks),
    ]
    return pd.concat(parts, ignore_index=True), model


def _apparent(
    plan: FusionPlan,
    training: pd.DataFrame,
    image: FittedScores | None,
    matrix: pd.DataFrame,
    model: CoxModel,
) -> tuple[pd.DataFrame, CoxModel]:
    """For the image score alone, apparent means resubstitution: in-sample scores under their own Cox model."""
    if plan.columns or image is None:
        return matrix, model
    matrix = terms_of(plan, training, training, image.apparent)
    return matrix, fit_cox(matrix, training, plan.ridge)


def _cross_fitted(
    cohort: pd.DataFrame, plan: FusionPlan, image: FittedScores | None, landmarks: Sequence[float]
) -> pd.DataFrame:
    training = cohort[cohort["split"] == "training"]
    parts = []
    for fold in sorted(training["fold"].unique()):
        held_out = training[training["fold"] == fold]
        learners = training[training["patient_id"].isin(learning_patients(cohort, (int(fold),)))]
        matrix = terms_of(plan, learners, learners, image.nested[int(fold)] if image else None)
        judged = terms_of(plan, learners, held_out, image.cross_fitted if image else None)
        model = fit_cox(matrix, learners, plan.ridge)
        parts.append(_rows(cohort, plan, "cross_fitted", judged, model, landmarks))
    return pd.concat(parts, ignore_index=True)


def _rows(
    cohort: pd.DataFrame,
    plan: FusionPlan,
    kind: str,
    matrix: pd.DataFrame,
    model: CoxModel,
    landmarks: Sequence[float],
) -> pd.DataFrame:
    risk = model.risk(matrix) if plan.columns else matrix["image_score"]
    return score_rows(cohort, plan.model, kind, risk, model.lrfs(matrix, landmarks))
