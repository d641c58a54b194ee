"""A long run whose processes are killed at random moments, beside the same run in quiet.

``python -m support.faults.soak 5000`` asks three things: is any training step missing or any weight different, does
memory grow, do file handles stay open.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from support.faults.supervised import SupervisedRun, small_federation
from support.federations.federation import COORDINATOR, Federation, differing

SAMPLE_SECONDS = 1.0
WARM_UP_STEPS = 100
"""After the start of a process: pools fill, and allocators keep what they will use again."""

FEWEST_SAMPLES = 20
"""That a slope is worth showing of."""

KEPT_SAMPLES = 50


@dataclass
class Lifetime:
    """One process from its start to its end.

    Attributes:
        samples: steps that all parties had done since the run began, resident bytes, open file handles.
    """

    run: str
    name: str
    number: int
    samples: list[tuple[int, int, int]] = field(default_factory=list)

    def slope(self, of: int) -> float | None:
        """Least squares of the sampled value over 1,000 steps; None of a short life."""
        first = self.samples[0][0] + WARM_UP_STEPS if self.samples else 0
        late = np.array([sample for sample in self.samples if sample[0] >= first], dtype=np.float64)
        if len(late) < FEWEST_SAMPLES or late[-1, 0] == late[0, 0]:
            return None
        return float(np.polyfit(late[:, 0] / 1000, late[:, of], 1)[0])

    def report(self) -> dict[str, Any]:
        """For the JSON file."""
        memory = self.slope(1)
        thinned = self.samples[:: max(1, len(self.samples) // KEPT_SAMPLES)]
        return {
            "run": self.run,
            "process": self.name,
            "steps": self.samples[-1][0] - self.samples[0][0] if self.samples else 0,
            "memory_mb_per_1000_steps": None if memory is None else memory / 1e6,
            "handles_per_1000_steps": self.slope(2),
            "samples": [
                {"steps": steps, "memory_mb": round(size / 1e6, 1), "handles": count} for steps, size, count in thinned
            ],
        }


@dataclass
class Soak:
    """What came of it. Losses are training steps that are missing and weights that differ: both must be none."""

    seed: int
    steps: int
    seconds: float = 0.0
    quiet_seconds: float = 0.0
    kills: dict[str, int] = field(default_factory=dict)
    attempts: int = 0
    steps_repeated: int = 0
    steps_missing: int = 0
    weights_differing: list[str] = field(default_factory=list)
    lifetimes: list[Lifetime] = field(default_factory=list)

    @property
    def losses(self) -> int:
        """Must be 0."""
        return self.steps_missing + len(self.weights_differing)


class Sampler:
    """Looks at the processes of a run about every second."""

    def __init__(self, run: str, running: SupervisedRun) -> None:
        self._run = run
        self._running = running
        self._next = 0.0
        self._alive: dict[str, Lifetime] = {}
        self.lifetimes: list[Lifetime] = []

    def look(self) -> None:
        """Take a sample of every process, if it is time."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + SAMPLE_SECONDS
        steps = len(self._running.steps())
        for name, number in self._running.numbers().items():
            lifetime = self._alive.get(name)
            if lifetime is None or lifetime.number != number:
                lifetime = self._alive[name] = Lifetime(self._run, name, number)
                self.lifetimes.append(lifetime)
            try:
                pages = int(Path(f"/proc/{number}/statm").read_text(encoding="ascii").split()[1])
                handles = len(os.listdir(f"/proc/{number}/fd"))  # noqa: PTH208  # the names are all that is wanted
            except OSError:
                continue  # it has just ended
            lifetime.samples.append((steps, pages * os.sysconf("SC_PAGE_SIZE"), handles))


class Killer:
    """Kills a process at random moments.

    Args:
        random: decides which and when.
        mean_seconds: between two kills.
        last_step: of training, after which all are left alone.
    """

    def __init__(self, running: SupervisedRun, random: random.Random, mean_seconds: float, last_step: int) -> None:
        self._running = running
        self._random = random
        self._mean_seconds = mean_seconds
        self._last_step = last_step
        self._due = self._draw()
        self.kills: Counter[str] = Counter()

    def _draw(self) -> float:
        return time.monotonic() + self._random.expovariate(1 / self._mean_seconds)

    def look(self) -> None:
        """Kill one and start it again, if it is time."""
        if time.monotonic() < self._due:
            return
        self._due = self._draw()
        steps = self._running.steps()
        alive = sorted(self._running.numbers())
        if not steps or max(step.step for step in steps) >= self._last_step or not alive:
            return
        name = self._random.choice(alive)
        self._running.kill(name)
        self.kills[name] += 1


def soak(steps: int, seed: int, mean_seconds: float, limit: float) -> Soak:
    """Run it twice, disturbed and in quiet.

    Args:
        steps: of training at least.
        mean_seconds: between two kills.
        limit: seconds for each of the two runs.

    Raises:
        AssertionError: a process ended with an error, or a run took longer.
    """
    result = Soak(seed, steps)
    with tempfile.TemporaryDirectory() as folder:
        disturbed, quiet = (_federation(Path(folder) / name, steps) for name in ("disturbed", "quiet"))
        with SupervisedRun(disturbed) as running:
            killer = Killer(running, random.Random(seed), mean_seconds, _last_step(steps))
            result.seconds, lifetimes = _watch("kills", running, limit, killer.look)
            _count(result, running, killer)
        with SupervisedRun(quiet) as running:
            result.quiet_seconds, others = _watch("quiet", running, limit, lambda: None)
            wanted = {step.step for step in running.steps()}
        result.lifetimes = lifetimes + others
        result.steps_missing = len(wanted - _done(disturbed))
        result.weights_differing = differing(quiet.everything_saved(), disturbed.everything_saved())
    return result


STEPS_PER_EPOCH = 5
"""Of ``small_federation``."""


def _federation(folder: Path, steps: int) -> Federation:
    epochs = -(-steps // STEPS_PER_EPOCH)
    federation = small_federation(
        folder,
        training={"passes": epochs, "evaluate_every": epochs},
        checkpoints={"unsynced_every_steps": 20, "every_steps": 500},
        timeouts={"heartbeat": 8.0, "reconnect": 300.0},
    )
    return federation.write()


def _last_step(steps: int) -> int:
    return -(-steps // STEPS_PER_EPOCH) * STEPS_PER_EPOCH


def _done(federation: Federation) -> set[int]:
    return {step.step for step in SupervisedRun(federation).steps()}


def _watch(
    name: str, running: SupervisedRun, limit: float, disturb: Callable[[], None]
) -> tuple[float, list[Lifetime]]:
    started, sampler = time.monotonic(), Sampler(name, running)
    running.start()
    while not running.all_ended():
        running.attend()
        disturb()
        sampler.look()
        assert time.monotonic() - started < limit, f"'{name}' takes longer than {limit:g} s"
        time.sleep(0.1)
    running.attend()
    return time.monotonic() - started, sampler.lifetimes


def _count(result: Soak, running: SupervisedRun, killer: Killer) -> None:
    steps = running.steps()
    result.kills = dict(killer.kills)
    result.attempts = 1 + max((step.attempt for step in steps), default=0)
    result.steps = len({step.step for step in steps})
    result.steps_repeated = len(steps) - result.steps


def show(result: Soak, console: Console) -> None:
    """Everything but the samples."""
    summary = Table("steps", "kills", "attempts", "steps repeated", "losses", "seconds", "in quiet", title="soak")
    kills = ", ".join(f"{name} {count}" for name, count in sorted(result.kills.items())) or "none"
    summary.add_row(
        str(result.steps),
        kills,
        str(result.attempts),
        str(result.steps_repeated),
        str(result.losses),
        f"{result.seconds:.0f}",
        f"{result.quiet_seconds:.0f}",
    )
    console.print(summary)
    slopes = Table("run", "process", "steps", "MB per 1,000 steps", "handles per 1,000 steps", title="long lives")
    for report in (lifetime.report() for lifetime in result.lifetimes):
        memory, handles = report["memory_mb_per_1000_steps"], report["handles_per_1000_steps"]
        if memory is not None and handles is not None:
            slopes.add_row(report["run"], report["process"], str(report["steps"]), f"{memory:.2f}", f"{handles:.2f}")
    console.print(slopes)


def write(result: Soak, file: Path) -> None:
    """As JSON."""
    content = {**dataclasses.asdict(result), "losses": result.losses}
    content["lifetimes"] = [lifetime.report() for lifetime in result.lifetimes]
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Parse the arguments; end with 1 when anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("steps", nargs="?", type=int, default=5000, help="of training, at least (default 5000)")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32), help="of the kills (default: random)")
    parser.add_argument("--kill-every", type=float, default=30.0, help="seconds on average (default 30)")
    parser.add_argument("--minutes", type=float, default=60.0, help="that each of the two runs may take (default 60)")
    parser.add_argument("--json", type=Path, help="write the report there")
    arguments = parser.parse_args()
    console = Console(width=130)
    console.print(f"seed {arguments.seed}, process {COORDINATOR} and all parties are killed at random")
    result = soak(arguments.steps, arguments.seed, arguments.kill_every, arguments.minutes * 60)
    show(result, console)
    if arguments.json:
        write(result, arguments.json)
    sys.exit(result.losses > 0)


if __name__ == "__main__":
    main()
