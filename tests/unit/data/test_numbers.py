"""Numbers in text, as people write them."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfl.data.numbers import NumberStyle, styles_of


@pytest.mark.parametrize(
    ("texts", "style", "numbers"),
    [
        (["47.7%", "54 %", None], NumberStyle(unit="%"), [47.7, 54.0, None]),
        (["18,424.66", "1,234,567", "3"], NumberStyle(), [18424.66, 1234567.0, 3.0]),
        (["EUR 91.63", "EUR -1,000", "n/a"], NumberStyle(unit="EUR"), [91.63, -1000.0, None]),
        (["12 EUR", "-3 EUR"], NumberStyle(unit="EUR"), [12.0, -3.0]),
        (["$5", "-$1,000.5", "$-2"], NumberStyle(unit="$"), [5.0, -1000.5, -2.0]),
        (["-0,226", "1,5", "7"], NumberStyle(decimal=","), [-0.226, 1.5, 7.0]),
        (["1.234,50", "2"], NumberStyle(decimal=","), [1234.5, 2.0]),
        (["1 234,5", "1\u00a0234"], NumberStyle(decimal=","), [1234.5, 1234.0]),
        (["1'234.5", "2"], NumberStyle(), [1234.5, 2.0]),
    ],
)
def test_one_way_of_writing(texts, style, numbers):
    assert styles_of(pl.Series(texts)) == [style]
    assert style.parse(pl.Series(texts)).to_list() == numbers


@pytest.mark.parametrize(
    "texts",
    [
        ["K-90000", "K-90001"],
        ["12kg", "13kg"],
        ["5%", "$3"],  # two units
        ["5%", "3"],  # a unit in some rows only
        ["--5"],
        ["-$-5"],
        ["1,23,456.5"],
        ["10.0.0.1"],
        ["0,123,456"],
        ["$5$"],
        ["nan", None],
        [],
    ],
)
def test_what_is_no_column_of_numbers(texts):
    assert styles_of(pl.Series(texts, dtype=pl.String)) == []


def test_a_mark_that_may_be_either():
    assert styles_of(pl.Series(["1,234", "5,678"])) == [NumberStyle(), NumberStyle(decimal=",")]


def test_another_unit_is_no_number_of_the_style():
    assert NumberStyle(unit="%").parse(pl.Series(["5%", "$5", "5"])).to_list() == [5.0, None, None]


@given(st.lists(st.floats(-1e9, 1e9).map(lambda value: round(value, 3)), min_size=1), st.sampled_from([".", ","]))
def test_what_is_written_is_read(values, decimal):
    # With a fraction in every row, so that no mark is doubtful.
    texts = [f"{value:,.4f}" for value in values]
    if decimal == ",":
        texts = [text.replace(",", " ").replace(".", ",") for text in texts]
    assert styles_of(pl.Series(texts)) == [NumberStyle(decimal=decimal)]
    assert NumberStyle(decimal=decimal).parse(pl.Series(texts)).to_list() == values
