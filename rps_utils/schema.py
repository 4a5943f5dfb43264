"""What the JSON files of a run folder may hold: names, lengths, finite numbers and their ranges.

A run folder may come from somebody else. Everything that is read from it as JSON is held to these rules before it is
used, so that a value which no fit can give becomes an error with the name of the file, and never a plausible number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from rps_utils.files import read_json

Rule = Callable[[Any, str], None]  # gets a value and where it stands; raises a ValueError that says what is allowed
HUGE = 1e12
ID = r"[^\x00-\x1f]{1,200}"
SHA256 = r"[0-9a-f]{64}"
NETWORK_FILE = r"[A-Za-z0-9][A-Za-z0-9_-]*\.safetensors"
FEATURE = r"[A-Za-z0-9][A-Za-z0-9_.-]*"


# ---------------------------------------------------------------- rules for values


def refuse(value: Any, where: str, allowed: str) -> None:
    """Raise the error that says what was found, where, and what is allowed there."""
    shown = repr(value)
    raise ValueError(f"{where} is {shown if len(shown) <= 60 else shown[:57] + '...'}; allowed: {allowed}")


def number(low: float = -HUGE, high: float = HUGE, *, above: float | None = None) -> Rule:
    """Allow a finite number from `low` to `high`, and larger than `above` where that is given."""
    bounds = f"above {above:g}, up to {high:g}" if above is not None else f"{low:g} to {high:g}"

    def check(value: Any, where: str) -> None:
        plain = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not plain or not math.isfinite(value) or not low <= value <= high or (above is not None and value <= above):
            refuse(value, where, f"a finite number, {bounds}")

    return check


def whole(low: int, high: int) -> Rule:
    """Allow a whole number from `low` to `high`."""

    def check(value: Any, where: str) -> None:
        if type(value) is not int or not low <= value <= high:
            refuse(value, where, f"a whole number, {low} to {high}")

    return check


def text(pattern: str = ID) -> Rule:
    """Allow a text of the form of `pattern`."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            refuse(value, where, f"a text of the form {pattern}")

    return check


def one_of(*allowed: Any) -> Rule:
    """Allow some values, of the same type, and no others."""

    def check(value: Any, where: str) -> None:
        if not any(type(value) is type(one) and value == one for one in allowed):
            refuse(value, where, ", ".join(map(repr, allowed)))

    return check


def optional(rule: Rule) -> Rule:
    """Allow nothing (null), or what `rule` allows."""
    return lambda value, where: None if value is None else rule(value, where)


def listed(each: Rule, least: int = 0, most: int = 100_000, *, distinct: bool = False) -> Rule:
    """Allow a list of `least` to `most` values."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, (list, tuple)) or not least <= len(value) <= most:
            refuse(value, where, f"a list of {least} to {most} values")
        for place, one in enumerate(value):
            each(one, f"{where}[{place}]")
        if distinct and len(set(value)) < len(value):
            refuse(value, where, "values that differ")

    return check


def named(each: Rule, names: str = ID, least: int = 0) -> Rule:
    """Allow an object whose names have the form `names`, with a value of one kind for each."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict) or len(value) < least:
            refuse(value, where, f"an object with {least} names or more")
        for name, one in value.items():
            text(names)(name, f"a name in {where}")
            each(one, f"{where}.{name}")

    return check


def record(needed: Mapping[str, Rule], further: Mapping[str, Rule] | None = None, *then: Rule) -> Rule:
    """Allow an object with these names and no others; `then` are rules for the whole."""
    known = {**needed, **(further or {})}

    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            refuse(value, where, f"an object with {', '.join(needed)}")
        absent, other = set(needed) - set(value), set(value) - set(known)
        if absent or other:
            found = f"{where} lacks {sorted(absent)}" if absent else f"{where} has {sorted(map(str, other))[:5]}"
            raise ValueError(f"{found}; allowed: {', '.join(known)}")
        for name, one in value.items():
            known[name](one, f"{where}.{name}")
        for rule in then:
            rule(value, where)

    return check


def equally_long(*names: str) -> Rule:
    """Ask that the lists of these names have one length: a number for each term or feature."""

    def check(value: Any, where: str) -> None:
        lengths = {name: len(value[name]) for name in names}
        if len(set(lengths.values())) > 1:
            found = ", ".join(f"{name} {length}" for name, length in lengths.items())
            raise ValueError(f"{where} has lists of different lengths ({found}); allowed: one number for each")

    return check


def rising(name: str, *, strictly: bool) -> Rule:
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


def mean_and_sd(value: Any, where: str) -> None:
    """Allow a mean and an SD above 0, as a list of two numbers."""
    listed(number(), 2, 2)(value, where)
    number(above=0.0)(value[1], f"{where}[1]")


def _square(value: Any, where: str) -> None:
    for row in value["precision"]:
        if len(row) != len(value["names"]):
            raise ValueError(f"{where}.precision is not square; allowed: a row and a column for each name")


# ---------------------------------------------------------------- rules for files

COEFFICIENT, POSITIVE = number(-1e3, 1e3), number(above=0.0)
FOLDS = listed(whole(0, 999), 0, 2, distinct=True)

COX = record(
    {
        "terms": listed(text(), 1, 1000, distinct=True),
        "coefficients": listed(COEFFICIENT, 1),
        "centre": listed(number(), 1),
        "times": listed(number(0.0, 1e5), 1),
        "cumulative_hazard": listed(number(0.0, 1e6), 1),
    },
    None,
    equally_long("terms", "coefficients", "centre"),
    equally_long("times", "cumulative_hazard"),
    rising("times", strictly=True),
    rising("cumulative_hazard", strictly=False),
)
DESIGN = record(
    {
        "medians": named(number()),
        "levels": named(listed(text(), 1, distinct=True)),
        "modes": named(text()),
    },
    {"seen": named(listed(text(), 1, distinct=True))},
    _levels_belong,
)
HARMONISATION = record(
    {
        "features": listed(text(FEATURE), 1, distinct=True),
        "means": listed(number()),
        "sds": listed(POSITIVE),
        "shifts": named(listed(number())),
        "scales": named(listed(POSITIVE)),
    },
    None,
    equally_long("features", "means", "sds"),
)
RADIOMIC = record(
    {
        "features": listed(text(FEATURE), 1, distinct=True),
        "means": listed(number()),
        "sds": listed(POSITIVE),
        "coefficients": listed(COEFFICIENT),
        "penalty": number(0.0),
    },
    {"note": text(r"[^\x00-\x1f]{0,500}"), "harmonisation": optional(HARMONISATION)},
    equally_long("features", "means", "sds", "coefficients"),
)
EXTRACTION = record(
    {
        "image_types": listed(one_of("original", "log", "wavelet"), 1, distinct=True),
        "log_sigma_mm": listed(number(0.1, 100.0), 0, 20),
        "wavelet": text(r"[a-z0-9.]{1,12}"),
        "bin_width_hu": number(0.1, 1e4),
        "bin_count": optional(whole(2, 10_000)),
        "outlier_sd": optional(number(0.1, 100.0)),
    }
)
LIKENESS = record(
    {
        "names": listed(text(), 2, 1000, distinct=True),
        "means": listed(number()),
        "sds": listed(POSITIVE),
        "precision": listed(listed(number())),
        "limit": POSITIVE,
        "share": number(0.0, 1.0),
    },
    None,
    equally_long("names", "means", "sds", "precision"),
    _square,
)
BOUNDS = record({"level": number(0.0, 0.9999, above=0.0), "residual": named(number(0.0), least=1)})
ENSEMBLES = record(
    {
        "ensembles": listed(
            record(
                {
                    "left_out": FOLDS,
                    "networks": named(mean_and_sd, NETWORK_FILE, 1),
                    "scale": mean_and_sd,
                }
            ),
            1,
        )
    }
)
PATCH = record(
    {
        "size": whole(16, 256),
        "spacing_mm": optional(number(0.1, 100.0)),
        "tumour_share": number(0.01, 1.0),
        "window_hu": listed(number(-5000, 5000), 2, 2),
        "channels": listed(text(r"[a-z]{1,20}"), 1, 16, distinct=True),
        "rim_mm": number(0.0, 1000.0),
        "canonical": one_of(True, False),
    }
)
AUGMENTATION = record(
    {
        "orientations": one_of("lateral_axis_kept", "both_sides", "all", "none"),
        "shift_voxels": whole(0, 100),
        "contrast": number(0.0, 10.0),
        "brightness": number(0.0, 10.0),
        "noise": number(0.0, 10.0),
    }
)
PLAIN = optional(lambda value, where: _plain(value, where))
TRAINING = record(
    {"network": text(r"[a-z0-9]{1,40}"), "network_options": named(PLAIN), "augmentation": AUGMENTATION},
    {
        "weights": optional(text()),
        "epochs": whole(1, 10**6),
        "batch_size": whole(1, 10**6),
        "learning_rate": POSITIVE,
        "weight_decay": number(0.0),
        "gradient_clip": POSITIVE,
        "seeds_per_fold": whole(1, 1000),
        "seed": whole(0, 2**64),
        "precision": one_of("fp32", "bf16"),
        "device": one_of("cpu", "cuda"),
        "intensity_channels": listed(whole(0, 16), 0, 16),
    },
)
CARD = record(
    {"settings": TRAINING, "patch_shape": listed(whole(1, 256), 4, 4)},
    {
        "format": one_of(1),
        "left_out_folds": FOLDS,
        "seed": whole(0, 2**64),
        "preprocessing": named(PLAIN),
        "training_patients": whole(1, 10**7),
        "training_events": whole(0, 10**7),
        "training_ids_sha256": text(SHA256),
        "training_data_sha256": text(SHA256),
        "weights_sha256": text(SHA256),
        "losses": listed(number()),
        "metrics": named(optional(number(0.0, 1.0))),
    },
)
LEDGER = listed(
    record(
        {"name": text(r"[^\x00-\x1f+]{1,200}"), "kind": text()},
        {"saw": listed(text()), "made_from": named(listed(text()))},
    )
)
FEATURE_STORE = record(
    {
        "made_from": record({"settings": EXTRACTION, "ct": text(SHA256), "mask": text(SHA256)}),
        "features": named(number(-1e300, 1e300), FEATURE, 1),
    },
    {"sha256": text(SHA256)},
)
RUN_RECORD = record(
    {"parameters": named(named(PLAIN))},
    {
        "files": named(text(SHA256)),
        "seeds": listed(PLAIN),
        "versions": named(text()),
        "manifest": named(text()),
        "code_sha256": text(SHA256),
        "notebooks": named(named(PLAIN)),
    },
)
PARAMETERS = record({"parameters": named(named(PLAIN))}, {"steps": listed(text())})
LOG = record({"seconds": number(0.0), "peak_mib": number(0.0)}, {"made_from": named(PLAIN), "made": named(PLAIN)})

FILES: dict[str, Rule] = {
    "models/*_cox.json": COX,
    "models/DLCM.json": COX,
    "models/RSCM.json": COX,
    "models/*_design.json": DESIGN,
    "models/rad_all.json": RADIOMIC,
    "models/rad_without_*.json": RADIOMIC,
    "models/rad_scale.json": record({"mean": number(), "sd": POSITIVE}),
    "models/rad_extraction.json": EXTRACTION,
    "models/DL_ensembles.json": ENSEMBLES,
    "models/DL_*.json": CARD,
    "models/likeness.json": LIKENESS,
    "models/bounds.json": BOUNDS,
    "ledger/*.json": LEDGER,
    "features/*.json": FEATURE_STORE,
    "logs/*.json": LOG,
    "run.json": RUN_RECORD,
    "parameters.json": PARAMETERS,
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
        refuse(value, where, "finite numbers")
    elif not (value is None or isinstance(value, (str, int, float))):
        refuse(value, where, "plain values")


def check_content(content: Any, rule: Rule, source: str | Path) -> Any:
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


def rule_for(name: str) -> Rule:
    """Return the rule for a JSON file of a run folder, by its place in it."""
    return next((rule for pattern, rule in FILES.items() if fnmatchcase(name, pattern)), PLAIN)


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
