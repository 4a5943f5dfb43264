"""What the commands share: their class, their types of value, and the options that several of them have."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import click

from rps_utils.cli.paths import ROOT, refuse_overwriting

DEFAULT_MANIFEST = ROOT / "data_manifest.csv"
CORES = os.cpu_count() or 1


class Several(click.Option):
    """An option that takes one value or more: ``--landmarks 12 36 60``, or repeated, or both."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **{**settings, "multiple": True})


def debug_option() -> click.Option:
    """Make ``--debug``, which every command has; `main` looks for it."""
    return click.Option(["--debug"], is_flag=True, expose_value=False, help="show where an error came from")


class Command(click.Command):
    """A command that knows options of the kind `Several` and ``--debug``, and overwrites none of its inputs."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.params.append(debug_option())

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Repeat the name of such an option before each of its values, and parse as usual."""
        names = {name for option in self.params if isinstance(option, Several) for name in option.opts}
        left = super().parse_args(ctx, repeat_names(args, names))
        refuse_overwriting(ctx.params, self)
        return left


def repeat_names(arguments: Sequence[str], names: Iterable[str]) -> list[str]:
    """Turn ``--name a b`` into ``--name a --name b`` for the given names; the values end at the next option."""
    spelled, name, values = [], None, 0
    for argument in arguments:
        if argument.startswith("-") and not _is_number(argument):
            name, values = (argument if argument in names else None), 0
        elif name:
            spelled += [name] * (values > 0)
            values += 1
        spelled.append(argument)
    return spelled


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


class Group(click.Group):
    """A group of such commands."""

    command_class = Command
    group_class = type

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.params.append(debug_option())


class LazyChoice(click.Choice):
    """One of some names which are looked up when they are needed, so that ``rps --help`` loads nothing heavy."""

    def __init__(self, load: Callable[[], Iterable[str]]) -> None:
        self._load = load
        self.case_sensitive = True

    @cached_property
    def choices(self) -> tuple[str, ...]:  # type: ignore[override]
        """Return the names."""
        return tuple(self._load())


def variants() -> list[str]:
    """Name the variants of the synthetic hazard."""
    from rps_utils.lab.phantom.patients import VARIANTS

    return sorted(VARIANTS)


def worlds() -> list[str]:
    """Name the worlds of the synthetic images."""
    from rps_utils.lab.phantom.worlds import WORLDS

    return list(WORLDS)


def profiles() -> list[str]:
    """Name the profiles of the chain."""
    from rps_utils.runs.parameters import PROFILES

    return sorted(PROFILES)


class PositiveNumber(click.FloatRange):
    """A number above 0 that is finite."""

    def __init__(self) -> None:
        super().__init__(min=0, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number, or fail as wrong use."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{number} is not a number above 0", param, ctx)
        return number


POSITIVE = PositiveNumber()
RUN = click.Path(path_type=Path)  # the commands say themselves what a folder lacks to be a run
AT_LEAST_ONE = click.IntRange(min=1)


def where(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say on which machines it works."""
    folder = click.Path(path_type=Path, exists=True, file_okay=False)
    given = [
        click.option(
            "--executor", type=click.Choice(["local", "slurm"]), default="local", help="who runs the notebooks"
        ),
        click.option("--jobs", type=AT_LEAST_ONE, default=8, help="with slurm: jobs in the queue at once"),
        click.option(
            "--engine-profile", type=folder, metavar="DIR", help="profile of Snakemake: partition, memory, time"
        ),
        click.option("--dask", metavar="ADDRESS", help="scheduler whose workers take patients and folds"),
    ]
    for option in reversed(given):
        command = option(command)
    return command


cores = click.option("--cores", type=AT_LEAST_ONE, default=CORES, help="processes that work side by side")
asked = click.option("-p", "asked", multiple=True, metavar="NAME=VALUE", help="notebook parameter")
