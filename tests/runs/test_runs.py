import json
import subprocess
import sys
import tomllib

import pytest

from rps_utils import cli
from rps_utils.sources import PACKAGE


@pytest.mark.parametrize(
    "command", [[], ["phantom"], ["run"], ["evaluate"], ["check"]], ids=lambda c: " ".join(c) or "rps"
)
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([*command, "--help"])
    assert stop.value.code == 0
    assert "usage: rps" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["evaluate"], 2, "required"),
        (["run", "-p", "no_such=1", "--out", "x"], 2, "no notebook has this parameter"),
        (["evaluate", "missing.csv", "--out", "x"], 1, "missing.csv does not exist"),
        (["check", "missing.csv"], 1, "missing.csv"),
    ],
    ids=["no scores named", "unknown parameter", "no such scores", "no such manifest"],
)
def test_exit_status(arguments, status, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    printed = capsys.readouterr()
    assert stop.value.code == status
    assert message in printed.err + printed.out
    assert not list(tmp_path.iterdir())


def test_conda_and_pip_install_the_same_set():
    root = PACKAGE.parent
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    pinned = project["dependencies"] + project["optional-dependencies"]["test"]
    lines = (root / "environment.yml").read_text().split("- pip:\n")[1].splitlines()
    assert [line.strip().removeprefix("- ") for line in lines if line.strip()] == [*pinned, "-e ."]


def test_importing_the_metrics_loads_no_network_library():
    code = "import sys, json, rps_utils.evaluation, rps_utils.report; print(json.dumps([m for m in sys.modules]))"
    loaded = json.loads(subprocess.check_output([sys.executable, "-c", code]))
    assert not {"torch", "monai", "radiomics", "SimpleITK"} & set(loaded)
