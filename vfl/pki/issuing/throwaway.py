"""Throwaway certificates for demos and tests on one machine. The CA's key is never stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from vfl.configuration.federation import TlsFiles
from vfl.errors import ConfigError
from vfl.ids import Role
from vfl.pki.issuing.authority import Authority
from vfl.pki.issuing.authority_folder import CA_FILE, LIST_FILE
from vfl.pki.keyfiles import new_private_key, write_private_key
from vfl.pki.profile import Owner

VALID_DAYS = 30.0
_LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")


def make_federation_certificates(
    directory: Path, federation_name: str, roles: Mapping[str, Role], hosts: Iterable[str] = ()
) -> dict[str, TlsFiles]:
    """Create a CA and a certificate for each name, valid for 30 days on this machine and ``hosts``.

    Args:
        directory: receives ``ca.crt``, an empty ``revoked.crl`` and, for each name, a folder with ``party.crt`` and
            ``party.key`` (mode 0600).
        federation_name: as in federation.toml.
        roles: role of each party and of the coordinator, by name.
        hosts: additional DNS names or IP addresses that peers dial.

    Returns:
        The files for each name.

    Raises:
        ConfigError: the directory already holds certificates; they are never overwritten.
    """
    if (directory / CA_FILE).exists():
        raise ConfigError(
            "the directory already contains certificates",
            detail=str(directory),
            remedy="choose an empty directory, or remove them",
        )
    directory.mkdir(parents=True, exist_ok=True)
    authority = Authority.create(federation_name, days=int(VALID_DAYS) + 1)
    (directory / CA_FILE).write_bytes(authority.certificate.public_bytes(Encoding.PEM))
    (directory / LIST_FILE).write_bytes(authority.revoke([]))
    owners = [Owner(federation_name, name, role) for name, role in roles.items()]
    return {owner.name: write_party(directory, authority, owner, [*_LOCAL_HOSTS, *hosts]) for owner in owners}


def write_party(directory: Path, authority: Authority, owner: Owner, hosts: Iterable[str] = _LOCAL_HOSTS) -> TlsFiles:
    """Create a key and its certificate in a folder named after the owner; the other files are in ``directory``."""
    key = new_private_key()
    folder = directory / owner.name
    folder.mkdir(mode=0o700)
    files = TlsFiles(
        ca=directory / CA_FILE,
        certificate=folder / "party.crt",
        key=folder / "party.key",
        revoked=directory / LIST_FILE,
    )
    files.certificate.write_bytes(authority.issue(owner, key.public_key(), hosts, VALID_DAYS))
    write_private_key(files.key, key)
    return files
