"""Dates and times as numbers."""

import datetime

import numpy as np
import polars as pl
import pytest

from vfl.data.config import DataConfig
from vfl.data.table import load_table
from vfl.errors import DataError

DAY = 1.0 / 24


def load(path, **settings):
    return load_table(DataConfig(path=path, id_column="id", **settings), needs_label=False)


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("1970-01-02", 1.0),
        ("1970-01-02 06:00", 1.25),
        ("1970-01-02T06:00:00", 1.25),
        ("1970-01-02T06:00:00.000", 1.25),
        ("1970-01-02 06:00:00Z", 1.25),
        ("1970-01-02T06:00:00+02:00", 1.25 - 2 * DAY),
        ("1970/1/2", 1.0),
        ("31.1.1970", 30.0),
        ("31/01/1970", 30.0),
        ("01/31/1970", 30.0),
        ("31.01.1970 12:00", 30.5),
    ],
)
def test_days_of_dates_in_csv(csv, text, days):
    table = load(csv(f"id,day\na,{text}\nb,\n"), columns={"day": "days"})
    assert table.numeric_names == ("day.days",)
    np.testing.assert_allclose(table.numeric[:, 0], [days, np.nan])


def test_every_part(csv):
    table = load(csv("id,t\na,2024-02-29 23:30\n"), columns={"t": ["year", "month", "day", "weekday", "hour"]})
    assert table.numeric_names == ("t.year", "t.month", "t.day", "t.weekday", "t.hour")
    assert table.numeric.tolist() == [[2024, 2, 29, 4, 23]]


@pytest.mark.parametrize(
    "value",
    [
        datetime.date(1970, 1, 2),
        datetime.datetime(1970, 1, 2),
        datetime.datetime(1970, 1, 2, 2, tzinfo=datetime.timezone(datetime.timedelta(hours=2))),
    ],
)
def test_days_of_typed_dates(parquet, value):
    table = load(parquet(id=["a", "b"], t=[value, None]), columns={"t": "days"})
    np.testing.assert_array_equal(table.numeric[:, 0], [1.0, np.nan])


def test_dates_are_refused_with_an_offer(csv):
    with pytest.raises(DataError) as caught:
        load(csv("id,the day\na,2024-02-29\n"))
    assert 'columns = { "the day" = ["days", "weekday"] }' in caught.value.detail


def test_day_and_month_are_not_guessed(csv):
    path = csv("id,t\na,1/2/2020\nb,3/4/2020\n")
    with pytest.raises(DataError, match="which number of a date is the day"):
        load(path, columns={"t": "month"})
    assert load(path, columns={"t": "month"}, date_format="%d/%m/%Y").numeric[:, 0].tolist() == [2, 4]


def test_a_format_can_be_stated(csv):
    path = csv("id,t\na,2 Jan 1970\n")
    with pytest.raises(DataError, match="no dates of one known format"):
        load(path, columns={"t": "days"})
    assert load(path, columns={"t": "days"}, date_format="%d %b %Y").numeric.tolist() == [[1.0]]


def test_values_that_are_no_dates_are_counted(csv):
    path = csv("id,t\na,1970-01-02\nb,soon\n")
    with pytest.raises(DataError) as caught:
        load(path, columns={"t": "days"}, date_format="%Y-%m-%d")
    assert "1 of 2 values" in caught.value.detail
    assert "line 3" in caught.value.detail
    assert "soon" not in caught.value.detail


def test_numbers_are_no_dates(parquet):
    with pytest.raises(DataError, match="declared as a date, and holds none"):
        load(parquet(id=["a"], t=[5]), columns={"t": "days"})


def test_later_rows_are_read_as_the_first(csv):
    """The format is that of training, although in later rows the day could be the month."""
    config = DataConfig(path=csv("id,t\na,31/1/1970\n"), id_column="id", columns={"t": "days"})
    readings = load_table(config, needs_label=False).understood.readings
    later = pl.DataFrame({"id": ["b"], "t": ["2/1/1970"]})
    assert load_table(config, needs_label=False, frame=later, readings=readings).numeric.tolist() == [[1.0]]
