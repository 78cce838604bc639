"""
Who is asked, and after a failure: the same again, the next one, or nobody.

The verdict on a failure follows the retry contract of the vendors' own SDKs
(``x-should-retry``, then 408, 409, 429 and ≥ 500; ``retry-after-ms``, then
``retry-after`` in seconds or as an HTTP date; 0.5·2ⁿ s up to 8 s with 25 % jitter).
The next call goes to the candidate that is ready first, where a step down the list
counts as much as ``STEP_DOWN_S`` of waiting: a short pause beats another model, a
long one does not.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

from ai_broker.domain.catalogue import Candidate
from ai_broker.domain.vendor import Failure, FailureKind
from contracts.problems import Code

CALLS_PER_CANDIDATE: Final = 3
CALLS_MAX: Final = 8
FIRST_DELAY_S: Final = 0.5
DELAY_MAX_S: Final = 8.0
JITTER: Final = 0.25
RETRY_AFTER_MAX_S: Final = 120.0
STEP_DOWN_S: Final = 1.0

SPEND_LIMIT_CODES: Final = frozenset(
    {"enforced_spend_limit_reached", "insufficient_quota", "billing_hard_limit_reached"}
)
POLICY_CODES: Final = frozenset(
    {"content_policy_violation", "content_filter", "policy_violation"}
)
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
class Nowhere:
    """The request itself is refused; no vendor should be asked."""

    code: Code


Verdict = Again | Elsewhere | Nowhere


@dataclass(frozen=True, slots=True)
class Tried:
    """One failed call of this round."""

    candidate: int
    """Its place in the list of candidates."""
    ended_at: datetime
    verdict: Verdict
    failure: Failure


@dataclass(frozen=True, slots=True)
class Call:
    """Call this candidate after this many seconds."""

    candidate: int
    delay_s: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Nobody is asked any more."""

    code: Code
    detail: str
    retryable: bool
    retry_after_s: float | None = None


Move = Call | GiveUp


def judge(failure: Failure, failed_before: int, draw: float, now: datetime) -> Verdict:
    """
    Say what a failure allows.

    Args:
        failure: What went wrong.
        failed_before: Failed calls of this candidate in this round, without this.
        draw: From [0, 1), for the jitter.
        now: For ``retry-after`` as a date.
    """
    headers, status = failure.headers, failure.status
    # An endless answer was paid for, and nothing says that the next would end.
    if failure.code in SPEND_LIMIT_CODES or failure.kind is FailureKind.ENDLESS:
        return Elsewhere()
    if failure.code in POLICY_CODES:
        return Nowhere(Code.VENDOR_REFUSED)
    asked_s = retry_after_s(headers, now)
    if asked_s is not None and asked_s > RETRY_AFTER_MAX_S:
        return Elsewhere()
    backoff_s = min(FIRST_DELAY_S * 2.0 ** min(failed_before, 10), DELAY_MAX_S)
    backoff_s *= 1 - JITTER * draw
    again = Again(asked_s if asked_s is not None and asked_s > 0 else backoff_s)
    match headers.get("x-should-retry"):
        case "true":
            return again
        case "false":
            return _final(status)
        case _:
            pass
    if failure.kind not in {FailureKind.REFUSED, FailureKind.REPORTED}:
        return again
    if status is None or status in _RETRIED or status >= _SERVER_ERROR:
        return again
    return _final(status)


def first_move(candidates: Sequence[Candidate]) -> Call:
    """Return the first call of a round."""
    if not candidates:
        message = "a round needs at least one candidate"
        raise ValueError(message)
    return Call(0, 0.0)


def next_move(
    candidates: Sequence[Candidate],
    tried: Sequence[Tried],
    now: datetime,
    deadline: datetime,
    *,
    delivered: bool,
) -> Move:
    """
    Decide what follows the last failure.

    Args:
        candidates: Who may answer, first choice first.
        tried: This round's failures, oldest first; at least one.
        now: The time.
        deadline: The request's.
        delivered: Whether content has reached the caller: then nobody else is
            asked, since two answers must not be spliced into one.
    """
    last = tried[-1]
    if delivered:
        detail = f"the answer broke off: {last.failure.message}; ask again"
        return GiveUp(Code.STREAM_CUT, detail, retryable=True)
    if isinstance(last.verdict, Nowhere):
        return GiveUp(last.verdict.code, last.failure.message, retryable=False)
    ready = _ready_in_s(candidates, tried, now)
    if ready and len(tried) < CALLS_MAX:
        index = min(ready, key=lambda each: (ready[each] + each * STEP_DOWN_S, each))
        if now + timedelta(seconds=ready[index]) < deadline:
            return Call(index, ready[index])
    detail = f"no vendor answered; the last said: {last.failure.message}"
    hint = min(ready.values(), default=None)
    retryable = any(isinstance(each.verdict, Again) for each in tried)
    return GiveUp(Code.VENDOR_UNAVAILABLE, detail, retryable, hint)


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


def _final(status: int | None) -> Verdict:
    return Nowhere(Code.INVALID) if status in _OURS_ALONE else Elsewhere()


def _ready_in_s(
    candidates: Sequence[Candidate], tried: Sequence[Tried], now: datetime
) -> dict[int, float]:
    """Return the candidates that may still be called, and in how many seconds."""
    ready: dict[int, float] = {}
    for index in range(len(candidates)):
        mine = [each for each in tried if each.candidate == index]
        if not mine:
            ready[index] = 0.0
            continue
        verdict = mine[-1].verdict
        if len(mine) < CALLS_PER_CANDIDATE and isinstance(verdict, Again):
            waited_s = (now - mine[-1].ended_at).total_seconds()
            ready[index] = max(0.0, verdict.delay_s - waited_s)
    return ready
