"""Planned layouts are exact, cheap, and refused where no exact one exists."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.layers.interaction import PARAMETERS

from vfl.errors import ParameterError
from vfl.he.layout import (
    LINK_MBIT,
    MAX_TERMS,
    MIN_STRIDE,
    Costs,
    ProductLayout,
    plan_backward,
    plan_product,
    product_layout,
    reduction_layout,
)
from vfl.he.packing import RowPacking
from vfl.he.rounding import REDUCIBLE, matrix_magnitude

DEGREE = 8192


def _cost(layout: ProductLayout) -> float:
    costs = Costs(DEGREE, LINK_MBIT)
    return costs.fresh(layout.source) + costs.product(layout)


def _column_per_ciphertext(rows: int, width: int, out_width: int) -> ProductLayout:
    """The naive layout: every column of every 8192 rows, or of all rows, has a ciphertext of its own."""
    stride = min(DEGREE, max(MIN_STRIDE, 1 << (rows - 1).bit_length()))
    source = RowPacking(rows, width, DEGREE, stride, 1, stride)
    return ProductLayout(source, RowPacking(rows, out_width, DEGREE, stride, 1, stride))


@settings(max_examples=80, deadline=None)
@given(rows=st.integers(1, 70_000), width=st.integers(1, 256), out_width=st.integers(1, 128))
def test_a_plan_is_exact_and_never_dearer_than_a_column_per_ciphertext(rows, width, out_width):
    plan = plan_product(rows, width, out_width, DEGREE)
    assert plan.terms <= MAX_TERMS
    assert matrix_magnitude(PARAMETERS, plan) <= REDUCIBLE
    assert _cost(plan) <= _cost(_column_per_ciphertext(rows, width, out_width))


def test_a_small_batch_shares_ciphertexts():
    plan = plan_product(256, 32, 32, DEGREE)
    naive = _column_per_ciphertext(256, 32, 32)
    assert _cost(plan) < _cost(naive) / 3


def test_terms_count_the_non_zero_coefficients_of_a_plaintext_row():
    layout = product_layout(RowPacking(64, 8, DEGREE, 64, 4, 64), 16)
    assert layout.product.per_ciphertext == 16
    assert layout.terms == 2 * 4 * 16


def _polynomials(layout: ProductLayout) -> int:
    """Residues that are sent, a polynomial modulo one prime each."""
    return 7 * layout.source.ciphertexts + 6 * layout.product.ciphertexts


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 70_000), width=st.integers(1, 128), out_width=st.integers(1, 128))
def test_a_slower_connection_never_gets_more_to_send(rows, width, out_width):
    plans = [plan_product(rows, width, out_width, DEGREE, link) for link in (10, LINK_MBIT, 100_000)]
    sent = [_polynomials(plan) for plan in plans]
    assert sent == sorted(sent)


def test_the_speed_of_the_connection_matters():
    slow, fast = (plan_product(2048, 32, 32, DEGREE, link) for link in (10, 100_000))
    assert _polynomials(slow) < _polynomials(fast)


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 20_000), out_width=st.integers(1, 64), width=st.integers(1, 64), narrower=st.integers(0, 63))
def test_a_further_party_no_wider_does_not_change_how_the_gradient_is_encrypted(rows, out_width, width, narrower):
    alone = plan_backward(rows, out_width, (width,), (width,), DEGREE)
    others = (width, max(1, width - narrower))
    assert plan_backward(rows, out_width, others, others, DEGREE) == alone


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 70_000),
    width=st.integers(1, 128),
    out_width=st.integers(1, 128),
    ciphertexts=st.integers(1, 40),
)
def test_slabs_cover_every_row_once_in_whole_blocks(rows, width, out_width, ciphertexts):
    plan = plan_product(rows, width, out_width, DEGREE)
    runs = list(plan.slabs(ciphertexts))
    assert [rows.start for rows, _ in runs] == [0, *(rows.stop for rows, _ in runs[:-1])]
    assert runs[-1][0].stop == rows
    for where, layout in runs:
        assert layout.source.rows == layout.product.rows == where.stop - where.start
        assert where.start % plan.source.stride == 0
        assert max(layout.source.ciphertexts, layout.product.ciphertexts) <= max(
            ciphertexts, plan.source.groups, plan.product.groups
        )
    for packing in ("source", "product"):
        counts = [getattr(layout, packing).ciphertexts for _, layout in runs]
        assert sum(counts) == getattr(plan, packing).ciphertexts


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 70_000),
    out_width=st.integers(1, 64),
    widths=st.lists(st.integers(1, 64), min_size=1, max_size=4),
    receivers=st.integers(0, 4),
)
def test_one_gradient_serves_every_party(rows, out_width, widths, receivers):
    gradient_widths = tuple(widths[:receivers])
    plan = plan_backward(rows, out_width, tuple(widths), gradient_widths, DEGREE)
    assert (plan.rows is None) == (not gradient_widths)
    assert plan.shared == (plan.rows == plan.blocks)
    for width in gradient_widths:
        assert product_layout(plan.rows, width).terms <= MAX_TERMS
    for width in widths:
        layout = reduction_layout(plan.blocks, width)
        assert layout.feature_coefficients * layout.product.outputs_per_ciphertext <= DEGREE
        assert layout.product.outputs == out_width


@pytest.mark.parametrize(
    "plan",
    [
        lambda: plan_product(64, MAX_TERMS + 1, 4, DEGREE),
        lambda: plan_backward(64, MAX_TERMS + 1, (4,), (4,), DEGREE),
        lambda: plan_product(0, 4, 4, DEGREE),
        lambda: plan_product(4, 0, 4, DEGREE),
        lambda: plan_backward(0, 4, (4,), (), DEGREE),
    ],
)
def test_impossible_shapes_are_refused(plan):
    with pytest.raises(ParameterError) as caught:
        plan()
    assert caught.value.remedy


@pytest.mark.parametrize(("rows", "width"), [(8192, MAX_TERMS), (64, MAX_TERMS // 128 * 128)])
def test_the_widest_possible_layer_is_planned(rows, width):
    """Many rows leave room for one column in a ciphertext; columns that share one come in powers of two."""
    assert plan_product(rows, width, 4, DEGREE).terms <= MAX_TERMS
