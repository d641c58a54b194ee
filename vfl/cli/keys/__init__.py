"""``vfl keys``: the commands, and what they ask and show."""

from vfl.cli.keys.commands import app

__all__ = ["app"]
