"""DICOM as it comes: odd contours and frames, files without preamble, deflated, linked, packed, mislabelled."""

import shutil
import zipfile
import zlib
from copy import deepcopy

import numpy as np
import pytest
from pydicom import dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.filereader import read_file_meta_info
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)

from rps_utils.imaging.volumes import load_volume
from rps_utils.ingest.export import ingest
from rps_utils.ingest.series import find_series, read_header
from rps_utils.lab.faults.export import write_small_cohort
from rps_utils.lab.faults.manifest import small_scan
from rps_utils.lab.phantom.dicom import edit_files, save, write_seg
from tests.imaging.test_formats import in_a_process

PATIENT = {"contours": "P2", "segments": "P3"}


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Two patients, one with RTSTRUCT and one with SEG."""
    folder = tmp_path_factory.mktemp("sound")
    write_small_cohort(folder)
    for patient in ("P1", "P4", "P5", "P6"):
        shutil.rmtree(folder / patient)
    rows = (folder / "clinical.csv").read_text().splitlines()
    (folder / "clinical.csv").write_text("\n".join(r for r in rows if r[:2] in ("pa", "P2", "P3")) + "\n")
    return folder


@pytest.fixture
def source(sound, tmp_path):
    shutil.copytree(sound, tmp_path / "source")
    return tmp_path / "source"


def run(source):
    return ingest(source, source / "clinical.csv", source.parent / "out", progress=lambda line: None)


def refused(source):
    """The faults by patient; the others are sound."""
    table = run(source).quarantine
    return dict(zip(table["patient_id"], table["value"], strict=True))


def is_whole(source, patient="P2"):
    number = int(patient[1:])
    for kind, volume in zip(("ct", "mask"), small_scan(number), strict=True):
        ours = load_volume(source.parent / "out" / "images" / f"{patient}_{kind}.nii.gz")
        np.testing.assert_array_equal(ours.values, volume.values)
    return True


# ---------------------------------------------------------------- contours


def edit_contours(source, change):
    path = source / "P2" / "rtstruct.dcm"
    document = dcmread(path)
    roi = document.ROIContourSequence[0]
    roi.ContourSequence = change(list(roi.ContourSequence))
    save(document, path)


def points_of(contour):
    return np.array(contour.ContourData, float).reshape(-1, 3)


def copy_of(contour, points):
    made = deepcopy(contour)
    made.ContourData = [f"{v:.6f}" for v in np.ravel(points)]
    made.NumberOfContourPoints = np.size(points) // 3
    return made


SAME = {
    "all twice": lambda cs: [c for c in cs for _ in range(2)],
    "all reversed once more": lambda cs: cs + [copy_of(c, points_of(c)[::-1]) for c in cs],
    "one begun elsewhere": lambda cs: [*cs, copy_of(cs[4], np.roll(points_of(cs[4]), 3, axis=0))],
    "one with noise": lambda cs: [*cs, copy_of(cs[4], np.add(points_of(cs[4]), (0.003, -0.004, 0)))],
    "first point repeated": lambda cs: [copy_of(c, [*points_of(c), points_of(c)[0]]) for c in cs],
    "in another order": lambda cs: cs[::-1],
}


@pytest.mark.parametrize("name", SAME)
def test_contours_stored_again_change_nothing(source, name):
    edit_contours(source, SAME[name])
    assert refused(source) == {}
    assert is_whole(source)


def crossing(contours):
    middle = points_of(contours[4])
    return [*contours, copy_of(contours[4], np.add(middle, (11, 0, 0)))]


def bow_tie(contours):
    x, y, z = points_of(contours[4]).mean(axis=0)
    crossed = [(x, y, z), (x + 20, y + 20, z), (x + 20, y, z), (x, y + 20, z)]
    return [*contours[:4], copy_of(contours[4], crossed), *contours[5:]]


ODD = {
    "crossing": (crossing, "tumour, slice 13 from below at -340 mm: contours 5 and 10 cross or overlap"),
    "half a pixel beside": (
        lambda cs: [*cs, copy_of(cs[4], np.add(points_of(cs[4]), (2, 0, 0)))],
        "contours 5 and 10 are nearly the same",
    ),
    "crossing itself": (bow_tie, "contour 5 crosses itself"),
    "two points": (lambda cs: [*cs, copy_of(cs[4], points_of(cs[4])[:2])], "contour 10 has 2 points"),
    "a line": (
        lambda cs: [*cs, copy_of(cs[4], points_of(cs[4])[0] + np.outer([0, 1, 2], [3, 3, 0]))],
        "contour 10 is a line",
    ),
    "a number missing": (lambda cs: [*cs[:4], cut_data(cs[4]), *cs[5:]], "contour 5: "),
    "one slice undrawn": (
        lambda cs: cs[:4] + cs[5:],
        "tumour: 1 slice without a contour between drawn ones, slice 13 from below at -340 mm",
    ),
    "three slices undrawn": (lambda cs: cs[:3] + cs[6:], "3 slices without a contour"),
    "two single slices undrawn": (lambda cs: cs[:2] + cs[3:6] + cs[7:], "2 slices without a contour"),
}


def cut_data(contour):
    made = copy_of(contour, points_of(contour))
    made.ContourData = list(made.ContourData)[:-1]
    return made


@pytest.mark.parametrize("name", ODD)
def test_odd_contours_are_refused_with_slice_and_number(source, name):
    change, says = ODD[name]
    assert len(dcmread(source / "P2" / "rtstruct.dcm").ROIContourSequence[0].ContourSequence) == 9
    edit_contours(source, change)
    found = refused(source)
    assert set(found) == {"P2"}
    assert says in found["P2"], found


# ---------------------------------------------------------------- frames of a SEG


def new_seg(source, mask, name="seg.dcm"):
    images = [dcmread(p) for p in sorted((source / "P3" / "CT").iterdir())]
    write_seg(mask, images, source / "P3" / name)


@pytest.mark.parametrize(("empty", "says"), [([12], "1 empty slice"), ([11, 12], "2 empty slices")])
def test_empty_slice_in_a_seg_is_named(source, empty, says):
    mask = small_scan(3)[1]
    mask.values[:, :, empty] = 0
    new_seg(source, mask)
    assert refused(source)["P3"].startswith(says)


def test_two_tumours_with_room_between_them_are_none(source):
    mask = small_scan(3)[1]
    mask.values[20:24, 12:16, 22:26] = 1
    new_seg(source, mask)
    assert refused(source) == {}


def test_two_frames_for_one_slice_are_named(source):
    path = source / "P3" / "seg.dcm"
    document = dcmread(path)
    frames = document.PerFrameFunctionalGroupsSequence
    place = frames[3].PlanePositionSequence[0].ImagePositionPatient
    frames[4].PlanePositionSequence[0].ImagePositionPatient = place
    save(document, path)
    assert refused(source)["P3"] == f"tumour: two frames for one slice, at {float(place[2]):g} mm"


def test_labelmap_is_read(source):
    from highdicom import AlgorithmIdentificationSequence, seg
    from pydicom.sr.codedict import codes

    images = [dcmread(p) for p in sorted((source / "P3" / "CT").iterdir())]
    mask = small_scan(3)[1]
    method = AlgorithmIdentificationSequence("truth", codes.DCM.ArtificialIntelligence, "1")
    kinds = (codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Neoplasm, seg.SegmentAlgorithmTypeValues.AUTOMATIC)
    described = [seg.SegmentDescription(1, "tumour", *kinds, method)]
    pixels = np.ascontiguousarray(mask.values[::-1, ::-1].T)
    uids = dict(series_instance_uid="1.2.3", series_number=2, sop_instance_uid="1.2.3.4", instance_number=1)
    device = dict(manufacturer="x", manufacturer_model_name="x", software_versions="1", device_serial_number="0")
    made = seg.Segmentation(images, pixels, seg.SegmentationTypeValues.LABELMAP, described, **uids, **device)
    save(made, source / "P3" / "seg.dcm")
    assert dcmread(source / "P3" / "seg.dcm").SegmentationType == "LABELMAP"
    assert refused(source) == {}
    assert is_whole(source, "P3")


# ---------------------------------------------------------------- files


def rewrite(path, syntax, preamble=True, meta=True):
    data = dcmread(path)
    if syntax == ExplicitVRBigEndian:
        data.PixelData = np.frombuffer(data.PixelData, "<u2").astype(">u2").tobytes() if "Rows" in data else None
    data.file_meta.TransferSyntaxUID = syntax
    if preamble:
        dcmwrite(path, data, enforce_file_format=True)
        return
    data.preamble = None
    data.file_meta = data.file_meta if meta else FileMetaDataset()
    dcmwrite(path, data, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian)


FILES = {
    "implicit": (ImplicitVRLittleEndian, True, True),
    "deflated": (DeflatedExplicitVRLittleEndian, True, True),
    "big-endian": (ExplicitVRBigEndian, True, True),
    "without preamble, implicit": (ImplicitVRLittleEndian, False, False),
    "without preamble, explicit": (ExplicitVRLittleEndian, False, False),
    "without preamble, big-endian": (ExplicitVRBigEndian, False, False),
}


@pytest.mark.parametrize("name", FILES)
def test_series_written_otherwise_gives_its_voxels(source, name):
    for path in (source / "P2" / "CT").iterdir():
        rewrite(path, *FILES[name])
        assert (path.read_bytes()[128:132] == b"DICM") == FILES[name][1]
    assert refused(source) == {}
    assert is_whole(source)


@pytest.mark.parametrize("name", [n for n in FILES if "big" not in n])
@pytest.mark.parametrize("file", ["P2/rtstruct.dcm", "P3/seg.dcm"])
def test_masks_written_otherwise_are_read(source, file, name):
    rewrite(source / file, *FILES[name])
    assert refused(source) == {}
    assert is_whole(source, file[:2])


def test_names_of_files_do_not_matter(source):
    for number, path in enumerate(sorted((source / "P2" / "CT").iterdir())):
        path.rename(path.with_name(f"IM{number:06d}"))
    (source / "P2" / "rtstruct.dcm").rename(source / "P2" / "RS.1.2.840.txt")
    assert refused(source) == {}


def test_text_that_begins_as_dicom_does_is_none(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"\x08\x00" + bytes(range(256)) * 20)
    assert isinstance(read_header(path), str)


def deflated_bomb(path, gigabytes):
    data = dcmread(path)
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dcmwrite(path, data, enforce_file_format=True)
    plain = path.read_bytes()
    begin = 132 + 12 + read_file_meta_info(path).FileMetaInformationGroupLength
    body = zlib.decompress(plain[begin:], -zlib.MAX_WBITS)
    pack = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    parts = [pack.compress(body + b"\x09\x00\x01\x10OB\x00\x00\x00\x00\x00\x40")]
    parts += [pack.compress(bytes(2**24)) for _ in range(64 * gigabytes)]
    path.write_bytes(plain[:begin] + b"".join(parts) + pack.flush())


def test_deflated_bomb_is_left_aside_in_little_memory(source):
    path = source / "P2" / "CT" / "0003.dcm"
    deflated_bomb(path, 1)
    assert path.stat().st_size < 2e6
    said, peak = in_a_process(
        "from rps_utils.ingest.series import find_series\n"
        f"print(dict(find_series({str(source / 'P2' / 'CT')!r}).left_aside))"
    )
    assert "deflated DICOM file of more than 128 MiB once unpacked" in said
    assert peak < 450
    assert "1 slice missing" in " ".join(run(source).quarantine["value"])


def test_workbook_bomb_is_refused(source):
    with zipfile.ZipFile(source / "clinical.xlsx", "w", zipfile.ZIP_DEFLATED) as book:
        book.writestr("xl/worksheets/sheet1.xml", bytes(50_000_000))
    with pytest.raises(ValueError, match="50 MB once unpacked"):
        ingest(source, source / "clinical.xlsx", source.parent / "out", progress=print)


# ---------------------------------------------------------------- what is found and left


def link_inside(source):
    (source / "P2" / "again").symlink_to(source / "P2" / "CT")
    return "link to what the folder holds anyway"


def link_in_a_circle(source):
    (source / "P2" / "up").symlink_to(source)
    return "link to what the folder holds anyway"


def link_to_itself(source):
    (source / "P2" / "self").symlink_to(source / "P2" / "self")
    return "link that leads nowhere or in a circle"


def broken_link(source):
    (source / "P2" / "gone").symlink_to(source / "nowhere")
    return "link that leads nowhere or in a circle"


@pytest.mark.parametrize(
    "plant", [link_inside, link_in_a_circle, link_to_itself, broken_link], ids=lambda f: f.__name__
)
def test_links_are_counted_and_harmless(source, plant):
    reason = plant(source)
    done = run(source)
    assert done.quarantine.empty
    assert any(note == f"1 file left aside: {reason}" for note in done.notes)


def test_folder_behind_a_link_is_named_where_it_is_missed(source, tmp_path):
    (source / "P2" / "CT").rename(tmp_path / "elsewhere")
    (source / "P2" / "CT").symlink_to(tmp_path / "elsewhere")
    value = refused(source)["P2"]
    assert value.startswith("no CT series with this PatientID")
    assert "1 link that leaves the folder (copy its files in, or ingest that folder)" in value


def test_file_behind_a_link_that_leaves_is_not_read(source, tmp_path):
    (source / "P2" / "CT" / "0010.dcm").rename(tmp_path / "slice.dcm")
    (source / "P2" / "CT" / "0010.dcm").symlink_to(tmp_path / "slice.dcm")
    assert "1 slice missing" in " ".join(run(source).quarantine["value"])


def test_the_source_itself_may_be_a_link(source, tmp_path):
    (tmp_path / "way").symlink_to(source)
    done = ingest(tmp_path / "way", source / "clinical.csv", tmp_path / "out", progress=lambda line: None)
    assert done.quarantine.empty


def test_zip_is_named_where_its_files_are_missed(source):
    with zipfile.ZipFile(source / "P2" / "export.zip", "w") as archive:
        for path in sorted((source / "P2" / "CT").iterdir()):
            archive.write(path)
            path.unlink()
    assert "1 zip archive (unpack it first)" in refused(source)["P2"]


def test_dicomdir_is_no_mystery(source):
    data = dcmread(source / "P2" / "rtstruct.dcm")
    for name in [e.keyword for e in data if e.keyword != "SOPInstanceUID"]:
        delattr(data, name)
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    data.FileSetID = "EXPORT"
    dcmwrite(source / "DICOMDIR", data, enforce_file_format=True)
    assert "1 file left aside: DICOMDIR (a table of contents; the images are found without it)" in run(source).notes


# ---------------------------------------------------------------- headers


def test_one_uid_in_all_slices_is_named_as_that(source):
    edit_files(sorted((source / "P2" / "CT").iterdir()), SOPInstanceUID="1.2.3.4")
    found = run(source).quarantine
    assert "32 slices with 1 SOPInstanceUID" in found["value"].tolist()
    assert "a new UID for each slice" in " ".join(found["remedy"])


def test_the_same_slice_twice_is_no_matter_of_uids(source):
    shutil.copy(source / "P2" / "CT" / "0003.dcm", source / "P2" / "CT" / "copy.dcm")
    assert "1 position twice" in refused(source)["P2"]


def test_position_that_is_no_number_is_named(source):
    path = source / "P2" / "CT" / "0003.dcm"
    raw = path.read_bytes()
    old = dcmread(path).ImagePositionPatient
    text = "\\".join(str(v) for v in old).encode()
    text += b" " * (len(text) % 2)
    assert raw.count(text) == 1
    path.write_bytes(raw.replace(text, b"nan".ljust(len(text.split(b"\\")[0])) + text[len(text.split(b"\\")[0]) :]))
    assert "ImagePositionPatient with a value that is no number" in refused(source)["P2"]


def test_spacing_is_held_to_the_rule_of_the_manifest(source):
    paths = sorted((source / "P3" / "CT").iterdir())
    for number, path in enumerate(paths):
        data = dcmread(path)
        x, y, _ = data.ImagePositionPatient
        data.ImagePositionPatient, data.SliceThickness = [x, y, 13 * number], 13
        save(data, path)
    mask = small_scan(3)[1]
    affine = mask.affine.copy()
    affine[2, 2], affine[2, 3] = 13, 0
    new_seg(source, type(mask)(mask.values, affine))
    assert refused(source)["P3"] == "spacing 5.5 x 6 x 13 mm"


def test_find_series_counts_what_it_leaves(source):
    found = find_series(source)
    assert found.left_aside == {("", "no DICOM file"): 1}
    assert found.images == ()
