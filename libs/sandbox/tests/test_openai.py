"""OpenAI's own SDK talks to the sandbox as to its vendor."""

import json
from typing import Final

import aiohttp
import openai
import pytest
from openai import AsyncOpenAI
from openai.types.chat import (
    ChatCompletionMessageFunctionToolCall,
    ChatCompletionMessageFunctionToolCallParam,
    ChatCompletionMessageParam,
    ChatCompletionToolParam,
)
from openai.types.shared_params import ResponseFormatJSONSchema

from sandbox.facts import evaluate

MODEL: Final = "sandbox-small"
TOOLS: Final[list[ChatCompletionToolParam]] = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": f"The {name} tool",
            "parameters": {
                "type": "object",
                "properties": {parameter: {"type": "string"}},
                "required": [parameter],
            },
        },
    }
    for name, parameter in (("read_file", "path"), ("calculator", "expression"))
]
ANSWER: Final[ResponseFormatJSONSchema] = {
    "type": "json_schema",
    "json_schema": {
        "name": "invoice",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {
                "invoice_number": {"type": "string"},
                "calculated_total": {"type": "number"},
                "sums_match": {"type": "boolean"},
                "recommendation": {"type": "string", "enum": ["pay", "query"]},
            },
            "required": [
                "invoice_number",
                "calculated_total",
                "sums_match",
                "recommendation",
            ],
            "additionalProperties": False,
        },
    },
}


def say(text: str) -> list[ChatCompletionMessageParam]:
    """Make a conversation of one user message."""
    return [{"role": "user", "content": text}]


async def test_a_plain_answer_has_the_vendor_s_shape(
    openai_client: AsyncOpenAI,
) -> None:
    """Text, finish reason, usage, ids and rate-limit headers are all there."""
    raw = await openai_client.chat.completions.with_raw_response.create(
        model=MODEL, messages=say('Reply with exactly "pong"')
    )
    completion = raw.parse()
    assert completion.choices[0].message.content == "[sandbox] pong"
    assert completion.choices[0].finish_reason == "stop"
    assert completion.system_fingerprint == "sandbox"
    usage = completion.usage
    assert usage is not None
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.completion_tokens == 4  # 14 bytes
    assert raw.headers["x-request-id"].startswith("req_")
    assert int(raw.headers["x-ratelimit-remaining-requests"]) > 0
    assert raw.headers["x-ratelimit-reset-requests"].endswith("s")


async def test_a_stream_says_what_the_whole_answer_says(
    openai_client: AsyncOpenAI,
) -> None:
    """Deltas join to the same text, and usage comes last, once, when asked for."""
    messages = say("count to 60")
    whole = await openai_client.chat.completions.create(model=MODEL, messages=messages)
    stream = await openai_client.chat.completions.create(
        model=MODEL,
        messages=messages,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(
        chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices
    )
    assert text == whole.choices[0].message.content
    assert len({chunk.id for chunk in chunks}) == 1
    assert [chunk.usage for chunk in chunks if chunk.usage] == [whole.usage]
    assert not chunks[-1].choices
    assert chunks[-2].choices[0].finish_reason == "stop"


async def test_usage_is_streamed_only_when_asked_for(
    openai_client: AsyncOpenAI,
) -> None:
    """Without include_usage no chunk carries usage."""
    stream = await openai_client.chat.completions.create(
        model=MODEL, messages=say("hello"), stream=True
    )
    assert [chunk.usage async for chunk in stream if chunk.usage] == []


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_agent_reaches_the_structured_answer(
    openai_client: AsyncOpenAI, letter: str, *, streamed: bool
) -> None:
    """File, four products, one sum, then JSON that satisfies the schema."""
    messages: list[ChatCompletionMessageParam] = [
        {"role": "system", "content": "You are Ada."},
        {"role": "user", "content": "Check the invoice in letter-4711.txt."},
    ]
    calls_made: list[int] = []
    for _ in range(6):
        async with openai_client.chat.completions.stream(
            model=MODEL, messages=messages, tools=TOOLS, response_format=ANSWER
        ) as stream:
            streamed_completion = await stream.get_final_completion()
        whole = await openai_client.chat.completions.create(
            model=MODEL, messages=messages, tools=TOOLS, response_format=ANSWER
        )
        completion = streamed_completion if streamed else whole
        message = completion.choices[0].message
        calls = [call for call in message.tool_calls or [] if call.type == "function"]
        if not calls:
            break
        assert completion.choices[0].finish_reason == "tool_calls"
        calls_made.append(len(calls))
        said = [repeat_call(call) for call in calls]
        messages.append({"role": "assistant", "tool_calls": said})
        messages.extend(run_tool(call, letter) for call in calls)
    else:
        raise AssertionError("no final answer")
    assert calls_made == [1, 4, 1]
    assert json.loads(message.content or "") == {
        "invoice_number": "4711",
        "calculated_total": 920.4,
        "sums_match": False,
        "recommendation": "query",
    }


def repeat_call(
    call: ChatCompletionMessageFunctionToolCall,
) -> ChatCompletionMessageFunctionToolCallParam:
    """Give the call back as part of the transcript."""
    function = call.function
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": function.name, "arguments": function.arguments},
    }


def run_tool(
    call: ChatCompletionMessageFunctionToolCall, letter: str
) -> ChatCompletionMessageParam:
    """Read the letter or calculate."""
    text = letter
    if call.function.name == "calculator":
        text = str(evaluate(json.loads(call.function.arguments)["expression"]))
    return {"role": "tool", "tool_call_id": call.id, "content": text}


async def test_the_length_limit_cuts_the_answer(openai_client: AsyncOpenAI) -> None:
    """Max tokens bound the answer and the finish reason says so."""
    completion = await openai_client.chat.completions.create(
        model=MODEL, messages=say("count to 900"), max_completion_tokens=10
    )
    assert completion.choices[0].finish_reason == "length"
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 10


async def test_reasoning_tokens_are_part_of_the_output(
    openai_client: AsyncOpenAI,
) -> None:
    """A reasoning effort costs tokens that are counted within the completion."""
    completion = await openai_client.chat.completions.create(
        model=MODEL, messages=say('say "pong"'), reasoning_effort="low"
    )
    usage = completion.usage
    assert usage is not None
    assert usage.completion_tokens_details is not None
    assert usage.completion_tokens_details.reasoning_tokens == 32
    assert usage.completion_tokens == 36


async def test_the_models_are_listed(openai_client: AsyncOpenAI) -> None:
    """The list names the sandbox's models, and each can be looked up."""
    names = [model.id async for model in openai_client.models.list()]
    assert names[:2] == ["sandbox-small", "sandbox-large"]
    assert {"sandbox-reasoner", "sandbox-open-reasoner"} < set(names)
    assert (await openai_client.models.retrieve(names[0])).owned_by == "sandbox"


async def test_unknown_models_are_not_found(openai_client: AsyncOpenAI) -> None:
    """The error is the vendor's: 404, model_not_found."""
    with pytest.raises(openai.NotFoundError) as caught:
        await openai_client.chat.completions.create(model="gpt-x", messages=say("hi"))
    assert caught.value.code == "model_not_found"


async def test_a_missing_key_is_unauthorised(
    control: aiohttp.ClientSession,
) -> None:
    """Without a bearer token the answer is 401 in the envelope."""
    async with control.post("/v1/chat/completions", data=b"{}") as response:
        assert response.status == 401
        body = await response.json()
    assert body["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{not json", None),
        (b"[]", None),
        (b'{"model":' + b"[" * 99999, None),
        (b'{"model":"sandbox-small"}', "messages"),
        (b'{"model":"sandbox-small","messages":[]}', "messages"),
        (b'{"messages":[{"role":"user","content":"hi"}]}', "model"),
        (b'{"messages":[{"role":"boss","content":"hi"}]}', "messages[0].role"),
        (b'{"messages":[{"role":"user","content":"hi"}],"colour":1}', "colour"),
        (
            b'{"messages":[{"role":"tool","tool_call_id":"x","content":"1"}]}',
            "messages.[0]",
        ),
    ],
)
async def test_malformed_requests_are_refused(
    control: aiohttp.ClientSession, body: bytes, param: str | None
) -> None:
    """Each defect is a 400 that names the field."""
    headers = {"authorization": "Bearer any"}
    async with control.post(
        "/v1/chat/completions", data=body, headers=headers
    ) as response:
        assert response.status == 400
        error = (await response.json())["error"]
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
