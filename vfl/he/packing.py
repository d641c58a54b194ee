"""The positions of a matrix's entries among the coefficients of ciphertexts.

Rows of a batch are split into blocks of ``stride`` rows; several columns share a ciphertext, each in ``stride``
consecutive coefficients (following Cheetah, USENIX Security 2022, section 3). All sizes inside a ciphertext are powers
of two.

Shapes: B rows, C columns, D features, K outputs, N degree.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


def _groups(columns: int, per_ciphertext: int) -> int:
    return -(-columns // per_ciphertext)


@dataclass(frozen=True, slots=True)
class RowPacking:
    """A B x C matrix, row b and column c at coefficient ``(c mod per_ciphertext) * spacing + (b mod stride)``.

    Fresh ciphertexts have ``spacing = stride``; products with a matrix leave gaps, hence a larger spacing.
    Ciphertexts are ordered by block of rows, then by group of columns.
    """

    rows: int
    columns: int
    degree: int
    stride: int
    per_ciphertext: int
    spacing: int

    @property
    def blocks(self) -> int:
        """Number of row blocks."""
        return -(-self.rows // self.stride)

    @property
    def groups(self) -> int:
        """Ciphertexts per row block."""
        return _groups(self.columns, self.per_ciphertext)

    @property
    def ciphertexts(self) -> int:
        """Total number of ciphertexts."""
        return self.blocks * self.groups

    @property
    def positions(self) -> IntArray:
        """The coefficients that hold entries of the matrix in some ciphertext, in increasing order."""
        rows = np.arange(min(self.rows, self.stride))
        return (np.arange(min(self.columns, self.per_ciphertext))[:, None] * self.spacing + rows).ravel()

    def pack(self, matrix_BC: IntArray) -> IntArray:
        """Matrix to coefficients (ciphertexts, N); unused coefficients are zero."""
        padded = np.zeros((self.blocks * self.stride, self.groups * self.per_ciphertext), dtype=np.int64)
        padded[: self.rows, : self.columns] = matrix_BC
        tiles = padded.reshape(self.blocks, self.stride, self.groups, self.per_ciphertext)
        coefficients = np.zeros((self.ciphertexts, self.degree), dtype=np.int64)
        self._slots(coefficients)[...] = tiles.transpose(0, 2, 3, 1)
        return coefficients

    def unpack(self, coefficients: IntArray) -> IntArray:
        """Coefficients (ciphertexts, N) to the matrix they hold."""
        tiles = self._slots(coefficients)
        padded = tiles.transpose(0, 3, 1, 2).reshape(self.blocks * self.stride, -1)
        return np.ascontiguousarray(padded[: self.rows, : self.columns])

    def _slots(self, coefficients: IntArray) -> IntArray:
        """View (blocks, groups, per_ciphertext, stride) of the used coefficients."""
        cells = coefficients.reshape(self.blocks, self.groups, self.degree // self.spacing, self.spacing)
        return cells[:, :, : self.per_ciphertext, : self.stride]


@dataclass(frozen=True, slots=True)
class ReductionPacking:
    """A D x K matrix summed over the rows of a batch, as produced by multiplying packed rows by X^T.

    Entry (j, k) is at coefficient ``((j mod features_per) * outputs_per + (k mod outputs_per)) * stride``.
    Ciphertexts are ordered by group of outputs, then by group of features.
    """

    features: int
    outputs: int
    degree: int
    stride: int
    features_per_ciphertext: int
    outputs_per_ciphertext: int

    @property
    def feature_groups(self) -> int:
        """Ciphertexts per group of outputs."""
        return _groups(self.features, self.features_per_ciphertext)

    @property
    def output_groups(self) -> int:
        """Number of groups of outputs."""
        return _groups(self.outputs, self.outputs_per_ciphertext)

    @property
    def ciphertexts(self) -> int:
        """Total number of ciphertexts."""
        return self.output_groups * self.feature_groups

    @property
    def positions(self) -> IntArray:
        """The coefficients that hold entries of the matrix in some ciphertext, in increasing order."""
        features = np.arange(min(self.features, self.features_per_ciphertext))[:, None]
        outputs = np.arange(min(self.outputs, self.outputs_per_ciphertext))
        positions: IntArray = (features * self.outputs_per_ciphertext + outputs) * self.stride
        return positions.ravel()

    def unpack(self, coefficients: IntArray) -> IntArray:
        """Coefficients (ciphertexts, N) to the D x K matrix they hold."""
        used = coefficients[:, :: self.stride][:, : self.features_per_ciphertext * self.outputs_per_ciphertext]
        tiles = used.reshape(
            self.output_groups, self.feature_groups, self.features_per_ciphertext, self.outputs_per_ciphertext
        )
        padded = tiles.transpose(1, 2, 0, 3).reshape(self.feature_groups * self.features_per_ciphertext, -1)
        return np.ascontiguousarray(padded[: self.features, : self.outputs])
