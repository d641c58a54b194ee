"""Writes a whole federation to a folder: tables, certificates, the three kinds of configuration files."""

from __future__ import annotations

import hashlib
import shutil
import socket
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from vfl.cli.demo.datasets import ACTIVE, DATASETS, DemoData, keep_some_rows
from vfl.configuration.federation import TlsFiles
from vfl.errors import ConfigError
from vfl.ids import Role
from vfl.pki.throwaway import make_federation_certificates

COORDINATOR = "coordinator"
FEDERATION = "demo"


@dataclass(frozen=True)
class DemoFederation:
    """The files of a federation on this machine."""

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


def write_federation(
    folder: Path,
    dataset: str,
    parties: int,
    source: Path | None,
    seed: int,
    overlap: float,
    epochs: int | None = None,
) -> DemoFederation:
    """Write everything that the processes of a demo need.

    Args:
        source: folder with ready tables; None for the built-in data set.
        overlap: share of the rows, above 0, that each party keeps; each drops others.
        epochs: how many to train; None for as many as the data set needs.

    Raises:
        ConfigError: the data set is unknown, not for this number of parties, or not there.
    """
    data = _data(dataset, parties)
    names = (ACTIVE, *data.passive[parties])
    for name in (*names, COORDINATOR):
        (folder / name).mkdir(parents=True, exist_ok=True)
    tables = {
        name: keep_some_rows(table, folder / f"{name}.csv", overlap, 1000 * seed + at)
        for at, (name, table) in enumerate(data.make(source, folder, names).items())
    }
    certificates = _certificates(folder, names)
    write_toml(folder / "federation.toml", loopback_federation(FEDERATION, names))
    write_toml(folder / "job.toml", _job(data, dataset, names, seed, epochs or data.epochs))
    write_toml(folder / COORDINATOR / "coordinator.toml", {"tls": tls_table(certificates[COORDINATOR])})
    for name in names:
        write_toml(folder / name / "party.toml", _party(data, name, tables[name], certificates[name]))
        _write_seed(folder / name / "private_seed", name, seed)
    return DemoFederation(folder, names)


def _data(dataset: str, parties: int) -> DemoData:
    if dataset not in DATASETS:
        raise ConfigError(f"unknown demo data set '{dataset}'", remedy=f"choose one of {', '.join(DATASETS)}")
    data = DATASETS[dataset]
    if parties not in data.passive:
        raise ConfigError(
            f"the demo data set '{dataset}' is not split among {parties} parties",
            remedy=f"use --parties {' or '.join(map(str, data.passive))} with this data set",
        )
    return data


def loopback_federation(federation: str, names: tuple[str, ...]) -> dict[str, Any]:
    """The content of federation.toml for parties on free ports of this machine."""
    ports = _free_ports(len(names))
    parties = [
        {"name": name, "role": "active" if name == ACTIVE else "passive", "endpoint": f"127.0.0.1:{port}"}
        for name, port in zip(names, ports, strict=True)
    ]
    return {"name": federation, "coordinator": COORDINATOR, "tls": {"mode": "mutual"}, "parties": parties}


def _job(data: DemoData, dataset: str, names: tuple[str, ...], seed: int, epochs: int) -> dict[str, Any]:
    return {
        "name": dataset.replace("_", "-"),
        "federation": "federation.toml",
        "seed": seed,
        "task": data.task,
        "model": {"interaction_width": data.width, "widths": dict.fromkeys(names, data.width)},
        "training": {
            "epochs": epochs,
            "batch_size": data.batch_size,
            "optimizer": {"name": "adam", "learning_rate": data.learning_rate, "weight_decay": data.weight_decay},
        },
        "interaction": {"protocol": "encrypted", "learning_rate": data.interaction_rate},
        "split": {"validation": 0.0, "test": 0.3},
    }


def _party(data: DemoData, name: str, table: Path, certificate: TlsFiles) -> dict[str, Any]:
    columns = {"path": str(table.absolute()), "id_column": data.id_column}
    if name == ACTIVE:
        columns["label_column"] = data.label_column
    return {
        "name": name,
        "job": "../job.toml",
        "output": "model",
        "data": columns,
        "bottom": {"kind": "mlp", "hidden": [32]},
        "tls": tls_table(certificate),
    }


def _certificates(folder: Path, names: tuple[str, ...]) -> dict[str, TlsFiles]:
    """Fresh certificates; those of an earlier demo in the same folder are replaced."""
    directory = folder / "certificates"
    if directory.exists():
        shutil.rmtree(directory)
    roles = {name: Role.ACTIVE if name == ACTIVE else Role.PASSIVE for name in names}
    return make_federation_certificates(directory, FEDERATION, {**roles, COORDINATOR: Role.COORDINATOR})


def tls_table(files: TlsFiles) -> dict[str, str]:
    """The content of ``[tls]`` for these files."""
    return {key: str(path.absolute()) for key, path in files.model_dump(exclude_defaults=True).items()}


def _write_seed(path: Path, name: str, seed: int) -> None:
    """A fixed private seed, so that the demo's numbers can be reproduced; real parties let theirs be made."""
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(hashlib.sha256(f"vfl demo {name} {seed}".encode()).hexdigest() + "\n", encoding="ascii")


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in sockets:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in sockets]


def write_toml(path: Path, content: dict[str, Any]) -> None:
    """Write a configuration file."""
    path.write_text(tomli_w.dumps(content), encoding="utf-8")
