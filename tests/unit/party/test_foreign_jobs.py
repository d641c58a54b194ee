"""Calls of a job that a party does not serve are refused, whatever they ask for: they end, claim or release nothing."""

import asyncio

import pytest
from support.federations.federation import ACTIVE
from support.federations.in_process import job_of, parties_in_process

from vfl import messages as m
from vfl.errors import MismatchError, RemoteError
from vfl.job.digests import job_digest
from vfl.party.config import load_party
from vfl.version import PROTOCOL_VERSION

CLINIC, SECONDS, FOREIGN = "clinic", 30.0, "another@0123"


def prepare(federation, job, run="job-1"):
    setup = load_party(federation.path(ACTIVE))
    return m.Prepare(job, run, 0, job_digest(setup.job, setup.federation), PROTOCOL_VERSION)


@pytest.mark.parametrize("working", [False, True], ids=["waiting", "working"])
async def test_a_foreign_job_ends_claims_and_releases_nothing(federation, working):
    async with parties_in_process(federation.write()) as (parties, clients):
        clinic, own = clients[CLINIC], job_of(federation)
        if working:
            await clinic.prepare(prepare(federation, own))
        for call in (
            lambda: clinic.prepare(prepare(federation, FOREIGN, "another-1")),
            lambda: clinic.abort(m.Abort(FOREIGN, "job-1", 0, "coordinator", "data", "not yours"), SECONDS),
            lambda: clinic.release(m.Release(FOREIGN, "job-1", 0), SECONDS),
            lambda: clinic.heartbeat(m.Heartbeat(FOREIGN, "job-1", 0), SECONDS),
            lambda: clinic.finish(m.Finish(FOREIGN, "job-1", 0)),
        ):
            with pytest.raises(RemoteError, match="does not serve the job") as raised:
                await call()
            assert raised.value.remote_code == MismatchError.code
        await asyncio.sleep(0.1)
        assert not parties[CLINIC].done()
        assert (await clinic.prepare(prepare(federation, own))).party == CLINIC
    logs = federation.path(CLINIC, "audit")
    assert [log.name for log in logs.iterdir()] == ["job-1.clinic.jsonl"], "a refused job leaves no log of its own"
