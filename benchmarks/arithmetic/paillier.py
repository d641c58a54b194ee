"""The same step with Paillier's scheme, as ACML and FATE's encrypted layer (SSHE) compute it: a ciphertext per number.

Shares, masks and messages are ours (as in BlindFL, SIGMOD 2022, and FATE 2 SSHE), so the same operations are counted:
the forward pass sends Enc(alpha) and returns Enc(alpha) V + r; the backward pass sends Enc(delta) and returns
Enc(delta) U^T + rho and alpha^T Enc(delta) + phi. What is returned gets a freshly encrypted mask, which also
re-randomizes it. FATE omits the randomness by default, which makes it faster.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from phe import paillier

from benchmarks.arithmetic.layers import PARAMETERS, random_activations, random_gradient
from vfl.interact.fixed_point import IntArray
from vfl.runtime.randomness import uniform_ring

Objects = npt.NDArray[np.object_]
"""Ciphertexts, or integers of any size."""
Result = TypeVar("Result")

MASK_BITS = 128
"""Hides sums of products of a 58-bit share and an activation statistically."""


@dataclass
class PaillierCost:
    """Seconds on one core.

    Attributes:
        per_sample: cost of each row of the batch, by phase.
        per_output: cost of masking and decrypting one of the d * K weight gradients, once per step for any batch size.
    """

    per_sample: dict[str, float] = field(default_factory=dict)
    per_output: float = 0.0

    def step_per_sample(self, outputs: int, batch: int) -> float:
        """Seconds per sample of a whole step; ``batch`` rows share the cost of the weight gradients."""
        return sum(self.per_sample.values()) + outputs * self.per_output / batch


class PaillierStep:
    """One step on a few rows.

    Args:
        bits: size of the key.
        rows: number of rows, computed in full.
        outputs: how many of the width * out_width weight gradients are masked and decrypted; all are multiplied out.
    """

    def __init__(self, bits: int, rows: int, width: int, out_width: int, outputs: int) -> None:
        self._public, self._private = paillier.generate_paillier_keypair(n_length=bits)
        generator = np.random.default_rng(3)
        self._alpha_BD = random_activations(generator, rows, width)
        self._delta_BK = random_gradient(generator, rows, out_width)
        self._share_DK = uniform_ring((width, out_width), PARAMETERS.tau)
        self._outputs = outputs

    def measure(self) -> PaillierCost:
        """Run the step.

        Raises:
            RuntimeError: a decrypted product is not the integer it should be.
        """
        cost = PaillierCost()
        ct_alpha = self._timed(cost, "F1", lambda: self._encrypted(self._alpha_BD))
        ct_z, r_BK = self._timed(cost, "F2", lambda: self._masked(_product(ct_alpha, self._share_DK)))
        z_BK = self._timed(cost, "F3", lambda: self._decrypted(ct_z))
        ct_delta = self._timed(cost, "B1", lambda: self._encrypted(self._delta_BK))
        ct_d_alpha, rho_BD = self._timed(cost, "B2", lambda: self._masked(_product(ct_delta, self._share_DK.T)))
        ct_d_w = self._timed(cost, "B2", lambda: _product(ct_delta.T, self._alpha_BD))
        d_alpha_BD = self._timed(cost, "B3", lambda: self._decrypted(ct_d_alpha))
        _check(z_BK - r_BK, self._alpha_BD, self._share_DK)
        _check(d_alpha_BD - rho_BD, self._delta_BK, self._share_DK.T)
        cost.per_output = self._output_seconds(ct_d_w)
        return cost

    def _timed(self, cost: PaillierCost, phase: str, action: Callable[[], Result]) -> Result:
        started = time.perf_counter()
        result = action()
        seconds = (time.perf_counter() - started) / len(self._alpha_BD)
        cost.per_sample[phase] = cost.per_sample.get(phase, 0.0) + seconds
        return result

    def _output_seconds(self, ct_d_w_KD: Objects) -> float:
        some = ct_d_w_KD.ravel()[: self._outputs]
        started = time.perf_counter()
        hidden, phi = self._masked(some)
        d_w = self._decrypted(hidden) - phi
        seconds = (time.perf_counter() - started) / some.size
        if d_w.tolist() != (self._delta_BK.T @ self._alpha_BD).ravel()[: some.size].tolist():
            raise RuntimeError("a Paillier weight gradient is wrong")
        return seconds

    def _encrypted(self, values: IntArray) -> Objects:
        """Randomized encryptions, element by element."""
        return _each(lambda value: self._public.encrypt(int(value)), values.astype(object))

    def _decrypted(self, ciphertexts: Objects) -> Objects:
        return _each(self._private.decrypt, ciphertexts)

    def _masked(self, ciphertexts: Objects) -> tuple[Objects, Objects]:
        """The ciphertexts with encrypted masks added, and the masks."""
        masks = _each(lambda _: secrets.randbits(MASK_BITS), ciphertexts)
        return ciphertexts + _each(self._public.encrypt, masks), masks


def _each(function: Callable[[Any], Any], values: Objects) -> Objects:
    results = np.empty(values.shape, dtype=object)
    results.ravel()[:] = [function(value) for value in values.ravel()]
    return results


def _product(ciphertexts_RI: Objects, plain_IO: IntArray) -> Objects:
    """Enc(X) W: an exponentiation for each product and a multiplication for each sum."""
    return np.asarray(ciphertexts_RI @ plain_IO.astype(object), dtype=object)


def _check(found: Objects, left: IntArray, right: IntArray) -> None:
    if found.tolist() != (left.astype(object) @ right.astype(object)).tolist():
        raise RuntimeError("a Paillier product is wrong")
