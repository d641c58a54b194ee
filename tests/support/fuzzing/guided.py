"""One target under atheris (libFuzzer), in a process of its own: ``python -m support.fuzzing.guided TARGET OPTIONS``.

vfl is instrumented as it is imported, so that inputs which reach new code are kept and changed further.
"""

from __future__ import annotations

import logging
import resource
import sys
import tracemalloc
import warnings
from pathlib import Path

import atheris
import structlog

HEADROOM = 2**30
"""Bytes of address space that decoding may take beyond what the process has by then: a bound on native code, too."""


def main() -> None:
    """Run one target with libFuzzer's own options."""
    name = sys.argv.pop(1)
    warnings.simplefilter("ignore")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with atheris.instrument_imports(include=["vfl"]):
        from support.fuzzing.targets import TARGETS
    target = TARGETS[name]
    for seed in target.seeds:  # what is made once and kept is not counted
        target.check(seed)
    _limit_memory()
    tracemalloc.start()

    def check(data: bytes) -> None:
        target.check(data)

    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + HEADROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    main()
