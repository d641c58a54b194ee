"""Targets: tables from CSV and Parquet, what is learnt from them, and which of their rows a call asks for."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import polars as pl

from support.fuzzing.decoders.files import EXAMPLES, file_with
from support.fuzzing.edits import RECIPES, edited
from support.fuzzing.registry import MEBIBYTE, fuzz_target
from vfl.data.config import DataConfig, IdRules
from vfl.data.preprocess import Preprocessor
from vfl.data.table import Table, load_table
from vfl.ids import Batch, Split
from vfl.job.setup import load_job
from vfl.party.learning.dataset import Dataset

_FRAME = pl.DataFrame(
    {
        "id": ["a1", "a2", "a3", None],
        "age": [1.5, None, -3e3, 4.0],
        "town": ["x", "y", None, "x"],
        "y": [0, 1, 1, 0],
    }
)
_MORE_TYPES = _FRAME.with_columns(
    big=pl.Series([2**63 - 1, 0, 1, 2]),
    flag=pl.Series([True, False, None, True]),
    kind=pl.Series(["p", "q", "p", "p"]).cast(pl.Categorical),
    exact=pl.Series(["1.5", "2.5", None, "0.1"]).cast(pl.Decimal(10, 2)),
)
_UNUSABLE_TYPES = _FRAME.with_columns(
    several=pl.Series([[1], [2, 3], [], None]),
    raw=pl.Series([b"1", b"2", b"3", None]),
    day=pl.Series([0, 1, 2, 3]).cast(pl.Date),
)
_RULES = (
    IdRules(),
    IdRules(type="integer", case="lower", white_space="remove"),
    IdRules(columns=2),
)


def _load(path: Path, rules: int) -> None:
    """Load as the active or as a passive party, learn scales and categories, transform."""
    chosen = _RULES[rules % len(_RULES)]
    ids = "id" if chosen.columns == 1 else ("id", "town")
    labeled = rules < 128
    config = DataConfig(path=path, id_column=ids, label_column="y" if labeled else None)
    _learn(load_table(config, chosen, needs_label=labeled))


def _learn(table: Table) -> None:
    preprocessor = Preprocessor.fit(table, np.arange(len(table)))
    features = preprocessor.transform(table)
    if not features.numeric.isfinite().all():
        raise AssertionError("a feature is not finite")
    if Preprocessor.from_json(preprocessor.to_json()) != preprocessor:
        raise AssertionError("what was learnt does not survive being saved")


@fuzz_target(
    lambda: [
        b"\x00" + _FRAME.write_csv().encode(),
        b"\x80" + _FRAME.drop("y").write_csv().encode(),
        b"\x01id,y,a\n007,1,1e999\n+7,0,NaN\n",
        b'\x02id,town,y\n"a\n1",b,1\n,,\n',
    ],
    room=8 * MEBIBYTE,
)
def table_csv(data: bytes) -> None:
    """A table in CSV; the first byte chooses role and rules for ids."""
    _load(file_with("table.csv", data[1:]), data[0] if data else 0)


_PARQUET = (
    (_FRAME, "uncompressed"),
    (_MORE_TYPES, "uncompressed"),
    (_UNUSABLE_TYPES, "uncompressed"),
    (_FRAME, "zstd"),
)


@cache
def _parquet(which: int) -> bytes:
    out = io.BytesIO()
    frame, compression = _PARQUET[which % len(_PARQUET)]
    frame.write_parquet(out, compression=compression)
    return out.getvalue()


def _parquet_recipes() -> Iterator[bytes]:
    for which, recipe in product(range(len(_PARQUET)), RECIPES[:3]):
        yield bytes((0x00, which)) + recipe


@fuzz_target(_parquet_recipes, room=8 * MEBIBYTE, max_bytes=512, examples=10)
def table_parquet(data: bytes) -> None:
    """A table in Parquet: changes to a valid file. Each input starts a helper process, so few can be tried."""
    rules, which = (data[0], data[1]) if len(data) > 1 else (0, 0)
    _load(file_with("table.parquet", edited(_parquet(which), data[2:])), rules)


@cache
def _fitted() -> tuple[Preprocessor, Table]:
    config = DataConfig(path=file_with("fitted.csv", _FRAME.drop("y").write_csv().encode()), id_column="id")
    table = load_table(config, needs_label=False)
    return Preprocessor.fit(table, np.arange(len(table))), table


@fuzz_target(lambda: [_fitted()[0].to_json().encode()])
def preprocessing(data: bytes) -> None:
    """preprocessing.json, and transforming a table by it."""
    table = _fitted()[1]
    features = Preprocessor.from_json(data.decode(errors="replace")).transform(table)
    if not features.numeric.isfinite().all():
        raise AssertionError("a feature is not finite")


@cache
def _dataset() -> Dataset:
    rows = 300
    numbers = np.arange(rows, dtype=np.float64)
    ids = pl.Series("id", [f"{row:04}" for row in range(rows)])
    table = Table(ids, ids, numbers[:, None], ("a",), np.empty((rows, 0), dtype=np.object_), (), numbers)
    return Dataset(table, load_job(EXAMPLES / "job.toml"))


_BATCH = struct.Struct("<Bqq")


@fuzz_target(
    lambda: [_BATCH.pack(0, 0, 0), _BATCH.pack(2, 0, 0), _BATCH.pack(1, 1, 2), _BATCH.pack(0, -1, -1)], max_bytes=17
)
def batch_of_a_call(data: bytes) -> None:
    """The batch that a phase call asks for; epoch and index are any 64-bit integers."""
    split, epoch, index = _BATCH.unpack(data[: _BATCH.size].ljust(_BATCH.size, b"\0"))
    rows = _dataset().batch_rows(Batch(list(Split)[split % len(Split)], epoch, index))
    if not len(rows):
        raise AssertionError("a batch without rows")
