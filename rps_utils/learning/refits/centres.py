"""Cox models refitted without each centre in turn, to judge it: internal-external validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from rps_utils.learning.crossfit import FittedScores
from rps_utils.learning.fusion import FusionPlan, cox_scores
from rps_utils.texts.counts import how_many

FEWEST_CENTRES = 3  # two must remain to learn what patients of several centres have in common


def why_not_by_centre(cohort: pd.DataFrame, column: str) -> str:
    """Say why the training patients cannot be judged centre by centre; an empty text means that they can."""
    if column not in cohort:
        return f"the manifest has no column {column}: nobody can be judged by a model that had not seen the centre"
    named = cohort.loc[cohort["split"] == "training", column].dropna().nunique()
    return (
        f"{column} names {how_many(named, 'centre')} in training, fewer than {FEWEST_CENTRES}"
        if named < FEWEST_CENTRES
        else ""
    )


def left_out_scores(
    cohort: pd.DataFrame,
    plan: FusionPlan,
    image: FittedScores | None,
    landmarks: Sequence[float],
    column: str = "centre",
) -> pd.DataFrame:
    """Score the training patients of each centre by a Cox model that learned from the other centres only.

    Parameters
    ----------
    cohort : DataFrame
        ``patient_id, split, time_months, event``, `column` and the clinical columns. Validation patients take no part,
        nor do those whose centre is not known.
    plan : FusionPlan
    image : FittedScores or None
        Image scores, taken as they are: cross-fitted, but by image models that may have seen other patients of the
        centre. With folds by centre they have not, and the cross-fitted rows of the run are the answer themselves.
    landmarks : sequence of float
        Months.
    column : str
        Names the centre.

    Returns
    -------
    DataFrame
        Rows of kind ``cross_fitted``, see `cox_scores`; imputation and levels are learned without the centre too.

    Raises
    ------
    ValueError
        See `why_not_by_centre`.

    References
    ----------
    Royston, Parmar & Sylvester, Stat Med 2004; Debray et al., Stat Med 2013; Steyerberg & Harrell, J Clin Epidemiol
    2016.
    """
    if why := why_not_by_centre(cohort, column):
        raise ValueError(why)
    taking = cohort[(cohort["split"] == "training") & cohort[column].notna()]
    place = {name: k for k, name in enumerate(sorted(taking[column].unique()))}
    folded = taking.assign(fold=taking[column].map(place))
    if image is not None:
        # The model that judges a centre learns from the cross-fitted scores of all others.
        image = replace(image, nested=dict.fromkeys(place.values(), image.cross_fitted), made_by={})
    scores, _ = cox_scores(folded, plan, image, landmarks)
    return scores[scores["kind"] == "cross_fitted"].reset_index(drop=True)
