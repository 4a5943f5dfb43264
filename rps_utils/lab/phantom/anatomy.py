"""The abdomen of a synthetic patient: a canvas in HU, and the organs painted on it.

Lengths in mm, RAS: +x patient right, +y anterior, +z superior. Organs are ellipsoids and tubes with soft edges; what
is painted later covers what was painted before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from rps_utils.lab.phantom.tumour import TumourShape, outside_mm, rotation

SOFT_MM = 2.0
SKIN_MM = 2.0
Point = Sequence[float] | np.ndarray  # along x, y, z
CORTICAL, GAS, LUNG, FLUID, AIR = 650.0, -900.0, -860.0, 12.0, -1000.0


@dataclass(frozen=True)
class Body:
    """The patient's abdomen, mm.

    Attributes
    ----------
    half_width, half_depth : float
        Half axes of the skin in the axial plane.
    fat, wall : float
        Thickness of subcutaneous fat and of the muscle wall.
    belly : float
        Distance of the skin in front from the body axis at the height of the tumour: a large tumour distends.
    """

    half_width: float
    half_depth: float
    fat: float
    wall: float
    belly: float

    @property
    def spine_y(self) -> float:
        """Anterior coordinate of the centre of the vertebral bodies."""
        return -self.half_depth + 1.25 * self.fat + 54.0


@dataclass(frozen=True)
class Patient:
    """Who lies in the scanner.

    Attributes
    ----------
    body : Body
        Outline of the abdomen.
    tumour : Shape
        The tumour, in place.
    outward : float
        Lateral direction on the tumour's side: +1 = patient right, -1 = patient left.
    tissue : dict of str to float
        HU of each tissue in this scan.
    """

    body: Body
    tumour: TumourShape
    outward: float
    tissue: dict[str, float]


@dataclass
class Canvas:
    """A volume in HU with the coordinates of its voxel centres (mm) and the depth below the inner wall (mm)."""

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    hu: np.ndarray = field(init=False)
    cavity: np.ndarray = field(init=False)

    def box(self, low: Point, high: Point) -> tuple[tuple[slice, ...], list[np.ndarray]]:
        """Return slices of the part between two corners (mm), and its coordinates shaped to broadcast."""
        cut = tuple(
            slice(*np.searchsorted(c, [a, b])) for c, a, b in zip((self.x, self.y, self.z), low, high, strict=True)
        )
        x, y, z = self.x[cut[0]], self.y[cut[1]], self.z[cut[2]]
        return cut, [x[:, None, None], y[None, :, None], z[None, None, :]]

    def blend(self, cut: tuple[slice, ...], depth: np.ndarray, hu: ArrayLike, within: bool = False) -> None:
        """Paint `hu` where `depth` (mm) is positive, with a soft edge; `within` keeps it inside the wall."""
        if within:
            depth = np.minimum(depth, self.cavity[cut] - 1.0)
        cover = np.clip(0.5 + depth / SOFT_MM, 0.0, 1.0)
        self.hu[cut] += cover * (hu - self.hu[cut])

    def ellipsoid(
        self,
        centre: Point,
        semi: Point,
        hu: float,
        turn: np.ndarray | None = None,
        within: bool = True,
        above_y: float | None = None,
    ) -> None:
        """Paint an ellipsoid; `turn` rotates it, `above_y` keeps only what lies anterior of it (gas rises)."""
        middle, axes = np.asarray(centre, dtype=float), np.asarray(semi, dtype=float)
        reach = (axes if turn is None else np.full(3, axes.max())) + 3.0
        cut, (x, y, z) = self.box(middle - reach, middle + reach)
        offsets = [x - middle[0], y - middle[1], z - middle[2]]
        if turn is not None:
            offsets = [sum(m * o for m, o in zip(row, offsets, strict=True)) for row in turn.T]
        level = np.sqrt(sum((o / s) ** 2 for o, s in zip(offsets, axes, strict=True)))
        depth = (1.0 - level) * axes.min()
        if above_y is not None:
            depth = np.minimum(depth, y - above_y)
        self.blend(cut, depth, hu, within)

    def tube(
        self,
        z_range: Sequence[float],
        path: tuple[ArrayLike, ArrayLike],
        radii: tuple[ArrayLike, ArrayLike],
        hu: ArrayLike,
        within: bool = False,
    ) -> None:
        """Paint a tube along z; path (x, y), radii and HU are numbers or arrays along the whole z axis."""
        (cx, cy), (rx, ry), hu = (
            [np.broadcast_to(np.asarray(v, dtype=float), self.z.shape) for v in group] for group in (path, radii, [hu])
        )
        low, high = (cx - rx).min() - 3, (cx + rx).max() + 3
        cut, (x, y, _) = self.box((low, (cy - ry).min() - 3, z_range[0]), (high, (cy + ry).max() + 3, z_range[1]))
        cx, cy, rx, ry, hu = (v[cut[2]][None, None, :] for v in (cx, cy, rx, ry, hu[0]))
        level = np.sqrt(((x - cx) / np.maximum(rx, 1e-3)) ** 2 + ((y - cy) / np.maximum(ry, 1e-3)) ** 2)
        self.blend(cut, (1.0 - level) * np.minimum(rx, ry), hu, within)


def distend(body: Body, tumour: TumourShape) -> Body:
    """Return the body with a belly that holds nearly all of the tumour; `bulge_over` sees to the rest."""
    front = tumour.centre[1] + tumour.half[1] + 0.8 * body.fat + body.wall
    return replace(body, belly=max(body.half_depth, 0.97 * front))


def paint_wall(canvas: Canvas, patient: Patient) -> None:
    """Paint air, skin, subcutaneous fat, muscle wall and visceral fat; fills `canvas.hu` and `canvas.cavity`."""
    body, tumour, tissue = patient.body, patient.tumour, patient.tissue
    depth = body_depth(canvas, body, tumour)
    x, y = canvas.x[:, None], canvas.y[None, :]
    back = -y / (np.hypot(x, y) + 20.0)
    fat = (body.fat * (1 + 0.3 * back))[:, :, None] + SKIN_MM
    bulge_over(canvas, depth, tumour, fat, body.wall)
    canvas.cavity = depth - fat - body.wall
    edges = np.array([-1.0, 1.0, body.wall - 1.0, body.wall + 1.0])
    hu = np.interp(canvas.cavity + body.wall, edges, [tissue["fat"], tissue["muscle"], tissue["muscle"], tissue["fat"]])
    hu[(depth < SKIN_MM)] = 20.0
    canvas.hu = AIR + np.clip(0.5 + depth / SOFT_MM, 0, 1) * (hu - AIR)


def body_depth(canvas: Canvas, body: Body, tumour: TumourShape) -> np.ndarray:
    """Return the depth below the skin along the ray to the body axis, mm (negative outside)."""
    x, y = canvas.x[:, None], canvas.y[None, :]
    reach = np.hypot(x, y) + 1e-6
    waist = 0.97 + 0.05 * np.clip(canvas.z / 150, -1.4, 1.4) ** 2
    skin = (reach / body_level(x, y, body.half_width, body.half_depth))[:, :, None] * waist
    if body.belly > body.half_depth:
        front = np.where(y > 0, body.belly, body.half_depth)
        distended = (reach / body_level(x, y, body.half_width, front))[:, :, None]
        share = np.exp(-(np.maximum(np.abs(canvas.z - tumour.centre[2]) - tumour.half[2] / 2, 0) ** 2) / (2 * 70**2))
        skin += share * np.maximum(distended - skin, 0)
    return skin - reach[:, :, None]


def body_level(x: np.ndarray, y: np.ndarray, half_width: float, half_depth: ArrayLike) -> np.ndarray:
    """Return 1 on the skin of a rounded box between an ellipse and a rectangle, less inside."""
    power = 2.4
    return ((np.abs(x) / half_width) ** power + (np.abs(y) / half_depth) ** power) ** (1 / power)


def bulge_over(canvas: Canvas, depth: np.ndarray, tumour: TumourShape, fat: np.ndarray, wall: float) -> None:
    """Raise `depth` in place so that the wall passes outside the tumour (smooth maximum)."""
    reach = tumour.half + 80.0
    cut, (x, y, z) = canvas.box(tumour.centre - reach, tumour.centre + reach)
    needed = fat[cut[0], cut[1]] + wall + 4.0 - outside_mm(tumour.envelope(x, y, z), x, y, z, tumour.centre)
    soft = 24.0
    mix = np.clip(0.5 + (needed - depth[cut]) / (2 * soft), 0, 1)
    depth[cut] += mix * (needed - depth[cut]) + soft * mix * (1 - mix)


def push_away(points: np.ndarray, tumour: TumourShape, direction: Sequence[float], level: float = 1.2) -> np.ndarray:
    """Move points (n x 3, mm) along `direction` until they lie outside the tumour."""
    points = np.array(points, dtype=float)
    for _ in range(60):
        caught = tumour.level(*points.T) < level
        if not caught.any():
            break
        points[caught] += 3.0 * np.asarray(direction)
    return points


def paint_organs(canvas: Canvas, patient: Patient, rng: np.random.Generator) -> None:
    """Paint everything but the tumour, deeper structures last."""
    paint_bowel(canvas, patient, rng)
    paint_upper_organs(canvas, patient, rng)
    paint_kidneys(canvas, patient, rng)
    paint_psoas(canvas, patient)
    paint_vessels(canvas, patient)
    paint_lungs(canvas)
    paint_back(canvas, patient)
    paint_spine(canvas, patient)
    paint_ribs(canvas, patient.body)
    paint_pelvis(canvas, patient)


def paint_upper_organs(canvas: Canvas, patient: Patient, rng: np.random.Generator) -> None:
    """Paint liver with vessels, gallbladder, spleen, stomach and pancreas."""
    tissue, y = patient.tissue, patient.body.spine_y
    canvas.ellipsoid((-62, y + 62, 100), (46, 36, 44), tissue["bowel"])
    canvas.ellipsoid((-62, y + 62, 100), (43, 33, 41), FLUID + 8)
    canvas.ellipsoid((-62, y + 62, 100), (43, 33, 41), GAS, above_y=y + 80)
    canvas.ellipsoid((-98, y + 16, 92), (34, 48, 50), tissue["spleen"])
    canvas.ellipsoid((82, y + 44, 92), (88, 88, 92), tissue["liver"])
    canvas.ellipsoid((10, y + 78, 112), (78, 34, 48), tissue["liver"])
    for _ in range(14):
        centre = np.array([80, y + 40, 105]) + rng.normal(0, [28, 26, 22])
        canvas.ellipsoid(centre, (2.5, 3.0, rng.uniform(15, 34)), tissue["portal"], rotation(rng.normal(0, 0.9, 3)))
    canvas.ellipsoid((58, y + 78, 42), (15, 15, 27), FLUID)
    canvas.ellipsoid((-12, y + 50, 62), (66, 10, 12), tissue["pancreas"], rotation(np.array([0, 0.2, 0.1])))


def paint_kidneys(canvas: Canvas, patient: Patient, rng: np.random.Generator) -> None:
    """Paint both kidneys: cortex, medulla, sinus fat and pelvis; the tumour's side is pushed up or down."""
    body, tumour, tissue = patient.body, patient.tumour, patient.tissue
    for side, height in ((1.0, 22.0), (-1.0, 34.0)):
        start = np.array([[side * 68, body.spine_y - 2, height + rng.normal(0, 6)]])
        way = 1.0 if height > tumour.centre[2] else -1.0
        centre = push_away(start, tumour, (0.0, 0.25, way), 1.35)[0]
        turn = rotation(np.array([0.0, side * 0.22, -side * 0.5]))
        canvas.ellipsoid(centre, (27, 24, 54), tissue["cortex"], turn)
        canvas.ellipsoid(centre, (19, 16, 46), tissue["medulla"], turn)
        hilum = centre + turn @ [-side * 13, 4, 0]
        canvas.ellipsoid(hilum, (15, 9, 26), tissue["fat"] + 10, turn)
        canvas.ellipsoid(hilum, (7, 4, 14), FLUID, turn)


def paint_bowel(canvas: Canvas, patient: Patient, rng: np.random.Generator) -> None:
    """Paint small bowel, mesenteric vessels and colon; what lies in the tumour's place moves to the other side."""
    body, tumour, tissue = patient.body, patient.tumour, patient.tissue
    aside = (-0.8 * patient.outward, 0.6, 0.0)
    paint_small_bowel(canvas, push_away(loop_centres(body, rng), tumour, aside, 1.3), tissue, rng)
    for start in loop_centres(body, rng, count=90, apart=8.0) - [0, 12, 0]:
        turn = rotation(rng.uniform(-1.5, 1.5, 3))
        canvas.ellipsoid(start, (1.7, 1.7, rng.uniform(6, 16)), tissue["portal"] - 25, turn)
    flank, y = body.half_width - body.fat - body.wall - 22, body.spine_y + 24
    front = 0.93 * (body.belly - body.fat - body.wall) - 18
    heights = np.arange(-125, 48, 13.0)
    parts = [np.array([[side * flank, y + 0.08 * abs(h), h] for h in heights]) for side in (-1.0, 1.0)]
    across = np.linspace(-0.62, 0.62, 15) * body.half_width
    parts.append(np.stack([across, front - 0.004 * across**2, 28 + 0.002 * across**2], axis=1))
    for part in parts:
        paint_colon(canvas, push_away(part, tumour, aside, 1.25), tissue, rng)


def loop_centres(body: Body, rng: np.random.Generator, *, count: int = 110, apart: float = 22.0) -> np.ndarray:
    """Return points in the peritoneal cavity that keep a distance, mm (n x 3)."""
    half = np.array([0.60 * body.half_width, 0.5 * (body.belly - body.spine_y) - 22, 98.0])
    middle = np.array([0.0, 0.5 * (body.belly + body.spine_y) + 4, -58.0])
    chosen: list[np.ndarray] = []
    for point in rng.uniform(-1, 1, (1500, 3)):
        place = middle + half * point
        crowded = chosen and (((np.array(chosen) - place) ** 2).sum(axis=1) < apart**2).any()
        if (point[:2] ** 2).sum() < 1 and not crowded and len(chosen) < count:
            chosen.append(place)
    return np.array(chosen)


def paint_small_bowel(canvas: Canvas, centres: np.ndarray, tissue: dict[str, float], rng: np.random.Generator) -> None:
    """Paint one short loop at each point: wall, content, and gas on top in some."""
    for centre in centres:
        semi = np.array([*rng.uniform(10, 14.5, 2), rng.uniform(20, 36)])
        turn = rotation(rng.uniform(-1.6, 1.6, 3))
        canvas.ellipsoid(centre, semi, tissue["bowel"], turn)
        canvas.ellipsoid(centre, semi - 2.4, tissue["content"] + rng.normal(0, 12), turn)
        if rng.random() < 0.12:
            canvas.ellipsoid(centre, semi - 2.4, GAS, turn, above_y=centre[1] + rng.uniform(-2, 7))


def paint_colon(canvas: Canvas, centres: np.ndarray, tissue: dict[str, float], rng: np.random.Generator) -> None:
    """Paint a part of the colon as overlapping haustra with one lumen, stool below and gas above."""
    sizes = rng.uniform(15, 21, len(centres))
    fill = centres[:, 1] + np.cumsum(rng.normal(0, 5, len(centres))) + rng.uniform(-4, 10)
    for centre, size in zip(centres, sizes, strict=True):
        canvas.ellipsoid(centre, np.full(3, size), tissue["bowel"] - 10)
    for centre, size, top in zip(centres, sizes, fill, strict=True):
        canvas.ellipsoid(centre, np.full(3, size - 2.5), rng.uniform(-40, 45))
        canvas.ellipsoid(centre, np.full(3, size - 2.5), GAS, above_y=top)


def paint_psoas(canvas: Canvas, patient: Patient) -> None:
    """Paint both psoas muscles, growing downward along the spine."""
    body, tissue = patient.body, patient.tissue
    below = np.clip(95 - canvas.z, 0, 190)
    radius = 5 + 0.105 * np.minimum(below, 170)
    for side in (-1.0, 1.0):
        path = (side * (27 + 0.13 * below), body.spine_y - 6 + 0.14 * np.clip(below - 60, 0, None))
        canvas.tube((-400, 92), path, (radius, 1.15 * radius), tissue["muscle"], within=True)


def paint_vessels(canvas: Canvas, patient: Patient) -> None:
    """Paint aorta, vena cava, iliac and mesenteric vessels, displaced by the tumour."""
    tissue, front = patient.tissue, patient.body.spine_y + 29
    fork = np.clip(-75 - canvas.z, 0, None)
    tubes = [
        ((-75, 400), -9.0, front + 2, 10.0, "aorta"),
        ((-85, 400), 17.0, front - 1, 11.0, "cava"),
        ((-400, -72), -9 - 0.45 * fork, front - 0.1 * fork, 6.0, "aorta"),
        ((-400, -72), -3 + 0.45 * fork, front - 0.1 * fork, 6.0, "aorta"),
        ((-400, -80), 12 - 0.45 * fork, front - 8 - 0.1 * fork, 7.0, "cava"),
        ((-400, -80), 18 + 0.45 * fork, front - 10 - 0.1 * fork, 7.0, "cava"),
        ((-60, 80), -3.0, front + 26, 3.5, "aorta"),
        ((-60, 80), 8.0, front + 27, 5.0, "portal"),
    ]
    for z_range, x, y, radius, name in tubes:
        line = [np.broadcast_to(np.asarray(v, dtype=float), canvas.z.shape) for v in (x, y)]
        moved = push_away(
            np.stack([*line, canvas.z], axis=1), patient.tumour, (-0.9 * patient.outward, 0.45, 0.0), 1.12
        )
        shift = ndimage.gaussian_filter1d(moved[:, :2], 20 / (canvas.z[1] - canvas.z[0]), axis=0, mode="nearest")
        canvas.tube(z_range, (shift[:, 0], shift[:, 1]), (radius, radius), tissue[name])


def paint_lungs(canvas: Canvas) -> None:
    """Paint the lung bases behind and beside the domes of the diaphragm."""
    cut, (x, y, z) = canvas.box((-1e3, -1e3, 95), (1e3, 1e3, 1e3))
    dome = 158 - 0.0042 * ((np.abs(x) - 70) ** 2 * 0.9 + (y - 25) ** 2) - np.where(x < 0, 10, 0)
    canvas.blend(cut, np.minimum(z - dome, canvas.cavity[cut] - 1), LUNG)


def paint_back(canvas: Canvas, patient: Patient) -> None:
    """Paint the erector spinae and the quadratus lumborum of both sides."""
    body, tissue = patient.body, patient.tissue
    for side in (-1.0, 1.0):
        canvas.tube((-400, 400), (side * 31, body.spine_y - 35), (28, 19), tissue["muscle"] - 4)
        canvas.tube((-95, 70), (side * 60, body.spine_y - 24), (20, 9), tissue["muscle"])


def paint_spine(canvas: Canvas, patient: Patient) -> None:
    """Paint vertebral bodies and discs, canal, arches and processes."""
    tissue, y, step = patient.tissue, patient.body.spine_y, np.mod(canvas.z, 36.0)
    disc = step < 8
    shell, core = np.where(disc, tissue["disc"], CORTICAL), np.where(disc, tissue["disc"], tissue["marrow"])
    waist = np.where(disc, 0.0, 1.5 * np.cos(2 * np.pi * (step - 8) / 28))
    everywhere = (-400, 400)
    canvas.tube(
        everywhere,
        (0, y - 24),
        (np.where((step > 14) & (step < 26), 40, 12), 4.5),
        np.where(disc, tissue["muscle"], 420),
    )
    canvas.tube(everywhere, (0, y - 40), (3.5, 13), np.where(step < 12, tissue["muscle"], 420))
    canvas.tube(everywhere, (0, y - 25), (14, 13), np.where(disc, 120, 500))
    canvas.tube(everywhere, (0, y), (23 + waist, 17 + waist), shell)
    canvas.tube(everywhere, (0, y), (20.5 + waist, 14.5 + waist), core)
    canvas.tube(everywhere, (0, y - 24), (9.5, 8), tissue["canal"])


def paint_ribs(canvas: Canvas, body: Body) -> None:
    """Paint the lower ribs inside the muscle wall, running downward to the front."""
    cut, (x, y, z) = canvas.box((-1e3, -1e3, -20), (1e3, 1e3, 1e3))
    around = np.arctan2(np.abs(x), -(y - body.spine_y + 20)) / np.pi
    height = z + 95 * around
    from_axis = np.abs(np.mod(height, 31.0) - 15.5)
    wall = canvas.cavity[cut]
    depth = np.minimum(5.0 - from_axis, 3.5 - np.abs(wall + 4.5))
    canvas.blend(cut, np.where((height > 72) & (around < 0.72) & (around > 0.12), depth, -9.0), 520.0)


def paint_pelvis(canvas: Canvas, patient: Patient) -> None:
    """Paint sacrum, iliac wings and gluteal muscles at the lower end of the scan."""
    tissue, y = patient.tissue, patient.body.spine_y
    for side in (-1.0, 1.0):
        turn = rotation(np.array([0.0, side * 0.25, -side * 0.75]))
        canvas.ellipsoid((side * 88, y - 24, -165), (50, 22, 70), tissue["muscle"] - 3, turn, within=False)
        canvas.ellipsoid((side * 84, y + 6, -158), (8, 56, 72), CORTICAL, turn, within=False)
        canvas.ellipsoid((side * 84, y + 6, -158), (5, 53, 69), tissue["marrow"], turn, within=False)
    canvas.ellipsoid((0, y - 12, -160), (52, 21, 48), CORTICAL - 100, within=False)
    canvas.ellipsoid((0, y - 12, -160), (49, 18, 45), tissue["marrow"], within=False)


def paint_table(canvas: Canvas, body: Body) -> None:
    """Paint the couch below the patient: a thin shell with a light core."""
    x, y = canvas.x[:, None], canvas.y[None, :]
    top = -body.half_depth * 1.03 - 4 + 0.0004 * x**2
    below = top - y
    air = canvas.hu[:, :, 0] < -900
    hu = np.where((below > 3) & (below < 13), -930.0, -350.0)
    here = (below > 0) & (below < 16) & (np.abs(x) < 175) & air
    canvas.hu[here] = hu[here][:, None]
