"""Tables come back as they were, whatever their cells look like; what is no table is named for what it is."""

import numpy as np
import pandas as pd
import pytest

from rps_utils.files import MISSING, TableError, are_codes, read_csv, typed_column, write_csv

NASTY = {
    "names that look like something else": {
        "patient_id": ["NA", "None", "001", "1e5", "TRUE", "nan", "inf", "-", " P", "#N/A"],
        "model": ["1", "2", "1", "2", "1", "2", "1", "2", "1", "2"],
        "made_by": ["DL from all", "", "null", "N/A", "0", "1", "a,b", 'a"b', "a\nb", "a\r\nb"],
    },
    "categories": {
        "multifocal": ["None", "none", "NONE", "Null", "yes"],
        "flag": ["TRUE", "FALSE", "TRUE", np.nan, "TRUE"],
        "stage": ["01", "02", "10", "01", np.nan],
        "sign": ["\u2028", "\x85", "=1+1", "a;b", "\t"],
        "letters": ["Größe", "日本", "é", "e\u0301", "\ufeff"],
    },
    "numbers": {
        "share": [0.1, 1 / 3, 1e-300, np.nan, 5e300],
        "count": [1, 2, -3, 0, 10**17],
        "value": [np.inf, -np.inf, np.nan, 1.0, -0.0],
        "whole": [1.0, 2.0, 3.0, 4.0, 5.0],
        "some": [1.0, np.nan, 3.0, 4.0, 5.0],
    },
    "flags": {"enough": [True, False, True], "holds": [True, True, True], "unlike": [True, np.nan, False]},
    "hashes": {"image_sha256": ["1" * 64, "12e4" + "0" * 60], "mask_sha256": ["0" * 64, "a" * 64]},
    "one column": {"note": [np.nan, "a", np.nan]},
    "nothing in a row": {"note": [np.nan, "a"], "value": [np.nan, 1.0]},
    "no row": {"value": pd.Series(dtype=float), "some": pd.Series(dtype=float)},
}


@pytest.mark.parametrize("name", NASTY)
def test_a_table_comes_back_as_it_was(name, tmp_path):
    table = pd.DataFrame(NASTY[name]).replace("", np.nan)
    first = write_csv(table, tmp_path / "a.csv")
    read = read_csv(first)
    pd.testing.assert_frame_equal(read, table, check_exact=True)
    assert write_csv(read, tmp_path / "b.csv").read_bytes() == first.read_bytes()


def test_nothing_but_the_empty_cell_is_missing_in_our_own_tables(tmp_path):
    (tmp_path / "t.csv").write_text("model,variant,risk\nNA,null,1\n,NA,NA\n")
    own, foreign = read_csv(tmp_path / "t.csv"), read_csv(tmp_path / "t.csv", MISSING)
    assert own["model"].tolist()[0] == "NA" and own["model"].isna().tolist() == [False, True]
    assert own["variant"].tolist() == ["null", "NA"] and own["risk"].tolist() == ["1", "NA"]
    assert foreign["risk"].tolist()[0] == 1.0 and foreign["risk"].isna().tolist() == [False, True]


def test_digits_with_leading_zeros_are_codes_where_all_have_one_width():
    assert are_codes(["001", "010", "123"])
    assert not are_codes(["0", "1"]) and not are_codes(["05", "7"]) and not are_codes(["0.5", "0.7"])
    assert typed_column("stage", ["05", "7"]).tolist() == [5, 7]


def test_digits_of_other_scripts_are_no_numbers():
    assert typed_column("age", ["１２", "13"]).tolist() == ["１２", "13"]


NO_TABLE = {
    "nothing": (b"", "it is empty"),
    "blank lines": (b"\xef\xbb\xbf\r\n \n", "it is empty"),
    "semicolons": (b"a;b\n1;2\n", "separated by semicolons"),
    "tabs": (b"a\tb\n1\t2\n", "separated by tabs"),
    "line of a spreadsheet": (b"sep=;\na;b\n", "a line `sep=`"),
    "utf-16": ("a,b\n1,2\n".encode("utf-16"), "text in UTF-16"),
    "utf-16 without a mark": ("a,b\n1,2\n".encode("utf-16-le"), "text in UTF-16 or UTF-32"),
    "latin-1": ("a,b\n1,é\n".encode("latin-1"), "byte 0xe9 in line 2 is no UTF-8: text in Latin-1"),
    "workbook": (b"PK\x03\x04rest", "a workbook"),
    "old workbook": (b"\xd0\xcf\x11\xe0rest", "an old workbook"),
    "page": (b"<html></html>", "HTML"),
    "compressed": (b"\x1f\x8bmore", "compressed by gzip"),
    "open quote": (b'a,b\n1,"2\n', "line 2: unexpected end of data"),
    "column twice": (b"a,a\n1,2\n", "column 'a' is there twice"),
    "column without a name": (b"a,\n1,2\n", "column '' is there twice, or has no name"),
    "short row": (b"a,b\n1\n", "line 2 has 1 cell, the header 2"),
    "long row": (b"a,b\n1,2\n1,2,3\n", "line 3 has 3 cells, the header 2"),
}


@pytest.mark.parametrize(("content", "found"), NO_TABLE.values(), ids=NO_TABLE)
def test_what_is_no_table_is_named_for_what_it_is(content, found, tmp_path):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(TableError, match=r"t\.csv: not readable as CSV text in UTF-8") as refused:
        read_csv(tmp_path / "t.csv")
    assert found in refused.value.found and refused.value.remedy


def test_a_byte_order_mark_is_read_over(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n", encoding="utf-8-sig")
    assert list(read_csv(tmp_path / "t.csv")) == ["a", "b"]


@pytest.mark.parametrize("columns", [["a", "a"], ["a", ""], [1, "1"]])
def test_columns_that_nobody_could_tell_apart_are_not_written(columns, tmp_path):
    with pytest.raises(ValueError, match="there twice, or has no name"):
        write_csv(pd.DataFrame([[1, 2]], columns=columns), tmp_path / "t.csv")
    assert not list(tmp_path.iterdir())
