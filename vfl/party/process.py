"""Runs a party: it answers on its network and serves one run of each job, or run after run.

Nothing here is process-wide: several parties can run in one process, each in its own task.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import AsyncExitStack

from vfl.audit.trail import AuditTrails
from vfl.doctor.answer import PartyDoctor
from vfl.doctor.probe import Prober
from vfl.errors import ConfigError, VflError
from vfl.he.arithmetic.compute import computing
from vfl.job.callbacks import Callback
from vfl.job.digests import job_digest
from vfl.models.arithmetic import use_model_threads
from vfl.party.config import PartySetup, party_credentials
from vfl.party.jobs.acceptance import check_acceptable
from vfl.party.jobs.job_host import JobHost, PartyResources
from vfl.party.roles.disclosure import ledger_left
from vfl.party.service.router import JobRouter
from vfl.party.service.stopping import StopReason
from vfl.pki.expiry import watched
from vfl.runtime.background import together
from vfl.runtime.logs import get_logger
from vfl.transport.channels import Network, PartyEnd
from vfl.transport.grpc_network import GrpcNetwork
from vfl.transport.inbox import Inbox
from vfl.transport.wire.traffic import TrafficMeter

_log = get_logger("vfl.party")


def check_together(setups: Sequence[PartySetup]) -> None:
    """Check that one process can serve these setups: one party, one federation, different jobs.

    Raises:
        ConfigError: settings that must be the same differ, or two jobs have the same name.
    """
    first, *others = setups
    for other in others:
        same_process = ("name", "tls", "device", "threads", "model_threads")
        different = [key for key in same_process if getattr(first.config, key) != getattr(other.config, key)]
        different += ["federation"] if first.federation != other.federation else []
        if different:
            raise ConfigError(
                f"one process cannot serve these party files: they differ in {', '.join(different)}",
                remedy="pass files that differ only in job, data and model, or start several processes",
            )
    names = [setup.job.name for setup in setups]
    if len(set(names)) < len(names):
        raise ConfigError(
            "two party files have jobs with the same name",
            detail=", ".join(names),
            remedy="give each job a unique name",
        )


async def serve_party(
    *setups: PartySetup,
    keep_serving: bool = False,
    stopping: asyncio.Future[StopReason] | None = None,
    network: Network | None = None,
    callbacks: Sequence[Callback] = (),
) -> VflError | None:
    """Serve the job of each setup until all have ended (or, with ``keep_serving``, until ``stopping`` has a result).

    Args:
        setups: at least one; several must belong to the same party and have different jobs.
        stopping: gets a result when the party is to stop; its tasks may be cancelled instead.
        network: gRPC by default, as configured in the federation file.
        callbacks: notified of this party's part of each run.

    Returns:
        The error that ended a run; None if all runs finished.

    Raises:
        ConfigError: certificates are missing or invalid, or one process cannot serve all setups.
        ListenError: the port is in use.
    """
    check_together(setups)
    setup = setups[0]
    for each in setups:
        _warn_of_refusal(each)
    network = network or GrpcNetwork(setup.federation, party_credentials(setup))
    stopping = stopping or asyncio.get_running_loop().create_future()
    use_model_threads(setup.config.model_threads)
    with computing(setup.config.threads or os.cpu_count() or 1, _usable_device(setup.config.device)):
        async with watched(network.credentials):
            return await _serve(setups, network, stopping, callbacks, keep_serving=keep_serving)


def _usable_device(name: str) -> str:
    """The device for ciphertexts. A missing one is rejected during preparation, so that every party learns of it."""
    try:
        with computing(1, name):
            return name
    except (RuntimeError, AssertionError, TypeError) as error:
        _log.info("ciphertext kernels stay on the CPU", device=name, reason=str(error))
        return "cpu"


def _warn_of_refusal(setup: PartySetup) -> None:
    """The coordinator learns of the refusal during preparation; the local operator need not wait for that."""
    try:
        check_acceptable(setup)
        ledger_left(setup)
    except VflError as error:
        _log.warning("this party will refuse the job", job=setup.job.name, reason=str(error))


async def _serve(
    setups: Sequence[PartySetup],
    network: Network,
    stopping: asyncio.Future[StopReason],
    callbacks: Sequence[Callback],
    *,
    keep_serving: bool,
) -> VflError | None:
    """Serve all jobs with one network endpoint and one connection to each peer."""
    setup, federation, credentials = setups[0], setups[0].federation, network.credentials
    inbox, traffic, trails, router = Inbox(senders=len(setup.peers)), TrafficMeter(), AuditTrails(), JobRouter()
    async with AsyncExitStack() as stack:
        clients = {peer: await network.peer(stack, setup.name, peer, traffic, trails) for peer in setup.peers}
        resources = PartyResources(clients, inbox, traffic, trails, credentials, router, tuple(callbacks))
        hosts = [JobHost(each, resources, stopping, keep_serving=keep_serving) for each in setups]
        for host in hosts:
            # Runs last: replies may still be sent until the server has stopped.
            stack.callback(host.close)
        own = Prober(setup.name, federation, job_digest(setup.job, federation), credentials)
        doctor = PartyDoctor(own, lambda: {digest: host.activity for host in hosts for digest in host.digests})
        stack.push_async_callback(doctor.close)
        await network.serve(stack, PartyEnd(setup.name, router, inbox, traffic, trails, doctor))
        _log.info("waiting for the coordinator", role=str(setup.entry.role), job=[s.job.name for s in setups])
        errors = await together(*(host.serve() for host in hosts))
        return next((error for error in errors if error is not None), None)
