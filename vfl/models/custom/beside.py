"""Imports a module that lies beside a configuration file, without changing what anything else imports."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import module_from_spec
from pathlib import Path
from types import ModuleType

_lock = threading.RLock()
"""Held while ``sys.path`` and ``sys.modules`` are changed."""


def import_beside(name: str, folder: Path) -> ModuleType:
    """Import a module from a folder, or else from where this process finds its modules.

    The module itself is looked for in the folder first: the configuration names it. What it imports while it is being
    imported may be in the folder, too, but there last, so that no file in it takes the place of an installed module. An
    already loaded module of the same name stays what it is for everybody else.

    Raises:
        ModuleNotFoundError: there is no such module.
        BaseException: whatever the module raises.
    """
    top = name.partition(".")[0]
    with _lock, _searched_last(folder):
        importlib.invalidate_caches()
        spec = PathFinder.find_spec(top, [str(folder)])
        # A folder without __init__.py may be anything, such as the output of a party.
        if spec is None or spec.loader is None or _is_loaded(top, spec):
            return importlib.import_module(name)
        with _in_place_of(top):
            sys.modules[top] = module_from_spec(spec)
            spec.loader.exec_module(sys.modules[top])
            return importlib.import_module(name)


@contextmanager
def _searched_last(folder: Path) -> Iterator[None]:
    sys.path.append(str(folder))
    try:
        yield
    finally:
        sys.path.reverse()
        sys.path.remove(str(folder))  # the one that was added: it may have been there before
        sys.path.reverse()


def _is_loaded(top: str, spec: ModuleSpec) -> bool:
    loaded = getattr(sys.modules.get(top), "__spec__", None)
    return loaded is not None and loaded.origin == spec.origin


@contextmanager
def _in_place_of(top: str) -> Iterator[None]:
    """Within the block, modules of this name are other ones; if there were some before, they come back."""
    before = _taken_out(top)
    done = False
    try:
        yield
        done = True
    finally:
        if before or not done:
            _taken_out(top)
            sys.modules.update(before)


def _taken_out(top: str) -> dict[str, ModuleType]:
    names = [name for name in sys.modules if name == top or name.startswith(f"{top}.")]
    return {name: sys.modules.pop(name) for name in names}
