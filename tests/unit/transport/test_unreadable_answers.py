"""A party answers with bytes that are no message: gRPC hands out nothing then, and callers have to notice."""

from contextlib import asynccontextmanager

import grpc
import grpc.aio
import pytest

from vfl import messages as m
from vfl.errors import ProtocolError
from vfl.transport.client import ControlClient, PeerClient
from vfl.transport.diagnosis.call import ask_diagnosis

GARBAGE = b"\xff\xff\xff"


class _AnswersGarbage(grpc.GenericRpcHandler):
    def service(self, details):
        async def answer(_, __):
            return GARBAGE

        async def answer_stream(pieces, __):
            async for _ in pieces:
                pass
            return GARBAGE

        if details.method.endswith("Deliver"):
            return grpc.stream_unary_rpc_method_handler(answer_stream)
        return grpc.unary_unary_rpc_method_handler(answer)


@asynccontextmanager
async def _garbage_server():
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_AnswersGarbage(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


@pytest.mark.parametrize("call", ["finish", "abort", "wait_ready"])
async def test_a_control_reply(call):
    async with _garbage_server() as endpoint, ControlClient(endpoint, "bank", None) as hub:
        calls = {
            "finish": lambda: hub.finish(m.Finish("job@1", "job-1", 0)),
            "abort": lambda: hub.abort(m.Abort("job@1", "job-1", 0, "hub", "data", "no rows"), 5),
            "wait_ready": lambda: hub.wait_ready(5),
        }
        with pytest.raises(ProtocolError, match="bank sent an unreadable answer"):
            await calls[call]()


async def test_a_receipt(share):
    async with _garbage_server() as endpoint, PeerClient(endpoint, "bank", None) as shop:
        with pytest.raises(ProtocolError, match="bank sent an unreadable answer"):
            await shop.deliver(*share(), 5)


async def test_a_diagnosis(federation):
    async with _garbage_server() as endpoint:
        with pytest.raises(ProtocolError, match="bank sent an unreadable answer"):
            await ask_diagnosis(endpoint, "bank", None, m.Diagnose(probe_peers=False), federation, 5)
