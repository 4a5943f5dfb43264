"""Tables of results that grow part by part, and estimates over their rows."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from joblib import delayed, parallel_config
from scipy import stats

from rps_utils.files import write_csv
from rps_utils.machine.progress import in_parallel
from rps_utils.survival.follow_up import Estimate

RESULTS = Path(__file__).parent / "results"

Rows = list[dict[str, Any]]


def short(value: Any) -> Any:
    """Return a number with four digits that count; anything else as it is."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def grow_table(
    out: str | Path,
    *,
    columns: Sequence[str],
    keys: Sequence[str],
    wanted: Sequence[tuple[Hashable, ...]],
    work: Callable[..., Rows],
    n_jobs: int = 1,
) -> pd.DataFrame:
    """Bring a table up to date, and write it after each piece of work, so that a stopped one goes on.

    Parameters
    ----------
    out : str or Path
        CSV. Rows that are there are kept, whatever they were made with beyond their keys.
    columns : sequence of str
        Of the table.
    keys : sequence of str
        Columns that tell the pieces apart, and sort the table.
    wanted : sequence of tuple
        The keys' values of the pieces that the table shall hold.
    work : callable
        Gets the values of the keys, returns the rows of that piece.
    n_jobs : int
        Processes, one thread each.
    """
    table = read_replicates(out) if Path(out).is_file() else pd.DataFrame(columns=list(columns))
    there = set(table[list(keys)].itertuples(index=False, name=None))
    missing = [values for values in wanted if values not in there]
    with parallel_config("loky", inner_max_num_threads=1):
        jobs = (delayed(work)(*values) for values in missing)
        for rows in in_parallel(jobs, n_jobs, f"parts of {Path(out).name}", ordered=False):
            table = pd.DataFrame([*table.to_dict("records"), *rows], columns=list(columns))
            table = table.sort_values(list(keys), kind="stable", ignore_index=True)
            write_csv(table, out)
    return table


def read_replicates(path: str | Path) -> pd.DataFrame:
    """Read a table that `run_study` wrote. The variant ``null`` is a word here, and not a missing value."""
    with Path(path).open(encoding="utf-8") as stream:
        return pd.read_csv(stream, keep_default_na=False, na_values=[""])


def read_results(folder: str | Path = RESULTS) -> pd.DataFrame:
    """Read all replicates, with the column ``study``: classical (no networks), networks or small."""
    names = {"replicates": "classical", "replicates_networks": "networks", "replicates_small": "small"}
    tables = [read_replicates(Path(folder) / f"{name}.csv").assign(study=study) for name, study in names.items()]
    return pd.concat(tables, ignore_index=True)


def mean_estimate(values: pd.Series, errors: float = 3.0) -> Estimate:
    """Return the mean over replicates, and so many standard errors to either side."""
    values = values.dropna()
    error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.nan
    mean = float(values.mean())
    return Estimate(mean, mean - errors * error, mean + errors * error, "")


def share_estimate(hits: pd.Series, *, level: float = 0.95) -> Estimate:
    """Return a share of replicates with its exact binomial interval (Clopper and Pearson)."""
    hits = hits.dropna()
    if hits.empty:
        return Estimate(np.nan, np.nan, np.nan, "no replicate")
    found = stats.binomtest(int(hits.sum()), len(hits))
    interval = found.proportion_ci(level)
    return Estimate(float(found.statistic), float(interval.low), float(interval.high), "")


def below(p: pd.Series, *, level: float = 0.05) -> pd.Series:
    """Tell where a p-value is below the level; missing stays missing."""
    return (p < level).astype(float).mask(p.isna())


def rows_of(table: pd.DataFrame, **wanted: str) -> pd.DataFrame:
    """Return the rows with these values, for example ``variant="null", model="Rad"``, by replicate."""
    chosen = np.logical_and.reduce([table[column] == value for column, value in wanted.items()])
    return table[chosen].set_index("replicate")


def gain(table: pd.DataFrame, larger: str, smaller: str, *, column: str = "c_true") -> pd.Series:
    """Return by replicate how far one model's C exceeds another's; `table` holds one study and variant."""
    wide = table.pivot_table(index="replicate", columns="model", values=column)
    return (wide[larger] - wide[smaller]).dropna()


def mean_with_interval(values: pd.Series, level: float = 0.95) -> dict[str, float]:
    """Return the mean over cohorts, its standard error and Student's interval; one cohort has a mean only.

    Cohorts of one pool share patients, so errors and intervals are a little too small.
    """
    values = values.dropna()
    n = len(values)
    error = float(values.std(ddof=1) / np.sqrt(n)) if n > 1 else np.nan
    reach = error * stats.t.ppf((1 + level) / 2, n - 1) if n > 1 else np.nan
    mean = float(values.mean())
    return {"cohorts": n, "mean": mean, "se": error, "low": mean - reach, "high": mean + reach}
