"""A finished run applied to new patients; nothing is fitted here.

Everything comes from files of the run folder: how crops and patches were cut, networks and the scales of their
scores, the radiomic model, the clinical designs, the Cox models with their baseline, the cut-offs and, where
the run has them, the conformal bounds and what training patients look like. The result is a score table of kind
``validation``, which ``rps evaluate`` reads.

The new manifest passes the same door as that of a run, with these differences: there may be few patients, a
clinical column may be empty, and ``time_months`` and ``event`` may both be absent. Then the table has no outcome, and
cannot be evaluated. A column ``split`` is not asked: whoever comes here is new. That is held to the images, not to the
names: an image from which the run learned is refused, altered, mirrored or shifted too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from rps_utils.cohort.contract import (
    DISTINCT,
    OUTCOME,
    ManifestError,
    Problem,
    format_problems,
    is_missing,
)
from rps_utils.cohort.duplicates import CUBES, near_equal_pairs, patch_views, told_apart
from rps_utils.cohort.manifest import check_manifest, read_cells
from rps_utils.deep.checkpoints import read_card, read_network
from rps_utils.deep.training import one_thread, predict_risk
from rps_utils.files import write_csv
from rps_utils.finished.models import FrozenRun, digest, load_run, read_networks
from rps_utils.imaging import likeness
from rps_utils.imaging.crops import prepare_cohort
from rps_utils.imaging.features import extract_cohort
from rps_utils.imaging.patches import PatchSettings, make_patches, read_patches
from rps_utils.imaging.regions import right_sided
from rps_utils.intervals.conformal import bound_column, lower_bound
from rps_utils.learning.cox import Design
from rps_utils.learning.crossfit import LeftOut, MadeScore, score_new
from rps_utils.learning.fusion import FUSED, judge, log_hazard
from rps_utils.learning.harmonise import CENTRE
from rps_utils.learning.radiomics import RadiomicModel
from rps_utils.run_folder import RunFolder
from rps_utils.scores import CUTOFF, MADE_BY, OWN_TIME, READY_MADE, by_cause, ready_made_scores
from rps_utils.texts.cells import NUMBER
from rps_utils.texts.counts import how_many


def clinical_problems(cells: pd.DataFrame, designs: Sequence[Design]) -> list[Problem]:
    """List what keeps the clinical columns of new patients from entering stored designs.

    Parameters
    ----------
    cells : DataFrame
        From `manifest.read_cells`. An empty cell is no problem: the design fills it.
    designs : sequence of Design
    """
    found = [problem for design in designs for problem in _design_problems(cells, design)]
    return list(dict.fromkeys(found))


def _design_problems(cells: pd.DataFrame, design: Design) -> Iterator[Problem]:
    for column in (*design.medians, *design.seen):
        if column not in cells:
            remedy = "add it; leave cells empty where the value is unknown"
            yield Problem(None, "", column, "no such column", "the clinical columns of the run", remedy)
            continue
        given = cells.loc[~is_missing(cells[column]), column]
        if column in design.medians:
            wrong, allowed = given[~given.str.fullmatch(NUMBER)], "a number, as in the run"
        else:
            wrong, allowed = given[~given.isin(design.seen[column])], ", ".join(design.seen[column])
        for line, text in wrong.items():
            remedy = "write it as the run's training patients have it, or empty the cell: it is filled as in training"
            yield Problem(line, cells.loc[line, "patient_id"], column, text, allowed, remedy)


def _centre_problems(cells: pd.DataFrame, radiomics: RadiomicModel) -> Iterator[Problem]:
    """List who has no centre, where the radiomic model has to take the effect of the centre out."""
    if radiomics.harmonisation is None:
        return
    allowed, remedy = "the centre of every patient", "name it: the run's radiomic features are harmonised over centres"
    if CENTRE not in cells:
        yield Problem(None, "", CENTRE, "no such column", allowed, remedy)
        return
    for line in cells.index[is_missing(cells[CENTRE])]:
        yield Problem(line, cells.loc[line, "patient_id"], CENTRE, cells.loc[line, CENTRE], allowed, remedy)


def new_patients(cells: pd.DataFrame, designs: Sequence[Design]) -> pd.DataFrame:
    """Return new patients as the models read them; a column is a number or a word as it was in training."""
    known = cells.mask(cells.apply(is_missing)).reset_index(drop=True)
    numbers = [c for c in known if c.startswith(READY_MADE) or any(c in d.medians for d in designs)]
    words = [c for c in known if any(c in d.seen for d in designs)]
    words += [CENTRE] if CENTRE in known and CENTRE not in words else []
    # A patient may be called NA.
    table = pd.DataFrame({"patient_id": cells["patient_id"].to_numpy(), "split": "validation"})
    for column in OUTCOME:
        table[column] = known[column].astype(float) if column in known else np.nan
    return by_cause(table.join(known[numbers].astype(float)).join(known[words]))


def read_new(manifest: str | Path, frozen: FrozenRun, n_jobs: int = 1) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Let new patients in.

    Returns
    -------
    table, files : DataFrame
        Patients as the models read them; ``patient_id, image, mask`` with paths from the manifest's folder.

    Raises
    ------
    ManifestError
        With one line for each fault.
    """
    designs = [fusion.design for fusion in frozen.fusions.values()]
    problems = check_manifest(manifest, n_jobs=n_jobs, learn=False)
    cells, unreadable = read_cells(manifest, learn=False)
    problems += [] if unreadable else [*clinical_problems(cells, designs), *_centre_problems(cells, frozen.radiomics)]
    if problems:
        raise ManifestError(format_problems(problems))
    return new_patients(cells, designs), cells[["patient_id", "image", "mask"]].reset_index(drop=True)


def network_scores(
    run: str | Path, patches: np.ndarray, settings: PatchSettings, patients: pd.Index
) -> dict[LeftOut, pd.Series]:
    """Return, for each fold left out, the standardised risk of patients by its networks.

    Parameters
    ----------
    run : str or Path
        Run folder.
    patches : numpy.ndarray, (n, channels, size, size, size)
        In the order of `patients`.
    settings : PatchSettings
        With which they were cut; those of the run.
    patients : Index
    """
    everyone, ensembles = torch.from_numpy(patches), read_networks(run, settings)

    def raw(file: str) -> pd.Series:
        path = RunFolder(run).models / file
        orientations = read_card(path)["settings"]["augmentation"]["orientations"]
        return pd.Series(predict_risk(read_network(path), everyone, orientations), patients)

    with one_thread():
        return {s: e.score({file: raw(file) for file in e.networks}) for s, e in ensembles.items()}


def refuse_training_patients(
    frozen: FrozenRun, patches: np.ndarray, patients: pd.Index, distinct: pd.Series | None = None
) -> None:
    """Raise where the image of a new patient is one that the run learned from, under whatever name.

    Parameters
    ----------
    frozen : FrozenRun
    patches : numpy.ndarray, (n, channels, size, size, size)
    patients : Index
    distinct : Series, optional
        By patient, ids of training patients who look like the patient and are somebody else.
    """
    known = [
        patient for patient, patch in zip(patients, patches, strict=True) if digest(patch) in frozen.training_patches
    ]
    if known:
        raise ValueError(
            f"{how_many(len(known), 'patient has', 'patients have')} images that {frozen.folder} was trained on "
            f"({', '.join(known[:5])}): the run "
            "knows their outcome, so their score would prove nothing; leave them out"
        )
    if frozen.training_views is not None:
        told = pd.Series(dtype=str) if distinct is None else distinct
        _refuse_look_alikes(frozen, frozen.training_views, patches, patients, told)


def _refuse_look_alikes(
    frozen: FrozenRun, learned: pd.DataFrame, patches: np.ndarray, patients: pd.Index, distinct: pd.Series
) -> None:
    """Raise where a new image is nearly one that the run learned from: altered, mirrored, shifted or noisy."""
    views = learned.to_numpy().reshape(len(learned), *(CUBES,) * 3)
    pairs = near_equal_pairs(patch_views(patches, frozen.patch_settings), views)
    named = [(patients[pair.first], learned.index[pair.second]) for pair in pairs]
    same = [f"{new} and {old}" for new, old in named if not told_apart(distinct, new, old)]
    if same:
        raise ValueError(
            f"{how_many(len(same), 'patient has', 'patients have')} nearly the image of one that {frozen.folder} was "
            f"trained on ({'; '.join(same[:5])}): leave them out; if they are two patients, "
            f"name the second in a column {DISTINCT}"
        )


def score_table(
    frozen: FrozenRun, table: pd.DataFrame, networks: dict[LeftOut, pd.Series], features: pd.DataFrame
) -> pd.DataFrame:
    """Return the score rows of new patients by every model of the run, and by their own ready-made scores.

    Parameters
    ----------
    frozen : FrozenRun
    table : DataFrame
        From `new_patients`.
    networks : dict
        From `network_scores`.
    features : DataFrame
        Radiomic features by ``patient_id``.
    """
    patients = pd.Index(table["patient_id"])
    centre = table.set_index("patient_id")[CENTRE][features.index] if frozen.radiomics.harmonisation else None
    radiomic = frozen.radiomics_scale.apply(pd.Series(frozen.radiomics.risk(features, centre), features.index))
    image = {"DL": score_new(networks, patients, "DL"), "Rad": score_new({(): radiomic}, patients, "Rad")}
    parts = [_model_rows(frozen, model, table, image.get(FUSED.get(model, model))) for model in frozen.fusions]
    ready_made = ready_made_scores(table)
    rows = pd.concat([*parts, *([ready_made[ready_made["kind"] == "validation"]] if len(ready_made) else [])])
    rows[CUTOFF] = rows["model"].map(frozen.cutoffs)
    return rows.reset_index(drop=True)


def _model_rows(frozen: FrozenRun, model: str, table: pd.DataFrame, image: MadeScore | None) -> pd.DataFrame:
    fusion = frozen.fusions[model]
    rows = judge(fusion, "validation", table, image, frozen.landmarks)
    if fusion.model.wrong_way or model not in frozen.bounds.get("residual", {}):
        return rows
    baseline = fusion.model.times, fusion.model.cumulative_hazard
    bound = lower_bound(*baseline, log_hazard=log_hazard(fusion.model, rows), residual=frozen.bounds["residual"][model])
    return rows.assign(**{bound_column(frozen.bounds["level"]): bound})


def with_doubt(
    frozen: FrozenRun, rows: pd.DataFrame, networks: dict[LeftOut, pd.Series], summaries: pd.DataFrame
) -> pd.DataFrame:
    """Add ``spread``, the SD of the fold networks (rows of DL), and ``distance`` and ``unlike`` of the patient."""
    spread = pd.DataFrame(networks).std(axis=1, ddof=0)
    rows = rows.assign(spread=rows["patient_id"].map(spread).where(rows["model"] == "DL"))
    if frozen.likeness is None:
        return rows
    distance = rows["patient_id"].map(frozen.likeness.distance(summaries))
    return rows.assign(distance=distance, unlike=distance > frozen.likeness.limit)


def predict(
    run: str | Path,
    manifest: str | Path,
    out: str | Path,
    n_jobs: int = 1,
) -> pd.DataFrame:
    """Score new patients with a finished run and write the table.

    Parameters
    ----------
    run : str or Path
        Run folder.
    manifest : str or Path
        New patients; see the module.
    out : str or Path
        Score table. Crops, patches and features stay beside it in ``<name>_images``, so that a second call does
        not measure features again; they show patients.
    n_jobs : int
        Processes.

    Returns
    -------
    DataFrame
        A row a patient and model: the columns of a score table, ``lrfs_<t>``, ``cutoff``, ``spread`` and, where
        the run has them, the bound ``lower_<level>`` (months), ``distance`` and ``unlike``. Without outcomes in
        the manifest, without ``time_months, event``.

    Raises
    ------
    FileNotFoundError, ValueError
        See `load_run`, `read_new`, `refuse_training_patients`.
    """
    frozen = load_run(run)
    table, files = read_new(manifest, frozen, n_jobs)
    out, root = Path(out), Path(manifest).resolve().parent
    work, patients = out.parent / f"{out.stem}_images", pd.Index(table["patient_id"])
    placed = files.assign(image=[root / f for f in files["image"]], mask=[root / f for f in files["mask"]])
    here, margin = RunFolder(work), frozen.margin_mm
    make_patches(placed, here.patches, frozen.patch_settings, n_jobs)
    patches, settings = read_patches(here.patches, patients)
    cells, _ = read_cells(manifest, learn=False)
    refuse_training_patients(frozen, patches, patients, cells.set_index("patient_id").get(DISTINCT))
    facts = prepare_cohort(files, root, here.crops, frozen.crop_spacing, margin_mm=margin, n_jobs=n_jobs)
    extraction, sides = frozen.extraction, right_sided(facts)
    features = extract_cohort(here.crops, patients, extraction, here.feature_store, n_jobs, sides=sides)
    networks = network_scores(run, patches, settings, patients)
    rows = score_table(frozen, table, networks, features.set_index("patient_id"))
    rows = with_doubt(frozen, rows, networks, likeness.summarise(patches, settings, facts))
    rows = rows[[c for c in rows if c != MADE_BY] + [MADE_BY]]
    unknown = rows["time_months"].isna().all()
    rows = rows.drop(columns=[*OUTCOME, OWN_TIME]) if unknown else rows.astype({"event": int})
    write_csv(rows, out)
    return rows
