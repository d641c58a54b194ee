"""Both kernels agree with exact integer polynomial arithmetic, at the extremes of every operand too."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import vfl.he.algebra
from vfl.he.algebra import (
    HALF_LIMB,
    PIECE_BYTES,
    _column_pieces,
    times_matrix,
    transposed_times,
)
from vfl.he.layout import (
    MAX_TERMS,
    ProductLayout,
    ReductionLayout,
    plan_backward,
    plan_product,
    product_layout,
    reduction_layout,
)
from vfl.he.packing import RowPacking
from vfl.he.parameters import Parameters, RingSettings
from vfl.he.rounding import matrix_magnitude, transform_error

PARAMETERS = Parameters.validated(RingSettings())
DEGREE, LEVEL = PARAMETERS.degree, 2
PRIMES = np.array(PARAMETERS.primes[:LEVEL])[:, None]
STYLES = ["uniform", "largest", "half", "above half", "zero"]


def _residues(rng: np.random.Generator, ciphertexts: int, style: str) -> torch.Tensor:
    shape = (ciphertexts, 2, LEVEL, DEGREE)
    fixed = {
        "odd half": PRIMES // 2 - 1,
        "odd largest": PRIMES - 2,
        "largest": PRIMES - 1,
        "half": PRIMES // 2,
        "above half": PRIMES // 2 + 1,
        "zero": 0 * PRIMES,
    }
    values = rng.integers(0, PRIMES, shape) if style == "uniform" else np.broadcast_to(fixed[style], shape).copy()
    return torch.from_numpy(values)


def _canonical(product: torch.Tensor) -> np.ndarray:
    """Kernels return representatives of either sign."""
    assert int(product.abs().max()) < 1 << 30
    return product.numpy() % PRIMES


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
    ct_y = _canonical(times_matrix(PARAMETERS, layout, ct_x, w_DK))
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
    ct_out = _canonical(transposed_times(PARAMETERS, layout, x_BD, ct_y))
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


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("style", ["odd half", "above half", "odd largest"])
def test_times_matrix_is_exact_with_as_many_terms_as_allowed(style, sign):
    """Every product has the same sign and nearly the largest size, so the float64 sums reach their bound.

    Residues and both halves of the weights are odd, so that not even the lowest bit may be lost.
    """
    layout = product_layout(RowPacking(1024, MAX_TERMS // 8, DEGREE, 1024, 1, 1024), 8)
    assert layout.terms == MAX_TERMS
    low, high = (1 << (HALF_LIMB - 1)) - 1, ((PARAMETERS.primes[0] // 2 >> HALF_LIMB) - 1) | 1
    w_DK = np.full((MAX_TERMS // 8, 8), sign * ((high << HALF_LIMB) + low))
    assert abs(w_DK[0, 0]) <= PARAMETERS.primes[0] // 2
    ct_x = _residues(np.random.default_rng(0), layout.source.ciphertexts, style)
    ct_y = _canonical(times_matrix(PARAMETERS, layout, ct_x, w_DK))
    for position in (0, DEGREE // 2, DEGREE - 1):
        expected = sum(
            _coefficient(ct_x.numpy()[group], _weight_polynomial(layout, w_DK, group, 0), position)
            for group in range(layout.source.groups)
        )
        np.testing.assert_array_equal(ct_y[0, ..., position], expected % PRIMES[:, 0])


TINY_PIECES = [1 << 12, 1 << 16, 1 << 20]
"""The first is less than any single unit of work needs."""


@settings(max_examples=12, deadline=None)
@given(layout=product_layouts(), piece_bytes=st.sampled_from(TINY_PIECES), seed=st.integers(0, 2**32))
def test_times_matrix_in_many_pieces_is_the_same(layout, piece_bytes, seed):
    rng = np.random.default_rng(seed)
    # Below 2^12, pieces of single columns would take long.
    piece_bytes = max(piece_bytes, 2**18 if layout.source.stride > 1024 else 0)
    w_DK = rng.integers(-(2**57), 2**57, (layout.source.columns, layout.product.columns))
    ct_x = _residues(rng, layout.source.ciphertexts, "uniform")
    whole = times_matrix(PARAMETERS, layout, ct_x, w_DK)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vfl.he.algebra, "PIECE_BYTES", piece_bytes)
        pieces = times_matrix(PARAMETERS, layout, ct_x, w_DK)
    np.testing.assert_array_equal(_canonical(pieces), _canonical(whole))


@pytest.mark.parametrize("piece_bytes", TINY_PIECES)
@pytest.mark.parametrize(("rows", "stride", "per"), [(300, 64, 2), (100, 32, 4), (1500, 512, 1), (64, 64, 2)])
def test_pieces_cover_every_column_once(monkeypatch, rows, stride, per, piece_bytes):
    monkeypatch.setattr(vfl.he.algebra, "PIECE_BYTES", piece_bytes)
    layout = product_layout(RowPacking(rows, 5, DEGREE, stride, per, stride), 3)
    cells = DEGREE // stride
    height = (layout.source.groups + 3 * layout.product.groups) * cells
    covered, most = np.zeros((layout.source.blocks, stride), dtype=np.int64), 0
    for blocks, within in _column_pieces(layout.source.blocks, stride, height):
        covered[blocks, within] += 1
        most = max(most, covered[blocks, within].size)
    assert (covered == 1).all()
    assert most == 1 or 2 * 8 * height * most <= piece_bytes


@settings(max_examples=12, deadline=None)
@given(layout=reduction_layouts(), piece_bytes=st.sampled_from(TINY_PIECES), seed=st.integers(0, 2**32))
def test_transposed_times_in_many_pieces_is_the_same(layout, piece_bytes, seed):
    rng = np.random.default_rng(seed)
    x_BD = rng.integers(-1024, 1025, (layout.source.rows, layout.product.features))
    ct_y = _residues(rng, layout.source.ciphertexts, "uniform")
    whole = transposed_times(PARAMETERS, layout, x_BD, ct_y)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vfl.he.algebra, "PIECE_BYTES", piece_bytes)
        pieces = transposed_times(PARAMETERS, layout, x_BD, ct_y)
    np.testing.assert_array_equal(_canonical(pieces), _canonical(whole))


@pytest.mark.parametrize("style", STYLES)
def test_ciphertexts_of_32_bits_give_the_same_products(style):
    """As they are kept while they arrive."""
    rng = np.random.default_rng(0)
    packing = RowPacking(2 * DEGREE, 3, DEGREE, DEGREE, 1, DEGREE)
    ct = _residues(rng, packing.ciphertexts, style)
    w_DK = rng.integers(-(2**57), 2**57, (3, 2))
    x_BD = rng.integers(-1024, 1025, (packing.rows, 2))
    by_matrix, by_rows = product_layout(packing, 2), reduction_layout(packing, 2)
    narrow = ct.to(torch.int32)
    assert torch.equal(times_matrix(PARAMETERS, by_matrix, narrow, w_DK), times_matrix(PARAMETERS, by_matrix, ct, w_DK))
    wide = transposed_times(PARAMETERS, by_rows, x_BD, ct)
    assert torch.equal(transposed_times(PARAMETERS, by_rows, x_BD, narrow), wide)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the peak of a process cannot be set back")
def test_a_weight_gradient_keeps_the_bound_on_memory():
    """Steps on the way to the features' spectra take several times their memory; they fill a piece at this size."""
    layout = reduction_layout(plan_backward(8192, 32, (32,), (), DEGREE).blocks, 32)
    x_BD = np.ones((8192, 32), dtype=np.int64)
    ct_y = torch.ones((layout.source.ciphertexts, 2, LEVEL, DEGREE), dtype=torch.int32)
    result_bytes = 8 * ct_y.numel()
    transposed_times(PARAMETERS, layout, x_BD, ct_y)  # libraries take some of their memory at first use
    before = _resident_bytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak back
    transposed_times(PARAMETERS, layout, x_BD, ct_y)
    assert _resident_bytes("VmHWM") - before < result_bytes + 2 * PIECE_BYTES


def _resident_bytes(which: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(which))


def test_transposed_times_over_more_pieces_than_residues_have_room_for(monkeypatch):
    """Each piece adds nearly a prime; without reduction in between, ``out`` would outgrow what it promises."""
    monkeypatch.setattr(vfl.he.algebra, "PIECE_BYTES", 1)
    layout = reduction_layout(RowPacking(32 * 40, 1, DEGREE, 32, 1, 32), 1)
    x_BD = np.zeros((32 * 40, 1), dtype=np.int64)
    x_BD[::32] = 1
    ct_y = _residues(np.random.default_rng(0), layout.source.ciphertexts, "half")
    got = _canonical(transposed_times(PARAMETERS, layout, x_BD, ct_y))
    np.testing.assert_array_equal(got[0], ct_y.numpy().sum(axis=0) % PRIMES)


def test_the_bound_of_the_transform_holds_and_grows_with_its_inputs():
    """The results themselves are in ``test_transposed_times_is_exact``."""
    layout = plan_backward(8192, 32, (32,), (32,), DEGREE).blocks
    small = transform_error(PARAMETERS, reduction_layout(layout, 32))
    more_bits = Parameters.validated(RingSettings(activation_bits=12, gradient_bits=8, weight_bits=40))
    assert 0 < small < 0.25
    assert transform_error(more_bits, reduction_layout(layout, 32)) == pytest.approx(4 * small)


def test_the_bound_of_the_matrix_kernel_is_what_it_accumulates():
    """The product by the low half, and 2^15 times what is left of the product by the high half."""
    layout, prime = plan_product(64, 32, 32, DEGREE), PARAMETERS.primes[-1]
    assert matrix_magnitude(PARAMETERS, layout) >= layout.terms * (prime // 2) * 2**14 + (prime // 2) * 2**15
    assert matrix_magnitude(PARAMETERS, layout) <= layout.terms * (prime // 2) * 2**14 + prime * 2**15
