"""``python -m vfl`` and the ``vfl`` command."""

import contextlib
import gc
import os
import signal
from types import FrameType

from vfl.runtime.memory import keep_freed_memory
from vfl.runtime.standard_streams import secure_standard_streams


def _stop_while_starting(number: int, frame: FrameType | None) -> None:
    with contextlib.suppress(OSError):
        os.write(2, b"vfl: stopped by the operator while starting\n")
    os._exit(128 + number)


def main() -> None:
    """Run the command line. Imports take seconds, in which Ctrl-C must not end in a stack trace of theirs."""
    secure_standard_streams()
    # A shell that starts us in the background has SIGINT ignored, and it stays so.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _stop_while_starting)
    # Before the imports, for the libraries start threads.
    keep_freed_memory()
    from vfl.transport.tls.version import require_tls_1_3

    require_tls_1_3()
    from vfl.cli.main import app

    try:
        app(prog_name="vfl")
    finally:
        # As it ends, Python looks through all objects of all libraries for garbage. With torch this takes a second, and
        # on a busy machine more than a service manager waits.
        gc.disable()
        gc.freeze()


if __name__ == "__main__":
    main()
