"""What each choice in the recipe of the networks is worth, on tuning cohorts and in the worlds of the choice alone.

One network of all 86 training patients for each lever, world and cohort, judged on the rest of the tuning pool. The
pool has a seed of its own: no cohort here is one of those on which the score is reported, and no world but
`CHOSEN_ON` is looked at.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from rps_utils.deep.augmentation import NO_AUGMENTATION, Augmentation
from rps_utils.deep.training import TrainingSettings, one_thread, predict_risk, train_network
from rps_utils.lab.studies.held_out import CHOSEN_ON, NO_CONVOLUTION, judge_held_out
from rps_utils.lab.studies.pool import PATCHES, Pool, make_pools
from rps_utils.lab.studies.replicates import StudySettings, draw_replicate
from rps_utils.lab.studies.tables import Rows, grow_table, mean_with_interval

TUNING_SEED, TUNING_PATIENTS = 101, 300
TUNING_COHORT = StudySettings(reserve=TUNING_PATIENTS - 115)  # 86 to learn from, the whole rest of the pool to judge on
LEVER_COLUMNS = ["lever", "world", "cohort", "c_held_out", "c_apparent", "seconds"]


@dataclass(frozen=True)
class Lever:
    """One thing changed in the default recipe.

    Attributes
    ----------
    what : str
        In words.
    settings : dict
        Changed `TrainingSettings`.
    """

    what: str
    settings: Mapping[str, Any] = field(default_factory=dict)


def _augmented(**changed: Any) -> dict[str, Any]:
    return {"augmentation": replace(Augmentation(), **changed)}


LEVERS: dict[str, Lever] = {
    "default": Lever("the default recipe"),
    # the network
    "no_convolution": Lever("no convolution at all", {"network_options": dict(NO_CONVOLUTION)}),
    "more_filters": Lever("16 filters a grid instead of 8", {"network_options": {"widths": (16, 16)}}),
    "fine_only": Lever("filters at the grid of the patch only", {"network_options": {"widths": (8,)}}),
    "three_grids": Lever("filters at a third grid as well", {"network_options": {"widths": (8, 8, 8)}}),
    "unlearned": Lever("filters as they were drawn, only the last layer learned", {"epochs": 1, "learning_rate": 1e-9}),
    "plain": Lever("plain network", {"network": "plain", "learning_rate": 3e-3, "epochs": 30}),
    # the training
    "epochs_30": Lever("30 epochs instead of 10", {"epochs": 30}),
    "rate_0.003": Lever("learning rate 0.003 instead of 0.01", {"learning_rate": 3e-3}),
    "ridge_1": Lever("ridge 1 instead of 4", {"ridge": 1.0}),
    "ridge_16": Lever("ridge 16", {"ridge": 16.0}),
    # what it is shown
    "no_augmentation": Lever("no augmentation", {"augmentation": NO_AUGMENTATION}),
    "lateral_axis_kept": Lever(
        "the 8 orientations that keep the lateral axis", _augmented(orientations="lateral_axis_kept")
    ),
    "all_orientations": Lever("all 48 orientations", _augmented(orientations="all")),
}


def measure_lever(pools: Mapping[str, Pool], lever: str, world: str, cohort: int) -> Rows:
    """Train on the training patients of one tuning cohort with one lever, and judge on the others.

    Parameters
    ----------
    pools : mapping
        World to its tuning pool. Outcomes are those of the variant ``full``.
    lever : str
        A name in `LEVERS`.
    world : str
    cohort : int
        Number of the cohort, from 0.

    Returns
    -------
    list of dict
        One row with `LEVER_COLUMNS`; ``seconds`` of one processor, scoring included.
    """
    draw = draw_replicate(pools[world], "full", cohort, TUNING_COHORT)
    given: dict[str, Any] = {
        "seed": draw.seed,
        "intensity_channels": PATCHES.hu_channels(),
        **LEVERS[lever].settings,
    }
    settings = TrainingSettings(**given)
    learned = torch.from_numpy((draw.cohort["split"] == "training").to_numpy())
    time_months, event = (torch.tensor(draw.cohort[c].to_numpy(float))[learned] for c in ("time_months", "event"))
    begin = time.process_time()
    with one_thread():
        patches = torch.from_numpy(np.ascontiguousarray(draw.patches))
        network, _ = train_network(patches[learned], time_months, event, settings)
        raw = predict_risk(network, patches, settings.augmentation.orientations)
    risk = pd.Series(raw, pd.Index(draw.cohort["patient_id"]))
    judged = judge_held_out(draw, {"held_out": risk, "apparent": risk})
    seconds = round(time.process_time() - begin, 2)
    return [{"lever": lever, "world": world, "cohort": cohort, **judged, "seconds": seconds}]


def run_levers(
    out: str | Path,
    folder: str | Path,
    levers: Sequence[str] = tuple(LEVERS),
    cohorts: Sequence[int] = range(8),
    n_jobs: int = 1,
) -> pd.DataFrame:
    """Bring the table of `measure_lever` up to date, cohort by cohort.

    Parameters
    ----------
    out : str or Path
        CSV; see `study.grow_table`. After a change of the recipe, begin a new one.
    folder : str or Path
        Of the tuning pool.
    levers : sequence of str
        Names in `LEVERS`.
    cohorts : sequence of int
    n_jobs
        See `study.grow_table`.

    Raises
    ------
    ValueError
        Unknown lever.
    """
    unknown = set(levers) - set(LEVERS)
    if unknown:
        raise ValueError(f"unknown lever {', '.join(sorted(unknown))}; allowed: {', '.join(LEVERS)}")
    pools = make_pools(folder, TUNING_PATIENTS, CHOSEN_ON, seed=TUNING_SEED, n_jobs=n_jobs)
    return grow_table(
        out,
        columns=LEVER_COLUMNS,
        keys=LEVER_COLUMNS[:3],
        wanted=[(lever, world, cohort) for cohort in cohorts for lever in levers for world in CHOSEN_ON],
        work=partial(measure_lever, pools),
        n_jobs=n_jobs,
    )


def lever_table(table: pd.DataFrame) -> pd.DataFrame:
    """Compare each lever with the default recipe, cohort by cohort, in the mean of the worlds of the choice.

    Parameters
    ----------
    table : DataFrame
        `LEVER_COLUMNS`, as `run_levers` writes it.

    Returns
    -------
    DataFrame
        In the order of `LEVERS`, indexed by lever: ``what, cohorts, c_held_out, se`` (the lever alone), ``difference,
        difference_se, low, high`` (to the default on the same cohorts, 95 %), ``c_apparent, seconds`` (of one
        network), and the mean C of each world.
    """
    mean = table.groupby(["lever", "cohort"])[["c_held_out", "c_apparent"]].mean()
    held_out = mean.reset_index().pivot_table(index="cohort", columns="lever", values="c_held_out")
    by_world = table.pivot_table(index="lever", columns="world", values="c_held_out")
    rows = {}
    for lever in [name for name in LEVERS if name in held_out]:
        alone = mean_with_interval(held_out[lever].dropna())
        rows[lever] = {"what": LEVERS[lever].what, "cohorts": alone["cohorts"]}
        rows[lever] |= {"c_held_out": alone["mean"], "se": alone["se"]}
        paired = mean_with_interval(held_out[lever] - held_out["default"])
        beside = {"difference": "mean", "difference_se": "se", "low": "low", "high": "high"}
        rows[lever] |= {name: np.nan if lever == "default" else paired[key] for name, key in beside.items()}
        rows[lever] |= {"c_apparent": mean.loc[lever, "c_apparent"].mean()}
        rows[lever] |= {"seconds": table.loc[table["lever"] == lever, "seconds"].median(), **by_world.loc[lever]}
    return pd.DataFrame.from_dict(rows, orient="index")
