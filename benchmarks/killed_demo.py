"""Kill every role once in the middle of a demo, start it again, and compare the weights with an undisturbed run's.

python -m benchmarks.killed_demo --dataset default_credit --data DIRECTORY [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from rich.console import Console
from rich.table import Table
from safetensors.numpy import load_file

from benchmarks.reporting.machine import description
from vfl.api.federation_files import FederationFiles
from vfl.cli.demo.federation import write_demo_federation
from vfl.interact.fixed_point import center
from vfl.job.config import load_job_setup

COORDINATOR = "coordinator"
SEED, OVERLAP = 3, 0.9
"""Those of ``vfl demo``."""
PAUSE_SECONDS = 1.5
"""From the end of an epoch into the middle of the next."""


class Processes:
    """The processes of a demo, each of which may be killed and started again."""

    def __init__(self, demo: FederationFiles) -> None:
        self._demo = demo
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._running.values():
            process.kill()
            process.wait()

    @property
    def report(self) -> Path:
        """What the coordinator measured."""
        return self._demo.folder / COORDINATOR / "outcome.json"

    def start(self, name: str) -> None:
        """Start a process, always with the same command."""
        run = ["run", str(self._demo.job), "--config", str(self._demo.coordinator), "--report", str(self.report)]
        arguments = [*run, "--resume"] if name == COORDINATOR else ["party", str(self._demo.party(name))]
        with (self._demo.folder / name / "output.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                [sys.executable, "-m", "vfl", *arguments],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )

    def kill(self, name: str) -> None:
        """SIGKILL: nothing is tidied up."""
        self._running[name].send_signal(signal.SIGKILL)
        self._running[name].wait()

    def wait_for_epoch(self, epoch: int) -> None:
        """Until the coordinator has told that this one is over."""
        log = self._demo.folder / COORDINATOR / "output.log"
        while f"epoch {epoch}/" not in log.read_text(encoding="utf-8"):
            if self._running[COORDINATOR].poll() is not None:
                raise RuntimeError(f"the run ended before epoch {epoch}; logs in {self._demo.folder}")
            time.sleep(0.1)

    def wait(self) -> None:
        """Until all have ended; each with 0."""
        codes = {name: process.wait() for name, process in self._running.items()}
        if any(codes.values()):
            raise RuntimeError(f"exit codes {codes}; logs in {self._demo.folder}")


def run(demo: FederationFiles, kill_after: dict[str, int]) -> tuple[dict[str, Any], float]:
    """Run a demo, killing each of these in the epoch after this one. The coordinator's report, and seconds in all."""
    started = time.monotonic()
    with Processes(demo) as processes:
        for name in (*demo.parties, COORDINATOR):
            processes.start(name)
        for name, epoch in sorted(kill_after.items(), key=lambda item: item[1]):
            processes.wait_for_epoch(epoch)
            time.sleep(PAUSE_SECONDS)
            processes.kill(name)
            processes.start(name)
        processes.wait()
        report: dict[str, Any] = json.loads(processes.report.read_text(encoding="utf-8"))
    return report, time.monotonic() - started


def weights(demo: FederationFiles) -> dict[str, np.ndarray]:
    """All weights of the joint model: of bottoms and top as they are, of the interaction as sums of their shares."""
    job, _, _ = load_job_setup(demo.job)
    found: dict[str, np.ndarray] = {}
    for name in demo.parties:
        (saved,) = (path.parent for path in (demo.folder / name).glob("*/*/model.safetensors"))
        found |= {f"{name}: {key}": value for key, value in load_file(saved / "model.safetensors").items()}
        for passive, share in load_file(saved / "interaction.safetensors").items():
            key = f"interaction weights of {passive}"
            found[key] = found.get(key, np.zeros_like(share)) + share
    return {key: center(w, job.ring.tau) if key.startswith("interaction") else w for key, w in found.items()}


def different(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> list[str]:
    """Names of tensors that are not equal, bit for bit."""
    return sorted(
        key for key in first.keys() | second.keys() if not np.array_equal(first.get(key, 0), second.get(key, 0))
    )


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="default_credit")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        quiet, disturbed = (
            write_demo_federation(Path(folder) / name, options.dataset, 2, options.data, SEED, OVERLAP)
            for name in ("undisturbed", "killed")
        )
        expected, seconds = run(quiet, {})
        victims = (*reversed(quiet.parties), COORDINATOR)
        epochs = expected["history"][-1]["epoch"]
        moments = {name: int(epochs * (at + 1) / (len(victims) + 1)) for at, name in enumerate(victims)}
        found, disturbed_seconds = run(disturbed, moments)
        result = {
            "machine": description(),
            "dataset": options.dataset,
            "killed_after_epoch": moments,
            "undisturbed": {"seconds": seconds, "steps": expected["steps"], "test": expected["test"]},
            "killed": {"seconds": disturbed_seconds, "steps": found["steps"], "test": found["test"]},
            "recoveries": found["recoveries"],
            "tensors": len(weights(quiet)),
            "tensors_that_differ": different(weights(quiet), weights(disturbed)),
        }
    _show(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    sys.exit(bool(result["tensors_that_differ"]))


def _show(result: dict[str, Any]) -> None:
    table = Table("", "undisturbed", "every role killed once", title=result["dataset"])
    quiet, killed = result["undisturbed"], result["killed"]
    table.add_row("seconds", *(f"{each['seconds']:.0f}" for each in (quiet, killed)))
    for name in quiet["test"]:
        table.add_row(f"test {name}", *(f"{each['test'][name]:.6f}" for each in (quiet, killed)))
    differ = result["tensors_that_differ"]
    table.add_row(
        "weights", f"{result['tensors']} tensors", f"{len(differ)} differ: {differ}" if differ else "all equal"
    )
    Console().print(table)


if __name__ == "__main__":
    main()
