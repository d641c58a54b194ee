"""gRPC's TLS channels and server credentials, from a process's own certificate files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from vfl.pki.credentials import CredentialPem, Credentials


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


def secure_channel(
    credentials: Credentials,
    endpoint: str,
    peer: str,
    options: Sequence[tuple[str, Any]],
    *,
    own: CredentialPem | None = None,
    expected: x509.Certificate | None = None,
) -> Any:
    """A channel that presents this process's certificate, and connects only to a server with the right one.

    The host and port do not matter for that, since the party's server name is what is checked.

    Args:
        peer: the party that should answer.
        own: what this process presents; None for the current content of its files.
        expected: the only certificate to accept; None for any with the server name, from any CA in ``tls.ca``.
    """
    # gRPC trusts a certificate that is among its roots even if it is not a CA's. One that is no CA's vouches for nobody
    # else, so as the only root it is the only certificate that this channel connects to, however often.
    own = own or credentials.pem
    roots = own.ca if expected is None else expected.public_bytes(Encoding.PEM)
    made = grpc.ssl_channel_credentials(roots, own.key, own.chain)
    named = ("grpc.ssl_target_name_override", credentials.federation.server_name(peer))
    return grpc.aio.secure_channel(endpoint, made, options=[*options, named])
