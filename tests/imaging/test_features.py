import json
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sksurv.linear_model import CoxnetSurvivalAnalysis

from rps_utils.files import read_json, write_json
from rps_utils.imaging.crops import crop_isotropic, crop_paths
from rps_utils.imaging.features import ExtractionError, ExtractionSettings, extract, extract_cohort, pad_mm
from rps_utils.imaging.volumes import Volume, load_pair, write_volume
from rps_utils.learning.radiomics import (
    RadiomicModel,
    SelectionSettings,
    choose_candidates,
    choose_penalty,
    fit_radiomic_model,
    log_partial_likelihood,
    score_statistics,
    varying_features,
)
from rps_utils.survival.concordance import harrell_c

ORIGINAL = ExtractionSettings(image_types=("original",))

# The IBSI-1 digital phantom and its consensus values: Zwanenburg et al., Radiology 2020,
# doi 10.1148/radiol.2020191145, CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/); written here slice by
# slice, with 0 outside the mask. Voxels are 2 mm.
IBSI_PHANTOM = """
1 4 6 4 4   1 4 6 1 4   1 1 6 4 1   1 1 4 4 1
1 1 6 4 4   1 1 3 1 0   1 1 6 1 1   1 1 4 4 1
1 1 6 1 1   1 1 0 1 1   1 1 1 1 1   0 0 4 4 1
1 1 6 1 1   1 1 1 1 1   1 1 1 1 1   0 0 4 4 1
"""
IBSI_VALUES = """
glcm: MaximumProbability 0.503, JointAverage 2.14, SumSquares 3.1, JointEntropy 2.4, DifferenceAverage 1.43,
    DifferenceVariance 3.06, DifferenceEntropy 1.56, SumAverage 4.29, SumEntropy 1.92, JointEnergy 0.303,
    Contrast 5.32, Id 0.677, Idn 0.851, Idm 0.618, Idmn 0.898, InverseVariance 0.0604, Correlation 0.157,
    Autocorrelation 5.06, ClusterTendency 7.07, ClusterShade 16.6, ClusterProminence 145, Imc1 -0.157, Imc2 0.52
glrlm: ShortRunEmphasis 0.705, LongRunEmphasis 3.06, LowGrayLevelRunEmphasis 0.603, HighGrayLevelRunEmphasis 9.7,
    ShortRunLowGrayLevelEmphasis 0.352, ShortRunHighGrayLevelEmphasis 8.54, LongRunLowGrayLevelEmphasis 2.39,
    LongRunHighGrayLevelEmphasis 17.6, GrayLevelNonUniformity 21.8, GrayLevelNonUniformityNormalized 0.43,
    RunLengthNonUniformity 26.9, RunLengthNonUniformityNormalized 0.513, RunPercentage 0.68, GrayLevelVariance 3.46,
    RunVariance 0.574, RunEntropy 2.43
glszm: SmallAreaEmphasis 0.255, LargeAreaEmphasis 550, LowGrayLevelZoneEmphasis 0.253, HighGrayLevelZoneEmphasis 15.6,
    SmallAreaLowGrayLevelEmphasis 0.0256, SmallAreaHighGrayLevelEmphasis 2.76, LargeAreaLowGrayLevelEmphasis 503,
    LargeAreaHighGrayLevelEmphasis 1490, GrayLevelNonUniformity 1.4, GrayLevelNonUniformityNormalized 0.28,
    SizeZoneNonUniformity 1, SizeZoneNonUniformityNormalized 0.2, ZonePercentage 0.0676, GrayLevelVariance 2.64,
    ZoneVariance 331, ZoneEntropy 2.32
ngtdm: Coarseness 0.0296, Contrast 0.584, Busyness 6.54, Complexity 13.5, Strength 0.763
gldm: SmallDependenceEmphasis 0.045, LargeDependenceEmphasis 109, LowGrayLevelEmphasis 0.693,
    HighGrayLevelEmphasis 7.66, SmallDependenceLowGrayLevelEmphasis 0.00963,
    SmallDependenceHighGrayLevelEmphasis 0.736, LargeDependenceLowGrayLevelEmphasis 102,
    LargeDependenceHighGrayLevelEmphasis 235, GrayLevelNonUniformity 37.9, DependenceNonUniformity 4.86,
    DependenceNonUniformityNormalized 0.0657, GrayLevelVariance 3.05, DependenceVariance 22.1, DependenceEntropy 4.4
firstorder: Mean 2.15, Variance 3.05, Skewness 1.08, Median 1, Minimum 1, 10Percentile 1, 90Percentile 4, Maximum 6,
    InterquartileRange 3, Range 5, MeanAbsoluteDeviation 1.55, RobustMeanAbsoluteDeviation 1.11, Energy 567,
    RootMeanSquared 2.77, Entropy 1.27, Uniformity 0.512, Kurtosis -0.355
shape: MeshVolume 556, VoxelVolume 592, SurfaceArea 388, SurfaceVolumeRatio 0.698, Sphericity 0.843,
    Maximum3DDiameter 13.1, MajorAxisLength 11.4, MinorAxisLength 9.31, LeastAxisLength 8.54, Elongation 0.816,
    Flatness 0.749
"""
# pyradiomics divides by n where n - 1 would give the consensus; its kurtosis is not the excess over 3.
IBSI_DEVIATIONS = {"shape_MinorAxisLength": 0.008, "shape_LeastAxisLength": 0.008}


def ibsi_values():
    for line in re.sub(r",\n +", ", ", IBSI_VALUES.strip()).splitlines():
        family, entries = line.split(": ")
        for entry in entries.split(", "):
            name, value = entry.split(" ")
            yield f"{family}_{name}", float(value)


def textured(seed=0, shape=(40, 38, 36), radius=24.0, spacing=3.0):
    """A ball of smooth texture in softer surroundings, on an isotropic grid."""
    draw = np.random.default_rng(seed)
    mm = spacing * (np.stack(np.indices(shape), axis=-1) - (np.array(shape) - 1) / 2)
    inside = np.linalg.norm(mm, axis=-1) < radius
    hu = np.where(inside, 60, -100) + 40 * np.sin(mm[..., 0] / 5 + seed) + draw.normal(0, 12, shape)
    affine = np.diag([spacing, spacing, spacing, 1.0])
    return Volume(np.rint(hu).astype(np.int16), affine), Volume(inside.astype(np.uint8), affine)


@pytest.fixture
def crops(tmp_path):
    folder = tmp_path / "crops"
    for i in range(3):
        for volume, path in zip(textured(i), crop_paths(folder, f"P{i}"), strict=True):
            write_volume(volume, path)
    return folder


# ---------------------------------------------------------------- agreement with others


@pytest.fixture(scope="module")
def ibsi_features():
    levels = np.array(IBSI_PHANTOM.split(), float).reshape(4, 4, 5).T
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    mask = Volume((levels > 0).astype(np.uint8), affine)
    return extract(Volume(levels, affine), mask, ExtractionSettings(image_types=("original",), bin_width_hu=1))


@pytest.mark.parametrize(("name", "value"), list(ibsi_values()))
def test_ibsi_digital_phantom(ibsi_features, name, value):
    got = ibsi_features[f"original_{name}"] - 3 * name.endswith("Kurtosis")
    rounding = 0.51 * 10.0 ** (np.floor(np.log10(abs(value))) - 2)  # consensus values have three digits
    tolerance = 0.007 * abs(value) if name.startswith("shape") else rounding
    assert got == pytest.approx(value, abs=max(tolerance, IBSI_DEVIATIONS.get(name, 0) * abs(value)))


def test_ibsi_list_is_complete():
    assert len(dict(ibsi_values())) == 102


@pytest.mark.skipif("RPS_REALDATA" not in os.environ, reason="RPS_REALDATA names no folder with the sarcoma CT")
@pytest.mark.parametrize("case", ["STS_001", "STS_002"])
def test_real_sarcoma_agrees_with_two_other_engines(case):
    """Two engines agree within 2.0e-4 on a 2 mm grid, 32 bins, outliers beyond 3 SD left out."""
    folder = Path(os.environ["RPS_REALDATA"]) / "sts_ct"
    reference = pd.read_csv(folder / "cross_engine_reference_fbn32_2mm.csv").set_index("case").loc[case]
    ct, mask = load_pair(folder / case / "nifti" / "image.nii.gz", folder / case / "nifti" / "mask.nii.gz")
    settings = ExtractionSettings(image_types=("original",), bin_count=32, outlier_sd=3)
    crop = crop_isotropic(ct, mask, 2.0, pad_mm(settings, 2.0))
    got = pd.Series(extract(*crop, settings))
    got["original_firstorder_Kurtosis"] -= 3  # the reference gives the excess
    got = got[reference["pyradiomics_feature"]].to_numpy()
    np.testing.assert_allclose(got, reference["pyradiomics"], rtol=1e-6)
    np.testing.assert_allclose(got, reference["mirp"], rtol=2.1e-4)


# ---------------------------------------------------------------- extraction


def test_every_image_type_gives_its_features():
    names = {
        kinds: list(extract(*textured(), ExtractionSettings(image_types=kinds)))
        for kinds in [("original",), ("log",), ("original", "log", "wavelet")]
    }
    assert [len(n) for n in names.values()] == [
        14 + 93,
        14 + 2 * 93,
        14 + 11 * 93,
    ]  # shape comes once, with any of them
    assert all(n == sorted(n) for n in names.values())


def test_pad_rule_keeps_the_border_of_a_crop_out_of_the_features():
    settings = ExtractionSettings(image_types=("log",))
    ct, mask = textured(shape=(64, 64, 64))
    whole = pd.Series(extract(ct, mask, settings))

    def worst(margin_mm):
        voxels = 32 - 8 - int(np.ceil(margin_mm / 3))
        part = (slice(voxels, 64 - voxels),) * 3
        return ((pd.Series(extract(ct.box(part), mask.box(part), settings)) - whole) / whole).abs().max()

    assert pad_mm(settings, 3.0) == 40
    assert worst(pad_mm(settings, 3.0)) < 1e-4
    assert worst(15.0) > 1e-3


def test_pad_rule_without_a_gaussian_is_five_voxels():
    assert pad_mm(ORIGINAL, 3.0) == 15
    assert pad_mm(ExtractionSettings(log_sigma_mm=(1.0,)), 3.0) == 15
    assert pad_mm(ExtractionSettings(log_sigma_mm=(1.0, 5.0)), 1.0) == 40


def test_features_do_not_see_a_mirror_image():
    ct, mask = textured()
    mirrored = [Volume(v.values[::-1].copy(), v.affine) for v in (ct, mask)]
    plain, other = (pd.Series(extract(*pair, ORIGINAL)) for pair in ((ct, mask), mirrored))
    np.testing.assert_allclose(other, plain, rtol=1e-6)


def test_constant_tumour_and_single_voxel_are_refused(tmp_path):
    ct, mask = textured()
    dot = np.zeros_like(mask.values)
    dot[20, 20, 20] = 1
    for pid, volume in (("dot", Volume(dot, mask.affine)), ("sound", mask)):
        write_volume(ct, crop_paths(tmp_path, pid)[0])
        write_volume(volume, crop_paths(tmp_path, pid)[1])
    with pytest.raises(ExtractionError, match=r"no features for 2 of 3 patients\ndot: .*\nabsent: FileNotFoundError"):
        extract_cohort(tmp_path, ["sound", "dot", "absent"], ORIGINAL, tmp_path / "store")
    assert (tmp_path / "store" / "sound.json").is_file()


def test_store_is_used_while_crop_and_settings_stay(crops, tmp_path, monkeypatch):
    store = tmp_path / "store"
    first = extract_cohort(crops, ["P2", "P0"], ORIGINAL, store)
    assert first["patient_id"].tolist() == ["P2", "P0"]
    monkeypatch.setattr("rps_utils.imaging.features.extract", lambda *_: {"computed": 1.0})
    pd.testing.assert_frame_equal(extract_cohort(crops, ["P2", "P0"], ORIGINAL, store), first)
    finer = ExtractionSettings(image_types=("original",), bin_width_hu=10)
    assert extract_cohort(crops, ["P0"], finer, store).columns.tolist() == ["patient_id", "computed"]
    write_volume(textured(7)[0], crop_paths(crops, "P0")[0])
    assert "computed" in extract_cohort(crops, ["P0"], ORIGINAL, store)


DAMAGE = {
    "a number cut short": lambda text: re.sub(r"(Mean\": -?\d+\.\d\d)\d+", r"\1", text, count=1),
    "cut in the middle": lambda text: text[: len(text) // 2],
    "a value altered": lambda text: text.replace('Mean": ', 'Mean": 1', 1),
    "no hash": lambda text: re.sub(r'"sha256": "\w+"', '"sha256": null', text),
    "empty": lambda text: "",
}


@pytest.mark.parametrize("spoil", DAMAGE.values(), ids=DAMAGE)
def test_stored_features_that_are_damaged_are_extracted_again_and_said_to_be(crops, tmp_path, capsys, spoil):
    store = tmp_path / "store"
    first = extract_cohort(crops, ["P0", "P1"], ORIGINAL, store)
    kept = store / "P1.json"
    sound = kept.read_text()
    kept.write_text(spoil(sound))
    assert kept.read_text() != sound
    capsys.readouterr()
    pd.testing.assert_frame_equal(extract_cohort(crops, ["P0", "P1"], ORIGINAL, store), first)
    said = capsys.readouterr().out
    assert "P1.json" in said and "the features are extracted again" in said and "P0.json" not in said
    assert kept.read_text() == sound


def test_a_crop_cut_short_is_named(crops, tmp_path):
    path = crop_paths(crops, "P1")[0]
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ExtractionError, match=r"P1: ValueError: .*P1_ct.nii.gz: not readable as a NIfTI image"):
        extract_cohort(crops, ["P0", "P1"], ORIGINAL, tmp_path / "store")


def test_processes_do_not_change_values(crops, tmp_path):
    ids = ["P0", "P1", "P2"]
    one = extract_cohort(crops, ids, ORIGINAL, tmp_path / "one")
    two = extract_cohort(crops, ids, ORIGINAL, tmp_path / "two", n_jobs=2)
    pd.testing.assert_frame_equal(one, two, check_exact=True)


REFUSED = {
    "unknown image type": (ExtractionSettings, {"image_types": ["orignal"]}, "image_types = .*allowed: one or more of"),
    "no image type": (ExtractionSettings, {"image_types": []}, "allowed: one or more of original, log, wavelet"),
    "bins of no width": (ExtractionSettings, {"bin_width_hu": 0}, "bin_width_hu = 0; allowed: above 0"),
    "no Gaussian": (ExtractionSettings, {"log_sigma_mm": []}, "log_sigma_mm = .*above 0 mm"),
    "unknown rule": (SelectionSettings, {"rule": "best"}, "rule = 'best'; allowed: min, 1se"),
    "correlation of zero": (SelectionSettings, {"correlation": 0}, "correlation = 0; allowed: above 0"),
    "no candidates": (SelectionSettings, {"candidates": 0}, "must be at least 1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_settings_that_make_no_sense_are_refused(name):
    settings, wrong, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        settings(**wrong)


# ---------------------------------------------------------------- selection and LASSO


def draw_radiomics(patients=86, features=60, effect=0.9, seed=0):
    """Features of which r0 and r1 drive the hazard, r2 copies r0, c never varies; the outcome; the true risk."""
    draw = np.random.default_rng(seed)
    values = draw.normal(size=(patients, features))
    values[:, 2] = values[:, 0] + draw.normal(0, 0.1, patients)
    risk = effect * (values[:, 0] - 0.7 * values[:, 1])
    recurrence, censoring = draw.exponential(40 * np.exp(-risk)), draw.uniform(6, 90, patients)
    table = pd.DataFrame(50 + 7 * values, columns=[f"r{i}" for i in range(features)]).assign(c=3.0)
    outcome = {"time_months": np.minimum(recurrence, censoring), "event": (recurrence <= censoring).astype(int)}
    return table, pd.DataFrame(outcome), risk


def test_partial_likelihood_by_hand():
    time, event = np.array([1.0, 2.0, 2.0, 3.0]), np.array([True, True, False, True])
    eta = np.array([0.3, -0.2, 0.5, 1.0])
    e = np.exp(eta)
    by_hand = 0.3 - np.log(e.sum()) - 0.2 - np.log(e[1:].sum()) + 1.0 - np.log(e[3])
    got = log_partial_likelihood(time, event, np.column_stack([eta, 0 * eta]))
    np.testing.assert_allclose(got, [by_hand, -np.log(4) - np.log(3)], rtol=1e-12)


def test_score_statistic_is_slope_over_curvature_of_the_likelihood():
    table, outcome, _ = draw_radiomics(40, 5)
    time, event = outcome["time_months"].round().to_numpy(), outcome["event"].to_numpy() == 1
    z = (table - table.mean()).drop(columns="c").to_numpy()
    step = 1e-3
    curve = [
        np.array([log_partial_likelihood(time, event, b * z[:, [j]])[0] for j in range(5)]) for b in (-step, 0.0, step)
    ]
    slope, bend = (curve[2] - curve[0]) / (2 * step), -(curve[2] - 2 * curve[1] + curve[0]) / step**2
    np.testing.assert_allclose(score_statistics(z, time, event), slope / np.sqrt(bend), rtol=1e-4)


def test_candidates_pass_over_copies_and_lead_with_the_strongest():
    table, outcome, _ = draw_radiomics()
    z = table[varying_features(table)].to_numpy()
    z = (z - z.mean(axis=0)) / z.std(axis=0)
    time, event = outcome["time_months"].to_numpy(), outcome["event"].to_numpy() == 1
    chosen, statistics = choose_candidates(z, time, event, 0.9, 12)
    assert len(chosen) == 12
    assert chosen[0] in (0, 2)
    assert not {0, 2} <= set(chosen)
    assert statistics[0] > 3
    assert statistics[1] < -1.5


def test_features_that_hardly_vary_are_left_out():
    table = pd.DataFrame({"c": 3.0, "rounding": 3 + 1e-13 * np.arange(20), "rare": [1.0] * 19 + [0.0], "a": range(20)})
    assert varying_features(table) == ["a"]


def test_penalty_rules():
    deviance = np.array([[1.0, 0.9, 0.5], [1.0, 0.7, 0.9], [1.0, 0.8, 0.85]])
    assert choose_penalty(deviance, "min", 3) == 2
    assert choose_penalty(deviance, "1se", 3) == 1


def test_score_finds_the_signal_and_ranks_new_patients():
    found = []
    for seed in range(5):
        model = fit_radiomic_model(*draw_radiomics(seed=seed)[:2], seed=seed)
        assert model.note == ""
        assert {"r0", "r2"} & set(model.features)
        table, outcome, truth = draw_radiomics(400, seed=100 + seed)
        args = outcome["time_months"], outcome["event"]
        found.append((harrell_c(*args, model.risk(table)), harrell_c(*args, truth)))
    learned, oracle = np.mean(found, axis=0)
    assert 0.65 < learned < oracle
    assert oracle - learned < 0.08


def test_score_of_noise_is_worth_nothing():
    values = []
    for seed in range(20):
        learns, tests = (draw_radiomics(n, effect=0.0, seed=[seed, n]) for n in (86, 200))
        model = fit_radiomic_model(*learns[:2], seed=seed)
        values.append(harrell_c(tests[1]["time_months"], tests[1]["event"], model.risk(tests[0])))
    assert abs(np.mean(values) - 0.5) < 3 * np.std(values) / np.sqrt(20)
    assert np.std(values) < 0.06


def test_lasso_agrees_with_coxnet_at_the_chosen_penalty():
    table, outcome, _ = draw_radiomics()
    model = fit_radiomic_model(table, outcome)
    z = ((table[model.features] - model.means) / model.sds).clip(-3, 3)
    target = np.array(list(zip(outcome["event"] == 1, outcome["time_months"], strict=True)), dtype="?, f8")
    again = CoxnetSurvivalAnalysis(l1_ratio=1.0, alphas=[model.penalty], tol=1e-10).fit(z.to_numpy(), target)
    np.testing.assert_allclose(model.coefficients, again.coef_[:, 0], atol=1e-4)


def test_fallback_is_flagged():
    table, outcome, _ = draw_radiomics(effect=0.0, seed=3)
    model = fit_radiomic_model(table, outcome, SelectionSettings(rule="1se"))
    assert model.note.startswith("cross-validation preferred no feature")
    assert 1 <= len(model.features) <= 2
    assert np.ptp(model.risk(table)) > 0


def test_model_survives_json_and_repeats(tmp_path):
    table, outcome, _ = draw_radiomics()
    model, again = (fit_radiomic_model(table, outcome, seed=1) for _ in range(2))
    assert model == again
    write_json(vars(model), tmp_path / "m.json")
    back = RadiomicModel(**read_json(tmp_path / "m.json"))
    np.testing.assert_array_equal(back.risk(table), model.risk(table))
    assert json.loads((tmp_path / "m.json").read_text())["features"] == model.features


def test_one_odd_value_cannot_decide_a_score():
    table, outcome, _ = draw_radiomics()
    model = fit_radiomic_model(table, outcome)
    odd = table.iloc[[0, 0]].reset_index(drop=True)
    odd.loc[1, model.features[0]] = 1e9
    assert abs(np.diff(model.risk(odd))[0]) < 6 * abs(model.coefficients[0])


def test_model_refuses_what_it_cannot_score():
    table, outcome, _ = draw_radiomics()
    model = fit_radiomic_model(table, outcome)
    with pytest.raises(ValueError, match=f"feature {model.features[0]} is missing: extract with the settings"):
        model.risk(table.drop(columns=model.features[0]))
    with pytest.raises(ValueError, match="not a finite number"):
        model.risk(table.assign(**{model.features[0]: np.nan}))


@pytest.mark.parametrize("events", [2, 3, 7])
def test_few_patients_still_give_a_score_that_ranks(events):
    table, outcome, _ = draw_radiomics(9)
    model = fit_radiomic_model(table, outcome.assign(event=[1] * events + [0] * (9 - events)))
    assert np.isfinite(model.risk(table)).all()
    assert np.ptp(model.risk(table)) > 0


def test_fitting_needs_events_and_variation():
    table, outcome, _ = draw_radiomics()
    with pytest.raises(ValueError, match="0 events among 86 patients: a score needs 2 at least"):
        fit_radiomic_model(table, outcome.assign(event=0))
    with pytest.raises(ValueError, match="no feature varies"):
        fit_radiomic_model(table[["c"]], outcome)
