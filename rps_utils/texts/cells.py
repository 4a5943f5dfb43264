"""What a cell of a table may hold: numbers as they are written, and nothing that a spreadsheet would run."""

from __future__ import annotations

import re

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+", re.ASCII)


def is_formula(text: str) -> bool:
    """Tell whether a spreadsheet would run a cell: it begins with = + - @ or a control sign, and is no number."""
    number = NUMBER.fullmatch(text) or DECIMAL_COMMA.fullmatch(text)
    return len(text) > 1 and text[0] in "=+-@\t\r\n\0＝＋－＠" and not number


def safe_cell(text: str) -> str:
    """Return a cell that no spreadsheet runs as a formula: such text gets an apostrophe in front."""
    return f"'{text}" if is_formula(text) else text
