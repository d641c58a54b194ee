"""The transport of members that live in one process."""

from vfl.transport.in_memory.network import Disturbance, InMemoryNetwork

__all__ = ["Disturbance", "InMemoryNetwork"]
