import numpy as np
import pandas as pd
import pytest


def draw_cohort(patients: int = 120, seed: int = 5, folds: int = 5) -> pd.DataFrame:
    """A cohort whose hazard is known: exp(1.2 signal + 0.5 (age - 56) / 10); `noise` predicts nothing."""
    draw = np.random.default_rng(seed)
    signal, noise = draw.normal(size=(2, patients))
    age = np.round(draw.normal(56, 12, patients))
    hazard = np.exp(1.2 * signal + 0.05 * (age - 56)) / 40
    recurrence, censoring = draw.exponential(1 / hazard), draw.uniform(6, 90, patients)
    split = np.where(np.arange(patients) % 4 == 3, "validation", "training")
    fold = np.where(split == "training", np.arange(patients) % folds, np.nan)
    return pd.DataFrame(
        {
            "patient_id": [f"P{i:03d}" for i in range(patients)],
            "split": split,
            "fold": fold,
            "time_months": np.minimum(recurrence, censoring).clip(0.5),
            "event": (recurrence <= censoring).astype(int),
            "age": age,
            "grade": draw.choice(["G1", "G2", "G3"], patients),
            "signal": signal,
            "noise": noise,
        }
    )


@pytest.fixture
def cohort() -> pd.DataFrame:
    return draw_cohort()
