"""One side's share of a party's interaction weights, and stochastic gradient descent with momentum on shares.

W_t = W_(t-1) - sum_k m_k G_(t-k), where G_s = alpha^T dL/dZ of step s and m_k = round(m momentum^k) are public
integers: linear in the gradients, so each side applies it to its own shares, and nothing is truncated. Both sides keep
the shares of as many gradients as have a coefficient left.

Shape suffixes: D bottom width, K width of Z, S kept steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from vfl.errors import CheckpointError
from vfl.interact.fixed_point import IntArray, center

Kernel = Callable[[int], tuple[int, ...]]
"""The public integers m_0, m_1, ... of a gradient that was summed over so many rows."""

_WEIGHTS = "weights"
_GRADIENTS = "gradients"
_ROWS = "gradient_rows"


class WeightShare:
    """A share of one party's weights.

    Args:
        value: of the initial weights (D, K).
        tau: bits of the ring Z_t.
    """

    def __init__(self, value: IntArray, tau: int) -> None:
        self.value = value
        self._tau = tau
        self._gradients: list[tuple[int, IntArray]] = []

    def stepped(self, gradient_DK: IntArray, rows: int, kernel: Kernel) -> WeightShare:
        """The share after a step whose gradient, summed over ``rows`` rows, this side holds a share of.

        This object stays as it is, so that a step that fails leaves every share unchanged.
        """
        after = WeightShare(self.value, self._tau)
        change = np.zeros_like(self.value)
        for age, (summed, gradient) in enumerate([(rows, gradient_DK), *self._gradients]):
            factors = kernel(summed)
            if age < len(factors):
                change += factors[age] * gradient
                after._gradients.append((summed, gradient))
        after.value = center(self.value - change, self._tau)
        return after

    def state(self) -> dict[str, IntArray]:
        """Everything that steps change, to be saved: the share, and shares of earlier gradients (S, D, K)."""
        kept = np.zeros((0, *self.value.shape), dtype=np.int64)
        if self._gradients:
            kept = np.stack([gradient for _, gradient in self._gradients])
        rows = np.array([rows for rows, _ in self._gradients], dtype=np.int64)
        return {_WEIGHTS: self.value, _GRADIENTS: kept, _ROWS: rows}

    def restore(self, state: Mapping[str, IntArray]) -> None:
        """Continue from what ``state`` returned.

        Raises:
            CheckpointError: it belongs to other weights.
        """
        value, kept, rows = (state.get(name) for name in (_WEIGHTS, _GRADIENTS, _ROWS))
        if value is None or kept is None or rows is None or value.shape != self.value.shape:
            raise _other_weights()
        if kept.shape != (len(rows), *value.shape):
            raise _other_weights()
        self.value = value
        self._gradients = [(int(count), gradient) for count, gradient in zip(rows, kept, strict=True)]


def _other_weights() -> CheckpointError:
    return CheckpointError("the interaction weights of the checkpoint do not match the job")
