"""Starts one process per organization and makes sure that none is left."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Self

from vfl.api.federation_files import FederationFiles
from vfl.errors import JobAborted

GRACE_SECONDS = 10.0
"""How long processes may take to stop by themselves before they are killed."""


class FederationProcesses:
    """The processes of a demo federation. Leaving the context ends whatever still runs."""

    def __init__(self, federation: FederationFiles) -> None:
        self._federation = federation
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._logs: list[IO[bytes]] = []
        self._stopped_by = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _wait_until_gone(list(self._running.values()), GRACE_SECONDS if error is None else 0.0)
        for process in self._running.values():
            process.terminate()
        _wait_until_gone(list(self._running.values()), GRACE_SECONDS)
        for process in self._running.values():
            process.kill()
            process.wait()
        for log in self._logs:
            log.close()

    def log(self, name: str) -> Path:
        """Log file of a party."""
        return self._federation.folder / name / f"{name}.log"

    def start_parties(self) -> None:
        """Start one process per party, each with its own log file."""
        for name in self._federation.parties:
            log = self.log(name).open("wb")
            self._logs.append(log)
            self._start(name, ["party", str(self._federation.party(name))], log)

    def run_coordinator(self, report: Path) -> None:
        """Run the coordinator on this terminal until the job is over.

        Ctrl-C is passed on to the coordinator alone, which tells the parties; so there is one message, and one order.

        Raises:
            JobAborted: it ended with an error; the coordinator has shown which.
        """
        with self._passing_on_signals():
            arguments = ["run", str(self._federation.job), "--config", str(self._federation.coordinator)]
            coordinator = self._start("coordinator", [*arguments, "--report", str(report)], None)
            code = coordinator.wait()
        if code != 0:
            by = "the operator" if self._stopped_by else f"the coordinator (exit code {code})"
            logs = ", ".join(str(self.log(name)) for name in self._federation.parties)
            raise JobAborted(f"the demo was stopped by {by}", detail=f"party logs: {logs}")

    def _start(self, name: str, arguments: list[str], log: IO[bytes] | None) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "vfl", *arguments]
        # A session of its own keeps the terminal's Ctrl-C from reaching all processes at once.
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603  # our own command
        self._running[name] = process
        return process

    @contextlib.contextmanager
    def _passing_on_signals(self) -> Iterator[None]:
        def pass_on(number: int, frame: FrameType | None) -> None:
            self._stopped_by = number
            coordinator = self._running.get("coordinator")
            if coordinator and coordinator.poll() is None:
                coordinator.send_signal(signal.SIGINT)

        before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _wait_until_gone(processes: Iterable[subprocess.Popen[bytes]], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
        time.sleep(0.05)
