import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import numpy as np
import pytest
from support.certificates import Issuer, Unchecked

from vfl import messages as m
from vfl.configuration.federation import FederationConfig, TlsFiles
from vfl.ids import Address, CheckpointId, Role, StepKey
from vfl.transport.credentials import Credentials
from vfl.transport.inbox import Inbox
from vfl.transport.server import PartyServer
from vfl.transport.wire.limits import Limits

NAMES = {"bank": "active", "shop": "passive", "telco": "passive"}


class RecordingHandler:
    """Answers every control call; ``error`` is raised instead, ``delay`` is slept first."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.delay = 0.0
        self.calls: list[object] = []
        self.called = asyncio.Event()

    async def _record(self, call: object) -> None:
        self.calls.append(call)
        self.called.set()
        await asyncio.sleep(self.delay)
        if self.error is not None:
            raise self.error

    async def prepare(self, call: m.Prepare) -> m.Prepared:
        await self._record(call)
        return m.Prepared("bank", Role.ACTIVE, 10, 2)

    async def restore(self, call: m.Restore) -> m.Restored:
        await self._record(call)
        return m.Restored("bank")

    async def align(self, call: m.Align) -> m.Aligned:
        await self._record(call)
        return m.Aligned(10, 6, 2, 2, 4, True)

    async def begin(self, call: m.Begin) -> m.Begun:
        await self._record(call)
        return m.Begun("bank")

    async def run_phase(self, call: m.PhaseCall) -> m.PhaseReport:
        await self._record(call)
        return m.PhaseReport(0.25, 3, 4, {"loss": 0.5})

    async def score(self, call: m.Score) -> m.Scored:
        await self._record(call)
        return m.Scored({"auc": 0.75})

    async def checkpoint(self, call: m.Checkpoint) -> m.Checkpointed:
        await self._record(call)
        return m.Checkpointed(CheckpointId(call.key.step, call.key.attempt, "digest"))

    async def commit(self, call: m.Commit) -> m.Committed:
        await self._record(call)
        return m.Committed("bank")

    async def heartbeat(self, call: m.Heartbeat) -> m.Alive:
        await self._record(call)
        return m.Alive("bank", "top of step 3", 7, "shop", 1.5)

    async def release(self, call: m.Release) -> m.Released:
        await self._record(call)
        return m.Released("bank")

    async def abort(self, call: m.Abort) -> None:
        await self._record(call)

    async def finish(self, call: m.Finish) -> m.Finished:
        await self._record(call)
        return m.Finished("bank", 1, 2, 3, 0.5)


def make_federation(mode: str = "insecure-loopback") -> FederationConfig:
    parties = [
        {"name": name, "role": role, "endpoint": f"127.0.0.1:{5001 + at}"}
        for at, (name, role) in enumerate(NAMES.items())
    ]
    return FederationConfig.model_validate(
        {"name": "demo", "coordinator": "hub", "parties": parties, "tls": {"mode": mode}}
    )


def make_share(rows: int = 3, fill: int = 0, sender: str = "shop", **key: int) -> tuple[Address, m.ForwardShare]:
    step = StepKey("job-1", key.get("step", 0), key.get("attempt", 0))
    message = m.ForwardShare(np.arange(rows * 2, dtype=np.int64).reshape(rows, 2) + fill)
    return Address(step, "forward_share", sender), message


@pytest.fixture
def handler() -> RecordingHandler:
    return RecordingHandler()


@pytest.fixture
def federation() -> FederationConfig:
    return make_federation()


@pytest.fixture
def inbox() -> Inbox:
    opened = Inbox(Limits(steps_ahead=9))
    opened.open_job("job-1", 0, {"shop", "telco"})
    return opened


@pytest.fixture
def share() -> Callable[..., tuple[Address, m.ForwardShare]]:
    return make_share


@pytest.fixture
def serving(handler, inbox, federation):
    """Runs bank's server, without TLS unless told otherwise: ``async with serving() as server``."""

    @asynccontextmanager
    async def start(**changes) -> AsyncIterator[PartyServer]:
        options = {"listen": "127.0.0.1:0", "inbox": inbox, "credentials": None, "federation": federation}
        server = PartyServer("bank", handler=handler, **options | changes)
        await server.start()
        try:
            yield server
        finally:
            await server.stop(0)

    return start


@pytest.fixture
def mutual() -> FederationConfig:
    return make_federation("mutual")


@pytest.fixture(scope="module")
def issuer(tmp_path_factory) -> Issuer:
    return Issuer.make(tmp_path_factory.mktemp("issuer"))


@pytest.fixture(scope="module")
def certificates(issuer) -> dict[str, TlsFiles]:
    return {name: issuer.files(name) for name in ("hub", *NAMES)}


@pytest.fixture
def serving_tls(serving, mutual, certificates):
    """Runs bank's server with TLS; gives its endpoint: ``async with serving_tls() as endpoint``."""

    @asynccontextmanager
    async def start(files=certificates["bank"], federation=mutual, kind=Unchecked) -> AsyncIterator[str]:
        async with serving(credentials=kind(files, federation, "bank"), federation=federation) as server:
            yield f"127.0.0.1:{server.port}"

    return start


@pytest.fixture
def calling(mutual, certificates):
    """A caller's credentials, right or wrong: ``calling("hub")``."""

    def make(name: str, files: TlsFiles | None = None, federation: FederationConfig = mutual) -> Credentials:
        return Unchecked(files or certificates[name], federation, name)

    return make
