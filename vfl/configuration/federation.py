"""federation.toml: the members and their endpoints. Every party has the same file."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, Field, model_validator

from vfl.configuration.toml_files import Configuration, LocalPath, in_form, load_toml
from vfl.ids import Role

MAX_PASSIVE_PARTIES = 8
NAME_PATTERN = "[a-z0-9-]{1,63}"
_LABEL = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_CHARACTERS = "of lowercase letters, digits and hyphens"

JobName = Annotated[str, in_form(NAME_PATTERN, f"{_CHARACTERS}, at most 63 characters")]
"""Name of a job, which is a part of the names of its runs."""

Name = Annotated[str, in_form(_LABEL, f"{_CHARACTERS} (no hyphen at either end), at most 63 characters")]
"""Name of a federation, a party or the coordinator: a DNS label, since server names are built from it."""

SERVER_DOMAIN = "vfl.internal"
_DNS_NAME = in_form(rf"{_LABEL}(\.{_LABEL})+", "a DNS name in lower case, such as bank.example.org")


class Endpoint(NamedTuple):
    """Host (without brackets) and port of a server."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only processes on the same machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse_endpoint(text: str, *, lowest_port: int = 1) -> Endpoint:
    """Split ``host:port`` or ``[ipv6]:port``.

    Raises:
        ValueError: it is neither.
    """
    host, separator, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    valid_port = port.isascii() and port.isdigit() and lowest_port <= int(port) <= 65535
    if not separator or not host or not valid_port or (":" in host) != bracketed or any(c in host for c in "/ []"):
        raise ValueError("must be 'host:port' or '[ipv6]:port' with a port up to 65535")
    return Endpoint(host, int(port))


def _checked_endpoint(text: str) -> str:
    parse_endpoint(text)
    return text


def _checked_listen(text: str | None) -> str | None:
    if text is not None:
        parse_endpoint(text, lowest_port=0)
    return text


class TlsFiles(Configuration):
    """PEM files of one process (in party.toml or coordinator.toml).

    Attributes:
        ca: the CA that issues all certificates, or several CAs in one file.
        certificate: this process's certificate, followed by intermediate certificates, if any.
        key: its private key, readable only by its owner.
        revoked: certificate revocation lists (CRLs) of the CAs.
        passphrase_file: file that contains the passphrase of an encrypted key, readable only by its owner.
        passphrase_env: environment variable that contains that passphrase.
        warn_days: log a warning when a certificate has fewer days left, or a third of its lifetime if that is less.
    """

    ca: LocalPath
    certificate: LocalPath
    key: LocalPath
    revoked: LocalPath | None = None
    passphrase_file: LocalPath | None = None
    passphrase_env: str | None = None
    warn_days: Annotated[int, Field(ge=0)] = 30

    @model_validator(mode="after")
    def _one_passphrase(self) -> TlsFiles:
        if self.passphrase_file and self.passphrase_env:
            raise ValueError("tls.passphrase_file and tls.passphrase_env are mutually exclusive: keep one of them")
        return self


class TlsPolicy(Configuration):
    """``mutual``: both sides present certificates. ``insecure-loopback``: no encryption, on one machine only."""

    mode: Literal["mutual", "insecure-loopback"] = "mutual"


class PartyEntry(Configuration):
    """One party: its name, its role, and how to reach it.

    Attributes:
        endpoint: the address that others dial; None for a party that opens no port.
        listen: the address that it listens on, if different.
        via: the party through which a party that opens no port is reached.
        server_name: the DNS name in its certificate, if different from the one derived from its identity.
    """

    name: Name
    role: Literal[Role.ACTIVE, Role.PASSIVE]
    endpoint: Annotated[str, AfterValidator(_checked_endpoint)] | None = None
    listen: Annotated[str | None, AfterValidator(_checked_listen)] = None
    via: Name | None = None
    server_name: Annotated[str, Field(max_length=253), _DNS_NAME] | None = None

    @model_validator(mode="after")
    def _reachable(self) -> PartyEntry:
        if (self.endpoint is None) == (self.via is None):
            raise ValueError(
                f"party '{self.name}' needs either an endpoint that others dial or, if it opens no port, "
                "the name of another party in 'via'"
            )
        if self.via is not None and self.listen is not None:
            raise ValueError(f"party '{self.name}' has 'via' and so opens no port: remove 'listen'")
        return self

    @property
    def listen_endpoint(self) -> str:
        """Where the party's server listens; empty for a party that opens no port."""
        return self.listen or self.endpoint or ""


class FederationConfig(Configuration):
    """A federation: one coordinator, one active party, up to eight passive parties."""

    name: Name
    coordinator: Name
    parties: tuple[PartyEntry, ...]
    tls: TlsPolicy = TlsPolicy()

    @model_validator(mode="after")
    def _consistent(self) -> FederationConfig:
        self._check_roles()
        for what, values in (
            ("party and coordinator names", [self.coordinator, *self.names]),
            ("party endpoints", [p.endpoint for p in self.parties if p.endpoint]),
            ("server names", [self.server_name(p.name) for p in self.parties]),
        ):
            if len(set(values)) != len(values):
                raise ValueError(f"{what} must differ from each other")
        self._check_via()
        if not self.is_mutual_tls:
            self._check_loopback()
        return self

    def _check_via(self) -> None:
        with_port = sorted(party.name for party in self.parties if party.endpoint)
        for party in self.parties:
            if party.via is not None and party.via not in with_port:
                names = ", ".join(with_port)
                raise ValueError(f"via of party '{party.name}' must name a party that has an endpoint: {names}")
            if party.via is not None and not self.is_mutual_tls:
                raise ValueError(f"via of party '{party.name}' needs tls.mode 'mutual'")

    def _check_roles(self) -> None:
        active = sum(p.role == Role.ACTIVE for p in self.parties)
        passive = len(self.parties) - active
        if active != 1:
            raise ValueError(f"parties must have exactly one with role 'active', not {active}")
        if not 1 <= passive <= MAX_PASSIVE_PARTIES:
            raise ValueError(f"parties must have 1 to {MAX_PASSIVE_PARTIES} with role 'passive', not {passive}")

    def _check_loopback(self) -> None:
        for party in self.parties:
            endpoints = {"endpoint": party.endpoint or party.listen_endpoint, "listen": party.listen_endpoint}
            for key, endpoint in endpoints.items():
                if not parse_endpoint(endpoint, lowest_port=0).is_loopback:
                    raise ValueError(
                        f"tls.mode 'insecure-loopback' needs loopback addresses, but {key} of party '{party.name}' "
                        "is not one: use tls.mode 'mutual', or 127.0.0.1, [::1] or localhost"
                    )

    @property
    def is_mutual_tls(self) -> bool:
        """Whether peers authenticate each other; may be false only on one machine."""
        return self.tls.mode == "mutual"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parties without the coordinator, in file order."""
        return tuple(party.name for party in self.parties)

    @property
    def active(self) -> PartyEntry:
        """The party that holds the labels."""
        return next(p for p in self.parties if p.role == Role.ACTIVE)

    @property
    def passives(self) -> tuple[PartyEntry, ...]:
        """The parties that hold only features, in file order."""
        return tuple(p for p in self.parties if p.role == Role.PASSIVE)

    def party(self, name: str) -> PartyEntry:
        """The entry of a party.

        Raises:
            KeyError: no party has this name.
        """
        try:
            return next(p for p in self.parties if p.name == name)
        except StopIteration:
            raise KeyError(name) from None

    def identity(self, name: str) -> str:
        """The certificate identity (URI SAN) of a party or of the coordinator."""
        return party_identity(self.name, name)

    @property
    def members(self) -> dict[str, Role]:
        """Role of every party and the coordinator by name: the possible owners of a certificate."""
        return {**{party.name: Role(party.role) for party in self.parties}, self.coordinator: Role.COORDINATOR}

    def server_name(self, name: str) -> str:
        """The DNS name (DNS SAN) by which callers verify that a server is this party, whatever its address."""
        stated = next((party.server_name for party in self.parties if party.name == name), None)
        return stated or party_server_name(self.name, name)


def party_identity(federation: str, name: str) -> str:
    """The URI that a certificate must have as a subject alternative name."""
    return f"spiffe://{federation}/party/{name}"


def identity_parts(identity: str) -> tuple[str, str] | None:
    """Federation and name in a URI that ``party_identity`` made; None for any other."""
    federation, separator, name = identity.removeprefix("spiffe://").partition("/party/")
    return (federation, name) if separator and party_identity(federation, name) == identity else None


def party_server_name(federation: str, name: str) -> str:
    """The DNS name derived from an identity. It never needs to resolve: it is the SNI, and TLS checks it."""
    return f"{name}.{federation}.{SERVER_DOMAIN}"


def load_federation(path: Path) -> FederationConfig:
    """Read federation.toml.

    Raises:
        ConfigError: naming the file, the key and what to do.
    """
    return load_toml(path, FederationConfig)
