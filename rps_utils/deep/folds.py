"""The networks of all left-out sets: trained side by side, or read where they are there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from joblib import delayed
from torch import Tensor, nn

from rps_utils.deep.checkpoints import _read_only_tensor, read_checkpoint, write_checkpoint
from rps_utils.deep.networks import local_weights
from rps_utils.deep.training import TrainingSettings, Unfinished, one_thread, predict_risk, train_network
from rps_utils.files import file_sha256, read_json, write_json
from rps_utils.learning.crossfit import Ensemble, LeftOut, learn_ensemble, learning_patients, read_ensembles
from rps_utils.machine.progress import in_parallel
from rps_utils.run_folder import ENSEMBLES
from rps_utils.schema import NETWORK_SCALES, check_content, confined
from rps_utils.survival.concordance import harrell_c
from rps_utils.texts.counts import how_many

TRAIN = "train the networks of this run again"


@dataclass(frozen=True)
class FoldTask:
    """One network to train: which folds it leaves out, which seed it starts from, where it is kept."""

    left_out: LeftOut
    seed: int
    path: Path
    settings: TrainingSettings
    card: dict[str, Any]


def fit_fold_networks(
    patches: np.ndarray,
    cohort: pd.DataFrame,
    left_out_sets: Sequence[LeftOut],
    settings: TrainingSettings,
    models_dir: str | Path,
    n_jobs: int = 1,
    preprocessing: dict[str, Any] | None = None,
) -> dict[LeftOut, pd.Series]:
    """Train the networks of each left-out set and score every patient.

    A network whose checkpoint is there with the same card (settings, preprocessing, learning patients, their
    patches and outcome) is read instead of trained, and one that was in training goes on from the epoch last
    saved: a run that was stopped goes on where it was.

    Parameters
    ----------
    patches : ndarray, (n, channels, S, S, S)
        In the order of `cohort`.
    cohort : DataFrame
        With ``patient_id, split, fold, time_months, event``.
    left_out_sets : sequence of tuple of int
        From `rps_utils.crossfit.leave_out_sets`.
    settings : TrainingSettings
    models_dir : path
        Gets ``DL_without_<folds>_<number>.safetensors`` and a card of the same name in JSON, and `ENSEMBLES`: the
        scales that put a patient's raw risks side by side. While a network is in training its state lies beside
        them as ``unfinished_DL_...``.
    n_jobs : int
        Processes, one thread each.
    preprocessing : dict, optional
        How the patches were cut; kept in the cards.

    Returns
    -------
    dict
        Left-out set to Series of standardised risk of every patient (higher = earlier recurrence), the mean
        over the seeds.
    """
    if len(patches) != len(cohort):
        raise ValueError(
            f"{how_many(len(patches), 'patch', 'patches')} and {how_many(len(cohort), 'patient')}: read the "
            "patches with `read_patches`"
        )
    tasks = [
        _new_task(patches, cohort, left_out, number, settings, Path(models_dir), preprocessing or {})
        for left_out in left_out_sets
        for number in range(settings.seeds_per_fold)
    ]
    raw: dict[LeftOut, dict[str, pd.Series]] = {left_out: {} for left_out in left_out_sets}
    jobs = (delayed(train_or_read)(patches, cohort, task) for task in tasks)
    for task, risk in in_parallel(jobs, n_jobs, "networks", ordered=False):
        raw[task.left_out][task.path.name] = risk
    ensembles = [learn_ensemble(s, raw[s], learning_patients(cohort, s)) for s in left_out_sets]
    write_json({"ensembles": [asdict(ensemble) for ensemble in ensembles]}, Path(models_dir) / ENSEMBLES)
    return {ensemble.left_out: ensemble.score(raw[ensemble.left_out]) for ensemble in ensembles}


def _new_task(
    patches: np.ndarray,
    cohort: pd.DataFrame,
    left_out: LeftOut,
    number: int,
    settings: TrainingSettings,
    models_dir: Path,
    preprocessing: dict[str, Any],
) -> FoldTask:
    seed = network_seed(settings.seed, number, left_out)
    learns = cohort["patient_id"].isin(learning_patients(cohort, left_out)).to_numpy()
    name = "_".join(["DL", "without", *map(str, left_out)] if left_out else ["DL", "all"])
    card = {
        "format": 1,
        "left_out_folds": list(left_out),
        "seed": seed,
        "settings": json.loads(json.dumps(asdict(settings))),
        "patch_shape": list(patches.shape[1:]),
        "preprocessing": json.loads(json.dumps(preprocessing)),
        "training_patients": int(learns.sum()),
        "training_events": int(cohort.loc[learns, "event"].sum()),
        "training_ids_sha256": _sha256("\n".join(cohort.loc[learns, "patient_id"]).encode()),
        "training_data_sha256": learning_data_sha256(patches, cohort, learns),
    }
    if settings.weights:
        card["weights_sha256"] = file_sha256(local_weights(settings.weights))
    return FoldTask(left_out, seed, models_dir / f"{name}_{number}.safetensors", settings, card)


def network_seed(seed: int, number: int, left_out: LeftOut) -> int:
    """Return the seed of a network: it differs by left-out set, and by number where there are several for one set."""
    return int(np.random.SeedSequence([seed, number, *left_out]).generate_state(1)[0])


def learning_data_sha256(patches: np.ndarray, cohort: pd.DataFrame, learns: np.ndarray) -> str:
    """Return the hash of the patches and outcomes of those patients of a cohort (bool) who are learned from."""
    outcome = cohort.loc[learns, ["time_months", "event"]].to_numpy(float)
    return _sha256(np.ascontiguousarray(patches[learns]).tobytes(), outcome.tobytes())


def _sha256(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def train_or_read(patches: np.ndarray, cohort: pd.DataFrame, task: FoldTask) -> tuple[FoldTask, pd.Series]:
    """Train the network of a task, or read it if its checkpoint is there; return raw risks.

    Returns
    -------
    task : Task
    risk : Series
        Of every patient, indexed by ``patient_id``.
    """
    with one_thread():
        everyone = _read_only_tensor(patches)
        network, losses = _read_or_say(task), None
        if network is None:
            network, losses = _train(everyone, cohort, task)
        raw = pd.Series(
            predict_risk(network, everyone, task.settings.augmentation.orientations), pd.Index(cohort["patient_id"])
        )
    if losses is not None:
        card = {**task.card, "losses": losses, "metrics": card_metrics(raw, cohort, task.left_out)}
        write_checkpoint(network, card, task.path)
        _unfinished(task).path.unlink(missing_ok=True)
    return task, raw


def _read_or_say(task: FoldTask) -> nn.Module | None:
    """Read the network of a task; None where there is none, it was trained otherwise, or its file is damaged."""
    try:
        return read_checkpoint(task.path, task.card)
    except ValueError as error:
        print(f"{error}: trained again")
        return None


def _train(everyone: Tensor, cohort: pd.DataFrame, task: FoldTask) -> tuple[nn.Module, list[float]]:
    learning = learning_patients(cohort, task.left_out)
    learns = torch.from_numpy(cohort["patient_id"].isin(learning).to_numpy())
    time, event = (torch.tensor(cohort[c].to_numpy(float))[learns] for c in ("time_months", "event"))
    return train_network(everyone[learns], time, event, task.settings, task.seed, _unfinished(task))


def _unfinished(task: FoldTask) -> Unfinished:
    return Unfinished(task.path.with_name(f"unfinished_{task.path.name}"), task.card)


def card_metrics(risk: pd.Series, cohort: pd.DataFrame, left_out: LeftOut) -> dict[str, float | None]:
    """Return C of one network among the patients it learned from and among the training patients it did not see.

    A look at single networks for their cards, with no interval. None where no pair of patients can be compared.
    """
    training = cohort[cohort["split"] == "training"].set_index("patient_id")
    learned = training.index.isin(learning_patients(cohort, left_out))
    return {
        name: _c_or_none(part, risk[part.index])
        for name, part in {"c_apparent": training[learned], "c_left_out": training[~learned]}.items()
    }


def _c_or_none(outcome: pd.DataFrame, risk: pd.Series) -> float | None:
    c = float(harrell_c(outcome["time_months"], outcome["event"], risk)) if len(outcome) else np.nan
    return c if np.isfinite(c) else None


def read_fold_ensembles(models_dir: str | Path) -> dict[LeftOut, Ensemble]:
    """Return the ensembles that score new patients, each of networks that leave out one fold.

    Raises
    ------
    FileNotFoundError
        The scales that `fit_fold_networks` has written, or a network, are not there.
    """
    return {s: ensemble for s, ensemble in read_all_ensembles(models_dir).items() if len(s) == 1}


def read_all_ensembles(models_dir: str | Path) -> dict[LeftOut, Ensemble]:
    """Return the ensembles of every left-out set; see `read_fold_ensembles`."""
    models = Path(models_dir)
    if not (models / ENSEMBLES).is_file():
        raise FileNotFoundError(f"{models / ENSEMBLES} is missing: {TRAIN}")
    stored = check_content(read_json(models / ENSEMBLES), NETWORK_SCALES, models / ENSEMBLES)
    ensembles = read_ensembles(stored["ensembles"])
    for file in (file for ensemble in ensembles.values() for file in ensemble.networks):
        if not confined(models, file).is_file():
            raise FileNotFoundError(f"{models / file} is missing: {TRAIN}")
    return ensembles
