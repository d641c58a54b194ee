"""The call by which a member asks a party what it runs, outside of any job. Not recorded: audit logs belong to runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

import grpc
import grpc.aio

from vfl import messages as m
from vfl.configuration.federation import MAX_PASSIVE_PARTIES, FederationConfig
from vfl.errors import ProtocolError, all_error_types
from vfl.pki.credentials import Credentials
from vfl.pki.trust import current_time
from vfl.runtime.foreign_text import printable
from vfl.runtime.log_limits import LimitedLog
from vfl.runtime.logs import get_logger
from vfl.transport.access import Access
from vfl.transport.client.connection import Connection
from vfl.transport.v1 import doctor_pb2, doctor_pb2_grpc
from vfl.transport.wire.control_codec import from_proto, to_proto
from vfl.transport.wire.failures import Call, abort_call, from_rpc_error, readable

_log = get_logger(__name__)
_limited = LimitedLog(_log, "asked for more diagnoses")

MAX_FINDINGS = MAX_PASSIVE_PARTIES * len(m.Check)


class DoctorHandler(Protocol):
    """What a party answers to a member that asks for a diagnosis."""

    async def diagnose(self, call: m.Diagnose) -> m.Diagnosis:
        """Versions, digest, clock and state; with ``probe_peers``, also findings about the other parties."""


class Doctor(doctor_pb2_grpc.DoctorServicer):
    """Answers any member of the federation; only the coordinator may request probes of other parties."""

    def __init__(self, party: str, handler: DoctorHandler, access: Access, coordinator: str) -> None:
        self._party = party
        self._handler = handler
        self._access = access
        self._coordinator = coordinator

    def register(self, server: Any) -> None:
        """Add this service to a server."""
        doctor_pb2_grpc.add_DoctorServicer_to_server(self, server)  # type: ignore[no-untyped-call]  # generated

    async def Diagnose(self, request: doctor_pb2.DiagnoseRequest, context: Any) -> Any:  # noqa: N802  # name in the .proto
        """See the .proto."""
        try:
            caller = self._access.require_caller(context, "a diagnosis")
            call = from_proto(request, m.Diagnose)
            if call.probe_peers:
                self._access.require(context, self._coordinator, "probes of other parties")
            source = f"{caller} at {self._party}"
            _limited("info", "asked for a diagnosis", source, caller=caller, probe_peers=call.probe_peers)
            return to_proto(await self._handler.diagnose(call))
        except Exception as error:  # noqa: BLE001  # the boundary: the caller gets the safe part only
            await abort_call(context, error, self._party)


@dataclass(frozen=True, slots=True)
class Answer:
    """A diagnosis, and the time by this process's clock before and after the call."""

    diagnosis: m.Diagnosis
    asked: datetime
    answered: datetime


async def ask_diagnosis(
    endpoint: str,
    peer: str,
    credentials: Credentials | None,
    call: m.Diagnose,
    federation: FederationConfig,
    timeout: float,  # noqa: ASYNC109  # part of the error
) -> Answer:
    """Ask a party over a separate connection.

    Raises:
        RemoteError: the party refuses.
        PeerUnreachable, DeadlineExceeded: it does not answer within ``timeout`` seconds.
        CertificateRefused: whoever answers did not prove that it is the party.
        MismatchError: it runs a version that does not support the call.
        ProtocolError: the answer is malformed.
    """
    async with Connection(endpoint, peer, credentials) as connection:
        try:
            stub = doctor_pb2_grpc.DoctorStub(await connection.channel(timeout))  # type: ignore[no-untyped-call]
            asked = current_time()
            reply = await stub.Diagnose(to_proto(call), timeout=timeout)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, Call(peer, endpoint, call.kind, timeout)) from None
        answered = current_time()
    return Answer(read_diagnosis(reply, peer, federation), asked, answered)


def read_diagnosis(reply: doctor_pb2.DiagnoseReply | None, peer: str, federation: FederationConfig) -> m.Diagnosis:
    """Check the answer of ``peer``: texts are made printable, and all findings must be its own and about members.

    Args:
        reply: as returned by gRPC; None if it could not be read.

    Raises:
        ProtocolError: the answer is malformed.
    """
    diagnosis = from_proto(readable(reply, peer), m.Diagnosis)
    if len(diagnosis.findings) > MAX_FINDINGS:
        raise ProtocolError(f"{peer} sent more findings than there are checks")
    for finding in diagnosis.findings:
        named = {finding.target, finding.side or peer} <= federation.members.keys()
        if finding.source != peer or not named or finding.code not in {"", *all_error_types()}:
            raise ProtocolError(f"{peer} sent a finding that is not its own, or with an unknown member or code")
    return replace(
        diagnosis,
        party=printable(diagnosis.party),
        protocol_version=printable(diagnosis.protocol_version),
        package_version=printable(diagnosis.package_version),
        findings=tuple(
            replace(finding, summary=printable(finding.summary), remedy=printable(finding.remedy))
            for finding in diagnosis.findings
        ),
    )
