"""The full audit passes an honest run and names each leak planted in it, though its hashes are written anew."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from rps_utils.cli.main import main
from rps_utils.deep.augmentation import Augmentation
from rps_utils.deep.checkpoints import read_card, write_checkpoint
from rps_utils.deep.training import TrainingSettings, train_network
from rps_utils.files import read_csv, read_json, write_csv, write_json
from rps_utils.finished import recompute
from rps_utils.finished.audit import audit
from rps_utils.finished.image_models import other_trainings
from rps_utils.imaging.patches import read_patches, write_patches
from rps_utils.intervals.conformal import calibrate
from rps_utils.learning import crossfit, ledger
from rps_utils.run_folder import RunFolder
from tests.finished.conftest import evaluate, merge, seal, write_cox


def told(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main([*map(str, arguments)])
    return stop.value.code, capsys.readouterr().out


def test_an_honest_run_passes_and_the_command_says_what_it_verified_and_what_it_trusts(whole, capsys):
    status, said = told(capsys, "audit", whole / "run")
    assert status == 0, said
    assert said.count("verified: ") == len(recompute.CHECKS) and said.count("on trust: ") == 1 + len(recompute.ON_TRUST)
    assert "nothing that is recorded saw a patient it judged" in said


def test_without_the_manifest_more_is_on_trust(altered):
    shutil.rmtree(altered.parent / "images", ignore_errors=True)
    asked = read_json(altered / "parameters.json")
    for own in asked["parameters"].values():
        own.pop("manifest", None)
    write_json(asked, altered / "parameters.json")
    with pytest.raises(recompute.OnTrust, match="the manifest is not here any more"):
        list(recompute.other_cohort(recompute.RunData(altered)))


def read_part(run, name):
    return read_csv(run / "scores" / f"{name}.csv")


def change_part(run, name, change):
    """Alter the scores of a model and everything that follows from them."""
    rows = read_part(run, name)
    write_csv(change(rows), run / "scores" / f"{name}.csv")
    merge(run)
    evaluate(run)


def change_table(run, name, change):
    write_csv(change(read_csv(run / name)), run / name)


def in_sample_networks_with_fusion_redone(run):
    """Every place is made to agree: parts, nested scores, fusion, cut-offs, metrics."""
    rows, nested = read_part(run, "DL"), read_csv(run / "scores" / "DL_nested.csv")
    apparent = rows[rows["kind"] == "apparent"].set_index("patient_id")["risk"]
    held_out = rows["kind"] == "cross_fitted"
    rows.loc[held_out, "risk"] = rows.loc[held_out, "patient_id"].map(apparent)
    write_csv(rows, run / "scores" / "DL.csv")
    write_csv(nested.assign(risk=nested["patient_id"].map(apparent)), run / "scores" / "DL_nested.csv")
    fitted = crossfit.fitted_scores(rows, read_csv(run / "scores" / "DL_nested.csv"))
    write_cox(run, read_csv(run / "cohort.csv"), "DLCM", fitted)
    merge(run)
    evaluate(run)


def validation_scores_that_know_the_outcome(run):
    def change(rows):
        known = (rows["kind"] == "validation") & (rows["event"] == 1)
        return rows.assign(risk=rows["risk"] + 1.5 * known)

    change_part(run, "DL", change)


def apparent_scores_in_the_merged_table_alone(run):
    def change(rows):
        apparent = rows[(rows["model"] == "Rad") & (rows["kind"] == "apparent")].set_index("patient_id")["risk"]
        sold = (rows["model"] == "Rad") & (rows["kind"] == "cross_fitted")
        return rows.assign(risk=rows["risk"].mask(sold, rows["patient_id"].map(apparent)))

    change_table(run, "scores.csv", change)
    evaluate(run)


def know_the_outcome(rows):
    """Predicted LRFS is low for those who recur, and still falls with time."""
    power = np.where(rows["event"] == 1, 3, 1 / 3)
    return rows.assign(**{column: rows[column] ** power for column in ("lrfs_12", "lrfs_36", "lrfs_own")})


def lrfs_from_the_outcome(run):
    change_part(run, "DLCM", know_the_outcome)


def lrfs_of_an_image_score_from_the_outcome(run):
    change_part(run, "Rad", know_the_outcome)


def event_flipped(run):
    for path in [*sorted((run / "scores").glob("*.csv")), run / "scores.csv"]:
        rows = read_csv(path)
        if "event" in rows:
            write_csv(rows.assign(event=rows["event"].mask(rows["patient_id"] == "P03", 1 - rows["event"])), path)
    evaluate(run)


def patients_dropped(run):
    for path in [*sorted((run / "scores").glob("*.csv")), run / "scores.csv"]:
        rows = read_csv(path)
        if "kind" in rows:
            write_csv(rows[~((rows["kind"] == "validation") & rows["patient_id"].isin(["P03", "P07"]))], path)
    evaluate(run)


def one_object_that_saw_nobody(run):
    ledger.record(run, "honest", [ledger.Learned("pretrained network", "network")])
    for name in ("DL", "DLCM"):
        rows = read_part(run, name)
        write_csv(rows.assign(made_by="pretrained network"), run / "scores" / f"{name}.csv")
    merge(run)
    evaluate(run)


def fold_objects_that_saw_less(run):
    entries = [ledger.Learned(**entry) for entry in read_json(run / "ledger" / "Rad.json")]
    less = [ledger.Learned(e.name, e.kind, e.saw[:3], e.made_from) if e.name == "Rad from all" else e for e in entries]
    ledger.record(run, "Rad", less)


def cards_deleted(run):
    for path in (run / "models").glob("DL_without_*.json"):
        path.unlink()


def a_network_under_another_name(run):
    for end in (".safetensors", ".json"):
        shutil.copy(run / "models" / f"DL_without_1_0{end}", run / "models" / f"DL_without_0_0{end}")


def outcome_in_the_patches(run):
    cohort = read_csv(run / "cohort.csv")
    patches, settings = read_patches(run / "patches.npz", cohort["patient_id"])
    patches[cohort["event"] == 1, 0, 0, 0, 0] = 1.0
    write_patches(cohort["patient_id"], patches, settings, run / "patches.npz")


def a_radiomic_model_of_all_patients_for_a_fold(run):
    content = read_json(run / "models" / "rad_all.json")
    content["coefficients"] = [1.5 * value for value in content["coefficients"]]
    write_json(content, run / "models" / "rad_without_0.json")


def outcome_column_in_the_features(run):
    cohort = read_csv(run / "cohort.csv")
    change_table(run, "features.csv", lambda t: t.assign(original_firstorder_Hazard=cohort["event"] * 1.0))


def outcome_in_a_feature(run):
    event = read_csv(run / "cohort.csv")["event"]
    name = "original_firstorder_Mean"
    change_table(run, "features.csv", lambda t: t.assign(**{name: t[name] + 500.0 * event}))


def outcome_altered_in_the_cohort(run):
    flip = lambda t: t.assign(event=t["event"].mask(t["patient_id"] == "P00", 1 - t["event"]))  # noqa: E731
    for name in ("cohort.csv", "scores.csv", "scores/DL.csv"):
        change_table(run, name, flip)


def metrics_edited(run):
    for name in ("metrics.csv", "metrics/c.csv"):
        best = lambda t: t.assign(value=t["value"].mask((t["model"] == "DL") & (t["kind"] == "validation"), 0.93))  # noqa: E731
        change_table(run, name, best)


def metrics_edited_in_one_place(run):
    change_table(run, "metrics.csv", lambda t: t.assign(ci_low=t["ci_low"].where(t.index != 0, 0.7)))


def cut_off_moved(run):
    change_table(run, "tables/risk_groups_cutoffs.csv", lambda t: t.assign(cutoff=t["cutoff"] + 0.2))


def bound_widened(run):
    content = read_json(run / "models" / "bounds.json")
    content["residual"]["DLCM"] *= 2
    write_json(content, run / "models" / "bounds.json")


def a_cox_model_that_comes_from_elsewhere(run):
    content = read_json(run / "models" / "DLCM.json")
    content["coefficients"][0] += 0.4
    write_json(content, run / "models" / "DLCM.json")


def a_patient_mirrored_into_another_fold(run):
    cohort = read_csv(run / "cohort.csv")
    patches, settings = read_patches(run / "patches.npz", cohort["patient_id"])
    rows = cohort.set_index("patient_id")
    other = next(i for i in rows.index if rows.loc[i, "split"] == "validation")
    noise = np.random.default_rng(0).normal(0, 0.015, patches[0].shape)
    patches[list(rows.index).index(other)] = (patches[0] + noise)[:, :, :, ::-1]
    write_patches(cohort["patient_id"], patches, settings, run / "patches.npz")


NETWORKS, RADIOMICS = recompute.other_image_scores("DL"), recompute.other_image_scores("Rad")
LEAKS = {
    in_sample_networks_with_fusion_redone: (
        (NETWORKS, recompute.other_fused_scores),
        r"DL, cross_fitted: 36 patients .* have another risk.* than the models give: they are its apparent scores",
        r"DL, nested: 36 patients .* have other scores in scores/DL_nested.csv than the stored models give",
        r"DLCM, cross_fitted: .* another risk, lrfs_12.* in scores.csv than the models give",
        r"models/DLCM.json comes out otherwise",
    ),
    validation_scores_that_know_the_outcome: (
        (NETWORKS,),
        r"DL, validation: \d+ patients \(P.*\) have another risk in scores.csv than the models give: they move with",
    ),
    apparent_scores_in_the_merged_table_alone: (
        (),
        r"Rad, cross_fitted: \d+ patients .* another risk in scores.csv than in scores/: merge the tables again",
    ),
    lrfs_from_the_outcome: (
        (recompute.other_fused_scores,),
        r"DLCM, validation: 12 patients .* have another lrfs_12, lrfs_36, lrfs_own in scores.csv than the",
        r"DLCM, fold 0: scores move by 0\.\d+ when the outcomes of those judged are exchanged",
    ),
    lrfs_of_an_image_score_from_the_outcome: (
        (RADIOMICS,),
        r"Rad, validation: 12 patients .* another lrfs_12, lrfs_36",
    ),
    event_flipped: ((), r"1 patient \(P03\) have another event in scores.csv than in cohort.csv: scores were altered"),
    patients_dropped: ((), r"DL, validation: 2 patients \(P03, P07\) of cohort.csv have no row in scores.csv"),
    one_object_that_saw_nobody: (
        (NETWORKS,),
        r"the network 'pretrained network' saw nobody, says the ledger: only a ready-made score of the manifest may",
        r"DL, validation: 12 patients .* have another made_by in scores.csv than the models give",
    ),
    fold_objects_that_saw_less: ((), r"'Rad from all' saw 3 patients, says the ledger; its name means 36 patients"),
    cards_deleted: ((NETWORKS,), r"DL_without_0_0.safetensors has no card DL_without_0_0.json"),
    a_network_under_another_name: (
        (NETWORKS,),
        r"DL_without_0_0.safetensors judges as 'DL without 0', but its card says trained without \[1\]",
        r"DL_without_0_0.safetensors was trained on other patients than 'DL without 0' may see",
    ),
    outcome_in_the_patches: ((NETWORKS,), r"DL_without_0_0.safetensors was trained on other patches or outcomes than"),
    a_radiomic_model_of_all_patients_for_a_fold: (
        (recompute.other_radiomic_models,),
        r"'Rad without 0' comes out otherwise from the patients it may see: it has seen others",
    ),
    outcome_column_in_the_features: (
        (recompute.other_features,),
        r"features.csv has the column original_firstorder_Hazard, which is no feature of the extraction",
    ),
    outcome_in_a_feature: (
        (recompute.other_features, RADIOMICS, recompute.other_radiomic_models),
        r"features.csv: P\d\d has another original_firstorder_Mean than the crop gives|Rad, .* another risk",
    ),
    outcome_altered_in_the_cohort: (
        (recompute.other_cohort,),
        r"cohort.csv: 1 patient \(P00\) have another event than the manifest gives",
    ),
    metrics_edited: ((), r"DL, validation: metrics.csv says harrell_c 0.930, the scores give 0\.\d+"),
    metrics_edited_in_one_place: ((), r"metrics.csv: 1 row is not in metrics/, first harrell_c of"),
    cut_off_moved: ((), r"DLCM, validation: tables/risk_groups_cutoffs.csv has another cut-off than the scores give"),
    bound_widened: ((recompute.other_bounds,), r"bounds.json: the bound of DLCM is \d.*, its cross-fitted scores give"),
    a_cox_model_that_comes_from_elsewhere: ((recompute.other_fused_scores,), r"models/DLCM.json comes out otherwise"),
    a_patient_mirrored_into_another_fold: (
        (recompute.same_patients,),
        r"P00 in training fold \d and P03 in validation have nearly the same image \(\d\.\d HU apart\)",
    ),
}


@pytest.mark.parametrize(
    ("plant", "checks", "messages"),
    [(p, c, m) for p, (c, *m) in LEAKS.items()],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_each_planted_leak_is_caught_though_the_hashes_fit(altered, plant, checks, messages):
    plant(altered)
    seal(altered)
    data = recompute.RunData(altered)
    assert list(recompute.other_files(data)) == []
    findings = pd.Series([*audit(altered), *(line for check in checks for line in check(data))])
    for message in messages:
        assert findings.str.contains(message).any(), "\n".join(findings)


def test_a_bound_is_learned_from_the_folds_that_predict_lrfs(altered):
    run, data = RunFolder(altered), recompute.RunData(altered)
    data.scores.loc[(data.scores["model"] == "DLCM") & data.scores["patient_id"].str.endswith("1"), "lrfs_own"] = np.nan
    assert any("the bound of DLCM is" in line for line in recompute.other_bounds(data))
    left = data.scores[(data.scores["model"] == "DLCM") & (data.scores["kind"] == "cross_fitted")].dropna(
        subset="lrfs_own"
    )
    content = read_json(run.model("bounds"))
    content["residual"]["DLCM"] = calibrate(left["time_months"], left["event"], left["lrfs_own"], level=0.9)
    write_json(content, run.model("bounds"))
    assert list(recompute.other_bounds(data)) == []


def test_what_was_altered_afterwards_is_found_by_its_hash(altered):
    bound_widened(altered)
    cards_deleted(altered)
    (altered / "models" / "extra.json").write_text("{}")
    findings = "\n".join(recompute.other_files(recompute.RunData(altered)))
    assert "models/bounds.json is not what the run wrote: its hash is another than in run.json" in findings
    assert "models/DL_without_0_0.json is missing, and run.json names it" in findings
    assert "models/extra.json is not in run.json: the run did not write it" in findings


def test_a_network_that_had_seen_everybody_under_an_honest_card_is_found_by_training_it_again(altered):
    """Card, hashes, scales and scores fit: nothing else can tell."""
    cohort = read_csv(altered / "cohort.csv")
    patches, _ = read_patches(altered / "patches.npz", cohort["patient_id"])
    assert list(other_trainings(altered, cohort, 2)) == []
    path = altered / "models" / "DL_without_0_0.safetensors"
    card, everybody = read_card(path), (cohort["split"] == "training").to_numpy()
    write_checkpoint(_train_on(card, patches, cohort, everybody), card, path)
    (finding,) = other_trainings(altered, cohort, 6)
    assert "DL_without_0_0.safetensors comes out otherwise, by up to " in finding


def _train_on(card, patches, cohort, learns):
    chosen = {**card["settings"], "augmentation": Augmentation(**card["settings"]["augmentation"])}
    time, event = torch.tensor(cohort.loc[learns, ["time_months", "event"]].to_numpy(float)).T
    settings = TrainingSettings(**{**chosen, "intensity_channels": tuple(chosen["intensity_channels"])})
    return train_network(torch.from_numpy(patches[learns]), time, event, settings, card["seed"])[0]


def test_features_that_are_words_are_refused(altered):
    change_table(altered, "features.csv", lambda t: t.assign(note="recurred"))
    with pytest.raises(ValueError, match=r"features.csv: note; allowed: numbers by patient"):
        list(recompute.other_features(recompute.RunData(altered)))
