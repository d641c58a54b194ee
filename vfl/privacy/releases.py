"""One side's releases within a run: the noise that it adds, and the lineage to which the noise is bound."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vfl.errors import ProtocolError
from vfl.ids import StepKey
from vfl.privacy.lineage import DIGEST_BYTES, Lineage, commitment, digest
from vfl.privacy.output_noise import IntArray, OutputNoise, release_labels


class Releases:
    """Labels what one party releases, draws the noise, and follows the lineage of the weights.

    Args:
        owner: this party, which adds the noise.
        statement: digest of what all parties agreed on, see ``vfl.job.digests.training_statement``.
        secret: 32 bytes that are this party's and never leave it.
        sigma: standard deviation of the noise, in units of what is released.
        inputs: digest of what the parties have put into the model before training, such as their tables.

    Attributes:
        sigma: see above.
        shaping: digest of what else shapes the noise of the next release.
    """

    def __init__(self, owner: str, statement: bytes, secret: bytes, sigma: float, inputs: bytes = b"") -> None:
        self._owner = owner
        self._lineage = Lineage(statement)
        self._secret = secret
        self._noise = OutputNoise(secret)
        # Another key draws other noise, so its releases are other releases.
        self._key_digest = digest("vfl noise key", secret)
        self._inputs = inputs
        self._history = digest("vfl own operands")
        self.sigma = sigma
        self.shaping = b""

    @property
    def lineage(self) -> bytes:
        """Head of the hash chain of what has shaped the weights; the same at every party of the run."""
        return self._lineage.digest

    @property
    def history(self) -> bytes:
        """Head of the hash chain of this party's own part of what has shaped its weights; it stays at the party."""
        return self._history

    def labels(self, receiver: str, row_ids: Sequence[bytes], operand_BD: IntArray, columns: slice) -> list[bytes]:
        """The release label of each row (B) of what ``receiver`` is given.

        Args:
            operand_BD: this party's quantized operand: alpha at a passive party, dL/dZ at the active one.
            columns: of the weights that take part.
        """
        return release_labels(self.context(receiver, columns), row_ids, operand_BD)

    def context(self, receiver: str, columns: slice) -> bytes:
        """Digest of what all rows of the next release have in common."""
        return digest(
            "vfl release",
            self._owner.encode(),
            receiver.encode(),
            float(self.sigma).hex().encode(),
            f"{columns.start}:{columns.stop}".encode(),
            self.lineage,
            self._inputs,
            self.shaping,
            self._key_digest,
            self._history,
        )

    def noise(self, labels: Sequence[bytes], width: int, fractional_bits: int) -> IntArray:
        """Noise (B, width) of these releases, as integers at ``fractional_bits``."""
        return self._noise.draw(labels, width, self.sigma, fractional_bits)

    def operand_noise(self, labels: Sequence[bytes], width: int) -> npt.NDArray[np.float64]:
        """Standard normal values (B, width) of these releases, for noise on this party's operand."""
        return self._noise.normals(labels, width)

    def commit(self, key: StepKey, content: IntArray) -> bytes:
        """A commitment to this party's gradient of a step, the same for an equal replay."""
        return commitment(self._secret, self.lineage.hex(), key.step, content=content)

    def after_step(self, key: StepKey, committed: bytes) -> bytes:
        """Head of the chain after a step with the gradient of this commitment; the chain itself stays as it is.

        Raises:
            ProtocolError: not a commitment.
        """
        if len(committed) != DIGEST_BYTES:
            raise ProtocolError(
                "a commitment to a gradient does not have 32 bytes",
                remedy="check that every party runs the same version of vfl",
            )
        return self._lineage.extended(str(key.step).encode(), committed)

    def contributed(self, values: IntArray) -> None:
        """Add to this party's history what it put into the weights: other weights never share a release label.

        Args:
            values: its initial weights, or its operand of a gradient; the gradients of others are in the lineage, and
                may be the same although this party's operand is not.
        """
        content = np.ascontiguousarray(values, dtype="<i8").tobytes()
        self._history = digest("vfl own operand", self._history, repr(values.shape).encode(), content)

    def move_to(self, head: bytes, history: bytes | None = None) -> None:
        """Continue from this head: that of ``after_step``, or, with the ``history``, of a checkpoint."""
        self._lineage.move_to(head)
        if history is not None:
            self._history = history
