"""How large Z can become in stagewise training, from what a passive party knows: its own activations.

W = -rate mean(alpha^T delta), with |delta| <= g per row and logit. By the Cauchy-Schwarz inequality, with L the largest
eigenvalue of mean(alpha alpha^T) over the training rows: |W| <= rate sqrt(L) g, so the standard deviation of alpha W is
at most rate L g, and no row's |alpha W| exceeds rate |alpha| sqrt(L) g.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vfl.errors import PolicyRefusal, RangeError
from vfl.interact.fixed_point import GUARD

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class OutputScale:
    """Bounds on one party's part of a column of Z.

    Attributes:
        deviation: of its standard deviation over the training rows.
        largest: of its absolute value in any row.
    """

    deviation: float
    largest: float

    @classmethod
    def of(cls, training_ND: Floats, every_ND: Floats, rate: float, gradient: float) -> OutputScale:
        """Bounds from a frozen bottom's outputs of the training rows and of all rows.

        Args:
            rate: learning rate of the interaction weights.
            gradient: bound on |dL/dlogit| of a row.
        """
        moments_DD = training_ND.T @ training_ND / max(len(training_ND), 1)
        eigenvalue = float(np.linalg.eigvalsh(moments_DD)[-1]) if moments_DD.size else 0.0
        norm = float(np.sqrt((every_ND**2).sum(axis=1).max(initial=0.0)))
        return cls(rate * eigenvalue * gradient, rate * norm * eigenvalue**0.5 * gradient)

    def check_range(self, limit: float, parties: int) -> None:
        """Check that the sum over all passive parties cannot leave the range of Z unnoticed.

        Raises:
            RangeError: it could.
        """
        allowed = (1 - GUARD) * limit / parties
        if self.largest > allowed:
            raise RangeError(
                f"a column of Z may reach {self.largest:.3g} here, above this party's share of its range, {allowed:g}",
                remedy="lower interaction.learning_rate, or give [ring] more integer bits (lower weight_bits)",
            )

    def check_noise(self, sigma: float, least: float) -> None:
        """Check the noise against the scale of what it hides.

        Args:
            sigma: standard deviation of the noise.
            least: ``policy.min_relative_noise``.

        Raises:
            PolicyRefusal: it is too small for this rate.
        """
        if sigma < least * self.deviation:
            raise PolicyRefusal(
                f"this party's policy refuses the job: noise of {sigma:g} on a Z whose standard deviation may reach "
                f"{self.deviation:.3g} is below {least:g} of it",
                remedy="agree on more privacy.z_noise, a lower interaction.learning_rate, or a lower "
                "policy.min_relative_noise",
            )
