"""The transport between members in one process."""

from vfl.transport.in_memory.network import Disturbance, InMemoryNetwork

__all__ = ["Disturbance", "InMemoryNetwork"]
