"""The planted shortcut: found where it is planted, gone elsewhere, and the table can be resumed."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from rps_utils.lab.phantom.patients import VARIANTS, draw_patients
from rps_utils.lab.studies import shortcut
from rps_utils.lab.studies.pool import Pool
from rps_utils.lab.studies.replicates import SETTINGS
from rps_utils.lab.studies.tables import RESULTS, read_replicates

pytestmark = pytest.mark.filterwarnings("ignore:Optimization terminated early")

SMALL = replace(shortcut.SHORTCUT, patients=90, reserve=100, epochs=1)
RAD = {"era_only": {"Rad": (shortcut.PLAIN, shortcut.SMOOTH, shortcut.SCREENED)}}


@pytest.fixture(scope="module")
def pools():
    """One feature shows the scanner, and in the smoothed pool does not; the others are noise."""
    people = draw_patients(200, 5)
    people.insert(0, "patient_id", [f"P{i}" for i in range(200)])
    people = people.drop(columns=["eta", "time_months", "event"])
    features = pd.DataFrame(
        np.random.default_rng(3).normal(size=(200, 8)), people["patient_id"], [f"f{i}" for i in range(8)]
    )
    seen = features.assign(f0=people["scanner"].to_numpy())
    patches = np.random.default_rng(4).random((200, 5, 16, 16, 16)).astype(np.float16)
    return Pool(people, patches, seen), Pool(people, patches, features)


@pytest.fixture(scope="module")
def table(pools, tmp_path_factory):
    out = tmp_path_factory.mktemp("shortcut") / "rows.csv"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(shortcut, "WAYS", {**RAD, "confounded": {}})
        return shortcut.run_shortcut(out, *pools, 4, SMALL)


def test_the_variants_differ_by_the_era_alone():
    for name, without in shortcut.ELSEWHERE.items():
        assert VARIANTS[name].era and replace(VARIANTS[name], era=0.0) == VARIANTS[without]


def test_a_score_of_the_scanner_predicts_here_and_not_elsewhere(table):
    plain = table[table["way"] == "as it is"]
    assert len(plain) == 4 and (plain["rho_scanner"].abs() > 0.8).all()
    assert plain["c_here"].mean() > 0.62 and abs(plain["c_elsewhere"].mean() - 0.5) < 0.05


@pytest.mark.parametrize("way", ["smoothed images", "without features that follow the scanner"])
def test_what_removes_the_scanner_from_the_features_removes_the_shortcut(table, way):
    rows = table[table["way"] == way]
    assert rows["rho_scanner"].abs().mean() < 0.3 and abs(rows["c_here"].mean() - 0.5) < 0.08


def test_the_summary_pairs_here_and_elsewhere(table):
    found = shortcut.summary(table).set_index(["way", "quantity"])
    plain = table[table["way"] == "as it is"]
    assert found.loc[("as it is", "lost"), "value"] == pytest.approx((plain["c_here"] - plain["c_elsewhere"]).mean())
    assert (found["replicates"] == 4).all() and (found["ci_low"] < found["ci_high"]).all()


def test_finished_replicates_are_kept(pools, tmp_path, monkeypatch):
    rows = [{**{name: getattr(SMALL, name) for name in SETTINGS}, "variant": "era_only", "model": "Rad", "way": "x"}]
    rows[0] |= {"rho_scanner": 0.1, "c_here": 0.6, "c_elsewhere": 0.5}
    monkeypatch.setattr(shortcut, "measure_shortcut", lambda *a: [{**rows[0], "replicate": a[2]}])
    first = shortcut.run_shortcut(tmp_path / "t.csv", *pools, 2, SMALL)
    monkeypatch.setattr(shortcut, "measure_shortcut", lambda *a: [{**rows[0], "replicate": a[2], "c_here": 0.9}])
    again = shortcut.run_shortcut(tmp_path / "t.csv", *pools, 3, SMALL)
    assert first["c_here"].tolist() == [0.6, 0.6] and again["c_here"].tolist() == [0.6, 0.6, 0.9]


def test_two_pools_of_other_people_are_refused(pools, tmp_path):
    other = Pool(pools[1].patients[:50], pools[1].patches[:50], pools[1].features[:50])
    with pytest.raises(ValueError, match="the two pools hold different patients"):
        shortcut.run_shortcut(tmp_path / "t.csv", pools[0], other, 1, SMALL)


def test_both_models_are_learned_in_every_way(pools):
    rows = shortcut.measure_shortcut(*pools, 0, replace(SMALL, patients=60))
    wanted = [(v, m, w.name) for v, models in shortcut.WAYS.items() for m, ways in models.items() for w in ways]
    assert [(r["variant"], r["model"], r["way"]) for r in rows] == wanted and set(rows[0]) == set(
        shortcut.SHORTCUT_COLUMNS
    )


def test_the_committed_table_is_complete():
    table = read_replicates(RESULTS / "shortcut.csv")
    assert list(table.columns) == shortcut.SHORTCUT_COLUMNS
    assert table["replicate"].nunique() >= 4
    assert (
        table.groupby("replicate").size() == sum(len(w) for ways in shortcut.WAYS.values() for w in ways.values())
    ).all()
