"""Synthetic patients whose true log hazard is known: latents, covariates, recurrence times and variants.

Everything here is synthetic. It shows whether a pipeline recovers, or refuses, a signal that is known to be
there; it says nothing about patients. The marginal laws follow published series of retroperitoneal sarcoma
where such exist; the effects of the image latents are far larger than anything published, so that a score with
a concordance near .84 exists at all.

Each variable has a random stream of its own. So patient 7 is the same person in a cohort of 10 and of 1,000,
and the same person in every variant; only the hazard, hence the recurrence time, differs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy import optimize, special, stats

HISTOLOGIES = ("WDLPS", "DDLPS", "LMS", "SFT", "other")
GRADES = ("G1", "G2", "G3")
SHARES = np.array([0.27, 0.35, 0.20, 0.055, 0.125])
GRADE_SHARES = np.array(
    [[1.0, 0.0, 0.0], [0.0, 0.62, 0.38], [0.31, 0.31, 0.38], [0.60, 0.30, 0.10], [0.10, 0.30, 0.60]]
)
MEDIAN_SIZE_CM = np.array([21.0, 18.0, 11.0, 11.0, 12.0])
MULTIFOCAL = np.array([0.10, 0.24, 0.14, 0.05, 0.12])

WEIBULL_SHAPE = 1.30
ANCHOR_MONTHS, ANCHOR_SURVIVAL = 36.0, 0.55
CALIBRATION_PATIENTS, CALIBRATION_SEED = 200_000, 20_130_101

STREAMS = (
    *("aggressiveness", "histology", "grade", "size", "age", "sex", "multifocal", "z_rad", "z_spat", "z_int"),
    *("margin", "rupture", "symptoms", "organs", "radiotherapy", "chemotherapy", "side", "scanner"),
    *("recurrence", "death", "accrual", "loss", "visit", "missing_margin", "missing_grade", "missing_symptoms"),
)
ENDPOINTS = ("lr", "competing", "lr_or_death")
IMAGE_CAUSES = ("histology", "size_cm", "multifocal", "z_rad", "z_spat", "z_int", "side", "scanner", "image_seed")


@dataclass(frozen=True)
class Variant:
    """What drives recurrence, and what the image shows.

    Attributes
    ----------
    clinical : float
        Multiplies the clinical log hazard.
    z_rad, z_spat, z_int : float
        Log hazard for one SD of each image latent.
    era : float
        Log hazard for one SD of the accrual date; earlier accrual means earlier recurrence. Where it is not 0
        the accrual date also decides noise and kernel of the scanner, so the noise becomes a shortcut.
    own_image : bool
        False: the image is rendered from somebody else's latents, histology, size and side.
    """

    clinical: float = 1.15
    z_rad: float = 0.60
    z_spat: float = 1.00
    z_int: float = 0.55
    era: float = 0.0
    own_image: bool = True


VARIANTS = {
    "full": Variant(),
    "null": Variant(clinical=0.0, z_rad=0.0, z_spat=0.0, z_int=0.0),
    "rad_sufficient": Variant(z_rad=1.30, z_spat=0.0, z_int=0.0),
    "clinical_only": Variant(z_rad=0.0, z_spat=0.0, z_int=0.0),
    "image_only": Variant(clinical=0.0),
    "decoupled": Variant(own_image=False),
    "confounded": Variant(era=0.80),
    "era_only": Variant(clinical=0.0, z_rad=0.0, z_spat=0.0, z_int=0.0, era=0.80),
}


def draw_patients(
    n: int,
    seed: int,
    variant: str = "full",
    endpoint: str = "lr",
    *,
    visit_grid: bool = True,
    missing: bool = False,
) -> pd.DataFrame:
    """Draw synthetic patients with covariates, latents, true log hazard and outcome.

    Parameters
    ----------
    n : int
        Number of patients. The first m of n are the same as a draw of m.
    seed : int
        Non-negative; decides everything.
    variant : str
        A name in `VARIANTS`.
    endpoint : str
        ``"lr"``: local recurrence, death censors; ``"competing"``: the same, and death without recurrence is told
        apart as event 2; ``"lr_or_death"``: whichever comes first is the event.
    visit_grid : bool
        True: recurrence is seen at the next visit (3-monthly to month 24, 6-monthly to month 60, then yearly,
        about 12 days early or late), and not at all if that lies after the end of follow-up.
    missing : bool
        True: 3 % of margins and 2 % of grades are lost at random, and symptoms more often in large tumours. The
        hazard keeps the true value.

    Returns
    -------
    DataFrame
        One row a patient: clinical columns in words, ``size_cm`` (cm), ``age`` (years), the latents (standard
        normal), ``side``, ``scanner`` (0 = quiet and smooth, 1 = noisy and sharp), ``image_seed``, ``eta`` (true
        log hazard, higher = earlier recurrence), ``time_months`` and ``event`` (1 = recurrence, 0 = none seen; 2
        = death without it, if `endpoint` is ``"competing"``).

    Raises
    ------
    ValueError
        Unknown variant or endpoint, or n below 1.
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant {variant!r} is unknown: choose one of {sorted(VARIANTS)}")
    if endpoint not in ENDPOINTS:
        raise ValueError(f"endpoint {endpoint!r} is unknown: choose one of {ENDPOINTS}")
    if n < 1:
        raise ValueError(f"n is {n}: a cohort needs at least 1 patient")
    draws = uniform_streams(n, seed)
    patients = draw_covariates(draws)
    patients["eta"] = true_log_hazard(patients, draws, VARIANTS[variant])
    patients["time_months"], patients["event"] = draw_outcome(patients, draws, variant, endpoint, visit_grid)
    patients["scanner"] = draws["accrual"] if VARIANTS[variant].era else draws["scanner"]
    patients["image_seed"] = image_seeds(n, seed)
    return lose_values(patients, draws) if missing else patients


def image_causes(patients: pd.DataFrame, seed: int, variant: str = "full") -> pd.DataFrame:
    """Return what the image of each patient is rendered from.

    Parameters
    ----------
    patients : DataFrame
        From `draw_patients` with the same `seed` and `variant`.
    seed : int
        Seed of the cohort.
    variant : str
        In a variant without its own image (``decoupled``) the causes are those of other people, drawn for the
        purpose and independent of `patients`; the seed of the rendering stays the patient's.

    Returns
    -------
    DataFrame
        Columns `IMAGE_CAUSES`, indexed like `patients`.
    """
    causes = patients[list(IMAGE_CAUSES)]
    if VARIANTS[variant].own_image:
        return causes
    strangers = draw_patients(len(patients), seed + 1_000_003, "full")[list(IMAGE_CAUSES)]
    return strangers.set_index(patients.index).assign(image_seed=patients["image_seed"])


def uniform_streams(n: int, seed: int) -> dict[str, np.ndarray]:
    """Return n uniform draws in (0, 1) for each named stream; the first m do not depend on n."""
    children = np.random.SeedSequence(seed).spawn(len(STREAMS))
    return {
        name: np.clip(np.random.default_rng(child).random(n), 1e-15, 1 - 1e-15)
        for name, child in zip(STREAMS, children, strict=True)
    }


def image_seeds(n: int, seed: int) -> np.ndarray:
    """Return one seed a patient (below 2**32) for the rendering; patient i's does not depend on n."""
    return np.array([np.random.SeedSequence([seed, i]).generate_state(1)[0] for i in range(n)], dtype=np.int64)


def draw_covariates(draws: dict[str, np.ndarray]) -> pd.DataFrame:
    """Return clinical columns and latents; aggressiveness links grade, size, the image and the margin."""
    a = special.ndtri(draws["aggressiveness"])
    h = np.searchsorted(np.cumsum(SHARES / SHARES.sum()), draws["histology"])
    grade = choose_grade(h, a, draws["grade"])
    z_rad = 0.45 * a + 0.893 * special.ndtri(draws["z_rad"])
    z_int = 0.35 * a + 0.937 * special.ndtri(draws["z_int"])
    spread = 0.42 * (0.2 * a + 0.98 * special.ndtri(draws["size"]))
    size = np.clip(MEDIAN_SIZE_CM[h] * np.exp(spread), 4.0, 45.0).round(1)
    return pd.DataFrame(
        {
            "age": np.clip(56 + 12 * special.ndtri(draws["age"]), 18, 86).round().astype(int),
            "sex": np.where(draws["sex"] < 0.5, "male", "female"),
            "size_cm": size,
            "histology": np.array(HISTOLOGIES)[h],
            "grade": np.array(GRADES)[grade],
            "multifocal": yes_no(draws["multifocal"] < MULTIFOCAL[h]),
            "symptoms": yes_no(draws["symptoms"] < special.expit(0.1 + 0.05 * (size - 17))),
            "margin": choose_margin(z_int, size, draws["margin"]),
            "rupture": yes_no(draws["rupture"] < special.expit(-2.9 + 0.03 * (size - 17))),
            "organs_resected": count_organs(z_int, size, draws["organs"]),
            "radiotherapy": yes_no(draws["radiotherapy"] < 0.08),
            "chemotherapy": yes_no(draws["chemotherapy"] < np.where(grade == 2, 0.15, 0.04)),
            "aggressiveness": a,
            "z_rad": z_rad,
            "z_spat": special.ndtri(draws["z_spat"]),
            "z_int": z_int,
            "side": np.where(draws["side"] < 0.5, "left", "right"),
        }
    )


def yes_no(condition: np.ndarray) -> np.ndarray:
    """Return the words "yes" and "no"."""
    return np.where(condition, "yes", "no")


def choose_grade(histology: np.ndarray, aggressiveness: np.ndarray, draw: np.ndarray) -> np.ndarray:
    """Return FNCLCC grade minus 1: the histology's shares, cut by a uniform that rises with aggressiveness."""
    rank = special.ndtr(0.5 * aggressiveness + 0.866 * special.ndtri(draw))
    limits = np.cumsum(GRADE_SHARES, axis=1)[histology]
    return (rank > limits[:, 0]).astype(int) + (rank > limits[:, 1])


def choose_margin(z_int: np.ndarray, size_cm: np.ndarray, draw: np.ndarray) -> np.ndarray:
    """Return the resection margin: R2 first, R1 among the rest; a lost fat plane makes both likelier."""
    lift = 0.9 * z_int + 0.035 * (size_cm - 17)
    r2 = special.expit(-3.1 + lift)
    r1 = r2 + (1 - r2) * special.expit(-0.75 + lift)
    return np.select([draw < r2, draw < r1], ["R2", "R1"], "R0")


def count_organs(z_int: np.ndarray, size_cm: np.ndarray, draw: np.ndarray) -> np.ndarray:
    """Return the number of organs resected with the tumour (Poisson, by inversion)."""
    mean = np.exp(0.05 + 0.25 * z_int + 0.02 * (size_cm - 17))
    return stats.poisson.ppf(draw, mean).astype(int)


def clinical_log_hazard(patients: pd.DataFrame) -> np.ndarray:
    """Return the clinical part of the true log hazard (directions as in published nomograms)."""
    effects = {
        "grade": {"G2": 0.55, "G3": 1.10},
        "histology": {"DDLPS": 0.55, "LMS": 0.10, "SFT": -0.80},
        "margin": {"R1": 0.65, "R2": 1.30},
        "multifocal": {"yes": 0.70},
        "rupture": {"yes": 0.65},
        "symptoms": {"yes": 0.40},
        "radiotherapy": {"yes": -0.25},
    }
    total = 0.030 * (patients["size_cm"].to_numpy() - 17) + 0.010 * (patients["age"].to_numpy() - 56)
    for column, levels in effects.items():
        total = total + patients[column].map(levels).fillna(0.0).to_numpy()
    return total


def true_log_hazard(patients: pd.DataFrame, draws: dict[str, np.ndarray], variant: Variant) -> np.ndarray:
    """Return eta, the true log hazard of local recurrence (higher = earlier)."""
    latents = patients[["z_rad", "z_spat", "z_int"]].to_numpy()
    image = (latents * [variant.z_rad, variant.z_spat, variant.z_int]).sum(axis=1)
    era = special.ndtri(draws["accrual"])
    return variant.clinical * clinical_log_hazard(patients) + image + variant.era * era


@lru_cache(maxsize=16)
def weibull_scale(variant: str) -> float:
    """Return the Weibull scale (months) at which the mean recurrence-free survival at month 36 is .55.

    It is found on 200,000 patients of a fixed seed, so it belongs to the variant and not to a cohort.
    """
    draws = uniform_streams(CALIBRATION_PATIENTS, CALIBRATION_SEED)
    relative = np.exp(true_log_hazard(draw_covariates(draws), draws, VARIANTS[variant]))

    def excess(log_scale: float) -> float:
        cumulative = (ANCHOR_MONTHS / np.exp(log_scale)) ** WEIBULL_SHAPE
        return float(np.exp(-cumulative * relative).mean() - ANCHOR_SURVIVAL)

    return float(np.exp(optimize.brentq(excess, np.log(1.0), np.log(1e5), xtol=1e-12)))


def true_lrfs(eta: np.ndarray, months: float, variant: str) -> np.ndarray:
    """Return the true probability of no local recurrence by a month, given the true log hazard."""
    return np.exp(-((months / weibull_scale(variant)) ** WEIBULL_SHAPE) * np.exp(eta))


def draw_outcome(
    patients: pd.DataFrame, draws: dict[str, np.ndarray], variant: str, endpoint: str, visit_grid: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return observed times (months, at least 0.5) and events (0 or 1; 2 as in `draw_patients`)."""
    relative = np.exp(-patients["eta"].to_numpy() / WEIBULL_SHAPE)
    recurrence = weibull_scale(variant) * relative * (-np.log(draws["recurrence"])) ** (1 / WEIBULL_SHAPE)
    death = draw_death(patients, draws["death"])
    loss = -np.log(draws["loss"]) / (0.03 / 12)
    last_seen = np.minimum(administrative_follow_up(draws["accrual"]), loss)
    end = np.minimum(last_seen, death)
    seen = next_visit(recurrence, draws["visit"]) if visit_grid else recurrence
    event = (seen <= end).astype(int)
    if endpoint != "lr":
        event[(event == 0) & (death <= last_seen)] = 1 if endpoint == "lr_or_death" else 2
    return np.maximum(np.minimum(seen, end), 0.5).round(2), event


def draw_death(patients: pd.DataFrame, draw: np.ndarray) -> np.ndarray:
    """Return the time of death without recurrence (months): Gompertz in age, doubled by each grade."""
    growth = 0.07
    grade = patients["grade"].map({"G1": 1.0, "G2": 2.0, "G3": 4.0}).to_numpy()
    hazard = 0.010 * np.exp(growth * (patients["age"].to_numpy() - 56)) * grade
    return 12 * np.log1p(-np.log(draw) * growth / hazard) / growth


def administrative_follow_up(draw: np.ndarray) -> np.ndarray:
    """Return months from surgery to the end of the study: accrual over 11 years, rising with time.

    The larger the draw, the earlier the patient was accrued and the longer the follow-up.
    """
    return 6 + 132 * (1 - (1 - draw) ** (1 / 1.6))


def next_visit(months: np.ndarray, draw: np.ndarray) -> np.ndarray:
    """Return when a recurrence at `months` is seen: the next visit, kept with a SD of 0.4 months."""
    step = np.select([months <= 24, months <= 60], [3.0, 6.0], 12.0)
    return np.ceil(months / step) * step + 0.4 * special.ndtri(draw)


def lose_values(patients: pd.DataFrame, draws: dict[str, np.ndarray]) -> pd.DataFrame:
    """Blank some margins and grades at random, and symptoms more often in large tumours."""
    size = patients["size_cm"].to_numpy()
    lost = {
        "margin": draws["missing_margin"] < 0.03,
        "grade": draws["missing_grade"] < 0.02,
        "symptoms": draws["missing_symptoms"] < special.expit(-3.2 + 0.05 * (size - 17)),
    }
    return patients.assign(**{column: patients[column].mask(gone) for column, gone in lost.items()})
