"""The command ``rps``: a thin front on the package. Exit status 0 = done, 1 = found problems, 2 = wrong use."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from rps_utils.files import read_csv, write_csv
from rps_utils.locks import own_folder
from rps_utils.runs.chain import is_manifest_unchanged, plan_chain, run_chain
from rps_utils.runs.parameters import PROFILES, UsageError, choose_parameters, chosen_value, parse_parameter
from rps_utils.runs.steps import Step, part_of, read_steps
from rps_utils.sources import PACKAGE

if TYPE_CHECKING:
    from rps_utils.ingest import Outcome

ROOT = PACKAGE.parent
DEFAULT_MANIFEST = ROOT / "data_manifest.csv"


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    top = argparse.ArgumentParser(prog="rps", description=__doc__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    _describe_phantom(commands)
    _describe_run(commands)
    _describe_evaluate(commands)
    _describe_predict(commands)
    _describe_study(commands)
    _describe_ingest(commands)
    _describe_public(commands)
    check = _command(commands, "check", check_command, "check a manifest and every file it names")
    check.add_argument("manifest", type=Path)
    check.add_argument("--html", type=Path, metavar="FILE", help="write the check as a page as well")
    check.add_argument("--json", action="store_true", help="print problems, counts and images as JSON")
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
    phantom.add_argument("--deaths", action="store_true", help="tell death without local recurrence apart, as event 2")
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


def _describe_public(commands) -> None:  # noqa: ANN001
    public = commands.add_parser("public", help="cohorts that anyone may download: list, manifest, download, ingest")
    parts = public.add_subparsers(required=True, metavar="STEP")
    _command(parts, "list", public_list_command, "say which public collections are known, and what is missing")
    listed = _command(parts, "manifest", public_manifest_command, "write the list of a collection's series, offline")
    listed.add_argument("--out", type=Path, required=True, metavar="FILE.csv")
    fetched = _command(parts, "download", public_download_command, "fetch the series and verify them, or fail")
    fetched.add_argument("--out", type=Path, required=True, metavar="DIR", help="a second call goes on where it ended")
    fetched.add_argument("--patients", type=int, metavar="N", help="only the first N (default: all)")
    fetched.add_argument("--manifest", type=Path, metavar="FILE.csv", help="default: the committed list of series")
    fetched.add_argument("--mirror", metavar="URL", help="another server that answers as S3 does")
    taken = _command(parts, "ingest", public_ingest_command, "turn a download and its clinical table into a manifest")
    taken.add_argument("--source", type=Path, required=True, metavar="DIR", help="folder of the download")
    taken.add_argument("--clinical", type=Path, required=True, metavar="TABLE.xlsx", help="the table, as published")
    taken.add_argument("--out", type=Path, required=True, metavar="DIR")
    taken.add_argument("--without-quarantined", action="store_true", help="write the manifest of the others")
    taken.add_argument("--cores", type=int, default=os.cpu_count())
    for command in (listed, fetched, taken):
        command.add_argument("collection", metavar="COLLECTION", help="a supported one: see rps public list")


def _describe_run(commands) -> None:  # noqa: ANN001
    run = _command(commands, "run", run_command, "run the notebooks on a cohort")
    run.add_argument("--manifest", type=Path, default=DEFAULT_MANIFEST, help="one row a patient")
    run.add_argument("--out", type=Path, default=Path("runs/default"), metavar="RUN", help="run folder")
    run.add_argument("--profile", choices=sorted(PROFILES), default="paper")
    _parameter_options(run)


def _describe_evaluate(commands) -> None:  # noqa: ANN001
    evaluate = _command(commands, "evaluate", evaluate_command, "evaluate any table of risk scores")
    evaluate.add_argument("scores", type=Path, metavar="SCORES.csv")
    evaluate.add_argument("--out", type=Path, required=True, metavar="DIR")
    evaluate.add_argument("--landmarks", type=float, nargs="+", default=[12, 36, 60], help="in the unit of the times")
    evaluate.add_argument("--tau", type=float, default=None, help="truncation time of Uno's C (default: last landmark)")
    _parameter_options(evaluate)


def _describe_predict(commands) -> None:  # noqa: ANN001
    predict = _command(
        commands, "predict", predict_command, "score new patients with a finished run, refitting nothing"
    )
    predict.add_argument("run", type=Path, metavar="RUN", help="run folder")
    predict.add_argument("--manifest", type=Path, required=True, help="new patients; outcomes may be absent")
    predict.add_argument("--out", type=Path, required=True, metavar="SCORES.csv")
    predict.add_argument("--cores", type=int, default=os.cpu_count())


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
    many.add_argument("--pool-patients", type=int, default=600)
    cut = _command(parts, "shortcut", shortcut_command, "do scores follow the scanner where it tells the outcome")
    cut.add_argument("--count", type=int, default=20, help="replicates")
    cut.add_argument("--pool-patients", type=int, default=250)
    for command in (many, cut):
        command.add_argument("--pool", type=Path, default=ROOT / "data" / "study" / "pool", metavar="DIR")
    power = _command(parts, "power", power_command, "what difference of C do validation sets of several sizes detect")
    recipes = _command(parts, "recipes", recipes_command, "what each choice in the recipe of the networks is worth")
    recipes.add_argument("--lever", nargs="+", default=[], metavar="NAME", help="without it all")
    recipes.add_argument("--cohorts", type=int, nargs=2, default=[0, 8], metavar=("FIRST", "END"))
    recipes.add_argument("--pool", type=Path, default=ROOT / "data" / "study" / "tuning", metavar="DIR")
    scores = _command(parts, "dl", dl_command, "the DL-score beside its rivals and the truth")
    scores.add_argument("--variant", nargs="+", choices=sorted(VARIANTS), default=["full", "null", "decoupled"])
    scores.add_argument("--count", type=int, default=20, help="cohorts of each variant")
    scores.add_argument("--pool", type=Path, default=ROOT / "data" / "study" / "pool", metavar="DIR")
    for command in (many, cut, power, recipes, scores):
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

    endpoint = "competing" if asked.deaths else "lr"
    options = {"n_jobs": asked.cores, "progress": print, "endpoint": endpoint}
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
    from rps_utils.phantom import IMAGES

    way = Path(os.path.relpath(manifest.parent, folder))
    table = read_csv(manifest)
    return table.assign(**{c: [(way / name).as_posix() for name in table[c]] for c in IMAGES})


def ingest_command(asked: argparse.Namespace) -> int:
    """Ingest a folder of DICOM files."""
    with _extra("dicom"):
        from rps_utils.ingest import ingest

    options = {"without_quarantined": asked.without_quarantined, "identified": asked.identified_source}
    return _tell(ingest(asked.source, asked.clinical, asked.out, asked.mapping, asked.cores, **options), asked)


@contextmanager
def _extra(name: str) -> Iterator[None]:
    """Say which optional extra to install where one of its packages is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} is missing: pip install 'rps-lrfs[{name}]'") from error


def _tell(done: Outcome, asked: argparse.Namespace) -> int:
    """Say what an ingest led to, and return the exit status."""
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


def public_list_command(asked: argparse.Namespace) -> int:
    """Describe the public collections."""
    from rps_utils.public import describe_collections

    print(describe_collections())
    return 0


def public_manifest_command(asked: argparse.Namespace) -> int:
    """Write the list of a collection's series from the index."""
    from rps_utils.public import compare_series, index_series, pinned_series

    pinned = pinned_series(asked.collection)
    with _extra("public"):
        series = index_series(asked.collection)
    size = f"{series['bytes'].sum() / 1e9:.1f} GB"
    print(f"{len(series)} series of {series['patient_id'].nunique()} patients, {size}: {write_csv(series, asked.out)}")
    print(f"index {series['index_version'].iloc[0]}: {compare_series(series, pinned)}")
    return 0


def public_download_command(asked: argparse.Namespace) -> int:
    """Fetch and verify the series of a collection."""
    from rps_utils.public import pinned_series, read_series

    series = pinned_series(asked.collection)
    with _extra("public"):
        from rps_utils.public_download import BUCKET_ADDRESS, download

    series = read_series(asked.manifest) if asked.manifest else series
    listed = download(asked.collection, series, asked.out, asked.patients, asked.mirror or BUCKET_ADDRESS)
    print(f"complete, verified: {listed}")
    return 0


def public_ingest_command(asked: argparse.Namespace) -> int:
    """Turn a download and its clinical table into a manifest."""
    from rps_utils.public import ingest_collection

    options = {"n_jobs": asked.cores, "without_quarantined": asked.without_quarantined}
    with _extra("public"):
        done = ingest_collection(asked.collection, asked.source, asked.clinical, asked.out, **options)
    return _tell(done, asked)


def check_command(asked: argparse.Namespace) -> int:
    """Check a manifest."""
    from rps_utils.check import as_dict, check, write_page
    from rps_utils.manifest import check_manifest, format_problems

    if not (asked.html or asked.json):
        problems = check_manifest(asked.manifest, n_jobs=os.cpu_count())
    else:
        found = check(asked.manifest, n_jobs=os.cpu_count())
        problems = found.problems
    if asked.html:
        write_page(found, asked.html)
    if asked.json:
        print(json.dumps(as_dict(found), indent=1, allow_nan=False))
    else:
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
    from rps_utils.manifest import check_manifest, format_problems, lacking_columns

    steps, manifest = read_steps(), asked.manifest.resolve()
    if manifest == DEFAULT_MANIFEST:
        manifest = _default_cohort(asked.cores)
    parameters = _chosen(steps, asked.profile, asked.asked, {"manifest": str(manifest)})
    problems = lacking_columns(manifest, chosen_value(parameters, "clinical_columns"))
    plan = plan_chain(asked.out.resolve(), steps, parameters)
    if not is_manifest_unchanged(plan, parameters):
        planned = {name: chosen_value(parameters, name) for name in ("folds", "split_by")}
        problems += check_manifest(manifest, n_jobs=asked.cores, **planned)
    if problems:
        print(format_problems(problems), file=sys.stderr)
        return 1
    return _bring_up_to_date(asked, steps, parameters)


def _default_cohort(cores: int) -> Path:
    """Render the synthetic cohort of the repository if it is not there; return the manifest that fits its bytes."""
    from rps_utils.phantom import IMAGES, write_cohort

    listed = read_csv(DEFAULT_MANIFEST)
    if not all((ROOT / name).is_file() for column in IMAGES for name in listed[column]):
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
    steps = part_of(read_steps(), "evaluation")
    parameters = _chosen(steps, "paper", asked.asked, {"landmarks": landmarks, "tau": tau})
    with own_folder(asked.out):
        if not (asked.out / "scores.csv").is_file() or not scores.equals(read_scores(asked.out / "scores.csv")):
            write_csv(scores, asked.out / "scores.csv")
        return _bring_up_to_date(asked, steps, parameters)


def predict_command(asked: argparse.Namespace) -> int:
    """Score new patients."""
    from rps_utils.predict import predict

    rows = predict(asked.run, asked.manifest, asked.out, asked.cores)
    patients = rows.drop_duplicates("patient_id")
    print(f"{len(patients)} patients scored by {', '.join(rows['model'].unique())}: {asked.out}")
    if "unlike" in rows:
        flagged = list(patients.loc[patients["unlike"], "patient_id"])
        print(f"{len(flagged)} unlike the training patients{': ' * bool(flagged)}{', '.join(flagged)}")
    return 0


def replicates_command(asked: argparse.Namespace) -> int:
    """Bring a table of replicates up to date."""
    from rps_utils.study import StudySettings, make_pool, run_study

    pool = make_pool(asked.pool, asked.pool_patients, n_jobs=asked.cores, progress=print)
    names = ("patients", "folds", "epochs", "reserve", "seed")
    settings = StudySettings(**{name: getattr(asked, name) for name in names})
    run_study(asked.out, pool, asked.variant, asked.count, settings, asked.cores, print)
    print(f"synthetic replicates: {asked.out}")
    return 0


def shortcut_command(asked: argparse.Namespace) -> int:
    """Bring the table of shortcuts up to date."""
    from rps_utils.shortcut import SMOOTHING_MM, run_shortcut
    from rps_utils.study import make_pool

    given = {"n_jobs": asked.cores, "progress": print}
    pool = make_pool(asked.pool, asked.pool_patients, **given)
    smooth = make_pool(f"{asked.pool}_smooth", asked.pool_patients, smoothing_mm=SMOOTHING_MM, **given)
    run_shortcut(asked.out, pool, smooth, asked.count, **given)
    print(f"synthetic shortcuts: {asked.out}")
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


def _chosen(steps: Sequence[Step], profile: str, asked: Sequence[str], fixed: dict) -> dict:
    wanted = dict(parse_parameter(text) for text in asked)
    return choose_parameters(steps, profile, {**wanted, **fixed})


def _bring_up_to_date(asked: argparse.Namespace, steps: Sequence[Step], parameters: dict) -> int:
    run = asked.out.resolve()
    if not run_chain(run, steps, parameters, asked.cores):
        print(f"nothing to do: {asked.out} is up to date")
    from rps_utils.report import c_index_table

    print(f"\n{c_index_table(run)}\n\nreport: {run / 'report.html'}")
    return 0


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    asked = parser().parse_args(arguments)
    os.environ.setdefault("PYTHONSAFEPATH", "1")  # no process that this one starts imports from the working folder
    try:
        status = asked.work(asked)
    except UsageError as error:
        print(f"rps: {error}", file=sys.stderr)
        status = 2
    except (OSError, ValueError, RuntimeError) as error:
        print(f"rps: {error}", file=sys.stderr)
        status = 1
    sys.exit(status)


if __name__ == "__main__":
    main()
