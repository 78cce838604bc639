"""Thinking is computed, sealed, counted, and wanted back with the tools' results."""

from typing import Any, Final

import anthropic
import openai
import pytest
from anthropic import AsyncAnthropic
from anthropic.types import MessageParam, ThinkingConfigParam, ToolParam
from hypothesis import given
from hypothesis import strategies as st
from openai import AsyncOpenAI
from sandbox_line import Line

from sandbox.thinking import REDACTING_WORDS, seal, unseal

MODEL: Final = "sandbox-claude"
THINK: Final[ThinkingConfigParam] = {"type": "enabled", "budget_tokens": 1024}
READER: Final[ToolParam] = {
    "name": "read_file",
    "description": "Reads a file",
    "input_schema": {
        "type": "object",
        "properties": {"path": {"type": "string"}},
        "required": ["path"],
    },
}
QUESTION: Final = "What does letter-4711.txt say?"


# The blocks go back as they came, in whatever shape the SDK dumps them.
async def ask_for_file(
    client: AsyncAnthropic, **more: Any
) -> tuple[list[dict[str, Any]], Any]:
    """Let the sandbox think and call the reader; return its blocks and usage."""
    message = await client.messages.create(
        model=MODEL,
        max_tokens=2000,
        thinking=more.pop("thinking", THINK),
        tools=[READER],
        messages=[{"role": "user", "content": more.pop("question", QUESTION)}],
    )
    assert message.stop_reason == "tool_use"
    return [block.model_dump(exclude_none=True) for block in message.content], (
        message.usage
    )


async def answer_call(
    client: AsyncAnthropic, blocks: list[dict[str, Any]], text: str = "It says 7."
) -> Any:
    """Give the call's result, behind these blocks."""
    call = next(block for block in blocks if block["type"] == "tool_use")
    result: Any = {"type": "tool_result", "tool_use_id": call["id"], "content": text}
    said: Any = blocks
    return await client.messages.create(
        model=MODEL,
        max_tokens=2000,
        thinking=THINK,
        tools=[READER],
        messages=[
            {"role": "user", "content": QUESTION},
            {"role": "assistant", "content": said},
            {"role": "user", "content": [result]},
        ],
    )


async def test_a_thought_tells_what_is_asked_and_by_which_rule(
    anthropic_client: AsyncAnthropic, line: Line
) -> None:
    """It is made of the request, and its tokens are a counted part of the output."""
    (thought, call), usage = await ask_for_file(anthropic_client)
    assert thought["type"] == "thinking"
    assert QUESTION in thought["thinking"]
    assert 'I call read_file with {"path":"letter-4711.txt"}' in thought["thinking"]
    (row,) = await line.rows()
    told = usage.output_tokens_details.thinking_tokens
    assert told == row["reasoning_tokens"] == -(-len(thought["thinking"]) // 4)
    assert row["output_tokens"] == usage.output_tokens > told
    message = await answer_call(anthropic_client, [thought, call])
    assert "1 tool results" in message.content[0].thinking
    assert message.content[1].type == "text"


async def test_the_thought_must_come_back_with_the_results(
    anthropic_client: AsyncAnthropic,
) -> None:
    """Left out, changed by a letter, or under another seal: refused as by Anthropic."""
    (thought, call), _ = await ask_for_file(anthropic_client)
    with pytest.raises(anthropic.BadRequestError, match="Expected `thinking`"):
        await answer_call(anthropic_client, [call])
    for spoiled in (
        {**thought, "thinking": thought["thinking"] + "!"},
        {**thought, "signature": seal("I thought otherwise.")},
        {**thought, "signature": thought["signature"][:-4] + "AAA="},
    ):
        with pytest.raises(anthropic.BadRequestError, match="Invalid `signature`"):
            await answer_call(anthropic_client, [spoiled, call])
    bare = {"type": "thinking", "thinking": thought["thinking"]}
    with pytest.raises(anthropic.BadRequestError, match="signature: Field required"):
        await answer_call(anthropic_client, [bare, call])


async def test_a_redacted_thought_comes_back_unread(
    anthropic_client: AsyncAnthropic,
) -> None:
    """Anthropic's own words for tests redact it; the data proves itself."""
    blocks, _ = await ask_for_file(
        anthropic_client, question=f"{QUESTION} {REDACTING_WORDS}"
    )
    thought, call = blocks
    assert set(thought) == {"type", "data"}
    assert (await answer_call(anthropic_client, blocks)).content[-1].type == "text"
    with pytest.raises(anthropic.BadRequestError, match="Invalid `data`"):
        await answer_call(anthropic_client, [{**thought, "data": "AAAA"}, call])


async def test_an_omitted_thought_leaves_its_signature(
    anthropic_client: AsyncAnthropic,
) -> None:
    """Nothing is shown, all of it is billed, and the seal alone goes back."""
    shown, _ = await ask_for_file(anthropic_client)
    omitted: ThinkingConfigParam = {
        "type": "enabled",
        "budget_tokens": 1024,
        "display": "omitted",
    }
    blocks, usage = await ask_for_file(anthropic_client, thinking=omitted)
    assert blocks[0]["thinking"] == ""
    assert blocks[0]["signature"] == shown[0]["signature"]
    assert usage.output_tokens_details.thinking_tokens > 0
    assert (await answer_call(anthropic_client, blocks)).content[-1].type == "text"


@pytest.mark.parametrize("words", ["", REDACTING_WORDS])
async def test_a_streamed_thought_is_the_whole_one(
    anthropic_client: AsyncAnthropic, words: str
) -> None:
    """Blocks and usage are those of the whole answer, the thought comes first."""
    messages: list[MessageParam] = [{"role": "user", "content": f"count to 30 {words}"}]
    whole = await anthropic_client.messages.create(
        model=MODEL, max_tokens=2000, thinking=THINK, messages=messages
    )
    async with anthropic_client.messages.stream(
        model=MODEL, max_tokens=2000, thinking=THINK, messages=messages
    ) as stream:
        streamed = await stream.get_final_message()
    assert [block.model_dump(exclude_none=True) for block in streamed.content] == [
        block.model_dump(exclude_none=True) for block in whole.content
    ]
    assert streamed.usage.output_tokens == whole.usage.output_tokens
    assert len(whole.content) == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 100}}, "equal to 1024"),
        ({"thinking": {"type": "enabled"}}, "equal to 1024"),
        ({"thinking": {"type": "hard"}}, "expected enabled"),
        ({"max_tokens": 1024}, "must be greater than"),
        ({"temperature": 0.5}, "may only be set to 1"),
        ({"tools": [READER], "tool_choice": {"type": "any"}}, "forces tool use"),
    ],
)
async def test_thinking_has_its_conditions(
    line: Line, change: dict[str, Any], words: str
) -> None:
    """What Anthropic does not combine with thinking is refused in its words."""
    body: dict[str, Any] = {"thinking": THINK, **change}
    heard = await line.call("anthropic", stream=False, **body)
    assert heard.status == 400
    assert words in heard.json["error"]["message"]


async def test_without_the_wish_there_is_no_thought(line: Line) -> None:
    """Disabled thinking leaves no block and no tokens."""
    heard = await line.call("anthropic", stream=False, thinking={"type": "disabled"})
    assert [block["type"] for block in heard.json["content"]] == ["text"]
    (row,) = await line.rows()
    assert row["reasoning_tokens"] == 0


async def test_a_reasoner_thinks_unseen(openai_client: AsyncOpenAI, line: Line) -> None:
    """Its tokens depend on the effort and fill the limit before any text does."""

    async def reason(effort: Any, limit: int = 4000) -> tuple[int, str | None, str]:
        done = await openai_client.chat.completions.create(
            model="sandbox-reasoner",
            messages=[{"role": "user", "content": 'say "pong"'}],
            reasoning_effort=effort,
            max_completion_tokens=limit,
        )
        assert done.usage is not None
        assert done.usage.completion_tokens_details is not None
        spent = done.usage.completion_tokens_details.reasoning_tokens
        assert spent is not None
        choice = done.choices[0]
        return spent, choice.message.content, choice.finish_reason

    assert await reason(openai.omit) == (128, "[sandbox] pong", "stop")
    assert await reason("none") == (0, "[sandbox] pong", "stop")
    assert await reason("high") == (512, "[sandbox] pong", "stop")
    assert await reason("high", 100) == (100, "", "length")
    row = (await line.rows(4))[-1]
    assert (row["output_tokens"], row["reasoning_tokens"]) == (100, 100)


@pytest.mark.parametrize("field", [{"max_tokens": 9}, {"temperature": 0.2}])
async def test_a_reasoner_refuses_what_reasoners_refuse(
    line: Line, field: dict[str, Any]
) -> None:
    """The old limit and a temperature are errors that name the field."""
    heard = await line.call("openai", stream=False, model="sandbox-reasoner", **field)
    assert heard.status == 400
    assert heard.json["error"]["param"] in field


async def test_an_open_reasoner_shows_its_thought(
    openai_client: AsyncOpenAI, line: Line
) -> None:
    """It streams reasoning_content before the text, and counts it as reasoning."""
    heard = await line.call("openai", model="sandbox-open-reasoner")
    deltas = [each["choices"][0]["delta"] for each in heard.events if each["choices"]]
    thought = "".join(delta.get("reasoning_content") or "" for delta in deltas)
    kinds = [next(iter(delta), "") for delta in deltas[1:-1]]
    assert kinds == sorted(kinds, reverse=True)
    assert "I am asked: count to 40" in thought
    done = await openai_client.chat.completions.create(
        model="sandbox-open-reasoner",
        messages=[{"role": "user", "content": "count to 40"}],
    )
    assert done.choices[0].message.model_extra == {"reasoning_content": thought}
    for row in await line.rows(2):
        assert row["reasoning_tokens"] == -(-len(thought) // 4)
        assert row["output_tokens"] > row["reasoning_tokens"]


@given(text=st.text(), other=st.text())
def test_a_seal_opens_to_its_text_alone(text: str, other: str) -> None:
    """It gives back what was sealed, and nothing for what was not."""
    assert unseal(seal(text)) == text
    assert (seal(text) == seal(other)) == (text == other)
    assert unseal(other) is None
