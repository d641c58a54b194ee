"""What the coordinator says in its calls fills no log: each line about it is bounded."""

import asyncio
import contextlib

import pytest
from support.federations.federation import ACTIVE
from support.federations.in_process import job_of, parties_in_process
from support.logs import captured_logs

from vfl import messages as m
from vfl.errors import VflError
from vfl.job.digests import job_digest
from vfl.party.config import load_party
from vfl.version import PROTOCOL_VERSION

CLINIC, SECONDS, MOST = "clinic", 30.0, 4_000


def _calls(federation, long):
    setup = load_party(federation.path(ACTIVE))
    own, digest = job_of(federation), job_digest(setup.job, setup.federation)
    yield lambda c: c.heartbeat(m.Heartbeat(long, "job-1", 0), SECONDS)
    yield lambda c: c.prepare(m.Prepare(own, long, 0, digest, PROTOCOL_VERSION))
    yield lambda c: c.prepare(m.Prepare(own, f"job-{long}", 0, digest, PROTOCOL_VERSION))
    yield lambda c: c.prepare(m.Prepare(own, "job-1", 0, long, PROTOCOL_VERSION))
    yield lambda c: c.prepare(m.Prepare(own, "job-1", 0, digest, long))
    yield lambda c: c.offer(m.Offer(own, "job-1", 0, digest, PROTOCOL_VERSION, long))
    yield lambda c: c.abort(m.Abort(own, "job-1", 0, long, long, long), SECONDS)


@pytest.mark.parametrize("length", [8_000, 1_000_000])
@pytest.mark.parametrize("at", range(7))
async def test_no_text_of_a_call_makes_a_long_line(federation, at, length):
    async with parties_in_process(federation.write()) as (_, clients):
        with captured_logs() as events:
            with contextlib.suppress(VflError):
                await list(_calls(federation, "x" * length))[at](clients[CLINIC])
            await asyncio.sleep(0.2)
    longest = max(events, key=lambda event: len(str(event)), default={})
    assert len(str(longest)) < MOST, (str(longest)[:300], len(str(longest)))
