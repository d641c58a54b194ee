"""Both kernels agree with exact integer polynomial arithmetic, at the extremes of every operand too."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vfl.errors import ParameterError
from vfl.he.algebra import matrix_magnitude, times_matrix, transform_error, transposed_times
from vfl.he.layout import (
    MAX_TERMS,
    ProductLayout,
    ReductionLayout,
    plan_backward,
    plan_product,
    product_layout,
    reduction_layout,
)
from vfl.he.noise import check_bounds
from vfl.he.packing import RowPacking
from vfl.he.parameters import Parameters, RingSettings

PARAMETERS = Parameters.validated(RingSettings())
DEGREE, LEVEL = PARAMETERS.degree, 2
PRIMES = np.array(PARAMETERS.primes[:LEVEL])[:, None]
STYLES = ["uniform", "largest", "half", "above half", "zero"]


def _residues(rng: np.random.Generator, ciphertexts: int, style: str) -> torch.Tensor:
    shape = (ciphertexts, 2, LEVEL, DEGREE)
    fixed = {"largest": PRIMES - 1, "half": PRIMES // 2, "above half": PRIMES // 2 + 1, "zero": 0 * PRIMES}
    values = rng.integers(0, PRIMES, shape) if style == "uniform" else np.broadcast_to(fixed[style], shape).copy()
    return torch.from_numpy(values)


def _coefficient(polynomial: np.ndarray, small: np.ndarray, position: int) -> np.ndarray:
    """Coefficient of X^position of small * polynomial (..., L, N) modulo X^N + 1 and the primes, in exact integers."""
    source = position - np.arange(DEGREE)
    signed = np.where(source < 0, -1, 1) * small
    terms = (signed % PRIMES) * polynomial[..., source % DEGREE] % PRIMES
    return terms.sum(axis=-1) % PRIMES[:, 0]


def _weight_polynomial(layout: ProductLayout, w_DK: np.ndarray, source_group: int, group: int) -> np.ndarray:
    """Column k of the output group and row i of the input group meet at power (k per_in - i) stride."""
    source, product = layout.source, layout.product
    polynomial = np.zeros(DEGREE, dtype=np.int64)
    for i in range(source.per_ciphertext):
        for k in range(product.per_ciphertext):
            row, column = source_group * source.per_ciphertext + i, group * product.per_ciphertext + k
            if row < source.columns and column < product.columns:
                power = (k * source.per_ciphertext - i) * source.stride
                polynomial[power % DEGREE] += -w_DK[row, column] if power < 0 else w_DK[row, column]
    return polynomial


@st.composite
def product_layouts(draw):
    stride = 1 << draw(st.integers(5, 13))
    per = 1 << draw(st.integers(0, min(4, (DEGREE // stride).bit_length() - 1)))
    source = RowPacking(draw(st.integers(1, 2 * stride)), draw(st.integers(1, 12)), DEGREE, stride, per, stride)
    return product_layout(source, draw(st.integers(1, 12)))


@settings(max_examples=25, deadline=None)
@given(
    layout=product_layouts(),
    style=st.sampled_from(STYLES),
    weights=st.sampled_from(["uniform", "lowest", "highest"]),
    seed=st.integers(0, 2**32),
)
def test_times_matrix_is_exact(layout, style, weights, seed):
    rng = np.random.default_rng(seed)
    shape, limit = (layout.source.columns, layout.product.columns), 1 << (PARAMETERS.tau - 1)
    values = {"lowest": -limit, "highest": limit - 1}
    w_DK = rng.integers(-limit, limit, shape) if weights == "uniform" else np.full(shape, values[weights])
    ct_x = _residues(rng, layout.source.ciphertexts, style)
    ct_y = times_matrix(PARAMETERS, layout, ct_x, w_DK).numpy()
    assert ct_y.shape == (layout.product.ciphertexts, 2, LEVEL, DEGREE)
    x = ct_x.numpy().reshape(layout.source.blocks, layout.source.groups, 2, LEVEL, DEGREE)
    group, position = int(rng.integers(layout.product.groups)), int(rng.integers(DEGREE))
    expected = sum(
        _coefficient(x[:, g], _weight_polynomial(layout, w_DK, g, group), position) for g in range(layout.source.groups)
    )
    got = ct_y.reshape(layout.source.blocks, -1, 2, LEVEL, DEGREE)[:, group, ..., position]
    np.testing.assert_array_equal(got, expected % PRIMES[:, 0])


def _feature_polynomial(layout: ReductionLayout, x_BD: np.ndarray, block: int, group: int) -> np.ndarray:
    """Row b and feature j of their block and group stand at power j stride outputs_per - b."""
    source, product = layout.source, layout.product
    polynomial = np.zeros(DEGREE, dtype=np.int64)
    for j in range(product.features_per_ciphertext):
        feature = group * product.features_per_ciphertext + j
        rows = np.arange(block * source.stride, min(source.rows, (block + 1) * source.stride))
        if feature < product.features:
            power = j * source.stride * source.per_ciphertext - (rows - block * source.stride)
            polynomial[power % DEGREE] += np.where(power < 0, -1, 1) * x_BD[rows, feature]
    return polynomial


@st.composite
def reduction_layouts(draw):
    stride = 1 << draw(st.integers(5, 13))
    per = 1 << draw(st.integers(0, min(4, (DEGREE // stride).bit_length() - 1)))
    source = RowPacking(draw(st.integers(1, 3 * stride)), draw(st.integers(1, 9)), DEGREE, stride, per, stride)
    return reduction_layout(source, draw(st.integers(1, 9)))


@settings(max_examples=25, deadline=None)
@given(
    layout=reduction_layouts(),
    style=st.sampled_from(STYLES),
    activations=st.sampled_from(["uniform", "largest", "signs"]),
    seed=st.integers(0, 2**32),
)
def test_transposed_times_is_exact(layout, style, activations, seed):
    rng = np.random.default_rng(seed)
    shape, limit = (layout.source.rows, layout.product.features), 1 << PARAMETERS.settings.activation_bits
    x_BD = {
        "uniform": rng.integers(-limit, limit, shape, endpoint=True),
        "largest": np.full(shape, limit),
        "signs": rng.choice(np.array([-limit, limit]), shape),
    }[activations]
    ct_y = _residues(rng, layout.source.ciphertexts, style)
    ct_out = transposed_times(PARAMETERS, layout, x_BD, ct_y).numpy()
    assert ct_out.shape == (layout.product.ciphertexts, 2, LEVEL, DEGREE)
    y = ct_y.numpy().reshape(layout.source.blocks, layout.source.groups, 2, LEVEL, DEGREE)
    group, features = int(rng.integers(layout.source.groups)), int(rng.integers(layout.product.feature_groups))
    position = int(rng.integers(DEGREE))
    expected = sum(
        _coefficient(y[block, group], _feature_polynomial(layout, x_BD, block, features), position)
        for block in range(layout.source.blocks)
    )
    got = ct_out[group * layout.product.feature_groups + features, ..., position]
    np.testing.assert_array_equal(got, expected % PRIMES[:, 0])


def test_times_matrix_is_exact_with_as_many_terms_as_allowed():
    """Every product has the same sign and nearly the largest size, so the float64 sums reach their bound."""
    layout = product_layout(RowPacking(32, 128, DEGREE, 32, 32, 32), 8)
    assert layout.terms == MAX_TERMS
    w_DK = np.full((128, 8), PARAMETERS.primes[0] // 2)
    ct_x = _residues(np.random.default_rng(0), layout.source.ciphertexts, "half")
    ct_y = times_matrix(PARAMETERS, layout, ct_x, w_DK).numpy()
    for position in (0, DEGREE // 2, DEGREE - 1):
        expected = sum(
            _coefficient(ct_x.numpy()[group], _weight_polynomial(layout, w_DK, group, 0), position)
            for group in range(layout.source.groups)
        )
        np.testing.assert_array_equal(ct_y[0, ..., position], expected % PRIMES[:, 0])


def test_the_bound_of_the_transform_holds_and_grows_with_its_inputs():
    """The results themselves are in ``test_transposed_times_is_exact``."""
    layout = plan_backward(8192, 32, (32,), (32,), DEGREE).blocks
    small = transform_error(PARAMETERS, reduction_layout(layout, 32))
    more_bits = Parameters.validated(RingSettings(activation_bits=12, gradient_bits=8, weight_bits=40))
    assert 0 < small < 0.25
    assert transform_error(more_bits, reduction_layout(layout, 32)) == pytest.approx(4 * small)


def test_the_bound_of_the_matrix_kernel_is_what_it_accumulates():
    layout = plan_product(64, 32, 32, DEGREE)
    assert matrix_magnitude(PARAMETERS, layout) == layout.terms * (PARAMETERS.primes[-1] // 2) * 2**14


def test_shapes_beyond_the_bounds_are_refused():
    check_bounds(PARAMETERS, 1024, (64, 32), 32)
    wide_activations = Parameters.validated(RingSettings(activation_bits=18, gradient_bits=4, weight_bits=32))
    with pytest.raises(ParameterError, match="not provably exact"):
        check_bounds(wide_activations, 1024, (64,), 32)
    with pytest.raises(ParameterError, match="too wide"):
        check_bounds(PARAMETERS, 64, (2 * MAX_TERMS,), 32)
    few_primes = Parameters.validated(RingSettings(primes=5))
    with pytest.raises(ParameterError, match="needs flooding of"):
        check_bounds(few_primes, 64, (8,), 8)
