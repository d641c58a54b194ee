"""The column that a split by time orders the rows by."""

import datetime

import polars as pl
import pytest

from vfl.data.config import DataConfig
from vfl.data.description import TableDescription
from vfl.data.table import load_table
from vfl.errors import ConfigError, DataError


def load(times, **settings):
    frame = pl.DataFrame({"id": ["1", "2", "3"], "y": [0, 1, 0], "x": [1.0, 2.0, 3.0], "when": times})
    config = {"path": "rows", "id_column": "id", "label_column": "y", "time_column": "when"} | settings
    return load_table(DataConfig.model_validate(config), needs_label=True, frame=frame)


DAYS = [datetime.date(2024, 3, 1), datetime.date(2024, 1, 31), datetime.date(2024, 2, 1)]


@pytest.mark.parametrize(
    ("times", "settings"),
    [
        (DAYS, {}),
        ([datetime.datetime(2024, 1, 1, hour, tzinfo=datetime.UTC) for hour in (23, 1, 2)], {}),
        (["2024-03-01", "2024-01-31", "2024-02-01"], {}),
        (["01.03.2024", "31.01.2024", "01.02.2024"], {}),
        (["20240301", "20240131", "20240201"], {}),
        (["01032024", "31012024", "01022024"], {"date_format": "%d%m%Y"}),
        ([7, -2, 0], {}),
        (["1,5", "-2,5", "0,25"], {}),
    ],
)  # fmt: skip
def test_dates_times_and_numbers_have_an_order(times, settings):
    table = load(times, **settings)
    assert table.times.argsort().tolist() == [1, 2, 0]
    assert table.numeric_names == ("x",), "it is no feature"


def test_it_is_a_feature_where_it_is_asked_for():
    assert load(DAYS, columns={"when": ["month"]}).numeric_names == ("x", "when.month")
    assert load([3, 1, 2], features=["when"]).numeric_names == ("when",)


@pytest.mark.parametrize(
    ("times", "says", "remedy"),
    [
        (["2024-01-01", None, ""], "2 of 3 values are missing", "fill in the times"),
        ([1.0, float("nan"), 2.0], "1 of 3 values are missing", "fill in the times"),
        ([4, 4, 4], "3 rows", "another split.by"),
        (["soon", "later", "now"], "3 of 3 values are not numbers", "correct the values"),
        (["01/02/2024", "02/01/2024", "03/01/2024"], "every value is a date both ways", "set date_format"),
    ],
)
def test_what_has_no_order_is_refused_with_what_to_do(times, says, remedy):
    with pytest.raises(DataError) as caught:
        load(times)
    assert (says in caught.value.detail, remedy in caught.value.remedy) == (True, True), caught.value
    assert "'when'" in caught.value.detail


def test_it_has_no_other_use():
    for other in ({"drop": ["when"]}, {"label_column": "when"}, {"weight_column": "when"}):
        with pytest.raises(ValueError, match="only one use"):
            load(DAYS, **other)


def test_it_belongs_to_the_digest_and_to_the_description():
    one, other = load([1, 2, 3]), load([1, 2, 4])
    assert one.digest != other.digest
    config = DataConfig(path="rows", id_column="id", label_column="y", time_column="when")
    assert ("when", "time") in [(column.name, column.use) for column in TableDescription.of(one, config).columns]


def test_it_must_be_in_the_table():
    with pytest.raises(DataError) as caught:
        load(DAYS, time_column="then")
    assert "'then'" in caught.value.detail
    assert not isinstance(caught.value, ConfigError)
