"""Where the tables of a run contradict each other: patients, outcomes, parts and whole, scores and metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from rps_utils.evaluation.risk_groups import training_cutoffs
from rps_utils.evaluation.slices import note_at, slice_pairs, slices
from rps_utils.files import read_csv
from rps_utils.finished.origin import parameters_of
from rps_utils.learning.fusion import FUSED
from rps_utils.run_folder import RunFolder
from rps_utils.scores import COLUMNS, DIED, MADE_BY, read_scores, ready_made_scores
from rps_utils.survival.concordance import harrell_c, uno_c
from rps_utils.texts.counts import how_many

ROW = ["model", "kind", "patient_id"]
CUTOFFS = "tables/risk_groups_cutoffs.csv"
AGREEMENT = 1e-9


def disagreements(run: str | Path, cohort: pd.DataFrame, scores: pd.DataFrame) -> Iterator[str]:
    """Yield one line for each way in which the tables of a run contradict each other.

    Parameters
    ----------
    run : str or Path
        Run folder.
    cohort, scores : DataFrame
        Its ``cohort.csv`` and ``scores.csv``.
    """
    run = Path(run)
    yield from other_outcomes(cohort, scores)
    yield from absent_patients(cohort, scores)
    yield from other_parts(run, scores)
    yield from other_ready_made(cohort, scores)
    yield from other_cutoffs(run, scores)
    if RunFolder(run).metrics.is_file():
        metrics = read_csv(RunFolder(run).metrics)
        yield from other_metric_parts(run, metrics)
        yield from other_c_indices(metrics, scores)


def some_patients(patients: Iterable[str]) -> str:
    """Say how many patients, and name the first three."""
    patients = sorted(patients)
    shown = ", ".join(patients[:3]) + ", ..." * (len(patients) > 3)
    return f"{how_many(len(patients), 'patient')} ({shown})"


def other_outcomes(cohort: pd.DataFrame, scores: pd.DataFrame) -> Iterator[str]:
    """Yield the outcomes that are not those of the cohort."""
    known = cohort.set_index("patient_id")
    rows = scores[scores["patient_id"].isin(known.index)]
    for column in ("time_months", "event", DIED):
        given = rows.get(column, pd.Series(0, rows.index))
        true = rows["patient_id"].map(known.get(column, pd.Series(0, known.index)))
        other = set(rows.loc[given != true, "patient_id"])
        if other:
            yield f"{some_patients(other)} have another {column} in scores.csv than in cohort.csv: scores were altered"


def absent_patients(cohort: pd.DataFrame, scores: pd.DataFrame) -> Iterator[str]:
    """Yield the patients of a split who are not judged, though others are: their scores may have been unwelcome."""
    for (model, kind), rows in scores.groupby(["model", "kind"], sort=False):
        expected = set(cohort.loc[cohort["split"] == rows["split"].iloc[0], "patient_id"])
        absent = expected - set(rows["patient_id"])
        if absent:
            yield f"{model}, {kind}: {some_patients(absent)} of cohort.csv have no row in scores.csv: leave nobody out"


def other_parts(run: Path, scores: pd.DataFrame) -> Iterator[str]:
    """Yield the rows of ``scores.csv`` that are not those of ``scores/``."""
    whole, parts = scores.set_index(ROW), score_parts(run).set_index(ROW)
    if parts.index.has_duplicates:
        yield f"two tables of scores/ have rows of {parts.index[parts.index.duplicated()][0][0]}: a model has one table"
        return
    yield from _listed(whole.index.difference(parts.index), "are in scores.csv, and in no table of scores/")
    both = parts.index.intersection(whole.index, sort=False)
    known = set(whole.index.get_level_values("model")) | set(FUSED) | set(FUSED.values())
    lost = parts.index.difference(whole.index)
    yield from _listed(lost[lost.get_level_values("model").isin(known)], "are in scores/, and not in scores.csv")
    one, other = whole.loc[both], parts.loc[both].reindex(columns=whole.columns)
    for (model, kind), (columns, patients) in changed_columns(one, other).items():
        who, what = some_patients(patients), ", ".join(columns)
        yield f"{model}, {kind}: {who} have another {what} in scores.csv than in scores/: merge the tables again"


def _listed(rows: pd.MultiIndex, what: str) -> Iterator[str]:
    for (model, kind), own in rows.to_frame(index=False).groupby(["model", "kind"], sort=False):
        yield f"{model}, {kind}: rows of {some_patients(own['patient_id'])} {what}"


def score_parts(run: Path) -> pd.DataFrame:
    """Return the score tables of ``scores/`` below each other."""
    paths = [path for path in sorted(run.glob("scores/*.csv")) if set(COLUMNS) <= set(read_csv(path).columns)]
    return pd.concat([read_scores(path) for path in paths]) if paths else pd.DataFrame(columns=[*COLUMNS, MADE_BY])


def changed_columns(
    one: pd.DataFrame, other: pd.DataFrame, tolerance: float = 0.0
) -> dict[tuple[str, str], tuple[list[str], set[str]]]:
    """Compare two score tables with the same index, model, kind and patient.

    Returns
    -------
    dict
        Model and kind to the columns that differ by more than `tolerance`, and the patients in whom they do.
    """
    unlike = {column: differs(one[column], other[column], tolerance) for column in one.columns}
    changed = pd.DataFrame(unlike, index=one.index)
    found = {}
    for pair, rows in changed.groupby(level=["model", "kind"], sort=False):
        columns = list(rows.columns[rows.any()])
        if columns:
            found[pair] = columns, set(rows.index[rows.any(axis=1)].get_level_values("patient_id"))
    return found


def differs(one: pd.Series, other: pd.Series, tolerance: float) -> np.ndarray:
    """Tell where two columns differ; two empty cells are alike, an empty and a filled one are not."""
    empty = one.isna().to_numpy() & other.isna().to_numpy()
    if pd.api.types.is_numeric_dtype(one) and pd.api.types.is_numeric_dtype(other):
        near = np.abs(one.to_numpy(float) - other.to_numpy(float)) <= tolerance
        return ~(near | empty)
    return ~((one.to_numpy(object) == other.to_numpy(object)) | empty)


def other_ready_made(cohort: pd.DataFrame, scores: pd.DataFrame) -> Iterator[str]:
    """Yield the ready-made scores that are not those of the cohort's columns."""
    given = ready_made_scores(cohort)
    if given.empty:
        return
    given = given.set_index(ROW)
    rows = scores[scores["model"].isin(set(given.index.get_level_values("model")))].set_index(ROW)
    both = rows.index.intersection(given.index)
    for (model, kind), (_, patients) in changed_columns(rows.loc[both, ["risk"]], given.loc[both, ["risk"]]).items():
        yield f"{model}, {kind}: {some_patients(patients)} have another ready-made score than in cohort.csv"


def other_cutoffs(run: Path, scores: pd.DataFrame) -> Iterator[str]:
    """Yield the cut-offs that are not those of the scores."""
    asked = parameters_of(run, CUTOFFS)
    if not (run / CUTOFFS).is_file() or "cutoff" not in asked:
        return
    keys, rule = ["model", "kind"], asked["cutoff"]
    stored = read_csv(run / CUTOFFS).set_index(keys)[["cutoff"]]
    due = training_cutoffs(scores, rule).set_index(keys)[["cutoff"]]
    both = due.join(stored, how="outer", lsuffix="_due")
    for model, kind in both.index[differs(both["cutoff_due"], both["cutoff"], AGREEMENT)]:
        yield f"{model}, {kind}: {CUTOFFS} has another cut-off than the scores give (rule: {rule or 'median'})"


def other_metric_parts(run: Path, metrics: pd.DataFrame) -> Iterator[str]:
    """Yield the rows of ``metrics.csv`` that are not those of ``metrics/``, and the other way round."""
    tables = [read_csv(path) for path in sorted(run.glob("metrics/*.csv"))]
    if not tables:
        return
    parts = pd.concat([table for table in tables if len(table)], ignore_index=True)[metrics.columns]
    whole, stacked = (Counter(map(tuple, t.astype(object).where(t.notna(), None).to_numpy())) for t in (metrics, parts))
    apart = (
        (whole - stacked, "row is not in metrics/", "rows are not in metrics/"),
        (stacked - whole, "row of metrics/ is not in it", "rows of metrics/ are not in it"),
    )
    for rows, one, more in apart:
        if rows:
            split, kind, model, metric = next(iter(rows))[:4]
            counted = how_many(sum(rows.values()), one, more)
            yield f"metrics.csv: {counted}, first {metric} of {model}, {kind} ({split})"


def other_c_indices(metrics: pd.DataFrame, scores: pd.DataFrame) -> Iterator[str]:
    """Yield the C-indices of ``metrics.csv`` that the scores do not give, and those that it lacks."""
    named = metrics.set_index(["model", "kind", "metric"]).sort_index(kind="stable")
    due = c_indices(scores, _tau(metrics))
    for (model, kind, metric), value in due.items():
        if (model, kind, metric) not in named.index:
            if metric == "harrell_c":
                yield f"{model}, {kind}: metrics.csv has no {metric}"
            continue
        stored = float(named.loc[[(model, kind, metric)], "value"].iloc[0])
        if np.isfinite(stored) and not abs(stored - value) <= AGREEMENT:
            yield f"{model}, {kind}: metrics.csv says {metric} {stored:.3f}, the scores give {value:.3f}"


def _tau(metrics: pd.DataFrame) -> float | None:
    horizons = metrics.loc[metrics["metric"] == "uno_c", "horizon_months"].dropna()
    return float(horizons.iloc[0]) if len(horizons) else None


def c_indices(scores: pd.DataFrame, tau: float | None) -> Mapping[tuple[str, str, str], float]:
    """Return Harrell's C, Uno's C up to `tau` and differences of Harrell's C, by model, kind and metric."""
    found = {}
    for part in slices(scores):
        found[part.model, part.kind, "harrell_c"] = float(harrell_c(*part.follow_up, part.risk))
        if tau is not None and not note_at(part, tau):
            found[part.model, part.kind, "uno_c"] = float(uno_c(*part.follow_up, part.risk, tau))
    for pair, other in slice_pairs(scores):
        c = [float(harrell_c(*pair.follow_up, risk)) for risk in (pair.risk, other.risk)]
        found[pair.model, pair.kind, "harrell_c_difference"] = c[0] - c[1]
    return found
