"""NRRD, MetaImage and segmentations of 3D Slicer: the same voxels at the same place as NIfTI, or a refusal."""

import gzip
import re
import resource
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from rps_utils.imaging.formats.bounds import Unfit, check_archive
from rps_utils.imaging.formats.images import open_image
from rps_utils.imaging.volumes import Volume, load_pair, load_volume, place_on_grid, to_itk, write_volume

SHAPE = (24, 20, 16)


def oblique():
    turn = np.deg2rad(9)
    affine = np.eye(4)
    affine[:3, :3] = [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1.0]]
    affine[:3, :3] *= [2.0, 2.5, 4.0]
    affine[:3, 3] = [-30.25, 12.5, -707]
    return affine


def scan(dtype=np.int16):
    return Volume(np.random.default_rng(3).integers(0, 90, SHAPE).astype(dtype), oblique())


def turned(volume, codes):
    """The same volume with its axes in another order and direction."""
    image = nib.Nifti1Image(volume.values, volume.affine)
    way = nib.orientations.ornt_transform(nib.io_orientation(volume.affine), nib.orientations.axcodes2ornt(codes))
    image = image.as_reoriented(way)
    return Volume(np.ascontiguousarray(image.dataobj), image.affine)


WRITERS = {
    "scan.nrrd": False,
    "packed.nrrd": True,
    "scan.mha": False,
    "packed.mha": True,
    "scan.mhd": False,
    "packed.mhd": True,
}


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32, np.float64], ids=lambda d: d.__name__)
@pytest.mark.parametrize("name", WRITERS)
def test_twin_of_a_nifti_file(tmp_path, name, dtype):
    volume = scan(dtype)
    sitk.WriteImage(to_itk(volume), str(tmp_path / name), useCompression=WRITERS[name])
    write_volume(volume, tmp_path / "twin.nii.gz")
    ours, twin = load_volume(tmp_path / name), load_volume(tmp_path / "twin.nii.gz")
    assert ours.values.dtype == dtype
    np.testing.assert_array_equal(ours.values, twin.values)
    np.testing.assert_allclose(ours.affine, twin.affine, atol=1e-4)
    np.testing.assert_allclose(ours.affine, volume.affine, atol=1e-9)


@pytest.mark.parametrize("codes", ["LPS", "RAS", "PIR", "ALI"])
@pytest.mark.parametrize("name", ["x.nrrd", "x.mha"])
def test_every_order_of_axes_comes_out_right_front_head(tmp_path, name, codes):
    volume = scan()
    sitk.WriteImage(to_itk(turned(volume, codes)), str(tmp_path / name))
    assert nib.aff2axcodes(open_image(tmp_path / name).affine) == tuple(codes)
    ours = load_volume(tmp_path / name)
    np.testing.assert_array_equal(ours.values, volume.values)
    np.testing.assert_allclose(ours.affine, volume.affine, atol=1e-9)


@pytest.mark.parametrize(("space", "flip"), [("right-anterior-superior", (1, 1)), ("LAS", (-1, 1)), ("LPS", (-1, -1))])
def test_the_space_of_a_nrrd_is_minded(tmp_path, space, flip):
    path = write_nrrd(tmp_path / "x.nrrd", np.zeros((3, 4, 5), np.int16), space=space)
    expected = np.diag([2 * flip[0], 3 * flip[1], 4, 1.0])
    expected[:3, 3] = [10 * flip[0], 20 * flip[1], 30]
    np.testing.assert_allclose(open_image(path).affine, expected)


def write_nrrd(path, values, lines=(), **changed):
    fields = {
        "type": values.dtype.name,
        "dimension": values.ndim,
        "space": "left-posterior-superior",
        "sizes": " ".join(map(str, values.shape)),
        "space directions": "none " * (values.ndim - 3) + "(2,0,0) (0,3,0) (0,0,4)",
        "kinds": "list " * (values.ndim - 3) + "domain domain domain",
        "endian": "little",
        "encoding": "gzip",
        "space origin": "(10,20,30)",
    } | {name.replace("_", " "): text for name, text in changed.items()}
    header = ["NRRD0004", *(f"{name}: {text}" for name, text in fields.items() if text is not None), *lines]
    path.write_bytes("\n".join([*header, "", ""]).encode() + gzip.compress(values.tobytes("F")))
    return path


# ---------------------------------------------------------------- segments


def segments(*described):
    return [f"Segment{n}_{key}:={text}" for n, segment in enumerate(described) for key, text in segment.items()]


def layered(tmp_path, old=False):
    """Two segments that overlap, in two layers, and a third in the first layer."""
    layers = np.zeros((2, *SHAPE), np.uint8)
    layers[0, 4:10, 4:10, 4:10], layers[0, 15:18, 4:10, 4:10], layers[1, 8:14, 4:10, 4:10] = 1, 2, 1
    described = [{"Name": "Tumour", "Layer": 0, "LabelValue": 1}, {"Name": "node", "Layer": 0, "LabelValue": 2}]
    described += [{"Name": "Lipoma of Jane Doe", "Layer": 1, "LabelValue": 1}]
    if old:
        described = [{"Name": "Tumour"}, {"Name": "liver"}]
    return write_nrrd(tmp_path / "P1.seg.nrrd", layers, segments(*described)), layers


@pytest.mark.parametrize(
    ("name", "layer", "label"), [("Tumour", 0, 1), ("tumour", 0, 1), ("node", 0, 2), ("lipoma of jane doe", 1, 1)]
)
def test_a_segment_by_name(tmp_path, name, layer, label):
    path, layers = layered(tmp_path)
    got = load_volume(f"{path}#{name}").values
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got[::-1, ::-1], layers[layer] == label)


def test_segments_of_older_files_are_their_layers(tmp_path):
    path, layers = layered(tmp_path, old=True)
    np.testing.assert_array_equal(load_volume(f"{path}#liver").values[::-1, ::-1], layers[1] == 1)


def test_the_only_segment_needs_no_name(tmp_path):
    values = np.zeros(SHAPE, np.uint8)
    values[4:10, 4:10, 4:10] = 1
    path = write_nrrd(tmp_path / "a.seg.nrrd", values, segments({"Name": "x", "Layer": 0, "LabelValue": 1}))
    assert load_volume(path).values.sum() == 216


@pytest.mark.parametrize("name", ["", "#liver", "#Jane"])
def test_several_segments_or_none_of_the_name_are_refused_without_naming_them(tmp_path, name):
    path, _ = layered(tmp_path)
    with pytest.raises(Unfit, match="of 3 segments") as stop:
        open_image(f"{path}{name}")
    assert "Jane" not in str(stop.value)


def test_a_part_of_the_grid_is_put_in_its_place(tmp_path):
    whole = Volume(np.zeros(SHAPE, np.uint8), oblique())
    whole.values[5:9, 6:11, 7:12] = 1
    part = whole.box((slice(4, 12), slice(5, 13), slice(6, 14)))
    back = place_on_grid(part, whole.grid)
    np.testing.assert_array_equal(back.values, whole.values)
    moved = Volume(part.values, part.affine + np.outer([0.3, 0, 0, 0], [0, 0, 0, 1]))
    assert place_on_grid(moved, whole.grid) is moved


# ---------------------------------------------------------------- refused

SMALL = np.zeros((4, 5, 6), np.int16)
NRRD_REFUSED = {
    "detached": (dict(data_file="other.raw"), "apart from its voxels"),
    "detached, old spelling": (dict(datafile="other.raw"), "apart from its voxels"),
    "no space": (dict(space=None), "no orientation stored"),
    "a space of another kind": (dict(space="scanner-xyz"), "no orientation stored"),
    "no directions": (dict(space_directions=None, spacings="1 1 1"), "no orientation stored"),
    "no origin": (dict(space_origin=None), "no orientation stored"),
    "direction that is no number": (dict(space_directions="(nan,0,0) (0,1,0) (0,0,1)"), "not 3 finite numbers"),
    "metres": (dict(space_units='"m" "m" "m"'), "another unit"),
    "sizes in words": (dict(sizes="four 5 6"), "no whole numbers"),
    "negative size": (dict(sizes="-4 5 6"), "no whole numbers"),
    "a type of its own": (dict(type="block"), "values of another type"),
    "bzip2": (dict(encoding="bzip2"), "another encoding"),
    "too many voxels": (dict(sizes="2000 2000 2000"), "2000 x 2000 x 2000"),
    "more voxels than the file can hold": (dict(sizes="400 400 400"), "in a file of"),
}


@pytest.mark.parametrize("name", NRRD_REFUSED)
def test_nrrd_is_refused(tmp_path, name):
    changed, message = NRRD_REFUSED[name]
    with pytest.raises(Unfit, match=message):
        open_image(write_nrrd(tmp_path / "x.nrrd", SMALL, **changed))


def meta(folder, name="x.mha", **changed):
    sitk.WriteImage(to_itk(Volume(SMALL, oblique())), str(folder / name))
    path = folder / name
    start, data = path.read_bytes().split(b"ElementDataFile = ", 1)
    text = start.decode() + "ElementDataFile = " + data.split(b"\n", 1)[0].decode()
    for key, value in changed.items():
        text = re.sub(rf"(?m)^{key} = .*\n?", "" if value is None else f"{key} = {value}\n", text)
    path.write_bytes(text.rstrip("\n").encode() + b"\n" + data.split(b"\n", 1)[1])
    return path


META_REFUSED = {
    "data elsewhere": (dict(ElementDataFile="/etc/hostname"), "names no file in the header's folder"),
    "data above": (dict(ElementDataFile="../x.raw"), "names no file in the header's folder"),
    "list of files": (dict(ElementDataFile="LIST"), "names no file in the header's folder"),
    "pattern of files": (dict(ElementDataFile="x%02d.raw 1 6 1"), "names no file in the header's folder"),
    "no matrix": (dict(TransformMatrix=None), "no orientation stored"),
    "no offset": (dict(Offset=None), "no orientation stored"),
    "contradicting letters": (dict(AnatomicalOrientation="LAI"), "AnatomicalOrientation LAI, but TransformMatrix"),
    "offset that is no number": (dict(Offset="1 2 nan"), "Offset: not 3 finite numbers"),
    "four dimensions": (dict(DimSize="4 5 6 2"), "4-D"),
    "type of its own": (dict(ElementType="MET_STRING"), "values of another type"),
    "too many voxels": (dict(DimSize="2000 2000 2000"), "2000 x 2000 x 2000"),
}


@pytest.mark.parametrize("name", META_REFUSED)
def test_metaimage_is_refused(tmp_path, name):
    changed, message = META_REFUSED[name]
    with pytest.raises(Unfit, match=message):
        open_image(meta(tmp_path, **changed))


def test_data_file_that_is_a_link_out_is_refused(tmp_path):
    (tmp_path / "in").mkdir()
    path = meta(tmp_path / "in", "x.mhd")
    (tmp_path / "in" / "x.raw").rename(tmp_path / "x.raw")
    (tmp_path / "in" / "x.raw").symlink_to(tmp_path / "x.raw")
    with pytest.raises(Unfit, match="names no file in the header's folder"):
        open_image(path)


def test_unchanged_metaimage_is_read(tmp_path):
    assert load_volume(meta(tmp_path)).values.shape == (4, 5, 6)


@pytest.mark.parametrize("name", ["x.nhdr", "x.img", "x.png", "x"])
def test_other_files_are_refused_by_their_extension(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(Unfit, match=r"\.nii, \.nii\.gz, \.nrrd"):
        open_image(tmp_path / name)


# ---------------------------------------------------------------- bounds


def nifti_header(shape, offset=352, two=False):
    header = nib.Nifti2Header() if two else nib.Nifti1Header()
    header.set_data_shape(shape)
    header.set_data_dtype(np.int16)
    header.set_sform(np.eye(4), 1)
    header["magic"] = header.single_magic
    header["vox_offset"] = offset
    return header.binaryblock


def zeros_packed(path, head, megabytes):
    with gzip.open(path, "wb", 9) as stream:
        stream.write(head)
        for _ in range(megabytes):
            stream.write(bytes(2**20))
    return path


def many_voxels(folder):
    return zeros_packed(folder / "x.nii.gz", nifti_header((3000, 1000, 100)), 600)


def long_extensions(folder):
    return zeros_packed(folder / "x.nii.gz", nifti_header((4, 5, 6), 2**30, two=True) + b"\1\0\0\0", 1025)


def long_extensions_of_nifti_1(folder):
    return zeros_packed(folder / "x.nii.gz", nifti_header((4, 5, 6), 2**30) + b"\1\0\0\0", 1025)


def packed_nrrd(folder):
    return write_nrrd(folder / "x.nrrd", np.zeros((1000, 1000, 150), np.int16))


BOMBS = {many_voxels: 600, long_extensions: 1025, long_extensions_of_nifti_1: 1025, packed_nrrd: 300}


@pytest.mark.parametrize("plant", BOMBS, ids=lambda f: f.__name__)
def test_small_file_that_unpacks_to_much_is_refused_in_little_memory(tmp_path, plant):
    """As a crop: refused from the header, in less than half of what it would unpack to."""
    path = plant(tmp_path)
    assert path.stat().st_size < 3e6
    said, peak = in_a_process(
        "from rps_utils.imaging.formats.bounds import MOST_CROP_VOXELS\n"
        "from rps_utils.imaging.volumes import load_volume\n"
        f"load_volume({str(path)!r}, MOST_CROP_VOXELS)"
    )
    assert re.search("at most", said), said
    assert peak < 250, f"{peak} MB above the imports"


def test_what_follows_the_voxels_is_not_unpacked(tmp_path):
    path = write_nrrd(tmp_path / "x.nrrd", np.zeros((1000, 1000, 150), np.int16), sizes="4 5 6")
    said, peak = in_a_process(f"from rps_utils.imaging.volumes import load_volume\nload_volume({str(path)!r})")
    assert said == "no error"
    assert peak < 100


def in_a_process(code):
    """Run code; return the message of its ValueError and its peak memory in MB beyond that of the imports."""
    lines = code.splitlines()
    program = "\n".join(
        [
            "import resource",
            *lines[:-1],
            "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss",
            "try:",
            f"    {lines[-1]}",
            "    print('no error')",
            "except ValueError as error:",
            "    print(error)",
            "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)",
        ]
    )
    limit = 6 * 2**30

    def cap():
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, preexec_fn=cap, timeout=100
    )
    *said, peak = done.stdout.splitlines()
    return "\n".join(said), int(peak)


def test_archives_are_bounded(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", a=np.zeros(10_000_000))
    with pytest.raises(Unfit, match=r"x.npz: 80 MB once unpacked .allowed: 2 MB"):
        check_archive(tmp_path / "x.npz", 2_000_000)
    check_archive(tmp_path / "x.npz", 100_000_000)


# ---------------------------------------------------------------- masks that are scaled


@pytest.mark.parametrize("slope", [1 / 255, 1 / 254.999999])
def test_mask_of_255_scaled_to_one_is_one(tmp_path, slope):
    values = np.zeros(SHAPE, np.uint8)
    values[4:10, 4:10, 4:10] = 255
    image = nib.Nifti1Image(values, oblique())
    image.header.set_slope_inter(slope, 0)
    nib.save(image, tmp_path / "m.nii.gz")
    write_volume(scan(), tmp_path / "ct.nii.gz")
    assert load_pair(tmp_path / "ct.nii.gz", tmp_path / "m.nii.gz")[1].values.sum() == 216
