"""The evidence of a run beside its report: a model card and reporting guidelines, as a page and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from rps_utils.files import write_json, write_text
from rps_utils.pages import page_table, render_page
from rps_utils.report.checklists import (
    STANDARDS,
    STATUS_WORDS,
    Item,
    as_json,
    by_standard,
    counted,
    judge_items,
    metrics_score,
)
from rps_utils.report.model_card import card_lines, model_card
from rps_utils.report.paper import run_data_kind
from rps_utils.run_folder import RunFolder

RQS_SAID = (
    "Points of 1.0 stand in the JSON; no total is given, since most of its points are for a person. The 42 criteria of "
    "2.0 and their points were not at hand, so its topics that a run can show stand here without a number."
)


def write_evidence(run: RunFolder, cohort: str, findings: Sequence[str] | None) -> Path:
    """Write model card and guidelines into the folder of `RunFolder.evidence`; return the page.

    Parameters
    ----------
    run : RunFolder
        With ``scores.csv`` and ``metrics.csv``.
    cohort : str
        What the page calls the cohort.
    findings : sequence of str or None
        Of the audit; None where the run cannot be audited.
    """
    folder, card, kind = run.evidence.parent, model_card(run), run_data_kind(run)
    judged = dict(by_standard(judge_items(run, findings)))
    write_json(card, folder / "model_card.json")
    for standard, items in judged.items():
        write_json(as_json(standard, items, kind), folder / f"{standard}.json")
    page = render_page(
        "evidence.html",
        cohort=cohort,
        data_kind=kind,
        card=card,
        card_lines=card_lines(card),
        models=page_table(pd.DataFrame(card["models"].items(), columns=["model", "reads"]), "What each model reads."),
        performance=page_table(pd.DataFrame(card["performance"]), "Performance, with 95 % intervals."),
        standards=[_shown(standard, items) for standard, items in judged.items()],
        words=STATUS_WORDS,
    )
    return write_text(page, run.evidence)


def _shown(standard: str, items: list[Item]) -> dict[str, Any]:
    said = {"rqs": RQS_SAID}
    if standard == "metrics":
        low, high = metrics_score(items)
        said["metrics"] = f"Score: at least {low:.0f} %, and {high:.0f} % if a person can say yes to the rest."
    return {
        "name": standard,
        "short": STANDARDS[standard].split(" (")[0],
        "title": STANDARDS[standard],
        "counts": counted(items),
        "said": said.get(standard, ""),
        "rows": [asdict(item) for item in items],
    }
