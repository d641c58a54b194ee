"""The gRPC server of a party: its services, health, reflection, and the port that they share."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from vfl.configuration.federation import FederationConfig, parse_endpoint
from vfl.errors import ConfigError, ListenError
from vfl.pki.credentials import Credentials
from vfl.runtime import background
from vfl.runtime.logs import get_logger
from vfl.transport.access import Access
from vfl.transport.channels import ControlHandler
from vfl.transport.diagnosis.call import Doctor, DoctorHandler
from vfl.transport.inbox import Inbox
from vfl.transport.relay.service import NOT_COUNTED_AS_CALLS, Relay
from vfl.transport.server.connections import Connections, connection_limit
from vfl.transport.server.gate import Gate
from vfl.transport.server.identity import IdentityService
from vfl.transport.server.services import ControlService, DataService
from vfl.transport.tls.credentials import server_credentials
from vfl.transport.v1 import (
    control_pb2,
    control_pb2_grpc,
    data_pb2,
    data_pb2_grpc,
    doctor_pb2,
    identity_pb2,
    relay_pb2,
    relay_pb2_grpc,
)
from vfl.transport.wire.health import health_service_name
from vfl.transport.wire.limits import server_options
from vfl.transport.wire.local_endpoints import socket_of
from vfl.transport.wire.recorder import (
    Recorder,
)
from vfl.transport.wire.traffic import TrafficMeter

_log = get_logger(__name__)


class PartyServer:
    """One party's server.

    Args:
        party: this party's name.
        listen: ``host:port``; port 0 chooses a free one. Or a socket that only this process
            dials, for connections through a relay.
        handler: handles the coordinator's calls.
        inbox: receives the messages of the other parties.
        credentials: this party's certificate and trust; None only with ``insecure-loopback``.
        federation: the members.
        traffic: counts what is received.
        recorder: receives a record of every message; None if nothing is recorded.
        doctor: answers members that ask for a diagnosis; None if nobody may.

    Raises:
        ConfigError: the credentials do not match the federation's ``tls.mode``.
    """

    def __init__(
        self,
        party: str,
        listen: str,
        handler: ControlHandler,
        inbox: Inbox,
        credentials: Credentials | None,
        federation: FederationConfig,
        traffic: TrafficMeter | None = None,
        recorder: Recorder | None = None,
        doctor: DoctorHandler | None = None,
    ) -> None:
        self.party = party
        self.port = 0
        self._listen = listen
        self._is_socket = socket_of(listen) is not None
        self._credentials = credentials
        self._check_credentials(federation)
        access = Access(federation, credentials)
        self._connections = Connections()
        self._watching: asyncio.Task[None] | None = None
        self._gate = Gate(access, self._connections, party, NOT_COUNTED_AS_CALLS)
        self._control = ControlService(party, handler, access, federation.coordinator, recorder)
        self._data = DataService(party, inbox, access, traffic or TrafficMeter(), recorder)
        self._relay = Relay(party, federation, access)
        self._doctor = Doctor(party, doctor, access, federation.coordinator) if doctor else None
        self._identity = IdentityService(party, access, credentials) if credentials else None
        self._health = health.aio.HealthServicer()
        self._server: Any = None

    def _check_credentials(self, federation: FederationConfig) -> None:
        if federation.is_mutual_tls != (self._credentials is not None):
            raise ConfigError(
                f"tls.mode is '{federation.tls.mode}', which does not match the certificates given",
                remedy="set tls.ca, tls.certificate and tls.key in party.toml if and only if tls.mode is 'mutual'",
            )
        is_local = self._is_socket or parse_endpoint(self._listen, lowest_port=0).is_loopback
        if self._credentials is None and not is_local:
            raise ConfigError(
                "without TLS a party may listen only on loopback",
                detail=f"listen = '{self._listen}'",
                remedy="set tls.mode to 'mutual', or listen on 127.0.0.1",
            )

    async def start(self) -> None:
        """Open the port and answer calls; sets ``port`` to the port in use, 0 if it is a socket.

        Raises:
            ListenError: the port cannot be opened.
        """
        # No limit of gRPC's own for all callers together: calls that the gate refuses would use it up for the others.
        server = grpc.aio.server(interceptors=[self._gate], options=server_options(connection_limit()))
        # Generated code has no types.
        control_pb2_grpc.add_ControlServicer_to_server(self._control, server)  # type: ignore[no-untyped-call]
        data_pb2_grpc.add_DataServicer_to_server(self._data, server)  # type: ignore[no-untyped-call]
        relay_pb2_grpc.add_RelayServicer_to_server(self._relay, server)  # type: ignore[no-untyped-call]
        for service in (self._identity, self._doctor):
            if service is not None:
                service.register(server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection(self._service_names(), server)
        try:
            port = self._bind(server)
        except ListenError:
            await server.stop(None)  # else gRPC complains when the server is garbage-collected after the loop has ended
            raise
        await server.start()
        self._server, self.port = server, 0 if self._is_socket else port
        # Without TLS nobody can tell whose a connection is; behind a socket, tunnel and relay limit them.
        if self._credentials is not None and not self._is_socket:
            self._watching = background.start(self._watch())
        await self._health.set(health_service_name(self.party), health_pb2.HealthCheckResponse.SERVING)
        _log.info("listening", party=self.party, listen=self._listen, port=self.port)

    def _bind(self, server: Any) -> int:
        try:
            if self._credentials is None:
                return int(server.add_insecure_port(self._listen))
            return int(server.add_secure_port(self._listen, server_credentials(self._credentials)))
        except RuntimeError as error:
            if self._is_socket:
                raise ListenError(
                    f"{self.party} cannot open the socket behind its relay",
                    detail=f"{self._listen}: {error}",
                    remedy="set XDG_RUNTIME_DIR to a folder where this user may create sockets",
                ) from None
            port = parse_endpoint(self._listen, lowest_port=0).port
            raise ListenError(
                f"{self.party} cannot open port {port}",
                detail=f"{self._listen}: {error}",
                remedy=f"stop whatever uses port {port}, or change 'listen' of {self.party} in federation.toml",
            ) from None

    async def _watch(self) -> None:
        try:
            await self._connections.watch(self.port)
        except Exception as error:  # noqa: BLE001  # the party can work without, but somebody has to know
            _log.error("incoming connections are no longer limited", party=self.party, exc_info=error)

    async def stop(self, grace: float) -> None:
        """Report that it is not serving, refuse new calls, and end those still running after ``grace`` seconds."""
        if self._server is None:
            return
        if self._watching is not None:
            await background.give_up(self._watching)
        self._relay.close()
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace)
        self._server = None

    def _service_names(self) -> tuple[str, ...]:
        optional = ((identity_pb2, self._identity), (doctor_pb2, self._doctor))
        files = (control_pb2, data_pb2, relay_pb2, *(file for file, service in optional if service is not None))
        services = (service for file in files for service in file.DESCRIPTOR.services_by_name.values())
        return (*(s.full_name for s in services), health.SERVICE_NAME, reflection.SERVICE_NAME)
