"""Connects to a party step by step: name, TCP, TLS. gRPC reports only that a connection was lost.

Nothing here uses the event loop's thread pool, which may be busy with arithmetic.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509

from vfl.configuration.federation import parse_endpoint
from vfl.errors import ConfigError, PeerUnreachable
from vfl.messages import Check
from vfl.pki.credentials import Credentials
from vfl.pki.parsing import certificate_from_der
from vfl.transport.wire.local_endpoints import shown, socket_of

STEP_SECONDS = 3.0
"""Time limit for a name lookup, for a connection to each of at most two addresses, and for a handshake."""

_THIS = "this process"
_CLOCK_CODES = {9, 10}
"""OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED."""

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True)
class ConnectionFailure:
    """Why a connection failed. Contains endpoints and what OpenSSL reports, never a local path.

    Attributes:
        at_peer: whether the party at the other end must act, rather than this one.
        code: code of the error that a run would end with.
    """

    check: Check
    summary: str
    remedy: str
    at_peer: bool = True
    code: str = PeerUnreachable.code


@dataclass(slots=True)
class Attempt:
    """How far a connection got.

    Attributes:
        passed: the steps that succeeded, in order, with what was seen.
        certificate: the party's certificate; None without TLS, or if it was refused.
        intermediates: what the party presented besides.
    """

    passed: dict[Check, str] = field(default_factory=dict)
    obstacle: ConnectionFailure | None = None
    certificate: x509.Certificate | None = None
    intermediates: tuple[x509.Certificate, ...] = ()


class _Stopped(Exception):
    def __init__(self, obstacle: ConnectionFailure) -> None:
        super().__init__(obstacle.summary)
        self.obstacle = obstacle


async def explain_connection(endpoint: str, peer: str, credentials: Credentials) -> str:
    """What happens when this process connects to a party, as text for the operator. Takes a few seconds.

    Only this end is visible: a server that does not accept our certificate hangs up without saying why.
    """
    obstacle = (await try_connection(endpoint, peer, credentials)).obstacle
    return f"{obstacle.summary}. {obstacle.remedy}" if obstacle else "the TLS handshake works"


async def try_connection(endpoint: str, peer: str, credentials: Credentials | None, own: str = _THIS) -> Attempt:
    """Connect to a party as a run would, and disconnect.

    Args:
        endpoint: ``host:port``, or a socket of this process that leads through a relay.
        peer: the party that should answer there.
        credentials: of this process; None only with ``insecure-loopback``, where there is no TLS to try.
        own: what to call this end in texts.
    """
    attempt = Attempt()
    try:
        streams = await _opened(endpoint, peer, own, attempt)
        try:
            if credentials is not None:
                await _try_handshake(streams, peer, credentials, own, attempt)
                attempt.passed[Check.TLS] = f"{peer} and {own} accept each other's certificates"
        finally:
            await _disconnect(streams[1])
    except _Stopped as stopped:
        attempt.obstacle = stopped.obstacle
    return attempt


async def _opened(endpoint: str, peer: str, own: str, attempt: Attempt) -> Streams:
    if (socket_path := socket_of(endpoint)) is not None:
        try:
            return await asyncio.open_unix_connection(socket_path)
        except OSError as error:
            raise _Stopped(_no_connection(shown(endpoint), peer, error)) from None
    addresses = await _resolved(endpoint, peer, own)
    attempt.passed[Check.NAME] = f"{parse_endpoint(endpoint).host} resolves"  # the addresses concern nobody else
    streams = await _connected(endpoint, peer, addresses)
    attempt.passed[Check.CONNECTION] = f"a connection to {endpoint} opens"
    return streams


async def _resolved(endpoint: str, peer: str, own: str) -> list[tuple[int, Any]]:
    """One address per address family."""
    host, port = parse_endpoint(endpoint)
    try:
        async with asyncio.timeout(STEP_SECONDS):
            found = await _look_up(host, port)
    except (OSError, UnicodeError) as error:
        reason = "no answer" if isinstance(error, TimeoutError) else getattr(error, "strerror", None) or "no such name"
        raise _Stopped(
            ConnectionFailure(
                Check.NAME,
                f"the name {host} does not resolve: {reason}",
                f"correct the endpoint of {peer} in every member's federation.toml, or the DNS settings of {own}",
                at_peer=False,
            )
        ) from None
    return list({family: address for family, *_, address in reversed(found)}.items())


async def _look_up(host: str, port: int) -> list[Any]:
    """``getaddrinfo`` in a thread that can be abandoned, since it cannot be stopped and may take a minute."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[list[Any]] = loop.create_future()

    def settle(result: list[Any] | None, error: Exception | None) -> None:
        if not future.done():
            future.set_exception(error) if error else future.set_result(result or [])

    def work() -> None:
        result, failure = None, None
        try:
            result = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop has ended in the meantime
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=work, name="look-up", daemon=True).start()
    return await future


async def _connected(endpoint: str, peer: str, addresses: list[tuple[int, Any]]) -> Streams:
    last: OSError = ConnectionError("no address")
    for family, address in addresses:
        plain = socket.socket(family, socket.SOCK_STREAM)
        plain.setblocking(False)
        try:
            async with asyncio.timeout(STEP_SECONDS):
                await asyncio.get_running_loop().sock_connect(plain, address)
            return await asyncio.open_connection(sock=plain)
        except OSError as error:
            last = error
            plain.close()
        except BaseException:
            plain.close()
            raise
    raise _Stopped(_no_connection(endpoint, peer, last))


def _no_connection(endpoint: str, peer: str, error: OSError) -> ConnectionFailure:
    if isinstance(error, ConnectionRefusedError):
        reason, remedy = "nothing listens there", f"start {peer} there ('vfl party')"
    else:
        reason = "no answer" if isinstance(error, TimeoutError) else error.strerror or type(error).__name__
        remedy = "open the port in all firewalls along the way, including the caller's"
    return ConnectionFailure(
        Check.CONNECTION,
        f"no connection to {endpoint}: {reason}",
        f"{remedy}; or correct the endpoint of {peer} in every member's federation.toml",
    )


async def _try_handshake(streams: Streams, peer: str, credentials: Credentials, own: str, attempt: Attempt) -> None:
    reader, writer = streams
    context = _context(credentials)
    server_name = credentials.federation.server_name(peer)
    with _handshake_errors(server_name, peer, own):
        async with asyncio.timeout(STEP_SECONDS):
            await writer.start_tls(context, server_hostname=server_name)
    shown, *others = _presented(writer.get_extra_info("ssl_object"))
    attempt.certificate = _readable(shown, peer)
    attempt.intermediates = tuple(_readable(each, peer) for each in others)
    if not await _is_greeted(reader, peer):
        raise _Stopped(
            ConnectionFailure(
                Check.TLS,
                f"{peer} hangs up on {own}'s certificate: it is not from a CA in tls.ca there, or it has expired or "
                "is not yet valid by the clock there",
                f"see the standard error output of {peer} for gRPC's reason ('Handshake failed'); compare "
                "'vfl keys show' of both certificates and of tls.ca at both ends",
            )
        )


def _presented(connection: ssl.SSLObject) -> list[bytes]:
    """The certificates that the other end presented, its own first, in DER."""
    inner: Any = getattr(connection, "_sslobj", None)  # before Python 3.13 only this has the chain
    if inner is not None and hasattr(inner, "get_unverified_chain"):
        return [ssl.PEM_cert_to_DER_cert(each.public_bytes()) for each in inner.get_unverified_chain()]
    own = connection.getpeercert(binary_form=True)
    return [own] if own else []


def _readable(shown: bytes, peer: str) -> x509.Certificate:
    try:
        return certificate_from_der(shown)
    except ValueError as error:
        remedy = f"have a certificate issued to {peer} as requested by 'vfl keys request'"
        raise _Stopped(
            ConnectionFailure(Check.TLS, f"the certificate presented there is malformed: {error}", remedy)
        ) from None


async def _is_greeted(reader: asyncio.StreamReader, peer: str) -> bool:
    """Whether the server proceeds after the handshake: in TLS 1.3 it checks the caller's certificate only then."""
    try:
        async with asyncio.timeout(STEP_SECONDS):
            return bool(await reader.read(1))
    except TimeoutError:
        raise _Stopped(
            ConnectionFailure(
                Check.TLS,
                f"{peer} sends nothing after the TLS handshake",
                f"check that 'vfl party' answers there, and that the machine of {peer} is not overloaded",
            )
        ) from None
    except OSError:
        return False


@contextlib.contextmanager
def _handshake_errors(server_name: str, peer: str, own: str) -> Iterator[None]:
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        remedy = f"it must come from a CA in tls.ca at {own}, be valid now, and contain the DNS name {server_name}"
        if error.verify_code in _CLOCK_CODES:
            remedy = f"have a certificate that is valid now issued to {peer} ('vfl keys sign'), or correct the clocks"
        summary = f"{own} refuses the certificate presented there: {error.verify_message}"
    except TimeoutError:
        summary = "whatever answers there does not speak TLS, or is overloaded"
        remedy = f"start {peer} there, or correct its endpoint in every member's federation.toml"
    except OSError as error:  # SSLError is one
        reason = getattr(error, "reason", None) or error.strerror or "the connection was closed"
        summary = f"the TLS handshake fails: {reason}"
        remedy = f"both ends need TLS 1.3; check that {peer} itself answers there, not a proxy that terminates TLS"
    else:
        return
    raise _Stopped(ConnectionFailure(Check.TLS, summary, remedy))


def _context(credentials: Credentials) -> ssl.SSLContext:
    files = credentials.files
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # as gRPC does: an intermediate CA may be the one trusted
    context.set_alpn_protocols(["h2"])
    try:
        context.load_verify_locations(files.ca)
        context.load_cert_chain(files.certificate, files.key, credentials.passphrase)
    except OSError:  # between the two renames of a renewal they do not match
        remedy = "install a certificate and a key that belong together, and try again"
        summary = "the caller's own certificate files cannot be loaded"
        raise _Stopped(ConnectionFailure(Check.TLS, summary, remedy, at_peer=False, code=ConfigError.code)) from None
    return context


async def _disconnect(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()  # an orderly shutdown would wait for the other end
    await asyncio.sleep(0)  # lets the socket close; wait_closed() never returns after an interrupted handshake
