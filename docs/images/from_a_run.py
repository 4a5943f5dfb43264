"""Draw docs/images/c_index.png and panel.png from a run: ``python -m docs.images.from_a_run runs/default``.

The first is the figure of notebook 07; the second is a panel of notebook 11, photographed in JupyterLab while it works,
which needs chromium and chromedriver.
"""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
import plotly.io
from PIL import Image

from rps_utils.figures.still.picture import png
from tests.widgets.browser import Page, chromium, jupyter_lab

ROOT = Path(__file__).resolve().parents[2]
BOX = "const box = arguments[0].getBoundingClientRect(); return [box.x, box.y, box.right, box.bottom]"
PANEL = "11_risk_groups.ipynb"


def photograph(run: Path, target: Path) -> None:
    """Run notebook 11 on a run in JupyterLab, move its panel, and keep what is seen."""
    with TemporaryDirectory() as folder:
        notebook = nbformat.read(ROOT / "notebooks" / PANEL, 4)
        for cell in notebook.cells:
            cell.source = cell.source.replace('run_dir = "../runs/default"', f'run_dir = "{run.resolve()}"')
        nbformat.write(notebook, Path(folder) / PANEL)
        with jupyter_lab(Path(folder)) as address, chromium(1000, 1400) as driver:
            page = Page(driver, address, PANEL)
            page.run_all(1)
            page.move(0, 0, "\ue012" * 8)  # arrow left
            panel = page.panels()[0]
            driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", panel)
            box = driver.execute_script(BOX, panel)
            Image.open(BytesIO(driver.get_screenshot_as_png())).crop(box).save(target, optimize=True)


def main() -> None:
    """Draw both pictures."""
    run, folder = Path(sys.argv[1]), ROOT / "docs" / "images"
    (folder / "c_index.png").write_bytes(png(plotly.io.read_json(run / "figures" / "07_c_index.json")))
    photograph(run, folder / "panel.png")


if __name__ == "__main__":
    main()
