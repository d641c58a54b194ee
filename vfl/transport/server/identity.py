"""Proves to every caller, before its first other call on a connection, which party answers."""

from __future__ import annotations

from typing import Any

from vfl import messages as m
from vfl.errors import ProtocolError
from vfl.pki.credentials import Credentials
from vfl.pki.profile import certificate_digest
from vfl.pki.statements import NONCE_BYTES, identity_statement
from vfl.transport.access import Access
from vfl.transport.v1 import identity_pb2, identity_pb2_grpc
from vfl.transport.wire.control_codec import from_proto, to_proto
from vfl.transport.wire.failures import abort_call


class IdentityService(identity_pb2_grpc.IdentityServicer):
    """Signs a member's nonce, bound to the certificate that this member presented. Only with certificates."""

    def __init__(self, party: str, access: Access, credentials: Credentials) -> None:
        self._party = party
        self._access = access
        self._credentials = credentials

    def register(self, server: Any) -> None:
        """Add this service to a server."""
        identity_pb2_grpc.add_IdentityServicer_to_server(self, server)  # type: ignore[no-untyped-call]  # generated

    async def Prove(self, request: identity_pb2.ProveRequest, context: Any) -> Any:  # noqa: N802  # name in the .proto
        """See the .proto."""
        try:
            return to_proto(self._proof(from_proto(request, m.ProveIdentity), context))
        except Exception as error:  # noqa: BLE001  # the boundary: the caller gets the safe part only
            await abort_call(context, error, self._party)

    def _proof(self, call: m.ProveIdentity, context: Any) -> m.IdentityProof:
        caller = self._access.certificate_of_caller(context, "a proof of identity")
        if len(call.nonce) != NONCE_BYTES:
            raise ProtocolError(
                f"a proof of identity for a nonce of {len(call.nonce)} bytes was refused, not {NONCE_BYTES}",
                remedy="check that every party runs the same version of vfl",
            )
        federation = self._credentials.federation.name
        statement = identity_statement(federation, self._party, call.nonce, certificate_digest(caller))
        signed = self._credentials.sign(statement)
        return m.IdentityProof(signed.certificate, signed.intermediates, signed.signature)
