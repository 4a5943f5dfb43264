"""Worlds: how the latents of a synthetic patient are written into the image.

A *variant* (`rps_utils.lab.phantom.patients`) says how much each latent weighs in the hazard; a *world* says what it
looks like. They are independent: every variant exists in every world, the same patients have the same outcomes in
all of them, and only the image differs. So a model that reads one world by its author's knowledge of how the latent
was painted is found out in the next.

In every world ``z_rad`` decides how much of the tumour is second tissue, the share .08 + .42 Phi(z_rad) of its
voxels, and ``z_int`` how much of the fat plane on one side of the tumour is lost. A world says how the second tissue
is arranged by ``z_spat``, and which side ``z_int`` speaks of. The strength is the same in the worlds of place: the
pull on the second tissue has the SD 1.1 z_spat against the SD 1 of the random field.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MEDIAL_POSTERIOR, ANTERIOR_LATERAL = (-0.8, -0.6), (0.8, 0.6)
PULL, POSITION_SD = 1.1, 0.45
DEPTH_MEAN, DEPTH_SD = 0.75, 0.194  # of the distance from the centre, uniform in a unit ball
OBLIQUE = (-(3**-0.5), 3**-0.5, 3**-0.5)


@dataclass(frozen=True)
class World:
    """How ``z_spat`` and ``z_int`` are written.

    Attributes
    ----------
    shows : str
        In words, what a larger ``z_spat`` does.
    toward : tuple of float
        Unit vector (lateral, front, head) to which a larger ``z_spat`` moves the second tissue; zeros: nowhere.
    outward : float
        Pull from the core to the rim.
    coarse : float
        The pattern's correlation length is multiplied by exp(coarse z_spat).
    stretch : float
        The pattern is longer by exp(stretch z_spat) from front to back, and shorter by as much from side to side.
    nodules : float
        0: a smooth pattern; else the second tissue are about 9 exp(nodules z_spat) round nodules.
    lobules : float
        The waves of the tumour's surface are multiplied by exp(lobules z_spat).
    plane : tuple of float
        Horizontal direction (lateral, front) of the side whose fat plane ``z_int`` replaces by strands.
    """

    shows: str
    toward: tuple[float, float, float] = (0.0, 0.0, 0.0)
    outward: float = 0.0
    coarse: float = 0.0
    stretch: float = 0.0
    nodules: float = 0.0
    lobules: float = 0.0
    plane: tuple[float, float] = MEDIAL_POSTERIOR

    def pattern_mm(self, length_mm: float, z_spat: float) -> np.ndarray:
        """Return the correlation length of the second tissue's pattern along x, y and z, mm."""
        longer = np.array([-self.stretch, self.stretch, 0.0]) + self.coarse
        return length_mm * np.exp(longer * np.clip(z_spat, -3, 3))


WORLDS = {
    "lateral": World("moves the second tissue from the flank to the midline", toward=(-1.0, 0.0, 0.0)),
    "front": World("moves the second tissue from back to front", toward=(0.0, 1.0, 0.0)),
    "height": World("moves the second tissue from the feet toward the head", toward=(0.0, 0.0, 1.0)),
    "oblique": World("moves the second tissue to the midline, front and head at once", toward=OBLIQUE),
    "depth": World("moves the second tissue from the core to the rim", outward=1.0),
    "scale": World("makes the pattern of the second tissue coarser", coarse=0.4),
    "direction": World("stretches the pattern from front to back", stretch=0.5),
    "nodules": World("breaks the second tissue into more and smaller nodules", nodules=0.7),
    "outline": World("makes the surface more lobulated", lobules=0.6),
    "far_side": World(
        "moves the second tissue from front to back; the other side's fat plane is lost",
        toward=(0.0, -1.0, 0.0),
        plane=ANTERIOR_LATERAL,
    ),
}
DEFAULT_WORLD = "lateral"


def find_world(name: str) -> World:
    """Return a world by its name, or raise ValueError."""
    if name not in WORLDS:
        raise ValueError(f"world {name!r} is unknown: choose one of {', '.join(WORLDS)}")
    return WORLDS[name]
