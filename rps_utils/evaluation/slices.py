"""One model on one group of patients, rows of `metrics.csv`, and why a value is not given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd

from rps_utils.scores import DIED, KINDS_OF_SPLIT, NO_LRFS, incidence_column, lrfs_column
from rps_utils.survival.follow_up import Estimate, horizon_note

METRIC_COLUMNS = [
    *("split", "kind", "model", "metric", "horizon_months", "value", "ci_low", "ci_high", "n", "events", "note"),
]
KINDS = [kind for kinds in KINDS_OF_SPLIT.values() for kind in kinds]
BAND_RESAMPLES = 500  # pointwise bands are for looking at; their limits move in the third digit beyond that
FEWEST_AT_RISK = 10
FEWEST_IN_GROUP = 5


class Slice(NamedTuple):
    """The rows of one kind and model, by ``patient_id``."""

    split: str
    kind: str
    model: str
    rows: pd.DataFrame

    @property
    def follow_up(self) -> tuple[np.ndarray, np.ndarray]:
        """Return times and events."""
        return self.rows["time_months"].to_numpy(float), self.rows["event"].to_numpy(bool)

    @property
    def died(self) -> np.ndarray | None:
        """Return who died without local recurrence, or None where the table does not tell deaths apart."""
        return self.rows[DIED].to_numpy(bool) if DIED in self.rows else None

    @property
    def risk(self) -> np.ndarray:
        """Return the risk score, higher = earlier recurrence."""
        return self.rows["risk"].to_numpy(float)

    def predicted(self, column: str) -> np.ndarray:
        """Return a column of predictions; all NaN without it."""
        return self.rows.get(column, pd.Series(np.nan, self.rows.index)).to_numpy(float)

    def lrfs(self, landmark: float) -> np.ndarray:
        """Return predicted LRFS at a landmark; all NaN without such a column."""
        return self.predicted(lrfs_column(landmark))

    def incidence(self, landmark: float) -> np.ndarray:
        """Return the predicted cumulative incidence at a landmark; all NaN without such a column."""
        return self.predicted(incidence_column(landmark))

    @property
    def why_no_lrfs(self) -> str:
        """Return why there is no LRFS, with a colon in front, where the table says so."""
        reasons = self.rows[NO_LRFS].dropna().unique() if NO_LRFS in self.rows else []
        return f": {'; '.join(reasons)}" if len(reasons) else ""


def slices(scores: pd.DataFrame) -> Iterator[Slice]:
    """Walk through kinds (apparent, cross-fitted, validation) and models (in order of mention)."""
    models = list(dict.fromkeys(scores["model"]))
    for kind in KINDS:
        for model in models:
            rows = scores[(scores["kind"] == kind) & (scores["model"] == model)]
            if len(rows):
                yield Slice(rows["split"].iloc[0], kind, model, rows.sort_values("patient_id", ignore_index=True))


def metric_row(part: Slice, metric: str, horizon: float, estimate: Estimate) -> dict:
    """Return one row of ``metrics.csv``."""
    row = (part.split, part.kind, part.model, metric, horizon, *estimate[:3], len(part.rows))
    return dict(zip(METRIC_COLUMNS, (*row, int(part.follow_up[1].sum()), estimate.note), strict=True))


def metric_table(rows: Sequence[dict]) -> pd.DataFrame:
    """Collect rows into a table with all columns of the contract, also when there is no row."""
    return pd.DataFrame(rows, columns=METRIC_COLUMNS)


def undefined(note: str) -> Estimate:
    """Return an estimate without a value, and why."""
    return Estimate(np.nan, np.nan, np.nan, note)


def with_note(estimate: Estimate, note: str) -> Estimate:
    """Put a note in front of an estimate's own."""
    return estimate._replace(note="; ".join(text for text in (note, estimate.note) if text))


def slice_pairs(scores: pd.DataFrame) -> Iterator[tuple[Slice, Slice]]:
    """Walk through pairs of models of a kind: the patients that both have, as the first and the second judge them.

    The first is called ``A - B``, as its differences are.
    """
    for first, second in combinations(slices(scores), 2):
        if first.kind != second.kind:
            continue
        own, other = (
            a.rows[a.rows["patient_id"].isin(b.rows["patient_id"])].reset_index(drop=True)
            for a, b in ((first, second), (second, first))
        )
        if len(own):
            yield first._replace(model=f"{first.model} - {second.model}", rows=own), second._replace(rows=other)


def shared_landmarks(pair: Slice, other: Slice, landmarks: Sequence[float]) -> dict[float, str]:
    """Return, for each landmark, why two models cannot be compared by what they predict there; empty where they can."""
    reasons = {t: prediction_note(pair, t) or prediction_note(other, t) or beyond_note(pair, t) for t in landmarks}
    return {t: why.replace(f"{pair.model} gives", f"{pair.model.split(' - ')[0]} gives") for t, why in reasons.items()}


def p_column(p: float, why: str) -> Estimate:
    """Return a p-value as an estimate without an interval, with the reason where there is none."""
    return Estimate(p, np.nan, np.nan, "" if np.isfinite(p) else why)


def labelled(part: Slice, table: pd.DataFrame, landmark: float) -> pd.DataFrame:
    """Return a table with split, kind, model and horizon in front."""
    labels = {"split": part.split, "kind": part.kind, "model": part.model, "horizon": float(landmark)}
    return pd.DataFrame({**labels, **table}, index=table.index)


def stacked(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Stack tables; the first gives the columns when the others are empty."""
    filled = [table for table in tables if len(table)]
    return pd.concat(filled, ignore_index=True) if filled else tables[0]


def prediction_note(part: Slice, landmark: float) -> str:
    """Say why a slice has no usable LRFS prediction at a landmark; an empty text means that it has."""
    return missing_note(part, lrfs_column(landmark))


def missing_note(part: Slice, column: str) -> str:
    """Say for how many patients of a slice a prediction is missing, and why; an empty text means for nobody."""
    missing = int(np.isnan(part.predicted(column)).sum())
    if missing == len(part.rows):
        return f"{part.model} gives no {column}{part.why_no_lrfs}"
    return f"{missing} of {len(part.rows)} patients have no {column}{part.why_no_lrfs}" if missing else ""


def note_at(part: Slice, landmark: float, *, fewest: int = 0) -> str:
    """Say why a landmark gives no value, or rests on fewer than `fewest` patients; or return an empty text."""
    # The unit is the table's own, whatever its column is called.
    return horizon_note(*part.follow_up, landmark, minimum_at_risk=fewest).replace(" months", "")


def beyond_note(part: Slice, landmark: float) -> str:
    """Say that a landmark lies beyond the follow-up, or return an empty text."""
    return note_at(part, landmark) if landmark > part.follow_up[0].max() else ""


def missing_predictions(scores: pd.DataFrame, landmarks: Sequence[float]) -> pd.DataFrame:
    """List where calibration, Brier score and decision curves are impossible: ``model, kind, landmark, why``."""
    rows = [
        (part.model, part.kind, landmark, why)
        for part in slices(scores)
        for landmark in landmarks
        if (why := prediction_note(part, landmark))
    ]
    return pd.DataFrame(rows, columns=["model", "kind", "landmark", "why"])


def with_predictions(scores: pd.DataFrame, landmarks: Sequence[float]) -> pd.DataFrame:
    """Return the rows of those models that predict LRFS at one of the landmarks at least, or say why they do not."""
    columns = [c for c in (*map(lrfs_column, landmarks), NO_LRFS) if c in scores]
    models = scores.loc[scores[columns].notna().any(axis=1), "model"].unique() if columns else []
    return scores[scores["model"].isin(models)]


def usable_landmarks(part: Slice, landmarks: Sequence[float]) -> list[float]:
    """Return the landmarks that are predicted for everybody and that the follow-up reaches, in rising order."""
    return [t for t in sorted(landmarks) if not (prediction_note(part, t) or beyond_note(part, t))]
