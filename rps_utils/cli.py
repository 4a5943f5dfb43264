"""The command ``rps``: a thin front on the package. Exit status 0 = done, 1 = found problems, 2 = wrong use."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from rps_utils import runs
from rps_utils.files import read_csv, write_csv

ROOT = runs.PACKAGE.parent
DEFAULT_MANIFEST = ROOT / "data_manifest.csv"


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    top = argparse.ArgumentParser(prog="rps", description=__doc__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    _describe_phantom(commands)
    _describe_run(commands)
    _describe_evaluate(commands)
    _describe_study(commands)
    _describe_ingest(commands)
    check = _command(commands, "check", check_command, "check a manifest and every file it names")
    check.add_argument("manifest", type=Path)
    audit = _command(commands, "audit", audit_command, "look for anything that judged a patient it had seen")
    audit.add_argument("run", type=Path, metavar="RUN")
    return top


def _command(commands, name: str, work: Callable, text: str) -> argparse.ArgumentParser:  # noqa: ANN001
    command = commands.add_parser(
        name, help=text, description=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    command.set_defaults(work=work)
    return command


def _describe_phantom(commands) -> None:  # noqa: ANN001
    from rps_utils.phantom_patients import VARIANTS

    phantom = _command(commands, "phantom", phantom_command, "write a synthetic CT cohort with a known hazard")
    phantom.add_argument("folder", type=Path, metavar="DIR")
    phantom.add_argument("--patients", type=int, default=115)
    phantom.add_argument("--seed", type=int, default=2026)
    phantom.add_argument("--variant", choices=sorted(VARIANTS), default="full")
    phantom.add_argument(
        "--manifest", type=Path, metavar="FILE", help="write the manifest here as well, paths relative"
    )
    phantom.add_argument("--dicom", type=Path, metavar="DIR", help="write it here as DICOM, SEG and RTSTRUCT as well")
    phantom.add_argument("--cores", type=int, default=os.cpu_count())


def _describe_ingest(commands) -> None:  # noqa: ANN001
    ingest = _command(commands, "ingest", ingest_command, "turn DICOM series, masks and a table into a manifest")
    ingest.add_argument("source", type=Path, metavar="SOURCE", help="folder with the DICOM files, left as it is")
    ingest.add_argument(
        "--clinical", type=Path, required=True, metavar="TABLE", help=".csv or .xlsx, one row a patient"
    )
    ingest.add_argument("--out", type=Path, required=True, metavar="DIR")
    ingest.add_argument("--mapping", type=Path, metavar="FILE", help="YAML or JSON: columns, codes, rules")
    ingest.add_argument(
        "--without-quarantined", action="store_true", help="write the manifest of the others although some are refused"
    )
    ingest.add_argument(
        "--identified-source", action="store_true", help="the DICOM headers hold names, and may; none is written"
    )
    ingest.add_argument("--cores", type=int, default=os.cpu_count())


def _describe_run(commands) -> None:  # noqa: ANN001
    run = _command(commands, "run", run_command, "run the notebooks on a cohort")
    run.add_argument("--manifest", type=Path, default=DEFAULT_MANIFEST, help="one row a patient")
    run.add_argument("--out", type=Path, default=Path("runs/default"), metavar="RUN", help="run folder")
    run.add_argument("--profile", choices=sorted(runs.PROFILES), default="paper")
    _parameter_options(run)


def _describe_evaluate(commands) -> None:  # noqa: ANN001
    evaluate = _command(commands, "evaluate", evaluate_command, "evaluate any table of risk scores")
    evaluate.add_argument("scores", type=Path, metavar="SCORES.csv")
    evaluate.add_argument("--out", type=Path, required=True, metavar="DIR")
    evaluate.add_argument("--landmarks", type=float, nargs="+", default=[12, 36, 60], help="in the unit of the times")
    evaluate.add_argument("--tau", type=float, default=None, help="truncation time of Uno's C (default: last landmark)")
    _parameter_options(evaluate)


def _describe_study(commands) -> None:  # noqa: ANN001
    from rps_utils.phantom_patients import VARIANTS

    study = commands.add_parser("study", help="try the pipeline on many synthetic cohorts whose truth is known")
    parts = study.add_subparsers(required=True, metavar="STUDY")
    many = _command(parts, "replicates", replicates_command, "run the models on many cohorts drawn from one pool")
    many.add_argument("--variant", nargs="+", choices=sorted(VARIANTS), default=["null"])
    many.add_argument("--count", type=int, default=20, help="replicates of each variant")
    many.add_argument("--patients", type=int, default=115, help="training and validation together")
    many.add_argument("--folds", type=int, default=5)
    many.add_argument("--epochs", type=int, default=0, help="of the networks; 0 leaves out DL and DLCM")
    many.add_argument("--reserve", type=int, default=200, help="patients on whom the true C is approximated")
    many.add_argument("--seed", type=int, default=2026)
    many.add_argument("--pool", type=Path, default=ROOT / "data" / "study" / "pool", metavar="DIR")
    many.add_argument("--pool-patients", type=int, default=600)
    power = _command(parts, "power", power_command, "what difference of C do validation sets of several sizes detect")
    recipes = _command(parts, "recipes", recipes_command, "what each choice in the recipe of the networks is worth")
    recipes.add_argument("--lever", nargs="+", default=[], metavar="NAME", help="without it all")
    recipes.add_argument("--cohorts", type=int, nargs=2, default=[0, 8], metavar=("FIRST", "END"))
    recipes.add_argument("--pool", type=Path, default=ROOT / "data" / "study" / "tuning", metavar="DIR")
    scores = _command(parts, "dl", dl_command, "the DL-score beside its rivals and the truth")
    scores.add_argument("--variant", nargs="+", choices=sorted(VARIANTS), default=["full", "null", "decoupled"])
    scores.add_argument("--count", type=int, default=20, help="cohorts of each variant")
    scores.add_argument("--pool", type=Path, default=ROOT / "data" / "study" / "pool", metavar="DIR")
    for command in (many, power, recipes, scores):
        command.add_argument("--out", type=Path, required=True, metavar="FILE.csv", help="a finished part is kept")
        command.add_argument("--cores", type=int, default=os.cpu_count())


def _parameter_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "-p", dest="asked", action="append", default=[], metavar="NAME=VALUE", help="notebook parameter"
    )
    command.add_argument("--cores", type=int, default=os.cpu_count())


def phantom_command(asked: argparse.Namespace) -> int:
    """Write a phantom cohort."""
    from rps_utils.phantom import write_cohort

    options = {"n_jobs": asked.cores, "progress": print}
    manifest = write_cohort(asked.folder, asked.patients, asked.seed, asked.variant, **options)
    if asked.manifest:
        write_csv(_seen_from(manifest, asked.manifest.parent), asked.manifest)
    print(f"{asked.patients} synthetic patients: {manifest}")
    if asked.dicom:
        from rps_utils.dicom_writer import write_twin

        print(f"the same as DICOM, with their table: {write_twin(manifest, asked.dicom)}")
    return 0


def _seen_from(manifest: Path, folder: Path) -> pd.DataFrame:
    """Return a manifest with its paths relative to another folder."""
    way = Path(os.path.relpath(manifest.parent, folder))
    table = read_csv(manifest)
    return table.assign(**{c: [(way / name).as_posix() for name in table[c]] for c in ("image", "mask")})


def ingest_command(asked: argparse.Namespace) -> int:
    """Ingest a folder of DICOM files."""
    try:
        from rps_utils.ingest import ingest
    except ModuleNotFoundError as error:
        raise runs.UsageError(f"{error.name} is missing: pip install 'rps-lrfs[dicom]'") from error

    options = {"without_quarantined": asked.without_quarantined, "identified": asked.identified_source}
    done = ingest(asked.source, asked.clinical, asked.out, asked.mapping, asked.cores, **options)
    print("\n".join(["", *done.notes]))
    refused = done.quarantine["patient_id"].nunique()
    if refused:
        print(f"{refused} in quarantine: {asked.out / 'quarantine.csv'}", file=sys.stderr)
    if done.manifest is None:
        remedy = "mend them, or go on without them: --without-quarantined" if refused else "no patient at all"
        print(f"no manifest written: {remedy}", file=sys.stderr)
        return 1
    print(f"manifest: {done.manifest}")
    return 0


def check_command(asked: argparse.Namespace) -> int:
    """Check a manifest."""
    from rps_utils.manifest import check_manifest, format_problems

    problems = check_manifest(asked.manifest, n_jobs=os.cpu_count())
    print(format_problems(problems) if problems else f"{asked.manifest}: no problem found")
    return 1 if problems else 0


def audit_command(asked: argparse.Namespace) -> int:
    """Audit the ledger of a run, then refit its Cox models with the outcomes of those judged exchanged."""
    from rps_utils.fusion import blind_refits, refit_plans
    from rps_utils.ledger import audit, verdict

    findings, plans = audit(asked.run), refit_plans(asked.run)
    moved = blind_refits(asked.run, plans)
    print("\n".join([*findings, *moved, f"{asked.run}: {verdict(asked.run, findings)}"]))
    if plans and not moved:
        names = ", ".join(plan.model for plan in plans)
        print(f"{names}: refitted with the outcomes of those judged exchanged, they give the scores of scores.csv")
    return 1 if findings or moved else 0


def run_command(asked: argparse.Namespace) -> int:
    """Run the whole chain on a cohort."""
    from rps_utils.manifest import check_manifest, format_problems

    parameters = _chosen(runs.STEPS, asked.profile, asked.asked, {"manifest": str(asked.manifest.resolve())})
    if asked.manifest.resolve() == DEFAULT_MANIFEST:
        parameters["01_ingest"]["manifest"] = str(_default_cohort(asked.cores))
    manifest = Path(parameters["01_ingest"]["manifest"])
    if not runs.is_up_to_date(asked.out / "cohort.csv", runs.manifest_files(manifest)):
        problems = check_manifest(manifest, parameters["01_ingest"]["folds"], asked.cores)
        if problems:
            print(format_problems(problems), file=sys.stderr)
            return 1
    return _bring_up_to_date(asked, runs.STEPS, parameters)


def _default_cohort(cores: int) -> Path:
    """Render the synthetic cohort of the repository if it is not there; return the manifest that fits its bytes."""
    from rps_utils.phantom import write_cohort

    listed = read_csv(DEFAULT_MANIFEST)
    if not all((ROOT / name).is_file() for name in [*listed["image"], *listed["mask"]]):
        write_cohort(ROOT / "data" / "phantom", len(listed), n_jobs=cores, progress=print)
    own = ROOT / "data" / "phantom" / "data_manifest.csv"
    if _seen_from(own, ROOT).equals(listed):
        return DEFAULT_MANIFEST
    print(f"this machine compresses or rounds otherwise than the one that wrote {DEFAULT_MANIFEST.name}: using {own}")
    return own


def evaluate_command(asked: argparse.Namespace) -> int:
    """Run only the evaluation notebooks, on a table of scores from anywhere."""
    from rps_utils.scores import read_scores

    scores = read_scores(asked.scores)
    landmarks = [int(t) if t == int(t) else t for t in asked.landmarks]
    tau = asked.tau or landmarks[-1]
    parameters = _chosen(runs.EVALUATION, "paper", asked.asked, {"landmarks": landmarks, "tau": tau})
    if not (asked.out / "scores.csv").is_file() or not scores.equals(read_scores(asked.out / "scores.csv")):
        write_csv(scores, asked.out / "scores.csv")
    return _bring_up_to_date(asked, runs.EVALUATION, parameters)


def replicates_command(asked: argparse.Namespace) -> int:
    """Bring a table of replicates up to date."""
    from rps_utils.study import StudySettings, make_pool, run_study

    pool = make_pool(asked.pool, asked.pool_patients, n_jobs=asked.cores, progress=print)
    names = ("patients", "folds", "epochs", "reserve", "seed")
    settings = StudySettings(**{name: getattr(asked, name) for name in names})
    run_study(asked.out, pool, asked.variant, asked.count, settings, asked.cores, print)
    print(f"synthetic replicates: {asked.out}")
    return 0


def recipes_command(asked: argparse.Namespace) -> int:
    """Bring the table of levers up to date."""
    from rps_utils.recipes import LEVERS, run_levers

    levers, cohorts = asked.lever or list(LEVERS), range(*asked.cohorts)
    run_levers(asked.out, asked.pool, levers, cohorts, asked.cores, print)
    print(f"synthetic tuning cohorts: {asked.out}")
    return 0


def dl_command(asked: argparse.Namespace) -> int:
    """Bring the table of held-out scores up to date."""
    from rps_utils.recipes import run_scores
    from rps_utils.study import make_pool

    pool = make_pool(asked.pool, n_jobs=asked.cores, progress=print)
    run_scores(asked.out, pool, asked.variant, asked.count, asked.cores, print)
    print(f"synthetic cohorts: {asked.out}")
    return 0


def power_command(asked: argparse.Namespace) -> int:
    """Write the table of what a validation set can detect."""
    from rps_utils.study import power_table

    print(f"synthetic validation sets: {write_csv(power_table(n_jobs=asked.cores), asked.out)}")
    return 0


def _chosen(steps: Sequence[runs.Step], profile: str, asked: Sequence[str], fixed: dict) -> dict:
    wanted = dict(runs.parse_parameter(text) for text in asked)
    return runs.choose_parameters([s.name for s in steps], profile, {**wanted, **fixed})


def _bring_up_to_date(asked: argparse.Namespace, steps: Sequence[runs.Step], parameters: dict) -> int:
    run = asked.out.resolve()
    if not runs.run_chain(run, steps, parameters, asked.cores):
        print(f"nothing to do: {asked.out} is up to date")
    from rps_utils.report import c_index_table

    print(f"\n{c_index_table(run)}\n\nreport: {run / 'report.html'}")
    return 0


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    asked = parser().parse_args(arguments)
    try:
        status = asked.work(asked)
    except runs.UsageError as error:
        print(f"rps: {error}", file=sys.stderr)
        status = 2
    except (FileNotFoundError, ValueError, RuntimeError) as error:
        print(f"rps: {error}", file=sys.stderr)
        status = 1
    sys.exit(status)


if __name__ == "__main__":
    main()
