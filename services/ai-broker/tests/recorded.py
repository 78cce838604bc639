"""A server that answers with recorded bytes and keeps what was sent to get them."""

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from ai_broker.adapters.vendors.client import VendorClient
from ai_broker.adapters.vendors.direct import DirectTransport
from ai_broker.adapters.vendors.sdk import SdkTransport
from ai_broker.adapters.vendors.transport import Patience
from ai_broker.domain.catalogue import Candidate, Endpoint, Protocol, VendorEntry
from ai_broker.domain.vendor import Prepared, VendorEvent
from contracts.completions import CompletionRequest

TRANSPORTS = {"direct": DirectTransport, "sdk": SdkTransport}
PATIENCE = Patience(2.0, 2.0)


@dataclass
class Recorder:
    """Answers everything with the same pieces and keeps what was sent."""

    url: str = ""
    pieces: Sequence[bytes] = ()
    status: int = 200
    replied: dict[str, str] = field(default_factory=dict[str, str])
    # Any: a request body is JSON.
    body: dict[str, Any] = field(default_factory=dict[str, Any])
    headers: dict[str, str] = field(default_factory=dict[str, str])
    path: str = ""
    peers: set[object] = field(default_factory=set[object])
    asked: int = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        self.body = await request.json() if request.can_read_body else {}
        self.headers = {name.lower(): value for name, value in request.headers.items()}
        self.path = request.path_qs
        assert request.transport is not None
        self.peers.add(request.transport.get_extra_info("peername"))
        headers = {"content-type": "text/event-stream", **self.replied}
        reply = web.StreamResponse(status=self.status, headers=headers)
        await reply.prepare(request)
        for piece in self.pieces:
            await reply.write(piece)
        await reply.write_eof()
        return reply


@asynccontextmanager
async def recording() -> AsyncGenerator[Recorder]:
    """Serve recorded replies on a free port."""
    recorder = Recorder()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", recorder.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    recorder.url = f"http://{host}:{port}"
    yield recorder
    await runner.cleanup()


def ask(**changes: object) -> CompletionRequest:
    """Give a request with these fields."""
    turns = [{"role": "user", "parts": [{"kind": "text", "text": "Hi"}]}]
    asked: dict[str, object] = {
        "completion_id": "c",
        "tenant": "acme",
        "model": "any",
        "turns": turns,
        "deadline": datetime(2026, 5, 1, tzinfo=UTC),
    }
    return CompletionRequest.model_validate(asked | changes)


def entry(protocol: Protocol, **changes: object) -> VendorEntry:
    """Give a vendor's entry with these fields."""
    written: dict[str, object] = {"name": "v", "protocol": protocol}
    return VendorEntry.model_validate(written | changes)


def client(vendor: VendorEntry, url: str, transport: str = "direct") -> VendorClient:
    """Give a vendor at an address, by a transport."""
    endpoint = Endpoint(vendor, url, "secret-key")
    return VendorClient(endpoint, TRANSPORTS[transport](endpoint, PATIENCE))


async def hear(
    recorder: Recorder,
    vendor: VendorEntry,
    transport: str,
    request: CompletionRequest | None = None,
) -> list[VendorEvent]:
    """Call once; return what was said after the headers."""
    made = client(vendor, recorder.url, transport)
    prepared = made.prepare(request or ask(), Candidate("v", "m", 99))
    try:
        said = [each async for each in made.complete(prepared.body, "attempt_7", 5.0)]
    finally:
        await made.close()
    return said[1:]


def chunks(*bodies: object, done: bool = True) -> list[bytes]:
    """Frame chunks as OpenAI does."""
    lines = [f"data: {json.dumps(each, ensure_ascii=False)}\n\n" for each in bodies]
    return [each.encode() for each in ([*lines, "data: [DONE]\n\n"] if done else lines)]


def events(*bodies: dict[str, Any]) -> list[bytes]:
    """Frame events as Anthropic does, with CRLF to be sure."""
    return [
        f"event: {each['type']}\r\ndata: {json.dumps(each)}\r\n\r\n".encode()
        for each in bodies
    ]


def prepare(
    protocol: Protocol,
    changes: dict[str, object],
    quirks: dict[str, object] | None = None,
    candidate: Candidate | None = None,
) -> Prepared:
    """Give a request in a vendor's own form."""
    vendor = entry(protocol, quirks=quirks or {}, models=[])
    made = client(vendor, "http://x.example")
    return made.prepare(ask(**changes), candidate or Candidate("v", "m", 99))


def body(
    protocol: Protocol, quirks: dict[str, object] | None = None, **changes: object
) -> dict[str, Any]:
    """Give the body that is sent."""
    prepared = prepare(protocol, changes, quirks)
    assert prepared.dropped == ()
    return prepared.body
