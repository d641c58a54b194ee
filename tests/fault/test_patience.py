"""Long work is not taken for absence: by parties of the coordinator, by the coordinator of the parties."""

import asyncio

from support.faults.recovering import run_here, small_federation
from support.federations.federation import ACTIVE
from support.virtual_time import in_virtual_time

from vfl.errors import PeerUnreachable
from vfl.party.config import PartySetup
from vfl.transport.in_memory.channels import InMemoryControl as ControlClient

LOADING_SECONDS = 7.0
ABSENCE_SECONDS = 4.0


@in_virtual_time
async def test_a_table_that_takes_longer_to_load_than_a_coordinator_may_be_silent_stops_nothing(tmp_path, monkeypatch):
    load, loop = PartySetup.load_table, asyncio.get_running_loop()

    def slowly(setup):
        if setup.name == ACTIVE:
            loop.sleep(LOADING_SECONDS)
        return load(setup)

    monkeypatch.setattr(PartySetup, "load_table", slowly)
    federation = small_federation(tmp_path, epochs=1)
    federation.job["timeouts"] |= {"heartbeat": 5.0, "reconnect": 0.0}
    ended = await run_here(federation.write())
    assert ended.errors == dict.fromkeys(ended.errors)
    assert ended.seconds > LOADING_SECONDS


@in_virtual_time
async def test_time_in_which_all_parties_are_there_is_not_counted_as_absence(tmp_path, monkeypatch):
    """Else a run whose alignment takes longer than that could be interrupted once only."""
    begin, interrupted = ControlClient.begin, set()

    async def twice_in_vain(client, call):
        if call.attempt < 2 and call.attempt not in interrupted:
            interrupted.add(call.attempt)
            await asyncio.sleep(call.attempt * (ABSENCE_SECONDS + 0.5))
            raise PeerUnreachable("the line broke")
        return await begin(client, call)

    monkeypatch.setattr(ControlClient, "begin", twice_in_vain)
    federation = small_federation(tmp_path, epochs=1)
    federation.job["timeouts"]["reconnect"] = ABSENCE_SECONDS
    ended = await run_here(federation.write())
    assert ended.errors == dict.fromkeys(ended.errors)
    assert interrupted == {0, 1}
