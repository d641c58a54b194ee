"""Tables in two parts: scikit-learn's, a synthetic one, and those of a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from sklearn import datasets


@dataclass(frozen=True)
class SplitTable:
    """A table whose columns two parties share.

    Attributes:
        task: ``binary``, ``multiclass`` or ``regression``.
        active: ids, the label ``y`` and some columns.
        passive: ids and the other columns, in the same order of rows.
    """

    name: str
    task: str
    active: pl.DataFrame
    passive: pl.DataFrame

    @property
    def classes(self) -> int:
        """Of a multiclass table."""
        return int(self.active["y"].n_unique())

    @property
    def columns(self) -> np.ndarray:
        """All features (rows, columns), joined."""
        parts = (self.active.drop("id", "y"), self.passive.drop("id"))
        return np.hstack([part.to_numpy() for part in parts]).astype(np.float64)

    @property
    def metric(self) -> str:
        """What models are compared by."""
        return {"binary": "auc", "multiclass": "accuracy", "regression": "r2"}[self.task]


def halves(name: str, task: str, columns: np.ndarray, labels: np.ndarray) -> SplitTable:
    """The active party has every other column, from the first one on."""
    ids = pl.Series("id", [f"r{row:06d}" for row in range(len(labels))])
    frames = []
    for first in (0, 1):
        part = columns[:, first::2]
        frames.append(
            pl.DataFrame([ids, *(pl.Series(f"x{2 * at + first}", part[:, at]) for at in range(part.shape[1]))])
        )
    return SplitTable(name, task, frames[0].insert_column(1, pl.Series("y", labels)), frames[1])


def _synthetic() -> tuple[np.ndarray, np.ndarray]:
    """Like house prices: skewed columns, interactions, noise."""
    rng = np.random.default_rng(0)
    columns = np.exp(rng.normal(size=(5000, 8)) * 0.5)
    price = (
        columns[:, 0] * 2 + np.log(columns[:, 1]) * columns[:, 2] + np.sin(3 * columns[:, 3]) + 0.3 * columns[:, 4] ** 2
    )
    return columns, price + 0.5 * rng.normal(size=5000)


def _of_scikit_learn(load: Callable[..., tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    columns, labels = load(return_X_y=True)
    return columns, labels


_BUILT_IN = {
    "breast": ("binary", datasets.load_breast_cancer),
    "wine": ("multiclass", datasets.load_wine),
    "digits": ("multiclass", datasets.load_digits),
    "diabetes": ("regression", datasets.load_diabetes),
}
_FILES = {
    "default_credit": ("binary", "default_credit_hetero_guest.csv", "default_credit_hetero_host.csv", "id", "y"),
    "vehicle": ("multiclass", "vehicle_scale_hetero_guest.csv", "vehicle_scale_hetero_host.csv", "id", "y"),
    "motor": ("regression", "motor_hetero_guest.csv", "motor_hetero_host.csv", "idx", "motor_speed"),
}


def tables(folder: Path | None) -> Iterator[SplitTable]:
    """All tables; those of the folder only if there is one."""
    for name, (task, load) in _BUILT_IN.items():
        yield halves(name, task, *_of_scikit_learn(load))
    yield halves("synthetic prices", "regression", *_synthetic())
    for name, (task, guest, host, row_id, label) in _FILES.items() if folder is not None else ():
        active = pl.read_csv(folder / guest).rename({row_id: "id", label: "y"})
        passive = pl.read_csv(folder / host).rename({row_id: "id"})
        yield SplitTable(name, task, active, active.select("id").join(passive, on="id", maintain_order="left"))
