"""Ciphertext linear algebra: products of encrypted matrices with plain ones, as float64 matrix products and transforms.

Both kernels act on residues, ciphertexts as int32 or int64 tensors (C, 2, L, N), and are exact: every float64 value
stays below 2^53 (matrix kernel), or its distance from the true integer below 1/2 by the analytic bound of
``rounding.transform_error``.

Shapes: B rows, D features, K outputs, C ciphertexts, L primes, N degree, M = N / stride.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from vfl.he.arithmetic.checksum import IntArray, Point
from vfl.he.arithmetic.compute import kernel_device, spread, zeros
from vfl.he.arithmetic.negacyclic import inverse_transform, transform
from vfl.he.arithmetic.residues import centered, prime_column, reduce_in_place
from vfl.he.layout import ProductLayout, ReductionLayout
from vfl.he.parameters import Parameters
from vfl.he.rounding import HALF_LIMB

PIECE_BYTES = 64 * 2**20
"""Memory of one piece of kernel arithmetic, excluding operands and result; each thread works on one piece at a time."""


def times_matrix(parameters: Parameters, layout: ProductLayout, ct_x: torch.Tensor, w_DK: IntArray) -> torch.Tensor:
    """Enc(X W) from Enc(X) and a plain W in Z_t (centered representatives).

    With Y = X^stride the plaintext polynomial of an output group has coefficients only at powers of Y, so the product
    is a negacyclic convolution of length M, the same for every row of the block: one matrix product per prime and
    15-bit half of W (the block-Toeplitz form of PC-MM, eprint 2024/1284).

    Args:
        ct_x: (C, 2, L, N) packed as ``layout.source``.
        w_DK: D x K weights.

    Returns:
        (C', 2, L, N) packed as ``layout.product``: representatives, positive or negative, below 2^30.
    """
    source, product = layout.source, layout.product
    cells = parameters.degree // source.stride
    level = ct_x.shape[2]
    toeplitz = _toeplitz(layout, w_DK, cells)
    halves = [torch.cat(_limbs(_centered_modulo(toeplitz, prime))).to(kernel_device()) for prime in parameters.primes]
    x = ct_x.view(source.blocks, source.groups, 2, level, cells, source.stride)
    y = zeros((product.blocks, product.groups, 2, level, cells, source.stride), torch.int64)
    pieces = list(_column_pieces(source.blocks, source.stride, (source.groups + 3 * product.groups) * cells))

    def multiply(unit: tuple[int, tuple[slice, slice]]) -> None:
        index, (blocks, rows) = unit
        # Cells before blocks: the columns of all blocks and of both polynomials are multiplied by the same matrix.
        piece = x[blocks, :, :, index, :, rows].permute(1, 3, 0, 2, 4)
        columns = torch.empty(piece.shape, dtype=torch.float64, device=kernel_device()).copy_(piece)
        columns.sub_(parameters.primes[index] * (columns > parameters.primes[index] // 2))
        products = torch.mm(halves[index], columns.view(source.groups * cells, -1))
        combined = _combined(products, parameters.primes[index])
        tiles = combined.view(product.groups, cells, *columns.shape[2:]).permute(2, 0, 3, 1, 4)
        y[blocks, :, :, index, :, rows] = tiles.to(y.device)

    spread(multiply, itertools.product(range(level), pieces))
    return y.view(product.ciphertexts, 2, level, parameters.degree)


def _combined(products: torch.Tensor, prime: int) -> torch.Tensor:
    """low + 2^15 high modulo a prime, from the products by both halves stacked; overwrites them."""
    low, high = products.chunk(2)
    nearest = torch.empty_like(low)
    reduce_in_place(high, prime, nearest)
    return reduce_in_place(low.add_(high, alpha=1 << HALF_LIMB), prime, nearest)


def _column_pieces(blocks: int, stride: int, height: int) -> Iterator[tuple[slice, slice]]:
    """Blocks, and rows within them, whose float64 columns, ``height`` values each, fit in ``PIECE_BYTES``."""
    columns = max(1, PIECE_BYTES // (2 * 8 * height))
    at_once = max(1, columns // stride)
    rows = min(stride, columns)
    for block in range(0, blocks, at_once):
        for row in range(0, stride, rows):
            yield slice(block, block + at_once), slice(row, row + rows)


def _toeplitz(layout: ProductLayout, w_DK: IntArray, cells: int) -> torch.Tensor:
    """Matrix (output groups * M, input groups * M) that multiplies by the plaintext polynomials of W.

    Output column k of its group and input column i of its group correspond to power k * per_in - i of Y.
    """
    source, product = layout.source, layout.product
    per_in, per_out = source.per_ciphertext, product.per_ciphertext
    padded = np.zeros((source.groups * per_in, product.groups * per_out), dtype=np.int64)
    padded[: source.columns, : product.columns] = w_DK
    blocks = padded.reshape(source.groups, per_in, product.groups, per_out).transpose(2, 0, 1, 3)
    power = np.arange(per_out)[None, :] * per_in - np.arange(per_in)[:, None]
    signed_blocks = blocks * np.where(power < 0, -1, 1)
    polynomial = np.zeros((product.groups, source.groups, cells), dtype=np.int64)
    polynomial[:, :, (power % cells).ravel()] = signed_blocks.reshape(product.groups, source.groups, -1)
    shift = np.arange(cells)[:, None] - np.arange(cells)[None, :]
    signed = polynomial[:, :, shift % cells] * np.where(shift < 0, -1, 1)
    return torch.from_numpy(
        np.ascontiguousarray(signed.transpose(0, 2, 1, 3)).reshape(product.groups * cells, source.groups * cells)
    )


def _centered_modulo(values: torch.Tensor, prime: int) -> torch.Tensor:
    return centered(torch.remainder(values, prime), torch.tensor(prime))


def _limbs(value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Centered residues as low + 2^15 * high, both halves at most 2^14 in absolute value, in float64."""
    low = ((value + (1 << (HALF_LIMB - 1))) & ((1 << HALF_LIMB) - 1)) - (1 << (HALF_LIMB - 1))
    return low.to(torch.float64), ((value - low) >> HALF_LIMB).to(torch.float64)


def transposed_times(
    parameters: Parameters, layout: ReductionLayout, x_BD: IntArray, ct_y: torch.Tensor
) -> torch.Tensor:
    """Enc(X^T Y) from a plain X with small entries (|x| <= 2^activation_bits) and Enc(Y).

    Row b of the block and feature j of its group are at power j * stride * outputs_per - b of the plaintext
    polynomial, so that the sum over b appears at multiples of the stride. Products of polynomials are negacyclic
    convolutions by complex transforms of length N/2; the sum over blocks is taken in the transformed domain.

    Args:
        ct_y: (C, 2, L, N) packed as ``layout.source``.

    Returns:
        (C', 2, L, N) packed as ``layout.product``: representatives, positive or negative, below 2^30.
    """
    source, product = layout.source, layout.product
    level, degree = ct_y.shape[2], parameters.degree
    y = ct_y.view(source.blocks, source.groups, 2 * level, degree)
    out = zeros((source.groups, product.feature_groups, 2 * level, degree), torch.int64)
    at_once = max(1, PIECE_BYTES // (8 * product.feature_groups * degree))
    point = Point(parameters.primes[:level], degree, kernel_device())

    def multiply(blocks: slice, features: torch.Tensor, unit: tuple[int, int]) -> _Sums:
        group, row = unit
        prime = torch.tensor(parameters.primes[row % level], device=kernel_device())
        limbs = torch.stack(_limbs(centered(y[blocks, group, row].to(kernel_device()), prime)), dim=1)
        low, high = inverse_transform(_sum_over_blocks(features, transform(limbs))).unbind(1)
        combined = _combined(torch.cat((low, high)), parameters.primes[row % level])
        out[group, :, row] += combined.to(out.device, torch.int64)
        return point.small_sums_at(limbs, row % level), point.residue_sums_at(combined, row % level)

    for start in range(0, source.blocks, at_once):
        blocks = slice(start, min(source.blocks, start + at_once))
        features, at_point = _feature_spectra(layout, x_BD, blocks, point)
        units = itertools.product(range(source.groups), range(2 * level))
        _check_sums(point, at_point, spread(partial(multiply, blocks, features), units))
        # Keeps the sum over many pieces within the range of residues.
        if source.blocks > at_once:
            out.remainder_(prime_column(parameters, level).repeat(2, 1))
    return out.view(product.ciphertexts, 2, level, degree)


_Sums = tuple[torch.Tensor, torch.Tensor]
"""What ``checksum`` needs of a factor and a product: sums of the limbs (blocks, 2, C), of the result (G, 2, C)."""


def _check_sums(point: Point, features: IntArray, sums: Sequence[_Sums]) -> None:
    """Compare the sums over blocks of all products with their factors at a random point.

    Args:
        features: values of the plaintext polynomials, (blocks, G, L).
        sums: of the ciphertexts' groups, polynomials and primes, in this order.
    """
    level = features.shape[-1]
    limbs, results = (torch.stack(each).view(-1, level, *each[0].shape) for each in zip(*sums, strict=True))
    low, high = np.moveaxis(point.small_values(limbs.permute(0, 2, 3, 1, 4)), 2, 0)  # (pairs, blocks, L) each
    values = point.reduced(low + (high << HALF_LIMB))
    expected = np.zeros((len(values), *features.shape[1:]), dtype=np.int64)
    for block, features_GL in enumerate(features):
        expected += point.reduced(values[:, block, None] * features_GL)
    found = point.residue_values(results.permute(0, 2, 1, 3, 4))
    point.require_equal(found, expected, "a product with encrypted gradients")


def _sum_over_blocks(features: torch.Tensor, spectrum: torch.Tensor) -> torch.Tensor:
    """Sum over blocks of features (blocks, G, F) times spectrum (blocks, X, F), frequency by frequency: (G, X, F).

    Elementwise rather than as a batched matrix product: the matrices are too small for one to pay off.
    """
    total = spectrum.new_zeros(features.shape[1], spectrum.shape[1], spectrum.shape[2])
    for block in range(spectrum.shape[0]):
        total.addcmul_(features[block, :, None, :], spectrum[block, None, :, :])
    return total


def _feature_spectra(
    layout: ReductionLayout, x_BD: IntArray, blocks: slice, point: Point
) -> tuple[torch.Tensor, IntArray]:
    """Transformed plaintext polynomials (blocks, G, N/2) of these blocks of X, and their values (blocks, G, L)."""
    shape = blocks.stop - blocks.start, layout.product.feature_groups, layout.source.degree // 2
    spectra = zeros(shape, torch.complex128, kernel_device())

    # One block at a time: computing a spectrum takes several times its memory.
    def fill(index: int) -> torch.Tensor:
        polynomials = torch.from_numpy(_feature_polynomials(layout, x_BD, blocks.start + index)).to(kernel_device())
        spectra[index] = transform(polynomials)
        return point.small_sums(polynomials)

    sums = spread(fill, range(shape[0]))
    return spectra, point.small_values(torch.stack(sums))


def _feature_polynomials(layout: ReductionLayout, x_BD: IntArray, block: int) -> npt.NDArray[np.float64]:
    """Plaintext polynomials (feature groups, N) of one block of X."""
    source, product = layout.source, layout.product
    per = product.features_per_ciphertext
    rows = x_BD[block * source.stride : (block + 1) * source.stride]
    padded = np.zeros((source.stride, product.feature_groups * per))
    padded[: len(rows), : product.features] = rows
    tiles = padded.reshape(source.stride, product.feature_groups, per).transpose(1, 2, 0)
    power = np.arange(per)[:, None] * source.stride * source.per_ciphertext - np.arange(source.stride)[None, :]
    polynomials = np.zeros((product.feature_groups, source.degree))
    signed = tiles * np.where(power < 0, -1, 1)
    polynomials[:, (power % source.degree).ravel()] = signed.reshape(product.feature_groups, -1)
    return polynomials
