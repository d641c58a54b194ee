"""Before step 0: the parties exchange public keys."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vfl.he.keys import PublicKey, SecretKey
from vfl.he.parameters import Parameters
from vfl.interact.exchange import Exchange, Send, receive
from vfl.messages import PublicKeys
from vfl.privacy.agreement import AgreementKey, SharedSecret


class Keys:
    """This party's keys of one job and what it agreed on with its peers.

    Attributes:
        secret: own encryption key pair; None in jobs without encryption.
        peer_encryption: public encryption key of each peer; empty in jobs without encryption.
        shared: secret shared with each peer.
    """

    def __init__(self, name: str, parameters: Parameters, *, encrypted: bool) -> None:
        self._name = name
        self._parameters = parameters
        self._agreement = AgreementKey()
        self.secret = SecretKey(parameters) if encrypted else None
        self.peer_encryption: dict[str, PublicKey] = {}
        self.shared: dict[str, SharedSecret] = {}

    def exchange(self, peers: Sequence[str]) -> Exchange[None]:
        """Send own public keys to every peer and take theirs."""
        own = self.secret.public.to_bytes() if self.secret else b""
        yield Send(tuple(peers), PublicKeys(_bytes(own), _bytes(self._agreement.public_bytes)))
        for peer in peers:
            theirs = yield from receive(peer, PublicKeys)
            self.shared[peer] = self._agreement.agree(theirs.agreement_key.tobytes(), self._name, peer)
            if self.secret:
                key = theirs.he_public_key.tobytes()
                self.peer_encryption[peer] = PublicKey.from_bytes(self._parameters, key, peer)


def _bytes(content: bytes) -> np.ndarray:
    return np.frombuffer(content, dtype=np.uint8)
