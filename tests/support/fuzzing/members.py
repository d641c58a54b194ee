"""A federation to decode in the name of: two parties and a coordinator, without and with certificates."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import grpc

from support.wire.certificates import Issuer, Unchecked
from vfl.configuration.federation import FederationConfig
from vfl.errors import RemoteError
from vfl.pki.credentials import Credentials

ACTIVE, PASSIVE, COORDINATOR, JOB = "bank", "shop", "hub", "job-1"


def federation(mode: str = "insecure-loopback") -> FederationConfig:
    """Who takes part."""
    parties = [
        {"name": ACTIVE, "role": "active", "endpoint": "127.0.0.1:5001"},
        {"name": PASSIVE, "role": "passive", "endpoint": "127.0.0.1:5002"},
    ]
    return FederationConfig.model_validate(
        {"name": "demo", "coordinator": COORDINATOR, "parties": parties, "tls": {"mode": mode}}
    )


@cache
def folder() -> Path:
    """Where decoders of files find their input."""
    return Path(tempfile.mkdtemp(prefix="vfl-fuzz-"))


def remove_folder() -> None:
    """Leave nothing behind."""
    shutil.rmtree(folder(), ignore_errors=True)
    folder.cache_clear()


@cache
def issuer() -> Issuer:
    """The CA of the federation."""
    return Issuer.make(folder() / "ca")


@cache
def credentials(name: str) -> Credentials:
    """Certificate and trust of a member."""
    return Unchecked(issuer().files(name), federation("mutual"), name)


@dataclass
class Context:
    """What a handler sees of a call.

    Attributes:
        metadata: that came with the call.
        properties: what TLS says about the connection.
    """

    metadata: tuple[tuple[str, bytes | str], ...] = ()
    properties: dict[str, list[bytes]] | None = None

    def invocation_metadata(self) -> tuple[tuple[str, bytes | str], ...]:
        return self.metadata

    def auth_context(self) -> dict[str, list[bytes]]:
        return self.properties or {}

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    async def abort(self, code: grpc.StatusCode, details: str, metadata: Any) -> NoReturn:
        """The call ends with a status; one that tells of a defect is one."""
        if code is grpc.StatusCode.INTERNAL:
            raise AssertionError(f"a handler failed on what it was sent: {details}")
        raise RemoteError(PASSIVE, "refused", details)
