"""What a run says of itself."""

import pandas as pd
import pytest

from rps_utils.files import read_json, write_json, write_text
from rps_utils.runs.record import collect_metrics, keep_costs, write_run_record

HEAD = "s\th:m:s\tmax_rss\tmax_vms\n"


@pytest.mark.parametrize(
    ("measured", "peak"),
    [("9.1\t0:00:09\t812.34\t2000\n", 812), ("9.1\t0:00:09\t80.0\t2000\n", 300), ("0.1\t0:00:00\tNA\tNA\n", 300)],
    ids=["all processes together", "sampled too late", "too short to sample"],
)
def test_the_larger_of_two_measurements_of_memory_is_kept(tmp_path, measured, peak):
    write_json({"seconds": 9.1, "peak_mib": 300}, tmp_path / "logs" / "04_x.json")
    write_text(HEAD + measured, tmp_path / ".chain" / "engine" / "costs" / "04_x.tsv")
    write_text(HEAD + measured, tmp_path / ".chain" / "engine" / "costs" / "05_has_no_log.tsv")
    keep_costs(tmp_path)
    assert read_json(tmp_path / "logs" / "04_x.json") == {"seconds": 9.1, "peak_mib": peak}


def test_the_record_names_the_manifest_and_the_sources_of_every_step(chain):
    write_json({"steps": ["01_read", "02_fit"], "parameters": chain.parameters()}, chain.run / "parameters.json")
    record = write_run_record(chain.run)
    read = read_json(chain.run / "logs" / "01_read.json")["made_from"]["manifest"]
    assert record["manifest"]["file"] == "manifest.csv"
    assert record["manifest"]["sha256"] == read["manifest.csv"]
    assert len(record["manifest"]["images_sha256"]) == len(record["code_sha256"]) == 64
    sources = record["notebooks"]["02_fit"]["sources"]
    assert set(sources) == {"notebook", "workflow", "code", "packages", "data"}
    assert "toy/near.py" in sources["code"] and "numpy" in sources["packages"]
    assert read_json(chain.run / "run.json") == record


def test_tables_of_metrics_are_stacked_and_empty_ones_change_nothing(tmp_path):
    for name, rows in {"07_a": [1.5, 2.0], "08_b": [], "09_c": [3.0]}.items():
        write_text("value\n" + "".join(f"{value}\n" for value in rows), tmp_path / "metrics" / f"{name}.csv")
    pd.testing.assert_series_equal(collect_metrics(tmp_path)["value"], pd.Series([1.5, 2.0, 3.0], name="value"))
    assert (tmp_path / "metrics.csv").read_text() == "value\n1.5\n2.0\n3.0\n"
