import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from vfl.align.order import canonical_order

id_lists = st.lists(st.text(min_size=1), unique=True, max_size=30)


def _order(ids):
    return canonical_order(pl.Series(ids, dtype=pl.String))


@given(ids=id_lists, shuffler=st.randoms())
def test_parties_with_differently_sorted_tables_get_the_same_order(ids, shuffler):
    other = list(ids)
    shuffler.shuffle(other)
    assert [ids[row] for row in _order(ids)] == [other[row] for row in _order(other)]


@given(ids=id_lists)
def test_order_is_by_utf8_bytes(ids):
    encoded = [ids[row].encode() for row in _order(ids)]
    assert encoded == sorted(encoded)


def test_digits_have_no_meaning_and_letters_no_locale():
    ids = ["é", "z", "10", "9", "a", "B", "𝄞", "\uffff"]
    assert [ids[row] for row in _order(ids)] == ["10", "9", "B", "a", "z", "é", "\uffff", "𝄞"]


def test_result_is_an_index_array_even_when_empty():
    assert _order([]).dtype == np.int64
    assert _order([]).shape == (0,)
