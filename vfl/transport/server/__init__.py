"""The gRPC server of a party."""

from vfl.transport.server.server import PartyServer

__all__ = ["PartyServer"]
