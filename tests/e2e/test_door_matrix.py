"""Every front door with every vendor, feature by feature: the same for each pair."""

from typing import Any

import openai
import pytest
from sdk_clients import ANTHROPIC_MODEL, HEADER, LETTER, READ, SUMS, VENDORS, Clients
from sdk_doors import DOORS, SCHEMA, Door, user_message

from testkit.platform import Platform

PNG = b"\x89PNG\r\n\x1a\n"
PAIRS = pytest.mark.parametrize("model", VENDORS)


@pytest.fixture(params=["openai", "anthropic"])
def door(request: pytest.FixtureRequest, clients: Clients) -> Door:
    """Return each front door in turn."""
    made: Door = DOORS[request.param](clients)
    return made


@PAIRS
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
async def test_text(
    door: Door, platform: Platform, model: str, *, streamed: bool
) -> None:
    """The words arrive whole, and the counts are the vendor's own."""
    after = await platform.vendor.mark()
    messages = [{"role": "user", "content": 'say "grüße, 世界 \\u0001"'}]
    if streamed:
        said = door.stream(messages, model=model, tools=False)
    else:
        said = door.ask(messages, model=model, tools=False, single=False)
    assert "grüße, 世界" in said.text
    assert said.is_finished
    (row,) = await platform.vendor.rows(after)
    assert (said.input_tokens, said.output_tokens) == (
        row.input_tokens,
        row.output_tokens,
    )


@PAIRS
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
async def test_parallel_tools(door: Door, model: str, *, streamed: bool) -> None:
    """Two calls at once, then one; the SDK's own message goes back as it is."""
    messages: list[Any] = [{"role": "user", "content": LETTER}]
    rounds: list[int] = []
    while True:
        if streamed:
            said = door.stream(messages, model=model, tools=True)
        else:
            said = door.ask(messages, model=model, tools=True, single=False)
        if said.is_finished:
            break
        rounds.append(len(said.calls))
        messages += [said.back, *door.results(said.calls)]
    assert rounds == [2, 1]
    assert "68.20" in said.text


@PAIRS
async def test_one_tool_at_a_time(door: Door, model: str) -> None:
    """Where the client forbids parallel calls there are none."""
    messages: list[Any] = [{"role": "user", "content": LETTER}]
    said = door.ask(messages, model=model, tools=True, single=True)
    assert len(said.calls) == 1


@PAIRS
async def test_an_image(door: Door, platform: Platform, model: str) -> None:
    """Four megabytes of picture reach the vendor, which counts it."""
    picture = PNG + bytes(4_000_000)
    plain = door.ask(
        [{"role": "user", "content": 'say "seen"'}],
        model=model,
        tools=False,
        single=False,
    )
    said = door.ask([door.picture(picture)], model=model, tools=False, single=False)
    assert "seen" in said.text
    assert said.input_tokens >= plain.input_tokens + 85


@PAIRS
async def test_a_document(door: Door, model: str) -> None:
    """What stands in it is read."""
    assert door.parse([door.document(HEADER)], model=model) == READ


@PAIRS
async def test_structured_output(door: Door, model: str) -> None:
    """A pydantic model comes back filled."""
    assert door.parse([{"role": "user", "content": HEADER}], model=model) == READ


async def test_thinking_and_its_seal_come_back(clients: Clients) -> None:
    """
    Anthropic's sealed thinking survives a round of tools through its own door.

    The vendor refuses a changed seal, so its second answer proves the trip.
    """
    asked: dict[str, Any] = {
        "model": ANTHROPIC_MODEL,
        "max_tokens": 3000,
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "tools": [{"name": "calculator", "input_schema": SCHEMA}],
    }
    messages: list[Any] = [{"role": "user", "content": LETTER}]
    first = clients.messages.create(**asked, messages=messages)
    assert first.content[0].type == "thinking"
    assert first.content[0].signature
    assert first.usage.output_tokens_details.thinking_tokens > 0
    with clients.messages.stream(**asked, messages=messages) as stream:
        streamed = stream.get_final_message()
    assert streamed.content[0] == first.content[0]
    calls = [x for x in first.content if x.type == "tool_use"]
    results = [
        {
            "type": "tool_result",
            "tool_use_id": x.id,
            "content": SUMS[x.input["expression"]],
        }
        for x in calls
    ]
    messages += [
        {"role": "assistant", "content": first.content},
        user_message(*results),
    ]
    second = clients.messages.create(**asked, messages=messages)
    assert second.stop_reason in {"tool_use", "end_turn"}


@pytest.mark.parametrize(
    ("thinking", "shown"),
    [
        ({"type": "adaptive"}, True),
        ({"type": "enabled", "budget_tokens": 1024, "display": "omitted"}, False),
        ({"type": "disabled"}, None),
    ],
    ids=["adaptive", "omitted", "disabled"],
)
async def test_every_way_of_thinking_reaches_anthropic(
    clients: Clients, thinking: Any, *, shown: bool | None
) -> None:
    """Shown, hidden behind its seal, or not at all."""
    answer = clients.messages.create(
        model=ANTHROPIC_MODEL,
        max_tokens=3000,
        thinking=thinking,
        messages=[{"role": "user", "content": 'say "hello"'}],
    )
    thoughts = [x for x in answer.content if x.type == "thinking"]
    assert [bool(x.thinking) for x in thoughts] == ([] if shown is None else [shown])
    assert all(x.signature for x in thoughts)


async def test_signed_thinking_survives_openais_door(clients: Clients) -> None:
    """Asked for by Anthropic's door, given back by OpenAI's, and still accepted."""
    function = {"name": "calculator", "parameters": SCHEMA}
    first = clients.messages.create(
        model=ANTHROPIC_MODEL,
        max_tokens=3000,
        thinking={"type": "enabled", "budget_tokens": 1024},
        tools=[{"name": "calculator", "input_schema": SCHEMA}],
        messages=[{"role": "user", "content": LETTER}],
    )
    thinking, *calls = [x for x in first.content if x.type != "text"]
    said: dict[str, Any] = {
        "role": "assistant",
        "content": None,
        "reasoning_details": [
            {
                "type": "reasoning.text",
                "text": thinking.thinking,
                "signature": thinking.signature,
            }
        ],
        "tool_calls": [
            {
                "id": x.id,
                "type": "function",
                "function": {
                    "name": x.name,
                    "arguments": f'{{"expression": "{x.input["expression"]}"}}',
                },
            }
            for x in calls
        ],
    }
    results = [
        {"role": "tool", "tool_call_id": x.id, "content": SUMS[x.input["expression"]]}
        for x in calls
    ]
    asked: dict[str, Any] = {
        "model": ANTHROPIC_MODEL,
        "tools": [{"type": "function", "function": function}],
    }
    question = {"role": "user", "content": LETTER}
    answer = clients.chat.create(**asked, messages=[question, said, *results])
    assert answer.choices[0].finish_reason in {"tool_calls", "stop"}
    said["reasoning_details"][0]["text"] += "!"
    with pytest.raises(openai.BadRequestError):
        clients.chat.create(**asked, messages=[question, said, *results])
