"""Masks that cancel over the passive parties, so that the active party sees only the sum of their contributions.

For every pair i < j both derive the same uniform matrix m_ij; party i adds it, party j subtracts it
(Bonawitz et al., CCS 2017, section 4, without dropout recovery: losing a party stops the step).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from vfl.errors import ProtocolError
from vfl.ids import StepKey
from vfl.privacy.agreement import SharedSecret


class PairwiseMasks:
    """One passive party's masks with each other passive party.

    Args:
        name: this party's name; names order the pairs.
        secrets: shared secret with each other passive party, by name. Empty for a single passive party.
        tau: bits of the ring Z_t.
    """

    def __init__(self, name: str, secrets: Mapping[str, SharedSecret], tau: int) -> None:
        self._name = name
        self._secrets = dict(secrets)
        self._tau = tau
        self._latest: dict[tuple[str, str], tuple[int, int]] = {}

    def total(self, key: StepKey, message: str, shape: tuple[int, int]) -> npt.NDArray[np.int64]:
        """Sum of this party's masks in Z_t for one message of one execution of a step; zero without other parties.

        Raises:
            ProtocolError: the mask, or a later one, was already handed out. A mask never covers two values.
        """
        self._use_once(key, message)
        total = np.zeros(shape, dtype=np.uint64)
        label = f"pairwise-mask\x1f{key.run}\x1f{key.step}\x1f{key.attempt}\x1f{message}"
        for peer, secret in self._secrets.items():
            stream = secret.stream(label, 8 * shape[0] * shape[1])
            mask = np.frombuffer(stream, dtype="<u8").reshape(shape)
            total = total + mask if self._name < peer else total - mask
        return (total & np.uint64((1 << self._tau) - 1)).view(np.int64)

    def _use_once(self, key: StepKey, message: str) -> None:
        use = (key.attempt, key.step)
        if use <= self._latest.get((key.run, message), (-1, -1)):
            raise ProtocolError(
                f"step {key.step} was requested again without a new attempt",
                remedy="resume the run with 'vfl run --resume'; a repeated step needs a new attempt",
            )
        self._latest[key.run, message] = use
