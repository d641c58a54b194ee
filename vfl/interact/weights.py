"""One side's share of a party's interaction weights, and stochastic gradient descent with momentum on shares.

W_t = W_(t-1) - sum_k m_k G_(t-k), where G_s is the gradient of step s, summed over its rows, and m_k = round(m
momentum^k) are public integers: linear in the gradients, so each side applies it to its own shares, and nothing is
truncated. Both sides keep the shares of as many gradients as have a coefficient left.

Shape suffixes: D bottom width, K width of Z, M columns of one pass, S kept steps.
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
        self._pending = np.zeros_like(value)
        self._pending_rows = 0
        self._earlier: list[tuple[int, IntArray]] = []

    def accumulate(self, gradient_DM: IntArray, rows: int, columns: slice) -> None:
        """Add a share of a gradient, summed over ``rows`` rows, by some columns of the weights; ``step`` applies it."""
        pending = self._pending.copy()  # an earlier state may still be on its way into a checkpoint
        pending[:, columns] = center(pending[:, columns] + gradient_DM, self._tau)
        self._pending = pending
        self._pending_rows += rows

    def step(self, kernel: Kernel) -> None:
        """Apply what was accumulated, and what momentum leaves of earlier steps."""
        change = np.zeros_like(self.value)
        kept = []
        for age, (rows, gradient) in enumerate([(self._pending_rows, self._pending), *self._earlier]):
            factors = kernel(rows)
            if age < len(factors):
                change += factors[age] * gradient
            if age + 1 < len(factors):
                kept.append((rows, gradient))
        self.value = center(self.value - change, self._tau)
        self._earlier = kept
        self._pending, self._pending_rows = np.zeros_like(self.value), 0

    def state(self) -> dict[str, IntArray]:
        """Everything that steps change: the share, and shares of gradients (S, D, K), the pending one first."""
        gradients = [(self._pending_rows, self._pending), *self._earlier]
        rows = np.array([rows for rows, _ in gradients], dtype=np.int64)
        return {_WEIGHTS: self.value, _GRADIENTS: np.stack([gradient for _, gradient in gradients]), _ROWS: rows}

    def restore(self, state: Mapping[str, IntArray]) -> None:
        """Continue from what ``state`` returned.

        Raises:
            CheckpointError: it belongs to other weights.
        """
        value, gradients, rows = (state.get(name) for name in (_WEIGHTS, _GRADIENTS, _ROWS))
        if value is None or gradients is None or rows is None or value.shape != self.value.shape:
            raise _other_weights()
        if not len(rows) or gradients.shape != (len(rows), *value.shape):
            raise _other_weights()
        self.value = value
        self._pending_rows, self._pending = int(rows[0]), gradients[0]
        self._earlier = [(int(count), gradient) for count, gradient in zip(rows[1:], gradients[1:], strict=True)]


def _other_weights() -> CheckpointError:
    return CheckpointError("the interaction weights of the checkpoint do not match the job", remedy="start a new run")
