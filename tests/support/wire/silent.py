"""A process of nobody's that keeps as many connections open as it can, and says nothing on them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_SCRIPT = """
import resource, selectors, socket, sys, time
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
port, count, source = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
waiting, opened = selectors.DefaultSelector(), 0
while True:
    while len(waiting.get_map()) < count:
        connection = socket.socket()
        connection.bind((source, 0))
        try:
            connection.settimeout(1)
            connection.connect(("127.0.0.1", port))
        except OSError:
            connection.close()
            break
        connection.setblocking(False)
        waiting.register(connection, selectors.EVENT_READ)
        opened += 1
        if opened == count:
            print("all opened", flush=True)
    for key, _ in waiting.select(0.05):
        waiting.unregister(key.fileobj)
        key.fileobj.close()
    time.sleep(0.3)
"""


@contextmanager
def silent_connections(port: int, count: int, source: str = "127.0.0.1") -> Iterator[None]:
    """Connections from an address to a port; those that are closed are opened again, three times a second."""
    process = subprocess.Popen([sys.executable, "-c", _SCRIPT, str(port), str(count), source], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"all opened\n"
        yield
    finally:
        process.kill()
        process.communicate()
