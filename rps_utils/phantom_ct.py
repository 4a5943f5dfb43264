"""Rendering of one synthetic patient: an abdominal CT with a retroperitoneal sarcoma, and the tumour's mask.

Anatomy is written down in millimetres (RAS: +x patient right, +y anterior, +z superior) and sampled on the grid of
the scan, so the same patient can be rendered on any grid. Liver right, spleen left, always; the tumour is left or
right, and everything tied to its side (placement of the second tissue, the fat plane) is mirrored with it. Three
latents of `phantom_patients` decide what the image shows:

z_rad
    how much of the tumour is second tissue (solid or septal in fatty tumours, necrosis in solid ones). Radiomics
    inside the mask reads it.
z_spat
    where the second tissue lies: toward the midline (positive) or toward the flank (negative). The construction
    is odd under left-right reflection about the tumour, while first-order, shape and direction-averaged texture
    features are invariant under it: features inside the mask cannot read it, by symmetry.
z_int
    how much of the fat plane outside the mask, on its medial and posterior side, is lost to strands of soft
    tissue. Features inside the mask cannot read it.

The longest diameter of the tumour is ``size_cm``. The body bulges over large tumours, spine and back wall stay;
vessels, bowel and the kidney of that side are pushed away, other organs are overwritten; the scan is lengthened
until it holds the tumour. Arithmetic is in float64, rounded once to whole HU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from rps_utils import phantom_tumour as pt
from rps_utils.phantom_tumour import Shape

SHAPE_XY = (192, 160)
SCAN_HALF_LENGTH_MM = 160.0
SOFT_MM = 2.0
SKIN_MM = 2.0
ENHANCING = {
    "muscle": (58, 5),
    "liver": (110, 12),
    "spleen": (120, 12),
    "cortex": (185, 20),
    "medulla": (145, 20),
    "aorta": (150, 15),
    "cava": (130, 15),
    "portal": (165, 15),
    "bowel": (90, 8),
    "pancreas": (95, 8),
}
FIXED = {"fat": (-100, 6), "content": (25, 8), "marrow": (180, 40), "disc": (85, 8), "canal": (25, 3)}
CORTICAL, GAS, LUNG, FLUID, STRAND, AIR = 650.0, -900.0, -860.0, 12.0, 40.0, -1000.0


@dataclass(frozen=True)
class Scan:
    """How the scan was acquired.

    Attributes
    ----------
    spacing : tuple of float
        Voxel size, mm (x, y, z).
    noise_hu : float
        SD of the noise, HU.
    sharp : bool
        Sharp kernel: narrower point spread and finer noise.
    gain, offset_hu : float
        Scale of the enhancement above 45 HU, and shift of the whole scan.
    """

    spacing: tuple[float, float, float]
    noise_hu: float
    sharp: bool
    gain: float
    offset_hu: float


@dataclass(frozen=True)
class Body:
    """Half width and half depth of the abdomen, fat and wall thickness, centre of the vertebral bodies; all mm."""

    half_width: float
    half_depth: float
    fat: float
    wall: float

    @property
    def spine_y(self) -> float:
        """Anterior coordinate of the centre of the vertebral bodies."""
        return -self.half_depth + 1.25 * self.fat + 54.0


@dataclass
class Canvas:
    """A volume in HU with the coordinates of its voxel centres (mm) and the depth below the inner wall (mm)."""

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    hu: np.ndarray = field(init=False)
    cavity: np.ndarray = field(init=False)

    def box(self, low: Sequence[float], high: Sequence[float]) -> tuple[tuple[slice, ...], list[np.ndarray]]:
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
        centre: Sequence[float],
        semi: Sequence[float],
        hu: float,
        turn: np.ndarray | None = None,
        within: bool = True,
        above_y: float | None = None,
    ) -> None:
        """Paint an ellipsoid; `turn` rotates it, `above_y` keeps only what lies anterior of it (gas rises)."""
        centre, semi = np.asarray(centre, dtype=float), np.asarray(semi, dtype=float)
        reach = (semi if turn is None else np.full(3, semi.max())) + 3.0
        cut, (x, y, z) = self.box(centre - reach, centre + reach)
        offsets = [x - centre[0], y - centre[1], z - centre[2]]
        if turn is not None:
            offsets = [sum(m * o for m, o in zip(row, offsets, strict=True)) for row in turn.T]
        level = np.sqrt(sum((o / s) ** 2 for o, s in zip(offsets, semi, strict=True)))
        depth = (1.0 - level) * semi.min()
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


def render_patient(
    latents: Mapping, seed: int, spacing: tuple[float, float, float] | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Render the CT of one synthetic patient.

    Parameters
    ----------
    latents : Mapping
        ``histology, size_cm, z_rad, z_spat, z_int, side`` ("left" or "right") and, if present, ``multifocal``
        ("yes" or "no") and ``scanner`` (0 = quiet and smooth, 1 = noisy and sharp): a row of
        `phantom_patients.image_causes`.
    seed : int
        Non-negative; anatomy, texture and noise of this patient.
    spacing : tuple of float, optional
        Voxel size in mm, instead of the one drawn for the scan.

    Returns
    -------
    ct : ndarray of int16
        HU, (x, y, z), about 192 x 160 x 64 voxels of 2 x 2 x 5 mm.
    mask : ndarray of uint8
        1 = tumour, same shape.
    affine : ndarray
        4 x 4, voxel to RAS mm.

    Raises
    ------
    ValueError
        A latent is missing or not finite, or histology or side is unknown.
    """
    check_latents(latents)
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(5)]
    body, scan = draw_body(streams[0]), draw_scan(latents, streams[1], spacing)
    outward = 1.0 if latents["side"] == "right" else -1.0
    tumour = place_tumour(pt.draw_shape(latents["size_cm"], streams[2]), body, outward, streams[2])
    canvas = make_canvas(body, tumour, scan, fixed_grid=spacing is not None)
    tissue = draw_tissue(streams[0], scan.gain)
    paint_wall(canvas, body, tumour, tissue)
    paint_organs(canvas, body, tumour, tissue, outward, streams[0])
    inside = paint_tumour(canvas, tumour, latents, tissue, scan.gain, outward, streams[2], streams[3])
    paint_table(canvas, body)
    ct = acquire(canvas.hu, scan, streams[4])
    affine = np.diag([*(c[1] - c[0] for c in (canvas.x, canvas.y, canvas.z)), 1.0])
    affine[:3, 3] = canvas.x[0], canvas.y[0], canvas.z[0]
    return ct, inside.astype(np.uint8), affine


def check_latents(latents: Mapping) -> None:
    """Raise ValueError unless the latents can be rendered."""
    if latents["histology"] not in ("WDLPS", "DDLPS", "LMS", "SFT", "other"):
        raise ValueError(f"histology {latents['histology']!r} is unknown: use WDLPS, DDLPS, LMS, SFT or other")
    if latents["side"] not in ("left", "right"):
        raise ValueError(f"side {latents['side']!r} is unknown: use 'left' or 'right'")
    for name in ("z_rad", "z_spat", "z_int"):
        if not np.isfinite(latents[name]):
            raise ValueError(f"{name} is {latents[name]}: latents are finite, about -4 to 4")
    if not 3.0 <= latents["size_cm"] <= 45.0:
        raise ValueError(f"size_cm is {latents['size_cm']}: the phantom draws tumours of 3 to 45 cm")


def draw_body(rng: np.random.Generator) -> Body:
    """Draw the size of the patient."""
    return Body(
        half_width=float(np.clip(rng.normal(165, 13), 140, 182)),
        half_depth=float(np.clip(rng.normal(115, 10), 98, 130)),
        fat=float(rng.uniform(10, 28)),
        wall=float(rng.uniform(10, 14)),
    )


def draw_scan(latents: Mapping, rng: np.random.Generator, spacing: tuple[float, float, float] | None) -> Scan:
    """Draw the acquisition; ``scanner`` in the latents, where present, decides noise and kernel."""
    rank, in_plane = latents.get("scanner", rng.random()), round(rng.uniform(1.9, 2.1), 3)
    thickness = 5.0 if rng.random() < 0.75 else 4.0
    spacing = spacing or (in_plane, in_plane, thickness)
    noise = (7 + 8 * rank) * np.sqrt(5 / spacing[2])
    gain, offset = np.exp(rng.normal(0, 0.12)), rng.normal(0, 4)
    return Scan(spacing, float(min(noise, 25.0)), bool(rank > 0.6), float(gain), float(offset))


def draw_tissue(rng: np.random.Generator, gain: float) -> dict[str, float]:
    """Draw this patient's HU of each tissue in the portal venous phase."""
    enhanced = {name: 45 + (rng.normal(mean, sd) - 45) * gain for name, (mean, sd) in ENHANCING.items()}
    return enhanced | {name: rng.normal(mean, sd) for name, (mean, sd) in FIXED.items()}


def place_tumour(shape: Shape, body: Body, outward: float, rng: np.random.Generator) -> Shape:
    """Put the tumour in the retroperitoneum of its side, clear of the spine and of the back wall.

    Small tumours lie beside the spine at a random height; large ones are moved forward and outward until they
    clear the spine, as they are in patients.
    """
    room = body.half_width - body.fat - body.wall
    x = max(min(room - shape.half[0] - 4, 78 + rng.normal(0, 8)), 0.45 * shape.half[0])
    back = -body.half_depth + 1.2 * body.fat + body.wall
    y = max(back + shape.half[1] + 6, body.spine_y + 8 + rng.normal(0, 6))
    z = rng.normal(0, 25) * np.clip(1.5 - shape.half[2] / 110, 0, 1) - 15
    centre = np.array([outward * x, y, z])
    spine = spine_points(body, z, shape.half[2])
    for _ in range(80):
        shape = replace(shape, centre=centre)
        if shape.level(*spine.T).min() > 1.0 + 5.0 / shape.half.min():
            break
        centre = centre + np.array([outward * 1.4, 1.6, 0.0])
    return shape


def spine_points(body: Body, z: float, half: float) -> np.ndarray:
    """Return points on the vertebral column over the height of the tumour, which must stay outside it."""
    angle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    ring = np.stack([25 * np.cos(angle), body.spine_y + 19 * np.sin(angle)], axis=1)
    ring = np.concatenate([ring, ring * [1.1, 0] + [0, body.spine_y - 22]])
    return np.array([[*point, h] for h in np.linspace(z - half, z + half, 15) for point in ring])


def make_canvas(body: Body, tumour: Shape, scan: Scan, fixed_grid: bool) -> Canvas:
    """Return an empty canvas that holds the body and the whole tumour."""
    margin = body.fat + body.wall + 14
    low = np.minimum(
        [-body.half_width * 1.06, -body.half_depth - 26, -SCAN_HALF_LENGTH_MM], tumour.centre - tumour.half - margin
    )
    high = np.maximum(
        [body.half_width * 1.06, body.half_depth, SCAN_HALF_LENGTH_MM], tumour.centre + tumour.half + margin
    )
    low[1], high[1] = -body.half_depth - 26, high[1] + 8
    middle, extent = (low + high) / 2, high - low
    step = np.array(scan.spacing)
    if not fixed_grid:
        step[:2] = max(step[0], np.ceil(1000 * (extent[:2] / SHAPE_XY).max()) / 1000)
    count = np.ceil(extent / step).astype(int)
    if not fixed_grid:
        count[:2] = SHAPE_XY
    middle[1] = low[1] + count[1] * step[1] / 2
    return Canvas(*(m + s * (np.arange(n) - (n - 1) / 2) for m, s, n in zip(middle.round(1), step, count, strict=True)))


def paint_wall(canvas: Canvas, body: Body, tumour: Shape, tissue: dict[str, float]) -> None:
    """Paint air, skin, subcutaneous fat, muscle wall and visceral fat; fills `canvas.hu` and `canvas.cavity`."""
    depth = body_depth(canvas, body)
    x, y = canvas.x[:, None], canvas.y[None, :]
    back = -y / (np.hypot(x, y) + 20.0)
    fat = (body.fat * (1 + 0.3 * back))[:, :, None] + SKIN_MM
    bulge_over(canvas, depth, tumour, fat, body.wall)
    canvas.cavity = depth - fat - body.wall
    edges = np.array([-1.0, 1.0, body.wall - 1.0, body.wall + 1.0])
    hu = np.interp(canvas.cavity + body.wall, edges, [tissue["fat"], tissue["muscle"], tissue["muscle"], tissue["fat"]])
    hu[(depth < SKIN_MM)] = 20.0
    canvas.hu = AIR + np.clip(0.5 + depth / SOFT_MM, 0, 1) * (hu - AIR)


def body_depth(canvas: Canvas, body: Body) -> np.ndarray:
    """Return the depth below the skin along the ray to the body axis, mm (negative outside)."""
    x, y = canvas.x[:, None], canvas.y[None, :]
    reach = np.hypot(x, y) + 1e-6
    power = 2.4
    level = ((np.abs(x) / body.half_width) ** power + (np.abs(y) / body.half_depth) ** power) ** (1 / power)
    waist = 0.97 + 0.05 * np.clip(canvas.z / 150, -1.4, 1.4) ** 2
    return (reach / level)[:, :, None] * waist - reach[:, :, None]


def bulge_over(canvas: Canvas, depth: np.ndarray, tumour: Shape, fat: np.ndarray, wall: float) -> None:
    """Raise `depth` in place so that the wall passes outside the tumour (smooth maximum)."""
    reach = tumour.half + 60.0
    cut, (x, y, z) = canvas.box(tumour.centre - reach, tumour.centre + reach)
    needed = fat[cut[0], cut[1]] + wall + 4.0 - pt.outside_mm(tumour.envelope(x, y, z), x, y, z, tumour.centre)
    soft = 14.0
    mix = np.clip(0.5 + (needed - depth[cut]) / (2 * soft), 0, 1)
    depth[cut] += mix * (needed - depth[cut]) + soft * mix * (1 - mix)


def push_away(points: np.ndarray, tumour: Shape, direction: Sequence[float], level: float = 1.2) -> np.ndarray:
    """Move points (n x 3, mm) along `direction` until they lie outside the tumour."""
    points = np.array(points, dtype=float)
    for _ in range(60):
        caught = tumour.level(*points.T) < level
        if not caught.any():
            break
        points[caught] += 3.0 * np.asarray(direction)
    return points


def paint_organs(
    canvas: Canvas, body: Body, tumour: Shape, tissue: dict[str, float], outward: float, rng: np.random.Generator
) -> None:
    """Paint everything but the tumour, deeper structures last."""
    paint_upper_organs(canvas, body, tissue, rng)
    paint_kidneys(canvas, body, tumour, tissue, rng)
    paint_bowel(canvas, body, tumour, tissue, outward, rng)
    paint_psoas(canvas, body, tissue)
    paint_vessels(canvas, body, tumour, tissue, outward)
    paint_lungs(canvas)
    paint_back(canvas, body, tissue)
    paint_spine(canvas, body, tissue)
    paint_ribs(canvas, body)
    paint_pelvis(canvas, body, tissue)


def paint_upper_organs(canvas: Canvas, body: Body, tissue: dict[str, float], rng: np.random.Generator) -> None:
    """Paint liver with vessels, gallbladder, spleen, stomach and pancreas."""
    y = body.spine_y
    canvas.ellipsoid((-62, y + 62, 100), (46, 36, 44), tissue["bowel"])
    canvas.ellipsoid((-62, y + 62, 100), (43, 33, 41), FLUID + 8)
    canvas.ellipsoid((-62, y + 62, 100), (43, 33, 41), GAS, above_y=y + 80)
    canvas.ellipsoid((-98, y + 16, 92), (34, 48, 50), tissue["spleen"])
    canvas.ellipsoid((82, y + 44, 92), (88, 88, 92), tissue["liver"])
    canvas.ellipsoid((10, y + 78, 112), (78, 34, 48), tissue["liver"])
    for _ in range(14):
        centre = np.array([80, y + 40, 105]) + rng.normal(0, [28, 26, 22])
        canvas.ellipsoid(centre, (2.5, 3.0, rng.uniform(15, 34)), tissue["portal"], pt.rotation(rng.normal(0, 0.9, 3)))
    canvas.ellipsoid((58, y + 78, 42), (15, 15, 27), FLUID)
    canvas.ellipsoid((-12, y + 50, 62), (66, 10, 12), tissue["pancreas"], pt.rotation(np.array([0, 0.2, 0.1])))


def paint_kidneys(
    canvas: Canvas, body: Body, tumour: Shape, tissue: dict[str, float], rng: np.random.Generator
) -> None:
    """Paint both kidneys: cortex, medulla, sinus fat and pelvis; the tumour's side is pushed up or down."""
    for side, height in ((1.0, 22.0), (-1.0, 34.0)):
        start = np.array([[side * 68, body.spine_y - 2, height + rng.normal(0, 6)]])
        way = 1.0 if height > tumour.centre[2] else -1.0
        centre = push_away(start, tumour, (0.0, 0.25, way), 1.35)[0]
        turn = pt.rotation(np.array([0.0, side * 0.22, -side * 0.5]))
        canvas.ellipsoid(centre, (27, 24, 54), tissue["cortex"], turn)
        canvas.ellipsoid(centre, (19, 16, 46), tissue["medulla"], turn)
        hilum = centre + turn @ [-side * 13, 4, 0]
        canvas.ellipsoid(hilum, (15, 9, 26), tissue["fat"] + 10, turn)
        canvas.ellipsoid(hilum, (7, 4, 14), FLUID, turn)


def paint_bowel(
    canvas: Canvas, body: Body, tumour: Shape, tissue: dict[str, float], outward: float, rng: np.random.Generator
) -> None:
    """Paint colon and small bowel: wall, content and gas on top; loops leave the tumour's place."""
    spread = [0.46 * body.half_width, 0.24 * body.half_depth, 70]
    middle = [0, 0.30 * body.half_depth, -45]
    loops = np.clip(rng.standard_normal((46, 3)), -1.7, 1.7) * spread + middle
    colon = [
        [s * (body.half_width - body.fat - 42), body.spine_y + 22, z] for s in (-1, 1) for z in range(-120, 45, 22)
    ]
    colon += [[x, 0.62 * body.half_depth, 40 - 0.002 * x**2] for x in range(-90, 91, 24)]
    centres = push_away(np.concatenate([loops, colon]), tumour, (-0.8 * outward, 0.6, 0.0), 1.25)
    for index, centre in enumerate(centres):
        is_colon = index >= len(loops)
        semi = rng.uniform(17, 22, 3) if is_colon else np.array([*rng.uniform(9, 14, 2), rng.uniform(20, 34)])
        turn = pt.rotation(rng.uniform(-1.5, 1.5, 3))
        content = tissue["content"] + (rng.normal(0, 25) if is_colon else rng.normal(0, 8))
        canvas.ellipsoid(centre, semi, tissue["bowel"], turn)
        canvas.ellipsoid(centre, semi - 2.6, content, turn)
        if rng.random() < (0.5 if is_colon else 0.15):
            canvas.ellipsoid(centre, semi - 2.6, GAS, turn, above_y=centre[1] + rng.uniform(-6, 6))
    for _ in range(110):
        start = np.array(middle) + rng.normal(0, spread)
        canvas.ellipsoid(
            start, (1.6, 1.6, rng.uniform(6, 16)), tissue["portal"] - 30, pt.rotation(rng.uniform(-1.5, 1.5, 3))
        )


def paint_psoas(canvas: Canvas, body: Body, tissue: dict[str, float]) -> None:
    """Paint both psoas muscles, growing downward along the spine."""
    below = np.clip(95 - canvas.z, 0, 190)
    radius = 5 + 0.105 * np.minimum(below, 170)
    for side in (-1.0, 1.0):
        path = (side * (27 + 0.13 * below), body.spine_y - 6 + 0.14 * np.clip(below - 60, 0, None))
        canvas.tube((-400, 92), path, (radius, 1.15 * radius), tissue["muscle"], within=True)


def paint_vessels(canvas: Canvas, body: Body, tumour: Shape, tissue: dict[str, float], outward: float) -> None:
    """Paint aorta, vena cava, iliac and mesenteric vessels, displaced by the tumour."""
    front = body.spine_y + 29
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
        moved = push_away(np.stack([*line, canvas.z], axis=1), tumour, (-0.9 * outward, 0.45, 0.0), 1.12)
        shift = ndimage.gaussian_filter1d(moved[:, :2], 20 / (canvas.z[1] - canvas.z[0]), axis=0, mode="nearest")
        canvas.tube(z_range, (shift[:, 0], shift[:, 1]), (radius, radius), tissue[name])


def paint_lungs(canvas: Canvas) -> None:
    """Paint the lung bases behind and beside the domes of the diaphragm."""
    cut, (x, y, z) = canvas.box((-1e3, -1e3, 95), (1e3, 1e3, 1e3))
    dome = 158 - 0.0042 * ((np.abs(x) - 70) ** 2 * 0.9 + (y - 25) ** 2) - np.where(x < 0, 10, 0)
    canvas.blend(cut, np.minimum(z - dome, canvas.cavity[cut] - 1), LUNG)


def paint_back(canvas: Canvas, body: Body, tissue: dict[str, float]) -> None:
    """Paint the erector spinae and the quadratus lumborum of both sides."""
    for side in (-1.0, 1.0):
        canvas.tube((-400, 400), (side * 31, body.spine_y - 35), (28, 19), tissue["muscle"] - 4)
        canvas.tube((-95, 70), (side * 60, body.spine_y - 24), (20, 9), tissue["muscle"])


def paint_spine(canvas: Canvas, body: Body, tissue: dict[str, float]) -> None:
    """Paint vertebral bodies and discs, canal, arches and processes."""
    y, step = body.spine_y, np.mod(canvas.z, 36.0)
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


def paint_pelvis(canvas: Canvas, body: Body, tissue: dict[str, float]) -> None:
    """Paint sacrum, iliac wings and gluteal muscles at the lower end of the scan."""
    y = body.spine_y
    for side in (-1.0, 1.0):
        turn = pt.rotation(np.array([0.0, side * 0.25, -side * 0.75]))
        canvas.ellipsoid((side * 88, y - 24, -165), (50, 22, 70), tissue["muscle"] - 3, turn, within=False)
        canvas.ellipsoid((side * 84, y + 6, -158), (8, 56, 72), CORTICAL, turn, within=False)
        canvas.ellipsoid((side * 84, y + 6, -158), (5, 53, 69), tissue["marrow"], turn, within=False)
    canvas.ellipsoid((0, y - 12, -160), (52, 21, 48), CORTICAL - 100, within=False)
    canvas.ellipsoid((0, y - 12, -160), (49, 18, 45), tissue["marrow"], within=False)


def paint_tumour(
    canvas: Canvas,
    tumour: Shape,
    latents: Mapping,
    tissue: dict[str, float],
    gain: float,
    outward: float,
    rng: np.random.Generator,
    interface_rng: np.random.Generator,
) -> np.ndarray:
    """Paint fat plane, strands and tumour; return the mask of the whole volume."""
    reach = tumour.half + pt.SHELL_MM + 2
    cut, (x, y, z) = canvas.box(tumour.centre - reach, tumour.centre + reach)
    level = tumour.level(x, y, z)
    outside = pt.outside_mm(level, x, y, z, tumour.centre)
    paint_plane(canvas, cut, (x, y, z), outside, tumour, tissue, latents["z_int"], outward, interface_rng)
    inside = level < 1
    hu = tumour_hu(inside, (x, y, z), tumour, latents, gain, outward, rng)
    canvas.blend(cut, -outside, hu)
    mask = np.zeros(canvas.hu.shape, dtype=bool)
    mask[cut] = inside
    return mask


def paint_plane(
    canvas: Canvas,
    cut: tuple[slice, ...],
    coordinates: tuple[np.ndarray, ...],
    outside: np.ndarray,
    tumour: Shape,
    tissue: dict[str, float],
    z_int: float,
    outward: float,
    rng: np.random.Generator,
) -> None:
    """Paint the fat plane of 16 mm on the medial and posterior side, and the strands that replace it."""
    x, y, _ = coordinates
    bone = canvas.hu[cut] > 250
    facing = pt.facing_spine(x, y, tumour.centre, outward)
    shell = (outside > -2) & (outside < pt.SHELL_MM) & facing & (canvas.cavity[cut] > 1) & ~bone
    field_ = pt.random_field([c.ravel() for c in coordinates], pt.STRAND_MM, rng)
    strands = pt.lost_plane(shell, field_, z_int)
    part = canvas.hu[cut]
    part[shell] = tissue["fat"]
    part[strands] = STRAND


def tumour_hu(
    inside: np.ndarray,
    coordinates: tuple[np.ndarray, ...],
    tumour: Shape,
    latents: Mapping,
    gain: float,
    outward: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return the HU of the tumour's box: main and second tissue, foci and calcification."""
    histology = latents["histology"]
    main, second = pt.tissue_pair(histology, rng, gain)
    lateral = outward * (coordinates[0] - tumour.centre[0]) / tumour.half[0]
    field_ = pt.random_field([c.ravel() for c in coordinates], pt.FIELD_MM, rng)
    placed = pt.second_tissue(inside, lateral, field_, latents, septal=histology == "WDLPS")
    hu = np.where(placed, second, main)
    radius = 0.055 * tumour.half.mean() + 5
    spots = [(c, radius, main + 50) for c in pt.scatter_foci(tumour, radius, 14, rng)]
    if histology == "DDLPS" and rng.random() < 0.45:
        spots += [(c, rng.uniform(3, 7), rng.uniform(200, 600)) for c in pt.scatter_foci(tumour, 8.0, 5, rng)]
    for centre, size, value in spots:
        near = sum((c - m) ** 2 for c, m in zip(coordinates, centre, strict=True)) < size**2
        hu[near] = value
    return hu


def paint_table(canvas: Canvas, body: Body) -> None:
    """Paint the couch below the patient: a thin shell with a light core."""
    x, y = canvas.x[:, None], canvas.y[None, :]
    top = -body.half_depth * 1.03 - 4 + 0.0004 * x**2
    below = top - y
    air = canvas.hu[:, :, 0] < -900
    hu = np.where((below > 3) & (below < 13), -930.0, -350.0)
    here = (below > 0) & (below < 16) & (np.abs(x) < 175) & air
    canvas.hu[here] = hu[here][:, None]


def acquire(hu: np.ndarray, scan: Scan, rng: np.random.Generator) -> np.ndarray:
    """Return the scanned volume: point spread, slice profile, noise shaped by the kernel, whole HU."""
    step = np.array(scan.spacing)
    spread = np.array([0.8, 0.8, 0.0]) / 2.355 if scan.sharp else np.array([1.2, 1.2, 0.0]) / 2.355
    sigma = np.sqrt(spread**2 + step**2 / 12) / step
    blurred = ndimage.gaussian_filter(hu, sigma, mode="nearest")
    blurred += scan.noise_hu * kernel_noise(hu.shape, scan, rng) + scan.offset_hu
    return np.clip(np.rint(blurred), -1024, 3071).astype(np.int16)


def kernel_noise(shape: tuple[int, ...], scan: Scan, rng: np.random.Generator) -> np.ndarray:
    """Return noise of unit SD: band-passed in plane by the kernel, slightly correlated along z."""
    white = rng.standard_normal(shape)
    fine = (0.35 if scan.sharp else 0.75) / 1.0
    low = ndimage.gaussian_filter(white, [fine, fine, 0.3], mode="wrap")
    low -= ndimage.gaussian_filter(low, [2.5 * fine, 2.5 * fine, 0.0], mode="wrap", truncate=3)
    return low / low.std()
