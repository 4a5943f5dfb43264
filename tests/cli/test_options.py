import click
import pytest

from rps_utils.cli.options import Command, Several, repeat_names


@pytest.mark.parametrize(
    ("given", "spelled"),
    [
        ("--at 12 36 60", "--at 12 --at 36 --at 60"),
        ("--at 12 --at 36", "--at 12 --at 36"),
        ("--at 12 36 --out x y", "--at 12 --at 36 --out x y"),
        ("s.csv --at 12 -p a=1", "s.csv --at 12 -p a=1"),
        ("--at -5 12", "--at -5 --at 12"),
        ("--at 12 -- 36", "--at 12 -- 36"),
        ("--at=12 36", "--at=12 36"),
        ("--at", "--at"),
    ],
)
def test_one_name_is_repeated_before_each_of_its_values(given, spelled):
    assert repeat_names(given.split(), {"--at"}) == spelled.split()


@pytest.mark.parametrize(
    "given", ["t.csv --at 12 36 --flag", "--flag --at 12 --at 36 -- t.csv", "--at 12 36 --flag t.csv"]
)
def test_an_option_takes_several_values(given):
    @click.command(cls=Command)
    @click.argument("table")
    @click.option("--at", cls=Several, type=int, default=(1,))
    @click.option("--flag", is_flag=True)
    def work(table, at, flag):
        return table, at, flag

    assert work.main(given.split(), standalone_mode=False) == ("t.csv", (12, 36), True)
    assert work.main(["t.csv"], standalone_mode=False) == ("t.csv", (1,), False)
