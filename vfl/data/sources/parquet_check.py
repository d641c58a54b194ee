"""A helper process that tries to read a Parquet file; it exits with 0 on success.

The reader trusts the lengths in a file. A corrupted length can make it request more memory than there is, which ends
the process immediately, without an exception that could be caught (ADR 0021).
"""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import polars as pl

from vfl.runtime.helper_processes import helper_environment
from vfl.runtime.memory import available_memory_bytes

_BYTES_PER_VALUE = 8
UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException)
"""What polars raises for a corrupted file. A panic is not an ``Exception``, and would also end the process."""


def why_unreadable(path: Path) -> str:
    """Read a file in a helper process. Returns the reason if that fails, otherwise an empty text.

    Raises:
        OSError: the helper cannot be started.
    """
    done = subprocess.run(  # noqa: S603  # this module, with the path as one argument
        [sys.executable, "-P", "-m", "vfl.data.sources.parquet_check", str(path.absolute())],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=helper_environment(),
    )
    output = done.stdout.decode(errors="replace").strip()
    return "" if done.returncode == 0 else output or "the reader process crashed"


def why_too_large(path: Path, available: int | None) -> str:
    """Why a table would not fit into memory, as far as its header says; empty if it does.

    Half a megabyte of Parquet can hold a billion equal values.

    Args:
        available: bytes that may be used; None if that is not known.
    """
    rows = pl.scan_parquet(path, glob=False).select(pl.len()).collect().item()
    columns = len(pl.read_parquet_schema(path))
    needed = rows * columns * _BYTES_PER_VALUE
    if available is None or needed <= available:
        return ""
    return (
        f"it says that it has {rows} rows of {columns} columns, which need about {needed >> 20} MiB; "
        f"{available >> 20} MiB are available"
    )


def _limit_memory(available: int | None) -> None:
    """Keep a file that says less than it has from taking all memory of the machine."""
    if available is not None:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        limit = pages * resource.getpagesize() + available
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main() -> int:
    """Read the file named on the command line; on failure, write the reason to standard output."""
    path, available = Path(sys.argv[1]), available_memory_bytes()
    try:
        if reason := why_too_large(path, available):
            sys.stdout.write(reason)
            return 1
        _limit_memory(available)
        pl.read_parquet(path, glob=False)
    except (OSError, *UNREADABLE) as error:
        sys.stdout.write(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
