"""Another user of the same machine, who fills what it can reach of processes that are not its own.

``python -m support.faults.other_user PID ...``: as user 65534, connect to every TCP port that these processes
listen on, and keep the connections, and try every unix socket that they listen on. Ends when stdin does, and prints
what it reached.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
from pathlib import Path

NOBODY = 65534
_LISTENING = "0A"
_MOST = 400


def listening(pid: int) -> tuple[set[int], set[str]]:
    """TCP ports and paths of unix sockets that a process listens on. Needs its user's rights, or root's."""
    links = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            links.append(str(entry.readlink()))
        except OSError:
            continue
    inodes = {link[len("socket:[") : -1] for link in links if link.startswith("socket:[")}
    ports = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == _LISTENING and rest[5] in inodes:
                ports.add(int(local.rpartition(":")[2], 16))
    paths = set()
    for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]:
        fields = line.split()
        if len(fields) == 8 and fields[6] in inodes:
            paths.add(fields[7])
    return ports, paths


def _attack(ports: set[int], paths: set[str]) -> dict[str, object]:
    held: list[socket.socket] = []
    reached: set[str] = set()
    refused: set[str] = set()
    while not select.select([sys.stdin], [], [], 0.05)[0]:
        for path in paths:
            with socket.socket(socket.AF_UNIX) as tried:
                try:
                    tried.connect(path)
                    reached.add(path)
                except PermissionError:
                    refused.add(path)
                except OSError:
                    continue
        for port in ports if len(held) < _MOST else ():
            connection = socket.socket()  # create_connection would import more, which nobody may read
            connection.settimeout(1)
            try:
                connection.connect(("127.0.0.1", port))
            except OSError:
                connection.close()
                continue
            held.append(connection)
            reached.add(str(port))
    return {"reached": sorted(reached), "refused": sorted(refused), "connections": len(held)}


def main() -> None:
    """See the module docstring."""
    ports, paths = set(), set()
    for pid in map(int, sys.argv[1:]):
        found = listening(pid)
        ports |= found[0]
        paths |= found[1]
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    print(json.dumps({"ports": sorted(ports), "paths": sorted(paths)}), flush=True)  # noqa: T201  # its result
    print(json.dumps(_attack(ports, paths)), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
