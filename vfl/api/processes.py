"""The processes of a federation on this machine: started by the commands that its operators would type."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from vfl.api.federation_files import COORDINATOR, FederationFiles
from vfl.runtime.private.files import private_log

GRACE_SECONDS = 10.0
"""How long processes may take to stop by themselves before they are killed."""


class FederationProcesses:
    """One process for each member; leaving the context ends whatever still runs.

    Args:
        files: of the federation.
        environment: variables of the processes, besides this one's.
    """

    def __init__(self, files: FederationFiles, environment: Mapping[str, str] | None = None) -> None:
        self._files = files
        self._environment = {**os.environ, **(environment or {})}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._logs: list[IO[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wait_until_gone(GRACE_SECONDS if error is None else 0.0)
        for process in self._running.values():
            process.terminate()
        self._wait_until_gone(GRACE_SECONDS)
        for process in self._running.values():
            process.kill()
            process.wait()
        for log in self._logs:
            log.close()

    @property
    def report(self) -> Path:
        """Where the coordinator writes what it measured."""
        return self._files.folder / COORDINATOR / "outcome.json"

    def log(self, name: str) -> Path:
        """Log file of a process; it is added to when the process is started again."""
        return self._files.folder / name / f"{name}.log"

    def start(self, *names: str) -> None:
        """Start parties, each with a log file of its own."""
        for name in names:
            self._start(name, ["party", str(self._files.party(name))])

    def start_coordinator(self, *, resume: bool = False, on_terminal: bool = False) -> None:
        """Start the coordinator.

        Args:
            resume: the latest run that has not finished.
            on_terminal: its output goes to this process's instead of a log file.
        """
        files = ["run", str(self._files.job), "--config", str(self._files.coordinator), "--report", str(self.report)]
        self._start(COORDINATOR, [*files, "--resume"] if resume else files, on_terminal=on_terminal)

    def _start(self, name: str, arguments: list[str], *, on_terminal: bool = False) -> None:
        log: IO[bytes] | None = None
        if not on_terminal:
            log = os.fdopen(private_log(self.log(name)), "ab")
            self._logs.append(log)
        # A session of its own keeps the terminal's Ctrl-C from reaching all processes at once.
        self._running[name] = subprocess.Popen(  # noqa: S603  # our own command
            [sys.executable, "-m", "vfl", *arguments],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            env=self._environment,
            start_new_session=True,
        )

    def process_id(self, name: str) -> int:
        """Number of a process that was started."""
        return self._running[name].pid

    def exit_code(self, name: str) -> int | None:
        """None while it runs, or if it was never started."""
        process = self._running.get(name)
        return None if process is None else process.poll()

    def send_signal(self, name: str, number: signal.Signals) -> None:
        """To a process, if it still runs."""
        if name in self._running and self.exit_code(name) is None:
            self._running[name].send_signal(number)

    def kill(self, name: str) -> None:
        """SIGKILL, and wait until the process is gone: nothing is tidied up."""
        self._running[name].kill()
        self._running[name].wait()

    def wait(self, name: str) -> int:
        """Exit code of a process, once it has ended."""
        return self._running[name].wait()

    def wait_for_all(self) -> dict[str, int]:
        """Exit codes, once all have ended."""
        return {name: process.wait() for name, process in self._running.items()}

    def tails(self, lines: int = 20) -> str:
        """The last lines of every log, for errors."""
        shown = []
        for name in self._running:
            log = self.log(name)
            text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
            shown.append(f"--- {name} ---\n" + "\n".join(text.splitlines()[-lines:]))
        return "\n".join(shown)

    def _wait_until_gone(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while any(process.poll() is None for process in self._running.values()) and time.monotonic() < deadline:
            time.sleep(0.05)
