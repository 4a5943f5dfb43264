"""Who learned from whom, and whether anything judged a patient it had seen.

Every fitted object (network, LASSO with its scaler, clinical design, Cox model, cut-off) is entered in
``RUN/ledger`` with the patients it saw and the objects whose output it learned from; every score row names the
objects that made it. `audit` follows these lines back from each judged row. It proves what was recorded: an object
that lies about whom it saw is caught only where something else contradicts it, such as the card of a network.
"""

from __future__ import annotations

import gzip
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from rps_utils.crossfit import LeftOut, learning_patients, object_name
from rps_utils.files import read_csv, read_json, write_json
from rps_utils.scores import MADE_BY, read_scores, ready_made_name

JUDGED = ("cross_fitted", "validation")


@dataclass(frozen=True)
class Learned:
    """One fitted object.

    Attributes
    ----------
    name : str
        For example ``"DL without 0,1"``; no ``+``, which joins names in the score table.
    kind : str
        In words, for example ``"network"`` or ``"cut-off"``.
    saw : list of str
        Ids of the patients it was fitted on.
    made_from : dict
        Name of an object whose output it learned from, to the patients whose *scores* by that object entered.
        The list is empty where the object only prepared the data (scaler, design).
    """

    name: str
    kind: str
    saw: list[str] = field(default_factory=list)
    made_from: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a name that could not be read back from a score row."""
        if "+" in self.name or not self.name.strip():
            raise ValueError(f"object name {self.name!r}; allowed: a name without '+', which joins names in score rows")


# ---------------------------------------------------------------- entering


def record(run: str | Path, family: str, learned: Sequence[Learned]) -> Path:
    """Write ``RUN/ledger/<family>.json``; what an earlier run of the same notebook entered there is replaced."""
    twice = pd.Series([entry.name for entry in learned], dtype=str).duplicated()
    if twice.any():
        raise ValueError(f"ledger {family}: {learned[int(twice.argmax())].name!r} is entered twice; each object once")
    return write_json([asdict(entry) for entry in learned], Path(run) / "ledger" / f"{family}.json")


def cross_fitted(model: str, kind: str, cohort: pd.DataFrame, left_out_sets: Sequence[LeftOut]) -> list[Learned]:
    """Return the entries of models fitted by `crossfit.learning_patients`, one a left-out set."""
    return [Learned(object_name(model, s), kind, list(learning_patients(cohort, s))) for s in left_out_sets]


def ready_made(scores: pd.DataFrame) -> list[Learned]:
    """Return the entries of ready-made scores: on their owner's word, they saw nobody of this cohort."""
    return [Learned(ready_made_name(model), "ready-made score") for model in scores["model"].unique()]


def score_makers(made_by: pd.Series) -> dict[str, list[str]]:
    """Return each maker named in a Series of ``+``-joined names, with the patients that it scored."""
    found = defaultdict(list)
    for patient, names in made_by.items():
        for name in filter(None, names.split("+")):
            found[name].append(patient)
    return dict(found)


def cutoffs(scores: pd.DataFrame, table: pd.DataFrame) -> list[Learned]:
    """Return the entries of the cut-offs that are applied to validation patients.

    Parameters
    ----------
    scores : DataFrame
        Score table.
    table : DataFrame
        ``model, kind, learned_from``: the kind of score from which each cut-off was taken.
    """
    entries = []
    for row in table[(table["kind"] == "validation") & table["learned_from"].fillna("").astype(bool)].itertuples():
        used = scores[(scores["model"] == row.model) & (scores["kind"] == row.learned_from)].set_index("patient_id")
        makers = score_makers(used[MADE_BY].fillna("")) if MADE_BY in used else {}
        entries.append(Learned(cutoff_name(row.model), "cut-off", list(used.index), {name: [] for name in makers}))
    return entries


def cutoff_name(model: str) -> str:
    """Name the cut-off of a model."""
    return f"cut-off of {model}".replace("+", " and ")


# ---------------------------------------------------------------- reading


def read_ledger(run: str | Path) -> dict[str, Learned]:
    """Return every entry of ``RUN/ledger`` by name.

    Raises
    ------
    ValueError
        Two entries have the same name.
    """
    entries = [Learned(**entry) for path in sorted(Path(run).glob("ledger/*.json")) for entry in read_json(path)]
    ledger = {entry.name: entry for entry in entries}
    if len(ledger) < len(entries):
        names = pd.Series([entry.name for entry in entries])
        raise ValueError(f"{run}/ledger: two entries are called {names[names.duplicated()].iloc[0]!r}; allowed: one")
    return ledger


def lineage(name: str, ledger: Mapping[str, Learned]) -> dict[str, list[str]]:
    """Return everything that went into an object, itself included, each with the shortest way to it."""
    ways, queue = {name: [name]}, [name]
    while queue:
        at = queue.pop(0)
        for source in ledger[at].made_from if at in ledger else ():
            if source not in ways:
                ways[source] = [*ways[at], source]
                queue.append(source)
    return ways


# ---------------------------------------------------------------- audit


def can_audit(run: str | Path) -> bool:
    """Tell whether a run folder holds what the audit reads."""
    return all((Path(run) / name).exists() for name in ("cohort.csv", "scores.csv", "ledger"))


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
    cohort, scores, ledger = read_csv(run / "cohort.csv"), read_scores(run / "scores.csv"), read_ledger(run)
    return [
        *_unrecorded(run, scores, ledger),
        *_misplaced(cohort, scores),
        *_strangers(cohort, ledger),
        *_saw_the_judged(scores, ledger),
        *_in_sample(scores, ledger),
        *_other_cards(run, cohort, ledger),
        *_same_images(run, cohort),
    ]


def verdict(run: str | Path, findings: Sequence[str]) -> str:
    """Say in one sentence what the audit of a run has found."""
    if findings:
        return f"{len(findings)} finding{'s' * (len(findings) > 1)}; scores above may be too good"
    scores, ledger = read_scores(Path(run) / "scores.csv"), read_ledger(run)
    judged = scores["kind"].isin(JUDGED).sum()
    return f"nothing that is recorded saw a patient it judged ({len(ledger)} fitted objects, {judged} judged rows)"


def _some(patients: Iterable[str]) -> str:
    patients = sorted(patients)
    return (
        f"{len(patients)} patient{'s' * (len(patients) > 1)} ({', '.join(patients[:3])}{', ...' * (len(patients) > 3)})"
    )


def _unrecorded(run: Path, scores: pd.DataFrame, ledger: Mapping[str, Learned]) -> Iterator[str]:
    made_by = scores.get(MADE_BY, pd.Series("", scores.index)).fillna("")
    for (model, kind), rows in scores[made_by == ""].groupby(["model", "kind"]):
        yield f"{model}, {kind}: {len(rows)} rows do not say what made them: give `score_rows` the column {MADE_BY}"
    wanted = {name: "made rows of scores.csv" for names in made_by.unique() for name in names.split("+") if name}
    for entry in ledger.values():
        wanted = {source: f"taught '{entry.name}'" for source in entry.made_from} | wanted
    applied = run / "tables" / "risk_groups_cutoffs.csv"
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
            yield f"{_some(set(rows['patient_id']))} are {now} in scores.csv and {was} in cohort.csv: they must agree"


def _strangers(cohort: pd.DataFrame, ledger: Mapping[str, Learned]) -> Iterator[str]:
    training = set(cohort.loc[cohort["split"] == "training", "patient_id"])
    validation = set(cohort.loc[cohort["split"] == "validation", "patient_id"])
    for entry in ledger.values():
        if validation & set(entry.saw):
            yield f"the {entry.kind} '{entry.name}' saw {_some(validation & set(entry.saw))} of the validation split"
        unknown = set(entry.saw) - training - validation
        if unknown:
            yield f"the {entry.kind} '{entry.name}' saw {_some(unknown)} who are not in cohort.csv: fit it again"


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
        yield f"{model}, {kind}: {_some(seen)} were judged by {by}, a {ledger[source].kind} that had seen them"


def _in_sample(scores: pd.DataFrame, ledger: Mapping[str, Learned]) -> Iterator[str]:
    """Look for learning from in-sample scores, in everything that stands behind a judged row."""
    reached = {name for _, _, maker, _ in _judged(scores) for name in lineage(maker, ledger)}
    for name in sorted(reached & ledger.keys()):
        for source, scored in ledger[name].made_from.items():
            seen = {i for way in lineage(source, ledger) if way in ledger for i in ledger[way].saw} & set(scored)
            if seen:
                learner = f"the {ledger[name].kind} '{name}'"
                yield f"{learner} learned from in-sample scores: '{source}' had seen {_some(seen)} whom it scored"
                break  # one source is enough to condemn it


def _other_cards(run: Path, cohort: pd.DataFrame, ledger: Mapping[str, Learned]) -> Iterator[str]:
    """Compare with the cards that the training of networks writes beside the weights."""
    for path in sorted(run.glob("models/*.json")):
        card = read_json(path)
        if not {"left_out_folds", "training_ids_sha256"} <= card.keys():
            continue
        name = object_name(path.stem.split("_")[0], tuple(card["left_out_folds"]))
        saw = set(ledger[name].saw) if name in ledger else set()
        listed = "\n".join(i for i in cohort["patient_id"] if i in saw)
        if name in ledger and hashlib.sha256(listed.encode()).hexdigest() != card["training_ids_sha256"]:
            yield f"{path.name} was trained on other patients than the ledger says of '{name}': train it again"


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
        path = run / "crops" / f"{patient}_ct.nii.gz"
        if path.is_file():
            with gzip.open(path) as stream:  # its own bytes carry a date
                yield patient, hashlib.sha256(stream.read()).hexdigest()


def _patch_prints(run: Path) -> Iterator[tuple[str, str]]:
    if (run / "patches.npz").is_file():
        with np.load(run / "patches.npz", allow_pickle=False) as stored:
            patients, patches = stored["patient_id"], stored["patches"]
        for patient, patch in zip(patients, patches, strict=True):
            yield str(patient), hashlib.sha256(np.ascontiguousarray(patch).tobytes()).hexdigest()
