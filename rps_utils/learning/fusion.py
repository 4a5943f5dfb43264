"""Cox models on an image score, clinical columns or both, judged apparent, cross-fitted and on validation.

Higher risk means earlier recurrence, and predicted LRFS must not say otherwise. A Cox model of a score alone whose
coefficient is not positive would: its score points the wrong way in training. Such a model predicts no LRFS, and the
column ``no_lrfs`` says why. A fusion keeps the term, for its risk is its own linear predictor, in which the score is
turned round; `score_directions` says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from joblib import delayed
from scipy.stats import norm

from rps_utils.intervals.permutation import (
    added_z,
    deal_outcomes,
    exceedance_p,
    less_told,
    predictive_p,
    shrunken_log_hazard,
)
from rps_utils.learning.cox import (
    IMAGE_SCORE,
    CoxModel,
    Design,
    fit_cox,
    fit_lifelines,
    hazard_ratios,
    learn_design,
    likelihood_ratio_p,
)
from rps_utils.learning.crossfit import (
    MOST_FOLDS,
    FittedScores,
    LeftOut,
    MadeScore,
    cox_name,
    learning_patients,
    object_name,
    predictor_p,
)
from rps_utils.learning.ledger import Learned, score_makers
from rps_utils.machine.engines import work_on
from rps_utils.scores import MADE_BY, NO_LRFS, OWN_TIME, predicted_columns, score_rows

IMAGE_RIDGE = 0.01  # of the Cox model that turns an image score alone into LRFS

Refit = Callable[[pd.DataFrame], pd.Series]
FEWEST_DEALS = 19


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
        matrix.insert(0, IMAGE_SCORE, image_score[matrix.index])
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
        score itself where no clinical column enters; ``lrfs_own`` the predicted LRFS at the patient's own
        last time, from which `rps_utils.conformal` learns.
    model : CoxModel
        Fitted in all training patients.
    """
    learned = [] if learned is None else learned
    training = cohort[cohort["split"] == "training"]
    validation = cohort[cohort["split"] == "validation"]
    everyone = _fit(plan, (), training, _part(image, "cross_fitted"), learned)
    # For the image score alone, apparent means resubstitution: in-sample scores under their own Cox model.
    in_sample, kind = everyone, "cross_fitted"
    if image and not plan.columns:
        in_sample, kind = _fit(plan, None, training, image.part("apparent"), learned), "apparent"
    parts = [judge(in_sample, "apparent", training, _part(image, kind), landmarks)]
    for fold in sorted(training["fold"].astype(int).unique()):
        learners = training[training["patient_id"].isin(learning_patients(cohort, (int(fold),)))]
        fitted = _fit(plan, (int(fold),), learners, _part(image, int(fold)), learned)
        held_out = training[training["fold"] == fold]
        parts.append(judge(fitted, "cross_fitted", held_out, _part(image, "cross_fitted"), landmarks))
    parts.append(judge(everyone, "validation", validation, _part(image, "validation"), landmarks))
    scores = pd.concat(parts, ignore_index=True)
    if everyone.model.wrong_way:
        scores = _without_lrfs(scores, everyone.model.wrong_way)
    return scores[[*scores.columns.drop(MADE_BY), MADE_BY]], everyone.model


def _without_lrfs(rows: pd.DataFrame, why: str) -> pd.DataFrame:
    return rows.assign(**dict.fromkeys(predicted_columns(rows), np.nan), **{NO_LRFS: why})


def _part(image: FittedScores | None, kind: str | int) -> MadeScore | None:
    return None if image is None else image.part(kind)


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


def judge(
    fitted: FittedFusion, kind: str, rows: pd.DataFrame, score: MadeScore | None, landmarks: Sequence[float]
) -> pd.DataFrame:
    """Return the score rows of patients under a fitted design and Cox model; nothing is learned from them.

    Parameters
    ----------
    fitted : FittedFusion
    kind : str
        Of the rows.
    rows : DataFrame
        ``patient_id, split, time_months, event`` and the clinical columns of the plan.
    score : MadeScore or None
        Image score of these patients.
    landmarks : sequence of float
        Months.
    """
    matrix = _terms(fitted.design, rows, score and score.risk)
    risk = fitted.model.risk(matrix) if fitted.plan.columns else matrix[IMAGE_SCORE]
    names = pd.Series(fitted.name, matrix.index)
    if score:
        names = score.made_by[matrix.index] + "+" + names
    own = fitted.model.lrfs_at(matrix, rows.set_index("patient_id")["time_months"])
    lrfs = fitted.model.lrfs(matrix, landmarks).assign(**{OWN_TIME: own})
    lrfs = lrfs.join(fitted.model.incidence(matrix, landmarks))
    if fitted.model.wrong_way:
        lrfs = _without_lrfs(lrfs, fitted.model.wrong_way)
    return score_rows(rows, fitted.plan.model, kind, risk, lrfs, names)


def score_directions(models: Mapping[str, CoxModel]) -> pd.DataFrame:
    """Tell of each Cox model that holds an image score which way the score points, and what follows.

    Parameters
    ----------
    models : mapping
        Model to its Cox model of all training patients, fitted on cross-fitted scores.

    Returns
    -------
    DataFrame
        ``model, hazard_ratio`` of one unit of the score, ``points`` (right or wrong way) and ``note``: a sentence
        where it is the wrong way, else empty.
    """
    rows = []
    for name, model in models.items():
        if IMAGE_SCORE in model.terms:
            coefficient = model.coefficients[model.terms.index(IMAGE_SCORE)]
            note = "" if coefficient > 0 else _wrong_way_words(name, np.exp(coefficient), alone=bool(model.wrong_way))
            points = "wrong way" if note else "right way"
            rows.append({"model": name, "hazard_ratio": np.exp(coefficient), "points": points, "note": note})
    return pd.DataFrame(rows, columns=["model", "hazard_ratio", "points", "note"])


def _wrong_way_words(model: str, hazard_ratio: float, *, alone: bool) -> str:
    if alone:
        begin = f"{model} points the wrong way in training: hazard ratio {hazard_ratio:.2f} for one unit of its score"
        return f"{begin}. It predicts no LRFS, and its risk ranks patients at random or in reverse."
    begin = f"{model} holds an image score that points the wrong way beside its other terms: hazard ratio"
    end = f"The fusion turns it round: a higher risk of {model} still means earlier recurrence."
    return f"{begin} {hazard_ratio:.2f}. {end}"


def independent_predictor(
    learners: pd.DataFrame,
    columns: Sequence[str],
    score: pd.Series | FittedScores,
    *,
    refit: Refit | None = None,
    deals: int = 99,
    folds_stay: bool = False,
    seed: int = 2026,
    n_jobs: int = 1,
) -> dict[str, Any]:
    """Test an image score with clinical columns held fixed, in an unpenalised Cox model.

    Parameters
    ----------
    learners : DataFrame
        ``patient_id, split, fold, time_months, event`` and `columns`: training patients with a cross-fitted score, or
        validation patients with the score of a frozen model.
    columns : sequence of str
        May be empty: then nothing is held fixed.
    score : Series or FittedScores
        By ``patient_id``; the hazard ratio is for one unit of it. From `FittedScores` the cross-fitted scores are
        taken, and the nested ones to learn what the columns tell of them.
    refit : callable, optional
        Gets `learners` with outcomes dealt anew and repeats everything that made the score: returns cross-fitted
        scores by ``patient_id`` (`crossfit.cross_fit`). The test is then that of the outcomes dealt anew.
    deals : int
        How often; 99 or more give p by counting, fewer (19 at least) by Student's t.
    folds_stay : bool
        True where folds belong to patients (centres); else they go with the outcomes by which they were dealt.
    seed, n_jobs : int
        Of the deals; processes.

    Returns
    -------
    dict
        ``hazard_ratio, ci_low, ci_high`` (Wald), ``p`` of the likelihood-ratio test as it is usually reported, and
        ``p_predictor``, one-sided: a higher score means earlier recurrence. ``test`` names how it was found, or why it
        is NaN:

        * with `refit`: where the score test of the score stands among those of outcomes dealt anew given the columns,
          everything refitted. The number of folds does not matter; levels in docs/statistics.md;
        * nested scores at hand, 5 folds at most: the score without what the columns tell of it, chi-square halved;
        * cross-fitted scores alone, 5 folds at most: chi-square of the likelihood ratio halved; loses power where the
          image tells the columns;
        * more than 5 folds without `refit`: no p, since a learner that selects rings too often then;
        * validation: the plain test. The score was fixed before these outcomes were seen.

    Raises
    ------
    ValueError
        `refit` does not give back `score` for the outcomes as they are, there are fewer than 19 deals, or the Cox
        model of the columns has no maximum.

    References
    ----------
    `intervals.permutation`; level and power in docs/statistics.md.
    """
    risk = score.cross_fitted if isinstance(score, FittedScores) else score
    terms = terms_of(FusionPlan("score", columns), learners, learners, risk)
    both = fit_lifelines(terms, learners)
    alone = fit_lifelines(terms.drop(columns=IMAGE_SCORE), learners) if columns else None
    ratio = hazard_ratios(both).iloc[0][["hazard_ratio", "ci_low", "ci_high"]].to_dict()
    p = likelihood_ratio_p(both, alone)
    found = {**ratio, "p": p}
    held, folds = terms.drop(columns=IMAGE_SCORE), learners["fold"].nunique() if "fold" in learners else 0
    if (learners["split"] == "validation").all():
        one_sided = p / 2 if ratio["hazard_ratio"] > 1 else 1 - p / 2
        return {**found, "p_predictor": one_sided, "test": "plain: the score was fixed beforehand"}
    if refit is not None:
        dealt = _dealt_z(learners, held, terms[IMAGE_SCORE], refit, deals, folds_stay, seed, n_jobs)
        by_count = exceedance_p if deals >= 99 else predictive_p
        return {**found, "p_predictor": by_count(dealt[0], dealt[1:]), "test": f"outcomes dealt anew {deals} times"}
    if not 0 < folds <= MOST_FOLDS:
        why = f"{folds} folds: without refits no test is known to hold above {MOST_FOLDS}; give `refit`"
        return {**found, "p_predictor": np.nan, "test": why}
    if isinstance(score, FittedScores) and columns:
        return {**found, "p_predictor": _cleaned_p(learners, held, score), "test": "halved, clinical part taken out"}
    return {**found, "p_predictor": float(predictor_p(p, ratio["hazard_ratio"])), "test": "halved"}


def _in_order(learners: pd.DataFrame) -> pd.DataFrame:
    return learners.set_index("patient_id", drop=False).sort_values(["time_months", "event"], kind="stable")


def _cleaned_p(learners: pd.DataFrame, held: pd.DataFrame, score: FittedScores) -> float:
    """Return the one-sided p of the score less what the columns tell of it, its chi-square halved."""
    rows = _in_order(learners)
    names = sorted(score.nested)
    nested = [score.nested[k].reindex(rows.index).to_numpy(float) for k in names]
    columns = held.loc[rows.index].to_numpy(float)
    places = rows["fold"].map({k: place for place, k in enumerate(names)}).to_numpy(int)
    left = less_told(score.cross_fitted[rows.index].to_numpy(float), nested, columns, places)
    z = added_z(rows["time_months"], rows["event"], columns[None], left[None])[0]
    return float(norm.sf(z / np.sqrt(2)))


def _dealt_z(
    learners: pd.DataFrame,
    held: pd.DataFrame,
    score: pd.Series,
    refit: Refit,
    deals: int,
    folds_stay: bool,
    seed: int,
    n_jobs: int,
) -> np.ndarray:
    """Return the signed score test of the score as it is, and of those refitted to outcomes dealt anew."""
    if deals < FEWEST_DEALS:
        raise ValueError(f"deals is {deals}; allowed: {FEWEST_DEALS} or more; 99 give p in steps of 0.01")
    rows = learners.set_index("patient_id", drop=False)
    again = refit(learners)
    if np.corrcoef(again[rows.index], score[rows.index])[0, 1] < 0.999:
        raise ValueError("refit gives other scores than those to be tested: it must repeat all that made them")
    columns = held.loc[rows.index].to_numpy(float)
    hazard = shrunken_log_hazard(rows["time_months"], rows["event"], columns)
    dealt = deal_outcomes(rows["time_months"], rows["event"], hazard, count=deals, seed=seed)
    plan = [np.arange(len(rows)), *dealt]
    worlds = [_with_outcomes(learners, order, folds_stay) for order in plan]
    scores = [score, *work_on((delayed(refit)(world) for world in worlds[1:]), n_jobs)]
    ordered = [_in_order(world) for world in worlds]
    placed = np.array([held.loc[each.index].to_numpy(float) for each in ordered])
    ranked = np.array([s[each.index].to_numpy(float) for s, each in zip(scores, ordered, strict=True)])
    return added_z(ordered[0]["time_months"], ordered[0]["event"], placed, ranked)


def _with_outcomes(learners: pd.DataFrame, order: np.ndarray, folds_stay: bool) -> pd.DataFrame:
    """Give every patient the outcome, and unless it stays the fold, of the row that `order` names."""
    moved = ["time_months", "event", *([] if folds_stay else ["fold"])]
    return learners.assign(**{name: learners[name].to_numpy()[order] for name in moved})


def log_hazard(model: CoxModel, rows: pd.DataFrame) -> pd.Series:
    """Return the linear predictor behind score rows, whose risk is the image score where nothing else enters."""
    if model.terms != [IMAGE_SCORE]:
        return rows["risk"]
    return model.risk(rows[["risk"]].rename(columns={"risk": IMAGE_SCORE}))


FUSED = {"Clinical": "", "DLCM": "DL", "RSCM": "Rad"}  # model to the image model whose score it takes
