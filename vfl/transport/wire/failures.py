"""Errors across organizations: converts a VflError to a gRPC status with trailing metadata, and back.

Only the code, party, summary and remedy of an error are sent; ``detail``, the messages of other exceptions, and stack
traces stay in the log of the party where the error happened.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, NamedTuple, TypeVar
from urllib.parse import unquote

import grpc
from grpc.aio import AioRpcError

from vfl import errors
from vfl.configuration.federation import NAME_PATTERN
from vfl.errors import InternalError, RemoteError, VflError, memory_exhausted
from vfl.messages import Failure
from vfl.runtime.background import start_awaited
from vfl.runtime.foreign_text import printable
from vfl.runtime.log_limits import LimitedLog
from vfl.runtime.logs import get_logger
from vfl.transport.wire.local_endpoints import shown

_log = get_logger(__name__)
_limited = LimitedLog(_log, "more calls failed")

PACED_AFTER = 100
"""Failed calls of one caller in a period of the log, after which each further one is answered later."""
PACE_SECONDS = 2.0
_NAME_CHARACTERS = 150
"""An identity has the names of a federation and of a member."""

Reply = TypeVar("Reply")

_CODE_KEY = "vfl-code"
_PARTY_KEY = "vfl-party"
_SUMMARY_KEY = "vfl-summary-bin"
_REMEDY_KEY = "vfl-remedy-bin"

_CODE_PATTERN = re.compile(r"[a-z_]{1,32}")
_NAME_PATTERN = re.compile(NAME_PATTERN)

_TOO_LARGE = "larger than max"
"""In gRPC's text about a message that exceeds a size limit, the one exhausted resource that does not come back."""

STATUS_CODES: dict[type[VflError], grpc.StatusCode] = {
    errors.ConfigError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.DataError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.AlignmentError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.ModelError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.CallbackError: grpc.StatusCode.ABORTED,
    errors.RangeError: grpc.StatusCode.OUT_OF_RANGE,
    errors.ParameterError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.PolicyRefusal: grpc.StatusCode.PERMISSION_DENIED,
    errors.MismatchError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.ProtocolError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.PeerUnreachable: grpc.StatusCode.UNAVAILABLE,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.AccessDenied: grpc.StatusCode.PERMISSION_DENIED,
    errors.ListenError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.JobAborted: grpc.StatusCode.ABORTED,
    errors.PartyRestarted: grpc.StatusCode.ABORTED,
    errors.ProcessEnding: grpc.StatusCode.ABORTED,
    errors.AuditError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.CheckpointError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.LedgerError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.MemoryExhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.InternalError: grpc.StatusCode.INTERNAL,
    errors.RemoteError: grpc.StatusCode.ABORTED,
}


class Status(NamedTuple):
    """What a server answers to a call that failed."""

    code: grpc.StatusCode
    details: str
    metadata: tuple[tuple[str, str | bytes], ...]


def to_status(error: VflError, party: str) -> Status:
    """The status for an error at ``party``; an error relayed from a third party keeps its origin."""
    code, summary = error.code, error.summary
    if isinstance(error, RemoteError):
        party, code, summary = error.party, error.remote_code, error.remote_summary
    summary, remedy = printable(summary), printable(error.remedy)
    metadata = (
        (_CODE_KEY, code),
        (_PARTY_KEY, party),
        (_SUMMARY_KEY, summary.encode()),
        (_REMEDY_KEY, remedy.encode()),
    )
    status = next(STATUS_CODES[cls] for cls in type(error).__mro__ if cls in STATUS_CODES)
    return Status(status, summary, metadata)


async def abort_call(context: Any, error: Exception, party: str, *, paced: bool = False) -> None:
    """Server side: log the error here, and answer the caller with its safe part. Always raises.

    Args:
        paced: answer a caller of whom very many calls fail only after a pause, which its other calls have to wait for.
            For calls that leave a record, of which a caller can have only a few at once.
    """
    source, caller = f"{caller_of(context)} at {party}", context.peer()
    if not isinstance(error, VflError):
        failed = _limited("error", "call failed unexpectedly", source, caller=caller, exc_info=error)
    elif error.will_be_shown:
        failed = 0
        _log.debug("call failed", code=error.code, summary=error.summary, detail=error.detail, caller=caller)
    else:
        facts = {"code": error.code, "summary": error.summary, "detail": error.detail}
        failed = _limited("warning", "call failed", source, **facts, caller=caller)
    if paced and failed > PACED_AFTER:
        await _pause(PACE_SECONDS)
    await context.abort(*to_status(_known(error), party))


def caller_of(context: Any) -> str:
    """Who calls, to count by: the identity in its certificate, which a CA has signed, or its address."""
    identities = context.auth_context().get("peer_uri") or ()
    name = b" ".join(identities).decode(errors="replace")
    return printable(name or unquote(context.peer()).rpartition(":")[0], _NAME_CHARACTERS)


async def _pause(seconds: float) -> None:
    """Sleep, even if the caller hangs up: otherwise it could call again at once."""
    sleeping = start_awaited(asyncio.sleep(seconds))
    try:
        await asyncio.shield(sleeping)
    except asyncio.CancelledError:
        await asyncio.wait({sleeping})
        raise


def _known(error: Exception) -> VflError:
    if isinstance(error, VflError):
        return error
    internal = InternalError("an internal error occurred", remedy="check the log of that party")
    return memory_exhausted(error, "a call") or internal


def as_failure(error: Exception, party: str) -> Failure:
    """The part of an error at ``party`` that crosses, as :func:`abort_call` sends it and the caller receives it."""
    texts = dict(to_status(_known(error), party).metadata)
    return Failure(*(_text(texts[key]) for key in (_PARTY_KEY, _CODE_KEY, _SUMMARY_KEY, _REMEDY_KEY)))


class Call(NamedTuple):
    """What a client was doing, for its error messages."""

    peer: str
    endpoint: str
    what: str
    timeout: float


def from_rpc_error(error: AioRpcError, call: Call) -> VflError:
    """Client side: the error to raise for a call that failed.

    A status with our metadata comes from vfl at the other party; one without comes from gRPC itself.
    """
    remote = _remote_error(dict(error.trailing_metadata() or ()), call.peer)
    return remote or _transport_error(error, call)


def readable(reply: Reply | None, peer: str) -> Reply:
    """A peer's reply, checked: gRPC returns None for a reply that it cannot parse.

    Raises:
        ProtocolError: the reply could not be parsed.
    """
    if reply is None:
        raise errors.ProtocolError(
            f"{peer} sent an unreadable answer", remedy=f"check that {peer} runs the same version of vfl"
        )
    return reply


def _remote_error(metadata: dict[str, str | bytes], peer: str) -> RemoteError | None:
    summary = _text(metadata.get(_SUMMARY_KEY))
    if not summary:
        return None
    code, party = _text(metadata.get(_CODE_KEY)), _text(metadata.get(_PARTY_KEY))
    return RemoteError(
        party if _NAME_PATTERN.fullmatch(party) else peer,
        code if _CODE_PATTERN.fullmatch(code) else InternalError.code,
        summary,
        remedy=_text(metadata.get(_REMEDY_KEY)),
        reporter=peer,
    )


def _transport_error(error: AioRpcError, call: Call) -> VflError:
    detail = printable(f"{error.code().name}: {error.details()}")
    match error.code():
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return errors.DeadlineExceeded(
                f"{call.peer} did not complete '{call.what}' within {call.timeout:g} s",
                detail=detail,
                remedy=f"check the log of {call.peer}, or allow more time",
            )
        case (
            grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.CANCELLED | grpc.StatusCode.INTERNAL | grpc.StatusCode.UNKNOWN
        ):
            # vfl's servers explain each of their errors, so the last two are gRPC's own: the connection broke while a
            # message was being written.
            return errors.PeerUnreachable(
                f"{call.peer} went away or does not answer at {shown(call.endpoint)}",
                detail=detail,
                remedy=f"start {call.peer} there; check its endpoint in federation.toml and both sides' certificates",
            )
        case grpc.StatusCode.RESOURCE_EXHAUSTED if _TOO_LARGE not in (error.details() or ""):
            return errors.PeerUnreachable(
                f"{call.peer} is overloaded and refused the call '{call.what}'",
                detail=detail,
                remedy=f"find out from the log of {call.peer} who keeps it busy",
            )
        case grpc.StatusCode.UNIMPLEMENTED:
            return errors.MismatchError(
                f"{call.peer} does not support the call '{call.what}'",
                detail=detail,
                remedy="check that every party runs the same version of vfl",
            )
        case grpc.StatusCode.PERMISSION_DENIED | grpc.StatusCode.UNAUTHENTICATED:
            return errors.AccessDenied(f"{call.peer} refused the call '{call.what}'", detail=detail)
        case _:
            return errors.ProtocolError(f"the call '{call.what}' to {call.peer} failed", detail=detail)


def _text(value: str | bytes | None) -> str:
    return printable(value.decode(errors="replace") if isinstance(value, bytes) else value or "")
