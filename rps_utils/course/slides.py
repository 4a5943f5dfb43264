"""Figures of a run for slides: ``python -m rps_utils.course.slides RUN FOLDER``.

Each figure of the run becomes a PNG. ``captions.csv`` says what each shows, in words for the slide and in words for
those who do not see it; ``captions.md`` is the same to leaf through.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import plotly.io

from rps_utils.figures.still.picture import png
from rps_utils.figures.still.text import written_lines
from rps_utils.figures.still.words import describe
from rps_utils.files import whole_file, write_csv, write_text
from rps_utils.run_folder import RunFolder
from rps_utils.texts.counts import how_many

SLIDE_COLUMNS = ["picture", "notebook", "title", "caption", "alt_text"]
PAGE = "## {title}\n\n![{alt_text}]({picture})\n\n{caption}\n"


def write_slides(run: Path, folder: Path) -> pd.DataFrame:
    """Draw every kept figure of a run as a PNG, and write what each shows.

    Parameters
    ----------
    run : Path
        Run folder. Figures that hold grey values and may not be shown were not kept, so they are not drawn either.
    folder : Path
        Gets the pictures, ``captions.csv`` and ``captions.md``; pictures of that name are drawn anew.

    Returns
    -------
    DataFrame
        ``picture, notebook, title, caption, alt_text``, one row a figure, in the order of the notebooks.

    Raises
    ------
    ValueError
        The run holds no figure.
    """
    kept = sorted(RunFolder(run).figures.glob("*.json"))
    if not kept:
        raise ValueError(f"{run} holds no figure: make a run first (make reproduce, or rps run --out {run})")
    folder.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame([_write_slide(path, folder) for path in kept], columns=SLIDE_COLUMNS)
    write_csv(table, folder / "captions.csv")
    pages = [PAGE.format(**{str(name): text for name, text in row.items()}) for row in table.to_dict("records")]
    write_text("\n".join(["# Figures for slides\n", *pages]), folder / "captions.md")
    return table


def _write_slide(path: Path, folder: Path) -> tuple[str, str, str, str, str]:
    figure = plotly.io.read_json(path)
    picture = folder / f"{path.stem}.png"
    with whole_file(picture) as partial:
        partial.write_bytes(png(figure))
    caption = (figure.layout.meta or {}).get("caption", "")
    return picture.name, path.stem[:2], _title(figure), caption, describe(figure)


def _title(figure: go.Figure) -> str:
    return " ".join(" ".join(written_lines(figure.layout.title.text)).split())


def main() -> None:
    """Write the pictures of a run and say how many."""
    if len(sys.argv) != 3:
        sys.exit("use: python -m rps_utils.course.slides RUN FOLDER")
    run, folder = Path(sys.argv[1]), Path(sys.argv[2])
    try:
        table = write_slides(run, folder)
    except ValueError as refused:
        sys.exit(str(refused))
    print(f"{how_many(len(table), 'figure')} for slides, and what each shows: {folder / 'captions.md'}")


if __name__ == "__main__":
    main()
