"""Reference maps on the grid of the patches: by them explanations are graded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import delayed

from rps_utils.files import whole_file
from rps_utils.imaging.formats.bounds import MOST_BYTES, open_archive
from rps_utils.imaging.patches import PatchSettings, average_on_grid, is_right_sided, patch_weights
from rps_utils.imaging.volumes import Volume, load_pair, load_volume
from rps_utils.machine.engines import work_on


def make_reference(
    ct: Volume, mask: Volume, reference: np.ndarray, labels: Sequence[int], settings: PatchSettings
) -> np.ndarray:
    """Bring a reference map onto the grid of the patient's patch.

    Parameters
    ----------
    ct, mask : Volume
        As for `make_patch`.
    reference : ndarray
        Label of each voxel of the scan, axes right, front, head.
    labels : sequence of int
        Labels to keep.
    settings : PatchSettings

    Returns
    -------
    ndarray of float16, (labels, size, size, size)
        Share of each patch voxel that bears the label.
    """
    inside = mask.values > 0
    if settings.canonical and is_right_sided(ct.values, inside):
        inside, reference = inside[::-1], reference[::-1]
    _, weights = patch_weights(inside, ct.spacing, settings)
    shares = [average_on_grid((reference == label).astype(np.float32), weights) for label in labels]
    return np.stack(shares).astype(np.float16)


def make_references(
    images: pd.DataFrame, path: str | Path, settings: PatchSettings | None = None, n_jobs: int = 1
) -> Path:
    """Bring the reference maps of a cohort onto the patch grid and write them to one file, whole or not at all.

    Parameters
    ----------
    images : DataFrame
        ``patient_id, image, mask, reference_map``, the last one missing where a patient has none.
    path : path
        ``RUN/references.npz`` with ``patient_id``, ``labels`` (ascending, without 0) and ``shares`` (n, labels, S,
        S, S; float16). Where nobody has a map it holds no patient, so that the file is there in every run.
    settings : PatchSettings, optional
    n_jobs : int
        Processes.
    """
    settings = settings or PatchSettings()
    mapped = images.dropna(subset="reference_map")
    read = work_on((delayed(labels_of)(place) for place in mapped["reference_map"]), n_jobs)
    labels = sorted(set().union(*read))
    jobs = (delayed(_read_reference)(r.image, r.mask, r.reference_map, labels, settings) for r in mapped.itertuples())
    shares = work_on(jobs, n_jobs)
    empty = np.zeros((0, len(labels), *[settings.size] * 3), np.float16)
    with whole_file(path) as partial:
        np.savez_compressed(
            partial,
            patient_id=mapped["patient_id"].to_numpy(str),
            labels=np.array(labels, int),
            shares=np.stack(shares) if shares else empty,
        )
    return Path(path)


def labels_of(path: str | Path) -> set[int]:
    """Return the labels of a map, without 0."""
    return {int(label) for label in np.unique(load_volume(path).values)} - {0}


def _read_reference(
    image: str | Path, mask: str | Path, reference: str | Path, labels: Sequence[int], settings: PatchSettings
) -> np.ndarray:
    return make_reference(*load_pair(image, mask), load_volume(reference).values, labels, settings)


def read_references(path: str | Path) -> dict[int, dict[str, np.ndarray]]:
    """Return for each label its share of each voxel of the patch (S, S, S), by patient.

    Raises
    ------
    FileNotFoundError
        No such file.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} does not exist: run the notebook that writes it first")
    with open_archive(path, MOST_BYTES) as stored:
        ids, shares = stored["patient_id"].tolist(), stored["shares"].astype(np.float32)
        return {
            int(label): dict(zip(ids, shares[:, place], strict=True)) for place, label in enumerate(stored["labels"])
        }
