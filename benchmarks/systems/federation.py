"""Federations on this machine: their files, a process for every party, the coordinator in this process."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import vfl
from benchmarks.effort import Shape
from vfl.api.federation_files import COORDINATOR, FederationFiles, loopback_federation, tls_table, write_toml
from vfl.configuration.federation import TlsFiles
from vfl.coordinator.coordinator import RunResult
from vfl.errors import VflError
from vfl.ids import Role
from vfl.pki.throwaway import make_federation_certificates

ACTIVE, PASSIVE, NAME = "bank", "telco", "benchmark"
FEATURES = 8


@dataclass
class SystemRun:
    """What one job over real processes showed.

    Attributes:
        steps: rows and seconds of every training step, as the coordinator sees them.
        resident: resident bytes of every party after every step; empty where /proc is not there.
    """

    outcome: RunResult
    steps: list[tuple[int, float]]
    resident: dict[str, list[int]]

    @property
    def counted_steps(self) -> int:
        """Steps behind ``samples_per_second``."""
        return max(1, len(self.steps) - 1)

    @property
    def samples_per_second(self) -> float:
        """Over all steps but the first, which warms up; all of a step is counted."""
        counted = self.steps[1:] or self.steps
        return sum(rows for rows, _ in counted) / sum(seconds for _, seconds in counted)

    @property
    def bytes_per_sample(self) -> dict[str, float]:
        """Bytes of tensors that each party sends per trained sample."""
        return {name: sent / self.outcome.trained_samples for name, sent in self.outcome.training_bytes_sent.items()}


def run_federation(federation: FederationFiles) -> SystemRun:
    """Run the federation's job with one process per party.

    Raises:
        VflError: what stopped the job.
    """
    with party_processes(federation) as processes:
        recorder = _Recorder(processes)
        run = vfl.train(federation.job, coordinator=federation.coordinator, callbacks=[recorder])
    return SystemRun(run.result, recorder.steps, recorder.resident)


@dataclass
class _Recorder(vfl.Callback):
    """Keeps the duration of every step and the memory of every party after it."""

    processes: dict[str, subprocess.Popen[bytes]]
    steps: list[tuple[int, float]] = field(default_factory=list)
    resident: dict[str, list[int]] = field(default_factory=dict)

    def on_step(self, step: vfl.Step) -> None:
        self.steps.append((step.rows, step.seconds))
        for name, process in self.processes.items():
            if (size := _resident_bytes(process.pid)) is not None:
                self.resident.setdefault(name, []).append(size)


def _resident_bytes(pid: int) -> int | None:
    try:
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def party_processes(federation: FederationFiles) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """A process for every party, ended with the context."""
    with ExitStack() as stack:
        processes = {}
        for name in federation.parties:
            log = stack.enter_context((federation.folder / name / f"{name}.log").open("wb"))
            command = [sys.executable, "-m", "vfl", "party", str(federation.party(name))]
            processes[name] = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
            stack.callback(_end, processes[name])
        try:
            yield processes
        except VflError as error:
            logs = "\n".join(_tail(federation.folder / name / f"{name}.log") for name in federation.parties)
            raise RuntimeError(f"the job failed: {error}\n{logs}") from error


def _end(process: subprocess.Popen[bytes]) -> None:
    """The job is over and saved, or has failed: nothing is lost that a benchmark would wait for."""
    process.kill()
    process.wait()


def _tail(log: Path) -> str:
    return "\n".join([f"--- {log.name}", *log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]])


# --- files ---


def write_synthetic(folder: Path, shape: Shape, steps: int, protocol: str, epochs: int = 1) -> FederationFiles:
    """A federation of two parties with random tables of ``steps`` full batches an epoch, all of them for training."""
    names = (ACTIVE, PASSIVE)
    for name in (*names, COORDINATOR):
        (folder / name).mkdir(parents=True)
    roles = {ACTIVE: Role.ACTIVE, PASSIVE: Role.PASSIVE, COORDINATOR: Role.COORDINATOR}
    certificates = make_federation_certificates(folder / "certificates", NAME, roles)
    write_toml(folder / "federation.toml", loopback_federation(NAME, names))
    write_toml(folder / "job.toml", _job(names, shape, protocol, epochs))
    write_toml(folder / COORDINATOR / "coordinator.toml", {"tls": tls_table(certificates[COORDINATOR])})
    for name in names:
        _write_table(folder / name / "table.csv", shape.rows * steps, labeled=name == ACTIVE)
        write_toml(folder / name / "party.toml", _party(name, certificates[name]))
    return FederationFiles(folder, names)


def change(path: Path, table: str, **values: Any) -> None:
    """Set keys of a table of a configuration file."""
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    content[table] = content.get(table, {}) | values
    write_toml(path, content)


def _job(names: tuple[str, ...], shape: Shape, protocol: str, epochs: int) -> dict[str, Any]:
    return {
        "name": NAME,
        "federation": "federation.toml",
        "seed": 1,
        "task": {"kind": "binary"},
        "model": {"interaction_width": shape.out_width, "widths": dict.fromkeys(names, shape.width)},
        "training": {"epochs": epochs, "evaluate_every": epochs, "batch_size": shape.rows},
        "interaction": {"protocol": protocol, "learning_rate": 0.1},
        "split": {"validation": 0.0, "test": 0.0},
    }


def _party(name: str, certificate: TlsFiles) -> dict[str, Any]:
    data = {"path": "table.csv", "id_column": "id"} | ({"label_column": "y"} if name == ACTIVE else {})
    return {
        "name": name,
        "job": "../job.toml",
        "output": "model",
        "data": data,
        "bottom": {"kind": "mlp", "hidden": [32]},
        "policy": {"allow_unencrypted": True},
        "tls": tls_table(certificate),
    }


def _write_table(path: Path, rows: int, *, labeled: bool) -> None:
    generator = np.random.default_rng(int(labeled))
    columns: dict[str, Any] = {"id": np.arange(rows)}
    if labeled:
        columns["y"] = np.random.default_rng(2).integers(0, 2, rows)
    columns |= {f"x{index}": generator.normal(size=rows).round(4) for index in range(FEATURES)}
    pl.DataFrame(columns).write_csv(path)
