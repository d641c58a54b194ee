"""``vfl runs``: the coordinator's record of its runs, how to resume one, and what a party has released in its runs."""

from vfl.cli.runs.commands import app

__all__ = ["app"]
