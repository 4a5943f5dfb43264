"""The commands that work on a run folder: ``rps run``, ``evaluate``, ``predict`` and ``audit``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rps_utils.cli.lab import make_default_cohort
from rps_utils.cli.options import (
    DEFAULT_MANIFEST,
    POSITIVE,
    RUN,
    Command,
    LazyChoice,
    Several,
    asked,
    cores,
    profiles,
    where,
)
from rps_utils.cli.paths import MANIFEST_FILE, OUT_FILE, RUN_FOLDER, InputFile
from rps_utils.texts.counts import how_many

if TYPE_CHECKING:
    from rps_utils.machine.engines import Engine
    from rps_utils.runs.freshness import Decision


@click.command("run", cls=Command)
@click.option("--manifest", type=MANIFEST_FILE, default=DEFAULT_MANIFEST, help="one row a patient")
@click.option("--out", type=RUN_FOLDER, default=Path("runs/default"), metavar="RUN", help="run folder")
@click.option("--profile", type=LazyChoice(profiles), default="paper", help="quick: seconds; its numbers mean nothing")
@asked
@cores
@where
def run_command(manifest: Path, out: Path, profile: str, asked: Sequence[str], cores: int, **elsewhere: Any) -> int:
    """Run the notebooks on a cohort."""
    from rps_utils.runs.chain import plan_chain
    from rps_utils.steps import read_steps

    engine = _engine(cores, **elsewhere)
    steps, manifest = read_steps(), manifest.resolve()
    if manifest == DEFAULT_MANIFEST:
        manifest = make_default_cohort(cores)
    parameters = _choose(steps, profile, asked, {"manifest": str(manifest)})
    plan = plan_chain(out.resolve(), steps, parameters)
    if any(decision.state != "reused" for decision in plan) and not _is_sound(manifest, parameters, plan, cores):
        return 1
    return _bring_up_to_date(out, steps, parameters, engine)


def _is_sound(manifest: Path, parameters: Mapping[str, Any], plan: Sequence[Decision], cores: int) -> bool:
    """Say what is wrong with a manifest; its images are looked at unless the step that reads it is up to date."""
    from rps_utils.cohort.contract import format_notices, format_problems
    from rps_utils.cohort.manifest import inspect_manifest, lacking_columns, read_cells
    from rps_utils.runs.chain import is_manifest_unchanged
    from rps_utils.runs.parameters import chosen_value

    cells, unreadable = read_cells(manifest)
    problems = unreadable or lacking_columns(cells, chosen_value(parameters, "clinical_columns"))
    if not unreadable and not is_manifest_unchanged(plan, parameters):
        planned = {name: chosen_value(parameters, name) for name in ("folds", "split_by", "landmarks")}
        examined = inspect_manifest(manifest, n_jobs=cores, **planned)
        problems += examined.problems
        if examined.notices:
            click.echo(format_notices(examined.notices), err=True)
    if problems:
        click.echo(format_problems(problems), err=True)
    return not problems


@click.command("evaluate", cls=Command)
@click.argument("scores", type=InputFile("a table of scores, CSV"), metavar="SCORES.csv")
@click.option("--out", type=RUN_FOLDER, required=True, metavar="DIR", help="run folder")
@click.option("--landmarks", cls=Several, type=POSITIVE, default=(12, 36, 60), help="in the unit of the times")
@click.option("--tau", type=POSITIVE, help="truncation time of Uno's C (default: last landmark)")
@asked
@cores
def evaluate_command(
    scores: Path, out: Path, landmarks: Sequence[float], tau: float | None, asked: Sequence[str], cores: int
) -> int:
    """Evaluate any table of risk scores."""
    from rps_utils.files import write_csv
    from rps_utils.machine.engines import Engine
    from rps_utils.machine.locks import own_folder
    from rps_utils.run_folder import RunFolder
    from rps_utils.scores import odd_scores, read_scores
    from rps_utils.steps import part_of, read_steps

    table = read_scores(scores)
    for sentence in odd_scores(table, landmarks):
        click.echo(f"odd: {sentence}", err=True)
    times = [int(t) if t == int(t) else t for t in sorted(set(landmarks))]
    steps = part_of(read_steps(), "evaluation")
    parameters = _choose(steps, "paper", asked, {"landmarks": times, "tau": tau or times[-1]})
    kept = RunFolder(out).scores
    with own_folder(out):
        if not kept.is_file() or not table.equals(read_scores(kept)):
            write_csv(table, kept)
        return _bring_up_to_date(out, steps, parameters, Engine(cores))


@click.command("predict", cls=Command)
@click.argument("run", type=RUN, metavar="RUN")
@click.option("--manifest", type=MANIFEST_FILE, required=True, help="new patients; outcomes may be absent")
@click.option("--out", type=OUT_FILE, required=True, metavar="SCORES.csv", help="table of scores to write")
@cores
def predict_command(run: Path, manifest: Path, out: Path, cores: int) -> None:
    """Score new patients with a finished run, refitting nothing."""
    from rps_utils.finished.models import directions
    from rps_utils.finished.predict import predict

    rows = predict(run, manifest, out, cores)
    patients = rows.drop_duplicates("patient_id")
    click.echo(f"{how_many(len(patients), 'patient')} scored by {', '.join(rows['model'].unique())}: {out}")
    for sentence in directions(run)["note"]:
        if sentence:
            click.echo(sentence)
    if "unlike" in rows:
        flagged = list(patients.loc[patients["unlike"], "patient_id"])
        click.echo(f"{len(flagged)} unlike the training patients{': ' * bool(flagged)}{', '.join(flagged)}")


@click.command("recalibrate", cls=Command)
@click.argument("scores", type=InputFile("a table of scores, CSV"), metavar="SCORES.csv")
@click.option("--out", type=OUT_FILE, required=True, metavar="NEW.csv", help="frozen and updated scores to write")
@click.option("--model", cls=Several, metavar="NAME", help="which models; without it all with probabilities")
@click.option("--seed", type=click.IntRange(min=0), default=2026, help="deals the patients into folds")
def recalibrate_command(scores: Path, out: Path, model: Sequence[str], seed: int) -> None:
    """Update the level, and level and slope, of frozen models for a new hospital."""
    from rps_utils.files import write_csv
    from rps_utils.learning.refits.recalibration import recalibrate, update_sentence, updates_table
    from rps_utils.scores import read_scores

    updated, updates = recalibrate(read_scores(scores), model, seed=seed)
    write_csv(updates_table(updates), out.with_name(f"{out.stem}_updates.csv"))
    for update in updates:
        click.echo(update_sentence(update))
    click.echo(f"{write_csv(updated, out)}: judge before and after by rps evaluate {out} --out DIR")


@click.command("audit", cls=Command)
@click.argument("run", type=RUN, metavar="RUN")
@click.option(
    "--retrain", type=click.IntRange(min=0), default=0, metavar="N", help="train N networks again (default: 0)"
)
def audit_command(run: Path, retrain: int) -> int:
    """Look for anything that judged a patient it had seen.

    Ledger and tables are held against each other, then scores, models and features are computed again.
    """
    from rps_utils.finished.audit import verdict
    from rps_utils.finished.recompute import full_audit

    account = full_audit(run, retrain)
    told = [("verified", account.verified), ("on trust", account.on_trust)]
    said = [*account.findings, *(f"{word}: {line}" for word, lines in told for line in lines)]
    click.echo("\n".join([*said, f"{run}: {verdict(run, account.findings)}"]))
    return 1 if account.findings else 0


def _choose(steps: Sequence[Any], profile: str, asked: Sequence[str], fixed: Mapping[str, Any]) -> dict[str, Any]:
    from rps_utils.runs.parameters import choose_parameters, parse_parameter

    wanted = dict(parse_parameter(text) for text in asked)
    if isinstance(wanted.get("weights"), str) and wanted["weights"]:  # typed here, so it starts here
        wanted["weights"] = str(Path(wanted["weights"]).resolve())
    return choose_parameters(steps, profile, {**wanted, **fixed})


def _engine(cores: int, executor: str, jobs: int, engine_profile: Path | None, dask: str | None) -> Engine:
    """Say where the work is done, or refuse what is not installed."""
    from importlib.util import find_spec

    from rps_utils.machine.engines import Engine

    needed = {"snakemake_executor_plugin_slurm": executor == "slurm", "distributed": bool(dask)}
    for package, wanted in needed.items():
        if wanted and find_spec(package) is None:
            raise click.UsageError(f"{package} is not installed: pip install -e '.[cluster]'")
    return Engine(cores, executor, jobs, engine_profile, dask)


def _bring_up_to_date(out: Path, steps: Sequence[Any], parameters: Mapping[str, Any], engine: Engine) -> int:
    from rps_utils.report.paper import c_index_table
    from rps_utils.run_folder import RunFolder
    from rps_utils.runs.chain import run_chain

    run = out.resolve()
    if not run_chain(run, steps, parameters, engine):
        click.echo(f"nothing to do: {out} is up to date")
    click.echo(f"\n{c_index_table(run)}\n\nreport: {RunFolder(run).report}")
    return 0
