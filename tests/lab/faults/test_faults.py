import shutil

import pytest

from rps_utils.cohort.contract import UNDETECTABLE
from rps_utils.lab.faults.export import FAULTS, findings, plant, write_sound


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Sound cohorts of both gates, the one for ingest with what it made of it."""
    folder = tmp_path_factory.mktemp("sound")
    for gate in ("ingest", "check"):
        write_sound(gate, folder / gate)
        assert findings(gate, folder / gate, folder / "out") == ""
    return folder


@pytest.mark.parametrize("name", FAULTS)
def test_planted_fault_is_named(name, sound, tmp_path):
    """By its own check, in its own words, and without repeating what identifies a person."""
    gate = FAULTS[name].gate
    shutil.copytree(sound / gate, tmp_path / "data")
    if gate == "ingest":
        shutil.copytree(sound / "out", tmp_path / "out")
    plant(name, tmp_path / "data")
    said = findings(gate, tmp_path / "data", tmp_path / "out")
    assert FAULTS[name].says in said
    assert "Error:" not in said, "named by the net for the unexpected, not by its own check"
    for person in ("Jane", "48151623", "1950", "Long Street"):
        assert person not in said.replace("date_of_birth", "")


def test_library_is_large_and_honest():
    assert len(FAULTS) >= 40
    assert all(fault.does and fault.says for fault in FAULTS.values())
    assert UNDETECTABLE
    with pytest.raises(ValueError, match="no fault 'x'; there are missing slice"):
        plant("x", None)
