"""Controls for image scores: what is left of a score once that which it should read is taken away.

A score that keeps its C with the tumour's voxels shuffled has read neither texture nor place; one that keeps it on
somebody else's image has not read the image. Nothing is fitted here: frozen models score changed images.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from joblib import delayed
from scipy import stats

from rps_utils.imaging.crops import crop_paths, load_crop
from rps_utils.imaging.patches import PatchSettings
from rps_utils.imaging.volumes import Volume, write_volume
from rps_utils.machine.engines import work_on
from rps_utils.survival.concordance import harrell_c
from rps_utils.survival.follow_up import Estimate

FAT_HU = (-150.0, -50.0)
INSIDE = ("tumour", "deviation")  # channels that are an average over the tumour's part of a voxel, times that part
FEWEST_FAT_PAIRS = 200


def patient_generator(seed: int, patient_id: str) -> np.random.Generator:
    """Return the randomness of one patient, the same in whichever company the patient is shuffled."""
    return np.random.default_rng([seed, *patient_id.encode()])


def shuffled_tumour(ct: Volume, mask: Volume, rng: np.random.Generator) -> Volume:
    """Return the CT with the HU inside the mask in random order: same outline, same histogram, no texture, no place."""
    values, inside = ct.values.copy(), mask.values > 0
    values[inside] = rng.permutation(values[inside])
    return Volume(values, ct.affine)


def shuffle_crops(
    crops: str | Path, patient_ids: Sequence[str], folder: str | Path, *, seed: int, n_jobs: int = 1
) -> Path:
    """Write the crops of some patients with the voxels inside the tumour shuffled, and return their folder.

    Parameters
    ----------
    crops : path
        Folder of the crops (`images.crop_paths`).
    patient_ids : sequence of str
    folder : path
        Gets the shuffled crops under the same names.
    seed : int
    n_jobs : int
        Processes.
    """
    work_on((delayed(_shuffle_crop)(crops, patient, folder, seed) for patient in patient_ids), n_jobs)
    return Path(folder)


def _shuffle_crop(crops: str | Path, patient: str, folder: str | Path, seed: int) -> None:
    ct, mask = load_crop(crops, patient)
    pair = shuffled_tumour(ct, mask, patient_generator(seed, patient)), mask
    for volume, path in zip(pair, crop_paths(folder, patient), strict=True):
        write_volume(volume, path)


def shuffled_patches(patches: np.ndarray, patient_ids: Sequence[str], settings: PatchSettings, seed: int) -> np.ndarray:
    """Return patches in which the voxels inside the tumour have changed places.

    What changes places are the grey values of the voxels at least half inside the tumour, deviation along with HU;
    each is weighted again by the part of its new voxel that lies inside, so that the outline stays.

    Parameters
    ----------
    patches : ndarray, (n, channels, S, S, S)
    patient_ids : sequence of str
    settings : PatchSettings
        With which they were cut; the channel ``mask`` must be among them.
    seed : int

    Returns
    -------
    ndarray of float32, same shape
    """
    if "mask" not in settings.channels:
        raise ValueError(f"channels = {settings.channels}: shuffling inside the tumour needs the channel mask")
    shuffled = np.array(patches, np.float32)
    for patch, patient in zip(shuffled, patient_ids, strict=True):
        cover = patch[settings.channels.index("mask")].ravel()
        places = np.flatnonzero(cover >= 0.5)
        order = patient_generator(seed, patient).permutation(places)
        for channel, name in zip(patch, settings.channels, strict=True):
            if name in INSIDE:
                channel.ravel()[places] = channel.ravel()[order] / cover[order] * cover[places]
            elif name == "hu":
                channel.ravel()[places] = channel.ravel()[order]
    return shuffled


def derangement(n: int, rng: np.random.Generator) -> np.ndarray:
    """Return a random order of n patients, (n,), that leaves nobody in place; all such orders are equally likely.

    Raises
    ------
    ValueError
        Fewer than two patients.
    """
    if n < 2:
        raise ValueError(f"n is {n}: exchanging images takes 2 patients at least")
    while True:  # one draw in e succeeds
        order = rng.permutation(n)
        if not (order == np.arange(n)).any():
            return order


def exchanged_c(time: Any, event: Any, risk: Any, *, draws: int = 1000, seed: int = 2026) -> np.ndarray:
    """Return C when every patient is judged by the score of another one, (draws,): what no knowledge looks like."""
    risk, rng = np.asarray(risk, float), np.random.default_rng(seed)
    return np.array([harrell_c(time, event, risk[derangement(len(risk), rng)]) for _ in range(draws)])


def noise_hu(ct: Volume, mask: Volume) -> float:
    """Return the noise of a scan in HU: the SD of neighbours in fat outside the tumour, robustly estimated.

    Fat is the most even tissue of the abdomen. The difference of two neighbours has twice the variance of one; its
    SD is taken from the median absolute deviation. On a resampled grid the value is smaller than on the scan's own,
    so that it compares scans and measures none.

    Returns
    -------
    float
        NaN where there are fewer than 200 pairs of neighbours in fat.
    """
    fat = (ct.values > FAT_HU[0]) & (ct.values < FAT_HU[1]) & (mask.values == 0)
    both = fat[1:] & fat[:-1]
    if both.sum() < FEWEST_FAT_PAIRS:
        return float("nan")
    return float(
        stats.median_abs_deviation(np.diff(ct.values.astype(float), axis=0)[both], scale="normal") / np.sqrt(2)
    )


def scan_facts(images: pd.DataFrame, crops: str | Path, n_jobs: int = 1) -> pd.DataFrame:
    """Return what is known of each scan and says nothing about the tumour, indexed by ``patient_id``.

    Parameters
    ----------
    images : DataFrame
        ``tables/images.csv``.
    crops : path
        Folder of the crops.
    n_jobs : int
        Processes.

    Returns
    -------
    DataFrame
        ``spacing_in_plane_mm, slice_spacing_mm, noise_hu``.
    """
    noise = work_on((delayed(_noise_of)(crops, patient) for patient in images["patient_id"]), n_jobs)
    known = images.set_index("patient_id")[["spacing_in_plane_mm", "slice_spacing_mm"]]
    return known.assign(noise_hu=noise)


def _noise_of(crops: str | Path, patient: str) -> float:
    return noise_hu(*load_crop(crops, patient))


def rank_correlation(first: pd.Series, second: pd.Series, *, level: float = 0.95) -> Estimate:
    """Return Spearman's correlation of two columns with its interval (Bonett & Wright 2000).

    Patients without one of the values are left out; a constant column has no correlation, and the note says so.
    """
    both = pd.concat([first, second], axis=1, join="inner").dropna()
    if len(both) < 5 or (both.max() == both.min()).any():
        return Estimate(np.nan, np.nan, np.nan, "fewer than 5 patients" if len(both) < 5 else "the same for everybody")
    rho = float(stats.spearmanr(both.iloc[:, 0], both.iloc[:, 1]).statistic)
    reach = stats.norm.ppf(0.5 + level / 2) * np.sqrt((1 + rho**2 / 2) / (len(both) - 3))
    low, high = np.tanh(np.arctanh(np.clip(rho, -0.999999, 0.999999)) + np.array([-reach, reach]))
    return Estimate(rho, float(low), float(high), "")
