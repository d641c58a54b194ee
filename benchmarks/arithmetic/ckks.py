"""TenSEAL's CKKS `mm`, the peer of the matrix kernel, used in the way that is best for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import tenseal

from benchmarks.reporting.machine import cores

_SCALE = 2.0**40
_MODULUS_BITS = [60, 40, 60]


class CkksProduct:
    """Enc(X) W with rows along the slots: one ciphertext per column, so that the product needs no rotation.

    N = 8192 at 128-bit security, and the shortest modulus that allows one multiplication at 40 bits of scale. It is
    approximate, its weights have 40 bits instead of 58, and its result is neither masked nor re-randomized.
    """

    def __init__(self, x_BD: npt.NDArray[np.float64], w_DK: npt.NDArray[np.float64]) -> None:
        context = tenseal.context(tenseal.SCHEME_TYPE.CKKS, 8192, coeff_mod_bit_sizes=_MODULUS_BITS, n_threads=cores())
        context.global_scale = _SCALE
        self.rows = x_BD.shape[0]
        self._x = tenseal.ckks_tensor(context, x_BD[:, None, :], batch=True)
        self._w = tenseal.plain_tensor(w_DK)

    def run(self) -> Any:
        """The product, encrypted."""
        return self._x.mm(self._w)

    def decrypted(self) -> npt.NDArray[np.float64]:
        """The decrypted product (B, K), to check it."""
        return np.asarray(self.run().decrypt().tolist())[:, 0, :]
