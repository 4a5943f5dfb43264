"""The pipeline tried many times over on synthetic cohorts whose truth is known.

One cohort of 115 patients shows one draw of luck. Here the same honest pipeline runs on hundreds of cohorts, so
that what is luck, what is optimism and what is signal can be told apart.

Rendering a CT costs most. So a *pool* of synthetic patients is rendered once; each replicate draws its patients
from the pool and *new* outcomes for them, from the hazard of the variant asked for. The image of a patient does
not depend on the variant, so one pool serves them all. In ``decoupled`` each patient gets the image of another
patient of the pool, who is not in the cohort. In ``confounded`` noise and kernel of the scan, as rendered, decide
the accrual date.

Limits. Replicates share patients of the pool, so they are not fully independent, and a standard error taken from
their spread is a little too small; outcomes, splits, folds and seeds are drawn anew. Radiomic features are those
of the unfiltered image only, at 3 mm; networks are small ones (`QUICK_NETWORK`). Everything is synthetic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from rps_utils.cohort.splits import draw_folds, draw_split
from rps_utils.intervals.cutoffs import apply_cutoff, logrank_scan, median_cutoff
from rps_utils.intervals.resampling import c_interval, resample_counts
from rps_utils.lab.phantom.patients import VARIANTS, draw_outcome, true_log_hazard, uniform_streams
from rps_utils.lab.studies.pool import PATCHES, Pool
from rps_utils.lab.studies.tables import Rows, grow_table, short
from rps_utils.learning.cox import fit_cox, fit_lifelines, hazard_ratios, likelihood_ratio_p
from rps_utils.learning.crossfit import FittedScores, assemble, leave_out_sets, score_left_out
from rps_utils.learning.fusion import FusionPlan, cox_scores, terms_of
from rps_utils.learning.radiomics import fit_radiomic_model
from rps_utils.survival.concordance import harrell_c
from rps_utils.survival.curves import logrank

# Half as many filters as the default network: many hundreds are trained here.
QUICK_NETWORK: dict[str, Any] = {"network": "region", "network_options": {"widths": (4, 4)}}
SCORE_KINDS = ("apparent", "cross_fitted", "validation")
FUSED_WITH = {"DL": "DLCM", "Rad": "RSCM"}
TRAINING_SHARE = 0.75
TRUTH_DRAWS = 5
SETTINGS = ("patients", "folds", "epochs", "reserve", "seed")
REPLICATE_COLUMNS = [
    *("variant", "replicate", *SETTINGS, "training_events", "validation_patients", "validation_events", "model"),
    *("c_apparent", "c_cross_fitted", "c_validation", "c_low", "c_high", "c_true"),
    *("km_p_training", "km_p", "km_p_recut"),
    *(f"{value}{unit}_{kind}" for kind in SCORE_KINDS[:2] for unit in ("", "_high") for value in ("hr", "p", "lrt_p")),
    "note",
]


@dataclass(frozen=True)
class StudySettings:
    """What a replicate consists of.

    Attributes
    ----------
    patients : int
        Training and validation together; 115 gives 86 and 29.
    folds : int
        Folds of the cross-fitting.
    epochs : int
        Of the networks; 0 leaves out DL and DLCM.
    reserve : int
        Further patients of the pool, in no split, on whom the true C of each frozen score is approximated.
    clinical_columns, ridge
        As in the notebooks of the clinical model and of the fusion.
    resamples : int
        Of the interval of C.
    seed : int
        Decides patients, outcomes, split, folds and networks of every replicate.
    """

    patients: int = 115
    folds: int = 5
    epochs: int = 0
    reserve: int = 200
    clinical_columns: tuple[str, ...] = ("age", "size_cm", "histology", "grade", "multifocal", "margin")
    ridge: float = 0.1
    resamples: int = 1000
    seed: int = 2026

    def identity(self) -> tuple[int, ...]:
        """Return what tells the rows of one table apart, the values of `SETTINGS`."""
        return tuple(getattr(self, name) for name in SETTINGS)


@dataclass(frozen=True)
class Replicate:
    """A cohort drawn from the pool, what its images hold, and the reserve.

    Attributes
    ----------
    cohort : DataFrame
        ``patient_id, split, fold, time_months, event, eta``, clinical columns. The reserve stands in the
        validation split, so that it is scored by frozen models like any new patient; ``reserve`` marks it.
    patches, features, regional
        As in `Pool`, in the order of the cohort.
    later : list of DataFrame
        Further draws of ``time_months, event`` for the reserve.
    seed : int
        Of everything random in this replicate.
    """

    cohort: pd.DataFrame
    patches: np.ndarray
    features: pd.DataFrame
    later: list[pd.DataFrame]
    seed: int
    regional: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def training(self) -> pd.DataFrame:
        """Return the training patients."""
        return self.cohort[self.cohort["split"] == "training"]

    @property
    def validation(self) -> pd.DataFrame:
        """Return the validation patients, without the reserve."""
        return self.cohort[(self.cohort["split"] == "validation") & ~self.cohort["reserve"]]


def draw_replicate(pool: Pool, variant: str, number: int, settings: StudySettings) -> Replicate:
    """Draw patients from the pool, new outcomes by the hazard of a variant, split and folds.

    Parameters
    ----------
    pool : Pool
    variant : str
        A name in `phantom_patients.VARIANTS`. The same number has the same patients in all variants.
    number : int
        Of the replicate, from 0.
    settings : StudySettings

    Raises
    ------
    ValueError
        The pool is too small for cohort and reserve.
    """
    size = settings.patients + settings.reserve
    if size > len(pool.patients) or 2 * settings.patients > len(pool.patients):
        raise ValueError(
            f"a pool of {len(pool.patients)} is too small for {settings.patients} patients, as many strangers, and "
            f"{settings.reserve} in reserve: render a larger pool, or lower patients or reserve"
        )
    order = np.random.default_rng([settings.seed, number]).permutation(len(pool.patients))
    images = order if VARIANTS[variant].own_image else np.roll(order, -(len(order) // 2))
    people = pool.patients.iloc[order[:size]].reset_index(drop=True)
    seeds = np.random.SeedSequence([settings.seed, number]).generate_state(2 + TRUTH_DRAWS)
    cohort = with_outcome(people, variant, int(seeds[1])).assign(reserve=np.arange(size) >= settings.patients)
    cohort["split"] = split_with_reserve(cohort, int(seeds[0]))
    cohort["fold"] = draw_folds(cohort, settings.folds, int(seeds[0]))
    later = [with_outcome(people, variant, int(s))[cohort["reserve"]] for s in seeds[2:]]
    features = pool.features.iloc[images[:size]].set_index(pd.Index(cohort["patient_id"]))
    own = pd.Index(cohort["patient_id"])
    regional = pool.regional.iloc[images[:size]].set_index(own) if len(pool.regional) else pd.DataFrame(index=own)
    return Replicate(cohort, pool.patches[images[:size]], features, later, int(seeds[0]), regional)


def with_outcome(people: pd.DataFrame, variant: str, seed: int) -> pd.DataFrame:
    """Return the patients with ``eta, time_months, event`` drawn for a variant."""
    draws = uniform_streams(len(people), seed)
    if VARIANTS[variant].era:
        draws["accrual"] = people["scanner"].to_numpy()
    people = people.assign(eta=true_log_hazard(people, draws, VARIANTS[variant]))
    time, event = draw_outcome(people, draws, variant, "lr", visit_grid=True)
    return people.assign(time_months=time, event=event)


def split_with_reserve(cohort: pd.DataFrame, seed: int) -> np.ndarray:
    """Return the split of the cohort; the reserve counts as validation."""
    split = np.full(len(cohort), "validation", dtype=object)
    own = ~cohort["reserve"].to_numpy()
    split[own] = draw_split(cohort.loc[own, "event"], seed, training_share=TRAINING_SHARE)
    return split


Kinds = dict[str, pd.Series]


def score_replicate(draw: Replicate, settings: StudySettings) -> dict[str, Kinds | str]:
    """Fit every model of a replicate.

    Returns
    -------
    dict
        Model to its risks by kind (``apparent, cross_fitted, validation``), or to the reason why there are none.
        ``DLCM in-sample`` and ``RSCM in-sample`` are the shortcut: fused on the apparent image score, without a
        cross-fitted kind. ``Oracle`` is the true log hazard.
    """
    scores: dict[str, Kinds | str] = {"Clinical": _attempt(partial(fuse, draw, settings, None))}
    learners = {"Rad": radiomic_scores} | ({"DL": fold_network_scores} if settings.epochs else {})
    for name, learn in learners.items():
        image = _attempt(partial(learn, draw, settings))
        failed = isinstance(image, str)
        scores[name] = image if failed else {kind: getattr(image, kind) for kind in SCORE_KINDS}
        fused = FUSED_WITH[name]
        scores[fused] = image if failed else _attempt(partial(fuse, draw, settings, image))
        shortcut = f"{fused} in-sample"
        scores[shortcut] = image if failed else _attempt(partial(fuse_in_sample, draw, settings, image))
    eta = draw.cohort.set_index("patient_id")["eta"]
    learned = draw.cohort["split"].to_numpy() == "training"
    return scores | {"Oracle": {"cross_fitted": eta[learned], "validation": eta[~learned]}}


def _attempt(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except ValueError as error:  # too few events for a fit: an outcome of the study, kept in words
        return str(error)


def radiomic_scores(draw: Replicate, settings: StudySettings) -> FittedScores:
    """Return the scores of LASSO-Cox models on the radiomic features, nested included."""

    def fit_and_score(ids: pd.Index) -> pd.Series:
        learners = draw.cohort.set_index("patient_id").loc[ids]
        model = fit_radiomic_model(draw.features.loc[ids], learners, seed=draw.seed % 2**31)
        return pd.Series(model.risk(draw.features), draw.features.index)

    return assemble(draw.cohort, score_left_out(draw.cohort, leave_out_sets(settings.folds), fit_and_score), "Rad")


def fold_network_scores(draw: Replicate, settings: StudySettings) -> FittedScores:
    """Return the scores of `QUICK_NETWORK`, one seed a fold, trained for `settings.epochs`."""
    from rps_utils.deep.folds import fit_fold_networks
    from rps_utils.deep.training import TrainingSettings

    recipe = TrainingSettings(
        **QUICK_NETWORK, epochs=settings.epochs, seed=draw.seed, intensity_channels=PATCHES.hu_channels()
    )
    left_out = leave_out_sets(settings.folds, whole=False)
    with TemporaryDirectory() as folder:
        return assemble(draw.cohort, fit_fold_networks(draw.patches, draw.cohort, left_out, recipe, folder), "DL")


def fuse(draw: Replicate, settings: StudySettings, image: FittedScores | None) -> Kinds:
    """Return the risks of a Cox model on clinical columns and, if given, the cross-fitted image score."""
    plan = FusionPlan("fused", settings.clinical_columns, settings.ridge)
    rows, _ = cox_scores(draw.cohort, plan, image, [])
    return {kind: part.set_index("patient_id")["risk"] for kind, part in rows.groupby("kind")}


def fuse_in_sample(draw: Replicate, settings: StudySettings, image: FittedScores) -> Kinds:
    """Return the risks of a Cox model on the image score that had learned from the same patients."""
    plan = FusionPlan("fused", settings.clinical_columns, settings.ridge)
    training, new = draw.training, draw.cohort[draw.cohort["split"] == "validation"]
    matrix = terms_of(plan, training, training, image.apparent)
    model = fit_cox(matrix, training, plan.ridge)
    return {"apparent": model.risk(matrix), "validation": model.risk(terms_of(plan, training, new, image.validation))}


def measure_replicate(pool: Pool, variant: str, number: int, settings: StudySettings) -> list[dict[str, Any]]:
    """Run one replicate and return its rows, one a model; see `REPLICATE_COLUMNS` for what they hold."""
    draw = draw_replicate(pool, variant, number, settings)
    about = {"variant": variant, "replicate": number, **{name: getattr(settings, name) for name in SETTINGS}}
    about |= {
        "training_events": int(draw.training["event"].sum()),
        "validation_patients": len(draw.validation),
        "validation_events": int(draw.validation["event"].sum()),
    }
    rows = []
    for model, scores in score_replicate(draw, settings).items():
        found = {"note": scores} if isinstance(scores, str) else measure_model(draw, settings, model, scores)
        rows.append({**about, "model": model, **{k: short(v) for k, v in found.items()}})
    return rows


def measure_model(draw: Replicate, settings: StudySettings, model: str, scores: Kinds) -> dict[str, Any]:
    """Return C by kind with the truth, the risk groups in validation, and for image scores the adjusted HR."""
    if np.ptp(scores["validation"]) == 0:
        return {"note": "the score is the same for everybody"}
    found = concordances(draw, scores, settings.resamples) | risk_groups(draw, scores)
    if model in FUSED_WITH:
        for kind in ("cross_fitted", "apparent"):
            found |= _attempt_dict(partial(adjusted, draw, settings, scores[kind], kind))
    return found


def _attempt_dict(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    result = _attempt(work)
    return {"note": result} if isinstance(result, str) else result


def concordances(draw: Replicate, scores: Kinds, resamples: int) -> dict[str, float]:
    """Return C of each kind, the interval of validation's, and C in many new patients, nearly the truth."""
    outcome = draw.cohort.set_index("patient_id")
    found = {f"c_{kind}": _c(outcome.loc[risk.index], risk) for kind, risk in scores.items() if kind != "validation"}
    ids = draw.validation["patient_id"]
    counts = resample_counts(len(ids), replicates=resamples, seed=draw.seed)
    estimate = c_interval(
        draw.validation["time_months"], draw.validation["event"], scores["validation"][ids], counts=counts
    )
    truth = [_c(later, scores["validation"][later["patient_id"]]) for later in draw.later]
    limits = {"c_validation": estimate.value, "c_low": estimate.ci_low, "c_high": estimate.ci_high}
    return found | limits | {"c_true": float(np.mean(truth)) if truth else np.nan}


def _c(outcome: pd.DataFrame, risk: pd.Series) -> float:
    return float(harrell_c(outcome["time_months"], outcome["event"], risk))


def risk_groups(draw: Replicate, scores: Kinds) -> dict[str, float]:
    """Return log-rank p-values of high against low risk.

    The cut-off is the median of the training scores, cross-fitted where there are such. ``km_p_recut`` is the
    mistake: the cut-off with the smallest p in the validation patients themselves, among those that leave a tenth
    on either side.
    """
    learned = scores["cross_fitted" if "cross_fitted" in scores else "apparent"]
    cutoff = median_cutoff(learned)
    new, risk = draw.validation, scores["validation"][draw.validation["patient_id"]]
    outcome = draw.cohort.set_index("patient_id").loc[learned.index]
    return {
        "km_p_training": logrank(outcome["time_months"], outcome["event"], apply_cutoff(learned, cutoff)).p,
        "km_p": logrank(new["time_months"], new["event"], apply_cutoff(risk, cutoff)).p,
        "km_p_recut": logrank_scan(new["time_months"], new["event"], risk).p_naive,
    }


def adjusted(draw: Replicate, settings: StudySettings, score: pd.Series, kind: str) -> dict[str, float]:
    """Return hazard ratio, Wald p and likelihood-ratio p of an image score beside the clinical columns.

    Training patients, no penalty. The score enters per SD, and as high against low at its median.
    """
    plan = FusionPlan("adjusted", settings.clinical_columns)
    terms = terms_of(plan, draw.training, draw.training, score)
    clinical = fit_lifelines(terms.drop(columns="image_score"), draw.training)
    found: dict[str, Any] = {}
    for unit, values in (("", score / score.std()), ("_high", (score > score.median()).astype(float))):
        fitted = fit_lifelines(terms.assign(image_score=values[terms.index]), draw.training)
        row = hazard_ratios(fitted).iloc[0]
        found |= {f"hr{unit}_{kind}": row["hazard_ratio"], f"p{unit}_{kind}": row["p"]}
        found |= {f"lrt_p{unit}_{kind}": likelihood_ratio_p(fitted, clinical)}
    return {name: float(value) for name, value in found.items()}


def run_study(
    out: str | Path,
    pool: Pool,
    variants: Sequence[str],
    count: int,
    settings: StudySettings | None = None,
    n_jobs: int = 1,
) -> pd.DataFrame:
    """Bring a table of replicates up to date and return it.

    Parameters
    ----------
    out : str or Path
        CSV. Replicates with the same settings that are there are kept; a study that was stopped goes on.
    pool : Pool
    variants : sequence of str
    count : int
        Replicates of each variant, numbered from 0.
    settings : StudySettings, optional
    n_jobs : int
        Processes, one thread each.

    Returns
    -------
    DataFrame
        One row a replicate and model, with `REPLICATE_COLUMNS`.
    """
    settings = settings or StudySettings()
    wanted = [(variant, number, *settings.identity()) for number in range(count) for variant in variants]
    work = partial(_measure_one, pool, settings)
    return grow_table(
        out,
        columns=REPLICATE_COLUMNS,
        keys=["variant", "replicate", *SETTINGS],
        wanted=wanted,
        work=work,
        n_jobs=n_jobs,
    )


def _measure_one(pool: Pool, settings: StudySettings, variant: str, number: int, *_: int) -> Rows:
    return measure_replicate(pool, variant, number, settings)
