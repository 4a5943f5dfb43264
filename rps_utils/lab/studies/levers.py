"""What each choice in the recipe of the network is worth, and how well the recipe chosen does.

Two tables, both made of synthetic cohorts drawn from rendered pools (`rps_utils.study`): 86 patients to learn from,
214 (tuning) or 300 (report) others to be judged on.

`measure_lever` trains **one** network with one thing changed, on cohorts of the *tuning* pool. All levers meet the
same cohorts, so differences are paired. `measure_scores` judges the mean of five fold networks of the default recipe
beside its rivals and the truth, on cohorts of the pool from which everything is *reported*: other patients.

No lever may use what a real training patient does not have: it is not handed the phantom's own truth.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from rps_utils.deep.augmentation import NO_AUGMENTATION, Augmentation, augment
from rps_utils.deep.training import (
    Training,
    TrainingSettings,
    Unfinished,
    cox_loss,
    epoch_generator,
    one_thread,
    predict_risk,
    seeded,
)
from rps_utils.imaging.patches import PatchSettings, make_patch, read_patches, write_patches
from rps_utils.imaging.volumes import Volume
from rps_utils.lab.phantom.ct import render_patient
from rps_utils.lab.phantom.patients import LATENTS, draw_patients, image_causes
from rps_utils.lab.studies.held_out import judge_held_out
from rps_utils.lab.studies.pool import PATCHES, Pool, make_pool
from rps_utils.lab.studies.replicates import Replicate, StudySettings, draw_replicate
from rps_utils.lab.studies.tables import Rows, grow_table, mean_with_interval
from rps_utils.learning.radiomics import clipped_scores, varying_features

TUNING_SEED, TUNING_PATIENTS = 101, 300
TUNING_COHORT = StudySettings(reserve=TUNING_PATIENTS - 115)  # 86 to learn from, the whole rest of the pool to judge on
TABOO = [*LATENTS, "eta", "scanner", "image_seed"]  # what nobody knows of a real patient
LEVER_COLUMNS = ["lever", "cohort", "c_held_out", "c_apparent", "seconds"]

Score = Callable[[Tensor], np.ndarray]  # patches to risk, higher = earlier recurrence


@dataclass(frozen=True)
class Lesson:
    """What one network of a tuning cohort learns from: training patients and nobody else.

    Attributes
    ----------
    patches : Tensor, (n, channels, S, S, S)
    cohort : DataFrame
        Their rows, with ``time_months, event, fold`` and clinical columns.
    features : DataFrame
        Their radiomic features.
    settings : TrainingSettings
        With the seed of the network.
    """

    patches: Tensor
    cohort: pd.DataFrame
    features: pd.DataFrame
    settings: TrainingSettings

    def outcome(self) -> tuple[Tensor, Tensor]:
        """Return time and event."""
        time, event = (torch.tensor(self.cohort[c].to_numpy(float)) for c in ("time_months", "event"))
        return time, event

    def part(self, chosen: np.ndarray) -> Lesson:
        """Return the lesson of some of the patients, chosen by a mask."""
        patches = self.patches[torch.from_numpy(chosen)]
        return replace(self, patches=patches, cohort=self.cohort[chosen], features=self.features[chosen])

    def with_settings(self, **changed: Any) -> Lesson:
        """Return the same lesson for another recipe."""
        return replace(self, settings=replace(self.settings, **changed))


def one_network(lesson: Lesson, kind: Callable[..., Training] = Training) -> partial[np.ndarray]:
    """Train one network."""
    network = kind(lesson.patches, *lesson.outcome(), lesson.settings).finish()
    return partial(predict_risk, network, orientations=lesson.settings.augmentation.orientations)


def mean_score(scores: Sequence[Score], lesson: Lesson) -> Score:
    """Return the mean of scores, each standardised by the patients of the lesson."""
    learned = [score(lesson.patches) for score in scores]
    scales = [(raw.mean(), raw.std()) for raw in learned]

    def score(patches: Tensor) -> np.ndarray:
        parts = [(own(patches) - m) / sd for own, (m, sd) in zip(scores, scales, strict=True)]
        return np.mean(parts, axis=0)

    return score


def three_seeds(lesson: Lesson) -> Score:
    """Average three networks that differ by their seed."""
    seeds = [lesson.settings.seed + i for i in range(3)]
    return mean_score([one_network(lesson.with_settings(seed=seed)) for seed in seeds], lesson)


def five_folds(lesson: Lesson) -> Score:
    """Average five networks, each of which learned from four fifths of the patients."""
    fold = lesson.cohort["fold"].to_numpy()
    return mean_score([one_network(lesson.part(fold != k)) for k in np.unique(fold)], lesson)


def snapshots(lesson: Lesson, cycles: int = 3) -> Score:
    """Average the network at the end of each of three cycles of the learning rate, 30 epochs in all.

    References
    ----------
    Huang et al., Snapshot ensembles, ICLR 2017.
    """
    scores: list[Score] = []
    weights = lesson.settings.weights
    with TemporaryDirectory() as folder:
        for cycle in range(cycles):
            chosen = {"epochs": lesson.settings.epochs // cycles, "seed": lesson.settings.seed + cycle}
            score = one_network(lesson.with_settings(**chosen, weights=weights))
            scores.append(score)
            weights = f"{folder}/{cycle}.safetensors"
            save_file({k: v.contiguous() for k, v in score.args[0].state_dict().items()}, weights)
    return mean_score(scores, lesson)


class Undealt(Training):
    """Batches drawn at random; those without an event are left out, since they have no loss."""

    def batches(self, generator: torch.Generator) -> list[Tensor]:
        """Return the indices of the patients in each batch of an epoch."""
        drawn = torch.randperm(len(self.event), generator=generator)
        count = len(super().batches(generator))
        return [batch for batch in drawn.chunk(count) if self.event[batch].any()]


class Stopped(Training):
    """The network of the epoch at which the Cox loss of an inner fold, which it does not learn from, was lowest.

    Parameters
    ----------
    inner : Lesson
        The inner fold.
    """

    def __init__(self, *given: Any, inner: Lesson) -> None:
        super().__init__(*given)
        self.inner, self.best = inner, (np.inf, self.network)

    def train_epoch(self) -> None:
        """Show every patient once, and look at the inner fold."""
        super().train_epoch()
        risk = predict_risk(self.network.eval(), self.inner.patches)
        loss = float(cox_loss(torch.from_numpy(risk), *self.inner.outcome()))
        if loss < self.best[0]:
            self.best = loss, deepcopy(self.network)
        self.network.train()

    def finish(self, kept: Unfinished | None = None) -> nn.Module:
        """Train to the end; return the best network."""
        super().finish(kept)
        return self.best[1].eval()


def stopped_early(lesson: Lesson) -> Score:
    """Learn from four fifths, stop by the last fifth."""
    inside = (lesson.cohort["fold"] == 0).to_numpy()
    return one_network(lesson.part(~inside), partial(Stopped, inner=lesson.part(inside)))


class WithMomentum(Training):
    """Torchsurv's momentum loss: risk sets span several batches, remembered by a slowly moving twin.

    The twin moves by 0.9 instead of the library's 0.999: there are some 150 steps in all.
    """

    def new_network(self) -> nn.Module:
        """Build the network, and its twin."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`torch.jit.script", DeprecationWarning)
            from torchsurv.loss.momentum import Momentum

        largest = max(len(batch) for batch in self.batches(epoch_generator(self.seed, 0)))
        pair = Momentum(super().new_network(), _momentum_loss, largest, steps=4, rate=0.9)
        self.twins = [pair]  # in a list: one of the two, not the pair, is the network in training
        return pair.online

    def loss(self, patches: Tensor, batch: Tensor) -> Tensor:
        """Return the loss of a batch together with those remembered."""
        time, event = self.outcome(batch)
        self.twins[0].memory_q.clear()
        return self.twins[0](patches, event, time)

    def finish(self, kept: Unfinished | None = None) -> nn.Module:
        """Train to the end; return the twin."""
        super().finish(kept)
        return self.twins[0].target.eval()


def _momentum_loss(log_hazard: Tensor, event: Tensor, time: Tensor) -> Tensor:
    return cox_loss(log_hazard, time, event)


class WithTasks(Training):
    """A network that also learns other things known of its training patients, from the same summaries.

    Parameters
    ----------
    targets : Tensor, (n, k)
        Standardised.
    """

    weight = 0.3

    def __init__(self, *given: Any, targets: Tensor) -> None:
        self.targets = targets
        super().__init__(*given)

    def new_network(self) -> nn.Module:
        """Build the network with one output more for each target; the first is the log hazard."""
        network = super().new_network()
        head = nn.Linear(cast(nn.Linear, network.head).in_features, 1 + self.targets.shape[1])
        nn.init.zeros_(head.weight)
        network.head = head
        return network

    def loss(self, patches: Tensor, batch: Tensor) -> Tensor:
        """Return the Cox loss plus the weighted mean squared error of the targets."""
        said = self.outputs(patches)
        others = functional.mse_loss(said[:, 1:], self.targets[batch])
        return cox_loss(said[:, 0], *self.outcome(batch)) + self.weight * others


def with_tasks(lesson: Lesson, names: Sequence[str]) -> Score:
    """Train a network that also learns ``size``, ``histology``, ``margin`` or ``radiomics`` (eight components)."""
    columns = np.hstack([TARGETS[name](lesson) for name in names]).astype(np.float32)
    columns = columns[:, columns.std(axis=0) > 0]
    targets = torch.from_numpy((columns - columns.mean(axis=0)) / columns.std(axis=0))
    return one_network(lesson, partial(WithTasks, targets=targets))


def _components(lesson: Lesson) -> np.ndarray:
    values = lesson.features[varying_features(lesson.features)].to_numpy(float)
    left, sizes, _ = np.linalg.svd(clipped_scores(values, values.mean(axis=0), values.std(axis=0)), full_matrices=False)
    return left[:, :8] * sizes[:8]


TARGETS: dict[str, Callable[[Lesson], np.ndarray]] = {
    "size": lambda lesson: np.log(lesson.cohort[["size_cm"]].to_numpy()),
    "histology": lambda lesson: pd.get_dummies(lesson.cohort["histology"]).to_numpy(float),
    "margin": lambda lesson: pd.get_dummies(lesson.cohort["margin"]).to_numpy(float),
    "radiomics": _components,
}


def painted_first(lesson: Lesson) -> Score:
    """Learn first to paint in hidden cubes of the training images, then the outcome (self-supervised)."""
    with TemporaryDirectory() as folder:
        start = Path(folder) / "start.safetensors"
        save_file({k: v.contiguous() for k, v in learn_to_paint(lesson).items()}, start)
        return one_network(lesson.with_settings(weights=start))


def learn_to_paint(lesson: Lesson, *, epochs: int = 30, cube: int = 4) -> dict[str, Tensor]:
    """Return the convolutions of a network that paints in the half of the voxels that it is not shown."""
    settings, channels = lesson.settings, lesson.patches.shape[1]
    with seeded(settings.seed):
        blocks = cast(nn.ModuleList, Training(lesson.patches, *lesson.outcome(), settings).network.blocks)
        maps = [layer.out_channels for layer in blocks.modules() if isinstance(layer, nn.Conv3d)][::-1]
        up = [nn.ConvTranspose3d(a, b, 2, 2) for a, b in zip(maps, [*maps[1:], channels], strict=True)]
        painter = nn.Sequential(*blocks, *[part for layer in up for part in (layer, nn.ReLU())][:-1])
    optimizer = torch.optim.AdamW(painter.parameters(), 3e-3, weight_decay=settings.weight_decay)
    for epoch in range(epochs):
        generator = epoch_generator(settings.seed, epoch)
        for batch in torch.randperm(len(lesson.patches), generator=generator).split(settings.batch_size):
            whole = lesson.patches[batch].float()
            whole = augment(whole, generator, settings.augmentation, settings.intensity_channels)
            coarse = torch.rand(len(batch), 1, *[s // cube for s in whole.shape[2:]], generator=generator) < 0.5
            hidden = functional.interpolate(coarse.float(), scale_factor=cube).expand_as(whole) > 0
            loss = functional.mse_loss(painter(whole * ~hidden)[hidden], whole[hidden])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return {f"blocks.{name}": tensor for name, tensor in blocks.state_dict().items()}


@dataclass(frozen=True)
class Lever:
    """One thing changed in the default recipe.

    Attributes
    ----------
    what : str
        In words.
    settings : dict
        Changed `TrainingSettings`.
    see : callable
        Makes of the patches of a cohort (a `Replicate`) what the network is shown.
    learn : callable
        Makes of a lesson a score.
    cut : PatchSettings
        How the patches are cut from the scans.
    """

    what: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    see: Callable[[Replicate], np.ndarray] = lambda draw: draw.patches
    learn: Callable[[Lesson], Score] = one_network
    cut: PatchSettings = PATCHES


def channels(*names: str) -> Callable[[Replicate], np.ndarray]:
    """Show only these channels; ``hu`` is the scan as it is, inside and outside the tumour."""

    def see(draw: Replicate) -> np.ndarray:
        there = {name: draw.patches[:, i] for i, name in enumerate(PATCHES.channels)}
        there["hu"] = there["tumour"] + there["context"]
        return np.stack([there[name] for name in names], axis=1)

    return see


def as_scanned(draw: Replicate) -> np.ndarray:
    """Mirror back the patients whose tumour is on the right."""
    right = (draw.cohort["side"] == "right").to_numpy()[:, None, None, None, None]
    return np.where(right, draw.patches[:, :, ::-1], draw.patches)


PLAIN_NETWORK, HU = {"network": "plain", "learning_rate": 3e-3}, {"intensity_channels": (0,)}


def _augmented(**changed: Any) -> dict[str, Any]:
    return {"augmentation": replace(Augmentation(), **changed)}


LEVERS: dict[str, Lever] = {
    "default": Lever("the default recipe"),
    # what the network is shown
    "plain_hu_raw": Lever(
        "plain network, HU only, no augmentation",
        {**PLAIN_NETWORK, **HU, "augmentation": NO_AUGMENTATION},
        channels("hu"),
    ),
    "plain_hu_all": Lever(
        "plain network, HU only, all 48 orientations",
        {**PLAIN_NETWORK, **HU, **_augmented(orientations="all")},
        channels("hu"),
    ),
    "plain_hu": Lever("plain network, HU only", {**PLAIN_NETWORK, **HU}, channels("hu")),
    "plain_hu_mask": Lever("plain network, HU and mask", {**PLAIN_NETWORK, **HU}, channels("hu", "mask")),
    "plain": Lever("plain network, all five channels", PLAIN_NETWORK),
    "no_deviation": Lever(
        "without the deviation channel", {"intensity_channels": (0, 2)}, channels("tumour", "mask", "context", "rim")
    ),
    "no_context": Lever("without what surrounds the tumour", HU, channels("tumour", "mask", "deviation", "rim")),
    "no_augmentation": Lever("no augmentation", {"augmentation": NO_AUGMENTATION}),
    "all_orientations": Lever("all 48 orientations, which is illegal", _augmented(orientations="all")),
    "no_shift": Lever("no shifts", _augmented(shift_voxels=0)),
    "more_contrast": Lever(
        "contrast 0.1 and noise 0.05 instead of 0.05 and none", _augmented(contrast=0.1, noise=0.05)
    ),
    "tumour_scaled": Lever("patch scaled to the tumour instead of 12 mm a voxel", cut=PatchSettings(spacing_mm=None)),
    "as_scanned": Lever("no canonical frame, no mirror images", see=as_scanned),
    "both_sides": Lever(
        "no canonical frame, whole patients mirrored instead", _augmented(orientations="both_sides"), as_scanned
    ),
    # the network
    "no_gradient": Lever("without the gradient from flank to midline", {"network_options": {"gradient": False}}),
    "no_margin": Lever("without the mean in the margin", {"network_options": {"margin": False}}),
    "no_convolution": Lever("no convolution at all", {"network_options": {"widths": ()}}),
    "half_width": Lever("8 and 16 maps instead of 16 and 32", {"network_options": {"widths": (8, 16)}}),
    "batch_norm": Lever("batch norm instead of group norm", {"network_options": {"norm": "batch"}}),
    "dropout": Lever("dropout 0.3 of the summaries", {"network_options": {"dropout": 0.3}}),
    "resnet10": Lever("MONAI's resnet10, learning rate 0.001", {"network": "resnet10", "learning_rate": 1e-3}),
    # the training
    "epochs_15": Lever("15 epochs instead of 30", {"epochs": 15}),
    "epochs_60": Lever("60 epochs", {"epochs": 60}),
    "rate_0.003": Lever("learning rate 0.003 instead of 0.01", {"learning_rate": 3e-3}),
    "decay_0.3": Lever("weight decay 0.3 instead of 0.01", {"weight_decay": 0.3}),
    "decay_3": Lever("weight decay 3", {"weight_decay": 3.0}),
    "batch_8": Lever("batches of 8 instead of 16", {"batch_size": 8}),
    "batch_32": Lever("batches of 32", {"batch_size": 32}),
    "undealt": Lever("events not dealt evenly", learn=partial(one_network, kind=Undealt)),
    "momentum": Lever("momentum loss of torchsurv", learn=partial(one_network, kind=WithMomentum)),
    "stopped": Lever("stopped early by an inner fold", learn=stopped_early),
    # more to learn from
    "task_size": Lever("also learns the tumour's size", learn=partial(with_tasks, names=("size",))),
    "task_histology": Lever("also learns histology", learn=partial(with_tasks, names=("histology",))),
    "task_margin": Lever("also learns the resection margin", learn=partial(with_tasks, names=("margin",))),
    "task_radiomics": Lever("also learns the radiomic features", learn=partial(with_tasks, names=("radiomics",))),
    "tasks": Lever("also learns all of these", learn=partial(with_tasks, names=tuple(TARGETS))),
    "painted": Lever("learns first to paint in hidden parts of the training images", learn=painted_first),
    # several networks
    "seeds_3": Lever("mean of 3 seeds", learn=three_seeds),
    "snapshots": Lever("mean of 3 snapshots, 10 epochs apart", learn=snapshots),
    "folds_5": Lever("mean of 5 networks that leave out a fifth each", learn=five_folds),
}


def measure_lever(pools: Mapping[PatchSettings, Pool], lever: str, cohort: int) -> Rows:
    """Train on the training patients of one tuning cohort with one lever, and judge on the others.

    Parameters
    ----------
    pools : mapping
        The tuning pool by the way in which its patches were cut. Outcomes are those of the variant ``full``.
    lever : str
        A name in `LEVERS`.
    cohort : int
        Number of the cohort, from 0.

    Returns
    -------
    list of dict
        One row with `LEVER_COLUMNS`; ``seconds`` of one processor, scoring included.
    """
    chosen = LEVERS[lever]
    draw = draw_replicate(pools[chosen.cut], "full", cohort, TUNING_COHORT)
    given: dict[str, Any] = {"seed": draw.seed, "intensity_channels": PATCHES.hu_channels(), **chosen.settings}
    settings = TrainingSettings(**given)
    learned = (draw.cohort["split"] == "training").to_numpy()
    begin = time.process_time()
    with one_thread():
        shown = torch.from_numpy(np.ascontiguousarray(chosen.see(draw)))
        everybody = Lesson(shown, draw.cohort.drop(columns=TABOO), draw.features, settings)
        score = chosen.learn(everybody.part(learned))
        risk = pd.Series(score(shown), pd.Index(draw.cohort["patient_id"]))
    judged = judge_held_out(draw, {"held_out": risk, "apparent": risk})
    return [{"lever": lever, "cohort": cohort, **judged, "seconds": round(time.process_time() - begin, 2)}]


def tuning_pool(folder: str | Path, cut: PatchSettings = PATCHES, n_jobs: int = 1) -> Pool:
    """Render the tuning pool, or read it; other patches than the usual ones are cut in a second rendering."""
    pool = make_pool(folder, TUNING_PATIENTS, seed=TUNING_SEED, n_jobs=n_jobs)
    if cut == PATCHES:
        return pool
    ids, path = list(pool.patients["patient_id"]), Path(folder) / f"{cut.size}_{cut.spacing_mm or 'scaled'}.npz"
    if not path.is_file() or read_patches(path, ids)[1] != cut:
        causes = image_causes(draw_patients(TUNING_PATIENTS, TUNING_SEED), TUNING_SEED).to_dict("records")
        patches = Parallel(n_jobs=n_jobs)(delayed(_render_and_cut)(one, cut) for one in causes)
        write_patches(ids, np.stack(patches), cut, path)
    return replace(pool, patches=read_patches(path, ids)[0])


def _render_and_cut(causes: dict[str, Any], cut: PatchSettings) -> np.ndarray:
    hu, labels, affine = render_patient(causes, int(causes["image_seed"]))
    return make_patch(Volume(hu, affine), Volume(labels, affine), cut)


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
    pools = {cut: tuning_pool(folder, cut, n_jobs) for cut in {LEVERS[name].cut for name in levers}}
    wanted = [(lever, cohort) for cohort in cohorts for lever in levers]
    return grow_table(
        out,
        columns=LEVER_COLUMNS,
        keys=LEVER_COLUMNS[:2],
        wanted=wanted,
        work=partial(measure_lever, pools),
        n_jobs=n_jobs,
    )


def lever_table(table: pd.DataFrame) -> pd.DataFrame:
    """Compare each lever with the default recipe, cohort by cohort.

    Parameters
    ----------
    table : DataFrame
        `LEVER_COLUMNS`, as `run_levers` writes it.

    Returns
    -------
    DataFrame
        In the order of `LEVERS`, indexed by lever: ``what, cohorts, c_held_out, se`` (the lever alone), ``difference,
        difference_se, low, high`` (to the default on the same cohorts, 95 %), ``c_apparent, seconds``.
    """
    held_out = table.pivot_table(index="cohort", columns="lever", values="c_held_out")
    rows = {}
    for lever in [name for name in LEVERS if name in held_out]:
        own = table[table["lever"] == lever]
        alone = mean_with_interval(own["c_held_out"])
        rows[lever] = {"what": LEVERS[lever].what, "cohorts": alone["cohorts"]}
        rows[lever] |= {"c_held_out": alone["mean"], "se": alone["se"]}
        paired = mean_with_interval(held_out[lever] - held_out["default"])
        beside = {"difference": "mean", "difference_se": "se", "low": "low", "high": "high"}
        rows[lever] |= {name: np.nan if lever == "default" else paired[key] for name, key in beside.items()}
        rows[lever] |= {"c_apparent": own["c_apparent"].mean(), "seconds": own["seconds"].median()}
    return pd.DataFrame.from_dict(rows, orient="index")
