"""What the paper reports, and what it does not, beside a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from rps_utils.cohort.contract import data_kind
from rps_utils.evaluation.slices import KINDS
from rps_utils.evaluation.wording import interval_text, p_text, wide
from rps_utils.files import read_csv
from rps_utils.run_folder import RunFolder

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
        ("augmentation", "orientations, small shifts, contrast and noise", ""),
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


def c_index_table(folder: str | Path) -> str:
    """Return the C-index table of a run as text for a terminal, the paper's numbers beside."""
    run = RunFolder(folder)
    table = paper_and_run(read_csv(run.metrics))
    kind = run_data_kind(run)
    return f"Harrell's C (95 % interval){f', {kind} patients' * bool(kind)}\n{table.to_string(index=False)}"


def run_data_kind(run: RunFolder) -> str:
    """Return whose data the run is about; empty where scores came from elsewhere."""
    return data_kind(run.read_cohort()) if run.cohort.is_file() else ""


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
