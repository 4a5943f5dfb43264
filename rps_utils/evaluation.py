"""From a table of scores to rows of metrics: one function an evaluation, for any table that passes the door.

Every function walks through the same slices (a kind and a model), with patients in the same order, so that all
models of a slice meet the same resamples. What is undefined stays empty, and ``note`` says why. Landmarks and tau
are in the unit of the column ``time_months``, whatever that is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from rps_utils import inference, metrics
from rps_utils.curves import Estimate, horizon_note
from rps_utils.scores import DIED, KINDS_OF_SPLIT, OWN_TIME, lrfs_column

METRIC_COLUMNS = [
    *("split", "kind", "model", "metric", "horizon_months", "value", "ci_low", "ci_high", "n", "events", "note"),
]
KINDS = [kind for kinds in KINDS_OF_SPLIT.values() for kind in kinds]
BAND_RESAMPLES = 500  # pointwise bands are for looking at; their limits move in the third digit beyond that
FEWEST_AT_RISK = 10
FEWEST_IN_GROUP = 5
D_CALIBRATION_BINS = 10
ERRORS = ("ici", "e50", "e90")


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


def discrimination_rows(scores: pd.DataFrame, *, tau: float, n_bootstrap: int = 2000, seed: int = 2026) -> pd.DataFrame:
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
        counts = inference.resample_counts(len(part.rows), replicates=n_bootstrap, seed=seed)
        rows.append(
            metric_row(part, "harrell_c", np.nan, inference.c_interval(*part.follow_up, part.risk, counts=counts))
        )
        rows.append(metric_row(part, "uno_c", tau, _uno(part, tau, counts)))
    return metric_table(rows)


def _uno(part: Slice, tau: float, counts: np.ndarray) -> Estimate:
    if why := note_at(part, tau):
        return undefined(why)
    estimate = inference.c_interval(*part.follow_up, part.risk, tau=tau, counts=counts)
    return with_note(estimate, note_at(part, tau, fewest=FEWEST_AT_RISK))


def with_note(estimate: Estimate, note: str) -> Estimate:
    """Put a note in front of an estimate's own."""
    return estimate._replace(note="; ".join(text for text in (note, estimate.note) if text))


def difference_rows(scores: pd.DataFrame, *, tau: float, n_bootstrap: int = 2000, seed: int = 2026) -> pd.DataFrame:
    """Return every paired difference of C between two models of a kind, on the patients that both have.

    Returns
    -------
    DataFrame
        Model ``A - B``; ``harrell_c_difference`` and ``uno_c_difference`` (up to tau) with BCa intervals. Two-sided
        p-values: ``harrell_c_difference_p`` and ``uno_c_difference_p`` by the infinitesimal-jackknife z (Uno: G
        taken as known), ``harrell_c_difference_permutation_p`` by `n_bootstrap` swaps of the two models' ranks.
    """
    rows = []
    for pair, other in _pairs(scores):
        counts = inference.resample_counts(len(pair.rows), replicates=n_bootstrap, seed=seed)
        harrell = inference.compare_c(
            *pair.follow_up, pair.risk, other, tau=None, counts=counts, permutations=n_bootstrap, seed=seed
        )
        rows += _difference_rows(pair, "harrell_c", np.nan, harrell)
        swapped = _p_value(harrell.p_permutation, harrell.difference.note)
        rows.append(metric_row(pair, "harrell_c_difference_permutation_p", np.nan, swapped))
        if why := note_at(pair, tau):
            rows += [metric_row(pair, f"uno_c_difference{end}", tau, undefined(why)) for end in ("", "_p")]
            continue
        uno = inference.compare_c(*pair.follow_up, pair.risk, other, tau=tau, counts=counts, permutations=0)
        rows += _difference_rows(pair, "uno_c", tau, uno)
    return metric_table(rows)


def _pairs(scores: pd.DataFrame) -> Iterator[tuple[Slice, np.ndarray]]:
    """Walk through pairs of models of a kind: the patients that both have, and the second model's risk."""
    for first, second in combinations(slices(scores), 2):
        if first.kind != second.kind:
            continue
        both = first.rows.merge(second.rows[["patient_id", "risk"]], on="patient_id", suffixes=("", "_other"))
        if len(both):
            pair = Slice(first.split, first.kind, f"{first.model} - {second.model}", both)
            yield pair, both["risk_other"].to_numpy(float)


def _difference_rows(pair: Slice, metric: str, horizon: float, result: inference.PairedDifference) -> list[dict]:
    why = result.difference.note or "the two scores order the patients alike"
    return [
        metric_row(pair, f"{metric}_difference", horizon, result.difference),
        metric_row(pair, f"{metric}_difference_p", horizon, _p_value(result.p, why)),
    ]


def _p_value(p: float, why: str) -> Estimate:
    return Estimate(p, np.nan, np.nan, "" if np.isfinite(p) else why)


# ---------------------------------------------------------------- at the landmarks


def td_auc_rows(
    scores: pd.DataFrame, landmarks: Sequence[float], *, n_bootstrap: int = 2000, seed: int = 2026
) -> pd.DataFrame:
    """Return the cumulative/dynamic AUC at every landmark and over them, with BCa intervals over patients.

    Returns
    -------
    DataFrame
        ``td_auc``, and ``integrated_td_auc``: the mean over the landmarks that have an AUC, which its note names,
        weighted by the recurrences between them (`metrics.integrated_td_auc`); it stands at the last of them.
    """
    rows = []
    for part in slices(scores):
        counts = inference.resample_counts(len(part.rows), replicates=n_bootstrap, seed=seed)
        for landmark in landmarks:
            rows.append(metric_row(part, "td_auc", landmark, _auc(part, landmark, counts)))
        rows.append(_integrated_auc_row(part, landmarks, counts))
    return metric_table(rows)


def _integrated_auc_row(part: Slice, landmarks: Sequence[float], counts: np.ndarray) -> dict:
    grid = [t for t in sorted(landmarks) if np.isfinite(metrics.td_auc(*part.follow_up, part.risk, t))]
    if not grid:
        return metric_row(part, "integrated_td_auc", max(landmarks), undefined("no landmark has an AUC"))
    few = note_at(part, grid[-1], fewest=FEWEST_AT_RISK)
    note = "; ".join(text for text in (few, "over " + ", ".join(f"{t:g}" for t in grid)) if text)
    given = (metrics.integrated_td_auc, *part.follow_up, part.risk, grid)
    estimate = inference.bootstrap_estimate(*given, counts=counts, note=note)
    return metric_row(part, "integrated_td_auc", grid[-1], estimate)


def auc_difference_rows(
    scores: pd.DataFrame, landmarks: Sequence[float], *, n_bootstrap: int = 2000, seed: int = 2026
) -> pd.DataFrame:
    """Return every paired difference of the AUC at every landmark between two models of a kind.

    Returns
    -------
    DataFrame
        Model ``A - B``; ``td_auc_difference`` with its BCa interval, and ``td_auc_difference_p``, two-sided, by
        influence functions (`influence.compare_auc`).
    """
    rows = []
    for pair, other in _pairs(scores):
        counts = inference.resample_counts(len(pair.rows), replicates=n_bootstrap, seed=seed)
        for landmark in landmarks:
            given = (*pair.follow_up, pair.risk, other, landmark)
            why = note_at(pair, landmark)
            difference = undefined(why) if why else inference.paired_difference(metrics.td_auc, *given, counts=counts)
            p = _p_value(np.nan if why else inference.compare_auc(*given).p, why or difference.note)
            rows.append(metric_row(pair, "td_auc_difference", landmark, difference))
            rows.append(metric_row(pair, "td_auc_difference_p", landmark, p))
    return metric_table(rows)


def _auc(part: Slice, landmark: float, counts: np.ndarray) -> Estimate:
    if why := note_at(part, landmark):
        return undefined(why)
    note = note_at(part, landmark, fewest=FEWEST_AT_RISK)
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
    """Return the rows of those models that predict LRFS at one of the landmarks at least."""
    columns = [c for c in map(lrfs_column, landmarks) if c in scores]
    models = scores.loc[scores[columns].notna().any(axis=1), "model"].unique() if columns else []
    return scores[scores["model"].isin(models)]


def brier_rows(
    scores: pd.DataFrame, landmarks: Sequence[float], *, n_bootstrap: int = 2000, seed: int = 2026
) -> pd.DataFrame:
    """Return Brier scores at every landmark and integrated over them, beside Kaplan-Meier's, with BCa intervals.

    Returns
    -------
    DataFrame
        Only of models that predict LRFS. At a landmark: ``brier``, ``brier_km`` (of the Kaplan-Meier curve of the
        same patients, which knows nobody) and ``ipa`` = 1 - brier / brier_km. Integrated: ``ibs``, ``ibs_km`` and
        ``integrated_ipa``, by the trapezoid over the landmarks that are predicted and reached, which the note
        names; they stand at the last of them and need two.
    """
    rows = []
    for part in slices(with_predictions(scores, landmarks)):
        counts = inference.resample_counts(len(part.rows), replicates=n_bootstrap, seed=seed)
        for name, metric in (("brier", metrics.brier_score), ("ipa", metrics.ipa)):
            for landmark in landmarks:
                rows.append(metric_row(part, name, landmark, _of_lrfs(metric, part, landmark, counts)))
        for landmark in landmarks:
            rows.append(metric_row(part, "brier_km", landmark, _of_curve(part, landmark, counts)))
        rows += _integrated_rows(part, landmarks, counts)
    return metric_table(rows)


def _of_curve(part: Slice, landmark: float, counts: np.ndarray) -> Estimate:
    if why := beyond_note(part, landmark):
        return undefined(why)
    note = note_at(part, landmark, fewest=FEWEST_AT_RISK)
    return inference.bootstrap_estimate(metrics.null_brier, *part.follow_up, landmark, counts=counts, note=note)


def _of_lrfs(metric: inference.Metric, part: Slice, landmark: float, counts: np.ndarray) -> Estimate:
    if why := prediction_note(part, landmark) or beyond_note(part, landmark):
        return undefined(why)
    given = (*part.follow_up, part.lrfs(landmark), landmark)
    note = note_at(part, landmark, fewest=FEWEST_AT_RISK)
    return inference.bootstrap_estimate(metric, *given, counts=counts, note=note)


def _integrated_rows(part: Slice, landmarks: Sequence[float], counts: np.ndarray) -> list[dict]:
    grid = _usable_landmarks(part, landmarks)
    if len(grid) < 2:
        why = undefined(f"needs two landmarks that {part.model} predicts and the follow-up reaches")
        return [metric_row(part, name, max(landmarks), why) for name in ("ibs", "ibs_km", "integrated_ipa")]
    matrix = np.column_stack([part.lrfs(t) for t in grid])
    note = "over " + ", ".join(f"{t:g}" for t in grid)
    plans: dict[str, tuple[inference.Metric, tuple[Any, ...]]] = {
        "ibs": (metrics.integrated_brier, (matrix, grid)),
        "ibs_km": (metrics.integrated_null_brier, (grid,)),
        "integrated_ipa": (metrics.integrated_ipa, (matrix, grid)),
    }
    estimates = {
        name: inference.bootstrap_estimate(metric, *part.follow_up, *given, counts=counts, note=note)
        for name, (metric, given) in plans.items()
    }
    return [metric_row(part, name, grid[-1], estimate) for name, estimate in estimates.items()]


def _usable_landmarks(part: Slice, landmarks: Sequence[float]) -> list[float]:
    """Return the landmarks that are predicted for everybody and that the follow-up reaches, in rising order."""
    return [t for t in sorted(landmarks) if not (prediction_note(part, t) or beyond_note(part, t))]


# ---------------------------------------------------------------- calibration


def calibration_rows(
    scores: pd.DataFrame, landmarks: Sequence[float], *, n_bootstrap: int = 2000, seed: int = 2026
) -> pd.DataFrame:
    """Return O/E, ICI, E50 and E90 at every landmark, calibration slope, O/E of all follow-up, and D-calibration.

    Returns
    -------
    DataFrame
        Only of models that predict LRFS. ``observed_expected`` at each landmark; ``ici``, ``e50``, ``e90`` with BCa
        intervals, and a note where fewer than ten patients are still at risk. The ``calibration_slope`` belongs to
        log(-log LRFS) at the last landmark with predictions within (0, 1); in a proportional-hazards model that is
        the linear predictor plus a constant, so any landmark gives the same. ``observed_expected_overall`` and
        ``d_calibration_p`` need the column ``lrfs_own``.
    """
    rows = []
    for part in slices(with_predictions(scores, landmarks)):
        rows += [_slope_row(part, landmarks), _overall_row(part), _d_calibration_row(part, landmarks)]
        counts = inference.resample_counts(len(part.rows), replicates=n_bootstrap, seed=seed)
        for landmark in landmarks:
            rows.append(metric_row(part, "observed_expected", landmark, _observed_expected(part, landmark)))
            rows += _ici_rows(part, landmark, counts)
    return metric_table(rows)


def _own_time(part: Slice) -> np.ndarray:
    """Return predicted LRFS at every patient's own last time; NaN where the table does not give it."""
    return part.rows.get(OWN_TIME, pd.Series(np.nan, part.rows.index)).to_numpy(float)


def _own_time_note(part: Slice, own: np.ndarray) -> str:
    missing = int(np.isnan(own).sum())
    if missing == len(own):
        return f"{part.model} gives no {OWN_TIME}"
    return f"{missing} of {len(own)} patients have no {OWN_TIME}" if missing else ""


def _overall_row(part: Slice) -> dict:
    own = _own_time(part)
    why = _own_time_note(part, own) or ("a predicted LRFS of 0 has no finite hazard" if own.min() == 0 else "")
    estimate = undefined(why) if why else metrics.observed_expected_overall(part.follow_up[1], own)
    return metric_row(part, "observed_expected_overall", np.nan, estimate)


def _d_calibration_row(part: Slice, landmarks: Sequence[float]) -> dict:
    """Test D-calibration with follow-up cut at the last usable landmark, so that no curve is read beyond it."""
    grid = _usable_landmarks(part, landmarks)
    if not grid:
        why = f"needs a landmark that {part.model} predicts and the follow-up reaches"
        return metric_row(part, "d_calibration_p", max(landmarks), undefined(why))
    time, event = part.follow_up
    later = time > grid[-1]
    own = np.where(later, part.lrfs(grid[-1]), _own_time(part))
    if why := _own_time_note(part, own):
        return metric_row(part, "d_calibration_p", grid[-1], undefined(why))
    few = len(time) < 5 * D_CALIBRATION_BINS
    note = f"only {len(time)} patients for {D_CALIBRATION_BINS} bins" if few else ""
    result = metrics.d_calibration(event & ~later, own, bins=D_CALIBRATION_BINS)
    return metric_row(part, "d_calibration_p", grid[-1], Estimate(result.p, np.nan, np.nan, note))


def _observed_expected(part: Slice, landmark: float) -> Estimate:
    if why := prediction_note(part, landmark) or beyond_note(part, landmark):
        return undefined(why)
    estimate = metrics.observed_expected(*part.follow_up, part.lrfs(landmark), landmark)
    return estimate if estimate.note else estimate._replace(note=note_at(part, landmark, fewest=FEWEST_AT_RISK))


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


def _ici_rows(part: Slice, landmark: float, counts: np.ndarray) -> list[dict]:
    why = prediction_note(part, landmark) or note_at(part, landmark)
    estimates = [undefined(why)] * 3
    if not why:
        given = (*part.follow_up, part.lrfs(landmark), landmark)
        note = note_at(part, landmark, fewest=FEWEST_AT_RISK)
        estimates = inference.joint_estimates(metrics.ici_e50_e90, *given, counts=counts, note=note)
    return [metric_row(part, *named, e) for named, e in zip(((n, landmark) for n in ERRORS), estimates, strict=True)]


def calibration_tables(
    scores: pd.DataFrame, landmark: float, *, groups: int = 4, seed: int = 2026
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return predicted against observed risk at a landmark, in groups and as a smooth curve.

    Returns
    -------
    groups : DataFrame
        ``split, kind, model, horizon, group, n, predicted, observed, ci_low, ci_high`` (risks of recurrence).
    curves : DataFrame
        ``split, kind, model, horizon, predicted, observed, ci_low, ci_high``, with a pointwise percentile band over
        500 resamples. Both only where ten patients are still at risk.
    """
    labels = ["split", "kind", "model", "horizon"]
    grouped = [pd.DataFrame(columns=[*labels, "group", "n", "predicted", "observed", "ci_low", "ci_high"])]
    curves = [pd.DataFrame(columns=[*labels, "predicted", "observed", "ci_low", "ci_high"])]
    for part in slices(with_predictions(scores, [landmark])):
        if prediction_note(part, landmark) or note_at(part, landmark, fewest=FEWEST_AT_RISK):
            continue
        given = (*part.follow_up, part.lrfs(landmark), landmark)
        grouped.append(_labelled(part, metrics.calibration_groups(*given, groups=groups), landmark))
        counts = inference.resample_counts(len(part.rows), replicates=BAND_RESAMPLES, seed=seed)
        curves.append(_labelled(part, metrics.calibration_band(*given, counts).dropna(), landmark))
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


def net_benefit_bands(
    scores: pd.DataFrame, landmark: float, thresholds: Sequence[float], *, seed: int = 2026
) -> pd.DataFrame:
    """Return decision curves at one landmark with pointwise percentile bands over 500 resamples of patients.

    Returns
    -------
    DataFrame
        ``split, kind, model, horizon, threshold, net_benefit, ci_low, ci_high, treat_all``, only where five patients
        at least lie on both sides of the threshold.
    """
    curves = net_benefit_table(scores, [landmark], thresholds)
    curves, bands = curves[curves["enough"].astype(bool)], []
    for part in slices(scores):
        own = curves[(curves["kind"] == part.kind) & (curves["model"] == part.model)]
        counts = inference.resample_counts(len(part.rows), replicates=BAND_RESAMPLES, seed=seed)
        for row in own.itertuples():
            given = (*part.follow_up, 1 - part.lrfs(landmark), landmark, row.threshold)
            values = inference.replicate(metrics.net_benefit_at, counts, *given)
            bands.append(inference.interval_from(values, row.net_benefit, method="percentile"))
    limits = pd.DataFrame(bands, columns=["ci_low", "ci_high"], index=curves.index, dtype=float)
    return curves.drop(columns=["n_positive", "treat_none", "interventions_avoided", "enough"]).join(limits)


def net_benefit_rows(
    scores: pd.DataFrame,
    landmarks: Sequence[float],
    thresholds: Sequence[float],
    *,
    n_bootstrap: int = 2000,
    seed: int = 2026,
) -> pd.DataFrame:
    """Return net benefits at a few thresholds named beforehand, with BCa intervals over patients.

    Returns
    -------
    DataFrame
        ``net_benefit_<threshold>`` of acting on the model, ``net_benefit_all_<threshold>`` of acting on everybody,
        and ``net_benefit_over_all_<threshold>``, their paired difference. Acting on nobody is 0.
    """
    rows = []
    for part in slices(with_predictions(scores, landmarks)):
        counts = inference.resample_counts(len(part.rows), replicates=n_bootstrap, seed=seed)
        for landmark in landmarks:
            why = prediction_note(part, landmark) or beyond_note(part, landmark)
            for threshold in thresholds:
                three = [undefined(why)] * 3 if why else _net_benefits(part, landmark, threshold, counts)
                for name, estimate in zip(("", "all_", "over_all_"), three, strict=True):
                    rows.append(metric_row(part, f"net_benefit_{name}{threshold:g}", landmark, estimate))
    return metric_table(rows)


def _net_benefits(part: Slice, landmark: float, threshold: float, counts: np.ndarray) -> list[Estimate]:
    """Return the net benefit of acting on the model, on everybody, and the difference."""
    risk, patients = 1 - part.lrfs(landmark), len(part.rows)
    positive = int((risk >= threshold).sum())
    few = min(positive, patients - positive) < FEWEST_IN_GROUP
    followed = note_at(part, landmark, fewest=FEWEST_AT_RISK)
    own = f"{positive} of {patients} above the threshold" if few else followed
    if np.isnan(metrics.net_benefit_at(*part.follow_up, risk, landmark, threshold)):
        own = f"the {positive} of {patients} above the threshold are not followed to {landmark:g}"
    plans = (
        (metrics.net_benefit_at, risk, own),
        (metrics.net_benefit_at, np.ones(patients), followed),
        (metrics.gain_over_all, risk, own),
    )
    return [
        inference.bootstrap_estimate(plan, *part.follow_up, x, landmark, threshold, counts=counts, note=note)
        for plan, x, note in plans
    ]


# ---------------------------------------------------------------- for reading


def interval_text(value: float, low: float, high: float, *, digits: int = 2) -> str:
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
    value, low, high = (float(row[c]) for c in ("value", "ci_low", "ci_high"))
    return interval_text(value, low, high, digits=digits)


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
