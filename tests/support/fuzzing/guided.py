"""One target under atheris (libFuzzer), in a process of its own: ``... guided TARGET FOLDER EVERY OPTIONS``.

vfl is instrumented as it is imported, so that inputs which reach new code are kept and changed further.
"""

from __future__ import annotations

import hashlib
import itertools
import resource
import sys
import tracemalloc
import warnings
from pathlib import Path

import atheris

HEADROOM = 2**30
"""Bytes of address space that decoding may take beyond what the process has by then: a bound on native code, too."""


def main() -> None:
    """Run one target with libFuzzer's own options; an input that fails is kept in the folder."""
    name, folder, every = sys.argv.pop(1), Path(sys.argv.pop(1)), int(sys.argv.pop(1))
    warnings.simplefilter("ignore")
    with atheris.instrument_imports(include=["vfl"]):
        from support.fuzzing.targets import TARGETS
    target, count = TARGETS[name], itertools.count()

    def check(data: bytes) -> None:
        traced = next(count) % every == 0
        if traced != tracemalloc.is_tracing():
            tracemalloc.start() if traced else tracemalloc.stop()
        try:
            target.check(data)
        except BaseException:
            # libFuzzer keeps what ends the process or takes too long; of a Python exception it does not know.
            (folder / f"crash-{hashlib.sha256(data).hexdigest()[:16]}").write_bytes(data)
            raise

    for seed in target.seeds:  # what is made once and kept is not counted
        target.check(seed)
    _limit_memory()
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + HEADROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    main()
