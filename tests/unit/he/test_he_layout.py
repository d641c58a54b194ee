"""Planned layouts are exact, cheap, and refused where no exact one exists."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.interaction import PARAMETERS

from vfl.errors import ParameterError
from vfl.he.algebra import matrix_magnitude
from vfl.he.layout import (
    COST_FRESH,
    COST_RETURNED,
    MAX_TERMS,
    ProductLayout,
    plan_backward,
    plan_product,
    product_layout,
    reduction_layout,
)
from vfl.he.packing import RowPacking
from vfl.he.residues import REDUCIBLE

DEGREE = 8192


def _cost(layout: ProductLayout) -> float:
    return COST_FRESH * layout.source.ciphertexts + COST_RETURNED * layout.product.ciphertexts


def _column_per_ciphertext(rows: int, width: int, out_width: int) -> ProductLayout:
    """The naive layout: every column of every 8192 rows has a ciphertext of its own."""
    source = RowPacking(rows, width, DEGREE, DEGREE, 1, DEGREE)
    return ProductLayout(source, RowPacking(rows, out_width, DEGREE, DEGREE, 1, DEGREE))


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


def test_the_widest_possible_layer_is_planned():
    assert plan_product(64, MAX_TERMS, 4, DEGREE).terms <= MAX_TERMS
