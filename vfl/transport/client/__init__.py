"""Calls to a party: messages from its peers, and control calls from the coordinator. One connection per object."""

from vfl.transport.client.connection import channel_was_closed
from vfl.transport.client.control import ControlClient
from vfl.transport.client.peer import PeerClient, RelayClient

__all__ = ["ControlClient", "PeerClient", "RelayClient", "channel_was_closed"]
