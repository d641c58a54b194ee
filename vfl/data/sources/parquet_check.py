"""A helper process that tries to read a Parquet file; it exits with 0 on success.

The reader trusts the lengths in a file. A corrupted length can make it request more memory than there is, which ends
the process immediately, without an exception that could be caught (ADR 0021).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import polars as pl

from vfl.runtime.helper_processes import helper_environment

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


def main() -> int:
    """Read the file named on the command line; on failure, write the reason to standard output."""
    try:
        pl.read_parquet(sys.argv[1], glob=False)
    except (OSError, *UNREADABLE) as error:
        sys.stdout.write(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
