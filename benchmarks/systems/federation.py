"""Federations on this machine: their files, a process for each party, the coordinator in this process."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import vfl
from benchmarks.effort import Shape
from vfl.api.federation_files import FederationFiles, write_toml
from vfl.api.processes import FederationProcesses
from vfl.coordinator.coordinator import RunResult
from vfl.errors import VflError

ACTIVE, PASSIVE, NAME = "bank", "telco", "benchmark"
FEATURES = 8


@dataclass
class SystemRun:
    """Measurements of one run with real processes.

    Attributes:
        steps: rows and seconds of every training step, as the coordinator sees them.
        resident: resident bytes of every party after every step; empty if there is no /proc.
    """

    outcome: RunResult
    steps: list[tuple[int, float]]
    resident: dict[str, list[int]]

    @property
    def counted_steps(self) -> int:
        """Number of steps that ``samples_per_second`` is computed from."""
        return max(1, len(self.steps) - 1)

    @property
    def samples_per_second(self) -> float:
        """Over all steps except the first, which is a warm-up; the complete step is counted."""
        counted = self.steps[1:] or self.steps
        return sum(rows for rows, _ in counted) / sum(seconds for _, seconds in counted)

    @property
    def bytes_per_sample(self) -> dict[str, float]:
        """Bytes of tensors that each party sends per trained sample."""
        return {name: sent / self.outcome.trained_samples for name, sent in self.outcome.training_bytes_sent.items()}


def run_federation(federation: FederationFiles) -> SystemRun:
    """Run the federation's job with one process per party.

    Raises:
        VflError: the error that stopped the run.
    """
    with party_processes(federation) as processes:
        recorder = _Recorder(federation.parties, processes)
        run = vfl.train(federation.job, coordinator=federation.coordinator, callbacks=[recorder])
    return SystemRun(run.result, recorder.steps, recorder.resident)


@dataclass
class _Recorder(vfl.Callback):
    """Records the duration of every step and the memory of every party after it."""

    parties: tuple[str, ...]
    processes: FederationProcesses
    steps: list[tuple[int, float]] = field(default_factory=list)
    resident: dict[str, list[int]] = field(default_factory=dict)

    def on_step(self, step: vfl.Step) -> None:
        self.steps.append((step.rows, step.seconds))
        for name in self.parties:
            if (size := _resident_bytes(self.processes.process_id(name))) is not None:
                self.resident.setdefault(name, []).append(size)


def _resident_bytes(pid: int) -> int | None:
    try:
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def party_processes(federation: FederationFiles) -> Iterator[FederationProcesses]:
    """A process for each party, ended with the context."""
    with FederationProcesses(federation) as processes:
        processes.start(*federation.parties)
        try:
            yield processes
        except VflError as error:
            raise RuntimeError(f"the run failed: {error}\n{processes.tails()}") from error


def write_synthetic(folder: Path, shape: Shape, steps: int, protocol: str, epochs: int = 1) -> FederationFiles:
    """A federation of two parties with random tables of ``steps`` full batches per epoch, all for joint training."""
    parties = {}
    for name in (ACTIVE, PASSIVE):
        (folder / name).mkdir(parents=True)
        table = folder / name / "table.csv"
        _write_table(table, shape.rows * steps, labeled=name == ACTIVE)
        parties[name] = vfl.Party(
            name,
            vfl.Table(table, id="id", label="y" if name == ACTIVE else None),
            bottom={"kind": "mlp", "hidden": [32]},
            policy={"allow_unencrypted": True} | ({"allow_trainable": [PASSIVE]} if name == ACTIVE else {}),
        )
    job = vfl.Job(
        NAME,
        task="binary",
        seed=1,
        widths=shape.width,
        model={"interaction_width": shape.out_width, "trainable": [PASSIVE]},
        training={"passes": epochs, "evaluate_every": epochs, "batch_size": shape.rows},
        interaction={"protocol": protocol, "learning_rate": 0.1},
        split={"validation": 0.0, "test": 0.0},
    )
    return vfl.write_federation(folder, job, active=parties[ACTIVE], passive=[parties[PASSIVE]], name=NAME)


def change(path: Path, table: str, **values: Any) -> None:
    """Set keys of a table of a configuration file."""
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    content[table] = content.get(table, {}) | values
    write_toml(path, content)


def _write_table(path: Path, rows: int, *, labeled: bool) -> None:
    generator = np.random.default_rng(int(labeled))
    columns: dict[str, Any] = {"id": np.arange(rows)}
    if labeled:
        columns["y"] = np.random.default_rng(2).integers(0, 2, rows)
    columns |= {f"x{index}": generator.normal(size=rows).round(4) for index in range(FEATURES)}
    pl.DataFrame(columns).write_csv(path)
