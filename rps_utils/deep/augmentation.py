"""Augmentation of patches on the batch tensor: orientations, shifts, contrast, noise.

With few patients a network that reads voxels can learn every scan by heart. Showing the same patient in every position
that means the same thing takes that way out. Which positions those are is an assumption about the disease.

In the canonical frame of `rps_utils.patches` every tumour lies on the same side of the body, so that the first axis
always runs from lateral to medial, the second from back to front, the third from feet to head. There a left-right
flip turns medial into lateral: it tells the network that the side of the tumour that faces the great vessels and the
spine does not matter, and it can then not be learned. The same holds for any other turn and what it exchanges. The
default changes no orientation. Whole patients may be mirrored, tumour, context and the label of the side together;
that is what the canonical frame does, once and for all.

Flips and quarter turns move voxels without interpolating: they cost a fiftieth of a small rotation. MONAI's transforms
do the same, as fast only without their record of what was done (docs/performance.md), and importing them takes five
seconds in each process, more than training one network does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, product

import torch
from torch import Tensor
from torch.nn import functional as F

Orientation = tuple[tuple[int, int, int], tuple[bool, bool, bool]]


@dataclass(frozen=True)
class Augmentation:
    """What may change between two showings of the same patient.

    Attributes
    ----------
    orientations : {"lateral_axis_kept", "both_sides", "all", "none"}
        ``lateral_axis_kept``: the 8 that leave the left-right axis alone, for patches in the canonical frame;
        ``both_sides``: these and their left-right mirror images, for patches that are not in it: the whole patient
        is mirrored; ``all``: all 48, for patches without a side; ``none``: the patch stays as it is.
    shift_voxels : int
        Largest displacement along each axis, in voxels.
    contrast : float
        SD of the relative change of the intensity channels: contrast medium differs between scans.
    brightness : float
        SD of the offset of the intensity channels, in their unit (1 = half the HU window).
    noise : float
        SD of white noise in the intensity channels, same unit.
    """

    orientations: str = "none"
    shift_voxels: int = 1
    contrast: float = 0.05
    brightness: float = 0.02
    noise: float = 0.0


NO_AUGMENTATION = Augmentation("none", 0, 0.0, 0.0, 0.0)


def legal_orientations(kind: str) -> list[Orientation]:
    """List the orientations of a cube, each as an order of the axes and flips along them.

    Parameters
    ----------
    kind : {"lateral_axis_kept", "both_sides", "all", "none"}
        See `Augmentation`. The order of the list is fixed; the first entry leaves the patch alone.

    Returns
    -------
    list
        8, 16, 48 or 1 pairs ``(axes, flips)`` for `orient`.
    """
    both = (False, True)
    everything = list(product(permutations(range(3), 3), product(both, both, both)))
    choices = {
        "none": everything[:1],
        "lateral_axis_kept": [(axes, flips) for axes, flips in everything if axes[0] == 0 and not flips[0]],
        "both_sides": [(axes, flips) for axes, flips in everything if axes[0] == 0],
        "all": everything,
    }
    if kind not in choices:
        raise ValueError(f"orientations = {kind!r}; allowed: {', '.join(choices)}")
    return choices[kind]


def orient(patches: Tensor, orientation: Orientation) -> Tensor:
    """Turn and flip patches, voxel by voxel, without interpolation.

    Parameters
    ----------
    patches : Tensor
        (..., S, S, S); the last three axes run left-right, back-front, feet-head.
    orientation : tuple
        From `legal_orientations`.
    """
    axes, flips = orientation
    first = patches.ndim - 3
    turned = patches.permute(*range(first), *(first + a for a in axes))
    return turned.flip([first + a for a in range(3) if flips[a]])


def shift(patches: Tensor, voxels: Sequence[int]) -> Tensor:
    """Move patches by whole voxels along the last three axes; the border is repeated where nothing is known.

    Parameters
    ----------
    patches : Tensor
        (N, C, S, S, S).
    voxels : sequence of 3 int
        Displacement along left-right, back-front, feet-head.
    """
    widest = max(abs(v) for v in voxels)
    return _window(_padded(patches, widest), voxels, widest)


def _padded(patches: Tensor, reach: int) -> Tensor:
    return F.pad(patches, (reach,) * 6, mode="replicate") if reach else patches


def _window(padded: Tensor, voxels: Sequence[int], reach: int) -> Tensor:
    size = padded.shape[-1] - 2 * reach
    x, y, z = (slice(reach - v, reach - v + size) for v in voxels)
    return padded[..., x, y, z]


def change_contrast(patches: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    """Scale and offset the intensities of each patient, leaving voxels that hold no tissue (0) alone.

    Parameters
    ----------
    patches : Tensor
        (N, C, S, S, S), intensity channels only.
    scale, offset : Tensor
        (N,).
    """
    shape = (-1, 1, 1, 1, 1)
    return patches * scale.view(shape) + offset.view(shape) * (patches != 0)


def augment(patches: Tensor, generator: torch.Generator, settings: Augmentation, intensity: Sequence[int]) -> Tensor:
    """Draw one change of each kind for each patient of a batch.

    Parameters
    ----------
    patches : Tensor
        (N, C, S, S, S), float32. Not altered.
    generator : torch.Generator
        The only source of randomness: the same generator state gives the same batch.
    settings : Augmentation
        What may change.
    intensity : sequence of int
        Channels that hold HU. Contrast, brightness and noise leave the others (mask) alone.

    Returns
    -------
    Tensor
        Same shape.
    """
    moved, reach = torch.empty_like(patches), settings.shift_voxels
    padded = _padded(patches, reach)
    choices = legal_orientations(settings.orientations)
    for place, patch in zip(moved, padded, strict=True):
        turn = choices[int(torch.randint(len(choices), (1,), generator=generator))]
        voxels = torch.randint(-reach, reach + 1, (3,), generator=generator).tolist()
        place.copy_(_window(orient(patch, turn), voxels, reach))
    _recolour(moved, generator, settings, list(intensity))
    return moved


def _recolour(patches: Tensor, generator: torch.Generator, settings: Augmentation, channels: list[int]) -> None:
    n = len(patches)
    scale = 1 + settings.contrast * torch.randn(n, generator=generator)
    offset = settings.brightness * torch.randn(n, generator=generator)
    if not channels:
        return
    noise = torch.randn(n, len(channels), *patches.shape[2:], generator=generator) if settings.noise else None
    for number, channel in enumerate(channels):
        seen = patches[:, channel : channel + 1]
        seen.copy_(change_contrast(seen, scale, offset))
        if noise is not None:
            seen += settings.noise * noise[:, [number]] * (seen != 0)
