import numpy as np
import pandas as pd
import pytest

from rps_utils.figures.effects import draw_nomogram
from rps_utils.learning import cox
from rps_utils.learning.nomogram import make_nomogram, nomogram_table, pretty, read_points

LANDMARKS = [12, 36]


@pytest.fixture
def drawn(cohort):
    training = cohort[cohort["split"] == "training"]
    design = cox.learn_design(training, ["age", "grade"])
    matrix = design.matrix(training)
    matrix.insert(0, "image_score", training.set_index("patient_id")["signal"])
    return make_nomogram(cox.fit_cox(matrix, training), matrix, design.levels), matrix, training


def findings_of(training):
    return training.rename(columns={"signal": "image_score"})[["image_score", "age", "grade"]].to_dict("records")


def test_points_read_off_the_axes_give_the_models_own_lrfs(drawn):
    made, matrix, training = drawn
    totals = [read_points(made, finding)["points"].sum() for finding in findings_of(training)]
    expected = made.model.lrfs(matrix, LANDMARKS)
    np.testing.assert_allclose(made.lrfs(totals, LANDMARKS), expected, atol=1e-6)
    np.testing.assert_allclose(made.total_of_risk(made.model.risk(matrix)), totals, atol=1e-6)


def test_a_curve_has_one_axis_and_its_points_are_those_of_the_model(cohort):
    training = cohort[cohort["split"] == "training"]
    design = cox.learn_design(training, ["rcs(age)", "grade"])
    matrix = design.matrix(training)
    matrix.insert(0, "image_score", training.set_index("patient_id")["signal"])
    made = make_nomogram(cox.fit_cox(matrix, training), matrix, design.levels, design.knots)
    assert list(made.ticks["axis"].unique()) == ["image_score", "age", "grade"]
    totals = [read_points(made, finding)["points"].sum() for finding in findings_of(training)]
    np.testing.assert_allclose(made.lrfs(totals, LANDMARKS), made.model.lrfs(matrix, LANDMARKS), atol=1e-6)
    draw_nomogram(made, LANDMARKS)


def test_a_ruler_on_the_drawing_gives_the_models_own_lrfs(drawn):
    """Only the figure is used: places of marks, straight lines between them on the scale they are drawn in."""
    made, matrix, training = drawn
    figure = draw_nomogram(made, LANDMARKS)
    words = dict(zip(figure.layout.yaxis.ticktext, figure.layout.yaxis.tickvals, strict=True))
    axis = {name: next(t for t in figure.data if t.y[0] == y) for name, y in words.items()}

    def place(name, value):
        marks = sorted((float(label), x) for label, x in zip(axis[name].customdata, axis[name].x, strict=True))
        return np.interp(value, *zip(*marks, strict=True))

    levels = dict(zip(axis["grade"].customdata, axis["grade"].x, strict=True))
    total = np.array([place(n, matrix[n]) for n in ("image_score", "age")]).sum(axis=0)
    total += training["grade"].map(levels).to_numpy()
    across = np.interp(total, np.array(axis["total points"].customdata, float), axis["total points"].x)
    lrfs = axis["LRFS at 36 months"]
    spots = sorted((x, np.log(-np.log(float(label)))) for label, x in zip(lrfs.customdata, lrfs.x, strict=True))
    within = (across >= spots[0][0]) & (across <= spots[-1][0])
    read = np.exp(-np.exp(np.interp(across, *zip(*spots, strict=True))))
    assert within.mean() > 0.7
    np.testing.assert_allclose(read[within], made.model.lrfs(matrix, [36])["lrfs_36"][within], atol=1e-6)


def test_axes_begin_at_low_risk_and_the_longest_is_100_points_long(drawn):
    made = drawn[0]
    reach = made.ticks.groupby("axis")["points"].agg(["min", "max"])
    assert (reach["min"].abs() < 1e-9).all()
    assert reach["max"].max() == pytest.approx(100)
    assert list(made.ticks["axis"].unique()) == ["image_score", "age", "grade"]
    assert list(made.ticks.loc[made.ticks["axis"] == "grade", "label"]) == ["G1", "G2", "G3"]
    assert (np.diff(made.lrfs([0, 50, 100, 150], [36])["lrfs_36"]) < 0).all()


def test_a_protective_term_has_its_zero_at_the_high_end():
    matrix = pd.DataFrame({"a": [0.0, 1.0, 3.0], "b": [10.0, 20.0, 60.0]})
    model = cox.CoxModel(["a", "b"], [0.5, -0.01], [0.0, 0.0], [1.0], [0.1])
    ticks = make_nomogram(model, matrix).ticks.set_index(["axis", "value"])["points"]
    assert ticks["a", 0.0] == 0 and ticks["a", 3.0] == pytest.approx(100)
    assert ticks["b", 60.0] == 0 and ticks["b", 10.0] == pytest.approx(100 / 3)


def test_a_level_without_a_term_is_read_as_the_reference(drawn):
    findings = {"image_score": 0.0, "age": 50.0}
    points = [read_points(drawn[0], {**findings, "grade": g})["points"].iloc[2] for g in ("G1", "G4", "G3")]
    assert points[0] == points[1] != points[2]


PRETTY = {
    "ages, step 5": (24, 90, [20, 90, 5]),
    "nodes, step 2": (0, 19, [0, 20, 2]),
    "below one": (0.013, 0.094, [0.01, 0.1, 0.01]),
    "around zero": (-2.31, 1.78, [-2.5, 2.0, 0.5]),
}


@pytest.mark.parametrize(("low", "high", "wanted"), PRETTY.values(), ids=PRETTY)
def test_round_numbers_enclose_the_range(low, high, wanted):
    """Values of R's pretty(c(low, high), 10)."""
    ticks = pretty(low, high)
    assert [ticks[0], ticks[-1]] == wanted[:2]
    np.testing.assert_allclose(np.diff(ticks), wanted[2])


FAULTS = {
    "no term matters": ([0.0, 0.0], {"a": 1.0, "b": 1.0}, "all coefficients of .* are 0"),
    "finding missing": ([1.0, 0.5], {"a": 1.0}, "findings has no 'b'; needed: .'a', 'b'."),
}


@pytest.mark.parametrize(("weights", "findings", "message"), FAULTS.values(), ids=FAULTS)
def test_what_cannot_be_read_is_named(weights, findings, message):
    matrix = pd.DataFrame({"a": [0.0, 1.0, 3.0], "b": [10.0, 20.0, 60.0]})
    model = cox.CoxModel(["a", "b"], weights, [0.0, 0.0], [1.0], [0.1])
    with pytest.raises(ValueError, match=message):
        read_points(make_nomogram(model, matrix), findings)


def test_a_landmark_beyond_follow_up_has_no_axis(drawn):
    table = nomogram_table(drawn[0], [36, 600])
    assert "LRFS at 36 months" in set(table["axis"])
    assert "LRFS at 600 months" not in set(table["axis"])
