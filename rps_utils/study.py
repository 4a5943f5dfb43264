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

import json
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed, parallel_config
from scipy import ndimage, optimize, stats

from rps_utils.cohort import draw_folds
from rps_utils.cox import fit_cox, fit_lifelines, hazard_ratios, likelihood_ratio_p
from rps_utils.crossfit import FittedScores, assemble, leave_out_sets, predictor_p, score_left_out
from rps_utils.curves import Estimate, logrank
from rps_utils.cutoffs import apply_cutoff, logrank_scan, median_cutoff
from rps_utils.features import ExtractionSettings, extract, fit_radiomic_model, pad_mm
from rps_utils.files import whole_file, write_csv
from rps_utils.fusion import FusionPlan, cox_scores, terms_of
from rps_utils.images import Volume, crop_isotropic
from rps_utils.inference import c_interval, resample_counts
from rps_utils.metrics import harrell_c, pair_influence
from rps_utils.patches import PatchSettings, make_patch
from rps_utils.phantom import draw_split
from rps_utils.phantom_ct import render_patient
from rps_utils.phantom_patients import VARIANTS, draw_outcome, draw_patients, image_causes, log_hazard, uniform_streams
from rps_utils.progress import in_parallel

POOL_SEED, POOL_PATIENTS = 770_001, 600
POWER_PATIENTS, CALIBRATED_ON = 20_000, 4000  # many against a validation set; enough to fix C to .01
RESULTS = Path(__file__).parent / "results"
CROP_SPACING_MM = 3.0
FEATURES = ExtractionSettings(image_types=("original",))
PATCHES = PatchSettings()
# Half as wide as the default network and trained more gently: many hundreds are trained here.
QUICK_NETWORK: dict[str, Any] = {"network": "region", "network_options": {"widths": (8, 16)}, "learning_rate": 3e-3}
KINDS = ("apparent", "cross_fitted", "validation")
FUSED = {"DL": "DLCM", "Rad": "RSCM"}
TRAINING_SHARE = 0.75
TRUTH_DRAWS = 5
SETTINGS = ("patients", "folds", "epochs", "reserve", "seed")
COLUMNS = [
    *("variant", "replicate", *SETTINGS, "training_events", "validation_patients", "validation_events", "model"),
    *("c_apparent", "c_cross_fitted", "c_validation", "c_low", "c_high", "c_true"),
    *("km_p_training", "km_p", "km_p_recut"),
    *(f"{value}{unit}_{kind}" for kind in KINDS[:2] for unit in ("", "_high") for value in ("hr", "p", "lrt_p")),
    "note",
]


Rows = list[dict[str, Any]]


# ---------------------------------------------------------------- the pool


@dataclass(frozen=True)
class Pool:
    """Synthetic patients with what the image models read of them.

    Attributes
    ----------
    patients : DataFrame
        ``patient_id``, clinical columns, latents and ``scanner``; no outcome.
    patches : ndarray of float16, (n, channels, S, S, S)
        Input of the networks.
    features : DataFrame
        Radiomic features, indexed by ``patient_id``.
    """

    patients: pd.DataFrame
    patches: np.ndarray
    features: pd.DataFrame


def make_pool(
    folder: str | Path,
    patients: int = POOL_PATIENTS,
    *,
    seed: int = POOL_SEED,
    n_jobs: int = 1,
    smoothing_mm: float = 0.0,
) -> Pool:
    """Render a pool of synthetic patients, or read what of it is there.

    Parameters
    ----------
    folder : str or Path
        Keeps one small file a patient (patch and features; the CT is not kept). A run that was stopped goes on.
    patients : int
        A pool that is large against the cohorts drawn from it keeps replicates nearly independent.
    seed : int
        Of covariates, latents and images; no other cohort of the project uses the default.
    n_jobs : int
        Processes; a patient takes about a second.
    smoothing_mm : float
        SD of a Gaussian that blurs each CT before anything is read of it: brings scans of several scanners nearer
        to one resolution and one noise. Such a pool needs a folder of its own.
    """
    people = draw_patients(patients, seed)
    people.insert(0, "patient_id", [f"POOL-{i:04d}" for i in range(patients)])
    jobs = (
        delayed(render_or_read)(row, Path(folder) / f"{name}.npz", smoothing_mm)
        for name, row in zip(people["patient_id"], image_causes(people, seed).to_dict("records"), strict=True)
    )
    patches, features = zip(*in_parallel(jobs, n_jobs, "synthetic patients in the pool"), strict=True)
    table = pd.DataFrame(list(features), index=pd.Index(people["patient_id"]))
    return Pool(people.drop(columns=["eta", "time_months", "event"]), np.stack(patches), table)


def render_or_read(
    causes: dict[str, Any], path: Path, smoothing_mm: float = 0.0
) -> tuple[np.ndarray, dict[str, float]]:
    """Return patch and features of one patient, from `path` if it was made from the same causes and settings."""
    settings = {"patch": asdict(PATCHES), "features": asdict(FEATURES), "crop_spacing_mm": CROP_SPACING_MM}
    settings |= {"smoothing_mm": smoothing_mm} if smoothing_mm else {}
    card = json.dumps({"causes": causes, **settings}, sort_keys=True)
    if path.is_file():
        with np.load(path, allow_pickle=False) as kept:
            if str(kept["card"]) == card:
                return kept["patch"], dict(zip(kept["names"].tolist(), kept["values"].tolist(), strict=True))
    patch, features = read_image(causes, smoothing_mm)
    names, values = np.array(list(features), dtype=str), np.array(list(features.values()))
    with whole_file(path) as partial:
        np.savez_compressed(partial, patch=patch, names=names, values=values, card=np.array(card))
    return patch, features


def read_image(causes: dict[str, Any], smoothing_mm: float = 0.0) -> tuple[np.ndarray, dict[str, float]]:
    """Render one patient; return the patch of the networks and the radiomic features."""
    hu, labels, affine = render_patient(causes, int(causes["image_seed"]))
    ct, mask = smoothed(Volume(hu, affine), smoothing_mm), Volume(labels, affine)
    crop = crop_isotropic(ct, mask, CROP_SPACING_MM, pad_mm(FEATURES, CROP_SPACING_MM))
    return make_patch(ct, mask, PATCHES), extract(*crop, FEATURES)


def smoothed(ct: Volume, sd_mm: float) -> Volume:
    """Blur a CT with a Gaussian of this SD (mm) along each axis; 0 leaves it as it is."""
    if not sd_mm:
        return ct
    return Volume(ndimage.gaussian_filter(ct.values.astype(np.float32), sd_mm / ct.spacing, mode="nearest"), ct.affine)


# ---------------------------------------------------------------- one replicate


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
        As in the notebooks 05 and 06.
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
    patches, features
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
    return Replicate(cohort, pool.patches[images[:size]], features, later, int(seeds[0]))


def with_outcome(people: pd.DataFrame, variant: str, seed: int) -> pd.DataFrame:
    """Return the patients with ``eta, time_months, event`` drawn for a variant."""
    draws = uniform_streams(len(people), seed)
    if VARIANTS[variant].era:
        draws["accrual"] = people["scanner"].to_numpy()
    people = people.assign(eta=log_hazard(people, draws, VARIANTS[variant]))
    time, event = draw_outcome(people, draws, variant, "lr", visit_grid=True)
    return people.assign(time_months=time, event=event)


def split_with_reserve(cohort: pd.DataFrame, seed: int) -> np.ndarray:
    """Return the split of the cohort; the reserve counts as validation."""
    split = np.full(len(cohort), "validation", dtype=object)
    own = ~cohort["reserve"].to_numpy()
    split[own] = draw_split(cohort.loc[own, "event"], seed, TRAINING_SHARE)
    return split


# ---------------------------------------------------------------- the honest pipeline, and the usual shortcut


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
    learners = {"Rad": radiomic_scores} | ({"DL": network_scores} if settings.epochs else {})
    for name, learn in learners.items():
        image = _attempt(partial(learn, draw, settings))
        failed = isinstance(image, str)
        scores[name] = image if failed else {kind: getattr(image, kind) for kind in KINDS}
        fused = FUSED[name]
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


def network_scores(draw: Replicate, settings: StudySettings) -> FittedScores:
    """Return the scores of `QUICK_NETWORK`, one seed a fold, trained for `settings.epochs`."""
    from rps_utils.training import TrainingSettings, fit_fold_networks

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


# ---------------------------------------------------------------- what is recorded


def measure_replicate(pool: Pool, variant: str, number: int, settings: StudySettings) -> list[dict[str, Any]]:
    """Run one replicate and return its rows, one a model; see `COLUMNS` for what they hold."""
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
        rows.append({**about, "model": model, **{k: _short(v) for k, v in found.items()}})
    return rows


def _short(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def measure_model(draw: Replicate, settings: StudySettings, model: str, scores: Kinds) -> dict[str, Any]:
    """Return C by kind with the truth, the risk groups in validation, and for image scores the adjusted HR."""
    if np.ptp(scores["validation"]) == 0:
        return {"note": "the score is the same for everybody"}
    found = concordances(draw, scores, settings.resamples) | risk_groups(draw, scores)
    if model in FUSED:
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


# ---------------------------------------------------------------- many replicates


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
        One row a replicate and model, with `COLUMNS`.
    """
    settings = settings or StudySettings()
    wanted = [(variant, number, *settings.identity()) for number in range(count) for variant in variants]
    work = partial(_measure_one, pool, settings)
    return grow_table(
        out,
        columns=COLUMNS,
        keys=["variant", "replicate", *SETTINGS],
        wanted=wanted,
        work=work,
        n_jobs=n_jobs,
    )


def _measure_one(pool: Pool, settings: StudySettings, variant: str, number: int, *_: int) -> Rows:
    return measure_replicate(pool, variant, number, settings)


def grow_table(
    out: str | Path,
    *,
    columns: Sequence[str],
    keys: Sequence[str],
    wanted: Sequence[tuple[Hashable, ...]],
    work: Callable[..., Rows],
    n_jobs: int = 1,
) -> pd.DataFrame:
    """Bring a table up to date, and write it after each piece of work, so that a stopped one goes on.

    Parameters
    ----------
    out : str or Path
        CSV. Rows that are there are kept, whatever they were made with beyond their keys.
    columns : sequence of str
        Of the table.
    keys : sequence of str
        Columns that tell the pieces apart, and sort the table.
    wanted : sequence of tuple
        The keys' values of the pieces that the table shall hold.
    work : callable
        Gets the values of the keys, returns the rows of that piece.
    n_jobs : int
        Processes, one thread each.
    """
    table = read_replicates(out) if Path(out).is_file() else pd.DataFrame(columns=list(columns))
    there = set(table[list(keys)].itertuples(index=False, name=None))
    missing = [values for values in wanted if values not in there]
    with parallel_config("loky", inner_max_num_threads=1):
        jobs = (delayed(work)(*values) for values in missing)
        for rows in in_parallel(jobs, n_jobs, f"parts of {Path(out).name}", ordered=False):
            table = pd.DataFrame([*table.to_dict("records"), *rows], columns=list(columns))
            table = table.sort_values(list(keys), kind="stable", ignore_index=True)
            write_csv(table, out)
    return table


def read_replicates(path: str | Path) -> pd.DataFrame:
    """Read a table that `run_study` wrote. The variant ``null`` is a word here, and not a missing value."""
    with Path(path).open(encoding="utf-8") as stream:
        return pd.read_csv(stream, keep_default_na=False, na_values=[""])


# ---------------------------------------------------------------- what a validation set can detect


def power_table(
    sizes: Sequence[int] = (29, 60, 120, 250, 500),
    pairs: Sequence[tuple[float, float]] = ((0.73, 0.654), (0.749, 0.648), (0.73, 0.73)),
    *,
    draws: int = 500,
    seed: int = 2026,
    n_jobs: int = 1,
) -> pd.DataFrame:
    """Compare two frozen scores of known C in validation sets of several sizes.

    No image and no model is needed: a score of wanted C is the true log hazard of ``full`` plus noise. The noise of
    the two scores is independent, so they resemble each other only as far as both are right; scores that share
    more are told apart with fewer patients.

    Parameters
    ----------
    sizes : sequence of int
        Patients of a validation set.
    pairs : sequence of tuple of float
        True C of the two scores, below the oracle's.
    draws : int
        Validation sets of each size.
    seed : int
    n_jobs : int
        Processes.

    Returns
    -------
    DataFrame
        ``c_a, c_b`` (wanted), ``rank_correlation`` of the scores, ``patients, events`` (mean), ``reversed`` (share of
        sets in which the order of the two C is not the true one; ties count one half), ``power`` (share with
        two-sided p < .05, infinitesimal jackknife), ``draws``.
    """
    people = draw_patients(POWER_PATIENTS, POOL_SEED + seed)
    jobs = []
    for place, pair in enumerate(pairs):
        a, b = (noisy_score(people, c, [seed, place, i]) for i, c in enumerate(pair))
        jobs += [delayed(_compare_often)(people, a, b, [seed, place, n], n, draws) for n in sizes]
    found = Parallel(n_jobs=n_jobs)(jobs)
    wanted = [{"c_a": c_a, "c_b": c_b} for c_a, c_b in pairs for _ in sizes]
    return pd.DataFrame([{**a, **b} for a, b in zip(wanted, found, strict=True)])


def _compare_often(
    people: pd.DataFrame, a: np.ndarray, b: np.ndarray, seed: Sequence[int], size: int, draws: int
) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    found = pd.DataFrame([_compare(people, a, b, rng.choice(len(people), size, replace=False)) for _ in range(draws)])
    correlation = float(pd.Series(a).corr(pd.Series(b), "spearman"))
    means = {name: _short(float(value)) for name, value in found.mean().items()}
    return {"rank_correlation": _short(correlation), "patients": size, **means, "draws": draws}


def noisy_score(people: pd.DataFrame, c: float, seed: Sequence[int]) -> np.ndarray:
    """Return the true log hazard plus as much normal noise as brings Harrell's C down to `c`."""
    eta, noise = people["eta"].to_numpy(), np.random.default_rng(seed).standard_normal(len(people))
    some = people.iloc[:CALIBRATED_ON]

    def excess(spread: float) -> float:
        return harrell_c(some["time_months"], some["event"], (eta + spread * noise)[: len(some)]) - c

    return eta + optimize.brentq(excess, 0, 20, xtol=0.01) * noise


def _compare(people: pd.DataFrame, a: np.ndarray, b: np.ndarray, rows: np.ndarray) -> dict[str, float]:
    time, event = people["time_months"].to_numpy()[rows], people["event"].to_numpy()[rows]
    (c_a, pull_a), (c_b, pull_b) = (pair_influence(time, event, score[rows]) for score in (a, b))
    error = np.sqrt(np.sum((pull_a - pull_b) ** 2))
    order = 0.5 if c_a == c_b else float(c_a < c_b)
    return {"events": event.sum(), "reversed": order, "power": float(abs(c_a - c_b) > 1.959964 * error)}


# ---------------------------------------------------------------- what the tables say


@dataclass(frozen=True)
class Plan:
    """One call of `run_study` behind a committed table."""

    file: str
    variants: tuple[str, ...]
    count: int
    settings: StudySettings


# What the committed tables hold; a larger count adds replicates to them.
ALL_VARIANTS = ("null", "full", "decoupled", "clinical_only", "rad_sufficient", "image_only", "confounded")
WITH_NETWORKS = StudySettings(folds=3, epochs=30, reserve=100)
PLANS = (
    Plan("replicates", ALL_VARIANTS, 60, StudySettings()),
    Plan("replicates", ("null", "decoupled"), 200, StudySettings()),
    Plan("replicates_networks", ("null", "full", "decoupled", "clinical_only", "rad_sufficient"), 10, WITH_NETWORKS),
    Plan("replicates_small", ("null",), 24, StudySettings(patients=40, folds=3, epochs=15, reserve=50)),
)


def make_results(folder: str | Path, pool_folder: str | Path, n_jobs: int = 1) -> None:
    """Bring all tables of the study in a folder up to date: hours from nothing, see `PLANS`."""
    pool = make_pool(pool_folder, n_jobs=n_jobs)
    for plan in PLANS:
        run_study(Path(folder) / f"{plan.file}.csv", pool, plan.variants, plan.count, plan.settings, n_jobs)
    if not (Path(folder) / "power.csv").is_file():
        write_csv(power_table(n_jobs=n_jobs), Path(folder) / "power.csv")


def read_results(folder: str | Path = RESULTS) -> pd.DataFrame:
    """Read all replicates, with the column ``study``: classical (no networks), networks or small."""
    names = {"replicates": "classical", "replicates_networks": "networks", "replicates_small": "small"}
    tables = [read_replicates(Path(folder) / f"{name}.csv").assign(study=study) for name, study in names.items()]
    return pd.concat(tables, ignore_index=True)


def mean_estimate(values: pd.Series, errors: float = 3.0) -> Estimate:
    """Return the mean over replicates, and so many standard errors to either side."""
    values = values.dropna()
    error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.nan
    mean = float(values.mean())
    return Estimate(mean, mean - errors * error, mean + errors * error, "")


def share_estimate(hits: pd.Series, *, level: float = 0.95) -> Estimate:
    """Return a share of replicates with its exact binomial interval (Clopper and Pearson)."""
    hits = hits.dropna()
    if hits.empty:
        return Estimate(np.nan, np.nan, np.nan, "no replicate")
    found = stats.binomtest(int(hits.sum()), len(hits))
    interval = found.proportion_ci(level)
    return Estimate(float(found.statistic), float(interval.low), float(interval.high), "")


def below(p: pd.Series, *, level: float = 0.05) -> pd.Series:
    """Tell where a p-value is below the level; missing stays missing."""
    return (p < level).astype(float).mask(p.isna())


def rows_of(table: pd.DataFrame, **wanted: str) -> pd.DataFrame:
    """Return the rows with these values, for example ``variant="null", model="Rad"``, by replicate."""
    chosen = np.logical_and.reduce([table[column] == value for column, value in wanted.items()])
    return table[chosen].set_index("replicate")


def gain(table: pd.DataFrame, larger: str, smaller: str, *, column: str = "c_true") -> pd.Series:
    """Return by replicate how far one model's C exceeds another's; `table` holds one study and variant."""
    wide = table.pivot_table(index="replicate", columns="model", values=column)
    return (wide[larger] - wide[smaller]).dropna()


def verdicts(table: pd.DataFrame) -> pd.DataFrame:
    """Hold the results to what the truth of each variant demands.

    Parameters
    ----------
    table : DataFrame
        From `read_results`.

    Returns
    -------
    DataFrame
        ``check, study, variant, model, replicates, value, low, high, demanded, holds``. Means of C and of
        differences come with three standard errors, shares and their 95 % interval are exact binomial.
    """
    rows = []
    for (study, variant), part in table.groupby(["study", "variant"], sort=False):
        for model in [m for m in dict.fromkeys(part["model"]) if m != "Oracle"]:
            found = _verdicts_of(variant, model, rows_of(part, model=model))
            rows += [{"study": study, "variant": variant, "model": model, **row} for row in found]
        rows += [{"study": study, "variant": variant, **row} for row in _comparisons(variant, part)]
    order = ["check", "study", "variant", "model", "replicates", "value", "low", "high", "demanded", "holds"]
    return pd.DataFrame(rows)[order].sort_values("check", kind="stable", ignore_index=True)


def _verdicts_of(variant: str, model: str, rows: pd.DataFrame) -> list[dict[str, Any]]:
    found = []
    blind = variant == "null" or (variant == "decoupled" and model in FUSED)
    if blind:
        found.append(_verdict("mean C in validation", rows["c_validation"], mean_estimate, 0.5))
        found.append(_verdict("KM split, median cut-off: p < .05", below(rows["km_p"]), share_estimate, 0.05))
        found.append(_verdict("KM split, searched cut-off: p < .05", below(rows["km_p_recut"]), share_estimate, 0.05))
    if model in FUSED and variant in ("null", "decoupled", "clinical_only"):
        for kind, name in (("cross_fitted", "cross-fitted"), ("apparent", "in-sample")):
            p = below(rows[f"lrt_p_{kind}"])
            found.append(_verdict(f"added value of the {name} score: p < .05", p, share_estimate, 0.05))
        claim = pd.Series(predictor_p(rows["lrt_p_cross_fitted"], rows["hr_cross_fitted"]), rows.index)
        found.append(_verdict("independent predictor, corrected one-sided p < .05", below(claim), share_estimate, 0.05))
    covered = rows["c_true"].between(rows["c_low"], rows["c_high"]).astype(float)
    known = covered.mask(rows[["c_true", "c_low", "c_high"]].isna().any(axis=1))
    return [*found, _verdict("95 % interval of C covers the truth", known, share_estimate, 0.95)]


def _comparisons(variant: str, part: pd.DataFrame) -> list[dict[str, Any]]:
    there = set(part["model"])
    if variant == "rad_sufficient" and "DL" in there:
        return [_verdict("DL minus Rad, true C", gain(part, "DL", "Rad"), mean_estimate, 0.0, "<=") | {"model": "DL"}]
    if variant != "clinical_only":
        return []
    return [
        _verdict("fused minus Clinical, true C", gain(part, fused, "Clinical"), mean_estimate, 0.0, "<=")
        | {"model": fused}
        for fused in FUSED.values()
        if fused in there
    ]


def _verdict(
    check: str, values: pd.Series, estimate: Callable[[pd.Series], Estimate], demanded: float, sign: str = "="
) -> dict[str, Any]:
    value, low, high, _ = estimate(values)
    holds = low <= demanded and (sign == "<=" or demanded <= high)
    numbers = {"replicates": int(values.notna().sum()), "value": value, "low": low, "high": high}
    return {"check": check, **numbers, "demanded": f"{sign} {demanded:g}", "holds": bool(holds)}
