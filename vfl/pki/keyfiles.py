"""Private keys on disk: readable only by their owner, optionally encrypted with a passphrase."""

from __future__ import annotations

import getpass
import os
import stat
import sys
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat

from vfl.errors import ConfigError

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

_CURVES = (ec.SECP256R1, ec.SECP384R1)
_MIN_RSA_BITS = 2048
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class PassphraseSource:
    """Where a passphrase comes from: a file, an environment variable, or the terminal; never the command line.

    Attributes:
        typed: a passphrase that was entered earlier.
        may_ask: whether to prompt at the terminal. A process that serves others must not: it would stop until somebody
            types.
    """

    file: Path | None = None
    variable: str | None = None
    typed: bytes | None = field(default=None, repr=False)
    may_ask: bool = True

    def stated(self) -> bytes | None:
        """The passphrase from the file or the variable, otherwise the one entered earlier, if any.

        Raises:
            ConfigError: the passphrase is configured but missing or empty, or the file is readable by others.
        """
        if self.file is not None:
            return _not_empty(read_private(self.file, "the passphrase file").strip(b"\r\n"))
        if self.variable is not None:
            return _not_empty(os.environ.get(self.variable, "").encode())
        return self.typed

    def ask(self, prompt: str) -> bytes:
        """As ``stated``; if there is none, prompt at the terminal.

        Raises:
            ConfigError: there is no terminal, or nobody may be asked, or as ``stated``.
        """
        if (stated := self.stated()) is not None:
            return stated
        if not self.may_ask or not sys.stdin or not sys.stdin.isatty():
            raise ConfigError(
                "a private key is encrypted and its passphrase is unknown",
                remedy="supply it in a file or an environment variable (tls.passphrase_file, tls.passphrase_env)",
            )
        return _not_empty(getpass.getpass(prompt).encode())


def _not_empty(passphrase: bytes) -> bytes:
    if not passphrase:
        raise ConfigError(
            "the passphrase of a private key is empty",
            remedy="put the passphrase in the configured file or environment variable",
        )
    return passphrase


def new_private_key() -> ec.EllipticCurvePrivateKey:
    """An ECDSA key on P-256, which every implementation of TLS 1.3 supports (RFC 8446, section 9.1)."""
    return ec.generate_private_key(ec.SECP256R1())


def write_private_key(path: Path, key: PrivateKey, passphrase: bytes | None = None) -> None:
    """Write a key as PKCS#8 with mode 0600, encrypted if a passphrase is given.

    Raises:
        ConfigError: the file exists or cannot be written. Keys are never overwritten.
    """
    encryption = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    content = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise ConfigError(
            "a private key cannot be written",
            detail=str(error),
            remedy="choose another path; existing keys are never overwritten",
        ) from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def read_private(path: Path, what: str) -> bytes:
    """The content of a file that only its owner may read.

    Raises:
        ConfigError: the file cannot be read, or its group or others may read or change it.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read()
    except OSError as error:
        raise ConfigError(
            f"{what} cannot be read", detail=str(error), remedy="correct its path, or the file's permissions"
        ) from None
    if mode & _OTHERS:
        raise ConfigError(
            f"{what} can be read or changed by users other than its owner",
            detail=f"{path} has mode {mode:04o}",
            remedy="restrict its permissions (chmod 600), and consider whether others may already know its content",
        )
    return content


def parse_private_key(content: bytes, path: Path, passphrase: PassphraseSource) -> tuple[PrivateKey, bytes | None]:
    """The key in a PEM file and the passphrase that decrypted it; None if the key is not encrypted.

    Raises:
        ConfigError: it is not a PEM key, its passphrase is wrong or unknown, or its key type is not supported.
    """
    try:
        secret = passphrase.ask(f"Passphrase of {path}: ") if b"ENCRYPTED" in content else None
        key = serialization.load_pem_private_key(content, secret)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(
            "the private key is not a PEM private key, or its passphrase is wrong",
            detail=f"{path}: {error}",
            remedy="correct tls.key, or the passphrase",
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) or not is_usable(key.public_key()):
        raise ConfigError(
            "the private key type is not supported",
            detail=f"{path}: {type(key).__name__}",
            remedy="use an ECDSA key on P-256 or P-384, or an RSA key of at least 2048 bits",
        )
    return key, secret


def is_usable(key: object) -> bool:
    """Whether every peer's TLS accepts this public key: ECDSA on P-256 or P-384, or RSA of at least 2048 bits."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return isinstance(key.curve, _CURVES)
    return isinstance(key, rsa.RSAPublicKey) and key.key_size >= _MIN_RSA_BITS
