"""Did anything judge a patient it had seen? What the ledger and the tables of a run say, each held to the others.

Here nothing is computed again from images and models: that is `recompute`, which trusts neither ledger nor tables.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from rps_utils.files import read_csv, reading
from rps_utils.finished.agreement import disagreements, some_patients
from rps_utils.finished.origin import parameters_of
from rps_utils.imaging.patches import open_stored
from rps_utils.learning.crossfit import FittedScores, learning_patients, object_name
from rps_utils.learning.fusion import FusionPlan, cox_scores
from rps_utils.learning.ledger import FROM_OUTSIDE, Learned, cutoff_name, lineage, read_ledger
from rps_utils.run_folder import RunFolder
from rps_utils.schema import read_run_jsons
from rps_utils.scores import (
    MADE_BY,
    READY_MADE,
    incidence_columns,
    lrfs_column,
    lrfs_landmarks,
    read_scores,
    ready_made_name,
)
from rps_utils.texts.counts import how_many

JUDGED = ("cross_fitted", "validation")
LEFT_OUT = re.compile(r".+ (without (?P<folds>\d+(,\d+)?)|from all|in-sample)")
LARGEST_CROP = 2**31  # bytes, unpacked


def can_audit(run: str | Path) -> bool:
    """Tell whether a run folder holds what the audit reads."""
    own = RunFolder(run)
    return all(path.exists() for path in (own.cohort, own.scores, own.ledger))


def audit(run: str | Path) -> list[str]:
    """Look for anything that judged a patient it had seen.

    Parameters
    ----------
    run : str or Path
        Run folder with ``cohort.csv``, ``scores.csv`` and ``ledger``.

    Returns
    -------
    list of str
        One line a finding; empty if the run is sound.

    Raises
    ------
    FileNotFoundError
        The folder has no cohort, scores or ledger: scores from elsewhere cannot be audited.
    """
    run = Path(run)
    if not can_audit(run):
        raise FileNotFoundError(f"{run} has no cohort.csv, scores.csv and ledger: scores made elsewhere prove nothing")
    cohort, scores, ledger = read_csv(RunFolder(run).cohort), read_scores(RunFolder(run).scores), read_ledger(run)
    return [
        *_unrecorded(run, scores, ledger),
        *_misplaced(cohort, scores),
        *_strangers(cohort, ledger),
        *_saw_the_judged(scores, ledger),
        *_in_sample(scores, ledger),
        *_other_cards(run, cohort, ledger),
        *_saw_nobody(cohort, ledger),
        *_saw_others(cohort, ledger),
        *_same_images(run, cohort),
        *disagreements(run, cohort, scores),
    ]


def verdict(run: str | Path, findings: Sequence[str]) -> str:
    """Say in one sentence what the audit of a run has found."""
    if findings:
        return f"{how_many(len(findings), 'finding')}; scores above may be too good"
    scores, ledger = read_scores(RunFolder(run).scores), read_ledger(run)
    judged = scores["kind"].isin(JUDGED).sum()
    return (
        f"nothing that is recorded saw a patient it judged ({len(ledger)} fitted objects, "
        f"{how_many(judged, 'judged row')})"
    )


def _unrecorded(run: Path, scores: pd.DataFrame, ledger: Mapping[str, Learned]) -> Iterator[str]:
    made_by = scores.get(MADE_BY, pd.Series("", scores.index)).fillna("")
    for (model, kind), rows in scores[made_by == ""].groupby(["model", "kind"]):
        silent = how_many(len(rows), "row does", "rows do")
        yield f"{model}, {kind}: {silent} not say what made them: give `score_rows` the column {MADE_BY}"
    wanted = {name: "made rows of scores.csv" for names in made_by.unique() for name in names.split("+") if name}
    for entry in ledger.values():
        wanted = {source: f"taught '{entry.name}'" for source in entry.made_from} | wanted
    applied = RunFolder(run).table("risk_groups_cutoffs")
    if applied.is_file():
        table = read_csv(applied)
        models = table.loc[(table["kind"] == "validation") & table["cutoff"].notna(), "model"]
        wanted |= {cutoff_name(model): "divided the validation patients" for model in models}
    for name, deed in wanted.items():
        if name not in ledger:
            yield f"'{name}' {deed}, but is not in the ledger: record it where it is fitted"


def _misplaced(cohort: pd.DataFrame, scores: pd.DataFrame) -> Iterator[str]:
    split = scores["patient_id"].map(cohort.set_index("patient_id")["split"])
    for (was, now), rows in scores.groupby([split.fillna("absent"), "split"]):
        if was != now:
            who = some_patients(set(rows["patient_id"]))
            yield f"{who} are {now} in scores.csv and {was} in cohort.csv: they must agree"


def _strangers(cohort: pd.DataFrame, ledger: Mapping[str, Learned]) -> Iterator[str]:
    training = set(cohort.loc[cohort["split"] == "training", "patient_id"])
    validation = set(cohort.loc[cohort["split"] == "validation", "patient_id"])
    for entry in ledger.values():
        learner = f"the {entry.kind} '{entry.name}'"
        if validation & set(entry.saw):
            yield f"{learner} saw {some_patients(validation & set(entry.saw))} of the validation split"
        unknown = set(entry.saw) - training - validation
        if unknown:
            yield f"{learner} saw {some_patients(unknown)} who are not in cohort.csv: fit it again"


def _judged(scores: pd.DataFrame) -> Iterator[tuple[str, str, str, set[str]]]:
    """Yield model, kind, maker and the patients judged."""
    if MADE_BY not in scores:
        return
    rows = scores[scores["kind"].isin(JUDGED)].dropna(subset=MADE_BY)
    for (model, kind, names), part in rows.groupby(["model", "kind", MADE_BY]):
        for maker in names.split("+"):
            yield model, kind, maker, set(part["patient_id"])


def _saw_the_judged(scores: pd.DataFrame, ledger: Mapping[str, Learned]) -> Iterator[str]:
    """Yield one line for each model, kind and object that had seen patients judged with its help."""
    found: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    ways: dict[tuple[str, str, str], list[str]] = {}
    for model, kind, maker, patients in _judged(scores):
        for source, way in lineage(maker, ledger).items():
            seen = patients & set(ledger[source].saw) if source in ledger else set()
            if seen:
                found[model, kind, source] |= seen
                ways.setdefault((model, kind, source), way)
    for (model, kind, source), seen in found.items():
        by = " <- ".join(f"'{name}'" for name in ways[model, kind, source])
        who = some_patients(seen)
        yield f"{model}, {kind}: {who} were judged by {by}, a {ledger[source].kind} that had seen them"


def _in_sample(scores: pd.DataFrame, ledger: Mapping[str, Learned]) -> Iterator[str]:
    """Look for learning from in-sample scores, in everything that stands behind a judged row."""
    reached = {name for _, _, maker, _ in _judged(scores) for name in lineage(maker, ledger)}
    for name in sorted(reached & ledger.keys()):
        for source, scored in ledger[name].made_from.items():
            seen = {i for way in lineage(source, ledger) if way in ledger for i in ledger[way].saw} & set(scored)
            if seen:
                learner, who = f"the {ledger[name].kind} '{name}'", some_patients(seen)
                yield f"{learner} learned from in-sample scores: '{source}' had seen {who} whom it scored"
                break  # one source is enough to condemn it


def _other_cards(run: Path, cohort: pd.DataFrame, ledger: Mapping[str, Learned]) -> Iterator[str]:
    """Compare with the cards that the training of networks writes beside the weights."""
    for path, card in read_run_jsons(run, "models/DL_*_*.json"):
        if not {"left_out_folds", "training_ids_sha256"} <= card.keys():
            continue
        name = object_name(path.stem.split("_")[0], tuple(card["left_out_folds"]))
        saw = set(ledger[name].saw) if name in ledger else set()
        listed = "\n".join(i for i in cohort["patient_id"] if i in saw)
        if name in ledger and hashlib.sha256(listed.encode()).hexdigest() != card["training_ids_sha256"]:
            yield f"{path.name} was trained on other patients than the ledger says of '{name}': train it again"


def _saw_nobody(cohort: pd.DataFrame, ledger: Mapping[str, Learned]) -> Iterator[str]:
    """Yield what claims to have learned from nobody; a ready-made score may, if the cohort has its column."""
    columns = [c.removeprefix(READY_MADE) for c in cohort if c.startswith(READY_MADE)]
    allowed = {ready_made_name(model) for model in columns}
    for entry in ledger.values():
        if not entry.saw and not (entry.kind == FROM_OUTSIDE and entry.name in allowed):
            yield (
                f"the {entry.kind} '{entry.name}' saw nobody, says the ledger: only a ready-made score of the manifest "
                "may; record whom it was fitted on"
            )


def _saw_others(cohort: pd.DataFrame, ledger: Mapping[str, Learned]) -> Iterator[str]:
    """Yield the objects that did not see the folds that their names speak of, all of them and no other."""
    for entry in ledger.values():
        named = LEFT_OUT.fullmatch(entry.name)
        if named is None or not entry.saw:
            continue
        folds = tuple(int(k) for k in (named["folds"] or "").split(",") if k)
        due, saw = set(learning_patients(cohort, folds)), set(entry.saw)
        if saw != due:
            yield (
                f"the {entry.kind} '{entry.name}' saw {how_many(len(saw), 'patient')}, says the ledger; its name means "
                f"{some_patients(due)}: {len(saw ^ due)} differ"
            )


def _same_images(run: Path, cohort: pd.DataFrame) -> Iterator[str]:
    side = cohort.set_index("patient_id").apply(lambda row: f"{row['split']} {row['fold']}", axis=1)
    for what, prints in (("CT crop", _crop_prints(run, side.index)), ("network patch", _patch_prints(run))):
        owners = defaultdict(list)
        for patient, mark in prints:
            owners[mark].append(patient)
        for patients in owners.values():
            if len({side.get(i) for i in patients}) > 1:
                places = ", ".join(f"{i} in {side.get(i, 'no split')}".replace(" nan", "") for i in patients)
                yield f"one {what} under {len(patients)} ids, across folds or splits: {places}; keep one"


def _crop_prints(run: Path, patients: Iterable[str]) -> Iterator[tuple[str, str]]:
    for patient in patients:
        path = RunFolder(run).crops / f"{patient}_ct.nii.gz"
        if path.is_file():
            yield patient, _unpacked_sha256(path)


def _unpacked_sha256(path: Path) -> str:
    """Hash what a packed file holds, piece by piece: its own bytes carry a date, and it may unpack to anything."""
    found, size = hashlib.sha256(), 0
    with reading(path, "a packed image", (OSError, zlib.error)), gzip.open(path) as stream:
        while piece := stream.read(2**20):
            found.update(piece)
            size += len(piece)
            if size > LARGEST_CROP:
                raise OSError(f"it unpacks to more than {LARGEST_CROP // 2**30} GiB")
    return found.hexdigest()


def _patch_prints(run: Path) -> Iterator[tuple[str, str]]:
    path = RunFolder(run).patches
    if path.is_file():
        with open_stored(path) as stored:
            patients, patches = stored["patient_id"], stored["patches"]
        for patient, patch in zip(patients, patches, strict=True):
            yield str(patient), hashlib.sha256(np.ascontiguousarray(patch).tobytes()).hexdigest()


def swap_outcomes(cohort: pd.DataFrame, patients: pd.Series) -> pd.DataFrame:
    """Return the cohort with the outcomes of the marked patients exchanged among them, in reverse order."""
    swapped = cohort.copy()
    outcome = ["time_months", "event"]
    swapped.loc[patients, outcome] = cohort.loc[patients, outcome].to_numpy()[::-1]
    return swapped


def moved_by_own_outcomes(
    cohort: pd.DataFrame, plan: FusionPlan, image: FittedScores | None, stored: pd.DataFrame, tolerance: float = 1e-6
) -> Iterator[str]:
    """Refit a model with the outcomes of those judged exchanged, and report every group whose scores move.

    This proves by experiment what the ledger states: nothing below it is trusted, neither names nor ids. It also
    shows that the stored scores, risk and LRFS, are those that the code makes.

    Parameters
    ----------
    cohort, plan, image
        As for `cox_scores`.
    stored : DataFrame
        Score rows of the model.
    tolerance : float
        Largest difference of a log hazard or of a probability that is taken for rounding.
    """
    landmarks = lrfs_landmarks(stored)
    columns = ["risk", *map(lrfs_column, landmarks), *incidence_columns(stored)]
    judged = stored[stored["kind"] != "apparent"].set_index("patient_id")[columns]
    groups = cohort["fold"].map("fold {:g}".format).where(cohort["split"] == "training", "validation")
    for group in sorted(groups.unique()):
        rows, _ = cox_scores(swap_outcomes(cohort, groups == group), plan, image, landmarks)
        again = rows[rows["kind"] != "apparent"].set_index("patient_id")[columns]
        own = pd.Index(cohort.loc[groups == group, "patient_id"])
        new, old = again.loc[own], judged.reindex(own)
        change = (new - old).abs().mask(new.isna() & old.isna(), 0).to_numpy().max()  # NaN where one of them is empty
        if not change <= tolerance:
            yield f"{plan.model}, {group}: scores move by {change:.2g} when the outcomes of those judged are exchanged"


COX_MODELS = {"Clinical": "clinical_cox", "DLCM": "DLCM", "RSCM": "RSCM"}  # model to its file in RUN/models


def refit_plans(run: str | Path) -> list[FusionPlan]:
    """Return the plans of the Cox models that a run has fitted; none where it tells no parameters."""
    chosen = {model: parameters_of(run, f"models/{file}.json") for model, file in COX_MODELS.items()}
    return [
        FusionPlan(model, own["clinical_columns"], own["ridge"])
        for model, own in chosen.items()
        if {"clinical_columns", "ridge"} <= own.keys()
    ]
