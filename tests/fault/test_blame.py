"""A party that does not take part any more is the one named in the end, at every process, within a bounded time."""

import asyncio

import pytest
from support.faults.recovering import Watcher, run_here, small_federation
from support.federations.federation import ACTIVE, COORDINATOR
from support.virtual_time import in_virtual_time

from vfl.errors import DeadlineExceeded, PeerUnreachable
from vfl.party.service.service import PartyService
from vfl.transport.in_memory.channels import InMemoryControl

CLINIC = "clinic"
PROGRESS, RECONNECT = 20.0, 30.0


@pytest.mark.parametrize("prepares", [False, True], ids=["never prepares", "never replies that it has prepared"])
@in_virtual_time
async def test_a_party_that_answers_heartbeats_and_never_prepares_is_given_up(tmp_path, monkeypatch, prepares):
    prepare = PartyService.prepare

    async def silently(self, call):
        if self._setup.name != CLINIC:
            return await prepare(self, call)
        if prepares:
            await prepare(self, call)
        return await asyncio.sleep(1e6)

    monkeypatch.setattr(PartyService, "prepare", silently)
    federation = small_federation(tmp_path, epochs=1)
    federation.job["timeouts"] |= {"progress": PROGRESS, "reconnect": RECONNECT}
    watcher = Watcher()
    ended = await run_here(federation.write(), watcher)
    error = ended.errors[COORDINATOR]
    assert isinstance(error, DeadlineExceeded)
    assert f"{CLINIC} answers, but did not begin what it was asked for within {PROGRESS:g} s" in error.summary
    assert error.summary in str(ended.errors[ACTIVE])
    assert ended.seconds < 2 * PROGRESS + RECONNECT + 10
    said = watcher.told("a party answers, but has not begun what it was asked for")
    assert {event["party"] for event in said} == {CLINIC}


@in_virtual_time
async def test_the_party_that_went_away_is_named_and_not_one_that_is_there(tmp_path, monkeypatch):
    run_phase, wait_ready, gone = InMemoryControl.run_phase, InMemoryControl.wait_ready, []

    async def goes_away(self, call):
        if self._party == CLINIC:
            gone.append(call)
            raise PeerUnreachable(f"{CLINIC} went away")
        return await run_phase(self, call)

    async def takes_a_moment(self, seconds):
        if self._party == ACTIVE and seconds < 0.5:
            raise PeerUnreachable(f"{ACTIVE} did not answer within {seconds:g} s")
        await wait_ready(self, seconds)

    monkeypatch.setattr(InMemoryControl, "run_phase", goes_away)
    monkeypatch.setattr(InMemoryControl, "wait_ready", takes_a_moment)
    federation = small_federation(tmp_path, epochs=1)
    federation.job["timeouts"]["reconnect"] = 1.0
    ended = await run_here(federation.write())
    assert gone
    assert ended.errors[COORDINATOR].summary == f"{CLINIC} went away"
    assert f"{CLINIC} went away" in str(ended.errors[ACTIVE])
