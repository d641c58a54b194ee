"""Every wrong certificate against a party in the middle of a job: refused, with a reason, and the job goes on."""

import asyncio
import shutil
from contextlib import asynccontextmanager
from datetime import timedelta

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support.federations import federation as federations
from support.federations.federation import ACTIVE, COORDINATOR, Federation
from support.federations.in_process import parties_in_process
from support.logs import captured_logs
from support.wire.abuse import ATTEMPT, JOB, Steps, assert_nothing_private, credentials_of, share
from support.wire.certificates import Issuer, Unchecked
from support.wire.openssl import REFUSED_SECONDS, STAYS_OPEN_SECONDS, s_client

from vfl import messages as m
from vfl.errors import PeerUnreachable, RemoteError
from vfl.ids import Address, Batch, CheckpointId, Phase, Split, StepKey
from vfl.party.config import load_party
from vfl.transport.client import ControlClient, PeerClient

CLINIC, TELCO, NAME = "clinic", "telco", "test"
STEP = StepKey(JOB, 2, ATTEMPT)
CHECKPOINT = CheckpointId(2, ATTEMPT, "digest")
LIMITED = ("align", "heartbeat", "abort", "release")
"""Control calls with a time limit of their own."""
ADDRESS = Address(STEP, "forward_share", CLINIC)
ROLES = {ACTIVE: "active", CLINIC: "passive", TELCO: "passive", COORDINATOR: "coordinator"}


class Matrix:
    """A running federation whose CA issues whatever is asked for."""

    def __init__(self, folder, issuer):
        self.federation = Federation(folder, passive=(CLINIC, TELCO))
        self.issuer = issuer
        self.folder = folder

    @property
    def endpoint(self):
        return f"127.0.0.1:{self.federation.port(ACTIVE)}"

    def caller(self, name=CLINIC, maker=None, **changes):
        """Credentials that this process believes to be good, with the CA of the federation."""
        made = (maker or self.issuer).files(name, **{"role": ROLES[name], "federation": NAME} | changes)
        files = made.model_copy(update={"ca": self.issuer.ca, "revoked": self.issuer.revoked})
        return Unchecked(files, load_party(self.federation.path(ACTIVE)).federation, name)


@pytest.fixture
def matrix(tmp_path, monkeypatch):
    issuer = Issuer.make(tmp_path / "issuer", NAME)

    def issue(directory, name, roles):
        return {who: issuer.files(who, role=str(role), federation=name) for who, role in roles.items()}

    monkeypatch.setattr(federations, "make_federation_certificates", issue)
    made = Matrix(tmp_path, issuer)
    made.federation.write()
    return made


@asynccontextmanager
async def serving_a_job(matrix):
    """Three parties that have trained one step; what happened in between does not keep them from going on."""
    async with parties_in_process(matrix.federation) as (parties, clients):
        steps = Steps(matrix.federation, clients)
        await steps.begin()
        yield
        await steps.train(2)
        await steps.finish()
        async with asyncio.timeout(30):
            assert [await party for party in parties.values()] == [None, None, None]


IN_THE_HANDSHAKE = {
    "expired": ({"lasts": timedelta(minutes=1)}, "certificate has expired"),
    "not yet valid": ({"begins": timedelta(minutes=5)}, "certificate is not yet valid"),
    "self-signed": ({"self_signed": True}, "self signed certificate"),
    "of another CA": ({"maker": "other"}, "unable to get local issuer certificate"),
    "of another federation with a CA of its own": (
        {"maker": "other", "federation": "other"}, "unable to get local issuer certificate",
    ),
}  # fmt: skip


async def test_who_is_refused_in_the_handshake_learns_what_can_be_wrong(matrix, capfd):
    other = Issuer.make(matrix.folder / "other", "other")
    async with serving_a_job(matrix):
        for case, (changes, says) in IN_THE_HANDSHAKE.items():
            capfd.readouterr()
            changed = {**changes, "maker": other} if "maker" in changes else changes
            async with PeerClient(matrix.endpoint, ACTIVE, matrix.caller(**changed)) as caller:
                with pytest.raises(PeerUnreachable) as caught:
                    await caller.deliver(ADDRESS, share(), 5)
            assert "bank hangs up on this process's certificate" in caught.value.detail, case
            logged = capfd.readouterr().err
            assert "Handshake failed" in logged, case
            assert says in logged, (case, logged)


async def test_who_shows_no_certificate_gets_no_answer(matrix):
    only_ca = grpc.ssl_channel_credentials(matrix.issuer.ca.read_bytes())
    named = [("grpc.ssl_target_name_override", f"{ACTIVE}.{NAME}.vfl.internal")]
    async with serving_a_job(matrix):
        for channel in (
            grpc.aio.secure_channel(matrix.endpoint, only_ca, options=named),
            grpc.aio.insecure_channel(matrix.endpoint),
        ):
            async with channel:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command")
async def test_openssl_gets_no_further_without_a_certificate_or_with_an_older_version(matrix):
    async with serving_a_job(matrix):
        files = matrix.caller().files
        own = ("-cert", files.certificate, "-key", files.key)
        trusted = ("-CAfile", files.ca)
        assert (await s_client(matrix.endpoint, "-tls1_3", *trusted, *own, seconds=STAYS_OPEN_SECONDS))[0]
        for refused in (("-tls1_3", *trusted), ("-tls1_2", "-cipher", "ALL:@SECLEVEL=0", *trusted, *own)):
            assert not (await s_client(matrix.endpoint, *refused, seconds=REFUSED_SECONDS))[0]


_IDENTITY = f"spiffe://{NAME}/party/"
ON_THE_CALL = {
    "of another federation, by our CA": ({"federation": "other"}, "other-federation"),
    "of nobody in the federation": ({"identities": (f"{_IDENTITY}mallory",)}, "unknown-member"),
    "of another role": ({"role": "coordinator"}, "wrong-role"),
    "without an identity": ({"identities": ()}, "identity"),
    "with two identities": ({"identities": (f"{_IDENTITY}clinic", f"{_IDENTITY}coordinator")}, "identity"),
    "of a longer name": ({"identities": (f"{_IDENTITY}clinic/x",)}, "unknown-member"),
    "revoked": ({}, "revoked"),
    "of another party": ({"identities": (f"{_IDENTITY}{TELCO}",)}, "wrong-name"),
    "of the coordinator": (
        {"identities": (f"{_IDENTITY}{COORDINATOR}",), "role": "coordinator"}, "wrong-member",
    ),
}  # fmt: skip


async def test_who_is_refused_on_the_call_learns_why_and_so_does_the_server(matrix):
    async with serving_a_job(matrix):
        for case, (changes, reason) in ON_THE_CALL.items():
            credentials = matrix.caller(**changes)
            if case == "revoked":
                matrix.issuer.revoke(credentials.files)
            async with PeerClient(matrix.endpoint, ACTIVE, credentials) as caller:
                with captured_logs() as logs, pytest.raises(RemoteError) as caught:
                    await caller.deliver(ADDRESS, share(), 5)
            assert (caught.value.party, caught.value.remote_code) == (ACTIVE, "access"), case
            assert "the caller's certificate does not allow" in str(caught.value), case
            assert [entry["reason"] for entry in logs if entry["event"] == "caller refused"] == [reason], case
            assert_nothing_private(matrix.federation, str(caught.value))


async def test_only_the_coordinator_controls_a_running_job(matrix):
    calls = {
        "offer": m.Offer("job@1", JOB, ATTEMPT, "digest", "1", "{}"),
        "prepare": m.Prepare("job@1", JOB, ATTEMPT, "digest", "1"),
        "restore": m.Restore("job@1", JOB, ATTEMPT, CHECKPOINT),
        "align": m.Align("job@1", JOB, ATTEMPT, False),
        "begin": m.Begin("job@1", JOB, ATTEMPT),
        "run_phase": m.PhaseCall("job@1", STEP, Phase.TOP, Batch(Split.TRAIN, 0, 0)),
        "score": m.Score("job@1", JOB, 0, Split.TEST, 0),
        "checkpoint": m.Checkpoint("job@1", STEP, True),
        "commit": m.Commit("job@1", JOB, ATTEMPT, CHECKPOINT),
        "heartbeat": m.Heartbeat("job@1", JOB, ATTEMPT),
        "abort": m.Abort("job@1", JOB, 0, COORDINATOR, "aborted", "no reason"),
        "finish": m.Finish("job@1", JOB, 0),
        "release": m.Release("job@1", JOB, 0),
    }
    async with serving_a_job(matrix):
        for name in (CLINIC, ACTIVE):
            credentials = credentials_of(matrix.federation, name)
            async with ControlClient(matrix.endpoint, ACTIVE, credentials) as caller:
                for method, call in calls.items():
                    with captured_logs() as logs, pytest.raises(RemoteError) as caught:
                        await getattr(caller, method)(call, *((5,) if method in LIMITED else ()))
                    assert caught.value.remote_code == "access"
                    assert f"does not allow control calls: it belongs to {name}" in str(caught.value)
                    assert [entry["reason"] for entry in logs if entry["event"] == "caller refused"] == ["wrong-member"]


async def test_nobody_sends_in_the_name_of_another(matrix):
    async with serving_a_job(matrix):
        for name in (TELCO, ACTIVE, COORDINATOR):
            async with PeerClient(matrix.endpoint, ACTIVE, credentials_of(matrix.federation, name)) as caller:
                with pytest.raises(RemoteError, match=f"messages in this name: it belongs to {name}") as caught:
                    await caller.deliver(ADDRESS, share(), 5)
                assert caught.value.remote_code == "access"
