"""Compute the reference statistics with this package: ``python compute.py FOLDER results.json``.

FOLDER holds config.json and inputs/; one generator per family yields (key, value) in the words of reference.csv.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import chi2, norm
from sksurv.linear_model import CoxnetSurvivalAnalysis
from sksurv.util import Surv

from rps_utils.intervals.comparison import compare_c
from rps_utils.intervals.cutoffs import apply_cutoff, logrank_scan, maxstat_cutoff, median_cutoff
from rps_utils.intervals.influence import auc_estimate, brier_estimate, compare_auc
from rps_utils.intervals.resampling import (
    bca_constants,
    c_standard_error,
    counts_of,
    interval_from,
    jackknife,
    optimism_bootstrap,
    replicate,
    resample_counts,
)
from rps_utils.learning.cox import CoxModel
from rps_utils.learning.nomogram import make_nomogram, read_points
from rps_utils.survival.brier import brier_score, integrated_brier, ipa
from rps_utils.survival.calibration import (
    calibration_errors,
    calibration_groups,
    calibration_slope,
    calibration_slope_interval,
    observed_expected,
    spline_knots,
)
from rps_utils.survival.concordance import harrell_c, pair_counts, uno_c
from rps_utils.survival.curves import (
    kaplan_meier,
    logrank_table,
    median_survival,
    rmst,
    survival_at,
)
from rps_utils.survival.curves import logrank as logrank_test
from rps_utils.survival.decision import net_benefit
from rps_utils.survival.follow_up import at_risk
from rps_utils.survival.partial_likelihood import (
    baseline_hazard,
    fit_partial_likelihood,
    ph_score_test,
    score_test_at_zero,
)
from rps_utils.survival.roc import td_auc as auc_at

Z = norm.ppf(0.975)
THRESHOLDS = [0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]


@dataclass
class Data:
    name: str
    folder: Path
    config: dict

    def __post_init__(self):
        table = pd.read_csv(self.folder / "inputs" / f"{self.name}.csv")
        split = table.get("split", pd.Series("train", table.index))
        self.train, self.test = table[split == "train"], table[split == "test"]
        self.times, self.tau = self.config.get("times"), self.config.get("tau")

    def extra(self, name, **options):
        path = self.folder / "inputs" / name
        return pd.read_csv(path, **options) if path.exists() else None


def follow_up(rows):
    return rows["time"].to_numpy(float), rows["event"].to_numpy(int)


def meta(data):
    for part, rows in (("train", data.train), ("test", data.test)):
        yield f"n_{part}", len(rows)
        yield f"events_{part}", rows["event"].sum()


def coxph(data):
    for model, columns in (("A", data.config["covsA"]), ("B", data.config["covsB"])):
        if len(data.train):
            for ties in ("efron", "breslow") if model == "A" else ("efron",):
                for key, value in cox_table(data.train, columns, ties):
                    yield f"{model}_train/ties={ties}/{key}", value
    for column in data.config["covsA"]:
        fit = fit_partial_likelihood(*follow_up(data.train), data.train[column])
        b, se = fit.coefficients[0, 0], np.sqrt(fit.covariance[0, 0, 0])
        values = (np.exp(b), np.exp(b - Z * se), np.exp(b + Z * se), 2 * norm.sf(abs(b / se)))
        for key, value in zip(("hr", "lo", "hi", "p"), values, strict=True):
            yield f"univariable_train/{column}/{key}", value
    if data.config["covsA"]:
        args = (*follow_up(data.train), data.train[data.config["covsA"]])
        beta = fit_partial_likelihood(*args).coefficients
        for ties in ("efron", "breslow"):
            for t in data.times:
                key = f"A_train/ties=efron/baseline_cumhaz_at_x0/{ties}_estimator/t={t}"
                yield key, baseline_hazard(*args, beta, t, ties=ties)[0]


def cox_table(rows, columns, ties):
    fit = fit_partial_likelihood(*follow_up(rows), rows[columns], ties=ties)
    null, score = score_test_at_zero(*follow_up(rows), rows[columns], ties)
    loglik, k, events = fit.loglik[0], len(columns), rows["event"].sum()
    beta, covariance = fit.coefficients[0], fit.covariance[0]
    for name, b, se in zip(columns, beta, np.sqrt(np.diag(covariance)), strict=True):
        yield f"coef/{name}", b
        yield f"se/{name}", se
        yield f"z/{name}", b / se
        yield f"p/{name}", 2 * norm.sf(abs(b / se))
        yield f"hr/{name}", np.exp(b)
        yield f"hr_lo/{name}", np.exp(b - Z * se)
        yield f"hr_hi/{name}", np.exp(b + Z * se)
    yield from {"loglik_null": null, "loglik": loglik, "lr_chi2": 2 * (loglik - null)}.items()
    yield from {"lr_p": chi2.sf(2 * (loglik - null), k), "score_chi2": score, "df": k}.items()
    yield from {"wald_chi2": beta @ np.linalg.solve(covariance, beta), "aic": 2 * k - 2 * loglik}.items()
    yield from {"bic_events": np.log(events) * k - 2 * loglik, "n": len(rows), "nevent": events}.items()


def cox_zph(data):
    for model in ("A", "B") if len(data.train) else ():
        x = data.train[data.config[f"covs{model}"]]
        beta = fit_partial_likelihood(*follow_up(data.train), x).coefficients[0]
        for transform in ("km", "rank", "identity", "log"):
            for row in ph_score_test(*follow_up(data.train), x, beta, transform).itertuples():
                yield f"{model}_train/transform={transform}/chisq/{row.covariate}", row.chi2
                yield f"{model}_train/transform={transform}/p/{row.covariate}", row.p


def concordance(data):
    for name, rows, score in (
        ("A_train", data.train, "lpA"),
        ("A_test", data.test, "lpA"),
        ("B_test", data.test, "lpB"),
    ):
        if not len(rows):
            continue
        args = (*follow_up(rows), rows[score].to_numpy())
        c, se = c_standard_error(*args)
        counts = pair_counts(*args)
        logit, spread = np.log(c / (1 - c)), Z * se / (c * (1 - c))
        yield f"{name}/harrell_c", harrell_c(*args)
        yield f"{name}/harrell_se", se
        yield f"{name}/concordant", counts.concordant
        yield f"{name}/discordant", counts.discordant
        yield f"{name}/tied_x", counts.tied_risk
        yield f"{name}/ci_wald_lo", c - Z * se
        yield f"{name}/ci_wald_hi", c + Z * se
        yield f"{name}/ci_logit_lo", 1 / (1 + np.exp(spread - logit))
        yield f"{name}/ci_logit_hi", 1 / (1 + np.exp(-spread - logit))
        for label, tau in (("Inf", np.inf), ("tau", data.tau)):
            yield f"{name}/uno_c/R_nG2/tau={label}", uno_c(*args, tau)
            yield f"{name}/uno_c/G=test_left/tau={label}", uno_c(*args, tau)
            yield f"{name}/uno_se/R_nG2/tau={label}", c_standard_error(*args, tau=tau)[1]
        yield f"{name}/weighted_c/timewt=S_over_G", uno_c(*args, np.inf)


def td_auc(data):
    args = follow_up(data.test)
    for model in "AB":
        for t in data.times:
            yield f"{model}/ipcw_G=test_left/t={t}", auc_at(*args, data.test[f"lp{model}"], t)
    grid, _ = survival_matrix(data)
    yield "A/mean_plain_G=test_left", np.mean([auc_at(*args, data.test["lpA"], t) for t in grid])


def brier(data):
    args = follow_up(data.test)
    for model in "AB":
        for t in data.times:
            lrfs, km = data.test[f"S{model}_{t}"], survival_at(*args, t)
            yield f"{model}/ipcw_G=test_left/t={t}", brier_score(*args, lrfs, t)
            yield f"{model}/null_km_G=test_left/t={t}", brier_score(*args, np.full(len(lrfs), km), t)
            yield f"{model}/ipa_G=test_left/t={t}", ipa(*args, lrfs, t)


def survival_matrix(data):
    table = data.extra(f"{data.name}_survmatA.csv").drop(columns="id")
    grid = np.array([float(name[1:]) for name in table])
    return grid, table.to_numpy()


def ibs(data):
    args = follow_up(data.test)
    grid, matrix = survival_matrix(data)
    null = np.tile([survival_at(*args, t) for t in grid], (len(matrix), 1))
    yield "A/trapezoid_G=test_left", integrated_brier(*args, matrix, grid)
    yield "null_km/trapezoid_G=test_left", integrated_brier(*args, null, grid)


def riskRegression(data):
    args = follow_up(data.test)
    for t in data.times:
        for model in "AB":
            auc = auc_estimate(*args, data.test[f"lp{model}"], t)
            score = brier_estimate(*args, data.test[f"S{model}_{t}"], t)
            for name, (value, low, high, _) in (("auc", auc), ("brier", score)):
                yield from wald(f"{name}/{model}", t, value, low, high)
        km = np.full(len(data.test), survival_at(*args, t))
        yield f"brier/Null_model/est/t={t}", brier_score(*args, km, t)
        pair = compare_auc(*args, data.test["lpB"], data.test["lpA"], t)
        yield f"auc_diff/B_minus_A/est/t={t}", pair.difference
        yield f"auc_diff/B_minus_A/se/t={t}", pair.std_error
        yield f"auc_diff/B_minus_A/p/t={t}", pair.p


def wald(name, t, value, low, high):
    yield f"{name}/est/t={t}", value
    yield f"{name}/se/t={t}", (high - low) / (2 * Z)
    yield f"{name}/lo/t={t}", low
    yield f"{name}/hi/t={t}", high


def calibration(data):
    args = follow_up(data.test)
    if not len(data.train) and "lpA" not in data.test:
        return
    slope = calibration_slope_interval(*args, data.test["lpA"])
    se = (slope.ci_high - slope.ci_low) / (2 * Z)
    yield "A/slope", calibration_slope(*args, data.test["lpA"])
    yield from {"A/slope_se": se, "A/slope_lo": slope.ci_low, "A/slope_hi": slope.ci_high}.items()
    yield "A/slope_p_vs_1", 2 * norm.sf(abs(slope.value - 1) / se)
    for t in data.times:
        for key, value in calibration_at(data, args, data.test[f"SA_{t}"], t):
            yield f"A/{key}/t={t}", value


def calibration_at(data, args, lrfs, t):
    ratio = observed_expected(*args, lrfs, t, interval="poisson")
    yield from {"oe": ratio.value, "oe_lo": ratio.ci_low, "oe_hi": ratio.ci_high}.items()
    yield from {"obs_risk_km": 1 - survival_at(*args, t), "mean_pred": 1 - lrfs.mean()}.items()
    k = data.config["calib_k"]
    for g in calibration_groups(*args, lrfs, t, groups=k).itertuples():
        values = (g.n, g.predicted, g.observed, g.ci_low, g.ci_high)
        for key, value in zip(("n", "mean_pred", "obs", "obs_lo_loglog", "obs_hi_loglog"), values, strict=True):
            yield f"group{g.group}_of_{k}/{key}", value
    for baseline in ("efron", "breslow"):
        errors = calibration_errors(*args, lrfs, t, baseline)
        for key, value in zip(("ICI", "E50", "E90", "Emax"), errors, strict=True):
            yield f"austin_rcs3_cox/{key}/baseline={baseline}", value
    for i, knot in enumerate(spline_knots(np.log(-np.log(lrfs))), 1):
        yield f"austin_rcs3_cox/knot{i}", knot


def dca(data):
    args = follow_up(data.test)
    for t in data.times:
        for model in "AB":
            table = net_benefit(*args, 1 - data.test[f"S{model}_{t}"], t, THRESHOLDS)
            for row in table.itertuples():
                at = f"t={t}/pt={row.threshold:g}"
                yield f"all/net_benefit/{at}", row.treat_all
                yield f"{model}/net_benefit/{at}", row.net_benefit
                yield f"{model}/frac_positive/{at}", row.n_positive / len(data.test)
                yield f"{model}/interventions_avoided/{at}", row.interventions_avoided


def km(data):
    groups = {"all": data.test}
    for column in data.config["groups"]:
        groups |= {f"{column}={value}": rows for value, rows in data.test.groupby(column)}
    for name, rows in groups.items():
        for key, value in km_group(rows, data):
            yield f"test/{name}/{key}", value
        if name != "all":
            for t in (0, *data.times):
                yield f"test/at_risk_table/{name}/t={t}", at_risk(rows["time"], t)[0]
    time, event = follow_up(data.test)
    yield "test/followup_median_reverse_km", median_survival(time, 1 - event).value


def km_group(rows, data):
    args = follow_up(rows)
    for interval, label in (("log", "log"), ("log-log", "loglog"), ("plain", "plain")):
        table = kaplan_meier(*args, interval)
        for t in data.times:
            known = table[table["time"] <= t]
            row = known.iloc[-1] if len(known) else {"ci_low": 1.0, "ci_high": 1.0, "std_error": 0.0}
            beyond = np.isnan(survival_at(*args, t))
            yield f"lower_{label}/t={t}", np.nan if beyond else row["ci_low"]
            yield f"upper_{label}/t={t}", np.nan if beyond else row["ci_high"]
            yield f"se_greenwood/t={t}", np.nan if beyond else row["std_error"]
        if label != "plain":
            median = median_survival(*args, interval)
            yield from {f"median_{label}": median.value, f"median_lo_{label}": median.ci_low}.items()
            yield f"median_hi_{label}", median.ci_high
    for t in data.times:
        yield f"surv/t={t}", survival_at(*args, t)
        yield f"n_risk/t={t}", at_risk(args[0], t)[0]
    mean = rmst(*args, data.tau)
    yield from {"rmst_tau": mean.value, "rmst_tau_se": (mean.ci_high - mean.ci_low) / (2 * Z)}.items()


def logrank(data):
    args = follow_up(data.test)
    for column in data.config["groups"]:
        group = data.test[column]
        for rho in (0, 1):
            test = logrank_test(*args, group, rho)
            values = {"chisq": test.chi2, "df": group.nunique() - 1, "p": test.p}
            yield from ((f"test/{column}/rho={rho}/{key}", value) for key, value in values.items())
        for row in logrank_table(*args, group).itertuples():
            yield f"test/{column}/rho=0/obs/{row.group}", row.observed
            yield f"test/{column}/rho=0/exp/{row.group}", row.expected
        if group.nunique() > 2:
            yield f"test/{column}/trend_cox_score_p", chi2.sf(score_test_at_zero(*args, group)[1], 1)


def paired_c(data):
    args = (*follow_up(data.test), data.test["lpA"], data.test["lpB"])
    for label, tau in (("n", None), ("n_over_G2", np.inf)):
        pair = compare_c(*args, tau=tau, counts=resample_counts(len(data.test), replicates=5), permutations=0)
        d, se = pair.difference.value, pair.std_error
        variances = [c_standard_error(*args[:2], score, tau=tau)[1] ** 2 for score in args[2:]]
        values = {"cA": pair.c_a, "cB": pair.c_b, "diff": pair.c_a - pair.c_b, "se_diff": se, "z": pair.z, "p": pair.p}
        values |= {"lo": d - Z * se, "hi": d + Z * se, "cov": (sum(variances) - se**2) / 2}
        yield from ((f"timewt={label}/{key}", value) for key, value in values.items())


def cutoff(data):
    if not len(data.train):
        return
    median = median_cutoff(data.train["lpA"])
    yield "median_train_lpA", median.value
    for part, rows in (("train", data.train), ("test", data.test)):
        high = apply_cutoff(rows["lpA"], median)
        fit = fit_partial_likelihood(*follow_up(rows), high)
        yield f"median_train_lpA/{part}/n_high", high.sum()
        yield f"median_train_lpA/{part}/logrank_chisq", logrank_test(*follow_up(rows), high).chi2
        yield f"median_train_lpA/{part}/hr", np.exp(fit.coefficients[0, 0])
    for marker in ("lpA", data.config["marker"]):
        args = (*follow_up(data.train), data.train[marker])
        best, scan = maxstat_cutoff(*args), logrank_scan(*args)
        moved = logrank_test(*follow_up(data.test), apply_cutoff(data.test[marker], scan))
        found = {"maxstat_cut": best.value, "maxstat_stat": best.statistic, "maxstat_p_Lau92": best.p_corrected}
        found |= {"maxstat_p_Lau94": best.p_corrected_94, "logrank_scan_cut": scan.value}
        found |= {"logrank_scan_chisq": scan.statistic, "logrank_scan_ncuts": scan.candidates}
        found |= {"logrank_scan_p_naive": scan.p_naive, "logrank_scan_p_miller_siegmund": scan.p_corrected}
        yield from ((f"{marker}/{key}", value) for key, value in found.items())
        yield f"{marker}/logrank_scan_cut_from_train/test_chisq", moved.chi2


def lasso(data):
    genes = not len(data.test)
    columns = [c for c in data.train if c.startswith("X")] if genes else data.config["covsA"]
    if not columns:
        return
    x = data.train[columns].to_numpy()
    spread = x.std(axis=0)
    y = Surv.from_arrays(data.train["event"] == 1, data.train["time"])
    for ratio in (1,) if genes else (1, 0.5):
        base = f"{'genes' if genes else 'train_covsA'}/alpha={ratio}"
        fit = {"l1_ratio": ratio, "tol": 1e-12, "max_iter": 1_000_000}
        top = CoxnetSurvivalAnalysis(n_alphas=2, alpha_min_ratio=0.9, **fit).fit(x / spread, y).alphas_[0]
        yield f"{base}/lambda_max", top
        for fraction in (0.8, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1):
            model = CoxnetSurvivalAnalysis(alphas=[top * fraction], **fit).fit(x / spread, y)
            coefficients = model.coef_[:, 0] / spread
            yield f"{base}/frac={fraction}/n_nonzero", np.count_nonzero(coefficients)
            yield f"{base}/frac={fraction}/l1norm", np.abs(coefficients).sum()
            for name, value in zip(columns, coefficients, strict=True):
                yield f"{base}/frac={fraction}/coef/{name}", value


def bootstrap(data):
    rows = data.extra(f"boot_{data.name}.csv", header=None)
    rows = data.extra(f"boot_{data.name}_test.csv", header=None) if rows is None else rows
    if rows is None:
        return
    counts = counts_of(rows.to_numpy() - 1, len(data.test))
    a, b = data.test["lpA"].to_numpy(), data.test["lpB"].to_numpy()

    def difference(*args, weights=None):
        return harrell_c(*args[:3], weights=weights) - harrell_c(*args[:2], args[3], weights=weights)

    plans = {"harrell_A": (harrell_c, a), "harrell_B": (harrell_c, b), "diff_A_B": (difference, a, b)}
    plans |= {"uno_A_tau": (uno_c, a, data.tau), "auc_A_t2": (auc_at, a, data.times[1])}
    for name, (metric, *rest) in plans.items():
        args = (*follow_up(data.test), *rest)
        estimate, values = metric(*args), replicate(metric, counts, *args)
        left_out = jackknife(metric, len(a), *args)
        good = values[np.isfinite(values)]
        z0, acceleration = bca_constants(good, estimate, left_out)
        found = {"n_failed": len(values) - len(good), "se": good.std(ddof=1), "mean": good.mean()}
        found |= {"z0": z0, "acc": acceleration}
        for method, short in (("percentile", "perc"), ("basic", "basic"), ("normal", "norm"), ("bca", "bca")):
            limits = interval_from(values, estimate, method=method, left_out=left_out)
            found |= {f"{short}_lo": limits[0], f"{short}_hi": limits[1]}
        yield from ((f"test/{name}/{key}", value) for key, value in found.items())


def optimism(data):
    rows = data.extra(f"boot_{data.name}_train.csv", header=None)
    if rows is None:
        return
    time, event = follow_up(data.train)
    x = data.train[data.config["covsA"]].to_numpy()

    def fit_and_score(at):
        return x @ fit_partial_likelihood(time[at], event[at], x[at]).coefficients[0]

    found = optimism_bootstrap(time, event, fit_and_score, rows.to_numpy() - 1)
    yield from {"A_train/apparent_c": found.apparent, "A_train/optimism_c": found.optimism}.items()
    yield from {"A_train/corrected_c": found.corrected, "A_train/mean_slope": found.slope}.items()
    yield "A_train/n_failed", found.failed


def crossfit(data):
    rows, config = data.train, data.config
    new = [name for name in config["covsA"] if name not in config["covsB"]][:3]
    if not new:
        return
    time, event = follow_up(rows)
    x, fold = rows[new].to_numpy(), rows["fold5"].to_numpy()
    scores = {"oof": np.empty(len(rows)), "resub": x @ fit_partial_likelihood(time, event, x).coefficients[0]}
    for k in np.unique(fold):
        fit = fit_partial_likelihood(time[fold != k], event[fold != k], x[fold != k])
        scores["oof"][fold == k] = x[fold == k] @ fit.coefficients[0]
    yield from ((f"oof_lp/row{i + 1}", scores["oof"][i]) for i in range(5))
    smaller = fit_partial_likelihood(time, event, rows[config["covsB"]]).loglik[0]
    for name, score in scores.items():
        yield f"{name}_c", harrell_c(time, event, score)
        both = np.column_stack([score, rows[config["covsB"]]])
        fit = fit_partial_likelihood(time, event, both)
        for column, value in zip([name, *config["covsB"]], fit.coefficients[0], strict=True):
            yield f"fused_{name}/coef/{column}", value
        yield f"fused_{name}/c", harrell_c(time, event, both @ fit.coefficients[0])
        yield f"fused_{name}/lr_p_score", chi2.sf(2 * (fit.loglik[0] - smaller), 1)


def nomogram(data):
    columns = data.config.get("nomogram")
    if not columns:
        return
    rows, centre = data.train, data.train[columns].mean()
    args = (*follow_up(rows), rows[columns] - centre)
    beta = fit_partial_likelihood(*args).coefficients[0]
    hazard = [baseline_hazard(*args, beta, t)[0] for t in data.times]  # Efron's, as in R; the package takes Breslow's
    model = CoxModel(columns, list(beta), list(centre), list(data.times), hazard)
    drawn = make_nomogram(model, rows)
    yield from {"points_per_lp": drawn.points_per_log_hazard, "lp_at_zero_points": drawn.risk_at_zero}.items()
    for (name, marks), b in zip(drawn.ticks.groupby("axis", sort=False), beta, strict=True):
        yield from ((f"{name}/x={row.label}/points", row.points) for row in marks.itertuples())
        yield from {f"{name}/axis_lo": marks["value"].min(), f"{name}/axis_hi": marks["value"].max()}.items()
        yield from {f"{name}/coef": b, f"{name}/points_per_unit": abs(b) * drawn.points_per_log_hazard}.items()
    for i, patient in enumerate(data.test[columns].head(5).to_dict("records"), 1):
        total = read_points(drawn, patient)["points"].sum()
        yield f"test_row{i}/total_points", total
        for t, survival in zip(data.times, drawn.lrfs([total], data.times).iloc[0], strict=True):
            yield f"test_row{i}/surv/t={t}", survival


FAMILIES = (meta, coxph, cox_zph, concordance, td_auc, brier, ibs, riskRegression, calibration, dca, km, logrank)
FAMILIES += (paired_c, cutoff, lasso, bootstrap, optimism, crossfit, nomogram)


def load(folder):
    config = json.loads((Path(folder) / "config.json").read_text())
    genes = {p.stem: {"covsA": [], "covsB": []} for p in (Path(folder) / "inputs").glob("bc_*.csv")}
    return {name: Data(name, Path(folder), settings) for name, settings in (config | genes).items()}


def results(data, family):
    if data.name.startswith("bc_") and family is not lasso:
        return {}
    return {f"{data.name}/{family.__name__}/{key}": float(value) for key, value in family(data)}


def main(folder, path):
    everything = {}
    for data in load(folder).values():
        for family in FAMILIES:
            everything |= results(data, family)
    plain = {key: value if np.isfinite(value) else None for key, value in everything.items()}
    Path(path).write_text(json.dumps(plain, indent=0))


if __name__ == "__main__":
    main(*sys.argv[1:])
