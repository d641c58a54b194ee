"""Calls for jobs and runs that are not a party's own neither end nor claim it, and the real run goes on to its end.

Real servers and certificates: whoever calls holds the coordinator's, as every coordinator of a federation does.
"""

import asyncio

import pytest
from support.federations.federation import ACTIVE, COORDINATOR
from support.federations.in_process import parties_in_process

from vfl import messages as m
from vfl.configuration.toml_files import load_toml
from vfl.coordinator.config import CoordinatorConfig
from vfl.coordinator.process import RunOptions, coordinator_network, run_job
from vfl.errors import MismatchError, PartyRestarted, RemoteError, VflError
from vfl.job.callbacks import Callback
from vfl.job.digests import job_digest, job_id
from vfl.job.setup import load_job_setup
from vfl.party.config import load_party
from vfl.version import PROTOCOL_VERSION

CLINIC, SECONDS, NONSENSE = "clinic", 30.0, "nonsense"
UNKNOWN = "job-nobody"


class Calls:
    """Calls to clinic: of another job, of a job with the same name and other files, and of unknown runs of its own."""

    def __init__(self, federation, client):
        setup = load_party(federation.path(ACTIVE))
        self.client = client
        self.own, self.digest = job_id(setup.job, setup.federation), job_digest(setup.job, setup.federation)
        self.foreign, self.same_name = "another@0123", f"{setup.job.name}@0123"

    def prepare(self, job, digest, run=UNKNOWN):
        return self.client.prepare(m.Prepare(job, run, 0, digest, PROTOCOL_VERSION))

    def abort(self, job, run=UNKNOWN):
        return self.client.abort(m.Abort(job, run, 0, COORDINATOR, "data", "not yours"), SECONDS)

    def release(self, job, run=UNKNOWN):
        return self.client.release(m.Release(job, run, 0), SECONDS)


async def refused(call, code=MismatchError.code):
    with pytest.raises(RemoteError) as raised:
        await call
    assert raised.value.remote_code == code
    return raised.value


async def attack(calls, run=UNKNOWN):
    """Everything that could end or claim clinic.

    Args:
        run: an unknown run, or that of the real coordinator, whose name can be guessed.
    """
    for job in (calls.foreign, calls.same_name):
        await refused(calls.abort(job, run))
        await refused(calls.release(job, run))
    assert "does not serve the job" in (await refused(calls.prepare(calls.foreign, calls.digest, run))).summary
    for job in (calls.own, calls.same_name):  # the second would claim the party, too, if only the name counted
        assert "differs from the coordinator's in" in (await refused(calls.prepare(job, NONSENSE, run))).summary


async def lead(federation, **changes):
    """An honest coordinator, of a job that is the parties' own, but for the changes."""
    job, settings, _ = load_job_setup(federation.path(COORDINATOR, "job.toml"))
    callbacks = changes.pop("callbacks", ())
    tls = load_toml(federation.path(COORDINATOR, "coordinator.toml"), CoordinatorConfig).tls
    async with coordinator_network(settings, tls) as network:
        return await run_job(job.model_copy(update=changes), settings, network, RunOptions(callbacks=callbacks))


def logs(federation):
    return sorted(path.name for path in federation.path(CLINIC, "audit").glob("*.jsonl"))


async def test_a_waiting_party_is_neither_ended_nor_claimed_and_then_serves_its_run(federation):
    async with parties_in_process(federation.write()) as (parties, clients):
        calls = Calls(federation, clients[CLINIC])
        await attack(calls)
        await refused(calls.release(calls.own), PartyRestarted.code)
        with pytest.raises(RemoteError, match="does not serve the job"):
            await lead(federation, name="another")
        await asyncio.sleep(0.5)
        assert not any(party.done() for party in parties.values())
        assert logs(federation) == [], "what was refused has no log"
        outcome = await lead(federation)
        assert outcome.steps
        assert await asyncio.wait_for(asyncio.gather(*parties.values()), SECONDS) == [None, None]
    assert len(logs(federation)) == 1


async def test_a_party_that_serves_run_after_run_is_not_ended_by_other_files_of_the_same_name_either(federation):
    async with parties_in_process(federation.write(), keep_serving=True) as (parties, clients):
        await attack(Calls(federation, clients[CLINIC]))
        with pytest.raises(RemoteError, match="differs from the coordinator's in: seed"):
            await lead(federation, seed=99)
        await asyncio.sleep(0.5)
        assert not any(party.done() for party in parties.values())
        assert logs(federation) == []
        assert (await lead(federation)).steps


async def test_a_working_party_goes_on(federation):
    federation.job["training"]["passes"] = 4
    attacked = []

    async with parties_in_process(federation.write()) as (parties, clients):
        calls = Calls(federation, clients[CLINIC])

        class InTheMiddle(Callback):
            def on_epoch(self, epoch):
                if not attacked:
                    attacked.append(asyncio.ensure_future(everything()))

        async def everything():
            (log,) = logs(federation)
            run = log.partition(".")[0]
            await attack(calls)
            await attack(calls, run)
            await calls.abort(calls.own)  # accepted as the job's own, and of another run
            await refused(calls.release(calls.own), PartyRestarted.code)
            await refused(calls.prepare(calls.own, calls.digest), "policy")
            for changes in ({"name": "another"}, {"seed": 99}):
                with pytest.raises(RemoteError, match=r"does not serve|differs from the coordinator's in: seed"):
                    await lead(federation, **changes)

        outcome = await lead(federation, callbacks=(InTheMiddle(),))
        await attacked[0]
        assert not outcome.recoveries
        assert await asyncio.wait_for(asyncio.gather(*parties.values()), SECONDS) == [None, None]
    assert len(logs(federation)) == 1


async def test_a_party_whose_files_differ_ends_with_that_and_names_them_once_its_run_was_given_up(federation):
    """A party that serves one run is started for it; nobody should have to wait until it gives up."""
    async with parties_in_process(federation.write()) as (parties, _):
        with pytest.raises(RemoteError, match="differs from the coordinator's in: seed"):
            await lead(federation, seed=99)
        for error in await asyncio.wait_for(asyncio.gather(*parties.values()), SECONDS):
            assert isinstance(error, MismatchError)
            assert "in: seed" in error.summary


async def test_what_was_refused_is_not_the_reason_that_another_run_ends_with(federation):
    async with parties_in_process(federation.write()) as (parties, clients):
        calls = Calls(federation, clients[CLINIC])
        await refused(calls.prepare(calls.same_name, NONSENSE))
        await calls.client.abort(m.Abort(calls.own, "run-1", 0, COORDINATOR, "data", "bank: no table"), SECONDS)
        error = await asyncio.wait_for(parties[CLINIC], SECONDS)
        assert isinstance(error, VflError)
        assert "bank: no table" in error.summary


async def test_a_party_that_was_restarted_after_saving_is_released(federation):
    async with parties_in_process(federation.write()) as (parties, _):
        await lead(federation)
        await asyncio.gather(*parties.values())
    (log,) = logs(federation)
    async with parties_in_process(federation) as (parties, clients):
        calls = Calls(federation, clients[CLINIC])
        await refused(calls.release(calls.own), PartyRestarted.code)
        await calls.release(calls.own, log.partition(".")[0])
        assert await asyncio.wait_for(parties[CLINIC], SECONDS) is None
