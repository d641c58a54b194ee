"""Why a party is to stop; apart from the service, so that the command line can say it without importing models."""

from __future__ import annotations

from enum import Enum


class StopReason(Enum):
    """Why a party is to stop."""

    OPERATOR = "its operator stops the run for all"
    PROCESS_ENDING = "its process ends and will be started again, so that the run waits for it"
