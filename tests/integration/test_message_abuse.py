"""Hand-made messages of a member with a valid certificate, to parties in the middle of a job, over real connections.

What can be refused is refused, with a reason, and the job goes on to its end.
"""

import asyncio
from collections import defaultdict
from contextlib import asynccontextmanager, suppress

import numpy as np
import pytest
from support.federations.federation import ACTIVE, Federation
from support.federations.in_process import parties_in_process, run_federation
from support.wire.abuse import ATTEMPT, Steps, assert_nothing_private, member, share

from vfl import messages as m
from vfl.align import protocol as alignment
from vfl.align import sets
from vfl.errors import RemoteError
from vfl.party import process as party_process
from vfl.transport.inbox import Inbox
from vfl.transport.v1 import data_pb2
from vfl.transport.wire.limits import MAX_CALLS_OF_ONE, MEBIBYTE, Limits

HONEST, ABUSER = "clinic", "telco"
STALL = 2.0


@pytest.fixture
def federation(tmp_path):
    return Federation(tmp_path, passive=(HONEST, ABUSER)).write()


@asynccontextmanager
async def running(federation):
    """Three parties that have trained one step, and who leads them."""
    async with parties_in_process(federation) as (parties, clients):
        steps = Steps(federation, clients)
        await steps.begin()
        yield steps, parties


@asynccontextmanager
async def in_the_middle(federation, receiver=ACTIVE):
    """A party that abuses one of three that have trained one step; afterwards they train on, and finish."""
    async with running(federation) as (steps, parties), member(federation, ABUSER, receiver) as abuser:
        abuser.steps = steps
        yield abuser
        await steps.train(steps.step + 1)
        await steps.finish()
        assert await ended(parties) == [None, None, None]


async def ended(parties):
    async with asyncio.timeout(30):
        return [await party for party in parties.values()]


def limited(monkeypatch, **limits):
    """The inboxes that are made from now on, with other limits."""
    made = []
    monkeypatch.setattr(
        party_process, "Inbox", lambda senders: made.append(Inbox(Limits(**limits), senders)) or made[-1]
    )
    return made


def _chunk(header):
    return data_pb2.Chunk(header=header)


def _payload(count, size=1):
    return [data_pb2.Chunk(payload=bytes(size)) for _ in range(count)]


def _spec(*shape, name="sh_z_BK", dtype="int64"):
    return [data_pb2.TensorSpec(name=name, dtype=dtype, shape=shape)]


PRODUCT = m.MaskedActivationProduct(np.zeros((1, 1, 1), np.uint32), np.zeros((1, 1, 1), np.uint32))
BY_GRPC = ""
"""gRPC refuses it by itself, and what it tells the caller depends on who is faster."""
HUGE = Limits().max_message_bytes

WRONG_HEADERS = {
    "an old attempt": ({"attempt": ATTEMPT - 1}, "attempt that is over"),
    "a negative attempt": ({"attempt": -1}, "malformed address"),
    "a step far in the future": ({"step": 1 << 62}, "telco sent 'forward_share' for step 4611686018427387904"),
    "the step after the next": ({"step": 3}, "but the run is at 1"),
    "a step that is over": ({"step": 0}, "but the run is at 1"),
    "a negative step": ({"step": -1}, "malformed address"),
    "a message already taken": ({"step": 1}, "'forward_share' for step 1 from telco arrived twice"),
    "an unknown kind": ({"kind": "secret_key"}, "unknown kind"),
    "a kind without a name": ({"kind": ""}, "unknown kind"),
    "another version": ({"protocol_version": 2}, "wire version 2"),
    "another receiver": ({"receiver": HONEST}, "for another party arrived at bank"),
    "no receiver": ({"receiver": ""}, "for another party arrived at bank"),
    "another's name": ({"sender": HONEST}, "does not allow messages in this name: it belongs to telco"),
    "the coordinator's name": ({"sender": "coordinator"}, "not a party of this federation"),
    "no name": ({"sender": ""}, "not a party of this federation"),
    "a name of a megabyte": ({"sender": "x" * MEBIBYTE}, "not a party of this federation"),
    "a run of a path": ({"run": "../../etc/passwd\n"}, "malformed address"),
    "a run of a kilobyte": ({"run": "j" * 1024}, "malformed address"),
    "a smaller size": ({"total_bytes": 47}, "declares a size that differs from that of its tensors"),
    "a larger size": ({"total_bytes": 49}, "declares a size that differs from that of its tensors"),
    "a size above the limit": ({"tensors": _spec(HUGE, 1), "total_bytes": 8 * HUGE}, "negative or too large"),
    "a size beyond integers": ({"tensors": _spec(1 << 62, 1 << 62)}, "negative or too large"),
    "an empty tensor of a huge shape": ({"tensors": _spec(0, 1 << 62), "total_bytes": 0}, "negative or too large"),
    "a negative shape": ({"tensors": _spec(-3, -2)}, "negative or too large"),
    "a hundred thousand dimensions": ({"tensors": _spec(*[1] * 100_000)}, "lacks the expected tensor"),
    "no tensor": ({"tensors": []}, "wrong number of tensors"),
    "many tensors": ({"tensors": _spec(3, 2) * 10_000}, "wrong number of tensors"),
    "another element type": ({"tensors": _spec(3, 2, dtype="object")}, "lacks the expected tensor"),
}


async def test_wrong_headers_are_refused_and_the_job_goes_on(federation, capfd):
    async with in_the_middle(federation) as abuser:
        for name, (changes, says) in WRONG_HEADERS.items():
            answer = await abuser.send(**changes)
            assert says in answer.text, (name, answer)
            assert not answer.accepted
            assert_nothing_private(federation, answer.text)
        answer = await abuser.send(PRODUCT)
        assert (
            "telco (passive) sent 'masked_activation_product' to bank (active), which never receives it" in answer.text
        )
    logged = capfd.readouterr()
    assert len(logged.out + logged.err) < 200_000, "what was refused does not fill the log"


async def test_wrong_streams_are_refused_and_the_job_goes_on(federation):
    async with in_the_middle(federation) as abuser:
        right = _chunk(abuser.header())
        large = _chunk(abuser.header(tensors=_spec(3, 2, name="x" * 5 * MEBIBYTE)))
        no_text = right.SerializeToString().replace(b"forward_share", b"forward_shar\xff")
        streams = {
            "nothing": ([], "without a header"),
            "no header": (_payload(48), "without a header"),
            "a header twice": ([right, right, *_payload(48)], "has a chunk without payload"),
            "a header in the middle": ([right, *_payload(24), right, *_payload(24)], "has a chunk without payload"),
            "an empty chunk": ([right, data_pb2.Chunk(), *_payload(48)], "has a chunk without payload"),
            "less than declared": ([right, *_payload(47)], "ended before all declared bytes arrived"),
            "more than declared": ([right, *_payload(49)], "has more bytes than declared"),
            "much more than declared": ([right, *_payload(1, 3 * MEBIBYTE)], "has more bytes than declared"),
            "a header larger than gRPC takes": ([large, *_payload(48)], BY_GRPC),
            "a chunk larger than gRPC takes": ([right, *_payload(1, 5 * MEBIBYTE)], BY_GRPC),
            "bytes that are no message": ([b"\xff" * 100], "unreadable"),
            "text that is no UTF-8": ([no_text], "unreadable"),
        }
        for name, (chunks, says) in streams.items():
            answer = await abuser.stream(chunks)
            assert not answer.accepted
            assert says in answer.text, (name, answer)
            assert_nothing_private(federation, answer.text)


MALFORMED_SALTS = {
    "none": (),
    "short": (("vfl-audit-salt-bin", b"x" * 31),),
    "empty": (("vfl-audit-salt-bin", b""),),
    "text": (("vfl-audit-salt", "x" * 32),),
    "long": (("vfl-audit-salt-bin", b"x" * 4000),),
}


async def test_malformed_salts_are_refused_and_the_job_goes_on(federation):
    async with in_the_middle(federation) as abuser:
        for name, salt in MALFORMED_SALTS.items():
            answer = await abuser.stream([_chunk(abuser.header()), *_payload(48)], metadata=salt)
            assert "without a salt" in answer.text, name
            assert_nothing_private(federation, answer.text)


EMPTY = m.ForwardShare(np.zeros((0, 0), np.int64))


async def test_what_nobody_asked_for_is_taken_once_and_dropped_when_its_step_has_passed(federation, monkeypatch):
    inboxes = limited(monkeypatch)
    async with in_the_middle(federation) as abuser:
        for _ in range(2):
            assert (await abuser.send(share(), part=77)).accepted
            assert (await abuser.send(EMPTY, part=78)).accepted
        answer = await abuser.send(share(fill=1), part=77)
        assert "message 'forward_share' for step 2 from telco arrived twice" in answer.text
        assert [inbox.stored_bytes for inbox in inboxes] == [48, 0, 0]
        await abuser.steps.train(2)
        await abuser.steps.train(3)
        assert [inbox.stored_bytes for inbox in inboxes] == [0, 0, 0]


async def test_a_flood_is_bounded_and_stops_the_job_in_the_name_of_its_sender(federation, monkeypatch):
    limited(monkeypatch, inbox_messages=40)
    async with running(federation) as (steps, parties), member(federation, ABUSER, ACTIVE) as abuser:
        answers = [await abuser.send(EMPTY, part=part) for part in range(25)]
        assert [answer.accepted for answer in answers] == [True] * 20 + [False] * 5
        assert "no room for another message from telco" in answers[-1].text
        assert_nothing_private(federation, answers[-1].text)
        reported = "bank, as telco reports: this party has no room for another message from telco"
        with pytest.raises(RemoteError, match=reported):
            await steps.train(2)
        await steps.abort("protocol", "this party has no room for another message from telco")
        assert all("from telco" in str(error) for error in await ended(parties))


async def test_messages_of_jobs_that_do_not_exist_are_bounded(federation, monkeypatch):
    limited(monkeypatch, held_messages=10)
    async with in_the_middle(federation) as abuser:
        answers = [await abuser.send(run=f"job-{number}") for number in range(2, 14)]
        assert [answer.accepted for answer in answers] == [True] * 5 + [False] * 7
        assert "no room for another message for a run that this party has not prepared from telco" in answers[-1].text
        assert_nothing_private(federation, answers[-1].text)


async def test_many_small_chunks_are_one_message(federation):
    async with in_the_middle(federation) as abuser:
        assert (await abuser.stream([_chunk(abuser.header(part=9)), *_payload(48)])).accepted
        large = share(rows=500)
        answer = await abuser.stream([_chunk(abuser.header(large, part=10)), *_payload(8_000)])
        assert answer.accepted


async def test_stalled_streams_do_not_stay(federation, monkeypatch):
    limited(monkeypatch, stall_seconds=STALL)
    async with in_the_middle(federation) as abuser:
        large = _chunk(abuser.header(tensors=_spec(HUGE // 8, 1), total_bytes=HUGE))
        for _ in range(3):
            abuser.begin(large)
        answers = await abuser.begun()
        for _ in range(2 * MAX_CALLS_OF_ONE):
            abuser.begin(_chunk(abuser.header(part=5)), *_payload(1))
        answers += await abuser.begun()
        for answer in answers:
            assert not answer.accepted
            assert_nothing_private(federation, answer.text)
        texts = [answer.text for answer in answers]
        assert sum("no room for another message from telco" in text for text in texts) == 1
        assert sum("calls in progress at bank, the most allowed" in text for text in texts) == MAX_CALLS_OF_ONE
        assert sum(f"stalled for {STALL:g} s" in text for text in texts) == MAX_CALLS_OF_ONE + 2
        assert (await abuser.send(part=6)).accepted


async def test_stalled_streams_of_one_party_do_not_keep_the_others_out(federation):
    async with in_the_middle(federation, HONEST) as abuser:
        count = m.IdCount(np.zeros(1, np.int64))
        for part in range(2 * MAX_CALLS_OF_ONE):
            abuser.begin(_chunk(abuser.header(count, part=part)))
        # While they hang, the step that follows goes through clinic, which telco owes nothing in it.
        await asyncio.sleep(0.2)


PART_POINTS = 16
LAST_PART = 240 // PART_POINTS - 1


async def test_parts_in_another_order_and_twice_make_the_same_list(federation, monkeypatch):
    monkeypatch.setattr(sets, "PART_POINTS", PART_POINTS)
    monkeypatch.setattr(alignment, "PART_POINTS", PART_POINTS)
    delivered = defaultdict(asyncio.Event)
    overtaken = []

    async def reordering(channel, receiver, address, message, seconds):
        if address.kind != "blinded_id_list" or address.sender != ABUSER:
            return await channel.deliver(address, message, seconds)
        if address.part % 2 == 0:
            with suppress(TimeoutError):  # nothing comes after the last part
                limit = 0.3 if address.part % alignment._PARTS_OF_A_LIST == LAST_PART else 30.0
                await asyncio.wait_for(delivered[receiver, address.part + 1].wait(), limit)
                overtaken.append(address)
        await channel.deliver(address, message, seconds)
        delivered[receiver, address.part].set()
        with suppress(RemoteError):  # it may have been taken meanwhile
            await channel.deliver(address, message, seconds)
        return None

    run = await run_federation(federation, count_only=True, deliver=reordering)
    assert set(run.errors.values()) == {None}
    assert run.outcome.rows == 240
    assert len(overtaken) == LAST_PART  # half of that in each of two lists
