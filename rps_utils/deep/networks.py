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

from rps_utils.schema import Rule, listed, number, one_of, whole


class RegionNetwork(nn.Module):
    """Few convolutions, then averages over regions that the mask defines, then one number.

    The mean over a whole patch forgets where things are and counts the background. Here each feature map, from the
    input channels to the last convolution, is summed up by three numbers: its mean inside the tumour, its gradient
    inside the tumour from lateral to medial (the first moment along the first axis), and its mean in the margin
    around it. The logarithm of the tumour's volume joins them. What is left to learn from 86 patients is small.

    The gradient asks for patches in the canonical frame, and for an augmentation that keeps the lateral axis.

    Parameters
    ----------
    in_channels : int
        Channels of the patch.
    widths : sequence of int
        Feature maps after each strided convolution.
    mask_channel, rim_channel : int
        Which channels hold the shares of a voxel inside the tumour and in the margin around it.
    gradient, margin : bool
        Whether these two summaries are used; without them the network sees the mean inside the tumour only.
    dropout : float
        Share of summaries hidden in training.
    norm : {"group", "batch"}
        See `convolution_block`.
    """

    def __init__(
        self,
        in_channels: int,
        widths: Sequence[int] = (16, 32),
        mask_channel: int = 1,
        rim_channel: int = -1,
        gradient: bool = True,
        margin: bool = True,
        dropout: float = 0.0,
        norm: str = "group",
    ) -> None:
        super().__init__()
        self.mask_channel, self.rim_channel = mask_channel, rim_channel
        self.gradient, self.margin = gradient, margin
        maps = [in_channels, *widths]
        self.blocks = nn.ModuleList([convolution_block(a, b, norm) for a, b in pairwise(maps)])
        summaries = sum(maps) * (1 + gradient + margin) + 1
        # Summaries have different units; a batch's own mean and SD puts them on one scale and adds a little noise.
        self.scale = nn.BatchNorm1d(summaries, affine=False)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(summaries, 1)
        nn.init.zeros_(self.head.weight)

    def forward(self, patches: Tensor) -> Tensor:
        """Return the log hazard, (N, 1), of patches (N, C, S, S, S)."""
        return self.head(self.dropout(self.scale(self.summaries(patches))))

    def summaries(self, patches: Tensor) -> Tensor:
        """Return the regional means and gradients of all feature maps, and the log volume: (N, summaries)."""
        maps, regions = patches, patches[:, [self.mask_channel, self.rim_channel]]
        collected = [self._summarise(maps, regions)]
        for block in self.blocks:
            maps = block(maps)
            regions = functional.adaptive_avg_pool3d(regions, maps.shape[2:])
            collected.append(self._summarise(maps, regions))
        volume = patches[:, [self.mask_channel]].sum(dim=(2, 3, 4)).clamp(min=1).log()
        return torch.cat([*collected, volume], dim=1)

    def _summarise(self, maps: Tensor, regions: Tensor) -> Tensor:
        inside, around = regions[:, :1], regions[:, 1:]
        tumour, margin = regional_weights(inside), regional_weights(around)
        weights = [tumour] + [tumour * lateral_position(inside)] * self.gradient + [margin] * self.margin
        return weighted_sums(maps, torch.cat(weights, dim=1))


def regional_weights(region: Tensor) -> Tensor:
    """Return the weights of the voxels in a mean over a region: (N, 1, ...), sum 1 unless the region is empty."""
    return region / region.sum(dim=(2, 3, 4), keepdim=True).clamp(min=1e-3)


def weighted_sums(maps: Tensor, weights: Tensor) -> Tensor:
    """Return the sums of feature maps (N, C, ...) under each of W weights (N, W, ...): (N, W C), weight by weight.

    One product of matrices is faster than multiplying map by map.
    """
    return torch.bmm(weights.flatten(2), maps.flatten(2).transpose(1, 2)).flatten(1)


def lateral_position(inside: Tensor) -> Tensor:
    """Return the position along the first axis, centred on the tumour and divided by its SD, (N, 1, S, 1, 1).

    Parameters
    ----------
    inside : Tensor, (N, 1, S, S, S)
        Share of each voxel inside the tumour.
    """
    profile = inside.sum(dim=(3, 4), keepdim=True)
    profile = profile / profile.sum(dim=2, keepdim=True).clamp(min=1e-3)
    x = torch.linspace(-1, 1, inside.shape[2], device=inside.device).view(1, 1, -1, 1, 1)
    centred = x - (profile * x).sum(dim=2, keepdim=True)
    return centred / ((profile * centred**2).sum(dim=2, keepdim=True) + 1e-4).sqrt()


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


def convolution_block(channels_in: int, channels_out: int, norm: str = "group") -> nn.Sequential:
    """Convolution that halves the grid, normalisation (``group``: within a patient, ``batch``), rectifier."""
    kinds = {"group": nn.GroupNorm(min(4, channels_out), channels_out), "batch": nn.BatchNorm3d(channels_out)}
    if norm not in kinds:
        raise ValueError(f"norm = {norm!r}; allowed: {', '.join(kinds)}")
    convolution = nn.Conv3d(channels_in, channels_out, kernel_size=3, stride=2, padding=1, bias=False)
    return nn.Sequential(convolution, kinds[norm], nn.ReLU())


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
OPTIONS: dict[str, dict[str, Rule]] = {
    "region": {
        "widths": WIDTHS,
        "mask_channel": whole(-16, 15),
        "rim_channel": whole(-16, 15),
        "gradient": one_of(True, False),
        "margin": one_of(True, False),
        "dropout": number(0.0, 0.99),
        "norm": one_of("group", "batch"),
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
