"""The evidence of a run for reporting guidelines: each item with the file that satisfies it, or what is missing.

An item is met only where the files that show it are in the run and hold what they should. What no file can show is
for a person, with the reason; nothing is met by default. `checklists.csv` has the items in our own words: read the
guidelines themselves before a paper is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from rps_utils.files import read_csv, read_json
from rps_utils.report.paper import run_data_kind
from rps_utils.run_folder import NAMES, RunFolder
from rps_utils.steps import NOTEBOOKS

STANDARDS = {
    "tripod_ai": "TRIPOD+AI 2024 (BMJ 385:e078378): 27 items, 52 with their parts",
    "clear": "CLEAR 2023 (Insights Imaging 14:75): 58 items",
    "metrics": "METRICS 2024 (Insights Imaging 15:8): 30 items with weights",
    "rqs": "Radiomics Quality Score 1.0 (Nat Rev Clin Oncol 2017;14:749), and topics of 2.0 (2025;22:831)",
}
STATUS_WORDS = {"yes": "met", "no": "not met", "human": "for a person", "na": "not applicable"}
SYNTHETIC = "the patients are synthetic"


@dataclass(frozen=True)
class Item:
    """One item of a guideline and what the run has for it.

    Attributes
    ----------
    standard, item, section, asks : str
        Which item, and what it asks for in our own words.
    status : {"yes", "no", "human", "na"}
    reason : str
        What is missing, or why a person has to answer.
    evidence : list of str
        Files of the run, relative to its folder.
    points : float
        Weight (METRICS) or points (RQS 1.0); 0 where there are none.
    """

    standard: str
    item: str
    section: str
    asks: str
    status: str
    reason: str = ""
    evidence: list[str] = field(default_factory=list)
    points: float = 0.0


class NotShown(Exception):
    """What an item asks for is not in the run; the message says what."""


class Finder:
    """Looks into a run for what an item asks for: ``table:table1:smd + metric:ipa@validation``.

    A metric can name a model that must take part (``metric:ipa@validation@Clinical``), a parameter the value by which
    nothing is done (``parameter:NOTEBOOK.harmonise!=False``).

    Parameters
    ----------
    run : RunFolder
    findings : sequence of str or None
        Of the audit; None where the run cannot be audited.
    """

    def __init__(self, run: RunFolder, findings: Sequence[str] | None) -> None:
        self.run, self.findings = run, findings
        self.record, self.metrics = run.read_record(), read_csv(run.metrics)

    def find(self, wanted: str) -> list[str]:
        """Return the files that show all of `wanted`, relative to the run.

        Raises
        ------
        NotShown
            The first part that is not there.
        """
        files: list[str] = []
        for part in wanted.split(" + "):
            kind, _, name = part.partition(":")
            look: Callable[[str], list[str]] = getattr(self, f"_{kind}")
            files += look(name)
        return list(dict.fromkeys(files))

    def _table(self, asked: str) -> list[str]:
        name, _, columns = asked.partition(":")
        (file,) = self._file(f"tables/{name}.csv")
        table = read_csv(self.run.path / file)
        lacking = [column for column in columns.split(",") if column and column not in table]
        if lacking:
            raise NotShown(f"{file} has no {', '.join(lacking)}")
        return [file]

    def _metric(self, asked: str) -> list[str]:
        name, kinds, model = [*asked.split("@"), ""][:3]
        chosen = self.metrics["metric"].str.startswith(name) if name.endswith("_") else self.metrics["metric"] == name
        chosen &= self.metrics["model"].map(lambda pair: not model or model in pair.split(" - "))
        rows = self.metrics[chosen & self.metrics["kind"].isin(kinds.split("|"))].dropna(subset="value")
        said = " of ".join(filter(None, (name.strip("_").replace("_", " "), model)))
        if rows.empty:
            raise NotShown(f"metrics.csv has no {said} ({kinds.replace('|', ' or ')})")
        without = ~(rows["ci_low"] <= rows["ci_high"])
        bare = rows[without & (rows["note"].fillna("") == "")]
        if without.all() and bare.empty:
            raise NotShown(f"metrics.csv has no interval of any {said}, only notes")
        if len(bare):
            raise NotShown(f"metrics.csv has {said} without interval or note: {', '.join(sorted(set(bare['model'])))}")
        return [NAMES["metrics"]]

    def _file(self, pattern: str) -> list[str]:
        found = sorted(p.relative_to(self.run.path).as_posix() for p in self.run.path.glob(pattern))
        if not found:
            raise NotShown(f"{pattern} is not in this run")
        if not self._holds_something(self.run.path / found[0]):
            raise NotShown(f"{found[0]} has no rows" if found[0].endswith(".csv") else f"{found[0]} is empty")
        return found[:1]

    @staticmethod
    def _holds_something(path: Path) -> bool:
        """Say whether a table has rows, and a file of JSON anything in it; other kinds need to have bytes."""
        try:
            return bool(len({".csv": read_csv, ".json": read_json}.get(path.suffix, Path.read_bytes)(path)))
        except (ValueError, TypeError):  # TypeError: JSON of one number has no length
            raise NotShown(f"{path.parent.name}/{path.name} is damaged") from None

    def _notebook(self, name: str) -> list[str]:
        (file,) = self._file(f"notebooks/{name}.ipynb")
        if b'"output_type"' not in (self.run.path / file).read_bytes():
            raise NotShown(f"{file} was not executed")
        return [file]

    def _record(self, key: str) -> list[str]:
        if not self.record.get(key):
            raise NotShown(f"run.json has no {key.replace('_', ' ')}")
        return [NAMES["record"]]

    def _parameter(self, asked: str) -> list[str]:
        place, _, off = asked.partition("!=")
        notebook, _, name = place.partition(".")
        chosen = self.record.get("parameters", {}).get(notebook, {})
        if name not in chosen:
            raise NotShown(f"run.json has no parameter {name} of {notebook}")
        if off and str(chosen[name]) == off:
            raise NotShown(f"{name} of {notebook} is {off}")
        return [NAMES["record"]]

    def _audit(self, _: str) -> list[str]:
        if self.findings is None:
            raise NotShown("the run has no ledger to be audited")
        if self.findings:
            raise NotShown(f"the audit found: {self.findings[0]}")
        return self._file("ledger/*.json")

    def _repository(self, name: str) -> list[str]:
        if not (NOTEBOOKS.parent / name).is_file():
            raise NotShown(f"{name} is not beside the code")
        return []


def judge_items(run: RunFolder, findings: Sequence[str] | None = None) -> list[Item]:
    """Judge every item of every guideline by the files of a run with ``metrics.csv``; see `Item` and `Finder`."""
    look, synthetic = Finder(run, findings), run_data_kind(run) == "synthetic"
    listed = pd.read_csv(Path(__file__).with_name("checklists.csv"), dtype=str, keep_default_na=False)
    return [_judged(row, look, synthetic) for row in listed.to_dict("records")]


def _judged(row: dict[Any, str], look: Finder, synthetic: bool) -> Item:
    status, reason, evidence = row["evidence"], row["reason"], list[str]()
    if row["real"] and synthetic:
        status, reason = "no", f"{SYNTHETIC}; with real ones: {reason}"
    elif status not in ("", "no", "na"):
        try:
            status, evidence = "yes", look.find(status)
        except NotShown as missing:
            status, reason = "no", str(missing)
    standard, item, section, asks = (row[name] for name in ("standard", "item", "section", "asks"))
    points = float(row["points"] or 0)
    return Item(standard, item, section, asks, status or "human", reason, evidence, points)


def counted(items: list[Item]) -> str:
    """Return in words how many items are met, not met, for a person, or do not apply."""
    status = [item.status for item in items]
    return ", ".join(f"{status.count(name)} {words}" for name, words in STATUS_WORDS.items())


def metrics_score(items: list[Item]) -> tuple[float, float]:
    """Return the METRICS score in per cent: the least, and the most if a person could say yes to all that is left.

    References
    ----------
    Kocak and others 2024: the weights of the items met over those of the items that apply.
    """
    points = {status: sum(i.points for i in items if i.status == status) for status in STATUS_WORDS}
    unit = (sum(points.values()) - points["na"]) / 100
    return points["yes"] / unit, (points["yes"] + points["human"]) / unit


def by_standard(items: list[Item]) -> Iterator[tuple[str, list[Item]]]:
    """Yield each guideline with its items, in the order of `STANDARDS`."""
    for standard in STANDARDS:
        yield standard, [item for item in items if item.standard == standard]


def as_json(standard: str, items: list[Item], data_kind: str) -> dict[str, Any]:
    """Return what is written as JSON for one guideline: what it is, the counts, and every item."""
    found: dict[str, Any] = {"standard": STANDARDS[standard], "data_kind": data_kind, "counts": counted(items)}
    if standard == "metrics":
        low, high = metrics_score(items)
        found["score_percent"] = {"at_least": round(low, 1), "at_most": round(high, 1)}
    return found | {"items": [asdict(item) for item in items]}
