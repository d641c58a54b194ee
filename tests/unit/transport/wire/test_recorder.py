"""What a recorder is told: the same digest at both ends, under a salt that is another one for every call."""

import pytest

from vfl import messages as m
from vfl.errors import DataError, PeerUnreachable, RemoteError
from vfl.ids import Batch, Phase, Split, StepKey
from vfl.transport.client import ControlClient, PeerClient
from vfl.transport.wire.recorder import Direction


class Memory:
    """Keeps what it is told."""

    def __init__(self):
        self.told = []

    def record(self, crossing):
        self.told.append(crossing)


def endpoint(server):
    return f"127.0.0.1:{server.port}"


@pytest.fixture
def ends():
    return Memory(), Memory()


async def test_both_ends_tell_the_same_of_a_message(serving, share, ends):
    here, there = ends
    async with serving(recorder=there) as server, PeerClient(endpoint(server), "bank", None, recorder=here) as client:
        for step in (1, 2):
            await client.deliver(*share(step=step), 5)
    for sent, received in zip(here.told, there.told, strict=True):
        assert (sent.direction, sent.peer) == (Direction.SENT, "bank")
        assert (received.direction, received.peer) == (Direction.RECEIVED, "shop")
        assert (sent.digest, sent.tensors, sent.bytes) == (received.digest, received.tensors, received.bytes)
        assert (sent.key, sent.protection) == (received.key, m.Protection.MASKED)
    assert here.told[0].digest != here.told[1].digest  # of the same content


async def test_both_ends_tell_the_same_of_calls_replies_and_failures(serving, handler, ends):
    here, there = ends
    phase = m.PhaseCall("job@1", StepKey("job-1", 4, 0), Phase.TOP, Batch(Split.TRAIN, 1, 2))
    async with serving(recorder=there) as server, ControlClient(endpoint(server), "bank", None, here) as client:
        await client.run_phase(phase)
        handler.error = DataError("no rows", detail="secret.csv", remedy="add some")
        with pytest.raises(RemoteError):
            await client.score(m.Score("job@1", "job-1", 0, Split.TEST, 0))
    assert [c.kind for c in here.told] == ["phase_call", "phase_report", "score", "failure"]
    assert [(c.kind, c.digest, c.bytes) for c in here.told] == [(c.kind, c.digest, c.bytes) for c in there.told]
    assert (here.told[0].phase, here.told[0].batch, here.told[0].key.step) == (Phase.TOP, phase.batch, 4)


async def test_a_message_is_recorded_before_it_leaves(share, ends):
    here, _ = ends
    async with PeerClient("127.0.0.1:1", "bank", None, recorder=here) as client:
        with pytest.raises(PeerUnreachable):
            await client.deliver(*share(), 5)
    assert [c.kind for c in here.told] == ["forward_share"]


async def test_a_message_that_cannot_be_recorded_does_not_leave(serving, share, inbox):
    class Full:
        def record(self, crossing):
            raise DataError("full")

    async with serving() as server, PeerClient(endpoint(server), "bank", None, recorder=Full()) as client:
        with pytest.raises(DataError):
            await client.deliver(*share(), 5)
    assert inbox.stored_bytes == 0


async def test_a_message_that_cannot_be_recorded_is_not_used(serving, share, inbox):
    class Full:
        def record(self, crossing):
            raise DataError("full")

    async with serving(recorder=Full()) as server, PeerClient(endpoint(server), "bank", None) as client:
        with pytest.raises(RemoteError):
            await client.deliver(*share(), 5)
    assert inbox.stored_bytes == 0


async def test_a_call_without_a_salt_is_refused_where_a_log_is_kept(serving, share, ends, inbox, monkeypatch):
    monkeypatch.setattr("vfl.transport.client.peer.salt_metadata", lambda salt: ())
    async with serving(recorder=ends[1]) as server, PeerClient(endpoint(server), "bank", None) as client:
        with pytest.raises(RemoteError, match="without a salt for the audit log"):
            await client.deliver(*share(), 5)
    assert (ends[1].told, inbox.stored_bytes) == ([], 0)
