"""Every transport and protocol against the real sandbox vendor: content both ways."""

import json

import aiohttp
from recorded import TRANSPORTS
from sides import PATIENCE, QUESTION, Side, ask, row_of, spoil

from ai_broker.adapters.vendors.client import VendorClient
from ai_broker.domain import settlement
from ai_broker.domain.catalogue import Candidate, Endpoint, Protocol, VendorEntry
from ai_broker.domain.vendor import FailureKind
from contracts.completions import (
    ChatTurn,
    FinishReason,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from contracts.usage import UsageSource

OBJECT: dict[str, object] = {"type": "object", "additionalProperties": False}
SCHEMA = OBJECT | {
    "properties": {"invoice_number": {"type": "string"}, "total": {"type": "number"}},
    "required": ["invoice_number", "total"],
}
WEATHER = OBJECT | {"properties": {"city": {"type": "string"}}, "required": ["city"]}


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


async def test_silence_before_the_answer_is_told_from_a_refused_connection(
    side: Side, sandbox: aiohttp.ClientSession, transport: str
) -> None:
    """A vendor that never begins may bill; one that was not reached cannot."""
    await spoil(sandbox, "timeout")
    failure = await side.fail(ask())
    assert failure.kind is FailureKind.SILENT
    assert side.heard.started is None
    entry = VendorEntry(name="gone", protocol=Protocol.OPENAI)
    endpoint = Endpoint(entry, "http://127.0.0.1:9/v1", "any")
    vendor = VendorClient(endpoint, TRANSPORTS[transport](endpoint, PATIENCE))
    gone = Side(vendor, side.candidate)
    failure = await gone.fail(ask())
    await vendor.close()
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
