"""
How much a vendor lets through, so that nothing is sent that it would refuse.

A limit is a bucket that refills at an even rate. Both vendors say how full it is and
when it will be full again, from which its rate follows; so after a part of that time
a part is back. What is on its way, and was not yet counted when the vendor told, is
taken off. The catalogue's own limits hold until a vendor tells; a header that makes
no sense (Azure's -1 and 0) is as good as none.

    x-ratelimit-{limit,remaining,reset}-{requests,tokens}         6m0s, 12ms, 1.5
    anthropic-ratelimit-{requests,tokens,…}-{limit,remaining,reset}     RFC 3339

A 429 closes the way for as long as the retry contract waits: the next request of
anybody would meet the same answer. That is the vendor's health, not its illness, so
the breaker does not hear of it.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

MINUTE_S: Final = 60.0
RESET_MAX_S: Final = 86_400.0


class Kind(StrEnum):
    """What is limited, as the headers name it."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    INPUT_TOKENS = "input-tokens"
    OUTPUT_TOKENS = "output-tokens"


@dataclass(frozen=True, slots=True)
class Bucket:
    """One limit."""

    limit: float
    level: float
    """What was left at ``seen_at``; below zero when more was taken."""
    seen_at: datetime
    per_s: float
    """How fast it refills."""

    def at(self, now: datetime) -> float:
        """Return what is left now."""
        gone_s = max(0.0, (now - self.seen_at).total_seconds())
        return min(self.limit, self.level + gone_s * self.per_s)

    def less(self, amount: float, now: datetime) -> "Bucket":
        """Return the bucket after taking from it."""
        return replace(self, level=self.at(now) - amount, seen_at=now)

    def ready_in_s(self, amount: float, now: datetime) -> float:
        """Return when it holds an amount; an impossible one waits for it to fill."""
        missing = min(amount, self.limit) - self.at(now)
        return max(0.0, missing / self.per_s)


@dataclass(frozen=True, slots=True)
class Pace:
    """The limits of one vendor's model, under one credential."""

    buckets: Mapping[Kind, Bucket] = field(default_factory=dict[Kind, Bucket])
    blocked_until: datetime | None = None
    calls: int = 0
    """On their way, not yet counted by what the vendor told."""
    tokens: int = 0
    """The input of those."""


def limited(
    requests_per_minute: int | None, tokens_per_minute: int | None, now: datetime
) -> Pace:
    """Return the pace that the catalogue allows."""
    limits = {Kind.REQUESTS: requests_per_minute, Kind.TOKENS: tokens_per_minute}
    return Pace(
        {
            kind: Bucket(limit, limit, now, limit / MINUTE_S)
            for kind, limit in limits.items()
            if limit is not None
        }
    )


def ready_in_s(pace: Pace, tokens: int, now: datetime) -> float:
    """Return in how many seconds a request of so many input tokens may be sent."""
    waits = [
        bucket.ready_in_s(_amount(kind, 1, tokens), now)
        for kind, bucket in pace.buckets.items()
    ]
    if pace.blocked_until is not None:
        waits.append((pace.blocked_until - now).total_seconds())
    return max(0.0, *waits, 0.0)


def sent(pace: Pace, tokens: int, now: datetime) -> Pace:
    """Return the pace after a request has left."""
    buckets = {
        kind: bucket.less(_amount(kind, 1, tokens), now)
        for kind, bucket in pace.buckets.items()
    }
    return replace(
        pace, buckets=buckets, calls=pace.calls + 1, tokens=pace.tokens + tokens
    )


def told(pace: Pace, tokens: int, headers: Mapping[str, str], now: datetime) -> Pace:
    """
    Return the pace after a request was answered, or ended without an answer.

    Args:
        pace: Before.
        tokens: What ``sent`` was given for it.
        headers: The answer's, names in lower case; empty without an answer.
        now: The time.
    """
    calls, input_tokens = max(0, pace.calls - 1), max(0, pace.tokens - tokens)
    buckets = dict(pace.buckets)
    for kind, bucket in _read(headers, now):
        buckets[kind] = bucket.less(_amount(kind, calls, input_tokens), now)
    return replace(pace, buckets=buckets, calls=calls, tokens=input_tokens)


def blocked(pace: Pace, for_s: float, now: datetime) -> Pace:
    """Return the pace after a refusal by rate limit; a longer block stands."""
    until = now + timedelta(seconds=min(for_s, RESET_MAX_S))
    if pace.blocked_until is not None and pace.blocked_until > until:
        return pace
    return replace(pace, blocked_until=until)


def _names(shape: str, kind: Kind) -> tuple[Kind, str, str, str]:
    limit, remaining, reset = (
        shape.format(part=part, kind=kind.value)
        for part in ("limit", "remaining", "reset")
    )
    return kind, limit, remaining, reset


_HEADERS: Final = tuple(
    _names(shape, kind)
    for kind in Kind
    for shape in ("x-ratelimit-{part}-{kind}", "anthropic-ratelimit-{kind}-{part}")
)


def _amount(kind: Kind, calls: int, tokens: int) -> float:
    return tokens if kind in {Kind.TOKENS, Kind.INPUT_TOKENS} else calls


def _read(headers: Mapping[str, str], now: datetime) -> Iterable[tuple[Kind, Bucket]]:
    for kind, limit, remaining, reset in _HEADERS:
        if limit not in headers:
            continue
        left = _number(headers.get(remaining, ""))
        bucket = _bucket(_number(headers[limit]), left, headers.get(reset, ""), now)
        if bucket is not None:
            yield kind, bucket


def _bucket(
    limit: float | None, remaining: float | None, reset: str, now: datetime
) -> Bucket | None:
    if limit is None or limit <= 0 or remaining is None or remaining < 0:
        return None
    missing, reset_s = limit - remaining, reset_in_s(reset, now)
    per_s = limit / MINUTE_S
    if reset_s is not None and reset_s > 0 and missing > 0:
        per_s = missing / min(reset_s, RESET_MAX_S)
    return Bucket(limit, remaining, now, per_s)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    # NaN and infinities are no limits either.
    return value if abs(value) < 1e15 else None  # noqa: PLR2004 -- any bound will do


_DURATION: Final = re.compile(
    r"(?:(?P<h>\d{1,4})h)?(?:(?P<m>\d{1,6})m(?!s))?"
    r"(?:(?P<s>\d{1,8}(?:\.\d{1,9})?)s)?(?:(?P<ms>\d{1,12}(?:\.\d{1,9})?)ms)?"
)


def reset_in_s(text: str, now: datetime) -> float | None:
    """Return a reset, a duration, seconds or an instant, in seconds from now."""
    text = text.strip()
    match = _DURATION.fullmatch(text)
    if text and match is not None:
        h, m, s, ms = (float(each or 0) for each in match.groups())
        return h * 3_600 + m * 60 + s + ms / 1_000
    seconds = _number(text)
    if seconds is not None:
        return seconds
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - now).total_seconds()
