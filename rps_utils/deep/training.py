"""Training of survival networks and their cross-fitting, one thread and one process a network.

The loss is Cox's negative partial log-likelihood (torchsurv, Efron's ties) inside batches that hold events in
the proportion of the training set. Everything random comes from seeds: on one machine with one thread the same
settings give the same risk, bit by bit, also when the training was killed and taken up again.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from rps_utils.deep.augmentation import Augmentation, augment, legal_orientations, orient
from rps_utils.deep.checkpoints import read_card
from rps_utils.deep.networks import RegionNetwork, build_network
from rps_utils.files import whole_file

# A state is saved no more often than this, and saving takes no larger share of the time than that: it takes
# milliseconds for the default network and a second or more for the largest.
SAVE_EVERY_S, SAVING_SHARE = 2.0, 0.02


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
        Local safetensors file to start from; see `rps_utils.networks.take_over_weights`.
    epochs, batch_size : int
        Every patient is shown once an epoch.
    learning_rate : float
        Peak of the one-cycle schedule (AdamW).
    weight_decay : float
    ridge : float
        Penalty of the last layer of a network that has `RegionNetwork.summaries`: the log partial likelihood loses
        ridge / 2 times its squared weights. At the end of the training that layer is fitted to the end.
    gradient_clip : float
        Largest norm of the gradient.
    seeds_per_fold : int
        Networks a left-out set; their standardised risks are averaged.
    seed : int
    precision : {"fp32", "bf16"}
        bf16 is faster only where the processor has AMX, and several times slower elsewhere. After a few epochs the
        scores of both agree within 0.2 of their SD; long trainings amplify rounding, and drift apart like two seeds.
    device : str
        ``cpu``, or where PyTorch finds such a GPU ``cuda``. Scores are computed on the CPU in any case.
    intensity_channels : tuple of int
        Channels that hold HU: those whose contrast, brightness and noise may be changed.
    augmentation : Augmentation
    """

    network: str = "region"
    network_options: dict[str, Any] = field(default_factory=dict)
    weights: str | None = None
    epochs: int = 10
    batch_size: int = 16
    learning_rate: float = 1e-2
    weight_decay: float = 1e-2
    ridge: float = 4.0
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
            ("ridge", self.ridge > 0, "above 0"),
            ("seeds_per_fold", self.seeds_per_fold >= 1, "1 or more"),
            ("precision", self.precision in ("fp32", "bf16"), "fp32 or bf16"),
            ("device", self.device == "cpu" or self._on_gpu(), "cpu, or cuda where PyTorch finds such a GPU"),
        ]
        wrong = [f"{n} = {getattr(self, n)!r}; allowed: {allowed}" for n, sound, allowed in rules if not sound]
        if wrong:
            raise ValueError("training settings: " + "; ".join(wrong))

    def _on_gpu(self) -> bool:
        return self.device == "cuda" and torch.cuda.is_available()


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


@dataclass(frozen=True)
class Unfinished:
    """Where the state of an unfinished training is kept, beside the checkpoint it will become.

    Attributes
    ----------
    path : Path
        Safetensors file: weights, state of the optimiser, place in the schedule, losses.
    card : dict
        What the training was begun with. A state with another card is not taken up.
    """

    path: Path
    card: dict[str, Any]


class Training:
    """One network in training; `finish` trains it to the end.

    What is no setting can be tried by overriding `new_network`, `batches`, `loss` or `train_epoch`, as
    `rps_utils.recipes` does.

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

    Attributes
    ----------
    network : torch.nn.Module
    losses : list of float
        Mean loss of each epoch so far.
    """

    def __init__(
        self, patches: Tensor, time: Tensor, event: Tensor, settings: TrainingSettings, seed: int | None = None
    ) -> None:
        self.patches, self.time, self.event, self.settings = patches, time, event, settings
        self.seed = settings.seed if seed is None else seed
        with seeded(self.seed):
            self.network = self.new_network().to(settings.device).train()
        self.losses: list[float] = []
        rate = settings.learning_rate
        self.optimizer = torch.optim.AdamW(self.network.parameters(), rate, weight_decay=settings.weight_decay)
        steps = settings.epochs * len(self.batches(epoch_generator(self.seed, 0)))
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, rate, total_steps=max(2, steps))

    def new_network(self) -> nn.Module:
        """Build the network that is to be trained."""
        channels, size = self.patches.shape[1], self.patches.shape[-1]
        chosen = self.settings
        return build_network(chosen.network, channels, size, chosen.weights, **chosen.network_options)

    def batches(self, generator: torch.Generator) -> list[Tensor]:
        """Return the indices of the patients in each batch of an epoch."""
        return event_batches(self.event.bool(), self.settings.batch_size, generator)

    def loss(self, patches: Tensor, batch: Tensor) -> Tensor:
        """Return the loss of a batch: its patches as augmented, and the indices of its patients."""
        penalty = ridge_penalty(self.network, self.settings.ridge) / self.event.sum()
        return cox_loss(self.outputs(patches)[:, 0], *self.outcome(batch)) + penalty

    def outputs(self, patches: Tensor) -> Tensor:
        """Return what the network says, (n, 1) or more, in the precision asked for."""
        kind = torch.device(self.settings.device).type
        with torch.autocast(kind, torch.bfloat16, enabled=self.settings.precision == "bf16"):
            said = self.network(patches.to(self.settings.device))
        self._refuse_unless(bool(torch.isfinite(said).all()))
        return said

    def outcome(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Return time and event of a batch, on the device of the network."""
        return self.time[batch].to(self.settings.device), self.event[batch].to(self.settings.device)

    def _refuse_unless(self, finite: bool) -> None:
        if not finite:
            raise FloatingPointError(
                f"training left the finite numbers: lower learning_rate (now {self.settings.learning_rate:g}), or "
                "look for patches that are not finite"
            )

    def train_epoch(self) -> None:
        """Show every patient once."""
        generator = epoch_generator(self.seed, len(self.losses))
        with seeded(generator.initial_seed()):
            losses = [self._step(batch, generator) for batch in self.batches(generator)]
        self.losses.append(float(np.mean(losses)))

    def _step(self, batch: Tensor, generator: torch.Generator) -> float:
        chosen = self.settings
        seen = augment(self.patches[batch].float(), generator, chosen.augmentation, chosen.intensity_channels)
        loss = self.loss(seen, batch)
        self._refuse_unless(bool(torch.isfinite(loss)))
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), chosen.gradient_clip)
        self.optimizer.step()
        self.schedule.step()
        return loss.item()

    def finish(self, kept: Unfinished | None = None) -> nn.Module:
        """Train the epochs that are left; return the network in evaluation mode, on the CPU.

        Parameters
        ----------
        kept : Unfinished, optional
            A state that is there is taken up, and the state is saved after an epoch, every few seconds.
        """
        if kept:
            self.take_up(kept)
        due = monotonic() + SAVE_EVERY_S
        while len(self.losses) < self.settings.epochs:
            self.train_epoch()
            if kept and (begin := monotonic()) >= due:
                self.save(kept)
                due = monotonic() + max(SAVE_EVERY_S, (monotonic() - begin) / SAVING_SHARE)
        network = self.network.cpu().eval()
        settle_head(network, self.patches, self.time, self.event, self.settings.ridge)
        return network

    def save(self, kept: Unfinished) -> None:
        """Write the state of the training, whole or not at all."""
        state = self.optimizer.state_dict()
        tensors = {f"network/{name}": tensor for name, tensor in self.network.state_dict().items()}
        for number, values in state["state"].items():
            tensors |= {f"optimizer/{number}/{name}": tensor for name, tensor in values.items()}
        place = {"groups": state["param_groups"], "schedule": self.schedule.state_dict(), "losses": self.losses}
        words = {"card": json.dumps(kept.card, sort_keys=True), "place": json.dumps(place)}
        with whole_file(kept.path) as partial:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial, metadata=words)

    def take_up(self, kept: Unfinished) -> None:
        """Go back to a saved state. One that is missing or was begun with another card is left alone."""
        if not kept.path.is_file() or read_card(kept.path) != kept.card:
            return
        with safe_open(kept.path, framework="pt") as stored:
            place = json.loads(stored.metadata()["place"])
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        weights: dict[str, Tensor] = {}
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            part, rest = name.split("/", 1)
            if part == "network":
                weights[rest] = tensor
            else:
                number, moment = rest.split("/")
                moments.setdefault(int(number), {})[moment] = tensor
        self.network.load_state_dict(weights)
        self.optimizer.load_state_dict({"state": moments, "param_groups": place["groups"]})
        self.schedule.load_state_dict(place["schedule"])
        self.losses = place["losses"]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from this seed what a network draws by itself, first weights and dropout; elsewhere nothing changes."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


def train_network(
    patches: Tensor,
    time: Tensor,
    event: Tensor,
    settings: TrainingSettings,
    seed: int | None = None,
    kept: Unfinished | None = None,
) -> tuple[nn.Module, list[float]]:
    """Train one network on all patients given.

    Parameters
    ----------
    patches, time, event, settings, seed
        See `Training`.
    kept : Unfinished, optional
        Where a killed training is taken up, and kept while it goes on.

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
    training = Training(patches, time, event, settings, seed)
    return training.finish(kept), training.losses


def ridge_penalty(network: nn.Module, ridge: float) -> Tensor | float:
    """Return the penalty of the last layer of a `RegionNetwork`, in units of the log partial likelihood; else 0."""
    return ridge / 2 * network.head.weight.square().sum() if isinstance(network, RegionNetwork) else 0.0


def settle_head(network: nn.Module, patches: Tensor, time: Tensor, event: Tensor, ridge: float) -> None:
    """Fit the last layer to the end: a ridge Cox model on the summaries of the patients that the network learned from.

    With the filters held still the problem is convex, so its solution does not depend on where training stopped.
    scikit-survival solves it in double precision, with Efron's ties as in `cox_loss`.

    Parameters
    ----------
    network : torch.nn.Module
        Of a `RegionNetwork`, scale and last layer are changed; any other is left as it is.
    patches, time, event
        Of the patients learned from; see `Training`.
    ridge : float
        See `TrainingSettings`.
    """
    if not isinstance(network, RegionNetwork):
        return
    from sksurv.linear_model import CoxPHSurvivalAnalysis  # two seconds, so only where a network is trained
    from sksurv.util import Surv

    with torch.no_grad():
        summaries = torch.cat([network.summaries(part.float()) for part in patches.split(16)])
        network.ruler.fit(summaries)
        terms = network.ruler(summaries).double().cpu().numpy()
        outcome = Surv.from_arrays(event.cpu().numpy() == 1, time.cpu().numpy())
        cox = CoxPHSurvivalAnalysis(alpha=ridge, ties="efron", n_iter=500).fit(terms, outcome)
        network.head.weight.copy_(torch.from_numpy(cox.coef_)[None])


def cox_loss(log_hazard: Tensor, time: Tensor, event: Tensor) -> Tensor:
    """Return Cox's negative partial log-likelihood (torchsurv, Efron's ties), in single precision.

    The mean over the times at which something recurred; tied recurrences share one.

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
    turns = legal_orientations(orientations)
    with torch.inference_mode():
        risks = [
            torch.stack([network(orient(part, turn).contiguous())[:, 0] for turn in turns])
            for part in (some.float() for some in patches.split(batch_size))
        ]
    return torch.cat(risks, dim=1).double().mean(dim=0).numpy()


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread: results repeat bit by bit, and processes do not get into each other's way."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
