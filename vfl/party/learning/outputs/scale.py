"""How large Z can become in stagewise training, from what a passive party knows: its own activations.

W = -rate mean(alpha^T delta), with |delta| <= g per row and logit. By the Cauchy-Schwarz inequality, with L the largest
eigenvalue of mean(alpha alpha^T) over the training rows: |W| <= rate sqrt(L) g, so no row's |alpha W| exceeds
rate |alpha| sqrt(L) g.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from vfl.errors import RangeError
from vfl.interact.fixed_point import GUARD
from vfl.party.learning.outputs.moments import OutputMoments


@dataclass(frozen=True, slots=True)
class OutputScale:
    """How large one party's part of a column of Z can become.

    Attributes:
        largest: bound on its absolute value in any row.
        rate: learning rate of the interaction weights, to which the bound is proportional.
    """

    largest: float
    rate: float

    @classmethod
    def of(cls, training: OutputMoments, largest_norm: float, rate: float, gradient: float) -> OutputScale:
        """Bounds from a frozen bottom's outputs.

        Args:
            training: moments of the outputs for the training rows.
            largest_norm: bound on the norm of what is released in place of any row's output.
            rate: learning rate of the interaction weights.
            gradient: bound on |dL/dlogit| of a row.
        """
        second_DD = training.second_moment
        eigenvalue = max(float(np.linalg.eigvalsh(second_DD)[-1]), 0.0) if second_DD.size else 0.0
        return cls(rate * largest_norm * eigenvalue**0.5 * gradient, rate)

    def check_range(self, limit: float, parties: int, relative_noise: float = 0.0) -> None:
        """Check that the sum over all passive parties cannot leave the range of Z unnoticed.

        Args:
            relative_noise: of the job, which is part of what is released.

        Raises:
            RangeError: it could.
        """
        allowed = (1 - GUARD) * limit / parties
        if self.largest > allowed:
            suits = _power_of_two_below(self.rate * allowed / self.largest)
            raise RangeError(
                f"a column of Z with its noise may reach {self.largest:.3g} here, above this party's share of its "
                f"range, {allowed:g}; privacy.relative_noise is {relative_noise:g}",
                remedy=f"set interaction.learning_rate = {suits:g} in the job; the default suits encodings, which are "
                "whitened",
            )


def _power_of_two_below(rate: float) -> float:
    return float(2.0 ** math.floor(math.log2(rate)))
