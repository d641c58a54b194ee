"""Concurrent calls to all parties of a job."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from typing import Any, NoReturn, TypeVar

from vfl.errors import VflError
from vfl.runtime.background import give_up, start_awaited, together
from vfl.transport.channels import ControlChannel

Reply = TypeVar("Reply")


class PartyClients:
    """A control connection to every party, in the order of the federation.

    Args:
        active: name of the active party.
    """

    def __init__(self, clients: Mapping[str, ControlChannel], active: str) -> None:
        self._clients = clients
        self.active = clients[active]

    def __iter__(self) -> Iterator[str]:
        return iter(self._clients)

    def __getitem__(self, name: str) -> ControlChannel:
        return self._clients[name]

    async def all(self, call: Callable[[ControlChannel], Awaitable[Reply]]) -> dict[str, Reply]:
        """Call all parties concurrently. The first failure is raised, and pending calls are cancelled."""
        return await self.each(lambda _, client: call(client))

    async def each(self, call: Callable[[str, ControlChannel], Awaitable[Reply]]) -> dict[str, Reply]:
        """Like ``all``, for calls that differ between parties."""
        replies = await together(*(call(name, client) for name, client in self._clients.items()))
        return dict(zip(self._clients, replies, strict=True))

    async def failures(self, call: Callable[[str, ControlChannel], Awaitable[object]]) -> list[VflError]:
        """Like ``each``, but wait for every call even if one fails; return the errors."""
        calls = (call(name, client) for name, client in self._clients.items())
        results = await asyncio.gather(*calls, return_exceptions=True)
        errors = []
        for result in results:
            if isinstance(result, VflError):
                errors.append(result)
            elif isinstance(result, BaseException):
                raise result
        return errors


async def watched(work: Coroutine[Any, Any, Reply], watch: Coroutine[Any, Any, NoReturn]) -> Reply:
    """The result of ``work``, unless ``watch`` raises first."""
    tasks = start_awaited(work), start_awaited(watch)
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return tasks[0].result() if tasks[0] in done else tasks[1].result()
    finally:
        await give_up(*tasks)
