"""How well the networks do on cohorts of 86 patients, and what each choice in their recipe is worth.

Two tables, both made of synthetic cohorts drawn from rendered pools (`rps_utils.study`): 86 patients to learn from,
300 others to be judged on.

* `measure_scores`: the default recipe beside its rivals and the truth, on the pool that everything is reported on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed, parallel_config

from rps_utils.cox import fit_cox
from rps_utils.files import write_csv
from rps_utils.metrics import harrell_c
from rps_utils.phantom_patients import VARIANTS
from rps_utils.study import PATCHES, Pool, Replicate, StudySettings, draw_replicate, radiomic_scores, read_replicates
from rps_utils.training import TrainingSettings, fit_fold_networks

COHORT = StudySettings(reserve=271)  # 86 training patients; 29 and 271 others, 300, to be judged on
VOLUME = "original_shape_MeshVolume"
SCORE_COLUMNS = ["variant", "cohort", "model", "c_held_out", "c_cross_fitted", "c_apparent", "seconds"]

Key = tuple[Hashable, ...]
Rows = list[dict[str, Any]]


def grow_table(
    out: str | Path,
    columns: Sequence[str],
    wanted: Sequence[Key],
    work: Callable[..., Rows],
    n_jobs: int = 1,
    progress: Callable[[str], Any] | None = None,
) -> pd.DataFrame:
    """Bring a table up to date, and write it after each piece of work, so that a stopped one goes on.

    Parameters
    ----------
    out : str or Path
        CSV. Rows that are there are kept.
    columns : sequence of str
        Of the table. The first ones, as many as a key has entries, tell the pieces apart, and sort the table.
    wanted : sequence of tuple
        Keys of the pieces that the table shall hold.
    work : callable
        Gets the entries of a key, returns the rows of that piece.
    n_jobs : int
        Processes, one thread each.
    progress : callable, optional
        Called with a line of text after each piece.
    """
    table = read_replicates(out) if Path(out).is_file() else pd.DataFrame(columns=list(columns))
    keys = list(columns[: len(wanted[0])])
    there = set(table[keys].itertuples(index=False, name=None))
    missing = [key for key in wanted if key not in there]
    with parallel_config("loky", inner_max_num_threads=1):
        pieces = Parallel(n_jobs=n_jobs, return_as="generator_unordered")(delayed(work)(*key) for key in missing)
        for done, rows in enumerate(pieces, start=1):
            table = pd.DataFrame([*table.to_dict("records"), *rows], columns=list(columns))
            table = table.sort_values(keys, kind="stable", ignore_index=True)
            write_csv(table, out)
            if progress:
                progress(f"{done} of {len(missing)}: " + ", ".join(str(rows[0][key]) for key in keys))
    return table


# ---------------------------------------------------------------- the score beside its rivals and the truth


def measure_scores(pool: Pool, variant: str, cohort: int) -> Rows:
    """Judge DL-score, Rad-score, tumour volume and the truth in the held-out patients of one cohort.

    Parameters
    ----------
    pool : Pool
    variant : str
        A name in `phantom_patients.VARIANTS`.
    cohort : int
        Number of the cohort, from 0.

    Returns
    -------
    list of dict
        One row a model with `SCORE_COLUMNS`. ``DL`` is the mean of the five fold networks; ``image latents`` is
        the part of the true log hazard that the image shows by itself (not size and histology), ``true hazard``
        the whole. Where these are the same for everybody, or the images are somebody else's, they have no row.
    """
    draw = draw_replicate(pool, variant, cohort, COHORT)
    rows = []
    for model, make in {"DL": network_scores, "Rad": _radiomic, "volume": volume_scores}.items():
        begin = time.process_time()
        about = {"variant": variant, "cohort": cohort, "model": model}
        rows.append({**about, **_judge(draw, make(draw)), "seconds": round(time.process_time() - begin, 2)})
    truth = {name: risk for name, risk in true_scores(draw, variant).items() if np.ptp(risk)}
    return rows + [
        {"variant": variant, "cohort": cohort, "model": name, **_judge(draw, {"held_out": risk})}
        for name, risk in truth.items()
    ]


def _judge(draw: Replicate, scores: dict[str, pd.Series]) -> dict[str, float]:
    outcome = draw.cohort.set_index("patient_id")
    learned = outcome["split"] == "training"
    found = {}
    for kind, risk in scores.items():
        judged = outcome[~learned if kind == "held_out" else learned]
        c = harrell_c(judged["time_months"], judged["event"], risk[judged.index])
        found[f"c_{kind}"] = round(float(c), 5)
    return found


def network_scores(draw: Replicate, settings: TrainingSettings | None = None) -> dict[str, pd.Series]:
    """Train the five fold networks of a cohort; return their scores by kind."""
    settings = settings or TrainingSettings(seed=draw.seed, intensity_channels=PATCHES.hu_channels())
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


def _radiomic(draw: Replicate) -> dict[str, pd.Series]:
    scores = radiomic_scores(draw, COHORT)
    return {"held_out": scores.validation, "cross_fitted": scores.cross_fitted, "apparent": scores.apparent}


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
    return ({"image latents": latents} if effects.own_image else {}) | {"true hazard": people["eta"]}


def run_scores(
    out: str | Path,
    pool: Pool,
    variants: Sequence[str],
    count: int,
    n_jobs: int = 1,
    progress: Callable[[str], Any] | None = None,
) -> pd.DataFrame:
    """Bring the table of `measure_scores` up to date: cohorts 0 to `count` - 1 of each variant."""
    wanted = [(variant, cohort) for variant in variants for cohort in range(count)]

    def work(variant: str, cohort: int) -> Rows:
        return measure_scores(pool, variant, cohort)

    return grow_table(out, SCORE_COLUMNS, wanted, work, n_jobs, progress)
