"""The report in plain words: who was studied, what was found, and what that does not show. All of it is computed."""

from __future__ import annotations

import pandas as pd

from rps_utils.evaluation.wording import c_sentences, pairs_sentence
from rps_utils.texts.counts import how_many

KIND_WORDS = {
    "validation": "In the validation patients, who took no part in any training",
    "cross_fitted": "There are no validation patients. In the training patients, each scored by models that had not "
    "seen the patient",
    "apparent": "There are only scores of patients from whom the models had learned, and these flatter. In them",
}
C_IN_WORDS = "C is the share of pairs of patients whose order a score gets right: 0.5 is tossing a coin, 1 is perfect."


def summary_kind(metrics: pd.DataFrame) -> str | None:
    """Return the most honest kind of score for which the run has a C; None where there is none."""
    rows = metrics[metrics["metric"] == "harrell_c"].dropna(subset="value")
    return next((kind for kind in KIND_WORDS if kind in set(rows["kind"])), None)


def patients_sentence(scores: pd.DataFrame) -> str:
    """Return who was studied: patients and local recurrences of each split."""
    people = scores.drop_duplicates("patient_id")
    parts = [
        f"{how_many(len(rows), f'{split} patient')}, {int((rows['event'] == 1).sum())} of them with a local recurrence"
        for split, rows in people.groupby("split")
    ]
    return f"Studied were {'; '.join(parts)}."


def found_lines(metrics: pd.DataFrame) -> list[str]:
    """Return the C of every model in words, in the most honest kind of score that the run has."""
    kind = summary_kind(metrics)
    rows = metrics[(metrics["metric"] == "harrell_c") & (metrics["kind"] == kind)]
    return c_sentences(rows)


def not_shown_lines(metrics: pd.DataFrame, scores: pd.DataFrame) -> list[str]:
    """Return what the numbers do not show: whether models differ, and how far chance reaches."""
    kind = summary_kind(metrics)
    pairs = metrics[(metrics["metric"] == "harrell_c_difference") & (metrics["kind"] == kind)]
    people = scores[scores["kind"] == kind].drop_duplicates("patient_id")
    own = metrics[(metrics["metric"] == "harrell_c") & (metrics["kind"] == kind)]
    width = (own["ci_high"] - own["ci_low"]).max()
    lines = [pairs_sentence(pairs)] if len(pairs) else []
    if pd.notna(width):
        events = int((people["event"] == 1).sum())
        lines.append(
            f"With {how_many(events, 'recurrence')} the interval of a C is up to {width:.2f} wide; "
            "smaller differences may be luck."
        )
    return [
        *lines,
        "Other hospitals, other scanners and later years were not tested, and no decision was made with these scores.",
    ]


def plain_summary(metrics: pd.DataFrame, scores: pd.DataFrame) -> dict[str, str | list[str]]:
    """Return the summary of the page: who, how, what was found, what is not shown.

    Parameters
    ----------
    metrics, scores : DataFrame
        ``metrics.csv`` and ``scores.csv`` of the run.
    """
    kind = summary_kind(metrics)
    return {
        "who": patients_sentence(scores),
        "how": f"{KIND_WORDS[kind]}, the models order patients as follows. {C_IN_WORDS}"
        if kind
        else "No C was computed.",
        "found": found_lines(metrics),
        "not_shown": not_shown_lines(metrics, scores),
    }
