"""The demo's federation: tables of the data set, and every other file as ``vfl.write_federation`` writes it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from vfl.api.federation_files import FederationFiles, write_federation
from vfl.api.job import Job
from vfl.api.party import Party
from vfl.api.table import Table
from vfl.cli.demo.datasets import ACTIVE, DATASETS, DemoData, keep_some_rows
from vfl.errors import ConfigError

FEDERATION = "demo"


def write_demo_federation(
    folder: Path,
    dataset: str,
    parties: int,
    source: Path | None,
    seed: int,
    overlap: float,
    epochs: int | None = None,
) -> FederationFiles:
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
    folder.mkdir(parents=True, exist_ok=True)
    tables = {
        name: keep_some_rows(table, folder / f"{name}.csv", overlap, 1000 * seed + at)
        for at, (name, table) in enumerate(data.make(source, folder, names).items())
    }
    active, *passive = (_party(data, name, tables[name], seed) for name in names)
    job = _job(data, dataset, seed, epochs or data.epochs)
    return write_federation(folder, job, active=active, passive=passive, name=FEDERATION)


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


def _job(data: DemoData, dataset: str, seed: int, epochs: int) -> Job:
    task = dict(data.task)
    optimizer = {"name": "adam", "learning_rate": data.learning_rate, "weight_decay": data.weight_decay}
    return Job(
        dataset.replace("_", "-"),
        task=task.pop("kind"),
        **task,
        seed=seed,
        widths=data.width,
        model={"interaction_width": data.width},
        training={"epochs": epochs, "batch_size": data.batch_size, "optimizer": optimizer},
        interaction={"protocol": "encrypted", "learning_rate": data.interaction_rate},
        split={"validation": 0.0, "test": 0.3},
    )


def _party(data: DemoData, name: str, table: Path, seed: int) -> Party:
    """Its private seed is fixed, so that the demo's numbers can be reproduced; real parties let theirs be made."""
    label = data.label_column if name == ACTIVE else None
    return Party(
        name,
        Table(table, id=data.id_column, label=label),
        bottom={"kind": "mlp", "hidden": [32]},
        private_seed=hashlib.sha256(f"vfl demo {name} {seed}".encode()).digest(),
    )
