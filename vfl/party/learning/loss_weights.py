"""How much each row counts in the loss: by the active party's weight column and by its class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vfl.interact.fixed_point import MAX_GRADIENT
from vfl.models.tasks.class_order import Labels

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LossWeights:
    """Weights with a mean of 1 over the training rows.

    Attributes:
        classes: factor of each class (C,); None if all count the same.
        scale: what makes the mean over the training rows 1.
        spread: root of their mean square, at least 1.
        largest: of any training row.
    """

    classes: FloatArray | None = None
    scale: float = 1.0
    spread: float = 1.0
    largest: float = 1.0

    @classmethod
    def fit(cls, encoded: Labels, weights: FloatArray | None, *, balanced: bool, classes: int) -> LossWeights:
        """Weights of a job.

        Args:
            encoded: labels of the training rows (n,).
            weights: their entries of the weight column (n,).
            balanced: give every class that occurs the same total weight.
        """
        of_classes = None
        if balanced:
            counts = np.bincount(encoded, minlength=classes)
            of_classes = len(encoded) / (np.count_nonzero(counts) * np.maximum(counts, 1.0))
        unscaled = cls(of_classes).of(encoded, weights)
        if unscaled is None:
            return cls()
        scaled = unscaled / unscaled.mean()
        spread, largest = float(np.sqrt(np.mean(scaled**2))), float(scaled.max())
        return cls(of_classes, float(1.0 / unscaled.mean()), spread, largest)

    def divisor(self, gradient_bound: float) -> float:
        """What gradients that leave the active party are divided by, at least 1.

        With it, the root of their mean square keeps within ``gradient_bound``, with which passive parties bound a step,
        and each of them within the range of fixed point. It is a smaller learning rate of the interaction weights.
        """
        return max(self.spread, self.largest * gradient_bound / MAX_GRADIENT)

    def of(self, encoded: Labels, weights: FloatArray | None) -> FloatArray | None:
        """Weights (B,) of some rows; None if all count the same."""
        if self.classes is None and weights is None:
            return None
        factors = np.ones(len(encoded)) if weights is None else weights
        return self.scale * (factors if self.classes is None else factors * self.classes[encoded])
