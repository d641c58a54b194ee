"""Residues bit-packed for the wire: every byte carries eight bits of ciphertext.

The last dimension is split into rows of equal length, as few as fill whole words (16 rows of 30 bits make 15 words).
The values of one column are packed one after the other, all columns simultaneously: whole rows are shifted, never
single values.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from vfl.he.arithmetic.compute import spread

WORD = 32


def packed_words(count: int, bits: int) -> int:
    """Number of words for ``count`` values."""
    rows = _rows(bits)
    return -(-count // rows) * (rows * bits // WORD)


def pack_bits(values: npt.NDArray[np.int64], bits: int) -> npt.NDArray[np.uint32]:
    """Values (C, L, n) below 2^bits to words (C, L, packed_words(n, bits)); bits at most 32."""
    rows, columns = _rows(bits), -(-values.shape[-1] // _rows(bits))
    words = np.empty((*values.shape[:2], rows * bits // WORD, columns), dtype=np.uint32)

    def pack_one(index: int) -> None:
        padded = np.zeros((values.shape[1], rows * columns), dtype=np.uint32)
        padded[:, : values.shape[2]] = values[index]
        parts = padded.reshape(-1, rows, columns)
        for word in range(words.shape[2]):
            first, shift = divmod(word * WORD, bits)
            target = words[index, :, word]
            np.right_shift(parts[:, first], np.uint32(shift), out=target)
            for row in range(first + 1, -(-(word + 1) * WORD // bits)):
                target |= parts[:, row] << np.uint32(row * bits - word * WORD)

    spread(pack_one, range(len(values)))
    return words.reshape(*values.shape[:2], -1)


def unpack_bits(words: npt.NDArray[np.uint32], count: int, bits: int) -> npt.NDArray[np.int64]:
    """The values (C, L, count) that ``pack_bits`` put into words (C, L, packed_words(count, bits))."""
    rows, columns = _rows(bits), -(-count // _rows(bits))
    packed = words.reshape(*words.shape[:2], rows * bits // WORD, columns)
    values = np.empty((*words.shape[:2], rows, columns), dtype=np.int64)
    mask = np.uint32((1 << bits) - 1)

    def unpack_one(index: int) -> None:
        for row in range(rows):
            word, shift = divmod(row * bits, WORD)
            value = packed[index, :, word] >> np.uint32(shift)
            if shift + bits > WORD:
                value |= packed[index, :, word + 1] << np.uint32(WORD - shift)
            value &= mask
            values[index, :, row] = value

    spread(unpack_one, range(len(words)))
    return np.ascontiguousarray(values.reshape(*words.shape[:2], rows * columns)[:, :, :count])


def _rows(bits: int) -> int:
    """Smallest number of values whose bits fill whole words."""
    return WORD // math.gcd(WORD, bits)
