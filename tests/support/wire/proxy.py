"""Forwards TCP connections byte by byte, as a proxy that passes TLS through does; records, cuts or disturbs them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

_READ_BYTES = 1 << 16
_POLL_SECONDS = 0.02


@dataclass
class Line:
    """What a proxy's connections are like; may be changed at any time.

    Attributes:
        delay: seconds that everything is on its way, in each direction.
        bytes_per_second: in each direction of each connection; None for as many as there are.
        swallows_there: nothing gets to the target, as if every packet were lost.
        swallows_back: nothing comes back from it.
    """

    delay: float = 0.0
    bytes_per_second: float | None = None
    swallows_there: bool = False
    swallows_back: bool = False

    def swallow(self) -> None:
        """Become a black hole in both directions."""
        self.swallows_there = self.swallows_back = True

    def open(self) -> None:
        """Carry everything again; TCP has repeated what was lost, so it arrives now."""
        self.swallows_there = self.swallows_back = False


class Proxy:
    """Listens on one port of 127.0.0.1 and forwards to another, in a thread of its own.

    Args:
        cut_after: bytes toward the target after which a connection is cut, wherever a message is then: the first that
            has come so far, and no other.
        dies: then cut all other connections, too, and accept no more.

    Attributes:
        line: what the connections are like.
        recorded: what went through, each direction of each connection apart.
        cuts: how many connections were cut.
    """

    def __init__(self, port: int, target: int, cut_after: int | None = None, *, dies: bool = False) -> None:
        self.port = port
        self.line = Line()
        self._target = target
        self._cut_after = cut_after
        self._dies = dies
        self._refuses_for: float | None = None
        self._spoil: tuple[int, Callable[[bytes], bytes]] | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._forgotten: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self.recorded: list[bytearray] = []
        self.cuts = 0

    def __enter__(self) -> Self:
        self._thread.start()
        starting = asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    # --- disturbances, from any thread ---

    def reset_all(self) -> None:
        """Reset every connection that is open; others may be made at once."""
        self._soon(self._reset)

    def cut_for(self, seconds: float) -> None:
        """Reset every connection, and those that are made until so many seconds after the first of them."""

        def cut() -> None:
            self._refuses_for = seconds
            self._reset()

        self._soon(cut)

    def forget(self) -> None:
        """Carry nothing more on the connections that are open, as a firewall that has forgotten them; new ones work."""
        self._soon(lambda: self._forgotten.update(self._open))

    def spoil_next(self, spoil: Callable[[bytes], bytes], *, at_least: int = 1) -> None:
        """Change what passes to the target next, once, in a piece of so many bytes: flip bits, or leave some out."""
        self._spoil = (at_least, spoil)

    def _soon(self, act: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # the proxy has been closed
            self._loop.call_soon_threadsafe(act)

    def _reset(self) -> None:
        self.cuts += bool(self._open)
        for writer in tuple(self._open):
            writer.transport.abort()

    # --- forwarding ---

    async def _stop(self) -> None:
        self._close_all()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _close_all(self) -> None:
        self._server.close()
        for writer in self._open:
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refuses_for is not None:
            self._loop.call_later(self._refuses_for, setattr, self, "_refuses_for", None)
            writer.transport.abort()
            return
        try:
            there, toward = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()  # the target has not started yet, or is gone
            return
        both = {writer, toward}
        self._open |= both
        ways = self._forward(reader, toward, both, there=True), self._forward(there, writer, both)
        with contextlib.suppress(asyncio.CancelledError):  # the proxy is being closed
            await asyncio.gather(*ways)
        self._open -= both

    async def _forward(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        both: set[asyncio.StreamWriter],
        *,
        there: bool = False,
    ) -> None:
        record = bytearray()
        self.recorded.append(record)
        # What is on its way: the reader goes on while earlier content is delayed.
        on_its_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(64)
        arriving = asyncio.create_task(self._arrive(on_its_way, writer, there=there))
        try:
            while content := await reader.read(_READ_BYTES):
                record += content
                if there and self._cut_after is not None and len(record) > self._cut_after:
                    self._cut(both)
                    return
                if there and self._spoil is not None and len(content) >= self._spoil[0]:
                    (_, spoil), self._spoil = self._spoil, None
                    content = spoil(content)
                await on_its_way.put((time.monotonic() + self.line.delay, content))
            await on_its_way.put((time.monotonic() + self.line.delay, b""))
            await arriving
        except OSError:
            self._abort(both)
        finally:
            arriving.cancel()

    async def _arrive(
        self, on_its_way: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter, *, there: bool
    ) -> None:
        free = 0.0
        while True:
            due, content = await on_its_way.get()
            if self.line.bytes_per_second is not None:
                free = max(free, due) + len(content) / self.line.bytes_per_second
                due = free
            await asyncio.sleep(max(due - time.monotonic(), 0.0))
            while self._swallows(writer, there=there):  # noqa: ASYNC110  # lines are changed from other threads
                await asyncio.sleep(_POLL_SECONDS)
            if not content:
                writer.close()
                return
            try:
                writer.write(content)
                await writer.drain()
            except OSError:
                return  # it was cut; the reading side ends by itself

    def _swallows(self, writer: asyncio.StreamWriter, *, there: bool) -> bool:
        return writer in self._forgotten or (self.line.swallows_there if there else self.line.swallows_back)

    def _cut(self, both: set[asyncio.StreamWriter]) -> None:
        self.cuts += 1
        self._cut_after = None
        self._abort(both)
        if self._dies:
            self._close_all()

    def _abort(self, both: set[asyncio.StreamWriter]) -> None:
        for writer in both:
            writer.transport.abort()
