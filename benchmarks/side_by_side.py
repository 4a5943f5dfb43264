"""Our way beside what it could have been built from, in one run: `make bench`.

    python -m benchmarks.side_by_side [--peers PYTHON] [--repeats 5] [--only KEY ...]

Each side of a comparison works in a fresh process on one thread and is warmed up once. Seconds are CPU seconds of
the process, medians over repeats, so other work on the machine matters little; memory is the peak of the process.
A ratio is the time of the other divided by ours. Where both sides compute the same numbers, they are held to each
other.
What is measured, with the machine, goes to benchmarks/results/, and the table to the terminal.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks import radiomics

RESULTS = Path(__file__).with_name("results")
PATIENTS, REPLICATES, TAU = 115, 2000, 60.0
LEAST_S, LONG_S = 0.2, 10.0  # what is shorter is measured several times over, what is longer is warmed up once
Work = Callable[[], Any]


@dataclass(frozen=True)
class Comparison:
    """One row: what is done, by us and by others, the least ratio wanted, and how close the numbers have to be."""

    what: str
    goal: float
    ours: Callable[[], Work]
    others: dict[str, Callable[[], Work]]
    closeness: float | None = None


# ---------------------------------------------------------------- networks


def _patients(count: int) -> tuple[Any, Any, Any]:
    """Draw patches, months and events."""
    import torch

    from rps_utils.imaging.patches import CHANNELS, PatchSettings

    torch.set_num_threads(1)
    draw, size = torch.Generator().manual_seed(2026), PatchSettings().size
    patches = torch.rand((count, len(CHANNELS), size, size, size), generator=draw)
    return patches, 1 + 100 * torch.rand(count, generator=draw), torch.arange(count) % 2


def _training(network: str, count: int = 86) -> Work:
    from rps_utils.deep.training import Training, TrainingSettings

    patients = _patients(count)
    Training(*patients, TrainingSettings(network=network, epochs=1)).finish()  # what is imported and compiled once
    return Training(*patients, TrainingSettings(network=network, epochs=1000)).train_epoch


def _bare(network: str) -> Work:
    import torch

    from rps_utils.deep.networks import build_network

    patches, *_ = _patients(86)
    bare = build_network(network, *patches.shape[1:3]).train()
    optimizer = torch.optim.AdamW(bare.parameters(), 1e-3)

    def epoch() -> None:
        for batch in torch.randperm(86).tensor_split(5):
            loss = bare(patches[batch]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return epoch


def _augmentation() -> Work:
    import torch

    from rps_utils.deep.augmentation import Augmentation, augment

    patches, *_ = _patients(16)
    return lambda: augment(patches, torch.Generator().manual_seed(1), Augmentation(), (0, 3))


def _monai_augmentation() -> Work:
    import torch
    from monai.transforms import BorderPad, Compose, RandScaleIntensity, RandShiftIntensity, RandSpatialCrop

    patches, *_ = _patients(16)
    size = patches.shape[2:]
    shift = Compose([BorderPad(1, mode="replicate"), RandSpatialCrop(size, random_size=False)])
    contrast = Compose([RandScaleIntensity(0.05, prob=1.0), RandShiftIntensity(0.02, prob=1.0)])

    def batch() -> Any:
        moved = torch.stack([shift(patch) for patch in patches])
        moved[:, [0, 3]] = torch.stack([contrast(patch) for patch in moved[:, [0, 3]]])
        return None

    return batch


def _monai_affine() -> Work:
    import torch
    from monai.transforms import RandAffine

    patches, *_ = _patients(16)
    affine = RandAffine(prob=1.0, rotate_range=(0.26,) * 3, translate_range=(1,) * 3, padding_mode="border")
    return lambda: torch.stack([affine(patch) for patch in patches]) is None


# ---------------------------------------------------------------- intervals


def _scores(count: int = PATIENTS) -> tuple[np.ndarray, ...]:
    """Draw months, events and risks of patients."""
    draw = np.random.default_rng(2026)
    risk = draw.normal(size=count)
    recurs, leaves = draw.exponential(60 * np.exp(-risk)), draw.exponential(90, count)
    return np.minimum(recurs, leaves) + 0.5, recurs <= leaves, risk


def _samples(count: int = PATIENTS, replicates: int = REPLICATES) -> np.ndarray:
    from rps_utils.intervals.resampling import resample_counts

    return resample_counts(count, replicates=replicates)


def _replicates(metric: str, count: int = PATIENTS, *options: float) -> Work:
    from rps_utils.intervals.resampling import replicate
    from rps_utils.survival import concordance, roc

    found = {"harrell": concordance.harrell_c, "uno": concordance.uno_c, "auc": roc.td_auc}[metric]
    return lambda: replicate(found, _samples(count), *_scores(count), *options)


def _loop(of_rows: Callable[[np.ndarray, np.ndarray, np.ndarray], float]) -> Work:
    scores, samples = _scores(), _samples()

    def loop() -> np.ndarray:
        rows = [np.repeat(np.arange(PATIENTS), sample) for sample in samples]
        return np.array([of_rows(*(column[drawn] for column in scores)) for drawn in rows])

    return loop


def _lifelines() -> Work:
    from lifelines.utils import concordance_index

    return _loop(lambda time, event, risk: concordance_index(time, -risk, event))


def _sksurv(metric: str) -> Work:
    from sksurv.metrics import concordance_index_censored, concordance_index_ipcw, cumulative_dynamic_auc
    from sksurv.util import Surv

    def one(time: np.ndarray, event: np.ndarray, risk: np.ndarray) -> float:
        if metric == "harrell":
            return concordance_index_censored(event, time, risk)[0]
        outcome = Surv.from_arrays(event, time)
        if metric == "uno":
            return concordance_index_ipcw(outcome, outcome, risk, tau=TAU)[0]
        return cumulative_dynamic_auc(outcome, outcome, risk, [TAU])[0][0]

    return _loop(one)


# ---------------------------------------------------------------- images


def _scan(folder: Path) -> dict[str, str]:
    """Write a CT of 512 x 512 x 130 voxels with a tumour of 15 cm."""
    import nibabel as nib

    draw, shape, affine = np.random.default_rng(2026), (512, 512, 130), np.diag([0.8, 0.8, 3.0, 1.0])
    places = [(np.arange(n) - n / 2) * step for n, step in zip(shape, np.diag(affine), strict=False)]
    radius = sum(
        np.square(place).reshape([-1 if a == axis else 1 for a in range(3)]) for axis, place in enumerate(places)
    )
    hu = np.where(radius < 200**2, 40, -1000) + draw.normal(0, 12, shape)
    written = {}
    for name, values in {"image": np.rint(hu).astype(np.int16), "mask": (radius < 75**2).astype(np.uint8)}.items():
        written[name] = str(folder / f"{name}.nii.gz")
        nib.save(nib.Nifti1Image(values, affine), written[name])
    return written


def _ingest() -> Work:
    from rps_utils.imaging.crops import prepare_patient

    folder = Path(tempfile.mkdtemp())
    scan = _scan(folder)
    return lambda: prepare_patient("one", **scan, crops=folder, spacing=2.0, margin_mm=40.0) is None


def _monai_ingest() -> Work:
    from monai import transforms

    folder = Path(tempfile.mkdtemp())
    scan, keys = _scan(folder), ["image", "mask"]
    steps = [
        transforms.LoadImaged(keys, ensure_channel_first=True),
        transforms.Spacingd(keys, (2.0,) * 3, mode=("bilinear", "nearest")),
        transforms.CropForegroundd(keys, "mask", margin=20),
        transforms.SaveImaged(["image", "mask"], output_dir=str(folder), print_log=False),
    ]
    chain = transforms.Compose(steps)
    return lambda: chain(scan) is None


# ---------------------------------------------------------------- the chain

EMPTY = 3  # notebooks


def _notebooks() -> Path:
    """Write notebooks that compute nothing and leave one file each."""
    folder = Path(tempfile.mkdtemp())
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cell = {"cell_type": "code", "outputs": [], "execution_count": None}
    for n in range(EMPTY):
        cells = [
            {**cell, "id": "a", "metadata": {"tags": ["parameters"]}, "source": "run_dir = '.'"},
            {**cell, "id": "b", "metadata": {}, "source": f"open(run_dir + '/{n}.txt', 'w').close()"},
        ]
        about = {"kernelspec": kernel, "rps": {"reads": [], "writes": [f"{n}.txt"]}}
        book = {"cells": cells, "metadata": about, "nbformat": 4, "nbformat_minor": 5}
        (folder / f"{n:02d}_empty.ipynb").write_text(json.dumps(book))
    return folder


def _chain(unchanged: bool = False) -> Work:
    from rps_utils.machine.engines import Engine
    from rps_utils.runs import chain
    from rps_utils.runs.parameters import choose_parameters
    from rps_utils.steps import read_steps

    chain.closing_steps = lambda steps: []  # type: ignore[assignment]
    steps, kept = read_steps(_notebooks()), Path(tempfile.mkdtemp())

    def run() -> None:
        folder = kept if unchanged else Path(tempfile.mkdtemp())
        chain.run_chain(folder / "run", steps, choose_parameters(steps, "paper", {}), Engine(1))

    return run


def _papermill() -> Work:
    folder = _notebooks()

    def run() -> None:
        for book in sorted(folder.glob("*_empty.ipynb")):
            command = [sys.executable, "-m", "papermill", "--no-progress-bar", str(book), str(folder / "out.ipynb")]
            subprocess.run([*command, "-p", "run_dir", str(folder)], check=True, capture_output=True)

    return run


# ---------------------------------------------------------------- what is compared

NETWORKS = {"region": "the default network", "plain": "a plain 3-D network"}
COMPARISONS = {
    **{
        f"training_{name}": Comparison(
            f"one epoch of training, 86 patients, {said}",
            1 / 1.15,
            lambda name=name: _training(name),
            {"bare forward, backward, step": lambda name=name: _bare(name)},
        )
        for name, said in NETWORKS.items()
    },
    "augmentation": Comparison(
        "augmentation of 16 patches: shift, contrast, brightness",
        1,
        _augmentation,
        {"the same by MONAI's transforms": _monai_augmentation, "MONAI's RandAffine": _monai_affine},
    ),
    "harrell": Comparison(
        f"Harrell's C, {PATIENTS} patients, {REPLICATES} resamples",
        100,
        lambda: _replicates("harrell"),
        {"lifelines, loop": _lifelines, "scikit-survival, loop": lambda: _sksurv("harrell")},
        1e-12,
    ),
    "uno": Comparison(
        f"Uno's C, {PATIENTS} patients, {REPLICATES} resamples",
        100,
        lambda: _replicates("uno", PATIENTS, TAU),
        {"scikit-survival, loop": lambda: _sksurv("uno")},
    ),
    "auc": Comparison(
        f"AUC at {TAU:g} months, {PATIENTS} patients, {REPLICATES} resamples",
        100,
        lambda: _replicates("auc", PATIENTS, TAU),
        {"scikit-survival, loop": lambda: _sksurv("auc")},
    ),
    "ingest": Comparison(
        "one CT of 512 x 512 x 130 to its stored crop, with what it shows",
        1,
        _ingest,
        {"MONAI: load, respace, crop, save": _monai_ingest},
    ),
    "chain": Comparison(
        f"a chain of {EMPTY} empty notebooks",
        1,
        _chain,
        {"papermill's command, one by one": _papermill},
    ),
    "unchanged": Comparison(
        "asking that chain again, nothing changed, the program loaded",
        10,
        lambda: _chain(unchanged=True),
        {"papermill's command, one by one": _papermill},
    ),
}
GROWTH = {
    "Harrell's C, 2,000 resamples": (lambda n: _replicates("harrell", n), (115, 500, 2000)),
    "Uno's C, 2,000 resamples": (lambda n: _replicates("uno", n, TAU), (115, 500, 2000)),
    "AUC at 60 months, 2,000 resamples": (lambda n: _replicates("auc", n, TAU), (115, 500, 2000)),
    "one epoch of training": (lambda n: _training("region", n), (86, 375, 1500)),
}


# ---------------------------------------------------------------- measuring


def _cpu_s() -> float:
    """Return the CPU seconds of this process and of all that it started and waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def measure(work: Work, repeats: int) -> dict[str, Any]:
    """Warm up, then measure in this process, what is short many times over; of numbers that came out, keep the last."""
    begin = _cpu_s()
    found = work()
    if _cpu_s() - begin < LONG_S:  # it may have compiled or imported something
        begin = _cpu_s()
        found = work()
    times, seconds = max(1, round(LEAST_S / (_cpu_s() - begin))), []
    for _ in range(repeats):
        begin = _cpu_s()
        for _ in range(times):
            work()
        seconds.append((_cpu_s() - begin) / times)
    values = found.tolist() if isinstance(found, np.ndarray) else None
    return {"cpu_s": median(seconds), "peak_mib": round(radiomics.peak_mib()), "values": values}


def apart(*asked: str, repeats: int) -> dict[str, Any]:
    """Measure one side in a fresh process on one thread."""
    single = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "NUMBA")}
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.side_by_side", "--measure", *asked]
    command += ["--repeats", str(repeats)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | single, check=False)
    if done.returncode:
        raise RuntimeError(f"{asked}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(key: str, repeats: int) -> list[dict[str, Any]]:
    """Measure all sides of a comparison; refuse numbers that differ."""
    row, rows = COMPARISONS[key], []
    ours = apart(key, "", repeats=repeats)
    for name in row.others:
        theirs = apart(key, name, repeats=repeats)
        if row.closeness and not np.allclose(ours["values"], theirs["values"], rtol=0, atol=row.closeness):
            raise RuntimeError(f"{row.what}: {name} computes other numbers")
        rows.append(_row(row.what, name, ours, theirs, row.goal))
    return rows


def _row(what: str, other: str, ours: dict[str, Any], theirs: dict[str, Any], goal: float) -> dict[str, Any]:
    ratio = theirs["cpu_s"] / ours["cpu_s"] if ours["cpu_s"] else float("inf")
    sides = {
        f"{who}_{name}": round(side[name], 5) for who, side in (("our", ours), ("their", theirs)) for name in SHOWN
    }
    return {"what": what, "other": other, **sides, "ratio": round(ratio, 2), "goal": round(goal, 2)}


SHOWN = ("cpu_s", "peak_mib")


def compare_radiomics(case: int, peers: str, repeats: int) -> list[dict[str, Any]]:
    """Measure all features of one tumour by all engines that can be imported."""
    diameter, spacing = radiomics.CASES[case - 1]
    rows = radiomics.compare(diameter, spacing, ["plain", "ours", "cropped"], peers, repeats)
    rows += radiomics.compare(diameter, spacing, ["mirp", "pictologics"], peers, 1) if peers else []
    found = {row["engine"]: row for row in rows}
    what = f"all features, tumour of {diameter / 10:g} cm, voxels of {spacing:g} mm"
    goals = {"plain": 10.0, "cropped": 5.0}
    others = [name for name in found if name != "ours"]
    return [_row(what, radiomics.ENGINES[o], found["ours"], found[o], goals.get(o, 2.0)) for o in others]


def grow(repeats: int) -> list[dict[str, Any]]:
    """Measure what depends on the number of patients at three sizes."""
    rows = []
    for what, (_, sizes) in GROWTH.items():
        for n in sizes:
            found = apart(what, str(n), repeats=repeats)
            rows.append({"what": what, "patients": n, "cpu_s": found["cpu_s"], "peak_mib": found["peak_mib"]})
            print(f"  {what}, {n} patients: {found['cpu_s']:.3f} s, {found['peak_mib']} MiB", flush=True)
    return rows


def table(record: dict[str, Any]) -> str:
    """Return what was measured as tables of Markdown."""
    lines = ["| what | beside | ours, s (MiB) | theirs, s (MiB) | ratio | goal |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {r['what']} | {r['other']} | {r['our_cpu_s']:.3g} ({r['our_peak_mib']:.0f}) "
        f"| {r['their_cpu_s']:.3g} ({r['their_peak_mib']:.0f}) | {r['ratio']:.3g} | {r['goal']:g} |"
        for r in record["rows"]
    ]
    lines += ["", "| what | patients | s | MiB |", "|---|---|---|---|"]
    lines += [f"| {r['what']} | {r['patients']:,} | {r['cpu_s']:.3g} | {r['peak_mib']} |" for r in record["growth"]]
    return "\n".join(lines)


def machine_file(about: dict[str, Any]) -> Path:
    """Return where the results of a machine are kept: by its processor and its cores."""
    return RESULTS / (re.sub(r"[^a-z0-9]+", "_", f"{about['cpu']} {about['cores']} cores".lower()) + ".json")


def main() -> None:
    """Compare everything, print the tables and keep them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default="", help="a Python that has mirp and pictologics")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cases", type=int, nargs="*", default=[1, 2], help="tumours; 3 needs 10 GB and minutes")
    parser.add_argument("--only", nargs="+", choices=COMPARISONS, default=list(COMPARISONS))
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        print(json.dumps(measure(_work(*asked.measure), asked.repeats)))
        return
    record: dict[str, Any] = {"machine": radiomics.machine(), "repeats": asked.repeats, "rows": [], "growth": []}
    for case in asked.cases:
        record["rows"] += compare_radiomics(case, asked.peers, min(3, asked.repeats))
    for key in asked.only:
        record["rows"] += compare(key, asked.repeats)
        print(f"  {record['rows'][-1]['what']}: {record['rows'][-1]['ratio']:.3g}x", flush=True)
    record["growth"] = grow(asked.repeats)
    RESULTS.mkdir(exist_ok=True)
    machine_file(record["machine"]).write_text(json.dumps(record, indent=1) + "\n")
    print("\n" + table(record))


def _work(what: str, side: str) -> Work:
    if what in GROWTH:
        return GROWTH[what][0](int(side))
    return COMPARISONS[what].others[side]() if side else COMPARISONS[what].ours()


if __name__ == "__main__":
    main()
