"""Limits per key, set at run time, refused and told as the vendors tell them."""

import re
from datetime import datetime
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sandbox_line import Heard, Line

from sandbox.limits import Limits, Quota
from sandbox.openai_wire import duration

OPENAI: Final = ("/v1/chat/completions", "sandbox-small")
ANTHROPIC: Final = ("/v1/messages", "sandbox-claude")
DURATION: Final = re.compile(r"(?:(\d+)m)?(?:([\d.]+)s)?|(\d+)ms")


async def ask(
    line: Line, key: str, way: tuple[str, str] = OPENAI, text: str = "hi"
) -> Heard:
    """Make a small call with this key."""
    path, model = way
    body = {
        "model": model,
        "max_tokens": 50,
        "messages": [{"role": "user", "content": text}],
    }
    headers = {"authorization": f"Bearer {key}", "anthropic-version": "2023-06-01"}
    return await line.post(path, body, headers)


async def limit(line: Line, **body: Any) -> dict[str, Any]:
    """Set limits and return what is then in force."""
    async with line.control.put("/sandbox/limits", json=body) as answer:
        return await answer.json()


async def test_requests_are_limited_per_key(line: Line) -> None:
    """One key's calls do not use up another's; each header counts its own down."""
    assert await limit(line, requests_per_minute=2) == {
        "requests_per_minute": 2,
        "tokens_per_minute": 10_000_000_000,
    }
    heard = [await ask(line, "one") for _ in range(3)]
    assert [each.status for each in heard] == [200, 200, 429]
    left = [each.headers["x-ratelimit-remaining-requests"] for each in heard]
    assert left == ["1", "0", "0"]
    error = heard[-1].json["error"]
    assert (error["type"], error["code"]) == ("requests", "rate_limit_exceeded")
    assert "Limit 2, Used 3" in error["message"]
    assert 0 < int(heard[-1].headers["retry-after"]) <= 60
    assert (await ask(line, "two")).status == 200


async def test_a_key_can_have_its_own_limits(line: Line) -> None:
    """They stand whatever the others have, and begin anew when they are set."""
    await limit(line, key="vip", requests_per_minute=1)
    await limit(line, requests_per_minute=0)
    assert [(await ask(line, key)).status for key in ("vip", "vip", "else")] == [
        200,
        429,
        429,
    ]
    await limit(line, key="vip", requests_per_minute=1)
    assert (await ask(line, "vip")).status == 200


async def test_tokens_are_limited_with_what_was_generated(line: Line) -> None:
    """Prompt and answer count; the refusal says that it is for tokens."""
    await limit(line, tokens_per_minute=55)
    first = await ask(line, "one", text="count to 60")
    used = first.json["usage"]["total_tokens"]
    assert used > 50
    second = await ask(line, "one")
    assert second.status == 429
    assert second.json["error"]["type"] == "tokens"
    assert second.headers["x-ratelimit-remaining-tokens"] == "0"
    anthropic = await ask(line, "one", ANTHROPIC)
    assert anthropic.json["error"]["type"] == "rate_limit_error"


async def test_resets_are_told_in_each_vendor_s_form(line: Line) -> None:
    """Durations from OpenAI, moments of RFC 3339 from Anthropic, the same minute."""
    openai, anthropic = await ask(line, "k"), await ask(line, "k", ANTHROPIC)
    for what in ("requests", "tokens"):
        match = DURATION.fullmatch(openai.headers[f"x-ratelimit-reset-{what}"])
        assert match
        assert 50 < seconds(match) <= 60
    (row, _) = await line.rows(2)
    for what in ("requests", "tokens", "input-tokens", "output-tokens"):
        text = anthropic.headers[f"anthropic-ratelimit-{what}-reset"]
        moment = datetime.fromisoformat(text).timestamp()
        assert 50 < moment - row["started_at"] <= 60


def seconds(match: re.Match[str]) -> float:
    """Read a duration."""
    minutes, whole, milliseconds = match.groups()
    return 60 * int(minutes or 0) + float(whole or 0) + int(milliseconds or 0) / 1000


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0ms"), (0.012, "12ms"), (1, "1s"), (59.9984, "59.999s"), (360, "6m0s")],
)
def test_durations_are_written_as_openai_writes_them(value: float, text: str) -> None:
    """The examples of its documentation among them."""
    assert duration(value) == text


@given(st.floats(0, 3600))
def test_a_duration_is_never_too_short(value: float) -> None:
    """Who waits for it has waited long enough, and not a second too long."""
    match = DURATION.fullmatch(duration(value))
    assert match
    assert value <= seconds(match) + 1e-9 <= value + 0.0011


@pytest.mark.parametrize(
    "body", [{"requests_per_minute": -1}, {"tokens_per_minute": "9"}]
)
async def test_malformed_limits_are_refused(line: Line, body: dict[str, Any]) -> None:
    """The error names the field."""
    answer = await limit(line, **body)
    assert next(iter(body)) in answer["error"]


def test_a_window_ends_after_a_minute() -> None:
    """What was used is forgotten then, and not a moment before."""
    limits = Limits(1, 100)
    assert not limits.admit("k", 1, 0.0).is_spent
    assert limits.admit("k", 1, 59.9).is_spent
    assert not limits.admit("k", 1, 60.0).is_spent
    limits.set("k", Quota(5, 100))
    assert limits.admit("k", 1, 60.0).requests_left == 4
