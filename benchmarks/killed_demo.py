"""Kill every role once in the middle of a demo, restart it, and compare the weights with those of an undisturbed run.

It is the demo with trainable bottoms: the default one is over before every role can be killed.

python -m benchmarks.killed_demo --dataset default_credit --data DIRECTORY [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from safetensors.numpy import load_file

from benchmarks.reporting.machine import description
from vfl.api.federation_files import COORDINATOR, FederationFiles
from vfl.api.processes import FederationProcesses
from vfl.cli.demo.federation import demo_parts, write_demo_federation
from vfl.interact.fixed_point import center
from vfl.job.setup import load_job_setup

SEED, OVERLAP = 3, 0.9
"""The values that ``vfl demo`` uses."""
PAUSE_SECONDS = 1.5
"""Wait after the end of an epoch, to be in the middle of the next."""


def run(demo: FederationFiles, kill_after: dict[str, int]) -> tuple[dict[str, Any], float]:
    """Run a demo, killing each process in the epoch after its number. Returns the coordinator's report and seconds."""
    started = time.monotonic()
    with FederationProcesses(demo, {"OMP_NUM_THREADS": "1"}) as processes:
        for name in (*demo.parties, COORDINATOR):
            _start(processes, name)
        for name, epoch in sorted(kill_after.items(), key=lambda item: item[1]):
            _wait_for_epoch(processes, epoch)
            time.sleep(PAUSE_SECONDS)
            processes.kill(name)
            _start(processes, name)
        codes = processes.wait_for_all()
        if any(codes.values()):
            raise RuntimeError(f"exit codes {codes}\n{processes.tails()}")
        report: dict[str, Any] = json.loads(processes.report.read_text(encoding="utf-8"))
    return report, time.monotonic() - started


def _start(processes: FederationProcesses, name: str) -> None:
    """Start a process, always with the same command."""
    if name == COORDINATOR:
        processes.start_coordinator(resume=True)
    else:
        processes.start(name)


def _wait_for_epoch(processes: FederationProcesses, epoch: int) -> None:
    """Wait until the coordinator has logged the end of this epoch."""
    while f"epoch {epoch}/" not in processes.log(COORDINATOR).read_text(encoding="utf-8"):
        if processes.exit_code(COORDINATOR) is not None:
            raise RuntimeError(f"the run ended before epoch {epoch}\n{processes.tails()}")
        time.sleep(0.1)


def weights(demo: FederationFiles) -> dict[str, np.ndarray]:
    """All weights of the joint model: of bottoms and top unchanged, of the interaction as sums of their shares."""
    job, _, _ = load_job_setup(demo.job)
    found: dict[str, np.ndarray] = {}
    for name in demo.parties:
        (saved,) = (path.parent for path in (demo.folder / name).glob("*/*/model.safetensors"))
        found |= {f"{name}: {key}": value for key, value in load_file(saved / "model.safetensors").items()}
        for passive, share in load_file(saved / "interaction.safetensors").items():
            key = f"interaction weights of {passive}"
            found[key] = found.get(key, np.zeros_like(share)) + share
    return {key: center(w, job.ring_settings.tau) if key.startswith("interaction") else w for key, w in found.items()}


def different(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> list[str]:
    """Names of tensors that are not bit-for-bit equal."""
    return sorted(
        key for key in first.keys() | second.keys() if not np.array_equal(first.get(key, 0), second.get(key, 0))
    )


def main() -> None:
    """See the module docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="default_credit")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        places = [Path(folder) / name for name in ("undisturbed", "killed")]
        quiet, disturbed = (
            write_demo_federation(
                place, demo_parts(place, options.dataset, 2, options.data, SEED, OVERLAP, trainable=True)
            )
            for place in places
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
