"""A shortcut on purpose: what scores learn where the scanner tells the outcome, and what takes it from them.

In the phantom variant ``confounded`` early patients were scanned with more noise, were followed for longer and
recurred earlier; in ``era_only`` nothing else drives recurrence, so that the scanner is all there is to learn. A
score can then be right for the wrong reason, and nothing in that cohort shows it. Here the same frozen scores are
also judged *elsewhere*: in the same new patients with outcomes that do not depend on the scanner. Everything is
synthetic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rps_utils.lab.studies.pool import PATCHES, Pool
from rps_utils.lab.studies.replicates import (
    QUICK_NETWORK,
    SETTINGS,
    TRUTH_DRAWS,
    Replicate,
    StudySettings,
    draw_replicate,
    with_outcome,
)
from rps_utils.lab.studies.tables import Rows, grow_table, mean_estimate
from rps_utils.learning.radiomics import SelectionSettings, fit_radiomic_model
from rps_utils.survival.concordance import harrell_c

SMOOTHING_MM = 4.0
FOLLOWS = 0.3  # a feature that correlates more strongly with the scanner than this is screened out
NOISE = 0.05  # of the noise augmentation: 10 HU on a patch voxel
SHORTCUT = StudySettings(epochs=20, reserve=100)
ELSEWHERE = {"confounded": "full", "era_only": "null"}  # the same hazard without the era
SHORTCUT_COLUMNS = ["variant", "replicate", *SETTINGS, "model", "way", "rho_scanner", "c_here", "c_elsewhere"]


@dataclass(frozen=True)
class Way:
    """One way to learn a score.

    Attributes
    ----------
    name : str
    unconfounded : bool
        Learn from outcomes that do not depend on the scanner: the reference.
    smooth : bool
        Learn and judge on smoothed images.
    guarded : bool
        Rad: leave out features that follow the scanner in training. DL: add noise as an augmentation.
    """

    name: str
    unconfounded: bool = False
    smooth: bool = False
    guarded: bool = False


REFERENCE, PLAIN = Way("no shortcut to learn", unconfounded=True), Way("as it is")
SMOOTH, SCREENED = Way("smoothed images", smooth=True), Way("without features that follow the scanner", guarded=True)
NOISY = Way("noise as augmentation", guarded=True)
WAYS: dict[str, dict[str, tuple[Way, ...]]] = {
    "confounded": {"Rad": (REFERENCE, PLAIN, SMOOTH, SCREENED), "DL": (REFERENCE, PLAIN, SMOOTH, NOISY)},
    "era_only": {"Rad": (PLAIN, SMOOTH, SCREENED), "DL": (PLAIN,)},
}


def measure_shortcut(pool: Pool, smooth: Pool, number: int, settings: StudySettings) -> list[dict[str, Any]]:
    """Learn every way's score in the training patients of one replicate and judge it in the reserve.

    Parameters
    ----------
    pool, smooth : Pool
        The same patients as scanned and with smoothed images.
    number : int
        Of the replicate.
    settings : StudySettings

    Returns
    -------
    list of dict
        One row a variant, model and way: ``rho_scanner`` (Spearman's correlation of score and scanner), ``c_here``
        (C where the scanner still tells the outcome) and ``c_elsewhere`` (C where it does not), means over several
        draws of the reserve's outcome.
    """
    rows = [row for variant in ELSEWHERE for row in _measure(pool, smooth, variant, number, settings)]
    head = {"replicate": number, **{name: getattr(settings, name) for name in SETTINGS}}
    return [{**head, **row} for row in rows]


def _measure(
    pool: Pool, smooth: Pool, variant: str, number: int, settings: StudySettings
) -> Iterator[dict[str, str | float]]:
    draw = draw_replicate(pool, variant, number, settings)
    draws = {False: draw, True: replace(draw, **_images(smooth, draw))}
    people, reserve = draw.cohort.drop(columns=["eta", "time_months", "event"]), draw.cohort["reserve"].to_numpy()
    seeds = [int(s) for s in np.random.SeedSequence([settings.seed, number, 1]).generate_state(1 + TRUTH_DRAWS)]
    outcomes = {False: draw.cohort, True: with_outcome(people, ELSEWHERE[variant], seeds[0])}
    elsewhere = [with_outcome(people[reserve], ELSEWHERE[variant], seed) for seed in seeds[1:]]
    scanner = people.loc[reserve, "scanner"]
    for model, way in ((model, way) for model, ways in WAYS[variant].items() for way in ways):
        risk = LEARN[model](draws[way.smooth], outcomes[way.unconfounded], way, settings)
        rho = scanner.corr(pd.Series(risk, scanner.index), "spearman")
        found = {"rho_scanner": rho, "c_here": _mean_c(draw.later, risk), "c_elsewhere": _mean_c(elsewhere, risk)}
        yield {"variant": variant, "model": model, "way": way.name, **{k: float(f"{v:.5g}") for k, v in found.items()}}


def _images(pool: Pool, draw: Replicate) -> dict[str, Any]:
    """Return patches and features of a replicate's patients from another pool of the same people."""
    ids = draw.cohort["patient_id"]
    place = pd.Series(np.arange(len(pool.patients)), pool.patients["patient_id"])[ids].to_numpy()
    return {"patches": pool.patches[place], "features": pool.features.loc[ids]}


def _mean_c(outcomes: list[pd.DataFrame], risk: np.ndarray) -> float:
    return float(np.mean([harrell_c(o["time_months"], o["event"], risk) for o in outcomes]))


def _learn_rad(draw: Replicate, outcome: pd.DataFrame, way: Way, settings: StudySettings) -> np.ndarray:
    learns = (draw.cohort["split"] == "training").to_numpy()
    features = draw.features
    if way.guarded:
        scanner = draw.cohort.set_index("patient_id")["scanner"]
        follows = features[learns].corrwith(scanner[learns], method="spearman").abs() > FOLLOWS
        features = features.loc[:, ~follows]
    model = fit_radiomic_model(features[learns], outcome[learns], SelectionSettings(repeats=1), draw.seed % 2**31)
    return model.risk(features[draw.cohort["reserve"].to_numpy()])


def _learn_dl(draw: Replicate, outcome: pd.DataFrame, way: Way, settings: StudySettings) -> np.ndarray:
    import torch

    from rps_utils.deep.augmentation import Augmentation
    from rps_utils.deep.training import TrainingSettings, one_thread, predict_risk, train_network

    augmentation = Augmentation(noise=NOISE if way.guarded else 0.0)
    recipe = TrainingSettings(
        **QUICK_NETWORK,
        epochs=settings.epochs,
        seed=draw.seed,
        intensity_channels=PATCHES.hu_channels(),
        augmentation=augmentation,
    )
    learns = (draw.cohort["split"] == "training").to_numpy()
    time, event = (torch.tensor(outcome.loc[learns, c].to_numpy(float)) for c in ("time_months", "event"))
    with one_thread():
        network, _ = train_network(torch.from_numpy(draw.patches[learns]), time, event, recipe)
        new = torch.from_numpy(draw.patches[draw.cohort["reserve"].to_numpy()])
        return predict_risk(network, new, augmentation.orientations)


# Each returns the risk of the reserve.
LEARN: dict[str, Callable[[Replicate, pd.DataFrame, Way, StudySettings], np.ndarray]] = {
    "Rad": _learn_rad,
    "DL": _learn_dl,
}


def run_shortcut(
    out: str | Path,
    pool: Pool,
    smooth: Pool,
    count: int,
    settings: StudySettings = SHORTCUT,
    n_jobs: int = 1,
) -> pd.DataFrame:
    """Bring a table of shortcut replicates up to date and return it; finished replicates are kept.

    Parameters
    ----------
    out : str or Path
        CSV.
    pool, smooth : Pool
        See `measure_shortcut`.
    count : int
        Replicates, numbered from 0.
    settings : StudySettings
    n_jobs : int
        Processes, one thread each.
    """
    if not pool.patients["patient_id"].equals(smooth.patients["patient_id"]):
        raise ValueError("the two pools hold different patients: render both with the same number and seed")
    wanted = [(number, *settings.identity()) for number in range(count)]
    work = partial(_measure_one, pool, smooth, settings)
    return grow_table(
        out, columns=SHORTCUT_COLUMNS, keys=["replicate", *SETTINGS], wanted=wanted, work=work, n_jobs=n_jobs
    )


def _measure_one(pool: Pool, smooth: Pool, settings: StudySettings, number: int, *_: int) -> Rows:
    return measure_shortcut(pool, smooth, number, settings)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return means over replicates with two standard errors to either side.

    Returns
    -------
    DataFrame
        ``variant, model, way, quantity, value, ci_low, ci_high, replicates``; ``quantity`` is ``rho_scanner``,
        ``c_here``, ``c_elsewhere``, or ``lost`` (c_here minus c_elsewhere, paired).
    """
    table = table.assign(lost=table["c_here"] - table["c_elsewhere"])
    rows = [
        (*about, quantity, *mean_estimate(part[quantity], 2)[:3], len(part))
        for about, part in table.groupby(["variant", "model", "way"], sort=False)
        for quantity in ("rho_scanner", "c_here", "c_elsewhere", "lost")
    ]
    return pd.DataFrame(
        rows, columns=["variant", "model", "way", "quantity", "value", "ci_low", "ci_high", "replicates"]
    )
