"""Noise on what a party is meant to receive: a row of Z at the active party, of d alpha at a passive one.

Exact outputs give away the operands: Z = alpha W over the integers is a hidden linear combination problem, which
lattice reduction solves (Nguyen and Stern, 1999; Coron and Gini, 2020). A Gaussian of any width well above the rounding
of the operands removes the discreteness on which that rests; how much it hides beyond that depends on its scale.

What the noise is bound to matters as much as its size. Noise that is reused under two different values cancels; noise
that is fresh for every repetition of the same value averages out. So every row of noise is drawn from a keyed stream
under a *release label*, which names everything that determines the released value. An equal replay has an equal label
and reveals nothing new; any difference makes another label and independent noise.

Shape suffixes: B rows, K width of what is released.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vfl.privacy.lineage import digest

IntArray = npt.NDArray[np.int64]

MIN_NOISE = 2.0**-8
"""Least standard deviation of noise on outputs, in units of Z or of d alpha.

Measured: 2^-14 stopped lattice reduction in every attempt.
"""
LARGEST_DEVIATION = 10.0
"""No draw is further from 0 than this many standard deviations: 64 bits of uniform input reach 9.5."""

_LOW_ORDER = 2.0**16
"""Standard deviation of a second draw, in integer units: makes every integer near a draw equally reachable, whatever
the 53 bits of a double leave out."""


def release_labels(context: bytes, row_ids: Sequence[bytes], operand_BD: IntArray) -> list[bytes]:
    """The release label of every row, 32 bytes each.

    Args:
        context: digest of what all rows of the release have in common, see ``Releases``.
        row_ids: of the rows (B).
        operand_BD: the owner's quantized operand: alpha at a passive party, dL/dZ at the active one.
    """
    operand = np.ascontiguousarray(operand_BD, dtype="<i8")
    size = operand.shape[1] * operand.itemsize
    content = operand.tobytes()
    prefix = hashlib.sha256(context)
    labels = []
    for at, row_id in enumerate(row_ids):
        state = prefix.copy()
        # The operand has the same length in every row, so only the length of the id is needed.
        state.update(len(row_id).to_bytes(8, "little") + row_id + content[at * size : (at + 1) * size])
        labels.append(state.digest())
    return labels


class OutputNoise:
    """Draws the noise of one party.

    Args:
        secret: 32 bytes that never leave the party.
    """

    def __init__(self, secret: bytes) -> None:
        self._outputs = hashlib.shake_256(digest("vfl output noise", secret))
        self._operands = hashlib.shake_256(digest("vfl operand noise", secret))

    def normals(self, labels: Sequence[bytes], width: int) -> npt.NDArray[np.float64]:
        """Standard normal values (B, width), one row for each label, independent of what ``draw`` gives for it."""
        content = b"".join(_expanded(self._operands, label, 16 * width) for label in labels)
        return _gaussian(np.frombuffer(content, dtype="<u8").reshape(len(labels), width, 2))

    def draw(self, labels: Sequence[bytes], width: int, sigma: float, fractional_bits: int) -> IntArray:
        """Gaussian noise (B, K) in integers at ``fractional_bits``, one row for each label.

        SHAKE-256 under a key prefix gives uniform bits (the sponge of KMAC, NIST SP 800-185), Box and Muller's
        transform a Gaussian in doubles, which is rounded. A second, narrow draw fills in the low-order bits that a
        double lacks.
        """
        if sigma == 0.0:
            return np.zeros((len(labels), width), dtype=np.int64)
        content = b"".join(_expanded(self._outputs, label, 32 * width) for label in labels)
        words = np.frombuffer(content, dtype="<u8").reshape(len(labels), 2, width, 2)
        wide, low = (_gaussian(words[:, part]) for part in range(2))
        # Added as integers: the sum of two doubles would be rounded again.
        return _integers(wide * (sigma * 2.0**fractional_bits)) + _integers(low * _LOW_ORDER)


def _integers(values: npt.NDArray[np.float64]) -> IntArray:
    return np.rint(values).astype(np.int64)


def _expanded(keyed: hashlib._Hash, label: bytes, length: int) -> bytes:
    state = keyed.copy()
    state.update(label)
    return state.digest(length)  # type: ignore[call-arg]


def _gaussian(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
    """Standard normal values (B, n) from uniform words (B, n, 2): each value takes two words."""
    uniform = (words.astype(np.float64) + 0.5) * 2.0**-64
    return np.sqrt(-2.0 * np.log(uniform[..., 0])) * np.cos(2.0 * np.pi * uniform[..., 1])
