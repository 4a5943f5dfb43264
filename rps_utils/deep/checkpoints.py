"""Networks on disk: weights as safetensors, a card as JSON."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from rps_utils.deep.networks import build_network
from rps_utils.files import whole_file, write_json


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
    return read_network(path)


def read_network(path: str | Path) -> nn.Module:
    """Read a trained network from a file that is there, whatever it was trained with."""
    found = read_card(path)
    channels, size = found["patch_shape"][0], found["patch_shape"][-1]
    network = build_network(found["settings"]["network"], channels, size, **found["settings"]["network_options"])
    with safe_open(path, framework="pt") as stored:
        network.load_state_dict({name: stored.get_tensor(name) for name in stored.keys()})  # noqa: SIM118
    return network.eval()
