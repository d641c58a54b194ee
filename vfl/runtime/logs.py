"""The package's loggers: structured events through Python's own ``logging``, silent until a program configures it.

Nothing is configured here. The command line attaches a handler to the logger ``vfl``; a host program that uses vfl as a
library handles these logs like those of any other library.
"""

from __future__ import annotations

import contextlib
import logging
from typing import Any

import structlog

from vfl.runtime.foreign_text import printable_fields

ROOT = "vfl"

logging.getLogger(ROOT).addHandler(logging.NullHandler())


def _printable(logger: Any, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Texts of other organizations are in errors, names and metrics; a stack trace, which has lines, is added later."""
    fields: structlog.typing.EventDict = printable_fields(event)
    return fields


_PROCESSORS: tuple[structlog.typing.Processor, ...] = (
    structlog.stdlib.filter_by_level,
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    _printable,
    structlog.processors.format_exc_info,
    structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
)


class _UnfailingLogger(structlog.stdlib.BoundLogger):
    """Its calls never raise: work must not fail because a line about it cannot be written."""

    def _proxy_to_logger(self, method_name: str, event: str | None = None, *args: Any, **fields: Any) -> Any:
        with contextlib.suppress(Exception):
            return super()._proxy_to_logger(method_name, event, *args, **fields)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger of the package; its records carry the event and its fields as a dictionary in ``msg``.

    Args:
        name: ``vfl`` or a name below it.
    """
    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=list(_PROCESSORS),
        wrapper_class=_UnfailingLogger,
        context_class=dict,
        cache_logger_on_first_use=True,
    )
    return logger
