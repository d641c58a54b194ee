"""The demo's federation: tables of the data set, and every other file as ``vfl.write_federation`` writes it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vfl.api.federation_files import FederationFiles, write_federation
from vfl.api.job import Job
from vfl.api.party import Party
from vfl.api.table import Table
from vfl.cli.demo.datasets import ACTIVE, DATASETS, DemoData, keep_some_rows
from vfl.errors import ConfigError

FEDERATION = "demo"

PRICE = "the price: what passive parties receive gives labels away; how much is measured below"
"""What ``--trainable`` costs, in one line."""


@dataclass(frozen=True)
class DemoParts:
    """What a demo consists of, before it is written or simulated."""

    job: Job
    active: Party
    passive: list[Party]


def demo_parts(
    folder: Path,
    dataset: str,
    parties: int,
    source: Path | None,
    seed: int,
    overlap: float,
    epochs: int | None = None,
    *,
    trainable: bool = False,
    in_the_clear: bool = False,
) -> DemoParts:
    """The job and the parties, whose tables are written.

    Args:
        source: folder with ready tables; None for the built-in data set.
        overlap: share of the rows, above 0, that each party keeps; each drops others.
        epochs: of the active party alone at the end of stagewise training, or passes of joint training; None for as
            many as are usual.
        trainable: joint training, with passive bottoms that train too; see ``PRICE``.
        in_the_clear: the plaintext protocol, which gives the same numbers.

    Raises:
        ConfigError: the data set is unknown, not for this number of parties, or not there.
    """
    data = _data(dataset, parties)
    names = (ACTIVE, *data.passive[parties])
    folder.mkdir(parents=True, exist_ok=True)
    tables = {
        name: keep_some_rows(table, folder / f"{name}.csv", overlap, 1000 * seed + at)
        for at, (name, table) in enumerate(data.make(source, folder, names).items())
    }
    trained = data.passive[parties] if trainable else ()
    allowed = {"allow_unencrypted": True} if in_the_clear else {}
    active, *passive = (_party(data, name, tables[name], seed, trained, allowed) for name in names)
    job = _job(data, dataset, seed, epochs, trained, "plaintext" if in_the_clear else "encrypted")
    return DemoParts(job, active, passive)


def write_demo_federation(folder: Path, parts: DemoParts) -> FederationFiles:
    """Write everything that the processes of a demo need."""
    return write_federation(folder, parts.job, active=parts.active, passive=parts.passive, name=FEDERATION)


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


def _job(data: DemoData, dataset: str, seed: int, epochs: int | None, trained: Sequence[str], protocol: str) -> Job:
    """The defaults for tables, unless passive bottoms are to be trained."""
    task = dict(data.task)
    training: dict[str, Any] = {"batch_size": data.batch_size}
    if trained:
        training["passes"] = epochs or data.passes
    elif epochs is not None:
        training["local_epochs"] = epochs
    return Job(
        dataset.replace("_", "-"),
        task=task.pop("kind"),
        **task,
        seed=seed,
        model={"trainable": list(trained)} if trained else None,
        training=training,
        interaction={"protocol": protocol},
        split={"validation": 0.0, "test": 0.3},
    )


def _policy(trained: Sequence[str], *, active: bool) -> dict[str, Any]:
    """What parties have to allow for passive bottoms to train."""
    return {"max_releases_per_row": 1000} | ({"allow_trainable": list(trained)} if active else {})


def _party(
    data: DemoData, name: str, table: Path, seed: int, trained: Sequence[str], allowed: Mapping[str, Any]
) -> Party:
    """Its private seed is fixed, so that the demo's numbers can be reproduced; real parties let theirs be made."""
    active = name == ACTIVE
    return Party(
        name,
        Table(table, id=data.id_column, label=data.label_column if active else None),
        bottom="mlp" if name in trained else None,
        policy={**(_policy(trained, active=active) if trained else {}), **allowed} or None,
        private_seed=hashlib.sha256(f"vfl demo {name} {seed}".encode()).digest(),
    )
