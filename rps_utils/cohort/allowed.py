"""What the parameters of the notebooks may be: one rule a name, asked before any work."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from rps_utils.run_folder import beside_notebooks


class ValueRule(NamedTuple):
    """What a value must be, in words, and the test of it."""

    allowed: str
    holds: Callable[[Any], bool]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _whole(low: int, high: int) -> ValueRule:
    return ValueRule(f"a whole number from {low} to {high:,}", lambda v: _is_whole(v) and low <= v <= high)


def _number(low: float, high: float, *, above: bool = False) -> ValueRule:
    """Allow numbers from `low` to `high`; `above`: `low` itself is not one of them."""
    words = f"a number above {low:g}, up to {high:g}" if above else f"a number from {low:g} to {high:g}"
    return ValueRule(words, lambda v: _is_number(v) and low <= v <= high and not (above and v == low))


def _numbers(low: float, high: float) -> ValueRule:
    """Allow lists of different numbers between `low` and `high`, both excluded."""

    def holds(value: Any) -> bool:
        numbers = isinstance(value, list | tuple) and len(value) > 0 and all(map(_is_number, value))
        return numbers and all(low < v < high for v in value) and len(set(value)) == len(value)

    limit = f"above {low:g}" if high == math.inf else f"between {low:g} and {high:g}"
    return ValueRule(f"a list of different numbers {limit}", holds)


def _words(*known: str) -> ValueRule:
    """Allow lists of different words; any words where none are `known`."""

    def holds(value: Any) -> bool:
        words = isinstance(value, list | tuple) and len(value) > 0 and all(isinstance(v, str) and v for v in value)
        return words and len(set(value)) == len(value) and (not known or set(value) <= set(known))

    return ValueRule(f"a list of different words{' out of ' * bool(known)}{', '.join(known)}", holds)


def _one_of(*known: str) -> ValueRule:
    return ValueRule(f"one of {', '.join(known)}", lambda v: v in known)


def _rising_pair(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == 2
        and all(map(_is_number, value))
        and 0 < value[0] < value[1] < 1
    )


def _is_weights_file(value: Any) -> bool:
    """Tell whether a text is empty, or names a local file that begins as safetensors do."""
    if not isinstance(value, str):
        return False
    path = beside_notebooks(value)
    if not value or not (path.suffix == WEIGHTS and path.is_file()):
        return not value
    with open(path, "rb") as stream:
        length, first = int.from_bytes(stream.read(8), "little"), stream.read(1)
    return first == b"{" and length <= path.stat().st_size - 8


WEIGHTS = ".safetensors"
NETWORKS = (
    *("region", "plain", "resnet10", "resnet18", "resnet34", "resnet50"),
    *("densenet121", "seresnet50", "vit"),
)
TRUE_OR_FALSE = ValueRule("True or False", lambda v: isinstance(v, bool))
A_WORD = ValueRule("a word", lambda v: isinstance(v, str) and bool(v.strip()))
TIME = ValueRule("a number above 0, in the unit of the times", lambda v: _is_number(v) and v > 0)

PARAMETERS: dict[str, ValueRule] = {
    "batch_size": _whole(4, 4096),
    "bin_width": _number(0, 1000, above=True),
    "bound_level": ValueRule("a number between 0 and 1, such as 0.9", lambda v: _is_number(v) and 0 < v < 1),
    "clinical_columns": _words(),
    "comparison_epochs": _whole(1, 100_000),
    "crop_spacing_mm": _number(0.2, 12),
    "cutoff": ValueRule("None, maxstat, or a finite number", lambda v: v in (None, "maxstat") or _is_number(v)),
    "device": _one_of("cpu", "cuda"),
    "epochs": _whole(1, 100_000),
    "flag_share": ValueRule("a number between 0 and 1, such as 0.05", lambda v: _is_number(v) and 0 < v < 1),
    "folds": _whole(3, 50),
    "harmonise": TRUE_OR_FALSE,
    "regions": TRUE_OR_FALSE,
    "image_types": _words("original", "log", "wavelet"),
    "landmarks": _numbers(0, math.inf),
    "last_layer_ridge": _number(0, 1e6, above=True),
    "learning_rate": _number(0, 10, above=True),
    "log_sigma_mm": _numbers(0, 50),
    "manifest": A_WORD,
    "max_correlation": _number(0, 1, above=True),
    "max_features": _whole(1, 10_000),
    "n_bootstrap": _whole(20, 1_000_000),
    "n_jobs": _whole(1, 4096),
    "named_thresholds": _numbers(0, 1),
    "network": _one_of(*NETWORKS),
    "patch_spacing_mm": _number(0.2, 50),
    "patch_voxels": _whole(8, 256),
    "precision": _one_of("fp32", "bf16"),
    "recompute": TRUE_OR_FALSE,
    "ridge": _number(0, 1e6),
    "run_dir": A_WORD,
    "seed": _whole(0, 2**32 - 1),
    "seeds_per_fold": _whole(1, 100),
    "show_pixels": _one_of("auto", "yes", "no"),
    "steps": _whole(1, 10_000),
    "subgroups": _words(),
    "tau": TIME,
    "thresholds": ValueRule("two rising numbers between 0 and 1, such as [0.1, 0.6]", _rising_pair),
    "time_unit": A_WORD,
    "weight_decay": _number(0, 10),
    "weights": ValueRule(f"empty, or the path of a local {WEIGHTS} file", _is_weights_file),
}


def value_fault(name: str, value: object) -> str:
    """Say what a parameter may be where `value` is not that; an empty text where it is, or nothing is known of it."""
    rule = PARAMETERS.get(name)
    return "" if rule is None or rule.holds(value) else f"{name} = {value!r}; allowed: {rule.allowed}"
