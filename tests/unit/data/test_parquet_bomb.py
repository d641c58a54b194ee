"""A small Parquet file that holds more than fits into memory is refused before it is read."""

import subprocess
import sys

import polars as pl
import pytest

from vfl.data.sources import parquet_check
from vfl.data.sources.parquet_check import why_too_large, why_unreadable
from vfl.runtime.helper_processes import helper_environment
from vfl.runtime.memory import available_memory_bytes

ROWS = 20_000_000


@pytest.fixture(scope="module")
def bomb(tmp_path_factory):
    path = tmp_path_factory.mktemp("bomb") / "table.parquet"
    pl.select(a=pl.repeat(1.0, ROWS)).write_parquet(path, compression="zstd")
    assert path.stat().st_size < ROWS / 100
    return path


def test_it_is_refused_by_what_its_header_says(bomb):
    reason = why_too_large(bomb, 100 << 20)
    assert f"{ROWS} rows of 1 columns, which need about 152 MiB; 100 MiB are available" in reason
    assert why_too_large(bomb, 200 << 20) == why_too_large(bomb, None) == ""


def test_a_file_that_says_less_ends_its_reader_and_not_this_process(bomb):
    lying = (
        "import sys; from vfl.data.sources import parquet_check as check; "
        "check.why_too_large = lambda *_: ''; check.available_memory_bytes = lambda: 60 << 20; sys.exit(check.main())"
    )
    command = [sys.executable, "-P", "-c", lying, str(bomb)]
    assert subprocess.run(command, env=helper_environment(), capture_output=True).returncode != 0


def test_one_that_fits_is_read(bomb, monkeypatch):
    assert why_unreadable(bomb) == ""
    assert available_memory_bytes() > 1 << 20
    monkeypatch.setattr(sys, "argv", ["check", str(bomb)])
    monkeypatch.setattr(parquet_check, "available_memory_bytes", lambda: 1 << 20)
    assert parquet_check.main() == 1
