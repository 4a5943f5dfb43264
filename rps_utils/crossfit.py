"""Cross-fitting: every training patient is scored by models that never saw the patient.

A model is named by the folds that were left out when it learned: ``()`` saw every training patient,
``(k,)`` all but fold k, ``(k, l)`` all but folds k and l. From these alone come four kinds of score:

apparent
    by models that learned from the patient: what a resubstitution analysis would report;
cross_fitted
    fold k by the model ``(k,)``;
validation
    patients of the validation split, seen by no model;
nested
    for outer fold k, the patients of fold l by the model ``(k, l)``: what a second model, itself to be
    judged on fold k, may learn from. Without it a fusion model would be fitted on scores of networks that
    had seen the very patients it is judged on.

Raw outputs of different models differ in location and scale, so each model's scores are standardised by the
mean and SD of its own training patients before they are put side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import pandas as pd
from joblib import Parallel, delayed

LeftOut = tuple[int, ...]


@dataclass(frozen=True)
class FittedScores:
    """Risk scores of one model family (no unit; higher = earlier recurrence), indexed by ``patient_id``.

    Attributes
    ----------
    apparent, cross_fitted : pandas.Series
        Scores of the training patients.
    validation : pandas.Series
        Scores of the validation patients.
    nested : dict of int to pandas.Series
        For each outer fold, the scores of the training patients outside it.
    """

    apparent: pd.Series
    cross_fitted: pd.Series
    validation: pd.Series
    nested: dict[int, pd.Series]


def leave_out_sets(folds: int, whole: bool = True) -> list[LeftOut]:
    """Name the models that cross-fitting needs.

    Parameters
    ----------
    folds : int
        Number of folds K, at least 3 (with two, a nested model would have nobody to learn from).
    whole : bool
        Also fit one model on every training patient. Without it the validation patients are scored by the
        mean of the K fold models.

    Returns
    -------
    list of tuple of int
        ``()`` if `whole`, the K single folds, the K(K-1)/2 pairs.
    """
    if folds < 3:
        raise ValueError(f"folds = {folds}: nested cross-fitting needs at least 3")
    singles = [(k,) for k in range(folds)]
    return [()] * whole + singles + list(combinations(range(folds), 2))


def learning_patients(cohort: pd.DataFrame, left_out: LeftOut) -> pd.Index:
    """Return the ids of the training patients outside the folds `left_out`.

    Parameters
    ----------
    cohort : DataFrame
        With ``patient_id``, ``split`` and ``fold`` (0..K-1 in training).
    left_out : tuple of int
        Folds whose patients the model must not see.
    """
    learns = (cohort["split"] == "training") & ~cohort["fold"].isin(left_out)
    return pd.Index(cohort.loc[learns, "patient_id"])


def standardise(raw: pd.Series, learned_from: pd.Index) -> pd.Series:
    """Centre and scale raw risks of one model by the patients it learned from.

    Raises
    ------
    ValueError
        A raw risk is not finite, or all learning patients have the same risk: such a model ranks nobody.
    """
    if not raw.notna().all() or not raw.abs().lt(float("inf")).all():
        raise ValueError(
            "a model gave a risk that is not a finite number: lower the learning rate or the number of terms"
        )
    mean, spread = raw[learned_from].mean(), raw[learned_from].std(ddof=0)
    if not spread > 1e-12 * max(1.0, abs(mean)):
        raise ValueError("a model gave every patient it learned from the same risk: it has learned nothing to rank by")
    return (raw - mean) / spread


def score_left_out(
    cohort: pd.DataFrame,
    left_out_sets: Sequence[LeftOut],
    fit_and_score: Callable[[pd.Index], pd.Series],
    n_jobs: int = 1,
) -> dict[LeftOut, pd.Series]:
    """Fit one model a left-out set and return its standardised risk of every patient.

    Parameters
    ----------
    cohort : DataFrame
        With ``patient_id``, ``split`` and ``fold``.
    left_out_sets : sequence of tuple of int
        From `leave_out_sets`.
    fit_and_score : callable
        Gets the ids to learn from; returns the raw risk of every patient of the cohort, indexed by id.
        Scaling, imputation and selection belong inside it.
    n_jobs : int
        Processes.

    Returns
    -------
    dict
        Left-out set to Series of standardised risk (higher = earlier recurrence).
    """
    learning = [learning_patients(cohort, left_out) for left_out in left_out_sets]
    raw = Parallel(n_jobs=n_jobs)(delayed(fit_and_score)(ids) for ids in learning)
    return {left_out: standardise(r, ids) for left_out, ids, r in zip(left_out_sets, learning, raw, strict=True)}


def assemble(cohort: pd.DataFrame, scores: Mapping[LeftOut, pd.Series]) -> FittedScores:
    """Put together apparent, cross-fitted, validation and nested scores.

    Parameters
    ----------
    cohort : DataFrame
        With ``patient_id``, ``split`` and ``fold``.
    scores : mapping
        Left-out set to standardised risk of every patient. Without ``()``, apparent and validation scores
        are the mean over those fold models that saw, respectively could not have seen, the patient.

    Returns
    -------
    FittedScores
    """
    fold = cohort.loc[cohort["split"] == "training"].set_index("patient_id")["fold"].astype(int)
    folds = sorted(fold.unique())
    table = pd.DataFrame({k: scores[(k,)] for k in folds})
    own = pd.DataFrame({k: fold == k for k in folds})
    training = table.loc[fold.index]
    validation_ids = cohort.loc[cohort["split"] == "validation", "patient_id"]
    everyone = scores.get((), table.mean(axis=1))
    return FittedScores(
        apparent=everyone[fold.index] if () in scores else training.mask(own).mean(axis=1),
        cross_fitted=training.where(own).sum(axis=1),
        validation=everyone[validation_ids],
        nested={k: _nested_scores(fold, k, scores) for k in folds},
    )


def _nested_scores(fold: pd.Series, outer: int, scores: Mapping[LeftOut, pd.Series]) -> pd.Series:
    inner = fold[fold != outer]
    return pd.concat([scores[tuple(sorted((outer, k)))][ids.index] for k, ids in inner.groupby(inner)])[inner.index]


def nested_table(fitted: FittedScores) -> pd.DataFrame:
    """Return the nested scores as a table: ``patient_id, outer_fold, risk``."""
    rows = [pd.DataFrame({"patient_id": s.index, "outer_fold": k, "risk": s.values}) for k, s in fitted.nested.items()]
    return pd.concat(rows, ignore_index=True)


def fitted_scores(scores: pd.DataFrame, nested: pd.DataFrame) -> FittedScores:
    """Read back what `assemble` made from the two tables in which it is stored.

    Parameters
    ----------
    scores : DataFrame
        Score table of one model: ``patient_id, kind, risk``.
    nested : DataFrame
        ``patient_id, outer_fold, risk``.
    """
    by_kind = {kind: rows.set_index("patient_id")["risk"] for kind, rows in scores.groupby("kind")}
    by_fold = {int(k): rows.set_index("patient_id")["risk"] for k, rows in nested.groupby("outer_fold")}
    return FittedScores(by_kind["apparent"], by_kind["cross_fitted"], by_kind["validation"], by_fold)
