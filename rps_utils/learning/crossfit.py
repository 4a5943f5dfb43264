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

Every score travels with the names of the models that made it, ``DL without 0`` for example. The audit
(`rps_utils.ledger`) asks of each of them whom it had seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from joblib import delayed
from numpy.typing import ArrayLike
from scipy.stats import chi2

from rps_utils.machine.engines import work_on

LeftOut = tuple[int, ...]
UNNAMED = "an unnamed model"  # of scores without provenance; no ledger knows it, so the audit objects


class MadeScore(NamedTuple):
    """Risk scores and, beside each, the names of the fitted models that made it, joined by ``+``."""

    risk: pd.Series
    made_by: pd.Series


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
    made_by : dict
        Kind, or outer fold of nested scores, to a Series of names of the models that made the scores.
    """

    apparent: pd.Series
    cross_fitted: pd.Series
    validation: pd.Series
    nested: dict[int, pd.Series]
    made_by: dict[str | int, pd.Series] = field(default_factory=dict)

    def part(self, kind: str | int) -> MadeScore:
        """Return the scores of a kind, or the nested ones of an outer fold, with the names of their makers."""
        risk = self.nested[kind] if isinstance(kind, int) else getattr(self, kind)
        return MadeScore(risk, self.made_by.get(kind, pd.Series(UNNAMED, index=risk.index)))


def object_name(model: str, left_out: LeftOut) -> str:
    """Name a fitted model by what it left out: ``DL without 0,1``, or ``DL from all``."""
    return f"{model} without {','.join(map(str, left_out))}" if left_out else f"{model} from all"


def cox_name(model: str) -> str:
    """Name the Cox models of a row of the score table: they turn an image score into LRFS, or fuse it."""
    return f"{model} Cox"


def leave_out_sets(folds: int, *, whole: bool = True) -> list[LeftOut]:
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


class Scale(NamedTuple):
    """Mean and (population) SD of the raw risks of one model in the patients it learned from."""

    mean: float
    sd: float

    def apply(self, raw: pd.Series) -> pd.Series:
        """Return raw risks of the same model, of anybody, in SD from the mean of those it learned from."""
        return (raw - self.mean) / self.sd


def learned_scale(raw: pd.Series, learned_from: pd.Index) -> Scale:
    """Return location and scale of the raw risks of one model; kept with the model, they place new patients.

    Parameters
    ----------
    raw : Series
        Raw risk of one model by ``patient_id``.
    learned_from : Index
        Patients it learned from.

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
    return Scale(float(mean), float(spread))


def standardise(raw: pd.Series, learned_from: pd.Index) -> pd.Series:
    """Centre and scale raw risks of one model by the patients it learned from; see `learned_scale`."""
    return learned_scale(raw, learned_from).apply(raw)


@dataclass(frozen=True)
class Ensemble:
    """How the networks of one left-out set become one score: plain numbers, kept beside the networks.

    Attributes
    ----------
    left_out : tuple of int
    networks : dict of str to Scale
        File of a network to the scale of its raw risks.
    scale : Scale
        Of the mean of the networks.
    """

    left_out: LeftOut
    networks: dict[str, Scale]
    scale: Scale

    def score(self, raw: Mapping[str, pd.Series]) -> pd.Series:
        """Return the standardised risk of patients, given the raw risk by each network (file to Series)."""
        return self.scale.apply(_mean_placed(raw, self.networks))


def learn_ensemble(left_out: LeftOut, raw: Mapping[str, pd.Series], learned_from: pd.Index) -> Ensemble:
    """Learn the scales of networks that share a left-out set, and of their mean, from the patients they saw."""
    networks = {file: learned_scale(raw[file], learned_from) for file in sorted(raw)}
    return Ensemble(left_out, networks, learned_scale(_mean_placed(raw, networks), learned_from))


def _mean_placed(raw: Mapping[str, pd.Series], networks: Mapping[str, Scale]) -> pd.Series:
    return pd.concat([networks[file].apply(raw[file]) for file in sorted(networks)], axis=1).mean(axis=1)


def read_ensembles(stored: Sequence[Mapping]) -> dict[LeftOut, Ensemble]:
    """Return ensembles by left-out set, from a list of ``asdict(ensemble)``."""
    return {
        tuple(e["left_out"]): Ensemble(
            tuple(e["left_out"]), {file: Scale(*s) for file, s in e["networks"].items()}, Scale(*e["scale"])
        )
        for e in stored
    }


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
    raw = work_on((delayed(fit_and_score)(ids) for ids in learning), n_jobs)
    return {left_out: standardise(r, ids) for left_out, ids, r in zip(left_out_sets, learning, raw, strict=True)}


def assemble(cohort: pd.DataFrame, scores: Mapping[LeftOut, pd.Series], model: str = "image model") -> FittedScores:
    """Put together apparent, cross-fitted, validation and nested scores.

    Parameters
    ----------
    cohort : DataFrame
        With ``patient_id``, ``split`` and ``fold``.
    scores : mapping
        Left-out set to standardised risk of every patient. Without ``()``, apparent and validation scores
        are the mean over those fold models that saw, respectively could not have seen, the patient.
    model : str
        Name of the family, ``DL`` for example; its members are named by `object_name`.

    Returns
    -------
    FittedScores
    """
    fold = cohort.loc[cohort["split"] == "training"].set_index("patient_id")["fold"].astype(int)
    folds = [int(k) for k in sorted(fold.unique())]
    new = pd.Index(cohort.loc[cohort["split"] == "validation", "patient_id"])

    def beside(k: int) -> pd.Series:
        return _each(fold[fold != k].index, lambda i: [tuple(sorted((k, fold[i])))])

    used: dict[str | int, pd.Series] = {
        "apparent": _each(fold.index, lambda i: [(k,) for k in folds if k != fold[i]], () in scores),
        "cross_fitted": _each(fold.index, lambda i: [(fold[i],)]),
        **{k: beside(k) for k in folds},
    }
    made = {kind: _score_by(scores, sets, model) for kind, sets in used.items()}
    made["validation"] = score_new(scores, new, model)
    return FittedScores(
        apparent=made["apparent"].risk,
        cross_fitted=made["cross_fitted"].risk,
        validation=made["validation"].risk,
        nested={k: made[k].risk for k in folds},
        made_by={kind: score.made_by for kind, score in made.items()},
    )


def score_new(scores: Mapping[LeftOut, pd.Series], patients: pd.Index, model: str = "image model") -> MadeScore:
    """Score patients whom no model saw.

    Parameters
    ----------
    scores : mapping
        Left-out set to standardised risk of these patients.
    patients : Index
    model : str
        Name of the family.

    Returns
    -------
    MadeScore
        By the model of all training patients where there is one, else the mean over the fold models.
    """
    singles: list[LeftOut] = sorted(left_out for left_out in scores if len(left_out) == 1)
    return _score_by(scores, _each(patients, lambda _: singles, () in scores), model)


def _each(patients: pd.Index, choose: Callable[[str], list[LeftOut]], whole: bool = False) -> pd.Series:
    """Return for each patient the models to be used; the one of all training patients if `whole`."""
    return pd.Series([[()] if whole else choose(i) for i in patients], index=patients, dtype=object)


def _score_by(scores: Mapping[LeftOut, pd.Series], used: pd.Series, model: str) -> MadeScore:
    risk = [sum(scores[left_out][i] for left_out in sets) / len(sets) for i, sets in used.items()]
    names = ["+".join(object_name(model, left_out) for left_out in sets) for sets in used]
    return MadeScore(pd.Series(risk, used.index, float), pd.Series(names, used.index, object))


MOST_FOLDS = 5  # up to which the halved chi-square was seen to hold, whatever the learner (docs/statistics.md)


def correct_p(p: ArrayLike) -> np.ndarray:
    """Correct two-sided p-values of a cross-fitted score's coefficient: its chi-square is halved.

    A Wald or likelihood-ratio test with one degree of freedom takes the score as given. But what fold k taught the
    score of fold l, and fold l that of fold k, is one coincidence met twice: without any signal each pair of folds
    is counted doubly, and the chi-square is twice what the test believes. For learners that weigh patients
    symmetrically (a sum of products over pairs) that is so whatever the number of folds. A learner that selects
    makes more of the same coincidence the more alike the fold models are: the halved test holds up to `MOST_FOLDS`
    folds and rings too often with ten or twenty (docs/statistics.md has the table).

    Parameters
    ----------
    p : array_like
        Of tests with one degree of freedom in the patients whose cross-fitted scores were used. NaN stays NaN.

    Returns
    -------
    ndarray
        Never smaller than `p`.
    """
    return chi2.sf(chi2.isf(np.asarray(p, float), 1) / 2, 1)


def predictor_p(p: ArrayLike, hazard_ratio: ArrayLike) -> np.ndarray:
    """Return one-sided p-values of the claim that a higher cross-fitted score means earlier recurrence.

    The claim has a direction, and needs a test that has one. Where the image also tells covariates that are held
    fixed, what is left of a cross-fitted score leans *against* its own patients: the covariates were fitted with
    them, the score without. Without any signal a two-sided test then rings too often, with hazard ratios below 1,
    and a one-sided one too seldom: it loses power. `fusion.independent_predictor` takes the lean away where it can.

    Parameters
    ----------
    p : array_like
        Two-sided, plain: see `correct_p`, which is applied here. Of scores from at most `MOST_FOLDS` folds.
    hazard_ratio : array_like
        Of the score; above 1 = earlier recurrence.
    """
    half = correct_p(p) / 2
    return np.where(np.asarray(hazard_ratio, float) > 1, half, 1 - half)


def nested_table(fitted: FittedScores) -> pd.DataFrame:
    """Return the nested scores as a table: ``patient_id, outer_fold, risk, made_by``."""
    parts = {k: fitted.part(k) for k in fitted.nested}
    rows = [
        pd.DataFrame({"patient_id": risk.index, "outer_fold": k, "risk": risk.values, "made_by": names.values})
        for k, (risk, names) in parts.items()
    ]
    return pd.concat(rows, ignore_index=True)


def fitted_scores(scores: pd.DataFrame, nested: pd.DataFrame) -> FittedScores:
    """Read back what `assemble` made from the two tables in which it is stored.

    Parameters
    ----------
    scores : DataFrame
        Score table of one model: ``patient_id, kind, risk`` and, if known, ``made_by``.
    nested : DataFrame
        ``patient_id, outer_fold, risk`` and, if known, ``made_by``.
    """
    parts: dict[str | int, pd.DataFrame] = {
        **{kind: rows.set_index("patient_id") for kind, rows in scores.groupby("kind")},
        **{int(k): rows.set_index("patient_id") for k, rows in nested.groupby("outer_fold")},
    }
    return FittedScores(
        apparent=parts["apparent"]["risk"],
        cross_fitted=parts["cross_fitted"]["risk"],
        validation=parts["validation"]["risk"],
        nested={kind: rows["risk"] for kind, rows in parts.items() if isinstance(kind, int)},
        made_by={kind: _makers_of_risk(rows) for kind, rows in parts.items() if "made_by" in rows},
    )


def _makers_of_risk(rows: pd.DataFrame) -> pd.Series:
    """Leave out the Cox model that turned the score into LRFS: it had no part in the risk."""
    own = tuple(f"{cox_name(model)} " for model in set(rows.get("model", ())))
    names = rows["made_by"].fillna(UNNAMED).str.split("+")
    return names.map(lambda makers: "+".join(name for name in makers if not name.startswith(own)))
