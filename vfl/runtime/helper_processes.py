"""The environment of helper processes that run a module of this package."""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE_ROOT = str(Path(__file__).resolve().parents[2])


def helper_environment() -> dict[str, str]:
    """This process's environment, extended so that a helper imports the same copy of the package."""
    search = os.pathsep.join(filter(None, [_PACKAGE_ROOT, os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": search}
