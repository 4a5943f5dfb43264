"""Guidelines and model card: met only by what is there, and named when it is not."""

import json
import re

import pandas as pd
import pytest

from rps_utils.cli.main import rps
from rps_utils.files import read_csv, read_json, write_csv, write_json
from rps_utils.report.checklists import STANDARDS, as_json, by_standard, judge_items, metrics_score
from rps_utils.report.evidence import write_evidence
from rps_utils.report.model_card import model_card, performance
from rps_utils.run_folder import TABLE_NAMES, RunFolder
from rps_utils.runs.parameters import default_parameters
from rps_utils.steps import NOTEBOOKS
from tests.report.test_report import Page, add_study, make_run

LISTED = pd.read_csv(NOTEBOOKS.parent / "rps_utils" / "report" / "checklists.csv", dtype=str, keep_default_na=False)
KINDS = {"table", "metric", "file", "notebook", "record", "parameter", "audit", "repository"}


def cohort(kind):
    return pd.DataFrame({"patient_id": ["P1", "P2"], "data_kind": kind})


@pytest.fixture
def run(tmp_path):
    """A small study: scores, metrics, Table 1 and the flow."""
    folder = make_run(tmp_path)
    write_csv(cohort("private"), folder / "cohort.csv")
    write_csv(pd.DataFrame({"characteristic": ["age"], "missing": [0], "smd": [0.2]}), folder / "tables" / "table1.csv")
    write_csv(pd.DataFrame({"step": ["all"], "patients": [60]}), folder / "tables" / "flow.csv")
    write_json({"parameters": {"01_ingest": {"folds": 5}}}, folder / "parameters.json")
    return RunFolder(folder)


def item(run, standard, number, findings=None):
    (found,) = [i for i in judge_items(run, findings) if (i.standard, i.item) == (standard, number)]
    return found


@pytest.mark.parametrize(
    ("standard", "items", "first", "last"),
    [("tripod_ai", 52, "1", "27c"), ("clear", 58, "1", "58"), ("metrics", 30, "1", "30")],
)
def test_every_item_of_a_guideline_is_there_once(standard, items, first, last):
    numbers = LISTED.loc[LISTED["standard"] == standard, "item"].tolist()
    assert len(numbers) == len(set(numbers)) == items
    assert (numbers[0], numbers[-1]) == (first, last)


def test_tripod_has_27_items_and_the_weights_and_points_are_those_published():
    numbers = LISTED.loc[LISTED["standard"] == "tripod_ai", "item"]
    assert len({re.sub(r"\D", "", number) for number in numbers}) == 27
    points = LISTED.set_index("standard")["points"].replace("", "0").astype(float)
    assert points["metrics"].sum() == pytest.approx(1, abs=2e-4)
    assert points["rqs"].sum() == 36


def test_what_is_asked_for_exists_in_a_run():
    """A misspelt table, parameter or notebook would be missing for ever."""
    for asked in LISTED["evidence"]:
        for part in asked.split(" + ") if ":" in asked else []:
            kind, _, name = part.partition(":")
            assert kind in KINDS, part
            if kind == "table":
                assert name.split(":")[0] in TABLE_NAMES, part
            if kind == "parameter":
                notebook, parameter = name.partition("!=")[0].split(".")
                assert parameter in default_parameters(NOTEBOOKS / f"{notebook}.ipynb"), part
            if kind == "notebook":
                assert (NOTEBOOKS / f"{name}.ipynb").is_file(), part
    bare = LISTED[LISTED["evidence"].isin(["", "no", "na"])]
    assert (bare["reason"] != "").all(), "who or what is left says why"


def test_a_table_satisfies_an_item_and_its_loss_is_named(run):
    met = item(run, "tripod_ai", "20b")
    assert (met.status, met.evidence) == ("yes", ["tables/table1.csv"])
    (run.tables / "table1.csv").unlink()
    lost = item(run, "tripod_ai", "20b")
    assert (lost.status, lost.reason, lost.evidence) == ("no", "tables/table1.csv is not in this run", [])


def test_a_table_without_the_column_or_without_rows_satisfies_nothing(run):
    write_csv(pd.DataFrame({"characteristic": ["age"], "missing": [0]}), run.tables / "table1.csv")
    assert item(run, "tripod_ai", "20c").reason == "tables/table1.csv has no smd"
    write_csv(pd.DataFrame({"characteristic": [], "missing": [], "smd": []}), run.tables / "table1.csv")
    assert item(run, "tripod_ai", "20c").reason == "tables/table1.csv has no rows"


def test_a_value_without_its_interval_satisfies_nothing(run):
    assert item(run, "clear", "40").status == "yes"
    metrics = read_csv(run.metrics)
    place = metrics.index[(metrics["metric"] == "harrell_c") & (metrics["kind"] == "validation")][0]
    metrics.loc[place, ["ci_low", "ci_high"]] = None
    metrics.loc[place, "note"] = ""
    write_csv(metrics, run.metrics)
    lost = item(run, "clear", "40")
    assert lost.status == "no"
    assert lost.reason == f"metrics.csv has harrell c without interval or note: {metrics.loc[place, 'model']}"
    write_csv(metrics[metrics["metric"] != "harrell_c"], run.metrics)
    assert item(run, "clear", "40").reason == "metrics.csv has no harrell c (validation or cross_fitted)"


def test_uncertainty_is_not_met_by_notes_alone(run):
    metrics = read_csv(run.metrics)
    chosen = metrics["metric"] == "harrell_c"
    metrics.loc[chosen, ["ci_low", "ci_high"]] = None
    metrics.loc[chosen, "note"] = "too few recurrences"
    write_csv(metrics, run.metrics)
    found = item(run, "metrics", "21")
    assert (found.status, found.reason) == ("no", "metrics.csv has no interval of any harrell c, only notes")


def test_a_comparison_with_simple_models_needs_one(run):
    lost = item(run, "metrics", "25")
    assert (lost.status, lost.reason) == (
        "no",
        "metrics.csv has no harrell c difference of Clinical (validation or cross_fitted)",
    )
    metrics = read_csv(run.metrics)
    metrics["model"] = metrics["model"].str.replace("Noise", "Clinical")
    write_csv(metrics, run.metrics)
    assert item(run, "metrics", "25").status == "yes"


@pytest.mark.parametrize(
    ("notebook", "parameter", "off", "on", "asked"),
    [
        ("04_radiomics", "harmonise", False, True, "harmonise!="),
        ("04_radiomics", "max_correlation", 1.0, 0.9, "max_correlation!="),
        ("11_risk_groups", "cutoff", "maxstat", None, "cutoff!="),
    ],
)
def test_a_parameter_that_does_nothing_satisfies_nothing(run, notebook, parameter, off, on, asked):
    add_study(run.path)
    write_csv(pd.DataFrame({"model": ["DL"], "cutoff": [0.0]}), run.table("risk_groups_cutoffs"))
    place = LISTED["evidence"].str.contains(asked, regex=False).to_numpy().nonzero()[0]
    assert len(place) == 1
    record = read_json(run.record)
    for value, status, reason in ((on, "yes", ""), (off, "no", f"{parameter} of {notebook} is {off}")):
        write_json(record | {"parameters": {notebook: {parameter: value}}}, run.record)
        found = judge_items(run)[place[0]]
        assert (found.status, found.reason) == (status, reason)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{}", "models/rad_scale.json is empty"),
        ("", "models/rad_scale.json is damaged"),
        ("{broken", "models/rad_scale.json is damaged"),
    ],
)
def test_a_model_without_content_satisfies_nothing(run, content, reason):
    write_json({"mean": [0.0]}, run.model("rad_scale"))
    assert item(run, "clear", "32").status == "yes"
    run.model("rad_scale").write_text(content, encoding="utf-8")
    assert (item(run, "clear", "32").status, item(run, "clear", "32").reason) == ("no", reason)


def test_a_damaged_table_is_named_and_stops_nothing(run):
    (run.tables / "table1.csv").write_text("a;b\n1;2\n", encoding="utf-8")
    lost = item(run, "clear", "44")
    assert (lost.status, lost.reason) == ("no", "tables/table1.csv is damaged")
    assert write_evidence(run, "a", None).is_file()


def test_a_notebook_shows_something_only_when_executed(run):
    path = run.notebooks / "03_deep_learning.ipynb"
    write_json({"cells": [{"cell_type": "code", "outputs": []}]}, path)
    assert item(run, "clear", "30").reason == "notebooks/03_deep_learning.ipynb was not executed"
    write_json({"cells": [{"cell_type": "code", "outputs": [{"output_type": "stream"}]}]}, path)
    assert item(run, "clear", "30").status == "yes"


def test_an_audit_that_found_something_satisfies_nothing(run):
    write_json({"saw": ["P1"]}, run.ledger / "DL.json")
    assert item(run, "metrics", "18", findings=[]).status == "yes"
    assert item(run, "metrics", "18", findings=["P1 was seen"]).reason == "the audit found: P1 was seen"
    assert item(run, "metrics", "18").reason == "the run has no ledger to be audited"


def test_what_only_a_person_knows_is_never_met_and_synthetic_patients_never_do(run):
    asked = [i for i in judge_items(run) if i.status == "human"]
    assert len(asked) > 40 and all(i.reason and not i.evidence for i in asked)
    write_csv(cohort("synthetic"), run.cohort)
    for number in ("2", "3", "27"):
        assert item(run, "metrics", number).status == "no"
        assert item(run, "metrics", number).reason.startswith("the patients are synthetic")


def test_the_score_of_metrics_is_that_of_its_weights(run):
    items = dict(by_standard(judge_items(run)))["metrics"]
    low, high = metrics_score(items)
    weights = {i.item: i.points for i in items}
    met = sum(weights[i.item] for i in items if i.status == "yes")
    assert low == pytest.approx(100 * met / (sum(weights.values()) - weights["9"]))
    assert 0 < low < high < 100


def test_the_page_links_to_files_that_are_there_and_fetches_nothing(run):
    page = Page(write_evidence(run, "my cohort", None).read_text(encoding="utf-8"))
    outside = [link for link in page.links if not link.startswith("#")]
    assert "../metrics.csv" in outside and "../tables/flow.csv" in outside
    assert all((run.evidence.parent / link).exists() for link in outside if link != "../report.html")
    assert {link[1:] for link in page.links if link.startswith("#")} <= page.ids
    assert page.fetched == []
    assert "not met" in page.text and "for a person" in page.text and "my cohort" in page.text


def test_json_and_page_are_the_same_bytes_each_time_and_agree(run):
    first = {p.name: p.read_bytes() for p in write_evidence(run, "a", None).parent.iterdir()}
    assert first == {p.name: p.read_bytes() for p in write_evidence(run, "a", None).parent.iterdir()}
    assert set(first) == {"index.html", "model_card.json", *(f"{name}.json" for name in STANDARDS)}
    clear = json.loads(first["clear.json"])
    assert clear == as_json("clear", dict(by_standard(judge_items(run)))["clear"], "private")
    assert clear["counts"].encode() in first["index.html"]


def test_the_model_card_counts_and_says_what_limits(run):
    scores = read_csv(run.scores)
    card = model_card(run)
    people = scores[scores["split"] == "validation"].drop_duplicates("patient_id")
    assert card["patients"]["validation"] == {"patients": len(people), "recurrences": int((people["event"] == 1).sum())}
    assert card["limits"][0].startswith(f"judged in {len(people)} validation patients")
    assert "fewer than the 100" in card["limits"][0]
    assert card["models"].keys() == set(scores["model"])
    write_csv(scores[scores["kind"] != "validation"], run.scores)
    assert model_card(run)["limits"][0] == "there are no validation patients: nobody judged the finished models"


def test_performance_is_that_of_the_metrics_validation_first(run):
    metrics = read_csv(run.metrics)
    table = performance(metrics)
    assert table["kind"].iloc[0] == "validation" and table["kind"].iloc[-1] == "apparent"
    row = metrics.query("metric == 'harrell_c' and kind == 'validation'").iloc[0]
    shown = table[(table["kind"] == "validation") & (table["model"] == row["model"])]["C"].iloc[0]
    assert shown == f"{row['value']:.2f} ({row['ci_low']:.2f} to {row['ci_high']:.2f})"


def test_the_record_of_a_run_reaches_the_card(run):
    add_study(run.path)
    made = read_json(write_evidence(run, "a", None).parent / "model_card.json")["made_by"]
    assert made["code_sha256"] == "cd" * 32 and made["seeds"] == [2026]


@pytest.mark.parametrize("number", ["12f", "24"])
def test_an_update_of_a_model_is_left_to_who_made_one_and_not_denied(run, number):
    found = item(run, "tripod_ai", number)
    assert found.status == "na" and found.reason.startswith("a run updates no model; where its scores come from rps ")
    assert "recalibrate" in rps.commands, "the command that the item names"
