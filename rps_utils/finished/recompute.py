"""The audit that trusts neither ledger nor tables: scores, models and metrics of a run, computed again.

Networks are applied to the stored patches and radiomic models to the stored features; radiomic and Cox models are
fitted again; features of a few patients are extracted again from their crops; and where the manifest and its scans are
still there, cohort, crops and patches are made again from them. What cannot be computed again is said to be on trust.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from rps_utils.cohort.contract import DISTINCT
from rps_utils.cohort.duplicates import near_equal_pairs, patch_views, told_apart
from rps_utils.cohort.manifest import image_files, read_manifest
from rps_utils.cohort.splits import study_table
from rps_utils.files import file_sha256, read_csv
from rps_utils.finished.agreement import ROW, changed_columns, differs, some_patients
from rps_utils.finished.audit import audit, moved_by_own_outcomes, refit_plans
from rps_utils.finished.image_models import (
    TOLERANCE,
    Applied,
    OnTrust,
    apply_networks,
    apply_radiomics,
    other_radiomic_fits,
    other_trainings,
    read_features,
)
from rps_utils.finished.models import COX_FILES
from rps_utils.finished.origin import RECORD, broken_seal, parameters_of
from rps_utils.imaging.crops import crop_isotropic, crop_paths
from rps_utils.imaging.features import ExtractionSettings, extract
from rps_utils.imaging.patches import make_patch, read_patches
from rps_utils.imaging.regions import right_sided
from rps_utils.imaging.volumes import Volume, load_pair
from rps_utils.intervals.conformal import calibrate
from rps_utils.learning.cox import CoxModel
from rps_utils.learning.crossfit import nested_table
from rps_utils.learning.fusion import FUSED, IMAGE_RIDGE, FusionPlan, cox_scores
from rps_utils.learning.ledger import bound_name, read_ledger
from rps_utils.run_folder import NAMES, RunFolder
from rps_utils.schema import read_run_json
from rps_utils.scores import MADE_BY, OWN_TIME, READY_MADE, incidence_columns, lrfs_column, lrfs_landmarks, read_scores
from rps_utils.texts.counts import how_many

SAMPLE = 3  # patients whose features, crops and patches are made again
TRAINING_KINDS = "that each network was trained on nobody but the patients on its card"
ON_TRUST = (
    "that scans and masks show whom they are said to show, and that masks were drawn without the outcome",
    "that the outcomes and clinical factors of the manifest are true",
    "that ready-made scores learned from nobody of this cohort",
    "metrics other than C, tables for reading, and figures",
)


class Account(NamedTuple):
    """What a full audit found, what it verified, and what stays on trust; one line each."""

    findings: list[str]
    verified: list[str]
    on_trust: list[str]


class RunData:
    """What the checks share; each part is read or computed when it is first asked for.

    Parameters
    ----------
    run : Path
        Run folder.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self.cohort = read_csv(RunFolder(run).cohort)
        self.scores = read_scores(RunFolder(run).scores)
        self.landmarks = lrfs_landmarks(self.scores)

    @cached_property
    def networks(self) -> Applied:
        """DL, computed again."""
        return apply_networks(self.run, self.cohort)

    @cached_property
    def radiomics(self) -> Applied:
        """Rad, computed again."""
        return apply_radiomics(self.run, self.cohort)

    def image(self, model: str) -> Applied:
        """Return an image score, ``DL`` or ``Rad``, computed again."""
        return self.networks if model == "DL" else self.radiomics

    @property
    def manifest(self) -> Path:
        """The manifest of the run, if it is still there and the same; else it stays on trust."""
        record = self.run / RECORD
        recorded = read_run_json(self.run, RECORD).get("manifest", {}).get("sha256") if record.is_file() else None
        asked = parameters_of(self.run, NAMES["cohort"])
        path = Path(str(asked.get("manifest", "")))
        if not path.is_file() or not {"folds", "seed", "split_by"} <= asked.keys() or file_sha256(path) != recorded:
            raise OnTrust("cohort.csv, crops and patches: the manifest is not here any more, or is another by its hash")
        return path

    @property
    def sample(self) -> list[str]:
        """A few patients, drawn by the hash of the features, so that who changes these cannot choose."""
        seed = int(file_sha256(RunFolder(self.run).features)[:12], 16)
        ids = self.cohort["patient_id"].to_numpy(str)
        return sorted(np.random.default_rng(seed).choice(ids, min(SAMPLE, len(ids)), replace=False))


def full_audit(run: str | Path, retrain: int = 0) -> Account:
    """Audit a run: what it says of itself (`audit.audit`), then everything that can be computed again.

    Parameters
    ----------
    run : str or Path
        Run folder.
    retrain : int
        So many networks are trained again; 0: that is left on trust.

    Raises
    ------
    FileNotFoundError, ValueError
        See `audit.audit`; a file holds what no run writes.
    """
    account = Account(audit(run), [], list(ON_TRUST))
    data = RunData(Path(run))
    checks = dict(CHECKS)
    if retrain:
        checks[f"{retrain} of the networks, trained again"] = lambda d: other_trainings(d.run, d.cohort, retrain)
    account.on_trust.insert(0, TRAINING_KINDS + ", but for those trained again" * (retrain > 0))
    for what, check in checks.items():
        try:
            found = list(check(data))
        except OnTrust as reason:
            account.on_trust.append(str(reason))
            continue
        except (ValueError, OSError, KeyError) as error:
            found = [f"{what}: cannot be computed again: {error}"]
        account.findings.extend(found)
        account.verified.extend([what] * (not found))
    account.on_trust.extend(_unknown_models(data))
    return account


def _unknown_models(data: RunData) -> Iterator[str]:
    ready_made = {column.removeprefix(READY_MADE) for column in data.cohort if column.startswith(READY_MADE)}
    others = sorted(set(data.scores["model"]) - set(COX_FILES) - ready_made)
    if others:
        yield f"the scores of {', '.join(others)}: their models are not kept in the run"


# ---------------------------------------------------------------- files, manifest, images


def other_files(data: RunData) -> Iterator[str]:
    """Yield the files that are not what the run wrote."""
    yield from broken_seal(data.run)


def other_cohort(data: RunData) -> Iterator[str]:
    """Make the cohort again from its manifest, and yield what differs."""
    asked = parameters_of(data.run, NAMES["cohort"])
    again = study_table(read_manifest(data.manifest), asked["folds"], asked["seed"], asked["split_by"])
    if list(again) != list(data.cohort) or list(again["patient_id"]) != list(data.cohort["patient_id"]):
        yield "cohort.csv has other patients or columns than its manifest"
        return
    for column in again:
        numeric = pd.api.types.is_numeric_dtype(data.cohort[column])
        due = again[column].astype(float) if numeric else again[column]
        other = differs(data.cohort[column].astype(due.dtype), due, 1e-9)
        if other.any():
            who = some_patients(data.cohort.loc[other, "patient_id"])
            yield f"cohort.csv: {who} have another {column} than the manifest gives"


def other_images(data: RunData) -> Iterator[str]:
    """Cut crops and patches of a few patients again from their scans, and yield what differs."""
    table = read_manifest(data.manifest)
    files = image_files(table, data.manifest.parent).set_index("patient_id").loc[data.sample]
    if not all(Path(path).is_file() for path in (*files["image"], *files["mask"])):
        raise OnTrust("crops and patches: the scans of the manifest are not here any more")
    patches, settings = read_patches(RunFolder(data.run).patches, data.sample)
    facts = read_csv(RunFolder(data.run).table("images")).iloc[0]
    for row, patch in zip(files.itertuples(), patches, strict=True):
        ct, mask = load_pair(row.image, row.mask)
        if not np.allclose(make_patch(ct, mask, settings), patch, atol=0.01):
            yield f"{row.Index}: patches.npz does not hold the patch that the scan gives"
        due = crop_isotropic(ct, mask, float(facts["crop_spacing_mm"]), float(facts["margin_mm"]))
        stored = load_pair(*crop_paths(RunFolder(data.run).crops, str(row.Index)))
        if any(_differ(one, other) for one, other in zip(due, stored, strict=True)):
            yield f"{row.Index}: crops/ does not hold the crop that the scan gives"


def _differ(one: Volume, other: Volume) -> bool:
    """Tell whether two volumes differ by more than rounding on another processor can do."""
    return one.values.shape != other.values.shape or bool((one.values != other.values).mean() > 0.001)


def same_patients(data: RunData) -> Iterator[str]:
    """Yield pairs of patients whose images are nearly equal, mirrored or not, across folds or splits."""
    patches, settings = read_patches(RunFolder(data.run).patches, data.cohort["patient_id"])
    fold = data.cohort["fold"].map(" fold {:g}".format).where(data.cohort["fold"].notna(), "")
    place, ids = (data.cohort["split"] + fold).to_list(), data.cohort["patient_id"].to_list()
    distinct = data.cohort.set_index("patient_id").get(DISTINCT, pd.Series(dtype=str))
    for one, other, apart in near_equal_pairs(patch_views(patches, settings)):
        if place[one] != place[other] and not told_apart(distinct, ids[one], ids[other]):
            yield (
                f"{ids[one]} in {place[one]} and {ids[other]} in {place[other]} have nearly the same image "
                f"({apart:.1f} HU apart): one patient under two ids? keep one"
            )


def other_features(data: RunData) -> Iterator[str]:
    """Extract the features of a few patients again from their crops, and yield what differs, columns included."""
    stored = read_features(data.run)
    if set(stored.index) != set(data.cohort["patient_id"]):
        others = set(stored.index) ^ set(data.cohort["patient_id"])
        yield f"features.csv: {some_patients(others)} are in this table or in cohort.csv, and not in both"
        return
    settings = ExtractionSettings(**read_run_json(data.run, "models/rad_extraction.json"))
    sides = right_sided(RunFolder(data.run).read_table("images"))
    for patient in data.sample:
        crop = load_pair(*crop_paths(RunFolder(data.run).crops, patient))
        due = pd.Series(extract(*crop, settings, sides.get(patient)))
        more = sorted(set(stored) ^ set(due.index))
        if more:
            yield f"features.csv has the column {more[0]}, which is no feature of the extraction, or lacks it"
            return
        other = ~np.isclose(stored.loc[patient, due.index].astype(float), due, rtol=1e-4, atol=1e-6)
        if other.any():
            name = due.index[other][0]
            in_all = how_many(other.sum(), "feature differs", "features differ")
            yield f"features.csv: {patient} has another {name} than the crop gives ({in_all})"


# ---------------------------------------------------------------- scores and models


def other_image_scores(model: str) -> Callable[[RunData], Iterator[str]]:
    """Return the check of an image model: rows, nested scores and Cox model, computed again."""

    def check(data: RunData) -> Iterator[str]:
        applied = data.image(model)
        yield from applied.findings
        plan = FusionPlan(model, (), IMAGE_RIDGE)
        rows, cox = cox_scores(data.cohort, plan, applied.fitted, data.landmarks)
        yield from _other_rows(data, model, rows)
        yield from _other_nested(data, model, applied)
        yield from _other_cox(data.run, model, cox)

    return check


def other_fused_scores(data: RunData) -> Iterator[str]:
    """Fit the clinical and the fused models again on image scores that were computed again."""
    plans = refit_plans(data.run)
    if not plans:
        raise OnTrust("Clinical, DLCM and RSCM: parameters.json does not tell their terms")
    for plan in plans:
        fitted = data.image(FUSED[plan.model]).fitted if FUSED[plan.model] else None
        rows, cox = cox_scores(data.cohort, plan, fitted, data.landmarks)
        yield from _other_rows(data, plan.model, rows)
        yield from _other_cox(data.run, plan.model, cox)
        stored = data.scores[data.scores["model"] == plan.model]
        yield from moved_by_own_outcomes(data.cohort, plan, fitted, stored, TOLERANCE)


def other_radiomic_models(data: RunData) -> Iterator[str]:
    """Fit the radiomic models again."""
    yield from other_radiomic_fits(data.run, data.cohort)


def other_bounds(data: RunData) -> Iterator[str]:
    """Learn the conformal bounds again from the cross-fitted scores."""
    if not RunFolder(data.run).model("bounds").is_file():
        return
    stored, ledger = read_run_json(data.run, "models/bounds.json"), read_ledger(data.run)
    for model, residual in stored["residual"].items():
        rows = data.scores[(data.scores["model"] == model) & (data.scores["kind"] == "cross_fitted")]
        rows = rows.reindex(columns=["time_months", "event", OWN_TIME]).dropna()  # a fold may predict no LRFS
        if rows.empty:
            yield f"bounds.json has a bound of {model}, which has no cross-fitted LRFS in scores.csv"
            continue
        due = calibrate(rows["time_months"], rows["event"], rows[OWN_TIME], level=stored["level"])
        if not abs(due - residual) <= TOLERANCE:
            yield f"bounds.json: the bound of {model} is {residual:.4f}, its cross-fitted scores give {due:.4f}"
        if bound_name(model) not in ledger:
            yield f"'{bound_name(model)}' is in models/bounds.json, but not in the ledger"


def _other_nested(data: RunData, model: str, applied: Applied) -> Iterator[str]:
    keys = ["outer_fold", "patient_id"]
    stored = read_csv(RunFolder(data.run).part(f"{model}_nested")).set_index(keys)
    both = nested_table(applied.fitted).set_index(keys).join(stored, how="outer", lsuffix="_due")
    other = differs(both["risk_due"], both["risk"], TOLERANCE) | differs(both["made_by_due"], both["made_by"], 0)
    if other.any():
        who = some_patients(set(both.index[other].get_level_values("patient_id")))
        yield f"{model}, nested: {who} have other scores in scores/{model}_nested.csv than the stored models give"


def _other_cox(run: Path, model: str, due: CoxModel) -> Iterator[str]:
    file = COX_FILES[model][0]
    stored = CoxModel(**read_run_json(run, f"models/{file}"))
    parts = ("times", "coefficients", "centre", "cumulative_hazard", "alive_before")
    if stored.terms != due.terms or any(len(getattr(stored, part)) != len(getattr(due, part)) for part in parts):
        yield f"models/{file} has other terms or times than the fit to the training patients"
    elif not all(np.allclose(getattr(stored, part), getattr(due, part), atol=TOLERANCE) for part in parts):
        yield f"models/{file} comes out otherwise when it is fitted to the training patients again"


def _other_rows(data: RunData, model: str, due: pd.DataFrame) -> Iterator[str]:
    """Compare score rows with those computed again, and say what the stored ones look like."""
    incidence = incidence_columns(data.scores)
    columns = ["risk", *map(lrfs_column, data.landmarks), OWN_TIME, *incidence, MADE_BY]
    stored = data.scores[data.scores["model"] == model].set_index(ROW).reindex(columns=columns)
    due = due.set_index(ROW).reindex(columns=columns)
    if stored.empty:
        yield f"{model}: no row in scores.csv, though its model is in models/"
    both = due.index.intersection(stored.index, sort=False)
    for (_, kind), (changed, patients) in changed_columns(due.loc[both], stored.loc[both], TOLERANCE).items():
        looks = _resemblance(data, stored, due, kind) if "risk" in changed else ""
        who, what = some_patients(patients), ", ".join(changed)
        yield f"{model}, {kind}: {who} have another {what} in scores.csv than the models give{looks}"


def _resemblance(data: RunData, stored: pd.DataFrame, due: pd.DataFrame, kind: str) -> str:
    """Say whether stored risks are those of another kind, or moved in those with an event only."""
    given, own = (table["risk"].droplevel("model").xs(kind, level="kind") for table in (stored, due))
    for other in sorted({"apparent", "cross_fitted"} - {kind}):
        instead = due["risk"].droplevel("model").xs(other, level="kind").reindex(given.index)
        if (np.abs(given - instead) <= TOLERANCE).mean() > 0.9:
            return f": they are its {other.replace('_', '-')} scores"
    event = data.cohort.set_index("patient_id")["event"].reindex(given.index) == 1
    moved = np.abs(given - own.reindex(given.index)) > TOLERANCE
    return ": they move with the outcome" if event.any() and (moved == event).mean() > 0.9 else ""


CHECKS: Mapping[str, Callable[[RunData], Iterator[str]]] = {
    "hashes in run.json of every model, score and table": other_files,
    "patients, outcomes, split and folds against the manifest": other_cohort,
    f"crops and patches of {SAMPLE} patients, cut again from their scans": other_images,
    "no image, mirrored or not, under two ids across folds or splits": same_patients,
    f"features of {SAMPLE} patients, extracted again from their crops": other_features,
    "every score of DL, from networks and patches, and the cards of the networks": other_image_scores("DL"),
    "every score of Rad, from radiomic models and features": other_image_scores("Rad"),
    "every radiomic model, selection included, fitted again on the patients it may see": other_radiomic_models,
    "Clinical, DLCM and RSCM, fitted again, also with the outcomes of those judged exchanged": other_fused_scores,
    "the conformal bounds, learned again": other_bounds,
}
