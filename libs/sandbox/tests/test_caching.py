"""Cached prefixes: what was marked is written once, read again, and forgotten."""

from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any, Final

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sandbox_line import Line

from sandbox import tokens
from sandbox.app import serving
from sandbox.conversation import Conversation, Role, Turn
from sandbox.prefix_cache import Caching, PrefixCache
from sandbox.settings import read_settings

LONG: Final = "Be brief. " * 600
MARK: Final = {"type": "ephemeral"}
HOUR: Final = {"type": "ephemeral", "ttl": "1h"}


@pytest.fixture
async def cached() -> AsyncGenerator[Line]:
    """Speak to a sandbox that caches."""
    async with (
        serving(read_settings(["--cache"])) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session,
    ):
        yield Line(session)


def marked(system: Any, user: Any) -> dict[str, Any]:
    """Make a request with such marks behind the system prompt and the question."""
    return {
        "system": [{"type": "text", "text": LONG, "cache_control": system}],
        "messages": [
            {
                "role": "user",
                "content": [{"type": "text", "text": LONG, "cache_control": user}],
            }
        ],
    }


async def test_an_hour_and_five_minutes_are_told_apart(cached: Line) -> None:
    """The first call writes both, split by lifetime; the second reads them."""
    body = marked(HOUR, MARK)
    first = (await cached.call("anthropic", stream=False, **body)).json["usage"]
    second = (await cached.call("anthropic", stream=False, **body)).json["usage"]
    split = first["cache_creation"]
    assert split["ephemeral_1h_input_tokens"] == 1504
    assert split["ephemeral_5m_input_tokens"] == 1504
    assert first["cache_creation_input_tokens"] == 3008
    assert (first["cache_read_input_tokens"], first["input_tokens"]) == (0, 0)
    assert second["cache_read_input_tokens"] == 3008
    assert second["cache_creation_input_tokens"] == 0
    written, read = await cached.rows(2)
    assert (written["cache_write_tokens"], written["cache_write_1h_tokens"]) == (
        3008,
        1504,
    )
    assert (read["cache_read_tokens"], read["input_tokens"]) == (3008, 3008)


async def test_what_follows_the_last_mark_is_not_cached(cached: Line) -> None:
    """It is plain input, each time."""
    body = marked(MARK, None)
    calls = [await cached.call("anthropic", stream=False, **body) for _ in range(2)]
    first, second = (heard.json["usage"] for heard in calls)
    assert first["input_tokens"] == second["input_tokens"] == 1504
    assert second["cache_read_input_tokens"] == 1504


async def test_without_a_mark_nothing_is_cached(cached: Line) -> None:
    """Anthropic caches what it is told to."""
    for _ in range(2):
        usage = (await cached.call("anthropic", text=LONG, stream=False)).json["usage"]
        assert usage["cache_read_input_tokens"] == 0
        assert usage["cache_creation_input_tokens"] == 0


async def test_the_cache_can_be_switched_at_run_time(cached: Line) -> None:
    """Off, nothing is read; on again, what was known before still is."""
    body = marked(MARK, MARK)
    reads: list[int] = []
    for enabled in (True, False, True):
        switch = {"enabled": enabled}
        async with cached.control.put("/sandbox/cache", json=switch) as answer:
            assert (await answer.json()) == switch
        heard = await cached.call("anthropic", stream=False, **body)
        reads.append(heard.json["usage"]["cache_read_input_tokens"])
    assert reads == [0, 0, 3008]


async def test_a_lookalike_tells_the_split_at_the_end(cached: Line) -> None:
    """The opening has the whole prompt as input, the last delta what it was."""
    body = marked(MARK, None)
    await cached.call("anthropic", **body)
    heard = await cached.call("anthropic", "usage_lookalike", **body)
    opening = heard.events[0]["message"]["usage"]
    final = next(e["usage"] for e in heard.events if e["type"] == "message_delta")
    assert opening == {"input_tokens": 3008, "output_tokens": 0}
    assert (final["input_tokens"], final["cache_read_input_tokens"]) == (1504, 1504)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (marked(MARK, HOUR), "must not come after"),
        (marked({"type": "forever"}, None), "ephemeral"),
        (marked({**MARK, "ttl": "2h"}, None), "5m or 1h"),
        (
            {"system": [{"type": "text", "text": "x", "cache_control": MARK}] * 5},
            "Found 5",
        ),
    ],
)
async def test_malformed_marks_are_refused(
    line: Line, body: dict[str, Any], words: str
) -> None:
    """In Anthropic's words, cache or no cache."""
    heard = await line.call("anthropic", stream=False, **body)
    assert heard.status == 400
    assert words in heard.json["error"]["message"]


def talk(*marks: str) -> Conversation:
    """Make a conversation of long turns with these marks."""
    turns = tuple(
        Turn(Role.USER, f"{number} {LONG}", cache_ttl=mark)
        for number, mark in enumerate(marks)
    )
    return Conversation("sandbox-claude", turns, cache_asked=any(marks))


def test_a_prefix_is_forgotten_unless_it_is_read() -> None:
    """Five minutes after its last use it is written anew; an hour's lives on."""
    cache, conversation = PrefixCache(enabled=True), talk("5m")

    def read_at(now: float) -> int:
        return cache.look_up("key", conversation, now, automatic=False).read

    assert [read_at(now) > 0 for now in (0, 299, 590, 900)] == [
        False,
        True,
        True,
        False,
    ]
    hour = talk("1h")
    cache.look_up("other", hour, 0, automatic=False)
    assert cache.look_up("other", hour, 3599, automatic=False).read > 0
    assert cache.look_up("stranger", hour, 1, automatic=False).read == 0


@given(marks=st.lists(st.sampled_from(["", "5m", "1h"]), min_size=1, max_size=5))
def test_what_was_written_is_read(marks: list[str]) -> None:
    """The second look-up reads all that the first wrote, and writes nothing."""
    cache, conversation = PrefixCache(enabled=True), talk(*marks)
    first = cache.look_up("key", conversation, 0, automatic=False)
    again = cache.look_up("key", conversation, 1, automatic=False)
    assert again == Caching(read=first.written)
    assert first.written_1h <= first.written <= tokens.count_input(conversation)
    longer = replace(conversation, turns=(*conversation.turns, *talk("5m").turns))
    grown = cache.look_up("key", replace(longer, cache_asked=True), 2, automatic=False)
    assert grown.read == first.written
