import contextlib
import datetime
import decimal
import sys

import numpy as np
import polars as pl
import pytest

from vfl.data.config import DataConfig, IdRules
from vfl.data.table import load_table
from vfl.errors import ConfigError, DataError


def load(path, needs_label=False, rules=None, **settings):
    return load_table(DataConfig(path=path, **{"id_column": "id"} | settings), rules, needs_label=needs_label)


def failure(path, needs_label=False, error=DataError, **settings):
    with pytest.raises(error) as caught:
        load(path, needs_label, **settings)
    assert caught.value.remedy
    assert str(path) not in caught.value.summary
    assert str(path) in caught.value.detail
    return caught.value


# --- what is read ---


def test_csv_with_all_kinds_of_columns(csv):
    table = load(csv("id,y,age,city,vip\na,1,30,Bonn,true\nb,0,,,false\n"), needs_label=True, label_column="y")
    assert table.ids.to_list() == ["a", "b"]
    assert table.labels.tolist() == [1.0, 0.0]
    assert table.numeric_names == ("age",)
    np.testing.assert_array_equal(table.numeric, [[30.0], [np.nan]])
    assert table.categorical_names == ("city", "vip")
    assert table.categorical.tolist() == [["Bonn", "true"], [None, "false"]]


def test_ids_in_csv_stay_text(csv):
    table = load(csv('id,x\n007,1\n7,1\n 1e3 ,1\n"a,b",1\n99999999999999999999999,1\n'))
    assert table.ids.to_list() == ["007", "7", "1e3", "a,b", "99999999999999999999999"]


def test_byte_order_mark_quotes_and_white_space_in_the_header(csv):
    table = load(csv(b'\xef\xbb\xbf" id ", x \r\n"1"," 2.5 "\r\n'), columns={" x": "numeric"})
    assert table.ids.to_list() == ["1"]
    assert table.numeric.tolist() == [[2.5]]


def test_blank_lines_are_skipped(csv):
    table = load(csv("id,x\n1,1\n\n2,2\n\n\n"))
    assert table.ids.to_list() == ["1", "2"]


def test_file_name_is_no_pattern(csv):
    csv("id,x\n9,9\n", "t1.csv")
    assert load(csv("id,x\n1,1\n", "t[1].csv")).ids.to_list() == ["1"]


def test_marks_of_missing_numbers_are_categories_elsewhere(csv):
    path = csv("id,x,land\n1,NA,NA\n2,3,DE\n3,null,FR\n4,NaN,NL\n")
    table = load(path)
    np.testing.assert_array_equal(table.numeric[:, 0], [np.nan, 3, np.nan, np.nan])
    assert table.categorical[0].tolist() == ["NA"]


def test_blank_columns_are_left_out_unless_they_are_named(csv, parquet):
    for path in (csv("id,x,y\n1,,3\n2,,4\n"), parquet(id=["1", "2"], x=[None, None], y=[3, 4])):
        table = load(path)
        assert table.numeric_names == ("y",)
        assert table.understood.left_out == {"x": "blank in every row"}
        assert load(path, columns={"x": "numeric"}).numeric_names == ("x", "y")
        assert load(path, features=("x",)).numeric_names == ("x",)


def test_listed_features_are_read_in_their_order_and_others_ignored(csv):
    path = csv("id,a,zip,note\n1,2,01234,zzz\n")
    table = load(path, features=("zip", "a"), columns={"a": "categorical"})
    assert table.categorical_names == ("zip", "a")
    assert table.categorical.tolist() == [["01234", "2"]]
    assert table.numeric.shape == (1, 0)


def test_correcting_one_column_keeps_the_others(csv):
    table = load(csv("id,a,plz,note\n1,2,1234,zzz\n"), columns={"plz": "categorical"})
    assert (table.numeric_names, table.categorical_names) == (("a",), ("plz", "note"))


def test_dropped_columns_are_not_features(csv):
    table = load(csv("id,a,day\n1,2,2020-01-02\n"), drop=("day",))
    assert table.numeric_names == ("a",)
    assert table.categorical_names == ()


def test_active_party_may_have_no_features(csv):
    table = load(csv("id,y\n1,0\n2,1\n"), needs_label=True, label_column="y")
    assert table.numeric.shape == (2, 0)
    assert table.categorical.shape == (2, 0)


def test_parquet_types(parquet):
    path = parquet(
        id=pl.Series([7, 2**63], dtype=pl.UInt64),
        y=[True, False],
        real=[1.5, float("nan")],
        price=[decimal.Decimal("1.25"), None],
        flag=[True, None],
        level=pl.Series(["low", None], dtype=pl.Categorical),
        text=[" a ", " "],
    )
    table = load(path, needs_label=True, label_column="y")
    assert table.ids.to_list() == ["7", "9223372036854775808"]
    assert table.labels.tolist() == [1.0, 0.0]
    assert table.numeric_names == ("real", "price")
    np.testing.assert_array_equal(table.numeric, [[1.5, 1.25], [np.nan, np.nan]])
    assert table.categorical.tolist() == [["true", "low", "a"], [None, None, None]]


@pytest.mark.parametrize(
    "ids",
    [
        pl.Series([" 7 ", "8"]),
        pl.Series([7, 8], dtype=pl.Int32),
        pl.Series(["7", "8 "], dtype=pl.Categorical),
        pl.Series([decimal.Decimal(7), decimal.Decimal(8)]),
    ],
)
def test_ids_of_parquet_are_canonical(parquet, ids):
    assert load(parquet(id=ids, x=[1, 2])).ids.to_list() == ["7", "8"]


def test_whole_floats_and_integers_are_the_same_category(parquet):
    table = load(parquet(id=["1", "2", "3"], x=[10.0, 1.5, float("nan")]), columns={"x": "categorical"})
    assert table.categorical[:, 0].tolist() == ["10", "1.5", None]


def test_format_is_as_configured(csv, parquet):
    assert load(csv("id,x\n1,1\n", "export.txt"), format="csv").ids.to_list() == ["1"]
    path = parquet(id=["1"], x=[1])
    assert load(path.rename(path.with_suffix(".pq"))).ids.to_list() == ["1"]


def test_selected_rows_keep_their_values_together(csv):
    path = csv("id,y,a,c\np,1,10,u\nq,2,20,v\nr,3,30,w\n")
    table = load(path, needs_label=True, label_column="y").select(np.array([2, 0]))
    assert table.ids.to_list() == ["r", "p"]
    assert table.labels.tolist() == [3.0, 1.0]
    assert table.numeric.tolist() == [[30.0], [10.0]]
    assert table.categorical.tolist() == [["w"], ["u"]]
    assert len(table) == 2


# --- what is refused: configuration and file ---


def test_label_column_is_for_the_active_party_only(csv):
    path = csv("id,y,x\n1,0,1\n")
    assert "'y'" in failure(path, error=ConfigError, label_column="y").detail
    assert "label_column" in failure(path, needs_label=True, error=ConfigError).remedy


def test_unknown_suffix(csv):
    assert "'format'" in failure(csv("id,x\n1,1\n", "table.xls"), error=ConfigError).remedy


def test_missing_file_and_folder(tmp_path):
    assert "missing" in failure(tmp_path / "absent.csv").detail
    (tmp_path / "folder.csv").mkdir()
    assert "not a file" in failure(tmp_path / "folder.csv").detail


def test_file_that_may_not_be_read(csv, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pl, "read_csv", refuse)
    error = failure(csv("id,x\n1,1\n"))
    assert "cannot be read" in error.summary
    assert "Permission denied" in error.detail


@pytest.mark.parametrize("content", ["", "\ufeff", "id,x\n", "id,x\n\n\n", "id,x\n , \n"])
def test_file_without_rows(csv, content):
    assert "no rows" in failure(csv(content)).summary


def test_parquet_without_rows(parquet):
    assert "no rows" in failure(parquet(id=[], x=[])).summary


@pytest.mark.parametrize("content", ['id,x\nsecret,"1\n', "id,x\nsecret,2,3\n"])
def test_malformed_csv_is_refused_without_quoting_it(csv, content):
    error = failure(csv(content))
    assert "not a well-formed CSV" in error.summary
    assert "secret" not in str(error)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_other_encodings(csv, encoding):
    assert "UTF-8" in failure(csv("id,x\n1,ä\n".encode(encoding))).remedy


def test_csv_that_claims_to_be_parquet(csv):
    assert "Parquet" in failure(csv("id,x\n1,1\n" * 9, "table.parquet")).summary


def test_repeated_column_names(csv):
    assert "x" in failure(csv("id,x, x\n1,1,2\n")).detail


def test_column_without_a_name(csv):
    error = failure(csv(",id,x\n0,1,2\n"))
    assert "column 1 of 3" in error.detail
    assert "index=False" in error.remedy


@pytest.mark.parametrize(
    "settings",
    [
        {"id_column": "customer"},
        {"columns": {"customer": "numeric"}},
        {"drop": ("customer",)},
        {"label_column": "customer", "needs_label": True},
    ],
)
def test_missing_columns_are_named_beside_those_that_exist(csv, settings):
    error = failure(csv("id,age\n1,2\n"), **settings)
    assert "'customer'" in error.detail
    assert "'id', 'age'" in error.detail


def test_passive_party_without_features(csv):
    assert "no feature columns" in failure(csv("id,x\n1,2\n"), drop=("x",)).summary


# --- what is refused: values ---


def test_repeated_ids_are_counted_and_not_named(csv):
    error = failure(csv("id,x\nsecret,1\nsecret ,2\nb,3\nsecret,4\n"))
    assert "2 of 4 rows" in error.detail
    assert "secret" not in str(error)


def test_rows_without_an_id_are_left_out_and_counted_whatever_else_they_hold(csv, parquet):
    table = load(csv("id,x,y\n1,1,0\n ,unknown,\n,3,\n2,2,1\n"), needs_label=True, label_column="y")
    assert (table.ids.to_list(), table.dropped) == (["1", "2"], 2)
    assert table.numeric[:, 0].tolist() == [1, 2]
    assert load(parquet(id=["1", None, ""], x=[1, 2, 3])).dropped == 2
    assert "no row of the table has an id" in failure(csv("id,x\n,1\n ,2\n")).summary


@pytest.mark.parametrize(
    ("rules", "written", "read"),
    [
        ({}, " Ab 1 ", "Ab 1"),
        ({}, "007", "007"),
        ({}, "e\u0301", "\u00e9"),
        ({"case": "lower"}, "\u00c9A", "\u00e9a"),
        ({"case": "lower"}, "E\u0301", "\u00e9"),
        ({"white_space": "remove"}, "A\u00a0B 1\t2", "AB12"),
        ({"type": "integer"}, " 007 ", "7"),
        ({"type": "integer"}, "+0", "0"),
        ({"type": "integer"}, "-0", "0"),
        ({"type": "integer"}, "-012", "-12"),
        ({"type": "integer"}, "000000000000000000000000000000123", "123"),
        ({"type": "integer", "white_space": "remove"}, "1 000", "1000"),
    ],
)
def test_ids_are_written_by_the_rules_of_the_job(parquet, rules, written, read):
    assert load(parquet(id=[written], x=[1]), rules=IdRules(**rules)).ids.to_list() == [read]


def test_different_ids_that_the_rules_make_one_are_counted_and_not_named(csv):
    path = csv("id,x\nSecret,1\nsecret,2\nother,3\n")
    assert len(load(path)) == 3
    error = failure(path, rules=IdRules(case="lower"))
    assert "1 of 3 rows" in error.detail
    assert "[ids] of job.toml" in error.remedy
    assert "ecret" not in str(error)


def test_ids_that_are_no_numbers_where_the_job_says_so(csv):
    error = failure(csv("id,x\n7,1\nsecret,2\n\u0667,3\n"), rules=IdRules(type="integer"))
    assert "2 of 3 values, first in line 3" in error.detail
    assert "secret" not in str(error)


def test_several_columns_make_an_id_whose_parts_cannot_run_together(csv):
    path = csv("a,b,x\nab,c,1\na,bc,2\n\u00e9,,3\n\u00e9,1,4\n")
    table = load(path, id_column=["a", "b"], rules=IdRules(columns=2))
    assert table.ids.to_list() == ["2:ab1:c", "1:a2:bc", "2:\u00e91:1"]
    assert (table.dropped, table.numeric_names) == (1, ("x",))


def test_the_job_says_how_many_columns_make_an_id(csv):
    with pytest.raises(ConfigError, match="number of id columns is 1 here and 2 in the job"):
        load(csv("id,x\n1,1\n"), rules=IdRules(columns=2))


def test_ids_may_be_of_any_length_and_must_be_utf8(csv, parquet, tmp_path):
    long = "x" * (1 << 20)
    assert load(parquet(id=[long, f"{long}y"], x=[1, 2])).ids.to_list() == [long, f"{long}y"]
    path = tmp_path / "latin.csv"
    path.write_bytes(b"id,x\n\xe9,1\n")
    assert "not text in UTF-8" in failure(path).summary
    assert "cannot be compared" in failure(parquet(id=[b"\xff", b"1"], x=[1, 2])).summary


@pytest.mark.parametrize("ids", [[1.0, 2.0], [True, False], [datetime.date(2020, 1, 1), datetime.date(2020, 1, 2)]])
def test_ids_without_canonical_text(parquet, ids):
    assert "whole numbers" in failure(parquet(id=ids, x=[1, 2])).remedy


def test_values_that_are_not_numbers_are_counted_and_placed(csv):
    error = failure(csv("id,age\n1,3\n\n2,secret\n3,secrets\n4,\n"), columns={"age": "numeric"})
    assert "'age'" in error.detail
    assert "2 of 4 values are not numbers, first in line 4" in error.detail
    assert "secret" not in str(error)


@pytest.mark.parametrize("value", ["inf", "-Infinity", "1e999"])
def test_infinite_values(csv, value):
    error = failure(csv(f"id,age\n1,3\n2,{value}\n"))
    assert "1 of 2 values are infinite, first in line 3" in error.detail


def test_infinite_values_in_parquet(parquet):
    assert "first in row 2" in failure(parquet(id=["1", "2"], x=[1.0, float("-inf")])).detail


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ("1,,nan", "2 of 3 values are missing"),
        ("1,yes,0", "1 of 3 values are not numbers, though most are, first in line 3"),
        ("1,0,inf", "1 of 3 values are infinite, first in line 4"),
    ],
)
def test_unusable_labels(csv, labels, said):
    rows = "".join(f"{row},{label},5\n" for row, label in enumerate(labels.split(",")))
    error = failure(csv(f"id,y,x\n{rows}"), needs_label=True, label_column="y")
    assert "label column" in error.summary
    assert said in error.detail


def test_mostly_numeric_text_is_not_guessed(csv):
    path = csv("id,age\n1,3\n2,4\n3,old\n")
    error = failure(path)
    assert "1 of 3 values are not numbers" in error.detail
    assert "declare" in error.remedy
    assert load(path, columns={"age": "categorical"}).categorical_names == ("age",)


@pytest.mark.parametrize("day", ["2020-01-02", "2020-01-02T10:11:12Z", "2020/1/2 10:11", "02.01.2020", "1/2/2020"])
def test_dates_in_csv(csv, day):
    error = failure(csv(f"id,day\n1,{day}\n2,\n"))
    assert "dates" in error.summary
    assert "'drop'" in error.remedy


@pytest.mark.parametrize("value", [datetime.date(2020, 1, 2), datetime.datetime(2020, 1, 2), datetime.time(1)])
def test_dates_in_parquet(parquet, value):
    path = parquet(id=["1"], day=[value], x=[1])
    for settings in ({}, {"columns": {"day": "numeric"}}):
        error = failure(path, **settings)
        assert "dates" in error.summary
        assert "'day'" in error.detail
    assert load(path, drop=("day",)).numeric_names == ("x",)


@pytest.mark.parametrize("kind", [None, "numeric", "categorical"])
@pytest.mark.parametrize("value", [[1, 2], {"a": 1}, b"x"])
def test_types_that_are_no_single_values(parquet, kind, value):
    columns = {} if kind is None else {"x": kind}
    assert "neither numeric nor categorical" in failure(parquet(id=["1"], x=[value]), columns=columns).summary


def test_infinite_values_are_counted_beside_missing_ones(csv):
    path = csv("id,x\na,\nb,1e999\nc,2\n")
    assert "1 of 3 values are infinite, first in line 3" in failure(path).detail


def test_a_corrupted_parquet_file_never_ends_the_process(parquet):
    """In place 44 the 7 is a length: this version of polars asks for 2^61 bytes, and aborts."""
    path = parquet(id=["a", "b", None], x=[1.5, None, 2.0], y=["p", "q", "p"])
    valid = path.read_bytes()
    for at in (44, *range(5, len(valid), len(valid) // 8)):
        path.write_bytes(valid[:at] + b"\x07" + valid[at + 1 :])
        with contextlib.suppress(DataError):
            load(path)
    path.write_bytes(valid)
    assert len(load(path)) == 2


def test_a_reader_that_dies_is_an_unreadable_file(parquet, monkeypatch):
    path = parquet(id=["a"], x=[1.0])
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert "the reader process crashed" in failure(path).detail


def test_a_panic_of_the_parquet_reader_is_an_unreadable_file(parquet, monkeypatch):
    def panic(*_, **__):
        raise pl.exceptions.PanicException("assertion failed")

    path = parquet(id=["a"], x=[1.0])
    monkeypatch.setattr(pl, "read_parquet", panic)
    assert "not a readable Parquet file" in failure(path).summary
