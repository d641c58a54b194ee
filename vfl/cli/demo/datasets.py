"""The demo's data sets: which columns each organization holds, and the job that suits them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vfl.errors import ConfigError

ACTIVE = "bank"


@dataclass(frozen=True)
class DemoData:
    """One data set of the demo and the job that suits it.

    Attributes:
        make: the CSV file of each party, given the folder of ready tables (None: built in), a folder to write to, and
            the names of the parties, the active one first.
        passive: names of the passive parties, by total number of parties.
        id_column, label_column: their names in the files.
        task: the table ``[task]`` of job.toml.
        batch_size: of local epochs and joint passes.
        passes: of joint training, with ``--trainable``.
    """

    make: Callable[[Path | None, Path, tuple[str, ...]], dict[str, Path]]
    passive: dict[int, tuple[str, ...]]
    id_column: str
    label_column: str
    task: dict[str, Any]
    batch_size: int
    passes: int


# Kinds of measurement that the active party holds; sizes and outlines of the cells, which say most, are the clinic's.
_BREAST_ACTIVE = ("texture", "smoothness", "symmetry", "fractal dimension")


def _make_breast(source: Path | None, target: Path, parties: tuple[str, ...]) -> dict[str, Path]:
    """Wisconsin breast cancer from scikit-learn, by kind of measurement: 12 weak columns and 18 strong ones."""
    import polars as pl  # not for all commands, which need the names of the data sets only

    try:
        from sklearn.datasets import load_breast_cancer
    except ImportError as error:
        raise ConfigError(
            "the built-in demo data needs scikit-learn",
            remedy="pip install vfl[demo]",
        ) from error
    bunch = load_breast_cancer()
    frame = pl.DataFrame(bunch.data, schema=list(bunch.feature_names))
    ids = pl.Series("id", range(1, frame.height + 1))
    own = [name for name in frame.columns if any(word in name for word in _BREAST_ACTIVE)]
    rest = [name for name in frame.columns if name not in own]
    labels = pl.Series("malignant", 1 - bunch.target)
    active, passive = parties
    files = {active: target / f"{active}.csv", passive: target / f"{passive}.csv"}
    frame.select(ids, labels, *own).write_csv(files[active])
    frame.select(ids, *rest).write_csv(files[passive])
    return files


def _from_files(names: dict[int, tuple[str, ...]]) -> Callable[[Path | None, Path, tuple[str, ...]], dict[str, Path]]:
    """Tables that lie ready, one file per party."""

    def make(source: Path | None, target: Path, parties: tuple[str, ...]) -> dict[str, Path]:
        if source is None:
            raise ConfigError("this data set is not built in", remedy="say where its tables are with --data DIR")
        files = {party: source / name for party, name in zip(parties, names[len(parties)], strict=True)}
        absent = [str(path) for path in files.values() if not path.exists()]
        if absent:
            raise ConfigError(
                "tables of the demo data set are missing", detail=", ".join(absent), remedy="correct --data DIR"
            )
        return {party: path.absolute() for party, path in files.items()}

    return make


def keep_some_rows(table: Path, target: Path, share: float, seed: int) -> Path:
    """Write a table with this share of its rows, in an order of its own, as organizations' tables differ in life.

    Raises:
        ConfigError: the share is out of range.
    """
    import polars as pl

    if not 0 < share <= 1:
        raise ConfigError("the share of rows that each party keeps is out of range", remedy="use --overlap 0.5 to 1.0")
    rows = pl.read_csv(table, infer_schema=False)
    rows.sample(fraction=share, shuffle=True, seed=seed).write_csv(target)
    return target


DATASETS: dict[str, DemoData] = {
    "breast": DemoData(
        make=_make_breast,
        passive={2: ("clinic",)},
        id_column="id",
        label_column="malignant",
        task={"kind": "binary"},
        batch_size=64,
        passes=10,
    ),
    "default_credit": DemoData(
        make=_from_files({2: ("default_credit_hetero_guest.csv", "default_credit_hetero_host.csv")}),
        passive={2: ("telco",)},
        id_column="id",
        label_column="y",
        task={"kind": "binary"},
        batch_size=512,
        passes=15,
    ),
    "vehicle": DemoData(
        make=_from_files({2: ("vehicle_scale_hetero_guest.csv", "vehicle_scale_hetero_host.csv")}),
        passive={2: ("telco",)},
        id_column="id",
        label_column="y",
        task={"kind": "multiclass", "classes": 4},
        batch_size=64,
        passes=60,
    ),
    "motor": DemoData(
        make=_from_files(
            {
                2: ("motor_hetero_guest.csv", "motor_hetero_host.csv"),
                3: ("motor_hetero_guest.csv", "motor_hetero_host_1.csv", "motor_hetero_host_2.csv"),
            }
        ),
        passive={2: ("sensors",), 3: ("climate", "drive")},
        id_column="idx",
        label_column="motor_speed",
        task={"kind": "regression"},
        batch_size=64,
        passes=30,
    ),
}
