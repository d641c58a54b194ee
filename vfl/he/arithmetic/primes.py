"""The NTT-friendly primes that SEAL chooses for a coefficient modulus, computed without SEAL."""

from __future__ import annotations

from functools import cache

from vfl.errors import ParameterError

_WITNESSES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)


@cache
def ntt_primes(bits: int, degree: int, count: int) -> tuple[int, ...]:
    """The ``count`` largest primes of exactly ``bits`` bits that are 1 modulo 2 * degree, in increasing order.

    Raises:
        ParameterError: there are not that many.
    """
    found: list[int] = []
    candidate = (1 << bits) - 2 * degree + 1
    while len(found) < count:
        if candidate < 1 << (bits - 1):
            raise ParameterError(
                f"the job's [ring] settings are refused: there are only {len(found)} usable primes of {bits} bits "
                f"for ring degree {degree}, {count} are needed",
                remedy="set ring.prime_bits = 30",
            )
        if is_prime(candidate):
            found.append(candidate)
        candidate -= 2 * degree
    return tuple(sorted(found))


def is_prime(n: int) -> bool:
    """Miller-Rabin with the first twelve primes, which is deterministic below 3.1 * 10^23 (Sorenson, Webster 2015)."""
    if n < 2 or any(n % p == 0 for p in _WITNESSES):
        return n in _WITNESSES
    odd = n - 1
    twos = (odd & -odd).bit_length() - 1
    odd >>= twos
    return all(_passes(n, witness, odd, twos) for witness in _WITNESSES)


def _passes(n: int, witness: int, odd: int, twos: int) -> bool:
    x = pow(witness, odd, n)
    if x in (1, n - 1):
        return True
    for _ in range(twos - 1):
        x = x * x % n
        if x == n - 1:
            return True
    return False
