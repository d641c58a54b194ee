"""A whole federation as users run it: files on disk and real processes on loopback, with small seeded tables."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Set
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import polars as pl
import tomli_w
import torch
from safetensors.torch import load_file

from support.federations.preloaded import Forked
from support.federations.preloaded import start as start_preloaded
from vfl.ids import Role
from vfl.interact.fixed_point import center
from vfl.pki.issuing.throwaway import make_federation_certificates

ACTIVE, COORDINATOR = "bank", "coordinator"
ID_PREFIX = "customer-"
PATIENCE = 120.0
"""Seconds to wait for what takes a few on an idle machine."""


class Federation:
    """The configuration of every process as plain dictionaries, to be varied before ``write``.

    Attributes:
        names: the parties, the active one first.
        job: job.toml of everybody but those in ``job_at``.
        coordinator: coordinator.toml, but for its certificate.
        parties: party.toml by name.
        tables: the table of each party; each is written as the format of its path.
        certified: whether everybody's own file names certificates.
    """

    def __init__(self, folder: Path, passive: tuple[str, ...] = ("clinic",), rows: int = 240) -> None:
        self.folder = folder
        self.names = (ACTIVE, *passive)
        self.federation = _federation(self.names)
        self.job = _job(self.names)
        self.job_at: dict[str, dict[str, Any]] = {}
        self.coordinator: dict[str, Any] = {}
        self.parties = {name: _party(name) for name in self.names}
        self.parties[ACTIVE]["policy"]["allow_trainable"] = list(passive)
        self.tables = make_tables(self.names, rows)
        self.certified = True

    def put_behind(self, name: str, relay: str) -> Self:
        """The party opens no port; it is reached through another."""
        entry = next(party for party in self.federation["parties"] if party["name"] == name)
        del entry["endpoint"]
        entry["via"] = relay
        return self

    def other_job(self, name: str) -> dict[str, Any]:
        """A job.toml of its own for one process."""
        return self.job_at.setdefault(name, copy.deepcopy(self.job))

    def without_tls(self) -> Self:
        """No certificates, on this machine only."""
        self.federation["tls"] = {"mode": "insecure-loopback"}
        self.certified = False
        return self

    def path(self, name: str, file: str = "party.toml") -> Path:
        return self.folder / name / file

    def port(self, name: str) -> int:
        entry = next(party for party in self.federation["parties"] if party["name"] == name)
        return int(entry["endpoint"].rpartition(":")[2])

    def write(self) -> Self:
        """Write one folder for each organization, with its own copies of the common files."""
        everybody = (*self.names, COORDINATOR)
        roles = {party["name"]: Role(party["role"]) for party in self.federation["parties"]}
        roles[COORDINATOR] = Role.COORDINATOR
        certificates = make_federation_certificates(self.folder / "certificates", self.federation["name"], roles)
        for name in everybody:
            (self.folder / name).mkdir()
            _write(self.path(name, "federation.toml"), self.federation)
            _write(self.path(name, "job.toml"), self.job_at.get(name, self.job))
            files = {key: str(path) for key, path in certificates[name].model_dump(exclude_defaults=True).items()}
            tls = {"tls": files} if self.certified else {}
            if name == COORDINATOR:
                _write(self.path(name, "coordinator.toml"), {**self.coordinator, **tls})
                continue
            _write(self.path(name), {**self.parties[name], **tls})
            self._write_table(name)
            seed = hashlib.sha256(name.encode()).hexdigest()
            self.path(name, "private_seed").write_text(seed, encoding="ascii")
            self.path(name, "private_seed").chmod(0o600)
        return self

    def _write_table(self, name: str) -> None:
        if name not in self.tables:
            return
        path = self.path(name, "table.parquet")
        if self.parties[name]["data"]["path"] == path.name:
            self.tables[name].write_parquet(path)
        else:
            self.tables[name].write_csv(self.path(name, "table.csv"))

    def saved(self, name: str, file: str = "model.safetensors", output: str = "model") -> dict[str, torch.Tensor]:
        """What a party saved of the one job that was run."""
        (job,) = self.path(name, output).iterdir()
        return load_file(job / file)

    def everything_saved(self, output: str = "model") -> dict[str, np.ndarray]:
        """All weights of the joint model that do not depend on how they are shared, by party and name."""
        models = {
            f"{name}: {key}": value.numpy()
            for name in self.names
            for key, value in self.saved(name, output=output).items()
        }
        return models | {f"W of {name}": weight for name, weight in self.joint_weights(output=output).items()}

    def joint_weights(self, tau: int = 58, output: str = "model") -> dict[str, np.ndarray]:
        """W_i of every passive party: the one a plaintext job saved, or the sum of the two shares."""
        held = {n: weight.numpy() for n, weight in self.saved(ACTIVE, "interaction.safetensors", output).items()}
        for name in self.names[1:]:
            for share in self.saved(name, "interaction.safetensors", output).values():
                held[name] = held[name] + share.numpy()
        return {name: center(weight, tau) for name, weight in held.items()}


def differing(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> list[str]:
    """Weights that are not equal bit for bit, or are there only once."""
    return sorted(
        name
        for name in one.keys() | other.keys()
        if name not in one or name not in other or one[name].tobytes() != other[name].tobytes()
    )


class Processes:
    """The processes of a federation. Leaving the context fails when one is left, and kills it in any case.

    Args:
        pythonpath: where they find further modules.
        module: what is run in place of ``vfl``.
        preloaded: whether they start from a process that has imported torch (``support.federations.preloaded``); not
            those that have something in ``environment_of``.
    """

    def __init__(
        self, federation: Federation, pythonpath: Path | None = None, module: str = "vfl", *, preloaded: bool = True
    ) -> None:
        self.federation = federation
        self._module = module
        self._preloaded = preloaded and hasattr(os, "fork")
        self.environment_of: dict[str, dict[str, str]] = {}
        self._running: dict[str, subprocess.Popen[bytes] | Forked] = {}
        self._sessions: set[int] = set()
        self._environment = {**os.environ, "COLUMNS": "1000", "NO_COLOR": "1", "OMP_NUM_THREADS": "1"}
        if pythonpath:
            inherited = os.environ.get("PYTHONPATH", "")
            self._environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(pythonpath), inherited]))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._running.values():
            if process.poll() is None:
                process.kill()
            process.wait()
        left = processes_of(self.federation.folder, self._sessions)
        for number in left:
            os.kill(number, signal.SIGKILL)
        if kind is None:
            assert not left

    def start(self, *names: str) -> None:
        for name in names or (*self.federation.names, COORDINATOR):
            if name == COORDINATOR:
                self.start_command(name, "run", "job.toml", "--report", "outcome.json")
            else:
                self.start_command(name, "party", "party.toml")

    def start_command(self, name: str, *arguments: str, at: str = "") -> None:
        """Start another command at a process's place, or at another's; what looks like a file lies in its folder."""
        # The folder stands in the arguments, so that a process that is left can be found.
        placed = [str(self.federation.path(at or name, a)) if "." in a else a for a in arguments]
        self._log(name).parent.mkdir(exist_ok=True)
        self._log(name).touch()
        if self._preloaded and name not in self.environment_of:
            process = start_preloaded(self._module, placed, self._environment, self._log(name))
        else:
            process = self._start_fresh(name, placed)
        self._running[name] = process
        self._sessions.add(process.pid)

    def _start_fresh(self, name: str, arguments: list[str]) -> subprocess.Popen[bytes]:
        with self._log(name).open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", self._module, *arguments],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={**self._environment, **self.environment_of.get(name, {})},
                start_new_session=True,
            )

    def _log(self, name: str) -> Path:
        return self.federation.path(name, "output.log")

    def output(self, name: str) -> str:
        return self._log(name).read_text(encoding="utf-8", errors="replace")

    def signal(self, name: str, number: signal.Signals) -> None:
        self._running[name].send_signal(number)

    def wait_for(self, name: str, text: str) -> None:
        """Wait until a process has written this."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.output(name):
            if time.monotonic() > deadline or self._running[name].poll() is not None:
                raise AssertionError(f"{name} never wrote '{text}'\n{self._outputs()}")
            time.sleep(0.02)

    def wait_killed(self, name: str) -> None:
        """Wait until a process that was killed is gone."""
        self._running[name].wait(PATIENCE)

    def numbers(self) -> dict[str, int]:
        """Process numbers of those that run."""
        return {name: process.pid for name, process in self._running.items() if process.poll() is None}

    def ended(self) -> dict[str, int]:
        """Exit codes of the processes that have ended."""
        return {name: code for name, process in self._running.items() if (code := process.poll()) is not None}

    def wait(self, seconds: float = PATIENCE) -> dict[str, int]:
        """Exit codes, once all have ended by themselves."""
        deadline = time.monotonic() + seconds
        while running := [name for name, process in self._running.items() if process.poll() is None]:
            if time.monotonic() > deadline:
                raise AssertionError(f"{running} did not end within {seconds:g} s\n{self._outputs()}")
            time.sleep(0.02)
        return {name: process.returncode for name, process in self._running.items()}

    def succeed(self) -> dict[str, Any]:
        """Run everything to the end; the coordinator's report."""
        self.start()
        codes = self.wait()
        assert set(codes.values()) == {0}, f"{codes}\n{self._outputs()}"
        report = self.federation.path(COORDINATOR, "outcome.json").read_text(encoding="utf-8")
        return json.loads(report)

    def _outputs(self) -> str:
        return "\n".join(f"--- {name} ---\n{self.output(name)}" for name in self._running)


def processes_of(folder: Path, sessions: Set[int] = frozenset()) -> list[int]:
    """Processes that have this folder in their arguments, or belong to a session. Only Linux tells by itself."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        number = int(entry.parent.name)
        try:
            arguments, session = entry.read_bytes(), os.getsid(number)
        except OSError:
            continue  # it has just ended
        # A process that has ended and was not waited for has no arguments.
        if number != os.getpid() and (f"{folder}/".encode() in arguments or (arguments and session in sessions)):
            found.append(number)
    return found


def make_tables(names: tuple[str, ...], rows: int) -> dict[str, pl.DataFrame]:
    """Three numeric columns for each party, and a label that needs them all; every party has its own row order."""
    rng = np.random.default_rng(7)
    ids = [f"{ID_PREFIX}{number:05d}" for number in range(rows)]
    tables, score = {}, np.zeros(rows)
    for name in names:
        columns = rng.normal(size=(rows, 3))
        score += columns @ np.array([1.0, -1.0, 0.5])
        tables[name] = pl.DataFrame({"id": ids, **{f"{name}_x{j}": columns[:, j] for j in range(3)}})
    labels = pl.Series("defaulted", (score > 0).astype(np.int64))
    tables[names[0]] = tables[names[0]].with_columns(labels)
    return {name: table.sample(fraction=1.0, shuffle=True, seed=at) for at, (name, table) in enumerate(tables.items())}


def _federation(names: tuple[str, ...]) -> dict[str, Any]:
    parties = [
        {"name": name, "role": "active" if name == ACTIVE else "passive", "endpoint": f"127.0.0.1:{port}"}
        for name, port in zip(names, free_ports(len(names)), strict=True)
    ]
    return {"name": "test", "coordinator": COORDINATOR, "tls": {"mode": "mutual"}, "parties": parties}


def _job(names: tuple[str, ...]) -> dict[str, Any]:
    return {
        "name": "job",
        "seed": 11,
        "task": {"kind": "binary"},
        "model": {
            "interaction_width": 4,
            "widths": dict.fromkeys(names, 4),
            "trainable": list(names[1:]),
            "top": {"hidden": [8]},
        },
        "training": {"passes": 2, "batch_size": 64, "optimizer": {"name": "adam", "learning_rate": 0.01}},
        "interaction": {"protocol": "encrypted", "learning_rate": 0.5},
        "split": {"validation": 0.1, "test": 0.25},
        "timeouts": {"connect": 90.0, "progress": 90.0, "reconnect": 60.0},
    }


def _party(name: str) -> dict[str, Any]:
    data = {"path": "table.csv", "id_column": "id"}
    if name == ACTIVE:
        data["label_column"] = "defaulted"
    return {
        "name": name,
        "job": "job.toml",
        "output": "model",
        "private_seed": "private_seed",
        "threads": 1,
        "data": data,
        "bottom": {"kind": "mlp", "hidden": [8]},
        "policy": {"max_releases_per_row": 10**6, "min_scored_rows": 5},
    }


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on and no test of this run was given, for somebody who listens on them later."""
    found: list[int] = []
    while len(found) < count:
        port = random.SystemRandom().choice(_own_ports())
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in _handed_out:
            _handed_out.add(port)
            found.append(port)
    return found


_handed_out: set[int] = set()


def _own_ports() -> range:
    """Those of this worker of pytest-xdist, outside the range that the system hands out by itself."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return range(12_000, 30_000)[worker::workers]


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(tomli_w.dumps(content), encoding="utf-8")
