"""Pictures of patients: kept out of executed notebooks, figures and reports unless they are synthetic or public."""

import json
import re

import numpy as np
import pandas as pd
import papermill
import pytest

from rps_utils.cohort.contract import data_kind, why_withheld
from rps_utils.cohort.manifest import check_cells, read_cells
from rps_utils.figures.scans import ct_view
from rps_utils.figures.style import PLOTLY, save_figure
from rps_utils.files import read_csv, write_csv
from rps_utils.imaging.volumes import write_volume
from rps_utils.lab.faults.manifest import small_scan
from rps_utils.report.page import write_report
from rps_utils.runs.notebook import QUIET_KERNEL
from rps_utils.runs.parameters import default_parameters
from rps_utils.steps import NOTEBOOKS
from tests.report.test_report import make_run

PATIENTS = 16
GREY = re.compile(r'"type": ?"(heatmap|contour|image|surface|volume|isosurface)"|data:image/|"image/')
PICTURES = {"01_patient", "01_scan_grid", "01_crop_grid", "02_views"}


def table(**columns):
    return pd.DataFrame({"patient_id": ["A", "B"], **columns})


@pytest.mark.parametrize(
    ("cohort", "show", "shown"),
    [
        (table(), "auto", False),
        (table(data_kind="private"), "auto", False),
        (table(data_kind="synthetic"), "auto", True),
        (table(data_kind="public"), "auto", True),
        (table(data_kind="private"), "yes", True),
        (table(data_kind="synthetic"), "no", False),
    ],
    ids=["nobody says", "private", "synthetic", "public", "private, asked for", "synthetic, not wanted"],
)
def test_who_is_pictured(cohort, show, shown):
    assert (why_withheld(cohort, show) == "") == shown


def test_private_is_the_default_and_words_are_checked():
    assert data_kind(table()) == data_kind(table().iloc[:0]) == "private"
    with pytest.raises(ValueError, match="show_pixels = 'maybe'; allowed: auto, yes, no"):
        why_withheld(table(), "maybe")


def cells(kinds):
    count = len(kinds)
    rows = {"time_months": [f"{n + 3}" for n in range(count)], "event": ["1"] * count, "data_kind": kinds}
    return pd.DataFrame({"patient_id": [f"P{n}" for n in range(count)], **rows}, index=range(2, count + 2))


@pytest.mark.parametrize(
    ("kinds", "row", "value", "remedy"),
    [
        (["synthetic", "fake"], 3, "fake", "without the column it is private"),
        (["synthetic", ""], 3, "", "without the column it is private"),
        (["public", "synthetic"], None, "public, synthetic", "write private in all rows"),
    ],
    ids=["another word", "a gap", "two kinds"],
)
def test_door_refuses_a_kind_that_is_not_one(kinds, row, value, remedy):
    found = [p for p in check_cells(cells(kinds)) if p.column == "data_kind"]
    assert [(p.row, p.value) for p in found] == [(row, value)]
    assert remedy in found[0].remedy


def test_grey_values_are_not_kept_until_somebody_has_said_so(tmp_path):
    view = ct_view(np.zeros((6, 5, 4)), None, (2.0, 3.0, 5.0), [0, 1])
    data = pd.DataFrame({"slice": [0, 1]})
    with pytest.raises(ValueError, match=r"01_x holds grey values: pass withheld=manifest\.why_withheld"):
        save_figure(view, data, tmp_path, "01_x")
    assert save_figure(view, data, tmp_path, "01_x", withheld="").to_plotly_json() == view.to_plotly_json()
    left = save_figure(view, data, tmp_path, "01_x", withheld="not shown: because")
    assert left.layout.annotations[0].text == "not shown: because"
    assert not left.data and not GREY.search(left.to_json())
    assert not list((tmp_path / "figures").glob("01_x*"))


# ---------------------------------------------------------------- as executed


def write_cohort(folder, **columns):
    """Sixteen small scans, alike in nothing but their size."""
    names = [f"P{n:02d}" for n in range(PATIENTS)]
    for number, name in enumerate(names):
        for volume, kind in zip(small_scan(number), ("ct", "mask"), strict=True):
            write_volume(volume, folder / f"{name}_{kind}.nii.gz")
    rows = {"time_months": 4.0 + 3 * np.arange(PATIENTS), "event": np.arange(PATIENTS) % 2, "age": 50.0}
    files = {kind: [f"{name}_{end}.nii.gz" for name in names] for kind, end in (("image", "ct"), ("mask", "mask"))}
    return write_csv(pd.DataFrame({"patient_id": names, **files, **rows, **columns}), folder / "data_manifest.csv")


def execute(manifest, run):
    """Notebooks 01 and 02, then a report, as text: everything that a run lets out."""
    wanted = {"manifest": str(manifest), "folds": 3, "patch_voxels": 16, "comparison_epochs": 1, "n_jobs": 1}
    for name in ("01_ingest", "02_augmentation"):
        notebook = NOTEBOOKS / f"{name}.ipynb"
        known = default_parameters(notebook)
        chosen = {key: value for key, value in wanted.items() if key in known} | {"run_dir": str(run)}
        (run / "notebooks").mkdir(parents=True, exist_ok=True)
        options = {"cwd": NOTEBOOKS, **QUIET_KERNEL}
        papermill.execute_notebook(notebook, run / "notebooks" / f"{name}.ipynb", chosen, **options)
    make_run(run)
    write_report(run)


def let_out(run):
    """Outputs of the notebooks, figures and report: name to text; the drawing library knows every type of trace."""
    texts = {p.name: p.read_text() for p in [*run.glob("figures/*.html"), *run.glob("figures/*.json")]}
    for path in run.glob("notebooks/*.ipynb"):
        outputs = [o for c in json.loads(path.read_text())["cells"] for o in c.get("outputs", [])]
        for output in (o for o in outputs if PLOTLY in o.get("data", {})):
            if "image/png" in output["data"] and not GREY.search(json.dumps(output["data"][PLOTLY])):
                del output["data"]["image/png"], output["metadata"]["image/png"]  # of a figure without grey values
        texts[path.name] = json.dumps(outputs)
    page = (run / "report.html").read_text()
    return texts | {"report.html": re.sub(r"data:text/javascript;base64,[A-Za-z0-9+/=]*", "", page)}


@pytest.mark.chain
@pytest.mark.parametrize("kind", ["", "synthetic"], ids=["private", "synthetic"])
def test_an_executed_run_shows_patients_only_where_it_may(tmp_path, kind):
    manifest = write_cohort(tmp_path / "data", **({"data_kind": kind} if kind else {}))
    assert read_cells(manifest)[1] == []
    execute(manifest, tmp_path / "run")
    texts = let_out(tmp_path / "run")
    grey = {name for name, text in texts.items() if GREY.search(text)}
    made = {path.stem for path in (tmp_path / "run" / "figures").glob("*.html")}
    if kind:
        assert made >= PICTURES and grey >= {"01_ingest.ipynb", "02_augmentation.ipynb", "report.html"}
        assert "The patients of this run are synthetic" in " ".join(texts["report.html"].split())
    else:
        assert grey == set() and not made & PICTURES
        assert not list((tmp_path / "run" / "figures").glob("02_views*"))
        assert (
            "show_pixels to yes" in texts["01_ingest.ipynb"] and "show_pixels to yes" in texts["02_augmentation.ipynb"]
        )
        assert "calls these patients private" in " ".join(texts["report.html"].split())
    assert data_kind(read_csv(tmp_path / "run" / "cohort.csv")) == (kind or "private")
