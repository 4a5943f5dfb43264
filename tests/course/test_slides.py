"""Every figure of a run becomes a picture, with words for the slide and words for those who do not see it."""

import subprocess
import sys

import pandas as pd
import pytest
from PIL import Image

from rps_utils.course.slides import write_slides
from rps_utils.figures.style import new_figure, save_figure


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    for name, title in (("09_ipa", "IPA by<br>model"), ("07_c_index", "Harrell's C")):
        chart = new_figure(title)
        chart.add_scatter(x=["Rad", "Clinical"], y=[0.61, 0.7], name="validation", mode="markers")
        save_figure(chart, pd.DataFrame({"value": [0.61, 0.7]}), folder, name, f"What {name} shows.")
    return folder


def test_each_figure_is_a_picture_with_its_words_in_the_order_of_the_notebooks(run, tmp_path):
    table = write_slides(run, tmp_path / "slides")
    assert table["picture"].tolist() == ["07_c_index.png", "09_ipa.png"] and table["notebook"].tolist() == ["07", "09"]
    assert table["title"].tolist() == ["Harrell's C", "IPA by model"]
    assert table["caption"].tolist() == ["What 07_c_index shows.", "What 09_ipa shows."]
    assert all("validation" in text and "0.61" in text for text in table["alt_text"])
    for name in table["picture"]:
        with Image.open(tmp_path / "slides" / name) as picture:
            assert picture.format == "PNG" and picture.width > 1000
            low, high = picture.convert("L").getextrema()
            assert low < 100 < 250 < high
    assert pd.read_csv(tmp_path / "slides" / "captions.csv", dtype=str).equals(table)
    page = (tmp_path / "slides" / "captions.md").read_text(encoding="utf-8")
    assert all(f"]({name})" in page for name in table["picture"]) and "\n## IPA by model\n" in page


def test_the_same_run_gives_the_same_bytes_and_a_stale_picture_is_drawn_anew(run, tmp_path):
    folder = tmp_path / "slides"
    write_slides(run, folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "09_ipa.png").write_bytes(b"stale")
    write_slides(run, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before and len(before) == 4


def test_a_folder_without_figures_is_told_how_to_make_them(tmp_path):
    command = [sys.executable, "-m", "rps_utils.course.slides", tmp_path / "none", tmp_path / "slides"]
    refused = subprocess.run(command, check=False, capture_output=True, text=True)
    assert refused.returncode and "holds no figure: make a run first" in refused.stderr
    assert not (tmp_path / "slides").exists()
