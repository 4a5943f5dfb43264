"""Networks and radiomic models of a finished run, applied to its patients and fitted again, for the audit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from rps_utils.deep.augmentation import Augmentation
from rps_utils.deep.checkpoints import read_card, read_network
from rps_utils.deep.folds import learning_data_sha256, read_all_ensembles
from rps_utils.deep.training import TrainingSettings, one_thread, predict_risk, train_network
from rps_utils.files import file_sha256, read_csv, read_json
from rps_utils.finished.models import plain_settings
from rps_utils.finished.origin import parameters_of
from rps_utils.imaging.patches import read_patches
from rps_utils.learning.crossfit import (
    Ensemble,
    FittedScores,
    LeftOut,
    assemble,
    learn_ensemble,
    learned_scale,
    learning_patients,
    leave_out_sets,
    object_name,
)
from rps_utils.learning.harmonise import CENTRE
from rps_utils.learning.radiomics import RadiomicModel, SelectionSettings, fit_radiomic_model
from rps_utils.run_folder import ENSEMBLES, RunFolder
from rps_utils.schema import read_run_json

TRAINING_TOLERANCE = 0.05  # SD of a score, between two trainings of one network
TOLERANCE = 1e-3  # of scores in SD, log hazards and probabilities: processors round differently


class OnTrust(Exception):
    """Something cannot be computed again, through no fault of the run; the message says what stays on trust."""


class Applied(NamedTuple):
    """Scores computed again from stored models, and what was found on the way."""

    fitted: FittedScores
    findings: list[str]


def other_sets(cohort: pd.DataFrame, model: str, found: Sequence[LeftOut]) -> Iterator[str]:
    """Yield the models that cross-fitting needs and the run lacks, and those that it has beside them."""
    due = leave_out_sets(int(cohort["fold"].max()) + 1, whole=() in found)
    for left_out in sorted(set(due) ^ set(found)):
        what = "is missing in models/" if left_out in due else "belongs to no cross-fitting of this cohort"
        yield f"'{object_name(model, left_out)}' {what}"


# ---------------------------------------------------------------- networks


def apply_networks(run: Path, cohort: pd.DataFrame) -> Applied:
    """Apply every stored network to the stored patches, and learn the scales of the scores again."""
    patches, settings = read_patches(RunFolder(run).patches, cohort["patient_id"])
    ensembles = read_all_ensembles(RunFolder(run).models)
    findings, scores = list(other_sets(cohort, "DL", list(ensembles))), {}
    for left_out, stored in ensembles.items():
        paths = [RunFolder(run).models / file for file in stored.networks]
        for path in paths:
            findings += other_card(path, left_out, cohort, patches)
            if read_card(path).get("preprocessing") != plain_settings(settings):
                findings.append(f"{path.name} was trained on patches cut otherwise")
        raw = {path.name: raw_risk(path, patches, cohort) for path in paths}
        again = learn_ensemble(left_out, raw, learning_patients(cohort, left_out))
        findings += _other_scales(again, stored)
        scores[left_out] = again.score(raw)
    return Applied(assemble(cohort, scores, "DL"), findings)


def raw_risk(path: Path, patches: np.ndarray, cohort: pd.DataFrame) -> pd.Series:
    """Return the raw risk of every patient by a stored network."""
    turns = read_card(path)["settings"]["augmentation"]["orientations"]
    with one_thread():
        risk = predict_risk(read_network(path), torch.from_numpy(patches), turns)
    return pd.Series(risk, pd.Index(cohort["patient_id"]))


def _other_scales(again: Ensemble, stored: Ensemble) -> Iterator[str]:
    pairs = [(again.scale, stored.scale), *((again.networks[file], stored.networks[file]) for file in again.networks)]
    if not all(np.allclose(one, other, atol=TOLERANCE) for one, other in pairs):
        name = object_name("DL", stored.left_out)
        yield f"DL_ensembles.json: the scales of '{name}' are not those of the patients it learned from"


def other_card(path: Path, left_out: LeftOut, cohort: pd.DataFrame, patches: np.ndarray) -> Iterator[str]:
    """Hold the card of a network to its twin in JSON, to the folds it stands for, and to patients and their data."""
    card, twin, name = read_card(path), path.with_suffix(".json"), object_name("DL", left_out)
    if not twin.is_file():
        yield f"{path.name} has no card {twin.name}: a network without one proves nothing"
    elif read_json(twin) != card:
        yield f"{twin.name} is not the card inside {path.name}"
    if tuple(card.get("left_out_folds", (-1,))) != left_out:
        yield f"{path.name} judges as '{name}', but its card says trained without {card.get('left_out_folds')}"
    learns = cohort["patient_id"].isin(learning_patients(cohort, left_out)).to_numpy()
    ids = "\n".join(cohort.loc[learns, "patient_id"])
    if hashlib.sha256(ids.encode()).hexdigest() != card.get("training_ids_sha256"):
        yield f"{path.name} was trained on other patients than '{name}' may see"
    elif learning_data_sha256(patches, cohort, learns) != card.get("training_data_sha256"):
        yield f"{path.name} was trained on other patches or outcomes than this run has of its patients"


def other_trainings(run: Path, cohort: pd.DataFrame, count: int) -> Iterator[str]:
    """Train a few networks again on the patients they may see, and yield those that come out otherwise.

    They are drawn by the hash of the scales. The same processor gives the same bits; others round differently, and
    after a long training that can pass for a difference.
    """
    patches, _ = read_patches(RunFolder(run).patches, cohort["patient_id"])
    named = [(file, s) for s, e in read_all_ensembles(RunFolder(run).models).items() for file in sorted(e.networks)]
    seed = int(file_sha256(RunFolder(run).models / ENSEMBLES)[:12], 16)
    for place in sorted(np.random.default_rng(seed).permutation(len(named))[:count]):
        file, left_out = named[place]
        path, learners = RunFolder(run).models / file, learning_patients(cohort, left_out)
        stored = raw_risk(path, patches, cohort)
        again = _trained_again(path, patches, cohort, cohort["patient_id"].isin(learners).to_numpy())
        apart = float((again - stored).abs().max() / learned_scale(stored, learners).sd)
        if not apart <= TRAINING_TOLERANCE:
            cause = "it has seen others, or was trained on another kind of processor"
            yield f"{file} comes out otherwise, by up to {apart:.2g} SD, when it is trained again: {cause}"


def _trained_again(path: Path, patches: np.ndarray, cohort: pd.DataFrame, learns: np.ndarray) -> pd.Series:
    card = read_card(path)
    chosen = {**card["settings"], "augmentation": Augmentation(**card["settings"]["augmentation"]), "device": "cpu"}
    settings = TrainingSettings(**{**chosen, "intensity_channels": tuple(chosen["intensity_channels"])})
    if settings.weights:
        raise OnTrust("how the networks were trained: they began from weights that are not kept in the run")
    everyone, outcome = torch.from_numpy(patches), cohort.loc[learns, ["time_months", "event"]].to_numpy(float)
    with one_thread():
        time, event = torch.tensor(outcome).T
        network, _ = train_network(everyone[torch.from_numpy(learns)], time, event, settings, card["seed"])
        risk = predict_risk(network, everyone, settings.augmentation.orientations)
    return pd.Series(risk, pd.Index(cohort["patient_id"]))


# ---------------------------------------------------------------- radiomics


def apply_radiomics(run: Path, cohort: pd.DataFrame) -> Applied:
    """Apply every stored radiomic model to the stored features, and learn the scales of the scores again."""
    values, models = read_features(run), stored_models(run)
    findings = list(other_sets(cohort, "Rad", list(models)))
    raw = {s: _radiomic_risk(model, values, cohort) for s, model in models.items()}
    scales = {s: learned_scale(risk, learning_patients(cohort, s)) for s, risk in raw.items()}
    stored = read_run_json(run, "models/rad_scale.json")
    if not np.allclose(scales[()], (stored["mean"], stored["sd"]), atol=TOLERANCE):
        findings.append("rad_scale.json is not the scale of 'Rad from all' in the patients it learned from")
    return Applied(assemble(cohort, {s: scales[s].apply(risk) for s, risk in raw.items()}, "Rad"), findings)


def read_features(run: Path) -> pd.DataFrame:
    """Return the stored features by patient; numbers only, so that no other column passes for one."""
    values = read_csv(RunFolder(run).features).set_index("patient_id")
    words = [column for column in values if not pd.api.types.is_numeric_dtype(values[column])]
    if words or values.index.has_duplicates:
        raise ValueError(
            f"{RunFolder(run).features}: {words[0] if words else 'a patient twice'}; allowed: numbers by patient"
        )
    return values


def stored_models(run: Path) -> dict[LeftOut, RadiomicModel]:
    """Return the radiomic models of a run by what they left out."""
    found: dict[LeftOut, RadiomicModel] = {(): RadiomicModel(**read_run_json(run, "models/rad_all.json"))}
    for path in sorted(run.glob("models/rad_without_*.json")):
        parts = path.stem.removeprefix("rad_without_").split("_without_")
        if not all(part.isdigit() for part in parts):
            raise ValueError(f"{path}: a name of no radiomic model; allowed: rad_without_<fold>[_without_<fold>].json")
        found[tuple(map(int, parts))] = RadiomicModel(**read_run_json(run, f"models/{path.name}"))
    return found


def _radiomic_risk(model: RadiomicModel, values: pd.DataFrame, cohort: pd.DataFrame) -> pd.Series:
    centre = cohort.set_index("patient_id")[CENTRE][values.index] if model.harmonisation else None
    return pd.Series(model.risk(values, centre), values.index)


def other_radiomic_fits(run: Path, cohort: pd.DataFrame) -> Iterator[str]:
    """Fit every radiomic model again on its learning patients, and yield those that come out otherwise."""
    asked = parameters_of(run, "models/rad_all.json")
    if not {"max_correlation", "max_features", "seed"} <= asked.keys():
        raise OnTrust("that the radiomic models were fitted on the patients of the ledger: the settings are not known")
    selection, values = SelectionSettings(asked["max_correlation"], asked["max_features"]), read_features(run)
    outcome = cohort.set_index("patient_id")
    for left_out, stored in stored_models(run).items():
        ids = learning_patients(cohort, left_out)
        centre = outcome.loc[ids, CENTRE] if stored.harmonisation else None
        again = fit_radiomic_model(values.loc[ids], outcome.loc[ids], selection, asked["seed"], centre)
        same = again.features == stored.features
        if not same or not np.allclose(again.coefficients, stored.coefficients, atol=TOLERANCE):
            name = object_name("Rad", left_out)
            yield f"'{name}' comes out otherwise from the patients it may see: it has seen others, or other values"
