"""Refusals are worded as each vendor words them, and hint at a retry as it does."""

from email.utils import parsedate_to_datetime
from typing import Any, Final

import openai
import pytest
from openai import AsyncOpenAI
from sandbox_line import Line

REFUSALS: Final = {
    "rate_limited_429": (429, "requests", "rate_limit_exceeded", "rate_limit_error"),
    "spend_limit_429": (
        429,
        "insufficient_quota",
        "insufficient_quota",
        "rate_limit_error",
    ),
    "bad_request_400": (400, "invalid_request_error", None, "invalid_request_error"),
    "context_length_400": (
        400,
        "invalid_request_error",
        "context_length_exceeded",
        "invalid_request_error",
    ),
    "unauthenticated_401": (
        401,
        "invalid_request_error",
        "invalid_api_key",
        "authentication_error",
    ),
    "unpaid_402": (402, "invalid_request_error", "billing_not_active", "billing_error"),
    "forbidden_403": (403, "invalid_request_error", "forbidden", "permission_error"),
    "timed_out_408": (408, "server_error", "request_timeout", "timeout_error"),
    "conflict_409": (409, "invalid_request_error", "conflict", "conflict_error"),
    "too_large_413": (
        413,
        "invalid_request_error",
        "request_too_large",
        "request_too_large",
    ),
    "error_500": (500, "server_error", None, "api_error"),
    "unavailable_503": (503, "server_error", "service_unavailable", "api_error"),
    "gateway_timeout_504": (504, "server_error", "timeout", "timeout_error"),
    "overloaded_529": (529, "server_error", "overloaded", "overloaded_error"),
}
HINTS: Final[dict[str, dict[str, str]]] = {
    "rate_limited_429": {"retry-after": "2", "retry-after-ms": "1500"},
    "rate_limited_429_plain": {},
    "rate_limited_429_seconds": {"retry-after": "2"},
    "rate_limited_429_ms": {"retry-after-ms": "1500"},
    "rate_limited_429_retry": {"retry-after": "2", "x-should-retry": "true"},
    "rate_limited_429_final": {"x-should-retry": "false"},
    "spend_limit_429": {},
    "overloaded_529": {},
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", REFUSALS)
async def test_each_vendor_has_its_own_words(
    line: Line, fault: str, *, stream: bool
) -> None:
    """Status, type and code are the vendor's; the ledger books no tokens."""
    status, kind, code, anthropic_kind = REFUSALS[fault]
    heard = await line.call("openai", fault, stream=stream)
    error = heard.json["error"]
    assert (heard.status, error["type"], error["code"]) == (status, kind, code)
    assert error["message"]
    heard = await line.call("anthropic", fault, stream=stream)
    assert (heard.status, heard.json["error"]["type"]) == (status, anthropic_kind)
    assert heard.json["request_id"] == heard.headers["request-id"]
    for row in await line.rows(2):
        assert (row["end_state"], row["status"], row["fault"]) == (
            "error",
            status,
            fault,
        )
        assert (row["input_tokens"], row["output_tokens"]) == (0, 0)
        assert row["reported"] is None


@pytest.mark.parametrize("protocol", ["openai", "anthropic"])
@pytest.mark.parametrize("fault", HINTS)
async def test_a_retry_is_hinted_at_by_exactly_these_headers(
    line: Line, protocol: str, fault: str
) -> None:
    """The wait is the rule's own; a spend limit says nothing of a retry."""
    heard = await line.call(protocol, f"{fault};delay_ms=1500")
    names = ("retry-after", "retry-after-ms", "x-should-retry")
    told = {name: heard.headers[name] for name in names if name in heard.headers}
    assert told == HINTS[fault]


async def test_a_wait_can_be_told_as_a_date(line: Line) -> None:
    """The HTTP date lies as far ahead as the rule says."""
    heard = await line.call("openai", "rate_limited_429_date;delay_ms=90000")
    until = parsedate_to_datetime(heard.headers["retry-after"]).timestamp()
    (row,) = await line.rows()
    assert 89 <= until - row["started_at"] <= 92


async def test_a_rule_adds_headers_to_a_refusal(line: Line) -> None:
    """What a lookalike sends, or garbles, is sent as given."""
    headers = {"retry-after": "soon", "x-ratelimit-remaining-tokens": "-1"}
    await line.faults({"fault": "rate_limited_429", "headers": headers})
    heard = await line.call("openai")
    assert heard.headers["retry-after"] == "soon"
    assert heard.headers["x-ratelimit-remaining-tokens"] == "-1"


async def test_a_spend_limit_is_told_apart_from_a_rate_limit(line: Line) -> None:
    """Anthropic names it in the details."""
    heard = await line.call("anthropic", "spend_limit_429")
    assert heard.json["error"]["details"] == {
        "error_code": "enforced_spend_limit_reached"
    }
    heard = await line.call("anthropic", "rate_limited_429")
    assert "details" not in heard.json["error"]


@pytest.mark.parametrize(
    ("protocol", "words", "tokens"),
    [
        ("openai", "maximum context length is 128000 tokens", 130_000),
        ("anthropic", "prompt is too long", 210_000),
    ],
)
async def test_a_prompt_beyond_the_window_is_refused(
    line: Line, protocol: str, words: str, tokens: int
) -> None:
    """By a fault as by its true length; the message has the vendor's words."""
    faked = await line.call(protocol, "context_length_400")
    true = await line.call(protocol, text="word" * tokens)
    for heard in (faked, true):
        assert heard.status == 400
        assert words in heard.json["error"]["message"]
    fits = await line.call(protocol, text="word" * 120_000)
    assert fits.status == 200


async def test_a_bad_gateway_speaks_html(line: Line) -> None:
    """What stands in front of a vendor knows nothing of its envelope."""
    heard = await line.call("openai", "bad_gateway_502")
    assert (heard.status, heard.headers["content-type"]) == (
        502,
        "text/html; charset=utf-8",
    )
    assert heard.body.startswith(b"<html>")


@pytest.mark.parametrize(
    ("fault", "calls"),
    [("rate_limited_429_ms", 3), ("rate_limited_429_final", 1)],
)
async def test_the_sdk_obeys_the_hints(
    openai_client: AsyncOpenAI, line: Line, fault: str, calls: int
) -> None:
    """It tries twice more after a millisecond, and never against x-should-retry."""
    await line.faults({"fault": fault, "delay_ms": 1})
    messages: Any = [{"role": "user", "content": "hi"}]
    with pytest.raises(openai.RateLimitError):
        await openai_client.with_options(max_retries=2).chat.completions.create(
            model="sandbox-small", messages=messages
        )
    assert len(await line.rows(calls)) == calls
