"""A small federation that is disturbed while it runs in one event loop, and the weights that it ends with."""

from __future__ import annotations

import asyncio
import functools
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.federations.federation import COORDINATOR, Federation, free_ports
from support.wire.proxy import Proxy
from vfl.configuration.toml_files import load_toml
from vfl.coordinator.config import CoordinatorConfig
from vfl.coordinator.process import RunOptions, coordinator_network, run_job
from vfl.errors import VflError
from vfl.job.callbacks import Callback, Step
from vfl.job.setup import load_job_setup
from vfl.party.config import load_party
from vfl.party.process import serve_party
from vfl.run_records.result import RunResult
from vfl.runtime.clock import loop_time
from vfl.transport import grpc_network
from vfl.transport.in_memory import InMemoryNetwork
from vfl.transport.relay.tunnel import Dialed

Links = Mapping[tuple[str, str], Proxy]
"""Proxies by who dials whom."""


class Watcher(Callback):
    """Remembers what the coordinator tells its operator, and does something at chosen steps.

    Args:
        at: what to do after so many trained steps, counted over all attempts.

    Attributes:
        events: what was told, with the time of it.
        steps: how many steps were trained.
    """

    def __init__(self, at: Mapping[int, Callable[[], object]] | None = None) -> None:
        self._at = dict(at or {})
        self.events: list[tuple[str, float, dict[str, Any]]] = []
        self.steps = 0

    def do_at(self, step: int, act: Callable[[], object]) -> None:
        """Do this, too."""
        self._at[step] = act

    def on_event(self, what: str, facts: Mapping[str, Any]) -> None:
        self.events.append((what, loop_time(), dict(facts)))

    def on_step(self, step: Step) -> None:
        self.steps += 1
        if self.steps in self._at:
            self._at[self.steps]()

    def told(self, what: str) -> list[dict[str, Any]]:
        """Facts of each event that is called so."""
        return [facts for name, _, facts in self.events if name == what]

    def seconds_until(self, what: str, since: float) -> float | None:
        """From a time to the first event that is called so after it; None where there is none."""
        return next((at - since for name, at, _ in self.events if name == what and at >= since), None)


@dataclass
class Ended:
    """How a run ended. ``errors`` by process; None where it finished."""

    outcome: RunResult | None = None
    errors: dict[str, VflError | None] = field(default_factory=dict)
    seconds: float = 0.0


def small_federation(folder: Path, epochs: int = 3) -> Federation:
    """Three training steps an epoch, and a checkpoint after every second one; not written yet."""
    federation = Federation(folder, rows=160)
    federation.job["training"] |= {"passes": epochs, "batch_size": 32}
    federation.job["checkpoints"] = {"unsynced_every_steps": 2, "every_steps": 6}
    federation.job["timeouts"]["reconnect"] = 60.0
    return federation


@functools.cache
def undisturbed_weights(epochs: int = 3) -> Mapping[str, np.ndarray]:
    """What ``small_federation`` ends with if nothing happens."""
    with tempfile.TemporaryDirectory() as folder:
        federation = small_federation(Path(folder), epochs).write()
        ended = asyncio.run(run_here(federation))
        assert set(ended.errors.values()) == {None}
        return federation.everything_saved()


async def run_here(
    federation: Federation,
    observer: Watcher | None = None,
    *,
    resume: bool = False,
    stop_at: int | None = None,
    party_file: str = "party.toml",
    job_file: str = "job.toml",
    over_grpc: bool = False,
) -> Ended:
    """Run one job over a written federation to its end, with every process in this one.

    Args:
        resume: go on with the run that was begun there.
        stop_at: after so many steps, the coordinator's operator stops it.
        party_file: which file of every party.
        job_file: which one of the coordinator.
        over_grpc: with real connections and certificates in place of memory.
    """
    ended, started, watcher = Ended(), loop_time(), observer or Watcher()
    setups = {name: load_party(federation.path(name, party_file)) for name in federation.names}
    job, settings, _ = load_job_setup(federation.path(COORDINATOR, job_file))
    own = load_toml(federation.path(COORDINATOR, "coordinator.toml"), CoordinatorConfig)
    memory = None if over_grpc else InMemoryNetwork(settings)
    parties = {name: asyncio.create_task(serve_party(setup, network=memory)) for name, setup in setups.items()}
    stopping: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    options = RunOptions(audit=own.audit, runs=own.runs, resume=resume, callbacks=[watcher])

    async def lead() -> RunResult:
        if memory is not None:
            return await run_job(job, settings, memory, options, stopping)
        async with coordinator_network(settings, own.tls) as network:
            return await run_job(job, settings, network, options, stopping)

    if stop_at is not None:
        watcher.do_at(stop_at, lambda: stopping.set_result(None))
    ended.errors[COORDINATOR] = None
    try:
        ended.outcome = await lead()
    except VflError as error:
        ended.errors[COORDINATOR] = error
    for name, party in parties.items():
        try:
            ended.errors[name] = await party
        except VflError as error:
            ended.errors[name] = error
    ended.seconds = loop_time() - started
    return ended


async def coordinator_here(federation: Federation, *, resume: bool) -> VflError | None:
    """Run the coordinator alone; what it ends with."""
    job, settings, _ = load_job_setup(federation.path(COORDINATOR, "job.toml"))
    own = load_toml(federation.path(COORDINATOR, "coordinator.toml"), CoordinatorConfig)
    try:
        async with coordinator_network(settings, own.tls) as network:
            await run_job(job, settings, network, RunOptions(audit=own.audit, runs=own.runs, resume=resume))
    except VflError as error:
        return error
    return None


@contextmanager
def linked(federation: Federation) -> Iterator[Links]:
    """A proxy on each way from a process to a party, so that each can be disturbed by itself."""
    ways = [(a, b) for a in (*federation.names, COORDINATOR) for b in federation.names if a != b]
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        links = {
            way: stack.enter_context(Proxy(port, federation.port(way[1])))
            for way, port in zip(ways, free_ports(len(ways)), strict=True)
        }

        async def dialed(_: AsyncExitStack, __: object, own_name: str, peer: str, ___: object) -> Dialed:
            return Dialed(f"127.0.0.1:{links[own_name, peer].port}")

        patch.setattr(grpc_network, "dialed", dialed)
        yield links
