"""A party's own bottom model, loaded from ``module:callable``.

Only the party's own configuration names the factory; nothing that another organization sends can affect the choice.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from vfl.errors import ConfigError, ModelError
from vfl.models.config import BottomInputs, CustomBottom
from vfl.models.custom.beside import import_beside
from vfl.models.custom.own_code import own_code

_KEY = "[bottom] factory in party.toml"


def build_custom(
    config: CustomBottom, inputs: BottomInputs, width: int, factory: Callable[..., Any] | None = None
) -> nn.Module:
    """Call the configured factory.

    Raises:
        ConfigError: the module cannot be found, or has no such callable.
        ModelError: module or factory raised, or it did not return an ``nn.Module`` whose parameters exist.
    """
    factory = factory or load_factory(config.factory)
    called = f"{config.factory}(inputs={inputs}, width={width}, options={sorted(config.options)})"
    remedy = (
        "the factory is called as factory(inputs: BottomInputs, width: int, **options); correct it, or [bottom] "
        "options in party.toml"
    )
    with own_code("in its factory", remedy):
        module = factory(inputs, width, **config.options)
    if not isinstance(module, nn.Module):
        raise ModelError(
            "the custom bottom's factory did not return a torch.nn.Module",
            detail=f"{called} returned {type(module).__name__}",
            remedy="return an instance of torch.nn.Module from the factory",
        )
    if any(is_lazy(tensor) for tensor in (*module.parameters(), *module.buffers())):
        raise ModelError(
            "the custom bottom's factory returned a model whose parameters have no shape yet",
            detail=called,
            remedy="use inputs.numeric_width in place of lazy layers, or call the model once in the factory",
        )
    return module


def load_factory(path: str, folder: Path | None = None) -> Callable[..., Any]:
    """The callable that ``module:callable`` names.

    Args:
        folder: where the module is looked for first, see ``import_beside``.

    Raises:
        ConfigError: the module cannot be found, or has no such callable.
        ModelError: the module raised while it was imported.
    """
    module_name, _, attribute = path.partition(":")
    found: Any = None
    absent: ModuleNotFoundError | None = None
    with own_code("while its module was imported"):
        try:
            found = import_beside(module_name, folder) if folder else importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if not f"{module_name}.".startswith(f"{error.name}."):
                raise  # a module that the user's own needs
            absent = error
        for name in attribute.split("."):
            found = getattr(found, name, None)
    if absent is not None:
        raise ConfigError(
            "the custom bottom's module cannot be found",
            detail=f"{_KEY} = '{path}': {absent}" + (f"; looked in {folder} first" if folder else ""),
            remedy=f"put the module beside party.toml, install it in this environment, or correct {_KEY}",
        ) from absent
    if not callable(found):
        raise ConfigError(
            "the custom bottom's module has no such callable",
            detail=f"{_KEY} = '{path}': '{attribute}' is {'missing' if found is None else 'not callable'}",
            remedy=f"name a function or class of the module in {_KEY}",
        )
    factory: Callable[..., Any] = found
    return factory
