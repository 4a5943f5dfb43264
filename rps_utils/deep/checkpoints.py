"""Networks on disk: weights as safetensors, a card as JSON."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from rps_utils.deep.networks import build_network
from rps_utils.files import parse_json, reading, whole_file, write_json
from rps_utils.schema import CARD, check_content

KIND = "a network in the form of safetensors"
NOT_READABLE = (SafetensorError, ValueError)


def _read_only_tensor(array: np.ndarray) -> Tensor:
    with warnings.catch_warnings():
        # Processes share the patches as a read-only memory map. Nothing here writes to them, so no copy is needed.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.from_numpy(np.asarray(array))


def write_checkpoint(network: nn.Module, card: dict[str, Any], path: str | Path) -> None:
    """Write weights and card into one safetensors file, whole or not at all, and the card again as JSON."""
    path = Path(path)
    weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    with whole_file(path) as partial:
        save_file(weights, partial, metadata={"card": json.dumps(card, sort_keys=True)})
    write_json(card, path.with_suffix(".json"))


def read_card(path: str | Path) -> dict[str, Any]:
    """Return the card of a checkpoint: settings, preprocessing, learning patients' hash, loss of each epoch.

    Raises
    ------
    ValueError
        The file is no whole safetensors file, or its card is no JSON object; the message names the file.
    """
    with reading(path, KIND, NOT_READABLE):
        with safe_open(path, framework="pt") as stored:
            card = parse_json((stored.metadata() or {}).get("card", "{}"))
        if not isinstance(card, dict):
            raise ValueError("its card is no object")
    return card


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
    return read_network(path)


def read_network(path: str | Path) -> nn.Module:
    """Read a trained network from a file that is there, whatever it was trained with.

    Raises
    ------
    ValueError
        The card asks for a network that the library does not build, or the weights are not those of that network:
        names, shapes, types, or numbers that are not finite. The message names the file.
    """
    found = check_content(read_card(path), CARD, path)
    channels, size = found["patch_shape"][0], found["patch_shape"][-1]
    with reading(path, KIND, NOT_READABLE):
        network = build_network(found["settings"]["network"], channels, size, **found["settings"]["network_options"])
        network.load_state_dict(_read_weights(path, network.state_dict()))
    return network.eval()


def _read_weights(path: str | Path, wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """Read the tensors of a network; shapes are compared before a number is read, so no file makes them large."""
    with safe_open(path, framework="pt") as stored:
        other = sorted(set(stored.keys()) ^ set(wanted))
        if other:
            raise ValueError(f"its tensors are not those of the network in its card: {other[0]}")
        for name, tensor in wanted.items():
            shape = stored.get_slice(name).get_shape()
            if shape != list(tensor.shape):
                raise ValueError(f"{name} has the shape {shape}; allowed: {list(tensor.shape)}")
        weights = {name: stored.get_tensor(name) for name in wanted}
    for name, tensor in weights.items():
        if tensor.dtype != wanted[name].dtype or not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{name} is of another type, or not finite; allowed: finite {wanted[name].dtype}")
    return weights
