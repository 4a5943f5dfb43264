"""The whole chain, as a user runs it: a small synthetic cohort, every notebook, every promised file."""

import json
import os
import re
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter
from lifelines.datasets import load_rossi

from rps_utils.evaluation.risk_groups import training_cutoffs
from rps_utils.files import read_csv, read_json
from rps_utils.runs.chain import closing_steps
from rps_utils.runs.freshness import make_plan
from rps_utils.runs.parameters import PROFILES
from rps_utils.scores import KINDS_OF_SPLIT, read_scores
from rps_utils.sources import PACKAGE, Contents
from rps_utils.steps import read_steps

from .runs.same_bytes import contents

pytestmark = pytest.mark.chain
MODELS = {"DL", "Rad", "Clinical", "DLCM", "RSCM", "Oracle"}
PATIENTS = 48
TRACER = Path(__file__).parent / "runs" / "tracer"
MEASURED = ("logs/", "run.json")  # of earlier notebooks, shown by notebook 12; not the same twice


def rps(*arguments, expect=0, hash_seed=0, **environment):
    """Run the command line; return what it printed."""
    command = [sys.executable, "-m", "rps_utils.cli", *map(str, arguments)]
    surroundings = {**os.environ, "PYTHONHASHSEED": str(hash_seed), **environment}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run(command, env=surroundings, text=True, check=False, **pipes)
    assert done.returncode == expect, done.stdout[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    rps("phantom", folder, "--patients", PATIENTS, "--seed", 11)
    return folder / "data_manifest.csv"


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    """Folder with one file a step: what its kernel and all it started opened, and how."""
    return tmp_path_factory.mktemp("traced")


@pytest.fixture(scope="module")
def run(manifest, traced, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "small"
    watched = {"PYTHONPATH": str(TRACER), "RPS_TRACED": str(traced)}
    printed = rps("run", "--manifest", manifest, "--out", folder, "--profile", "quick", **watched)
    assert "cross-fitted" in printed and "report.html" in printed
    return folder


def test_every_notebook_was_executed_without_an_error(run):
    for step in read_steps():
        cells = read_json(run / "notebooks" / f"{step.name}.ipynb")["cells"]
        kinds = {o["output_type"] for c in cells for o in c.get("outputs", [])}
        assert "error" not in kinds, step.name
        warned = [o["text"] for c in cells for o in c.get("outputs", []) if o.get("name") == "stderr"]
        assert not warned, (step.name, warned)


def test_every_file_that_a_notebook_reads_is_declared(run, traced):
    """What is not declared is not looked at when a run is brought up to date."""
    for step in read_steps():
        made = read_json(run / "logs" / f"{step.name}.json")["made"]
        lines = (traced / step.name).read_text().splitlines() if (traced / step.name).is_file() else []
        paths = {Path(line) for line in lines}
        inside = {path.relative_to(run).as_posix() for path in paths if path.is_relative_to(run)}
        own = {
            name
            for name in inside
            if name in made or ".partial-" in name or ".parts" in name or name.startswith((".chain/", *MEASURED))
        }
        undeclared = [name for name in inside - own if not any(fnmatchcase(name, read) for read in step.reads)]
        assert not undeclared, (step.name, undeclared)
        tables = {path.relative_to(PACKAGE).as_posix() for path in paths if path.is_relative_to(PACKAGE)}
        assert {name for name in tables if name.endswith(".csv")} <= set(step.data), step.name


def test_scores_have_every_model_and_kind_and_patient(run, manifest):
    scores = read_scores(run / "scores.csv")
    assert set(scores["model"]) == MODELS
    splits = read_csv(manifest)["split"].value_counts()
    for model in MODELS - {"Oracle"}:
        for split, kinds in KINDS_OF_SPLIT.items():
            for kind in kinds:
                rows = scores[(scores["model"] == model) & (scores["kind"] == kind)]
                assert len(rows) == splits[split], (model, kind)
                rows = rows[rows["no_lrfs"].isna()] if "no_lrfs" in rows else rows  # points the wrong way, and says so
                assert rows[["lrfs_12", "lrfs_36"]].apply(lambda column: column.between(0, 1)).all(axis=None)


def test_scores_point_in_the_direction_of_earlier_recurrence(run):
    scores = read_scores(run / "scores.csv")
    apparent = scores[(scores["kind"] == "apparent") & scores["model"].isin(["Clinical", "DLCM", "RSCM"])]
    for model, rows in apparent.groupby("model"):
        early = rows.loc[(rows["event"] == 1) & (rows["time_months"] < 24), "risk"].mean()
        late = rows.loc[rows["time_months"] > 24, "risk"].mean()
        assert early > late, model
        assert rows["risk"].corr(rows["lrfs_36"], method="spearman") < -0.99


def test_metrics_follow_the_contract(run):
    metrics = read_csv(run / "metrics.csv")
    contract = ["split", "kind", "model", "metric", "horizon_months", "value", "ci_low", "ci_high", "n", "events"]
    assert list(metrics.columns)[: len(contract)] == contract
    promised = {
        *("harrell_c", "uno_c", "td_auc", "brier", "ibs"),
        *("calibration_slope", "ici", "hazard_ratio", "logrank_p"),
    }
    assert promised <= set(metrics["metric"])
    c = metrics[metrics["metric"] == "harrell_c"]
    assert set(c["model"]) == MODELS
    assert (c["ci_low"] <= c["value"]).all() and (c["value"] <= c["ci_high"]).all()
    oracle = c[(c["model"] == "Oracle") & (c["kind"] == "cross_fitted")]
    assert oracle["value"].item() > 0.65  # the truth ranks even a small cohort well


def test_figures_come_with_their_data(run):
    figures = sorted(p.stem for p in (run / "figures").glob("*.html"))
    assert {name[:2] for name in figures} >= {"01", "02", "03", "04", "05", "06", "07", "08", "09", "10", "11"}
    for name in figures:
        assert len(pd.read_csv(run / "figures" / f"{name}.csv")), name
        assert json.loads((run / "figures" / f"{name}.json").read_text())["data"], name


def test_the_report_is_one_page_that_works_offline(run):
    page = (run / "report.html").read_text()
    assert re.findall(r'(?:src|href)="((?!#|data:|https://doi\.org)[^"]+)"', page) == ["evidence/index.html"]
    assert (run / "evidence" / "index.html").is_file()
    for model in MODELS:
        assert model in page


def test_the_record_of_the_run_is_complete(run):
    record = read_json(run / "run.json")
    assert set(record["notebooks"]) == {s.name for s in read_steps()}
    assert all(n["seconds"] > 0 and n["peak_mib"] > 50 for n in record["notebooks"].values())
    assert record["parameters"]["03_deep_learning"]["epochs"] == PROFILES["quick"]["epochs"]
    assert record["versions"]["torch"] and len(record["manifest"]["sha256"]) == len(record["code_sha256"]) == 64
    sources = record["notebooks"]["13_claim_tested"]["sources"]
    assert {Path(name).name for name in sources["data"]} >= {"power.csv", "replicates.csv"}
    assert all(len(sha) == 64 for sha in [sources["notebook"], sources["workflow"], *sources["code"].values()])


def test_another_hash_seed_gives_the_same_bytes(run, manifest, tmp_path_factory):
    """Nothing that is written follows the order of a set, which is another one in each process."""
    other = tmp_path_factory.mktemp("other") / "small"
    rps("run", "--manifest", manifest, "--out", other, "--profile", "quick", hash_seed=1)
    first, second = dict(contents(run)), dict(contents(other))
    assert len(first) > 200 and first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_nobody_was_judged_by_a_model_that_had_seen_the_patient(run):
    assert "nothing that is recorded saw a patient it judged" in rps("audit", run)


@pytest.fixture(scope="module")
def predicted(run, manifest, tmp_path_factory):
    """The run applied to its own validation patients among three of another seed, and to one of them alone."""
    folder, out = manifest.parent, tmp_path_factory.mktemp("predicted")
    rps("phantom", folder / "other", "--patients", 3, "--seed", 12, "--manifest", folder / "strangers.csv")
    own, others = (pd.read_csv(folder / name, dtype=str) for name in ("data_manifest.csv", "strangers.csv"))
    mine = own[own["split"] == "validation"]
    pd.concat([others.assign(patient_id="X-" + others["patient_id"]), mine]).to_csv(folder / "new.csv", index=False)
    mine.head(1).drop(columns=["split", "time_months", "event"]).to_csv(folder / "one.csv", index=False)
    said = rps("predict", run, "--manifest", folder / "new.csv", "--out", out / "new.csv")
    assert "unlike the training patients" in said
    rps("predict", run, "--manifest", folder / "one.csv", "--out", out / "one.csv")
    return out


@pytest.mark.parametrize("name", ["new.csv", "one.csv"], ids=["among others", "alone, without outcome"])
def test_a_frozen_run_gives_its_validation_patients_the_same_scores(run, predicted, name):
    before = read_scores(run / "scores.csv").query("kind == 'validation'").set_index(["model", "patient_id"])
    again = read_csv(predicted / name).set_index(["model", "patient_id"])
    again = again[again.index.isin(before.index)]
    assert set(again.index.levels[0]) == MODELS
    assert name == "one.csv" or len(again) == len(before)
    for column in ("risk", "lrfs_12", "lrfs_36", "lrfs_60"):
        np.testing.assert_allclose(again[column], before.loc[again.index, column], rtol=0, atol=1e-6)
    assert (again["made_by"] == before.loc[again.index, "made_by"]).all()


def test_predicted_scores_can_be_evaluated_by_the_cut_offs_of_the_run(run, predicted):
    scores = read_scores(predicted / "new.csv")
    assert scores["distance"].notna().all() and scores["unlike"].dtype == bool
    frozen = read_csv(run / "tables" / "risk_groups_cutoffs.csv").query("kind == 'validation'")
    brought = training_cutoffs(scores).set_index("model")["cutoff"]
    assert brought.to_dict() == pytest.approx(frozen.set_index("model")["cutoff"].to_dict())
    assert "time_months" not in read_csv(predicted / "one.csv")


def test_training_patients_are_not_predicted_under_another_name(run, manifest, tmp_path):
    own = pd.read_csv(manifest, dtype=str)
    renamed = own[own["split"] == "training"].head(2).assign(patient_id=["N-1", "N-2"], split="validation")
    renamed.to_csv(manifest.parent / "renamed.csv", index=False)
    wanted = ["--manifest", manifest.parent / "renamed.csv", "--out", tmp_path / "never.csv"]
    assert "2 patients have images that" in rps("predict", run, *wanted, expect=1)
    assert not (tmp_path / "never.csv").exists()


def test_running_again_finds_nothing_to_do(run, manifest):
    before = (run / "scores.csv").stat().st_mtime_ns
    printed = rps("run", "--manifest", manifest, "--out", run, "--profile", "quick")
    assert "nothing to do" in printed
    assert (run / "scores.csv").stat().st_mtime_ns == before


def test_a_lost_file_is_made_again_and_is_the_same(run, manifest):
    path = run / "scores" / "Clinical.csv"
    before = path.read_bytes()
    path.unlink()
    printed = rps("run", "--manifest", manifest, "--out", run, "--profile", "quick")
    assert "05_clinical_cox" in printed and "03_deep_learning" not in printed
    assert path.read_bytes() == before


def test_a_comment_in_any_module_reruns_nothing_and_a_table_of_results_what_shows_it(run, manifest):
    """Planned, not run: on the notebooks of the repository, with the content of one file changed."""
    steps, contents = read_steps(), Contents(run / ".chain" / "hashes.json")
    asked = read_json(run / "parameters.json")["parameters"]
    (table,) = [name for step in steps for name in step.data if name.endswith("power.csv")]
    before = contents.sha256

    def renewed(path):
        return "0" * 64 if path == PACKAGE / table else before(path)

    contents.sha256 = renewed
    plan = make_plan(run, [*steps, *closing_steps(steps)], asked, contents)
    assert {d.step.name: d.state for d in plan if d.state != "reused"} == {"13_claim_tested": "runs", "report": "waits"}
    commented = Contents(run / ".chain" / "hashes.json")
    read = commented.code
    commented.code = lambda text: read(text + "\n# a comment\n")
    assert {d.state for d in make_plan(run, [*steps, *closing_steps(steps)], asked, commented)} == {"reused"}


def test_another_parameter_reruns_only_what_depends_on_it(run, manifest):
    printed = rps(
        *("run", "--manifest", manifest, "--out", run, "--profile", "quick", "-p", "clinical_columns=['age','grade']")
    )
    assert "05_clinical_cox" in printed and "06_fusion" in printed and "04_radiomics" not in printed


def test_evaluation_of_scores_from_anywhere(tmp_path):
    """Two Cox models on the recidivism data of lifelines (432 people, weeks): first half trains, second validates."""
    data = load_rossi().rename(columns={"week": "time_months", "arrest": "event"})
    data = data.sample(frac=1, random_state=0).reset_index(drop=True)
    training = data.index < 260
    tables = []
    for model, columns in {"A": ["fin", "age", "prio"], "B": ["race", "mar"]}.items():
        fit = CoxPHFitter().fit(data.loc[training, [*columns, "time_months", "event"]], "time_months", "event")
        lrfs = fit.predict_survival_function(data, times=[26, 50]).T.to_numpy()
        rows = data[["time_months", "event"]].assign(
            patient_id=[f"R{i}" for i in data.index],
            split=np.where(training, "training", "validation"),
            kind=np.where(training, "apparent", "validation"),
            model=model,
            risk=fit.predict_log_partial_hazard(data),
        )
        tables.append(rows.assign(lrfs_26=lrfs[:, 0], lrfs_50=lrfs[:, 1]))
    pd.concat(tables).to_csv(tmp_path / "scores.csv", index=False)
    rps("evaluate", tmp_path / "scores.csv", "--out", tmp_path / "out", "--landmarks", 26, 50, 90, "--tau", 50)
    metrics = read_csv(tmp_path / "out" / "metrics.csv")
    validation = metrics[(metrics["kind"] == "validation") & (metrics["metric"] == "harrell_c")].set_index("model")
    assert 0.52 < validation.loc["A", "value"] < 0.75
    assert validation.loc["A", "value"] > validation.loc["B", "value"]
    beyond = metrics[(metrics["horizon_months"] == 90) & (metrics["metric"] == "td_auc")]
    assert len(beyond) and beyond["value"].isna().all() and beyond["note"].str.len().gt(0).all()
    assert (tmp_path / "out" / "report.html").is_file()
    assert {p.stem[:2] for p in (tmp_path / "out" / "figures").glob("*.html")} == {"07", "08", "09", "10", "11"}


def test_ten_faults_are_refused_with_ten_lines_and_nothing_written(manifest, tmp_path):
    table = pd.read_csv(manifest, dtype=str)
    folder = manifest.parent
    (folder / "images" / "text.nii.gz").write_text("no image")
    table.loc[0, "time_months"] = "-3"
    table.loc[1, "event"] = "yes"
    table.loc[2, "split"] = "test"
    table.loc[3, "image"] = "../elsewhere.nii.gz"
    table.loc[4, "mask"] = "images/absent.nii.gz"
    table.loc[5, "image"] = "images/text.nii.gz"
    table.loc[6, "patient_id"] = table.loc[7, "patient_id"]
    table.loc[8, "mask"] = table.loc[9, "mask"]
    table.loc[10, "age"] = "61,5"
    table.loc[11, "image_sha256"] = "0" * 64
    faulty = folder / "faulty.csv"
    table.to_csv(faulty, index=False)
    out = tmp_path / "never"
    for command in (["check", faulty], ["run", "--manifest", faulty, "--out", out, "--profile", "quick"]):
        printed = rps(*command, expect=1)
        for row, column in [
            *((2, "time_months"), (3, "event"), (4, "split"), (5, "image"), (6, "mask"), (7, "image")),
            *((9, "patient_id"), (11, "mask"), (12, "age"), (13, "image")),
        ]:
            assert re.search(rf"^ *{row}\b.*{column}", printed, re.M), (row, column, printed)
    assert not out.exists()
