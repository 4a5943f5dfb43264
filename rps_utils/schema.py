"""What the JSON files of a run folder may hold: names, lengths, finite numbers and their ranges.

A run folder may come from somebody else. Everything that is read from it as JSON is held to these rules before it is
used, so that a value which no fit can give becomes an error with the name of the file, and never a plausible number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

from rps_utils.files import read_json

JsonRule = Callable[[Any, str], None]  # gets a value and where it stands; raises a ValueError that says what is allowed
HUGE = 1e12
ID = r"[^\x00-\x1f]{1,200}"
SHA256 = r"[0-9a-f]{64}"
NETWORK_FILE = r"[A-Za-z0-9][A-Za-z0-9_-]*\.safetensors"
FEATURE = r"[A-Za-z0-9][A-Za-z0-9_.-]*"


# ---------------------------------------------------------------- rules for values


def refuse_value(value: Any, where: str, allowed: str) -> None:
    """Raise the error that says what was found, where, and what is allowed there."""
    shown = repr(value)
    raise ValueError(f"{where} is {shown if len(shown) <= 60 else shown[:57] + '...'}; allowed: {allowed}")


def number(low: float, high: float, *, above: float | None = None) -> JsonRule:
    """Allow a finite number from `low` to `high`, and larger than `above` where that is given."""
    bounds = f"above {above:g}, up to {high:g}" if above is not None else f"{low:g} to {high:g}"

    def check(value: Any, where: str) -> None:
        plain = isinstance(value, (int, float)) and not isinstance(value, bool)
        # The range first: a whole number of hundreds of digits is too large for isfinite.
        if not plain or not low <= value <= high or not math.isfinite(value) or (above is not None and value <= above):
            refuse_value(value, where, f"a finite number, {bounds}")

    return check


def whole(low: int, high: int) -> JsonRule:
    """Allow a whole number from `low` to `high`."""

    def check(value: Any, where: str) -> None:
        if type(value) is not int or not low <= value <= high:
            refuse_value(value, where, f"a whole number, {low} to {high}")

    return check


def text(pattern: str = ID) -> JsonRule:
    """Allow a text of the form of `pattern`."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            refuse_value(value, where, f"a text of the form {pattern}")

    return check


def one_of(*allowed: Any) -> JsonRule:
    """Allow some values, of the same type, and no others."""

    def check(value: Any, where: str) -> None:
        if not any(type(value) is type(one) and value == one for one in allowed):
            refuse_value(value, where, ", ".join(map(repr, allowed)))

    return check


def optional(rule: JsonRule) -> JsonRule:
    """Allow nothing (null), or what `rule` allows."""
    return lambda value, where: None if value is None else rule(value, where)


def listed(each: JsonRule, *, least: int = 0, most: int = 100_000, distinct: bool = False) -> JsonRule:
    """Allow a list of `least` to `most` values."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, (list, tuple)) or not least <= len(value) <= most:
            refuse_value(value, where, f"a list of {least} to {most} values")
        for place, one in enumerate(value):
            each(one, f"{where}[{place}]")
        if distinct and len(set(value)) < len(value):
            refuse_value(value, where, "values that differ")

    return check


def named(each: JsonRule, names: str = ID, least: int = 0) -> JsonRule:
    """Allow an object whose names have the form `names`, with a value of one kind for each."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict) or len(value) < least:
            refuse_value(value, where, f"an object with {least} names or more")
        for name, one in value.items():
            text(names)(name, f"a name in {where}")
            each(one, f"{where}.{name}")

    return check


def fields(needed: Mapping[str, JsonRule], further: Mapping[str, JsonRule] | None = None, *then: JsonRule) -> JsonRule:
    """Allow an object with these names and no others; `then` are rules for the whole."""
    known = {**needed, **(further or {})}

    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            refuse_value(value, where, f"an object with {', '.join(needed)}")
        absent, other = set(needed) - set(value), set(value) - set(known)
        if absent or other:
            found = f"{where} lacks {sorted(absent)}" if absent else f"{where} has {sorted(map(str, other))[:5]}"
            raise ValueError(f"{found}; allowed: {', '.join(known)}")
        for name, one in value.items():
            known[name](one, f"{where}.{name}")
        for rule in then:
            rule(value, where)

    return check


def equally_long(*names: str) -> JsonRule:
    """Ask that the lists of these names that are there have one length: a number for each term or feature."""

    def check(value: Any, where: str) -> None:
        lengths = {name: len(value[name]) for name in names if name in value}
        if len(set(lengths.values())) > 1:
            found = ", ".join(f"{name} {length}" for name, length in lengths.items())
            raise ValueError(f"{where} has lists of different lengths ({found}); allowed: one number for each")

    return check


def rising(name: str, *, strictly: bool) -> JsonRule:
    """Ask that a list rises."""

    def check(value: Any, where: str) -> None:
        pairs = zip(value[name], value[name][1:], strict=False)
        if any(b <= a if strictly else b < a for a, b in pairs):
            raise ValueError(f"{where}.{name} falls; allowed: values that rise")

    return check


def _levels_belong(value: Any, where: str) -> None:
    seen = value.get("seen", {})
    if set(value["levels"]) != set(value["modes"]) or (seen and set(seen) != set(value["levels"])):
        raise ValueError(f"{where}: levels, modes and seen name different columns; allowed: the same")
    for column, mode in value["modes"].items():
        if seen and not {mode, *value["levels"][column]} <= set(seen[column]):
            raise ValueError(f"{where}: column {column!r} has a level that no patient had; allowed: levels in seen")


def _knots_belong(value: Any, where: str) -> None:
    for column, knots in value.get("knots", {}).items():
        if column not in value["medians"]:
            raise ValueError(f"{where}: knots of {column!r}, which is no number; allowed: those of medians")
        if knots != sorted(knots):
            raise ValueError(f"{where}: knots of {column!r} do not rise; allowed: rising ones")


def mean_and_sd(value: Any, where: str) -> None:
    """Allow a mean and an SD above 0, as a list of two numbers."""
    listed(number(-HUGE, HUGE), least=2, most=2)(value, where)
    number(0.0, HUGE, above=0.0)(value[1], f"{where}[1]")


def _fewer_alive(value: Any, where: str) -> None:
    if any(later > earlier for earlier, later in pairwise(value.get("alive_before", []))):
        raise ValueError(f"{where}.alive_before rises; allowed: values that fall")


def _square(value: Any, where: str) -> None:
    for row in value["precision"]:
        if len(row) != len(value["names"]):
            raise ValueError(f"{where}.precision is not square; allowed: a row and a column for each name")


# ---------------------------------------------------------------- rules for files

COEFFICIENT, ABOVE_0 = number(-1e3, 1e3), number(0.0, HUGE, above=0.0)
FOLDS = listed(whole(0, 999), least=0, most=2, distinct=True)

COX = fields(
    {
        "terms": listed(text(), least=1, most=1000, distinct=True),
        "coefficients": listed(COEFFICIENT, least=1),
        "centre": listed(number(-HUGE, HUGE), least=1),
        "times": listed(number(0.0, 1e5), least=1),
        "cumulative_hazard": listed(number(0.0, 1e6), least=1),
    },
    {"alive_before": listed(number(0.0, 1.0), least=1)},
    equally_long("terms", "coefficients", "centre"),
    equally_long("times", "cumulative_hazard", "alive_before"),
    _fewer_alive,
    rising("times", strictly=True),
    rising("cumulative_hazard", strictly=False),
)
DESIGN = fields(
    {
        "medians": named(number(-HUGE, HUGE)),
        "levels": named(listed(text(), least=1, distinct=True)),
        "modes": named(text()),
    },
    {
        "seen": named(listed(text(), least=1, distinct=True)),
        "knots": named(listed(number(-HUGE, HUGE), least=3, most=3, distinct=True)),
    },
    _levels_belong,
    _knots_belong,
)
HARMONISATION = fields(
    {
        "features": listed(text(FEATURE), least=1, distinct=True),
        "means": listed(number(-HUGE, HUGE)),
        "sds": listed(ABOVE_0),
        "shifts": named(listed(number(-HUGE, HUGE))),
        "scales": named(listed(ABOVE_0)),
    },
    None,
    equally_long("features", "means", "sds"),
)
RADIOMIC = fields(
    {
        "features": listed(text(FEATURE), least=1, distinct=True),
        "means": listed(number(-HUGE, HUGE)),
        "sds": listed(ABOVE_0),
        "coefficients": listed(COEFFICIENT),
        "penalty": number(0.0, HUGE),
    },
    {"note": text(r"[^\x00-\x1f]{0,500}"), "harmonisation": optional(HARMONISATION)},
    equally_long("features", "means", "sds", "coefficients"),
)
EXTRACTION = fields(
    {
        "image_types": listed(one_of("original", "log", "wavelet"), least=1, distinct=True),
        "log_sigma_mm": listed(number(0.1, 100.0), least=0, most=20),
        "wavelet": text(r"[a-z0-9.]{1,12}"),
        "bin_width_hu": number(0.1, 1e4),
        "bin_count": optional(whole(2, 10_000)),
        "outlier_sd": optional(number(0.1, 100.0)),
    },
    {"engine": one_of("fast", "plain"), "regions": one_of(True, False)},
)
LIKENESS = fields(
    {
        "names": listed(text(), least=2, most=1000, distinct=True),
        "means": listed(number(-HUGE, HUGE)),
        "sds": listed(ABOVE_0),
        "precision": listed(listed(number(-HUGE, HUGE))),
        "limit": ABOVE_0,
        "share": number(0.0, 1.0),
    },
    None,
    equally_long("names", "means", "sds", "precision"),
    _square,
)
BOUNDS = fields({"level": number(0.0, 0.9999, above=0.0), "residual": named(number(0.0, HUGE), least=1)})
NETWORK_SCALES = fields(
    {
        "ensembles": listed(
            fields(
                {
                    "left_out": FOLDS,
                    "networks": named(mean_and_sd, NETWORK_FILE, 1),
                    "scale": mean_and_sd,
                }
            ),
            least=1,
        )
    }
)
PATCH = fields(
    {
        "size": whole(16, 256),
        "spacing_mm": optional(number(0.1, 100.0)),
        "tumour_share": number(0.01, 1.0),
        "window_hu": listed(number(-5000, 5000), least=2, most=2),
        "channels": listed(text(r"[a-z]{1,20}"), least=1, most=16, distinct=True),
        "rim_mm": number(0.0, 1000.0),
        "canonical": one_of(True, False),
    }
)
AUGMENTATION = fields(
    {
        "orientations": one_of("lateral_axis_kept", "both_sides", "all", "none"),
        "shift_voxels": whole(0, 100),
        "contrast": number(0.0, 10.0),
        "brightness": number(0.0, 10.0),
        "noise": number(0.0, 10.0),
    }
)
PLAIN_VALUES = optional(lambda value, where: _plain(value, where))
TRAINING = fields(
    {"network": text(r"[a-z0-9]{1,40}"), "network_options": named(PLAIN_VALUES), "augmentation": AUGMENTATION},
    {
        "weights": optional(text()),
        "epochs": whole(1, 10**6),
        "batch_size": whole(1, 10**6),
        "learning_rate": ABOVE_0,
        "weight_decay": number(0.0, HUGE),
        "ridge": ABOVE_0,
        "gradient_clip": ABOVE_0,
        "seeds_per_fold": whole(1, 1000),
        "seed": whole(0, 2**64),
        "precision": one_of("fp32", "bf16"),
        "device": one_of("cpu", "cuda"),
        "intensity_channels": listed(whole(0, 16), least=0, most=16),
    },
)
CARD = fields(
    {"settings": TRAINING, "patch_shape": listed(whole(1, 256), least=4, most=4)},
    {
        "format": one_of(1),
        "left_out_folds": FOLDS,
        "seed": whole(0, 2**64),
        "preprocessing": named(PLAIN_VALUES),
        "training_patients": whole(1, 10**7),
        "training_events": whole(0, 10**7),
        "training_ids_sha256": text(SHA256),
        "training_data_sha256": text(SHA256),
        "weights_sha256": text(SHA256),
        "losses": listed(number(-HUGE, HUGE)),
        "metrics": named(optional(number(0.0, 1.0))),
    },
)
LEDGER = listed(
    fields(
        {"name": text(r"[^\x00-\x1f+]{1,200}"), "kind": text()},
        {"saw": listed(text()), "made_from": named(listed(text()))},
    )
)
FEATURE_STORE = fields(
    {
        "made_from": fields({"settings": EXTRACTION, "ct": text(SHA256), "mask": text(SHA256)}),
        "features": named(number(-1e300, 1e300), FEATURE, 1),
    },
    {"sha256": text(SHA256)},
)
RUN_RECORD = fields(
    {"parameters": named(named(PLAIN_VALUES))},
    {
        "files": named(text(SHA256)),
        "seeds": listed(PLAIN_VALUES),
        "versions": named(text()),
        "manifest": named(text()),
        "code_sha256": text(SHA256),
        "notebooks": named(named(PLAIN_VALUES)),
    },
)
RUN_PARAMETERS = fields({"parameters": named(named(PLAIN_VALUES))}, {"steps": listed(text())})
LOG = fields(
    {"seconds": number(0.0, HUGE), "peak_mib": number(0.0, HUGE)},
    {"made_from": named(PLAIN_VALUES), "made": named(PLAIN_VALUES)},
)

RUN_FILES: dict[str, JsonRule] = {
    "models/*_cox.json": COX,
    "models/DLCM.json": COX,
    "models/RSCM.json": COX,
    "models/*_design.json": DESIGN,
    "models/rad_all.json": RADIOMIC,
    "models/rad_without_*.json": RADIOMIC,
    "models/rad_scale.json": fields({"mean": number(-HUGE, HUGE), "sd": ABOVE_0}),
    "models/rad_extraction.json": EXTRACTION,
    "models/DL_ensembles.json": NETWORK_SCALES,
    "models/DL_*.json": CARD,
    "models/likeness.json": LIKENESS,
    "models/bounds.json": BOUNDS,
    "ledger/*.json": LEDGER,
    "features/*.json": FEATURE_STORE,
    "logs/*.json": LOG,
    "run.json": RUN_RECORD,
    "parameters.json": RUN_PARAMETERS,
}


def _plain(value: Any, where: str, depth: int = 0) -> None:
    """Allow plain values in any arrangement that is not deeper than a person would write."""
    if depth > 8:
        raise ValueError(f"{where} is nested too deep; allowed: 8 levels")
    if isinstance(value, dict):
        for name, one in value.items():
            _plain(one, f"{where}.{name}"[:200], depth + 1)
    elif isinstance(value, list):
        for one in value:
            _plain(one, f"{where}[]", depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        refuse_value(value, where, "finite numbers")
    elif not (value is None or isinstance(value, (str, int, float))):
        refuse_value(value, where, "plain values")


def check_content(content: Any, rule: JsonRule, source: str | Path) -> Any:
    """Hold what a file holds to a rule, and return it.

    Raises
    ------
    ValueError
        With the file, the place in it, what stands there and what is allowed.
    """
    try:
        rule(content, "content")
    except ValueError as error:
        raise ValueError(f"{source}: {error}; the file is damaged, altered or of another version") from None
    return content


def confined(folder: str | Path, name: str) -> Path:
    """Return a file of a folder, and refuse a name or a link that leads out of it.

    Raises
    ------
    ValueError
        An absolute path, ``..``, a backslash, a drive, a control character, or a link to elsewhere.
    """
    folder, parts = Path(folder), PurePosixPath(name).parts
    odd = not name or name.startswith("/") or ".." in parts or re.search(r"[\\:\x00-\x1f]", name)
    if odd or not (folder / name).resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{name!r} leads out of {folder}; allowed: files below it, and no link to elsewhere")
    return folder / name


def rule_for(name: str) -> JsonRule:
    """Return the rule for a JSON file of a run folder, by its place in it."""
    return next((rule for pattern, rule in RUN_FILES.items() if fnmatchcase(name, pattern)), PLAIN_VALUES)


def read_run_json(run: str | Path, name: str) -> Any:
    """Read a JSON file of a run folder and hold it to its rule.

    Parameters
    ----------
    run : str or Path
        Run folder.
    name : str
        Place of the file in it, for example ``"models/rad_all.json"``.

    Raises
    ------
    FileNotFoundError, ValueError
        No such file; or it leads out of the folder, cannot be read, or holds what no run writes.
    """
    path = confined(run, name)
    return check_content(read_json(path), rule_for(name), path)


def read_run_jsons(run: str | Path, pattern: str) -> Iterable[tuple[Path, Any]]:
    """Read every JSON file of a run folder that fits a pattern, in the order of the names."""
    for path in sorted(Path(run).glob(pattern)):
        yield path, read_run_json(run, path.relative_to(run).as_posix())
