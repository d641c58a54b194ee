"""Packed residues unpack to themselves, take no more words than promised, and never more than their bits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vfl.he.arithmetic.bits import WORD, pack_bits, packed_words, unpack_bits
from vfl.he.arithmetic.compute import computing

BITS = st.integers(20, 32)


def _values(seed: int, shape: tuple[int, int, int], bits: int, style: str) -> np.ndarray:
    largest = (1 << bits) - 1
    if style == "largest":
        return np.full(shape, largest)
    return np.random.default_rng(seed).integers(0, largest, shape, endpoint=True)


@settings(max_examples=200, deadline=None)
@given(
    bits=BITS,
    ciphertexts=st.integers(1, 3),
    level=st.integers(1, 3),
    count=st.integers(1, 200),
    style=st.sampled_from(["uniform", "largest"]),
    seed=st.integers(0, 2**32),
)
def test_unpacking_gives_what_was_packed(bits, ciphertexts, level, count, style, seed):
    values = _values(seed, (ciphertexts, level, count), bits, style)
    before = values.copy()
    words = pack_bits(values, bits)
    assert words.dtype == np.uint32
    assert words.shape == (ciphertexts, level, packed_words(count, bits))
    unpacked = unpack_bits(words, count, bits)
    assert unpacked.dtype == np.int64
    np.testing.assert_array_equal(unpacked, values)
    np.testing.assert_array_equal(values, before)


@given(bits=BITS, count=st.integers(0, 100_000))
def test_no_bit_is_wasted_but_to_fill_the_last_rows(bits, count):
    size = packed_words(count, bits) * WORD
    rows = next(rows for rows in range(1, WORD + 1) if rows * bits % WORD == 0)
    assert count * bits <= size < (count + rows) * bits
    if count % rows == 0:
        assert size == count * bits


def test_thirty_bits_of_a_whole_polynomial_take_fifteen_sixteenths():
    assert packed_words(8192, 30) == 8192 * 15 // 16
    assert packed_words(0, 30) == 0


@settings(max_examples=60, deadline=None)
@given(bits=BITS, count=st.integers(1, 100), data=st.data())
def test_every_value_has_bits_of_its_own(bits, count, data):
    """Changing one value changes no other, and its bits alone."""
    at = data.draw(st.integers(0, count - 1))
    zeros = np.zeros((1, 1, count), dtype=np.int64)
    one = zeros.copy()
    one[0, 0, at] = (1 << bits) - 1
    words = pack_bits(one, bits)
    assert int(np.bitwise_count(words).sum()) == bits
    others = pack_bits((1 << bits) - 1 - one, bits)
    assert not (words & others).any()


@settings(max_examples=100, deadline=None)
@given(bits=BITS, count=st.integers(1, 100), seed=st.integers(0, 2**32))
def test_whatever_a_peer_puts_into_the_padding_is_ignored(bits, count, seed):
    """Any words unpack to values within the bits; those that differ in padding only unpack alike."""
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 2**32, (1, 2, packed_words(count, bits)), dtype=np.uint32)
    values = unpack_bits(words, count, bits)
    assert values.shape == (1, 2, count)
    assert 0 <= values.min() <= values.max() < 1 << bits
    clean = pack_bits(values, bits)
    np.testing.assert_array_equal(unpack_bits(clean, count, bits), values)


@pytest.mark.parametrize("threads", [1, 4])
def test_threads_share_the_work_and_nothing_else(threads):
    with computing(threads, "cpu"):
        values = _values(1, (20, 6, 500), 30, "uniform")
        np.testing.assert_array_equal(unpack_bits(pack_bits(values, 30), 500, 30), values)
