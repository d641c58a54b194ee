"""(g) What the proof of identity adds to a connection over mutual TLS to a party's process, in turns with none."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.effort import Effort, Shape
from benchmarks.reporting.findings import Findings, Row, at_most
from benchmarks.systems.federation import PASSIVE, party_processes, write_synthetic
from vfl.api.federation_files import FederationFiles
from vfl.configuration.toml_files import load_toml
from vfl.coordinator.config import CoordinatorConfig
from vfl.job.setup import load_job_setup
from vfl.pki.credentials import Credentials
from vfl.transport.client.connection import Connection
from vfl.transport.tls.credentials import secure_channel
from vfl.transport.wire.health import health_service_name
from vfl.transport.wire.limits import channel_options

TARGET_MS = 5.0
_READY_SECONDS = 60.0

Opening = Callable[[Credentials, str], Awaitable[None]]


def run(effort: Effort) -> Findings:
    """Open connections of each kind in turns, each until its first answer."""
    with tempfile.TemporaryDirectory() as folder:
        federation = write_synthetic(Path(folder) / "f", Shape(64, 4, 4), 1, "encrypted")
        with party_processes(federation):
            seconds = asyncio.run(_seconds(federation, effort.connections))
    best = {kind: 1e3 * min(those) for kind, those in seconds.items()}
    median = {kind: 1e3 * statistics.median(those) for kind, those in seconds.items()}
    note = (
        f"best of {effort.connections} in turns, against {best['without']:.1f} ms without a proof; "
        f"difference of the medians {{:.1f}} ms, of {median['without']:.1f} ms"
    )
    known, first = "proof of identity, added to a connection", "the same, at first contact (two connections)"
    rows = {"known": (known, at_most(TARGET_MS)), "first": (first, None)}
    return Findings(
        [
            Row(
                "g",
                what,
                best[kind] - best["without"],
                "ms",
                target=target,
                note=note.format(median[kind] - median["without"]),
            )
            for kind, (what, target) in rows.items()
        ]
    )


async def _seconds(federation: FederationFiles, repeats: int) -> dict[str, list[float]]:
    _, settings, _ = load_job_setup(federation.job)
    tls = load_toml(federation.coordinator, CoordinatorConfig).tls
    if tls is None:
        raise RuntimeError("the federation has no certificates")
    credentials = Credentials(tls, settings, settings.coordinator)
    endpoint = str(settings.party(PASSIVE).endpoint)
    async with Connection(endpoint, PASSIVE, credentials) as connection:
        await connection.wait_ready(_READY_SECONDS)
    kinds: dict[str, Opening] = {"without": _without_proof, "known": _with_proof, "first": _at_first_contact}
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(repeats):
        for kind, opening in kinds.items():
            started = time.perf_counter()
            await opening(credentials, endpoint)
            seconds[kind].append(time.perf_counter() - started)
    return seconds


async def _without_proof(credentials: Credentials, endpoint: str) -> None:
    async with secure_channel(credentials, endpoint, PASSIVE, channel_options(endpoint)) as channel:
        await _first_answer(channel)


async def _with_proof(credentials: Credentials, endpoint: str) -> None:
    async with Connection(endpoint, PASSIVE, credentials) as connection:
        await _first_answer(await connection.channel())


async def _at_first_contact(credentials: Credentials, endpoint: str) -> None:
    credentials.proven.clear()
    await _with_proof(credentials, endpoint)


async def _first_answer(channel: Any) -> None:
    request = health_pb2.HealthCheckRequest(service=health_service_name(PASSIVE))
    await health_pb2_grpc.HealthStub(channel).Check(request)
