"""3-D networks from a CT patch to a log hazard."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn


class SmallNetwork(nn.Module):
    """Four strided convolutions with group norm, then the mean over the patch, then one number.

    Group norm, not batch norm: with 16 patients in a batch, batch statistics cost about 0.02 in C.

    Parameters
    ----------
    in_channels : int
        Channels of the patch.
    width : int
        Channels after the first convolution; doubled by each of the next three.
    dropout : float
        Share of pooled features hidden in training.
    pooling : {"mean", "lateral"}
        ``mean`` averages over all positions; ``lateral`` averages over the back-front and feet-head axes
        and keeps the lateral-to-medial positions apart, which asks for patches in the canonical frame.
    size : int
        Edge of the patch in voxels (used by ``lateral``).
    """

    def __init__(
        self, in_channels: int, width: int = 16, dropout: float = 0.0, pooling: str = "mean", size: int = 48
    ) -> None:
        super().__init__()
        if pooling not in ("mean", "lateral"):
            raise ValueError(f"pooling = {pooling!r}; allowed: mean, lateral")
        widths = [in_channels, width, 2 * width, 4 * width, 8 * width]
        pairs = itertools.pairwise(widths)
        self.blocks = nn.Sequential(*[convolution_block(a, b) for a, b in pairs])
        self.pooling = pooling
        positions = 1 if pooling == "mean" else -(-size // 16)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1] * positions, 1)

    def forward(self, patches: Tensor) -> Tensor:
        """Return the log hazard, (N, 1), of patches (N, C, S, S, S)."""
        features = self.blocks(patches)
        pooled = features.mean(dim=(2, 3, 4) if self.pooling == "mean" else (3, 4))
        return self.head(self.dropout(pooled.flatten(1)))


def convolution_block(channels_in: int, channels_out: int) -> nn.Sequential:
    """Convolution that halves the grid, group norm, rectifier."""
    return nn.Sequential(
        nn.Conv3d(channels_in, channels_out, kernel_size=3, stride=2, padding=1, bias=False),
        nn.GroupNorm(min(8, channels_out), channels_out),
        nn.ReLU(),
    )


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
        ``small`` or a network of MONAI: resnet10, resnet18, resnet34, resnet50, densenet121, seresnet50, vit.
        MONAI's have batch norm and 10 to 30 times the cost; at n = 86 they measured no better.
    in_channels, size : int
        Channels and edge (voxels) of the patch.
    weights : path, optional
        Local safetensors file to start from. Tensors that fit by name and shape are taken over; nothing is
        ever downloaded.
    **options
        Passed to the network, for example ``width=8``.

    Returns
    -------
    torch.nn.Module
        (N, in_channels, size, size, size) to (N, 1); higher = earlier recurrence.

    Raises
    ------
    ValueError
        Unknown name, or a weights file of which nothing fits.
    """
    if name == "small":
        network: nn.Module = SmallNetwork(in_channels, size=size, **options)
    elif name in MONAI_NETWORKS:
        network = _build_monai_network(name, in_channels, size, options)
    else:
        raise ValueError(f"network = {name!r}; allowed: small, {', '.join(MONAI_NETWORKS)}")
    if weights is not None:
        take_over_weights(network, weights)
    return network


def _build_monai_network(name: str, in_channels: int, size: int, options: dict[str, Any]) -> nn.Module:
    from monai.networks import nets  # five seconds, so only for those who ask for such a network

    attribute, fixed = MONAI_NETWORKS[name]
    channels = {"n_input_channels" if name.startswith("resnet") else "in_channels": in_channels}
    sized = {"img_size": (size,) * 3} if name == "vit" else {}
    network = getattr(nets, attribute)(**channels, **sized, **fixed, **options)
    return FirstOutput(network) if name == "vit" else network


def take_over_weights(network: nn.Module, path: str | Path) -> list[str]:
    """Copy the tensors of a local safetensors file that fit by name and shape; return their names.

    Raises
    ------
    FileNotFoundError, ValueError
        No such file; or no tensor fits, so that the file belongs to another network.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"weights = {str(path)!r}: no such file; give a local .safetensors file")
    stored, own = load_file(path), network.state_dict()
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
