"""A coordinator that asks for nothing but the schedule, yet at once, again or too early.

What it could gain otherwise: outputs of rows that are not those counted, and shares of the interaction weights that do
not belong together, whose difference from the true ones the active party knows.
"""

import asyncio

import numpy as np
import pytest
from support.federations.federation import ACTIVE
from support.federations.in_process import job_of, parties_in_process
from support.federations.stagewise import stagewise_federation

from vfl import messages as m
from vfl.errors import PolicyRefusal, RemoteError
from vfl.ids import CheckpointId, Phase, Split, StepKey
from vfl.interact.encrypted_active import EncryptedActive
from vfl.interact.encrypted_passive import EncryptedPassive
from vfl.job.digests import job_digest
from vfl.job.schedule import Schedule
from vfl.party.config import load_party
from vfl.party.roles.passive import PassiveParty
from vfl.party.service.attempt import REMEMBERED_CALLS
from vfl.version import PROTOCOL_VERSION

RUN, CLINIC, SECONDS = "job-1", "clinic", 60.0
ROWS = {Split.TRAIN: 130, Split.VALIDATION: 20, Split.TEST: 50}


@pytest.fixture
def federation(tmp_path):
    return stagewise_federation(tmp_path).write()


class Leader:
    """Asks parties for the calls of a job one after the other."""

    def __init__(self, federation, clients):
        setup = load_party(federation.path(ACTIVE))
        self.clients, self.job = clients, job_of(federation)
        self.due = list(Schedule(setup.job, ROWS).calls(0))
        digest = job_digest(setup.job, setup.federation)
        self.prepare = m.Prepare(job=self.job, run=RUN, attempt=0, digest=digest, protocol_version=PROTOCOL_VERSION)
        self.begin = m.Begin(self.job, RUN, 0)

    async def all(self, ask):
        await asyncio.gather(*(ask(client) for client in self.clients.values()))

    async def set_up(self):
        await self.all(lambda c: c.prepare(self.prepare))
        await self.all(lambda c: c.align(m.Align(self.job, RUN, 0, False), SECONDS))
        await self.all(lambda c: c.begin(self.begin))

    def phase(self, due):
        return m.PhaseCall(self.job, StepKey(RUN, due.step, 0), due.phase, due.batch)

    async def work_until(self, is_due):
        while not is_due(self.due[0]):
            await self.next()

    async def next(self, count=1):
        """So many calls at once, sent in their order; or the score that is due."""
        if self.due[0].phase is None:
            score = self.due.pop(0).batch
            await self.clients[ACTIVE].score(m.Score(self.job, RUN, 0, score.split, score.epoch))
            return
        calls = [self.phase(self.due.pop(0)) for _ in range(count)]

        async def each(client):
            await asyncio.gather(*(client.run_phase(call) for call in calls), return_exceptions=count > 1)

        await self.all(each)


def _watched(monkeypatch, kind, name, note):
    original = getattr(kind, name)

    def noting(self, *arguments):
        note(self, *arguments)
        return original(self, *arguments)

    monkeypatch.setattr(kind, name, noting)


async def test_what_is_released_is_what_is_counted_though_both_phases_are_requested_at_once(federation, monkeypatch):
    released = []
    _watched(monkeypatch, PassiveParty, "_with_noise", lambda _, alpha, labels: released.append(alpha))
    async with parties_in_process(federation, over_grpc=False) as (_, clients):
        leader = Leader(federation, clients)
        await leader.set_up()
        await leader.work_until(lambda due: due.phase is Phase.INTERACTION_FORWARD)
        await leader.next(2)
        await leader.next(2)
    first, second = released
    assert not np.array_equal(first, second), "the second batch consists of other rows"


async def test_weights_step_at_both_sides_by_the_same_gradients_though_they_are_requested_early(
    federation, monkeypatch
):
    rows = {}
    for name, kind in ((ACTIVE, EncryptedActive), (CLINIC, EncryptedPassive)):
        _watched(monkeypatch, kind, "step", lambda self, _, name=name: rows.update({name: _pending_rows(self)}))
    async with parties_in_process(federation, over_grpc=False) as (_, clients):
        leader = Leader(federation, clients)
        await leader.set_up()
        await leader.work_until(lambda due: leader.due[1].phase is Phase.WEIGHT_STEP)
        await leader.next(2)
    assert rows == dict.fromkeys((ACTIVE, CLINIC), ROWS[Split.TRAIN])


def _pending_rows(side):
    weights = side._weights[CLINIC] if isinstance(side, EncryptedActive) else side._weights
    return weights._pending_rows


async def test_no_call_of_the_setup_is_done_again(federation, monkeypatch):
    begun = []
    _watched(monkeypatch, PassiveParty, "begin", lambda *_: begun.append(1))
    async with parties_in_process(federation, over_grpc=False) as (_, clients):
        leader = Leader(federation, clients)
        await leader.set_up()
        for _ in range(REMEMBERED_CALLS + 2):
            await leader.next()
        await asyncio.wait_for(clients[CLINIC].begin(leader.begin), SECONDS)
    assert begun == [1]


async def _refused(call):
    with pytest.raises(RemoteError, match="the coordinator requested") as raised:
        await call
    assert raised.value.remote_code == PolicyRefusal.code


async def test_the_setup_has_an_order(federation):
    async with parties_in_process(federation, over_grpc=False) as (_, clients):
        leader, client = Leader(federation, clients), clients[CLINIC]
        await leader.all(lambda c: c.prepare(leader.prepare))
        await leader.all(lambda c: c.align(m.Align(leader.job, RUN, 0, False), SECONDS))
        await _refused(client.restore(m.Restore(leader.job, RUN, 0, CheckpointId(3, 0, "0" * 64))))
        await _refused(client.run_phase(leader.phase(leader.due[0])))


async def test_nothing_follows_a_phase_that_failed_at_one_party(federation, monkeypatch):
    async def fails(self, key, phase, batch):
        raise PolicyRefusal("not here", remedy="")

    async with parties_in_process(federation, over_grpc=False) as (_, clients):
        leader = Leader(federation, clients)
        await leader.set_up()
        monkeypatch.setattr(PassiveParty, "run_phase", fails)
        with pytest.raises(RemoteError, match="not here"):
            await clients[CLINIC].run_phase(leader.phase(leader.due[0]))
        monkeypatch.undo()
        following = next(due for due in leader.due[1:] if due.phase is not None)
        await _refused(clients[CLINIC].run_phase(leader.phase(following)))
