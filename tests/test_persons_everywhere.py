"""Names, dates, addresses and ids are planted wherever a stranger can write text; no output may hold them."""

import gzip
import shutil
import warnings

import openpyxl
import pytest
from pydicom import DataElement, Dataset, Sequence, dcmread
from pydicom.config import disable_value_validation
from pydicom.datadict import DicomDictionary, keyword_dict
from pydicom.tag import Tag

from rps_utils.cli.main import run_command_line
from rps_utils.files import read_csv, write_csv
from rps_utils.ingest.persons import known_structure, known_value
from rps_utils.ingest.series import TAGS
from rps_utils.lab.faults.manifest import clinical_rows, small_scan, write_small_manifest
from rps_utils.lab.phantom.dicom import save, write_ct, write_dicom_patient, write_rtstruct, write_seg
from rps_utils.texts.persons import is_pseudonym, personal_kind, shown

NAME, DATE, STREET, NUMBER = "Kowalczyk^Zdzislawa", "19500102", "12 Fichtestrasse", "48151623"
TOKENS = ("kowalczyk", "zdzislawa", "19500102", "1950-01-02", "fichtestrasse", "48151623")
MIX = f"{NAME} {DATE} {NUMBER}"
PLANTED = {
    "AE": "KOWALCZYK", "AS": "019500102Y", "CS": "KOWALCZYK", "DA": DATE, "DS": NUMBER, "DT": f"{DATE}120000",
    "IS": NUMBER, "LO": MIX, "LT": f"{MIX}, {STREET}", "PN": NAME, "SH": "Kowalczyk", "ST": f"{MIX}, {STREET}",
    "TM": DATE, "UC": MIX, "UI": f"1.2.{DATE}.{NUMBER}", "UR": "http://kowalczyk.example/19500102", "UT": MIX,
    "UN": MIX.encode(),
}  # fmt: skip
TEXT = {vr: [Tag(tag) for tag, entry in DicomDictionary.items() if entry[0] == vr] for vr in PLANTED}
NEEDED = {
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "ImageType"),
    *("ReferencedSOPInstanceUID", "ReferencedSOPClassUID", "ImagePositionPatient", "ImageOrientationPatient"),
    *("PixelSpacing", "SliceThickness", "RescaleSlope", "RescaleIntercept", "PhotometricInterpretation", "PatientID"),
    *("Modality", "SpecificCharacterSet", "SegmentationType", "BurnedInAnnotation", "LossyImageCompression"),
}


def is_free(tag):
    """Whether a tag can hold anything without the file ceasing to be a CT slice; group 2 is the file's own."""
    return tag.group > 2 and tag not in {Tag(keyword_dict[name]) for name in NEEDED}


def tiny_scan(number):
    """The part of a small scan around its tumour."""
    box = (slice(4, 24), slice(2, 22), slice(5, 20))
    return [volume.box(box) for volume in small_scan(number)]


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound")
    for number, kind in enumerate(("seg", "rtstruct"), 1):
        write_dicom_patient(*tiny_scan(number), f"P{number}", folder, kind)
    write_csv(clinical_rows().head(2), folder / "clinical.csv")
    return folder


@pytest.fixture
def source(sound, tmp_path):
    return shutil.copytree(sound, tmp_path / "source")


@disable_value_validation()
def change(paths, edit):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pydicom, about what is planted
        for path in paths:
            header = dcmread(path)
            edit(header)
            save(header, path)


def outputs(folder):
    """Everything written, names of files included, compressed files unpacked."""
    for path in folder.rglob("*"):
        yield str(path.relative_to(folder)).encode()
        if path.is_file() and path.name != "plotly.min.js":
            content = path.read_bytes()
            yield gzip.decompress(content) if path.suffix == ".gz" else content


def leaks(capfd, folder, tokens=TOKENS):
    told = capfd.readouterr()
    texts = [*outputs(folder), told.out.encode(), told.err.encode()]
    return {token for token in tokens for text in texts if token.encode() in text.lower()}


def ingest(source, out, *options, table="clinical.csv"):
    """Run the command as a user does, with the traceback that ``--debug`` adds; return its exit status."""
    paths = [str(source), "--clinical", str(source / table), "--out", str(out)]
    return run_command_line(["ingest", *paths, "--cores", "1", "--debug", *options])


# ---------------------------------------------------------------- headers


@pytest.mark.parametrize("identified", [(), ("--identified-source",)], ids=["stops", "identified"])
@pytest.mark.parametrize("vr", PLANTED)
def test_no_text_tag_of_the_dictionary_leaves_a_trace(vr, identified, source, tmp_path, capfd):
    """All tags of a kind at once, in each file of P1 and in some slices of P2, at the top and inside a sequence."""

    def plant(header):
        inside = Dataset()
        for tag in filter(is_free, TEXT[vr]):
            for place in (header, inside):
                place.add(DataElement(tag, vr, PLANTED[vr]))
        inside.private_block(0x0099, "Kowalczyk", create=True).add_new(1, "LO", MIX)
        header.RequestAttributesSequence = Sequence([inside])
        header.private_block(0x0099, "Kowalczyk", create=True).add_new(1, vr, PLANTED[vr])

    change([*(source / "P1").rglob("*.dcm"), *sorted((source / "P2" / "CT").iterdir())[5:9]], plant)
    ingest(source, tmp_path / "out", *identified)
    assert not leaks(capfd, tmp_path / "out")
    assert (tmp_path / "out" / "quarantine.csv").is_file()


@pytest.mark.parametrize("tag", sorted({*TAGS, "SpecificCharacterSet", "SegmentationType"} - {"TransferSyntaxUID"}))
def test_no_tag_that_is_read_repeats_what_it_holds(tag, source, tmp_path, capfd):
    """One tag at a time, whatever its kind: as text in some slices of P2, and in its mask."""

    def plant(header):
        header[tag] = DataElement(Tag(keyword_dict[tag]), "LO", MIX)

    change([*sorted((source / "P2" / "CT").iterdir())[5:9], source / "P2" / "rtstruct.dcm"], plant)
    for out, options in (("a", ()), ("b", ("--identified-source", "--without-quarantined"))):
        ingest(source, tmp_path / out, *options)
        assert not leaks(capfd, tmp_path / out)


@pytest.mark.parametrize(
    ("name", "stops"),
    [
        *((n, False) for n in ("P2", "P2^", "ANON12", "Anonymous", "RPS-001", "study_0007", "")),
        *(
            (n, True)
            for n in ("Smith1", "DOE^JOHN2", "Doe^Jane", "Kowalczyk", "山田^太郎", "Ли^Анна", "1950Doe", "Lee 7")
        ),
    ],
)
def test_which_names_are_pseudonyms(name, stops, source, tmp_path, capfd):
    def plant(header):
        header.PatientName = name
        header.SpecificCharacterSet = "ISO_IR 192"

    change([*(source / "P2").rglob("*.dcm")], plant)
    assert ingest(source, tmp_path / "out") == int(stops)
    assert ("PatientName is filled (not shown)" in capfd.readouterr().out) == stops


def test_a_name_in_a_single_slice_stops_the_patient(source, tmp_path, capfd):
    change([sorted((source / "P2" / "CT").iterdir())[11]], lambda header: setattr(header, "PatientName", NAME))
    assert ingest(source, tmp_path / "out") == 1
    assert not leaks(capfd, tmp_path / "out")


@pytest.mark.parametrize(
    ("tag", "value", "told"),
    [
        ("Manufacturer", "SIEMENS Healthineers", "Siemens"),
        ("Manufacturer", "GE MEDICAL SYSTEMS", "GE"),
        ("Manufacturer", f"Praxis {NAME}", "other"),
        ("ConvolutionKernel", ["Br40d", "3"], "Br40d other"),
        ("ConvolutionKernel", "B30f Kowalczyk", "B30f"),
        ("ConvolutionKernel", "STANDARD", "STANDARD"),
        ("ContrastBolusAgent", "OMNIPAQUE 300 Kowalczyk", "Omnipaque"),
        ("KVP", 120.0, "120"),
        ("KVP", NUMBER, "other"),
        ("KVP", None, ""),
        ("PixelSpacing", [0.75, 0.75], "0.75 x 0.75"),
    ],
)
def test_known_values_are_matched_not_copied(tag, value, told):
    assert known_value(tag, value) == told


# ---------------------------------------------------------------- what was drawn


@pytest.mark.parametrize("name", [NAME, MIX, "GTV Kowalczyk 19500102", "tumour 1950-01-02", "kowalczyk"])
@pytest.mark.parametrize("patient", ["P1", "P2"])
@pytest.mark.parametrize("rule", ["one", "named\nroi: ['*', gtv kowalczyk]"])
def test_no_name_of_a_structure_leaves_a_trace(name, patient, rule, source, tmp_path, capfd):
    ct, mask = tiny_scan(int(patient[1]))
    images = write_ct(ct, patient, source / patient / "CT")
    if patient == "P1":
        write_seg(mask, images, source / patient / "seg.dcm", (name,))
    else:
        write_rtstruct(mask, images, source / patient / "rtstruct.dcm", name)
    (tmp_path / "map.yml").write_text(f"segments: {rule}\n")
    ingest(source, tmp_path / "out", "--mapping", str(tmp_path / "map.yml"))
    assert not leaks(capfd, tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Tumor", "Tumor"),
        ("GTV_1", "GTV_1"),
        ("inferior vena cava", "inferior vena cava"),
        ("tumour 1950 0102", "structure 7 (name not shown)"),
        ("Tumor Kowalczyk", "structure 7 (name not shown)"),
        ("", "structure 7 (name not shown)"),
    ],
)
def test_known_structures_keep_their_names(name, told):
    assert known_structure(name, 7) == told


# ---------------------------------------------------------------- the clinical table

CELLS = (NAME, "Kowalczyk, Zdzislawa", "kowalczyk", f"G1 {DATE}", "seen 1950-01-02", STREET, NUMBER, f"={MIX}")


@pytest.mark.parametrize("column", ["patient_id", "time_months", "event", "age", "grade", "split", "data_kind", "mask"])
@pytest.mark.parametrize("text", CELLS)
def test_no_cell_leaves_a_trace(column, text, source, tmp_path, capfd):
    table = read_csv(source / "clinical.csv").astype(str)
    table[column] = table.get(column, "")
    table.loc[1, column] = text
    write_csv(table, source / "clinical.csv")
    assert ingest(source, tmp_path / "out") == 1
    assert not leaks(capfd, tmp_path / "out")


@pytest.mark.parametrize(
    "column", ["Zdzislawa Kowalczyk", "born 1950-01-02", "=kowalczyk", "mrn_48151623", "name_kowalczyk"]
)
@pytest.mark.parametrize("mapped", [False, True])
def test_no_name_of_a_column_leaves_a_trace(column, mapped, source, tmp_path, capfd):
    table = read_csv(source / "clinical.csv").rename(columns={"grade": column})
    table.to_csv(source / "clinical.csv", index=False)
    rules = "columns: {patient_id: patient_id, time_months: time_months, event: Kowalczyk}" if mapped else "{}"
    (tmp_path / "map.yml").write_text(rules)
    assert ingest(source, tmp_path / "out", "--mapping", str(tmp_path / "map.yml")) == 1
    assert not leaks(capfd, tmp_path / "out")


def test_no_name_of_a_sheet_or_a_file_leaves_a_trace(source, tmp_path, capfd):
    book = openpyxl.Workbook()
    for name in ("Kowalczyk 1950-01-02", "Zdzislawa"):
        book.create_sheet(name)
    book.save(source / "Kowalczyk.xlsx")
    (source / "Kowalczyk.txt").write_text("no DICOM")
    (source / "P1" / "CT").rename(source / "P1" / "Kowalczyk 19500102")
    (source / "P2" / "rtstruct.dcm").rename(source / "P2" / "Zdzislawa")
    (source / "P2" / "Zdzislawa").write_bytes((source / "P2" / "Zdzislawa").read_bytes()[:3000])
    for table in ("Kowalczyk.xlsx", "clinical.csv"):
        assert ingest(source, tmp_path / "out", table=table) == 1
        assert not leaks(capfd, tmp_path / "out")


BROKEN = {
    "yaml": ("map.yml", "columns: {patient_id: 'Kowalczyk\nroi: ]["),
    "yaml key": ("map.yml", "kowalczyk: 1"),
    "yaml value": ("map.yml", "columns: [Kowalczyk]"),
    "csv": ("clinical.csv", 'patient_id,event\n"Kowalczyk'),
    "utf-16": ("clinical.csv", "patient_id,event,time_months\nKowalczyk,1,2\n".encode("utf-16").decode("latin-1")),
    "row length": ("clinical.csv", "patient_id,event,time_months\nP1,1,2,Kowalczyk\n"),
    "header only": ("clinical.csv", "Kowalczyk,Zdzislawa\nP1,2\n"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_no_broken_file_is_quoted(kind, source, tmp_path, capfd):
    name, text = BROKEN[kind]
    (source / name).write_text(text)
    options = ("--mapping", str(source / "map.yml")) if name == "map.yml" else ()
    assert ingest(source, tmp_path / "out", *options) == 1
    assert not leaks(capfd, tmp_path / "out")


# ---------------------------------------------------------------- the gate for a manifest


@pytest.mark.parametrize("place", ["cell", "column", "id", "path"])
@pytest.mark.parametrize("text", CELLS)
def test_check_repeats_no_text(place, text, tmp_path, capfd):
    path = write_small_manifest(tmp_path / "data")
    table = read_csv(path).astype(str)
    if place == "column":
        table = table.rename(columns={"grade": text})
    else:
        table.loc[1, {"cell": "grade", "id": "patient_id", "path": "image"}[place]] = text
    table.to_csv(path, index=False)
    (tmp_path / "out").mkdir()
    status = run_command_line(["check", str(path), "--html", str(tmp_path / "out" / "check.html"), "--json"])
    single = text == "kowalczyk" and place != "id"  # has no form by which it could be told to be a name
    assert leaks(capfd, tmp_path / "out") == ({"kowalczyk"} if single and place == "path" else set())
    assert status == (0 if (single and place != "path") or (place == "id" and text in ("kowalczyk", NUMBER)) else 1)


# ---------------------------------------------------------------- texts by their form


@pytest.mark.parametrize(
    "text",
    [
        *("2019-03-04", "4.3.2019", "3/4/19", "20190304", "04032019", "4 March 2019", "March 4, 2019", "4. Okt 2019"),
        *("jane@example.org", "1 Long Street", "Hauptstraße 5", "Dr. Kowalczyk", "J. Doering", "Doe^Jane", "Jane Doe"),
        *("DOERING, JANE", "Müller Ärmin", "+49 171 2345678", "(030) 123-4567", "123456789", "123-45-6789"),
    ],
)
def test_texts_that_point_to_a_person(text):
    assert personal_kind(text)
    assert shown(text).endswith("(not shown)")
    assert not is_pseudonym(text)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "61,5",
            "-3",
            "1460",
            "0.123456",
            "250000",
            "1e-5",
            "G2",
            "56 y",
            "yes",
            "RPS-001",
            "Well Differentiated LPS",
        ),
        *("High grade", "LMS", "images/P1_ct.nii.gz", "pT2b"),
    ],
)
def test_texts_that_point_to_nobody(text):
    assert personal_kind(text) == ""
