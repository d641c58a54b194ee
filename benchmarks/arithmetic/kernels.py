"""(a) Ciphertext linear algebra against TenSEAL's CKKS and plain float64 products, and the costs of one ciphertext."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.arithmetic.ckks import CkksProduct
from benchmarks.arithmetic.layers import PARAMETERS, random_activations, random_gradient
from benchmarks.effort import Effort, Shape
from benchmarks.reporting.findings import Findings, Ratio, Row, Target, at_least, at_most
from benchmarks.reporting.machine import cores, torch_threads
from benchmarks.timing import Timing, side_by_side
from vfl.he.algebra import times_matrix, transposed_times
from vfl.he.arithmetic.compute import spread
from vfl.he.ciphertexts import Cover, encrypt, hide, make_cover
from vfl.he.keys import SecretKey
from vfl.he.layout import ProductLayout, plan_backward, plan_product, reduction_layout
from vfl.he.noise import product_hiding
from vfl.interact.fixed_point import center
from vfl.runtime.randomness import uniform_ring

LIMBS = 2
"""Halves of the weights: the kernel computes one float64 product for each half and prime."""


def run(effort: Effort) -> Findings:
    """Everything of section (a)."""
    key = SecretKey(PARAMETERS)
    product = MatrixKernel(key, effort.kernel)
    rows = _product_rows(product, effort)
    rows.append(_reduction_row(ReductionKernel(key, effort.kernel), effort))
    return Findings(rows + _ciphertext_rows(product, effort))


class MatrixKernel:
    """Enc(X) W with X (B, D) encrypted and W (D, K) uniform in the whole ring."""

    def __init__(self, key: SecretKey, shape: Shape) -> None:
        self.key = key
        self.shape = shape
        self.layout = plan_product(shape.rows, shape.width, shape.out_width, PARAMETERS.degree)
        self.x_BD = random_activations(np.random.default_rng(1), shape.rows, shape.width)
        self.w_DK = uniform_ring((shape.width, shape.out_width), PARAMETERS.tau)
        self.coefficients = self.layout.source.pack(self.x_BD)
        self.ct_x = encrypt(PARAMETERS, key.encrypt_zeros(len(self.coefficients)), self.coefficients).expanded(
            PARAMETERS
        )

    def run(self) -> torch.Tensor:
        """The product, encrypted."""
        return times_matrix(PARAMETERS, self.layout, self.ct_x, self.w_DK)

    def is_exact(self) -> bool:
        """Whether every entry of the decrypted product is the integer it should be."""
        found = self.layout.product.unpack(self.key.decrypt(self.run()))
        expected = center(self.x_BD @ self.w_DK, PARAMETERS.tau)
        return bool(np.array_equal(center(found, PARAMETERS.tau), expected))


class ReductionKernel:
    """X^T Enc(D) with X (B, D) plain and the gradient (B, K) encrypted."""

    def __init__(self, key: SecretKey, shape: Shape) -> None:
        self._key = key
        widths = (shape.width,)
        packing = plan_backward(shape.rows, shape.out_width, widths, widths, PARAMETERS.degree).blocks
        self.layout = reduction_layout(packing, shape.width)
        self._x_BD = random_activations(np.random.default_rng(1), shape.rows, shape.width)
        self._d_BK = random_gradient(np.random.default_rng(2), shape.rows, shape.out_width)
        zeros = key.encrypt_zeros(packing.ciphertexts)
        self._ct_d = encrypt(PARAMETERS, zeros, packing.pack(self._d_BK)).expanded(PARAMETERS)

    def run(self) -> torch.Tensor:
        """The product, encrypted."""
        return transposed_times(PARAMETERS, self.layout, self._x_BD, self._ct_d)

    def is_exact(self) -> bool:
        """Whether every entry of the decrypted product is the integer it should be."""
        found = self.layout.product.unpack(self._key.decrypt(self.run()))
        return bool(np.array_equal(center(found, PARAMETERS.tau), self._x_BD.T @ self._d_BK))


class PlainProducts:
    """Only the float64 products of the matrix kernel, without the rest of its work."""

    def __init__(self, layout: ProductLayout) -> None:
        source, product = layout.source, layout.product
        cells = PARAMETERS.degree // source.stride
        primes, inner = len(PARAMETERS.primes), source.groups * cells
        columns = 2 * source.blocks * source.stride
        self._count = primes * LIMBS
        self._w = torch.rand(self._count, product.groups * cells, inner, dtype=torch.float64)
        self._x = torch.rand(primes, inner, columns, dtype=torch.float64)
        self.flops = 2 * self._w.numel() * columns
        side = max(1, round((self.flops / 2) ** (1 / 3)))
        self._square = torch.rand(side, side, dtype=torch.float64)

    def run(self) -> None:
        """The same products, in shape, number and threads."""
        spread(lambda index: torch.matmul(self._w[index], self._x[index // LIMBS]), range(self._count))

    def run_square(self) -> None:
        """One square product with the same number of operations on all cores, the best case for BLAS."""
        with torch_threads(cores()):
            torch.matmul(self._square, self._square)


def _product_rows(kernel: MatrixKernel, effort: Effort) -> list[Row]:
    _require_exact(kernel)
    plain = PlainProducts(kernel.layout)
    x_BD, w_DK = kernel.x_BD[: effort.ckks_rows] / 2.0**PARAMETERS.settings.activation_bits, kernel.w_DK / PARAMETERS.t
    ckks = CkksProduct(x_BD, w_DK)
    error = np.abs(ckks.decrypted() - x_BD @ w_DK).max()
    actions = {"ours": kernel.run, "plain": plain.run, "square": plain.run_square, "ckks": ckks.run}
    times = side_by_side(actions, effort.repeats)
    what = f"Enc(X) W, {kernel.shape}, full-ring W"
    precision = f"ours exact over {PARAMETERS.tau} bits; CKKS on {ckks.rows} rows, off by up to {error:.0e}"
    per_row = Row(
        "a", what, times["ours"].best / kernel.shape.rows * 1e6, "us/row",
        "TenSEAL CKKS mm", times["ckks"].best / ckks.rows * 1e6, Ratio.FASTER, at_least(8),
        note=f"{precision}; {times['ckks'].note}",
    )  # fmt: skip
    shapes = _against_plain(what, times, "plain", "float64 products, same shapes and threads", plain.flops, at_most(3))
    square = _against_plain(what, times, "square", "one square float64 product, same FLOPs", plain.flops, None)
    return [per_row, shapes, square]


def _against_plain(
    what: str, times: dict[str, Timing], name: str, against: str, flops: int, target: Target | None
) -> Row:
    speeds = " and ".join(f"{flops / times[who].best / 1e9:.1f}" for who in ("ours", name))
    return Row(
        "a", what, times["ours"].best * 1e3, "ms", against, times[name].best * 1e3, target=target,
        note=f"{flops / 1e6:.0f} MFLOP at {speeds} GFLOP/s; {times['ours'].note}",
    )  # fmt: skip


def _reduction_row(kernel: ReductionKernel, effort: Effort) -> Row:
    _require_exact(kernel)
    time = side_by_side({"ours": kernel.run}, effort.repeats)["ours"]
    note = f"exact; {kernel.layout.source.blocks} blocks of {kernel.layout.source.stride} rows; {time.note}"
    return Row("a", f"X^T Enc(D), {effort.kernel}", time.best, "s", target=at_most(0.5), note=note)


def _require_exact(kernel: MatrixKernel | ReductionKernel) -> None:
    if not kernel.is_exact():
        raise RuntimeError(f"{type(kernel).__name__} is not exact; its speed means nothing")


def _ciphertext_rows(kernel: MatrixKernel, effort: Effort) -> list[Row]:
    key, product = kernel.key, kernel.run()
    hiding = product_hiding(PARAMETERS, kernel.layout)
    positions = kernel.layout.product.positions
    fresh, returned = len(kernel.coefficients), product.shape[0]

    def covers() -> list[Cover]:
        return spread(lambda _: make_cover(PARAMETERS, key.public, hiding.flooding_bits, positions), range(returned))

    ready = covers()
    hidden = hide(PARAMETERS, product, ready, hiding.level, positions)
    zeros = key.encrypt_zeros(fresh)
    seeded = encrypt(PARAMETERS, zeros, kernel.coefficients)
    actions = {
        "encryption of zero (may be made in advance)": (lambda: key.encrypt_zeros(fresh), fresh),
        "adding a plaintext to it": (lambda: encrypt(PARAMETERS, zeros, kernel.coefficients), fresh),
        "expansion of a received seed": (lambda: seeded.expanded(PARAMETERS), fresh),
        "cover: mask, encryption of zero, flooding (may be made in advance)": (covers, returned),
        "hiding a product with it": (lambda: hide(PARAMETERS, product, ready, hiding.level, positions), returned),
        "decryption": (lambda: key.decrypt_at(hidden.first, hidden.second, positions), returned),
    }
    times = side_by_side({name: action for name, (action, _) in actions.items()}, effort.repeats)
    return [
        Row("a", f"{name}, of {count} ciphertexts at once", times[name].best / count * 1e3, "ms each",
            note=f"{PARAMETERS.degree} coefficients each; {times[name].note}")
        for name, (_, count) in actions.items()
    ]  # fmt: skip
