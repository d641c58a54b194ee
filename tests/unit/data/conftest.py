from pathlib import Path

import polars as pl
import pytest


@pytest.fixture
def csv(tmp_path):
    """Writes a CSV file and gives its path."""

    def write(content: str | bytes, name: str = "table.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@pytest.fixture
def parquet(tmp_path):
    """Writes a Parquet file of these columns and gives its path."""

    def write(**columns) -> Path:
        path = tmp_path / "table.parquet"
        pl.DataFrame(columns).write_parquet(path)
        return path

    return write
