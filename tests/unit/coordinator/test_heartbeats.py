"""Heartbeats: a party that has not heard of an attempt yet is waited for; one that has forgotten it is not."""

import asyncio

import pytest
from support.federations.federation import ACTIVE
from support.federations.in_process import job_of, parties_in_process
from support.virtual_time import in_virtual_time

from vfl import messages as m
from vfl.coordinator.heartbeats import HeartbeatMonitor
from vfl.coordinator.parties import PartyClients
from vfl.errors import PartyRestarted, RemoteError
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
