"""Regions of a tumour: equal thirds, the right names on both sides of the body, a margin outside."""

import numpy as np
import pandas as pd
import pytest

from rps_utils.imaging.features import ExtractionSettings, extract, pad_mm, regional_features
from rps_utils.imaging.regions import MARGIN, MARGIN_MM, REGIONS, THIRDS, region_masks, right_sided
from rps_utils.imaging.volumes import Volume

GRID = np.diag([3.0, 3.0, 3.0, 1.0])


def block(shape=(30, 30, 30), low=9, high=21):
    values = np.zeros(shape, np.uint8)
    values[low:high, low:high, low:high] = 1
    return Volume(values, GRID)


def test_thirds_hold_a_third_each_and_the_margin_lies_outside():
    mask = block()
    regions = region_masks(mask, right_sided=False)
    assert tuple(regions) == REGIONS
    for name in (name for pair in THIRDS for name in pair):
        assert regions[name].values.sum() == 12**3 // 3
        assert not (regions[name].values & ~mask.values).any()
    assert not (regions[MARGIN].values & mask.values).any()
    away = 6  # voxels of 3 mm within 20 mm
    assert regions[MARGIN].values[15, 15, 21 + away - 1] == 1 and regions[MARGIN].values[15, 15, 21 + away] == 0


@pytest.mark.parametrize(("right_sided", "low", "high"), [(False, "flank", "midline"), (True, "midline", "flank")])
def test_the_first_axis_is_named_by_the_side_of_the_body(right_sided, low, high):
    regions = region_masks(block(), right_sided=right_sided)
    assert regions[low].values[9:13].sum() == 12**3 // 3 and regions[high].values[17:21].sum() == 12**3 // 3
    assert regions["back"].values[:, 9:13].sum() == regions["feet"].values[:, :, 9:13].sum() == 12**3 // 3


def test_a_mean_by_region_tells_where_the_whole_does_not():
    settings = ExtractionSettings(image_types=("original",))
    mask, rng = block(), np.random.default_rng(0)
    hu = rng.normal(0, 5, mask.values.shape)
    hu[9:15] += 60.0
    found = regional_features(Volume(hu.astype(np.int16), GRID), mask, False, settings)
    mean = {name: found[f"{name}_original_firstorder_Mean"] for name in REGIONS}
    assert mean["flank"] == pytest.approx(60, abs=2) and mean["midline"] == pytest.approx(0, abs=2)
    assert mean["back"] == pytest.approx(mean["front"], abs=2)
    assert not any("_shape_" in name for name in found)


def test_a_tumour_too_small_for_thirds_is_named():
    with pytest.raises(ValueError, match=r"region '\w+' of \d+ voxels"):
        tiny = block(low=9, high=10)
        regional_features(
            Volume(np.zeros((30, 30, 30), np.int16), GRID), tiny, False, ExtractionSettings(("original",))
        )


WITH_REGIONS = ExtractionSettings(("original",), regions=True)


def test_regions_join_the_features_of_the_whole_and_need_the_side():
    mask, rng = block(), np.random.default_rng(1)
    ct = Volume(rng.normal(0, 20, mask.values.shape).astype(np.int16), GRID)
    plain, both = extract(ct, mask, ExtractionSettings(("original",))), extract(ct, mask, WITH_REGIONS, True)
    assert both | plain == both and len(both) == len(plain) + len(REGIONS) * (len(plain) - 14)
    other = extract(ct, mask, WITH_REGIONS, False)
    assert both["flank_original_firstorder_Mean"] == other["midline_original_firstorder_Mean"]
    with pytest.raises(ValueError, match="the side of the tumour is not known"):
        extract(ct, mask, WITH_REGIONS)


def test_the_margin_of_a_region_needs_a_margin_of_its_own():
    assert pad_mm(WITH_REGIONS, 3.0) == 15 + MARGIN_MM


def test_the_side_comes_from_the_table_of_images():
    facts = pd.DataFrame({"patient_id": ["A", "B"], "side": ["right", "left"]})
    assert right_sided(facts) == {"A": True, "B": False}
