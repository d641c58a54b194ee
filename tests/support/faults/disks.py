"""What each role does when a disk that it writes to is full, read-only or closed: the table in docs/operations.md.

``python -m support.faults.disks`` (``scripts/disks.sh``) runs real processes on small disks and measures, as root.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from support.faults.recovering import small_federation
from support.faults.small_disk import SmallDisk, small_disk
from support.federations.federation import ACTIVE, COORDINATOR, Federation, Processes

CLINIC = "clinic"
NAMES = {"active": ACTIVE, "passive": CLINIC, "coordinator": COORDINATOR}
STARTS_WITHIN, ACTS_WITHIN, ENDS_WITHIN = 180.0, 90.0, 10.0
_POLL_SECONDS = 0.05
_BEGIN, _END = "<!-- begin: scripts/disks.sh -->", "<!-- end: scripts/disks.sh -->"


@dataclass(frozen=True)
class Cell:
    """A sink of one role, and what is wrong with it.

    Attributes:
        sink: log, stderr, audit, checkpoint, record, ledger or model.
        role: whose.
        fault: full, read-only or closed.
    """

    sink: str
    role: str
    fault: str

    @property
    def name(self) -> str:
        return NAMES[self.role]


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Attributes:
        goes_on: whether the run went on; otherwise it ended by itself.
        seconds: from the fault to the end of all processes, or to the next steps.
        codes: exit codes by process; after SIGTERM where the run went on.
        term_seconds: from SIGTERM at all processes to the end of the last; None where they had ended.
    """

    goes_on: bool
    seconds: float
    codes: dict[str, int]
    term_seconds: float | None


ROLES, PARTIES = ("active", "passive", "coordinator"), ("active", "passive")
CELLS = (
    *(Cell("log", role, "full") for role in ROLES),
    *(Cell("stderr", role, "closed") for role in ROLES),
    *(Cell("audit", role, "full") for role in ROLES),
    *(Cell("checkpoint", role, fault) for role in PARTIES for fault in ("full", "read-only")),
    Cell("record", "coordinator", "full"),
    *(Cell("ledger", role, "full") for role in PARTIES),
    *(Cell("model", role, "full") for role in PARTIES),
)


class _Started(Processes):
    """Processes of which one writes its log to a small disk, or has no standard error."""

    def __init__(self, federation: Federation, cell: Cell, disk: SmallDisk) -> None:
        # Processes of their own: one that is forked has the standard error of the one it comes from.
        super().__init__(federation, preloaded=cell.fault != "closed")
        self._cell, self._disk = cell, disk

    def _log(self, name: str) -> Path:
        on_disk = (self._cell.sink, self._cell.name) == ("log", name)
        return self._disk.path / "output.log" if on_disk else super()._log(name)

    def _start_fresh(self, name: str, arguments: list[str]) -> subprocess.Popen[bytes]:
        if (self._cell.fault, self._cell.name) != ("closed", name):
            return super()._start_fresh(name, arguments)
        command = ["sh", "-c", 'exec "$0" -m vfl "$@" 2>&- >&-', sys.executable, *arguments]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, env=self._environment, start_new_session=True)


def measured(cell: Cell, folder: Path) -> Outcome:
    """Run a federation until the fault shows what it does.

    Raises:
        AssertionError: a process did not act in time, or not end in time after SIGTERM.
    """
    with small_disk(folder / "disk") as disk:
        (folder / "federation").mkdir()
        federation = _federation(cell, folder / "federation", disk)
        with _Started(federation, cell, disk) as processes:
            processes.start()
            progress = _progress(federation, cell)
            _until(lambda: progress() > 20_000, STARTS_WITHIN, f"{cell}: the first steps", processes)
            _break(cell, disk)
            since, before = time.monotonic(), progress()
            # Bytes of the other party's audit log: some steps and checkpoints. The model is saved at the very end.
            enough = before + (1 << 30 if cell.sink == "model" else 60_000)
            _until(lambda: progress() > enough or len(processes.ended()) == 3, ACTS_WITHIN, f"{cell}", processes)
            goes_on = len(processes.ended()) < 3 and progress() > enough
            seconds = time.monotonic() - since
            if not goes_on:
                return Outcome(False, seconds, processes.wait(ACTS_WITHIN), None)
            since = time.monotonic()
            for name in processes.numbers():
                processes.signal(name, signal.SIGTERM)
            ends: dict[str, float] = {}
            while len(ends) < len(NAMES):
                ends |= {name: time.monotonic() - since for name in processes.ended() if name not in ends}
                time.sleep(_POLL_SECONDS)
            codes, ended = processes.wait(ACTS_WITHIN), max(ends.values())
            assert ended <= ENDS_WITHIN, f"{cell}: {ends} s after SIGTERM, codes {codes}"
            return Outcome(True, seconds, codes, ended)


def _federation(cell: Cell, folder: Path, disk: SmallDisk) -> Federation:
    federation = small_federation(folder)
    # Short enough to save the model, or too long to end by itself.
    federation.job["training"]["passes"] = 3 if cell.sink == "model" else 400
    party = federation.parties.get(cell.name, {})
    match cell.sink:
        case "audit" if cell.role == "coordinator":
            federation.coordinator["audit"] = {"directory": str(disk.path)}
        case "audit":
            party["audit"] = {"directory": str(disk.path)}
        case "checkpoint":
            party["checkpoints"] = {"directory": str(disk.path)}
        case "record":
            federation.coordinator["runs"] = {"database": str(disk.path / "runs.sqlite")}
        case "ledger":
            party["privacy"] = {"ledger": str(disk.path / "ledger.sqlite")}
        case "model":
            party["output"] = str(disk.path)
    return federation.write()


def _progress(federation: Federation, cell: Cell) -> Callable[[], int]:
    """Bytes in the audit log of a party that has no fault: it grows with each step."""
    watched = federation.path(ACTIVE if cell.name == CLINIC else CLINIC, "audit")
    return lambda: sum(path.stat().st_size for path in watched.glob("*.jsonl"))


def _break(cell: Cell, disk: SmallDisk) -> None:
    if cell.fault == "full":
        disk.fill()
    elif cell.fault == "read-only":
        disk.make_read_only()


def _until(condition: Callable[[], bool], seconds: float, what: str, processes: Processes) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s; ended: {processes.ended()}"
        time.sleep(_POLL_SECONDS)


# --- the table ---


def row(cell: Cell, outcome: Outcome) -> str:
    """One line of the table, in Markdown."""
    if outcome.goes_on:
        what = f"the run goes on; SIGTERM ends every process within {outcome.term_seconds:.1f} s"
    else:
        codes = ", ".join(f"{role} {outcome.codes[name]}" for role, name in NAMES.items())
        what = f"the run ends everywhere; exit codes: {codes}"
    return f"| {cell.sink} | {cell.role} | {cell.fault} | {what} | {outcome.seconds:.1f} |"


def _tried(cell: Cell, tries: int) -> Outcome | None:
    for _ in range(tries):
        with tempfile.TemporaryDirectory(prefix="vfl-disks-") as folder:
            try:
                return measured(cell, Path(folder))
            except AssertionError as error:
                print(f"load {os.getloadavg()[0]:.0f}: {error}", file=sys.stderr, flush=True)
    return None


def main() -> int:
    """Measure all cells and print the table; 1 if a process did not end in time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, help="Markdown file in which the table is replaced")
    parser.add_argument("--sink", action="append", help="only this one; repeatable")
    parser.add_argument("--tries", type=int, default=1, help="of each cell, for a machine that is busy with other work")
    options = parser.parse_args()
    rows, failed = ["| Disk of | at | is | What happens | Seconds |", "|---|---|---|---|---|"], False
    print(*rows, sep="\n", flush=True)
    for cell in (cell for cell in CELLS if not options.sink or cell.sink in options.sink):
        outcome = _tried(cell, options.tries)
        failed |= outcome is None
        rows.append(row(cell, outcome) if outcome else f"| {cell.sink} | {cell.role} | {cell.fault} | FAILED | |")
        print(rows[-1], flush=True)
    if options.write and not failed:
        text = options.write.read_text(encoding="utf-8")
        before, after = text.split(_BEGIN)[0], text.split(_END)[1]
        options.write.write_text(f"{before}{_BEGIN}\n\n" + "\n".join(rows) + f"\n\n{_END}{after}", encoding="utf-8")
    return failed


if __name__ == "__main__":
    if os.geteuid():
        sys.exit("only root may mount small disks")
    sys.exit(main())
