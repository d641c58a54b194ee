"""Both kernels give the same integers on every device."""

import numpy as np
import pytest
import torch

from vfl.he.algebra import times_matrix, transposed_times
from vfl.he.arithmetic.compute import computing, kernel_device
from vfl.he.arithmetic.residues import prime_column
from vfl.he.layout import plan_backward, plan_product, product_layout, reduction_layout
from vfl.he.packing import RowPacking
from vfl.he.parameters import Parameters, RingSettings

PARAMETERS = Parameters.validated(RingSettings())
DEGREE, LEVEL = PARAMETERS.degree, len(PARAMETERS.primes)
SHAPES = [(5, 3, 2), (300, 9, 7), (256, 32, 32), (9000, 3, 2)]


@pytest.fixture(params=["cpu", "cuda"])
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")
    return request.param


def _residues(rng: np.random.Generator, count: int) -> torch.Tensor:
    primes = np.array(PARAMETERS.primes)[:, None]
    return torch.from_numpy(rng.integers(0, primes, (count, 2, LEVEL, DEGREE)))


def _on(device: str, kernel, threads: int = 1) -> torch.Tensor:
    """A kernel's result on a device, modulo the primes."""
    with computing(threads, device):
        assert kernel_device() == torch.device(device)
        result = kernel()
    assert result.device == torch.device("cpu")
    return result.remainder(prime_column(PARAMETERS, LEVEL))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("rows", "width", "out_width"), SHAPES)
def test_the_matrix_kernel_gives_the_same_on_every_device(device, rows, width, out_width, threads):
    rng = np.random.default_rng(rows)
    layout = plan_product(rows, width, out_width, DEGREE)
    ct_x = _residues(rng, layout.source.ciphertexts)
    w_DK = rng.integers(-(2**57), 2**57, (width, out_width))
    expected = _on("cpu", lambda: times_matrix(PARAMETERS, layout, ct_x, w_DK))
    got = _on(device, lambda: times_matrix(PARAMETERS, layout, ct_x, w_DK), threads)
    assert torch.equal(got, expected)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("rows", "width", "out_width"), SHAPES)
def test_the_transform_kernel_gives_the_same_on_every_device(device, rows, width, out_width, threads):
    rng = np.random.default_rng(rows)
    layout = reduction_layout(plan_backward(rows, out_width, (width,), (width,), DEGREE).blocks, width)
    ct_y = _residues(rng, layout.source.ciphertexts)
    x_BD = rng.integers(-1024, 1025, (rows, width))
    expected = _on("cpu", lambda: transposed_times(PARAMETERS, layout, x_BD, ct_y))
    got = _on(device, lambda: transposed_times(PARAMETERS, layout, x_BD, ct_y), threads)
    assert torch.equal(got, expected)


def test_the_largest_sums_are_exact_on_every_device(device):
    """Where float64 has no bit to spare, another order of adding up must not matter."""
    layout = product_layout(RowPacking(1024, 125, DEGREE, 1024, 1, 1024), 8)
    nearly_half = torch.tensor(PARAMETERS.primes).unsqueeze(1) // 2 - 1  # odd, as are both halves of the weights
    ct_x = nearly_half.expand(125, 2, LEVEL, DEGREE).clone()
    w_DK = np.full((125, 8), (((PARAMETERS.primes[0] // 2 >> 15) - 1) | 1) * 2**15 + 2**14 - 1)
    got = _on(device, lambda: times_matrix(PARAMETERS, layout, ct_x, w_DK))
    # Every coefficient of the product is a sum of the same terms; those below its power have their sign turned.
    cells = np.arange(8)
    signs = np.array([sum(1 if k <= cell else -1 for k in range(8)) for cell in cells])
    for index, prime in enumerate(PARAMETERS.primes):
        expected = np.array([int(s) * 125 * (prime // 2 - 1) * int(w_DK[0, 0]) % prime for s in signs])
        np.testing.assert_array_equal(got[0, 0, index].view(8, 1024)[:, 0].numpy(), expected)
