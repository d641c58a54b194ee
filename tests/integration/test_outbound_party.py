"""A party that opens no port to the network takes part as if it did, through a relay that sees TLS bytes only."""

import asyncio
import signal
import struct

import pytest
from support.faults.recovering import run_here
from support.federations.federation import ACTIVE, COORDINATOR, ID_PREFIX, Federation, Processes, differing
from support.federations.in_process import run_federation

from vfl.transport.relay.behind import Joined

pytestmark = pytest.mark.slow

CLINIC, INSURER = "clinic", "insurer"
TLS_RECORD_TYPES = {20, 21, 22, 23}
"""RFC 8446, section 5.1."""


def test_the_trained_model_does_not_depend_on_who_opens_a_port(tmp_path):
    passive = (CLINIC, INSURER)
    direct, indirect = (Federation(tmp_path / name, passive) for name in ("direct", "indirect"))
    direct.folder.mkdir()
    ended = asyncio.run(run_here(direct.write()))
    assert ended.errors == dict.fromkeys(ended.errors)
    # Of the two without a port, each calls the other through a relay, too.
    indirect.folder.mkdir()
    indirect.put_behind(ACTIVE, INSURER).put_behind(CLINIC, INSURER)
    with Processes(indirect.write()) as processes:
        processes.succeed()
    assert differing(direct.everything_saved(), indirect.everything_saved()) == []


async def test_the_relay_passes_on_tls_records_and_nothing_else(tmp_path, monkeypatch):
    joined = []
    make = Joined.__init__

    def remembering(self):
        make(self)
        ways = {"to_party": bytearray(), "to_caller": bytearray()}
        joined.append(ways)
        for name, passed in ways.items():
            queue = getattr(self, name)

            async def put(payload, passed=passed, put=queue.put):
                passed.extend(payload or b"")
                await put(payload)

            queue.put = put

    monkeypatch.setattr(Joined, "__init__", remembering)
    run = await run_federation(Federation(tmp_path).put_behind(CLINIC, ACTIVE).write(), over_grpc=True)
    assert set(run.errors.values()) == {None}
    busy = [passed for ways in joined for passed in ways.values() if len(passed) > 10_000]
    assert len(busy) >= 2
    for passed in busy:
        assert _record_types(passed) <= TLS_RECORD_TYPES
        assert ID_PREFIX.encode() not in passed
        assert b"forward_share" not in passed  # the kind of a message, in its header


def _record_types(content: bytearray) -> set[int]:
    types, at = set(), 0
    while at + 5 <= len(content):
        kind, _, length = struct.unpack_from(">BHH", content, at)
        types.add(kind)
        at += 5 + length
    return types


@pytest.mark.parametrize("killed", [CLINIC, ACTIVE])
def test_the_others_notice_when_the_party_or_its_relay_is_killed(federation, killed):
    federation.job["training"]["passes"] = 1000
    federation.job["timeouts"] |= {"heartbeat": 3.0, "reconnect": 2.0}
    with Processes(federation.put_behind(CLINIC, ACTIVE).write()) as processes:
        processes.start()
        processes.wait_for(COORDINATOR, "epoch 1/1000")
        processes.signal(killed, signal.SIGKILL)
        codes = processes.wait()
        for name in {COORDINATOR, CLINIC, ACTIVE} - {killed}:
            assert codes[name] not in (0, 1)
            assert "Traceback" not in processes.output(name)
        assert "went away or does not answer" in processes.output(COORDINATOR)
