"""Forwards TCP connections byte by byte, as a proxy that passes TLS through does, and records or cuts them."""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType
from typing import Self

_READ_BYTES = 1 << 16


class Proxy:
    """Listens on one port of 127.0.0.1 and forwards to another, in a thread of its own.

    Args:
        cut_after: bytes towards the target after which a connection is cut, wherever a message is then.
        dies: then cut all other connections, too, and accept no more.

    Attributes:
        recorded: what went through, each direction of each connection apart.
        cuts: how many connections were cut.
    """

    def __init__(self, port: int, target: int, cut_after: int | None = None, *, dies: bool = False) -> None:
        self._port = port
        self._target = target
        self._cut_after = cut_after
        self._dies = dies
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")
        self.recorded: list[bytearray] = []
        self.cuts = 0

    def __enter__(self) -> Self:
        self._thread.start()
        starting = asyncio.start_server(self._accept, "127.0.0.1", self._port)
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _stop(self) -> None:
        self._close_all()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others, return_exceptions=True)

    def _close_all(self) -> None:
        self._server.close()
        for writer in self._open:
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, towards = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()  # the target has not started yet, or is gone
            return
        both = {writer, towards}
        self._open |= both
        await asyncio.gather(self._forward(reader, towards, both, self._cut_after), self._forward(there, writer, both))
        self._open -= both

    async def _forward(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        both: set[asyncio.StreamWriter],
        cut_after: int | None = None,
    ) -> None:
        record = bytearray()
        self.recorded.append(record)
        try:
            while content := await reader.read(_READ_BYTES):
                record += content
                if cut_after is not None and len(record) > cut_after:
                    self._cut(both)
                    return
                writer.write(content)
                await writer.drain()
            writer.close()
        except OSError:
            self._abort(both)

    def _cut(self, both: set[asyncio.StreamWriter]) -> None:
        self.cuts += 1
        self._abort(both)
        if self._dies:
            self._close_all()

    def _abort(self, both: set[asyncio.StreamWriter]) -> None:
        for writer in both:
            writer.transport.abort()
