"""Connections that openssl makes: a client that is not ours."""

from __future__ import annotations

import asyncio
import subprocess

STAYS_OPEN_SECONDS = 2.0
"""A connection that is open for so long was accepted."""

REFUSED_SECONDS = 30.0
"""What a busy machine may need to start openssl and to refuse it."""


async def s_client(endpoint: str, *options: object, seconds: float) -> tuple[bool, str]:
    """Whether the server talks HTTP/2 after the handshake and goes on doing so, and what openssl prints."""
    process = await asyncio.create_subprocess_exec(
        "openssl", "s_client", "-connect", endpoint, "-alpn", "h2", "-ign_eof", *map(str, options),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    reading = asyncio.ensure_future(process.stdout.read())
    await asyncio.wait([reading], timeout=seconds)  # a server that accepts keeps the connection open
    stays_open = not reading.done()
    if stays_open:
        process.kill()
    output = await reading
    await process.wait()
    return stays_open, output.decode(errors="replace")
