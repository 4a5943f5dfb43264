"""Radiomics side by side: this repository, pyradiomics and, where they can be imported, mirp and pictologics.

    python benchmarks/radiomics.py [--peers PYTHON] [--repeats 3] [--cases 1 2 3] [--engines ours plain]

Three synthetic tumours in a volume of 400 mm, original image, Laplacian of Gaussian of 3 and 5 mm, and wavelet. Each
engine runs in a fresh process on one thread; a small tumour beforehand loads and compiles what there is to compile.
Seconds are CPU seconds of the process (median over repeats), so they may be compared on a machine that has other
work too. mirp and pictologics may live in an environment of their own: `--peers` names its Python. Their features
follow other definitions, and their number differs: see the last column.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
from scipy import ndimage

FIELD_MM = 400
CASES = [(100, 2.0), (200, 2.0), (150, 1.0)]  # length of the tumour and edge of a voxel, mm
ENGINES = {
    "plain": "pyradiomics, whole volume",
    "cropped": "pyradiomics, cropped",
    "ours": "this repository",
    "mirp": "mirp, cropped",
    "pictologics": "pictologics, its default families",
    "pictologics_all": "pictologics, all families",
}
PEERS = ("mirp", "pictologics", "pictologics_all")
SIGMAS, WAVELET, BIN_WIDTH = (3.0, 5.0), "coif1", 25.0
Extraction = Callable[[np.ndarray, np.ndarray, float], int]


def draw_case(diameter_mm: float, spacing: float, field_mm: float = FIELD_MM) -> tuple[np.ndarray, np.ndarray]:
    """Draw a lobulated ellipsoid of smooth texture with fat pockets, noise and calcifications: HU and mask."""
    draw, n, r = np.random.default_rng(2026), round(field_mm / spacing), diameter_mm / 2
    axis = ((np.arange(n) - (n - 1) / 2) * spacing).astype(np.float32)
    x, y, z = axis[:, None, None], axis[:, None], axis
    radius = np.sqrt((x / r) ** 2 + (y / (0.8 * r)) ** 2 + (z / (0.7 * r)) ** 2)
    inside = radius < 1 + 0.06 * np.sin(4 * np.arctan2(y, x)) * np.cos(4 * z / r)

    def smooth(knots: int) -> np.ndarray:
        return ndimage.zoom(draw.normal(size=(knots,) * 3).astype(np.float32), n / knots, order=1)

    hu = -100 + inside * (140 + 45 * smooth(25)) + draw.normal(0, 12, inside.shape)
    hu[inside & (smooth(40) > 1.3)] -= 130
    hu[draw.random(inside.shape, np.float32) < 2e-4] = 600
    return np.rint(hu).astype(np.int16), inside.astype(np.uint8)


# ---------------------------------------------------------------- engines


def _ours(engine: str, crop: bool) -> Extraction:
    import SimpleITK as sitk

    from rps_utils.imaging.features import ExtractionSettings, make_extractor, pad_mm
    from rps_utils.imaging.volumes import Volume, box_around, to_itk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    settings = ExtractionSettings(log_sigma_mm=SIGMAS, wavelet=WAVELET, bin_width_hu=BIN_WIDTH, engine=engine)
    extractor = make_extractor(settings)
    extractor.settings["additionalInfo"] = not crop  # as pyradiomics does unless told otherwise

    def run(hu: np.ndarray, mask: np.ndarray, spacing: float) -> int:
        affine = np.diag([spacing, spacing, spacing, 1.0])
        pair = Volume(hu, affine), Volume(mask, affine)
        if crop:
            box = box_around(pair[0].grid, pair[1], pad_mm(settings, spacing))
            pair = pair[0].box(box), pair[1].box(box)
        found = extractor.execute(*(to_itk(volume) for volume in pair))
        return sum(not name.startswith("diagnostics") for name in found)

    return run


def _cut(hu: np.ndarray, mask: np.ndarray, spacing: float) -> tuple[np.ndarray, np.ndarray]:
    margin = round(8 * max(SIGMAS) / spacing)
    spans = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))[[0, -1]] for axis in range(3)]
    box = tuple(slice(max(0, low - margin), high + 1 + margin) for low, high in spans)
    return hu[box], mask[box]


def _mirp() -> Extraction:
    from mirp import extract_features

    def run(hu: np.ndarray, mask: np.ndarray, spacing: float) -> int:
        hu, mask = _cut(hu, mask, spacing)
        table = extract_features(
            image=hu.astype(np.float32),
            mask=mask,
            base_feature_families="all",
            base_discretisation_method="fixed_bin_size",
            base_discretisation_bin_width=BIN_WIDTH,
            response_map_feature_families=["statistics", "glcm", "glrlm", "glszm", "ngtdm", "ngldm"],
            response_map_discretisation_method="fixed_bin_number",
            response_map_discretisation_n_bins=32,
            filter_kernels=["laplacian_of_gaussian", "separable_wavelet"],
            laplacian_of_gaussian_sigma=list(SIGMAS),
            separable_wavelet_families=WAVELET,
            separable_wavelet_set="all",
            separable_wavelet_rotation_invariance=False,
            resegmentation_intensity_range=[-1000.0, 3000.0],
            new_spacing=None,
            image_modality="ct",
        )[0]
        return table.select_dtypes("number").shape[1]

    return run


def _pictologics(everything: bool) -> Extraction:
    from pictologics import RadiomicsPipeline
    from pictologics.loader import Image

    families = ["intensity", "morphology", "texture", "histogram", "ivh"]
    families += ["local_intensity", "spatial_intensity"] if everything else []
    filters: list[dict] = [{"type": "log", "sigma_mm": sigma} for sigma in SIGMAS]
    bands = [a + b + c for a in "LH" for b in "LH" for c in "LH"]
    filters += [{"type": "wavelet", "wavelet": WAVELET, "level": 1, "decomposition": band} for band in bands]
    pipeline = RadiomicsPipeline(load_standard=False)
    binning = {"method": "FBS", "bin_width": BIN_WIDTH, "min_val": -4000.0}
    for n, filtered in enumerate([None, *filters]):
        steps = [{"step": "filter", "params": filtered}] if filtered else []
        steps += [
            {"step": "discretise", "params": binning},
            {"step": "extract_features", "params": {"families": families}},
        ]
        pipeline.add_config(str(n), steps)

    def run(hu: np.ndarray, mask: np.ndarray, spacing: float) -> int:
        grid = {"spacing": (spacing,) * 3, "origin": (0.0, 0.0, 0.0)}
        image = Image(array=hu.astype(np.float32), **grid), Image(array=mask, **grid)
        names = [str(n) for n in range(1 + len(filters))]
        found = pipeline.run(image=image[0], mask=image[1], subject_id="case", config_names=names)
        values = np.concatenate([np.asarray(series, float) for series in found.values()])
        return int(np.isfinite(values).sum())

    return run


def make_engine(name: str) -> Extraction:
    """Return a function of HU, mask and spacing that computes all features and returns how many."""
    if name == "mirp":
        return _mirp()
    if name.startswith("pictologics"):
        return _pictologics(everything=name.endswith("_all"))
    return _ours("fast" if name == "ours" else "plain", crop=name != "plain")


# ---------------------------------------------------------------- measuring


def measure(engine: str, case: Path, repeats: int) -> dict:
    """Measure one engine on one stored case in this process."""
    started = time.process_time()
    run = make_engine(engine)
    run(*draw_case(24, 3.0, field_mm=72), 3.0)
    ready = time.process_time() - started
    with np.load(case) as stored:
        hu, mask, spacing = stored["hu"], stored["mask"], float(stored["spacing"])
    seconds = []
    for _ in range(repeats):
        started = time.process_time()
        features = run(hu, mask, spacing)
        seconds.append(time.process_time() - started)
    return {"cpu_s": median(seconds), "peak_mib": peak_mib(), "features": features, "import_and_compile_s": ready}


def peak_mib() -> float:
    """Return the largest memory of this process so far."""
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage would count what the parent held when it forked
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)


def measure_apart(python: str, engine: str, case: Path, repeats: int) -> dict | None:
    """Measure in a fresh process on one thread; None where the engine cannot be imported.

    -P keeps this folder off the path: the name of this file is that of pyradiomics' module.
    """
    single = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "NUMBA")}
    command = [python, "-P", __file__, "--measure", engine, str(case), "--repeats", str(repeats)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | single)
    if done.returncode:
        print(f"  {engine}: {done.stderr.strip().splitlines()[-1]}")
        return None
    return json.loads(done.stdout.splitlines()[-1])


def machine() -> dict:
    """Name the machine by what it is, not by whose it is."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    names = [line.split(":")[1].strip() for line in text.splitlines() if line.startswith("model name")]
    cpu = names[0] if names else platform.processor()
    return {"cpu": cpu, "cores": os.cpu_count(), "system": platform.system(), "python": platform.python_version()}


def compare(diameter_mm: float, spacing: float, engines: list[str], peers: str, repeats: int) -> list[dict]:
    """Measure engines on one tumour and print a line each, with the ratio to the first of them."""
    print(f"tumour of {diameter_mm / 10:g} cm, voxels of {spacing:g} mm", flush=True)
    rows: list[dict] = []
    with tempfile.TemporaryDirectory() as folder:
        case = Path(folder) / "case.npz"
        hu, mask = draw_case(diameter_mm, spacing)
        np.savez(case, hu=hu, mask=mask, spacing=spacing)
        for engine in engines:
            found = measure_apart(peers if engine in PEERS else sys.executable, engine, case, repeats)
            if found:
                rows.append({"diameter_mm": diameter_mm, "spacing_mm": spacing, "engine": engine} | found)
                against = rows[0]["cpu_s"] / found["cpu_s"]
                print(
                    f"  {ENGINES[engine]:<34}{found['cpu_s']:8.2f} s {against:6.1f}x {found['peak_mib']:7.0f} MiB"
                    f" {found['features']:5d} features",
                    flush=True,
                )
    return rows


def main() -> None:
    """Compare all engines on all cases, print the table and keep it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default=sys.executable, help="a Python that has mirp and pictologics")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cases", type=int, nargs="+", default=[1, 2, 3], help="which of the three tumours")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--measure", nargs=2, metavar=("ENGINE", "CASE"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        print(json.dumps(measure(asked.measure[0], Path(asked.measure[1]), asked.repeats)))
        return
    rows = [row for n in asked.cases for row in compare(*CASES[n - 1], asked.engines, asked.peers, asked.repeats)]
    asked.out.write_text(json.dumps({"machine": machine(), "repeats": asked.repeats, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
