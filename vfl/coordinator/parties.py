"""Concurrent calls to all parties of a job."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from typing import Any, NoReturn, TypeVar

from vfl.errors import VflError
from vfl.runtime.background import give_up, start_awaited, together
from vfl.runtime.clock import loop_time
from vfl.transport.channels import ControlChannel

Reply = TypeVar("Reply")


class PartyClients:
    """A control connection to every party, in the order of the federation.

    Args:
        active: name of the active party.
    """

    def __init__(self, clients: Mapping[str, ControlChannel], active: str) -> None:
        self._clients = clients
        self._active = active
        self._asked: dict[str, float] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._clients)

    def __getitem__(self, name: str) -> ControlChannel:
        return self._clients[name]

    async def all(self, call: Callable[[ControlChannel], Awaitable[Reply]]) -> dict[str, Reply]:
        """Call all parties concurrently. The first failure is raised, and pending calls are cancelled."""
        return await self.each(lambda _, client: call(client))

    async def each(self, call: Callable[[str, ControlChannel], Awaitable[Reply]]) -> dict[str, Reply]:
        """Like ``all``, for calls that differ between parties."""
        replies = await together(*(self._ask(name, call) for name in self._clients))
        return dict(zip(self._clients, replies, strict=True))

    async def of_active(self, call: Callable[[ControlChannel], Awaitable[Reply]]) -> Reply:
        """Call the active party alone."""
        return await self._ask(self._active, lambda _, client: call(client))

    async def _ask(self, name: str, call: Callable[[str, ControlChannel], Awaitable[Reply]]) -> Reply:
        self._asked[name] = loop_time()
        try:
            return await call(name, self._clients[name])
        finally:
            self._asked.pop(name, None)

    def asked_since(self, name: str) -> float | None:
        """Time at which the call was made to which a party has not replied yet; None if there is none."""
        return self._asked.get(name)

    async def failures(self, call: Callable[[str, ControlChannel], Awaitable[object]]) -> list[VflError]:
        """Like ``each``, but wait for every call even if one fails; return the errors."""
        calls = (self._ask(name, call) for name in self._clients)
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
