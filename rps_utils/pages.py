"""Tables and the scaffolding of self-contained pages: what reports, checks and records share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

LONGEST_TABLE = 200


def column_texts(column: pd.Series) -> list[str]:
    """Write a column for reading: whole numbers plain, others with three decimals, tiny ones with a power of ten."""
    if not pd.api.types.is_float_dtype(column):
        return ["" if value is None or value is pd.NA or value != value else str(value) for value in column]
    whole = (column.dropna() == column.dropna().round()).all()
    return [_number_text(value, whole) for value in column]


def _number_text(value: float, whole: bool) -> str:
    if np.isnan(value):
        return ""
    if whole:
        return f"{value:.0f}"
    return f"{value:.3f}" if value == 0 or abs(value) >= 0.0005 else f"{value:.1e}"


def page_table(table: pd.DataFrame, caption: str, longest: int | None = LONGEST_TABLE) -> dict[str, Any]:
    """Return a table as texts: caption, header, rows (at most `longest`) and how many are left out."""
    shown = table.iloc[:longest]
    rows = list(zip(*(column_texts(shown.iloc[:, i]) for i in range(shown.shape[1])), strict=True))
    header = [str(c).replace("_", " ") for c in table.columns]
    return {"caption": caption, "header": header, "rows": rows, "left_out": len(table) - len(shown)}


def render_page(template: str, **values: Any) -> str:
    """Fill a template of this package; text from outside cannot become part of the page's own code."""
    loader = FileSystemLoader(Path(__file__).parent / "templates")
    pages = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return pages.get_template(template).render(**values)
