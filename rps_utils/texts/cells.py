"""What a cell of a table may hold: numbers as they are written, and nothing that a spreadsheet would run."""

from __future__ import annotations

import re
import unicodedata

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+", re.ASCII)
AMBIGUOUS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}", re.ASCII)  # 1,234
COMMA_GROUPS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?", re.ASCII)  # 1,234,567.8
POINT_GROUPS = re.compile(r"[+-]?[1-9]\d{0,2}(\.\d{3})+,\d+|[+-]?[1-9]\d{0,2}(\.\d{3}){2,}", re.ASCII)  # 1.234,5


def is_formula(text: str) -> bool:
    """Tell whether a spreadsheet would run a cell: it begins with = + - @ or a control sign, and is no number."""
    number = NUMBER.fullmatch(text) or DECIMAL_COMMA.fullmatch(text)
    return len(text) > 1 and text[0] in "=+-@\t\r\n\0＝＋－＠" and not number


def safe_cell(text: str) -> str:
    """Return a cell that no spreadsheet runs as a formula: such text gets an apostrophe in front."""
    return f"'{text}" if is_formula(text) else text


def hidden_sign(text: str) -> str:
    """Name the first sign of a text that nobody can see, by its number: NUL, escape, marks of direction, no width.

    By them two texts look alike that are not, and a terminal does what they say. Line breaks and tabs are none of
    them: cells of spreadsheets have those.
    """
    unseen = (c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs") and c not in "\t\r\n")
    return next((f"a sign that cannot be seen (U+{ord(c):04X})" for c in unseen), "")


def comma_remedy(text: str) -> str:
    """Say how a number with a comma, or with groups of three digits, is to be written; empty where it is neither.

    ``1,234`` may be more than a thousand or a little more than one: nobody can tell, so both are said.
    """
    digits = re.sub("[ '\u00a0\u202f]", "", text)
    if AMBIGUOUS.fullmatch(text):
        as_group, as_decimal = text.replace(",", ""), text.replace(",", ".")
        return f"write {as_group} if the comma parts thousands, {as_decimal} if it is the decimal sign"
    if COMMA_GROUPS.fullmatch(digits):
        return f"write {digits.replace(',', '')}"
    if POINT_GROUPS.fullmatch(digits):
        return f"write {digits.replace('.', '').replace(',', '.')}"
    if DECIMAL_COMMA.fullmatch(digits):
        return f"write {digits.replace(',', '.')}"
    return f"write {digits}" if digits != text and NUMBER.fullmatch(digits) else ""
