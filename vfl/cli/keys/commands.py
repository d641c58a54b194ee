"""``vfl keys``: keys and certificates of a federation, from the CA to the revocation list."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vfl.cli.failures import reported

app = typer.Typer(help="Make, sign, show and revoke certificates.", no_args_is_help=True)

FederationArgument = Annotated[Path, typer.Argument(help="federation.toml")]
FolderOption = Annotated[Path, typer.Option("--ca", help="The CA's folder, as 'vfl keys ca' made it.")]
EncryptOption = Annotated[bool, typer.Option("--encrypt", help="Encrypt the key; the passphrase is asked for.")]
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
    """Create a federation's CA. Keep ca.key away from parties' processes; give everybody ca.crt and revoked.crl."""
    from vfl.cli.keys.output import new_passphrase, show_authority
    from vfl.configuration.federation import load_federation
    from vfl.pki.authority_folder import write_authority

    with reported():
        name = load_federation(federation).name
        authority = write_authority(out, name, new_passphrase(encrypt, passphrase_file, passphrase_env), days)
        show_authority(out, authority)


@app.command()
def request(
    federation: FederationArgument,
    name: Annotated[str, typer.Argument(help="This party's name in the federation, or the coordinator's.")],
    out: Annotated[Path, typer.Option(help="Folder that gets party.key and party.csr.")],
    host: Annotated[
        list[str] | None, typer.Option(help="Further DNS name or IP address of this party's host; repeatable.")
    ] = None,
    encrypt: EncryptOption = False,
    passphrase_file: FileOption = None,
    passphrase_env: VariableOption = None,
) -> None:
    """Make this party's own private key, and a request for its certificate. The key never leaves the party."""
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
    out: Annotated[Path | None, typer.Option(help="The certificate; by default beside the request.")] = None,
    expect: Annotated[
        str | None, typer.Option(help="Fingerprint of the key, as the party told it; refused if it is another.")
    ] = None,
    days: Annotated[int, typer.Option(help="How long the certificate is valid.", min=1)] = 365,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before signing.")] = False,
    passphrase_file: FileOption = None,
    passphrase_env: VariableOption = None,
) -> None:
    """Sign a party's request, as the CA, once name, role and federation are right and the fingerprint was compared."""
    from vfl.cli.keys.output import confirm_request, show_certificate, write_certificate
    from vfl.configuration.federation import load_federation
    from vfl.pki.authority import check_request
    from vfl.pki.authority_folder import load_authority, read_request
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
    """Show identity, role, fingerprints and validity; with --ca and --federation, say whether peers would accept it."""
    from vfl.cli.keys.output import check_certificate, show_certificate

    with reported():
        show_certificate(file)
        if federation or ca:
            check_certificate(file, federation, ca, revoked)


@app.command()
def revoke(
    certificates: Annotated[list[Path] | None, typer.Argument(help="Certificates; without any, only renew.")] = None,
    *,
    ca: FolderOption,
    passphrase_file: FileOption = None,
    passphrase_env: VariableOption = None,
) -> None:
    """Take certificates back: add them to the CA's revocation list, revoked.crl, for every party to fetch."""
    from vfl.cli.keys.output import show_list
    from vfl.pki.authority_folder import load_authority, read_certificate, revoke_in
    from vfl.pki.keyfiles import PassphraseSource

    with reported():
        authority = load_authority(ca, PassphraseSource(passphrase_file, passphrase_env))
        show_list(ca, revoke_in(ca, authority, [read_certificate(path) for path in certificates or []]))
