import numpy as np
import pandas as pd
import pytest
from lifelines import KaplanMeierFitter
from lifelines.utils import concordance_index
from scipy import stats

from rps_utils.lab.phantom.patients import VARIANTS, draw_patients, image_causes, true_lrfs


def concordance(patients: pd.DataFrame, column: str) -> float:
    return concordance_index(patients["time_months"], -patients[column], patients["event"])


@pytest.fixture(scope="module")
def full() -> pd.DataFrame:
    return draw_patients(4000, seed=11)


def test_full_variant_meets_its_specification(full):
    curve = KaplanMeierFitter().fit(full["time_months"], full["event"])
    assert 0.40 <= full["event"].mean() <= 0.50
    assert 0.53 <= curve.predict(36.0) <= 0.63
    assert 0.82 <= concordance(full, "eta") <= 0.87


MARGINALS = {
    "well differentiated": ("histology", "WDLPS", 0.27),
    "dedifferentiated": ("histology", "DDLPS", 0.35),
    "grade 1": ("grade", "G1", 0.37),
    "grade 3": ("grade", "G3", 0.29),
    "multifocal": ("multifocal", "yes", 0.15),
    "symptoms": ("symptoms", "yes", 0.53),
    "rupture": ("rupture", "yes", 0.055),
    "R1": ("margin", "R1", 0.32),
    "R2": ("margin", "R2", 0.06),
    "radiotherapy": ("radiotherapy", "yes", 0.08),
    "chemotherapy": ("chemotherapy", "yes", 0.07),
    "male": ("sex", "male", 0.5),
    "right": ("side", "right", 0.5),
}


@pytest.mark.parametrize("case", MARGINALS)
def test_marginals(full, case):
    column, level, share = MARGINALS[case]
    assert (full[column] == level).mean() == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / 4000))


def test_numeric_marginals(full):
    assert full["size_cm"].median() == pytest.approx(15.9, abs=0.6)
    assert full["size_cm"].between(4, 45).all()
    assert full["age"].median() == pytest.approx(56, abs=1)
    assert full["organs_resected"].mean() == pytest.approx(1.1, abs=0.1)


def test_z_spat_is_independent_of_everything_but_the_outcome(full):
    others = ["age", "size_cm", "organs_resected", "aggressiveness", "z_rad", "z_int", "scanner"]
    assert full[others].corrwith(full["z_spat"]).abs().max() < 4 / np.sqrt(4000)
    assert concordance(full, "z_spat") > 0.62


# Concordance of eta, z_rad, z_spat, z_int and scanner; bands of +-.03 around values of 8,000 patients.
CONCORDANCE = {
    "full": {"eta": 0.84, "z_rad": 0.63, "z_spat": 0.67, "z_int": 0.66, "scanner": 0.50},
    "rad_sufficient": {"eta": 0.83, "z_rad": 0.74, "z_spat": 0.50, "scanner": 0.50},
    "clinical_only": {"eta": 0.76, "z_rad": 0.52, "z_spat": 0.50, "scanner": 0.50},
    "image_only": {"eta": 0.785, "z_rad": 0.64, "z_spat": 0.71, "z_int": 0.63, "scanner": 0.50},
    "null": {"eta": 0.50, "z_rad": 0.50, "z_spat": 0.50, "z_int": 0.50, "size_cm": 0.50, "scanner": 0.50},
    "decoupled": {"eta": 0.84, "z_spat": 0.67, "scanner": 0.50},
    "confounded": {"eta": 0.85, "scanner": 0.62},
    "era_only": {"eta": 0.68, "z_rad": 0.50, "z_spat": 0.50, "z_int": 0.50, "size_cm": 0.50, "scanner": 0.68},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_predicts_recurrence_in_each_variant(variant):
    patients = draw_patients(4000, 11, variant)
    for column, expected in CONCORDANCE[variant].items():
        assert concordance(patients, column) == pytest.approx(expected, abs=0.03), column
    assert 0.40 <= patients["event"].mean() <= 0.50
    assert true_lrfs(patients["eta"].to_numpy(), 36.0, variant).mean() == pytest.approx(0.55, abs=0.03)


def test_null_has_no_true_hazard_at_all():
    assert (draw_patients(50, 1, "null")["eta"] == 0).all()


def test_the_image_of_decoupled_patients_is_somebody_elses():
    patients = draw_patients(2000, 3, "decoupled")
    causes = image_causes(patients, 3, "decoupled")
    for column in ("z_rad", "z_spat", "z_int", "size_cm"):
        assert abs(causes[column].corr(patients[column])) < 4 / np.sqrt(2000)
    assert (causes["image_seed"] == patients["image_seed"]).all()
    pd.testing.assert_frame_equal(image_causes(draw_patients(5, 3), 3), draw_patients(5, 3)[list(causes.columns)])


def test_a_patient_does_not_depend_on_the_size_of_the_cohort():
    pd.testing.assert_frame_equal(draw_patients(7, 5), draw_patients(300, 5).head(7))
    assert draw_patients(300, 5)["image_seed"].is_unique
    assert not draw_patients(7, 5)["eta"].equals(draw_patients(7, 6)["eta"])


def test_variants_share_their_patients():
    full, null = draw_patients(40, 5), draw_patients(40, 5, "null")
    same = ["age", "size_cm", "histology", "margin", "z_spat", "image_seed"]
    pd.testing.assert_frame_equal(full[same], null[same])


def test_without_visits_recurrence_follows_the_weibull_law():
    patients = draw_patients(4000, 8, visit_grid=False)
    curve = KaplanMeierFitter().fit(patients["time_months"], patients["event"])
    for month in (12.0, 36.0, 60.0):
        truth = true_lrfs(patients["eta"].to_numpy(), month, "full").mean()
        assert curve.predict(month) == pytest.approx(truth, abs=0.04)


def test_visits_delay_recurrences_and_hide_the_last_ones():
    exact, seen = (draw_patients(3000, 9, visit_grid=grid) for grid in (False, True))
    both = (exact["event"] == 1) & (seen["event"] == 1)
    delay = (seen["time_months"] - exact["time_months"])[both]
    assert 1.0 < delay.mean() < 3.0
    assert seen["event"].sum() < exact["event"].sum()


def test_death_counts_in_the_composite_endpoint_only():
    recurrence, either = (draw_patients(3000, 9, endpoint=e) for e in ("lr", "lr_or_death"))
    assert 0.03 < either["event"].mean() - recurrence["event"].mean() < 0.12
    assert (either["time_months"] == recurrence["time_months"]).all()


def test_deaths_are_told_apart_and_nothing_else_changes():
    plain, told = (draw_patients(3000, 9, endpoint=e) for e in ("lr", "competing"))
    either = draw_patients(3000, 9, endpoint="lr_or_death")
    assert ((told["event"] == 1) == plain["event"]).all() and (told["time_months"] == plain["time_months"]).all()
    assert ((told["event"] > 0) == either["event"]).all() and 0.03 < (told["event"] == 2).mean() < 0.12


def test_missing_values_leave_the_hazard_alone():
    whole, holed = draw_patients(4000, 2), draw_patients(4000, 2, missing=True)
    assert holed["margin"].isna().mean() == pytest.approx(0.03, abs=0.012)
    assert holed["grade"].isna().mean() == pytest.approx(0.02, abs=0.01)
    gone = holed["symptoms"].isna()
    assert stats.mannwhitneyu(holed["size_cm"][gone], holed["size_cm"][~gone]).pvalue < 1e-4
    assert whole["eta"].equals(holed["eta"])
    assert holed.drop(columns=["margin", "grade", "symptoms"]).notna().all().all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variant": "fuller"}, "variant 'fuller' is unknown.*full"),
        ({"endpoint": "os"}, "endpoint 'os' is unknown.*competing.*lr_or_death"),
        ({"n": 0}, "n is 0: .* at least 1"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        draw_patients(**({"n": 5, "seed": 1} | arguments))
