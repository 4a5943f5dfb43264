"""Cox models on an image score, clinical columns or both, judged apparent, cross-fitted and on validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from rps_utils.cox import CoxModel, Design, fit_cox, learn_design
from rps_utils.crossfit import FittedScores, LeftOut, MadeScore, cox_name, learning_patients, object_name
from rps_utils.ledger import Learned, score_makers
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


@dataclass(frozen=True)
class FittedFusion:
    """A clinical design and a Cox model learned from the same patients, with their names in the ledger."""

    plan: FusionPlan
    name: str
    design: Design
    model: CoxModel


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
    return _terms(learn_design(learners, plan.columns), rows, image_score)


def _terms(design: Design, rows: pd.DataFrame, image_score: pd.Series | None) -> pd.DataFrame:
    matrix = design.matrix(rows)
    if image_score is not None:
        matrix.insert(0, "image_score", image_score[matrix.index])
    return matrix


def cox_scores(
    cohort: pd.DataFrame,
    plan: FusionPlan,
    image: FittedScores | None,
    landmarks: Sequence[float],
    learned: list[Learned] | None = None,
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
    learned : list, optional
        Gets an entry for the ledger for everything that is fitted here.

    Returns
    -------
    scores : DataFrame
        Rows of kinds apparent, cross_fitted and validation. ``risk`` is the linear predictor, or the image
        score itself where no clinical column enters.
    model : CoxModel
        Fitted in all training patients.
    """
    learned = [] if learned is None else learned
    training = cohort[cohort["split"] == "training"]
    validation = cohort[cohort["split"] == "validation"]
    everyone = _fit(plan, (), training, image and image.part("cross_fitted"), learned)
    # For the image score alone, apparent means resubstitution: in-sample scores under their own Cox model.
    in_sample, kind = everyone, "cross_fitted"
    if image and not plan.columns:
        in_sample, kind = _fit(plan, None, training, image.part("apparent"), learned), "apparent"
    parts = [_judge(in_sample, "apparent", training, image and image.part(kind), landmarks)]
    for fold in sorted(training["fold"].astype(int).unique()):
        learners = training[training["patient_id"].isin(learning_patients(cohort, (int(fold),)))]
        fitted = _fit(plan, (int(fold),), learners, image and image.part(int(fold)), learned)
        held_out = training[training["fold"] == fold]
        parts.append(_judge(fitted, "cross_fitted", held_out, image and image.part("cross_fitted"), landmarks))
    parts.append(_judge(everyone, "validation", validation, image and image.part("validation"), landmarks))
    return pd.concat(parts, ignore_index=True), everyone.model


def _fit(
    plan: FusionPlan,
    left_out: LeftOut | None,
    learners: pd.DataFrame,
    score: MadeScore | None,
    learned: list[Learned],
) -> FittedFusion:
    """Fit design and Cox model, and enter both; `left_out` None marks a fit that is in-sample on purpose."""
    which = object_name("", left_out).strip() if left_out is not None else "in-sample"
    design = learn_design(learners, plan.columns)
    matrix = _terms(design, learners, score and score.risk)
    fitted = FittedFusion(plan, f"{cox_name(plan.model)} {which}", design, fit_cox(matrix, learners, plan.ridge))
    sources = score_makers(score.made_by[matrix.index]) if score else {}
    if plan.columns:
        learned.append(Learned(f"{plan.model} design {which}", "clinical design", list(learners["patient_id"])))
        sources[learned[-1].name] = []
    learned.append(Learned(fitted.name, "Cox model", list(matrix.index), sources))
    return fitted


def _judge(
    fitted: FittedFusion, kind: str, rows: pd.DataFrame, score: MadeScore | None, landmarks: Sequence[float]
) -> pd.DataFrame:
    matrix = _terms(fitted.design, rows, score and score.risk)
    risk = fitted.model.risk(matrix) if fitted.plan.columns else matrix["image_score"]
    names = pd.Series(fitted.name, matrix.index)
    if score:
        names = score.made_by[matrix.index] + "+" + names
    return score_rows(rows, fitted.plan.model, kind, risk, fitted.model.lrfs(matrix, landmarks), names)
