"""A federation whose processes are killed and stopped at chosen points, and started again as an operator would."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from support.faults.faulty import ORDER, SPRUNG, STEPS
from support.federations.federation import ACTIVE, COORDINATOR, PATIENCE, Federation, Processes

TESTS = Path(__file__).parents[2]
"""Where processes find ``support``."""

SILENCE = 2.0
"""``timeouts.heartbeat`` of these federations, in seconds."""

STOPPED_SECONDS = SILENCE + 2.5
"""Longer than heartbeats take to notice."""

SLOW_SECONDS = 0.5
"""Short enough to be nothing at all."""

OUTSIDE_TRAINING = ("prepare", "align", "begin", "finish", "saved", "release")
"""Points before the first step or after the last."""

_POLL_SECONDS = 0.02


class Kind(StrEnum):
    """What happens to a process."""

    KILL = "killed"
    STOP = "stopped"
    SLOW = "slow"


class Fault(NamedTuple):
    """A process meets something at the n-th time that it comes to a point (``support.faults.faulty``)."""

    name: str
    point: str
    kind: Kind = Kind.KILL
    occurrence: int = 1

    @property
    def role(self) -> str:
        return {ACTIVE: "active", COORDINATOR: "coordinator"}.get(self.name, "passive")


class Step(NamedTuple):
    """A training step that the coordinator has seen done."""

    time: float
    step: int
    attempt: int


@dataclass
class Cell:
    """What came of a fault.

    Attributes:
        at: when it happened, on the monotonic clock; None where its point was never reached.
        over: when the run was further than before, had ended, or met the next fault.
        steps_lost: training steps that were done again.
    """

    fault: Fault
    at: float | None = None
    over: float | None = None
    steps_lost: int = 0

    @property
    def seconds(self) -> float | None:
        return None if self.at is None or self.over is None else self.over - self.at


class SupervisedRun(Processes):
    """Runs a federation to its end through faults.

    Every process that was killed is started again at once by the command that started it, the coordinator's with
    ``--resume``; every process that was stopped goes on some time later.
    """

    def __init__(self, federation: Federation) -> None:
        super().__init__(federation, TESTS, module="support.faults.faulty")
        self.cells: list[Cell] = []
        self._set: dict[str, int] = {}
        self._to_continue: dict[str, float] = {}

    def through(self, groups: Sequence[Fault | Sequence[Fault]]) -> list[Cell]:
        """From the start to the end; a group of faults is set at once, the next when that one is over.

        Raises:
            AssertionError: a process ended otherwise than with 0, or nothing goes on.
        """
        self._set_traps(_group(groups[0]))
        self.start()
        for at, group in enumerate(groups):
            if at:
                self._set_traps(_group(group))
            self._until(lambda: not self._set, f"{group} to happen")
            # Points outside training are passed once: their traps are set before what is stopped goes on.
            if at + 1 < len(groups) and not _once_a_run(_group(groups[at + 1])):
                self._until(lambda: not self._to_continue and self._is_over(), f"the end of {group}")
        self._until(self.all_ended, "the end")
        codes = self.wait()
        assert set(codes.values()) == {0}, f"{codes}\n{self._outputs()}"
        self._measure()
        return self.cells

    def restart(self, name: str) -> None:
        """Start a process again as an operator would."""
        if name == COORDINATOR:
            self.start_command(name, "run", "job.toml", "--resume", "--report", "outcome.json")
        else:
            self.start(name)

    def kill(self, name: str) -> None:
        """Kill a process and start it again."""
        self.signal(name, signal.SIGKILL)
        self.wait_killed(name)
        self.restart(name)

    def wait_for_step(self, step: int) -> None:
        """Wait until the run has come so far."""
        self._until(lambda: any(done.step >= step for done in self.steps()), f"step {step}")

    def steps(self) -> list[Step]:
        """Training steps in the order in which they were done, repeated ones included."""
        lines = self._lines(COORDINATOR, STEPS)
        return [Step(float(at), int(step), int(attempt)) for at, step, attempt in lines]

    # --- traps ---

    def set_trap(self, fault: Fault) -> Cell:
        """Have a process meet its fault when it comes there."""
        number = len(self.cells)
        self.cells.append(Cell(fault))
        self._set[fault.name] = number
        kind = signal.SIGKILL if fault.kind is Kind.KILL else signal.SIGSTOP
        file = self.federation.path(fault.name, ORDER)
        draft = file.with_suffix(".new")
        draft.write_text(f"{number} {fault.point} {fault.occurrence} {int(kind)}", encoding="ascii")
        draft.replace(file)
        return self.cells[number]

    def _set_traps(self, faults: Sequence[Fault]) -> None:
        assert len({fault.name for fault in faults}) == len(faults), "a process has one trap at a time"
        for fault in faults:
            self.set_trap(fault)

    def attend(self) -> None:
        """See what has happened, start again what was killed, have go on what was stopped long enough.

        Raises:
            AssertionError: a process ended otherwise than with 0, or by the hand of nobody.
        """
        ended = self.ended()  # before the notes are read: who notes its end and then dies has not failed
        for name, number in tuple(self._set.items()):
            for at, sprung in self._lines(name, SPRUNG):
                if int(sprung) == number:
                    self._met(self.cells[number], float(at))
        for name, when in tuple(self._to_continue.items()):
            if time.monotonic() >= when:
                self.signal(name, signal.SIGCONT)
                del self._to_continue[name]
        failed = {name: code for name, code in ended.items() if code and name in self.ended()}
        assert not failed, f"{failed}\n{self._outputs()}"

    def _met(self, cell: Cell, at: float) -> None:
        name = cell.fault.name
        cell.at = at
        del self._set[name]
        if cell.fault.kind is Kind.KILL:
            self.wait_killed(name)
            self.restart(name)
        else:
            self._to_continue[name] = at + (SLOW_SECONDS if cell.fault.kind is Kind.SLOW else STOPPED_SECONDS)

    def _is_over(self) -> bool:
        """Whether the run is further than when the last fault happened."""
        last = max(cell.at for cell in self.cells if cell.at is not None)
        steps = self.steps()
        before = max((step.step for step in steps if step.time <= last), default=0)
        return any(step.step > before for step in steps if step.time > last)

    def _measure(self) -> None:
        steps, end = self.steps(), time.monotonic()
        for cell in self.cells:
            if cell.at is None:
                continue
            done = [step.step for step in steps if step.time <= cell.at]
            later = [step for step in steps if step.time > cell.at]
            further = next((step for step in later if step.step > max(done, default=0)), None)
            beyond = further.time if further else end
            repeated = {step.step for step in later if step.time < beyond and step.step <= max(done, default=0)}
            cell.steps_lost = len(repeated)
            cell.over = min([beyond, *(other.at for other in self.cells if other.at and other.at > cell.at)])

    # --- waiting ---

    def _until(self, condition: Any, what: str, seconds: float = PATIENCE) -> None:
        deadline = time.monotonic() + seconds
        while True:
            none_left = self.all_ended()  # before the condition, which may be that none is left
            self.attend()
            if condition():
                return
            assert time.monotonic() < deadline, f"still waiting for {what}\n{self._outputs()}"
            assert not none_left, f"the run ended before {what}\n{self._outputs()}"
            time.sleep(_POLL_SECONDS)

    def all_ended(self) -> bool:
        """Whether no process is left."""
        return len(self.ended()) == len(self.federation.names) + 1

    def _lines(self, name: str, file: str) -> list[list[str]]:
        """Complete lines that a process has written."""
        try:
            text = self.federation.path(name, file).read_text(encoding="ascii")
        except FileNotFoundError:
            return []
        return [line.split() for line in text[: text.rfind("\n") + 1].splitlines()]


def _group(group: Fault | Sequence[Fault]) -> Sequence[Fault]:
    return [group] if isinstance(group, Fault) else group


def _once_a_run(faults: Sequence[Fault]) -> bool:
    """Whether a fault lies before the first step or after the last, so that no further step can be waited for."""
    return any(fault.point in OUTSIDE_TRAINING for fault in faults)


def small_federation(folder: Path, passive: tuple[str, ...] = ("clinic",), **job: Mapping[str, Any]) -> Federation:
    """A federation that trains 60 steps in some seconds, with a checkpoint every three; ``job`` changes its tables."""
    folder.mkdir(parents=True, exist_ok=True)
    federation = Federation(folder, passive, rows=120)
    federation.job["training"] |= {"passes": 12, "batch_size": 16}
    federation.job["checkpoints"] = {"unsynced_every_steps": 3, "every_steps": 9}
    federation.job["timeouts"] |= {"heartbeat": SILENCE, "reconnect": 90.0}
    for table, values in job.items():
        federation.job[table] |= values
    return federation
