"""Writes the files of a whole federation to a folder: from here on every organization runs a process of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from vfl.api.job import Job
from vfl.api.party import Party, as_list
from vfl.configuration.federation import FederationConfig, TlsFiles
from vfl.configuration.toml_files import validated
from vfl.errors import ConfigError, ModelError
from vfl.ids import Role
from vfl.job.setup import load_job_setup
from vfl.models.custom import load_factory
from vfl.party.config import load_party
from vfl.pki.issuing.throwaway import make_federation_certificates
from vfl.runtime.durable_files import make_directories
from vfl.runtime.private.files import PRIVATE_FILE

COORDINATOR = "coordinator"


@dataclass(frozen=True)
class FederationFiles:
    """Where the files of a federation are.

    Attributes:
        folder: of federation.toml, job.toml, the certificates, and a folder for each member.
        parties: the active one first.
    """

    folder: Path
    parties: tuple[str, ...]

    @property
    def job(self) -> Path:
        """job.toml."""
        return self.folder / "job.toml"

    @property
    def coordinator(self) -> Path:
        """coordinator.toml."""
        return self.folder / COORDINATOR / "coordinator.toml"

    def party(self, name: str) -> Path:
        """A party's party.toml."""
        return self.folder / name / "party.toml"

    @property
    def commands(self) -> tuple[str, ...]:
        """What each organization runs, the coordinator last."""
        parties = (f"vfl party {self.party(name)}" for name in self.parties)
        return (*parties, f"vfl run {self.job} --config {self.coordinator}")


def write_federation(
    folder: str | Path, job: Job, *, active: Party, passive: Party | Sequence[Party], name: str = "federation"
) -> FederationFiles:
    """Write what real processes need to run a job that was tried with ``vfl.simulate``.

    Everything is for this machine: free ports of loopback, and certificates of a CA whose key is not kept. To move a
    party to another machine, copy its folder, change ``endpoint`` in everybody's federation.toml, and have certificates
    issued as docs/certificates.md says. Tables in memory are written as Parquet into their party's folder. Paths of
    what is written are relative, so the whole folder can be moved. Outside of it stay tables that were given as files,
    and modules of custom bottoms. The certificates are valid for 30 days and cannot be renewed.

    Args:
        folder: made if it is not there; files of an earlier federation in it are replaced.
        passive: the parties without labels; a single one needs no list.
        name: of the federation.

    Raises:
        ConfigError: the job and the parties do not fit, or a bottom model cannot be found by another process.
    """
    passive = as_list(passive)
    folder, parties = Path(folder), (active, *passive)
    names = tuple(party.name for party in parties)
    content = job.content(active, passive)
    federation = loopback_federation(name, names)
    validated(federation, FederationConfig, "the federation")
    for member in (*names, COORDINATOR):
        make_directories(folder / member)
    certificates = _certificates(folder / "certificates", name, names)
    write_toml(folder / "federation.toml", federation)
    write_toml(folder / "job.toml", {**content, "federation": "federation.toml"})
    tls = tls_table(certificates[COORDINATOR], folder / COORDINATOR)
    write_toml(folder / COORDINATOR / "coordinator.toml", {"tls": tls})
    for party in parties:
        _write_party(folder / party.name, party, certificates[party.name])
    files = FederationFiles(folder, names)
    load_job_setup(files.job)
    for member in names:
        load_party(files.party(member))
    return files


def loopback_federation(name: str, parties: Sequence[str]) -> dict[str, Any]:
    """The content of federation.toml for parties on free ports of this machine, the active one first."""
    entries = [
        {"name": party, "role": str(Role.PASSIVE if at else Role.ACTIVE), "endpoint": f"127.0.0.1:{port}"}
        for at, (party, port) in enumerate(zip(parties, free_ports(len(parties)), strict=True))
    ]
    return {"name": name, "coordinator": COORDINATOR, "tls": {"mode": "mutual"}, "parties": entries}


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on at this moment."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in sockets:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in sockets]


def tls_table(files: TlsFiles, folder: Path) -> dict[str, str]:
    """The content of ``[tls]`` for these files, in a file that is in ``folder``."""
    return {key: os.path.relpath(path, folder) for key, path in files.model_dump(exclude_defaults=True).items()}


def write_toml(path: Path, content: dict[str, Any]) -> None:
    """Write a configuration file."""
    path.write_text(tomli_w.dumps(content), encoding="utf-8")


def _certificates(directory: Path, federation: str, names: Sequence[str]) -> dict[str, TlsFiles]:
    """Fresh certificates; those of an earlier federation in the same folder are replaced."""
    if directory.exists():
        shutil.rmtree(directory)
    roles = {name: Role.PASSIVE if at else Role.ACTIVE for at, name in enumerate(names)}
    return make_federation_certificates(directory, federation, {**roles, COORDINATOR: Role.COORDINATOR})


def _write_party(folder: Path, party: Party, certificate: TlsFiles) -> None:
    content = party.content(job="../job.toml", output="model", tls=tls_table(certificate, folder))
    if callable(party.bottom):
        _check_importable(party.name, content["bottom"]["factory"], party.bottom)
    if party.table.frame is not None:
        path = folder / "table.parquet"
        path.touch(mode=PRIVATE_FILE)  # nobody else reads it; the writer keeps the mode of a file that is there
        party.table.frame.write_parquet(path)
        content["data"] = {**content["data"], "path": path.name, "format": "parquet"}
    write_toml(folder / "party.toml", content)
    if party.private_seed is not None:
        seed = folder / "private_seed"
        seed.unlink(missing_ok=True)
        seed.touch(mode=0o600)
        seed.write_text(f"{party.private_seed.hex()}\n", encoding="ascii")


def _check_importable(party: str, factory: str, bottom: Callable[..., Any]) -> None:
    if not factory.startswith("__main__:"):
        with contextlib.suppress(ConfigError, ModelError):
            if load_factory(factory) is bottom:
                return
    raise ConfigError(
        f"the bottom model of party '{party}' cannot be found by another process",
        detail=f"it is {factory.replace(':', '.')}, which is not the name of something in a module",
        remedy="put it into a module that the party's process can import, and pass it from there",
    )
