"""The run folder: what every file of a run is called, and how it is written and read.

A file that has a name of its own is an attribute; a table, a model or a table of scores is asked for by name, and a
name that is not listed here is refused, so that a misspelt one is an error where it is written and not an empty
section of the report.
"""

from __future__ import annotations

import os
import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pandas as pd

from rps_utils.files import read_csv, write_csv, write_json
from rps_utils.schema import read_run_json
from rps_utils.scores import read_scores
from rps_utils.steps import NOTEBOOKS, read_steps

# Files with a name of their own, by the name of the attribute.
NAMES = {
    "cohort": "cohort.csv",
    "scores": "scores.csv",
    "metrics": "metrics.csv",
    "features": "features.csv",
    "patches": "patches.npz",
    "references": "references.npz",
    "record": "run.json",
    "parameters": "parameters.json",
    "report": "report.html",
    "evidence": "evidence/index.html",
}

# Tables of RUN/tables by family; a name is the family, or the family and one of its words, joined by `_`.
TABLES: dict[str, tuple[str, ...]] = {
    "packages": ("",),
    "images": ("",),
    "flow": ("",),
    "table1": ("",),
    "follow_up": ("",),
    "augmentation": ("",),
    "dl": ("layers", "c_index", "held_out", "sizes"),
    "radiomics": ("coefficients", "stability"),
    "clinical": (
        *("univariable", "multivariable", "sizes", "firth", "proportional_hazards"),
        *("instability", "curves", "fillings"),
    ),
    "fusion": ("hazard_ratios", "added_value", "direction", "nomogram"),
    "discrimination": ("patients", "harrell_c", "optimism", "uno_c", "differences"),
    "td_auc": ("in_words", "notes", "integrated", "differences"),
    "calibration": ("missing", "mean_and_slope", "ici", "overall", "brier", "differences"),
    "net_benefit": ("", "differences"),
    "risk_groups": ("cutoffs", "in_words", "risks"),
    "incidence": ("promised", "in_words", "groups"),
    "paper": ("and_run", "hazard_ratio", "logrank_p", "not_reported"),
    "claim": ("", "verdicts"),
    "controls": (
        *("c_index", "beside_volume", "adjusted", "rescoring", "scanner", "scanner_adjusted", "shortcut"),
        *("centres", "centres_pooled", "subgroups", "verdicts"),
    ),
    "explanation": ("parts", "grades", "learned", "agreement", "deletion", "failures"),
    "doubt": ("spread", "promises", "coverage", "strangers"),
    "bug_hunt": ("",),
}
TABLE_NAMES = frozenset("_".join(filter(None, (family, word))) for family, words in TABLES.items() for word in words)

# Fitted models in RUN/models as JSON; networks lie beside them as safetensors with a card of the same name.
MODELS = re.compile(
    r"(dl|rad|clinical)_cox|(clinical|fusion)_design|DLCM|RSCM|rad_(all|scale|extraction|without(_\w+)*)|bounds|likeness"
)
ENSEMBLES = "DL_ensembles.json"  # which networks judge whom, and on which scales


def beside_notebooks(path: str | os.PathLike[str]) -> Path:
    """Return a path as notebooks mean it: a relative one starts at their folder, wherever they are executed from."""
    return (NOTEBOOKS / path).resolve()


class RunFolder:
    """A folder of one run; it can be given wherever a path is expected.

    Parameters
    ----------
    folder : str or Path
        Need not exist yet.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.path = Path(folder).resolve()

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RunFolder) and self.path == other.path

    def __hash__(self) -> int:
        return hash(self.path)

    def needed(self, path: Path) -> Path:
        """Return the place of a file of this run, or say who writes it.

        Raises
        ------
        FileNotFoundError
            It is not there yet; the message names the notebook that writes it, and the command that runs all.
        """
        if path.is_file():
            return path
        name = path.relative_to(self.path).as_posix()
        makers = [step.name for step in read_steps() if any(fnmatchcase(name, written) for written in step.writes)]
        maker = f"notebook {makers[0]} writes it" if makers else "an earlier notebook writes it"
        told = f"{path} is not there yet: {maker}; run that first, or all: rps run --out {self.path}"
        raise FileNotFoundError(f"{told}. In a notebook, a relative run_dir starts at the folder of the notebooks")

    # Files with a name of their own.

    @property
    def cohort(self) -> Path:
        """The cohort as all steps read it: ids, split, fold, outcome, clinical factors."""
        return self.path / NAMES["cohort"]

    @property
    def patches(self) -> Path:
        """Patches of all patients, for the networks."""
        return self.path / NAMES["patches"]

    @property
    def references(self) -> Path:
        """Reference maps on the grid of the patches."""
        return self.path / NAMES["references"]

    @property
    def features(self) -> Path:
        """Radiomic features, one row a patient."""
        return self.path / NAMES["features"]

    @property
    def scores(self) -> Path:
        """The one door to evaluation: a row for each patient, model and kind."""
        return self.path / NAMES["scores"]

    @property
    def metrics(self) -> Path:
        """Every metric with its interval."""
        return self.path / NAMES["metrics"]

    @property
    def record(self) -> Path:
        """What the run was made from: parameters, seeds, versions, hashes, costs."""
        return self.path / NAMES["record"]

    @property
    def parameters(self) -> Path:
        """The parameters of each step, as asked for."""
        return self.path / NAMES["parameters"]

    @property
    def report(self) -> Path:
        """The report, one page."""
        return self.path / NAMES["report"]

    @property
    def evidence(self) -> Path:
        """Model card and reporting guidelines, one page; the same as JSON lies beside it."""
        return self.path / NAMES["evidence"]

    # Folders.

    @property
    def crops(self) -> Path:
        """Isotropic crops, CT and mask of each patient."""
        return self.path / "crops"

    @property
    def feature_store(self) -> Path:
        """Radiomic features of each patient as computed, kept for the next run."""
        return self.path / "features"

    @property
    def models(self) -> Path:
        """Fitted models and networks."""
        return self.path / "models"

    @property
    def augmentation_models(self) -> Path:
        """Networks that only compare augmentations."""
        return self.models / "augmentation"

    @property
    def tables(self) -> Path:
        """Every table shown, see `table`."""
        return self.path / "tables"

    @property
    def ledger(self) -> Path:
        """Whom each fitted object saw."""
        return self.path / "ledger"

    @property
    def figures(self) -> Path:
        """Figures as pages, with their data as CSV."""
        return self.path / "figures"

    @property
    def notebooks(self) -> Path:
        """Executed notebooks."""
        return self.path / "notebooks"

    @property
    def logs(self) -> Path:
        """Time and memory of each step."""
        return self.path / "logs"

    def workshop(self, name: str) -> Path:
        """Return a folder for what only one notebook makes and reads: ``controls``, ``study``, ``bug_hunt``."""
        if name not in ("controls", "study", "bug_hunt"):
            raise ValueError(f"{name!r} is no folder of a run; allowed: controls, study, bug_hunt")
        return self.path / name

    # Tables, models and scores by name.

    def table(self, name: str) -> Path:
        """Return the place of a table by its name in `TABLES`, without folder and extension."""
        if name not in TABLE_NAMES:
            raise ValueError(f"{name!r} is no table of a run: enter it in run_folder.TABLES")
        return self.tables / f"{name}.csv"

    def read_table(self, name: str) -> pd.DataFrame:
        """Read a table of the run."""
        return read_csv(self.needed(self.table(name)))

    def write_table(self, table: pd.DataFrame, name: str) -> Path:
        """Write a table of the run, whole or not at all."""
        return write_csv(table, self.table(name))

    def read_cohort(self) -> pd.DataFrame:
        """Read ``cohort.csv``."""
        return read_csv(self.needed(self.cohort))

    def write_cohort(self, table: pd.DataFrame) -> Path:
        """Write ``cohort.csv``."""
        return write_csv(table, self.cohort)

    def read_features(self) -> pd.DataFrame:
        """Read the radiomic features, ``patient_id`` as index."""
        return read_csv(self.needed(self.features)).set_index("patient_id")

    def write_features(self, table: pd.DataFrame) -> Path:
        """Write the radiomic features."""
        return write_csv(table, self.features)

    def read_scores(self) -> pd.DataFrame:
        """Read and check ``scores.csv``."""
        return read_scores(self.needed(self.scores))

    def write_scores(self, scores: pd.DataFrame) -> Path:
        """Write ``scores.csv``."""
        return write_csv(scores, self.scores)

    def part(self, name: str) -> Path:
        """Return the place of the scores of one model, or of what belongs to them (``DL_nested``, ``DL_networks``)."""
        return self.path / "scores" / f"{name}.csv"

    def read_part(self, name: str) -> pd.DataFrame:
        """Read the scores of one model as its notebook left them."""
        return read_csv(self.needed(self.part(name)))

    def write_part(self, scores: pd.DataFrame, name: str) -> Path:
        """Write the scores of one model."""
        return write_csv(scores, self.part(name))

    def write_metrics(self, rows: pd.DataFrame, step: str) -> Path:
        """Write the metrics of one evaluation notebook, by its name; ``metrics.csv`` stacks them."""
        return write_csv(rows, self.path / "metrics" / f"{step}.csv")

    def read_metric_parts(self) -> list[pd.DataFrame]:
        """Read the metrics of all evaluation notebooks, in the order of their names."""
        return [read_csv(path) for path in sorted(self.path.glob("metrics/*.csv"))]

    def model(self, name: str) -> Path:
        """Return the place of a fitted model by its name, without folder and extension."""
        if not MODELS.fullmatch(name):
            raise ValueError(f"{name!r} is no model of a run: enter it in run_folder.MODELS")
        return self.models / f"{name}.json"

    def read_model(self, name: str) -> Any:
        """Read a fitted model as plain values, held to the rules of `schema`."""
        return read_run_json(self.path, self.needed(self.model(name)).relative_to(self.path).as_posix())

    def write_model(self, values: Any, name: str) -> Path:
        """Write a fitted model as JSON: plain values, no code."""
        return write_json(values, self.model(name))

    def read_record(self) -> dict[str, Any]:
        """Read ``run.json``; empty before the run has ended."""
        return read_run_json(self.path, self.record.name) if self.record.is_file() else {}
