"""The report of a run: one page that works offline, made from the files of the run folder and nothing else.

What a run does not have (an evaluation of scores alone has no cohort and no images) is left out of its report.
The published numbers stand here once, for notebook 12, the report and the command line.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from rps_utils.evaluation import KINDS, interval_text, p_text, wide
from rps_utils.files import read_csv, read_json, write_text
from rps_utils.ledger import audit, can_audit, verdict
from rps_utils.manifest import data_kind
from rps_utils.runs.record import write_run_record

# Ren et al., Frontiers in Medicine 2026, from the abstract, which is all that is open. Training values are taken
# to be apparent ones: the abstract does not mention cross-validation. RSCM: no number in the abstract.
PAPER_DOI = "10.3389/fmed.2025.1725377"
PAPER_C = pd.DataFrame(
    [
        ("DL", 0.778, np.nan, np.nan, 0.730, np.nan, np.nan),
        ("Rad", 0.716, np.nan, np.nan, 0.654, np.nan, np.nan),
        ("Clinical", 0.721, np.nan, np.nan, 0.648, np.nan, np.nan),
        ("DLCM", 0.848, 0.790, 0.915, 0.749, 0.601, 0.878),
    ],
    columns=["model", "training", "training_low", "training_high", "validation", "validation_low", "validation_high"],
).set_index("model")
PAPER_HAZARD_RATIO = (5.950, 2.800, 12.644)
PAPER_LOGRANK = {"training": "< 0.0001", "validation": "0.012"}

NOT_REPORTED = pd.DataFrame(
    [
        ("network", "small 3-D convolutional network trained from scratch; others by name", "network"),
        (
            "input",
            "tumour and its surroundings on a coarse grid around it",
            "crop_spacing_mm, patch_voxels, patch_spacing_mm",
        ),
        ("augmentation", "orientations, small shifts, contrast and noise; see notebook 02", ""),
        (
            "loss",
            "Cox partial likelihood in batches that hold events",
            "epochs, batch_size, learning_rate, weight_decay",
        ),
        ("scores for the fusion", "cross-fitted over folds of the training patients", "folds, seeds_per_fold"),
        ("radiomics software", "pyradiomics on images resampled beforehand", "image_types, log_sigma_mm, bin_width"),
        ("scanners and centres", "features as they come, unless harmonised in training", "harmonise, split_by"),
        ("feature selection", "inside each fold, then LASSO-Cox", "max_correlation, max_features"),
        ("clinical factors", "those of published nomograms", "clinical_columns"),
        ("fusion", "Cox model on image score and clinical factors", "ridge"),
        ("landmark times", "one, three and five years", "landmarks, tau"),
        ("cut-off of the risk groups", "median of the cross-fitted training scores", "cutoff"),
        ("intervals", "BCa bootstrap over patients, model frozen", "n_bootstrap"),
        ("threshold range of the decision curves", "risks at which imaging more often is arguable", "thresholds"),
        ("CT phase, scanner, readers, segmentation", "as the manifest's images and masks come", "manifest"),
        (
            "events, follow-up, competing deaths",
            "reported with the cohort; deaths censor; event 2 tells them apart",
            "manifest",
        ),
    ],
    columns=["not in the abstract", "chosen here", "parameters"],
)


# ---------------------------------------------------------------- beside the paper


def paper_and_run(metrics: pd.DataFrame) -> pd.DataFrame:
    """Lay Harrell's C of the run beside the paper's.

    Parameters
    ----------
    metrics : DataFrame
        Rows of ``metrics.csv``.

    Returns
    -------
    DataFrame
        ``model``, then training: paper, apparent, cross-fitted; then validation: paper, this run. A dash where
        there is no number; a column of nothing but dashes is left out.
    """
    own = wide(metrics[metrics["metric"] == "harrell_c"]).set_index("model")
    models = list(own.index)
    own = own.reindex(columns=KINDS).fillna("–")
    table = {
        "training: paper": [_of_paper(m, "training") for m in models],
        "training: apparent": own["apparent"],
        "training: cross-fitted": own["cross_fitted"],
        "validation: paper": [_of_paper(m, "validation") for m in models],
        "validation: this run": own["validation"],
    }
    beside = pd.DataFrame(table, index=pd.Index(models, name="model")).reset_index()
    return beside.loc[:, (beside != "–").any()]


def _of_paper(model: str, split: str) -> str:
    if model not in PAPER_C.index:
        return "–"
    row = PAPER_C.loc[model]
    return interval_text(row[split], row[f"{split}_low"], row[f"{split}_high"], digits=3)


def paper_rows() -> pd.DataFrame:
    """Return the paper's C as rows for a figure: ``model, kind, value, ci_low, ci_high``."""
    rows = [
        (model, f"paper_{split}", *(row[f"{split}{end}"] for end in ("", "_low", "_high")))
        for model, row in PAPER_C.iterrows()
        for split in ("training", "validation")
    ]
    return pd.DataFrame(rows, columns=["model", "kind", "value", "ci_low", "ci_high"])


def c_index_table(run: str | Path) -> str:
    """Return the C-index table of a run as text for a terminal, the paper's numbers beside."""
    table = paper_and_run(read_csv(Path(run) / "metrics.csv"))
    kind = _data_kind(Path(run))
    return f"Harrell's C (95 % interval){f', {kind} patients' * bool(kind)}\n{table.to_string(index=False)}"


def hazard_ratio_beside_paper(ratios: pd.DataFrame) -> pd.DataFrame:
    """Lay the adjusted hazard ratios of the image scores beside the paper's for the DL-score.

    Parameters
    ----------
    ratios : DataFrame
        ``tables/fusion_hazard_ratios.csv``: ``term, hazard_ratio, ci_low, ci_high, p, model, kind``.

    Returns
    -------
    DataFrame
        ``source, model, score, hazard ratio, p``.
    """
    own = ratios[ratios["term"] == "image_score"]
    rows = [("paper", "DLCM", "DL-score, unit not reported", interval_text(*PAPER_HAZARD_RATIO, digits=3), "< 0.001")]
    for _, row in own.iterrows():
        ratio = interval_text(row["hazard_ratio"], row["ci_low"], row["ci_high"], digits=3)
        rows.append(("this run", row["model"], f"{row['kind'].replace('_', '-')}, per SD", ratio, p_text(row["p"])))
    return pd.DataFrame(rows, columns=["source", "model", "score", "hazard ratio", "p"])


def logrank_beside_paper(metrics: pd.DataFrame) -> pd.DataFrame:
    """Lay the log-rank p of each model's risk groups beside the paper's for the DL-score."""
    rows = metrics[metrics["metric"] == "logrank_p"]
    own = wide(rows).set_index("model").reindex(columns=KINDS).fillna("–").reset_index()
    paper = {"model": "paper, DL-score", "apparent": PAPER_LOGRANK["training"], "cross_fitted": "–"}
    return pd.concat([pd.DataFrame([{**paper, "validation": PAPER_LOGRANK["validation"]}]), own], ignore_index=True)


# ---------------------------------------------------------------- parts of the page


@dataclass(frozen=True)
class MetricTable:
    """One table of metrics on the page: which rows, what the columns stand for, and its caption."""

    metrics: tuple[str, ...]
    columns: str
    caption: str


@dataclass(frozen=True)
class Section:
    """One section of the page: figures by the number of their notebook, tables by the beginning of their name."""

    number: str
    title: str
    text: str
    tables: tuple[str, ...] = ()
    metrics: tuple[MetricTable, ...] = field(default=())


SECTIONS = [
    Section(
        "01",
        "Cohort",
        "Who was studied, and for how long. Follow-up is the reverse Kaplan-Meier median.",
        ("flow", "table1", "table_1", "follow_up"),
    ),
    Section(
        "02",
        "Augmentation",
        "What the transforms do to a patient and to the score.",
        ("augmentation",),
    ),
    Section("03", "Deep learning", "The network, its training and its scores.", ("dl_",)),
    Section("04", "Radiomics", "Handcrafted features, their selection and their score.", ("radiomics",)),
    Section(
        "05",
        "Clinical Cox model",
        "Hazard ratios above 1 mean earlier recurrence. Training patients only.",
        ("clinical",),
    ),
    Section(
        "06",
        "Fusion",
        "Cox models on image score and clinical factors. In-sample scores are shown beside cross-fitted ones "
        "because they inflate their own hazard ratio.",
        ("fusion",),
    ),
    Section(
        "07",
        "Discrimination",
        "C is 0.5 for a score that knows nothing. Apparent C judges memory; cross-fitted C judges the recipe on "
        "patients it did not learn from; validation C judges the finished model.",
        (),
        (
            MetricTable(("harrell_c",), "kind", "Harrell's C with 95 % BCa intervals over resampled patients."),
            MetricTable(("uno_c",), "kind", "Uno's C up to tau, weighted against unequal censoring."),
            MetricTable(
                ("harrell_c_difference", "harrell_c_difference_p", "harrell_c_difference_permutation_p"),
                "metric",
                "Paired differences of Harrell's C: jackknife p and permutation p, two-sided.",
            ),
        ),
    ),
    Section(
        "08",
        "Time-dependent ROC",
        "Recurred by the landmark against still free after it, weighted for censoring.",
        (),
        (
            MetricTable(("td_auc",), "horizon_months", "Cumulative/dynamic AUC at each landmark, 95 % BCa intervals."),
            MetricTable(
                ("integrated_td_auc",), "kind", "AUC over the landmarks, weighted by recurrences between them."
            ),
        ),
    ),
    Section(
        "09",
        "Calibration",
        "Whether predicted probabilities come true. The apparent rows of a Cox model are calibrated by construction.",
        ("calibration_missing",),
        (
            MetricTable(("calibration_slope",), "kind", "Calibration slope: 1 is right, below 1 too extreme."),
            MetricTable(("observed_expected",), "horizon_months", "Observed over expected risk at each landmark."),
            MetricTable(
                ("observed_expected_overall", "d_calibration_p"),
                "metric",
                "All of follow-up: observed over expected recurrences, and p of D-calibration.",
            ),
            MetricTable(("ici",), "horizon_months", "Integrated calibration index; not meaningful in few patients."),
            MetricTable(("brier",), "horizon_months", "Brier score, weighted for censoring; 0 is perfect."),
            MetricTable(("ipa",), "horizon_months", "IPA: share of the Kaplan-Meier curve's Brier score saved."),
            MetricTable(("ibs",), "kind", "Integrated Brier score over the landmarks."),
        ),
    ),
    Section(
        "10",
        "Decision curves",
        "Net benefit of acting on the predicted risk, against treating everybody and nobody.",
    ),
    Section(
        "11",
        "Risk groups",
        "The cut-off comes from the training scores and was applied unchanged to validation. A training p-value "
        "is not evidence: the cut-off, and for apparent scores the score too, was learned from the same patients.",
        ("risk_groups_cutoffs", "risk_groups_risks"),
        (
            MetricTable(
                ("hazard_ratio", "logrank_p", "rmst_difference"),
                "metric",
                "High against low risk: hazard ratio, log-rank p, and how much longer low risk stays free on average.",
            ),
        ),
    ),
    Section(
        "12",
        "The paper and this run",
        "The paper's numbers, from its abstract, beside those of this run.",
        ("paper",),
    ),
    Section(
        "14",
        "Controls",
        "Whether the image scores read more than the tumour's size, outline and histogram, and whether they follow "
        "the scanner. The planted shortcut is synthetic.",
        ("controls_",),
    ),
    Section(
        "15",
        "Explanation of the DL-score",
        "Integrated gradients from a patient whose tumour and surroundings were levelled, validation patients only. "
        "Maps are graded against chance and against networks with shuffled weights; what moves the network need not "
        "move the disease.",
        ("explanation_",),
    ),
    Section(
        "16",
        "Doubt",
        "How far the networks disagree about a patient, how long a patient stays free of recurrence with a stated "
        "probability, and who is unlike the training patients.",
        ("doubt",),
    ),
]
LONGEST_TABLE = 200


def read_figures(run: Path, number: str) -> list[dict[str, str]]:
    """Return the figures of one notebook: name, title, caption, height and plotly JSON safe inside a page.

    Figures of simulated lessons (``_lesson_`` in the name) come after those of the run's own patients.
    """
    shown = []
    for path in sorted(run.glob(f"figures/{number}_*.json"), key=lambda p: ("_lesson_" in p.name, p.name)):
        figure = read_json(path)
        layout = figure["layout"]
        shown.append(
            {
                "name": path.stem,
                "title": layout.get("title", {}).get("text", path.stem),
                "caption": (layout.get("meta") or {}).get("caption", ""),
                "height": layout.get("height", 450),
                # A closing tag inside a text would end the script element.
                "json": path.read_text(encoding="utf-8").replace("</", "<\\/"),
            }
        )
    return shown


def column_texts(column: pd.Series) -> list[str]:
    """Write a column for reading: whole numbers plain, others with three decimals, tiny ones with a power of ten."""
    if not pd.api.types.is_float_dtype(column):
        return ["" if value is None or value is pd.NA or value != value else str(value) for value in column]
    whole = (column.dropna() == column.dropna().round()).all()
    return [_number_text(value, whole) for value in column]


def _number_text(value: float, whole: bool) -> str:
    if np.isnan(value):
        return ""
    if whole:
        return f"{value:.0f}"
    return f"{value:.3f}" if value == 0 or abs(value) >= 0.0005 else f"{value:.1e}"


def page_table(table: pd.DataFrame, caption: str, longest: int | None = LONGEST_TABLE) -> dict[str, Any]:
    """Return a table as texts: caption, header, rows (at most `longest`) and how many are left out."""
    shown = table.iloc[:longest]
    rows = list(zip(*(column_texts(shown.iloc[:, i]) for i in range(shown.shape[1])), strict=True))
    header = [str(c).replace("_", " ") for c in table.columns]
    return {"caption": caption, "header": header, "rows": rows, "left_out": len(table) - len(shown)}


def _metric_tables(metrics: pd.DataFrame, wanted: Iterable[MetricTable]) -> list[dict[str, Any]]:
    tables = []
    for one in wanted:
        rows = metrics[metrics["metric"].isin(one.metrics)]
        if len(rows):
            tables.append(page_table(wide(rows, one.columns), one.caption))
    return tables


def _read_tables(run: Path, beginnings: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Return the tables of a section by file name, in the order of `beginnings`."""
    return {
        path.name: page_table(read_csv(path), path.stem.replace("_", " ").capitalize())
        for beginning in beginnings
        for path in sorted(run.glob(f"tables/{beginning}*.csv"))
    }


def _filled_sections(run: Path, metrics: pd.DataFrame) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the sections that have something to show, and the names of the tables used."""
    filled: list[dict[str, Any]] = []
    used: list[str] = []
    for section in SECTIONS:
        tables = _read_tables(run, section.tables)
        used += tables
        content = {
            "id": f"part-{section.number}",
            "title": section.title,
            "text": section.text,
            "figures": read_figures(run, section.number),
            "tables": [*_metric_tables(metrics, section.metrics), *tables.values()],
        }
        if content["figures"] or content["tables"]:
            filled.append(content)
    return filled, used


def parameter_table(parameters: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Return ``parameter, value, notebooks``; one line for each value that notebooks were run with."""
    used: dict[tuple[str, str], list[str]] = {}
    for notebook, chosen in parameters.items():
        for name, value in chosen.items():
            if name not in ("run_dir", "n_jobs"):
                shown = Path(value).name if name == "manifest" else str(value)
                used.setdefault((name, shown), []).append(notebook[:2])
    rows = [(name, value, ", ".join(notebooks)) for (name, value), notebooks in sorted(used.items())]
    return pd.DataFrame(rows, columns=["parameter", "value", "notebooks"])


def cost_table(record: Mapping[str, Any]) -> pd.DataFrame:
    """Return ``notebook, seconds, peak_mib`` from the record of a run."""
    rows = [(name, cost["seconds"], cost["peak_mib"]) for name, cost in record.get("notebooks", {}).items()]
    return pd.DataFrame(rows, columns=["notebook", "seconds", "peak_mib"])


def explained_gaps(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return why values are missing or doubtful: ``metric, kind, horizon, note, models``."""
    noted = metrics[metrics["note"].fillna("") != ""] if "note" in metrics else metrics.iloc[:0]
    keys = ["metric", "kind", "horizon_months", "note"]
    models = noted.groupby(keys, dropna=False, sort=False)["model"].agg(", ".join) if len(noted) else None
    return pd.DataFrame(columns=[*keys, "model"]) if models is None else models.reset_index()


def cohort_name(record: Mapping[str, Any], given: str | None) -> str:
    """Return what the page calls its cohort: the label given, or the file from which the patients came."""
    return given or record.get("manifest", {}).get("file") or "scores.csv"


def write_report(run: str | Path, cohort_label: str | None = None) -> Path:
    """Write ``RUN/report.html`` from the files of the run folder and return its path.

    Parameters
    ----------
    run : str or Path
        Run folder with ``metrics.csv`` at least; everything else is shown if it is there.
    cohort_label : str, optional
        What the cohort is to be called, for example "Phantom, seed 2026, synthetic". Default: its manifest.

    Raises
    ------
    FileNotFoundError
        There is no ``metrics.csv``: nothing was evaluated.
    """
    run = Path(run)
    metrics = read_csv(run / "metrics.csv")
    record = read_json(run / "run.json") if (run / "run.json").is_file() else {}
    sections, used = _filled_sections(run, metrics)
    others = [path for path in sorted(run.glob("tables/*.csv")) if path.name not in used]
    page = render_page(
        "report_template.html",
        cohort=cohort_name(record, cohort_label),
        data_kind=_data_kind(run),
        counts=_counts(run),
        c_index=page_table(paper_and_run(metrics), "Harrell's C with 95 % intervals."),
        whole_study=(run / "cohort.csv").is_file(),
        audit=_audit_lines(run),
        parameters=page_table(parameter_table(record.get("parameters", {})), "Parameters of the notebooks."),
        choices=page_table(NOT_REPORTED, "What the abstract does not report, and what was chosen."),
        sections=sections,
        gaps=page_table(explained_gaps(metrics), "Values that are missing or rest on few patients, and why."),
        others=[page_table(read_csv(path), path.stem.replace("_", " ").capitalize()) for path in others],
        metrics=page_table(metrics, "The table metrics.csv."),
        record=record,
        cost=page_table(cost_table(record), "Time and peak memory of each notebook."),
        paper_doi=PAPER_DOI,
        plotly=base64.b64encode(get_plotlyjs().encode()).decode(),
    )
    return write_text(page, run / "report.html")


def _data_kind(run: Path) -> str:
    """Return whose data the run is about; empty where scores came from elsewhere."""
    return data_kind(read_csv(run / "cohort.csv")) if (run / "cohort.csv").is_file() else ""


def render_page(template: str, **values: Any) -> str:
    """Fill a template of this package; text from outside cannot become part of the page's own code."""
    loader = FileSystemLoader(Path(__file__).parent)
    pages = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return pages.get_template(template).render(**values)


def _audit_lines(run: Path) -> list[str]:
    """Return the verdict of the audit and its findings; nothing where scores came from elsewhere."""
    if not can_audit(run):
        return []
    findings = audit(run)
    return [verdict(run, findings), *findings]


def _counts(run: Path) -> list[str]:
    """Return one sentence a split: patients and local recurrences."""
    if not (run / "scores.csv").is_file():
        return []
    patients = read_csv(run / "scores.csv").drop_duplicates("patient_id").groupby("split")["event"]
    return [f"{split}: {len(event)} patients, {int(event.sum())} local recurrences" for split, event in patients]


if __name__ == "__main__":
    write_run_record(Path(sys.argv[1]))
    write_report(sys.argv[1])
