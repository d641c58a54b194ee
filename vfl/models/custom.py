"""A party's own bottom model, loaded from ``module:callable``.

Only the party's own configuration names the factory; nothing that another organization sends can affect the choice.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from torch import nn

from vfl.errors import ConfigError, ModelError
from vfl.models.config import BottomInputs, CustomBottom

_KEY = "[bottom] factory in party.toml"


def build_custom(
    config: CustomBottom, inputs: BottomInputs, width: int, factory: Callable[..., Any] | None = None
) -> nn.Module:
    """Call the configured factory.

    Raises:
        ConfigError: the module cannot be imported, or has no such callable.
        ModelError: the factory raised, or did not return an ``nn.Module``.
    """
    factory = factory or load_factory(config.factory)
    try:
        module = factory(inputs, width, **config.options)
    except Exception as error:
        raise ModelError(
            "the custom bottom's factory failed",
            detail=f"{config.factory}(inputs={inputs}, width={width}, options={sorted(config.options)}) raised "
            f"{type(error).__name__}: {error}",
            remedy="the factory is called as factory(inputs: BottomInputs, width: int, **options); check [bottom] "
            "options in party.toml",
        ) from error
    if not isinstance(module, nn.Module):
        raise ModelError(
            "the custom bottom's factory did not return a torch.nn.Module",
            detail=f"{config.factory} returned {type(module).__name__}",
            remedy="return an instance of torch.nn.Module from the factory",
        )
    return module


def load_factory(path: str) -> Callable[..., Any]:
    """The callable that ``module:callable`` names.

    Raises:
        ConfigError: the module cannot be imported, or has no such callable.
    """
    module_name, _, attribute = path.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        raise ConfigError(
            "the custom bottom's module cannot be imported",
            detail=f"{_KEY} = '{path}': {type(error).__name__}: {error}",
            remedy=f"install the module in this environment, or correct {_KEY}",
        ) from error
    for name in attribute.split("."):
        found = getattr(found, name, None)
    if not callable(found):
        raise ConfigError(
            "the custom bottom's module has no such callable",
            detail=f"{_KEY} = '{path}': '{attribute}' is {'missing' if found is None else 'not callable'}",
            remedy=f"name a function or class of the module in {_KEY}",
        )
    factory: Callable[..., Any] = found
    return factory
