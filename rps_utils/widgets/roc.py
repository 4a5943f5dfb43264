"""The weights behind the time-dependent AUC, for a landmark and a loss of patients that can be moved."""

from __future__ import annotations

import numpy as np

from rps_utils.figures.style import GREY, GROUP_COLOURS, INK, new_figure
from rps_utils.survival.curves import censoring_curve, count_steps, just_before
from rps_utils.survival.roc import td_auc
from rps_utils.widgets.panel import View


def weights_view(
    recurrence: np.ndarray, risk: np.ndarray, waiting: np.ndarray, landmark: float, lost_after: float
) -> View:
    """Show who is case, control or neither at a landmark, and how much each case weighs.

    Parameters
    ----------
    recurrence, risk : ndarray, shape (n,)
        True months to recurrence, and the score.
    waiting : ndarray, shape (n,)
        Standard exponential draws: times `lost_after` they are the months until a patient is lost.
    landmark : float
        Months.
    lost_after : float
        Mean months until a patient is lost.
    """
    censoring = lost_after * waiting
    time, event = np.minimum(recurrence, censoring), recurrence <= censoring
    steps = count_steps(time, event, np.ones((1, len(time))))
    staying = just_before(censoring_curve(steps), steps)[0]
    roles = {"case": event & (time <= landmark), "control": time > landmark}
    roles["neither"] = ~(roles["case"] | roles["control"])
    colours = {"case": GROUP_COLOURS["high"], "control": GROUP_COLOURS["low"], "neither": GREY}
    figure = new_figure("The area of a case is its weight")
    for role, own in roles.items():
        weight = 1 / staying[own] if role == "case" else np.ones(own.sum())
        marker = {"size": 9 * np.sqrt(weight), "color": colours[role], "opacity": 0.7}
        figure.add_scatter(x=time[own], y=risk[own], name=role, mode="markers", marker=marker, text=weight.round(2))
    figure.add_vline(x=landmark, line={"color": INK})
    figure.update_xaxes(title="last seen (simulated months)", range=[0, 100]).update_yaxes(title="risk score")
    figure.update_layout(legend={"itemsizing": "constant"})
    return View(figure, _sentence(recurrence, risk, (time, event), landmark, roles, staying))


def _sentence(
    recurrence: np.ndarray,
    risk: np.ndarray,
    follow_up: tuple[np.ndarray, np.ndarray],
    landmark: float,
    roles: dict[str, np.ndarray],
    staying: np.ndarray,
) -> str:
    counts = ", ".join(f"{own.sum()} {role}" for role, own in roles.items())
    if not roles["case"].any() or not roles["control"].any():
        return f"At {landmark:g}: {counts}. Without a case and a control there is no AUC."
    everybody = np.ones(len(risk), bool)
    truth = td_auc(recurrence, everybody, risk, landmark)
    # Lost patients taken for free of recurrence: as if they had been followed beyond the landmark.
    as_free = np.where(roles["case"], follow_up[0], landmark + 1)
    short = td_auc(as_free, everybody, risk, landmark)
    return (
        f"At {landmark:g}: {counts}; the heaviest case weighs {1 / staying[roles['case']].min():.2f}. "
        f"AUC weighted {td_auc(*follow_up, risk, landmark):.3f}, lost counted as free {short:.3f}, truth {truth:.3f}"
    )
