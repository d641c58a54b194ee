"""The public integers by which shares of weights are updated, without truncation: W -= sum_k m_k dW of k steps ago.

dW, summed over the rows of a batch, is at f_a + f_d fractional bits and W at f_w. So a learning rate for the mean
gradient is m = rate / rows * 2^(f_w - f_a - f_d), and with momentum mu the kernel is m mu^k. Its entries are rounded to
integers. That changes the effective rate and momentum, measured by the l1 distance of both kernels.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vfl.errors import ParameterError, RangeError
from vfl.he.parameters import Parameters, RingSettings

MAX_KERNEL_ERROR = 0.05
"""Largest relative l1 error of a rounded kernel."""

_LARGEST = 1 << 32

_LEAST_RANGE = 32.0
"""Other fractional bits are proposed only if they leave this much room for abs(Z)."""


@dataclass(frozen=True, slots=True)
class UpdateKernel:
    """A kernel as integers.

    Attributes:
        integers: m_0, m_1, ...: round(m mu^k) until it becomes 0; at least one.
        error: sum_k |m_k - m mu^k| / sum_k m mu^k.
    """

    integers: tuple[int, ...]
    error: float


def rounded_kernel(learning_rate: float, momentum: float, rows: int, settings: RingSettings) -> UpdateKernel:
    """The kernel of a rate above 0 and a momentum in [0, 1), whatever its error."""
    exact = learning_rate / rows * 2.0 ** (settings.weight_bits - settings.activation_bits - settings.gradient_bits)
    total, off = exact / (1 - momentum), 0.0
    integers: list[int] = []
    while (entry := round(exact)) and (momentum or not integers) and entry < _LARGEST:
        integers.append(entry)
        off += abs(entry - exact)
        exact *= momentum
    # What is left is rounded to 0.
    return UpdateKernel(tuple(integers) or (entry,), (off + exact / (1 - momentum)) / total)


def update_kernel(learning_rate: float, momentum: float, rows: int, parameters: Parameters) -> tuple[int, ...]:
    """The integers m_k of a batch.

    Args:
        momentum: in [0, 1); 0 gives one integer.

    Raises:
        RangeError: rounding would change the rates by more than 5 %, or they are too large.
    """
    if learning_rate == 0:
        return (0,)
    kernel = rounded_kernel(learning_rate, momentum, rows, parameters.settings)
    if not _usable(kernel):
        raise RangeError(_refusal(learning_rate, rows, kernel), remedy="change it as 'vfl check' proposes")
    return kernel.integers


def effective_rate(learning_rate: float, rows: int, settings: RingSettings) -> float:
    """The learning rate that batches of so many rows really have, as an integer without momentum."""
    unit = 2.0 ** (settings.weight_bits - settings.activation_bits - settings.gradient_bits) / rows
    return rounded_kernel(learning_rate, 0.0, rows, settings).integers[0] / unit


def most_rows(learning_rate: float, settings: RingSettings) -> int:
    """For this many rows and any fewer, an integer without momentum is within ``MAX_KERNEL_ERROR`` of the rate."""
    unit = 2.0 ** (settings.weight_bits - settings.activation_bits - settings.gradient_bits)
    return math.floor(learning_rate * unit * 2 * MAX_KERNEL_ERROR)


def check_rates(learning_rate: float, momentum: float, rows: Iterable[int], parameters: Parameters) -> None:
    """Check before a run that batches of each of these sizes can be updated with.

    Raises:
        ParameterError: the rates cannot be represented; names other fractional bits and other rates that can.
    """
    sizes = sorted(set(rows))
    bad = _first_refused(learning_rate, momentum, sizes, parameters.settings)
    if bad is None:
        return
    kernel = rounded_kernel(learning_rate, momentum, bad, parameters.settings)
    remedies = [*_other_bits(learning_rate, momentum, sizes, parameters.settings)]
    rates = _other_rates(learning_rate, momentum, sizes, parameters.settings)
    if rates:
        remedies.append(f"set interaction.learning_rate = {' or '.join(rates)}")
    raise ParameterError(_refusal(learning_rate, bad, kernel), remedy=", or ".join(remedies) or "use other rates")


def _usable(kernel: UpdateKernel) -> bool:
    return kernel.error <= MAX_KERNEL_ERROR and kernel.integers[0] < _LARGEST


def _refusal(learning_rate: float, rows: int, kernel: UpdateKernel) -> str:
    what = f"interaction.learning_rate {learning_rate:g} cannot be represented at batches of {rows} rows"
    if kernel.integers[0] >= _LARGEST:
        return f"{what}: it is too large"
    return f"{what}: rounding to integers would change the updates by {100 * kernel.error:.0f} %"


def _first_refused(learning_rate: float, momentum: float, sizes: list[int], settings: RingSettings) -> int | None:
    """A size at which the rates cannot be represented, the largest first: rounding matters most there."""
    for size in reversed(sizes):
        kernel = rounded_kernel(learning_rate, momentum, size, settings)
        if not _usable(kernel):
            return size
        # From here on only sizes whose kernels start with a larger integer; half a unit for each entry is the bound.
        if _bound(momentum, kernel.integers[0]) <= MAX_KERNEL_ERROR:
            smallest = rounded_kernel(learning_rate, momentum, sizes[0], settings)
            return None if _usable(smallest) else sizes[0]
    return None


def _bound(momentum: float, first: int) -> float:
    """Bound on the error of any kernel whose m rounds to ``first`` or more; decreasing in ``first`` from 2 on."""
    least = first - 0.5
    if first < 2:
        return 1.0
    # Entries of at least 1/2 are off by at most 1/2 each; the rest, rounded to 0, adds up to less than 1/2 / (1 - mu).
    entries = 1 + (math.log(2 * least) / -math.log(momentum) if momentum else 0)
    return ((1 - momentum) * entries + 1) / (2 * least)


def _other_bits(learning_rate: float, momentum: float, sizes: list[int], settings: RingSettings) -> Iterator[str]:
    """The smallest change of fractional bits that makes the rates representable, if there is one."""
    weight, gradient = settings.weight_bits, settings.gradient_bits
    for fewer, more in itertools.product(range(gradient), range(settings.tau - weight)):
        changed = settings.model_copy(update={"weight_bits": weight + more, "gradient_bits": gradient - fewer})
        try:
            room = Parameters.validated(changed).z_limit
        except ParameterError:
            continue
        if room >= _LEAST_RANGE and _first_refused(learning_rate, momentum, sizes, changed) is None:
            names = [f"ring.weight_bits = {weight + more}"] if more else []
            names += [f"ring.gradient_bits = {gradient - fewer}"] if fewer else []
            yield "set " + " and ".join(names)
            return


def _other_rates(learning_rate: float, momentum: float, sizes: list[int], settings: RingSettings) -> list[str]:
    """The nearest representable rates of three digits, below and above; none may exist below."""
    found = []
    for factor in (1 / 1.01, 1.01):
        for power in range(1, 1500):
            name = f"{learning_rate * factor**power:.3g}"
            if round(float(name) / sizes[0] * 2.0**settings.weight_bits) == 0:
                break
            if _first_refused(float(name), momentum, sizes, settings) is None:
                found.append(name)
                break
    return found
