"""What protects a message on its way."""

from __future__ import annotations

from enum import StrEnum


class Protection(StrEnum):
    """What keeps a message from telling more than it is meant to."""

    ENCRYPTED = "encrypted"
    """Under a key that the receiver does not have."""
    MASKED = "masked"
    """Uniformly random by itself; only who knows the mask reads what is under it."""
    PUBLIC = "public"
    """Meant to be read: public keys, counts, names, timings, published metrics. Nothing about a single row."""
    CLEAR = "clear"
    """Activations, gradients or weights that the receiver reads. The oracle's alone, never in an encrypted job."""
