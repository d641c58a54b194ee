"""Logs: one readable line per event, or one JSON object per event on request."""

from __future__ import annotations

import logging
import sys
from enum import StrEnum
from typing import Annotated

import structlog
import typer

from vfl.runtime.logs import ROOT


class LogFormat(StrEnum):
    """Format of log lines."""

    TEXT = "text"
    JSON = "json"


LogOption = Annotated[LogFormat, typer.Option("--log", help="Readable lines or one JSON object per event.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", help="Log details too: every failed call, stack traces.")]


def configure_logs(log_format: LogFormat, *, verbose: bool = False, brief: bool = False, **context: str) -> None:
    """Send logs to standard error.

    Args:
        verbose: show debugging events too.
        brief: otherwise, show warnings only.
        context: included in every line, for instance the party's name.
    """
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if log_format is LogFormat.JSON
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=28)
    )
    time_format = "%H:%M:%S" if log_format is LogFormat.TEXT else "iso"
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.TimeStamper(fmt=time_format, utc=False),
                renderer,
            ]
        )
    )
    logger = logging.getLogger(ROOT)
    logger.handlers = [handler]
    logger.propagate = False
    usual = logging.WARNING if brief else logging.INFO
    logger.setLevel(logging.DEBUG if verbose else usual)
    structlog.contextvars.bind_contextvars(**context)
