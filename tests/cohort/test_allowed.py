"""Parameters are refused before any work, in words that say what is allowed."""

import math

import pytest

from rps_utils.cohort.allowed import NETWORKS, PARAMETERS, value_fault
from rps_utils.cohort.splits import draw_folds
from rps_utils.runs.parameters import UsageError, choose_parameters, default_parameters
from rps_utils.steps import read_steps

REFUSED = {
    "folds": [0, 1, 2, -5, 51, 5.0, True, "5", math.nan],
    "landmarks": [[], [0], [-12, 36], [math.nan], [12, math.inf], [12, 12], [12, 12.0], ["12"], [True], 36],
    "tau": [0, -1, math.nan, math.inf, True, "60", None],
    "epochs": [0, -1, 2.5],
    "n_bootstrap": [0, 1, -20, 10**7],
    "bound_level": [0, 1, 90, math.nan],
    "named_thresholds": [[], [0.2, 0.2], [0, 0.5], [1.2], [20, 40]],
    "thresholds": [[0.6, 0.1], [0.1], [0.1, 0.2, 0.3], [10, 60], [0.3, 0.3]],
    "image_types": [[], ["wavelets"], ["original", "original"], "original"],
    "clinical_columns": [[], ["age", "age"], [""], [1], "age"],
    "subgroups": [[], ["sex", "sex"], [""], "sex"],
    "max_correlation": [0, -0.5, 1.5, math.nan],
    "ridge": [-0.1, math.nan, math.inf],
    "seed": [-1, 1.5, 2**32],
    "cutoff": [math.nan, math.inf, "0.5", "median"],
    "show_pixels": ["maybe", True],
    "harmonise": [1, "yes"],
    "regions": [1, "yes"],
    "time_unit": ["", " "],
    "network": ["", "../x", "resnet", "Region", None, 1],
    "weights": ["gone.safetensors", "../notebooks/00_start_here.ipynb", "..", None],
    "device": ["gpu", ""],
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in REFUSED.items() for v in values], ids=str)
def test_a_value_out_of_range_is_refused(name, value):
    assert value_fault(name, value) == f"{name} = {value!r}; allowed: {PARAMETERS[name].allowed}"


def test_every_default_and_every_profile_is_allowed():
    for step in (s for s in read_steps() if s.notebook):
        assert not any(value_fault(*given) for given in (default_parameters(step.notebook)).items())
    for profile in ("paper", "quick"):
        for own in choose_parameters(read_steps(), profile, {}).values():
            assert not any(value_fault(*given) for given in (own).items())


def test_every_rule_is_of_a_parameter_that_a_notebook_has():
    there = {name for s in read_steps() if s.notebook for name in default_parameters(s.notebook)}
    assert set(PARAMETERS) <= there and there - set(PARAMETERS) <= {"split_by"}


def test_every_network_that_can_be_built_may_be_asked_for_and_no_other():
    from rps_utils.deep.networks import MONAI_NETWORKS, OWN_NETWORKS

    assert set(NETWORKS) == {*OWN_NETWORKS, *MONAI_NETWORKS}


@pytest.mark.parametrize(("content", "fault"), [(b"{}", False), (b"no weights", True), (b"", True)])
def test_a_weights_file_is_looked_at_before_any_work(content, fault, tmp_path):
    length = b"" if fault else len(content).to_bytes(8, "little")
    (tmp_path / "a.safetensors").write_bytes(length + content)
    assert bool(value_fault("weights", str(tmp_path / "a.safetensors"))) is fault
    assert not value_fault("weights", "")


@pytest.mark.parametrize(
    "asked",
    [
        {"network": "../x"},
        {"weights": "gone.safetensors"},
        {"folds": 1},
        {"folds": 0},
        {"landmarks": [-12]},
        {"n_bootstrap": 0},
        {"tau": 0.0},
    ],
)
def test_a_run_does_not_start_with_them(asked):
    with pytest.raises(UsageError, match="; allowed: "):
        choose_parameters(read_steps(), "quick", asked)


@pytest.mark.parametrize("folds", [0, 1, 2])
def test_folds_are_not_drawn_where_nothing_can_be_learned_from_the_rest(cohort, folds):
    with pytest.raises(ValueError, match=f"folds = {folds}; allowed: 3 or more"):
        draw_folds(cohort, folds, 1)


@pytest.mark.parametrize("value", [None, "maxstat", 0.5, -1])
def test_every_documented_cut_off_is_allowed(value):
    assert value_fault("cutoff", value) == ""
