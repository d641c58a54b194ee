"""Connections that are cut, reset, slow, silent or spoilt while a job runs: it recovers, and the weights are equal."""

from __future__ import annotations

import asyncio
import json
import threading
import time

import pytest
from support.faults.recovering import Watcher, linked, run_here, small_federation, undisturbed_weights
from support.federations.federation import ACTIVE, COORDINATOR, differing, free_ports
from support.federations.in_process import parties_in_process
from support.wire.proxy import Proxy

from vfl.transport.client import ControlClient

CLINIC = "clinic"
BETWEEN_PARTIES = ((ACTIVE, CLINIC), (CLINIC, ACTIVE))
TO_CLINIC = ((COORDINATOR, CLINIC),)
ALL_WAYS = (*BETWEEN_PARTIES, *TO_CLINIC, (COORDINATOR, ACTIVE))
NOTICED_SECONDS = 10.0
"""From the moment that a connection carries nothing to the moment that the coordinator knows, with the defaults."""
BUSY_SECONDS = 5.0
"""What a machine with other work may add."""


def later(seconds, act):
    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()


def cut_for_a_second(links):
    for link in links:
        link.cut_for(1.0)


def reset(links):
    for link in links:
        link.reset_all()


def flip_a_bit(content):
    return content[:-5] + bytes([content[-5] ^ 4]) + content[-4:]


def lose_the_end(content):
    return content[: len(content) // 2]


def spoil_a_message(spoil):
    """In the middle of ciphertexts: what is shorter may belong to no call, and then nobody need notice."""
    return lambda links: links[0].spoil_next(spoil, at_least=20_000)


def spoil_anything(links):
    links[0].spoil_next(flip_a_bit)


def forget_connections(links):
    for link in links:
        link.forget()


def swallow_for(seconds):
    def swallow(links):
        for link in links:
            link.line.swallow()
            later(seconds, link.line.open)

    return swallow


def swallow_one_direction_for(seconds):
    def swallow(links):
        links[0].line.swallows_back = True
        later(seconds, links[0].line.open)

    return swallow


class Disturbed:
    """A run over proxies that something happens to after its fourth step."""

    def __init__(self, tmp_path, ways, disturb, *, epochs=2, absence=60.0, line=None):
        self.federation = small_federation(tmp_path, epochs)
        self.federation.job["timeouts"]["reconnect"] = absence
        self.federation.write()
        self.at = 0.0
        with linked(self.federation) as links:
            chosen = [links[way] for way in ways]

            def act():
                self.at = time.monotonic()
                disturb(chosen)

            for link in chosen:
                vars(link.line).update(line or {})
            self.watcher = Watcher({4: act})
            self.ended = asyncio.run(run_here(self.federation, self.watcher, over_grpc=True))

    @property
    def noticed(self):
        """Seconds until the coordinator told of an interruption."""
        return self.watcher.seconds_until("interrupted", self.at)

    def finishes_equal(self, epochs=2):
        assert self.ended.errors == dict.fromkeys(self.ended.errors), self.ended.errors
        assert differing(self.federation.everything_saved(), undisturbed_weights(epochs)) == []


@pytest.mark.parametrize(
    ("ways", "disturb"),
    [
        pytest.param(BETWEEN_PARTIES, cut_for_a_second, id="parties, a second"),
        pytest.param(TO_CLINIC, cut_for_a_second, id="coordinator, a second"),
        pytest.param(BETWEEN_PARTIES, spoil_a_message(flip_a_bit), id="parties, a bit flipped"),
        pytest.param(BETWEEN_PARTIES, spoil_a_message(lose_the_end), id="parties, bytes lost"),
    ],
)
def test_a_connection_that_breaks_is_made_again(tmp_path, ways, disturb):
    run = Disturbed(tmp_path, ways, disturb)
    run.finishes_equal()
    assert run.noticed is not None
    assert run.noticed < BUSY_SECONDS
    assert run.ended.outcome.recoveries
    (report,) = run.federation.path(ACTIVE, "model").glob("*/report.json")
    told = json.loads(report.read_text(encoding="utf-8"))
    assert 1 <= len(told["interruptions"]) <= told["attempts"] - 1
    assert all(": " in reason for reason in told["interruptions"])


def test_a_spoilt_connection_to_a_party_does_not_change_the_weights(tmp_path):
    """Whether the run is interrupted depends on what was on the connection: a call, or what nobody waits for."""
    run = Disturbed(tmp_path, TO_CLINIC, spoil_anything)
    run.finishes_equal()
    if run.noticed is not None:
        assert run.noticed < BUSY_SECONDS
        assert run.ended.outcome.recoveries


@pytest.mark.parametrize(
    ("ways", "disturb"),
    [
        pytest.param(BETWEEN_PARTIES, forget_connections, id="parties, connections forgotten"),
        pytest.param(
            TO_CLINIC, forget_connections, id="coordinator, connections forgotten", marks=pytest.mark.faults_full
        ),
        pytest.param(BETWEEN_PARTIES, swallow_for(15), id="parties, black hole", marks=pytest.mark.faults_full),
        pytest.param(TO_CLINIC, swallow_for(15), id="coordinator, black hole", marks=pytest.mark.faults_full),
        pytest.param(BETWEEN_PARTIES, swallow_one_direction_for(15), id="one direction", marks=pytest.mark.faults_full),
    ],
)
def test_silence_on_a_connection_is_noticed_and_recovered_from(tmp_path, ways, disturb):
    run = Disturbed(tmp_path, ways, disturb)
    run.finishes_equal()
    assert run.noticed < NOTICED_SECONDS + BUSY_SECONDS


def test_a_silence_of_three_seconds_is_waited_out(tmp_path):
    run = Disturbed(tmp_path, ALL_WAYS, swallow_for(3))
    run.finishes_equal()
    assert run.ended.outcome.recoveries == []


@pytest.mark.faults_full
def test_a_black_hole_that_stays_ends_the_run_and_names_who_cannot_reach_whom(tmp_path):
    run = Disturbed(tmp_path, BETWEEN_PARTIES, swallow_for(1000), absence=20.0)
    errors = run.ended.errors
    pairs = [(CLINIC, ACTIVE), (ACTIVE, CLINIC)]
    assert any(f"{one}: {other} did not answer at 127.0.0.1:" in errors[COORDINATOR].summary for one, other in pairs)
    assert "the checkpoint of step" in errors[COORDINATOR].remedy
    assert time.monotonic() - run.at < 20.0 + 2 * NOTICED_SECONDS + BUSY_SECONDS
    for error in errors.values():
        assert error is not None


async def test_a_link_by_satellite_can_be_connected_to(tmp_path):
    federation = small_federation(tmp_path).write()
    async with parties_in_process(federation) as (_, clients):
        (port,) = free_ports(1)
        with Proxy(port, federation.port(CLINIC)) as link:
            link.line.delay = 0.4
            async with ControlClient(f"127.0.0.1:{port}", CLINIC, clients[CLINIC]._credentials) as client:
                await client.wait_ready(10)


@pytest.mark.faults_full
def test_a_slow_link_is_not_taken_for_death(tmp_path):
    line = {"delay": 0.2, "bytes_per_second": 250_000}
    run = Disturbed(tmp_path, ALL_WAYS, lambda _: None, line=line)
    run.finishes_equal()
    assert run.ended.outcome.recoveries == []


@pytest.mark.faults_full
@pytest.mark.parametrize("ways", [BETWEEN_PARTIES, ALL_WAYS], ids=["between the parties", "everywhere"])
def test_connections_that_are_reset_every_two_seconds_hold_nothing_up_for_good(tmp_path, ways):
    def resets(links):
        for number in range(10):
            later(2.0 * number, lambda: reset(links))

    run = Disturbed(tmp_path, ways, resets, epochs=12)
    run.finishes_equal(12)
