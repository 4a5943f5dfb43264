"""Damage to a sound file, as hypothesis draws it and shrinks it: a few edits, of bytes or of words."""

from __future__ import annotations

import re
from typing import NamedTuple

from hypothesis import strategies as st

WORDS = (
    *(b"", b"\0", b"\xff\xff", b"\xff\xff\xff\xff", b"\0\0\0\x80", b"nan", b"inf", b"-1", b"1e308", b"1e9"),
    *(b"99999999999", b'"', b"'", b",", b"\n", b"\r", b"=1+1", b"null", b"[]", b"{}", b"[[[[", b"true"),
    *(b"\xef\xbb\xbf", b"\xe2\x80\xae", b"../", b"/", b"P1", b"0", b"2", b": ", b"- ", b"&a [*a]", b"!!x "),
    *(b"UN", b"SQ", b"OB", b"DS", b"IS", b"PN"),
)


class Edit(NamedTuple):
    """Replace `length` bytes at a share of the file by others."""

    place: float
    length: int
    content: bytes


class Swap(NamedTuple):
    """Put other words in the place of one, at a share of the words: a file that is sound but for what it says."""

    place: float
    content: bytes


WORD = re.compile(rb'"[^"\n]*"|[\w.+-]+')
VALUES = (
    *(b"0", b"1", b"-1", b"2", b"0.5", b"1e999", b"-1e308", b"1e-320", b"12345678901234567890", b"NaN", b"-Infinity"),
    *(b"null", b"true", b"[]", b"{}", b'""', b'"\\u0000"', b'"../../x"', b'"=1+1"', b"[1, 2, 3]", b'{"a": {"b": [0]}}'),
    *(b"1,234", b"1.234,5", b"inf", b"None", b"TRUE", "\u0430".encode(), "\u202e".encode(), b"9" * 400, b"[" * 200),
)
contents = st.one_of(st.sampled_from(WORDS), st.binary(max_size=6))
lengths = st.one_of(st.integers(0, 8), st.sampled_from((64, 512, 10**9)))
edits = st.lists(st.builds(Edit, st.floats(0, 1), lengths, contents), min_size=1, max_size=6)
# Headers come first in most files: half of the damage is done there.
near_the_start = st.lists(st.builds(Edit, st.floats(0, 0.05), lengths, contents), min_size=1, max_size=4)
swaps = st.lists(st.builds(Swap, st.floats(0, 1), st.sampled_from(VALUES)), min_size=1, max_size=3)
damage = st.one_of(edits, near_the_start, swaps)


def damaged(sound: bytes, changes: list[Edit] | list[Swap]) -> bytes:
    """Return a file after some changes."""
    for change in changes:
        if isinstance(change, Swap):
            sound = _swapped(sound, change)
            continue
        at = int(change.place * len(sound))
        sound = sound[:at] + change.content + sound[at + change.length :]
    return sound


def _swapped(sound: bytes, change: Swap) -> bytes:
    words = list(WORD.finditer(sound))
    if not words:
        return sound
    one = words[min(int(change.place * len(words)), len(words) - 1)]
    return sound[: one.start()] + change.content + sound[one.end() :]
