"""Outlines of one slice: what is inside, and what is no clear outline."""

import numpy as np
import pytest

from rps_utils.ingest.readers.contours import XOR, Contour, Unclear, fill_slice, inside_polygon

SHAPE, SPACING = (40, 40), (0.8, 0.8)
PLAIN = "CLOSED_PLANAR"


def square(low, high, left=None, right=None):
    left, right = low if left is None else left, high if right is None else right
    return np.array([[low, left], [low, right], [high, right], [high, left]], float) + 0.5


def circle(centre, radius, points=60):
    turn = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return np.column_stack([np.sin(turn), np.cos(turn)]) * radius + centre


def keyhole():
    """A square of 20 with a hole of 6, joined by a channel without width."""
    outer, inner = square(5, 25), square(12, 18)[::-1]
    return np.concatenate([outer[:1], inner[[3, 0, 1, 2, 3]], outer[[0, 1, 2, 3]]])


def fill(*outlines, kind=PLAIN):
    return fill_slice([Contour(n, kind, points) for n, points in enumerate(outlines, 1)], SHAPE, SPACING)


def noisy(points):
    return points + np.random.default_rng(1).normal(0, 0.005, points.shape)


ROUND = circle((20, 20), 8.3)
DISC = sum(y**2 + x**2 <= 68 for y in range(-9, 10) for x in range(-9, 10))  # no pixel between 68 and 8.3 squared
READ = {
    "one": ([ROUND], DISC),
    "twice": ([ROUND, ROUND], DISC),
    "three times": ([ROUND, ROUND, ROUND], DISC),
    "reversed": ([ROUND, ROUND[::-1]], DISC),
    "begun elsewhere": ([ROUND, np.roll(ROUND, 17, axis=0)], DISC),
    "reversed and begun elsewhere": ([ROUND, np.roll(ROUND[::-1], 5, axis=0)], DISC),
    "noise of rounding": ([ROUND, noisy(ROUND)], DISC),
    "more points on the same edges": ([square(5, 25), np.repeat(square(5, 25), 2, axis=0)], 400),
    "first point repeated at the end": ([np.concatenate([square(5, 25), square(5, 25)[:1]])], 400),
    "hole": ([square(5, 25), square(12, 18)], 400 - 36),
    "hole named first": ([square(12, 18), square(5, 25)], 400 - 36),
    "hole and outline twice": ([square(5, 25), square(12, 18), square(12, 18), square(5, 25)], 400 - 36),
    "island in a hole": ([square(5, 25), square(8, 22), square(13, 17)], 400 - 196 + 16),
    "keyhole": ([keyhole()], 400 - 36),
    "apart": ([square(5, 10), square(20, 30)], 25 + 100),
    "side by side": ([square(5, 15, 5, 15), square(5, 15, 15, 25)], 200),
    "touching in a corner": ([square(5, 10), square(10, 15)], 50),
    "hole that touches the edge": ([square(5, 25), square(5, 10, 10, 15)], 400 - 25),
}


@pytest.mark.parametrize("name", READ)
def test_outlines_are_read_as_what_they_enclose(name):
    outlines, pixels = READ[name]
    assert fill(*outlines).sum() == pixels


def test_the_round_outline_is_the_disc():
    y, x = np.mgrid[:40, :40]
    assert (fill(ROUND, ROUND) == ((y - 20) ** 2 + (x - 20) ** 2 <= 68)).all()


@pytest.mark.parametrize("name", ["hole", "island in a hole", "apart"])
def test_xor_outlines_are_joined_as_the_standard_says(name):
    outlines, pixels = READ[name]
    assert fill(*outlines, kind=XOR).sum() == pixels


def test_xor_outlines_may_cross():
    assert fill(square(5, 15), square(5, 15, 10, 20), kind=XOR).sum() == 100


BOW_TIE = np.array([[5, 5], [25, 25], [25, 5], [5, 25]], float) + 0.5
REFUSED = {
    "crossing": ([square(5, 15), square(10, 20)], "contours 1 and 2 cross or overlap"),
    "half across, edges in line": ([square(5, 15), square(5, 15, 10, 20)], "contours 1 and 2 cross or overlap"),
    "moved by half a pixel": ([ROUND, ROUND + 0.5], "contours 1 and 2 are nearly the same"),
    "drawn again by hand": ([ROUND, circle((20, 20), 7.9)], "contours 1 and 2 are nearly the same"),
    "third crosses the first": ([square(5, 15), square(20, 30), square(10, 17)], "contours 1 and 3 cross"),
    "bow tie": ([BOW_TIE], "contour 1 crosses itself"),
    "loop run through twice": ([np.concatenate([ROUND, ROUND])], "contour 1 crosses itself"),
    "two halves and the whole": (
        [square(5, 25), square(5, 15, 5, 25), square(15, 25, 5, 25)],
        "contours 1 and 2 and 3 cancel each other",
    ),
    "one point": ([np.array([[5.0, 5.0]])], "contour 1 has 1 point$"),
    "two points": ([square(5, 25), np.array([[5.0, 5.0], [9.0, 9.0]])], "contour 2 has 2 points"),
    "one point three times": ([np.full((3, 2), 7.0)], "contour 1 has 1 point$"),
    "line": ([np.array([[5, 5], [9, 9], [14, 14.0]])], "contour 1 is a line"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_unclear_outlines_are_refused_by_number(name):
    outlines, message = REFUSED[name]
    with pytest.raises(Unclear, match=message):
        fill(*outlines)


def test_the_same_xor_outline_twice_is_refused():
    with pytest.raises(Unclear, match="contours 1 and 2 are the same, and XOR would cancel them"):
        fill(ROUND, ROUND, kind=XOR)


def test_fine_areas_do_not_depend_on_where_pixels_lie():
    for shift in np.linspace(0, 1, 7):
        moved = square(5, 25) + shift
        assert fill(moved, moved).sum() == inside_polygon(moved, SHAPE).sum()
