"""``python -m vfl``."""

from vfl.cli.main import app

app(prog_name="vfl")
