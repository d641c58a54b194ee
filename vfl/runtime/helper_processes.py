"""The environment of helper processes that run a module of this package."""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE_ROOT = str(Path(__file__).resolve().parents[2])


_PASSED_ON = frozenset({"PATH", "HOME", "USER", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV"})
_PASSED_ON_PREFIXES = ("LC_", "PYTHON", "POLARS_", "RUST_", "MALLOC_", "OMP_", "OPENBLAS_", "MKL_", "COVERAGE_", "COV_")


def helper_environment() -> dict[str, str]:
    """What helpers need of this process's environment, extended so that they import the same copy of the package.

    A list of what is passed on, not of what is not: keys and passphrases are in variables that the operator names.
    """
    search = os.pathsep.join(filter(None, [_PACKAGE_ROOT, os.environ.get("PYTHONPATH", "")]))
    kept = {name: value for name, value in os.environ.items() if _is_passed_on(name)}
    return {**kept, "PYTHONPATH": search}


def _is_passed_on(name: str) -> bool:
    return name in _PASSED_ON or name.startswith(_PASSED_ON_PREFIXES)
