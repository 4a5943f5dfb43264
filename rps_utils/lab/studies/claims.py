"""What the tables of replicates say of the pipeline's claims, and the plan by which they were made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from rps_utils.files import write_csv
from rps_utils.lab.studies.pool import make_pool
from rps_utils.lab.studies.power import power_table
from rps_utils.lab.studies.replicates import FUSED_WITH, StudySettings, run_study
from rps_utils.lab.studies.tables import below, gain, mean_estimate, rows_of, share_estimate
from rps_utils.learning.crossfit import predictor_p
from rps_utils.survival.follow_up import Estimate


@dataclass(frozen=True)
class Plan:
    """One call of `run_study` behind a committed table."""

    file: str
    variants: tuple[str, ...]
    count: int
    settings: StudySettings


# What the committed tables hold; a larger count adds replicates to them.
ALL_VARIANTS = ("null", "full", "decoupled", "clinical_only", "rad_sufficient", "image_only", "confounded")
WITH_NETWORKS = StudySettings(folds=3, epochs=10, reserve=200)
PLANS = (
    Plan("replicates", ALL_VARIANTS, 60, StudySettings()),
    Plan("replicates", ("null", "decoupled"), 200, StudySettings()),
    Plan("replicates_networks", ("null", "full", "decoupled", "clinical_only", "rad_sufficient"), 13, WITH_NETWORKS),
    Plan("replicates_small", ("null",), 24, StudySettings(patients=40, folds=3, epochs=10, reserve=50)),
)


def make_results(folder: str | Path, pool_folder: str | Path, n_jobs: int = 1) -> None:
    """Bring all tables of the study in a folder up to date: hours from nothing, see `PLANS`."""
    pool = make_pool(pool_folder, n_jobs=n_jobs)
    for plan in PLANS:
        run_study(Path(folder) / f"{plan.file}.csv", pool, plan.variants, plan.count, plan.settings, n_jobs)
    if not (Path(folder) / "power.csv").is_file():
        write_csv(power_table(n_jobs=n_jobs), Path(folder) / "power.csv")


def verdicts(table: pd.DataFrame) -> pd.DataFrame:
    """Hold the results to what the truth of each variant demands.

    Parameters
    ----------
    table : DataFrame
        From `read_results`.

    Returns
    -------
    DataFrame
        ``check, study, variant, model, replicates, value, low, high, demanded, holds``. Means of C and of
        differences come with three standard errors, shares and their 95 % interval are exact binomial.
    """
    rows = []
    for (study, variant), part in table.groupby(["study", "variant"], sort=False):
        for model in [m for m in dict.fromkeys(part["model"]) if m != "Oracle"]:
            found = _verdicts_of(variant, model, rows_of(part, model=model))
            rows += [{"study": study, "variant": variant, "model": model, **row} for row in found]
        rows += [{"study": study, "variant": variant, **row} for row in _comparisons(variant, part)]
    order = ["check", "study", "variant", "model", "replicates", "value", "low", "high", "demanded", "holds"]
    return pd.DataFrame(rows)[order].sort_values("check", kind="stable", ignore_index=True)


def _verdicts_of(variant: str, model: str, rows: pd.DataFrame) -> list[dict[str, Any]]:
    found = []
    blind = variant == "null" or (variant == "decoupled" and model in FUSED_WITH)
    if blind:
        found.append(_verdict("mean C in validation", rows["c_validation"], mean_estimate, 0.5))
        found.append(_verdict("KM split, median cut-off: p < .05", below(rows["km_p"]), share_estimate, 0.05))
        found.append(_verdict("KM split, searched cut-off: p < .05", below(rows["km_p_recut"]), share_estimate, 0.05))
    if model in FUSED_WITH and variant in ("null", "decoupled", "clinical_only"):
        for kind, name in (("cross_fitted", "cross-fitted"), ("apparent", "in-sample")):
            p = below(rows[f"lrt_p_{kind}"])
            found.append(_verdict(f"added value of the {name} score: p < .05", p, share_estimate, 0.05))
        claim = pd.Series(predictor_p(rows["lrt_p_cross_fitted"], rows["hr_cross_fitted"]), rows.index)
        found.append(_verdict("independent predictor, corrected one-sided p < .05", below(claim), share_estimate, 0.05))
    covered = rows["c_true"].between(rows["c_low"], rows["c_high"]).astype(float)
    known = covered.mask(rows[["c_true", "c_low", "c_high"]].isna().any(axis=1))
    return [*found, _verdict("95 % interval of C covers the truth", known, share_estimate, 0.95)]


def _comparisons(variant: str, part: pd.DataFrame) -> list[dict[str, Any]]:
    there = set(part["model"])
    if variant == "rad_sufficient" and "DL" in there:
        return [_verdict("DL minus Rad, true C", gain(part, "DL", "Rad"), mean_estimate, 0.0, "<=") | {"model": "DL"}]
    if variant != "clinical_only":
        return []
    return [
        _verdict("fused minus Clinical, true C", gain(part, fused, "Clinical"), mean_estimate, 0.0, "<=")
        | {"model": fused}
        for fused in FUSED_WITH.values()
        if fused in there
    ]


def _verdict(
    check: str, values: pd.Series, estimate: Callable[[pd.Series], Estimate], demanded: float, sign: str = "="
) -> dict[str, Any]:
    value, low, high, _ = estimate(values)
    holds = low <= demanded and (sign == "<=" or demanded <= high)
    numbers = {"replicates": int(values.notna().sum()), "value": value, "low": low, "high": high}
    return {"check": check, **numbers, "demanded": f"{sign} {demanded:g}", "holds": bool(holds)}
