import pytest

from rps_utils.cli.main import main, rps
from rps_utils.intervals.sample_size import development_sizes, expected_r2, incidence_of


def call(capsys, *arguments):
    """Run the command line in this process; return exit status, standard output and standard error."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return stop.value.code, printed.out, printed.err


def commands(group=rps, names=()):
    """Names of every command, each a tuple."""
    found = [names]
    for name, command in getattr(group, "commands", {}).items():
        found += commands(command, (*names, name))
    return found


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_command_explains_itself(command, capsys):
    status, out, _ = call(capsys, *command, "--help")
    assert status == 0
    assert out.startswith(f"Usage: {' '.join(['rps', *command])} ")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ("evaluate", 2, "Missing argument 'SCORES.csv'"),
        ("run -p no_such=1 --out x", 2, "there is no such parameter"),
        ("evaluate missing.csv --out x", 1, "missing.csv does not exist"),
        ("check missing.csv", 1, "missing.csv"),
        ("study replicates --variant null nul --out x.csv", 2, "'nul' is not one of 'clinical_only', 'confounded'"),
        ("chek m.csv", 2, "No such command 'chek'. Did you mean 'check'?"),
        ("run --manifes m.csv", 2, "No such option '--manifes'. Did you mean '--manifest'?"),
    ],
)
def test_exit_status(arguments, status, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ended, out, err = call(capsys, *arguments.split())
    assert ended == status
    assert message in " ".join((out + err).split())
    assert not list(tmp_path.iterdir())


def test_the_size_of_a_study_is_that_of_the_criteria_and_stands_beside_what_is_there(capsys, tmp_path):
    rows = [
        f"P{n},i{n}.nii.gz,m{n}.nii.gz,{n % 7 + 1},{n % 2},{'training' if n < 15 else 'validation'}" for n in range(20)
    ]
    header = "patient_id,image,mask,time_months,event,split"
    manifest = tmp_path / "m.csv"
    manifest.write_text("\n".join([header, *rows]) + "\n")
    status, out, err = call(capsys, "study", "size", manifest, "--terms", "10", "--c", "0.7", "--landmark", "3")
    assert status == 0, err
    assert "here 15 patients, 7 events" in out and "here 5 patients, 3 events" in out
    common = incidence_of([n % 7 + 1 for n in range(20)], [n % 2 for n in range(20)])
    needed = development_sizes(10, expected_r2(0.7, common.share), common, 3.0)["patients"]
    assert all(f" {n} " in out for n in needed)
