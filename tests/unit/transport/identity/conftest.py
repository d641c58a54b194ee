import pytest
from support.fixtures.servers import *  # noqa: F403

from vfl.transport.server.gate import Gate


@pytest.fixture
def heard(monkeypatch) -> list[str]:
    """The methods of all calls that reach a server of this process, in order."""
    methods: list[str] = []
    intercept = Gate.intercept_service

    async def listening(gate, continuation, details):
        methods.append(details.method)
        return await intercept(gate, continuation, details)

    monkeypatch.setattr(Gate, "intercept_service", listening)
    return methods
