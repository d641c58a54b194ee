"""What a process presents and whom it trusts, from its PEM files; reloaded when they change, even during a run.

All files are checked when they are read, because gRPC reports a bad file only as a lost connection.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from vfl.configuration.federation import FederationConfig, TlsFiles
from vfl.errors import ConfigError
from vfl.pki.keyfiles import PassphraseSource, PrivateKey, parse_private_key, read_private
from vfl.pki.newest_lists import NewestLists
from vfl.pki.own_certificate import check_own_certificate, parse_chain, read_tls_file
from vfl.pki.profile import fingerprint
from vfl.pki.revocation import Mark, check_not_older, newest
from vfl.pki.statements import Signature, Statement, sign, verify
from vfl.pki.trust import Trust, current_time, parse_trust
from vfl.runtime.logs import get_logger

_log = get_logger(__name__)

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
    revoked: bytes | None
    chain: tuple[x509.Certificate, ...]
    chain_pem: bytes
    key: PrivateKey
    trust: Trust

    def is_as(self, other: _Loaded) -> bool:
        """Whether the files say the same."""
        same_files = (self.ca, self.revoked, self.chain_pem) == (other.ca, other.revoked, other.chain_pem)
        return same_files and self.key.public_key() == other.key.public_key()

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
        newest_lists: which revocation lists this member has used before; None to remember that only in this process.

    Attributes:
        generation: increases whenever changed files are loaded; replace connections of an older generation.
        passphrase: passphrase of the key file; None if the key is not encrypted.
        proven: by party, the certificate with which it last proved its identity to this process. It only tells which
            one to expect on the next connection, where it is checked again.

    Raises:
        ConfigError: a file is missing, malformed, readable by others or expired; or certificate, key, CA and name do
            not belong together, so that no peer would accept them.
    """

    def __init__(
        self, files: TlsFiles, federation: FederationConfig, name: str, newest_lists: NewestLists | None = None
    ) -> None:
        self.files = files
        self.federation = federation
        self.name = name
        self.generation = 0
        self.proven: dict[str, x509.Certificate] = {}
        self._source = PassphraseSource(files.passphrase_file, files.passphrase_env)
        self.passphrase: bytes | None = None
        self._lock = threading.Lock()  # gRPC requests a server's files in its own threads
        self._newest_lists = newest_lists
        self._marks: dict[str, Mark] = newest_lists.read() if newest_lists else {}
        self._refused_lists: bytes | None = None
        self._stamp = self._stamp_of_files()
        self._loaded = self._load()
        # A typed passphrase is also used for renewed keys. A prompt for another one would stop the event loop.
        self._source = replace(self._source, typed=self.passphrase, may_ask=False)

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
            before = self._loaded
            try:
                self._loaded = self._load(before)
            except ConfigError as error:
                # Certificate and key are two files, which do not match between the two renames of a renewal.
                _log.warning("changed certificate files are not used", reason=str(error))
                return
            if self._loaded.is_as(before):
                return
            self.generation += 1
            _log.info("certificate files reloaded", certificate=fingerprint(self._loaded.chain[0]))

    def _stamp_of_files(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(_stamp(path) for path in self._paths())

    def _paths(self) -> list[Path]:
        files = self.files
        return [path for path in (files.ca, files.certificate, files.key, files.revoked) if path is not None]

    def _load(self, before: _Loaded | None = None) -> _Loaded:
        files = self.files
        ca, chain_pem = read_tls_file(files.ca, "ca"), read_tls_file(files.certificate, "certificate")
        revoked, trust = self._load_trust(ca, before)
        chain = parse_chain(chain_pem, files.certificate)
        loaded = _Loaded(ca, revoked, chain, chain_pem, self._load_key(), trust)
        self._check(loaded)
        self._remember(trust)
        return loaded

    def _load_trust(self, ca: bytes, before: _Loaded | None) -> tuple[bytes | None, Trust]:
        """CAs and lists. Lists that are refused leave the previous ones in force, and do not hold up a renewal."""
        revoked: bytes | None = None
        try:
            revoked = read_tls_file(self.files.revoked, "revoked") if self.files.revoked else None
            return revoked, self._checked_trust(ca, revoked)
        except ConfigError as error:
            if before is None:
                raise
            trust = self._checked_trust(ca, before.revoked)
            if revoked is None or revoked != self._refused_lists:
                _log.warning(
                    "changed revocation lists are not used; the previous ones stay in force", reason=str(error)
                )
            self._refused_lists = revoked
            return before.revoked, trust

    def _checked_trust(self, ca: bytes, revoked: bytes | None) -> Trust:
        trust = parse_trust(ca, revoked, self.files.ca)
        remembered = str(self._newest_lists.path) if self._newest_lists else ""
        check_not_older(trust.lists, self._marks, trust.authorities, remembered)
        return trust

    def _remember(self, trust: Trust) -> None:
        """Remember which lists are in force, once they are."""
        marks = newest(self._marks, trust.lists)
        if marks != self._marks:
            self._marks = marks
            if self._newest_lists:
                self._newest_lists.remember(marks)

    def _load_key(self) -> PrivateKey:
        content = read_private(self.files.key, "the TLS file 'tls.key'")
        key, self.passphrase = parse_private_key(content, self.files.key, self._source)
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

    @property
    def intermediates(self) -> tuple[x509.Certificate, ...]:
        """What this process presents besides its own certificate."""
        return self._loaded.chain[1:]

    def ends_soon(self, certificate: x509.Certificate) -> bool:
        """Whether a certificate is close enough to its expiry that it should be renewed (``tls.warn_days``)."""
        left = certificate.not_valid_after_utc - current_time()
        life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
        return left < min(timedelta(days=self.files.warn_days), life / 3)


def load_credentials(
    files: TlsFiles | None,
    federation: FederationConfig,
    name: str,
    *,
    file: str,
    newest_lists: NewestLists | None = None,
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
    return Credentials(files, federation, name, newest_lists)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
