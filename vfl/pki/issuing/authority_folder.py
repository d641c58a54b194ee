"""A certificate authority on disk, and the PEM files that it exchanges with parties."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from vfl.errors import ConfigError
from vfl.pki.issuing.authority import AUTHORITY_DAYS, Authority
from vfl.pki.keyfiles import PassphraseSource, parse_private_key, read_private, write_private_key
from vfl.pki.parsing import certificates_from_pem, list_from_pem, request_from_pem
from vfl.runtime.durable_files import flush

CA_FILE, KEY_FILE, LIST_FILE, ISSUED_FOLDER = "ca.crt", "ca.key", "revoked.crl", "issued"


def write_authority(
    directory: Path, federation: str, passphrase: bytes | None, days: int = AUTHORITY_DAYS
) -> Authority:
    """Create a CA and its folder: key (mode 0600), certificate, and an empty revocation list.

    Raises:
        ConfigError: the folder already holds a CA; it is never overwritten.
    """
    if (directory / CA_FILE).exists():
        raise ConfigError(
            "the directory already contains certificates",
            detail=str(directory),
            remedy="choose an empty directory, or remove them",
        )
    authority = Authority.create(federation, days)
    (directory / ISSUED_FOLDER).mkdir(parents=True, exist_ok=True)
    write_private_key(directory / KEY_FILE, authority.key, passphrase)
    (directory / CA_FILE).write_bytes(authority.certificate.public_bytes(Encoding.PEM))
    (directory / LIST_FILE).write_bytes(authority.revoke([]))
    return authority


def load_authority(directory: Path, passphrase: PassphraseSource) -> Authority:
    """Read what ``write_authority`` wrote.

    Raises:
        ConfigError: a file is missing, the key is readable by others, or key and certificate do not belong together.
    """
    key, _ = parse_private_key(read_private(directory / KEY_FILE, "the CA's key"), directory / KEY_FILE, passphrase)
    certificate = read_certificate(directory / CA_FILE)
    if certificate.public_key() != key.public_key():
        raise ConfigError(
            "the CA's key does not belong to its certificate", detail=str(directory), remedy="use the CA's own folder"
        )
    return Authority(key, certificate)


def revoke_in(
    directory: Path, authority: Authority, certificates: Sequence[x509.Certificate]
) -> x509.CertificateRevocationList:
    """Add certificates to the revocation list in a CA's folder; readers never see a partial list.

    Raises:
        ConfigError: the list cannot be read, or a certificate is from another CA.
    """
    path = directory / LIST_FILE
    try:
        earlier = list_from_pem(path.read_bytes())
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    pem = authority.revoke(certificates, earlier)
    written = path.with_suffix(".new")
    written.write_bytes(pem)
    flush(written)
    written.replace(path)
    flush(directory)  # a power cut must not leave an empty list, or the number to be used again
    return x509.load_pem_x509_crl(pem)


def read_certificate(path: Path) -> x509.Certificate:
    """The first certificate in a PEM file.

    Raises:
        ConfigError: there is none.
    """
    return read_chain(path)[0]


def read_chain(path: Path) -> list[x509.Certificate]:
    """All certificates in a PEM file: a party's own, then any intermediate ones.

    Raises:
        ConfigError: there is none.
    """
    try:
        return certificates_from_pem(path.read_bytes())
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def read_request(path: Path) -> x509.CertificateSigningRequest:
    """A certificate request in PEM.

    Raises:
        ConfigError: there is none.
    """
    try:
        return request_from_pem(path.read_bytes())
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> ConfigError:
    return ConfigError(
        "a certificate, request or list cannot be read", detail=f"{path}: {error}", remedy="use a PEM file"
    )
