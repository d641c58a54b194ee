"""``vfl keys``: keys and certificates of a federation, from the CA to the revocation list."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vfl.cli.failures import reported

app = typer.Typer(help="Create, sign, show and revoke certificates.", no_args_is_help=True)

FederationArgument = Annotated[Path, typer.Argument(help="federation.toml")]
FolderOption = Annotated[Path, typer.Option("--ca", help="The CA's folder, created by 'vfl keys ca'.")]
EncryptOption = Annotated[bool, typer.Option("--encrypt", help="Encrypt the key; prompts for the passphrase.")]
FileOption = Annotated[Path | None, typer.Option(help="File with the key's passphrase.")]
VariableOption = Annotated[str | None, typer.Option(help="Environment variable with the key's passphrase.")]


@app.command()
def ca(
    federation: FederationArgument,
    out: Annotated[Path, typer.Option(help="New folder for the CA: ca.key, ca.crt, revoked.crl, issued/.")],
    days: Annotated[int, typer.Option(help="How long the CA's certificate is valid.", min=1)] = 3650,
    encrypt: EncryptOption = False,
    passphrase_file: FileOption = None,
    passphrase_env: VariableOption = None,
) -> None:
    """Create a federation's CA. Keep ca.key away from party processes; give ca.crt and revoked.crl to everybody."""
    from vfl.cli.keys.output import new_passphrase, show_authority
    from vfl.configuration.federation import load_federation
    from vfl.pki.issuing.authority_folder import write_authority

    with reported():
        name = load_federation(federation).name
        authority = write_authority(out, name, new_passphrase(encrypt, passphrase_file, passphrase_env), days)
        show_authority(out, authority)


@app.command()
def request(
    federation: FederationArgument,
    name: Annotated[str, typer.Argument(help="This party's name in the federation, or the coordinator's.")],
    out: Annotated[Path, typer.Option(help="Folder for party.key and party.csr.")],
    host: Annotated[
        list[str] | None, typer.Option(help="Further DNS name or IP address of this party's host; repeatable.")
    ] = None,
    encrypt: EncryptOption = False,
    passphrase_file: FileOption = None,
    passphrase_env: VariableOption = None,
) -> None:
    """Create this party's private key and a request for its certificate. The key never leaves the party."""
    from vfl.cli.keys.output import new_passphrase, show_request, write_request
    from vfl.configuration.federation import load_federation

    with reported():
        passphrase = new_passphrase(encrypt, passphrase_file, passphrase_env)
        show_request(write_request(load_federation(federation), name, host or [], out, passphrase), out)


@app.command()
def sign(
    federation: FederationArgument,
    file: Annotated[Path, typer.Argument(help="The party's request, party.csr.")],
    ca: FolderOption,
    out: Annotated[Path | None, typer.Option(help="The certificate; by default in the folder of the request.")] = None,
    expect: Annotated[
        str | None, typer.Option(help="Fingerprint of the key, as reported by the party; refuse any other key.")
    ] = None,
    days: Annotated[int, typer.Option(help="How long the certificate is valid.", min=1)] = 365,
    yes: Annotated[bool, typer.Option("--yes", help="Sign without confirmation.")] = False,
    passphrase_file: FileOption = None,
    passphrase_env: VariableOption = None,
) -> None:
    """Sign a party's request, as the CA, after checking name, role and federation and comparing the fingerprint."""
    from vfl.cli.keys.output import confirm_request, show_certificate, write_certificate
    from vfl.configuration.federation import load_federation
    from vfl.pki.issuing.authority import check_request
    from vfl.pki.issuing.authority_folder import load_authority, read_request
    from vfl.pki.keyfiles import PassphraseSource

    with reported():
        asked = read_request(file)
        owner, hosts = check_request(asked, load_federation(federation))
        confirm_request(asked, owner, hosts, expect, yes=yes)
        authority = load_authority(ca, PassphraseSource(passphrase_file, passphrase_env))
        target = out or file.with_suffix(".crt")
        write_certificate(authority.issue(owner, asked.public_key(), hosts, days), owner, target, ca)
        show_certificate(target)


@app.command()
def show(
    file: Annotated[Path, typer.Argument(help="A certificate or a request, in PEM.")],
    federation: Annotated[
        Path | None, typer.Option(help="federation.toml: check name and role against it; needs --ca.")
    ] = None,
    ca: Annotated[Path | None, typer.Option(help="CA certificates (tls.ca): check it as peers do.")] = None,
    revoked: Annotated[Path | None, typer.Option(help="Revocation lists (tls.revoked) for the check.")] = None,
) -> None:
    """Show identity, role, fingerprints and validity; with --ca and --federation, whether peers would accept it."""
    from vfl.cli.keys.output import check_certificate, show_certificate

    with reported():
        show_certificate(file)
        if federation or ca:
            check_certificate(file, federation, ca, revoked)


@app.command()
def revoke(
    certificates: Annotated[
        list[Path] | None, typer.Argument(help="Certificates; if none are given, only renew the list.")
    ] = None,
    *,
    ca: FolderOption,
    passphrase_file: FileOption = None,
    passphrase_env: VariableOption = None,
) -> None:
    """Revoke certificates: add them to the CA's revocation list, revoked.crl, which every party then needs."""
    from vfl.cli.keys.output import show_list
    from vfl.pki.issuing.authority_folder import load_authority, read_certificate, revoke_in
    from vfl.pki.keyfiles import PassphraseSource

    with reported():
        authority = load_authority(ca, PassphraseSource(passphrase_file, passphrase_env))
        show_list(ca, revoke_in(ca, authority, [read_certificate(path) for path in certificates or []]))
