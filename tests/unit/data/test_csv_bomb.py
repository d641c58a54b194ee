"""A small file that holds more than fits into memory, or takes hours to look at, is refused or read soon."""

import gzip
import time

import pytest

from vfl.data.config import DataConfig
from vfl.data.sources import csv_text
from vfl.data.sources.files import read_source
from vfl.errors import DataError

MEBIBYTE = 1 << 20


def test_a_file_of_tiny_fields_is_refused_before_its_columns_are_made(tmp_path, monkeypatch):
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress(b"id,a\n" + b"1,\n" * 1_000_000))
    assert path.stat().st_size < MEBIBYTE / 10
    config = DataConfig(path=path, id_column="id")
    monkeypatch.setattr(csv_text, "available_memory_bytes", lambda: 40 * MEBIBYTE)
    with pytest.raises(DataError, match="too large for the free memory"):
        read_source(config)
    monkeypatch.setattr(csv_text, "available_memory_bytes", lambda: 400 * MEBIBYTE)
    assert read_source(config).frame.height == 1_000_000


def test_very_many_names_of_columns_are_compared_in_a_moment(tmp_path):
    path, count = tmp_path / "table.csv", 20_000
    path.write_text(",".join(f"c{n}" for n in range(count)) + "\n" + ",".join("1" * count) + "\n", encoding="ascii")
    before = time.process_time()
    assert read_source(DataConfig(path=path, id_column="c0")).frame.width == count
    assert time.process_time() - before < 8.0


def test_repeated_names_are_named_once(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("id,b,a,b,a,a\n1,2,3,4,5,6\n", encoding="ascii")
    with pytest.raises(DataError, match="same name") as raised:
        read_source(DataConfig(path=path, id_column="id"))
    assert raised.value.detail.endswith(": a, b")
