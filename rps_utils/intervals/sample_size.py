"""How many patients, and how many with the event, a survival model needs to be developed and to be validated.

Riley's criteria. They ask for what must be known beforehand: how common the event is, and how much the predictors are
expected to tell. Take both from elsewhere; a C-index measured in the same few patients is too good or too bad by luck.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import expit

Z = 1.959963985
SE_OBSERVED_EXPECTED, SE_C, SE_SLOPE = 0.051, 0.0255, 0.102  # intervals of O/E .9 to 1.1, C +- .05, slope +- .2
LARGEST = 10_000_000


class Incidence(NamedTuple):
    """How common the event is: `share` of the patients who have it while followed, `rate` of events a month."""

    share: float
    rate: float

    def by(self, landmark: float) -> float:
        """Return the share with the event by a time (months), at a constant rate."""
        return float(-np.expm1(-self.rate * landmark))


def incidence_of(time: Any, event: Any) -> Incidence:
    """Return how common the event is among patients.

    Parameters
    ----------
    time : array_like, shape (n,)
        Months to the event or to censoring.
    event : array_like, shape (n,)
        1 = event.

    Raises
    ------
    ValueError
        Nobody has the event.
    """
    share = float(np.mean(np.asarray(event) == 1))
    if not share > 0:
        raise ValueError("none of the patients has the event: how common it is cannot be learned from them")
    return Incidence(share, share / float(np.mean(np.asarray(time, float))))


def spread_of_log_hazard(c: float) -> float:
    """Return the SD of the log hazard over patients that goes with a C-index, if it is normal and hazards proportional.

    Of two patients whose log hazards differ by d, the one with the higher has the event first with the probability
    1 / (1 + exp(-d)); the C-index is the mean of that over pairs, d being half-normal.

    References
    ----------
    Goenen and Heller, Biometrika 2005;92:965.
    """
    if not 0.5 < c < 0.97:
        raise ValueError(f"c is {c:g}; allowed: above 0.5 and below 0.97, what the predictors are expected to reach")
    return float(brentq(lambda spread: _concordance(spread) - c, 1e-6, 20))


def _concordance(spread: float) -> float:
    places, weights = np.polynomial.hermite_e.hermegauss(200)
    return float(expit(np.abs(places) * spread * np.sqrt(2)) @ weights / weights.sum())


def expected_r2(c: float, share: float) -> float:
    """Return the R2 of Cox and Snell that goes with a C-index.

    Parameters
    ----------
    c : float
        C-index that is expected in new patients.
    share : float
        Of patients with the event while followed.

    References
    ----------
    Riley and others, Stat Med 2019;38:1276, from Royston's R2 of D by way of O'Quigley's.
    """
    variance = spread_of_log_hazard(c) ** 2
    of_d = variance / (np.pi**2 / 6 + variance)
    of_events = (np.pi**2 / 6 * of_d) / (1 - (1 - np.pi**2 / 6) * of_d)
    return float(-np.expm1(share * np.log1p(-of_events)))


def largest_r2(share: float) -> float:
    """Return the largest possible R2 of Cox and Snell, from an exponential model without predictors."""
    return float(-np.expm1(2 * share * (np.log(share) - 1)))


def development_sizes(terms: int, r2: float, incidence: Incidence, landmark: float) -> pd.DataFrame:
    """Return what is needed to develop a model; all rows have to be met.

    Parameters
    ----------
    terms : int
        Coefficients looked at, those that a selection throws away included.
    r2 : float
        Cox and Snell's, expected in new patients; see `expected_r2`.
    incidence : Incidence
    landmark : float
        Months.

    Returns
    -------
    DataFrame
        ``criterion, patients, events, events_per_term``: coefficients shrunk by at most a tenth; R2 of Nagelkerke
        optimistic by at most .05; the mean risk at the landmark known within .05.

    References
    ----------
    Riley and others, Stat Med 2019;38:1276; BMJ 2020;368:m441.
    """
    if terms < 1:
        raise ValueError(f"terms is {terms}; allowed: 1 or more")
    if not 0 < r2 < largest_r2(incidence.share):
        raise ValueError(f"r2 is {r2:g}; allowed: above 0, below {largest_r2(incidence.share):.3f} with these events")
    shrinkage = {
        "coefficients shrunk by 10 % at most": 0.9,
        "R2 optimistic by .05 at most": r2 / (r2 + 0.05 * largest_r2(incidence.share)),
    }
    sizes = {name: terms / ((s - 1) * np.log1p(-r2 / s)) for name, s in shrinkage.items()}
    sizes["mean risk at the landmark within .05"] = _size_for_risk(incidence, landmark)
    return _table(sizes, incidence).assign(events_per_term=lambda rows: (rows["events"] / terms).round(1))


def _size_for_risk(incidence: Incidence, landmark: float, margin: float = 0.05) -> float:
    risk = incidence.by(landmark)
    limits = [limit for limit in (risk - margin, risk + margin) if 0 < limit < 1]
    away = min(abs(-np.log1p(-limit) / landmark - incidence.rate) for limit in limits)
    return incidence.rate**2 * (Z / away) ** 2 / incidence.share


def validation_sizes(c: float, incidence: Incidence, landmark: float) -> pd.DataFrame:
    """Return what is needed to validate a frozen model with useful intervals; each row serves one question.

    Parameters
    ----------
    c : float
        C-index that is expected.
    incidence : Incidence
    landmark : float
        Months.

    Returns
    -------
    DataFrame
        ``criterion, patients, events`` for intervals of O/E (.9 to 1.1), of C (.05 either way) and of the calibration
        slope (.2 either way). Censoring before the landmark asks for more.

    References
    ----------
    Riley and others, Stat Med 2022;41:1280, and 2021;40:4230 (standard errors of O/E and, after Newcombe, of C). The
    slope of a Cox model has about one over (events x variance of the log hazard) as its variance.
    """
    risk = incidence.by(landmark)
    sizes = {
        "O/E .9 to 1.1": (1 - risk) / (risk * SE_OBSERVED_EXPECTED**2),
        "C within .05": _size_for_c(c, risk),
        "slope within .2": 1 / (SE_SLOPE * spread_of_log_hazard(c)) ** 2 / incidence.share,
    }
    return _table(sizes, incidence)


def standard_error_of_c(c: float, share: float, patients: np.ndarray) -> np.ndarray:
    """Return Newcombe's standard error of a C-index (Stat Med 2006;25:559), given the share with the event."""
    half = patients / 2 - 1
    spread = c * (1 - c) * (1 + half * (1 - c) / (2 - c) + half * c / (1 + c))
    return np.sqrt(spread / (patients**2 * share * (1 - share)))


def _size_for_c(c: float, share: float) -> float:
    patients = np.unique(np.geomspace(10, LARGEST, 5000).astype(int))
    return float(patients[np.argmax(standard_error_of_c(c, share, patients) <= SE_C)])


def _table(sizes: dict[str, float], incidence: Incidence) -> pd.DataFrame:
    patients = [int(np.ceil(size - 1e-9)) for size in sizes.values()]
    events = [int(np.ceil(n * incidence.share - 1e-9)) for n in patients]
    return pd.DataFrame({"criterion": list(sizes), "patients": patients, "events": events})
