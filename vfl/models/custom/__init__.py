"""A party's own bottom model: found and imported, built, and run so that its exceptions are the party's."""

from vfl.models.custom.factory import build_custom, load_factory
from vfl.models.custom.own_code import own_code

__all__ = ["build_custom", "load_factory", "own_code"]
