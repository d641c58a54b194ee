"""Noise on the outputs of a bottom whose effect on Z is in proportion to Z, whatever the weights are.

A release of Z = alpha W is made of alpha + rho beta in place of alpha, with beta drawn anew for every release from a
Gaussian that has the covariance C of alpha: over all rows or, while the bottom trains, over the rows of the batch. Then
Z has noise of covariance rho^2 W^T C W, which is rho^2 times its own: the ratio of noise to signal is rho for every
column and every combination of columns, for any learning rate and any gradient, honest or not, and nobody has to know
W. A Gaussian alpha tells at most 1/2 log2(1 + 1 / rho^2) bits in each column of a release (the capacity of a Gaussian
channel).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vfl.privacy.lineage import digest

Floats = npt.NDArray[np.float64]

_SMALLEST = 1e-12
"""Share of the largest eigenvalue below which a direction of alpha is constant."""

_GRID = 2.0**-24
"""Entries of the factor are multiples of it, so that it does not depend on the order of sums."""


@dataclass(frozen=True, eq=False)
class MatchedNoise:
    """Noise for the outputs of one bottom.

    Attributes:
        factor_DD: root of the covariance of the outputs.
        ratio: rho, the standard deviation of the noise in units of that of Z.
    """

    factor_DD: Floats
    ratio: float

    @classmethod
    def fit(cls, outputs_ND: Floats, ratio: float) -> MatchedNoise:
        """Noise for a bottom with these outputs."""
        covariance_DD = np.atleast_2d(np.cov(outputs_ND, rowvar=False, bias=True))
        values_D, vectors_DD = np.linalg.eigh(covariance_DD)
        kept = values_D > _SMALLEST * values_D[-1]
        # The symmetric root does not depend on the choice of eigenvectors, nor, on a grid, on the order of sums.
        root_DD = (vectors_DD * np.sqrt(np.where(kept, values_D, 0.0))) @ vectors_DD.T
        return cls(np.rint(root_DD / _GRID) * _GRID + 0.0, ratio)

    @property
    def width(self) -> int:
        """D."""
        return int(self.factor_DD.shape[0])

    @property
    def digest(self) -> bytes:
        """Of everything that turns standard normal values into noise."""
        return digest("vfl matched noise", float(self.ratio).hex().encode(), self.factor_DD.astype("<f8").tobytes())

    def of(self, normals_BD: Floats) -> Floats:
        """Noise (B, D) from standard normal values."""
        noise: Floats = self.ratio * (normals_BD @ self.factor_DD.T)
        return noise

    def largest_norm(self, deviations: float) -> float:
        """Bound on the norm of a row of noise, but for a probability below exp(-deviations^2 / 2).

        The norm of D standard normal values exceeds sqrt(D) by a standard deviation of at most 1 (concentration of
        Lipschitz functions of a Gaussian).
        """
        spectral = float(np.linalg.norm(self.factor_DD, 2)) if self.factor_DD.size else 0.0
        return float(self.ratio * spectral * (self.width**0.5 + deviations))
