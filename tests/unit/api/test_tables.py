"""Tables from whatever people have their data in."""

import datetime

import numpy as np
import pandas as pd
import polars as pl
import pytest

import vfl
from vfl.data.table import load_table
from vfl.errors import ConfigError, DataError

COLUMNS = {"id": ["a", "b", "c"], "x": [1.5, None, 3.0], "n": [1, 2, 3], "town": ["Rome", None, "Oslo"]}


def loaded(table):
    return load_table(table.config, needs_label=table.label is not None, frame=table.frame)


def as_arrow(frame):
    """Arrow data that is no polars frame."""

    class Stream:
        def __arrow_c_stream__(self, requested_schema=None):
            return frame.__arrow_c_stream__(requested_schema)

    return Stream()


@pytest.mark.parametrize(
    "make",
    [
        lambda path: pl.DataFrame(COLUMNS),
        lambda path: pl.LazyFrame(COLUMNS),
        lambda path: pd.DataFrame(COLUMNS),
        lambda path: pd.DataFrame(COLUMNS).astype({"town": "category", "n": "Int64"}),
        lambda path: as_arrow(pl.DataFrame(COLUMNS)),
        lambda path: COLUMNS,
        lambda path: pl.DataFrame(COLUMNS).write_parquet(path / "t.parquet") or path / "t.parquet",
        lambda path: pl.DataFrame(COLUMNS).write_csv(path / "t.csv") or str(path / "t.csv"),
    ],
    ids=["polars", "lazy", "pandas", "pandas types", "arrow", "dictionary", "parquet", "csv"],
)
def test_the_same_table_from_every_source(make, tmp_path):
    table = loaded(vfl.Table(make(tmp_path), id="id"))
    assert table.ids.to_list() == ["a", "b", "c"]
    assert table.numeric_names == ("x", "n")
    np.testing.assert_array_equal(table.numeric, [[1.5, 1], [np.nan, 2], [3.0, 3]])
    assert table.categorical.tolist() == [["Rome"], [None], ["Oslo"]]


def test_arrays_with_names():
    array = np.array([[7, 5], [8, 25]])
    table = loaded(vfl.Table(array, id="id", names=["id", "x"]))
    assert table.numeric.tolist() == [[5], [25]]
    records = np.array([("a", 1.0)], dtype=[("id", "U1"), ("x", float)])
    assert loaded(vfl.Table(records, id="id")).ids.to_list() == ["a"]


@pytest.mark.parametrize(
    ("source", "options"),
    [
        (np.zeros((2, 2)), {}),
        (np.zeros((2, 2)), {"names": ["id"]}),
        (np.zeros(2), {"names": ["id"]}),
        (pl.DataFrame(COLUMNS), {"names": ["id"]}),
        ([1, 2, 3], {}),
        ({"id": [1, 2], "x": [1]}, {}),
    ],
)
def test_what_is_no_table_is_refused(source, options):
    with pytest.raises(DataError, match="a table in memory cannot be read"):
        vfl.Table(source, id="id", **options)


def test_columns_that_are_missing_or_unusable_are_named():
    with pytest.raises(DataError, match="configured columns are missing"):
        loaded(vfl.Table(COLUMNS, id="customer"))
    dates = {"id": ["a"], "born": [datetime.date(2000, 1, 1)]}
    with pytest.raises(DataError, match="dates or times"):
        loaded(vfl.Table(pd.DataFrame(dates).astype({"born": "datetime64[ns]"}), id="id"))
    with pytest.raises(DataError, match="no rows"):
        loaded(vfl.Table(pl.DataFrame(COLUMNS).clear(), id="id"))
    with pytest.raises(ConfigError, match="only one use"):
        vfl.Table(COLUMNS, id="id", label="id")


def test_kinds_and_drops_are_respected():
    table = loaded(vfl.Table(COLUMNS, id="id", columns={"n": "categorical"}))
    assert (table.numeric_names, table.categorical_names) == (("x",), ("n", "town"))
    table = loaded(vfl.Table(COLUMNS, id="id", drop=["town", "n"]))
    assert (table.numeric_names, table.categorical_names) == (("x",), ())


@pytest.mark.parametrize(
    ("frame", "has"), [({"id": ["a"], "y": [1]}, False), ({"id": ["a"], "y": [1], "x": [2]}, True)]
)
def test_whether_a_table_has_features_is_known_without_reading_it_whole(frame, has, tmp_path):
    pl.DataFrame(frame).write_csv(tmp_path / "t.csv")
    pl.DataFrame(frame).write_parquet(tmp_path / "t.parquet")
    for source in (frame, tmp_path / "t.csv", tmp_path / "t.parquet"):
        assert vfl.Table(source, id="id", label="y").has_features is has


def test_repr_shows_no_rows():
    assert "Rome" not in repr(vfl.Table(COLUMNS, id="id"))
