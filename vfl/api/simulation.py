"""A whole federation in this process: encrypted like any other, without ports, certificates or files."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from vfl.api.blocking import run_blocking
from vfl.api.job import Job
from vfl.api.joint_model import JointModel
from vfl.api.party import Party, as_list
from vfl.api.run import Run
from vfl.configuration.federation import FederationConfig
from vfl.configuration.toml_files import validated
from vfl.coordinator.process import RunOptions, run_job
from vfl.errors import JobAborted, VflError
from vfl.ids import Role
from vfl.job.callbacks import Callback
from vfl.job.config import JobConfig
from vfl.job.setup import check_job
from vfl.party.config import PartySetup
from vfl.party.process import serve_party
from vfl.run_records.result import RunResult
from vfl.runtime.background import start_awaited
from vfl.transport.in_memory import InMemoryNetwork

COORDINATOR = "coordinator"


def simulate(
    job: Job,
    *,
    active: Party,
    passive: Party | Sequence[Party],
    output: str | Path | None = None,
    callbacks: Sequence[Callback] = (),
    party_callbacks: Mapping[str, Sequence[Callback]] | None = None,
) -> Run:
    """Run a job over parties that are all in this process.

    The same code as in real processes does the same work, encryption included; only the network is memory. With the
    same seeds the weights are equal bit for bit. What is simulated is not protected: this process sees everything.

    Args:
        active: the party with the labels.
        passive: the others, one to eight; a single one needs no list.
        output: keeps every party's part of the model, audit log and checkpoints in a folder of its own in there.
        callbacks: notified as the coordinator's.
        party_callbacks: by party.

    Raises:
        VflError: what ended the run, with all details, since there is nobody to hide them from.
    """
    return run_blocking(
        lambda: simulate_async(
            job,
            active=active,
            passive=passive,
            output=output,
            callbacks=callbacks,
            party_callbacks=party_callbacks,
        )
    )


async def simulate_async(
    job: Job,
    *,
    active: Party,
    passive: Party | Sequence[Party],
    output: str | Path | None = None,
    callbacks: Sequence[Callback] = (),
    party_callbacks: Mapping[str, Sequence[Callback]] | None = None,
) -> Run:
    """As ``simulate``."""
    passive = as_list(passive)
    for party in (active, *passive):
        party.table.check_columns()
    federation = simulated_federation(active, passive)
    config = validated(job.content(active, passive), JobConfig, f"job '{job.name}'")
    parameters = check_job(config, federation)
    with ExitStack() as stack:
        folder = Path(output) if output else Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vfl-")))
        setups = [
            party.setup(config, federation, parameters, folder / party.name, _seed(config.seed, party.name))
            for party in (active, *passive)
        ]
        result = await run_in_memory(
            setups, RunOptions(callbacks=callbacks), InMemoryNetwork(federation), party_callbacks or {}
        )
        model = JointModel.load(
            {setup.name: setup.config.output / result.run for setup in setups},
            bottoms={setup.name: setup.given.bottom for setup in setups},
        )
    return Run(result, model)


async def run_in_memory(
    setups: Sequence[PartySetup],
    options: RunOptions,
    network: InMemoryNetwork,
    party_callbacks: Mapping[str, Sequence[Callback]],
) -> RunResult:
    """One run over parties that are tasks of this event loop.

    Raises:
        VflError: the error of the party where it happened, in full.
    """
    serving = {
        setup.name: start_awaited(serve_party(setup, network=network, callbacks=party_callbacks.get(setup.name, ())))
        for setup in setups
    }
    try:
        result = await run_job(setups[0].job, setups[0].federation, network, options)
    except VflError as error:
        ended = await asyncio.gather(*serving.values(), return_exceptions=True)
        own = [(name, e) for name, e in zip(serving, ended, strict=True)
               if isinstance(e, VflError) and not isinstance(e, JobAborted)]  # fmt: skip
        raise _of_party(*own[0]) if own else error from None
    finally:
        for task in serving.values():
            if not task.done() and (current := asyncio.current_task()) is not None and current.cancelling():
                task.cancel()
        await asyncio.gather(*serving.values(), return_exceptions=True)
    for name, task in serving.items():
        if (failed := task.result()) is not None:
            raise _of_party(name, failed)
    return result


def _of_party(name: str, error: VflError) -> VflError:
    """An error that says "this party", with the name, which a party's own log need not repeat."""
    if name not in error.summary:
        error.add_note(f"this party is '{name}'")
    return error


def simulated_federation(active: Party, passive: Sequence[Party]) -> FederationConfig:
    """A federation of these parties whose addresses nobody dials."""
    entries = [
        {"name": party.name, "role": str(role), "endpoint": f"127.0.0.1:{port}"}
        for port, (party, role) in enumerate(
            [(active, Role.ACTIVE), *((party, Role.PASSIVE) for party in passive)], start=1
        )
    ]
    content = {
        "name": "simulation",
        "coordinator": COORDINATOR,
        "tls": {"mode": "insecure-loopback"},
        "parties": entries,
    }
    return validated(content, FederationConfig, "the simulated federation")


def _seed(seed: int, name: str) -> bytes:
    """Simulated parties have nothing to keep from each other, and the same simulation should give the same model."""
    return hashlib.sha256(f"vfl simulation {seed} {name}".encode()).digest()
