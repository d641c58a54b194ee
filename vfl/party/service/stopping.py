"""Why a party is to stop. Separate from the service, so that the command line can use it without importing models."""

from __future__ import annotations

from enum import Enum


class StopReason(Enum):
    """Why a party is to stop."""

    OPERATOR = "its operator stops the run for all parties"
    PROCESS_ENDING = "its process is shutting down and will be restarted; the run waits for it"
