"""Who learned from whom, and whether anything judged a patient it had seen.

Every fitted object (network, LASSO with its scaler, clinical design, Cox model, cut-off) is entered in
``RUN/ledger`` with the patients it saw and the objects whose output it learned from; every score row names the
objects that made it. `audit` follows these lines back from each judged row. It proves what was recorded: an object
that lies about whom it saw is caught only where something else contradicts it, such as the card of a network.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pandas as pd

from rps_utils.files import write_json
from rps_utils.learning.crossfit import LeftOut, learning_patients, object_name
from rps_utils.run_folder import RunFolder
from rps_utils.schema import read_run_jsons
from rps_utils.scores import MADE_BY, ready_made_name

FROM_OUTSIDE = "ready-made score"  # the only kind of object that saw nobody


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


def record(run: str | Path, family: str, learned: Sequence[Learned]) -> Path:
    """Write ``RUN/ledger/<family>.json``; what an earlier run of the same notebook entered there is replaced."""
    twice = pd.Series([entry.name for entry in learned], dtype=str).duplicated()
    if twice.any():
        raise ValueError(f"ledger {family}: {learned[int(twice.argmax())].name!r} is entered twice; each object once")
    return write_json([asdict(entry) for entry in learned], RunFolder(run).ledger / f"{family}.json")


def cross_fitted(model: str, kind: str, cohort: pd.DataFrame, left_out_sets: Sequence[LeftOut]) -> list[Learned]:
    """Return the entries of models fitted by `crossfit.learning_patients`, one a left-out set."""
    return [Learned(object_name(model, s), kind, list(learning_patients(cohort, s))) for s in left_out_sets]


def ready_made(scores: pd.DataFrame) -> list[Learned]:
    """Return the entries of ready-made scores: on their owner's word, they saw nobody of this cohort."""
    return [Learned(ready_made_name(model), FROM_OUTSIDE) for model in scores["model"].unique()]


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


def bound_name(model: str) -> str:
    """Name the conformal bound of a model."""
    return f"bound of {model}"


def read_ledger(run: str | Path) -> dict[str, Learned]:
    """Return every entry of ``RUN/ledger`` by name.

    Raises
    ------
    ValueError
        Two entries have the same name, or a file holds what no ledger does.
    """
    entries = [Learned(**entry) for _, page in read_run_jsons(run, "ledger/*.json") for entry in page]
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
