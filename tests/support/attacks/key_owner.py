"""What the owner of an encryption key computes from what it sent and received: its secret, phases and noise, exactly.

Everything here uses only ``SecretKey.decrypt`` and public algorithms, so each party could do it.

Shapes: C ciphertexts, L primes, N degree.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from vfl.he.arithmetic.residues import scaled_plaintext
from vfl.he.keys import SecretKey
from vfl.he.parameters import Parameters


def secret_coefficients(parameters: Parameters, key: SecretKey) -> np.ndarray:
    """The ternary secret s (N): the ciphertext (0, q / t) decrypts to it."""
    one = np.zeros((1, parameters.degree), dtype=np.int64)
    one[0, 0] = 1
    level = len(parameters.primes)
    probe = torch.zeros((1, 2, level, parameters.degree), dtype=torch.int64)
    probe[:, 1] = scaled_plaintext(parameters, one, level)
    return centered_integers(key.decrypt(probe)[0], parameters.t).astype(np.int64)


def centered_integers(values: np.ndarray, modulus: int) -> np.ndarray:
    """Representatives in [-modulus/2, modulus/2) as Python integers."""
    half = modulus // 2
    return (values.astype(object) + half) % modulus - half


def negacyclic(polynomials: np.ndarray, small: np.ndarray) -> np.ndarray:
    """Exact products modulo X^N + 1 of polynomials (..., N) below 2^31 with a ternary one (N), as int64."""
    degree = small.size
    spectrum = np.fft.rfft(small, 2 * degree)
    total = np.zeros(polynomials.shape, dtype=np.int64)
    for shift in (0, 16):
        limb = (polynomials >> shift) & 0xFFFF
        full = np.rint(np.fft.irfft(np.fft.rfft(limb, 2 * degree) * spectrum, 2 * degree)).astype(np.int64)
        total += (full[..., :degree] - full[..., degree:]) << shift
    return total


def exact_product(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Product modulo X^N + 1 of two integer polynomials (N), as int64: one product of big integers, nothing rounded.

    Coefficients of the operands are below 2^62 in absolute value, those of the plain product below 2^63.
    """
    degree = first.size
    offset = int.from_bytes(np.full(2 * degree, 1 << 63, dtype="<u8").tobytes(), "little")
    product = _in_slots(first) * _in_slots(second) + offset
    full = np.frombuffer(product.to_bytes(16 * degree, "little"), dtype="<u8") ^ np.uint64(1 << 63)
    return full.view(np.int64)[:degree] - full.view(np.int64)[degree:]


def _in_slots(values: np.ndarray) -> int:
    positive, negative = np.maximum(values, 0).astype("<u8"), np.maximum(-values, 0).astype("<u8")
    return int.from_bytes(positive.tobytes(), "little") - int.from_bytes(negative.tobytes(), "little")


def integers(parameters: Parameters, residues: np.ndarray) -> np.ndarray:
    """Residues (..., L, N) to centered Python integers (..., N) modulo the product of those primes."""
    level = residues.shape[-2]
    modulus = parameters.modulus(level)
    total = np.zeros((*residues.shape[:-2], residues.shape[-1]), dtype=object)
    for index, prime in enumerate(parameters.primes[:level]):
        others = modulus // prime
        total = total + residues[..., index, :].astype(object) * (others * pow(others, -1, prime))
    return centered_integers(total, modulus)


def to_residues(parameters: Parameters, values: np.ndarray, level: int) -> np.ndarray:
    """Python integers (..., N) to residues (..., L, N)."""
    return np.stack([(values % prime).astype(np.int64) for prime in parameters.primes[:level]], axis=-2)


def phase(parameters: Parameters, secret: np.ndarray, ciphertexts: torch.Tensor) -> np.ndarray:
    """c0 + c1 s, centered modulo q: Python integers (C, N)."""
    primes = np.array(parameters.primes[: ciphertexts.shape[2]])[:, None]
    words = ciphertexts.numpy() % primes
    return integers(parameters, (words[:, 0] + negacyclic(words[:, 1], secret)) % primes)


def scaled_noise(
    parameters: Parameters, secret: np.ndarray, ciphertexts: torch.Tensor, plaintext: np.ndarray
) -> np.ndarray:
    """t times the distance of the phase from (q / t) m: exact Python integers (C, N), for plaintexts m (C, N)."""
    modulus = parameters.modulus(ciphertexts.shape[2])
    distance = parameters.t * phase(parameters, secret, ciphertexts) - modulus * plaintext.astype(object)
    return centered_integers(distance, parameters.t * modulus)


def largest_noise(
    parameters: Parameters, secret: np.ndarray, ciphertexts: torch.Tensor, plaintext: np.ndarray
) -> float:
    """Largest absolute noise of any coefficient."""
    return float(np.abs(scaled_noise(parameters, secret, ciphertexts, plaintext)).max() / parameters.t)


def solve_modular(rows: np.ndarray, right: np.ndarray, modulus: int) -> list[int] | None:
    """The solution of an overdetermined linear system modulo ``modulus``; None when the equations contradict."""
    system = [[int(a) % modulus for a in row] + [int(b) % modulus] for row, b in zip(rows, right, strict=True)]
    unknowns = rows.shape[1]
    for column in range(unknowns):
        found = next((i for i in range(column, len(system)) if math.gcd(system[i][column], modulus) == 1), None)
        if found is None:
            return None
        system[column], system[found] = system[found], system[column]
        inverse = pow(system[column][column], -1, modulus)
        pivot = system[column] = [value * inverse % modulus for value in system[column]]
        for i, row in enumerate(system):
            if i != column and row[column]:
                factor = row[column]
                system[i] = [(a - factor * b) % modulus for a, b in zip(row, pivot, strict=True)]
    if any(row[-1] for row in system[unknowns:]):
        return None
    return [row[-1] for row in system[:unknowns]]
