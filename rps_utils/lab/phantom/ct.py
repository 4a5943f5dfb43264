"""Rendering of one synthetic patient: an abdominal CT with a retroperitoneal sarcoma, and the tumour's mask.

Anatomy is written down in millimetres (RAS: +x patient right, +y anterior, +z superior) and sampled on the grid of
the scan, so the same patient can be rendered on any grid. Liver right, spleen left, always; the tumour is left or
right, and everything tied to its side (placement of the second tissue, the fat plane) is mirrored with it. Three
latents of `phantom_patients` decide what the image shows:

z_rad
    how much of the tumour is second tissue (solid or septal in fatty tumours, necrosis in solid ones). Radiomics
    inside the mask reads it.
z_spat
    how the second tissue is arranged: where it lies, in which pattern, or how lobulated the tumour is. A world
    (`rps_utils.lab.phantom.worlds`) says which. In the default world it lies toward the midline (positive) or the
    flank (negative): that construction is odd under left-right reflection about the tumour, while first-order, shape
    and direction-averaged texture features are invariant under it, so features inside the mask cannot read it.
z_int
    how much of the fat plane outside the mask, on one side, is lost to strands of soft tissue. Features inside the
    mask cannot read it.

The longest diameter of the tumour is ``size_cm``. The body bulges over large tumours, spine and back wall stay;
vessels, bowel and the kidney of that side are pushed away, other organs are overwritten; the scan is lengthened
until it holds the tumour. Arithmetic is in float64, rounded once to whole HU.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from copy import copy, deepcopy
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from rps_utils.lab.phantom import tumour as pt
from rps_utils.lab.phantom.anatomy import Body, Canvas, Patient, distend, paint_organs, paint_table, paint_wall
from rps_utils.lab.phantom.tumour import TumourShape
from rps_utils.lab.phantom.worlds import DEFAULT_WORLD, DEPTH_MEAN, DEPTH_SD, POSITION_SD, PULL, World, find_world

SHAPE_XY = (192, 160)
SCAN_HALF_LENGTH_MM = 160.0
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
STRAND = 40.0
SECOND_TISSUE, STRANDS = 1, 2  # labels of the reference map


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
class Scene:
    """A patient before the tumour is painted: what all worlds share, unless they change the tumour's shape.

    Attributes
    ----------
    canvas : Canvas
        Body and organs, made way for the tumour.
    patient : Patient
    scan : Scan
    noise : ndarray
        Of the scan, HU.
    tissues, plane : Generator
        What the tumour and its fat plane are drawn from.
    """

    canvas: Canvas
    patient: Patient
    scan: Scan
    noise: np.ndarray
    tissues: np.random.Generator
    plane: np.random.Generator


def render_patient(
    latents: Mapping,
    seed: int,
    spacing: tuple[float, float, float] | None = None,
    world: str = DEFAULT_WORLD,
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
    world : str
        A name in `rps_utils.lab.phantom.worlds.WORLDS`: how ``z_spat`` and ``z_int`` are written.

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
        A latent is missing or not finite, or histology, side or world is unknown.
    """
    return render_with_reference(latents, seed, spacing, world)[:3]


def render_with_reference(
    latents: Mapping,
    seed: int,
    spacing: tuple[float, float, float] | None = None,
    world: str = DEFAULT_WORLD,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Render the CT of one synthetic patient, and where in it the latents are written.

    Parameters
    ----------
    latents, seed, spacing, world
        See `render_patient`.

    Returns
    -------
    ct, mask, affine : ndarray
        See `render_patient`; the same, bit by bit.
    reference : ndarray of uint8
        Same shape: `SECOND_TISSUE` where more than half of a voxel inside the mask is second tissue (z_rad decides
        how much, z_spat how it is arranged), `STRANDS` where more than half of a voxel of the fat plane outside is
        strand (z_int). No model reads it: it grades maps that claim to show what a score looks at.
    """
    return paint_scene(set_scene(latents, seed, spacing, world), latents, world)


def render_worlds(
    latents: Mapping, seed: int, worlds: Iterable[str]
) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Render one patient in several worlds: name, CT, mask, affine; each as `render_patient`, what they share once."""
    scenes: dict[float, Scene] = {}
    for world in worlds:
        lobules = find_world(world).lobules
        if lobules not in scenes:
            scenes[lobules] = set_scene(latents, seed, None, world)
        yield (world, *paint_scene(scenes[lobules], latents, world)[:3])


def set_scene(latents: Mapping, seed: int, spacing: tuple[float, float, float] | None, world: str) -> Scene:
    """Draw body, scan and shape of the tumour, and paint everything but the tumour."""
    check_latents(latents)
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(5)]
    body, scan = draw_body(streams[0]), draw_scan(latents, streams[1], spacing)
    outward = 1.0 if latents["side"] == "right" else -1.0
    lobulation = float(np.exp(find_world(world).lobules * np.clip(latents["z_spat"], -3, 3)))
    shape = pt.draw_shape(latents["size_cm"], streams[2], lobulation)
    tumour = place_tumour(shape, body, outward, streams[2])
    patient = Patient(distend(body, tumour), tumour, outward, draw_tissue(streams[0], scan.gain))
    canvas = make_canvas(patient.body, tumour, scan, fixed_grid=spacing is not None)
    paint_wall(canvas, patient)
    paint_organs(canvas, patient, streams[0])
    noise = scan.noise_hu * kernel_noise(canvas.hu.shape, scan, streams[4])
    return Scene(canvas, patient, scan, noise, streams[2], streams[3])


def paint_scene(scene: Scene, latents: Mapping, world: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Paint the tumour of a world into a copy of a scene, and scan it; see `render_with_reference`."""
    canvas = copy(scene.canvas)
    canvas.hu = scene.canvas.hu.copy()
    streams = deepcopy(scene.tissues), deepcopy(scene.plane)
    inside, reference = paint_tumour(canvas, scene.patient, latents, scene.scan.gain, find_world(world), *streams)
    paint_table(canvas, scene.patient.body)
    ct = acquire(canvas.hu, scene.scan, scene.noise)
    affine = np.diag([*(c[1] - c[0] for c in (canvas.x, canvas.y, canvas.z)), 1.0])
    affine[:3, 3] = canvas.x[0], canvas.y[0], canvas.z[0]
    return ct, inside.astype(np.uint8), affine, reference


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
    half_width, half_depth = np.clip(rng.normal([165, 115], [13, 10]), [140, 98], [182, 130])
    fat, wall = rng.uniform([10, 10], [28, 14])
    return Body(float(half_width), float(half_depth), float(fat), float(wall), belly=float(half_depth))


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


def place_tumour(shape: TumourShape, body: Body, outward: float, rng: np.random.Generator) -> TumourShape:
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


def make_canvas(body: Body, tumour: TumourShape, scan: Scan, fixed_grid: bool) -> Canvas:
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


def paint_tumour(
    canvas: Canvas,
    patient: Patient,
    latents: Mapping,
    gain: float,
    world: World,
    rng: np.random.Generator,
    plane: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Paint fat plane, strands, tumour and satellites; return mask and reference map of the whole volume."""
    tumour = patient.tumour
    reach = tumour.half + pt.SHELL_MM + 2
    cut, (x, y, z) = canvas.box(tumour.centre - reach, tumour.centre + reach)
    level = tumour.level(x, y, z)
    outside = pt.outside_mm(level, x, y, z, tumour.centre)
    strands = paint_plane(canvas, cut, outside, patient, latents["z_int"], world, plane)
    inside = level < 1
    hu, second = tumour_hu(level, (x, y, z), patient, latents, gain, world, rng)
    canvas.blend(cut, -outside, hu)
    if latents.get("multifocal", "no") == "yes":
        paint_satellites(canvas, patient, hu[inside].mean(), rng)
    mask, reference = np.zeros(canvas.hu.shape, dtype=bool), np.zeros(canvas.hu.shape, dtype=np.uint8)
    mask[cut] = inside
    reference[cut] = np.select([second & inside, strands & ~inside], [SECOND_TISSUE, STRANDS])
    return mask, reference


def paint_plane(
    canvas: Canvas,
    cut: tuple[slice, ...],
    outside: np.ndarray,
    patient: Patient,
    z_int: float,
    world: World,
    rng: np.random.Generator,
) -> np.ndarray:
    """Paint the fat plane, up to 16 mm on one side of the tumour; return where strands replace it."""
    x, y = canvas.x[cut[0]][:, None, None], canvas.y[cut[1]][None, :, None]
    thickness = pt.SHELL_MM * pt.facing(x, y, patient.tumour.centre, patient.outward, world.plane)
    soft_tissue = (canvas.cavity[cut] > 1) & (canvas.hu[cut] < 250)
    shell = (outside > -2) & (outside < thickness) & soft_tissue
    noise = pt.random_field([c[s] for c, s in zip((canvas.x, canvas.y, canvas.z), cut, strict=True)], pt.STRAND_MM, rng)
    cover = pt.lost_plane(shell, noise, z_int)
    fat = patient.tissue["fat"]
    canvas.hu[cut][shell] = (fat + cover * (STRAND - fat))[shell]
    return cover > 0.5


def paint_satellites(canvas: Canvas, patient: Patient, hu: float, rng: np.random.Generator) -> None:
    """Paint two or three nodules of a multifocal tumour, away from the spine; they are not in the mask."""
    tumour = patient.tumour
    for _ in range(rng.integers(2, 4)):
        way = np.array([patient.outward * rng.uniform(-0.2, 0.9), rng.uniform(0, 0.8), rng.choice([-1.0, 1.0])])
        way /= np.linalg.norm(way)
        radius, place = rng.uniform(9, 16), tumour.centre + 5 * way
        while _nearer(tumour, place, radius + 2):
            place = place + 3 * way
        canvas.ellipsoid(place, np.full(3, radius) * rng.uniform(0.8, 1.2, 3), hu)


def _nearer(tumour: pt.TumourShape, place: np.ndarray, distance_mm: float) -> bool:
    """Tell whether a point lies in the tumour, or nearer to its surface than a distance."""
    x, y, z = place
    level = tumour.level(x, y, z)
    return bool(level < 1 or pt.outside_mm(level, x, y, z, tumour.centre) < distance_mm)


def tumour_hu(
    level: np.ndarray,
    coordinates: tuple[np.ndarray, ...],
    patient: Patient,
    latents: Mapping,
    gain: float,
    world: World,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the HU of the tumour's box, and where its second tissue lies, not hidden by foci or calcification."""
    tumour, histology, inside = patient.tumour, latents["histology"], level < 1
    main, second = pt.tissue_pair(histology, rng, gain)
    pull = PULL * latents["z_spat"] * position(level, coordinates, patient, world) / POSITION_SD
    septal = histology == "WDLPS" and not world.nodules
    field = pattern(coordinates, tumour, latents["z_spat"], world, rng)
    placed = pt.second_tissue(inside, pull, field, latents["z_rad"], septal)
    hu, visible = main + placed * (second - main), placed > 0.5
    mean_radius = tumour.half.mean()
    radius = 0.055 * mean_radius + min(5.0, 0.07 * mean_radius)
    spots = [(c, radius, main + 50) for c in pt.scatter_foci(tumour, radius, 14, rng)]
    if histology == "DDLPS" and rng.random() < 0.45:
        spots += [(c, rng.uniform(3, 7), rng.uniform(200, 600)) for c in pt.scatter_foci(tumour, 8.0, 5, rng)]
    for centre, size, value in spots:
        near = sum((c - m) ** 2 for c, m in zip(coordinates, centre, strict=True)) < size**2
        hu[near], visible[near] = value, False
    return hu, visible


def position(level: np.ndarray, coordinates: tuple[np.ndarray, ...], patient: Patient, world: World) -> np.ndarray:
    """Return how far along a world's direction a voxel lies, with an SD of about `POSITION_SD` inside the tumour."""
    if world.outward:
        return world.outward * (level - DEPTH_MEAN) * (POSITION_SD / DEPTH_SD)
    centre, half = patient.tumour.centre, patient.tumour.half
    signs = (patient.outward, 1.0, 1.0)
    parts = zip(world.toward, signs, coordinates, centre, half, strict=True)
    return sum((toward * (sign * (x - c) / h) for toward, sign, x, c, h in parts if toward), np.zeros((1, 1, 1)))


def pattern(
    coordinates: tuple[np.ndarray, ...], tumour: TumourShape, z_spat: float, world: World, rng: np.random.Generator
) -> np.ndarray:
    """Return the random field whose top becomes second tissue."""
    if world.nodules:
        count = round(9 * float(np.exp(world.nodules * np.clip(z_spat, -3, 3))))
        return pt.nodular_field(tumour, coordinates, max(count, 1), rng)
    return pt.random_field([c.ravel() for c in coordinates], world.pattern_mm(pt.FIELD_MM, z_spat), rng)


def acquire(hu: np.ndarray, scan: Scan, noise: np.ndarray) -> np.ndarray:
    """Return the scanned volume: point spread, slice profile, noise shaped by the kernel, whole HU."""
    step = np.array(scan.spacing)
    spread = np.array([0.8, 0.8, 0.0]) / 2.355 if scan.sharp else np.array([1.2, 1.2, 0.0]) / 2.355
    sigma = np.sqrt(spread**2 + step**2 / 12) / step
    blurred = ndimage.gaussian_filter(hu, sigma, mode="nearest")
    blurred += noise + scan.offset_hu
    return np.clip(np.rint(blurred), -1024, 3071).astype(np.int16)


def kernel_noise(shape: tuple[int, ...], scan: Scan, rng: np.random.Generator) -> np.ndarray:
    """Return noise of unit SD: band-passed in plane by the kernel, slightly correlated along z."""
    white = rng.standard_normal(shape)
    fine = (0.35 if scan.sharp else 0.75) / 1.0
    low = ndimage.gaussian_filter(white, [fine, fine, 0.3], mode="wrap")
    low -= ndimage.gaussian_filter(low, [2.5 * fine, 2.5 * fine, 0.0], mode="wrap", truncate=3)
    return low / low.std()
