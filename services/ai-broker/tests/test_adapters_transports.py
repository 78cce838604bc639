"""What every transport promises beside the protocol: a key's way, and bounds."""

import asyncio
import base64
import json
import logging
import socket
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded import (
    PATIENCE,
    Recorder,
    ask,
    chunks,
    client,
    entry,
    hear,
)

from ai_broker.adapters.vendors.client import ANSWER_BYTES_MAX
from ai_broker.adapters.vendors.direct import DirectTransport
from ai_broker.adapters.vendors.sse import EVENT_BYTES_MAX, EventReader, EventTooLarge
from ai_broker.domain.catalogue import Candidate, Endpoint, Protocol
from ai_broker.domain.vendor import Done, Failure, FailureKind, Text, VendorError

PROTOCOL = "_protocol"
"""There is no public way from a reply to its socket."""
OPENAI = entry(Protocol.OPENAI)
ANSWER = chunks(
    {"choices": [{"delta": {"content": "x"}, "finish_reason": "stop"}]},
)


@pytest.fixture(autouse=True)
def _answering(recorder: Recorder) -> None:
    recorder.pieces = ANSWER


def basic(user: str, password: str) -> str:
    """Give a login as a header carries it."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


async def fails(recorder: Recorder, transport: str) -> Failure:
    """Call once and give the failure."""
    with pytest.raises(VendorError) as raised:
        await hear(recorder, OPENAI, transport)
    return raised.value.failure


async def test_azure_wants_its_own_header_and_query(
    recorder: Recorder, transport: str
) -> None:
    """The key goes into the header that the catalogue names, and nowhere else."""
    azure = entry(
        Protocol.OPENAI,
        key_header="api-key",
        query={"api-version": "preview"},
        headers={"x-title": "ours"},
    )
    assert await hear(recorder, azure, transport)
    assert recorder.headers["api-key"] == "secret-key"
    assert "authorization" not in recorder.headers
    assert recorder.headers["x-title"] == "ours"
    assert recorder.path == "/chat/completions?api-version=preview"


async def test_a_redirect_is_refused_and_not_followed(
    recorder: Recorder, transport: str
) -> None:
    """A key goes only where the catalogue says."""
    recorder.status = 307
    recorder.replied = {"location": f"{recorder.url}/elsewhere"}
    failure = await fails(recorder, transport)
    assert failure.kind is FailureKind.REFUSED
    assert failure.status == 307
    assert "address" in failure.message
    assert recorder.asked == 1


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_key_is_not_quoted(
    recorder: Recorder,
    transport: str,
    status: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Vendors quote a part of the key; neither callers nor logs see even that."""
    caplog.set_level(logging.DEBUG)
    recorder.status = status
    said = {"error": {"message": "bad key secret-key", "code": "invalid_api_key"}}
    recorder.pieces = [json.dumps(said).encode()]
    failure = await fails(recorder, transport)
    assert failure.code == "invalid_api_key"
    assert "secret" not in failure.message
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ({"error": {"message": "slow", "code": "limit"}}, "limit", "slow"),
        ([{"error": {"message": "slow", "code": 429}}], "429", "slow"),
        ({"message": "slow", "type": "limit"}, "limit", "slow"),
        ({"error": "slow"}, None, "slow"),
        ({"detail": "slow"}, None, "slow"),
        (
            {"error": {"type": "t", "message": "slow", "details": {"error_code": "c"}}},
            "c",
            "slow",
        ),
    ],
)
async def test_every_vendors_way_to_word_a_refusal_is_read(
    recorder: Recorder, transport: str, body: object, code: str | None, message: str
) -> None:
    """The code decides on the retry, and the words reach the caller."""
    recorder.status, recorder.replied = 429, {"Retry-After": "7", "X-Request-Id": "r"}
    recorder.pieces = [json.dumps(body).encode()]
    failure = await fails(recorder, transport)
    assert (failure.status, failure.code) == (429, code)
    assert message in failure.message
    assert failure.headers["retry-after"] == "7"
    assert failure.request_id == "r"


async def test_a_page_is_no_reason_to_break(recorder: Recorder, transport: str) -> None:
    """A proxy's HTML is told, shortened."""
    recorder.status, recorder.pieces = 502, [b"<html>bad gateway</html>" * 100_000]
    failure = await fails(recorder, transport)
    assert (failure.kind, failure.status) == (FailureKind.REFUSED, 502)
    assert "bad gateway" in failure.message
    assert len(failure.message) < 1_000


async def test_an_endless_answer_is_stopped(recorder: Recorder, transport: str) -> None:
    """No vendor can fill the memory: neither by one event nor by many."""
    recorder.pieces = [b"data: " + b"x" * 65_536] * (EVENT_BYTES_MAX // 65_536 + 4)
    assert (await fails(recorder, transport)).kind is FailureKind.MALFORMED
    piece = b'data: {"unheard_of": "' + b"x" * 65_536 + b'"}\n\n'
    recorder.pieces = [piece] * (ANSWER_BYTES_MAX // 65_536 + 4)
    assert (await fails(recorder, transport)).kind is FailureKind.MALFORMED


async def test_one_connection_serves_many_calls(
    recorder: Recorder, transport: str
) -> None:
    """A whole answer leaves its connection for the next call."""
    made = client(OPENAI, recorder.url, transport)
    body = made.prepare(ask(), Candidate("v", "m")).body
    for _ in range(5):
        said = [each async for each in made.complete(body, "attempt_7", 5.0)]
        assert said[1] == Text(0, "x")
        assert isinstance(said[2], Done)
    await made.close()
    assert recorder.asked == 5
    assert len(recorder.peers) == 1


async def test_the_proxy_of_the_environment_carries_calls(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is given its own login and the whole address, and the vendor's key."""
    proxy = recorder.url.replace("http://", "http://clerk:sesame@")
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.setenv("no_proxy", "elsewhere.example")
    made = client(OPENAI, "http://vendor.example/v1")
    body = made.prepare(ask(), Candidate("v", "m")).body
    said = [each async for each in made.complete(body, "attempt_7", 5.0)]
    await made.close()
    assert said[1] == Text(0, "x")
    assert recorder.headers["host"] == "vendor.example"
    assert recorder.headers["proxy-authorization"] == basic("clerk", "sesame")
    assert recorder.headers["authorization"] == "Bearer secret-key"


async def test_a_tunnel_is_asked_for_without_the_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What goes to a proxy in the clear holds its own login, not the vendor's key."""
    heads: list[bytes] = []

    async def refuse(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    monkeypatch.setenv("https_proxy", f"http://clerk:sesame@127.0.0.1:{port}")
    made = client(OPENAI, "https://vendor.example/v1")
    body = made.prepare(ask(), Candidate("v", "m")).body
    with pytest.raises(VendorError) as raised:
        _ = [each async for each in made.complete(body, "attempt_7", 5.0)]
    await made.close()
    server.close()
    assert raised.value.failure.kind is FailureKind.UNREACHED
    assert heads[0].startswith(b"CONNECT vendor.example:443 ")
    assert basic("clerk", "sesame").encode() in heads[0]
    assert b"secret-key" not in heads[0]


async def test_no_proxy_means_none(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address that the environment takes out is called directly."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert await hear(recorder, OPENAI, "direct")


async def test_the_direct_transport_does_not_wait_to_send(recorder: Recorder) -> None:
    """Nagle's algorithm would hold a request back for 40 ms."""
    direct = DirectTransport(Endpoint(OPENAI, recorder.url, "k"), PATIENCE)
    async with direct.call({"model": "m"}, "attempt_7", 5.0) as reply:
        iterator: Any = reply.chunks  # aiohttp's own: the socket is behind it
        stream: aiohttp.StreamReader = iterator.read_func.__self__
        protocol: Any = getattr(stream, PROTOCOL)
        sock = protocol.transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    await direct.close()


@given(st.data())
async def test_events_do_not_depend_on_how_bytes_arrive(data: st.DataObject) -> None:
    """Any cut of the bytes gives the same events; an unfinished one is none."""
    ending = data.draw(st.sampled_from(["\n", "\r\n", "\r"]))
    text = ["event: a", "data: one\u2028two\x85", ":hi", "data: 3", "", "data:x", "id"]
    stream = ending.join([*text, "", "", "data: lost"]).encode()
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream)))))
    reader = EventReader()
    found: list[bytes] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += reader.feed(stream[start:end])
    assert found == ["one\u2028two\x85\n3".encode(), b"x"]


def test_one_event_is_bounded() -> None:
    """Lines that never end an event are held up to the bound, and no further."""
    reader = EventReader()
    line = b"data: " + b"x" * 1_000_000 + b"\n"
    for _ in range(EVENT_BYTES_MAX // 1_000_000):
        assert reader.feed(line) == []
    with pytest.raises(EventTooLarge):
        reader.feed(line)
