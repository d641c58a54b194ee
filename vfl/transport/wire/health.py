"""How a party reports that it is serving, by gRPC's health protocol."""

from __future__ import annotations


def health_service_name(party: str) -> str:
    """The name under which a party reports its health, so that a caller notices if another party answers."""
    return f"vfl.party.{party}"
