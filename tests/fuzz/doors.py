"""The doors where strangers' bytes come in: a sound example of each, and what reads it.

A door may refuse in the project's own words (`ValueError` and its kinds, raised by this package) and in no other way,
within `SECONDS` of processor time and `MIB` of further memory.
"""

from __future__ import annotations

import json
import resource
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import pandas as pd

from rps_utils.cli.errors import _is_said_by_the_package
from rps_utils.cohort.manifest import check_manifest
from rps_utils.cohort.scans import header_faults, voxel_check
from rps_utils.files import read_csv
from rps_utils.imaging.patches import PatchSettings, read_patches, write_patches
from rps_utils.ingest.clinical_table import Mapping, read_clinical, read_mapping
from rps_utils.ingest.export import ingest
from rps_utils.lab.faults.manifest import clinical_rows, small_scan, write_small_manifest
from rps_utils.lab.phantom.dicom import write_dicom_patient
from rps_utils.schema import read_run_json
from rps_utils.scores import read_scores

SECONDS, MIB = 10.0, 700


class Door(NamedTuple):
    """A file that a stranger may send.

    Attributes
    ----------
    files : dict of str to bytes
        What lies around it, sound.
    target : str
        The file whose bytes are changed.
    read : callable
        Reads it, given the folder.
    """

    files: dict[str, bytes]
    target: str
    read: Callable[[Path], object]


def _as_bytes(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@cache
def hospital() -> dict[str, bytes]:
    """Return one patient of 20 slices with SEG, one with RTSTRUCT, their table and a mapping."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for number, kind in enumerate(("seg", "rtstruct"), 1):
            ct, mask = small_scan(number)
            box = (slice(4, 24), slice(2, 22), slice(4, 24))
            write_dicom_patient(ct.box(box), mask.box(box), f"P{number}", folder, kind)
        clinical_rows().head(2).to_csv(folder / "clinical.csv", index=False)
        (folder / "map.yml").write_text("columns: {patient_id: patient_id, time_months: time_months, event: event}\n")
        with pd.ExcelWriter(folder / "clinical.xlsx") as book:
            clinical_rows().head(2).to_excel(book, index=False)
        return _as_bytes(folder)


@cache
def cohort() -> dict[str, bytes]:
    """Return a small manifest and its images."""
    with tempfile.TemporaryDirectory() as place:
        write_small_manifest(Path(place))
        for path in Path(place).glob("P[3-6]*"):
            path.unlink()
        table = read_csv(Path(place) / "data_manifest.csv").head(2)
        table.to_csv(Path(place) / "data_manifest.csv", index=False)
        return _as_bytes(Path(place))


@cache
def plain_nifti() -> dict[str, bytes]:
    """Return an image that is not compressed, so that changed bytes reach header and voxels."""
    with tempfile.TemporaryDirectory() as place:
        values = np.arange(8 * 8 * 8, dtype=np.int16).reshape(8, 8, 8)
        nib.save(nib.Nifti1Image(values, np.eye(4)), Path(place) / "ct.nii")
        return _as_bytes(Path(place))


@cache
def score_table() -> dict[str, bytes]:
    """Return a score table of two models."""
    rows = [
        {
            "patient_id": f"P{i}",
            "split": split,
            "time_months": 5.5 + i,
            "event": i % 2,
            "model": model,
            "kind": kind,
            "risk": i,
        }
        for i in range(6)
        for model in ("A", "B")
        for split, kind in [("training", "cross_fitted") if i < 3 else ("validation", "validation")]
    ]
    return {"scores.csv": pd.DataFrame(rows).assign(lrfs_12=0.5).to_csv(index=False).encode()}


TERMS = {"terms": ["age", "grade_G2"], "coefficients": [0.5, 1.5], "centre": [56.0, 0.25]}
DL_CARD = {
    "settings": {
        "network": "plain",
        "network_options": {"widths": [4]},
        "augmentation": {"orientations": "all", "shift_voxels": 2, "contrast": 0.1, "brightness": 0.0, "noise": 0.0},
    },
    "patch_shape": [4, 32, 32, 32],
    "training_ids_sha256": "0" * 64,
}
RUN_JSON = {
    "models/clinical_cox.json": {**TERMS, "times": [1.5, 3.0], "cumulative_hazard": [0.1, 0.3]},
    "models/clinical_design.json": {
        "medians": {"age": 56.0},
        "levels": {"grade": ["G2"]},
        "modes": {"grade": "G1"},
        "seen": {"grade": ["G1", "G2"]},
    },
    "models/rad_all.json": {
        **{"features": ["original_a", "log_b"], "means": [0.5, 2.0], "sds": [1.0, 3.0]},
        **{"coefficients": [1.5, -0.5], "penalty": 0.1},
    },
    "models/DL_ensembles.json": {
        "ensembles": [{"left_out": [1], "networks": {"DL_a.safetensors": [0.1, 2.0]}, "scale": [0.0, 1.0]}]
    },
    "models/DL_a.json": DL_CARD,
    "ledger/DL.json": [{"name": "DL_a", "kind": "network", "saw": ["P1"], "made_from": {"scale": ["DL_b"]}}],
    "run.json": {"parameters": {"01_ingest": {"seed": 2026}}, "files": {"models/DL_a.json": "0" * 64}},
}


def run_json() -> dict[str, bytes]:
    """Return JSON files of a run folder, one of each kind that others are made like."""
    return {name: json.dumps(content).encode() for name, content in RUN_JSON.items()}


@cache
def other_images() -> dict[str, bytes]:
    """Return an image as NRRD and as MetaImage, in plain text and bytes."""
    voxels = np.arange(6 * 6 * 6, dtype="<i2").tobytes()
    nrrd = (
        "NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 6 6 6\n"
        "space directions: (1,0,0) (0,1,0) (0,0,2)\nkinds: domain domain domain\nendian: little\n"
        "encoding: raw\nspace origin: (0,0,0)\n\n"
    )
    meta = (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
        "CompressedData = False\nTransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 0 0 0\nElementSpacing = 1 1 2\n"
        "DimSize = 6 6 6\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    )
    return {"ct.nrrd": nrrd.encode() + voxels, "ct.mha": meta.encode() + voxels}


def _ingest(folder: Path) -> object:
    return ingest(folder, folder / "clinical.csv", folder / "out", progress=lambda line: None)


def _image(name: str) -> Callable[[Path], object]:
    def read(folder: Path) -> object:
        image, faults = header_faults(folder / name, "image")
        return faults if image is None else voxel_check({"image": folder / name}, {})

    return read


@cache
def patches() -> dict[str, bytes]:
    """Return the patches of two patients, and a network."""
    from rps_utils.deep.checkpoints import write_checkpoint
    from rps_utils.deep.networks import build_network

    with tempfile.TemporaryDirectory() as place:
        settings = PatchSettings(size=16)
        cells = np.zeros((2, len(settings.channels), 16, 16, 16), np.float16)
        write_patches(["P1", "P2"], cells, settings, Path(place) / "patches.npz")
        card = {**DL_CARD, "patch_shape": list(cells.shape[1:])}
        write_checkpoint(
            build_network("plain", len(settings.channels), 16, widths=[4]), card, Path(place) / "DL_a.safetensors"
        )
        return _as_bytes(Path(place))


def _network(folder: Path) -> object:
    from rps_utils.deep.checkpoints import read_network

    return read_network(folder / "DL_a.safetensors")


def _run_file(name: str) -> Door:
    return Door(run_json(), name, lambda folder: read_run_json(folder, name))


DOORS: dict[str, Callable[[], Door]] = {
    "ct-slice": lambda: Door(hospital(), "P1/CT/0007.dcm", _ingest),
    "seg": lambda: Door(hospital(), "P1/seg.dcm", _ingest),
    "rtstruct": lambda: Door(hospital(), "P2/rtstruct.dcm", _ingest),
    "nifti": lambda: Door(plain_nifti(), "ct.nii", _image("ct.nii")),
    "nifti-gz": lambda: Door(cohort(), "P1_ct.nii.gz", _image("P1_ct.nii.gz")),
    "manifest": lambda: Door(cohort(), "data_manifest.csv", lambda f: check_manifest(f / "data_manifest.csv")),
    "scores": lambda: Door(score_table(), "scores.csv", lambda f: read_scores(f / "scores.csv")),
    "mapping": lambda: Door(hospital(), "map.yml", lambda f: read_mapping(f / "map.yml")),
    "table-csv": lambda: Door(hospital(), "clinical.csv", lambda f: read_clinical(f / "clinical.csv", Mapping())),
    "table-xlsx": lambda: Door(hospital(), "clinical.xlsx", lambda f: read_clinical(f / "clinical.xlsx", Mapping())),
    "nrrd": lambda: Door(other_images(), "ct.nrrd", _image("ct.nrrd")),
    "metaimage": lambda: Door(other_images(), "ct.mha", _image("ct.mha")),
    "patches": lambda: Door(patches(), "patches.npz", lambda f: read_patches(f / "patches.npz", ["P1", "P2"])),
    "network": lambda: Door(patches(), "DL_a.safetensors", _network),
    "json-cox": lambda: _run_file("models/clinical_cox.json"),
    "json-design": lambda: _run_file("models/clinical_design.json"),
    "json-radiomic": lambda: _run_file("models/rad_all.json"),
    "json-ensembles": lambda: _run_file("models/DL_ensembles.json"),
    "json-card": lambda: _run_file("models/DL_a.json"),
    "json-ledger": lambda: _run_file("ledger/DL.json"),
    "json-record": lambda: _run_file("run.json"),
}


def knock(name: str, content: bytes) -> None:
    """Bring changed bytes to a door; AssertionError where it does anything but read or refuse within its bounds."""
    door = DOORS[name]()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as place:
        folder = Path(place)
        for path, sound in door.files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content if path == door.target else sound)
        before, started = _peak_mib(), time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                door.read(folder)
            except (ValueError, FileNotFoundError) as refusal:
                assert _is_said_by_the_package(refusal), f"{name}: {type(refusal).__name__} of a library"
            except Exception as error:
                raise AssertionError(f"{name}: {type(error).__name__}") from error
        seconds, mib = time.process_time() - started, _peak_mib() - before
        assert seconds < SECONDS, f"{name}: {seconds:.1f} s"
        assert mib < MIB, f"{name}: {mib} MiB"
        shutil.rmtree(folder / "out", ignore_errors=True)


def _peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def sound_bytes(name: str) -> bytes:
    """Return the sound file of a door."""
    door = DOORS[name]()
    return door.files[door.target]
