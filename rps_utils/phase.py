"""Contrast phase, as far as the great vessels tell it.

Headers seldom say when after the injection a scan was made. Where aorta or inferior vena cava are drawn, their blood
does, roughly: without contrast it has about 30 to 70 HU (litfl.com, clotted blood included); in the portal venous phase
aorta and vena cava have about 150 and 130 HU (both with an SD of 20 between patients, to which the offset of a scan and
the timing add; assumed, as in the phantom); early after the injection the aorta is bright and the vena cava below the
kidneys is not yet. Between these lie scans about which nothing is said.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

UNKNOWN = "unknown"
NO_CONTRAST_HU = 75.0  # above blood, below any enhanced vessel
PORTAL_AORTA_HU = (100.0, 220.0)  # 150, 3.5 SD to the bright side
MIXED = 0.6  # vena cava over aorta: 0.87 in the portal venous phase, below one half before blood returns from the legs
VESSELS = {
    "aorta": re.compile(r"((abdominal|infrarenal|thoracic|descending) )?aorta( abdominalis)?", re.IGNORECASE),
    "IVC": re.compile(r"ivc|((infrarenal|infrahepatic) )?inferior vena cava|vena cava( inferior)?", re.IGNORECASE),
}


def vessel_of(structure: str) -> str:
    """Return ``aorta`` or ``IVC`` for the name of a structure; empty for any other, ``tumour of the IVC`` included."""
    words = " ".join(re.split(r"[\s_-]+", structure.strip()))
    return next((vessel for vessel, pattern in VESSELS.items() if pattern.fullmatch(words)), "")


def plausible_phase(median_hu: Mapping[str, float]) -> str:
    """Return the phase that fits the vessels.

    Parameters
    ----------
    median_hu : mapping
        ``aorta`` and ``IVC`` to their median HU, as far as they are drawn.

    Returns
    -------
    str
        ``non-contrast``, ``arterial``, ``portal venous`` or ``unknown``. Plausible, not proven: a late or weak
        injection can look like another phase.
    """
    if median_hu and max(median_hu.values()) < NO_CONTRAST_HU:
        return "non-contrast"
    if len(median_hu) < len(VESSELS) or median_hu["aorta"] < PORTAL_AORTA_HU[0]:
        return UNKNOWN
    if median_hu["IVC"] < MIXED * median_hu["aorta"]:
        return "arterial"
    return "portal venous" if median_hu["aorta"] <= PORTAL_AORTA_HU[1] else UNKNOWN
