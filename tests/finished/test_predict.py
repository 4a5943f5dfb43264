"""A run applied to new patients: the same numbers as in the run, or an error that names what is wrong.

The whole way from images is in test_chain.py.
"""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rps_utils.cohort.describe import table_one
from rps_utils.cohort.manifest import check_cells, check_manifest, read_cells
from rps_utils.deep.folds import ENSEMBLES, fit_fold_networks
from rps_utils.deep.training import TrainingSettings
from rps_utils.evaluation import risk_groups
from rps_utils.files import read_csv, write_csv, write_json
from rps_utils.finished import predict
from rps_utils.finished.models import (
    COX_FILES,
    FrozenRun,
    _check_features,
    _fusion,
    digest,
    load_run,
    plain_settings,
    read_networks,
)
from rps_utils.imaging.features import ExtractionSettings
from rps_utils.imaging.patches import PatchSettings, read_patches, write_patches
from rps_utils.learning import crossfit, fusion, ledger
from rps_utils.learning.cox import learn_design
from rps_utils.learning.radiomics import RadiomicModel
from rps_utils.scores import check_scores

CLINICAL = ["age", "grade"]
LANDMARKS = [12, 36]


@pytest.fixture
def image(cohort):
    """Fold models that know the signal, each with its own error, and one of all patients."""
    draw = np.random.default_rng(1)
    values = cohort.set_index("patient_id")["signal"]
    sets = crossfit.leave_out_sets(5)
    return {
        s: crossfit.standardise(values + draw.normal(0, 0.3, len(values)), crossfit.learning_patients(cohort, s))
        for s in sets
    }


@pytest.fixture
def run(cohort, image):
    """What a run would have stored, and its score rows; the radiomic model is one feature, the signal itself."""
    networks = {s: risk for s, risk in image.items() if s}
    values = cohort.set_index("patient_id")[["signal"]].rename(columns={"signal": "original_signal"})
    radiomics = RadiomicModel(["original_signal"], [0.1], [1.2], [0.7], 0.1)
    raw = pd.Series(radiomics.risk(values), values.index)
    scale = crossfit.learned_scale(raw, crossfit.learning_patients(cohort, ()))
    radiomic = dict.fromkeys(image, scale.apply(raw))
    fitted = {"DL": crossfit.assemble(cohort, networks, "DL"), "Rad": crossfit.assemble(cohort, radiomic, "Rad")}
    training = cohort[cohort["split"] == "training"]
    rows, fusions = [], {}
    for model in COX_FILES:
        plan = fusion.FusionPlan(model, [] if model in fitted else CLINICAL, 0.1)
        table, cox = fusion.cox_scores(cohort, plan, fitted.get(fusion.FUSED.get(model, model)), LANDMARKS)
        rows.append(table)
        fusions[model] = fusion.FittedFusion(plan, f"{model} Cox from all", learn_design(training, plan.columns), cox)
    frozen = FrozenRun(
        folder=Path("run"),
        patch_settings=PatchSettings(),
        training_patches=set(),
        crop_spacing=3.0,
        margin_mm=40.0,
        extraction=ExtractionSettings(("original",)),
        radiomics=radiomics,
        radiomics_scale=scale,
        fusions=fusions,
        landmarks=LANDMARKS,
        cutoffs={model: 0.1 for model in fusions},
        bounds={"level": 0.9, "residual": {"DL": 0.05, "DLCM": 0.05}},
        likeness=None,
    )
    return frozen, pd.concat(rows, ignore_index=True), networks, values


def text_cells(rows, columns=("age", "grade")):
    """Rows of a cohort as a manifest has them."""
    return rows[["patient_id", "time_months", "event", *columns]].astype(str).set_axis(range(2, len(rows) + 2))


def scored(run, rows):
    frozen, _, networks, values = run
    table = predict.new_patients(text_cells(rows), [f.design for f in frozen.fusions.values()])
    ids = pd.Index(rows["patient_id"])
    mine = {s: risk[ids] for s, risk in networks.items() if len(s) == 1}
    return predict.score_table(frozen, table, mine, values.loc[ids])


@pytest.mark.parametrize("patients", [1, 7, 30], ids=["alone", "some", "all"])
def test_validation_patients_get_the_rows_of_the_run(cohort, run, patients):
    rows = cohort[cohort["split"] == "validation"].head(patients)
    again = scored(run, rows).set_index(["model", "patient_id"])
    before = run[1].query("kind == 'validation'").set_index(["model", "patient_id"]).loc[again.index]
    columns = ["risk", "lrfs_12", "lrfs_36", "lrfs_own"]
    np.testing.assert_allclose(again[columns], before[columns], rtol=0, atol=1e-12)
    assert (again["made_by"] == before["made_by"]).all()


def test_strangers_in_the_table_change_nobody(cohort, run):
    rows = cohort[cohort["split"] == "validation"].head(5)
    strangers = cohort.tail(5).assign(age=90.0, grade="G3")
    alone, mixed = scored(run, rows), scored(run, pd.concat([rows.iloc[:4], strangers.iloc[:1], rows.iloc[4:]]))
    mixed = mixed[mixed["patient_id"].isin(rows["patient_id"])].reset_index(drop=True)
    both = alone["patient_id"] != strangers["patient_id"].iloc[0]
    pd.testing.assert_frame_equal(
        alone[both].reset_index(drop=True), mixed[mixed["patient_id"].isin(alone[both]["patient_id"])]
    )


def test_the_table_passes_the_door_and_brings_its_cut_off(cohort, run):
    table = scored(run, cohort[cohort["split"] == "validation"]).astype({"event": int})
    assert check_scores(table) == []
    cutoffs = risk_groups.training_cutoffs(table)
    assert cutoffs["cutoff"].tolist() == [0.1] * 5 and set(cutoffs["learned_from"]) == {"given"}
    grouped = risk_groups.with_groups(table)
    assert ((grouped["risk"] > 0.1) == (grouped["group"] == "high")).all()
    rows = risk_groups.risk_group_rows(table)
    assert rows.loc[rows["metric"] == "hazard_ratio", "value"].notna().all()
    assert table["lower_90"].notna().eq(table["model"].isin(["DL", "DLCM"])).all()
    assert len(ledger.cutoffs(table, cutoffs)) == 5


def test_training_scores_decide_before_a_cut_off_that_was_brought(cohort, run):
    own = risk_groups.training_cutoffs(run[1])
    brought = risk_groups.training_cutoffs(run[1].assign(cutoff=9.0))
    pd.testing.assert_frame_equal(own, brought)


def test_a_model_with_two_cut_offs_is_refused(run):
    twice = run[1].assign(cutoff=np.arange(len(run[1])) % 2)
    assert any("different values of cutoff" in fault for fault in check_scores(twice))
    assert any("column cutoff: 'low'" in fault for fault in check_scores(run[1].assign(cutoff="low")))


@pytest.mark.parametrize(
    ("change", "column", "message"),
    [
        ({"grade": "G4"}, "grade", "G1, G2, G3"),
        ({"age": "old"}, "age", "a number, as in the run"),
        ({"grade": "1"}, "grade", "G1, G2, G3"),
        ("age", "age", "the clinical columns of the run"),
    ],
    ids=["level never seen", "word for a number", "number for a word", "column missing"],
)
def test_clinical_values_that_do_not_fit_are_named(cohort, run, change, column, message):
    cells = text_cells(cohort.tail(3))
    cells = cells.drop(columns=change) if isinstance(change, str) else cells.assign(**change)
    problems = predict.clinical_problems(cells, [f.design for f in run[0].fusions.values()])
    assert {p.column for p in problems} == {column} and message in problems[0].allowed
    assert len(problems) == (1 if isinstance(change, str) else 3)


def test_a_missing_value_is_filled_as_in_training(cohort, run):
    rows = cohort[cohort["split"] == "validation"].head(2).astype({"age": object, "grade": object})
    design = run[0].fusions["Clinical"].design
    rows.loc[rows.index[0], ["age", "grade"]] = ["", "NA"]
    filled = rows.assign(
        age=[design.medians["age"], rows["age"].iloc[1]], grade=[design.modes["grade"], rows["grade"].iloc[1]]
    )
    pd.testing.assert_frame_equal(scored(run, rows), scored(run, filled))


def test_patients_whose_outcome_taught_the_run_are_refused_under_any_name(run):
    patch = np.full((5, 16, 16, 16), 0.5, np.float16)
    frozen = replace(run[0], training_patches={digest(patch)})
    predict.refuse_training_patients(frozen, np.stack([patch + 1]), pd.Index(["NEW-1"]))
    with pytest.raises(ValueError, match=r"1 patient has images that .* was trained on \(NEW-2\)"):
        predict.refuse_training_patients(frozen, np.stack([patch + 1, patch]), pd.Index(["NEW-1", "NEW-2"]))


def test_an_altered_image_of_a_training_patient_is_refused_unless_it_is_somebody_else(whole):
    frozen = load_run(whole / "run")
    trained, _ = read_patches(whole / "run" / "patches.npz", ["P00", "P03"])
    noise = np.random.default_rng(0).normal(0, 0.015, trained[0].shape)
    new = (trained + noise).astype(np.float16)[:, :, :, ::-1]
    ids = pd.Index(["NEW-1", "NEW-2"])
    with pytest.raises(ValueError, match=r"1 patient has nearly the image of one .* trained on \(NEW-1 and P00\)"):
        predict.refuse_training_patients(frozen, new, ids)
    predict.refuse_training_patients(frozen, new, ids, pd.Series({"NEW-1": "P00"}))
    predict.refuse_training_patients(frozen, new[1:], ids[1:])


def test_an_unfinished_run_is_named_with_what_it_lacks(tmp_path):
    (tmp_path / "cohort.csv").write_text("patient_id\n")
    with pytest.raises(
        FileNotFoundError,
        match=r"no finished run; missing: patches.npz \(01_\w+\).*DLCM.json \(06_\w+\).*finish it with",
    ):
        load_run(tmp_path)


@pytest.mark.parametrize(
    ("feature", "fits"),
    [
        ("original_firstorder_Mean", True),
        ("log-sigma-3-0-mm-3D_glcm_Idm", True),
        ("log-sigma-5-0-mm-3D_glcm_Idm", False),
        ("wavelet-LLH_glcm_Idm", False),
    ],
)
def test_another_feature_set_is_refused_before_extraction(run, feature, fits):
    extraction = ExtractionSettings(("original", "log"), (3.0,))
    frozen = replace(run[0], extraction=extraction, radiomics=RadiomicModel([feature], [0], [1], [1], 0))
    if fits:
        _check_features(frozen)
    else:
        with pytest.raises(ValueError, match=f"asks for {feature}, rad_extraction.json computes original, log"):
            _check_features(frozen)


def test_a_cox_model_of_another_design_is_refused(run, cohort, tmp_path):
    fused = run[0].fusions["DLCM"]
    write_json(fused.model.as_dict(), tmp_path / "models" / "DLCM.json")
    other = learn_design(cohort[cohort["split"] == "training"], ["age"])
    write_json(asdict(other), tmp_path / "models" / "fusion_design.json")
    with pytest.raises(ValueError, match=r"DLCM.json and fusion_design.json differ in \['grade: G2', 'grade: G3'\]"):
        _fusion(tmp_path, "DLCM")


# ---------------------------------------------------------------- the door


MANIFEST = "patient_id,image,mask,grade\nP1,a.nii.gz,b.nii.gz,\n"


def test_one_patient_without_outcome_may_be_predicted_but_not_learned_from(tmp_path):
    path = tmp_path / "new.csv"
    path.write_text(MANIFEST)
    cells, problems = read_cells(path, learn=False)
    assert problems == [] and check_cells(cells, learn=False) == []
    assert {p.column for p in check_manifest(path)} == {"time_months", "event"}


def test_half_an_outcome_is_a_fault(tmp_path):
    path = tmp_path / "new.csv"
    path.write_text(MANIFEST.replace("grade", "event").replace("gz,\n", "gz,1\n"))
    assert [p.column for p in read_cells(path, learn=False)[1]] == ["time_months"]


# ---------------------------------------------------------------- networks


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two networks for each of three folds, trained for seconds, on noise."""
    run, draw = tmp_path_factory.mktemp("run"), np.random.default_rng(2)
    settings = PatchSettings(size=16)
    patches = draw.normal(0, 0.3, (24, 5, 16, 16, 16)).astype(np.float16)
    patches[:, [1, 4]] = np.abs(patches[:, [1, 4]])
    split = np.where(np.arange(24) % 4 == 3, "validation", "training")
    cohort = pd.DataFrame({"patient_id": [f"P{i}" for i in range(24)], "split": split})
    cohort["fold"] = np.where(split == "training", np.arange(24) % 3, np.nan)
    cohort = cohort.assign(time_months=draw.exponential(20, 24) + 1, event=np.arange(24) % 2)
    quick = TrainingSettings(epochs=10, network_options={"widths": [4]}, seeds_per_fold=2, seed=3)
    sets = crossfit.leave_out_sets(3, whole=False)
    scores = fit_fold_networks(patches, cohort, sets, quick, run / "models", preprocessing=plain_settings(settings))
    write_patches(cohort["patient_id"], patches, settings, run / "patches.npz")
    return run, cohort, patches, settings, scores


@pytest.mark.parametrize("chosen", [slice(0, 24), slice(3, 4)], ids=["all", "alone"])
def test_stored_networks_and_scales_give_the_scores_of_the_training(trained, chosen):
    run, cohort, patches, settings, scores = trained
    ids = pd.Index(cohort["patient_id"])[chosen]
    again = predict.network_scores(run, patches[chosen], settings, ids)
    assert list(again) == [(0,), (1,), (2,)]
    for left_out, risk in again.items():
        np.testing.assert_allclose(risk, scores[left_out][ids], rtol=0, atol=1e-5)
    together = crossfit.score_new(again, ids, "DL")
    assert together.made_by.iloc[0] == "DL without 0+DL without 1+DL without 2"


def test_networks_of_other_patches_or_lost_ones_are_named(trained, tmp_path):
    run, _, patches, settings, _ = trained
    with pytest.raises(ValueError, match=r"DL_without_0_0.safetensors was trained on patches cut otherwise"):
        predict.network_scores(run, patches, replace(settings, spacing_mm=9.0), pd.Index([]))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / ENSEMBLES).write_text((run / "models" / ENSEMBLES).read_text())
    with pytest.raises(
        FileNotFoundError, match=r"DL_without_0_0.safetensors is missing: train the networks of this run again"
    ):
        read_networks(tmp_path, settings)


# ---------------------------------------------------------------- spelling and direction


def test_categories_are_spelt_in_prediction_as_in_training(cohort, tmp_path):
    """A flag, a category called None and a patient called NA keep their spelling from the manifest to the model."""
    spelt = np.array(["TRUE", "FALSE"])[np.arange(len(cohort)) % 2]
    stage = np.array(["None", "I", "001"])[np.arange(len(cohort)) % 3]
    named = cohort.assign(
        patient_id=["NA", *cohort["patient_id"][1:]],
        multifocal=spelt,
        stage=stage,
        code=[f"{i % 4:03}" for i in range(len(cohort))],
    )
    stored = read_csv(write_csv(named, tmp_path / "cohort.csv"))
    columns = ["multifocal", "stage", "code"]
    design = learn_design(stored, columns)
    assert design.seen == {
        "multifocal": ["FALSE", "TRUE"],
        "stage": ["001", "I", "None"],
        "code": ["000", "001", "002", "003"],
    }
    described = table_one(stored, columns)
    assert set(described["level"]) >= {"TRUE", "None", "001", "000"} and (described["missing"].isin(["", "0"])).all()
    cells = text_cells(named, columns)
    assert predict.clinical_problems(cells, [design]) == []
    new = predict.new_patients(cells, [design])
    assert new["patient_id"].tolist() == named["patient_id"].tolist()
    pd.testing.assert_frame_equal(design.matrix(new), design.matrix(stored))


def test_a_score_that_points_the_wrong_way_gives_new_patients_no_lrfs_and_no_bound(cohort, run):
    frozen, *rest = run
    dl = frozen.fusions["DL"]
    turned = replace(dl, model=replace(dl.model, coefficients=[-0.3]))
    rows = cohort[cohort["split"] == "validation"]
    table = scored((replace(frozen, fusions={**frozen.fusions, "DL": turned}), *rest), rows)
    own, others = table[table["model"] == "DL"], table[table["model"] != "DL"]
    assert own[["lrfs_12", "lrfs_36", "lrfs_own", "lower_90"]].isna().all(axis=None) and own["risk"].notna().all()
    assert set(own["no_lrfs"]) == {"the score points the wrong way in training"} and others["no_lrfs"].isna().all()
    assert others["lrfs_36"].notna().all() and check_scores(table.astype({"event": int})) == []
