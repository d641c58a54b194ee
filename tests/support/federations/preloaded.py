"""Real processes that start quickly: forked from one that has imported torch, instead of importing it each.

The modules below are most of the seconds that ``python -m vfl`` takes to start. The process itself imports gRPC, which
reads its environment then, and polars, whose threads would not survive a fork; and of vfl, what imports one of the two,
and the command line, whose consoles take their width from the environment when they are made.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import importlib.machinery
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

LIBRARIES = (
    "torch",
    "torch._dynamo",  # which torch itself imports when the first optimizer is made, and which takes longer than torch
    "tenseal",
    "torchmetrics",
    "deel.torchlip",
    "safetensors.torch",
    "pydantic",
    "cryptography.x509",
    "typer",
    "rich.progress",
    "structlog",
    "sqlite3",
    "asyncio",
)
OF_VFL = (
    "vfl.align.pool",
    "vfl.checkpoints.store",
    "vfl.coordinator.config",
    "vfl.data.split",
    "vfl.doctor.findings",
    "vfl.interact.plaintext",
    "vfl.job.config",
    "vfl.models.encodings.network",
    "vfl.party.learning.outputs.matched_noise",
    "vfl.party.service.schedule_guard",
    "vfl.pki.own_certificate",
    "vfl.pki.server_certificate",
    "vfl.privacy.ledger",
    "vfl.run_records.journal",
    "vfl.transport.inbox",
    "vfl.transport.wire.health",
)
IMPORTED_LATER = ("grpc", "polars", "vfl.cli")
_POLL_SECONDS = 0.01
_END_SECONDS = 10.0


class Forked:
    """One of these processes, as ``subprocess.Popen`` shows one."""

    def __init__(self, parent: _Parent, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._parent = parent

    def poll(self) -> int | None:
        """The exit code, or the negative number of the signal that killed it; None while it runs."""
        if self.returncode is None:
            self.returncode = self._parent.ask({"ended": self.pid})
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once it has ended.

        Raises:
            subprocess.TimeoutExpired: it has not, after so many seconds.
        """
        deadline = time.monotonic() + (timeout or float("inf"))
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
            time.sleep(_POLL_SECONDS)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Nothing where it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """With a chance to clean up."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Without a chance to clean up."""
        self.send_signal(signal.SIGKILL)


def start(
    module: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path | None, *, silent: bool = False
) -> Forked:
    """``python -m module arguments`` in a session of its own, with everything it writes appended to ``log``.

    Args:
        log: None where the standard error is closed.
        silent: whether the standard output is closed.
    """
    parent = _parent()
    files = [None if silent or log is None else str(log), None if log is None else str(log)]
    order = {"module": module, "arguments": list(arguments), "environment": dict(environment), "files": files}
    return Forked(parent, parent.ask(order))


class _Parent:
    """The process that has imported the libraries, and forks; it ends when this one closes the connection or ends."""

    def __init__(self) -> None:
        self._own, other = socket.socketpair()
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with other:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(other.fileno())],
                env=environment,
                pass_fds=[other.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._lines = self._own.makefile("rw", encoding="utf-8")
        self._lock = threading.Lock()
        atexit.register(self._close)

    def ask(self, order: Mapping[str, Any]) -> Any:
        with self._lock:
            self._lines.write(json.dumps(order) + "\n")
            self._lines.flush()
            return json.loads(self._lines.readline())

    def _close(self) -> None:
        self._lines.close()
        self._own.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()


@functools.cache
def _parent() -> _Parent:
    return _Parent()


# --- in the process that forks ---


def _serve(connection: socket.socket) -> dict[str, Any] | None:
    """Answer orders until there is nobody to give any; in every process that is forked, return what it is to do."""
    lines = connection.makefile("rw", encoding="utf-8")
    for line in lines:
        order = json.loads(line)
        if "ended" in order:
            answer = _exit_code(order["ended"])
        else:
            answer = os.fork()
            if not answer:
                connection.detach()
                return order
        lines.write(json.dumps(answer) + "\n")
        lines.flush()
    return None


def _exit_code(pid: int) -> int | None:
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def _become(order: dict[str, Any], connection: int) -> None:
    """Look like a process that was started by a command, but for what is imported."""
    os.close(connection)
    os.setsid()
    for stream, (name, file) in enumerate(zip(("stdout", "stderr"), order["files"], strict=True), start=1):
        if file is None:
            os.close(stream)
            setattr(sys, name, None)  # as Python does when it starts without one
            setattr(sys, f"__{name}__", None)
            continue
        log = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.dup2(log, stream)
        os.close(log)
    before = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    of_python = [path for path in sys.path[1:] if path not in before]
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.path[:] = [str(Path.cwd()), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)), *of_python]
    sys.argv[:] = [order["module"], *order["arguments"]]
    found = importlib.machinery.PathFinder.find_spec("vfl")
    assert found is not None
    assert found.origin == sys.modules["vfl"].__file__, "this process would find another vfl than is imported"


def main() -> None:
    """Import, fork, and in the forked process run a module."""
    connection = int(sys.argv[1])
    for module in (*LIBRARIES, *OF_VFL):
        importlib.import_module(module)
    early = [module for module in IMPORTED_LATER if module in sys.modules]
    assert not early, f"a module of OF_VFL imports {early}"
    gc.freeze()  # or every forked process would copy all of these pages when it collects garbage, at its end at last
    order = _serve(socket.socket(fileno=connection))
    if order is not None:
        _become(order, connection)
        runpy.run_module(order["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
