"""Bodies on a real socket: too large, too slow, cut."""

import asyncio
from collections.abc import AsyncGenerator

import httpx
import pytest
from gateway_world import AS_ADMIN, ScriptedBus

from gateway.app import Composed
from gateway.entrypoints.middleware import LimitBody, Message, Scope
from telemetry.face import HttpServer

LIMIT = 262_144
CHUNK = b"10000\r\n" + b"x" * 65_536 + b"\r\n"


@pytest.fixture
async def server(gateway: Composed) -> AsyncGenerator[HttpServer]:
    """Return a listening gateway."""
    async with HttpServer(gateway.app, "127.0.0.1", 0) as opened:
        yield opened


def head(*lines: str) -> bytes:
    """Return the head of a request."""
    key = f"authorization: {AS_ADMIN['authorization']}"
    return "\r\n".join(
        ["POST /v1/tenants HTTP/1.1", "host: x", key, *lines, "", ""]
    ).encode()


async def answer_to(server: HttpServer, *parts: bytes) -> bytes:
    """Send parts and return everything up to the server's close."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        for part in parts:
            writer.write(part)
        async with asyncio.timeout(5):
            return await reader.read()
    finally:
        writer.close()


async def test_a_declared_ten_megabytes_are_not_waited_for(server: HttpServer) -> None:
    """413 on the head alone, and the connection is closed: nothing can follow."""
    answer = await answer_to(server, head("content-length: 10485760"))
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"application/problem+json" in answer
    assert b"connection: close" in answer.lower()


async def test_who_sends_all_of_it_still_reads_the_answer(server: HttpServer) -> None:
    """Unread bytes would reset the connection, and the reset overtake the answer."""
    body = b"x" * 10_485_760
    async with httpx.AsyncClient(base_url=server.url, headers=AS_ADMIN) as client:
        for _ in range(5):
            answer = await client.post("/v1/tenants", content=body)
            assert answer.status_code == 413


async def test_a_stream_is_refused_at_the_limit(server: HttpServer) -> None:
    """Without a declared length only the limit is ever held in memory."""
    parts = [head("transfer-encoding: chunked"), *[CHUNK] * 5]
    answer = await answer_to(server, *parts)
    assert answer.startswith(b"HTTP/1.1 413")


async def test_a_body_that_does_not_come_is_refused() -> None:
    """A caller that says nothing more holds its connection for a bounded time."""
    sent: list[Message] = []

    async def app(_scope: Scope, _receive: object, _send: object) -> None:
        raise AssertionError("the body is not whole")

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {"type": "http", "path": "/v1/tasks", "headers": []}
    await LimitBody(app, LIMIT, limit_s=0.01)(scope, receive, send)
    assert sent[0]["status"] == 408


async def test_half_a_body_is_no_body(bus: ScriptedBus) -> None:
    """A caller that is cut off halfway through a document applies no half of it."""
    parts: list[Message] = [
        {"type": "http.request", "body": b"kind: employee\n", "more_body": True},
        {"type": "http.disconnect"},
    ]
    called: list[bool] = []

    async def app(_scope: Scope, _receive: object, _send: object) -> None:
        called.append(True)

    async def receive() -> Message:
        return parts.pop(0)

    async def send(_message: Message) -> None:
        raise AssertionError("nobody is there to be answered")

    scope: Scope = {"type": "http", "path": "/v1/employees", "headers": []}
    await LimitBody(app, LIMIT)(scope, receive, send)
    assert called == []
