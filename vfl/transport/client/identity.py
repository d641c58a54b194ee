"""Opens a connection on which the intended party, and nobody else, has proved that it answers.

TLS alone verifies a DNS name, which certificates of no member can have, too. So the first call on every connection asks
for a signature of a fresh nonce and of the certificate that this process presented there. Then identity, role, CA,
validity, revocation and use of the party's certificate are checked.

gRPC reconnects a channel by itself, also between that proof and the next call. So a channel is used only if TLS accepts
nothing but the very certificate of the proof: whoever gRPC reconnects to holds the key of that certificate.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from vfl import messages as m
from vfl.errors import MismatchError, PeerUnreachable
from vfl.pki.credentials import Chain, Credentials
from vfl.pki.parsing import certificate_from_der
from vfl.pki.profile import certificate_digest, claims_of, fingerprint
from vfl.pki.statements import NONCE_BYTES, Signature, identity_statement
from vfl.pki.trust import CertificateRefused
from vfl.runtime.foreign_text import printable
from vfl.runtime.logs import get_logger
from vfl.transport.tls.credentials import secure_channel
from vfl.transport.v1 import identity_pb2_grpc
from vfl.transport.wire.control_codec import from_proto, to_proto
from vfl.transport.wire.failures import readable
from vfl.transport.wire.limits import channel_options
from vfl.transport.wire.local_endpoints import shown

_log = get_logger(__name__)

PROOF_SECONDS = 12.0
"""For a proof, with the connections that it takes: two that fail in TCP or TLS, or three over a slow link."""
_MOST_CONNECTIONS = 4
"""One to the certificate that is known from before, one to whatever certificate is there, one to that; and one more."""


@dataclass(frozen=True)
class ProvenChannel:
    """A channel to a party that has proved its identity.

    Attributes:
        chain: the party's certificate, which every connection of the channel is bound to, and intermediate ones.
        generation: of this process's own certificate files.
    """

    channel: Any
    chain: Chain
    generation: int

    def is_usable(self, credentials: Credentials) -> bool:
        """Whether the next call may use it: neither side's certificate was replaced, expired or revoked since.

        False also if its connection was lost, so that the party proves its identity on the next one.
        """
        if self.generation != credentials.generation or self.channel.get_state() is not grpc.ChannelConnectivity.READY:
            return False
        try:
            credentials.trust.check_chain(self.chain[0], self.chain[1:])
        except CertificateRefused:
            return False  # the party may have another by now; if not, the next proof says what is wrong
        return True


async def open_proven_channel(credentials: Credentials, endpoint: str, peer: str) -> ProvenChannel:
    """Connect, and have the party prove its identity.

    Args:
        endpoint: ``host:port``; may be that of a proxy.
        peer: the party that must answer there.

    Raises:
        CertificateRefused: whoever answers did not prove that it is this party.
        MismatchError: it does not know the call.
        ProtocolError: its answer is malformed.
        grpc.aio.AioRpcError: nobody answers, or the party refuses this process.
        PeerUnreachable: it had another certificate on every connection.
    """
    expected = credentials.proven.get(peer)
    for _ in range(_MOST_CONNECTIONS):
        generation, own = credentials.generation, credentials.pem
        options = channel_options(endpoint)
        channel = secure_channel(credentials, endpoint, peer, options, own=own, expected=expected)
        try:
            chain = await _prove(channel, credentials, certificate_digest(own.certificate), endpoint, peer)
            if chain[0] == expected:
                credentials.proven[peer] = expected
                return ProvenChannel(channel, chain, generation)
            expected = chain[0]
        except grpc.aio.AioRpcError as error:
            if expected is None or error.code() is not grpc.StatusCode.UNAVAILABLE:
                await channel.close()
                raise
            expected = None  # it may have another certificate by now
        except BaseException:
            await channel.close()
            raise
        await channel.close()
    raise PeerUnreachable(
        f"{peer} presented another certificate on each of {_MOST_CONNECTIONS} connections to {shown(endpoint)}",
        remedy=f"let only one process of {peer} answer at {shown(endpoint)}",
    )


async def _prove(channel: Any, credentials: Credentials, own: bytes, endpoint: str, peer: str) -> Chain:
    """The certificate with which whoever answers proves that it is ``peer``, and intermediate ones."""
    nonce = os.urandom(NONCE_BYTES)
    stub = identity_pb2_grpc.IdentityStub(channel)  # type: ignore[no-untyped-call]  # generated
    try:
        reply = await stub.Prove(to_proto(m.ProveIdentity(nonce)))
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            raise _without_proof(endpoint, peer) from None
        raise
    proof = from_proto(readable(reply, peer), m.IdentityProof)
    signed = Signature(proof.certificate, proof.intermediates, proof.signature)
    statement = identity_statement(credentials.federation.name, peer, nonce, own)
    try:
        return credentials.verify(statement, signed, of_server=True)
    except CertificateRefused as error:
        raise _not_proved(error, proof.certificate, endpoint, peer) from None


def _not_proved(error: CertificateRefused, certificate: bytes, endpoint: str, peer: str) -> CertificateRefused:
    presented, where = _described(certificate), shown(endpoint)
    _log.warning("server refused", reason=str(error.reason), meant=peer, endpoint=endpoint, certificate=presented)
    return CertificateRefused(
        error.reason,
        f"what answers at {where} does not prove that it is {peer}: {error.summary}",
        detail=f"{error.detail}\nit presented: {presented}",
        remedy=f"find out who answers at {where}, and correct {peer}'s endpoint or certificate there: "
        f"{error.remedy or 'it needs one that was issued to this party'}",
    )


def _described(certificate: bytes) -> str:
    try:
        presented = certificate_from_der(certificate)
    except ValueError:
        return "no readable certificate"
    identities = ", ".join(claims_of(presented).identities) or "no URI"
    return printable(f"{presented.subject.rfc4514_string()}, {identities}, SHA-256 {fingerprint(presented)}")


def _without_proof(endpoint: str, peer: str) -> MismatchError:
    return MismatchError(
        f"what answers at {shown(endpoint)} does not prove that it is {peer}: it does not know that call",
        remedy=f"install the same version of vfl everywhere; if {peer} has it, something else answers there",
    )
