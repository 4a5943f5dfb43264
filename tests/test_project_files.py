"""The files around the code agree with each other: pins, lock, Makefile, workflows, templates, citation, documents."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
PINS = {*PROJECT["project"]["dependencies"], *(pin for extra in EXTRAS.values() for pin in extra)}
LOCKS = sorted((ROOT / "lock").glob("*.txt"))
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("[!c]*.yml"))
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
RECIPES = dict(re.findall(r"^([a-z]+): ([a-z |]*)", (ROOT / "Makefile").read_text(), re.MULTILINE))


def named(path):
    return path.name


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(requirements):
    """Name and version of each ``name==version``."""
    return {(canonical(name), version) for name, version in (pin.split("==") for pin in requirements)}


def locked(path):
    """Name and version of each entry; an entry begins at the start of a line."""
    return pinned(re.findall(r"^([\w.-]+==[\w.+]+)", path.read_text(), re.MULTILINE))


# ---------------------------------------------------------------- lock


def test_every_pin_is_in_the_lock():
    packages, torch = locked(ROOT / "lock/packages.txt"), locked(ROOT / "lock/torch.txt")
    assert len(PINS) > 30
    assert pinned(PINS) - {next(pin for pin in torch if pin[0] == "torch")} <= packages
    assert not [name for name, _ in packages if name == "torch" or name.startswith(("nvidia", "cuda"))]


def test_the_lock_holds_far_more_than_the_pins_and_what_builds_them():
    assert len(locked(ROOT / "lock/packages.txt")) > 5 * len(PINS)
    wanted = {canonical(name) for name in PROJECT["dependency-groups"]["build"]}
    assert wanted <= {name for name, _ in locked(ROOT / "lock/build.txt")}


@pytest.mark.parametrize("path", LOCKS, ids=named)
def test_every_locked_package_has_hashes_and_no_place(path):
    entries = re.split(r"\n(?=[\w.-]+==)", path.read_text())[1:]
    assert entries
    assert not [entry.split()[0] for entry in entries if "--hash=" not in entry]
    assert not re.search(r"--hash=(?!sha256:[0-9a-f]{64}\b)", path.read_text())
    assert not re.search(r"://|--index-url|--find-links|^-|@ |/\w+/", path.read_text(), re.MULTILINE)


def test_the_locks_agree_where_they_share_a_package():
    packages = locked(ROOT / "lock/packages.txt")
    for name in ("build", "torch"):
        shared = {pin for pin in locked(ROOT / f"lock/{name}.txt") if pin[0] in dict(packages)}
        assert len(shared) > 2
        assert shared <= packages


def test_a_pin_that_the_lock_lacks_is_noticed(tmp_path):
    path = tmp_path / "packages.txt"
    path.write_text((ROOT / "lock/packages.txt").read_text().replace("numpy==", "numpy==1"))
    assert {name for name, _ in pinned(PINS) - locked(path)} == {"numpy", "torch"}


# ---------------------------------------------------------------- make and workflows


def test_make_test_is_lint_types_unit_and_chain():
    assert RECIPES["test"].split() == ["lint", "types", "unit", "chain"]
    assert {"install", "lock", "reproduce", "lab"} <= set(RECIPES)


def test_make_installs_by_hash_and_renews_the_lock():
    recipe = subprocess.check_output(
        ["make", "--dry-run", "--always-make", f"PYTHON={sys.executable}", "install", "lock"], cwd=ROOT, text=True
    )
    for name in ("build", "packages", "torch"):
        assert re.search(rf"pip install .*--require-hashes .*--requirement lock/{name}\.txt", recipe)
        assert re.search(rf"uv pip compile .*--generate-hashes .*--output-file lock/{name}\.txt", recipe)
    version = dict(locked(ROOT / "lock/torch.txt"))["torch"]
    assert f'"version": "{version}"' in recipe


def jobs_of(path):
    return yaml.safe_load(path.read_text())["jobs"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=named)
def test_workflows_call_make_targets_that_exist(path):
    commands = [step["run"] for job in jobs_of(path).values() for step in job["steps"] if "run" in step]
    assert commands
    assert {command.split()[0] for command in commands} == {"make"}
    assert {target for command in commands for target in command.split()[1:]} <= set(RECIPES)


@pytest.mark.parametrize("path", WORKFLOWS, ids=named)
def test_workflows_pin_actions_by_their_major_version(path):
    used = [step["uses"] for job in jobs_of(path).values() for step in job["steps"] if "uses" in step]
    assert used
    assert not [action for action in used if not re.fullmatch(r"actions/[\w-]+@v\d+", action)]


def test_workflows_do_together_what_make_test_does_on_every_version_and_weekly():
    together = "\n".join(path.read_text() for path in WORKFLOWS)
    assert set(re.findall(r"run: make (\w+)", together)) >= set(RECIPES["test"].split())
    assert "schedule:" in together and "pull_request:" in together
    versions = {v for path in WORKFLOWS for job in jobs_of(path).values() for v in matrix_of(job)}
    lowest, below = re.findall(r"3\.(\d+)", PROJECT["project"]["requires-python"])
    assert versions == {f"3.{minor}" for minor in range(int(lowest), int(below))}


def matrix_of(job):
    return job.get("strategy", {}).get("matrix", {}).get("python", [])


def test_executed_notebooks_and_report_are_kept():
    uploads = [
        step["with"]["path"]
        for path in WORKFLOWS
        for job in jobs_of(path).values()
        for step in job["steps"]
        if "upload-artifact" in step.get("uses", "")
    ]
    assert any("notebooks/" in paths and "report.html" in paths for paths in uploads)


def test_hooks_are_the_tools_of_the_lock():
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    tools = {hook["entry"].split()[0].removeprefix(".venv/bin/") for hook in repository["hooks"]}
    assert tools == {"ruff", "nbstripout", "codespell", "mypy"}
    assert tools | {"pre-commit"} <= {name for name, _ in pinned(EXTRAS["test"])}


# ---------------------------------------------------------------- templates, citation, licence


@pytest.mark.parametrize("path", FORMS, ids=named)
def test_every_form_refuses_patient_data(path):
    form = yaml.safe_load(path.read_text())
    assert {"name", "description", "body"} <= set(form)
    assert "Post no patient data" in form["body"][0]["attributes"]["value"]
    (box,) = [part for part in form["body"] if part["type"] == "checkboxes"]
    assert all(option["required"] for option in box["attributes"]["options"])


def test_a_question_about_an_own_cohort_asks_for_check_and_record():
    text = (ROOT / ".github/ISSUE_TEMPLATE/own_cohort.yml").read_text()
    assert "rps check MANIFEST --json" in text and "run.json" in text


def test_the_citation_names_this_version_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["version"] == PROJECT["project"]["version"]
    assert citation["license"] == PROJECT["project"]["license"]
    (paper,) = citation["references"]
    assert f"https://doi.org/{paper['doi']}" in (ROOT / "README.md").read_text()
    assert len(paper["authors"]) == 10


def test_the_changelog_has_this_version():
    text = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(rf"^## \[{re.escape(PROJECT['project']['version'])}\] - \d{{4}}-\d\d-\d\d$", text, re.MULTILINE)
    assert "## [Unreleased]" in text


def test_licence_text_and_what_binds_a_bundle():
    assert (ROOT / "LICENSE").read_text().startswith("MIT License\n\nCopyright (c) ")
    for name in ("README.md", "pyproject.toml", "docs/licences.md"):
        assert re.search(r"scikit-survival[^\n]* GPL-3", (ROOT / name).read_text()), name


# ---------------------------------------------------------------- documents and package


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_links_lead_to_files_that_exist(path):
    targets = re.findall(r"\]\(([^)#]+)\)", path.read_text())
    assert not [t for t in targets if not t.startswith("https://") and not (path.parent / t).exists()]


def test_readme_is_short_and_lists_every_notebook_in_order():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    assert re.findall(r"\]\(notebooks/([^)]+)\)", text) == [path.name for path in NOTEBOOKS]


def test_every_manual_is_linked_from_a_document():
    linked = {
        (path.parent / target).resolve()
        for path in DOCUMENTS
        for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text())
    }
    assert {path.resolve() for path in DOCUMENTS if path.parent.name == "docs"} <= linked


def test_a_wheel_holds_every_file_of_the_package(tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    source = tmp_path / "source"
    found = [path for path in (ROOT / "rps_utils").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    package = [path.relative_to(ROOT).as_posix() for path in found if path.name[0] != "."]
    for name in [*package, "pyproject.toml", "README.md", "LICENSE"]:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run([*command, "--wheel-dir", tmp_path, source], check=True)
    with ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        assert set(package) <= set(wheel.namelist())


def test_every_test_that_a_document_names_exists():
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / "docs" / "refusals.md").read_text(encoding="utf-8"))
    assert len(named) > 25
    for file, test in named:
        text = (ROOT / file).read_text(encoding="utf-8")
        assert f"def {test}(" in text if test else text, f"{file}::{test}"


def test_the_table_of_speed_is_the_one_that_was_measured():
    from benchmarks.side_by_side import RESULTS, table

    page = (ROOT / "docs/performance.md").read_text()
    assert any(table(json.loads(kept.read_text())) in page for kept in RESULTS.glob("*.json"))


def test_the_development_container_has_a_python_that_is_supported_and_calls_targets_that_exist():
    folder = ROOT / ".devcontainer"
    asked = json.loads((folder / "devcontainer.json").read_text())
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert asked["postCreateCommand"].removeprefix("make ") in targets
    (version,) = re.findall(r"^FROM python:3\.(\d+)", (folder / asked["build"]["dockerfile"]).read_text(), re.MULTILINE)
    assert f"3.{version}" in re.findall(r"3\.\d\d", (ROOT / "docs" / "installation.md").read_text().split("##")[0])
