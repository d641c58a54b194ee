"""``python -m support.faults.faulty ...`` is ``python -m vfl ...`` with a trap: it stops itself at a chosen point.

The trap is set and set again while the process runs, by a file beside its configuration (``Trap``). Of production code
only the public points named here are wrapped, in this process alone.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ORDER, SPRUNG, STEPS = "trap", "traps_sprung", "steps"
"""The order to stop; what has been obeyed; at a coordinator, when each training step was done."""


class Trap:
    """Stops this process at the point that a file names: ``NUMBER POINT OCCURRENCE SIGNAL``.

    Args:
        folder: of the process's configuration.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._seen: tuple[str, int] = ("", 0)

    def at(self, point: str) -> None:
        """This process is at a point now."""
        with self._lock:
            try:
                number, wanted, occurrence, signal = (self._folder / ORDER).read_text(encoding="ascii").split()
            except FileNotFoundError:
                return
            if wanted != point:
                return
            seen = self._seen[1] + 1 if self._seen[0] == number else 1
            self._seen = number, seen
            if seen < int(occurrence):
                return
            (self._folder / ORDER).unlink()
            self.note(SPRUNG, number)
            os.kill(os.getpid(), int(signal))

    def note(self, file: str, *values: object) -> None:
        """Add a line with the time of a clock that all processes of this machine share."""
        with (self._folder / file).open("a", encoding="ascii") as log:
            log.write(" ".join(str(value) for value in (time.monotonic(), *values)) + "\n")


@dataclass
class _Visit:
    """One pass of a point: its middle is after the first message that leaves, or its end where none does."""

    point: str
    over: bool = False


_visit: ContextVar[_Visit | None] = ContextVar("_visit", default=None)


def _around(trap: Trap, work: Callable[..., Awaitable[Any]], name: Callable[..., str]) -> Callable[..., Awaitable[Any]]:
    """``work``, in whose middle there is a point; ``name`` gets the arguments, too."""

    @functools.wraps(work)
    async def wrapped(*arguments: Any, **named: Any) -> Any:
        visit = _Visit(name(*arguments, **named))
        token = _visit.set(visit)
        try:
            result = await work(*arguments, **named)
        finally:
            _visit.reset(token)
        if not visit.over:
            trap.at(visit.point)
        return result

    return wrapped


def _after(trap: Trap, kind: type, method: str, point: str) -> None:
    work = getattr(kind, method)

    @functools.wraps(work)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        result = work(*arguments, **named)
        trap.at(point)
        return result

    setattr(kind, method, wrapped)


def set_at_party(trap: Trap) -> None:
    """Points of a party: prepare, restore, align, keys (in ``realign`` after a restore), begin, rebegin, the phases,
    scoring, checkpoint, commit, finish, release."""
    from vfl.checkpoints.directory import CheckpointDirectory
    from vfl.checkpoints.store import CheckpointStore
    from vfl.party.service.attempt import Attempt
    from vfl.party.service.service import PartyService
    from vfl.transport.client import PeerClient

    accept, deliver, release = Attempt.accept, PeerClient.deliver, PartyService.release

    def accept_trapped(self: Attempt, role: Any, mail: Any) -> None:
        again = ""

        def restore(*arguments: Any) -> None:
            nonlocal again
            again = "re"
            plain_restore(*arguments)
            trap.at("restore")

        plain_restore, role.restore = role.restore, restore
        role.load = _around(trap, role.load, _named("prepare"))
        role.align = _around(trap, role.align, lambda *_, **__: again + "align")
        role.begin = _around(trap, role.begin, lambda *_: again + "begin")
        role.run_phase = _around(trap, role.run_phase, lambda key, phase, batch: phase.value)
        role.score = _around(trap, role.score, _named("scoring"))
        role.save = _around(trap, role.save, _named("finish"))
        accept(self, role, mail)

    async def deliver_trapped(self: PeerClient, *arguments: Any, **named: Any) -> None:
        await deliver(self, *arguments, **named)
        visit = _visit.get()
        if visit is not None and not visit.over:
            visit.over = True
            trap.at(visit.point)

    async def release_trapped(self: PartyService, call: Any) -> Any:
        trap.at("release")
        return await release(self, call)

    Attempt.accept = accept_trapped  # type: ignore[method-assign]
    PeerClient.deliver = deliver_trapped  # type: ignore[method-assign]
    PartyService.release = release_trapped  # type: ignore[method-assign]
    _after(trap, CheckpointStore, "write", "checkpoint")
    _after(trap, CheckpointDirectory, "promote", "commit")


def set_at_coordinator(trap: Trap) -> None:
    """Points of a coordinator: after the first reply to a call; before and after a checkpoint counts; saved."""
    from vfl.run_records.journal import RunJournal
    from vfl.transport.client import ControlClient

    for method in ("prepare", "restore", "align", "begin", "score", "finish", "release"):
        call, point = getattr(ControlClient, method), "scoring" if method == "score" else method
        setattr(ControlClient, method, _around(trap, call, _named(point)))
    run_phase = ControlClient.run_phase
    ControlClient.run_phase = _around(trap, run_phase, _phase_of)  # type: ignore[method-assign]
    commit, record = RunJournal.commit, RunJournal.record

    def commit_trapped(self: RunJournal, *arguments: Any, **named: Any) -> None:
        trap.at("checkpoint")
        commit(self, *arguments, **named)
        trap.at("commit")

    def record_noted(self: RunJournal, step: Any) -> None:
        record(self, step)
        trap.note(STEPS, step.step, step.attempt)

    RunJournal.commit = commit_trapped  # type: ignore[method-assign]
    RunJournal.record = record_noted  # type: ignore[method-assign]
    _after(trap, RunJournal, "save", "saved")


def _named(point: str) -> Callable[..., str]:
    return lambda *_, **__: point


def _phase_of(client: Any, call: Any) -> str:
    return str(call.phase.value)


def main() -> None:
    """Set the trap of the process that the arguments ask for, and run it."""
    from vfl.__main__ import main as run_vfl
    from vfl.transport.tls import version

    version.require_tls_1_3()  # before the trap is set, which imports gRPC
    version.require_tls_1_3 = lambda: None
    file = next(Path(argument) for argument in sys.argv[1:] if argument.endswith(".toml"))
    {"party": set_at_party, "run": set_at_coordinator}[sys.argv[1]](Trap(file.parent))
    run_vfl()


if __name__ == "__main__":
    main()
