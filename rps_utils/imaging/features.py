"""Handcrafted radiomic features of a crop, by pyradiomics."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import SimpleITK as sitk
from joblib import delayed

from rps_utils.files import file_sha256, read_json, write_json
from rps_utils.imaging.crops import crop_paths, load_crop
from rps_utils.imaging.regions import MARGIN_MM, region_masks
from rps_utils.imaging.volumes import Volume, to_itk
from rps_utils.machine.progress import in_parallel
from rps_utils.schema import FEATURE_STORE, check_content
from rps_utils.sources import text_sha256
from rps_utils.texts.counts import how_many

IMAGE_TYPES = ("original", "log", "wavelet")
ENGINES = ("fast", "plain")


class ExtractionError(RuntimeError):
    """Features of some patients could not be computed; the message has one line for each."""


@dataclass(frozen=True)
class ExtractionSettings:
    """Which features are computed, and how.

    Attributes
    ----------
    image_types : tuple of str
        ``original``, ``log`` (Laplacian of Gaussian: spots and edges of one size), ``wavelet`` (eight bands,
        each coarse or fine along each axis). Shape is computed once, with ``original``.
    log_sigma_mm : tuple of float
        Widths of the Gaussian.
    wavelet : str
        Wavelet family, as PyWavelets names it.
    bin_width_hu : float
        Width of a grey-level bin for texture.
    bin_count : int or None
        A fixed number of bins in place of a fixed width.
    outlier_sd : float or None
        Leave out voxels further than so many SD from the mean of the tumour (IBSI "re-segmentation").
    engine : {"fast", "plain"}
        Both give pyradiomics' features, equal to 12 digits; "plain" is pyradiomics alone and takes ten times as long.
    regions : bool
        Compute the features of the margin and of the tumour's outer thirds as well: eight times the work.
    """

    image_types: tuple[str, ...] = IMAGE_TYPES
    log_sigma_mm: tuple[float, ...] = (3.0, 5.0)
    wavelet: str = "coif1"
    bin_width_hu: float = 25.0
    bin_count: int | None = None
    outlier_sd: float | None = None
    engine: str = "fast"
    regions: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be computed; lists become tuples."""
        object.__setattr__(self, "image_types", tuple(self.image_types))
        object.__setattr__(self, "log_sigma_mm", tuple(float(s) for s in self.log_sigma_mm))
        if not self.image_types or set(self.image_types) - set(IMAGE_TYPES):
            raise ValueError(f"image_types = {self.image_types}; allowed: one or more of {', '.join(IMAGE_TYPES)}")
        if self.engine not in ENGINES:
            raise ValueError(f"engine = {self.engine!r}; allowed: {', '.join(ENGINES)}")
        if not self.bin_width_hu > 0:
            raise ValueError(f"bin_width_hu = {self.bin_width_hu}; allowed: above 0 HU")
        if "log" in self.image_types and not (self.log_sigma_mm and min(self.log_sigma_mm) > 0):
            raise ValueError(f"log_sigma_mm = {self.log_sigma_mm}; allowed: one or more widths above 0 mm")


def pad_mm(settings: ExtractionSettings, spacing: float) -> float:
    """Return the margin in mm that a crop needs so that filters inside the tumour do not feel its border.

    Five voxels suffice for the wavelet; a Gaussian of width sigma reaches 8 sigma (below that, features of a
    5 mm Laplacian of Gaussian move by up to a fifth). Around the margin of `regions` the same is needed again.
    """
    widest = max(settings.log_sigma_mm, default=0.0) if "log" in settings.image_types else 0.0
    return max(5 * spacing, 8 * widest) + (MARGIN_MM if settings.regions else 0.0)


def make_extractor(settings: ExtractionSettings) -> Any:
    """Return a pyradiomics extractor that neither resamples nor crops, and reports features only."""
    kind = _extractor_class(settings.engine)
    logging.getLogger("radiomics").setLevel(logging.ERROR)
    bins: dict[str, Any] = (
        {"binCount": settings.bin_count} if settings.bin_count else {"binWidth": settings.bin_width_hu}
    )
    if settings.outlier_sd:
        bins |= {"resegmentRange": [-settings.outlier_sd, settings.outlier_sd], "resegmentMode": "sigma"}
    extractor = kind(additionalInfo=False, label=1, **bins)
    extractor.disableAllImageTypes()
    if "original" in settings.image_types:
        extractor.enableImageTypeByName("Original")
    if "log" in settings.image_types:
        extractor.enableImageTypeByName("LoG", customArgs={"sigma": list(settings.log_sigma_mm)})
    if "wavelet" in settings.image_types:
        extractor.enableImageTypeByName("Wavelet", customArgs={"wavelet": settings.wavelet})
    return extractor


def _extractor_class(engine: str) -> Any:
    from radiomics.featureextractor import RadiomicsFeatureExtractor

    if engine == "plain":
        return RadiomicsFeatureExtractor
    from rps_utils.imaging.fast.extractor import FastExtractor

    return FastExtractor


def extract(
    ct: Volume, mask: Volume, settings: ExtractionSettings, right_sided: bool | None = None
) -> dict[str, float]:
    """Compute the features of one tumour.

    Parameters
    ----------
    ct, mask : Volume
        HU and 0/1 on one isotropic grid, with the margin of `pad_mm` around the tumour.
    settings : ExtractionSettings
    right_sided : bool or None
        Whether the tumour lies on the patient's right; needed for ``settings.regions`` alone.

    Returns
    -------
    dict of str to float
        pyradiomics' names (``original_firstorder_Mean``), in alphabetical order; then those of `regional_features`.

    Raises
    ------
    ValueError
        A feature is not a finite number, pyradiomics refuses the mask, or the side is not known.
    """
    features = _extract_inside(ct, mask, settings)
    if settings.regions:
        if right_sided is None:
            raise ValueError("features of regions were asked for, and the side of the tumour is not known")
        features |= regional_features(ct, mask, right_sided, settings)
    return features


def _extract_inside(ct: Volume, mask: Volume, settings: ExtractionSettings) -> dict[str, float]:
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    values = make_extractor(settings).execute(to_itk(ct), to_itk(mask))
    features = {name: float(values[name]) for name in sorted(values) if not name.startswith("diagnostics")}
    broken = [name for name, value in features.items() if not np.isfinite(value)]
    if broken:
        raise ValueError(
            f"{how_many(len(broken), 'feature is', 'features are')} not finite, first {broken[0]}: "
            "is the tumour of one grey value?"
        )
    return features


def regional_features(ct: Volume, mask: Volume, right_sided: bool, settings: ExtractionSettings) -> dict[str, float]:
    """Return the features of every region, without shape, which the cut decides: ``midline_original_glcm_Id``.

    Parameters
    ----------
    ct, mask, settings
        See `extract`; the crop reaches `MARGIN_MM` beyond the tumour.
    right_sided : bool
        See `rps_utils.imaging.regions.region_masks`.

    Raises
    ------
    ValueError
        The features of a region cannot be computed: the tumour is too small to be cut into thirds.
    """
    found: dict[str, float] = {}
    for name, region in region_masks(mask, right_sided).items():
        try:
            features = _extract_inside(ct, region, settings)
        except ValueError as error:
            raise ValueError(f"region {name!r} of {int(region.values.sum())} voxels: {error}") from error
        found |= {f"{name}_{feature}": value for feature, value in features.items() if "_shape_" not in feature}
    return found


def extract_stored(
    crops: str | Path,
    patient_id: str,
    settings: ExtractionSettings,
    store: str | Path,
    right_sided: bool | None = None,
) -> dict:
    """Return the features of one patient, from the store if crop and settings are the same as then.

    Parameters
    ----------
    crops : str or Path
        Folder of the crops.
    patient_id : str
    settings : ExtractionSettings
    store : str or Path
        Folder that keeps one small JSON file a patient, with its own hash: one that is damaged is written anew.
    right_sided : bool or None
        See `extract`.

    Returns
    -------
    dict
        Feature to value.
    """
    ct, mask = crop_paths(crops, patient_id)
    made_from = {"settings": _plain_settings(settings), "ct": file_sha256(ct), "mask": file_sha256(mask)}
    kept = Path(store) / f"{patient_id}.json"
    if kept.is_file() and not damage(kept):
        content = read_json(kept)
        if content["made_from"] == made_from:
            return content["features"]
    features = extract(*load_crop(crops, patient_id), settings, right_sided)
    content = {"made_from": made_from, "features": features}
    write_json({**content, "sha256": text_sha256(content)}, kept)
    return features


def damage(kept: Path) -> str:
    """Say why a file of stored features cannot be used: cut short, altered, of another form; or return an empty text.

    The file holds the hash of its own content, so a number that lost its last digits is no other number.
    """
    try:
        content = check_content(read_json(kept), FEATURE_STORE, kept)
    except ValueError as error:
        return str(error)
    stored = content.pop("sha256", None)
    return "" if stored == text_sha256(content) else f"{kept}: altered since it was written"


def _plain_settings(settings: ExtractionSettings) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(settings).items()}


def extract_cohort(
    crops: str | Path,
    patient_ids: Sequence[str],
    settings: ExtractionSettings,
    store: str | Path,
    n_jobs: int = 1,
    *,
    sides: Mapping[str, bool] | None = None,
) -> pd.DataFrame:
    """Compute the features of many patients; what is already in the store is not computed again.

    Parameters
    ----------
    crops, settings, store
        See `extract_stored`.
    patient_ids : sequence of str
    n_jobs : int
        Processes.
    sides : mapping or None
        Patient to whether the tumour lies on the right (`rps_utils.imaging.regions.right_sided`), for
        ``settings.regions``.

    Returns
    -------
    pandas.DataFrame
        ``patient_id`` and one column a feature, patients as given, features in alphabetical order.

    Raises
    ------
    ExtractionError
        After all others are done: one line for each patient that failed, with the reason.
    """
    for kept in (Path(store) / f"{patient}.json" for patient in patient_ids):
        if kept.is_file() and (why := damage(kept)):
            print(f"{why}: the features are extracted again", flush=True)
    known = sides or {}
    jobs = (delayed(_extract_or_reason)(crops, p, settings, store, known.get(p)) for p in patient_ids)
    results: dict[str, dict | str] = dict(in_parallel(jobs, n_jobs, "patients have their features", ordered=False))
    failed = [f"{patient}: {results[patient]}" for patient in patient_ids if isinstance(results[patient], str)]
    if failed:
        raise ExtractionError(f"no features for {len(failed)} of {len(results)} patients\n" + "\n".join(failed))
    table = pd.DataFrame.from_dict({patient: results[patient] for patient in patient_ids}, orient="index")
    return table[sorted(table.columns)].rename_axis("patient_id").reset_index()


def _extract_or_reason(
    crops: str | Path, patient_id: str, settings: ExtractionSettings, store: str | Path, right_sided: bool | None
) -> tuple[str, dict | str]:
    try:
        return patient_id, extract_stored(crops, patient_id, settings, store, right_sided)
    except Exception as error:  # one broken patient must not hide the next: all are named together
        return patient_id, f"{type(error).__name__}: {error}"
