"""Options of a call that do not change the answer, and those that end it."""

from typing import Any, Final

import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI
from sandbox_line import Line

MODEL: Final = "sandbox-small"


async def test_log_probabilities_are_certain(openai_client: AsyncOpenAI) -> None:
    """Each token has probability 1, its bytes join to the text, others never come."""
    done = await openai_client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": 'say "Grüße 🎉"'}],
        logprobs=True,
        top_logprobs=2,
    )
    choice = done.choices[0]
    assert choice.logprobs is not None
    tokens = choice.logprobs.content or []
    data = b"".join(bytes(token.bytes or []) for token in tokens)
    assert data.decode() == choice.message.content
    assert done.usage is not None
    assert len(tokens) == done.usage.completion_tokens
    for token in tokens:
        assert [other.logprob for other in token.top_logprobs] == [0.0, -9999.0]
        assert (token.top_logprobs[0].token, token.logprob) == (token.token, 0.0)


async def test_log_probabilities_are_streamed_with_their_text(line: Line) -> None:
    """Each chunk's tokens are its own content's."""
    heard = await line.call("openai", logprobs=True)
    seen = 0
    for event in heard.events:
        for choice in event["choices"]:
            text = choice["delta"].get("content")
            if text:
                tokens = choice["logprobs"]["content"]
                data = b"".join(bytes(token["bytes"]) for token in tokens)
                assert (data.decode(), tokens[0]["top_logprobs"]) == (text, [])
                seen += 1
            else:
                assert choice["logprobs"] is None
    assert seen > 3


@pytest.mark.parametrize(
    ("asked", "billed"),
    [(None, "default"), ("auto", "default"), ("flex", "flex"), ("priority",) * 2],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_the_tier_that_is_billed_is_told(
    line: Line, asked: str | None, billed: str, *, stream: bool
) -> None:
    """In each chunk or in the body, and in the ledger."""
    more = {} if asked is None else {"service_tier": asked}
    heard = await line.call("openai", stream=stream, **more)
    bodies = heard.events if stream else [heard.json]
    assert {body["service_tier"] for body in bodies} == {billed}
    (row,) = await line.rows()
    assert row["service_tier"] == billed


@pytest.mark.parametrize("stream", [False, True])
async def test_a_tier_can_be_lowered(line: Line, *, stream: bool) -> None:
    """Asked for priority, billed as default: the returned tier is the price's."""
    heard = await line.call(
        "openai", "tier_lowered", stream=stream, service_tier="priority"
    )
    bodies = heard.events if stream else [heard.json]
    assert {body["service_tier"] for body in bodies} == {"default"}
    (row,) = await line.rows()
    assert row["service_tier"] == "default"


async def test_anthropic_s_tier_is_standard(anthropic_client: AsyncAnthropic) -> None:
    """It has one for everybody who did not buy another."""
    message = await anthropic_client.messages.create(
        model="sandbox-claude",
        max_tokens=9,
        messages=[{"role": "user", "content": "hi"}],
        service_tier="auto",
    )
    assert message.usage.service_tier == "standard"


async def test_a_seed_is_echoed_in_the_fingerprint(line: Line) -> None:
    """Who asks for repeatable answers sees by which seed they were made."""
    seeded = await line.call("openai", stream=False, seed=7)
    assert seeded.json["system_fingerprint"] == "sandbox_7"
    plain = await line.call("openai", stream=False)
    assert plain.json["system_fingerprint"] == "sandbox"
    said = [heard.json["choices"] for heard in (seeded, plain)]
    assert said[0] == said[1]


@pytest.mark.parametrize("stop", ["4", ["9", "4"]])
async def test_a_stop_ends_the_answer(line: Line, stop: Any) -> None:
    """The text ends before the first of them, and the tokens with it."""
    heard = await line.call("openai", text="count to 9", stream=False, stop=stop)
    choice = heard.json["choices"][0]
    assert choice["message"]["content"] == "[sandbox] 1 2 3 "
    assert choice["finish_reason"] == "stop"
    assert heard.json["usage"]["completion_tokens"] == 4


async def test_usage_is_null_until_the_last_chunk(line: Line) -> None:
    """Asked for, it is null on all chunks with a choice; the last has no choice."""
    heard = await line.call("openai")
    *chunks, last = heard.events
    assert all(chunk["usage"] is None for chunk in chunks)
    assert (last["choices"], last["usage"]["total_tokens"] > 0) == ([], True)
    assert heard.body.endswith(b"data: [DONE]\n\n")
    plain = await line.call("openai", stream_options={})
    assert all("usage" not in chunk for chunk in plain.events)


async def test_padding_hides_the_length_of_content_unless_refused(line: Line) -> None:
    """Chunks carry obfuscation by default, and none when told so."""
    padded = await line.call("openai")
    bare = await line.call(
        "openai", stream_options={"include_obfuscation": False, "include_usage": True}
    )
    assert all(each["obfuscation"] for each in padded.events if each["choices"])
    assert all("obfuscation" not in each for each in bare.events)


@pytest.mark.parametrize(
    ("field", "param"),
    [
        ({"n": 2}, "n"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"service_tier": "free"}, "service_tier"),
        ({"stop": ["1", "2", "3", "4", "5"]}, "stop"),
        ({"stop": [""]}, "stop"),
        ({"reasoning_effort": "huge"}, "reasoning_effort"),
    ],
)
async def test_options_out_of_range_are_refused(
    line: Line, field: dict[str, Any], param: str
) -> None:
    """A 400 that names the field."""
    heard = await line.call("openai", stream=False, **field)
    assert heard.status == 400
    assert heard.json["error"]["param"] == param
