"""3-D networks from a CT patch to a log hazard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from rps_utils.schema import JsonRule, listed, whole

SMALLEST_SD = 1e-3  # of a summary; a fifth of a HU in the usual window: what differs by less says nothing


class RegionNetwork(nn.Module):
    """What lies in and around the tumour, where it lies, and in which pattern: one linear layer on few summaries.

    The mean over a whole patch forgets where things are and counts the background. Here each channel is summed up
    inside the tumour by its mean, its spread, its three gradients along the axes of the body and its gradient from
    core to rim; in the margin around it by its mean and three gradients. Filters (convolutions, at the grid of the
    patch and at grids twice, four times ... as coarse) add how much of each pattern the tumour holds. The logarithm
    of its volume joins them. No axis, no side and no depth is preferred: what matters is left to the data.

    The gradients ask for patches in the canonical frame, and for an augmentation that keeps it: there a turned
    patient is another patient.

    Parameters
    ----------
    in_channels : int
        Channels of the patch.
    widths : sequence of int
        Filters at each grid, from fine to coarse; none: no convolution.
    mask_channel, rim_channel : int
        Which channels hold the shares of a voxel inside the tumour and in the margin around it.
    inside_channels, margin_channels : sequence of int
        Which channels are summed up inside the tumour (None: all others), and which in the margin. They are 0
        elsewhere.
    filtered_channels : sequence of int
        Which channels the filters look at. They are 0 outside the tumour.
    """

    def __init__(
        self,
        in_channels: int,
        widths: Sequence[int] = (8, 8),
        mask_channel: int = 1,
        rim_channel: int = 4,
        inside_channels: Sequence[int] | None = None,
        margin_channels: Sequence[int] = (3,),
        filtered_channels: Sequence[int] = (0,),
    ) -> None:
        super().__init__()
        self.mask_channel, self.rim_channel = mask_channel, rim_channel
        others = [c for c in range(in_channels) if c not in (mask_channel, rim_channel, *margin_channels)]
        inside_channels = others if inside_channels is None else inside_channels
        self.inside_channels, self.margin_channels = list(inside_channels), list(margin_channels)
        self.filtered_channels = list(filtered_channels)
        asked = [mask_channel, rim_channel, *inside_channels, *margin_channels, *filtered_channels]
        if not 0 <= min(asked) <= max(asked) < in_channels:
            raise ValueError(
                f"network = 'region' reads channels {sorted(asked)} of a patch that has {in_channels}: name those of "
                "your patches in network_options (mask_channel, rim_channel, inside_channels, margin_channels, "
                "filtered_channels)"
            )
        inside, margin, filtered = len(inside_channels), len(margin_channels), len(filtered_channels)
        self.filters = nn.ModuleList([nn.Conv3d(filtered, n, kernel_size=3, padding=1, bias=False) for n in widths])
        # A group each: mean, spread and depth of a channel; its three gradients; all filters of a grid; the volume.
        sizes = [*[1] * 3 * inside, *[3] * inside, *[1] * margin, *[3] * margin, *widths, 1]
        self.ruler = GroupRuler(sizes)
        self.head = nn.Linear(sum(sizes), 1, bias=False)
        nn.init.zeros_(self.head.weight)

    def forward(self, patches: Tensor) -> Tensor:
        """Return the log hazard, (N, 1), of patches (N, C, S, S, S)."""
        return self.head(self.ruler(self.summaries(patches)))

    def summaries(self, patches: Tensor) -> Tensor:
        """Return what the last layer is given, before it is put on one scale: (N, summaries)."""
        values, inside = patches[:, self.inside_channels], patches[:, [self.mask_channel]]
        tumour, margin = regional_weights(inside), regional_weights(patches[:, [self.rim_channel]])
        places = body_positions(tumour)
        depth = places.square().mean(dim=1, keepdim=True) - 1
        mean, *rest = weighted_sums(values, torch.cat([tumour, tumour * depth, tumour * places], dim=1))
        around = weighted_sums(patches[:, self.margin_channels], torch.cat([margin, margin * places], dim=1))
        spread = spread_about(values, mean, tumour)
        patterns = self._patterns(patches[:, self.filtered_channels], inside)
        volume = inside.sum(dim=(2, 3, 4)).clamp(min=1).log()
        gradients = torch.stack(rest[1:], dim=2).flatten(1), torch.stack(around[1:], dim=2).flatten(1)
        return torch.cat([mean, spread, rest[0], gradients[0], around[0], gradients[1], *patterns, volume], dim=1)

    def _patterns(self, tumour: Tensor, inside: Tensor) -> list[Tensor]:
        """Return how strongly each filter answers in the tumour's interior, grid by grid."""
        found = []
        level = tumour.sum(dim=(2, 3, 4), keepdim=True) / inside.sum(dim=(2, 3, 4), keepdim=True).clamp(min=1e-3)
        values = tumour - level * inside  # nothing jumps at the border of the mask
        for number, layer in enumerate(self.filters):
            if number:
                values, inside = functional.avg_pool3d(values, 2), functional.avg_pool3d(inside, 2)
            core = 1 - largest_nearby(1 - inside)
            weights = regional_weights(core + 1e-3 * inside)
            found += weighted_sums(layer(values).abs(), weights)
        return found


class GroupRuler(nn.Module):
    """Put summaries on one scale: each without its mean, and each group with a total variance of one.

    Summaries have different units, so each kind needs a scale of its own. But the three gradients of a channel are
    lengths along three axes, and are measured with one ruler: standardised each for itself, an axis along which
    patients hardly differ would be blown up to the size of one along which they do.

    In training mean and scale are those of the batch, and a slow average of them is kept; afterwards they are
    the kept ones, as in batch normalisation.

    Parameters
    ----------
    sizes : sequence of int
        How many summaries each group holds, in order.
    """

    mean: Tensor
    sd: Tensor

    def __init__(self, sizes: Sequence[int], momentum: float = 0.1) -> None:
        super().__init__()
        self.momentum = momentum
        self.sizes = list(sizes)
        self.register_buffer("mean", torch.zeros(sum(sizes)))
        self.register_buffer("sd", torch.ones(sum(sizes)))

    def forward(self, summaries: Tensor) -> Tensor:
        """Return the summaries on one scale, same shape."""
        if not self.training:
            return (summaries - self.mean) / self.sd
        mean, sd = self.measure(summaries)
        with torch.no_grad():
            self.mean.lerp_(mean, self.momentum)
            self.sd.lerp_(sd, self.momentum)
        return (summaries - mean) / sd

    def measure(self, summaries: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and scale of each summary over some patients."""
        variance = summaries.var(dim=0, unbiased=False)
        totals = [part.sum().expand_as(part) for part in variance.split(self.sizes)]
        return summaries.mean(dim=0), torch.cat(totals).clamp(min=SMALLEST_SD**2).sqrt()

    def fit(self, summaries: Tensor) -> None:
        """Keep mean and scale of these patients."""
        mean, sd = self.measure(summaries)
        self.mean.copy_(mean)
        self.sd.copy_(sd)


def regional_weights(region: Tensor) -> Tensor:
    """Return the weights of the voxels in a mean over a region: (N, 1, ...), sum 1 unless the region is empty."""
    return region / region.sum(dim=(2, 3, 4), keepdim=True).clamp(min=1e-3)


def largest_nearby(maps: Tensor) -> Tensor:
    """Return the largest value among each voxel and its 26 neighbours: (N, C, S, S, S) to the same shape.

    What a pooling of 3 voxels does, axis after axis: more than ten times as fast on one thread, the same bits.
    """
    for axis in (2, 3, 4):
        before, after = maps.narrow(axis, 0, maps.shape[axis] - 1), maps.narrow(axis, 1, maps.shape[axis] - 1)
        pairs = torch.maximum(before, after)
        first, last = maps.narrow(axis, 0, 1), maps.narrow(axis, maps.shape[axis] - 1, 1)
        maps = torch.maximum(torch.cat([pairs, last], axis), torch.cat([first, pairs], axis))
    return maps


def weighted_sums(maps: Tensor, weights: Tensor) -> list[Tensor]:
    """Return the sums of feature maps (N, C, ...) under each of W weights (N, W, ...): W tensors (N, C).

    One product of matrices is faster than multiplying map by map.
    """
    return list(torch.bmm(weights.flatten(2), maps.flatten(2).transpose(1, 2)).unbind(dim=1))


def spread_about(maps: Tensor, mean: Tensor, weights: Tensor) -> Tensor:
    """Return the SD of feature maps over a region, (N, C), given their means in it."""
    (square,) = weighted_sums(maps.square(), weights)
    return (square - mean.square()).clamp(min=1e-6).sqrt()


def body_positions(weights: Tensor) -> Tensor:
    """Return where each voxel lies along the three axes, centred on a region and in units of its SD: (N, 3, S, S, S).

    Parameters
    ----------
    weights : Tensor, (N, 1, S, S, S)
        Of the region, sum 1.
    """
    size, places = weights.shape[2], []
    for axis in range(3):
        x = torch.linspace(-1, 1, size, device=weights.device).view([-1 if a == axis + 2 else 1 for a in range(5)])
        centred = x - (weights * x).sum(dim=(2, 3, 4), keepdim=True)
        sd = ((weights * centred.square()).sum(dim=(2, 3, 4), keepdim=True) + 1e-6).sqrt()
        places.append((centred / sd).expand_as(weights))
    return torch.cat(places, dim=1)


class PlainNetwork(nn.Module):
    """Four strided convolutions with group norm, then the mean over the patch, then one number.

    Parameters
    ----------
    in_channels : int
        Channels of the patch.
    widths : sequence of int
        Feature maps after each strided convolution.
    """

    def __init__(self, in_channels: int, widths: Sequence[int] = (16, 32, 64, 128)) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*[convolution_block(a, b) for a, b in pairwise([in_channels, *widths])])
        self.head = nn.Linear(widths[-1], 1)

    def forward(self, patches: Tensor) -> Tensor:
        """Return the log hazard, (N, 1), of patches (N, C, S, S, S)."""
        return self.head(self.blocks(patches).mean(dim=(2, 3, 4)))


def convolution_block(channels_in: int, channels_out: int) -> nn.Sequential:
    """Convolution that halves the grid, normalisation within a patient, rectifier."""
    convolution = nn.Conv3d(channels_in, channels_out, kernel_size=3, stride=2, padding=1, bias=False)
    return nn.Sequential(convolution, nn.GroupNorm(min(4, channels_out), channels_out), nn.ReLU())


OWN_NETWORKS: dict[str, type[nn.Module]] = {"region": RegionNetwork, "plain": PlainNetwork}
MONAI_NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    **{
        f"resnet{depth}": (f"resnet{depth}", {"spatial_dims": 3, "num_classes": 1, "conv1_t_stride": 2})
        for depth in (10, 18, 34, 50)
    },
    "densenet121": ("DenseNet121", {"spatial_dims": 3, "out_channels": 1}),
    "seresnet50": ("SEResNet50", {"spatial_dims": 3, "num_classes": 1}),
    "vit": (
        "ViT",
        {
            "patch_size": 8,
            "hidden_size": 192,
            "mlp_dim": 384,
            "num_layers": 4,
            "num_heads": 6,
            "classification": True,
            "num_classes": 1,
            "post_activation": None,
        },
    ),
}

# What may be asked of a network beside its name. A card from somebody else must not reach any other argument: some
# of MONAI's fetch weights from the network.
WIDTHS = listed(whole(1, 1024), most=8)
OPTIONS: dict[str, dict[str, JsonRule]] = {
    "region": {
        "widths": WIDTHS,
        "mask_channel": whole(0, 15),
        "rim_channel": whole(0, 15),
        "inside_channels": listed(whole(0, 15), least=1, most=16, distinct=True),
        "margin_channels": listed(whole(0, 15), least=1, most=16, distinct=True),
        "filtered_channels": listed(whole(0, 15), least=1, most=16, distinct=True),
    },
    "plain": {"widths": listed(whole(1, 1024), least=1, most=8)},
}

SMALLEST_PATCH = {"densenet121": 32}  # voxels; below, nothing is left after its last pooling
VIT_TILE = MONAI_NETWORKS["vit"][1]["patch_size"]


class FirstOutput(nn.Module):
    """Keep only the scores of a network that also returns its hidden states."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, patches: Tensor) -> Tensor:
        """Return the log hazard, (N, 1)."""
        return self.network(patches)[0]


def build_network(
    name: str, in_channels: int, size: int, weights: str | Path | None = None, **options: Any
) -> nn.Module:
    """Build a network whose output is one log hazard a patient.

    Parameters
    ----------
    name : str
        ``region``, ``plain``, or a network of MONAI: resnet10, resnet18, resnet34, resnet50, densenet121,
        seresnet50, vit. MONAI's cost 10 to 100 times as much, and want patches of 48 voxels or more.
    in_channels, size : int
        Channels and edge (voxels) of the patch.
    weights : path, optional
        Local safetensors file to start from. Tensors that fit by name and shape are taken over; nothing is
        ever downloaded.
    **options
        Those of `OPTIONS`, for example ``widths=[8]``; MONAI's networks take none.

    Returns
    -------
    torch.nn.Module
        (N, in_channels, size, size, size) to (N, 1); higher = earlier recurrence.

    Raises
    ------
    ValueError
        Unknown name or option, a patch of a size that the network cannot take, or a weights file of which nothing
        fits.
    """
    check_options(name, options)
    if name in OWN_NETWORKS:
        network: nn.Module = OWN_NETWORKS[name](in_channels, **options)
    elif name in MONAI_NETWORKS:
        network = _build_monai_network(name, in_channels, size)
    else:
        raise ValueError(f"network = {name!r}; allowed: {', '.join([*OWN_NETWORKS, *MONAI_NETWORKS])}")
    if weights is not None:
        take_over_weights(network, weights)
    return network


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Refuse options that a network does not have, and values that they cannot take."""
    known = OPTIONS.get(name, {})
    for option, value in options.items():
        if option not in known:
            raise ValueError(f"network_options of {name!r} has {option!r}; allowed: {', '.join(known) or 'none'}")
        known[option](value, f"network_options.{option} of {name!r}")


def _build_monai_network(name: str, in_channels: int, size: int) -> nn.Module:
    smallest = SMALLEST_PATCH.get(name, 1)
    if size < smallest or (name == "vit" and size % VIT_TILE):
        allowed = f"a multiple of {VIT_TILE}" if name == "vit" else f"{smallest} or more"
        raise ValueError(
            f"network = {name!r}, patches of {size} voxels; allowed: {allowed}; cut them so (patch_voxels)"
        )
    from monai.networks import nets  # five seconds, so only for those who ask for such a network

    attribute, fixed = MONAI_NETWORKS[name]
    channels = {"n_input_channels" if name.startswith("resnet") else "in_channels": in_channels}
    sized = {"img_size": (size,) * 3} if name == "vit" else {}
    network = getattr(nets, attribute)(**channels, **sized, **fixed)
    return FirstOutput(network) if name == "vit" else network


def local_weights(path: str | Path) -> Path:
    """Return the path of a weights file, or raise FileNotFoundError: nothing is looked for elsewhere."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"weights = {str(path)!r}: no such file; give a local .safetensors file")
    return Path(path)


def take_over_weights(network: nn.Module, path: str | Path) -> list[str]:
    """Copy the tensors of a local safetensors file that fit by name and shape; return their names.

    Raises
    ------
    FileNotFoundError, ValueError
        No such file; or no tensor fits, so that the file belongs to another network.
    """
    stored, own = load_file(local_weights(path)), network.state_dict()
    fitting = {name: t for name, t in stored.items() if name in own and own[name].shape == t.shape}
    if not fitting:
        raise ValueError(f"weights = {str(path)!r}: none of its {len(stored)} tensors fits the network")
    network.load_state_dict({**own, **fitting})
    return sorted(fitting)


def layer_table(network: nn.Module, patches: Tensor) -> list[dict[str, Any]]:
    """Describe the leaves of a network in the order in which a patch passes through them.

    Parameters
    ----------
    network : torch.nn.Module
    patches : Tensor
        An example input (N, C, S, S, S).

    Returns
    -------
    list of dict
        ``layer`` (kind), ``output`` (shape without the batch), ``parameters`` (count).
    """
    rows: list[dict[str, Any]] = []

    def note(layer: nn.Module, _: Any, output: Tensor) -> None:
        count = sum(p.numel() for p in layer.parameters())
        rows.append({"layer": type(layer).__name__, "output": tuple(output.shape[1:]), "parameters": count})

    leaves = [m for m in network.modules() if not list(m.children())]
    hooks = [leaf.register_forward_hook(note) for leaf in leaves]
    with torch.no_grad():
        network(patches)
    for hook in hooks:
        hook.remove()
    return rows
