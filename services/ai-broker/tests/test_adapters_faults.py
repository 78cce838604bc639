"""Every transport and protocol against each fault that the sandbox vendor knows."""

import aiohttp
import pytest
from sides import Side, ask, row_of, spoil

from ai_broker.domain import settlement
from ai_broker.domain.attempt import Settlement
from ai_broker.domain.vendor import FailureKind
from contracts.completions import FinishReason
from contracts.usage import UsageSource
from sandbox.faults import BEHAVIOURS

REFUSALS = {
    "rate_limited_429": 429,
    "rate_limited_429_plain": 429,
    "rate_limited_429_seconds": 429,
    "rate_limited_429_date": 429,
    "rate_limited_429_ms": 429,
    "rate_limited_429_retry": 429,
    "rate_limited_429_final": 429,
    "spend_limit_429": 429,
    "bad_request_400": 400,
    "context_length_400": 400,
    "unauthenticated_401": 401,
    "unpaid_402": 402,
    "forbidden_403": 403,
    "timed_out_408": 408,
    "conflict_409": 409,
    "too_large_413": 413,
    "error_500": 500,
    "bad_gateway_502": 502,
    "unavailable_503": 503,
    "gateway_timeout_504": 504,
    "overloaded_529": 529,
}
SPOILED = {
    "reset": {FailureKind.CUT, FailureKind.LOST},
    "cut": {FailureKind.CUT},
    "end": {FailureKind.CUT},
    "stall": {FailureKind.SILENT},
    "bad_json": {FailureKind.MALFORMED},
    "stream_error": {FailureKind.REPORTED},
}
UNUSUAL = (
    "slow",
    "drip",
    "split",
    "crlf",
    "tight",
    "pings",
    "unknown_events",
    "tier_lowered",
)
TOLD = ("usage_twice", "usage_lookalike", "usage_null_choices")
LIES = ("usage_missing", "usage_zero", "usage_wrong")
ODD = ("empty", "refused", "endless", "timeout")


def test_every_fault_is_tried() -> None:
    """A fault that the sandbox learns must be met here as well."""
    tried = {*REFUSALS, *SPOILED, *UNUSUAL, *TOLD, *LIES, *ODD}
    assert tried == set(BEHAVIOURS)


@pytest.mark.parametrize(("fault", "status"), REFUSALS.items())
async def test_a_refusal_costs_nothing(
    side: Side, sandbox: aiohttp.ClientSession, fault: str, status: int
) -> None:
    """An error status consumed nothing; its headers tell when to come again."""
    await spoil(sandbox, fault)
    request = ask()
    failure = await side.fail(request)
    assert failure.kind is FailureKind.REFUSED
    assert failure.status == status
    # A proxy between answers with a page, which has no code.
    assert failure.code or fault == "bad_gateway_502"
    if fault == "rate_limited_429":
        assert failure.headers["retry-after-ms"] == "1000"
    settled = settlement.failed(request, side.heard, failure)
    assert settled.usage.total == 0
    assert settled.source is UsageSource.VENDOR
    row = await row_of(sandbox, side.attempt_id)
    assert row["status"] == status == settled.http_status
    assert (row["input_tokens"], row["output_tokens"]) == (0, 0)


@pytest.mark.parametrize(("fault", "kinds"), SPOILED.items())
async def test_a_spoiled_stream_is_never_clean(
    side: Side, sandbox: aiohttp.ClientSession, fault: str, kinds: set[FailureKind]
) -> None:
    """Whatever spoils an answer is told apart, and its cost is estimated."""
    await spoil(sandbox, fault, after_events=3)
    request = ask()
    failure = await side.fail(request)
    assert failure.kind in kinds
    settled = settlement.failed(request, side.heard, failure)
    assert settled.source is UsageSource.ESTIMATED
    assert settled.usage.input_tokens > 0
    assert settled.usage.output_tokens > 0
    await row_of(sandbox, side.attempt_id)


@pytest.mark.parametrize("fault", [*UNUSUAL, *TOLD])
async def test_an_unusual_form_is_read_to_the_token(
    side: Side, sandbox: aiohttp.ClientSession, fault: str
) -> None:
    """However an answer is framed and its usage told, both ledgers agree."""
    await side.call(ask())
    plain = side.heard.answer.parts()
    # As fast as it may be: what is slow must still come within the idle limit.
    await spoil(sandbox, fault, delay_ms=1)
    request = ask()
    await side.call(request)
    assert side.heard.answer.parts() == plain
    assert side.done is not None
    assert side.done.finish_reason is FinishReason.STOP
    settled = settlement.completed(request, side.heard, side.done)
    row = await row_of(sandbox, side.attempt_id)
    usage = settled.usage
    assert settled.source is UsageSource.VENDOR
    cached = usage.cache_read_tokens + usage.cache_write_5m_tokens
    assert usage.input_tokens + cached == row["input_tokens"]
    assert usage.output_tokens + usage.reasoning_tokens == row["output_tokens"]


async def test_usage_that_never_comes_is_estimated_and_a_zero_is_a_zero(
    side: Side, sandbox: aiohttp.ClientSession
) -> None:
    """What the vendor says is booked as its word, what it does not say as ours."""
    found: dict[str, Settlement] = {}
    for fault in LIES:
        await spoil(sandbox, fault)
        request = ask()
        await side.call(request)
        assert side.done is not None
        found[fault] = settlement.completed(request, side.heard, side.done)
    assert found["usage_missing"].source is UsageSource.ESTIMATED
    assert found["usage_missing"].usage.total > 0
    assert found["usage_zero"].source is UsageSource.VENDOR
    assert found["usage_zero"].usage.total == 0
    assert found["usage_wrong"].source is UsageSource.VENDOR
    row = await row_of(sandbox, side.attempt_id)
    assert found["usage_wrong"].usage.total > row["input_tokens"]


async def test_an_answer_that_is_none_still_ends(
    side: Side, sandbox: aiohttp.ClientSession
) -> None:
    """Nothing said and a refusal are answers; one without end is stopped."""
    await spoil(sandbox, "empty")
    await side.call(ask())
    assert side.done is not None
    assert side.heard.answer.empty
    await spoil(sandbox, "refused")
    await side.call(ask())
    assert side.done is not None
    refused = {FinishReason.REFUSAL, FinishReason.CONTENT_FILTER}
    assert side.done.finish_reason in refused
    await spoil(sandbox, "endless", after_events=2_000)
    failure = await side.fail(ask())
    assert failure.kind is FailureKind.CUT
