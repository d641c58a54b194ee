"""``python -m vfl`` and the ``vfl`` command."""

import os
import signal
from types import FrameType


def _stop_while_starting(number: int, frame: FrameType | None) -> None:
    os.write(2, b"vfl: stopped by the operator while starting\n")
    os._exit(128 + number)


def main() -> None:
    """Run the command line. Importing it takes seconds, in which Ctrl-C must not end in a stack trace of imports."""
    before = signal.signal(signal.SIGINT, _stop_while_starting)
    if before is not signal.default_int_handler:
        signal.signal(signal.SIGINT, before)  # a shell that starts us in the background ignores it
    from vfl.cli.main import app

    signal.signal(signal.SIGINT, before)
    app(prog_name="vfl")


if __name__ == "__main__":
    main()
