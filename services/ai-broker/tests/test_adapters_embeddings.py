"""Embeddings over every transport: what is sent, and what may come back."""

import base64
import json
import struct
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from recorded import PATIENCE, TRANSPORTS

from ai_broker.adapters.vendors import openai_embeddings as protocol
from ai_broker.adapters.vendors.client import VendorClient
from ai_broker.adapters.vendors.embedding import OpenAIEmbedder, WithEmbeddings
from ai_broker.domain import embedding
from ai_broker.domain.catalogue import Candidate, Endpoint, Protocol, VendorEntry
from ai_broker.domain.vendor import (
    Done,
    FailureKind,
    Started,
    UsageSeen,
    Vectors,
    VendorError,
    VendorEvent,
)
from contracts.completions import FinishReason
from contracts.embeddings import EmbeddingRequest
from contracts.usage import TokenUsage
from faults import PermanentFault

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


def question(*inputs: str, **changes: object) -> embedding.EmbeddingQuestion:
    """Give a question for vectors."""
    asked: dict[str, object] = {
        "completion_id": "c-1",
        "tenant": "acme",
        "model": "m",
        "inputs": inputs,
        "deadline": datetime(2026, 5, 1, tzinfo=UTC),
    }
    return embedding.question_of(EmbeddingRequest.model_validate(asked | changes))


def answer_of(vectors: list[Any], **changes: object) -> bytes:
    """Write a vendor's answer."""
    data = [{"index": at, "embedding": vector} for at, vector in enumerate(vectors)]
    body: dict[str, object] = {
        "object": "list",
        "data": data,
        "model": "model-1-2026",
        "usage": {"prompt_tokens": 5, "total_tokens": 5},
    }
    return json.dumps(body | changes).encode()


def vectors_in(events: list[VendorEvent]) -> list[bytes]:
    """Give the vectors that events carry, by place."""
    found: dict[int, bytes] = {}
    for event in events:
        if isinstance(event, Vectors):
            found.update(enumerate(event.vectors, event.first))
    return [found[place] for place in sorted(found)]


@given(
    st.integers(1, 6).flatmap(
        lambda size: st.lists(
            st.lists(FLOATS, min_size=size, max_size=size), min_size=1, max_size=4
        )
    ),
    st.data(),
)
def test_base64_and_numbers_are_the_same_vectors(
    numbers: list[list[float]], data: st.DataObject
) -> None:
    """Some vendors send numbers where base64 was asked for; any order will do."""
    packed = [struct.pack(f"<{len(each)}f", *each) for each in numbers]
    encoded: list[Any] = [base64.b64encode(each).decode() for each in packed]
    written = [
        data.draw(st.sampled_from(pair)) for pair in zip(numbers, encoded, strict=True)
    ]
    body = json.loads(answer_of(written))
    body["data"] = data.draw(st.permutations(body["data"]))
    events = list(protocol.events_of(json.dumps(body).encode(), len(numbers)))
    assert vectors_in(events) == packed
    usage, *_, done = events
    assert isinstance(usage, UsageSeen)
    assert usage.usage == TokenUsage(input_tokens=5)
    assert done == Done(FinishReason.STOP, "model-1-2026")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"oops", "no list"),
        (b'{"data": 3}', "no list"),
        (answer_of([[1.0]]), "1 embeddings for 2 texts"),
        (answer_of([[1.0], [2.0], [3.0]]), "3 embeddings for 2 texts"),
        (answer_of([[1.0], [2.0, 3.0]]), "different lengths"),
        (answer_of([[], []]), "without numbers"),
        (answer_of([[0.5] * 16_385] * 2), "more than 16,384 dimensions"),
        (answer_of([[1e300], [1.0]]), "no float32"),
        (answer_of(["!!!", "AAAA"]), "not base64"),
        (answer_of(["AAAA", "AAAA"]), "no float32 array"),
        (
            answer_of([], data=[{"index": 0, "embedding": [1.0]}] * 2),
            "2 embeddings for 2 texts",
        ),
    ],
)
def test_what_is_no_list_of_vectors_is_not_taken(content: bytes, why: str) -> None:
    """A vector too few, too many, twice, ragged or unreadable spoils the answer."""
    with pytest.raises(protocol.Unreadable, match=why):
        list(protocol.events_of(content, 2))


@dataclass
class Server:
    """Answers every POST with the same reply and keeps what was sent."""

    url: str = ""
    reply: bytes = b""
    status: int = 200
    path: str = ""
    body: dict[str, Any] = field(default_factory=dict[str, Any])
    headers: dict[str, str] = field(default_factory=dict[str, str])

    async def answer(self, request: web.Request) -> web.Response:
        self.path, self.body = request.path, await request.json()
        self.headers = {name.lower(): value for name, value in request.headers.items()}
        headers = {"x-request-id": "req-1"}
        return web.Response(
            body=self.reply,
            status=self.status,
            headers=headers,
            content_type="application/json",
        )


@pytest.fixture
async def server() -> AsyncGenerator[Server]:
    """Serve on a free port."""
    found = Server()
    app = web.Application()
    app.router.add_post("/{path:.*}", found.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    found.url = f"http://{host}:{port}/v1"
    yield found
    await runner.cleanup()


def endpoint(server: Server, spoken: Protocol = Protocol.OPENAI) -> Endpoint:
    """Give the server as a vendor."""
    entry = VendorEntry(name="vendor", protocol=spoken, base_url="")
    return Endpoint(entry, server.url, "key-1")


async def test_texts_go_out_and_vectors_come_back(
    server: Server, transport: str
) -> None:
    """Over each transport: path, body, our attempt id, and every event in order."""
    at = endpoint(server)
    shared = TRANSPORTS[transport](at, PATIENCE)
    vendor = WithEmbeddings(VendorClient(at, shared), OpenAIEmbedder(at, shared))
    server.reply = answer_of([[1.0, 2.0], [3.0, 4.0]])
    asked = question("red", "blue", dimensions=2, user="ann")
    body = vendor.prepare(asked, Candidate("vendor", "model-1")).body
    events = [each async for each in vendor.embed(body, "attempt_1", 5.0)]
    assert server.path == "/v1/embeddings"
    assert server.body == {
        "model": "model-1",
        "input": ["red", "blue"],
        "encoding_format": "base64",
        "dimensions": 2,
        "user": "ann",
    }
    assert server.headers["x-client-request-id"] == "attempt_1"
    assert server.headers["authorization"] == "Bearer key-1"
    started = events[0]
    assert isinstance(started, Started)
    assert (started.http_status, started.request_id) == (200, "req-1")
    assert vectors_in(events) == [struct.pack("<2f", 1, 2), struct.pack("<2f", 3, 4)]
    assert isinstance(events[-1], Done)
    await vendor.close()


@pytest.mark.parametrize(
    ("status", "reply", "kind"),
    [
        (200, b"{", FailureKind.MALFORMED),
        (200, answer_of([[1.0]]), FailureKind.MALFORMED),
        (429, b'{"error": {"message": "slow", "code": "x"}}', FailureKind.REFUSED),
        (400, b"{}", FailureKind.REFUSED),
    ],
)
async def test_failures_are_the_vendor_s_own_kind(
    server: Server, transport: str, status: int, reply: bytes, kind: FailureKind
) -> None:
    """Each failure says what it may have cost, as those of conversations do."""
    shared = TRANSPORTS[transport](endpoint(server), PATIENCE)
    embedder = OpenAIEmbedder(endpoint(server), shared)
    server.status, server.reply = status, reply
    body = protocol.body_of(question("red", "blue"), "model-1")
    with pytest.raises(VendorError) as caught:
        async for _ in embedder.embed(body, "attempt_1", 5.0):
            pass
    assert caught.value.failure.kind is kind
    assert caught.value.failure.status == (None if status == 200 else status)
    await shared.close()


async def test_a_protocol_without_embeddings_says_so(server: Server) -> None:
    """Before anything is dispatched, with what to do."""
    at = endpoint(server, Protocol.ANTHROPIC)
    client = VendorClient(at, TRANSPORTS["direct"](at, PATIENCE))
    vendor = WithEmbeddings(client, None)
    with pytest.raises(PermanentFault, match="embeddings: vendor cannot do this"):
        vendor.prepare(question("red"), Candidate("vendor", "claude"))
    await vendor.close()
