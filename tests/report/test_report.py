"""The report: one page from the files of a run, whole offline, true for any cohort."""

import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from rps_utils.evaluation.discrimination import discrimination_rows
from rps_utils.figures.discrimination import c_index_plot
from rps_utils.figures.style import save_figure
from rps_utils.files import write_csv, write_json
from rps_utils.pages import column_texts
from rps_utils.report.page import parameter_table, read_figures, write_report
from rps_utils.report.paper import (
    NOT_REPORTED,
    PAPER_C,
    c_index_table,
    hazard_ratio_beside_paper,
    logrank_beside_paper,
    paper_and_run,
)
from rps_utils.report.summary import plain_summary
from rps_utils.run_folder import RunFolder
from rps_utils.runs.parameters import default_parameters
from rps_utils.steps import NOTEBOOKS
from tests.evaluation.test_evaluation import every_row, score_table


class Page(HTMLParser):
    """Collects what a browser would fetch, where links lead, and the text of headings and cells."""

    def __init__(self, text):
        super().__init__()
        self.fetched, self.links, self.ids, self.tags, self.words = [], [], set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        self.tags.append((tag, named))
        self.fetched += [v for k, v in attributes if k in ("src", "srcset", "poster")]
        self.fetched += [named["href"]] if tag == "link" else []
        self.links += [named["href"]] if tag == "a" else []
        self.ids |= {named["id"]} if "id" in named else set()

    def handle_data(self, data):
        if not self.tags or self.tags[-1][0] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def make_run(folder, scores=None):
    """A run of the evaluation alone, as `rps evaluate` leaves it."""
    scores = score_table(60) if scores is None else scores
    write_csv(scores, folder / "scores.csv")
    write_csv(every_row(scores, [12, 999]), folder / "metrics.csv")
    rows = discrimination_rows(scores, tau=36, n_bootstrap=50)
    chart = c_index_plot(rows[rows["metric"] == "harrell_c"], "Harrell's C")
    save_figure(chart, rows, folder, "07_c_index", "Intervals over patients.")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def page(run):
    return Page(write_report(run).read_text(encoding="utf-8"))


def add_study(run):
    """What only the whole study has: cohort, its tables, the record of the run."""
    write_csv(pd.DataFrame({"patient_id": ["P1"]}), run / "cohort.csv")
    write_csv(pd.DataFrame({"variable": ["age"], "training": ["56 (47 to 65)"]}), run / "tables" / "table1.csv")
    write_csv(pd.DataFrame({"row": range(300), "value": np.linspace(0, 1, 300)}), run / "tables" / "many.csv")
    record = {
        "parameters": {
            "01_ingest": {"manifest": "somewhere/my_manifest.csv", "folds": 5},
            "03_deep_learning": {"folds": 5, "n_jobs": 2},
        },
        "seeds": [2026],
        "versions": {"python": "3.11.9"},
        "manifest": {"file": "my_manifest.csv", "sha256": "ab" * 32},
        "code_sha256": "cd" * 32,
        "notebooks": {"01_ingest": {"seconds": 12.5, "peak_mib": 300}},
    }
    write_json(record, run / "run.json")


@pytest.fixture(scope="module")
def study_page(tmp_path_factory):
    run = make_run(tmp_path_factory.mktemp("study"))
    add_study(run)
    return Page(write_report(run).read_text(encoding="utf-8"))


def test_the_page_fetches_nothing(page):
    assert all(address.startswith("data:") for address in page.fetched)
    assert len(page.fetched) == 1  # the drawing library, once


def test_every_entry_of_the_contents_leads_somewhere(page):
    inside = [link[1:] for link in page.links if link.startswith("#")]
    assert len(inside) > 6
    assert set(inside) <= page.ids
    outside = [link for link in page.links if not link.startswith("#")]
    assert all(link.startswith("https://doi.org/") or link == "evidence/index.html" for link in outside)


def test_figures_have_captions_and_words_for_those_who_cannot_see_them(page):
    charts = [named for tag, named in page.tags if tag == "div" and named.get("class") == "chart"]
    assert [c["id"] for c in charts] == ["07_c_index"]
    assert charts[0]["role"] == "img" and "Intervals over patients." in charts[0]["aria-label"]
    assert sum(tag == "figcaption" for tag, _ in page.tags) == 1


def test_tables_have_captions_and_row_headings(page):
    tables = sum(tag == "table" for tag, _ in page.tags)
    assert tables == sum(tag == "caption" for tag, _ in page.tags) > 8
    assert {named.get("scope") for tag, named in page.tags if tag == "th"} == {"col", "row"}


def test_gaps_are_explained(page):
    assert "999 lies beyond the last follow-up" in page.text


def test_an_evaluation_alone_claims_nothing_about_how_scores_were_made(page):
    assert "how they were made is not part of this run" in page.text
    assert "Networks, radiomic" not in page.text
    assert "Deep learning" not in page.text
    assert "No record of the run" in page.text


def test_the_whole_study_shows_cohort_methods_versions_and_cost(study_page):
    for words in (
        "my_manifest.csv",
        "56 (47 to 65)",
        "What the abstract does not report",
        "3.11.9",
        "12.500",
        "01, 03",
        "Networks, radiomic",
    ):
        assert words in study_page.text, words
    assert "somewhere/" not in study_page.text and "n_jobs" not in study_page.text


def test_long_tables_are_cut_and_say_so(study_page):
    assert "100 further rows are in the run folder" in study_page.text


def test_the_cohort_can_be_given_a_label(run):
    page = Page(write_report(run, "Phantom, seed 7, synthetic").read_text(encoding="utf-8"))
    assert "Cohort: Phantom, seed 7, synthetic" in page.text


def test_names_from_outside_cannot_become_part_of_the_page(tmp_path):
    scores = score_table(40, kinds=("validation",))
    scores["model"] = scores["model"].replace("Noise", "</script><script>alert(1)</script>")
    page = Page(write_report(make_run(tmp_path, scores)).read_text(encoding="utf-8"))
    assert not any("alert" in word and "<" not in word for word in page.words)
    scripts = [named for tag, named in page.tags if tag == "script"]
    assert len(scripts) == 3  # library, one figure, the loop that draws


def test_simulated_lessons_come_after_the_runs_own_figures(tmp_path):
    data = pd.DataFrame({"x": [1]})
    for name in ("07_a_lesson_b", "07_z"):
        save_figure(go.Figure(go.Scatter(x=[1], y=[1])), data, tmp_path, name)
    assert [f["name"] for f in read_figures(RunFolder(tmp_path), "07")] == ["07_z", "07_a_lesson_b"]


def test_figures_stand_in_the_order_in_which_the_notebook_makes_them(tmp_path):
    data = pd.DataFrame({"x": [1]})
    for name in ("11_hazard_ratios", "11_km_DL_training", "11_km_DL_validation", "11_added_by_hand", "11_incidence"):
        save_figure(go.Figure(go.Scatter(x=[1], y=[1])), data, tmp_path, name)
    shown = [f["name"] for f in read_figures(RunFolder(tmp_path), "11")]
    made = ["11_km_DL_training", "11_km_DL_validation", "11_hazard_ratios", "11_incidence", "11_added_by_hand"]
    assert shown == made  # the alphabet would begin with the last


def test_the_notebook_on_luck_has_a_section(tmp_path):
    run = make_run(tmp_path)
    write_csv(pd.DataFrame({"what": ["luck of C"], "value": [0.1]}), run / "tables" / "claim.csv")
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert "part-13" in page.ids and "Could luck give such numbers?" in page.text


def rows_of_c(*intervals, kind="validation"):
    rows = [(name, *numbers) for name, numbers in zip("AB", intervals, strict=False)]
    table = pd.DataFrame(rows, columns=["model", "value", "ci_low", "ci_high"])
    return table.assign(metric="harrell_c", kind=kind)


PLAIN = {
    "better than chance": ((0.7, 0.6, 0.8), "C 0.70 (0.60 to 0.80); the whole interval lies above 0.5"),
    "not shown": ((0.6, 0.4, 0.8), "C 0.60 (0.40 to 0.80); the interval holds 0.5"),
    "wrong way": ((0.3, 0.2, 0.4), "the score points the wrong way"),
    "no interval": ((0.7, np.nan, np.nan), "C 0.70; there is no interval"),
}


@pytest.mark.parametrize(("numbers", "words"), PLAIN.values(), ids=PLAIN)
def test_the_summary_says_what_each_interval_says(numbers, words):
    (line,) = plain_summary(rows_of_c(numbers), score_table(40))["found"]
    assert words in line


def test_the_summary_counts_patients_and_names_the_kind_of_score():
    scores = score_table(40, kinds=("cross_fitted",))
    summary = plain_summary(rows_of_c((0.7, 0.6, 0.8), kind="cross_fitted"), scores)
    people = scores.drop_duplicates("patient_id")
    assert f"{len(people)} training patients, {int(people['event'].sum())} of them" in summary["who"]
    assert "There are no validation patients" in summary["how"]


DIFFERENCES = {
    "told apart": ((0.1, 0.02, 0.2), "1 of 1 pairs of models are told apart (interval without zero): A - B"),
    "not told apart": ((0.1, -0.02, 0.2), "0 of 1 pairs of models are told apart"),
}


@pytest.mark.parametrize(("numbers", "words"), DIFFERENCES.values(), ids=DIFFERENCES)
def test_the_summary_says_which_models_are_told_apart(numbers, words):
    rows = rows_of_c((0.7, 0.6, 0.8))
    pair = rows.assign(metric="harrell_c_difference", model="A - B")
    pair[["value", "ci_low", "ci_high"]] = numbers
    summary = plain_summary(pd.concat([rows, pair]), score_table(40))
    assert words in summary["not_shown"][0] and "is up to 0.20 wide" in summary["not_shown"][1]


def test_the_summary_comes_first_and_is_computed(page):
    found = page.text.index("Studied were")
    assert found < page.text.index("Harrell's C with 95 % intervals") < page.text.index("Methods as chosen Risk")


def test_a_dark_screen_finds_no_white_box(run):
    text = write_report(run).read_text(encoding="utf-8")
    assert "prefers-color-scheme: dark" in text and "color-scheme: light dark" in text
    assert not re.search(r"background(-color)?: *(#fff\b|#ffffff|white)", text)


def test_without_metrics_there_is_no_report(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"metrics\.csv does not exist: run the notebook"):
        write_report(tmp_path)


def c_rows(*rows):
    table = pd.DataFrame(rows, columns=["model", "kind", "value", "ci_low", "ci_high"])
    return table.assign(metric="harrell_c")


def test_the_papers_numbers_stand_beside_the_runs():
    rows = c_rows(("DLCM", "cross_fitted", 0.7, 0.6, 0.8), ("DLCM", "validation", 0.66, np.nan, np.nan))
    table = paper_and_run(rows).iloc[0]
    assert table["training: paper"] == "0.848 (0.790 to 0.915)"
    assert table["validation: paper"] == "0.749 (0.601 to 0.878)"
    assert table["training: cross-fitted"] == "0.700 (0.600 to 0.800)"
    assert table["validation: this run"] == "0.660"
    assert "training: apparent" not in table


PAPER = {"DL": (0.778, 0.730), "Rad": (0.716, 0.654), "Clinical": (0.721, 0.648), "DLCM": (0.848, 0.749)}


@pytest.mark.parametrize(("model", "numbers"), PAPER.items(), ids=PAPER)
def test_the_papers_numbers_are_those_of_its_abstract(model, numbers):
    assert tuple(PAPER_C.loc[model, ["training", "validation"]]) == numbers


def test_models_unknown_to_the_paper_get_no_paper_columns():
    table = paper_and_run(c_rows(("Nomogram", "validation", 0.66, 0.5, 0.8)))
    assert table.columns.tolist() == ["model", "validation: this run"]


def test_the_table_for_the_terminal(run):
    text = c_index_table(run)
    assert "training: cross-fitted" in text and "validation: this run" in text
    assert len(text.splitlines()) == 4


def test_the_adjusted_hazard_ratio_stands_beside_the_papers():
    ratios = pd.DataFrame(
        {
            "term": ["image_score", "age"],
            "hazard_ratio": [2.5, 1.1],
            "ci_low": [1.5, 1.0],
            "ci_high": [4.0, 1.2],
            "p": [0.0002, 0.3],
            "model": "DLCM",
            "kind": "cross_fitted",
        }
    )
    table = hazard_ratio_beside_paper(ratios)
    assert table["hazard ratio"].tolist() == ["5.950 (2.800 to 12.644)", "2.500 (1.500 to 4.000)"]
    assert table["p"].tolist() == ["< 0.001", "< 0.001"]
    assert len(hazard_ratio_beside_paper(ratios.iloc[:0])) == 1


def test_log_rank_p_values_stand_beside_the_papers(run):
    table = logrank_beside_paper(pd.read_csv(run / "metrics.csv"))
    assert table.loc[0, ["apparent", "validation"]].tolist() == ["< 0.0001", "0.012"]
    assert table["model"].tolist() == ["paper, DL-score", "True", "Noise"]


COLUMNS = {
    "whole": ([86.0, np.nan], ["86", ""]),
    "decimals": ([0.74912, 3.0, 0.0], ["0.749", "3.000", "0.000"]),
    "tiny": ([0.00001234, 0.5], ["1.2e-05", "0.500"]),
    "text": (["G2", None], ["G2", ""]),
    "yes and no": ([True, False], ["True", "False"]),
    "counts": ([3, 4], ["3", "4"]),
}


@pytest.mark.parametrize(("values", "texts"), COLUMNS.values(), ids=COLUMNS)
def test_columns_are_written_for_reading(values, texts):
    assert column_texts(pd.Series(values)) == texts


def test_choices_name_parameters_that_notebooks_have():
    known = {name for path in NOTEBOOKS.glob("*.ipynb") for name in default_parameters(path)}
    named = {name for names in NOT_REPORTED["parameters"] for name in names.split(", ") if name}
    assert named <= known


def test_parameters_are_listed_once_with_their_notebooks():
    table = parameter_table({"07_x": {"tau": 60, "run_dir": "x"}, "09_y": {"tau": 60}, "11_z": {"tau": 36}})
    assert table.to_numpy().tolist() == [["tau", "36", "11"], ["tau", "60", "07, 09"]]
