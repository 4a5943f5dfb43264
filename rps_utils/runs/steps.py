"""The notebooks as steps of a graph of files: which reads what and writes what."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
NOTEBOOKS = PACKAGE.parent / "notebooks"


class UsageError(ValueError):
    """A command was asked for something it cannot do; the message says what it can."""


@dataclass(frozen=True)
class Step:
    """One notebook in the graph of files.

    Attributes
    ----------
    name : str
        Notebook without its extension.
    reads, writes : tuple of str
        Files of the run folder that tie it to other notebooks (it may write more).
    heavy : bool
        Computes in several processes: gets its share of the cores.
    """

    name: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    heavy: bool = False


def _evaluation(name: str) -> Step:
    return Step(name, ("scores.csv",), (f"metrics/{name}.csv",))


EVALUATION = [
    _evaluation(name)
    for name in ("07_discrimination", "08_time_dependent_roc", "09_calibration", "10_decision_curves", "11_risk_groups")
]
STEPS = [
    Step("00_start_here", (), ("tables/packages.csv",)),
    Step("01_ingest", (), ("cohort.csv", "patches.npz", "references.npz", "tables/images.csv"), heavy=True),
    Step("02_augmentation", ("cohort.csv", "patches.npz"), ("tables/augmentation.csv",)),
    Step(
        "03_deep_learning",
        ("cohort.csv", "patches.npz"),
        ("scores/DL.csv", "scores/DL_nested.csv", "scores/DL_networks.csv", "ledger/DL.json"),
        heavy=True,
    ),
    Step(
        "04_radiomics",
        ("cohort.csv", "tables/images.csv"),
        ("scores/Rad.csv", "scores/Rad_nested.csv", "ledger/Rad.json"),
        heavy=True,
    ),
    Step("05_clinical_cox", ("cohort.csv",), ("scores/Clinical.csv", "ledger/Clinical.json")),
    Step(
        "06_fusion",
        (
            "cohort.csv",
            "scores/DL.csv",
            "scores/DL_nested.csv",
            "scores/Rad.csv",
            "scores/Rad_nested.csv",
            "scores/Clinical.csv",
        ),
        ("scores.csv", "tables/fusion_hazard_ratios.csv", "ledger/DLCM.json", "ledger/RSCM.json"),
    ),
    *EVALUATION,
    Step(
        "12_paper_and_run",
        (*(name for step in EVALUATION for name in step.writes), "tables/fusion_hazard_ratios.csv"),
        ("metrics.csv", "tables/paper_and_run.csv"),
    ),
    Step("13_claim_tested", (), ("tables/claim.csv",)),
    Step(
        "14_controls",
        (
            *("cohort.csv", "patches.npz", "tables/images.csv"),
            *("scores/DL.csv", "scores/Rad.csv", "scores/Clinical.csv"),
        ),
        ("scores/Volume.csv", "ledger/Volume.json", "tables/controls_rescoring.csv"),
        heavy=True,
    ),
    Step(
        "15_explanation",
        ("cohort.csv", "patches.npz", "references.npz", "scores/DL.csv"),
        ("tables/explanation_parts.csv", "tables/explanation_failures.csv"),
        heavy=True,
    ),
    Step(
        "16_doubt",
        ("cohort.csv", "patches.npz", "tables/images.csv", "scores.csv", "scores/DL_networks.csv"),
        ("models/bounds.json", "models/likeness.json", "tables/doubt_coverage.csv", "ledger/doubt.json"),
    ),
    Step("17_bug_hunt", (), ("tables/bug_hunt.csv",)),
]


def notebook_path(name: str) -> Path:
    """Return the path of a notebook in the repository."""
    path = NOTEBOOKS / f"{name}.ipynb"
    if not path.is_file():
        raise UsageError(f"{path} is missing: install the repository with `pip install -e .` from its own folder")
    return path
