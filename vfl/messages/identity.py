"""Who answers on a connection: asked before anything else is said, outside of any run."""

from __future__ import annotations

from dataclasses import dataclass

from vfl.messages.control import ControlMessage


@dataclass(frozen=True, slots=True)
class ProveIdentity(ControlMessage):
    """Any member to the party that it meant to reach: prove who you are. ``nonce`` is 32 fresh random bytes."""

    kind = "prove_identity"
    nonce: bytes


@dataclass(frozen=True, slots=True)
class IdentityProof(ControlMessage):
    """Party to caller: its certificate (DER), intermediate ones (PEM), and a signature for this nonce and caller.

    What is signed is ``vfl.pki.statements.identity_statement``.
    """

    kind = "identity_proof"
    certificate: bytes
    intermediates: bytes
    signature: bytes
