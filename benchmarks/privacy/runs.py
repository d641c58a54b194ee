"""Simulated runs over real tables, and what an attacker and the judge of an attack have after them.

The arithmetic is that of the encrypted protocol, computed in the clear, which draws the same noise: tests show that
both give the same integers.

Shape suffixes: N aligned rows, A columns of the active party, P of the passive one, D width of its bottom, K outputs.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

import vfl
from benchmarks.privacy.recording import Noise, Recording, build_with, joint_weights, recorded
from vfl.api.simulation import simulated_federation
from vfl.cli.demo.baselines import common_ids, train_plain
from vfl.configuration.toml_files import validated
from vfl.ids import Split
from vfl.job.config import JobConfig
from vfl.job.setup import check_job

Floats = npt.NDArray[np.float64]
ACTIVE, PASSIVE = "bank", "telco"


@dataclass(frozen=True)
class Tables:
    """Two parties' tables, the task, and how many rows an attack uses.

    Attributes:
        metric: of the task, for the table of results.
        known: how many rows the attacker knows, one attack for each number.
        attacked: on how many others it is scored.
        training, split: what of the job is not the default.
    """

    name: str
    active: pl.DataFrame
    passive: pl.DataFrame
    id: str
    label: str
    task: Mapping[str, Any]
    metric: str
    known: tuple[int, ...] = (500, 5000)
    attacked: int = 3000
    training: Mapping[str, Any] = field(default_factory=dict)
    split: Mapping[str, float] = field(default_factory=dict)


_REAL = {
    "default_credit": ("id", "y", {"task": "binary"}, "auc", {"training": {"batch_size": 512}}),
    "motor": (
        "idx",
        "motor_speed",
        {"task": "regression"},
        "r2",
        {"training": {"batch_size": 64}, "known": (200,), "attacked": 300},
    ),
    "vehicle": (
        "id",
        "y",
        {"task": "multiclass", "classes": 4},
        "accuracy",
        {"training": {"batch_size": 64}, "known": (200,), "attacked": 300},
    ),
}
_FILES = {"vehicle": "vehicle_scale"}


def real_tables(data: Path, name: str) -> Tables:
    """``default_credit``, ``motor`` or ``vehicle``."""
    id_column, label, task, metric, options = _REAL[name]
    sides = (pl.read_csv(data / f"{_FILES.get(name, name)}_hetero_{side}.csv") for side in ("guest", "host"))
    return Tables(name, *sides, id_column, label, task, metric, **options)


@dataclass
class View:
    """After a run.

    Attributes:
        z_NK: noisy Z as it was released for each row.
        exact_NK: the same in fixed point.
        own_NA: the active party's columns, and its label.
        targets_NP: the passive party's columns.
        raw_NP: the same before preprocessing.
        alpha_ND: its bottom's outputs in fixed point.
        weights_DK: the true interaction weights in fixed point.
        units: of Z in fixed point, for one.
        alpha_units: of alpha.
        test: metrics.
        recording: everything else.
    """

    z_NK: Floats
    exact_NK: npt.NDArray[np.int64]
    own_NA: Floats
    targets_NP: Floats
    alpha_ND: npt.NDArray[np.int64]
    weights_DK: npt.NDArray[np.int64]
    units: float
    alpha_units: float
    test: dict[str, float]
    seconds: float
    recording: Recording

    def noise(self) -> Floats:
        """What the noise changed in Z (N, K)."""
        noise: Floats = self.z_NK - (self.alpha_ND @ self.weights_DK) / self.units
        return noise


def make_job(tables: Tables, split: int, *, encrypted: bool = False, **changes: Any) -> vfl.Job:
    """The default job for these tables; ``split`` is its seed."""
    training = {**tables.training, **changes.pop("training", {})}
    protocol = "encrypted" if encrypted else "plaintext"
    return vfl.Job(
        "attacked", **tables.task, seed=split, training=training, interaction={"protocol": protocol}, **changes
    )


def make_parties(tables: Tables, draw: int, bottoms: Mapping[str, Any] | None = None) -> tuple[vfl.Party, vfl.Party]:
    """Both parties; ``draw`` decides on the noise."""
    policy = {
        "allow_unencrypted": True,
        "min_scored_rows": 1,
        "max_releases_per_row": 10**6,
    }
    policies = {ACTIVE: policy | {"allow_trainable": [PASSIVE]}, PASSIVE: policy}
    seeds = {name: hashlib.sha256(f"{name} {draw}".encode()).digest() for name in (ACTIVE, PASSIVE)}
    sources = {
        ACTIVE: vfl.Table(tables.active, id=tables.id, label=tables.label),
        PASSIVE: vfl.Table(tables.passive, id=tables.id),
    }
    bottoms = bottoms or {}
    active, passive = (
        vfl.Party(name, table, bottom=bottoms.get(name), policy=policies[name], private_seed=seeds[name])
        for name, table in sources.items()
    )
    return active, passive


def run_once(tables: Tables, split: int, draw: int, noise: Noise = Noise.DEFAULT, *, encrypted: bool = False) -> View:
    """One default run.

    Args:
        split: the job's seed.
        draw: the parties' private seeds.
        noise: of the build.
    """
    active, passive = make_parties(tables, draw)
    job = make_job(tables, split, encrypted=encrypted)
    started = time.perf_counter()
    with recorded() as seen, build_with(noise):
        run = vfl.simulate(job, active=active, passive=[passive])
    return _view(seen, dict(run.test), time.perf_counter() - started)


def _view(seen: Recording, test: dict[str, float], seconds: float) -> View:
    active, passive = seen.active._state, seen.passive[PASSIVE]._state
    settings = active.setup.parameters.settings
    units = 2.0 ** (settings.activation_bits + settings.weight_bits)
    weights_DK = joint_weights(seen)[PASSIVE]
    rows, splits = len(active.dataset.labels), tuple(Split)
    exact_NK = np.zeros((rows, weights_DK.shape[1]), dtype=np.int64)
    for released in seen.released:
        exact_NK[released.rows, released.columns] = released.z_BM
    alpha_ND = np.zeros((rows, len(weights_DK)), dtype=np.int64)
    order = np.concatenate([passive.dataset.rows_of(split) for split in splits])
    alpha_ND[order] = np.rint(np.concatenate(list(passive.outputs(*splits))) * 2.0**settings.activation_bits)
    own, targets = (state.dataset._features.numeric.double().numpy() for state in (active, passive))
    return View(
        z_NK=exact_NK / units,
        exact_NK=exact_NK,
        own_NA=np.column_stack([own, _one_hot(active.dataset.labels)]),
        targets_NP=targets,
        alpha_ND=alpha_ND,
        weights_DK=weights_DK,
        units=units,
        alpha_units=2.0**settings.activation_bits,
        test=test,
        seconds=seconds,
        recording=seen,
    )


def _one_hot(labels: Floats) -> Floats:
    """A column for each class but the first, or the value of a regression."""
    values = np.unique(labels)
    return labels[:, None] if len(values) > 20 else (labels[:, None] == values[1:]).astype(np.float64)


def in_the_clear(tables: Tables, split: int, *, alone: bool) -> float:
    """The test metric of the same model and schedule trained in the clear.

    Args:
        alone: on the active party's columns only; else on both parties' columns pooled.
    """
    active, passive = make_parties(tables, draw=0)
    federation = simulated_federation(active, [passive])
    config = validated(make_job(tables, split).content(active, [passive]), JobConfig, "the job")
    parameters = check_job(config, federation)
    first, second = (
        party.setup(config, federation, parameters, Path("unused") / party.name, party.private_seed or b"")
        for party in (active, passive)
    )
    test = train_plain(first, [] if alone else [second], common_ids([first, second])).metrics
    return test[tables.metric]
