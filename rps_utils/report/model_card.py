"""The model card of a run: what its models are for, whom they were taught and judged by, how well, and their limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from rps_utils.evaluation.wording import wide
from rps_utils.files import read_csv
from rps_utils.report.paper import run_data_kind
from rps_utils.run_folder import RunFolder
from rps_utils.texts.counts import how_many

READS = {
    "DL": "a patch of the CT and its mask, by 3-D networks",
    "Rad": "handcrafted features of the tumour, by LASSO-Cox",
    "Clinical": "clinicopathological factors, by a Cox model",
    "DLCM": "DL-score and clinicopathological factors, by a Cox model",
    "RSCM": "Rad-score and clinicopathological factors, by a Cox model",
}
KIND_ORDER = {"validation": 0, "cross_fitted": 1, "apparent": 2}  # apparent values judge memory
SHOWN = {"harrell_c": "C", "calibration_slope": "slope", "observed_expected": "O/E", "ipa": "IPA"}
INTENDED = (
    "Teaching and research: to learn how a CT becomes a tested prediction of local recurrence-free survival, and to "
    "rerun such a study."
)
NOT_INTENDED = (
    "Any decision about a patient. Patients unlike those of the training set: another disease, a recurrent tumour, "
    "another contrast phase, children."
)
FOR_A_PERSON = (
    "who the patients were, and how they were chosen",
    "how the tumours were outlined, and recurrence ascertained",
    "for which groups of patients the models do worse",
    "ethical approval, funding, contact",
)


def model_card(run: RunFolder) -> dict[str, Any]:
    """Return the model card as plain values, all from the files of the run.

    Parameters
    ----------
    run : RunFolder
        With ``scores.csv`` and ``metrics.csv``.
    """
    scores, metrics, record = read_csv(run.scores), read_csv(run.metrics), run.read_record()
    people = scores.drop_duplicates("patient_id").groupby("split")["event"]
    return {
        "intended_for": INTENDED,
        "not_intended_for": NOT_INTENDED,
        "direction": "a higher risk score means earlier recurrence; lrfs_T is the probability of none by month T",
        "data_kind": run_data_kind(run) or "not said: scores came from elsewhere",
        "patients": {split: {"patients": len(e), "recurrences": int((e == 1).sum())} for split, e in people},
        "models": {name: READS.get(name, "a score made elsewhere, as given") for name in scores["model"].unique()},
        "performance": performance(metrics).to_dict("records"),
        "limits": limits(scores, metrics),
        "made_by": {
            "manifest_sha256": record.get("manifest", {}).get("sha256", ""),
            "code_sha256": record.get("code_sha256", ""),
            "seeds": record.get("seeds", []),
            "versions": record.get("versions", {}),
        },
        "new_patients": "rps predict RUN MANIFEST: scores by the frozen models, and who is unlike the others",
        "for_a_person": list(FOR_A_PERSON),
    }


def performance(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return ``kind, model`` and a column a measure, in words with intervals.

    Of measures at a landmark that of the middle one is shown.
    """
    rows = metrics[metrics["metric"].isin(list(SHOWN))]
    landmarks = sorted(rows["horizon_months"].dropna().unique())
    middle = landmarks[len(landmarks) // 2] if landmarks else None
    at_landmark = rows["metric"].isin(["observed_expected", "ipa"])
    names, at = rows["metric"].map(SHOWN), f" at {middle:g}" if landmarks else ""
    shown = rows.assign(metric=names.where(~at_landmark, names + at))
    table = wide(shown[~at_landmark | (rows["horizon_months"] == middle)], "metric", 2)
    return table.sort_values("kind", key=lambda kinds: kinds.map(KIND_ORDER), kind="stable", ignore_index=True)


def limits(scores: pd.DataFrame, metrics: pd.DataFrame) -> list[str]:
    """Return what limits the models of this run, computed: few recurrences, no validation, no probabilities."""
    judged = scores[scores["kind"] == "validation"].drop_duplicates("patient_id")
    events = int((judged["event"] == 1).sum())
    said = [
        f"judged in {how_many(len(judged), 'validation patient')} with {how_many(events, 'recurrence')}, "
        + ("fewer than the 100 that are usually asked for" if events < 100 else "100 or more, as is usually asked for")
        if len(judged)
        else "there are no validation patients: nobody judged the finished models"
    ]
    predicting = scores.dropna(subset=[c for c in scores if c.startswith("lrfs_")], how="all")["model"].unique()
    silent = [name for name in scores["model"].unique() if name not in predicting]
    if silent:
        said.append(f"no probabilities from {', '.join(silent)}: only an order of patients")
    crossed = metrics.query("metric == 'harrell_c' and kind == 'cross_fitted' and ci_low < 0.5")["model"]
    if len(crossed):
        said.append(f"in training, cross-fitted, not told from chance: {', '.join(crossed)}")
    return [*said, "other hospitals, scanners and years were not tested unless the validation patients came from there"]


def card_lines(card: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the short entries of a card for reading: what, and what is said of it."""
    patients = [
        f"{s}: {how_many(n['patients'], 'patient')}, {how_many(n['recurrences'], 'recurrence')}"
        for s, n in card["patients"].items()
    ]
    return [
        ("For", card["intended_for"]),
        ("Not for", card["not_intended_for"]),
        ("Direction", card["direction"]),
        ("Patients", "; ".join([card["data_kind"], *patients])),
        ("New patients", card["new_patients"]),
        ("Left to a person", "; ".join(card["for_a_person"])),
    ]
