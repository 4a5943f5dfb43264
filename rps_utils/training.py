"""Training of survival networks and their cross-fitting, one thread and one process a network.

The loss is Cox's negative partial log-likelihood (torchsurv, Efron's ties) inside batches that hold events in
the proportion of the training set. Everything random comes from seeds: on one machine with one thread the same
settings give the same risk, bit by bit.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from rps_utils.augmentation import Augmentation, augment, legal_orientations, orient
from rps_utils.crossfit import LeftOut, learn_ensemble, learning_patients
from rps_utils.files import whole_file, write_json
from rps_utils.networks import build_network

ENSEMBLES = "DL_ensembles.json"


@dataclass(frozen=True)
class TrainingSettings:
    """How a network is trained. The defaults are the recipe that measured best at n = 86.

    Attributes
    ----------
    network : str
        See `rps_utils.networks.build_network`.
    network_options : dict
        Passed to it, for example ``{"widths": [8]}``.
    weights : str or None
        Local safetensors file to start from.
    epochs, batch_size : int
        Every patient is shown once an epoch.
    learning_rate : float
        Peak of the one-cycle schedule (AdamW).
    weight_decay : float
    gradient_clip : float
        Largest norm of the gradient.
    seeds_per_fold : int
        Networks a left-out set; their standardised risks are averaged.
    seed : int
    precision : {"fp32", "bf16"}
        bf16 is faster only where the processor has AMX, and several times slower elsewhere.
    device : str
        ``cpu`` or ``cuda``.
    intensity_channels : tuple of int
        Channels that hold HU: those whose contrast, brightness and noise may be changed.
    augmentation : Augmentation
    """

    network: str = "region"
    network_options: dict[str, Any] = field(default_factory=dict)
    weights: str | None = None
    epochs: int = 30
    batch_size: int = 16
    learning_rate: float = 1e-2
    weight_decay: float = 1e-2
    gradient_clip: float = 1.0
    seeds_per_fold: int = 1
    seed: int = 2026
    precision: str = "fp32"
    device: str = "cpu"
    intensity_channels: tuple[int, ...] = (0, 3)
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        """Refuse settings that would fail later or mean nothing."""
        rules = [
            ("epochs", self.epochs >= 1, "1 or more"),
            ("batch_size", self.batch_size >= 4, "4 or more: a partial likelihood compares patients"),
            ("learning_rate", self.learning_rate > 0, "above 0"),
            ("weight_decay", self.weight_decay >= 0, "0 or more"),
            ("seeds_per_fold", self.seeds_per_fold >= 1, "1 or more"),
            ("precision", self.precision in ("fp32", "bf16"), "fp32 or bf16"),
        ]
        wrong = [f"{n} = {getattr(self, n)!r}; allowed: {allowed}" for n, sound, allowed in rules if not sound]
        if wrong:
            raise ValueError("training settings: " + "; ".join(wrong))


def event_batches(event: Tensor, batch_size: int, generator: torch.Generator) -> list[Tensor]:
    """Deal the patients of an epoch into batches with equal shares of events.

    Parameters
    ----------
    event : Tensor of bool, (n,)
    batch_size : int
        Aimed at; batches are made equally large.
    generator : torch.Generator

    Returns
    -------
    list of Tensor
        Indices; every patient once. Each batch holds an event as long as there are as many events as batches:
        a batch without one has no partial likelihood.
    """
    n, events = len(event), int(event.sum())
    if not events:
        raise ValueError(f"none of {n} training patients has an event: a Cox model cannot be trained")
    count = max(1, min(round(n / batch_size), events))
    shuffled = torch.randperm(n, generator=generator)
    dealt = torch.cat([shuffled[event[shuffled]], shuffled[~event[shuffled]]])
    return [dealt[first::count] for first in range(count)]


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """Return the randomness of one epoch, the same whether training ran through or was taken up again."""
    state = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def train_network(
    patches: Tensor, time: Tensor, event: Tensor, settings: TrainingSettings, seed: int | None = None
) -> tuple[nn.Module, list[float]]:
    """Train one network on all patients given.

    Parameters
    ----------
    patches : Tensor, (n, channels, S, S, S)
        Any float type; read in float32.
    time : Tensor, (n,)
        Months to recurrence or censoring.
    event : Tensor, (n,)
        1 = recurrence.
    settings : TrainingSettings
    seed : int, optional
        In place of ``settings.seed``.

    Returns
    -------
    network : torch.nn.Module
        In evaluation mode, on the CPU.
    losses : list of float
        Mean loss of each epoch.

    Raises
    ------
    ValueError
        No events.
    FloatingPointError
        The loss left the finite numbers.
    """
    seed = settings.seed if seed is None else seed
    network = _new_network(patches, settings, seed).to(settings.device).train()
    optimizer = torch.optim.AdamW(network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    batches = len(event_batches(event.bool(), settings.batch_size, epoch_generator(seed, 0)))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=max(2, settings.epochs * batches)
    )
    losses = [
        _train_epoch(network, optimizer, schedule, (patches, time, event), settings, epoch_generator(seed, epoch))
        for epoch in range(settings.epochs)
    ]
    return network.cpu().eval(), losses


def _new_network(patches: Tensor, settings: TrainingSettings, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_network(
            settings.network, patches.shape[1], patches.shape[-1], settings.weights, **settings.network_options
        )


def _train_epoch(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    data: tuple[Tensor, Tensor, Tensor],
    settings: TrainingSettings,
    generator: torch.Generator,
) -> float:
    patches, time, event = data
    losses = []
    for batch in event_batches(event.bool(), settings.batch_size, generator):
        seen = augment(patches[batch].float(), generator, settings.augmentation, settings.intensity_channels)
        loss = _batch_loss(network, seen, time[batch], event[batch], settings)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), settings.gradient_clip)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return float(np.mean(losses))


def _batch_loss(network: nn.Module, patches: Tensor, time: Tensor, event: Tensor, settings: TrainingSettings) -> Tensor:
    with torch.autocast(settings.device, torch.bfloat16, enabled=settings.precision == "bf16"):
        log_hazard = network(patches.to(settings.device))[:, 0]
    finite = bool(torch.isfinite(log_hazard).all())
    loss = cox_loss(log_hazard, time.to(settings.device), event.to(settings.device)) if finite else None
    if loss is None or not torch.isfinite(loss):
        raise FloatingPointError(
            f"training left the finite numbers: lower learning_rate (now {settings.learning_rate:g}), or look for "
            "patches that are not finite"
        )
    return loss


def cox_loss(log_hazard: Tensor, time: Tensor, event: Tensor) -> Tensor:
    """Return Cox's negative partial log-likelihood, the mean over events, in float32 (torchsurv, Efron's ties).

    Parameters
    ----------
    log_hazard : Tensor, (n,)
        Higher = earlier recurrence.
    time : Tensor, (n,)
        Months.
    event : Tensor, (n,)
        1 = recurrence.
    """
    with warnings.catch_warnings():
        # It says at each batch that visits make tied times, which Efron's method is there for; and its import,
        # which takes seconds and so happens here, uses a part of torch that will go.
        warnings.filterwarnings("ignore", "Ties in `time` detected", UserWarning)
        warnings.filterwarnings("ignore", "`torch.jit.script", DeprecationWarning)
        from torchsurv.loss.cox import neg_partial_log_likelihood

        return neg_partial_log_likelihood(log_hazard.float(), event.bool(), time.float())


def predict_risk(network: nn.Module, patches: Tensor, orientations: str = "none", batch_size: int = 16) -> np.ndarray:
    """Return the log hazard of each patient, the mean over the orientations in which the network was trained.

    Parameters
    ----------
    network : torch.nn.Module
    patches : Tensor, (n, channels, S, S, S)
    orientations : str
        See `rps_utils.augmentation.Augmentation`.
    batch_size : int

    Returns
    -------
    ndarray of float64, (n,)
        No unit, up to a constant; higher = earlier recurrence.
    """
    with torch.inference_mode():
        risks = [
            torch.stack([network(orient(part.float(), o).contiguous())[:, 0] for o in legal_orientations(orientations)])
            for part in patches.split(batch_size)
        ]
    return torch.cat(risks, dim=1).double().mean(dim=0).numpy()


@dataclass(frozen=True)
class Task:
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
    progress: Callable[[str], Any] | None = None,
    preprocessing: dict[str, Any] | None = None,
) -> dict[LeftOut, pd.Series]:
    """Train the networks of each left-out set and score every patient.

    A network whose checkpoint is there with the same card (settings, preprocessing, learning patients, their
    patches and outcome) is read instead of trained: a run that was stopped goes on where it was.

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
        Gets ``DL_<folds>_<number>.safetensors`` and a card of the same name in JSON, and `ENSEMBLES`: the scales
        that put a patient's raw risks side by side.
    n_jobs : int
        Processes, one thread each.
    progress : callable, optional
        Called with a line of text after each network.
    preprocessing : dict, optional
        How the patches were cut; kept in the cards.

    Returns
    -------
    dict
        Left-out set to Series of standardised risk of every patient (higher = earlier recurrence), the mean
        over the seeds.
    """
    if len(patches) != len(cohort):
        raise ValueError(f"{len(patches)} patches and {len(cohort)} patients: read the patches with `read_patches`")
    tasks = [
        _new_task(patches, cohort, left_out, number, settings, Path(models_dir), preprocessing or {})
        for left_out in left_out_sets
        for number in range(settings.seeds_per_fold)
    ]
    raw: dict[LeftOut, dict[str, pd.Series]] = {left_out: {} for left_out in left_out_sets}
    work = Parallel(n_jobs=n_jobs, return_as="generator_unordered")(
        delayed(train_or_read)(patches, cohort, task) for task in tasks
    )
    for done, (task, risk, state) in enumerate(work, start=1):
        raw[task.left_out][task.path.name] = risk
        if progress:
            progress(f"{done} of {len(tasks)} networks: {task.path.stem} {state}")
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
) -> Task:
    seed = int(np.random.SeedSequence([settings.seed, number, *left_out]).generate_state(1)[0])
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
        "training_data_sha256": _sha256(
            np.ascontiguousarray(patches[learns]).tobytes(),
            cohort.loc[learns, ["time_months", "event"]].to_numpy(float).tobytes(),
        ),
    }
    return Task(left_out, seed, models_dir / f"{name}_{number}.safetensors", settings, card)


def _sha256(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def train_or_read(patches: np.ndarray, cohort: pd.DataFrame, task: Task) -> tuple[Task, pd.Series, str]:
    """Train the network of a task, or read it if its checkpoint is there; return raw risks.

    Returns
    -------
    task : Task
    risk : Series
        Of every patient, indexed by ``patient_id``.
    state : str
        "trained" or "read".
    """
    with one_thread():
        learning = learning_patients(cohort, task.left_out)
        learns = torch.from_numpy(cohort["patient_id"].isin(learning).to_numpy())
        everyone = _read_only_tensor(patches)
        network, state = read_checkpoint(task.path, task.card), "read"
        if network is None:
            time, event = (torch.tensor(cohort[c].to_numpy(float)) for c in ("time_months", "event"))
            network, losses = train_network(everyone[learns], time[learns], event[learns], task.settings, task.seed)
            write_checkpoint(network, {**task.card, "losses": losses}, task.path)
            state = "trained"
        raw = predict_risk(network, everyone, task.settings.augmentation.orientations)
    return task, pd.Series(raw, pd.Index(cohort["patient_id"])), state


def _read_only_tensor(array: np.ndarray) -> Tensor:
    with warnings.catch_warnings():
        # Processes share the patches as a read-only memory map. Nothing here writes to them, so no copy is needed.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.from_numpy(np.asarray(array))


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread: results repeat bit by bit, and processes do not get into each other's way."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def write_checkpoint(network: nn.Module, card: dict[str, Any], path: str | Path) -> None:
    """Write weights and card into one safetensors file, whole or not at all, and the card again as JSON."""
    path = Path(path)
    weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    with whole_file(path) as partial:
        save_file(weights, partial, metadata={"card": json.dumps(card, sort_keys=True)})
    write_json(card, path.with_suffix(".json"))


def read_card(path: str | Path) -> dict[str, Any]:
    """Return the card of a checkpoint: settings, preprocessing, learning patients' hash, loss of each epoch."""
    with safe_open(path, framework="pt") as stored:
        return json.loads((stored.metadata() or {}).get("card", "{}"))


def read_checkpoint(path: str | Path, card: dict[str, Any] | None = None) -> nn.Module | None:
    """Read a trained network.

    Parameters
    ----------
    path : path
        A file that `write_checkpoint` wrote.
    card : dict, optional
        What the network must have been trained with. None: whatever it was.

    Returns
    -------
    torch.nn.Module or None
        None if the file is missing or was trained otherwise.
    """
    if not Path(path).is_file():
        return None
    found = read_card(path)
    if card is not None and {**found, **card} != found:
        return None
    channels, size = found["patch_shape"][0], found["patch_shape"][-1]
    network = build_network(found["settings"]["network"], channels, size, **found["settings"]["network_options"])
    with safe_open(path, framework="pt") as stored:
        network.load_state_dict({name: stored.get_tensor(name) for name in stored.keys()})  # noqa: SIM118
    return network.eval()
