"""Every role at every point with every fault: what is run, what must come of it, and the table of it.

``python -m support.faults.matrix`` runs all of it; ``tests/fault`` runs a part in every build.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from support.faults.recovering import run_here
from support.faults.supervised import OUTSIDE_TRAINING, Cell, Fault, Kind, SupervisedRun, small_federation
from support.federations.federation import ACTIVE, COORDINATOR, differing

CLINIC, INSURER = "clinic", "insurer"
PHASES = ("bottom_forward", "interaction_forward", "top", "interaction_backward", "weight_step", "bottom_backward")
BEFORE = ("prepare", "align", "begin")
WHILE = (*PHASES, "score", "checkpoint", "commit")
RECOVERING = ("restore", "realign", "rebegin")
"""Points that only an interruption of another process leads to."""

Group = Fault | Sequence[Fault]


@dataclass(frozen=True)
class Scenario:
    """One run from its start to its end.

    Attributes:
        groups: faults, one group after the other; those of a group are set at once.
        passive: names of the passive parties.
        job: changes of the tables of job.toml.
        bottom: factory of every party's bottom; empty for the usual one.
        stagewise: training of the default kind, with the default bottoms, in place of joint training.
    """

    name: str
    groups: tuple[Group, ...]
    passive: tuple[str, ...] = (CLINIC,)
    job: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    bottom: str = ""
    stagewise: bool = False

    @property
    def shape(self) -> str:
        """What the trained weights depend on."""
        return json.dumps([self.passive, self.job, self.bottom, self.stagewise], sort_keys=True)

    def federation(self, folder: Path) -> Any:
        """Its files, written."""
        federation = small_federation(folder, self.passive, **self.job)
        for party in federation.parties.values():
            if self.stagewise:
                del party["bottom"]
            if self.bottom:
                party["bottom"] = {"kind": "custom", "factory": self.bottom}
            party["policy"]["allow_unencrypted"] = federation.job["interaction"]["protocol"] == "plaintext"
        if self.stagewise:
            federation.job["model"] = {}
            federation.job["interaction"] = {}
            federation.job["training"] = {
                "passes": 6,
                "local_epochs": 9,
                "batch_size": 16,
                "evaluation_batch_size": 32,
                **self.job.get("training", {}),
            }
        return federation.write()


@dataclass
class Result:
    """What came of a scenario; ``problem`` is empty where all went on and the weights are those of a quiet run."""

    scenario: Scenario
    cells: list[Cell]
    problem: str
    seconds: float


class Quiet:
    """Weights of runs that nothing disturbs, one run in this process for each shape."""

    def __init__(self) -> None:
        self._known: dict[str, dict[str, np.ndarray]] = {}

    def weights(self, scenario: Scenario, folder: Path) -> Mapping[str, np.ndarray]:
        """Of the same job with no fault."""
        if scenario.shape not in self._known:
            federation = scenario.federation(folder)
            ended = asyncio.run(run_here(federation))
            assert set(ended.errors.values()) == {None}, ended.errors
            self._known[scenario.shape] = federation.everything_saved()
        return self._known[scenario.shape]


def run(scenario: Scenario, quiet: Quiet, folder: Path) -> Result:
    """Run a scenario and compare the weights."""
    started = time.monotonic()
    federation = scenario.federation(folder / "disturbed")
    with SupervisedRun(federation) as supervised:
        try:
            cells = supervised.through(scenario.groups)
        except AssertionError as error:
            return Result(scenario, supervised.cells, str(error), time.monotonic() - started)
    seconds = time.monotonic() - started
    others = differing(quiet.weights(scenario, folder / "quiet"), federation.everything_saved())
    problem = f"weights differ from those of a quiet run: {', '.join(others)}" if others else ""
    if not problem and (costly := [cell.fault for cell in cells if _cost_an_attempt(cell, supervised)]):
        problem = f"{costly} cost an attempt"
    return Result(scenario, cells, problem, seconds)


def _cost_an_attempt(cell: Cell, supervised: SupervisedRun) -> bool:
    """Whether a party that was only slow was taken for one that is gone."""
    at = cell.at
    if cell.fault.kind is not Kind.SLOW or at is None:
        return False
    before = [step for step in supervised.steps() if step.time <= at]
    after = [step for step in supervised.steps() if step.time > at]
    if not before or not after:
        return False
    others = [other for other in supervised.cells if other.fault.kind is not Kind.SLOW and other.at is not None]
    excused = sum(before[-1].time <= (other.at or 0.0) <= after[0].time for other in others)
    return after[0].attempt - before[-1].attempt > excused


# --- the scenarios ---


def whole_matrix() -> Iterator[Scenario]:
    """Every role at every point with every fault, and what differs from the usual job."""
    for kind in Kind:
        yield Scenario(f"{kind} before the first step", tuple(_each(BEFORE, kind)))
        yield Scenario(f"{kind} in a step", tuple(_each(PHASES, kind)))
        yield Scenario(f"{kind} around a checkpoint", tuple(_each(("score", "checkpoint", "commit"), kind)))
        yield Scenario(f"{kind} while another is being recovered from", tuple(_recovering(kind)))
        yield Scenario(f"{kind} when saving", (*_each(("finish",), kind), Fault(COORDINATOR, "saved", kind)))
        parties = Fault(ACTIVE, "release", kind), Fault(CLINIC, "release", kind)
        yield Scenario(f"{kind} parties at the end", (parties,))
        yield Scenario(f"{kind} coordinator at the end", (Fault(COORDINATOR, "release", kind),))
    yield from special()


def special() -> Iterator[Scenario]:
    """Other jobs: three parties, in the clear, with dropout, with SGD, stagewise; and two that die at once."""
    one_of_each = (
        Fault(CLINIC, "interaction_forward"),
        Fault(ACTIVE, "bottom_backward"),
        Fault(COORDINATOR, "checkpoint"),
    )
    both = (Fault(ACTIVE, "interaction_backward"), Fault(INSURER, "interaction_backward"))
    with_coordinator = (Fault(CLINIC, "bottom_backward"), Fault(COORDINATOR, "bottom_backward"))
    yield Scenario(
        "three parties, two die at once",
        (Fault(INSURER, "align"), both, with_coordinator, Fault(INSURER, "finish")),
        passive=(CLINIC, INSURER),
    )
    yield Scenario("protocol plaintext", one_of_each, job={"interaction": {"protocol": "plaintext"}})
    points = ("residuals", "interaction_backward", "weight_step", "interaction_forward", "keep", "local_epoch")
    each = tuple(Fault(name, point) for name in (ACTIVE, CLINIC, COORDINATOR) for point in points)
    yield Scenario("stagewise", each, stagewise=True)
    yield Scenario(
        "dropout and SGD",
        one_of_each,
        job={"training": {"optimizer": {"name": "sgd", "learning_rate": 0.05}}},
        bottom="support.federations.bottoms:with_dropout",
    )


def _each(points: Sequence[str], kind: Kind) -> Iterator[Group]:
    for point in points:
        every = [Fault(name, point, kind) for name in (ACTIVE, CLINIC, COORDINATOR)]
        if point in OUTSIDE_TRAINING and kind is not Kind.KILL:
            yield every  # which leads nobody there again
        else:
            yield from every
        if point == "score":
            yield from (Fault(name, "scoring", kind) for name in (ACTIVE, COORDINATOR))


def _recovering(kind: Kind) -> Iterator[Group]:
    for point in RECOVERING:
        for name, other in ((ACTIVE, CLINIC), (CLINIC, ACTIVE), (COORDINATOR, CLINIC)):
            yield Fault(other, "bottom_backward"), Fault(name, _as_called(point, name), kind)


def _as_called(point: str, name: str) -> str:
    """A coordinator calls parties for both in the same way."""
    return point.removeprefix("re") if name == COORDINATOR and point != "restore" else point


# --- the table ---


def show(results: Sequence[Result], console: Console) -> None:
    """One line for each fault."""
    table = Table("scenario", "role", "point", "fault", "recovered", "steps lost", "seconds")
    for result in results:
        for cell in as_data([result]):
            table.add_row(
                *(cell[name] for name in ("scenario", "role", "point", "fault")),
                "yes" if cell["recovered"] else "[bold red]NO",
                str(cell["steps_lost"]),
                "" if cell["seconds"] is None else f"{cell['seconds']:.1f}",
            )
        table.add_section()
    console.print(table)
    for result in results:
        if result.problem:
            console.print(f"[bold red]{result.scenario.name}[/]:")
            console.print(result.problem, markup=False)


def as_data(results: Sequence[Result]) -> list[dict[str, Any]]:
    """The same for a file, a row for each fault."""
    return [
        {
            "scenario": result.scenario.name,
            "role": cell.fault.role,
            "point": cell.fault.point,
            "fault": str(cell.fault.kind),
            "recovered": cell.at is not None and not result.problem,
            "steps_lost": cell.steps_lost,
            "seconds": None if cell.seconds is None else round(cell.seconds, 2),
        }
        for result in results
        for cell in result.cells
    ]


def main() -> None:
    """Run the whole matrix, or the scenarios with a text in their names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-k", default="", metavar="TEXT", help="only scenarios with this in their name")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table there, too")
    options = parser.parse_args()
    console, quiet, results = Console(width=130), Quiet(), []
    for at, scenario in enumerate(one for one in whole_matrix() if options.k in one.name):
        with tempfile.TemporaryDirectory() as folder:
            result = run(scenario, quiet, Path(folder) / str(at))
        results.append(result)
        console.print(f"{scenario.name}: {'NOT recovered' if result.problem else 'ok'}, {result.seconds:.0f} s")
    show(results, console)
    if options.json:
        options.json.write_text(json.dumps(as_data(results), indent=1) + "\n", encoding="utf-8")
    sys.exit(any(result.problem for result in results) or not results)


if __name__ == "__main__":
    main()
