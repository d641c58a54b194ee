"""The exchange of public keys between the parties, before step 0."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vfl.errors import MismatchError, ProtocolError
from vfl.he.keys import PublicKey, SecretKey
from vfl.he.parameters import Parameters
from vfl.ids import StepKey
from vfl.messages import PublicKeys
from vfl.messages.exchange import Exchange, Send, receive
from vfl.models.config import MAX_WIDTH
from vfl.pki.credentials import Credentials
from vfl.pki.statements import Signature, Statement
from vfl.privacy.agreement import AgreementKey, SharedSecret
from vfl.privacy.lineage import DIGEST_BYTES, digest
from vfl.runtime.logs import get_logger

_log = get_logger("vfl.party")

KEYS_PURPOSE = "vfl/public-keys/3"


@dataclass(frozen=True, slots=True)
class AgreedState:
    """What all parties of an attempt must begin or resume with, as each one signs it for its peers.

    Shares of the interaction weights are uniform in every attempt, so shares of different checkpoints add up to weights
    whose difference from the true ones a party can know; Z would then give away the activations.

    Attributes:
        statement: digest of what determines the model, see ``vfl.job.digests.training_statement``.
        step, attempt: of the checkpoint; 0 at the beginning.
        lineage: head of the checkpoint's hash chain of what has shaped the weights; empty at the beginning.
        session: digest of the keys of the attempt that took the checkpoint (``SessionKeys``); empty at the beginning. A
            party that was restarted accepts the number of an attempt once more, and then has other shares.
    """

    statement: bytes
    step: int = 0
    attempt: int = 0
    lineage: bytes = b""
    session: bytes = b""

    def encode(self) -> bytes:
        """As it is signed."""
        digests = {"statement": self.statement, "lineage": self.lineage, "session": self.session}
        content = {name: value.hex() for name, value in digests.items()}
        return json.dumps({**content, "step": self.step, "attempt": self.attempt}, sort_keys=True).encode()


@dataclass(frozen=True, slots=True)
class OwnPart:
    """What a party states of its own part of the model, signed for its peers.

    Attributes:
        width: of its bottom.
        inputs: commitment to its table, preprocessing and bottom before training (``vfl.party.learning.inputs``): 32
            bytes, to which all bind their noise.
    """

    width: int
    inputs: bytes = bytes(DIGEST_BYTES)


class SessionKeys:
    """This party's keys for one job, and the secrets it shares with its peers.

    Keys not signed by their peer are refused, so that whoever relays messages cannot substitute other keys.

    Args:
        name: this party.
        parameters: encryption parameters.
        encrypted: whether the job is encrypted.
        federation: name of the federation.
        credentials: sign own keys and verify those of peers; None only with ``insecure-loopback``, where keys are
            unsigned.

    Attributes:
        secret: this party's encryption key pair; None in jobs without encryption.
        peer_encryption: public encryption key of each peer; empty in jobs without encryption.
        peer_parts: what each peer has signed of its own part.
        shared: secret shared with each peer.
        session: digest of all parties' keys for agreeing on masks, which no two attempts have in common; empty before
            the exchange.
    """

    def __init__(
        self, name: str, parameters: Parameters, *, encrypted: bool, federation: str, credentials: Credentials | None
    ) -> None:
        self._name = name
        self._federation = federation
        self._credentials = credentials
        self._parameters = parameters
        self._agreement = AgreementKey()
        self.secret = SecretKey(parameters) if encrypted else None
        self.peer_encryption: dict[str, PublicKey] = {}
        self.peer_parts: dict[str, OwnPart] = {}
        self.session = b""
        self.shared: dict[str, SharedSecret] = {}

    def exchange(self, peers: Sequence[str], key: StepKey, state: AgreedState, part: OwnPart) -> Exchange[None]:
        """Send this party's public keys to every peer and receive theirs.

        Args:
            key: the job and attempt that the keys are for.
            state: what this party begins or resumes with.
            part: what this party states of its own.

        Raises:
            AccessDenied: a peer's keys are not signed by that peer for this job and attempt.
            MismatchError: a peer resumes from another checkpoint, or has other files.
        """
        own, keys = state.encode(), {self._name: self._agreement.public_bytes}
        yield Send(tuple(peers), self._signed(key, own, part))
        for peer in peers:
            theirs = yield from receive(peer, PublicKeys)
            self._check(theirs, peer, key)
            if theirs.state.tobytes() != own:
                raise self._other_state(peer, own, theirs.state.tobytes())
            self.peer_parts[peer] = _own_part(theirs, peer)
            keys[peer] = theirs.agreement_key.tobytes()
            self.shared[peer] = self._agreement.agree(keys[peer], self._name, peer)
            if self.secret:
                encryption = theirs.he_public_key.tobytes()
                self.peer_encryption[peer] = PublicKey.from_bytes(self._parameters, encryption, peer)
        self.session = digest("vfl session", *(part for name in sorted(keys) for part in (name.encode(), keys[name])))

    def _other_state(self, peer: str, own: bytes, theirs: bytes) -> MismatchError:
        detail = f"{self._name}: {own.decode()}; {peer}: {theirs[:1000].decode(errors='replace')}"
        _log.error("another state at a peer", peer=peer, detail=detail)
        return MismatchError(
            f"{peer} would begin with another state than {self._name}: another checkpoint, or other files",
            detail=detail,
            remedy="check that all have the same files, and that the coordinator restores one checkpoint everywhere; "
            "shares of different checkpoints would give activations away",
        )

    def _signed(self, key: StepKey, state: bytes, part: OwnPart) -> PublicKeys:
        encryption = self.secret.public.to_bytes() if self.secret else b""
        agreement = self._agreement.public_bytes
        contents = (encryption, agreement, state, str(part.width).encode(), part.inputs)
        statement = self._statement(self._name, key, *contents)
        _log.info("own keys", fingerprint=statement.fingerprint(), signed=self._credentials is not None)
        if self._credentials is None:
            return PublicKeys(*map(_bytes, (*contents, b"", b"", b"")))
        signed = self._credentials.sign(statement)
        return PublicKeys(*map(_bytes, (*contents, signed.certificate, signed.intermediates, signed.signature)))

    def _check(self, theirs: PublicKeys, peer: str, key: StepKey) -> None:
        contents = (theirs.he_public_key, theirs.agreement_key, theirs.state, theirs.width, theirs.inputs)
        statement = self._statement(peer, key, *(part.tobytes() for part in contents))
        if self._credentials is not None:
            parts = (theirs.certificate, theirs.intermediates, theirs.signature)
            self._credentials.verify(statement, Signature(*(part.tobytes() for part in parts)))
        # Operators can compare fingerprints out of band: this must equal the one the peer logs as "own keys".
        _log.info(
            "keys of a peer", peer=peer, fingerprint=statement.fingerprint(), signed=self._credentials is not None
        )

    def _statement(self, sender: str, key: StepKey, *contents: bytes) -> Statement:
        return Statement(KEYS_PURPOSE, self._federation, key.run, key.attempt, sender, contents)


def _own_part(theirs: PublicKeys, peer: str) -> OwnPart:
    text, inputs = theirs.width.tobytes(), theirs.inputs.tobytes()
    problem = ""
    if not text.isdigit() or len(text) > len(str(MAX_WIDTH)) or int(text) > MAX_WIDTH:
        problem = f"no width of its bottom from 0 to {MAX_WIDTH}"
    elif len(inputs) != DIGEST_BYTES:
        problem = "no commitment of 32 bytes to its table and bottom"
    if problem:
        raise ProtocolError(f"{peer} states {problem}", remedy="check that every party runs the same version of vfl")
    return OwnPart(int(text), inputs)


def _bytes(content: bytes) -> np.ndarray:
    return np.frombuffer(content, dtype=np.uint8)
