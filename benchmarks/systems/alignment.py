"""(f) Private set intersection of two parties' ids over real processes, compared with openmined-psi in one process."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import polars as pl

from benchmarks.effort import Effort, Shape
from benchmarks.reporting.findings import Findings, Ratio, Row, at_least, at_most
from benchmarks.reporting.machine import cores
from benchmarks.systems.federation import ACTIVE, PASSIVE, party_processes, write_synthetic
from vfl.api.federation_files import FederationFiles
from vfl.configuration.toml_files import load_toml
from vfl.coordinator.config import CoordinatorConfig
from vfl.coordinator.coordinator import RunResult
from vfl.coordinator.process import RunOptions, coordinator_network, run_job
from vfl.job.setup import load_job_setup

PEER, PEER_PACKAGE = "openmined-psi, one core", "openmined-psi==2.0.6"
PEER_FOLDER = Path(__file__).resolve().parents[2] / ".venv-openmined"
"""openmined-psi pins an old protobuf, so it gets its own environment."""
MILLION = 1_000_000
TARGET_IDS, TARGET_SECONDS, TARGET_RATIO = 100_000, 5.0, 3.0

_PEER_PROGRAM = """
import json, sys, time
import private_set_intersection.python as psi
count, shift = int(sys.argv[1]), int(sys.argv[2])
own, other = ([f"id{n:012d}" for n in range(start, start + count)] for start in (0, shift))
client, server = psi.client.CreateWithNewKey(True), psi.server.CreateWithNewKey(True)
started = time.perf_counter()
setup = server.CreateSetupMessage(1e-9, count, other, psi.DataStructure.RAW)
common = client.GetIntersection(setup, server.ProcessRequest(client.CreateRequest(own)))
print(json.dumps({"seconds": time.perf_counter() - started, "common": len(common)}))
"""


def run(effort: Effort, *, million: bool = False, peer: bool = True) -> Findings:
    """Count the common ids of two parties that share nine tenths; with ``million``, also for a million ids each.

    Raises:
        RuntimeError: an intersection has the wrong size.
    """
    count = effort.alignment_ids
    outcome = _align(count)
    seconds, findings = outcome.seconds_alignment, Findings()
    target = at_most(TARGET_SECONDS) if count == TARGET_IDS else None
    note = f"once; real processes over mutual TLS, including helper startup; {cores()} cores for both parties together"
    findings.rows.append(Row("f", f"alignment of {count:,} x {count:,} ids", seconds, "s", target=target, note=note))
    if peer:
        findings.add(_beside_peer(count, seconds))
    if million:
        findings.rows += _million_rows()
    return findings


def _align(count: int) -> RunResult:
    with tempfile.TemporaryDirectory() as folder:
        federation = write_synthetic(Path(folder) / "f", Shape(64, 4, 4), 1, "encrypted")
        for name, start in ((ACTIVE, 0), (PASSIVE, count // 10)):
            _write_ids(federation.party(name).parent / "table.csv", start, count, labeled=name == ACTIVE)
        outcome = asyncio.run(_count(federation))
    if outcome.rows != count - count // 10:
        raise RuntimeError(f"{outcome.rows} common ids were found instead of {count - count // 10}")
    return outcome


async def _count(federation: FederationFiles) -> RunResult:
    job, parties, _ = load_job_setup(federation.job)
    tls = load_toml(federation.coordinator, CoordinatorConfig).tls
    with party_processes(federation):
        async with coordinator_network(parties, tls) as network:
            return await run_job(job, parties, network, RunOptions(count_only=True))


def _write_ids(path: Path, start: int, count: int, *, labeled: bool) -> None:
    numbers = pl.int_range(start, start + count, eager=True)
    value = (numbers % 2).alias("y" if labeled else "x")
    ids = pl.format("id{}", numbers.cast(pl.String).str.zfill(12)).alias("id")
    pl.select(ids, value).sample(fraction=1.0, shuffle=True, seed=start).write_csv(path)


def _million_rows() -> list[Row]:
    outcome = _align(MILLION)
    what = f"alignment of {MILLION:,} x {MILLION:,} ids"
    memory = [
        Row("f", f"{what}, peak memory of {name}", peak / 1e9, "GB",
            note="of the party's process, including libraries and table; each helper takes about 30 MB more")
        for name, peak in outcome.peak_memory.items()
    ]  # fmt: skip
    return [Row("f", what, outcome.seconds_alignment, "s", note="once"), *memory]


# --- the peer ---


def _beside_peer(count: int, seconds: float) -> Findings:
    try:
        measured = _peer(count)
    except (OSError, subprocess.CalledProcessError) as error:
        output = getattr(error, "stderr", None) or str(error)
        return Findings(skipped=[f"{PEER}: cannot be installed or run: {output.strip().splitlines()[-1]}"])
    note = "the peer's two sides take turns in one process, without network, on one core; startup not counted"
    row = Row("f", f"alignment of {count:,} x {count:,} ids", seconds, "s", PEER, measured, Ratio.FASTER,
              at_least(TARGET_RATIO), note)  # fmt: skip
    return Findings([row])


def _peer(count: int) -> float:
    python = PEER_FOLDER / "bin" / "python"
    if not python.exists():
        _run(sys.executable, "-m", "venv", str(PEER_FOLDER))
    installed = _run(str(python), "-m", "pip", "freeze")
    if PEER_PACKAGE.replace("-", "_").lower() not in installed.replace("-", "_").lower():
        _run(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", PEER_PACKAGE)
    result = json.loads(_run(str(python), "-c", _PEER_PROGRAM, str(count), str(count // 10)))
    if result["common"] != count - count // 10:
        raise RuntimeError("the peer's intersection is wrong")
    return float(result["seconds"])


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
