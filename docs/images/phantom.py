"""Draw docs/images/phantom.png: one synthetic patient, axial and coronal, with the outline of the tumour mask.

Run from the repository: ``rps phantom data/picture --patients 8 --seed 3``, then ``python docs/images/phantom.py``.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np
from matplotlib.axes import Axes

IMAGES = Path("data/picture/images")
PATIENT = "RPS-001"
WINDOW_HU = (-160, 240)


def read(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return voxels in RAS order and their spacing in mm."""
    image = nib.as_closest_canonical(nib.load(IMAGES / f"{PATIENT}_{name}.nii.gz"))
    return np.asanyarray(image.dataobj), np.array(image.header.get_zooms())


def draw(axes: Axes, ct: np.ndarray, mask: np.ndarray, spacing: np.ndarray, title: str) -> None:
    """Draw one slice as a radiologist sees it: the patient's right is on the left."""
    aspect = spacing[1] / spacing[0]
    axes.imshow(ct.T[::-1, ::-1], cmap="gray", vmin=WINDOW_HU[0], vmax=WINDOW_HU[1], aspect=aspect)
    axes.contour(mask.T[::-1, ::-1], [0.5], colors="#E69F00", linewidths=1.6)
    axes.set_title(title, color="white", fontsize=11, loc="left")
    axes.axis("off")


def main() -> None:
    """Draw the slices in which the tumour is largest."""
    (ct, spacing), (mask, _) = read("ct"), read("mask")
    coronal, axial = (int(mask.sum(axis=others).argmax()) for others in [(0, 2), (0, 1)])
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.6), facecolor="black", layout="constrained")
    draw(left, ct[..., axial], mask[..., axial], spacing[[0, 1]], "axial")
    draw(right, ct[:, coronal], mask[:, coronal], spacing[[0, 2]], "coronal")
    figure.supxlabel("synthetic CT of no patient; outline: tumour mask", color="white", fontsize=10)
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
