"""Why a connection fails: gRPC says only that it was lost, so another handshake is tried here."""

from __future__ import annotations

import socket
import ssl

from vfl.transport.config import parse_endpoint
from vfl.transport.credentials import Credentials

_SECONDS = 3.0


def explain_connection(endpoint: str, peer: str, credentials: Credentials) -> str:
    """One sentence for the operator on what happens when this process connects to a party. Blocks for some seconds.

    Only this end can be seen: a server that does not accept our certificate hangs up and does not say why.
    """
    host, port = parse_endpoint(endpoint)
    try:
        with socket.create_connection((host, port), _SECONDS) as plain:
            return _try_handshake(plain, credentials, peer)
    except OSError as error:
        return f"no connection to {endpoint}: {error.strerror or error}"


def _try_handshake(plain: socket.socket, credentials: Credentials, peer: str) -> str:
    server_name = credentials.federation.server_name(peer)
    try:
        with _context(credentials).wrap_socket(plain, server_hostname=server_name) as secured:
            secured.settimeout(_SECONDS)
            if secured.recv(1):
                return "the TLS handshake works"
    except ssl.SSLCertVerificationError as error:
        return (
            f"this process refuses the certificate shown there: {error.verify_message}. It must come from a CA of this "
            f"process's tls.ca, be valid now, and carry the DNS name {server_name}"
        )
    except TimeoutError:
        return "what answers there does not speak TLS, or is overloaded"
    except (ssl.SSLError, OSError) as error:
        return f"the TLS handshake fails: {getattr(error, 'reason', None) or error}; both ends need TLS 1.3"
    return (
        f"{peer} hangs up on this process's certificate: it comes from no CA of tls.ca there, or has expired or is not "
        f"valid yet by the clock there. Standard error of {peer} has gRPC's reason ('Handshake failed'); compare 'vfl "
        "keys show' of both certificates and of tls.ca at both ends"
    )


def _context(credentials: Credentials) -> ssl.SSLContext:
    files = credentials.files
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # as gRPC does: an intermediate CA may be the one trusted
    context.set_alpn_protocols(["h2"])
    context.load_verify_locations(files.ca)
    context.load_cert_chain(files.certificate, files.key, credentials.passphrase)
    return context
