"""A step is out of date exactly when something it is made from changed in content."""

import json
import os

import pytest

from rps_utils.files import read_json, write_json, write_text
from rps_utils.runs import freshness

from .conftest import age, copy_away_and_back, write_notebook

ALL = ["01_read", "02_fit", "03_claim", "04_end"]


def append(name, text):
    def change(chain):
        path = chain.root / name
        write_text(path.read_text() + text, path)

    return change


def ask(**values):
    return lambda chain: chain.asked.update(values)


def edit_notebook(change):
    def edit(chain):
        path = chain.root / "notebooks" / "02_fit.ipynb"
        content = json.loads(path.read_text())
        change(content)
        write_text(json.dumps(content, indent=3), path)

    return edit


def touch_everything(chain):
    for path in chain.root.rglob("*"):
        if path.is_file():
            age(path, 7200)


def exchange_pixels_secretly(chain):
    """Same size, same inode, and the time of change set back."""
    path = chain.root / "cohort" / "ct" / "a.nii"
    state = path.stat()
    with path.open("r+") as stream:
        stream.write("PIXELS")
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def restore_older(chain):
    """What `cp -p` of another patient's older scan does."""
    path = chain.root / "cohort" / "ct" / "a.nii"
    path.write_bytes((chain.root / "cohort" / "ct" / "b.nii").read_bytes())
    age(path, -86400)


def move_cohort(chain):
    (chain.root / "cohort").rename(chain.root / "archive")
    (chain.root / "cohort").symlink_to("archive")
    chain.asked["manifest"] = str(chain.root / "archive" / "manifest.csv")


CHANGES = {
    "nothing": (lambda chain: None, []),
    "every time of a file": (touch_everything, []),
    "copied away and back": (lambda chain: copy_away_and_back(chain.run), []),
    "the cohort in another folder": (move_cohort, []),
    "a comment in a module": (append("toy/used.py", "# a comment\n\n"), []),
    "a module": (append("toy/used.py", "x = 1\n"), ["02_fit"]),
    "a module that a module imports": (append("toy/near.py", "x = 1\n"), ["02_fit", "04_end"]),
    "a module imported in a function": (append("toy/far.py", "x = 1\n"), ["02_fit"]),
    "a module imported by its name in quotes": (append("toy/named.py", "x = 1\n"), ["02_fit"]),
    "the package's own file": (append("toy/__init__.py", "x = 1\n"), ["02_fit", "04_end"]),
    "a module for type checkers": (append("toy/typed.py", "x = 1\n"), []),
    "an unrelated module": (append("toy/unrelated.py", "x = 1\n"), []),
    "a template": (append("toy/pages/page.html", "<p>"), ["02_fit"]),
    "a template that a template includes": (append("toy/pages/style.css", "a {}"), ["02_fit"]),
    "an unrelated template": (append("toy/pages/other.html", "<p>"), []),
    "a data file": (append("toy/results/power.csv", "29,0.2\n"), ["03_claim", "04_end"]),
    "the workflow file": (append("Snakefile", "\n"), ALL),
    "a parameter": (ask(epochs=5), ["02_fit", "04_end"]),
    "the number of processes": (ask(n_jobs=7), []),
    "a cell of the manifest": (append("cohort/manifest.csv", "C,ct/c.nii\n"), ["01_read", "02_fit", "04_end"]),
    "an image": (append("cohort/ct/b.nii", "!"), ["01_read"]),
    "an image, secretly": (exchange_pixels_secretly, ["01_read"]),
    "an image, by an older file": (restore_older, ["01_read"]),
    "a lost image": (lambda chain: (chain.root / "cohort" / "ct" / "a.nii").unlink(), ["01_read"]),
    "a cell": (edit_notebook(lambda content: content["cells"][1].update(source="from toy import used\n1")), ["02_fit"]),
    "outputs of a notebook": (
        edit_notebook(lambda content: content["cells"][1].update(outputs=[{"output_type": "stream"}])),
        [],
    ),
    "the kernel's name": (edit_notebook(lambda content: content["metadata"].update(kernelspec={"name": "py"})), []),
    "a damaged output": (append("run/fits/a.csv", "\n"), ["02_fit"]),
    "an output cut within a number": (
        lambda chain: write_text((chain.run / "fits" / "a.csv").read_text()[:-1], chain.run / "fits" / "a.csv"),
        ["02_fit"],
    ),
    "a lost output": (lambda chain: (chain.run / "end.csv").unlink(), ["04_end"]),
    "a lost figure": (lambda chain: (chain.run / "figures" / "03_claim.html").unlink(), ["03_claim"]),
    "a lost executed notebook": (lambda chain: (chain.run / "notebooks" / "03_claim.ipynb").unlink(), ["03_claim"]),
    "a lost log": (lambda chain: (chain.run / "logs" / "03_claim.json").unlink(), ["03_claim"]),
    "a damaged log": (lambda chain: write_text("{", chain.run / "logs" / "03_claim.json"), ["03_claim"]),
    "a log without hashes": (
        lambda chain: write_json({"seconds": 1}, chain.run / "logs" / "03_claim.json"),
        ["03_claim"],
    ),
    "a damaged memory of hashes": (lambda chain: write_text("[1]", chain.run / ".chain" / "hashes.json"), []),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_reruns_what_depends_on_it_and_nothing_else(chain, name):
    change, expected = CHANGES[name]
    change(chain)
    assert sorted(chain.bring()) == expected
    assert chain.bring() == []


REASONS = {
    "a module": ("02_fit", ("toy/used.py changed",)),
    "a data file": ("03_claim", ("toy/results/power.csv changed",)),
    "the workflow file": ("03_claim", ("the workflow file changed",)),
    "a parameter": ("02_fit", ("parameter epochs 60 -> 5",)),
    "a cell of the manifest": ("01_read", ("ct/c.nii is new to it", "manifest.csv changed")),
    "an image": ("01_read", ("ct/b.nii changed",)),
    "a lost image": ("01_read", ("ct/a.nii is missing",)),
    "a cell": ("02_fit", ("its notebook changed",)),
    "a damaged output": ("02_fit", ("fits/a.csv is not what it wrote",)),
    "a lost output": ("04_end", ("end.csv is missing",)),
    "a lost log": ("03_claim", ("new",)),
}


@pytest.mark.parametrize("name", REASONS)
def test_the_reason_is_named(chain, name):
    CHANGES[name][0](chain)
    step, why = REASONS[name]
    assert chain.plan()[step].state == "runs"
    assert tuple(sorted(chain.plan()[step].why)) == why


def test_what_follows_waits_until_it_is_known_what_was_written(chain):
    ask(epochs=5)(chain)
    plan = chain.plan()
    assert {name: decision.state for name, decision in plan.items()} == {
        **{"01_read": "reused", "02_fit": "runs", "03_claim": "reused", "04_end": "waits"},
    }
    assert plan["04_end"].why == ("02_fit",)


def test_another_version_of_a_package_is_another_code(chain, monkeypatch):
    before = freshness.imported_packages

    def renewed(*given):
        return {name: "9.9" if name == "numpy" else number for name, number in before(*given).items()}

    monkeypatch.setattr(freshness, "imported_packages", renewed)
    (why,) = chain.plan()["02_fit"].why
    assert why.startswith("package numpy ") and why.endswith(" -> 9.9")
    assert chain.bring() == ["02_fit"]


def test_a_step_that_failed_runs_again_though_nothing_changed(chain, monkeypatch):
    ask(epochs=5)(chain)
    whole = chain._execute
    monkeypatch.setattr("rps_utils.runs.notebook.execute", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        chain.bring()
    monkeypatch.setattr("rps_utils.runs.notebook.execute", whole)
    ask(epochs=60)(chain)
    assert chain.bring() == ["02_fit"]


def test_a_notebook_that_does_not_write_what_it_declares_is_no_success(chain):
    promised = {"writes": ["claim.csv", "more.csv"], "data": ["results/power.csv"]}
    write_notebook(chain.root / "notebooks", "03_claim", promised, "run_dir = '.'\n", "2")
    with pytest.raises(RuntimeError, match=r"it declares to write more\.csv, and did not"):
        chain.bring()


def test_a_declared_data_file_must_be_there(chain):
    (chain.package / "results" / "power.csv").unlink()
    with pytest.raises(ValueError, match=r"03_claim\.ipynb: its data file results/power\.csv is not in"):
        chain.plan()


def test_large_files_are_read_once(chain, monkeypatch):
    for path in (chain.root / "cohort").rglob("*.*"):
        age(path, -3600)
    monkeypatch.setattr("rps_utils.sources.SETTLED_NS", 0)
    chain.plan()
    monkeypatch.setattr("rps_utils.sources.file_sha256", lambda path: pytest.fail(f"{path} was read again"))
    assert {decision.state for decision in chain.plan().values()} == {"reused"}


def test_the_log_of_a_step_names_what_it_was_made_from(chain):
    log = read_json(chain.run / "logs" / "02_fit.json")
    assert list(log["made_from"]["code"]) == [
        *("toy/__init__.py", "toy/far.py", "toy/named.py", "toy/near.py", "toy/pages/page.html", "toy/pages/style.css"),
        "toy/used.py",
    ]
    assert set(log["made"]) == {"fits/a.csv", "figures/02_fit.html", "notebooks/02_fit.ipynb"}
    assert log["made_from"]["parameters"] == {"epochs": 60}


def test_what_a_step_keeps_for_later_does_not_outlive_its_code(chain, monkeypatch):
    """Features and networks are kept by inputs and settings; code that computes them otherwise must not meet them."""
    met = []

    def execute(source, parameters, run, n_jobs):
        kept = run / "features" / "A.json"
        met.append(kept.is_file())
        write_text("{}", kept)
        chain._execute(source, parameters, run, n_jobs)

    monkeypatch.setattr("rps_utils.runs.notebook.execute", execute)
    for change in (append("Snakefile", "#"), ask(epochs=5), append("toy/used.py", "x = 1\n")):
        met.clear()
        change(chain)
        chain.bring()
    assert met == [False]
    assert "features/A.json" in read_json(chain.run / "logs" / "02_fit.json")["made"]


def test_a_list_of_written_files_reaches_nothing_outside_the_run(chain):
    (chain.root / "precious.csv").write_text("kept")
    written = chain.run / ".chain" / "written" / "02_fit.txt"
    written.write_text("other code\n../../../precious.csv\n")
    append("toy/used.py", "x = 1\n")(chain)
    assert chain.bring() == ["02_fit"]
    assert (chain.root / "precious.csv").read_text() == "kept"
