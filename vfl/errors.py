"""All errors that a user can encounter. Each says what is wrong, where, and what to do.

An error has two parts. ``str(error)`` is for the operator of the party where it happened and may name files, columns
and values. ``error.summary`` may cross to another organization: it is a fixed text that names what failed, and never
contains data, ids or a stack trace.
"""

from __future__ import annotations

import errno
from typing import ClassVar

_REFUSALS = ("can't allocate memory", "can't start new thread")
"""Parts of the RuntimeErrors raised by torch on the CPU, and by Python when it cannot start a thread."""


WHAT_TO_DO = "What to do: "
"""Precedes a remedy, in errors as shown and in what parties tell each other of them."""


class VflError(Exception):
    """Base class of all errors that vfl raises deliberately.

    Args:
        summary: one sentence, safe to show to every organization of the federation.
        detail: further information for the local operator (may name files, columns, values); never leaves the party.
        remedy: what to change to make it work.

    Attributes:
        will_be_shown: whether the error reaches the operator by another route, so that it need not be logged here.
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False

    def __init__(self, summary: str, *, detail: str = "", remedy: str = "") -> None:
        super().__init__(summary)
        self.summary = summary
        self.detail = detail
        self.remedy = remedy
        self.will_be_shown = False

    def __str__(self) -> str:
        parts = [self.summary]
        if self.detail:
            parts.append(self.detail)
        if self.remedy:
            parts.append(f"{WHAT_TO_DO}{self.remedy}")
        return "\n".join(parts)


class ConfigError(VflError):
    """A configuration file is missing, malformed or inconsistent."""

    code = "config"
    exit_code = 2


class DataError(VflError):
    """A table cannot be used as configured: missing file or column, wrong type, duplicate ids, bad labels."""

    code = "data"
    exit_code = 3


class AlignmentError(VflError):
    """The parties have no id in common."""

    code = "alignment"
    exit_code = 4


class ModelError(VflError):
    """A bottom or top model violates its contract (width, range, finite values)."""

    code = "model"
    exit_code = 5


class CallbackError(VflError):
    """A callback supplied by the program that runs the coordinator or a party raised an exception."""

    code = "callback"
    exit_code = 23


class RangeError(VflError):
    """A value does not fit the fixed-point range of the ring. Raised instead of wrapping silently."""

    code = "range"
    exit_code = 6


class ParameterError(VflError):
    """Encryption or ring parameters for which the noise or range bounds do not hold, or that are insecure."""

    code = "parameters"
    exit_code = 7


class PolicyRefusal(VflError):
    """This party's own policy does not allow the job."""

    code = "policy"
    exit_code = 8


class MismatchError(VflError):
    """The parties' configurations differ (job digest, federation, protocol version)."""

    code = "mismatch"
    exit_code = 9


class ProtocolError(VflError):
    """A peer sent something malformed, out of order or out of bounds."""

    code = "protocol"
    exit_code = 10


class PeerUnreachable(VflError):
    """A peer cannot be reached, or its connection was lost."""

    code = "unreachable"
    exit_code = 11
    retryable = True


class DeadlineExceeded(VflError):
    """A peer or a phase took longer than the configured timeout."""

    code = "deadline"
    exit_code = 12
    retryable = True


class AccessDenied(VflError):
    """The caller's certificate does not allow this call."""

    code = "access"
    exit_code = 13


class ListenError(VflError):
    """This party cannot open its port."""

    code = "listen"
    exit_code = 14


class JobAborted(VflError):
    """The run was stopped by an operator or because of an error at a party. ``summary`` says by whom and why."""

    code = "aborted"
    exit_code = 15


class PartyRestarted(VflError):
    """A party's process was restarted during a run; it knows nothing of the run until it is prepared again."""

    code = "restarted"
    exit_code = 21
    retryable = True


class ProcessEnding(VflError):
    """A party's process received SIGTERM during a run; the run waits for the party to be restarted."""

    code = "ending"
    exit_code = 143
    retryable = True


class AuditError(VflError):
    """An audit log cannot be written or read, or is inconsistent."""

    code = "audit"
    exit_code = 19


class CheckpointError(VflError):
    """A checkpoint or the coordinator's record of runs cannot be written, read or used for this run."""

    code = "checkpoint"
    exit_code = 20


class LedgerError(VflError):
    """A party's disclosure ledger cannot be written or read, or was copied, reset or put back from a copy."""

    code = "ledger"
    exit_code = 24


class MemoryExhausted(VflError):
    """A process could not allocate the memory it needs."""

    code = "memory"
    exit_code = 22


class InternalError(VflError):
    """A bug in vfl. The details are in the log of the party where it happened."""

    code = "internal"
    exit_code = 70


class RemoteError(VflError):
    """An error that happened at another party, known only by the safe summary that the party sent.

    Args:
        party: name of the party where it happened.
        remote_code: the ``code`` of the error there.
        summary: the safe summary sent by that party.
        reporter: who said so. Nothing shows that it happened at another party, so both are named.
    """

    code = "remote"
    exit_code = 16

    def __init__(self, party: str, remote_code: str, summary: str, remedy: str = "", reporter: str = "") -> None:
        where = party if reporter in ("", party) else f"{party}, as {reporter} reports"
        super().__init__(f"{where}: {summary}", remedy=remedy)
        self.party = party
        self.remote_code = remote_code
        self.remote_summary = summary


def memory_exhausted(error: Exception, where: str) -> MemoryExhausted | None:
    """The error to report if an exception means that memory ran out; None for any other exception.

    Args:
        where: what was being done, as the object of a sentence; may cross to other organizations.
    """
    if not _is_refusal_of_memory(error):
        return None
    return MemoryExhausted(
        f"there was not enough memory for {where}",
        detail=f"{type(error).__name__}: {error}",
        remedy="give this process more memory, or lower 'pool_memory_mb' of party.toml or the batch sizes of the job; "
        "'vfl run --resume' resumes from the last checkpoint",
    )


def _is_refusal_of_memory(error: BaseException | None) -> bool:
    """Whether the error or one of its causes is an out-of-memory error of Python, NumPy, torch or the system."""
    while error is not None:
        names = {cls.__name__ for cls in type(error).__mro__}
        if names & {"MemoryError", "OutOfMemoryError"} or any(text in str(error) for text in _REFUSALS):
            return True
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            return True
        error = error.__cause__
    return False


def original_code(error: VflError) -> str:
    """The code of an error, no matter which party it happened at."""
    return error.remote_code if isinstance(error, RemoteError) else error.code


def is_retryable(error: VflError) -> bool:
    """Whether another attempt may succeed without any change, no matter which party the error happened at."""
    if isinstance(error, RemoteError):
        known = all_error_types().get(error.remote_code)
        return known is not None and known.retryable
    return error.retryable


def all_error_types() -> dict[str, type[VflError]]:
    """Every type of error by its code. The transport translates exactly these."""
    return {cls.code: cls for cls in VflError.__subclasses__()}
