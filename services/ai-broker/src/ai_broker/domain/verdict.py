"""
What a failed call allows, by the retry contract of the vendors' own SDKs.

``x-should-retry`` decides; without it 408, 409, 429 and ≥ 500 are called again, and
whatever broke on the way. How long first: ``retry-after-ms``, then ``retry-after`` in
seconds or as an HTTP date; else 0.5·2ⁿ s up to 8 s, less up to a quarter by chance.
OpenAI's SDK gives up on a wait above 120 s; Anthropic's is obeyed up to 60 s, and a
longer one replaced by the backoff.
(openai-python and anthropic-sdk-python, ``_base_client.py``.)

Beyond that contract: an exhausted account answers 429 for the rest of the month, so
its words are told apart from a rate limit's; and a request that is too large for one
model, or asks what this one cannot do, may still be for another.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, assert_never

from ai_broker.domain.catalogue import Protocol
from ai_broker.domain.vendor import Failure, FailureKind
from contracts.problems import Code

FIRST_DELAY_S: Final = 0.5
DELAY_MAX_S: Final = 8.0
JITTER: Final = 0.25
OPENAI_WAIT_MAX_S: Final = 120.0
ANTHROPIC_WAIT_MAX_S: Final = 60.0

SPEND_LIMIT_CODES: Final = frozenset(
    {
        "billing_error",
        "billing_hard_limit_reached",
        "billing_not_active",
        "enforced_spend_limit_reached",
        "insufficient_quota",
    }
)
POLICY_CODES: Final = frozenset(
    {"content_policy_violation", "content_filter", "policy_violation"}
)
TOO_LARGE_CODES: Final = frozenset({"context_length_exceeded"})
TOO_LARGE_WORDS: Final = (
    "prompt is too long",
    "maximum context length",
    "exceed context limit",
    "context window",
)
"""What vendors without such a code write: Anthropic, vLLM and who follows them."""
UNABLE_CODES: Final = frozenset(
    {"unsupported_parameter", "unsupported_value", "unsupported_model"}
)
NO_CREDIT_WORDS: Final = "credit balance is too low"
"""How Anthropic refuses an empty account: a 400 ``invalid_request_error``."""

PAYMENT_REQUIRED: Final = 402
RATE_LIMITED: Final = 429
_BAD_REQUEST: Final = 400
_OURS_ALONE: Final = frozenset({400, 413, 422})
_RETRIED: Final = frozenset({408, 409, 429})
_SERVER_ERROR: Final = 500


@dataclass(frozen=True, slots=True)
class Again:
    """The same vendor may answer after this many seconds."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """This vendor will not answer; another may."""


@dataclass(frozen=True, slots=True)
class Spent:
    """The account at this vendor is exhausted: nothing of it answers for a while."""


@dataclass(frozen=True, slots=True)
class Unfit:
    """This model cannot do what the request asks; another may."""

    is_too_large: bool
    """Whether it is the prompt's size: then only a larger window helps."""


@dataclass(frozen=True, slots=True)
class Nowhere:
    """The request itself is refused; no vendor should be asked."""

    code: Code


Verdict = Again | Elsewhere | Spent | Unfit | Nowhere


def judge(
    failure: Failure,
    failed_before: int,
    draw: float,
    now: datetime,
    protocol: Protocol = Protocol.OPENAI,
) -> Verdict:
    """
    Say what a failure allows.

    Args:
        failure: What went wrong.
        failed_before: Failed calls of this candidate in this round, without this.
        draw: From [0, 1), for the jitter.
        now: For ``retry-after`` as a date.
        protocol: Whose SDK's contract holds.
    """
    special = _special(failure)
    if special is not None:
        return special
    asked_s = retry_after_s(failure.headers, now)
    is_anthropic = protocol is Protocol.ANTHROPIC
    if asked_s is not None and asked_s > OPENAI_WAIT_MAX_S and not is_anthropic:
        return Elsewhere()
    again = Again(_delay_s(asked_s, failed_before, draw, is_anthropic=is_anthropic))
    match failure.headers.get("x-should-retry"):
        case "true":
            return again
        case "false":
            return _final(failure.status)
        case _:
            pass
    if failure.kind not in {FailureKind.REFUSED, FailureKind.REPORTED}:
        return again
    status = failure.status
    if status is None or status in _RETRIED or status >= _SERVER_ERROR:
        return again
    return _final(status)


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return how long the vendor asked to wait; None when it did not say."""
    for name, per_second in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            value = float(headers.get(name, ""))
        except ValueError:
            continue
        if not math.isnan(value):
            return value / per_second
    try:
        moment = parsedate_to_datetime(headers.get("retry-after", ""))
    except (TypeError, ValueError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - now).total_seconds()


def reason_of(failure: Failure, verdict: Verdict) -> str:
    """Return a word for metrics and logs, one of a few."""
    match verdict:
        case Spent():
            return "spend-limit"
        case Unfit(is_too_large):
            return "too-large" if is_too_large else "unfit"
        case Nowhere(code):
            return code.value
        case Again() | Elsewhere() if failure.status == RATE_LIMITED:
            return "rate-limited"
        case Again() | Elsewhere() if (failure.status or 0) >= _SERVER_ERROR:
            return "server-error"
        case Again() | Elsewhere():
            return failure.kind.value
        case _:
            assert_never(verdict)


def _special(failure: Failure) -> Verdict | None:
    """Return what the vendor's own words say, whatever the status promises."""
    code, words = failure.code, failure.message.lower()
    if failure.kind is FailureKind.ENDLESS:
        # It was paid for, and nothing says that the next one would end.
        return Elsewhere()
    if code in SPEND_LIMIT_CODES or failure.status == PAYMENT_REQUIRED:
        return Spent()
    if code in POLICY_CODES:
        return Nowhere(Code.VENDOR_REFUSED)
    if code in TOO_LARGE_CODES:
        return Unfit(is_too_large=True)
    if code in UNABLE_CODES:
        return Unfit(is_too_large=False)
    if failure.status == _BAD_REQUEST:
        if NO_CREDIT_WORDS in words:
            return Spent()
        if any(each in words for each in TOO_LARGE_WORDS):
            return Unfit(is_too_large=True)
    return None


def _delay_s(
    asked_s: float | None, failed_before: int, draw: float, *, is_anthropic: bool
) -> float:
    longest_s = ANTHROPIC_WAIT_MAX_S if is_anthropic else OPENAI_WAIT_MAX_S
    if asked_s is not None and 0 < asked_s <= longest_s:
        return asked_s
    backoff_s = min(FIRST_DELAY_S * 2.0 ** min(failed_before, 10), DELAY_MAX_S)
    return backoff_s * (1 - JITTER * draw)


def _final(status: int | None) -> Verdict:
    return Nowhere(Code.INVALID) if status in _OURS_ALONE else Elsewhere()
