"""A helper process that reads a Parquet file; its exit code is 0 if that works.

The reader believes the lengths in a file. A corrupted one can make it ask for more memory than there is, upon which the
process ends at once, with nothing that could be caught (ADR 0021).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import polars as pl

from vfl.runtime.helper_processes import helper_environment

UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException)
"""What polars raises for a corrupted file. A panic is no ``Exception``, and would end the process, too."""


def why_unreadable(path: Path) -> str:
    """Read a file in a helper process; empty if that works, else the reason.

    Raises:
        OSError: the helper cannot be started.
    """
    done = subprocess.run(  # noqa: S603  # this module, with the path as one argument
        [sys.executable, "-P", "-m", "vfl.data.sources.parquet_check", str(path.absolute())],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=helper_environment(),
    )
    said = done.stdout.decode(errors="replace").strip()
    return "" if done.returncode == 0 else said or "the reader gave up on it"


def main() -> int:
    """Read the file named on the command line; say on standard output why that does not work."""
    try:
        pl.read_parquet(sys.argv[1], glob=False)
    except (OSError, *UNREADABLE) as error:
        sys.stdout.write(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
