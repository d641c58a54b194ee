"""What protects a message in transit."""

from __future__ import annotations

from enum import StrEnum


class Protection(StrEnum):
    """What keeps a message from revealing more than it should."""

    ENCRYPTED = "encrypted"
    """Under a key that the receiver does not have."""
    MASKED = "masked"
    """Uniformly random on its own; only those who know the mask can read what is under it."""
    PUBLIC = "public"
    """Meant to be read: public keys, counts, names, timings, published metrics. Of a single row, at most which part of
    the split it belongs to."""
    CLEAR = "clear"
    """Activations, gradients or weights that the receiver can read. Only in plaintext jobs, never in encrypted ones."""
