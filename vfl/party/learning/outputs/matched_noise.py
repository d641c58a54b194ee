"""Noise on the outputs of a bottom whose effect on Z is in proportion to Z, whatever the weights are.

A release of Z = alpha W is made of alpha + rho beta in place of alpha, with beta drawn anew for every release from a
Gaussian that has the covariance C of alpha. Then Z has noise of covariance rho^2 W^T C W, which is rho^2 times its own:
the ratio of noise to signal is rho for every column and every combination of columns, for any learning rate and any
gradient, honest or not, and nobody has to know W. A Gaussian alpha tells at most 1/2 log2(1 + 1 / rho^2) bits in each
column of a release (the capacity of a Gaussian channel).

C is that of all rows. While the bottom trains, it is that of the batch, so that the noise follows every step, and in
part that of all training rows before the pass, because a batch of B rows varies in B - 1 directions only
(``mixed_covariance``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vfl.party.learning.outputs.moments import OutputMoments
from vfl.privacy.lineage import digest

Floats = npt.NDArray[np.float64]

_GRID = 2.0**-24
"""Entries of the factor are multiples of it, so that it does not depend on the order of sums."""


@dataclass(frozen=True, eq=False)
class MatchedNoise:
    """Noise for the outputs of one bottom.

    Attributes:
        factor_DD: noise is standard normal values times this.
    """

    factor_DD: Floats

    @classmethod
    def fit(cls, covariance_DD: Floats, ratio: float, unit: float) -> MatchedNoise:
        """Noise for a bottom whose outputs have this covariance.

        Args:
            ratio: rho, the standard deviation of the noise in units of that of Z; no noise if 0.
            unit: of the fixed-point outputs, to which noise is rounded. It has at least this deviation in every
                direction, so that little of it is rounded to nothing.
        """
        width = len(covariance_DD)
        if not ratio:
            return cls(np.zeros((width, width)))
        values_D, vectors_DD = np.linalg.eigh(ratio**2 * covariance_DD)
        # The symmetric root does not depend on the choice of eigenvectors, nor, on a grid, on the order of sums.
        root_DD = (vectors_DD * np.sqrt(np.maximum(values_D, 0.0) + unit**2)) @ vectors_DD.T
        return cls(np.rint(root_DD / _GRID) * _GRID + 0.0)

    @property
    def width(self) -> int:
        """D."""
        return int(self.factor_DD.shape[0])

    @property
    def digest(self) -> bytes:
        """Of everything that turns standard normal values into noise."""
        return digest("vfl matched noise", self.factor_DD.astype("<f8").tobytes())

    def of(self, normals_BD: Floats) -> Floats:
        """Noise (B, D) from standard normal values."""
        noise: Floats = normals_BD @ self.factor_DD.T
        return noise

    def largest_norm(self, deviations: float) -> float:
        """Bound on the norm of a row of noise, but for a probability below exp(-deviations^2 / 2).

        The norm of D standard normal values exceeds sqrt(D) by a standard deviation of at most 1 (concentration of
        Lipschitz functions of a Gaussian).
        """
        spectral = float(np.linalg.norm(self.factor_DD, 2)) if self.factor_DD.size else 0.0
        return float(spectral * (self.width**0.5 + deviations))


def mixed_covariance(batch: OutputMoments, training_DD: Floats) -> Floats:
    """The covariance of a batch's outputs, and as much of that of all training rows as the batch has rows too few.

    Args:
        training_DD: covariance over the training rows before the pass.
    """
    share = min(1.0, len(training_DD) / max(batch.rows - 1, 1))
    mixed_DD: Floats = batch.covariance + share * training_DD
    return mixed_DD
