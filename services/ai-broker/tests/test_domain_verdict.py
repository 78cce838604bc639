"""The retry contract: what a failed call allows is what the vendors' SDKs allow."""

from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_broker.domain.catalogue import Protocol
from ai_broker.domain.vendor import Failure, FailureKind
from ai_broker.domain.verdict import (
    Again,
    Elsewhere,
    Nowhere,
    Spent,
    Unfit,
    Verdict,
    judge,
    reason_of,
    retry_after_s,
)
from contracts.problems import Code

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def refused(
    status: int,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
    message: str = "no",
) -> Failure:
    """Give an answer with an error status."""
    return Failure(FailureKind.REFUSED, message, status, code, headers or {})


@pytest.mark.parametrize(
    ("failure", "verdict"),
    [
        (refused(408), Again(0.5)),
        (refused(409), Again(0.5)),
        (refused(429), Again(0.5)),
        (refused(500), Again(0.5)),
        (refused(529), Again(0.5)),
        (refused(400), Nowhere(Code.INVALID)),
        (refused(413), Nowhere(Code.INVALID)),
        (refused(400, "content_filter"), Nowhere(Code.VENDOR_REFUSED)),
        (refused(401), Elsewhere()),
        (refused(404), Elsewhere()),
        (refused(429, "enforced_spend_limit_reached"), Spent()),
        (refused(429, "insufficient_quota"), Spent()),
        (refused(429, "insufficient_quota", {"x-should-retry": "true"}), Spent()),
        (refused(429, "billing_error"), Spent()),
        (refused(402, "billing_error"), Spent()),
        (refused(400, None, None, "Your credit balance is too low to"), Spent()),
        (refused(400, "context_length_exceeded"), Unfit(is_too_large=True)),
        (
            refused(400, "x", None, "prompt is too long: 9 tokens"),
            Unfit(is_too_large=True),
        ),
        (refused(400, "unsupported_parameter"), Unfit(is_too_large=False)),
        (refused(500, None, {"x-should-retry": "false"}), Elsewhere()),
        (refused(400, None, {"x-should-retry": "true"}), Again(0.5)),
        (refused(429, None, {"retry-after": "3"}), Again(3.0)),
        (
            refused(429, None, {"retry-after-ms": "250", "retry-after": "3"}),
            Again(0.25),
        ),
        (
            refused(429, None, {"retry-after": "Fri, 01 May 2026 12:00:09 GMT"}),
            Again(9),
        ),
        (refused(429, None, {"retry-after": "3600"}), Elsewhere()),
        (refused(429, None, {"retry-after": "soon"}), Again(0.5)),
        (Failure(FailureKind.UNREACHED, "x"), Again(0.5)),
        (Failure(FailureKind.CUT, "x"), Again(0.5)),
        (Failure(FailureKind.REPORTED, "x", 529), Again(0.5)),
        (Failure(FailureKind.REPORTED, "x", 400), Nowhere(Code.INVALID)),
    ],
)
def test_the_verdict_is_the_sdks(failure: Failure, verdict: Verdict) -> None:
    """What the vendors' own SDKs would retry is retried, after the same wait."""
    assert judge(failure, 0, 0.0, NOW) == verdict


@given(st.integers(0, 50), st.floats(0, 1, exclude_max=True))
def test_backoff_grows_within_bounds(before: int, draw: float) -> None:
    """0.5·2ⁿ up to 8 s, less at most a quarter."""
    verdict = judge(refused(500), before, draw, NOW)
    assert isinstance(verdict, Again)
    whole = min(0.5 * 2.0**before, 8.0)
    assert 0.75 * whole <= verdict.delay_s <= whole


@given(st.text(), st.text())
def test_no_header_breaks_the_judge(milliseconds: str, seconds: str) -> None:
    """Whatever a vendor writes, a number or nothing is read."""
    headers = {"retry-after-ms": milliseconds, "retry-after": seconds}
    found = retry_after_s(headers, NOW)
    assert found is None or isinstance(found, float)
    judge(refused(429, None, headers), 0, 0.5, NOW)


@pytest.mark.parametrize(
    ("protocol", "asked", "verdict"),
    [
        (Protocol.OPENAI, "120", Again(120)),
        (Protocol.OPENAI, "121", Elsewhere()),
        (Protocol.ANTHROPIC, "60", Again(60)),
        (Protocol.ANTHROPIC, "61", Again(0.5)),
        (Protocol.ANTHROPIC, "-1", Again(0.5)),
        (Protocol.OPENAI, "0", Again(0.5)),
    ],
)
def test_each_vendor_s_limit_on_waiting_holds(
    protocol: Protocol, asked: str, verdict: Verdict
) -> None:
    """OpenAI's SDK gives up above 120 s; Anthropic's waits by itself above 60 s."""
    failure = refused(429, None, {"retry-after": asked})
    assert judge(failure, 0, 0.0, NOW, protocol) == verdict


@given(
    st.sampled_from(FailureKind),
    st.sampled_from([None, 400, 401, 402, 404, 408, 413, 422, 429, 500, 503, 529]),
    st.sampled_from(["", "insufficient_quota", "unsupported_value", "overloaded"]),
)
def test_reasons_are_few(kind: FailureKind, status: int | None, code: str) -> None:
    """Whatever fails, its reason is one of a bounded set of words."""
    failure = Failure(kind, "no", status, code)
    reason = reason_of(failure, judge(failure, 0, 0.0, NOW))
    words = {"spend-limit", "too-large", "unfit", "rate-limited", "server-error"}
    assert reason in words | {each.value for each in (*FailureKind, *Code)}
