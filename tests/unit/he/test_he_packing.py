"""Packings hold every entry once, and unpack what they packed."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vfl.he.layout import plan_backward, plan_product, product_layout, reduction_layout
from vfl.he.packing import ReductionPacking, RowPacking

DEGREE = 8192


@st.composite
def row_packings(draw):
    stride = 1 << draw(st.integers(5, 13))
    per = 1 << draw(st.integers(0, (DEGREE // stride).bit_length() - 1))
    spacing = stride << draw(st.integers(0, (DEGREE // (stride * per)).bit_length() - 1))
    return RowPacking(draw(st.integers(1, 3 * stride)), draw(st.integers(1, 20)), DEGREE, stride, per, spacing)


@settings(max_examples=60, deadline=None)
@given(packing=row_packings(), seed=st.integers(0, 2**32))
def test_unpack_inverts_pack_and_unused_coefficients_are_zero(packing, seed):
    matrix = np.random.default_rng(seed).integers(1, 2**57, (packing.rows, packing.columns))
    coefficients = packing.pack(matrix)
    assert coefficients.shape == (packing.ciphertexts, DEGREE)
    assert np.count_nonzero(coefficients) == matrix.size
    np.testing.assert_array_equal(packing.unpack(coefficients), matrix)


@settings(max_examples=40, deadline=None)
@given(packing=row_packings(), seed=st.integers(0, 2**32))
def test_entries_stand_where_the_packing_says(packing, seed):
    rng = np.random.default_rng(seed)
    coefficients = packing.pack(np.arange(1, packing.rows * packing.columns + 1).reshape(packing.rows, -1))
    b, c = int(rng.integers(packing.rows)), int(rng.integers(packing.columns))
    ciphertext = (b // packing.stride) * packing.groups + c // packing.per_ciphertext
    position = (c % packing.per_ciphertext) * packing.spacing + b % packing.stride
    assert coefficients[ciphertext, position] == b * packing.columns + c + 1


@settings(max_examples=60, deadline=None)
@given(features=st.integers(1, 40), outputs=st.integers(1, 40), stride=st.integers(5, 13), data=st.data())
def test_reduction_packing_reads_each_entry_from_its_own_coefficient(features, outputs, stride, data):
    room = DEGREE >> stride
    outputs_per = 1 << data.draw(st.integers(0, room.bit_length() - 1))
    features_per = 1 << data.draw(st.integers(0, (room // outputs_per).bit_length() - 1))
    packing = ReductionPacking(features, outputs, DEGREE, 1 << stride, features_per, outputs_per)
    indices = np.arange(packing.ciphertexts * DEGREE).reshape(packing.ciphertexts, DEGREE)
    read = packing.unpack(indices)
    j, k = np.arange(features)[:, None], np.arange(outputs)[None, :]
    ciphertext = (k // outputs_per) * packing.feature_groups + j // features_per
    position = ((j % features_per) * outputs_per + k % outputs_per) << stride
    np.testing.assert_array_equal(read, ciphertext * DEGREE + position)


def _where_entries_stand(packing: RowPacking | ReductionPacking) -> np.ndarray:
    indices = np.broadcast_to(np.arange(DEGREE), (packing.ciphertexts, DEGREE))
    return np.unique(packing.unpack(indices))


@settings(max_examples=60, deadline=None)
@given(packing=row_packings())
def test_positions_of_a_row_packing_are_those_that_hold_entries(packing):
    np.testing.assert_array_equal(packing.positions, _where_entries_stand(packing))


@settings(max_examples=60, deadline=None)
@given(
    features=st.integers(1, 40), outputs=st.integers(1, 40), stride=st.sampled_from([32, 256, 1024]), shared=st.data()
)
def test_positions_of_a_reduction_packing_are_those_that_hold_entries(features, outputs, stride, shared):
    room = (DEGREE // stride).bit_length() - 1
    outputs_bits = shared.draw(st.integers(0, room))
    features_bits = shared.draw(st.integers(0, room - outputs_bits))
    packing = ReductionPacking(features, outputs, DEGREE, stride, 1 << features_bits, 1 << outputs_bits)
    np.testing.assert_array_equal(packing.positions, _where_entries_stand(packing))


@settings(max_examples=80, deadline=None)
@given(rows=st.integers(1, 70_000), width=st.integers(1, 130), out_width=st.integers(1, 70))
def test_planned_packings_are_consistent(rows, width, out_width):
    """Runs of rows do not overlap, both packings of a layout cut rows alike, and all entries fit the ciphertexts."""
    backward = plan_backward(rows, out_width, (width,), (width,), DEGREE)
    reduction = reduction_layout(backward.blocks, width)
    for layout in (plan_product(rows, width, out_width, DEGREE), product_layout(backward.rows, width)):
        source, product = layout.source, layout.product
        assert source.spacing == source.stride == product.stride
        assert product.spacing == source.per_ciphertext * source.stride
        assert product.per_ciphertext * product.spacing <= DEGREE
        assert source.per_ciphertext * source.spacing <= DEGREE
        assert source.blocks == product.blocks
        assert source.blocks * source.stride >= rows
        assert source.groups * source.per_ciphertext >= source.columns
    packing = reduction.product
    assert packing.features_per_ciphertext * packing.outputs_per_ciphertext * packing.stride <= DEGREE
    assert (packing.features, packing.outputs) == (width, out_width)
