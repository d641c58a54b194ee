"""The environment of helper processes that run a module of this package."""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE_ROOT = str(Path(__file__).resolve().parents[2])


def helper_environment() -> dict[str, str]:
    """This process's environment, in which a helper finds the same package, wherever it was imported from."""
    search = os.pathsep.join(filter(None, [_PACKAGE_ROOT, os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": search}
