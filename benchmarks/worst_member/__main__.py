"""Step times of honest parties while one member does its worst, against those beside a spinner of the same share.

python -m benchmarks.worst_member [--seconds 60] [--share 0.5] [--json FILE]

Two honest parties and a third member train for as long as it takes, each in its own process. Beside them, one process
with the third member's certificate attacks the other two and spins, in turns of a few seconds, so that whatever else
the machine does affects both alike. Each spin uses the share of the processor that the attack before it really used.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

import vfl
from benchmarks.effort import Shape
from benchmarks.reporting.machine import description
from benchmarks.systems.federation import FEATURES, party_processes
from vfl.api.federation_files import FederationFiles

ACTIVE, HONEST, ATTACKER = "bank", "telco", "shop"
SHAPE = Shape(256, 8, 8)
BATCHES, MANY_PASSES = 8, 2000
"""More steps than there is time for: the run is stopped when everything is measured."""
TURN_SECONDS = 10.0
WARM_UP_STEPS = 5
TARGET = 1.5


@dataclass
class _Steps(vfl.Callback):
    """When every step ended, and how long it took."""

    ended: list[tuple[float, float]] = field(default_factory=list)
    interruptions: int = 0

    def on_step(self, step: vfl.Step) -> None:
        self.ended.append((time.monotonic(), step.seconds))

    def on_interruption(self, _: vfl.Interrupted) -> None:
        self.interruptions += 1

    def within(self, begin: float, end: float) -> list[float]:
        """Seconds of the steps that began and ended in between."""
        return [seconds for at, seconds in self.ended if begin <= at - seconds and at <= end]


def write(folder: Path) -> FederationFiles:
    """A federation of three parties with random tables."""
    rows, parties = SHAPE.rows * BATCHES, []
    generator = np.random.default_rng(1)
    for name in (ACTIVE, HONEST, ATTACKER):
        (folder / name).mkdir(parents=True)
        columns: dict[str, Any] = {"id": np.arange(rows)}
        if name == ACTIVE:
            columns["y"] = generator.integers(0, 2, rows)
        columns |= {f"x{index}": generator.normal(size=rows).round(4) for index in range(FEATURES)}
        pl.DataFrame(columns).write_csv(folder / name / "table.csv")
        table = vfl.Table(folder / name / "table.csv", id="id", label="y" if name == ACTIVE else None)
        policy: dict[str, Any] = {"max_releases_per_row": 10_000, "max_passes": MANY_PASSES}
        if name == ACTIVE:
            policy["allow_trainable"] = [HONEST, ATTACKER]
        parties.append(vfl.Party(name, table, bottom={"kind": "mlp", "hidden": [16]}, policy=policy))
    job = vfl.Job(
        "worst-member", task="binary", seed=1, widths=SHAPE.width,
        model={"interaction_width": SHAPE.out_width, "trainable": [HONEST, ATTACKER]},
        training={"passes": MANY_PASSES, "evaluate_every": MANY_PASSES, "batch_size": SHAPE.rows},
        split={"validation": 0.0, "test": 0.0},
    )  # fmt: skip
    return vfl.write_federation(folder, job, active=parties[0], passive=parties[1:], name="worst")


async def measure(federation: FederationFiles, seconds: float, share: float) -> dict[str, Any]:
    """Train, and attack and spin in turns for ``seconds`` each."""
    steps, turns = _Steps(), []
    run = asyncio.create_task(
        vfl.train_async(federation.job, coordinator=federation.coordinator, callbacks=[steps])  # type: ignore[arg-type]
    )
    attacker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.worst_member.attacker", str(federation.party(ATTACKER)), ACTIVE, HONEST,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        while len(steps.ended) < WARM_UP_STEPS:
            await asyncio.sleep(0.1)
            if run.done():
                await run
        used = share
        for _ in range(max(1, round(seconds / TURN_SECONDS))):
            for what in ("attack", "spin"):
                turn = await _turn(attacker, steps, what, share if what == "attack" else used)
                used = turn["share"] if what == "attack" else used
                turns.append(turn)
                if run.done():
                    await run
    finally:
        attacker.kill()
        await attacker.wait()
        run.cancel()
        with contextlib.suppress(asyncio.CancelledError, vfl.VflError):
            await run
    return _result(turns, steps)


async def _turn(attacker: asyncio.subprocess.Process, steps: _Steps, what: str, share: float) -> dict[str, Any]:
    begin = time.monotonic()
    attacker.stdin.write(f"{what} {TURN_SECONDS} {share}\n".encode())
    answer = json.loads(await attacker.stdout.readline())
    return {"what": what, **answer, "steps": steps.within(begin, time.monotonic())}


def _result(turns: list[dict[str, Any]], steps: _Steps) -> dict[str, Any]:
    found: dict[str, Any] = {"interruptions": steps.interruptions}
    for what in ("attack", "spin"):
        own = [turn for turn in turns if turn["what"] == what]
        times = [seconds for turn in own for seconds in turn["steps"]]
        found[what] = {
            "seconds": TURN_SECONDS * len(own),
            "steps": len(times),
            "step_seconds_mean": mean(times),
            "step_seconds_median": median(times),
            "step_seconds_longest": max(times),
            "processor_share": mean(turn["share"] for turn in own),
        }
    found["attack"]["done"] = {
        name: sum(turn["done"].get(name, 0) for turn in turns) for name in sorted({n for t in turns for n in t["done"]})
    }
    for which in ("mean", "median"):
        key = f"step_seconds_{which}"
        found[f"ratio_of_{which}s"] = found["attack"][key] / found["spin"][key]
    pairs = [mean(a["steps"]) / mean(s["steps"]) for a, s in zip(turns[::2], turns[1::2], strict=True)]
    return {**found, "ratio_of_each_pair_of_turns": pairs, "target": TARGET, "met": found["ratio_of_means"] <= TARGET}


def main() -> None:
    """See the module docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--share", type=float, default=0.5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    described = description()
    with tempfile.TemporaryDirectory() as folder:
        federation = write(Path(folder))
        with party_processes(federation):
            found = asyncio.run(measure(federation, options.seconds, options.share))
        found["log_bytes_per_second_at_bank"] = sum(
            path.stat().st_size for path in (Path(folder) / ACTIVE).rglob("*.log")
        ) / (2 * options.seconds)
    _show(found)
    if options.json:
        result = {"machine": described, "shape": str(SHAPE), **found}
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def _show(found: dict[str, Any]) -> None:
    table = Table("", "one member does its worst", "plain spinner", title=f"three parties, {SHAPE}")
    for key in ("steps", "step_seconds_mean", "step_seconds_median", "step_seconds_longest", "processor_share"):
        table.add_row(key.replace("_", " "), *(f"{found[what][key]:.3g}" for what in ("attack", "spin")))
    console = Console()
    console.print(table)
    console.print(f"what it did: {found['attack']['done']}; interruptions: {found['interruptions']}")
    verdict = "met" if found["met"] else "missed"
    console.print(
        f"ratio of step times: {found['ratio_of_means']:.2f} (means), {found['ratio_of_medians']:.2f} (medians); "
        f"target {TARGET}: {verdict}"
    )


if __name__ == "__main__":
    main()
