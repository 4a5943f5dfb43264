"""Where a network looks: attribution maps of the DL-score."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from joblib import delayed
from torch import Tensor, nn

from rps_utils.deep.augmentation import legal_orientations, orient
from rps_utils.deep.checkpoints import read_card, read_network
from rps_utils.deep.folds import read_fold_ensembles
from rps_utils.deep.training import one_thread
from rps_utils.imaging.patches import HU_CHANNELS, PatchSettings
from rps_utils.machine.engines import work_on

STRUCTURE = ("mask", "rim")  # channels that hold the outline and no grey value


class DeepScore(nn.Module):
    """The DL-score of new patients as one differentiable function of their patches.

    Fold networks, the orientations over which each is averaged, and the standardisation by the patients each
    learned from, all frozen: a weighted sum of network outputs plus a constant.

    Parameters
    ----------
    networks : sequence of torch.nn.Module
        (N, C, S, S, S) to (N, 1).
    weights : sequence of float
        Of each network.
    offset : float
    orientations : str
        See `rps_utils.augmentation.Augmentation`.
    """

    def __init__(
        self, networks: Sequence[nn.Module], weights: Sequence[float], offset: float = 0.0, orientations: str = "none"
    ) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks).eval().requires_grad_(False)
        self.weights, self.offset, self.orientations = list(weights), offset, orientations

    def forward(self, patches: Tensor) -> Tensor:
        """Return the score, (N,), of patches (N, C, S, S, S); higher = earlier recurrence."""
        turns = legal_orientations(self.orientations)
        total = torch.full((len(patches),), self.offset, dtype=torch.float64)
        for turn in turns:
            seen = orient(patches, turn).contiguous()
            for network, weight in zip(self.networks, self.weights, strict=True):
                total = total + weight / len(turns) * network(seen)[:, 0].double()
        return total

    def members(self) -> list[DeepScore]:
        """Return the part of each network; together they are the score, up to the constant."""
        parts = zip(self.networks, self.weights, strict=True)
        return [DeepScore([network], [weight], 0.0, self.orientations) for network, weight in parts]

    def shuffled(self, seed: int) -> DeepScore:
        """Return a score that has learned nothing: in each tensor of weights the entries change places at random."""
        generator = torch.Generator().manual_seed(seed)
        networks = copy.deepcopy(self.networks)
        for weights in networks.parameters():
            weights.data = weights.flatten()[torch.randperm(weights.numel(), generator=generator)].view_as(weights)
        return DeepScore(list(networks), self.weights, self.offset, self.orientations)


def read_score(models_dir: str | Path) -> DeepScore:
    """Put the networks that leave out one fold each together to the DL-score of new patients.

    Parameters
    ----------
    models_dir : path
        With the networks and scales that `training.fit_fold_networks` has written.

    Raises
    ------
    FileNotFoundError
        The scales, or a network, are not there.
    """
    models = Path(models_dir)
    single = list(read_fold_ensembles(models).values())
    networks, weights, offset, orientations = [], [], 0.0, "none"
    for ensemble in single:
        share = 1 / (len(single) * ensemble.scale.sd)
        offset -= share * ensemble.scale.mean
        for file, scale in ensemble.networks.items():
            networks.append(read_network(models / file))
            orientations = read_card(models / file)["settings"]["augmentation"]["orientations"]
            weights.append(share / (len(ensemble.networks) * scale.sd))
            offset -= weights[-1] * scale.mean
    return DeepScore(networks, weights, offset, orientations)


def score_patches(score: DeepScore, patches: np.ndarray, batch_size: int = 16) -> np.ndarray:
    """Return the score of each patient, (n,); no unit, higher = earlier recurrence."""
    with torch.inference_mode():
        parts = [score(part.float()) for part in torch.from_numpy(patches).split(batch_size)]
    return torch.cat(parts).numpy()


def flat_baseline(patches: np.ndarray, settings: PatchSettings) -> np.ndarray:
    """Return the same patients with their outline kept and everything inside and around it levelled.

    Tumour and surroundings each get one grey value, their own mean, and nothing deviates. The difference to the
    patient is what the image says beyond outline, size and mean brightness.

    Parameters
    ----------
    patches : ndarray, (n, channels, S, S, S)
    settings : PatchSettings
        With which they were cut.

    Raises
    ------
    ValueError
        There is no channel ``mask`` to tell inside from outside.
    """
    if "mask" not in settings.channels:
        raise ValueError(f"channels = {settings.channels}: a flat baseline needs the channel mask; cut patches with it")
    patches = np.asarray(patches, np.float32)
    inside = patches[:, settings.channels.index("mask")]
    where = {"tumour": inside, "context": 1 - inside, "hu": np.ones_like(inside)}
    flat = patches.copy()
    for place, name in enumerate(settings.channels):
        if name in HU_CHANNELS:
            axes, weight = (1, 2, 3), where[name]
            level = patches[:, place].sum(axis=axes) / weight.sum(axis=axes).clip(min=1e-3)
            flat[:, place] = level[:, None, None, None] * weight
        elif name not in STRUCTURE:
            flat[:, place] = 0.0
    return flat


def integrated_gradients(
    score: nn.Module, patches: np.ndarray, baseline: np.ndarray, *, steps: int = 16, batch_size: int = 16
) -> np.ndarray:
    """Attribute a score to the voxels of its input (Sundararajan, Taly & Yan 2017).

    The gradient is averaged along the straight way from the baseline to the patient (midpoint rule) and multiplied
    by the way. Attributions add up to the difference of the two scores: see `completeness_gap`.

    Parameters
    ----------
    score : torch.nn.Module
        (N, C, S, S, S) to (N,), `DeepScore` for example.
    patches, baseline : ndarray, (n, C, S, S, S)
    steps : int
        Points on the way.
    batch_size : int
        Patients at a time.

    Returns
    -------
    ndarray of float32, (n, C, S, S, S)
        In units of the score; positive = raises the risk.
    """
    found = []
    for start in range(0, len(patches), batch_size):
        end, begin = (torch.from_numpy(a[start : start + batch_size]).float() for a in (patches, baseline))
        total = torch.zeros_like(end)
        for step in range(steps):
            place = (begin + (step + 0.5) / steps * (end - begin)).requires_grad_()
            total += torch.autograd.grad(score(place).sum(), place)[0]
        found.append(((end - begin) * total / steps).numpy())
    return np.concatenate(found)


def member_gradients(
    score: DeepScore, patches: np.ndarray, baseline: np.ndarray, *, steps: int = 16, n_jobs: int = 1
) -> np.ndarray:
    """Return `integrated_gradients` of each network's part of the score, (networks, n, C, S, S, S).

    Their sum over the networks is the attribution of the score itself. `n_jobs` processes work side by side.
    """
    jobs = (delayed(_in_one_thread)(member, patches, baseline, steps) for member in score.members())
    return np.stack(work_on(jobs, n_jobs))


def _in_one_thread(member: DeepScore, patches: np.ndarray, baseline: np.ndarray, steps: int) -> np.ndarray:
    with one_thread():
        return integrated_gradients(member, patches, baseline, steps=steps)


def completeness_gap(
    score: DeepScore, patches: np.ndarray, baseline: np.ndarray, attributions: np.ndarray
) -> np.ndarray:
    """Return by how much the attributions of each patient miss the difference of scores they must add up to, (n,)."""
    difference = score_patches(score, np.asarray(patches)) - score_patches(score, baseline)
    return attributions.sum(axis=(1, 2, 3, 4), dtype=float) - difference


def grad_cam(network: nn.Module, patches: np.ndarray) -> np.ndarray:
    """Return the Grad-CAM of the last convolution (Selvaraju et al. 2017), (n, S, S, S), 0 and above.

    MONAI computes it; its default postprocessing, which turns the map upside down, is left out.

    Raises
    ------
    ValueError
        The network has no convolution.
    """
    from monai.visualize import GradCAM  # five seconds, so only where it is asked for

    layers = [name for name, layer in network.named_modules() if isinstance(layer, nn.Conv3d)]
    if not layers:
        raise ValueError("the network has no convolution: Grad-CAM needs one, use integrated_gradients")
    network = copy.deepcopy(network).requires_grad_(True)  # its hooks must not stay behind
    cam = GradCAM(nn_module=network, target_layers=layers[-1], postprocessing=lambda cam: cam)
    maps = [cam(torch.from_numpy(patch[None]).float().requires_grad_()).detach() for patch in patches]
    return torch.cat(maps)[:, 0].numpy()
