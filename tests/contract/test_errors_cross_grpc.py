"""Every error of the catalog crosses to another organization as its safe part and nothing else."""

from types import SimpleNamespace

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata
from hypothesis import given
from hypothesis import strategies as st

from vfl import errors
from vfl.errors import RemoteError, VflError, all_error_types
from vfl.transport.wire.failures import STATUS_CODES, Call, abort_call, from_rpc_error, to_status

CALL = Call("shop", "127.0.0.1:1", "top", 2.5)
ROW = "/srv/patients.csv row 4711"


def make(error_type: type[VflError], summary: str = "went wrong", remedy: str = "do this") -> VflError:
    if error_type is RemoteError:
        return RemoteError("telco", "model", summary, remedy=remedy)
    return error_type(summary, detail=ROW, remedy=remedy)


def across(error: VflError) -> VflError:
    status = to_status(error, "bank")
    return from_rpc_error(AioRpcError(status.code, Metadata(), Metadata(*status.metadata), status.details), CALL)


def test_every_error_type_has_a_status():
    assert set(STATUS_CODES) == set(all_error_types().values())


@pytest.mark.parametrize("error_type", all_error_types().values(), ids=lambda t: t.__name__)
def test_every_error_type_round_trips_without_its_detail(error_type):
    error = make(error_type)
    remote = across(error)
    assert isinstance(remote, RemoteError)
    assert (remote.remote_summary, remote.remedy) == ("went wrong", "do this")
    relayed = error_type is RemoteError
    assert (remote.party, remote.remote_code) == (("telco", "model") if relayed else ("bank", error_type.code))
    crossed = repr(to_status(error, "bank")) + repr(vars(remote)) + str(remote)
    assert "4711" not in crossed


@given(st.text(min_size=1), st.text())
def test_any_text_crosses_as_one_printable_line(summary, remedy):
    remote = across(make(errors.DataError, summary, remedy))
    assert remote.remote_summary.isprintable()
    assert remote.remedy.isprintable()
    if summary.isprintable() and len(summary) <= 500:
        assert remote.remote_summary == summary


def test_a_text_too_long_for_metadata_is_cut():
    status = to_status(make(errors.DataError, "\N{GRINNING FACE}" * 9000, "\N{GRINNING FACE}" * 9000), "bank")
    assert sum(len(key) + len(value) for key, value in status.metadata) < 8000
    assert len(across(make(errors.DataError, "s" * 9000)).summary) < 600


@pytest.mark.parametrize(
    ("error", "code"), [(errors.DataError("s", detail=ROW), "data"), (ValueError(ROW), "internal")]
)
async def test_the_answer_of_a_server_holds_no_detail(error, code):
    answers = []

    async def abort(*status):
        answers.append(status)

    await abort_call(SimpleNamespace(abort=abort, peer=lambda: "somewhere", auth_context=dict), error, "bank")
    assert dict(answers[0][2])["vfl-code"] == code
    assert "4711" not in repr(answers)


def bare(code: grpc.StatusCode) -> VflError:
    return from_rpc_error(AioRpcError(code, Metadata(), Metadata(), "from grpc"), CALL)


@pytest.mark.parametrize(
    ("code", "error_type"),
    [
        (grpc.StatusCode.UNAVAILABLE, errors.PeerUnreachable),
        (grpc.StatusCode.CANCELLED, errors.PeerUnreachable),
        (grpc.StatusCode.INTERNAL, errors.PeerUnreachable),
        (grpc.StatusCode.UNKNOWN, errors.PeerUnreachable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors.DeadlineExceeded),
        (grpc.StatusCode.UNIMPLEMENTED, errors.MismatchError),
        (grpc.StatusCode.PERMISSION_DENIED, errors.AccessDenied),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.PeerUnreachable),
    ],
)
def test_a_status_of_grpc_itself_becomes_an_error_that_names_the_peer(code, error_type):
    error = bare(code)
    assert type(error) is error_type
    assert "shop" in error.summary
    assert "from grpc" in error.detail
    assert "from grpc" not in error.summary


def test_a_message_that_grpc_finds_too_large_stays_too_large():
    too_large = AioRpcError(
        grpc.StatusCode.RESOURCE_EXHAUSTED, Metadata(), Metadata(), "CLIENT: Received message larger than max (9 vs. 4)"
    )
    assert type(from_rpc_error(too_large, CALL)) is errors.ProtocolError


def test_what_a_peer_claims_about_code_and_party_is_checked():
    metadata = Metadata(
        ("vfl-code", "x" * 40), ("vfl-party", "../etc"), ("vfl-summary-bin", b"\x1b[2Jhi\xff\nforged log line")
    )
    error = from_rpc_error(AioRpcError(grpc.StatusCode.ABORTED, Metadata(), metadata, ""), CALL)
    assert isinstance(error, RemoteError)
    assert (error.party, error.remote_code) == ("shop", "internal")
    assert error.remote_summary == " [2Jhi\N{REPLACEMENT CHARACTER} forged log line"


def test_whoever_says_that_an_error_happened_at_another_party_is_named_too():
    remote = across(RemoteError("telco", "policy", "refuses the job"))
    assert remote.summary == "telco, as shop reports: refuses the job"
    own = from_rpc_error(
        AioRpcError(grpc.StatusCode.ABORTED, Metadata(), Metadata(("vfl-summary-bin", b"no")), ""), CALL
    )
    assert own.summary == "shop: no"
