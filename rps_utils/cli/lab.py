"""The commands that need a known truth: ``rps phantom`` and ``study``."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rps_utils.cli.options import (
    AT_LEAST_ONE,
    DEFAULT_MANIFEST,
    Command,
    Group,
    LazyChoice,
    Several,
    cores,
    variants,
    worlds,
)
from rps_utils.cli.paths import MANIFEST_FILE, OUT_FILE, OUT_FOLDER, ROOT
from rps_utils.texts.counts import how_many

if TYPE_CHECKING:
    import pandas as pd

out = click.option("--out", type=OUT_FILE, required=True, metavar="FILE.csv", help="a finished part is kept")


def pool(name: str) -> Callable[[Any], Any]:
    """Make the option ``--pool`` with its default folder."""
    folder = ROOT / "data" / "study" / name
    return click.option("--pool", type=OUT_FOLDER, default=folder, metavar="DIR", help="synthetic patients, kept")


@click.command("phantom", cls=Command)
@click.argument("folder", type=OUT_FOLDER, metavar="DIR")
@click.option("--patients", type=click.IntRange(min=3), default=115, help="in training and validation together")
@click.option("--seed", type=click.IntRange(min=0), default=2026, help="of covariates and images")
@click.option("--variant", type=LazyChoice(variants), default="full", help="what the hazard depends on")
@click.option("--world", type=LazyChoice(worlds), default="lateral", help="how the image shows it")
@click.option("--deaths", is_flag=True, help="tell death without local recurrence apart, as event 2")
@click.option("--manifest", type=OUT_FILE, metavar="FILE", help="write the manifest here as well, paths relative")
@click.option("--dicom", type=OUT_FOLDER, metavar="DIR", help="write it here as DICOM, SEG and RTSTRUCT as well")
@cores
def phantom_command(
    folder: Path,
    patients: int,
    seed: int,
    variant: str,
    world: str,
    deaths: bool,
    manifest: Path | None,
    dicom: Path | None,
    cores: int,
) -> None:
    """Write a synthetic CT cohort with a known hazard."""
    from rps_utils.files import write_csv
    from rps_utils.lab.phantom.cohort import write_cohort

    endpoint = "competing" if deaths else "lr"
    written = write_cohort(folder, patients, seed, variant, n_jobs=cores, endpoint=endpoint, world=world)
    if manifest:
        write_csv(_seen_from(written, manifest.parent), manifest)
    click.echo(f"{how_many(patients, 'synthetic patient')}: {written}")
    if dicom:
        from rps_utils.lab.phantom.dicom import write_twin

        click.echo(f"the same as DICOM, with their table: {write_twin(written, dicom)}")


def make_default_cohort(cores: int) -> Path:
    """Render the synthetic cohort of the repository if it is not there; return the manifest that fits its bytes."""
    from rps_utils.files import read_csv
    from rps_utils.lab.phantom.cohort import IMAGE_KINDS, write_cohort

    listed = read_csv(DEFAULT_MANIFEST)
    if not all((ROOT / name).is_file() for column in IMAGE_KINDS for name in listed[column]):
        write_cohort(ROOT / "data" / "phantom", len(listed), n_jobs=cores)
    own = ROOT / "data" / "phantom" / "data_manifest.csv"
    if _seen_from(own, ROOT).equals(listed):
        return DEFAULT_MANIFEST
    click.echo(
        f"this machine compresses or rounds otherwise than the one that wrote {DEFAULT_MANIFEST.name}: using {own}"
    )
    return own


def _seen_from(manifest: Path, folder: Path) -> pd.DataFrame:
    """Return a manifest with its paths relative to another folder."""
    from rps_utils.files import read_csv
    from rps_utils.lab.phantom.cohort import IMAGE_KINDS

    way = Path(os.path.relpath(manifest.parent, folder))
    table = read_csv(manifest)
    return table.assign(**{c: [(way / name).as_posix() for name in table[c]] for c in IMAGE_KINDS})


@click.group("study", cls=Group)
def study() -> None:
    """Try the pipeline on many synthetic cohorts whose truth is known."""


@study.command("replicates")
@click.option("--variant", cls=Several, type=LazyChoice(variants), default=("null",), help="of the hazard")
@click.option("--count", type=AT_LEAST_ONE, default=20, help="replicates of each variant")
@click.option("--patients", type=AT_LEAST_ONE, default=115, help="training and validation together")
@click.option("--folds", type=click.IntRange(min=2), default=5, help="of the cross-fitting")
@click.option("--epochs", type=click.IntRange(min=0), default=0, help="of the networks; 0 leaves out DL and DLCM")
@click.option("--reserve", type=AT_LEAST_ONE, default=200, help="patients on whom the true C is approximated")
@click.option("--seed", type=click.IntRange(min=0), default=2026, help="of the cohorts drawn")
@click.option("--pool-patients", type=AT_LEAST_ONE, default=600, help="patients in the pool")
@pool("pool")
@out
@cores
def replicates_command(
    variant: Sequence[str], count: int, pool_patients: int, pool: Path, out: Path, cores: int, **settings: Any
) -> None:
    """Run the models on many cohorts drawn from one pool."""
    from rps_utils.lab.studies.pool import make_pool
    from rps_utils.lab.studies.replicates import StudySettings, run_study

    needed = settings["patients"] + max(settings["patients"], settings["reserve"])
    if pool_patients < needed:
        raise click.UsageError(f"--pool-patients {pool_patients}: at least {needed} for these --patients and --reserve")
    people = make_pool(pool, pool_patients, n_jobs=cores)
    run_study(out, people, variant, count, StudySettings(**settings), cores)
    click.echo(f"synthetic replicates: {out}")


@study.command("shortcut")
@click.option("--count", type=AT_LEAST_ONE, default=20, help="replicates")
@click.option("--pool-patients", type=AT_LEAST_ONE, default=250, help="patients in each of the two pools")
@pool("pool")
@out
@cores
def shortcut_command(count: int, pool_patients: int, pool: Path, out: Path, cores: int) -> None:
    """Ask whether scores follow the scanner where it tells the outcome."""
    from rps_utils.lab.studies.pool import make_pool
    from rps_utils.lab.studies.shortcut import SMOOTHING_MM, run_shortcut

    people = make_pool(pool, pool_patients, n_jobs=cores)
    smooth = make_pool(f"{pool}_smooth", pool_patients, smoothing_mm=SMOOTHING_MM, n_jobs=cores)
    run_shortcut(out, people, smooth, count, n_jobs=cores)
    click.echo(f"synthetic shortcuts: {out}")


@study.command("power")
@out
@cores
def power_command(out: Path, cores: int) -> None:
    """Ask what difference of C validation sets detect, by size."""
    from rps_utils.files import write_csv
    from rps_utils.lab.studies.power import power_table

    click.echo(f"synthetic validation sets: {write_csv(power_table(n_jobs=cores), out)}")


@study.command("size")
@click.argument("manifest", type=MANIFEST_FILE, metavar="MANIFEST")
@click.option("--terms", type=AT_LEAST_ONE, required=True, help="coefficients looked at, selected or not")
@click.option("--c", type=click.FloatRange(0.51, 0.96), required=True, help="C-index expected in new patients")
@click.option("--landmark", type=click.FloatRange(min=0, min_open=True), default=36.0, help="months")
def size_command(manifest: Path, terms: int, c: float, landmark: float) -> None:
    """How many patients and events a model needs, and how many there are."""
    from rps_utils.cohort.manifest import read_manifest
    from rps_utils.intervals import sample_size

    cohort = read_manifest(manifest)
    common = sample_size.incidence_of(cohort["time_months"], cohort["event"])
    r2 = sample_size.expected_r2(c, common.share)
    parts = {
        f"to develop, {how_many(terms, 'term')}": sample_size.development_sizes(terms, r2, common, landmark),
        "to validate": sample_size.validation_sizes(c, common, landmark),
    }
    for (title, table), split in zip(parts.items(), ("training", "validation"), strict=True):
        there = cohort if "split" not in cohort else cohort[cohort["split"] == split]
        events = int((there["event"] == 1).sum())
        click.echo(
            f"{title} (C {c:g}, {common.share:.0%} with the event); here {how_many(len(there), 'patient')}, "
            f"{how_many(events, 'event')}"
        )
        click.echo(table.to_string(index=False) + "\n")


@study.command("levels")
@click.option("--out", type=OUT_FOLDER, required=True, metavar="DIR", help="a finished table is kept")
@cores
def levels_command(out: Path, cores: int) -> None:
    """How often tests ring and intervals cover where the truth is known."""
    from rps_utils.lab.levels.tables import make_level_tables

    make_level_tables(out, cores)


@study.command("recipes")
@click.option("--lever", cls=Several, metavar="NAME", help="without it all")
@click.option(
    "--cohorts", type=click.IntRange(min=0), nargs=2, default=(0, 8), metavar="FIRST END", help="END is not included"
)
@pool("tuning")
@out
@cores
def recipes_command(lever: Sequence[str], cohorts: tuple[int, int], pool: Path, out: Path, cores: int) -> None:
    """Ask what each choice in the recipe of the networks is worth."""
    from rps_utils.lab.studies.levers import LEVERS, run_levers

    if cohorts[0] >= cohorts[1]:
        raise click.UsageError(f"--cohorts {cohorts[0]} {cohorts[1]}: FIRST must lie below END")
    run_levers(out, pool, lever or list(LEVERS), range(*cohorts), cores)
    click.echo(f"synthetic tuning cohorts: {out}")


@study.command("dl")
@click.option("--variant", cls=Several, type=LazyChoice(variants), default=("full",), help="of the hazard")
@click.option("--world", cls=Several, type=LazyChoice(worlds), default=("lateral",), help="of the images")
@click.option("--count", type=AT_LEAST_ONE, default=20, help="cohorts of each variant in each world")
@click.option("--pool-patients", type=click.IntRange(min=386), default=400, help="patients in the pool")
@pool("worlds")
@out
@cores
def dl_command(
    variant: Sequence[str], world: Sequence[str], count: int, pool_patients: int, pool: Path, out: Path, cores: int
) -> None:
    """Compare the DL-score with its rivals and the truth, world by world."""
    from rps_utils.lab.studies.held_out import run_scores
    from rps_utils.lab.studies.pool import make_pools

    pools = make_pools(pool, pool_patients, world, n_jobs=cores, regional=True)
    run_scores(out, pools, variant, count, cores)
    click.echo(f"synthetic cohorts: {out}")


@study.command("sizes")
@click.option("--world", type=LazyChoice(worlds), default="lateral", help="of the images")
@click.option("--count", type=AT_LEAST_ONE, default=8, help="cohorts of each size")
@click.option("--networks", is_flag=True, help="networks only, MONAI's ResNet10 among them: an hour for 8 cohorts")
@pool("worlds")
@out
@cores
def sizes_command(world: str, count: int, networks: bool, pool: Path, out: Path, cores: int) -> None:
    """Ask how many patients the scores need."""
    from rps_utils.lab.studies import held_out
    from rps_utils.lab.studies.pool import make_pools

    sizes, models = held_out.TRAINING_SIZES, held_out.SIZE_MODELS
    if networks:
        sizes, models = held_out.NETWORK_SIZES, held_out.SIZE_NETWORKS
    people = make_pools(pool, max(sizes) + held_out.OTHERS, (world,), n_jobs=cores, regional=not networks)[world]
    held_out.run_sizes(out, people, sizes, models, count=count, n_jobs=cores)
    click.echo(f"synthetic cohorts: {out}")
