import logging

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage, special
from scipy.spatial.distance import pdist

from rps_utils.lab.phantom import tumour as pt
from rps_utils.lab.phantom.ct import (
    SECOND_TISSUE,
    STRANDS,
    Scan,
    draw_body,
    kernel_noise,
    place_tumour,
    render_patient,
    render_with_reference,
    spine_points,
)

COARSE = (4.0, 4.0, 5.0)
LATENTS = {"histology": "DDLPS", "size_cm": 16.0, "z_rad": 0.0, "z_spat": 0.0, "z_int": 0.0, "side": "right"}


def render(seed: int = 4, spacing: tuple[float, float, float] = COARSE, **latents) -> tuple[np.ndarray, np.ndarray]:
    ct, mask, _ = render_patient(LATENTS | {"scanner": 0.0} | latents, seed, spacing)
    return ct.astype(float), mask.astype(bool)


def outward_slope(ct: np.ndarray, mask: np.ndarray, side: str) -> float:
    """Correlation of HU with the lateral coordinate inside the mask; positive = brighter toward the flank."""
    x = np.nonzero(mask)[0] * (1 if side == "right" else -1)
    return float(np.corrcoef(x, ct[mask])[0, 1])


def fat_plane(ct: np.ndarray, mask: np.ndarray, side: str) -> float:
    """Share of soft tissue among soft tissue and fat within 12 mm of the mask, toward spine and back."""
    near = ndimage.binary_dilation(mask, ndimage.generate_binary_structure(3, 1), iterations=3) & ~mask
    middle = np.argwhere(mask).mean(axis=0)
    x, y, _ = np.indices(mask.shape)
    facing = -0.8 * (x - middle[0]) * (1 if side == "right" else -1) - 0.6 * (y - middle[1]) > 6
    hu = ct[near & facing]
    return float((hu[(hu > -160) & (hu < 150)] > -40).mean())


def test_a_scan_of_the_abdomen():
    ct, mask, affine = render_patient(LATENTS, 4)
    assert ct.dtype == np.int16 and mask.dtype == np.uint8
    assert ct.shape == mask.shape and ct.shape[:2] == (192, 160) and 60 <= ct.shape[2] <= 85
    assert np.count_nonzero(affine[:3, :3]) == 3 and (np.diag(affine) > 0).all()
    assert 1.9 <= affine[0, 0] <= 2.3 and affine[2, 2] in (4.0, 5.0)
    assert ct.min() >= -1024 and ct.max() > 400
    shares = [((ct > low) & (ct < high)).mean() for low, high in ((-1024, -900), (-140, -60), (20, 150))]
    assert all(0.1 < share < 0.7 for share in shares)


def test_the_liver_is_right_and_the_spleen_left():
    ct, _, affine = render_patient(LATENTS | {"side": "left", "size_cm": 8.0}, 4)
    x = affine[0, 3] + affine[0, 0] * np.arange(ct.shape[0])
    top = ndimage.uniform_filter(ct[:, :, -20:].astype(float), 3)
    bright = ((top > 85) & (top < 150)).sum(axis=(1, 2))
    assert bright[x > 20].sum() > 2 * bright[x < -20].sum() > 0


def test_same_seed_same_bytes():
    first, again, other = (render_patient(LATENTS, seed, COARSE) for seed in (4, 4, 5))
    assert first[0].tobytes() == again[0].tobytes() and first[1].tobytes() == again[1].tobytes()
    assert first[0].tobytes() != other[0].tobytes()


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("size_cm", [4.0, 12.0, 21.0, 45.0])
def test_the_longest_diameter_is_size_cm_and_the_tumour_lies_in_the_body(size_cm, side):
    ct, mask = render(size_cm=size_cm, side=side)
    edge = np.argwhere(mask & ~ndimage.binary_erosion(mask)) * COARSE
    longest = pdist(edge[:: max(1, len(edge) // 1500)]).max() / 10
    assert longest == pytest.approx(size_cm, abs=0.06 * size_cm + 0.5)
    assert ndimage.label(mask)[1] == 1
    assert not mask[[0, -1]].any() and not mask[:, [0, -1]].any() and not mask[:, :, [0, -1]].any()
    air = ndimage.label(ct < -600)[0]
    outside = np.isin(air, np.unique(air[[0, -1]])[1:])
    assert not (ndimage.binary_dilation(mask, iterations=2) & outside).any()
    middle = ct.shape[0] / 2 - np.argwhere(mask)[:, 0].mean()
    assert (middle < 0) == (side == "right") or size_cm > 30


def test_tumours_stay_clear_of_the_spine():
    for seed in range(12):
        rng = np.random.default_rng(seed)
        body, outward = draw_body(rng), 1.0 if seed % 2 else -1.0
        tumour = place_tumour(pt.draw_shape(6.0 + 3.5 * seed, rng), body, outward, rng)
        spine = spine_points(body, tumour.centre[2], tumour.half[2])
        assert tumour.level(*spine.T).min() > 1.0


@pytest.mark.parametrize("z_rad", [-2.0, 0.0, 2.0])
def test_z_rad_is_the_share_of_second_tissue(z_rad):
    ct, mask = render(size_cm=20.0, z_rad=z_rad)
    inner = ndimage.binary_erosion(mask)
    assert (ct[inner] > -5).mean() == pytest.approx(0.08 + 0.42 * special.ndtr(z_rad), abs=0.06)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(("histology", "second_is"), [("WDLPS", 1), ("DDLPS", 1), ("LMS", -1), ("other", -1)])
def test_z_spat_moves_the_second_tissue_to_the_midline_on_both_sides(histology, second_is, side):
    medial, lateral = (
        outward_slope(*render(histology=histology, side=side, z_rad=0.5, z_spat=z), side) * second_is
        for z in (2.0, -2.0)
    )
    assert medial < -0.3 and lateral > 0.3


def test_z_spat_survives_six_millimetres():
    slopes = [outward_slope(*render(spacing=(6.0, 6.0, 6.0), z_spat=z), "right") for z in (-2.0, -1.0, 1.0, 2.0)]
    assert np.all(np.diff(slopes) < 0) and slopes[1] > 0.1 and slopes[2] < -0.1


@pytest.mark.parametrize("side", ["left", "right"])
def test_z_int_is_read_outside_the_mask_and_not_inside(side):
    scans = [render(side=side, z_int=z) for z in (-2.0, 0.0, 2.0)]
    planes = [fat_plane(ct, mask, side) for ct, mask in scans]
    assert planes[1] > planes[0] + 0.1 and planes[2] > planes[1] + 0.1
    inner = ndimage.binary_erosion(scans[0][1])
    assert np.abs(scans[2][0][inner] - scans[0][0][inner]).max() <= 1
    assert (scans[0][1] == scans[2][1]).all()


def test_placement_is_odd_under_reflection():
    rng = np.random.default_rng(0)
    inside, field = rng.random((9, 8, 7)) < 0.6, rng.standard_normal((9, 8, 7))
    lateral = np.linspace(-1, 1, 9)[:, None, None]
    toward = pt.second_tissue(inside, 1.2 * lateral, field, 0.3, septal=False)
    away = pt.second_tissue(inside[::-1], -1.2 * lateral, field[::-1], 0.3, septal=False)
    assert np.allclose(toward, away[::-1], atol=1e-12)
    assert (toward > 0.5).sum() == pytest.approx((0.08 + 0.42 * special.ndtr(0.3)) * inside.sum(), abs=1)


def test_radiomics_cannot_tell_a_volume_from_its_mirror_image():
    featureextractor = pytest.importorskip("radiomics.featureextractor")
    logging.getLogger("radiomics").setLevel(logging.ERROR)
    extractor = featureextractor.RadiomicsFeatureExtractor(binWidth=25)
    ct, mask = render(size_cm=9.0, z_spat=1.5, spacing=(5.0, 5.0, 5.0))
    box = tuple(slice(i.min() - 2, i.max() + 3) for i in np.nonzero(mask))
    images = [[sitk.GetImageFromArray(a[box][::way]) for a in (ct, mask.astype(np.uint8))] for way in (1, -1)]
    plain, mirrored = ({k: v for k, v in extractor.execute(*i).items() if k.startswith("original")} for i in images)
    assert len(plain) == 107
    for name, value in plain.items():
        assert float(mirrored[name]) == pytest.approx(float(value), rel=1e-6, abs=1e-9), name


def test_fields_do_not_depend_on_the_grid():
    fine, coarse = np.arange(0, 40, 1.0), np.arange(0, 40, 4.0)
    fields = [pt.random_field([c, c, c], 5.0, np.random.default_rng(3)) for c in (fine, coarse)]
    assert np.allclose(fields[0][::4, ::4, ::4], fields[1], atol=1e-9)
    wide = pt.random_field([np.arange(0, 400, 9.0)] * 3, 5.0, np.random.default_rng(3))
    assert wide.std() == pytest.approx(1.0, abs=0.1) and abs(wide.mean()) < 0.1


def test_satellites_of_a_multifocal_tumour_are_not_in_the_mask():
    (single, mask), (multiple, same) = (render(multifocal=word) for word in ("no", "yes"))
    assert (mask == same).all()
    changed = np.abs(multiple - single) > 60
    assert changed.sum() > 10 and not (changed & ndimage.binary_erosion(mask)).any()


def test_noise_follows_the_scanner():
    (quiet, mask), (loud, _) = (render(spacing=(2.0, 2.0, 5.0), size_cm=8.0, scanner=s) for s in (0.0, 1.0))
    change = (loud - quiet)[ndimage.binary_erosion(mask, iterations=2)]
    assert 15 - 7 < change.std() < 15 + 7


def test_a_sharp_kernel_makes_finer_noise():
    scans = [Scan((2.0, 2.0, 5.0), 10.0, sharp, 1.0, 0.0) for sharp in (False, True)]
    smooth, sharp = (kernel_noise((40, 40, 10), scan, np.random.default_rng(1)) for scan in scans)
    neighbours = [np.corrcoef(noise[1:].ravel(), noise[:-1].ravel())[0, 1] for noise in (smooth, sharp)]
    assert neighbours[0] > neighbours[1] + 0.2
    assert smooth.std() == pytest.approx(1.0) and sharp.std() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("latents", "message"),
    [
        ({"histology": "GIST"}, "histology 'GIST' is unknown: use WDLPS"),
        ({"side": "middle"}, "side 'middle' is unknown: use 'left' or 'right'"),
        ({"z_spat": np.nan}, "z_spat is nan: latents are finite"),
        ({"size_cm": 80.0}, "size_cm is 80.0: .* 3 to 45 cm"),
    ],
)
def test_latents_are_checked(latents, message):
    with pytest.raises(ValueError, match=message):
        render_patient(LATENTS | latents, 1, COARSE)


def reference(**latents):
    ct, mask, _, labels = render_with_reference(LATENTS | {"scanner": 0.0} | latents, 4, COARSE)
    return ct.astype(float), mask.astype(bool), labels


def test_the_reference_map_changes_nothing_of_the_scan():
    plain, mapped = (f(LATENTS, 4, COARSE) for f in (render_patient, render_with_reference))
    assert all(a.tobytes() == b.tobytes() for a, b in zip(plain, mapped[:3], strict=True))


@pytest.mark.parametrize(("z_rad", "share"), [(-2.0, 0.09), (0.0, 0.29), (2.0, 0.49)])
def test_the_second_tissue_is_marked_inside_the_mask_in_its_true_share(z_rad, share):
    ct, mask, labels = reference(z_rad=z_rad, size_cm=12.0)
    second = labels == SECOND_TISSUE
    assert not (second & ~mask).any()
    assert second.sum() / mask.sum() == pytest.approx(share, abs=0.06)  # foci hide a little of it
    inner = ndimage.binary_erosion(mask)
    assert ct[second & inner].mean() > ct[~second & inner].mean() + 80, "in a fatty tumour it is the denser tissue"


def test_z_spat_moves_the_mark_and_z_int_the_strands():
    for side, sign in (("right", 1), ("left", -1)):
        places = [
            sign * (np.nonzero(labels == SECOND_TISSUE)[0].mean() - np.nonzero(mask)[0].mean())
            for _, mask, labels in (reference(z_spat=z, side=side) for z in (-2.0, 2.0))
        ]
        assert places[0] > 3 > -3 > places[1], "positive z_spat lies toward the midline"
    few, many = ((labels == STRANDS).sum() for _, _, labels in (reference(z_int=z) for z in (-2.0, 2.0)))
    assert many > 4 * few > 0


def test_strands_lie_outside_the_mask_and_are_denser_than_the_fat_plane():
    ct, mask, labels = reference(z_int=0.5)
    strands, near = labels == STRANDS, ndimage.binary_dilation(mask, iterations=3) & ~mask
    assert not (strands & mask).any() and (strands & near).sum() > 0.6 * strands.sum()
    assert ct[strands].mean() > ct[near & ~strands].mean() + 20
