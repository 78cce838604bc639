"""The vendor's ledger says what it told its clients, and outlives a restart."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionMessageParam

from sandbox.app import serving
from sandbox.ledger import EndState, Ledger, Row
from sandbox.settings import read_settings
from sandbox.wire import Usage

MODEL: Final = "sandbox-large"
COUNT: Final[list[ChatCompletionMessageParam]] = [
    {"role": "user", "content": "count to 200"}
]
ROW: Final = Row(
    sequence=1,
    request_id="req_1",
    client_request_id="attempt-1",
    protocol="openai",
    model=MODEL,
    stream=False,
    status=200,
    end_state=EndState.COMPLETED,
    fault="",
    usage_reported=True,
    reported=Usage(7, 3),
    input_tokens=7,
    output_tokens=3,
    cache_read_tokens=0,
    cache_write_tokens=0,
    reasoning_tokens=0,
    started_at=1.0,
    ended_at=2.0,
)


async def get_rows(
    control: aiohttp.ClientSession, count: int, query: str = ""
) -> list[dict[str, Any]]:
    """Wait until the ledger has that many rows and return them."""
    async with asyncio.timeout(10):
        while True:
            async with control.get(f"/sandbox/ledger{query}") as response:
                rows = (await response.json())["rows"]
            if len(rows) >= count:
                return rows


@pytest.mark.parametrize("streamed", [False, True])
async def test_the_ledger_equals_the_reported_usage(
    openai_client: AsyncOpenAI,
    anthropic_client: AsyncAnthropic,
    control: aiohttp.ClientSession,
    *,
    streamed: bool,
) -> None:
    """Both protocols, streamed or whole: same numbers, found by the client's id."""
    headers = {"x-client-request-id": "attempt-1"}
    if streamed:
        stream = await openai_client.chat.completions.create(
            model=MODEL,
            messages=COUNT,
            stream=True,
            stream_options={"include_usage": True},
            extra_headers=headers,
        )
        usages = [chunk.usage async for chunk in stream if chunk.usage]
        usage = usages[-1]
    else:
        completion = await openai_client.chat.completions.create(
            model=MODEL, messages=COUNT, extra_headers=headers
        )
        assert completion.usage is not None
        usage = completion.usage
    headers = {"x-client-request-id": "attempt-2"}
    async with anthropic_client.messages.stream(
        model="sandbox-claude",
        max_tokens=5000,
        messages=[{"role": "user", "content": "count to 200"}],
        extra_headers=headers,
    ) as messages:
        message = await messages.get_final_message()
    (first,) = await get_rows(control, 1, "?request_id=attempt-1")
    (second,) = await get_rows(control, 1, "?request_id=attempt-2")
    assert first["input_tokens"] == usage.prompt_tokens
    assert first["output_tokens"] == usage.completion_tokens
    assert second["input_tokens"] == message.usage.input_tokens
    assert second["output_tokens"] == message.usage.output_tokens
    assert second["output_tokens"] == first["output_tokens"]
    for row in (first, second):
        assert (row["end_state"], row["usage_reported"]) == ("completed", True)


async def test_a_stream_without_usage_is_marked_unreported(
    openai_client: AsyncOpenAI, control: aiohttp.ClientSession
) -> None:
    """The ledger knows the tokens that the client was never told."""
    stream = await openai_client.chat.completions.create(
        model=MODEL, messages=COUNT, stream=True
    )
    assert [chunk async for chunk in stream]
    (row,) = await get_rows(control, 1)
    assert (row["end_state"], row["usage_reported"]) == ("completed", False)
    assert row["output_tokens"] > 0


async def test_a_client_that_hangs_up_is_recorded(
    openai_client: AsyncOpenAI, control: aiohttp.ClientSession
) -> None:
    """Mid-stream the vendor stops generating and keeps what it had."""
    pace = {"latency_ms": 0, "token_ms": 2}
    async with control.put("/sandbox/latency", json=pace) as response:
        assert response.status == 200
    stream = await openai_client.chat.completions.create(
        model=MODEL, messages=COUNT, stream=True
    )
    seen = 0
    async for _ in stream:
        seen += 1
        if seen == 4:
            break
    await stream.close()
    (row,) = await get_rows(control, 1)
    assert (row["end_state"], row["usage_reported"]) == ("client_disconnected", False)
    assert 0 < row["output_tokens"] < 190


async def test_a_held_call_is_visible_and_its_end_recorded(
    openai_client: AsyncOpenAI, control: aiohttp.ClientSession
) -> None:
    """Latency holds a call open; hanging up before the answer costs no output."""
    headers = {"x-sandbox-latency-ms": "60000", "x-client-request-id": "held"}
    call = asyncio.create_task(
        openai_client.chat.completions.create(
            model=MODEL, messages=COUNT, extra_headers=headers
        )
    )
    async with asyncio.timeout(10):
        while True:
            async with control.get("/sandbox/open") as response:
                running = (await response.json())["open"]
            if running:
                break
    assert running[0]["client_request_id"] == "held"
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    (row,) = await get_rows(control, 1)
    assert (row["end_state"], row["output_tokens"]) == ("client_disconnected", 0)


async def test_pages_follow_each_other_and_can_be_cleared(
    openai_client: AsyncOpenAI, control: aiohttp.ClientSession
) -> None:
    """Paging by sequence repeats nothing, clearing leaves nothing."""
    for _ in range(3):
        await openai_client.chat.completions.create(model=MODEL, messages=COUNT)
    async with control.get("/sandbox/ledger?limit=2") as response:
        page = await response.json()
    assert ([row["sequence"] for row in page["rows"]], page["more"]) == ([1, 2], True)
    async with control.get(f"/sandbox/ledger?after={page['next_after']}") as response:
        page = await response.json()
    assert ([row["sequence"] for row in page["rows"]], page["more"]) == ([3], False)
    async with control.delete("/sandbox/ledger") as response:
        assert response.status == 204
    async with control.get("/sandbox/ledger") as response:
        assert (await response.json())["rows"] == []


def test_a_restart_keeps_the_rows(tmp_path: Path) -> None:
    """The file is read back, a line that a kill cut short is passed over."""
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path)
    ledger.add(ROW)
    ledger.close()
    with path.open("a", encoding="utf-8") as file:
        file.write('{"sequence": 2, "requ\n')
    again = Ledger(path)
    assert again.page(0, 10, None) == ([ROW], False)
    assert again.next_sequence == 2
    again.clear()
    again.close()
    assert path.read_text(encoding="utf-8") == ""


def test_the_ledger_is_bounded() -> None:
    """The oldest rows go first."""
    ledger = Ledger(rows_max=2)
    for sequence in (1, 2, 3):
        ledger.add(replace(ROW, sequence=sequence))
    rows, _ = ledger.page(0, 10, None)
    assert [row.sequence for row in rows] == [2, 3]


async def test_cached_prefixes_are_accounted_when_asked_for() -> None:
    """The second call with the same long prompt reads it from the cache."""
    async with serving(read_settings(["--cache"])) as port:
        url = f"http://127.0.0.1:{port}"
        messages: list[ChatCompletionMessageParam] = [
            {"role": "system", "content": "Be brief. " * 600},
            {"role": "user", "content": 'say "pong"'},
        ]
        async with AsyncOpenAI(base_url=f"{url}/v1", api_key="k") as client:
            cached: list[int | None] = []
            prompts: list[int] = []
            for _ in range(2):
                done = await client.chat.completions.create(
                    model=MODEL, messages=messages
                )
                assert done.usage is not None
                details = done.usage.prompt_tokens_details
                assert details is not None
                cached.append(details.cached_tokens)
                prompts.append(done.usage.prompt_tokens)
        assert cached == [0, prompts[0]]


async def test_limits_refuse_and_are_told_in_headers() -> None:
    """Requests beyond the minute's limit get a 429 with retry-after."""
    settings = read_settings(["--requests-per-minute", "1", "--key", "right"])
    async with serving(settings) as port:
        body = {"model": MODEL, "messages": COUNT}
        statuses: list[tuple[int, str]] = []
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        async with aiohttp.ClientSession() as session:
            for key in ("wrong", "right", "right"):
                headers = {"authorization": f"Bearer {key}"}
                async with session.post(url, json=body, headers=headers) as response:
                    left = response.headers["x-ratelimit-remaining-requests"]
                    statuses.append((response.status, left))
        assert statuses == [(401, "1"), (200, "0"), (429, "0")]
