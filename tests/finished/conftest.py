"""A whole run of forty-eight small patients, made by the library step by step, as the notebooks make one."""

import shutil
from dataclasses import asdict

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from rps_utils.cohort.manifest import image_files, read_manifest
from rps_utils.cohort.splits import study_table
from rps_utils.deep.folds import fit_fold_networks
from rps_utils.deep.training import TrainingSettings
from rps_utils.evaluation import risk_groups
from rps_utils.evaluation.discrimination import discrimination_rows
from rps_utils.files import file_sha256, write_csv, write_json
from rps_utils.finished.models import COX_FILES, plain_settings
from rps_utils.finished.origin import writer_of
from rps_utils.imaging import likeness
from rps_utils.imaging.crops import prepare_cohort
from rps_utils.imaging.features import ExtractionSettings, extract_cohort
from rps_utils.imaging.patches import PatchSettings, make_patches, read_patches
from rps_utils.intervals.conformal import calibrate
from rps_utils.learning import crossfit, fusion, ledger
from rps_utils.learning.cox import learn_design
from rps_utils.learning.radiomics import SelectionSettings, fit_radiomic_model
from rps_utils.runs.record import collect_metrics, sealed_files
from rps_utils.scores import merge_scores, read_scores, ready_made_scores

FOLDS, SEED, LANDMARKS, CLINICAL, RIDGE, CORRELATION, FEATURES = 3, 7, [12, 36], ["age", "grade"], 0.1, 0.9, 6
SHAPE, SPACING = (48, 48, 32), 5.0


def brightness(seed):
    """What the image tells of the hazard, HU."""
    return np.random.default_rng([seed, 1]).uniform(-80, 80)


def scan(seed):
    """Soft tissue of its own texture in air, with a tumour of its own brightness to the left of the middle."""
    draw = np.random.default_rng(seed)
    x, y, z = np.indices(SHAPE)
    body = ((x - 23.5) / draw.uniform(17, 22)) ** 2 + ((y - 23.5) / draw.uniform(13, 18)) ** 2 < 1
    hu = np.full(SHAPE, -1000.0)
    hu[body] = (30 + 900 * ndimage.gaussian_filter(draw.normal(size=SHAPE), 2.5))[body]
    centre, radius = (14 + draw.uniform(-2, 2), 23 + draw.uniform(-2, 2), 16), draw.uniform(4, 6)
    mask = sum((a - c) ** 2 for a, c in zip((x, y, z), centre, strict=True)) < radius**2
    hu[mask] += brightness(seed)
    return np.rint(hu).astype(np.int16), mask.astype(np.uint8)


def save(values, path):
    image = nib.Nifti1Image(values, np.diag([SPACING] * 3 + [1.0]))
    image.set_qform(image.affine, code=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)


def write_manifest(folder, patients=48):
    draw = np.random.default_rng(SEED)
    rows = []
    for i in range(patients):
        files = [f"images/p{i}_{kind}.nii.gz" for kind in ("ct", "mask")]
        for values, name in zip(scan(i), files, strict=True):
            save(values, folder / name)
        age = round(float(draw.normal(56, 12)), 1)
        time = round(float(30 * draw.exponential() * np.exp(-brightness(i) / 30) + 2), 2)
        split = "validation" if i % 4 == 3 else "training"
        rows.append(
            [f"P{i:02d}", *files, split, time, int(draw.uniform() < 0.55), age, draw.choice(["G1", "G2", "G3"])]
        )
    columns = ["patient_id", "image", "mask", "split", "time_months", "event", "age", "grade"]
    table = pd.DataFrame(rows, columns=columns)
    return write_csv(table.assign(risk_Published=table["age"] / 10), folder / "data_manifest.csv")


def write_image_model(run, cohort, name, scores):
    fitted = crossfit.assemble(cohort, scores, name)
    learned = ledger.cross_fitted(name, {"DL": "network", "Rad": "LASSO-Cox model"}[name], cohort, list(scores))
    plan = fusion.FusionPlan(name, (), fusion.IMAGE_RIDGE)
    rows, cox = fusion.cox_scores(cohort, plan, fitted, LANDMARKS, learned)
    ledger.record(run, name, learned)
    write_csv(rows, run / "scores" / f"{name}.csv")
    write_csv(crossfit.nested_table(fitted), run / "scores" / f"{name}_nested.csv")
    write_json(cox.as_dict(), run / "models" / COX_FILES[name][0])
    return fitted


def write_cox(run, cohort, name, image):
    learned = []
    rows, cox = fusion.cox_scores(cohort, fusion.FusionPlan(name, CLINICAL, RIDGE), image, LANDMARKS, learned)
    ledger.record(run, name, learned)
    write_csv(rows, run / "scores" / f"{name}.csv")
    cox_file, design_file = COX_FILES[name]
    write_json(cox.as_dict(), run / "models" / cox_file)
    training = cohort[cohort["split"] == "training"]
    write_json(asdict(learn_design(training, CLINICAL)), run / "models" / design_file)


def write_networks(run, cohort, patches, cut):
    quick = TrainingSettings(epochs=8, batch_size=12, network_options={"widths": [4]}, seed=SEED)
    sets = crossfit.leave_out_sets(FOLDS, whole=False)
    return fit_fold_networks(patches, cohort, sets, quick, run / "models", preprocessing=plain_settings(cut))


def write_radiomics(run, cohort):
    settings = ExtractionSettings(("original",))
    table = extract_cohort(run / "crops", cohort["patient_id"], settings, run / "features")
    write_csv(table, run / "features.csv")
    values, scores = table.set_index("patient_id"), {}
    outcome = cohort.set_index("patient_id")
    for left_out in crossfit.leave_out_sets(FOLDS):
        ids = crossfit.learning_patients(cohort, left_out)
        selection = SelectionSettings(CORRELATION, FEATURES)
        model = fit_radiomic_model(values.loc[ids], outcome.loc[ids], selection, SEED)
        scale = crossfit.learned_scale(pd.Series(model.risk(values), values.index), ids)
        scores[left_out] = scale.apply(pd.Series(model.risk(values), values.index))
        name = "_".join(["rad", *(f"without_{k}" for k in left_out)]) if left_out else "rad_all"
        write_json(asdict(model), run / "models" / f"{name}.json")
        if not left_out:
            write_json(scale._asdict(), run / "models" / "rad_scale.json")
    write_json(asdict(settings), run / "models" / "rad_extraction.json")
    return scores


def write_doubt(run, cohort, scores, patches, cut, facts):
    held_out = scores[scores["kind"] == "cross_fitted"]
    limits, learned = {}, []
    for model in COX_FILES:
        rows = held_out[held_out["model"] == model].dropna(subset="lrfs_own")
        if rows.empty:
            continue
        limits[model] = calibrate(rows["time_months"], rows["event"], rows["lrfs_own"], level=0.9)
        learned.append(ledger.Learned(ledger.bound_name(model), "conformal bound", list(rows["patient_id"])))
    write_json({"level": 0.9, "residual": limits}, run / "models" / "bounds.json")
    summaries = likeness.summarise(patches, cut, facts)
    training = cohort[cohort["split"] == "training"].set_index("patient_id")
    reference = likeness.learn_reference(summaries.loc[training.index], training["fold"])
    write_json(asdict(reference), run / "models" / "likeness.json")
    learned.append(ledger.Learned("likeness of images", "distances", list(training.index)))
    ledger.record(run, "doubt", learned)


def seal(run):
    """Write `run.json` anew, as somebody does who alters a run and wants it to pass."""
    manifest = run.parent / "data_manifest.csv"
    told = {"file": manifest.name, "sha256": file_sha256(manifest)}
    write_json({"parameters": {}, "manifest": told, "files": sealed_files(run)}, run / "run.json")


def merge(run):
    names = ["DL", "Rad", "Clinical", "DLCM", "RSCM", "ready_made"]
    write_csv(merge_scores([run / "scores" / f"{name}.csv" for name in names]), run / "scores.csv")


def evaluate(run):
    """Write what follows from `scores.csv`: cut-offs and metrics."""
    scores = read_scores(run / "scores.csv")
    table = risk_groups.training_cutoffs(scores)
    write_csv(table, run / "tables" / "risk_groups_cutoffs.csv")
    ledger.record(run, "cut-offs", ledger.cutoffs(scores, table))
    write_csv(discrimination_rows(scores, tau=36, n_bootstrap=20), run / "metrics" / "c.csv")
    collect_metrics(run)


def write_parameters(run):
    fused = {"clinical_columns": CLINICAL, "ridge": RIDGE}
    asked = {
        "cohort.csv": {"folds": FOLDS, "seed": SEED, "split_by": ""},
        "models/rad_all.json": {"max_correlation": CORRELATION, "max_features": FEATURES, "seed": SEED},
        "models/clinical_cox.json": fused,
        "tables/risk_groups_cutoffs.csv": {"cutoff": None},
        "models/DLCM.json": fused,
    }
    asked["cohort.csv"]["manifest"] = str(run.parent / "data_manifest.csv")
    steps = {writer_of(name).name: own for name, own in asked.items()}
    write_json({"steps": list(steps), "parameters": steps}, run / "parameters.json")


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """A folder with manifest, images and the run made from them."""
    root = tmp_path_factory.mktemp("whole")
    run, manifest = root / "run", write_manifest(root)
    patients, cut = read_manifest(manifest), PatchSettings(size=16)
    cohort = study_table(patients, FOLDS, SEED)
    write_csv(cohort, run / "cohort.csv")
    make_patches(image_files(patients, root), run / "patches.npz", cut)
    facts = prepare_cohort(patients, root, run / "crops", 5.0, margin_mm=25.0)
    write_csv(facts, run / "tables" / "images.csv")
    patches, cut = read_patches(run / "patches.npz", cohort["patient_id"])
    deep = write_image_model(run, cohort, "DL", write_networks(run, cohort, patches, cut))
    radiomic = write_image_model(run, cohort, "Rad", write_radiomics(run, cohort))
    for name, image in (("Clinical", None), ("DLCM", deep), ("RSCM", radiomic)):
        write_cox(run, cohort, name, image)
    ready_made = ready_made_scores(cohort)
    ledger.record(run, "ready_made", ledger.ready_made(ready_made))
    write_csv(ready_made, run / "scores" / "ready_made.csv")
    merge(run)
    evaluate(run)
    write_doubt(run, cohort, read_scores(run / "scores.csv"), patches, cut, facts)
    write_parameters(run)
    seal(run)
    return root


@pytest.fixture
def altered(whole, tmp_path):
    """A copy of the run to alter; the manifest and its images stay where they are."""
    shutil.copy(whole / "data_manifest.csv", tmp_path)
    return shutil.copytree(whole / "run", tmp_path / "run")
