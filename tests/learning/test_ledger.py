"""The audit passes an honest run and names each of the leaks planted in it."""

import gzip
import hashlib
import shutil
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest

from rps_utils.deep.augmentation import Augmentation
from rps_utils.evaluation import risk_groups
from rps_utils.evaluation.discrimination import discrimination_rows
from rps_utils.files import read_csv, read_json, write_csv, write_json
from rps_utils.finished.audit import audit, moved_by_own_outcomes, refit_plans, verdict
from rps_utils.finished.origin import writer_of
from rps_utils.learning import crossfit, fusion, ledger
from rps_utils.report.page import write_report
from rps_utils.scores import merge_scores, ready_made_scores
from tests.conftest import draw_cohort

SETS = crossfit.leave_out_sets(3)
KINDS = {"DL": "network", "Rad": "LASSO-Cox model"}


def fit_image(cohort):
    """An image model: the weight of `signal` by least squares on the outcome, in the patients learned from."""

    def fit_and_score(ids):
        rows = cohort[cohort["patient_id"].isin(ids)]
        outcome = rows["event"] - np.log(rows["time_months"])
        weights = np.linalg.lstsq(rows[["signal", "noise", "age"]], outcome, rcond=None)[0]
        return pd.Series(cohort[["signal", "noise", "age"]].to_numpy() @ weights, pd.Index(cohort["patient_id"]))

    return crossfit.score_left_out(cohort, SETS, fit_and_score)


def write_image_model(run, name, cohort):
    fitted = crossfit.assemble(cohort, fit_image(cohort), name)
    learned = ledger.cross_fitted(name, KINDS[name], cohort, SETS)
    rows, _ = fusion.cox_scores(cohort, fusion.FusionPlan(name), fitted, [36], learned)
    ledger.record(run, name, learned)
    write_csv(rows, run / "scores" / f"{name}.csv")
    write_csv(crossfit.nested_table(fitted), run / "scores" / f"{name}_nested.csv")


def write_cox(run, name, image, columns):
    learned = []
    plan = fusion.FusionPlan(name, columns, 0.1)
    rows, _ = fusion.cox_scores(read_csv(run / "cohort.csv"), plan, image, [36], learned)
    ledger.record(run, name, learned)
    write_csv(rows, run / "scores" / f"{name}.csv")
    return merge(run)


def read_image(run, name="DL"):
    return crossfit.fitted_scores(
        read_csv(run / "scores" / f"{name}.csv"), read_csv(run / "scores" / f"{name}_nested.csv")
    )


def merge(run):
    paths = [p for p in sorted((run / "scores").glob("*.csv")) if not p.stem.endswith("nested")]
    write_csv(merge_scores(paths), run / "scores.csv")
    return run


def write_images(run, cohort):
    draw = np.random.default_rng(1)
    patches = draw.normal(size=(len(cohort), 1, 2, 2, 2)).astype(np.float16)
    np.savez(run / "patches.npz", patient_id=cohort["patient_id"].to_numpy(str), patches=patches)
    (run / "crops").mkdir()
    for i, patient in enumerate(cohort["patient_id"]):
        (run / "crops" / f"{patient}_ct.nii.gz").write_bytes(gzip.compress(bytes([i, 0]), mtime=i))


def write_cards(run, cohort):
    for left_out in SETS:
        name = "_".join(["DL", "without", *map(str, left_out)] if left_out else ["DL", "all"])
        ids = "\n".join(crossfit.learning_patients(cohort, left_out)).encode()
        settings = {"network": "plain", "network_options": {}, "augmentation": asdict(Augmentation())}
        made = {"left_out_folds": list(left_out), "training_ids_sha256": hashlib.sha256(ids).hexdigest()}
        card = {**made, "settings": settings, "patch_shape": [1, 2, 2, 2]}
        write_json(card, run / "models" / f"{name}_0.json")


def write_cutoffs(run, learned_from=None):
    scores = read_csv(run / "scores.csv")
    table = risk_groups.training_cutoffs(scores)
    if learned_from:
        table["learned_from"] = learned_from
    write_csv(table, run / "tables" / "risk_groups_cutoffs.csv")
    ledger.record(run, "cut-offs", ledger.cutoffs(scores, table))


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    run = tmp_path_factory.mktemp("honest")
    cohort = draw_cohort(patients=90, folds=3)
    cohort["risk_Published"] = cohort["age"] / 10
    write_csv(cohort, run / "cohort.csv")
    for name in KINDS:
        write_image_model(run, name, cohort)
    ready_made = ready_made_scores(cohort)
    ledger.record(run, "ready_made", ledger.ready_made(ready_made))
    write_csv(ready_made, run / "scores" / "ready_made.csv")
    write_cox(run, "Clinical", None, ["age", "grade"])
    for name, image in (("DLCM", "DL"), ("RSCM", "Rad")):
        write_cox(run, name, read_image(run, image), ["age", "grade"])
    step = writer_of("models/DLCM.json").name
    write_json({"parameters": {step: {"clinical_columns": ["age", "grade"], "ridge": 0.1}}}, run / "parameters.json")
    write_images(run, cohort)
    write_cards(run, cohort)
    write_cutoffs(run)
    return run


@pytest.fixture
def run(honest, tmp_path):
    return shutil.copytree(honest, tmp_path / "run")


def test_an_honest_run_passes(honest):
    assert audit(honest) == []
    scores = read_csv(honest / "scores.csv")
    assert scores.columns[-1] == "made_by" and scores["made_by"].notna().all()
    assert "nothing that is recorded saw a patient it judged (5" in verdict(honest, [])


def change_entries(run, family, change):
    return [change(ledger.Learned(**entry)) for entry in read_json(run / "ledger" / f"{family}.json")]


def prepare_rad_by(run, kind, patients):
    """Every Rad model stands on one object that was fitted beforehand on `patients`."""
    first = ledger.Learned(f"Rad {kind}", kind, list(patients))

    def change(entry):
        return replace(entry, made_from={**entry.made_from, first.name: []}) if entry.kind == KINDS["Rad"] else entry

    ledger.record(run, "Rad", [first, *change_entries(run, "Rad", change)])


def scaled_before_the_split(run):
    prepare_rad_by(run, "scaler", read_csv(run / "cohort.csv")["patient_id"])


def selected_on_all_training_patients(run):
    cohort = read_csv(run / "cohort.csv")
    prepare_rad_by(run, "feature selection", cohort.loc[cohort["split"] == "training", "patient_id"])


def cut_off_on_validation(run):
    write_cutoffs(run, "validation")


def fused_on_in_sample_scores(run):
    image = read_image(run)
    by = {**image.made_by, "cross_fitted": image.made_by["apparent"]}
    write_cox(run, "DLCM", replace(image, cross_fitted=image.apparent, made_by=by), ["age"])


def fused_on_scores_that_are_not_nested(run):
    image = read_image(run)
    nested = {k: image.cross_fitted[s.index] for k, s in image.nested.items()}
    by = {k: image.made_by["cross_fitted"][s.index] for k, s in image.nested.items()}
    write_cox(run, "DLCM", replace(image, nested=nested, made_by={**image.made_by, **by}), ["age"])


def judged_by_the_network_of_everybody(run):
    scores = read_csv(run / "scores.csv")
    leaking = (scores["model"] == "DL") & (scores["kind"] == "cross_fitted")
    scores.loc[leaking, "made_by"] = "DL from all"
    write_csv(scores, run / "scores.csv")


def one_patch_under_two_ids(run):
    with np.load(run / "patches.npz") as stored:
        patients, patches = stored["patient_id"], stored["patches"].copy()
    patches[3] = patches[0]  # P000 is in training, P003 in validation
    np.savez(run / "patches.npz", patient_id=patients, patches=patches)


def one_image_under_two_ids(run):
    content = gzip.decompress((run / "crops" / "P001_ct.nii.gz").read_bytes())
    (run / "crops" / "P002_ct.nii.gz").write_bytes(gzip.compress(content, mtime=99))


def network_not_recorded(run):
    (run / "ledger" / "DL.json").unlink()


def scores_without_provenance(run):
    write_cox(run, "DLCM", replace(read_image(run), made_by={}), ["age"])


def rows_without_makers(run):
    scores = read_csv(run / "scores.csv")
    write_csv(scores.assign(made_by=scores["made_by"].where(scores["model"] != "Rad")), run / "scores.csv")


def cut_off_not_recorded(run):
    (run / "ledger" / "cut-offs.json").unlink()


def network_trained_on_others(run):
    card = read_json(run / "models" / "DL_without_1_0.json")
    write_json({**card, "left_out_folds": [2]}, run / "models" / "DL_without_1_0.json")


def another_cohort(run):
    cohort = read_csv(run / "cohort.csv")
    write_csv(cohort[cohort["patient_id"] != "P000"], run / "cohort.csv")


def moved_to_validation(run):
    cohort = read_csv(run / "cohort.csv")
    cohort.loc[0, ["split", "fold"]] = ["validation", np.nan]
    write_csv(cohort, run / "cohort.csv")


LEAKS = {
    scaled_before_the_split: [
        r"the scaler 'Rad scaler' saw 22 patients \(P003, .* of the validation split",
        r"Rad, validation: 22 patients .* judged by 'Rad from all' <- 'Rad scaler', a scaler that had seen them",
        r"Rad, cross_fitted: \d+ patients .* by 'Rad without 0' <- 'Rad scaler', a scaler that had seen them",
    ],
    selected_on_all_training_patients: [
        r"Rad, cross_fitted: \d+ patients .* 'Rad without 0' <- 'Rad feature selection', a feature selection that had"
    ],
    cut_off_on_validation: [r"the cut-off 'cut-off of DLCM' saw 22 patients .* of the validation split"],
    fused_on_in_sample_scores: [
        r"the Cox model 'DLCM Cox from all' learned from in-sample scores: 'DL from all' had seen 68 patients",
        r"DLCM, cross_fitted: \d+ patients .* were judged by 'DL from all', a network that had seen them",
    ],
    fused_on_scores_that_are_not_nested: [
        r"DLCM, cross_fitted: \d+ patients .* 'DLCM Cox without 0' <- 'DL without 1', a network that had seen them"
    ],
    judged_by_the_network_of_everybody: [
        r"DL, cross_fitted: 68 patients \(P000, .* judged by 'DL from all', a network that had seen them"
    ],
    one_patch_under_two_ids: [
        r"one network patch under 2 ids, across folds or splits: P000 in training 0.0, P003 in validation; keep one"
    ],
    one_image_under_two_ids: [r"one CT crop under 2 ids, .*: P001 in training 1.0, P002 in training 2.0"],
    network_not_recorded: [
        r"'DL without 0' made rows of scores.csv, but is not in the ledger: record it where it is fitted",
        r"'DL without 0,1' taught 'DLCM Cox without 0', but is not in the ledger",
    ],
    scores_without_provenance: ["'an unnamed model' made rows of scores.csv, but is not in the ledger"],
    rows_without_makers: ["Rad, cross_fitted: 68 rows do not say what made them: give `score_rows` the column made_by"],
    cut_off_not_recorded: ["'cut-off of DL' divided the validation patients, but is not in the ledger"],
    network_trained_on_others: ["DL_without_1_0.json was trained on other patients than the ledger says of"],
    another_cohort: [
        r"the network 'DL from all' saw 1 patient \(P000\) who are not in cohort.csv",
        r"1 patient \(P000\) are training in scores.csv and absent in cohort.csv",
    ],
    moved_to_validation: [
        r"1 patient \(P000\) are training in scores.csv and validation in cohort.csv: they must agree",
        r"the network 'DL from all' saw 1 patient \(P000\) of the validation split",
    ],
}


@pytest.mark.parametrize(("plant", "messages"), LEAKS.items(), ids=[plant.__name__ for plant in LEAKS])
def test_each_planted_leak_is_caught(run, plant, messages):
    plant(run)
    findings = "\n".join(audit(run))
    for message in messages:
        assert pd.Series(findings.split("\n")).str.contains(message).any(), findings


def test_nested_scores_that_come_from_the_ledger_are_not_blamed(run):
    """The leak of one model does not stain the others."""
    fused_on_scores_that_are_not_nested(run)
    assert all(finding.startswith("DLCM, ") for finding in audit(run))


def test_the_ledger_tells_whose_outcomes_can_move_a_score(cohort):
    """The independent proof: change outcomes, and the rows that move are those whose lineage saw the patients."""

    def everything(cohort):
        learned = ledger.cross_fitted("DL", "network", cohort, SETS)
        image = crossfit.assemble(cohort, fit_image(cohort), "DL")
        rows = [
            fusion.cox_scores(cohort, fusion.FusionPlan(name, columns), image, [36], learned)[0]
            for name, columns in (("DL", []), ("DLCM", ["age"]))
        ]
        return pd.concat(rows), {entry.name: entry for entry in learned}

    cohort = cohort.assign(fold=cohort["fold"] % 3)
    spoiled = (cohort["fold"] == 2) & (cohort.index < 60)
    changed = cohort.assign(
        time_months=cohort["time_months"].mask(spoiled, 1.0), event=cohort["event"].mask(spoiled, 1)
    )
    (before, entries), (after, _) = everything(cohort), everything(changed)
    patients = set(cohort.loc[spoiled, "patient_id"])
    knew = before["made_by"].map(
        lambda names: any(patients & set(entries[w].saw) for n in names.split("+") for w in ledger.lineage(n, entries))
    )
    moved = before["lrfs_36"] != after["lrfs_36"]
    pd.testing.assert_series_equal(moved, knew, check_names=False)
    assert (~knew).sum() == 2 * (cohort["fold"] == 2).sum()  # of each model, the cross-fitted rows of fold 2


def test_the_report_shows_the_verdict(run):
    write_csv(discrimination_rows(read_csv(run / "scores.csv"), tau=36, n_bootstrap=20), run / "metrics.csv")
    assert "nothing that is recorded saw" in write_report(run).read_text(encoding="utf-8")
    selected_on_all_training_patients(run)
    page = write_report(run).read_text(encoding="utf-8")
    assert "10 findings; scores above may be too good" in page and "a feature selection that had seen them" in page


def blind_refit(run, plan):
    scores = read_csv(run / "scores.csv")
    image = read_image(run, fusion.FUSED[plan.model])
    return list(moved_by_own_outcomes(read_csv(run / "cohort.csv"), plan, image, scores[scores["model"] == plan.model]))


def test_refits_find_what_a_lying_ledger_hides(run):
    """Apparent scores are sold as cross-fitted; ids and names in the ledger stay those of an honest run."""
    plans = [plan for plan in refit_plans(run) if plan.model == "DLCM"]
    assert blind_refit(run, plans[0]) == []
    scores = read_csv(run / "scores.csv")
    apparent = scores[scores["kind"] == "apparent"].set_index(["model", "patient_id"])["risk"]
    sold = (scores["model"] == "DLCM") & (scores["kind"] == "cross_fitted") & (scores["patient_id"] != "P000")
    scores.loc[sold, "risk"] = apparent["DLCM"][scores.loc[sold, "patient_id"]].to_numpy()
    write_csv(scores, run / "scores.csv")
    write_csv(scores[scores["model"] == "DLCM"], run / "scores" / "DLCM.csv")
    write_cutoffs(run)
    assert audit(run) == []
    findings = blind_refit(run, plans[0])
    assert [finding.split(":")[0] for finding in findings] == ["DLCM, fold 0", "DLCM, fold 1", "DLCM, fold 2"]
    assert "when the outcomes of those judged are exchanged" in findings[0]


FAULTS = {
    "plus in a name": ([["A+B"]], "object name 'A.B'; allowed: a name without '.'"),
    "twice in one file": ([["A", "A"]], "ledger 0: 'A' is entered twice"),
    "twice in two files": ([["A"], ["A"]], "two entries are called 'A'; allowed: one"),
}


@pytest.mark.parametrize(("files", "message"), FAULTS.values(), ids=FAULTS)
def test_names_must_tell_objects_apart(files, message, tmp_path):
    def write_and_read():
        for i, names in enumerate(files):
            ledger.record(tmp_path, str(i), [ledger.Learned(name, "network") for name in names])
        ledger.read_ledger(tmp_path)

    with pytest.raises(ValueError, match=message):
        write_and_read()


def test_scores_of_an_ensemble_name_all_its_members(cohort):
    scores = {s: cohort.set_index("patient_id")["signal"] for s in crossfit.leave_out_sets(5, whole=False)}
    fitted = crossfit.assemble(cohort, scores, "DL")
    assert fitted.part("validation").made_by.iloc[0] == "+".join(f"DL without {k}" for k in range(5))
    assert fitted.part("apparent").made_by["P000"] == "DL without 1+DL without 2+DL without 3+DL without 4"
    assert fitted.part("cross_fitted").made_by["P001"] == "DL without 1"
    assert fitted.part(3).made_by["P001"] == "DL without 1,3"


def test_paths_lead_to_every_ancestor_by_the_shortest_way():
    chain = {"A": {"B": [], "C": []}, "B": {"C": []}, "C": {"A": []}}
    entries = {name: ledger.Learned(name, "network", [], sources) for name, sources in chain.items()}
    assert ledger.lineage("A", entries) == {"A": ["A"], "B": ["A", "B"], "C": ["A", "C"]}
