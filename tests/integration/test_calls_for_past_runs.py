"""A coordinator that ends a run before it has come to its end, begins one again that is over, or names its run as one
of another job.

What it could do otherwise: let a party report success without a model, and replace models that were saved.
"""

import asyncio
import json

import pytest
from support.federations.federation import ACTIVE
from support.federations.in_process import job_of, parties_in_process

from vfl import messages as m
from vfl.errors import PartyRestarted, PolicyRefusal, RemoteError
from vfl.job.digests import job_digest
from vfl.party.config import load_party
from vfl.version import PROTOCOL_VERSION

RUN, CLINIC, SECONDS = "job-1", "clinic", 30.0


def prepare(federation, run=RUN, attempt=0):
    setup = load_party(federation.path(ACTIVE))
    digest = job_digest(setup.job, setup.federation)
    return m.Prepare(job_of(federation), run, attempt, digest, PROTOCOL_VERSION)


async def refused(call, code=PolicyRefusal.code):
    with pytest.raises(RemoteError) as raised:
        await call
    assert raised.value.remote_code == code
    return raised.value.summary


async def of_all(clients, call):
    await asyncio.gather(*(call(client) for client in clients.values()))


async def count_common_ids(federation, clients):
    """A whole run, though a short one."""
    job = job_of(federation)
    await of_all(clients, lambda c: c.prepare(prepare(federation)))
    await of_all(clients, lambda c: c.align(m.Align(job, RUN, 0, True), SECONDS))
    await of_all(clients, lambda c: c.finish(m.Finish(job, RUN, 0)))


async def test_a_run_that_was_not_saved_is_not_over(federation):
    async with parties_in_process(federation.write(), over_grpc=False) as (parties, clients):
        clinic, release = clients[CLINIC], m.Release(job_of(federation), RUN, 0)
        await of_all(clients, lambda c: c.prepare(prepare(federation)))
        assert "that this party has not saved" in await refused(clinic.release(release, SECONDS))
        assert "before the alignment" in await refused(clinic.finish(m.Finish(job_of(federation), RUN, 0)))
        assert "that this party has not saved" in await refused(clinic.release(release, SECONDS))
        await asyncio.sleep(0.2)
        assert not parties[CLINIC].done()
    async with parties_in_process(federation, over_grpc=False) as (parties, clients):
        await refused(clients[CLINIC].release(release, SECONDS), PartyRestarted.code)
        await asyncio.sleep(0.2)
        assert not parties[CLINIC].done(), "it has a log of the run, which says that nothing was saved"


async def test_a_finished_run_does_not_begin_again(federation):
    async with parties_in_process(federation.write(), keep_serving=True, over_grpc=False) as (_, clients):
        await count_common_ids(federation, clients)
        await of_all(clients, lambda c: c.release(m.Release(job_of(federation), RUN, 0), SECONDS))
        log = federation.path(CLINIC, "audit") / f"{RUN}.{CLINIC}.jsonl"
        await asyncio.sleep(3.0)  # it waits for the next run
        assert json.loads(log.read_bytes().splitlines()[-1])["event"] == "closed"
        assert "finished here" in await refused(clients[CLINIC].prepare(prepare(federation, attempt=7)))
        assert (await clients[CLINIC].prepare(prepare(federation, "job-2"))).party == CLINIC
    assert not log.with_name(f"{RUN}.{CLINIC}.2.jsonl").exists()


@pytest.mark.parametrize("run", ["another-1", "job-risk-1", "job", "job-1-1", "-job"])
async def test_a_run_is_named_as_one_of_its_own_job(federation, run):
    async with parties_in_process(federation.write(), over_grpc=False) as (_, clients):
        assert "name of another job's" in await refused(clients[CLINIC].prepare(prepare(federation, run)))
        assert (await clients[CLINIC].prepare(prepare(federation))).party == CLINIC
