"""Recorded vendor replies through the official SDKs, and what is sent to get them."""

import base64
import json
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from ai_broker.adapters.vendors import sse
from ai_broker.adapters.vendors.anthropic import AnthropicVendor
from ai_broker.adapters.vendors.openai import OpenAIVendor, usage_of
from ai_broker.adapters.vendors.sdk import Patience
from ai_broker.domain.catalogue import Candidate, Endpoint, Protocol, VendorEntry
from ai_broker.domain.vendor import (
    Declined,
    Done,
    Reasoning,
    Text,
    ToolCallPiece,
    UsageSeen,
    VendorError,
    VendorEvent,
)
from ai_broker.ports import Vendor
from contracts.completions import CompletionRequest, FinishReason
from contracts.message import JsonObject
from contracts.usage import TokenUsage
from faults import PermanentFault

PIXEL = base64.b64encode(b"png").decode()
EVERYTHING: list[dict[str, Any]] = [
    {"role": "system", "parts": [{"kind": "text", "text": "Brief.", "cache": "1h"}]},
    {
        "role": "user",
        "parts": [
            {"kind": "text", "text": "Look"},
            {"kind": "image", "media_type": "image/png", "data": PIXEL},
        ],
    },
    {
        "role": "assistant",
        "parts": [
            {"kind": "tool-call", "call_id": "c1", "name": "f", "arguments": "{}"},
            {"kind": "tool-call", "call_id": "c2", "name": "f", "arguments": "oops"},
        ],
    },
    {
        "role": "tool",
        "parts": [
            {"kind": "tool-result", "call_id": "c1", "content": []},
            {
                "kind": "tool-result",
                "call_id": "c2",
                "content": [{"kind": "text", "text": "bad JSON"}],
                "is_error": True,
            },
        ],
    },
]


@dataclass
class Recorder:
    """Answers every POST with the same bytes and keeps what was sent."""

    url: str = ""
    reply: bytes = b""
    # Any: a request body is JSON.
    body: dict[str, Any] = field(default_factory=dict[str, Any])
    headers: dict[str, str] = field(default_factory=dict[str, str])

    async def answer(self, request: web.Request) -> web.Response:
        self.body = await request.json()
        self.headers = {name.lower(): value for name, value in request.headers.items()}
        return web.Response(body=self.reply, content_type="text/event-stream")


@pytest.fixture
async def recorder() -> AsyncGenerator[Recorder]:
    """Serve recorded replies on a free port."""
    recorder = Recorder()
    app = web.Application()
    app.router.add_post("/{path:.*}", recorder.answer)
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


def vendor(protocol: Protocol, url: str) -> Vendor:
    """Give a vendor at an address."""
    entry = VendorEntry(name="v", protocol=protocol, base_url=url)
    kind = OpenAIVendor if protocol is Protocol.OPENAI else AnthropicVendor
    return kind(Endpoint(entry, url, "key"), Patience(2.0, 2.0))


async def hear(
    recorder: Recorder, protocol: Protocol, request: CompletionRequest
) -> list[VendorEvent]:
    """Call once; return what was said after the headers."""
    made = vendor(protocol, recorder.url)
    body = made.prepare(request, Candidate("v", "m", 99)).body
    try:
        said = [event async for event in made.complete(body, "attempt_7", 5.0)]
    finally:
        await made.close()
    return said[1:]


def chunks(*bodies: object, done: bool = True) -> bytes:
    """Frame chunks as OpenAI does."""
    lines = [f"data: {json.dumps(each, ensure_ascii=False)}\n\n" for each in bodies]
    return "".join([*lines, "data: [DONE]\n\n"] if done else lines).encode()


def events(*bodies: dict[str, Any]) -> bytes:
    """Frame events as Anthropic does, with CRLF to be sure."""
    return "".join(
        f"event: {each['type']}\r\ndata: {json.dumps(each)}\r\n\r\n" for each in bodies
    ).encode()


async def test_openai_reads_parallel_calls_reasoning_and_odd_chunks(
    recorder: Recorder,
) -> None:
    """Pieces of parallel calls are told apart; null choices and U+2028 are read."""
    call: dict[str, Any] = {"index": 0, "id": "a", "function": {"name": "f"}}
    other: dict[str, Any] = {"index": 1, "id": "b", "function": {"name": "g"}}
    more: dict[str, Any] = {"index": 0, "function": {"arguments": "{}"}}
    usage: JsonObject = {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "prompt_tokens_details": {"cached_tokens": 30, "audio_tokens": None},
        "completion_tokens_details": {"reasoning_tokens": 20},
    }
    recorder.reply = chunks(
        {"model": "m-1", "choices": [{"delta": {"reasoning_content": "hm"}}]},
        {"choices": [{"delta": {"content": "a\u2028b"}}], "usage": None},
        {"choices": [{"delta": {"tool_calls": [call, other]}}]},
        {"choices": [{"delta": {"tool_calls": [more]}, "finish_reason": "tool_calls"}]},
        {"choices": None, "usage": usage, "service_tier": "flex"},
    )
    said = await hear(recorder, Protocol.OPENAI, ask())
    counted = TokenUsage(
        input_tokens=70, cache_read_tokens=30, output_tokens=30, reasoning_tokens=20
    )
    assert said == [
        Reasoning(0, "hm"),
        Text(1, "a\u2028b"),
        ToolCallPiece(2, "a", "f"),
        ToolCallPiece(3, "b", "g"),
        ToolCallPiece(2, arguments="{}"),
        UsageSeen(counted, usage, final=True),
        Done(FinishReason.TOOL_CALLS, "m-1", "flex"),
    ]
    assert recorder.headers["x-client-request-id"] == "attempt_7"
    assert recorder.body["stream"] is True
    assert recorder.body["stream_options"] == {"include_usage": True}


async def test_openai_without_an_end_marker_is_no_end(recorder: Recorder) -> None:
    """Neither a missing [DONE] nor a missing reason to stop ends an answer."""
    stop = {"choices": [{"delta": {"content": "x"}, "finish_reason": "stop"}]}
    recorder.reply = chunks(stop, done=False)
    assert await hear(recorder, Protocol.OPENAI, ask()) == [Text(0, "x")]
    recorder.reply = chunks({"choices": [{"delta": {"content": "x"}}]})
    assert await hear(recorder, Protocol.OPENAI, ask()) == [Text(0, "x")]
    error = {"error": {"message": "boom", "type": "server_error"}}
    recorder.reply = chunks(error)
    with pytest.raises(VendorError, match="boom"):
        await hear(recorder, Protocol.OPENAI, ask())


async def test_openai_refusals_are_told(recorder: Recorder) -> None:
    """The vendor's words of refusal are a part of their own."""
    refusal = {"choices": [{"delta": {"refusal": "No."}, "finish_reason": "stop"}]}
    recorder.reply = chunks(refusal)
    said = await hear(recorder, Protocol.OPENAI, ask())
    assert said == [Declined(0, "No."), Done(FinishReason.REFUSAL, "")]


THINKING: tuple[dict[str, Any], ...] = (
    {
        "type": "message_start",
        "message": {
            "model": "m-1",
            "usage": {
                "input_tokens": 10,
                "cache_read_input_tokens": 5,
                "cache_creation_input_tokens": 8,
                "cache_creation": {"ephemeral_1h_input_tokens": 3},
                "output_tokens": 1,
                "service_tier": "priority",
            },
        },
    },
    {"type": "content_block_start", "index": 0,
     "content_block": {"type": "thinking", "thinking": "", "signature": ""}},
    {"type": "content_block_delta", "index": 0,
     "delta": {"type": "thinking_delta", "thinking": "hm"}},
    {"type": "content_block_delta", "index": 0,
     "delta": {"type": "signature_delta", "signature": "sig"}},
    {"type": "content_block_start", "index": 1,
     "content_block": {"type": "redacted_thinking", "data": "xx"}},
    {"type": "ping"},
    {"type": "content_block_start", "index": 2,
     "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_start", "index": 3,
     "content_block": {"type": "tool_use", "id": "t", "name": "f", "input": {}}},
    {"type": "content_block_stop", "index": 3},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"},
     "usage": {"output_tokens": 40, "output_tokens_details":
               {"thinking_tokens": 25}}},
    {"type": "message_stop"},
)  # fmt: skip


async def test_anthropic_reads_thinking_and_cumulative_usage(
    recorder: Recorder,
) -> None:
    """Signatures and sealed thinking survive; the last count of each kind holds."""
    recorder.reply = events(*THINKING)
    said = await hear(recorder, Protocol.ANTHROPIC, ask())
    pieces = [each for each in said if not isinstance(each, UsageSeen)]
    assert pieces == [
        Reasoning(0, "hm"),
        Reasoning(0, signature="sig"),
        Reasoning(1, redacted="xx"),
        ToolCallPiece(2, "t", "f"),
        ToolCallPiece(2, arguments="{}"),
        Done(FinishReason.TOOL_CALLS, "m-1", "priority"),
    ]
    last = [each for each in said if isinstance(each, UsageSeen)][-1]
    assert last.final
    assert last.usage == TokenUsage(
        input_tokens=10,
        cache_read_tokens=5,
        cache_write_5m_tokens=5,
        cache_write_1h_tokens=3,
        output_tokens=15,
        reasoning_tokens=25,
    )
    assert recorder.headers["x-client-request-id"] == "attempt_7"


async def test_openai_is_sent_everything(recorder: Recorder) -> None:
    """Tool results are messages of their own; images are data URLs."""
    recorder.reply = chunks()
    await hear(recorder, Protocol.OPENAI, ask(turns=EVERYTHING, stop=["END"]))
    system, user, assistant, one, two = recorder.body["messages"]
    assert system == {"role": "system", "content": "Brief."}
    assert user["content"][1]["image_url"]["url"] == f"data:image/png;base64,{PIXEL}"
    assert [each["function"]["arguments"] for each in assistant["tool_calls"]] == [
        "{}",
        "oops",
    ]
    assert one == {"role": "tool", "tool_call_id": "c1", "content": ""}
    assert [each["text"] for each in two["content"]] == ["The tool failed:", "bad JSON"]
    assert recorder.body["stop"] == ["END"]


async def test_anthropic_is_sent_everything(recorder: Recorder) -> None:
    """Cache marks, failures, sampling and the default limit reach the wire."""
    request = ask(
        turns=EVERYTHING,
        sampling={"temperature": 0.5, "top_k": 4},
        reasoning={"tokens_max": 2048, "effort": "low"},
        output_schema={"json_schema": {"type": "object"}},
        user="u-1",
    )
    await hear(recorder, Protocol.ANTHROPIC, request)
    body = recorder.body
    marked = {"type": "ephemeral", "ttl": "1h"}
    assert body["system"] == [
        {"type": "text", "text": "Brief.", "cache_control": marked}
    ]
    assert [each["role"] for each in body["messages"]] == ["user", "assistant", "user"]
    inputs = [each["input"] for each in body["messages"][1]["content"]]
    assert inputs == [{}, {"INVALID_JSON": "oops"}]
    assert body["messages"][2]["content"][1]["is_error"] is True
    assert (body["temperature"], body["top_k"]) == (0.5, 4)
    assert body["max_tokens"] == 99 + 2048
    assert body["thinking"] == {"type": "enabled", "budget_tokens": 2048}
    assert body["output_config"]["effort"] == "low"
    assert body["output_config"]["format"]["type"] == "json_schema"
    assert body["metadata"] == {"user_id": "u-1"}


SIGNED = {"kind": "reasoning", "text": "hm", "signature": "sig"}
PDF = {"kind": "document", "media_type": "application/pdf", "url": "https://x.example"}


@pytest.mark.parametrize(
    ("protocol", "changes", "named"),
    [
        (Protocol.OPENAI, {"sampling": {"top_k": 3}}, "sampling.top_k"),
        (Protocol.OPENAI, {"stop": ["a"] * 5}, "stop"),
        (Protocol.OPENAI, {"extra": {"magic": 1}}, "extra.magic"),
        (Protocol.OPENAI, {"reasoning": {"tokens_max": 9}}, "reasoning.tokens_max"),
        (
            Protocol.OPENAI,
            {"turns": [{"role": "user", "parts": [PDF]}]},
            "parts[0].url",
        ),
        (
            Protocol.OPENAI,
            {"turns": [{"role": "assistant", "parts": [SIGNED]}]},
            "turns[0].parts[0]",
        ),
        (Protocol.ANTHROPIC, {"sampling": {"seed": 3}}, "sampling.seed"),
        (Protocol.ANTHROPIC, {"sampling": {"temperature": 2}}, "sampling.temperature"),
        (Protocol.ANTHROPIC, {"service_tier": "flex"}, "service_tier"),
        (
            Protocol.ANTHROPIC,
            {"turns": [{"role": "user", "parts": [{**SIGNED, "signature": None}]}]},
            "turns[0].parts[0]",
        ),
        (
            Protocol.ANTHROPIC,
            {"reasoning": {"tokens_max": 50}, "output_tokens_max": 50},
            "reasoning.tokens_max",
        ),
    ],
)
def test_what_a_protocol_cannot_do_is_named(
    protocol: Protocol, changes: dict[str, object], named: str
) -> None:
    """No field is dropped in silence."""
    with pytest.raises(PermanentFault) as refused:
        vendor(protocol, "http://x.example").prepare(
            ask(**changes), Candidate("v", "m")
        )
    assert named in refused.value.detail


@given(
    st.fixed_dictionaries(
        {
            "prompt_tokens": st.integers(0, 1000),
            "completion_tokens": st.integers(0, 1000),
            "prompt_tokens_details": st.fixed_dictionaries(
                {
                    "cached_tokens": st.integers(0, 2000),
                    "cache_write_tokens": st.none() | st.integers(0, 2000),
                    "audio_tokens": st.none() | st.integers(0, 2000),
                }
            ),
        }
    )
)
def test_openai_counts_are_a_partition(raw: dict[str, Any]) -> None:
    """However the details lie, the parts add up to what is billed."""
    assert usage_of(raw).total == raw["prompt_tokens"] + raw["completion_tokens"]


@given(st.data())
async def test_events_do_not_depend_on_how_bytes_arrive(data: st.DataObject) -> None:
    """Any cut of the bytes gives the same events; an unfinished one is none."""
    ending = data.draw(st.sampled_from(["\n", "\r\n", "\r"]))
    text = ["event: a", "data: one\u2028two\x85", ":hi", "data: 3", "", "data: x"]
    stream = ending.join([*text, "", "", "data: lost"]).encode()
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream)))))

    async def pieces() -> AsyncIterator[bytes]:
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            yield stream[start:end]

    assert [each async for each in sse.events(pieces())] == [
        sse.ServerEvent("a", "one\u2028two\x85\n3".encode()),
        sse.ServerEvent("", b"x"),
    ]
