"""Both official SDKs against the real sandbox vendor: content, faults, both ledgers."""

import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest

from ai_broker.adapters.vendors.anthropic import AnthropicVendor
from ai_broker.adapters.vendors.openai import OpenAIVendor
from ai_broker.adapters.vendors.sdk import Patience
from ai_broker.domain import settlement
from ai_broker.domain.catalogue import Candidate, Endpoint, Protocol, VendorEntry
from ai_broker.domain.settlement import Heard
from ai_broker.domain.vendor import (
    Declined,
    Done,
    Failure,
    FailureKind,
    Reasoning,
    Started,
    Text,
    ToolCallPiece,
    UsageSeen,
    Vectors,
    VendorError,
)
from ai_broker.ports import Vendor
from contracts.completions import (
    ChatTurn,
    CompletionRequest,
    FinishReason,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from contracts.usage import UsageSource
from determinism import SystemIds

OBJECT: dict[str, object] = {"type": "object", "additionalProperties": False}
SCHEMA = OBJECT | {
    "properties": {"invoice_number": {"type": "string"}, "total": {"type": "number"}},
    "required": ["invoice_number", "total"],
}
WEATHER = OBJECT | {"properties": {"city": {"type": "string"}}, "required": ["city"]}
QUESTION = "Please tell me about invoice number 4711, total 120.00 EUR."


@dataclass
class Side:
    """One protocol: its vendor, a model, and what one call said."""

    vendor: Vendor
    candidate: Candidate
    heard: Heard = field(default_factory=Heard)
    done: Done | None = None
    attempt_id: str = ""

    async def call(self, request: CompletionRequest) -> None:
        self.heard, self.done = Heard(), None
        self.attempt_id = SystemIds().new("attempt")
        body = self.vendor.prepare(request, self.candidate).body
        async for event in self.vendor.complete(body, self.attempt_id, 20.0):
            match event:
                case Started():
                    self.heard.started = event
                case UsageSeen():
                    self.heard.usage = event
                case Done():
                    self.done = event
                case Text() | Reasoning() | ToolCallPiece() | Declined():
                    self.heard.answer.add(event)
                case Vectors():
                    raise AssertionError("nobody asked for vectors")

    async def fail(self, request: CompletionRequest) -> Failure:
        try:
            await self.call(request)
        except VendorError as error:
            return error.failure
        assert self.done is None, "a spoiled call must not come to a proper end"
        return Failure(FailureKind.CUT, "it just stopped")


@pytest.fixture(params=["openai", "anthropic"])
async def side(
    request: pytest.FixtureRequest, sandbox_process: str
) -> AsyncGenerator[Side]:
    """Give a vendor of each protocol."""
    patience = Patience(connect_s=2.0, idle_s=0.5)
    protocol = Protocol(request.param)
    entry = VendorEntry(name=f"sandbox-{protocol}", protocol=protocol, base_url="")
    if protocol is Protocol.OPENAI:
        endpoint = Endpoint(entry, f"{sandbox_process}/v1", "any")
        made = Side(
            OpenAIVendor(endpoint, patience), Candidate(entry.name, "sandbox-small")
        )
    else:
        endpoint = Endpoint(entry, sandbox_process, "any")
        made = Side(
            AnthropicVendor(endpoint, patience), Candidate(entry.name, "sandbox-claude")
        )
    yield made
    await made.vendor.close()


def ask(text: str = QUESTION, **changes: object) -> CompletionRequest:
    """Give a request with these fields."""
    asked: dict[str, object] = {
        "completion_id": "c",
        "tenant": "acme",
        "model": "any",
        "turns": (ChatTurn(role=Role.USER, parts=(TextPart(text=text),)),),
        "deadline": datetime.now(UTC) + timedelta(seconds=30),  # noqa: TID251
    }
    return CompletionRequest.model_validate(asked | changes)


# Any: the sandbox's rows are JSON.
async def row_of(sandbox: aiohttp.ClientSession, attempt_id: str) -> dict[str, Any]:
    """Wait until the sandbox has booked an attempt."""
    for _ in range(200):
        async with sandbox.get("/sandbox/ledger") as reply:
            rows: list[dict[str, Any]] = (await reply.json())["rows"]
        for row in rows:
            if row["client_request_id"] == attempt_id:
                return row
    raise TimeoutError(f"the sandbox never booked {attempt_id}")


async def spoil(sandbox: aiohttp.ClientSession, fault: str, **more: int) -> None:
    """Let the next call meet a fault."""
    rules = [{"fault": fault, "count": 1, **more}]
    async with sandbox.put("/sandbox/faults", json=rules) as reply:
        assert reply.status == 200, await reply.text()


async def test_text_streams_and_both_ledgers_agree(
    side: Side, sandbox: aiohttp.ClientSession
) -> None:
    """What the vendor booked under our attempt id is what we settle."""
    request = ask(turns=[
        ChatTurn(role=Role.SYSTEM, parts=(TextPart(text="You are brief."),)),
        ChatTurn(role=Role.USER, parts=(TextPart(text=QUESTION),)),
    ])  # fmt: skip
    await side.call(request)
    assert side.done is not None
    assert side.done.finish_reason is FinishReason.STOP
    assert side.done.model == side.candidate.model
    (part,) = side.heard.answer.parts()
    assert isinstance(part, TextPart)
    assert part.text
    settled = settlement.completed(request, side.heard, side.done)
    row = await row_of(sandbox, side.attempt_id)
    assert settled.source is UsageSource.VENDOR
    usage = settled.usage
    assert usage.input_tokens + usage.cache_read_tokens == row["input_tokens"]
    assert usage.output_tokens + usage.reasoning_tokens == row["output_tokens"]
    assert usage.reasoning_tokens == row["reasoning_tokens"]
    assert settled.vendor_request_id == row["request_id"]
    assert settled.raw_usage
    assert settled.http_status == 200
    assert side.heard.started is not None
    assert any("ratelimit" in name for name in side.heard.started.headers)


async def test_tools_go_both_ways(side: Side, sandbox: aiohttp.ClientSession) -> None:
    """A call comes with its id and arguments; its result goes back, failed or not."""
    tools = [{
        "name": "get_weather", "description": "Weather of a city", "parameters": WEATHER
    }]  # fmt: skip
    choice = {"mode": "named", "name": "get_weather", "parallel": False}
    await side.call(ask("Weather in Oslo?", tools=tools, tool_choice=choice))
    assert side.done is not None
    assert side.done.finish_reason is FinishReason.TOOL_CALLS
    calls = [
        each for each in side.heard.answer.parts() if isinstance(each, ToolCallPart)
    ]
    (call,) = calls
    assert call.call_id
    assert call.name == "get_weather"
    assert set(json.loads(call.arguments)) == {"city"}
    result = ToolResultPart(
        call_id=call.call_id, content=(TextPart(text="no station"),), is_error=True
    )
    turns = [
        ChatTurn(role=Role.USER, parts=(TextPart(text="Weather in Oslo?"),)),
        ChatTurn(role=Role.ASSISTANT, parts=side.heard.answer.parts()),
        ChatTurn(role=Role.TOOL, parts=(result,)),
        ChatTurn(role=Role.USER, parts=(TextPart(text="And now?"),)),
    ]
    await side.call(ask(turns=turns, tools=tools, tool_choice={"mode": "none"}))
    assert side.done.finish_reason is FinishReason.STOP
    await row_of(sandbox, side.attempt_id)


async def test_structured_output_has_the_asked_shape(
    side: Side, sandbox: aiohttp.ClientSession
) -> None:
    """The schema reaches the vendor, and its answer fits it."""
    schema = {"name": "invoice", "json_schema": SCHEMA}
    await side.call(ask(output_schema=schema))
    (part,) = side.heard.answer.parts()
    assert isinstance(part, TextPart)
    assert set(json.loads(part.text)) == {"invoice_number", "total"}


async def test_a_limit_ends_the_answer(
    side: Side, sandbox: aiohttp.ClientSession
) -> None:
    """The limit reaches the vendor, and its reason comes back as ours."""
    await side.call(ask(output_tokens_max=3))
    assert side.done is not None
    assert side.done.finish_reason is FinishReason.LENGTH


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("cut", FailureKind.CUT),
        ("stall", FailureKind.SILENT),
        ("bad_json", FailureKind.MALFORMED),
        ("stream_error", FailureKind.REPORTED),
    ],
)
async def test_a_spoiled_stream_is_never_clean(
    side: Side, sandbox: aiohttp.ClientSession, fault: str, kind: FailureKind
) -> None:
    """Whatever spoils an answer is told apart, and its cost is estimated."""
    await spoil(sandbox, fault, after_events=3)
    request = ask()
    failure = await side.fail(request)
    assert failure.kind is kind
    settled = settlement.failed(request, side.heard, failure)
    assert settled.source is UsageSource.ESTIMATED
    assert settled.usage.input_tokens > 0
    assert settled.usage.output_tokens > 0
    await row_of(sandbox, side.attempt_id)


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ("rate_limited_429", 429),
        ("overloaded_529", 529),
        ("error_500", 500),
        ("unavailable_503", 503),
    ],
)
async def test_a_refusal_costs_nothing(
    side: Side, sandbox: aiohttp.ClientSession, fault: str, status: int
) -> None:
    """An error status consumed nothing; its headers tell when to come again."""
    await spoil(sandbox, fault)
    request = ask()
    failure = await side.fail(request)
    assert failure.kind is FailureKind.REFUSED
    assert failure.code
    if status == 429:
        assert failure.headers["retry-after-ms"] == "1000"
    settled = settlement.failed(request, side.heard, failure)
    assert settled.usage.total == 0
    assert settled.source is UsageSource.VENDOR
    row = await row_of(sandbox, side.attempt_id)
    assert row["status"] == failure.status == settled.http_status
    assert (row["input_tokens"], row["output_tokens"]) == (0, 0)


async def test_silence_before_the_answer_is_told_from_a_refused_connection(
    side: Side, sandbox: aiohttp.ClientSession
) -> None:
    """A vendor that never begins may bill; one that was not reached cannot."""
    await spoil(sandbox, "timeout")
    failure = await side.fail(ask())
    assert failure.kind is FailureKind.SILENT
    assert side.heard.started is None
    entry = VendorEntry(
        name="gone", protocol=Protocol.OPENAI, base_url="http://127.0.0.1:9/v1"
    )
    endpoint = Endpoint(entry, entry.base_url, "any")
    gone = Side(OpenAIVendor(endpoint, Patience()), side.candidate)
    failure = await gone.fail(ask())
    await gone.vendor.close()
    assert failure.kind is FailureKind.UNREACHED
    settled = settlement.failed(ask(), gone.heard, failure)
    assert settled.usage.total == 0
    assert settled.source is UsageSource.ESTIMATED


async def test_an_unknown_model_is_the_vendors_word(side: Side) -> None:
    """The vendor's own error code comes through."""
    side.candidate = Candidate(side.candidate.vendor, "no-such-model")
    failure = await side.fail(ask())
    assert failure.kind is FailureKind.REFUSED
    assert failure.status == 404
    assert "no-such-model" in failure.message
