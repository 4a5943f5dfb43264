"""The DL-score and its rivals on patients held out, over many cohorts and worlds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from rps_utils.cohort.splits import draw_folds
from rps_utils.deep.folds import fit_fold_networks
from rps_utils.deep.networks import RegionNetwork
from rps_utils.deep.training import TrainingSettings, one_thread, predict_risk, train_network
from rps_utils.lab.phantom.patients import VARIANTS
from rps_utils.lab.studies.pool import PATCHES, Pool
from rps_utils.lab.studies.replicates import Replicate, StudySettings, draw_replicate, with_outcome
from rps_utils.lab.studies.tables import Rows, grow_table, mean_with_interval
from rps_utils.learning.cox import fit_cox
from rps_utils.learning.radiomics import fit_radiomic_model
from rps_utils.survival.concordance import harrell_c

COHORT = StudySettings(reserve=271)  # 86 training patients; 29 and 271 others, 300, to be judged on
VOLUME = "original_shape_MeshVolume"
SCORE_COLUMNS = ["world", "variant", "cohort", "model", "c_held_out", "c_cross_fitted", "c_apparent", "seconds"]
NO_CONVOLUTION: dict[str, Any] = {"widths": ()}
CHOSEN_ON = ("lateral", "height", "depth", "scale")
REPORTED_ON = ("front", "oblique", "direction", "nodules", "outline", "far_side")


def measure_scores(pools: Mapping[str, Pool], world: str, variant: str, cohort: int) -> Rows:
    """Judge DL-score, Rad-score, tumour volume and the truth in the held-out patients of one cohort.

    Parameters
    ----------
    pools : mapping
        World to its pool.
    world : str
        How the latents are written into the image.
    variant : str
        A name in `phantom_patients.VARIANTS`.
    cohort : int
        Number of the cohort, from 0: the same patients and outcomes in every world.

    Returns
    -------
    list of dict
        One row a model with `SCORE_COLUMNS`. ``DL`` is the mean of the five fold networks, ``DL without
        convolution`` the same without its filters; ``Rad by region`` has the features of the margin and of the
        tumour's outer thirds as well. ``image latents`` is the part of the true log hazard that the image shows by
        itself (not size and histology), ``true hazard`` the whole, ``told the hazard`` the bound of `told_hazard`.
        Where these are the same for everybody, or the images are somebody else's, they have no row.
    """
    draw = draw_replicate(pools[world], variant, cohort, COHORT)
    about = {"world": world, "variant": variant, "cohort": cohort}
    rows = []
    for model, make in HELD_OUT_MODELS.items():
        begin = time.process_time()
        judged = judge_held_out(draw, make(draw))
        rows.append({**about, "model": model, **judged, "seconds": round(time.process_time() - begin, 2)})
    truth = {name: risk for name, risk in true_scores(draw, variant).items() if np.ptp(risk)}
    return rows + [{**about, "model": name, **judge_held_out(draw, {"held_out": risk})} for name, risk in truth.items()]


def judge_held_out(draw: Replicate, scores: dict[str, pd.Series]) -> dict[str, float]:
    """Return Harrell's C of each kind of score, on the patients it did not learn from or did (``apparent``)."""
    outcome = draw.cohort.set_index("patient_id")
    learned = outcome["split"] == "training"
    found = {}
    for kind, risk in scores.items():
        judged = outcome[~learned if kind == "held_out" else learned]
        c = harrell_c(judged["time_months"], judged["event"], risk[judged.index])
        found[f"c_{kind}"] = round(float(c), 5)
    return found


def held_out_networks(draw: Replicate, **options: Any) -> dict[str, pd.Series]:
    """Train the five fold networks of a cohort, with options of the default network; return their scores by kind."""
    settings = TrainingSettings(seed=draw.seed, intensity_channels=PATCHES.hu_channels(), network_options=dict(options))
    left_out = [(k,) for k in range(COHORT.folds)]
    with TemporaryDirectory() as folder:
        by_fold = pd.DataFrame(fit_fold_networks(draw.patches, draw.cohort, left_out, settings, folder))
    own = draw.training["fold"].to_numpy()[:, None] == np.arange(COHORT.folds)
    learned = by_fold.loc[draw.training["patient_id"]]
    return {
        "held_out": by_fold.mean(axis=1),
        "cross_fitted": learned.where(own).sum(axis=1),
        "apparent": learned.mask(own).mean(axis=1),
    }


def radiomic_held_out(draw: Replicate, regional: bool = False) -> dict[str, pd.Series]:
    """Fit the radiomic model of all training patients, with or without the features of the regions."""
    features = draw.features.join(draw.regional) if regional else draw.features
    learners = draw.training.set_index("patient_id")
    model = fit_radiomic_model(features.loc[learners.index], learners, seed=draw.seed % 2**31)
    risk = pd.Series(model.risk(features), features.index)
    return {"held_out": risk, "apparent": risk}


def volume_scores(draw: Replicate) -> dict[str, pd.Series]:
    """Fit a Cox model whose only term is the logarithm of the tumour's volume."""
    volume = np.log(draw.features[[VOLUME]])
    ids = draw.training["patient_id"]
    risk = fit_cox(volume.loc[ids], draw.training).risk(volume)
    return {"held_out": risk, "apparent": risk}


def true_scores(draw: Replicate, variant: str) -> dict[str, pd.Series]:
    """Return the true log hazard, and the part of it that the latents of the patient's own image carry."""
    people, effects = draw.cohort.set_index("patient_id"), VARIANTS[variant]
    latents = sum(getattr(effects, name) * people[name] for name in ("z_rad", "z_spat", "z_int"))
    shown = {"image latents": latents, "told the hazard": told_hazard(draw)} if effects.own_image else {}
    return shown | {"true hazard": people["eta"]}


def told_hazard(draw: Replicate) -> pd.Series:
    """Score everybody by a ridge regression of the true log hazard of the training patients on the network's summaries.

    The summaries are those of the default network before it has learned anything. A censored time of recurrence tells
    less of a hazard than the hazard itself, so this bounds what outcomes can teach the network's last layer.
    """
    torch.manual_seed(draw.seed % 2**31)
    network = RegionNetwork(draw.patches.shape[1]).eval()
    with one_thread(), torch.no_grad():
        parts = [network.summaries(part.float()) for part in torch.from_numpy(draw.patches).split(50)]
    seen = pd.DataFrame(torch.cat(parts).numpy(), pd.Index(draw.cohort["patient_id"]))
    told = draw.training.set_index("patient_id")["eta"]
    reading = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-1, 5, 13))).fit(seen.loc[told.index], told)
    return pd.Series(reading.predict(seen), seen.index)


HELD_OUT_MODELS: dict[str, Callable[[Replicate], dict[str, pd.Series]]] = {
    "DL": held_out_networks,
    "DL without convolution": partial(held_out_networks, **NO_CONVOLUTION),
    "Rad": radiomic_held_out,
    "Rad by region": partial(radiomic_held_out, regional=True),
    "volume": volume_scores,
}


def run_scores(
    out: str | Path,
    pools: Mapping[str, Pool],
    variants: Sequence[str],
    count: int,
    n_jobs: int = 1,
) -> pd.DataFrame:
    """Bring the table of `measure_scores` up to date: cohorts 0 to `count` - 1 of each variant in each world."""
    wanted = [(world, variant, cohort) for cohort in range(count) for world in pools for variant in variants]
    return grow_table(
        out,
        columns=SCORE_COLUMNS,
        keys=SCORE_COLUMNS[:3],
        wanted=wanted,
        work=partial(measure_scores, pools),
        n_jobs=n_jobs,
    )


def held_out_table(table: pd.DataFrame, kind: str = "c_held_out") -> pd.DataFrame:
    """Return for each world, variant and model the mean C over cohorts: ``cohorts, mean, se, low, high`` (95 %)."""
    keys = ["world", "variant", "model"]
    groups = table.dropna(subset=kind).groupby(keys, sort=False)[kind]
    return pd.DataFrame({name: mean_with_interval(values) for name, values in groups}).T.rename_axis(keys)


def world_means(table: pd.DataFrame, worlds: Sequence[str], variant: str = "full") -> pd.DataFrame:
    """Return the held-out C of each cohort (rows) and model (columns), the mean over some worlds.

    The cohorts of all worlds are the same patients, so it is they and not the worlds that are counted: an interval
    over the rows speaks of other cohorts in these worlds.
    """
    chosen = table[table["world"].isin(worlds) & (table["variant"] == variant)]
    return chosen.pivot_table(index="cohort", columns="model", values="c_held_out")


def score_difference(
    table: pd.DataFrame, worlds: Sequence[str], larger: str, smaller: str, variant: str = "full"
) -> dict[str, float]:
    """Return how far one model's held-out C exceeds another's, paired by cohort; see `mean_with_interval`."""
    wide = world_means(table, worlds, variant)
    return mean_with_interval(wide[larger] - wide[smaller])


TRAINING_SIZES: tuple[int, ...] = (43, 86, 172, 344, 600)
OTHERS = 300
SIZE_COLUMNS = ["patients", "cohort", "model", "c_held_out"]
SIZE_SEED = 4_100


def draw_sized(pool: Pool, patients: int, number: int) -> Replicate:
    """Draw training patients and `OTHERS` from a pool, with new outcomes of the variant ``full``.

    The others of a cohort are the same at every size, and a smaller training set is a part of a larger one.
    """
    if len(pool.patients) < patients + OTHERS:
        raise ValueError(f"a pool of {len(pool.patients)} is too small for {patients} patients and {OTHERS} others")
    order = np.random.default_rng([SIZE_SEED, number]).permutation(len(pool.patients))
    chosen = np.concatenate([order[OTHERS : OTHERS + patients], order[:OTHERS]])
    everybody = with_outcome(pool.patients, "full", SIZE_SEED + number)
    cohort = everybody.iloc[chosen].reset_index(drop=True)
    cohort["split"] = np.where(np.arange(len(cohort)) < patients, "training", "validation")
    cohort["fold"] = draw_folds(cohort, COHORT.folds, SIZE_SEED + number)
    own = pd.Index(cohort["patient_id"])
    features, regional = (table.iloc[chosen].set_index(own) for table in (pool.features, pool.regional))
    return Replicate(cohort.assign(reserve=False), pool.patches[chosen], features, [], SIZE_SEED + number, regional)


def one_network(draw: Replicate, **changed: Any) -> dict[str, pd.Series]:
    """Train one network on all training patients of a draw, with some settings changed."""
    settings = TrainingSettings(seed=draw.seed, intensity_channels=PATCHES.hu_channels(), **changed)
    learned = torch.from_numpy((draw.cohort["split"] == "training").to_numpy())
    time_months, event = (torch.tensor(draw.cohort[c].to_numpy(float))[learned] for c in ("time_months", "event"))
    with one_thread():
        patches = torch.from_numpy(draw.patches)
        trained, _ = train_network(patches[learned], time_months, event, settings)
        risk = predict_risk(trained, patches, settings.augmentation.orientations)
    return {"held_out": pd.Series(risk, pd.Index(draw.cohort["patient_id"]))}


SIZE_MODELS: dict[str, Callable[[Replicate], dict[str, pd.Series]]] = {
    "DL": one_network,
    "plain network": partial(one_network, network="plain", learning_rate=3e-3, epochs=30),
    "Rad": radiomic_held_out,
    "Rad by region": partial(radiomic_held_out, regional=True),
    "image latents": lambda draw: {"held_out": true_scores(draw, "full")["image latents"]},
    "told the hazard": lambda draw: {"held_out": told_hazard(draw)},
}


# A residual network of 14 million weights costs twenty times the default one, so it has a table of its own.
NETWORK_SIZES: tuple[int, ...] = (43, 86, 172, 344)
SIZE_NETWORKS = {name: SIZE_MODELS[name] for name in ("DL", "plain network")} | {
    "ResNet10 (MONAI)": partial(one_network, network="resnet10", learning_rate=1e-3, epochs=20)
}


def measure_sizes(
    pool: Pool, models: Mapping[str, Callable[[Replicate], dict[str, pd.Series]]], patients: int, cohort: int
) -> Rows:
    """Return one row a model with `SIZE_COLUMNS`; each DL-score is one network of all training patients."""
    draw, rows = draw_sized(pool, patients, cohort), []
    for model, make in models.items():
        judged = judge_held_out(draw, {"held_out": make(draw)["held_out"]})
        rows.append({"patients": patients, "cohort": cohort, "model": model, **judged})
    return rows


def run_sizes(
    out: str | Path,
    pool: Pool,
    sizes: Sequence[int] = TRAINING_SIZES,
    models: Mapping[str, Callable[[Replicate], dict[str, pd.Series]]] = SIZE_MODELS,
    *,
    count: int = 8,
    n_jobs: int = 1,
) -> pd.DataFrame:
    """Bring the table of `measure_sizes` up to date: cohorts 0 to `count` - 1 of each size."""
    return grow_table(
        out,
        columns=SIZE_COLUMNS,
        keys=SIZE_COLUMNS[:2],
        wanted=[(patients, cohort) for cohort in range(count) for patients in sizes],
        work=partial(measure_sizes, pool, models),
        n_jobs=n_jobs,
    )


def size_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return mean C by model and number of patients: ``model, patients, cohorts, mean, se, low, high`` (95 %)."""
    groups = table.groupby(["model", "patients"], sort=False)["c_held_out"]
    rows = [{"model": model, "patients": n, **mean_with_interval(values)} for (model, n), values in groups]
    return pd.DataFrame(rows).sort_values(["model", "patients"], kind="stable", ignore_index=True)
