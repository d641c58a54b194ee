"""What a party's latest audit log of a run says about how far the run came: read when a call names a run that this
process does not know."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from vfl.audit.log import MAX_LINE_BYTES, Closed, Crossed, read_lines
from vfl.errors import AuditError
from vfl.messages import Finished

_TAIL_BYTES = 4 * MAX_LINE_BYTES
"""Hundreds of records; only repeated calls at the end of a run come after the one that says that it was saved."""


@dataclass(frozen=True)
class Past:
    """How far a run came at this party.

    Attributes:
        saved: the coordinator was told that this party has saved its part.
        finished: the run is over, without an error.
    """

    saved: bool = False
    finished: bool = False


def read_past(log: Path) -> Past:
    """The past of a run, from its latest log; a link is not followed.

    Raises:
        AuditError: the log cannot be read.
    """
    try:
        with os.fdopen(os.open(log, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            records = [line.record for line in read_lines([file.read()]) if line is not None]
    except OSError as error:
        raise AuditError(
            "an earlier audit log of the run cannot be read",
            detail=str(error),
            remedy="make 'audit.directory' readable for this user",
        ) from error
    return Past(
        any(isinstance(r, Crossed) and (r.kind, r.direction) == (Finished.kind, "sent") for r in records),
        any(isinstance(r, Closed) and r.outcome == "finished" for r in records),
    )
