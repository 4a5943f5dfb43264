"""Damage to a sound file, as hypothesis draws it and shrinks it: a few edits, of bytes or of words."""

from __future__ import annotations

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


contents = st.one_of(st.sampled_from(WORDS), st.binary(max_size=6))
lengths = st.one_of(st.integers(0, 8), st.sampled_from((64, 512, 10**9)))
edits = st.lists(st.builds(Edit, st.floats(0, 1), lengths, contents), min_size=1, max_size=6)
# Headers come first in most files: half of the damage is done there.
near_the_start = st.lists(st.builds(Edit, st.floats(0, 0.05), lengths, contents), min_size=1, max_size=4)
damage = st.one_of(edits, near_the_start)


def damaged(sound: bytes, changes: list[Edit]) -> bytes:
    """Return a file after some edits."""
    for change in changes:
        at = int(change.place * len(sound))
        sound = sound[:at] + change.content + sound[at + change.length :]
    return sound
