"""A finished run as frozen models: read whole, checked, and refitted never."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rps_utils.cohort.duplicates import patch_views
from rps_utils.deep.checkpoints import read_card
from rps_utils.deep.folds import read_fold_ensembles
from rps_utils.files import read_csv
from rps_utils.finished.origin import RECORD, refuse_altered, writer_of
from rps_utils.imaging import likeness
from rps_utils.imaging.features import ExtractionSettings
from rps_utils.imaging.patches import PatchSettings, read_patches
from rps_utils.imaging.regions import REGIONS
from rps_utils.learning.cox import IMAGE_SCORE, CoxModel, Design, bend_of
from rps_utils.learning.crossfit import Ensemble, LeftOut, Scale, cox_name, object_name
from rps_utils.learning.fusion import FittedFusion, FusionPlan, score_directions
from rps_utils.learning.radiomics import RadiomicModel
from rps_utils.run_folder import NAMES, RunFolder
from rps_utils.schema import read_run_json
from rps_utils.scores import lrfs_landmarks

# Model to the file of its Cox model and of its clinical design, in RUN/models.
COX_FILES = {
    "DL": ("dl_cox.json", ""),
    "Rad": ("rad_cox.json", ""),
    "Clinical": ("clinical_cox.json", "clinical_design.json"),
    "DLCM": ("DLCM.json", "fusion_design.json"),
    "RSCM": ("RSCM.json", "fusion_design.json"),
}
FILES_NEEDED = (
    *(NAMES["cohort"], NAMES["patches"], NAMES["scores"], "tables/images.csv", "tables/risk_groups_cutoffs.csv"),
    *(f"models/{name}.json" for name in ("rad_all", "rad_scale", "rad_extraction")),
    *dict.fromkeys(f"models/{file}" for files in COX_FILES.values() for file in files if file),
    "models/DL_ensembles.json",
    NAMES["record"],
)
OPTIONAL = ("models/bounds.json", "models/likeness.json")


@dataclass(frozen=True)
class FrozenRun:
    """What a finished run knows, ready to be applied.

    Attributes
    ----------
    folder : Path
    patch_settings : PatchSettings
    training_patches : set of str
        Digests of the patches of the training patients.
    crop_spacing, margin_mm : float
        Of the crops for radiomics, mm.
    extraction : ExtractionSettings
    radiomics : RadiomicModel
    radiomics_scale : Scale
    fusions : dict of str to FittedFusion
        The Cox models that were fitted in all training patients.
    landmarks : list of float
        Months.
    cutoffs : dict of str to float
        Model to the cut-off for new patients.
    bounds : dict
        ``level``, and ``residual`` by model; empty where none were learned.
    likeness : likeness.Reference or None
    training_views : DataFrame or None
        `duplicates.patch_views` of the training patients, flat, by ``patient_id``.
    """

    folder: Path
    patch_settings: PatchSettings
    training_patches: set[str]
    crop_spacing: float
    margin_mm: float
    extraction: ExtractionSettings
    radiomics: RadiomicModel
    radiomics_scale: Scale
    fusions: dict[str, FittedFusion]
    landmarks: list[float]
    cutoffs: dict[str, float]
    bounds: dict[str, Any]
    likeness: likeness.Reference | None
    training_views: pd.DataFrame | None = None


def load_run(folder: str | Path) -> FrozenRun:
    """Read everything that is needed to apply a run, from a folder that need not be one's own.

    Raises
    ------
    FileNotFoundError
        Files are missing; the message names each, and the step that writes it.
    ValueError
        A file is not what the run wrote, holds what no run writes, or does not belong to the others.
    """
    run = Path(folder)
    absent = [name for name in FILES_NEEDED if not (run / name).is_file()]
    if absent:
        raise FileNotFoundError(
            f"{run} is no finished run; missing: {', '.join(map(_with_writer, absent))}; finish it with "
            f"`rps run --out {run}`"
        )
    refuse_altered(run, files_read(run))
    training = read_csv(RunFolder(run).cohort).query("split == 'training'")
    patches, settings = read_patches(RunFolder(run).patches, training["patient_id"])
    images = read_csv(RunFolder(run).table("images")).iloc[0]
    known = _optional(run, "models/likeness.json")
    frozen = FrozenRun(
        folder=run,
        patch_settings=settings,
        training_patches=set(map(digest, patches)),
        crop_spacing=float(images["crop_spacing_mm"]),
        margin_mm=float(images["margin_mm"]),
        extraction=ExtractionSettings(**read_run_json(run, "models/rad_extraction.json")),
        radiomics=RadiomicModel(**read_run_json(run, "models/rad_all.json")),
        radiomics_scale=Scale(**read_run_json(run, "models/rad_scale.json")),
        fusions={model: _fusion(run, model) for model in COX_FILES},
        landmarks=lrfs_landmarks(read_csv(RunFolder(run).scores)),
        cutoffs=_cutoffs(run),
        bounds=_optional(run, "models/bounds.json") or {},
        likeness=likeness.Reference(**known) if known else None,
        training_views=pd.DataFrame(patch_views(patches, settings).reshape(len(patches), -1), training["patient_id"]),
    )
    read_networks(run, settings)
    _check_features(frozen)
    return frozen


def digest(patch: np.ndarray) -> str:
    """Return the SHA-256 of a patch by its voxels: the same patient under any name."""
    return hashlib.sha256(np.ascontiguousarray(patch).tobytes()).hexdigest()


def files_read(run: str | Path) -> list[str]:
    """Return the files of a run that are read to apply it, networks included, by their places in the folder."""
    ensembles = read_fold_ensembles(RunFolder(run).models).values()
    networks = [f"models/{file}" for ensemble in ensembles for file in ensemble.networks]
    given = [name for name in OPTIONAL if (Path(run) / name).is_file()]
    return [*(name for name in FILES_NEEDED if name != RECORD), *given, *networks]


def _with_writer(name: str) -> str:
    writer = writer_of(name)
    return f"{name} ({writer.name})" if writer else name


def _optional(run: Path, name: str) -> dict | None:
    return read_run_json(run, name) if (run / name).is_file() else None


def read_networks(run: str | Path, settings: PatchSettings) -> dict[LeftOut, Ensemble]:
    """Return the ensembles that score new patients: left-out fold to files and scales.

    Raises
    ------
    FileNotFoundError, ValueError
        A network is missing, or was trained on patches cut otherwise than `settings` say.
    """
    models = RunFolder(run).models
    ensembles = read_fold_ensembles(models)
    for file in (file for ensemble in ensembles.values() for file in ensemble.networks):
        if read_card(models / file)["preprocessing"] != plain_settings(settings):
            raise ValueError(f"{models / file} was trained on patches cut otherwise: run the chain again")
    return ensembles


def plain_settings(settings: PatchSettings) -> dict[str, Any]:
    """Return patch settings as the card of a network has them."""
    return json.loads(json.dumps(asdict(settings)))


def _fusion(run: Path, model: str) -> FittedFusion:
    cox_file, design_file = COX_FILES[model]
    design = Design(**read_run_json(run, f"models/{design_file}")) if design_file else Design({}, {}, {})
    columns = [*(f"rcs({c})" if c in design.knots else c for c in design.medians), *design.levels]
    fitted = CoxModel(**read_run_json(run, f"models/{cox_file}"))
    own = [] if model == "Clinical" else [IMAGE_SCORE]
    levels = (f"{c}: {level}" for c, levels in design.levels.items() for level in levels[1:])
    terms = {*own, *design.medians, *map(bend_of, design.knots), *levels}
    if set(fitted.terms) != terms:
        other = sorted(set(fitted.terms) ^ terms)
        raise ValueError(f"{run}/models: {cox_file} and {design_file} differ in {other}: run the chain again")
    return FittedFusion(FusionPlan(model, columns), object_name(cox_name(model), ()), design, fitted)


def directions(run: str | Path) -> pd.DataFrame:
    """Tell of each Cox model of a run which way its image score points (`fusion.score_directions`)."""
    return score_directions({model: _fusion(Path(run), model).model for model in COX_FILES})


def _cutoffs(run: Path) -> dict[str, float]:
    table = read_csv(RunFolder(run).table("risk_groups_cutoffs"))
    return dict(table.loc[table["kind"] == "validation", ["model", "cutoff"]].dropna().itertuples(index=False))


def _check_features(frozen: FrozenRun) -> None:
    """Refuse a radiomic model whose features are not those that the stored settings compute."""
    sigmas = [f"log-sigma-{str(sigma).replace('.', '-')}-mm" for sigma in frozen.extraction.log_sigma_mm]
    known = {"original": ["original_"], "log": sigmas, "wavelet": ["wavelet-"]}
    begins = tuple(start for kind in frozen.extraction.image_types for start in known[kind])
    if frozen.extraction.regions:
        begins += tuple(f"{region}_{start}" for region in REGIONS for start in begins)
    other = [name for name in frozen.radiomics.features if not name.startswith(begins)]
    if other:
        raise ValueError(
            f"{frozen.folder}/models: rad_all.json asks for {other[0]}, rad_extraction.json computes "
            f"{', '.join(frozen.extraction.image_types)}: run the chain again"
        )
