"""Anthropic's own SDK talks to the sandbox as to its vendor."""

import json
from typing import Final

import aiohttp
import anthropic
import pytest
from anthropic import AsyncAnthropic
from anthropic.types import (
    Message,
    MessageParam,
    OutputConfigParam,
    TextBlock,
    ToolParam,
    ToolResultBlockParam,
    ToolUseBlock,
    ToolUseBlockParam,
)

from sandbox.facts import evaluate

MODEL: Final = "sandbox-claude"
TOOLS: Final[list[ToolParam]] = [
    {
        "name": name,
        "description": f"The {name} tool",
        "input_schema": {
            "type": "object",
            "properties": {parameter: {"type": "string"}},
            "required": [parameter],
        },
    }
    for name, parameter in (("read_file", "path"), ("calculator", "expression"))
]
ANSWER: Final[OutputConfigParam] = {
    "format": {
        "type": "json_schema",
        "schema": {
            "type": "object",
            "properties": {
                "invoice_number": {"type": "string"},
                "calculated_total": {"type": "number"},
                "recommendation": {"type": "string", "enum": ["pay", "query"]},
            },
            "required": ["invoice_number", "calculated_total", "recommendation"],
            "additionalProperties": False,
        },
    }
}


def say(text: str) -> list[MessageParam]:
    """Make a conversation of one user message."""
    return [{"role": "user", "content": text}]


async def test_a_plain_answer_has_the_vendor_s_shape(
    anthropic_client: AsyncAnthropic,
) -> None:
    """Text, stop reason, usage, ids and rate-limit headers are all there."""
    raw = await anthropic_client.messages.with_raw_response.create(
        model=MODEL, max_tokens=100, messages=say('Reply with exactly "pong"')
    )
    message = await raw.parse()
    block = message.content[0]
    assert isinstance(block, TextBlock)
    assert block.text == "[sandbox] pong"
    assert (message.stop_reason, message.usage.output_tokens) == ("end_turn", 4)
    assert raw.headers["request-id"].startswith("req_")
    assert raw.headers["anthropic-ratelimit-tokens-reset"].endswith("Z")


async def test_a_stream_says_what_the_whole_answer_says(
    anthropic_client: AsyncAnthropic,
) -> None:
    """Deltas join to the same text, and usage is cumulative: the last one counts."""
    messages = say("count to 60")
    whole = await anthropic_client.messages.create(
        model=MODEL, max_tokens=1000, messages=messages
    )
    async with anthropic_client.messages.stream(
        model=MODEL, max_tokens=1000, messages=messages
    ) as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_message()
    said, written = final.content[0], whole.content[0]
    assert isinstance(said, TextBlock)
    assert isinstance(written, TextBlock)
    assert said.text == written.text
    assert final.usage.output_tokens == whole.usage.output_tokens
    assert final.usage.input_tokens == whole.usage.input_tokens
    assert final.stop_reason == "end_turn"
    assert (kinds[0], kinds[-1]) == ("message_start", "message_stop")


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_agent_reaches_the_structured_answer(
    anthropic_client: AsyncAnthropic, letter: str, *, streamed: bool
) -> None:
    """File, four products, one sum, then JSON that satisfies the schema."""
    messages = say("Check the invoice in letter-4711.txt.")
    calls_made: list[int] = []
    for _ in range(6):
        message = await take_turn(anthropic_client, messages, streamed=streamed)
        calls = [block for block in message.content if isinstance(block, ToolUseBlock)]
        if not calls:
            break
        assert message.stop_reason == "tool_use"
        calls_made.append(len(calls))
        said: list[ToolUseBlockParam] = [
            {"type": "tool_use", "id": call.id, "name": call.name, "input": call.input}
            for call in calls
        ]
        messages.append({"role": "assistant", "content": said})
        results = [run_tool(call, letter) for call in calls]
        messages.append({"role": "user", "content": results})
    else:
        raise AssertionError("no final answer")
    assert calls_made == [1, 4, 1]
    block = message.content[0]
    assert isinstance(block, TextBlock)
    assert json.loads(block.text) == {
        "invoice_number": "4711",
        "calculated_total": 920.4,
        "recommendation": "query",
    }


async def take_turn(
    client: AsyncAnthropic, messages: list[MessageParam], *, streamed: bool
) -> Message:
    """Ask for the next message, tools and answer schema on offer."""
    if not streamed:
        return await client.messages.create(
            model=MODEL,
            max_tokens=4000,
            system="You are Ada.",
            messages=messages,
            tools=TOOLS,
            output_config=ANSWER,
        )
    async with client.messages.stream(
        model=MODEL,
        max_tokens=4000,
        system="You are Ada.",
        messages=messages,
        tools=TOOLS,
        output_config=ANSWER,
    ) as stream:
        final = await stream.get_final_message()
        return Message.model_validate(final.model_dump())


def run_tool(call: ToolUseBlock, letter: str) -> ToolResultBlockParam:
    """Read the letter or calculate."""
    text = letter
    if call.name == "calculator":
        text = str(evaluate(str(call.input["expression"])))
    return {"type": "tool_result", "tool_use_id": call.id, "content": text}


async def test_the_length_limit_cuts_the_answer(
    anthropic_client: AsyncAnthropic,
) -> None:
    """Max tokens bound the answer and the stop reason says so."""
    message = await anthropic_client.messages.create(
        model=MODEL, max_tokens=10, messages=say("count to 900")
    )
    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 10)


async def test_a_stop_sequence_ends_the_answer(
    anthropic_client: AsyncAnthropic,
) -> None:
    """The answer stops before the sequence and names it."""
    message = await anthropic_client.messages.create(
        model=MODEL, max_tokens=99, messages=say("count to 9"), stop_sequences=["4"]
    )
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "4")


async def test_tokens_can_be_counted_before(anthropic_client: AsyncAnthropic) -> None:
    """The count equals what the call is then billed."""
    messages = say("count to 9")
    counted = await anthropic_client.messages.count_tokens(
        model=MODEL, messages=messages
    )
    message = await anthropic_client.messages.create(
        model=MODEL, max_tokens=99, messages=messages
    )
    assert counted.input_tokens == message.usage.input_tokens


async def test_the_models_are_listed(anthropic_client: AsyncAnthropic) -> None:
    """The same path answers in Anthropic's form to Anthropic's SDK."""
    names = [model.id async for model in anthropic_client.models.list()]
    assert names == ["sandbox-claude", "sandbox-claude-small"]


async def test_unknown_models_are_not_found(anthropic_client: AsyncAnthropic) -> None:
    """The error is the vendor's: 404, not_found_error, with a request id."""
    with pytest.raises(anthropic.NotFoundError) as caught:
        await anthropic_client.messages.create(
            model="claude-x", max_tokens=9, messages=say("hi")
        )
    assert caught.value.request_id is not None
    assert caught.value.type == "not_found_error"


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"model":"sandbox-claude","max_tokens":9}',
        b'{"model":"sandbox-claude","messages":[{"role":"user","content":"hi"}]}',
        b'{"max_tokens":9,"messages":[{"role":"assistant","content":"hi"}]}',
        b'{"max_tokens":9,"messages":[{"role":"user","content":"hi"}],"n":2}',
    ],
)
async def test_malformed_requests_are_refused(
    control: aiohttp.ClientSession, body: bytes
) -> None:
    """Each defect is a 400 in Anthropic's envelope, and a missing key a 401."""
    version = {"anthropic-version": "2023-06-01"}
    async with control.post("/v1/messages", data=body, headers=version) as response:
        assert response.status == 401
        assert (await response.json())["error"]["type"] == "authentication_error"
    headers = {**version, "x-api-key": "any"}
    async with control.post("/v1/messages", data=body, headers=headers) as response:
        assert response.status == 400
        envelope = await response.json()
    assert (envelope["type"], envelope["error"]["type"]) == (
        "error",
        "invalid_request_error",
    )
