import asyncio
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfl.errors import DeadlineExceeded, InternalError, JobAborted, ModelError, ProtocolError
from vfl.ids import StepKey
from vfl.transport.inbox import Inbox
from vfl.transport.inbox.open_run import StepRanges
from vfl.transport.wire.limits import Limits

SHARE_BYTES = 48


async def take(inbox, address, seconds=5.0):
    return await inbox.take(address, seconds, "the top phase")


async def waiting(inbox, address):
    task = asyncio.create_task(take(inbox, address))
    await asyncio.sleep(0)
    return task


async def test_a_message_is_taken_once_whether_it_came_before_or_after(inbox, share):
    early, late = share(step=0), share(step=1)
    inbox.put(*early)
    assert await take(inbox, early[0]) is early[1]
    task = await waiting(inbox, late[0])
    assert not task.done()
    inbox.put(*late)
    assert await task is late[1]
    assert inbox.stored_bytes == 0
    with pytest.raises(InternalError, match="twice"):
        await take(inbox, early[0])


async def test_a_deadline_names_peer_kind_and_seconds(inbox, share):
    with pytest.raises(DeadlineExceeded, match=r"shop did not send 'forward_share' within 0\.01 s.*the top phase"):
        await take(inbox, share()[0], seconds=0.01)
    inbox.put(*share())
    assert await take(inbox, share()[0]) is not None


async def test_a_cancelled_take_leaves_the_message_there(inbox, share):
    address, message = share()
    task = await waiting(inbox, address)
    inbox.put(address, message)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await take(inbox, address) is message


async def test_a_second_wait_for_the_same_address_is_a_defect(inbox, share):
    task = await waiting(inbox, share()[0])
    with pytest.raises(InternalError, match="twice"):
        await take(inbox, share()[0])
    inbox.put(*share())
    await task


async def test_an_identical_retransmission_is_accepted_once(inbox, share):
    inbox.put(*share())
    inbox.put(*share())
    assert inbox.stored_bytes == SHARE_BYTES
    with pytest.raises(ProtocolError, match="arrived twice"):
        inbox.put(*share(fill=1))
    with pytest.raises(ProtocolError, match="arrived twice"):
        inbox.put(*share(rows=4))
    np.testing.assert_array_equal((await take(inbox, share()[0])).sh_z_BK, share()[1].sh_z_BK)


async def test_a_message_already_taken_is_refused(inbox, share):
    inbox.put(*share())
    await take(inbox, share()[0])
    with pytest.raises(ProtocolError, match="arrived twice"):
        inbox.put(*share())


async def test_parts_of_one_kind_are_different_messages_each_taken_once(inbox, share):
    address, message = share()
    second = replace(address, part=1)
    inbox.put(address, message)
    inbox.put(second, share(fill=1)[1])
    np.testing.assert_array_equal((await take(inbox, second)).sh_z_BK, share(fill=1)[1].sh_z_BK)
    with pytest.raises(ProtocolError, match="arrived twice"):
        inbox.put(second, message)
    assert await take(inbox, address) is message


async def test_a_stranger_to_the_job_is_refused(inbox, share):
    with pytest.raises(ProtocolError, match="does not take part"):
        inbox.put(*share(sender="other"))
    with pytest.raises(InternalError, match="never arrive"):
        await take(inbox, share(sender="other")[0])


def test_bytes_are_bounded(share):
    inbox = Inbox(Limits(inbox_bytes=2 * SHARE_BYTES, steps_ahead=2), senders=1)
    inbox.open_run("job-1", 0, {"shop"})
    inbox.put(*share(step=0))
    with (
        inbox.reserve(share()[0], SHARE_BYTES),
        pytest.raises(ProtocolError, match="no room"),
        inbox.reserve(share()[0], 1),
    ):
        pass
    inbox.put(*share(step=1))
    with pytest.raises(ProtocolError, match="no room"):
        inbox.put(*share(step=2))
    with pytest.raises(ProtocolError, match="no room"), inbox.reserve(share()[0], 1):
        pass


async def test_messages_without_content_are_bounded_too(share):
    inbox = Inbox(Limits(inbox_messages=2), senders=1)
    inbox.open_run("job-1", 0, {"shop"})
    for part in range(2):
        inbox.put(replace(share()[0], part=part), share(rows=0)[1])
    with pytest.raises(ProtocolError, match="no room for another message from shop"):
        inbox.put(replace(share()[0], part=2), share(rows=0)[1])


async def test_one_of_several_senders_takes_half_at_most(share):
    inbox = Inbox(Limits(inbox_bytes=4 * SHARE_BYTES, steps_ahead=4))
    inbox.open_run("job-1", 0, {"shop", "telco"})
    inbox.put(*share(step=0))
    with (
        inbox.reserve(share()[0], SHARE_BYTES),
        pytest.raises(ProtocolError, match="room for another message from shop"),
    ):
        inbox.put(*share(step=1))
    inbox.put(*share(step=1))
    with pytest.raises(ProtocolError, match="no room for another message from shop"):
        inbox.put(*share(step=2))
    for step in range(2):
        inbox.put(*share(step=step, sender="telco"))
    await take(inbox, share(step=0)[0])
    inbox.put(*share(step=2))


def test_only_messages_of_this_step_and_the_next_are_taken_and_old_ones_dropped(share):
    inbox = Inbox()
    inbox.open_run("job-1", 1, {"shop"})
    share = partial(share, attempt=1)
    inbox.put(*share(step=0))
    inbox.put(*share(step=1))
    with pytest.raises(ProtocolError, match="shop sent 'forward_share' for step 2, but the run is at 0"):
        inbox.put(*share(step=2))
    inbox.reached(StepKey("job-1", 1, 1))
    inbox.reached(StepKey("job-1", 0, 1))
    inbox.reached(StepKey("job-1", 7, 0))
    inbox.reached(StepKey("unknown", 7, 1))
    assert inbox.stored_bytes == SHARE_BYTES
    inbox.put(*share(step=2))
    with pytest.raises(ProtocolError, match="for step 0, but the run is at 1"):
        inbox.put(*share(step=0))


async def test_early_messages_are_held_until_the_job_opens(share):
    inbox = Inbox()
    inbox.put(*share())
    inbox.put(*share(sender="other"))
    with pytest.raises(InternalError, match="never arrive"):
        await take(inbox, share()[0])
    inbox.open_run("job-1", 0, {"shop"})
    assert inbox.stored_bytes == SHARE_BYTES, "the stranger's message is dropped"
    assert await take(inbox, share()[0]) is not None
    assert inbox.stored_bytes == 0


@pytest.mark.parametrize("limits", [Limits(held_bytes=2 * SHARE_BYTES), Limits(held_messages=2)])
def test_what_is_held_is_bounded(share, limits):
    inbox = Inbox(replace(limits, steps_ahead=3), senders=1)
    for step in (0, 1, 1):
        inbox.put(*share(step=step))
    with pytest.raises(ProtocolError, match="not prepared"):
        inbox.put(*share(step=2))
    inbox.open_run("job-1", 0, {"shop"})
    inbox.put(*share(step=2))
    inbox.put(*share(step=3, attempt=1))


def test_before_a_run_opens_one_sender_has_only_its_share(share):
    """Neither by messages nor by announcements of large ones, which reserve room until they have arrived or stalled."""
    limits = Limits(held_bytes=6 * SHARE_BYTES, held_messages=6, inbox_bytes=1000 * SHARE_BYTES)
    inbox = Inbox(limits, senders=3)
    inbox.put(*share(step=0))
    with inbox.reserve(share(step=1)[0], SHARE_BYTES):
        for run in ("job-1", "job-2"):
            late = replace(share()[0], key=StepKey(run, 2, 0))
            with pytest.raises(ProtocolError, match="has not prepared from shop"), inbox.reserve(late, 1):
                pass
        with pytest.raises(ProtocolError, match="has not prepared from shop"):
            inbox.put(*share(step=2))
        for sender in ("telco", "clinic"):
            with inbox.reserve(share(sender=sender)[0], 2 * SHARE_BYTES):
                pass
            inbox.put(*share(sender=sender))
    inbox.put(*share(step=1))
    inbox.open_run("job-1", 0, {"shop", "telco", "clinic"})
    with inbox.reserve(share(step=1)[0], 100 * SHARE_BYTES):
        pass
    inbox.put(*share(step=0, attempt=1))


def test_another_run_with_one_sender_gives_nobody_more_than_its_share(share):
    inbox = Inbox(Limits(inbox_bytes=4 * SHARE_BYTES))
    inbox.open_run("job-1", 0, {"shop", "telco"})
    inbox.open_run("job-2", 0, {"shop"})
    own_share = pytest.raises(ProtocolError, match="no room for another message from shop")
    with own_share, inbox.reserve(share()[0], 3 * SHARE_BYTES):
        pass


async def test_a_new_attempt_replaces_the_old_one_and_adopts_what_came_for_it(inbox, share):
    inbox.put(*share())
    inbox.put(*share(attempt=1, fill=5))
    task = await waiting(inbox, share(step=3)[0])
    inbox.open_run("job-1", 1, {"shop"})
    with pytest.raises(JobAborted):
        await task
    with pytest.raises(ProtocolError, match="attempt that is over"):
        inbox.put(*share(step=1))
    assert inbox.stored_bytes == SHARE_BYTES
    assert (await take(inbox, share(attempt=1)[0])).sh_z_BK[0, 0] == 5


def test_opening_again_is_idempotent_but_never_goes_back(inbox, share):
    inbox.put(*share())
    inbox.open_run("job-1", 0, {"telco", "shop"})
    assert inbox.stored_bytes == SHARE_BYTES
    with pytest.raises(ProtocolError, match="already opened"):
        inbox.open_run("job-1", 0, {"shop"})
    inbox.discard_run("job-1")
    with pytest.raises(ProtocolError, match="already opened"):
        inbox.open_run("job-1", 0, {"shop", "telco"})


async def test_discarding_frees_memory_wakes_waiters_and_refuses_late_messages(inbox, share):
    inbox.put(*share())
    task = await waiting(inbox, share(step=1)[0])
    inbox.discard_run("job-1")
    with pytest.raises(JobAborted, match="over"):
        await task
    assert inbox.stored_bytes == 0
    with pytest.raises(ProtocolError, match="attempt that is over"):
        inbox.put(*share(step=1))
    inbox.discard_run("unknown")


async def test_a_failure_reaches_every_waiter_and_every_later_take_and_put(inbox, share):
    inbox.put(*share(step=5))
    tasks = [await waiting(inbox, share(step=step)[0]) for step in range(3)]
    failure = ModelError("the bottom returned NaN")
    inbox.fail("job-1", failure)
    inbox.fail("job-1", ModelError("a later failure"))
    assert await asyncio.gather(*tasks, return_exceptions=True) == [failure] * 3
    with pytest.raises(ModelError, match="NaN"):
        await take(inbox, share(step=5)[0])
    with pytest.raises(ModelError, match="NaN"):
        inbox.put(*share(step=6))
    assert inbox.stored_bytes == 0
    inbox.open_run("job-1", 1, {"shop"})
    inbox.put(*share(attempt=1))
    assert await take(inbox, share(attempt=1)[0]) is not None


async def test_a_failure_beats_a_message_that_arrived_in_the_same_moment(inbox, share):
    task = await waiting(inbox, share()[0])
    inbox.put(*share())
    inbox.fail("job-1", ModelError("stop"))
    with pytest.raises(ModelError):
        await task


@given(st.lists(st.integers(-5, 30), max_size=60))
def test_steps_are_a_set_of_integers(steps):
    compact = StepRanges()
    for step in steps:
        compact.add(step)
    assert {s for s in range(-7, 33) if s in compact} == set(steps)


def test_steps_in_order_take_constant_memory():
    compact = StepRanges()
    for step in range(1000):
        compact.add(step)
    assert compact._starts == [0]
    assert compact._ends == [999]


async def test_a_stored_failure_does_not_grow_with_each_message_that_it_refuses(inbox, share):
    failure = ModelError("the output is not finite")
    inbox.fail("job-1", failure)

    def frames():
        count, trace = 0, failure.__traceback__
        while trace is not None:
            count, trace = count + 1, trace.tb_next
        return count

    lengths = []
    for step in range(50):
        with pytest.raises(ModelError):
            inbox.put(*share(step=step % 2))
        with pytest.raises(ModelError):
            await take(inbox, share()[0])
        lengths.append(frames())
    assert lengths[0] == lengths[-1]
