"""What has shaped the interaction weights so far, as a hash chain that all parties of a run compute alike.

Noise on outputs is bound to it (``output_noise``): an equal replay of a step has the same lineage and draws the same
noise; a replay in which anything differs has another one from then on. Nothing in it tells a value: gradients enter
through commitments that only their owner can open.
"""

from __future__ import annotations

import hashlib
import hmac

import numpy as np
import numpy.typing as npt

DIGEST_BYTES = 32


def digest(domain: str, *parts: bytes) -> bytes:
    """SHA-256 of parts of any length; each is preceded by its length, so that no two lists of parts coincide."""
    state = hashlib.sha256()
    for part in (domain.encode(), *parts):
        state.update(len(part).to_bytes(8, "little"))
        state.update(part)
    return state.digest()


class Lineage:
    """The hash chain of one run.

    Args:
        statement: what all parties of the run agreed on before its first step.
    """

    def __init__(self, statement: bytes) -> None:
        self._digest = digest("vfl lineage", statement)

    @property
    def digest(self) -> bytes:
        """The head of the chain, 32 bytes."""
        return self._digest

    def extended(self, *parts: bytes) -> bytes:
        """The head of the chain after another link; the chain itself stays as it is."""
        return digest("vfl lineage link", self._digest, *parts)

    def move_to(self, head: bytes) -> None:
        """Continue from this head: that of ``extended``, or of a checkpoint."""
        self._digest = head


def commitment(secret: bytes, *labels: str | int, content: npt.NDArray[np.int64]) -> bytes:
    """A commitment to an integer matrix (HMAC-SHA-256 under a key that is derived from ``secret`` and ``labels``).

    It hides the content from anybody without the secret, binds its owner, and is the same for an equal replay.
    """
    key = hmac.new(secret, "\x1f".join(map(str, ("commitment", *labels))).encode(), hashlib.sha256).digest()
    values = np.ascontiguousarray(content, dtype="<i8").tobytes()
    return hmac.new(key, f"{content.shape}\x1f".encode() + values, hashlib.sha256).digest()
