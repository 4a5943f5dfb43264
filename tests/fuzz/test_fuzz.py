"""A short run of the fuzzer at each door, and every file that once broke one."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fuzz.damage import damage, damaged
from tests.fuzz.doors import DOORS, knock, sound_bytes

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.*"))
SHORT = {"ct-slice": 6, "seg": 6, "rtstruct": 6, "manifest": 8}  # the others: 40


@pytest.mark.parametrize("name", DOORS)
def test_sound_files_are_let_in(name):
    knock(name, sound_bytes(name))


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_what_once_broke_a_door_is_read_or_refused(path):
    knock(path.name.partition(".")[0], path.read_bytes())


@pytest.mark.parametrize("name", DOORS)
def test_damage_is_read_or_refused_in_our_own_words(name):
    @settings(
        max_examples=SHORT.get(name, 40),
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(changes=damage)
    def run(changes):
        knock(name, damaged(sound_bytes(name), changes))

    run()
