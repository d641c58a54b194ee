"""What a process presents and whom it trusts, from its PEM files; reloaded when they change, even during a run.

All files are checked when they are read, because gRPC reports a bad file only as a lost connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from vfl.configuration.federation import FederationConfig, TlsFiles
from vfl.errors import ConfigError
from vfl.pki.keyfiles import PassphraseSource, PrivateKey, parse_private_key, read_private
from vfl.pki.own_certificate import check_own_certificate
from vfl.pki.parsing import certificates_from_pem
from vfl.pki.profile import fingerprint
from vfl.pki.statements import Signature, Statement, sign, verify
from vfl.pki.trust import Trust, current_time, parse_trust
from vfl.runtime.background import start
from vfl.runtime.logs import get_logger

_log = get_logger(__name__)

EXPIRY_CHECK_SECONDS = 24 * 3600.0

Chain = tuple[x509.Certificate, ...]
"""A certificate, followed by intermediate ones."""


class CredentialPem(NamedTuple):
    """CA bundle, certificate chain and private key in PEM; the key is not encrypted and stays in memory.

    ``certificate`` is the first of the chain.
    """

    ca: bytes
    chain: bytes
    key: bytes
    certificate: x509.Certificate


@dataclass(frozen=True)
class _Loaded:
    """The content of all files at one point in time."""

    ca: bytes
    chain: tuple[x509.Certificate, ...]
    chain_pem: bytes
    key: PrivateKey
    trust: Trust

    @property
    def key_pem(self) -> bytes:
        """The unencrypted key for gRPC, which accepts no passphrase; kept in memory only."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


class Credentials:
    """One process's certificate, key, and trust.

    Args:
        files: the PEM files of the process.
        federation: the members.
        name: name of this party, or of the coordinator.

    Attributes:
        generation: increases whenever changed files are loaded; replace connections of an older generation.
        passphrase: passphrase of the key file; None if the key is not encrypted.
        proven: by party, the certificate with which it last proved its identity to this process. It only tells which
            one to expect on the next connection, where it is checked again.

    Raises:
        ConfigError: a file is missing, malformed, readable by others or expired; or certificate, key, CA and name do
            not belong together, so that no peer would accept them.
    """

    def __init__(self, files: TlsFiles, federation: FederationConfig, name: str) -> None:
        self.files = files
        self.federation = federation
        self.name = name
        self.generation = 0
        self.proven: dict[str, x509.Certificate] = {}
        self._source = PassphraseSource(files.passphrase_file, files.passphrase_env)
        self.passphrase: bytes | None = None
        self._lock = threading.Lock()  # gRPC requests a server's files in its own threads
        self._stamp = self._stamp_of_files()
        self._loaded = self._load()

    # --- use ---

    @property
    def trust(self) -> Trust:
        """The current CAs and revocation lists."""
        self.refresh()
        return self._loaded.trust

    @property
    def pem(self) -> CredentialPem:
        """What TLS needs, as last loaded."""
        now = self._loaded
        return CredentialPem(now.ca, now.chain_pem, now.key_pem, now.chain[0])

    def sign(self, statement: Statement) -> Signature:
        """Sign a statement made by this process."""
        self.refresh()
        return sign(statement, self._loaded.key, self._loaded.chain)

    def verify(self, statement: Statement, signature: Signature, *, of_server: bool = False) -> Chain:
        """Check that the statement comes from its sender; returns the sender's certificate and intermediate ones.

        Raises:
            CertificateRefused: see ``vfl.pki.statements.verify``.
        """
        return verify(statement, signature, self.federation, self.trust, of_server=of_server)

    # --- changed files ---

    def refresh(self) -> None:
        """Reload the files if any has changed. Invalid files cause a warning, and the previous ones stay in use."""
        with self._lock:
            stamp = self._stamp_of_files()
            if stamp == self._stamp:
                return
            self._stamp = stamp
            try:
                self._loaded = self._load()
            except ConfigError as error:
                # Certificate and key are two files, which do not match between the two renames of a renewal.
                _log.warning("changed certificate files are not used", reason=str(error))
                return
            self.generation += 1
            _log.info("certificate files reloaded", certificate=fingerprint(self._loaded.chain[0]))

    def _stamp_of_files(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(_stamp(path) for path in self._paths())

    def _paths(self) -> list[Path]:
        files = self.files
        return [path for path in (files.ca, files.certificate, files.key, files.revoked) if path is not None]

    def _load(self) -> _Loaded:
        files = self.files
        ca, chain_pem = _read(files.ca, "ca"), _read(files.certificate, "certificate")
        revoked = _read(files.revoked, "revoked") if files.revoked else None
        trust = parse_trust(ca, revoked, files.ca)
        chain = _parse_chain(chain_pem, files.certificate)
        loaded = _Loaded(ca, chain, chain_pem, self._load_key(), trust)
        self._check(loaded)
        return loaded

    def _load_key(self) -> PrivateKey:
        content = read_private(self.files.key, "the TLS file 'tls.key'")
        key, self.passphrase = parse_private_key(content, self.files.key, self._source)
        # A typed passphrase is also used for renewed keys, when nobody is there to type it again.
        self._source = replace(self._source, typed=self.passphrase)
        return key

    def _check(self, loaded: _Loaded) -> None:
        certificate = loaded.chain[0]
        if loaded.key.public_key() != certificate.public_key():
            raise ConfigError(
                "the private key does not belong to the certificate",
                detail=f"{self.files.key} and {self.files.certificate}",
                remedy="correct tls.key or tls.certificate",
            )
        check_own_certificate(loaded.chain, self.federation, loaded.trust, self.name)

    # --- expiry ---

    @property
    def certificate(self) -> x509.Certificate:
        """This process's own certificate."""
        return self._loaded.chain[0]

    def ends_soon(self, certificate: x509.Certificate) -> bool:
        """Whether a certificate is close enough to its expiry that it should be renewed (``tls.warn_days``)."""
        left = certificate.not_valid_after_utc - current_time()
        life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
        return left < min(timedelta(days=self.files.warn_days), life / 3)

    def warn_of_expiry(self) -> None:
        """Log a warning for each certificate that expires soon and for each stale revocation list."""
        loaded, now = self._loaded, current_time()
        for what, certificate in (("own", loaded.chain[0]), *(("CA", ca) for ca in loaded.trust.authorities)):
            if self.ends_soon(certificate):
                _log.warning(
                    "a certificate expires soon; renew it",
                    whose=what,
                    subject=certificate.subject.rfc4514_string(),
                    days_left=(certificate.not_valid_after_utc - now).days,
                    until=str(certificate.not_valid_after_utc),
                )
        for revoked in loaded.trust.stale_lists():
            _log.warning(
                "a revocation list is stale; get a new one from the CA",
                issuer=revoked.issuer.rfc4514_string(),
                due=str(revoked.next_update_utc),
            )

    async def watch_expiry(self, every: float = EXPIRY_CHECK_SECONDS) -> None:
        """Warn about expiry now and once a day, until canceled."""
        while True:
            self.refresh()
            self.warn_of_expiry()
            await asyncio.sleep(every)


@contextlib.asynccontextmanager
async def watched(credentials: Credentials | None) -> AsyncIterator[None]:
    """Warn about expiry at the start and once a day while the context is active."""
    task = start(credentials.watch_expiry()) if credentials else None
    try:
        yield
    finally:
        if task is not None:
            task.cancel()


def load_credentials(
    files: TlsFiles | None, federation: FederationConfig, name: str, *, file: str
) -> Credentials | None:
    """Credentials of a party or of the coordinator; None if the federation uses ``insecure-loopback``.

    Raises:
        ConfigError: certificate files are missing or wrong, or configured although the federation uses none.
    """
    if not federation.is_mutual_tls:
        if files is not None:
            raise ConfigError(
                "certificate files are configured, but federation.toml turns TLS off, so they would not be used",
                detail=f"{file}: [tls]; federation.toml: tls.mode = 'insecure-loopback'",
                remedy=f"set tls.mode = 'mutual' in everybody's federation.toml, or remove [tls] from {file}",
            )
        _log.warning("insecure-loopback: no encryption, no certificates, and peers' keys are not signed")
        return None
    if files is None:
        raise ConfigError(
            "the federation uses mutual TLS but no certificate files are configured",
            detail=f"{file}: [tls]",
            remedy=f"set tls.ca, tls.certificate and tls.key in {file}",
        )
    return Credentials(files, federation, name)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _read(path: Path, key: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"the TLS file 'tls.{key}' cannot be read",
            detail=str(error),
            remedy=f"correct tls.{key}, or the file's permissions",
        ) from None


def _parse_chain(content: bytes, path: Path) -> tuple[x509.Certificate, ...]:
    try:
        return tuple(certificates_from_pem(content))
    except ValueError as error:
        raise ConfigError(
            "the TLS file 'tls.certificate' is not a PEM certificate",
            detail=f"{path}: {error}",
            remedy="correct tls.certificate",
        ) from None
