"""What columns are taken for where nothing is declared."""

import gzip

import numpy as np
import polars as pl
import pytest

from vfl.data.config import DataConfig, IdRules
from vfl.data.description import TableDescription
from vfl.data.table import load_table
from vfl.errors import ConfigError, DataError

ROWS = 60


def load(path, rules=None, **settings):
    settings = {"id_column": "id"} | settings
    return load_table(DataConfig(path=path, **settings), rules, needs_label="label_column" in settings)


def columns(**values):
    """CSV text of ROWS rows: of each column, the values in turn."""
    rows = [",".join(values)]
    rows += [",".join(str(column[row % len(column)]) for column in values.values()) for row in range(ROWS)]
    return "\n".join(rows) + "\n"


IDS = [f"c{row}" for row in range(ROWS)]


def test_columns_that_cannot_help_are_left_out_and_named(csv):
    table = load(
        csv(columns(id=IDS, x=[1.5, 2, 3], same=[7], code=[f"K-{row}" for row in range(ROWS)], town=["a", "b"]))
    )
    assert table.numeric_names == ("x",)
    assert table.categorical_names == ("town",)
    assert table.understood.left_out == {
        "same": "the same value in every row",
        "code": "nearly every text is different: an identifier or free text",
    }


def test_columns_that_are_declared_are_used_all_the_same(csv):
    path = csv(columns(id=IDS, x=[1.5, 2, 3], same=[7], code=[f"K-{row}" for row in range(ROWS)]))
    table = load(path, columns={"same": "numeric", "code": "categorical"})
    assert table.numeric_names == ("x", "same")
    assert table.categorical_names == ("code",)


def test_a_table_without_any_useful_column_says_why(csv):
    with pytest.raises(DataError, match="no feature columns") as caught:
        load(csv(columns(id=IDS, same=[7])))
    assert "'same' (the same value in every row)" in caught.value.detail


@pytest.mark.parametrize(
    ("values", "remark"),
    [
        (list(range(100, 100 + ROWS)), "every number is different"),
        ([""] * 29 + ["3"], "all but 2 of 60 values are missing"),
        (["01067", "04103"], "leading zeros"),
        (["5%", "6%"], "without '%'"),
    ],
)
def test_what_a_person_should_look_at_is_remarked(csv, values, remark):
    assert remark in load(csv(columns(id=IDS, x=values, z=[1, 2]))).understood.remarks["x"]


def test_many_categories_are_remarked(csv):
    rows = "".join(f"{row},word{row % 120}\n" for row in range(360))
    assert "120 categories" in load(csv(f"id,x\n{rows}")).understood.remarks["x"]


def test_text_of_a_typed_table_stays_text(parquet):
    path = parquet(id=["a", "b"], x=["12", "13"], y=["5%", "6%"])
    table = load(path)
    assert table.categorical_names == ("x", "y")
    assert set(table.understood.remarks) == {"x", "y"}
    assert load(path, columns={"x": "numeric", "y": "numeric"}).numeric.tolist() == [[12, 5], [13, 6]]


def test_marks_of_missing_values_are_proposed_and_can_be_declared(csv, parquet):
    path = csv("id,x,town\na,1,?\nb,?,Bonn\nc,3,Rome\n")
    with pytest.raises(DataError) as caught:
        load(path)
    assert 'set missing = ["?"]' in caught.value.detail
    table = load(path, missing=("?",))
    np.testing.assert_array_equal(table.numeric[:, 0], [1, np.nan, 3])
    assert table.categorical[:, 0].tolist() == [None, "Bonn", "Rome"]
    numbers = load(parquet(id=["a", "b"], x=[-999, 3], y=[1.5, -999.0]), missing=("-999",)).numeric
    np.testing.assert_array_equal(numbers, [[np.nan, 1.5], [3, np.nan]])


def test_words_among_numbers_are_not_shown(csv):
    with pytest.raises(DataError) as caught:
        load(csv("id,x\na,1\nb,secret\nc,3\n"))
    assert "secret" not in caught.value.detail


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separators_are_recognized(csv, separator):
    text = 'id,x,"a;b\t|"\na,1,2\nb,2,3\n'.replace(",", separator)
    assert load(csv(text)).numeric.tolist() == [[1, 2], [2, 3]]


def test_a_separator_can_be_stated(csv):
    assert load(csv("id\tx,y\n1\t2\n"), separator="tab").numeric_names == ("x,y",)
    table = load(csv("id;a,b|c\n1;x|2\n2;y|3\n"), separator="|", id_column="id;a,b")
    assert table.ids.to_list() == ["1;x", "2;y"]


def test_decimal_commas(csv):
    path = csv("id;x;y;z\na;0,5;1.234,5;1,234\nb;1,5;2;2,345\n")
    assert load(path).numeric.tolist() == [[0.5, 1234.5, 1.234], [1.5, 2.0, 2.345]]
    assert load(csv("id;x\na;1,234\n"), decimal=".").numeric.tolist() == [[1234.0]]


def test_a_doubtful_mark_is_asked_for(csv):
    with pytest.raises(DataError, match="thousands or the fraction"):
        load(csv("id;x\na;1,234\nb;5,678\n"))
    # In a file with commas between its fields, a quoted comma separates thousands.
    assert load(csv('id,x\na,"1,234"\nb,"5,678"\n')).numeric.tolist() == [[1234], [5678]]


@pytest.mark.parametrize("encoding", ["gb18030", "cp1252", "utf-16"])
def test_encodings_can_be_stated_and_are_named(csv, encoding):
    towns = ["北京", "上海"] if encoding == "gb18030" else ["Köln", "Nürnberg"]
    text = "id,城市,x\n" if encoding == "gb18030" else "id,städte,x\n"
    text += "".join(f"{row},{towns[row % 2]},{row % 7}\n" for row in range(200))
    path = csv(text.encode(encoding))
    table = load(path, encoding=encoding)
    assert sorted(set(table.categorical[:, 0])) == sorted(towns)
    with pytest.raises(DataError, match="not text in UTF-8") as caught:
        load(path)
    assert "encoding = " in caught.value.remedy
    if encoding == "gb18030":
        assert 'encoding = "gb18030"' in caught.value.remedy


def test_an_unknown_encoding_is_refused(csv):
    with pytest.raises(ValueError, match="there is no such encoding"):
        load(csv("id,x\na,1\n"), encoding="utf8000")


def test_packed_files(csv):
    text = b"id,x\na,1\n"
    assert load(csv(gzip.compress(text), "t.csv.gz")).numeric.tolist() == [[1.0]]
    assert load(csv(gzip.compress(text.replace(b",", b"\t")), "t.tsv.gz")).numeric.tolist() == [[1.0]]
    for damaged in (gzip.compress(text)[:-4], gzip.compress(text)[:12] + b"xx" + gzip.compress(text)[14:]):
        with pytest.raises(DataError, match="damaged gzip file"):
            load(csv(damaged, "t.csv.gz"))


def test_a_packed_file_that_would_fill_the_memory_is_refused(csv, monkeypatch):
    monkeypatch.setattr("vfl.data.sources.csv_text.available_memory_bytes", lambda: 1 << 22)
    with pytest.raises(DataError, match="too large when it is unpacked"):
        load(csv(gzip.compress(b"id,x\n" + b"a,1\n" * 500_000), "t.csv.gz"))


def test_settings_of_csv_are_refused_for_other_tables(parquet):
    with pytest.raises(ConfigError, match="decimal apply to CSV files only"):
        load(parquet(id=["a"], x=[1]), decimal=",")


def test_ids_with_decimals_are_refused_or_read_as_whole_numbers(csv, parquet):
    for path in (csv("id,x\n1000.0,1\n1001.0,2\n"), parquet(id=[1000.0, 1001.0], x=[1, 2])):
        with pytest.raises(DataError, match="exported with decimals") as caught:
            load(path)
        assert 'ids.type = "integer"' in caught.value.remedy
        assert load(path, IdRules(type="integer")).ids.to_list() == ["1000", "1001"]
    with pytest.raises(DataError, match="not whole numbers"):
        load(parquet(id=[1000.5, 1001.0], x=[1, 2]), IdRules(type="integer"))


def test_labels_and_weights(csv):
    path = csv("id,y,w,x\na,yes,1,1\nb,no,3,2\nc,,5,3\nd,NA,1,4\n")
    with pytest.raises(DataError, match="missing values") as caught:
        load(path, label_column="y")
    assert "2 of 4 values" in caught.value.detail
    table = load(path, label_column="y", weight_column="w", rows_without_label="leave out")
    assert table.labels.tolist() == ["yes", "no"]
    assert table.weights.tolist() == [0.5, 1.5]
    assert (len(table), table.unlabeled) == (2, 2)
    assert table.numeric_names == ("x",)


@pytest.mark.parametrize("weights", ["1,0", "1,-1", "1,", "1,a"])
def test_unusable_weights(csv, weights):
    first, second = weights.split(",")
    path = csv(f"id,y,w,x\na,1,{first},1\nb,0,{second},2\n")
    with pytest.raises(DataError):
        load(path, label_column="y", weight_column="w")


def test_weights_are_part_of_what_a_party_commits_to(csv):
    tables = [load(csv(f"id,y,w\na,1,1\nb,0,{w}\n"), label_column="y", weight_column="w") for w in (1, 3)]
    assert tables[0].digest != tables[1].digest


def test_settings_of_labels_need_a_label():
    for settings in ({"positive_label": "yes"}, {"weight_column": "w"}, {"rows_without_label": "leave out"}):
        with pytest.raises(ValueError, match="apply to a table with label_column only"):
            DataConfig(path="t.csv", id_column="id", **settings)


def test_kinds_that_do_not_exist_are_named_with_those_that_do():
    with pytest.raises(ValueError, match='"numeric", "categorical"'):
        DataConfig(path="t.csv", id_column="id", columns={"x": "number"})
    with pytest.raises(ValueError, match="not among the features"):
        DataConfig(path="t.csv", id_column="id", columns={"x": "numeric"}, features=("y",))


def test_the_description_shows_counts_and_no_row(csv):
    path = csv(columns(id=IDS, y=["yes", "no", "no"], x=[1.5, "", 3], town=["Bonn", "Rome"], same=[7]))
    config = DataConfig(path=path, id_column="id", label_column="y")
    text = str(TableDescription.of(load_table(config, needs_label=True), config))
    assert "60 rows" in text
    assert "label: no: 40 (66.7%), yes: 20 (33.3%)" in text
    assert "1.5 to 3" in text
    assert "the same value in every row" in text
    assert max(map(len, text.splitlines())) <= 80
    for hidden in ("Bonn", "c17"):
        assert hidden not in text


def test_later_rows_are_read_as_the_first(parquet):
    """A small table of later rows shows nothing of what its columns are."""
    first = pl.DataFrame({"id": ["a", "b"], "x": ["5%", "6%"], "town": ["p", "q"], "gone": [None, None]})
    config = DataConfig(path="t", id_column="id", columns={"x": "numeric"})
    readings = load_table(config, needs_label=False, frame=first).understood.readings
    later = pl.DataFrame({"more": [1], "town": ["p"], "x": ["7%"], "id": ["c"]})
    table = load_table(config, needs_label=False, frame=later, readings=readings)
    assert (table.numeric_names, table.categorical_names) == (("x",), ("town",))
    assert table.numeric.tolist() == [[7.0]]
    with pytest.raises(DataError, match="configured columns are missing"):
        load_table(config, needs_label=False, frame=later.drop("town"), readings=readings)
