"""The cohort: split and folds, Table 1, follow-up, patient flow, and the images of every patient prepared once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from joblib import delayed
from numpy.typing import ArrayLike

from rps_utils.curves import median_survival
from rps_utils.images import (
    Volume,
    clip_hu,
    crop_isotropic,
    crop_paths,
    load_pair,
    longest_diameter_mm,
    mask_corners,
    tight_box,
    tumour_side,
    volume_ml,
    write_volume,
)
from rps_utils.manifest import FILES, HASHES, LEAST_GROUPS, SPLITS, clinical_columns
from rps_utils.progress import in_parallel
from rps_utils.scores import DIED, by_cause

# ---------------------------------------------------------------- who learns, who is tested


def draw_split(time: pd.Series, event: pd.Series, seed: int, *, training_share: float = 0.75) -> np.ndarray:
    """Draw ``training`` or ``validation`` for every patient, alike in events and in times.

    Patients are ranked by event and time and cut into as many neighbourhoods as there are places in validation;
    one patient of each is drawn.

    Parameters
    ----------
    time, event : pandas.Series
        Months, 0/1.
    seed : int
        The same seed draws the same patients.
    training_share : float
        Between 0 and 1.
    """
    wanted = round(len(event) * (1 - training_share))
    if not 0 < wanted < len(event):
        raise ValueError(f"training_share = {training_share} leaves a split of {len(event)} patients empty")
    draw = np.random.default_rng([seed, 1])
    chosen = [draw.choice(part) for part in np.array_split(_by_outcome(time, event), wanted)]
    return np.where(np.isin(np.arange(len(event)), chosen), "validation", "training")


def draw_folds(cohort: pd.DataFrame, folds: int, seed: int) -> pd.Series:
    """Deal the training patients into folds that are alike in events and in times.

    Parameters
    ----------
    cohort : pandas.DataFrame
        With ``split, time_months, event``.
    folds : int
        Number of folds K.
    seed : int

    Returns
    -------
    pandas.Series of Int64
        0..K-1 in training, missing in validation. Sizes, and numbers of events, differ by one at most.
    """
    training = cohort[cohort["split"] == "training"]
    if training["event"].sum() < folds:
        raise ValueError(f"folds = {folds}, but training has {training['event'].sum()} events: choose fewer folds")
    dealt = stratified_folds(training["time_months"], training["event"], folds, [seed, 2])
    return pd.Series(dealt, index=training.index, dtype="Int64").reindex(cohort.index)


def group_folds(cohort: pd.DataFrame, column: str) -> pd.Series:
    """Make a fold of each value of a column, in alphabetical order: the cross-fitted scores then leave it out.

    Parameters
    ----------
    cohort : pandas.DataFrame
        With ``split`` and `column`, ``centre`` for example.
    column : str

    Returns
    -------
    pandas.Series of Int64
        0..K-1 in training, missing in validation.

    Raises
    ------
    ValueError
        Fewer than three groups in training, a value is missing, or a group has no event.
    """
    training = cohort[cohort["split"] == "training"]
    events = (training["event"] == 1).groupby(training[column], dropna=False).sum()
    if len(events) < LEAST_GROUPS or events.index.isna().any() or not events.all():
        found = ", ".join(f"{name}: {count} events" for name, count in events.items())
        raise ValueError(f"split_by = {column!r} gives {found}; needed: {LEAST_GROUPS} groups or more, events in each")
    number = {name: k for k, name in enumerate(sorted(events.index))}
    return training[column].map(number).astype("Int64").reindex(cohort.index)


def stratified_folds(time: ArrayLike, event: ArrayLike, folds: int, seed: int | Sequence[int]) -> np.ndarray:
    """Deal patients into folds that are alike in events and in times.

    Parameters
    ----------
    time, event : array_like, shape (n,)
        Months, 0/1.
    folds : int
        Number of folds K.
    seed : int or sequence of int
        For ``numpy.random.default_rng``.

    Returns
    -------
    numpy.ndarray of int, shape (n,)
        0..K-1; every K neighbours in the ranking by event and time get one fold each, in a random order.
    """
    draw = np.random.default_rng(seed)
    ranked = _by_outcome(time, event)
    fold = np.empty(len(ranked), int)
    rounds = -(-len(ranked) // folds)
    fold[ranked] = np.concatenate([draw.permutation(folds) for _ in range(rounds)])[: len(ranked)]
    return fold


def _by_outcome(time: ArrayLike, event: ArrayLike) -> np.ndarray:
    return np.lexsort((np.asarray(time), -np.asarray(event, int)))


def study_table(manifest: pd.DataFrame, folds: int, seed: int, split_by: str = "") -> pd.DataFrame:
    """Return the cohort as later steps read it: ids, split, fold, outcome, then all other columns but files.

    Parameters
    ----------
    manifest : pandas.DataFrame
        From `manifest.read_manifest`. Without a column ``split`` one is drawn (75/25) by `seed`.
    folds, seed : int
        See `draw_folds`.
    split_by : str
        Column whose values become the folds (`group_folds`); empty: they are drawn.

    Returns
    -------
    pandas.DataFrame
        ``event`` is 1 = local recurrence and 0 = none seen; where the manifest has deaths without it (``event`` 2),
        a column ``died`` marks them. The models censor at death; evaluation shows what that means.
    """
    cohort = by_cause(manifest.drop(columns=[c for c in (*FILES, *HASHES) if c in manifest]))
    if "split" not in cohort:
        cohort["split"] = draw_split(cohort["time_months"], cohort["event"], seed)
    cohort["fold"] = group_folds(cohort, split_by) if split_by else draw_folds(cohort, folds, seed)
    first = ["patient_id", "split", "fold", "time_months", "event", *([DIED] if DIED in cohort else [])]
    return cohort[[*first, *(c for c in cohort.columns if c not in first)]]


# ---------------------------------------------------------------- description


def table_one(cohort: pd.DataFrame, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Describe the patients of both splits.

    Parameters
    ----------
    cohort : pandas.DataFrame
        With ``split`` and the columns to describe.
    columns : sequence of str, optional
        All clinical columns if not given.

    Returns
    -------
    pandas.DataFrame
        ``characteristic, level, all, training, validation, missing, smd``. Numbers as median [quartiles],
        categories as n (%) of the known. ``smd`` is the standardised mean difference of the splits: it measures
        how far they differ, which a p-value, driven by the number of patients, does not.
    """
    columns = clinical_columns(cohort.columns) if columns is None else columns
    size = {name: len(rows) for name, rows in _groups(cohort).items()}
    rows = [{"characteristic": "patients", "level": "", **{name: str(n) for name, n in size.items()}}]
    for column in columns:
        described = _numbers(cohort, column) if cohort[column].dtype.kind in "fi" else _levels(cohort, column)
        described[0] |= {
            "missing": str(int(cohort[column].isna().sum())),
            "smd": f"{standardised_difference(cohort[column], cohort['split'] == 'training'):.2f}",
        }
        rows += described
    return pd.DataFrame(rows).fillna("")


def _groups(cohort: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {"all": cohort, **{name: cohort[cohort["split"] == name] for name in SPLITS}}


def _numbers(cohort: pd.DataFrame, column: str) -> list[dict[str, str]]:
    quartiles = {name: rows[column].quantile([0.5, 0.25, 0.75]) for name, rows in _groups(cohort).items()}
    words = {name: f"{q.iloc[0]:.3g} [{q.iloc[1]:.3g}, {q.iloc[2]:.3g}]" for name, q in quartiles.items()}
    return [{"characteristic": column, "level": "median [quartiles]", **words}]


def _levels(cohort: pd.DataFrame, column: str) -> list[dict[str, str]]:
    rows = []
    for level in sorted(cohort[column].dropna().unique()):
        counts = {name: ((g[column] == level).sum(), g[column].notna().sum()) for name, g in _groups(cohort).items()}
        words = {name: f"{n} ({100 * n / max(known, 1):.0f}%)" for name, (n, known) in counts.items()}
        rows.append({"characteristic": column, "level": str(level), **words})
    return rows


def standardised_difference(values: pd.Series, first: pd.Series) -> float:
    """Return the standardised mean difference of a column between two groups; below 0.1 it is usually called small.

    Numbers: difference of means over the pooled SD. Categories: the same for all proportions together.

    Parameters
    ----------
    values : pandas.Series
        Numbers or categories; missing values are left out.
    first : pandas.Series of bool
        True for the first group.

    References
    ----------
    Yang & Dalton, SAS Global Forum 2012.
    """
    known = values.notna()
    values, first = values[known], first[known]
    numbers = values.dtype.kind in "fi"
    # Of k proportions the last follows from the others.
    parts = values.astype(float).to_frame() if numbers else pd.get_dummies(values, dtype=float).iloc[:, 1:]
    groups = parts[first].to_numpy(), parts[~first].to_numpy()
    if min(map(len, groups)) < 2:
        return float("nan")
    if not parts.shape[1]:  # one category, shared by all
        return 0.0
    difference = groups[0].mean(axis=0) - groups[1].mean(axis=0)
    pooled = sum(np.atleast_2d(np.cov(g.T, bias=not numbers)) for g in groups) / 2
    return float(np.sqrt(max(difference @ np.linalg.pinv(pooled) @ difference, 0.0)))


def follow_up(cohort: pd.DataFrame) -> pd.DataFrame:
    """Return patients, events and median follow-up by split.

    Returns
    -------
    pandas.DataFrame
        ``split, patients, events, median_months, ci_low, ci_high, note``, and ``deaths`` after the events where
        the cohort has any. The median is the reverse Kaplan-Meier one, with a log-log interval: recurrences (and
        deaths, where they are told apart) end the observation of patients who might have been followed for
        longer, so they count as censored here.

    References
    ----------
    Schemper & Smith, Control Clin Trials 1996.
    """
    rows = []
    for name, group in _groups(cohort).items():
        median = median_survival(group["time_months"], left_observation(group))
        rows.append({"split": name, **_counts(group), "median_months": median.value})
        rows[-1] |= {"ci_low": median.ci_low, "ci_high": median.ci_high, "note": median.note}
    return pd.DataFrame(rows)


def left_observation(rows: pd.DataFrame) -> pd.Series:
    """Return 1 for patients whose observation ended without recurrence or death: the event of reverse Kaplan-Meier."""
    return 1 - rows["event"] - rows.get(DIED, 0)


def _counts(rows: pd.DataFrame) -> dict[str, int]:
    deaths = {"deaths": int(rows[DIED].sum())} if DIED in rows else {}
    return {"patients": len(rows), "events": int(rows["event"].sum()), **deaths}


def cohort_flow(cohort: pd.DataFrame) -> pd.DataFrame:
    """Return the way of the patients through the study, to the single folds: ``step, patients, events[, deaths]``."""
    steps = [
        ("in the manifest, images and outcome sound", cohort),
        ("of these with every clinical value", cohort.dropna(subset=clinical_columns(cohort.columns))),
        *((name, cohort[cohort["split"] == name]) for name in SPLITS),
        *((f"training, fold {int(k)}", rows) for k, rows in cohort.groupby("fold")),
    ]
    return pd.DataFrame([{"step": step, **_counts(rows)} for step, rows in steps])


# ---------------------------------------------------------------- images


def prepare_patient(
    patient_id: str, image: str | Path, mask: str | Path, crops: str | Path, spacing: float, margin_mm: float
) -> dict[str, Any]:
    """Store the isotropic crop of one patient and return what the images show.

    Parameters
    ----------
    patient_id : str
    image, mask : str or Path
        Original CT and mask.
    crops : str or Path
        Folder for the crops.
    spacing, margin_mm : float
        See `images.crop_isotropic`.

    Returns
    -------
    dict
        Matrix and spacing of the scan; side, volume, longest diameter and median HU of the tumour; spacing, edges,
        margin and tumour volume of the crop, and ``free_margin_mm``: the least distance of the tumour from the
        crop's border. Below ``margin_mm`` the scan ends there.
    """
    ct, labels = load_pair(image, mask)
    small_ct, small_mask = crop_isotropic(ct, labels, spacing, margin_mm)
    for volume, path in zip((small_ct, small_mask), crop_paths(crops, patient_id), strict=True):
        write_volume(volume, path)
    box = tight_box(labels)
    tumour = labels.box(box)
    return {
        "patient_id": patient_id,
        "matrix": " x ".join(map(str, ct.values.shape)),
        "spacing_in_plane_mm": round(float(ct.spacing[0]), 3),
        "slice_spacing_mm": round(float(ct.spacing[2]), 3),
        "side": tumour_side(ct, labels),
        "volume_ml": round(volume_ml(tumour), 1),
        "longest_diameter_mm": round(longest_diameter_mm(tumour), 1),
        "median_hu": round(float(np.median(clip_hu(ct.values[box][tumour.values != 0]))), 1),
        "crop": " x ".join(map(str, small_ct.values.shape)),
        "crop_spacing_mm": spacing,
        "crop_volume_ml": round(volume_ml(small_mask), 1),
        "margin_mm": margin_mm,
        "free_margin_mm": round(free_margin_mm(small_mask), 1),
    }


def free_margin_mm(mask: Volume) -> float:
    """Return the least distance in mm from a mask to the border of its volume."""
    low, high = mask_corners(mask)
    return float((np.minimum(low, np.array(mask.values.shape) - 1 - high) * mask.spacing).min())


def prepare_cohort(
    manifest: pd.DataFrame,
    root: str | Path,
    crops: str | Path,
    spacing: float,
    *,
    margin_mm: float,
    n_jobs: int = 1,
) -> pd.DataFrame:
    """Store the crops of all patients.

    Parameters
    ----------
    manifest : pandas.DataFrame
        With ``patient_id, image, mask``.
    root : str or Path
        Folder of the manifest, from which its paths start.
    crops, spacing, margin_mm
        See `prepare_patient`.
    n_jobs : int
        Processes.

    Returns
    -------
    pandas.DataFrame
        One row a patient, in the order of the manifest: see `prepare_patient`.
    """
    root = Path(root)
    jobs = (
        delayed(prepare_patient)(row.patient_id, root / row.image, root / row.mask, crops, spacing, margin_mm)
        for row in manifest.itertuples()
    )
    return pd.DataFrame(in_parallel(jobs, n_jobs, "patients prepared"))
