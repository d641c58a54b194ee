"""Shows errors to the operator: one framed message with what to do, and an exit code."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from vfl.errors import InternalError, VflError
from vfl.runtime.foreign_text import printable_lines

errors_console = Console(stderr=True)


@contextmanager
def reported() -> Iterator[None]:
    """Show errors and exit with their code. All imports are done, so from here on Ctrl-C raises an exception."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    except VflError as error:
        show_error(error, "stopped")
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        show_error(VflError("stopped by the operator before the run began"), "stopped")
        raise typer.Exit(130) from None


def show_error(error: VflError, title: str) -> None:
    """Print an error with its remedy."""
    report = "\nPlease report this." if isinstance(error, InternalError) else ""
    body = Text(printable_lines(f"{error}{report}"))
    errors_console.print(Panel(body, title=f"{title} ({error.code})", border_style="red", title_align="left"))
