"""From a table of scores to rows of metrics: one function an evaluation, for any table that passes the door.

Every function walks through the same slices (a kind and a model), with patients in the same order, so that all
models of a slice meet the same resamples. What is undefined stays empty, and ``note`` says why. Landmarks and tau
are in the unit of the column ``time_months``, whatever that is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd

from rps_utils import inference, metrics
from rps_utils.curves import Estimate, horizon_note
from rps_utils.scores import CUTOFF, KINDS_OF_SPLIT, lrfs_column

METRIC_COLUMNS = [
    *("split", "kind", "model", "metric", "horizon_months", "value", "ci_low", "ci_high", "n", "events", "note"),
]
KINDS = [kind for kinds in KINDS_OF_SPLIT.values() for kind in kinds]
ICI_RESAMPLES = 500  # each refits a spline; the interval's limits move in the third digit beyond that
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
    def risk(self) -> np.ndarray:
        """Return the risk score, higher = earlier recurrence."""
        return self.rows["risk"].to_numpy(float)

    def lrfs(self, landmark: float) -> np.ndarray:
        """Return predicted LRFS at a landmark; all NaN without such a column."""
        column = lrfs_column(landmark)
        given = self.rows[column] if column in self.rows else pd.Series(np.nan, index=self.rows.index)
        return given.to_numpy(float)


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


# ---------------------------------------------------------------- discrimination


def discrimination_rows(scores: pd.DataFrame, tau: float, n_bootstrap: int = 2000, seed: int = 2026) -> pd.DataFrame:
    """Return Harrell's C and Uno's C up to tau, with BCa intervals over patients.

    Parameters
    ----------
    scores : DataFrame
        A score table.
    tau : float
        Truncation time of Uno's C, fixed beforehand, in the unit of the times.
    n_bootstrap, seed : int
        Resamples of patients, and their seed.

    Returns
    -------
    DataFrame
        Rows of the metrics contract, ``harrell_c`` (no horizon) and ``uno_c`` (horizon tau).
    """
    rows = []
    for part in slices(scores):
        counts = inference.resample_counts(len(part.rows), n_bootstrap, seed)
        rows.append(
            metric_row(part, "harrell_c", np.nan, inference.c_interval(*part.follow_up, part.risk, counts=counts))
        )
        rows.append(metric_row(part, "uno_c", tau, _uno(part, tau, counts)))
    return metric_table(rows)


def _uno(part: Slice, tau: float, counts: np.ndarray) -> Estimate:
    if why := note_at(part, tau):
        return undefined(why)
    estimate = inference.c_interval(*part.follow_up, part.risk, tau, counts=counts)
    return _with_note(estimate, note_at(part, tau, FEWEST_AT_RISK))


def _with_note(estimate: Estimate, note: str) -> Estimate:
    return estimate._replace(note="; ".join(text for text in (note, estimate.note) if text))


def difference_rows(scores: pd.DataFrame, n_bootstrap: int = 2000, seed: int = 2026) -> pd.DataFrame:
    """Return every paired difference of Harrell's C between two models of a kind, on the patients that both have.

    Returns
    -------
    DataFrame
        Model ``A - B``; ``harrell_c_difference`` with its BCa interval, and ``harrell_c_difference_p``, the
        two-sided p of `n_bootstrap` permutations that swap the two models' ranks.
    """
    rows = []
    parts = list(slices(scores))
    for first, second in combinations(parts, 2):
        if first.kind != second.kind:
            continue
        pair, other = _on_common_patients(first, second)
        if not len(pair.rows):
            continue
        counts = inference.resample_counts(len(pair.rows), n_bootstrap, seed)
        result = inference.compare_c(
            *pair.follow_up, pair.risk, other, counts=counts, permutations=n_bootstrap, seed=seed
        )
        why = "" if np.isfinite(result.p_permutation) else result.difference.note
        p = Estimate(result.p_permutation, np.nan, np.nan, why)
        rows.append(metric_row(pair, "harrell_c_difference", np.nan, result.difference))
        rows.append(metric_row(pair, "harrell_c_difference_p", np.nan, p))
    return metric_table(rows)


def _on_common_patients(first: Slice, second: Slice) -> tuple[Slice, np.ndarray]:
    both = first.rows.merge(second.rows[["patient_id", "risk"]], on="patient_id", suffixes=("", "_other"))
    return Slice(first.split, first.kind, f"{first.model} - {second.model}", both), both["risk_other"].to_numpy(float)


# ---------------------------------------------------------------- at the landmarks


def td_auc_rows(
    scores: pd.DataFrame, landmarks: Sequence[float], n_bootstrap: int = 2000, seed: int = 2026
) -> pd.DataFrame:
    """Return the cumulative/dynamic AUC at every landmark, with BCa intervals; arguments as in the others."""
    rows = []
    for part in slices(scores):
        counts = inference.resample_counts(len(part.rows), n_bootstrap, seed)
        for landmark in landmarks:
            rows.append(metric_row(part, "td_auc", landmark, _auc(part, landmark, counts)))
    return metric_table(rows)


def _auc(part: Slice, landmark: float, counts: np.ndarray) -> Estimate:
    if why := note_at(part, landmark):
        return undefined(why)
    note = note_at(part, landmark, FEWEST_AT_RISK)
    return inference.bootstrap_estimate(metrics.td_auc, *part.follow_up, part.risk, landmark, counts=counts, note=note)


def roc_table(scores: pd.DataFrame, landmarks: Sequence[float]) -> pd.DataFrame:
    """Return ROC curves: ``split, kind, model, horizon, threshold, fpr, tpr``; none where the AUC is undefined."""
    curves = [pd.DataFrame(columns=["split", "kind", "model", "horizon", "threshold", "fpr", "tpr"])]
    for part in slices(scores):
        for landmark in landmarks:
            curve = metrics.roc_curve_at(*part.follow_up, part.risk, landmark).dropna()
            curves.append(_labelled(part, curve, landmark))
    return stacked(curves)


def _labelled(part: Slice, table: pd.DataFrame, landmark: float) -> pd.DataFrame:
    labels = {"split": part.split, "kind": part.kind, "model": part.model, "horizon": float(landmark)}
    return pd.DataFrame({**labels, **table}, index=table.index)


def stacked(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Stack tables; the first gives the columns when the others are empty."""
    filled = [table for table in tables if len(table)]
    return pd.concat(filled, ignore_index=True) if filled else tables[0]


def prediction_note(part: Slice, landmark: float) -> str:
    """Say why a slice has no usable LRFS prediction at a landmark; an empty text means that it has."""
    missing = int(np.isnan(part.lrfs(landmark)).sum())
    if missing == len(part.rows):
        return f"{part.model} gives no {lrfs_column(landmark)}"
    return f"{missing} of {len(part.rows)} patients have no {lrfs_column(landmark)}" if missing else ""


def note_at(part: Slice, landmark: float, fewest: int = 0) -> str:
    """Say why a landmark gives no value, or rests on fewer than `fewest` patients; or return an empty text."""
    # The unit is the table's own, whatever its column is called.
    return horizon_note(*part.follow_up, landmark, fewest).replace(" months", "")


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
    """Return the rows of those models that predict LRFS at one of the landmarks at least."""
    columns = [c for c in map(lrfs_column, landmarks) if c in scores]
    models = scores.loc[scores[columns].notna().any(axis=1), "model"].unique() if columns else []
    return scores[scores["model"].isin(models)]


def brier_rows(
    scores: pd.DataFrame, landmarks: Sequence[float], n_bootstrap: int = 2000, seed: int = 2026
) -> pd.DataFrame:
    """Return ``brier`` and ``ipa`` at every landmark and ``ibs`` over all of them, with BCa intervals.

    Returns
    -------
    DataFrame
        Only of models that predict LRFS. ``ibs`` is the trapezoid over the landmarks that are predicted and
        reached, which its note names; it stands at the last of them and needs two.
    """
    rows = []
    for part in slices(with_predictions(scores, landmarks)):
        counts = inference.resample_counts(len(part.rows), n_bootstrap, seed)
        for name, metric in (("brier", metrics.brier_score), ("ipa", metrics.ipa)):
            for landmark in landmarks:
                rows.append(metric_row(part, name, landmark, _of_lrfs(metric, part, landmark, counts)))
        rows.append(_ibs_row(part, landmarks, counts))
    return metric_table(rows)


def _of_lrfs(metric: inference.Metric, part: Slice, landmark: float, counts: np.ndarray) -> Estimate:
    if why := prediction_note(part, landmark) or beyond_note(part, landmark):
        return undefined(why)
    given = (*part.follow_up, part.lrfs(landmark), landmark)
    note = note_at(part, landmark, FEWEST_AT_RISK)
    return inference.bootstrap_estimate(metric, *given, counts=counts, note=note)


def _ibs_row(part: Slice, landmarks: Sequence[float], counts: np.ndarray) -> dict:
    grid = [t for t in sorted(landmarks) if not (prediction_note(part, t) or beyond_note(part, t))]
    if len(grid) < 2:
        why = undefined(f"needs two landmarks that {part.model} predicts and the follow-up reaches")
        return metric_row(part, "ibs", max(landmarks), why)
    matrix = np.column_stack([part.lrfs(t) for t in grid])
    note = "over " + ", ".join(f"{t:g}" for t in grid)
    given = (metrics.integrated_brier, *part.follow_up, matrix, grid)
    return metric_row(part, "ibs", grid[-1], inference.bootstrap_estimate(*given, counts=counts, note=note))


# ---------------------------------------------------------------- calibration


def calibration_rows(
    scores: pd.DataFrame, landmarks: Sequence[float], n_bootstrap: int = 2000, seed: int = 2026
) -> pd.DataFrame:
    """Return ``observed_expected``, ``ici``, ``e50``, ``e90`` at every landmark, and ``calibration_slope``.

    Returns
    -------
    DataFrame
        Only of models that predict LRFS. The slope belongs to log(-log LRFS) at the last landmark with predictions
        within (0, 1); in a proportional-hazards model that is the linear predictor plus a constant, so any landmark
        gives the same. ``ici`` (BCa over at most 500 resamples), ``e50`` and ``e90`` are left empty where fewer
        than ten patients are still at risk.
    """
    rows = []
    for part in slices(with_predictions(scores, landmarks)):
        rows.append(_slope_row(part, landmarks))
        for landmark in landmarks:
            rows.append(metric_row(part, "observed_expected", landmark, _observed_expected(part, landmark)))
            rows += _ici_rows(part, landmark, min(n_bootstrap, ICI_RESAMPLES), seed)
    return metric_table(rows)


def _observed_expected(part: Slice, landmark: float) -> Estimate:
    if why := prediction_note(part, landmark) or beyond_note(part, landmark):
        return undefined(why)
    return metrics.observed_expected(*part.follow_up, part.lrfs(landmark), landmark)


def _slope_row(part: Slice, landmarks: Sequence[float]) -> dict:
    predicted = [t for t in sorted(landmarks) if not prediction_note(part, t)]
    # A certain prediction has no log hazard: a landmark where somebody has one is of no use here.
    usable = [t for t in predicted if part.lrfs(t).min() > 0 and part.lrfs(t).max() < 1]
    if not predicted:
        estimate = undefined(prediction_note(part, landmarks[0]))
    elif not usable:
        estimate = undefined("a predicted LRFS of exactly 0 or 1 has no log hazard")
    elif not part.follow_up[1].any():
        estimate = undefined("no event")
    else:
        estimate = metrics.calibration_slope_interval(*part.follow_up, np.log(-np.log(part.lrfs(usable[-1]))))
    return metric_row(part, "calibration_slope", usable[-1] if usable else np.nan, estimate)


def _ici_rows(part: Slice, landmark: float, n_bootstrap: int, seed: int) -> list[dict]:
    why = prediction_note(part, landmark) or note_at(part, landmark, FEWEST_AT_RISK)
    if why:
        return [metric_row(part, name, landmark, undefined(why)) for name in ("ici", "e50", "e90")]
    given = (*part.follow_up, part.lrfs(landmark), landmark)
    counts = inference.resample_counts(len(part.rows), n_bootstrap, seed)
    ici = inference.bootstrap_estimate(metrics.ici, *given, counts=counts)
    errors = metrics.calibration_errors(*given)
    quantiles = [("e50", errors.e50), ("e90", errors.e90)]
    return [
        metric_row(part, "ici", landmark, ici),
        *(metric_row(part, name, landmark, Estimate(value, np.nan, np.nan, ici.note)) for name, value in quantiles),
    ]


def calibration_tables(scores: pd.DataFrame, landmark: float, groups: int = 4) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return predicted against observed risk at a landmark, in groups and as a smooth curve.

    Returns
    -------
    groups : DataFrame
        ``split, kind, model, horizon, group, n, predicted, observed, ci_low, ci_high`` (risks of recurrence).
    curves : DataFrame
        ``split, kind, model, horizon, predicted, observed``. Both only where ten patients are still at risk.
    """
    labels = ["split", "kind", "model", "horizon"]
    grouped = [pd.DataFrame(columns=[*labels, "group", "n", "predicted", "observed", "ci_low", "ci_high"])]
    curves = [pd.DataFrame(columns=[*labels, "predicted", "observed"])]
    for part in slices(with_predictions(scores, [landmark])):
        if prediction_note(part, landmark) or note_at(part, landmark, FEWEST_AT_RISK):
            continue
        given = (*part.follow_up, part.lrfs(landmark), landmark)
        grouped.append(_labelled(part, metrics.calibration_groups(*given, groups), landmark))
        curves.append(_labelled(part, metrics.calibration_curve(*given).dropna(), landmark))
    return stacked(grouped), stacked(curves)


# ---------------------------------------------------------------- decisions


def net_benefit_table(scores: pd.DataFrame, landmarks: Sequence[float], thresholds: Sequence[float]) -> pd.DataFrame:
    """Return decision curves at every landmark that the follow-up reaches.

    Returns
    -------
    DataFrame
        ``split, kind, model, horizon, threshold, n_positive, net_benefit, treat_all, treat_none,
        interventions_avoided, enough``; `enough` where five patients at least lie on both sides of the threshold.
    """
    columns = ["split", "kind", "model", "horizon", "threshold", "n_positive", "net_benefit", "treat_all", "treat_none"]
    tables = [pd.DataFrame(columns=[*columns, "interventions_avoided", "enough"])]
    for part in slices(with_predictions(scores, landmarks)):
        for landmark in landmarks:
            if prediction_note(part, landmark) or beyond_note(part, landmark):
                continue
            table = metrics.net_benefit(*part.follow_up, 1 - part.lrfs(landmark), landmark, thresholds)
            fewer = np.minimum(table["n_positive"], len(part.rows) - table["n_positive"])
            tables.append(_labelled(part, table.assign(enough=fewer >= FEWEST_IN_GROUP), landmark))
    return stacked(tables)


def net_benefit_rows(scores: pd.DataFrame, landmarks: Sequence[float], thresholds: Sequence[float]) -> pd.DataFrame:
    """Return the net benefit at a few thresholds named beforehand, as metric ``net_benefit_<threshold>``."""
    rows = []
    for part in slices(with_predictions(scores, landmarks)):
        for landmark in landmarks:
            why = prediction_note(part, landmark) or beyond_note(part, landmark)
            for threshold in thresholds:
                estimate = undefined(why) if why else _net_benefit(part, landmark, threshold)
                rows.append(metric_row(part, f"net_benefit_{threshold:g}", landmark, estimate))
    return metric_table(rows)


def _net_benefit(part: Slice, landmark: float, threshold: float) -> Estimate:
    row = metrics.net_benefit(*part.follow_up, 1 - part.lrfs(landmark), landmark, [threshold]).iloc[0]
    positive = int(row["n_positive"])
    if np.isnan(row["net_benefit"]):
        return undefined(f"the {positive} of {len(part.rows)} above the threshold are not followed to {landmark:g}")
    few = min(positive, len(part.rows) - positive) < FEWEST_IN_GROUP
    note = f"{positive} of {len(part.rows)} above the threshold" if few else ""
    return Estimate(float(row["net_benefit"]), np.nan, np.nan, note)


# ---------------------------------------------------------------- risk groups


def training_cutoffs(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the cut-off of every model and kind: the median of training scores, and from which it was taken.

    Returns
    -------
    DataFrame
        ``model, kind, cutoff, learned_from``. A training kind has its own median; validation takes that of the
        cross-fitted scores, or of the apparent ones where there are none; without training scores that of the
        table's own column ``cutoff``, learned elsewhere; else it is empty.
    """
    parts = list(slices(scores))
    medians = {(p.model, p.kind): inference.median_cutoff(p.risk).value for p in parts if p.split == "training"}
    rows = []
    for part in parts:
        sources = [part.kind] if part.split == "training" else ["cross_fitted", "apparent"]
        source = next((s for s in sources if (part.model, s) in medians), "")
        given = part.rows[CUTOFF].max() if CUTOFF in part.rows and part.split == "validation" else np.nan
        source = source or ("the table" if np.isfinite(given) else "")
        rows.append((part.model, part.kind, medians.get((part.model, source), given), source))
    return pd.DataFrame(rows, columns=["model", "kind", "cutoff", "learned_from"])


def with_groups(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the score rows with ``cutoff`` and ``group`` (high: risk above it), those without one left out."""
    rows = scores.drop(columns=CUTOFF, errors="ignore").merge(training_cutoffs(scores), on=["model", "kind"])
    rows = rows.dropna(subset="cutoff")
    return rows.assign(group=np.where(rows["risk"] > rows["cutoff"], "high", "low"))


def risk_group_rows(scores: pd.DataFrame) -> pd.DataFrame:
    """Return ``hazard_ratio`` (high to low, Wald interval) and ``logrank_p`` for the training cut-off.

    In training the note says that the p-value is no evidence: the cut-off, and for apparent scores the score too,
    was learned from the same patients.
    """
    cutoffs = training_cutoffs(scores).set_index(["model", "kind"])["cutoff"]
    rows = []
    for part in slices(scores):
        ratio, p = _compare_groups(part, cutoffs[part.model, part.kind])
        rows.append(metric_row(part, "hazard_ratio", np.nan, ratio))
        rows.append(metric_row(part, "logrank_p", np.nan, p))
    return metric_table(rows)


NOT_EVIDENCE = {
    "apparent": "not evidence: score and cut-off were learned from these patients",
    "cross_fitted": "not evidence: the cut-off was learned from these patients",
    "validation": "",
}


def _compare_groups(part: Slice, cutoff: float) -> tuple[Estimate, Estimate]:
    if np.isnan(cutoff):
        why = undefined("no training scores of this model to take a cut-off from")
        return why, why
    high = inference.apply_cutoff(part.risk, inference.Cutoff(cutoff))
    if high.all() or not high.any():
        why = undefined(f"all {len(high)} patients lie on one side of the training cut-off")
        return why, why
    note = NOT_EVIDENCE[part.kind]
    log_ratio = metrics.calibration_slope_interval(*part.follow_up, high.astype(float))
    ratio = Estimate(*np.exp(log_ratio[:3]), _with_note(log_ratio, note).note)
    p = metrics.logrank(*part.follow_up, high).p
    return ratio, Estimate(p, np.nan, np.nan, note if np.isfinite(p) else "no event")


def group_curves(grouped: pd.DataFrame, ticks: int = 6) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return Kaplan-Meier curves of the groups of one model and kind, and their numbers at risk.

    Parameters
    ----------
    grouped : DataFrame
        From `with_groups`, one model and kind.
    ticks : int
        About how many times the numbers at risk are given at.

    Returns
    -------
    curves, at_risk : DataFrame
        As `figures.kaplan_meier_plot` takes them.
    """
    times = tick_times(grouped["time_months"].max(), ticks)
    curves, at_risk = [], []
    for group in ("low", "high"):
        rows = grouped[grouped["group"] == group]
        if len(rows):
            curves.append(metrics.kaplan_meier(rows["time_months"], rows["event"]).assign(group=group))
            followed = metrics.at_risk(rows["time_months"], times)
            at_risk.append(pd.DataFrame({"group": group, "time": times, "at_risk": followed}))
    return pd.concat(curves, ignore_index=True), pd.concat(at_risk, ignore_index=True)


def tick_times(last: float, ticks: int = 6) -> np.ndarray:
    """Return round times from 0 up to `last`, about as many as `ticks`; whole years where the unit may be months."""
    steps = np.sort([*np.outer(10.0 ** np.arange(-3, 6), [1, 2.5, 5]).ravel(), 12, 24])
    step = steps[np.searchsorted(steps, last / ticks)]
    return np.arange(0, last * (1 + 1e-9), step)


# ---------------------------------------------------------------- for reading


def interval_text(value: float, low: float, high: float, digits: int = 2) -> str:
    """Write ``0.75 (0.60 to 0.88)``; a dash where the value is missing, no bracket where the interval is."""
    if not np.isfinite(value):
        return "–"
    # Adding zero turns a rounded -0.0 into 0.0.
    text, *limits = (f"{round(number, digits) + 0.0:.{digits}f}" for number in (value, low, high))
    return f"{text} ({limits[0]} to {limits[1]})" if np.isfinite([low, high]).all() else text


def p_text(p: float) -> str:
    """Write a p-value: ``0.012``, or ``< 0.001``; a dash where it is missing."""
    if not np.isfinite(p):
        return "–"
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def in_words(row: pd.Series, digits: int = 3) -> str:
    """Write a row of metrics: a p-value, or a value with its interval."""
    if row["metric"].endswith("_p"):
        return p_text(float(row["value"]))
    return interval_text(*(float(row[c]) for c in ("value", "ci_low", "ci_high")), digits)


def wide(rows: pd.DataFrame, columns: str = "kind", digits: int = 3) -> pd.DataFrame:
    """Lay rows of metrics out for reading, values and intervals in words.

    Parameters
    ----------
    rows : DataFrame
        One metric, or several when `columns` is ``metric``.
    columns : str
        What the columns stand for: ``kind``, ``horizon_months`` or ``metric``.
    digits : int
        Decimals.

    Returns
    -------
    DataFrame
        A line for each kind and model, or each model when the columns are the kinds; a dash without a value.
    """
    index = [c for c in ("kind", "model") if c != columns]
    words = rows.assign(words=[in_words(row, digits) for _, row in rows.iterrows()])
    words["kind"] = pd.Categorical(words["kind"], [k for k in KINDS if k in set(rows["kind"])])
    words["model"] = pd.Categorical(words["model"], list(dict.fromkeys(rows["model"])))
    table = words.pivot_table("words", index, columns, aggfunc="first", observed=True)
    names = [f"{name:g}" if isinstance(name, float) else str(name) for name in table.columns]
    return table.set_axis(names, axis="columns").reset_index().astype(str).replace("nan", "–")
