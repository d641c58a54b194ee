"""The one parameter object: ring, fixed point, encryption. Unchecked ``RingSettings`` become ``Parameters``.

All protocol arithmetic is exact in Z_t with t = 2^tau. Activations carry ``f_a`` fractional bits, interaction weights
``f_w``, gradients with respect to Z ``f_d``; so Z is at ``f_a + f_w``, d alpha at ``f_d + f_w``
and dW at ``f_a + f_d``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from pydantic import BaseModel, ConfigDict, Field

from vfl.errors import ParameterError
from vfl.he.arithmetic.primes import ntt_primes

MAX_MODULUS_BITS = {4096: 109, 8192: 218, 16384: 438}
"""Largest log2 of the whole coefficient modulus at 128-bit security with ternary secrets, by ring degree
(HomomorphicEncryption.org security standard, 2018, table 1)."""

FLOODING_BITS = 40
"""All noise that returns to the owners of keys in a job is within a statistical distance of 2^-40 of the flooding alone
(``bounds.check_bounds``). A single ciphertext's flooding exceeds the worst noise it could carry by 2^40 at least."""

MAX_ERROR = 21
"""Largest coefficient of SEAL's error distribution (centered binomial over 42 bits)."""


class RingSettings(BaseModel):
    """``[ring]`` of the job file. The defaults suit tables; unchecked until ``Parameters`` is created from them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tau: int = Field(default=58, description="bits of the plaintext ring Z_t, t = 2^tau; even")
    activation_bits: int = Field(default=10, description="fractional bits f_a of activations")
    weight_bits: int = Field(default=40, description="fractional bits f_w of interaction weights")
    gradient_bits: int = Field(default=12, description="fractional bits f_d of dL/dZ, per sample")
    degree: int = Field(default=8192, description="ring degree N")
    prime_bits: int = Field(default=30, description="bits of each prime of the ciphertext modulus")
    primes: int = Field(default=7, description="number of primes of the ciphertext modulus")


@dataclass(frozen=True)
class Parameters:
    """Validated, immutable parameters. Create them with ``Parameters.validated``."""

    settings: RingSettings

    @classmethod
    def validated(cls, settings: RingSettings) -> Parameters:
        """Check everything that does not depend on shapes.

        Raises:
            ParameterError: not 128-bit secure, not enough primes, or no room for any protocol value.
        """
        s = settings
        if s.degree not in MAX_MODULUS_BITS:
            raise _refused(f"ring degree {s.degree} is not one of {sorted(MAX_MODULUS_BITS)}", "set ring.degree = 8192")
        if not 20 <= s.prime_bits <= 30:
            raise _refused(
                f"ring.prime_bits = {s.prime_bits} is outside 20 to 30: larger residues would not be exact in float64",
                "set ring.prime_bits = 30",
            )
        total = s.primes * s.prime_bits
        if s.primes < 2 or total > MAX_MODULUS_BITS[s.degree]:
            raise _refused(
                f"a modulus of {total} bits is not 128-bit secure at degree {s.degree} "
                f"(at most {MAX_MODULUS_BITS[s.degree]} bits)",
                "use fewer primes or a larger ring.degree",
            )
        if s.tau % 2 or not 16 <= s.tau <= 58:
            raise _refused(f"ring.tau = {s.tau} is not an even number from 16 to 58", "set ring.tau = 58")
        ntt_primes(s.prime_bits, s.degree, s.primes)
        cls._check_fixed_point(s)
        return cls(settings)

    @staticmethod
    def _check_fixed_point(s: RingSettings) -> None:
        if min(s.activation_bits, s.weight_bits, s.gradient_bits) < 4:
            raise _refused("fewer than 4 fractional bits leave no precision", "use the default bits of [ring]")
        if s.tau - 1 - max(s.activation_bits, s.gradient_bits) - s.weight_bits < 3:
            raise _refused(
                "the fixed-point formats leave fewer than 3 integer bits for Z or for d alpha",
                "lower weight_bits, activation_bits or gradient_bits, or raise tau",
            )
        if s.weight_bits - s.activation_bits - s.gradient_bits < 8:
            raise _refused(
                "weight_bits must exceed activation_bits + gradient_bits by at least 8, "
                "or the interaction learning rate cannot be represented",
                "raise weight_bits",
            )

    @property
    def tau(self) -> int:
        """Bits of the plaintext ring."""
        return self.settings.tau

    @property
    def t(self) -> int:
        """Plaintext modulus 2^tau."""
        return 1 << self.settings.tau

    @property
    def degree(self) -> int:
        """Ring degree N: coefficients in one ciphertext polynomial."""
        return self.settings.degree

    @cached_property
    def primes(self) -> tuple[int, ...]:
        """Primes of the ciphertext modulus, in SEAL's order (increasing). None is special: no keys are switched."""
        return ntt_primes(self.settings.prime_bits, self.degree, self.settings.primes)

    def modulus(self, level: int) -> int:
        """Product of the first ``level`` primes."""
        return math.prod(self.primes[:level])

    @property
    def z_limit(self) -> float:
        """Bound on abs(Z), beyond which it would wrap in the ring."""
        return 2.0 ** (self.tau - 1 - self.settings.activation_bits - self.settings.weight_bits)

    @property
    def d_alpha_limit(self) -> float:
        """Bound on abs(d alpha), beyond which it would wrap in the ring."""
        return 2.0 ** (self.tau - 1 - self.settings.gradient_bits - self.settings.weight_bits)


def _refused(what: str, remedy: str) -> ParameterError:
    return ParameterError(f"the job's [ring] settings are refused: {what}", remedy=remedy)
