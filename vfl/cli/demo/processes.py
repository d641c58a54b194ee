"""Runs the demo's coordinator on this terminal, with the parties in processes beside it."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from vfl.api.federation_files import COORDINATOR, FederationFiles
from vfl.api.processes import FederationProcesses
from vfl.errors import JobAborted


def run_demo_processes(files: FederationFiles) -> str:
    """Run the job to its end; the coordinator's report as JSON text.

    Ctrl-C is passed on to the coordinator alone, which notifies the parties; so there is one message, and one order.

    Raises:
        JobAborted: it ended with an error; the coordinator has shown which.
    """
    for name in files.parties:
        (files.folder / name / f"{name}.log").unlink(missing_ok=True)
    with FederationProcesses(files) as processes:
        processes.start(*files.parties)
        with _passed_on(processes) as stopped_by:
            processes.start_coordinator(on_terminal=True)
            code = processes.wait(COORDINATOR)
        if code != 0:
            by = "the operator" if stopped_by else f"the coordinator (exit code {code})"
            logs = ", ".join(str(processes.log(name)) for name in files.parties)
            raise JobAborted(f"the demo was stopped by {by}", detail=f"party logs: {logs}")
        return processes.report.read_text(encoding="utf-8")


@contextlib.contextmanager
def _passed_on(processes: FederationProcesses) -> Iterator[list[int]]:
    """Signals of this process go to the coordinator; those that have come."""
    stopped_by: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        stopped_by.append(number)
        processes.send_signal(COORDINATOR, signal.SIGINT)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped_by
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
