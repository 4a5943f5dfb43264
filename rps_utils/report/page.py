"""The report of a run: one page that works offline, made from the files of the run folder and nothing else.

What a run does not have (an evaluation of scores alone has no cohort and no images) is left out of its report.
"""

from __future__ import annotations

import base64
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from plotly.offline import get_plotlyjs

from rps_utils.evaluation.wording import wide
from rps_utils.figures.style import PAGE_COLOURS, figure_on_page
from rps_utils.files import read_csv, read_json, write_text
from rps_utils.finished.audit import audit, can_audit, verdict
from rps_utils.pages import page_table, render_page
from rps_utils.report.evidence import write_evidence
from rps_utils.report.paper import NOT_REPORTED, PAPER_DOI, paper_and_run, run_data_kind
from rps_utils.report.sections import SECTIONS, MetricTable
from rps_utils.report.summary import plain_summary
from rps_utils.run_folder import NAMES, RunFolder
from rps_utils.runs.record import write_run_record
from rps_utils.steps import NOTEBOOKS
from rps_utils.texts.counts import how_many


def read_figures(run: RunFolder, number: str) -> list[dict[str, Any]]:
    """Return the figures of one notebook, in the order in which it makes them; see `style.figure_on_page`.

    Figures of simulated lessons (``_lesson_`` in the name) come after those of the run's own patients.
    """
    order = {name: place for place, name in enumerate(figure_order(number))}
    paths = run.figures.glob(f"{number}_*.json")
    ranked = sorted(paths, key=lambda p: ("_lesson_" in p.name, _rank(p.stem, order), p.stem))
    return [figure_on_page(path.stem, path.read_text(encoding="utf-8")) for path in ranked]


def figure_order(number: str) -> list[str]:
    """Return the names, or their beginnings, that notebook `number` gives its figures, from its first cell to its last.

    They are read from the code of the notebook: every word in quotes that begins with its number.
    """
    cells = [c["source"] for p in NOTEBOOKS.glob(f"{number}_*.ipynb") for c in read_json(p)["cells"] if _is_code(c)]
    names = re.findall(rf"[\"']({number}_\w+)[\"']", "\n".join("".join(source) for source in cells))
    return list(dict.fromkeys(names))


def _is_code(cell: Mapping[str, Any]) -> bool:
    return cell["cell_type"] == "code"


def _rank(stem: str, order: Mapping[str, int]) -> int:
    """Return the place of the longest name that a file name begins with; unknown ones come last."""
    known = [name for name in order if stem == name or stem.startswith(f"{name}_")]
    return order[max(known, key=len)] if known else len(order)


def _metric_tables(metrics: pd.DataFrame, wanted: Iterable[MetricTable]) -> list[dict[str, Any]]:
    tables = []
    for one in wanted:
        rows = metrics[metrics["metric"].isin(one.metrics)]
        if len(rows):
            tables.append(page_table(wide(rows, one.columns), one.caption))
    return tables


def _read_tables(run: RunFolder, beginnings: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Return the tables of a section by file name, in the order of `beginnings`."""
    return {
        path.name: page_table(read_csv(path), path.stem.replace("_", " ").capitalize())
        for beginning in beginnings
        for path in sorted(run.tables.glob(f"{beginning}*.csv"))
    }


def _filled_sections(run: RunFolder, metrics: pd.DataFrame) -> tuple[list[dict[str, Any]], list[str]]:
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
    return given or record.get("manifest", {}).get("file") or NAMES["scores"]


def write_report(folder: str | Path, cohort_label: str | None = None) -> Path:
    """Write ``RUN/report.html`` from the files of the run folder, its evidence beside it, and return its path.

    Parameters
    ----------
    folder : str or Path
        Run folder with ``metrics.csv`` at least; everything else is shown if it is there.
    cohort_label : str, optional
        What the cohort is to be called, for example "Phantom, seed 2026, synthetic". Default: its manifest.

    Raises
    ------
    FileNotFoundError
        There is no ``metrics.csv``: nothing was evaluated.
    """
    run = RunFolder(folder)
    metrics, record = read_csv(run.metrics), run.read_record()
    sections, used = _filled_sections(run, metrics)
    findings = audit(run.path) if can_audit(run.path) else None
    cohort, scored = cohort_name(record, cohort_label), run.scores.is_file()
    if scored:
        write_evidence(run, cohort, findings)
    others = [path for path in sorted(run.tables.glob("*.csv")) if path.name not in used]
    page = render_page(
        "run_report.html",
        cohort=cohort,
        data_kind=run_data_kind(run),
        counts=_counts(run),
        summary=plain_summary(metrics, read_csv(run.scores)) if scored else None,
        evidence=NAMES["evidence"] if scored else "",
        c_index=page_table(paper_and_run(metrics), "Harrell's C with 95 % intervals."),
        whole_study=run.cohort.is_file(),
        audit=[] if findings is None else [verdict(run.path, findings), *findings],
        parameters=page_table(parameter_table(record.get("parameters", {})), "Parameters of the notebooks."),
        choices=page_table(NOT_REPORTED, "What the abstract does not report, and what was chosen."),
        sections=sections,
        gaps=page_table(explained_gaps(metrics), "Values that are missing or rest on few patients, and why."),
        others=[page_table(read_csv(path), path.stem.replace("_", " ").capitalize()) for path in others],
        metrics=page_table(metrics, "The table metrics.csv."),
        record=record,
        cost=page_table(cost_table(record), "Time and peak memory of each notebook."),
        paper_doi=PAPER_DOI,
        **PAGE_COLOURS,
        plotly=base64.b64encode(get_plotlyjs().encode()).decode(),
    )
    return write_text(page, run.report)


def _counts(run: RunFolder) -> list[str]:
    """Return one sentence a split: patients and local recurrences."""
    if not run.scores.is_file():
        return []
    patients = read_csv(run.scores).drop_duplicates("patient_id").groupby("split")["event"]
    return [
        f"{split}: {how_many(len(event), 'patient')}, {how_many(event.sum(), 'local recurrence')}"
        for split, event in patients
    ]


if __name__ == "__main__":
    write_run_record(Path(sys.argv[1]))
    write_report(sys.argv[1])
