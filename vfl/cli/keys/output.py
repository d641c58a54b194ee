"""Prompts, files and output of ``vfl keys``."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Iterable
from pathlib import Path

import typer
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from vfl.configuration.federation import FederationConfig, load_federation, parse_endpoint
from vfl.errors import ConfigError
from vfl.pki.issuing.authority import Authority, make_request
from vfl.pki.issuing.authority_folder import (
    CA_FILE,
    ISSUED_FOLDER,
    KEY_FILE,
    LIST_FILE,
    read_certificate,
    read_chain,
    read_request,
)
from vfl.pki.keyfiles import PassphraseSource, new_private_key, write_private_key
from vfl.pki.own_certificate import check_own_certificate
from vfl.pki.profile import Owner, claims_of, fingerprint, key_fingerprint
from vfl.pki.trust import current_time, member_of, parse_trust
from vfl.runtime.foreign_text import printable

_MIN_PASSPHRASE = 12
_KEY_NAME, _REQUEST_NAME = "party.key", "party.csr"


def new_passphrase(ask: bool, file: Path | None, variable: str | None) -> bytes | None:
    """The passphrase for a new key; None for a key that is not encrypted.

    Raises:
        ConfigError: it is empty or too short, the two entries differ, or there is no terminal to prompt at.
    """
    stated = PassphraseSource(file, variable).stated()
    if stated is None and not ask:
        return None
    passphrase = stated or _asked_twice()
    if len(passphrase) < _MIN_PASSPHRASE:
        raise ConfigError(
            "the passphrase is too short", remedy=f"use at least {_MIN_PASSPHRASE} characters, preferably random"
        )
    return passphrase


def _asked_twice() -> bytes:
    if not sys.stdin.isatty():
        raise ConfigError(
            "a passphrase is needed, but there is no terminal to prompt at",
            remedy="use --passphrase-file or --passphrase-env",
        )
    first = getpass.getpass("Passphrase: ")
    if getpass.getpass("Repeat passphrase: ") != first:
        raise ConfigError("the two passphrases differ", remedy="run the command again")
    return first.encode()


def write_request(
    federation: FederationConfig, name: str, hosts: list[str], out: Path, passphrase: bytes | None
) -> x509.CertificateSigningRequest:
    """Create a key and a request for a member's certificate; its host in federation.toml is one of the hosts.

    Raises:
        ConfigError: no member of the federation has this name, or there already is a key.
    """
    if name not in federation.members:
        raise ConfigError(
            f"the federation has no member named '{name}'", remedy=f"use one of: {', '.join(federation.members)}"
        )
    owner = Owner(federation.name, name, federation.members[name])
    if name in federation.names:
        entry = federation.party(name)
        dialled = [parse_endpoint(entry.endpoint).host] if entry.endpoint else []
        hosts = [*dialled, *([entry.server_name] if entry.server_name else []), *hosts]
    key = new_private_key()
    request = make_request(key, owner, hosts)
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private_key(out / _KEY_NAME, key, passphrase)
    (out / _REQUEST_NAME).write_bytes(request.public_bytes(Encoding.PEM))
    return request


def show_request(request: x509.CertificateSigningRequest, out: Path) -> None:
    """Show what was created and what to do with it."""
    typer.echo(f"private key   {out / _KEY_NAME} (mode 0600; never give it to anybody)")
    typer.echo(f"request       {out / _REQUEST_NAME} (send it to whoever runs the CA)")
    _show_claims(request)
    typer.echo("Give the fingerprint of the key to whoever signs the request, by telephone.")


def show_authority(folder: Path, authority: Authority) -> None:
    """Show the files of a new CA."""
    typer.echo(f"CA key        {folder / KEY_FILE} (mode 0600; never give it to anybody)")
    typer.echo(f"certificate   {folder / CA_FILE} (tls.ca of everybody)")
    typer.echo(f"revocations   {folder / LIST_FILE} (tls.revoked of everybody)")
    typer.echo(f"fingerprint   {fingerprint(authority.certificate)}")


def confirm_request(
    request: x509.CertificateSigningRequest, owner: Owner, hosts: list[str], expect: str | None, *, yes: bool
) -> None:
    """Show what will be signed, compare the fingerprint, and ask for confirmation.

    Raises:
        ConfigError: the fingerprint differs, or the answer is no.
    """
    typer.echo(f"signing for {owner.name}, {owner.role}, of federation {owner.federation}; hosts: {_listed(hosts)}")
    _show_claims(request)
    if expect is not None and _plain(expect) != _plain(key_fingerprint(request)):
        raise ConfigError(
            "the request is not for the key with the expected fingerprint",
            remedy="ask the party for its request again, and for the fingerprint by another channel, such as telephone",
        )
    if expect is None and not yes and not typer.confirm("Did the party give you this fingerprint of its key?"):
        raise ConfigError("not signed", remedy="compare the fingerprint with the party first")


def _plain(text: str) -> str:
    return "".join(character for character in text.lower() if character in "0123456789abcdef")


def write_certificate(pem: bytes, owner: Owner, target: Path, folder: Path) -> None:
    """Write a signed certificate, and a copy in the CA's folder, with which it can be revoked later."""
    target.write_bytes(pem)
    serial = x509.load_pem_x509_certificate(pem).serial_number
    (folder / ISSUED_FOLDER / f"{owner.name}-{serial:x}.crt").write_bytes(pem)


def show_certificate(path: Path) -> None:
    """Show a certificate or a request.

    Raises:
        ConfigError: the file is neither.
    """
    typer.echo(f"file          {path}")
    if b"CERTIFICATE REQUEST" in _content(path):
        _show_claims(read_request(path))
        return
    certificate = read_certificate(path)
    _show_claims(certificate)
    left = certificate.not_valid_after_utc - current_time()
    typer.echo(f"fingerprint   {fingerprint(certificate)}")
    typer.echo(f"issuer        {printable(certificate.issuer.rfc4514_string())}")
    typer.echo(f"serial        {certificate.serial_number:x}")
    typer.echo(f"valid         {certificate.not_valid_before_utc} to {certificate.not_valid_after_utc}")
    typer.echo(f"days left     {left.days}")


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError("a file cannot be read", detail=str(error), remedy="correct its path") from None


def _listed(texts: Iterable[str]) -> str:
    return ", ".join(printable(text) for text in texts) or "none"


def _show_claims(source: x509.Certificate | x509.CertificateSigningRequest) -> None:
    claims = claims_of(source)
    typer.echo(f"identity      {_listed(claims.identities)}")
    typer.echo(f"role          {_listed(claims.roles)}")
    typer.echo(f"hosts         {_listed((*claims.dns_names, *claims.addresses))}")
    typer.echo(f"key           {key_fingerprint(source)}")


def check_certificate(path: Path, federation: Path | None, ca: Path | None, revoked: Path | None) -> None:
    """Report whether peers would accept a certificate, from whatever source.

    Raises:
        ConfigError, CertificateRefused: they would not, and why.
    """
    if federation is None or ca is None:
        raise ConfigError("checking a certificate needs both --federation and --ca", remedy="pass both options")
    settings = load_federation(federation)
    trust = parse_trust(_content(ca), _content(revoked) if revoked else None, ca)
    chain = read_chain(path)
    name = member_of(chain[0], settings)
    check_own_certificate(chain, settings, trust, name)
    typer.echo(f"accepted as   {name}, {settings.members[name]}, of federation {settings.name}")


def show_list(folder: Path, revoked: x509.CertificateRevocationList) -> None:
    """Show the content of a revocation list."""
    typer.echo(
        f"written: {folder / LIST_FILE}, {len(revoked)} certificate(s) revoked; renew by {revoked.next_update_utc}"
    )
    for entry in revoked:
        typer.echo(f"  {entry.serial_number:x} since {entry.revocation_date_utc}")
    typer.echo("Give it to every party and the coordinator (tls.revoked); running processes reload it automatically.")
