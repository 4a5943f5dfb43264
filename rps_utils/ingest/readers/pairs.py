"""A folder of images and masks, one of each a patient: which file belongs to whom, by its name and its folders."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from rps_utils.cohort.contract import Fault
from rps_utils.imaging.formats.images import SLICER, SUFFIXES
from rps_utils.texts.counts import how_many

MASK_WORDS = frozenset(
    ("mask", "masks", "seg", "segmentation", "label", "labels", "labelmap", "roi", "gtv", "tumour", "tumor", "lesion")
)
IMAGE_WORDS = frozenset(("ct", "image", "img", "scan", "volume", "portal", "venous", "arterial"))
_ALLOWED = "one image and one mask for each patient"


class Pair(NamedTuple):
    """The files of one patient: `image` and `mask`, relative to the folder (empty where there is none), or `faults`."""

    image: str
    mask: str
    faults: list[Fault]


def is_image_file(path: Path) -> bool:
    """Tell whether a name is that of an image file other than DICOM."""
    return path.name.lower().endswith(SUFFIXES)


def match_files(files: Sequence[str], patient_ids: Iterable[str]) -> tuple[dict[str, Pair], list[str]]:
    """Match image files to patients.

    Parameters
    ----------
    files : sequence of str
        Paths relative to the folder, with forward slashes.
    patient_ids : iterable of str
        An id counts where it stands in a file's name or in the name of one of its folders, not inside a longer word
        or number. Of ``P1`` and ``P1-2`` the longer one wins; the file's name wins over its folders.

    Returns
    -------
    pairs : dict of str to Pair
        For each patient with a file.
    unmatched : list of str
        Files that belong to no patient, or to two.
    """
    ids = sorted(set(patient_ids), key=len, reverse=True)
    owned: dict[str, list[str]] = {}
    unmatched = []
    for file in sorted(files):
        owner = _owner(file, ids)
        if owner:
            owned.setdefault(owner, []).append(file)
        else:
            unmatched.append(file)
    return {patient: _pair(own) for patient, own in owned.items()}, unmatched


def _owner(file: str, ids: Sequence[str]) -> str:
    """Return the one patient that the name points to; the nearest part of the path that names anybody decides."""
    for part in reversed(PurePosixPath(file).parts):
        named = [i for i in ids if re.search(rf"(?<![A-Za-z0-9]){re.escape(i)}(?![A-Za-z0-9])", part)]
        longest = [i for i in named if not any(i != other and i in other for other in named)]
        if longest:
            return longest[0] if len(longest) == 1 else ""
    return ""


def _pair(files: list[str]) -> Pair:
    masks = [file for file in files if _is_mask(file)]
    images = [file for file in files if file not in masks]
    found = f"{how_many(len(images), 'image')} and {how_many(len(masks), 'mask')} by their names"
    if len(images) > 1 or len(masks) > 1:
        remedy = "put mask or seg into the mask's name; name the files in the columns image and mask of the table"
        return Pair("", "", [Fault("image files", found, _ALLOWED, remedy)])
    return Pair("".join(images), "".join(masks), [])


def _is_mask(file: str) -> bool:
    """Tell whether a file says in its own name that it is a mask, or lies in a folder of masks."""
    *folders, name = PurePosixPath(file).parts
    words = set(re.findall("[a-z]+", name.lower()))
    if words & MASK_WORDS or name.lower().endswith(SLICER):
        return True
    return not words & IMAGE_WORDS and any(set(re.findall("[a-z]+", f.lower())) & MASK_WORDS for f in folders)


def shown_name(file: str) -> str:
    """Return a file's name with every word left out that is not known: names of files may hold names of persons."""
    name = PurePosixPath(file).name
    end = next((s for s in (SLICER, *sorted(SUFFIXES, key=len, reverse=True)) if name.lower().endswith(s)), "")
    words = re.split(r"[^A-Za-z0-9]+", name[: len(name) - len(end)])
    return "_".join(w if w.lower() in MASK_WORDS | IMAGE_WORDS else "…" for w in words if w) + end
