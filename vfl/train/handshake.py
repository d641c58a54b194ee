"""Before step 0: the parties exchange public keys and check that they hold the same ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from vfl.align import check_same_ids, id_set_digest
from vfl.he.keys import PublicKey, SecretKey
from vfl.he.parameters import Parameters
from vfl.interact.exchange import Exchange, Send, receive
from vfl.messages import IdSetDigest, PublicKeys
from vfl.privacy.agreement import AgreementKey, SharedSecret

ID_DIGEST_LABEL = "id-set-digest"


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


def show_ids(active: str, ids: Sequence[str], shared: Mapping[str, SharedSecret]) -> Exchange[None]:
    """Passive side: send the number of ids and their keyed digest to the active party."""
    digest = id_set_digest(list(ids), shared[active].derive_key(ID_DIGEST_LABEL))
    yield Send((active,), IdSetDigest(np.array([len(ids)], dtype=np.int64), _bytes(digest)))


def check_ids(passive: Sequence[str], ids: Sequence[str], shared: Mapping[str, SharedSecret]) -> Exchange[None]:
    """Active side: compare own ids with every passive party's digest.

    Raises:
        AlignmentError: naming the party whose ids differ and both counts.
    """
    for peer in passive:
        theirs = yield from receive(peer, IdSetDigest)
        own_digest = id_set_digest(list(ids), shared[peer].derive_key(ID_DIGEST_LABEL))
        rows = int(theirs.rows[0]) if theirs.rows.size == 1 else -1
        check_same_ids(len(ids), own_digest, peer, rows, theirs.digest.tobytes())


def _bytes(content: bytes) -> np.ndarray:
    return np.frombuffer(content, dtype=np.uint8)
