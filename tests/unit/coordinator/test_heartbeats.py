"""Heartbeats: a party that has not heard of an attempt yet is waited for; one that has forgotten it is not."""

import asyncio
import itertools

import pytest
from support.federations.federation import ACTIVE
from support.federations.in_process import job_of, parties_in_process
from support.virtual_time import in_virtual_time

from vfl import messages as m
from vfl.coordinator.heartbeats import HeartbeatMonitor
from vfl.coordinator.parties import PartyClients
from vfl.errors import DeadlineExceeded, MismatchError, PartyRestarted, RemoteError
from vfl.ids import AttemptId
from vfl.job.callbacks import Callbacks
from vfl.job.digests import job_digest
from vfl.job.tables import HEARTBEAT_SECONDS, TimeoutConfig
from vfl.party.config import load_party
from vfl.party.service.refusals import not_prepared
from vfl.party.service.service import PartyService
from vfl.version import PROTOCOL_VERSION

JOB, SECONDS = "job-1", 30.0


async def _of_a_new_process(*_):
    raise not_prepared()


@in_virtual_time
async def test_a_party_is_missed_only_after_it_has_known_of_the_attempt(federation, monkeypatch):
    async with parties_in_process(federation.write(), over_grpc=False) as (_, clients):
        attendance = HeartbeatMonitor(
            PartyClients(clients, ACTIVE), AttemptId(job_of(federation), JOB, 0), TimeoutConfig(), Callbacks(())
        )
        watching = asyncio.create_task(attendance.watch())
        await asyncio.sleep(20 * HEARTBEAT_SECONDS)  # the call to prepare is still on its way
        assert not watching.done()
        setup = load_party(federation.path(ACTIVE))
        prepare = m.Prepare(job_of(federation), JOB, 0, job_digest(setup.job, setup.federation), PROTOCOL_VERSION)
        await asyncio.gather(*(client.prepare(prepare) for client in clients.values()))
        await asyncio.sleep(20 * HEARTBEAT_SECONDS)
        assert not watching.done()
        monkeypatch.setattr(PartyService, "heartbeat", _of_a_new_process)
        with pytest.raises(RemoteError) as raised:
            await asyncio.wait_for(watching, SECONDS)
    assert raised.value.remote_code == PartyRestarted.code


class Said:
    """A party that is asked for something and never does it; its heartbeats are these, one after the other."""

    def __init__(self, *alive):
        self._alive = itertools.cycle(alive)

    async def heartbeat(self, _call, _seconds):
        said = next(self._alive)
        if isinstance(said, Exception):
            raise said
        return said

    async def asked(self):
        await asyncio.Event().wait()


async def _watched(clients, asked, seconds):
    """Watch parties for some time, of which these have been asked for something."""
    parties = PartyClients(clients, ACTIVE)
    others = [name for name in clients if name not in asked]
    asking = asyncio.create_task(parties.each(lambda name, client: _none() if name in others else client.asked()))
    monitor = HeartbeatMonitor(parties, AttemptId(JOB, JOB, 0), TimeoutConfig(), Callbacks(()))
    try:
        async with asyncio.timeout(seconds):
            await monitor.watch()
    finally:
        asking.cancel()


async def _none():
    return None


IDLE = m.Alive("clinic", "", 9)
LIMIT = 2 * TimeoutConfig().progress
EXCUSES = {
    "it waits for a party that has done everything": (m.Alive(ACTIVE, "a local epoch", 5, "clinic", 0.0),),
    "it waits for itself": (m.Alive(ACTIVE, "a local epoch", 5, ACTIVE, 0.0),),
    "it waits for the coordinator": (m.Alive(ACTIVE, "a local epoch", 5, "coordinator", 0.0),),
    "it does nothing, now and then": (m.Alive(ACTIVE, "a local epoch", 5), m.Alive(ACTIVE, "", 5)),
}


@pytest.mark.parametrize("excuse", EXCUSES)
@in_virtual_time
async def test_a_party_that_finishes_nothing_is_named_whatever_its_excuse(excuse):
    clients = {ACTIVE: Said(*EXCUSES[excuse]), "clinic": Said(IDLE)}
    with pytest.raises(DeadlineExceeded, match=f"{ACTIVE} made no progress"):
        await _watched(clients, {ACTIVE}, LIMIT + 10)


OTHER_JOB = RemoteError("clinic", MismatchError.code, "this party does not serve the job named in the call")


@in_virtual_time
async def test_a_party_that_still_serves_the_job_of_its_file_is_given_time_for_the_offer():
    working = (m.Alive("clinic", "alignment", pieces) for pieces in itertools.count())
    clients = {ACTIVE: Said(m.Alive(ACTIVE, "", 9)), "clinic": Said()}
    clients["clinic"]._alive = itertools.chain([OTHER_JOB] * 20, itertools.islice(working, 20), [OTHER_JOB])
    with pytest.raises(RemoteError, match="does not serve the job"):
        await _watched(clients, {"clinic"}, 60)
    assert list(clients["clinic"]._alive) == [], "only once it has begun is that the end"


@in_virtual_time
async def test_a_party_that_waits_for_a_slow_one_is_not_blamed():
    working = (m.Alive("clinic", "alignment", pieces) for pieces in itertools.count())
    clients = {ACTIVE: Said(m.Alive(ACTIVE, "alignment", 5, "clinic", 7.0)), "clinic": Said()}
    clients["clinic"]._alive = working
    with pytest.raises(TimeoutError):
        await _watched(clients, {ACTIVE, "clinic"}, 5 * LIMIT)


@in_virtual_time
async def test_a_party_that_is_asked_for_nothing_may_be_idle():
    with pytest.raises(TimeoutError):
        await _watched({ACTIVE: Said(m.Alive(ACTIVE, "", 5)), "clinic": Said(IDLE)}, set(), 5 * LIMIT)
