"""A helper process that blinds: ``python -m vfl.align.worker``. It reads pieces from standard input until the end.

X25519 in ``cryptography`` holds the interpreter lock, so threads would take turns. A plain process on a pipe needs no
pickle, starts without torch, and ends by itself when the party's process is gone, for whatever reason.
"""

from __future__ import annotations

import struct
import sys
from typing import BinaryIO

from vfl.align.curve import SmallOrderPoint, blind_digests, blind_points

HEADER = struct.Struct("<cI")
"""Type and length in bytes of what follows."""
SECRET, DIGESTS, POINTS, RESULT, REFUSED = b"S", b"D", b"P", b"R", b"X"


def serve(pieces: BinaryIO, results: BinaryIO) -> None:
    """Answer each piece: ``SECRET`` sets the scalar; ``DIGESTS`` and ``POINTS`` are blinded with it.

    The answer is ``RESULT`` with as many points, or an empty ``REFUSED`` if a point has small order.
    """
    secret = b""
    while len(header := pieces.read(HEADER.size)) == HEADER.size:
        kind, size = HEADER.unpack(header)
        content = pieces.read(size)
        if len(content) < size:
            return
        if kind == SECRET:
            secret = content
            continue
        try:
            blinded = (blind_digests if kind == DIGESTS else blind_points)(secret, content)
            results.write(HEADER.pack(RESULT, len(blinded)) + blinded)
        except SmallOrderPoint:
            results.write(HEADER.pack(REFUSED, 0))
        results.flush()


if __name__ == "__main__":
    try:
        serve(sys.stdin.buffer, sys.stdout.buffer)
    except BrokenPipeError:
        sys.stderr.close()  # the party's process is gone, so nobody would read this
