"""gRPC's TLS channels and server credentials, from a process's own certificate files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio

from vfl.pki.credentials import Credentials


def server_credentials(credentials: Credentials) -> grpc.ServerCredentials:
    """Credentials of a server that admits only callers with a certificate from a CA in ``tls.ca``.

    Every new connection uses the current content of the files.
    """
    served = credentials.generation

    def renewed() -> Any:
        nonlocal served
        credentials.refresh()
        if credentials.generation == served:
            return None
        served = credentials.generation
        return _server_configuration(credentials)

    return grpc.dynamic_ssl_server_credentials(
        _server_configuration(credentials), renewed, require_client_authentication=True
    )


def _server_configuration(credentials: Credentials) -> Any:
    pem = credentials.pem
    return grpc.ssl_server_certificate_configuration([(pem.key, pem.chain)], root_certificates=pem.ca)


def secure_channel(credentials: Credentials, endpoint: str, peer: str, options: Sequence[tuple[str, Any]]) -> Any:
    """A connection that presents this process's certificate and proceeds only if the server's is that of ``peer``.

    The host and port do not matter for that, since the party's server name is what is checked.
    """
    pem = credentials.pem
    made = grpc.ssl_channel_credentials(pem.ca, pem.key, pem.chain)
    named = ("grpc.ssl_target_name_override", credentials.federation.server_name(peer))
    return grpc.aio.secure_channel(endpoint, made, options=[*options, named])
