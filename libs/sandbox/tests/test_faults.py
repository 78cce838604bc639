"""Every fault shows on the wire as it would from a vendor, and in the ledger."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, Final

import aiohttp
import anthropic
import openai
import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI, AsyncStream
from openai.types.chat import ChatCompletionChunk

MODEL: Final = "sandbox-small"


async def last_row(control: aiohttp.ClientSession) -> dict[str, Any]:
    """Wait for the call to end and return its row."""
    async with asyncio.timeout(10):
        while True:
            async with control.get("/sandbox/ledger") as response:
                rows = (await response.json())["rows"]
            if rows:
                return rows[-1]


async def start(
    client: AsyncOpenAI, fault: str, **more: str
) -> AsyncStream[ChatCompletionChunk]:
    """Begin a streamed call that the fault will hit."""
    return await client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "count to 90"}],
        stream=True,
        stream_options={"include_usage": True},
        extra_headers={"x-sandbox-fault": fault, **more},
    )


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ("rate_limited_429", 429),
        ("overloaded_529", 529),
        ("error_500", 500),
        ("unavailable_503", 503),
    ],
)
async def test_refusals_speak_both_envelopes(
    openai_client: AsyncOpenAI,
    anthropic_client: AsyncAnthropic,
    control: aiohttp.ClientSession,
    fault: str,
    status: int,
) -> None:
    """The status is the fault's, the ledger says error and no tokens."""
    with pytest.raises(openai.APIStatusError) as from_openai:
        await start(openai_client, fault)
    assert from_openai.value.status_code == status
    row = await last_row(control)
    assert (row["end_state"], row["status"], row["fault"]) == ("error", status, fault)
    assert (row["input_tokens"], row["output_tokens"]) == (0, 0)
    with pytest.raises(anthropic.APIStatusError) as from_anthropic:
        await anthropic_client.messages.create(
            model="sandbox-claude",
            max_tokens=9,
            messages=[{"role": "user", "content": "hi"}],
            extra_headers={"x-sandbox-fault": fault},
        )
    assert from_anthropic.value.status_code == status
    if status == 429:
        assert from_openai.value.response.headers["retry-after"] == "1"
        assert from_anthropic.value.type == "rate_limit_error"


async def test_a_cut_stream_breaks_after_the_asked_events(
    openai_client: AsyncOpenAI, control: aiohttp.ClientSession
) -> None:
    """Three events arrive, then the connection breaks without an end."""
    stream = await start(openai_client, "cut;after_events=3")
    chunks: list[ChatCompletionChunk] = []
    with pytest.raises(openai.APIConnectionError):
        await collect(stream, chunks)
    assert len(chunks) == 3
    row = await last_row(control)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert row["end_state"] == "cut"
    assert row["usage_reported"] is False
    assert row["output_tokens"] == -(-len(text) // 4)


async def collect(
    stream: AsyncIterator[ChatCompletionChunk], into: list[ChatCompletionChunk]
) -> None:
    """Keep what arrives before an error."""
    async for chunk in stream:
        into.append(chunk)  # noqa: PERF401 - an error must not lose what came


async def test_a_stalled_stream_goes_silent(
    openai_client: AsyncOpenAI, control: aiohttp.ClientSession
) -> None:
    """After the events nothing comes until the client gives up."""
    stream = await start(openai_client, "stall;after_events=2")
    chunks: list[ChatCompletionChunk] = []
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await collect(stream, chunks)
    await stream.close()
    assert len(chunks) == 2
    row = await last_row(control)
    assert (row["end_state"], row["usage_reported"]) == ("stalled", False)


async def test_a_timeout_never_answers(
    openai_client: AsyncOpenAI, control: aiohttp.ClientSession
) -> None:
    """Not even headers come, and the vendor has read the prompt."""
    with pytest.raises(openai.APITimeoutError):
        await openai_client.with_options(timeout=0.2).chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "hi"}],
            extra_headers={"x-sandbox-fault": "timeout"},
        )
    row = await last_row(control)
    assert (row["end_state"], row["output_tokens"]) == ("stalled", 0)
    assert row["input_tokens"] > 0


async def test_bad_json_is_unreadable_in_both_modes(
    openai_client: AsyncOpenAI, control: aiohttp.ClientSession
) -> None:
    """A stream carries one broken event, a whole answer is broken itself."""
    stream = await start(openai_client, "bad_json;after_events=2")
    chunks: list[ChatCompletionChunk] = []
    with pytest.raises(json.JSONDecodeError):
        await collect(stream, chunks)
    assert len(chunks) == 2
    headers = {"authorization": "Bearer any", "x-sandbox-fault": "bad_json"}
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
    async with control.post(
        "/v1/chat/completions", json=body, headers=headers
    ) as response:
        assert response.status == 200
        with pytest.raises(json.JSONDecodeError):
            json.loads(await response.text())
    assert (await last_row(control))["usage_reported"] is False


async def test_a_slow_stream_arrives_whole(
    openai_client: AsyncOpenAI, control: aiohttp.ClientSession
) -> None:
    """Slowness delays events and loses nothing."""
    stream = await start(openai_client, "slow;delay_ms=1")
    chunks = [chunk async for chunk in stream]
    assert chunks[-1].usage is not None
    row = await last_row(control)
    assert (row["end_state"], row["fault"]) == ("completed", "slow")
    assert row["ended_at"] - row["started_at"] >= 0.001 * len(chunks)


async def test_an_error_inside_a_stream_is_raised_by_the_sdk(
    openai_client: AsyncOpenAI,
    anthropic_client: AsyncAnthropic,
    control: aiohttp.ClientSession,
) -> None:
    """After a 200 and some content both protocols can still say error."""
    stream = await start(openai_client, "stream_error;after_events=3")
    with pytest.raises(openai.APIError, match="Overloaded"):
        await collect(stream, [])
    with pytest.raises(anthropic.APIStatusError, match="Overloaded"):
        async with anthropic_client.messages.stream(
            model="sandbox-claude",
            max_tokens=99,
            messages=[{"role": "user", "content": "count to 30"}],
            extra_headers={"x-sandbox-fault": "stream_error;after_events=3"},
        ) as messages:
            await messages.get_final_message()
    row = await last_row(control)
    assert (row["end_state"], row["usage_reported"]) == ("error", False)


async def test_a_whole_answer_can_be_cut_too(
    openai_client: AsyncOpenAI, control: aiohttp.ClientSession
) -> None:
    """Half a body arrives; the vendor generated all of it and reported nothing."""
    with pytest.raises(openai.APIConnectionError):
        await openai_client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": 'say "pong"'}],
            extra_headers={"x-sandbox-fault": "cut"},
        )
    row = await last_row(control)
    assert (row["end_state"], row["output_tokens"]) == ("cut", 4)
    assert row["usage_reported"] is False


async def test_rules_match_count_and_end(
    openai_client: AsyncOpenAI,
    anthropic_client: AsyncAnthropic,
    control: aiohttp.ClientSession,
) -> None:
    """A rule hits its protocol and text only, as often as it says."""
    rule = {
        "match": {"protocol": "openai", "contains": "90"},
        "fault": "error_500",
        "count": 1,
    }
    async with control.put("/sandbox/faults", json=[rule]) as response:
        assert response.status == 200
    await anthropic_client.messages.create(
        model="sandbox-claude",
        max_tokens=9,
        messages=[{"role": "user", "content": "90"}],
    )
    with pytest.raises(openai.InternalServerError):
        await start(openai_client, "")
    stream = await start(openai_client, "")
    assert [chunk async for chunk in stream]


async def test_chance_is_seeded(
    openai_client: AsyncOpenAI, control: aiohttp.ClientSession
) -> None:
    """The same seed hits the same calls, and not all of them."""

    async def throw() -> list[bool]:
        rule = {"fault": "error_500", "probability": 0.5, "seed": 7}
        async with control.put("/sandbox/faults", json=[rule]):
            pass
        hits: list[bool] = []
        for _ in range(12):
            try:
                await (await start(openai_client, "")).close()
            except openai.InternalServerError:
                hits.append(True)
            else:
                hits.append(False)
        return hits

    first = await throw()
    assert first == await throw()
    assert {True, False} == set(first)


async def test_unknown_faults_are_refused(
    openai_client: AsyncOpenAI, control: aiohttp.ClientSession
) -> None:
    """A typing mistake in a test must not pass for a good call."""
    with pytest.raises(openai.BadRequestError, match="unknown fault"):
        await start(openai_client, "explode")
    async with control.put("/sandbox/faults", json=[{"fault": "x"}]) as response:
        assert response.status == 400
        assert "known are" in (await response.json())["error"]
