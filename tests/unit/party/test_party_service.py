"""How a party answers its coordinator: once for every call, however often it comes, and with a reason when it stops."""

import asyncio
import threading
from pathlib import Path

import pytest
from support.federations.federation import ACTIVE
from support.federations.in_process import job_of, parties_in_process
from support.virtual_time import in_virtual_time

from vfl import messages as m
from vfl.errors import (
    ConfigError,
    DataError,
    DeadlineExceeded,
    JobAborted,
    PartyRestarted,
    PeerUnreachable,
    PolicyRefusal,
    RemoteError,
    is_retryable,
)
from vfl.ids import Batch, Phase, Role, Split, StepKey
from vfl.job.digests import job_digest, job_id
from vfl.job.schedule import EVALUATION_PHASES, JOINT_PHASES
from vfl.party.config import load_party
from vfl.party.learning.bottom import BottomTrainer
from vfl.party.learning.top import TopTrainer
from vfl.party.peers.idle_work import IdleWork
from vfl.runtime.progress import current_progress
from vfl.version import PROTOCOL_VERSION

JOB, CLINIC, SECONDS = "job-1", "clinic", 60.0


def _prepare(federation, **changes):
    setup = load_party(federation.path(ACTIVE))
    call = {
        "job": job_id(setup.job, setup.federation),
        "run": JOB,
        "attempt": 0,
        "digest": job_digest(setup.job, setup.federation),
    }
    return m.Prepare(**{**call, "protocol_version": PROTOCOL_VERSION, **changes})


def _phase_call(federation, step, phase, split, epoch=0, index=0):
    return m.PhaseCall(job_of(federation), StepKey(JOB, step, 0), phase, Batch(split, epoch, index))


def _of_one_step(federation):
    """One batch of training, then one of test rows."""
    federation.job["training"] |= {"passes": 1, "batch_size": 180}
    federation.job["split"] = {"test": 0.25}
    return federation.write()


async def _begun(federation, clients):
    await asyncio.gather(*(c.prepare(_prepare(federation)) for c in clients.values()))
    await asyncio.gather(*(c.align(m.Align(job_of(federation), JOB, 0, False), SECONDS) for c in clients.values()))
    await asyncio.gather(*(c.begin(m.Begin(job_of(federation), JOB, 0)) for c in clients.values()))


async def _step(federation, clients, step, phases, split, epoch=0):
    for phase in phases:
        call = _phase_call(federation, step, phase, split, epoch)
        await asyncio.gather(*(c.run_phase(call) for c in clients.values()))


async def _every_call_three_times(clients, call):
    """Twice at once, and a third time when these are answered; the replies by party."""
    twice = [asyncio.gather(*(call(client) for client in clients.values())) for _ in range(2)]
    first, second = [await replies for replies in twice]
    third = await asyncio.gather(*(call(client) for client in clients.values()))
    assert first == second == third
    return dict(zip(clients, first, strict=True))


async def test_repeated_calls_get_the_same_reply_and_do_the_work_once(federation, monkeypatch):
    sent, updates, made = [], [], []
    make = IdleWork.__init__
    monkeypatch.setattr(IdleWork, "__init__", lambda self, pools: (make(self, pools), made.append(self))[0])
    for kind, method in ((BottomTrainer, "backward"), (TopTrainer, "step"), (TopTrainer, "score")):
        original = getattr(kind, method)

        def counting(self, *arguments, original=original, what=f"{kind.__name__}.{method}"):
            updates.append(what)
            original(self, *arguments)

        monkeypatch.setattr(kind, method, counting)
    federation.parties[ACTIVE]["train_alone"] = False  # it would take steps of its own
    async with parties_in_process(_of_one_step(federation), sent=sent) as (parties, clients):
        prepare = _prepare(federation)
        prepared = await _every_call_three_times(clients, lambda c: c.prepare(prepare))
        assert prepared == {name: m.Prepared(name, role, 240, 0) for name, role in zip(clients, Role, strict=False)}
        aligned = await _every_call_three_times(
            clients, lambda c: c.align(m.Align(job_of(federation), JOB, 0, False), SECONDS)
        )
        assert aligned[ACTIVE] == m.Aligned(240, 180, 0, 60, 4)
        await _every_call_three_times(clients, lambda c: c.begin(m.Begin(job_of(federation), JOB, 0)))
        for phase in JOINT_PHASES:
            call = _phase_call(federation, 1, phase, Split.TRAIN)
            await _every_call_three_times(clients, lambda c, call=call: c.run_phase(call))
        for phase in EVALUATION_PHASES:
            call = _phase_call(federation, 2, phase, Split.TEST, 1)
            await _every_call_three_times(clients, lambda c, call=call: c.run_phase(call))
        score = m.Score(job_of(federation), JOB, 0, Split.TEST, 1)
        scored = await _every_call_three_times({ACTIVE: clients[ACTIVE]}, lambda c: c.score(score))
        assert 0 <= scored[ACTIVE].metrics["auc"] <= 1
        finished = await asyncio.gather(
            *(c.finish(m.Finish(job_of(federation), JOB, 0)) for c in clients.values() for _ in range(2))
        )
        assert finished[0] == finished[1]
        assert not any(party.done() for party in parties.values())  # until all have saved, one may be needed again
        for client in clients.values():
            await client.release(m.Release(job_of(federation), JOB, 0), SECONDS)
        assert [await party for party in parties.values()] == [None, None]
    assert len(made) == 2
    assert all(idle._closed and not idle._pools.stored_bytes for idle in made)
    assert sorted(updates) == ["BottomTrainer.backward"] * 2 + ["TopTrainer.score", "TopTrainer.step"]
    addresses = [(address, receiver) for address, receiver, _ in sent]
    assert len(addresses) == len(set(addresses)) > 0


async def test_calls_that_are_not_in_the_schedule_are_refused_by_every_party(federation):
    """Whoever leads the run reads no metric of single batches, and has nothing released that the job does not say."""
    job = job_of(_of_one_step(federation))

    async def refused(call):
        with pytest.raises(RemoteError, match="is not what the job's schedule has next") as raised:
            await call
        assert raised.value.remote_code == PolicyRefusal.code

    async with parties_in_process(federation) as (_, clients):
        await _begun(federation, clients)
        for client in clients.values():
            await refused(client.run_phase(_phase_call(federation, 1, Phase.BOTTOM_FORWARD, Split.TRAIN, 1)))
            await refused(client.run_phase(_phase_call(federation, 1, Phase.INTERACTION_FORWARD, Split.TRAIN)))
            await refused(client.run_phase(_phase_call(federation, 2, Phase.BOTTOM_FORWARD, Split.TEST, 1)))
            await refused(client.score(m.Score(job, JOB, 0, Split.TEST, 1)))
            await refused(client.checkpoint(m.Checkpoint(job, StepKey(JOB, 1, 0), False)))
            await refused(client.finish(m.Finish(job, JOB, 0)))
        await _step(federation, clients, 1, JOINT_PHASES[:1], Split.TRAIN)
        for client in clients.values():
            await refused(client.checkpoint(m.Checkpoint(job, StepKey(JOB, 0, 0), False)))


async def test_a_passive_party_is_never_asked_for_a_score_and_nothing_follows_the_end(federation):
    job = job_of(_of_one_step(federation))
    async with parties_in_process(federation) as (_, clients):
        await _begun(federation, clients)
        await _step(federation, clients, 1, JOINT_PHASES, Split.TRAIN)
        await _step(federation, clients, 2, EVALUATION_PHASES, Split.TEST, 1)
        with pytest.raises(RemoteError, match="requested the score of the test rows"):
            await clients[CLINIC].score(m.Score(job, JOB, 0, Split.TEST, 1))
        await clients[ACTIVE].score(m.Score(job, JOB, 0, Split.TEST, 1))
        for client in clients.values():
            with pytest.raises(RemoteError, match="is not what the job's schedule has next"):
                await client.run_phase(_phase_call(federation, 3, Phase.BOTTOM_FORWARD, Split.TEST, 1))


async def test_a_caller_that_gives_up_does_not_stop_the_work(federation):
    async with parties_in_process(federation.write()) as (_, clients):
        await asyncio.gather(*(c.prepare(_prepare(federation)) for c in clients.values()))
        with pytest.raises(DeadlineExceeded):  # the active party waits for the keys of a party that was not called yet
            await clients[ACTIVE].align(m.Align(job_of(federation), JOB, 0, False), 0.3)
        aligned = await asyncio.gather(
            *(c.align(m.Align(job_of(federation), JOB, 0, False), SECONDS) for c in clients.values())
        )
        assert [reply.rows for reply in aligned] == [240, 240]


async def test_a_failed_call_fails_the_same_way_when_repeated(federation, monkeypatch):
    loads = []
    monkeypatch.setattr(
        "vfl.party.config.load_table", lambda *_, **__: loads.append(1) or _raise(DataError("no table"))
    )
    async with parties_in_process(federation.write()) as (_, clients):
        for _ in range(2):
            with pytest.raises(RemoteError, match="clinic: no table"):
                await clients[CLINIC].prepare(_prepare(federation))
    assert loads == [1]


def _raise(error):
    raise error


async def test_calls_before_the_job_is_prepared_are_refused(federation):
    async with parties_in_process(federation.write()) as (_, clients):
        for call in (
            clients[CLINIC].align(m.Align(job_of(federation), JOB, 0, False), SECONDS),
            clients[CLINIC].run_phase(_phase_call(federation, 1, Phase.TOP, Split.TRAIN)),
            clients[CLINIC].finish(m.Finish(job_of(federation), JOB, 0)),
        ):
            with pytest.raises(RemoteError, match="that this party has not prepared") as raised:
                await call
            assert raised.value.remote_code == PartyRestarted.code
            assert is_retryable(raised.value)


async def test_calls_of_another_job_are_refused(federation):
    async with parties_in_process(federation.write()) as (_, clients):
        await clients[CLINIC].prepare(_prepare(federation))
        with pytest.raises(RemoteError, match="that this party has not prepared"):
            await clients[CLINIC].finish(m.Finish(job_of(federation), "another-job", 0))


@pytest.mark.parametrize(
    ("changes", "code", "says"),
    [
        ({"protocol_version": "0"}, "protocol", "the coordinator speaks protocol 0"),
        ({"job": "job@1", "digest": "model=1"}, "mismatch", "job or federation file differs"),
    ],
)
async def test_a_job_that_does_not_fit_is_refused_at_prepare(federation, changes, code, says):
    async with parties_in_process(federation.write()) as (_, clients):
        with pytest.raises(RemoteError, match=says) as raised:
            await clients[CLINIC].prepare(_prepare(federation, **changes))
        assert raised.value.remote_code == code
        with pytest.raises(RemoteError):  # what was refused is not prepared
            await clients[CLINIC].align(m.Align(job_of(federation), JOB, 0, False), SECONDS)


async def test_a_party_works_on_one_job_at_a_time(federation):
    async with parties_in_process(federation.write()) as (_, clients):
        await clients[CLINIC].prepare(_prepare(federation))
        with pytest.raises(RemoteError, match="busy with another run") as raised:
            await clients[CLINIC].prepare(_prepare(federation, run="job-2"))
        assert raised.value.remote_code == PolicyRefusal.code


async def test_an_abort_ends_the_job_with_its_reason_and_no_other_job(federation):
    async with parties_in_process(federation.write()) as (parties, clients):
        await clients[CLINIC].prepare(_prepare(federation))
        await clients[CLINIC].abort(
            m.Abort(job_of(federation), "job-2", 0, "coordinator", "aborted", "not this one"), SECONDS
        )
        assert not parties[CLINIC].done()
        await clients[CLINIC].abort(
            m.Abort(job_of(federation), JOB, 0, "coordinator", "data", "bank: no table"), SECONDS
        )
        error = await asyncio.wait_for(parties[CLINIC], SECONDS)
        assert isinstance(error, JobAborted)
        assert error.summary == "the run was stopped: bank: no table"


@pytest.mark.parametrize("keep_serving", [True, False])
async def test_an_abort_before_the_job_came_ends_the_wait_of_a_party_that_serves_one_job(federation, keep_serving):
    async with parties_in_process(federation.write(), keep_serving=keep_serving) as (parties, clients):
        await clients[CLINIC].abort(
            m.Abort(job_of(federation), JOB, 0, "coordinator", "unreachable", "bank did not answer"), SECONDS
        )
        if keep_serving:
            await clients[CLINIC].prepare(_prepare(federation))
            assert not parties[CLINIC].done()
        else:
            error = await asyncio.wait_for(parties[CLINIC], SECONDS)
            assert error is not None
            assert "bank did not answer" in error.summary


async def test_where_the_error_happened_the_process_ends_with_all_of_it(federation):
    del federation.tables[CLINIC]
    async with parties_in_process(federation.write()) as (parties, clients):
        with pytest.raises(RemoteError) as raised:
            await clients[CLINIC].prepare(_prepare(federation))
        assert str(federation.folder) not in str(raised.value)
        await clients[CLINIC].abort(
            m.Abort(job_of(federation), JOB, 0, "coordinator", "remote", raised.value.summary), SECONDS
        )
        error = await asyncio.wait_for(parties[CLINIC], SECONDS)
    assert isinstance(error, DataError)
    assert str(federation.path(CLINIC, "table.csv")) in str(error)


async def test_a_party_that_serves_on_takes_the_next_job(federation):
    async with parties_in_process(federation.write(), keep_serving=True) as (parties, clients):
        for job in (JOB, "job-2"):
            await clients[CLINIC].wait_ready(30)
            await clients[CLINIC].prepare(_prepare(federation, run=job))
            await clients[CLINIC].abort(
                m.Abort(job_of(federation), job, 0, "coordinator", "aborted", "enough"), SECONDS
            )
            await asyncio.sleep(0.5)
        assert not parties[CLINIC].done()


async def test_a_heartbeat_tells_of_work_for_this_job_only(federation):
    async with parties_in_process(federation.write()) as (_, clients):
        before = current_progress().pieces
        await clients[CLINIC].prepare(_prepare(federation))
        alive = await clients[CLINIC].heartbeat(m.Heartbeat(job_of(federation), JOB, 0, ()), SECONDS)
        assert alive.progress > 0
        assert current_progress().pieces == before


@in_virtual_time
async def test_a_silent_coordinator_ends_the_job(federation):
    federation.job["timeouts"] |= {"heartbeat": 1.0, "reconnect": 0.5}
    async with parties_in_process(federation.write(), over_grpc=False) as (parties, clients):
        await asyncio.gather(*(client.prepare(_prepare(federation)) for client in clients.values()))
        await asyncio.gather(
            *(client.align(m.Align(job_of(federation), JOB, 0, True), SECONDS) for client in clients.values())
        )
        error = await asyncio.wait_for(parties[CLINIC], SECONDS)
    assert isinstance(error, PeerUnreachable)
    assert error.summary == "the coordinator did not call within 3.5 s after alignment"


async def test_a_model_that_could_not_be_saved_is_refused_before_the_work(federation):
    federation.parties[CLINIC]["output"] = "table.csv/model"
    async with parties_in_process(federation.write()) as (_, clients):
        with pytest.raises(RemoteError, match="the trained model cannot be saved") as raised:
            await clients[CLINIC].prepare(_prepare(federation))
        assert raised.value.remote_code == ConfigError.code
        assert Path("table.csv").name not in str(raised.value)


async def test_a_cancelled_process_leaves_no_thread_that_makes_material(federation):
    async with parties_in_process(federation.write()) as (_, clients):
        await asyncio.gather(*(c.prepare(_prepare(federation)) for c in clients.values()))
        await asyncio.gather(*(c.align(m.Align(job_of(federation), JOB, 0, False), SECONDS) for c in clients.values()))
        assert "idle-work" in {thread.name for thread in threading.enumerate()}
    assert "idle-work" not in {thread.name for thread in threading.enumerate()}
