"""What the settings of radiomics do: margin and bins to a feature's value, the penalty to a score's optimism."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from rps_utils.figures.effects import selected_features
from rps_utils.figures.style import GREY, SPARE_COLOURS, new_figure
from rps_utils.imaging.fast.gaussian import laplacian_of_gaussian
from rps_utils.imaging.volumes import Volume, tight_box
from rps_utils.learning.radiomics import choose_candidates, clipped_scores, lasso_path, varying_features
from rps_utils.survival.concordance import harrell_c
from rps_utils.widgets.panel import View


def filter_margins(ct: Volume, mask: Volume, sigma_mm: float, margins: Sequence[int]) -> dict[str, np.ndarray]:
    """Return the filtered values inside the tumour when the image ends so many voxels from it.

    Parameters
    ----------
    ct, mask : Volume
        On one isotropic grid.
    sigma_mm : float
        Width of the Laplacian of Gaussian.
    margins : sequence of int
        Voxels kept around the tumour; the last is the widest.

    Returns
    -------
    dict
        Margin in words (``15 mm``) to the values, shape (voxels of the tumour,).
    """
    found, box = {}, tight_box(mask)
    for margin in margins:
        wide = tuple(slice(max(side.start - margin, 0), side.stop + margin) for side in box)
        image, inside = ct.box(wide).values.T, mask.box(wide).values.T > 0
        every = tuple(slice(0, size) for size in image.shape)
        spacing = tuple(float(s) for s in ct.spacing[::-1])
        filtered = laplacian_of_gaussian(np.ascontiguousarray(image, np.float32), spacing, sigma_mm, every)
        found[f"{margin * ct.spacing[0]:g} mm"] = filtered[inside]
    return found


def entropy_view(filtered: Mapping[str, np.ndarray], margin: str, bin_width: float) -> View:
    """Show the grey levels of one tumour, filtered, and the entropy that they have.

    Parameters
    ----------
    filtered : mapping
        From `filter_margins`.
    margin : str
        One of its keys.
    bin_width : float
        Width of a grey-level bin.
    """
    widest = list(filtered)[-1]
    figure = new_figure("Grey levels of one filtered tumour, in bins", 380)
    entropies = {}
    for name, colour in ((widest, GREY), (margin, SPARE_COLOURS[0])):
        levels, counts = np.unique(np.floor(filtered[name] / bin_width), return_counts=True)
        share = counts / counts.sum()
        entropies[name] = float(-(share * np.log2(share)).sum())
        look = {"line": {"color": colour, "shape": "hvh"}, "mode": "lines"}
        figure.add_scatter(x=(levels + 0.5) * bin_width, y=share, name=f"margin {name}", **look)
    figure.update_xaxes(title="filtered value (HU)").update_yaxes(title="share of voxels", tickformat=".0%")
    sentence = f"Margin {margin}, bins of {bin_width:g}: entropy {entropies[margin]:.3f} bits"
    return View(figure, f"{sentence}; with the widest margin ({widest}) {entropies[widest]:.3f}")


class PenaltyPath(NamedTuple):
    """LASSO-Cox models of falling penalty: `coefficients` (features x penalties), and two C-indices of each."""

    penalties: np.ndarray
    coefficients: pd.DataFrame
    apparent: np.ndarray
    cross_fitted: np.ndarray


def penalty_path(
    values: pd.DataFrame, training: pd.DataFrame, *, correlation: float = 0.9, candidates: int = 12
) -> PenaltyPath:
    """Fit LASSO-Cox models for falling penalties in all training patients, and without each fold.

    Parameters
    ----------
    values : DataFrame
        Features by ``patient_id``.
    training : DataFrame
        ``patient_id, fold, time_months, event`` of the training patients.
    correlation, candidates
        As in `SelectionSettings`. Choice and scaling of features are learned anew without each fold.
    """
    x = values.loc[training["patient_id"]]
    x, time, event = x[varying_features(x)], training["time_months"].to_numpy(), training["event"].to_numpy() == 1
    everybody, fold = np.ones(len(time), bool), training["fold"].to_numpy(int)
    numbers = x.to_numpy(float)
    chosen, penalties, weights, risk = _path(numbers, time, event, everybody, correlation, candidates)
    crossed = np.zeros_like(risk)
    for k in np.unique(fold):
        _, _, _, without = _path(numbers, time, event, fold != k, correlation, candidates, penalties)
        crossed[fold == k] = without[fold == k]
    apparent, cross_fitted = ([harrell_c(time, event, r) for r in risks.T] for risks in (risk, crossed))
    table = pd.DataFrame(weights, index=x.columns[chosen])
    return PenaltyPath(penalties, table, np.array(apparent), np.array(cross_fitted))


def _path(
    numbers: np.ndarray,
    time: np.ndarray,
    event: np.ndarray,
    learns: np.ndarray,
    correlation: float,
    candidates: int,
    penalties: np.ndarray | None = None,
) -> tuple[list[int], np.ndarray, np.ndarray, np.ndarray]:
    """Return columns chosen, penalties, coefficients, and everybody's risks, on the scale of those learned from."""
    means, sds = numbers[learns].mean(axis=0), numbers[learns].std(axis=0)
    z = clipped_scores(numbers, means, np.maximum(sds, 1e-12))
    chosen, _ = choose_candidates(z[learns], time[learns], event[learns], correlation, candidates)
    z = z[:, chosen]
    penalties, weights = lasso_path(z[learns], time[learns], event[learns], penalties)
    risk = z @ weights
    return chosen, penalties, weights, (risk - risk[learns].mean(axis=0)) / np.maximum(risk[learns].std(axis=0), 1e-12)


def penalty_view(path: PenaltyPath, step: int) -> View:
    """Show the coefficients under one penalty, and what the model remembers against what it knows.

    Parameters
    ----------
    path : PenaltyPath
    step : int
        Place on the path, from 1, the strongest penalty.
    """
    place = step - 1
    weights = path.coefficients.iloc[:, place].rename("coefficient").rename_axis("feature").reset_index()
    figure = selected_features(weights, f"Coefficients under a penalty of {path.penalties[place]:.3f}")
    reach = 1.1 * max(float(path.coefficients.abs().max(axis=None)), 1e-3)
    figure.update_xaxes(range=[-reach, reach])
    before, now = path.apparent[place], path.cross_fitted[place]
    kept = int((weights["coefficient"] != 0).sum())
    sentence = f"Penalty {path.penalties[place]:.3f}, {kept} of {len(weights)} features: apparent C {before:.3f}"
    return View(figure, f"{sentence}, cross-fitted C {now:.3f}, optimism {before - now:+.3f}")
