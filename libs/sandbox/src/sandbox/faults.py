"""
Faults on demand: a table from a fault's name to what the vendor then does.

A *refusal* answers with an error before any content. A *disturbance* lets the answer
begin and spoils its way to the client. A *telling* reports another usage than the
true one, a *dress* writes the answer in an unusual form, an *oddity* makes another
answer. Which calls are hit is said by ``rules``.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from enum import StrEnum
from typing import Final

from sandbox.payload import Failure, FailureKind
from sandbox.wire import Stage, Telling

DELAY_MS_MAX: Final = 3_600_000
ENDLESS_EVENTS: Final = 100_000


class Disturbance(StrEnum):
    """What spoils a call that the vendor did not refuse."""

    HANG = "hang"
    RESET = "reset"
    CUT = "cut"
    END = "end"
    STALL = "stall"
    ERROR_EVENT = "error_event"
    BAD_JSON = "bad_json"
    SLOW = "slow"
    DRIP = "drip"
    SPLIT = "split"


class Dress(StrEnum):
    """An unusual form that a client must nevertheless read."""

    PLAIN = "plain"
    CRLF = "crlf"
    TIGHT = "tight"
    PINGS = "pings"
    UNKNOWN = "unknown"


class Oddity(StrEnum):
    """An answer that is none."""

    EMPTY = "empty"
    REFUSED = "refused"
    ENDLESS = "endless"


class Hint(StrEnum):
    """A header that tells when, or whether, to try again."""

    SECONDS = "retry-after"
    DATE = "retry-after as a date"
    MILLISECONDS = "retry-after-ms"
    AGAIN = "x-should-retry: true"
    NEVER = "x-should-retry: false"


class Point(StrEnum):
    """Where a fault strikes, if not after a number of events."""

    START = "start"
    END = "end"


@dataclass(frozen=True)
class Behaviour:
    """One row of the table; what is not said is as in a good call."""

    refusal: Failure | None = None
    disturbance: Disturbance | None = None
    telling: Telling = Telling.TRUE
    dress: Dress = Dress.PLAIN
    oddity: Oddity | None = None
    lowers_tier: bool = False
    hints: tuple[Hint, ...] = ()
    after_events: int = 1
    delay_ms: int = 0


def _refuse(
    kind: FailureKind, message: str, *hints: Hint, delay_ms: int = 0
) -> Behaviour:
    return Behaviour(Failure(kind, message), hints=hints, delay_ms=delay_ms)


def _limit(*hints: Hint) -> Behaviour:
    message = "Rate limit reached for this model. Please try again later."
    return _refuse(FailureKind.RATE_LIMITED, message, *hints, delay_ms=1000)


_OVERLOADED: Final = Failure(FailureKind.OVERLOADED, "Overloaded")

BEHAVIOURS: Final = {
    "rate_limited_429": _limit(Hint.SECONDS, Hint.MILLISECONDS),
    "rate_limited_429_plain": _limit(),
    "rate_limited_429_seconds": _limit(Hint.SECONDS),
    "rate_limited_429_date": _limit(Hint.DATE),
    "rate_limited_429_ms": _limit(Hint.MILLISECONDS),
    "rate_limited_429_retry": _limit(Hint.SECONDS, Hint.AGAIN),
    "rate_limited_429_final": _limit(Hint.NEVER),
    "spend_limit_429": _refuse(
        FailureKind.SPEND_LIMITED,
        "You exceeded your current quota, please check your plan and billing details.",
    ),
    "bad_request_400": _refuse(FailureKind.BAD_REQUEST, "The request is malformed."),
    "context_length_400": _refuse(FailureKind.CONTEXT_EXCEEDED, ""),
    "unauthenticated_401": _refuse(FailureKind.UNAUTHENTICATED, "Invalid API key."),
    "unpaid_402": _refuse(
        FailureKind.UNPAID, "Your credit balance is too low. Please add credits."
    ),
    "forbidden_403": _refuse(
        FailureKind.FORBIDDEN, "Your API key may not use this resource."
    ),
    "timed_out_408": _refuse(FailureKind.TIMED_OUT, "The request timed out."),
    "conflict_409": _refuse(FailureKind.CONFLICT, "Another request is in progress."),
    "too_large_413": _refuse(
        FailureKind.TOO_LARGE, "The request exceeds the maximum size of 32 MiB."
    ),
    "error_500": _refuse(
        FailureKind.SERVER_ERROR, "The server had an error. Please retry."
    ),
    "bad_gateway_502": _refuse(FailureKind.BAD_GATEWAY, "Bad gateway"),
    "unavailable_503": _refuse(
        FailureKind.UNAVAILABLE, "The service is temporarily unavailable."
    ),
    "gateway_timeout_504": _refuse(
        FailureKind.GATEWAY_TIMEOUT, "The request took too long."
    ),
    "overloaded_529": Behaviour(_OVERLOADED),
    "timeout": Behaviour(disturbance=Disturbance.HANG, delay_ms=DELAY_MS_MAX),
    "reset": Behaviour(disturbance=Disturbance.RESET),
    "cut": Behaviour(disturbance=Disturbance.CUT),
    "end": Behaviour(disturbance=Disturbance.END),
    "stall": Behaviour(disturbance=Disturbance.STALL, delay_ms=DELAY_MS_MAX),
    "stream_error": Behaviour(_OVERLOADED, Disturbance.ERROR_EVENT),
    "bad_json": Behaviour(disturbance=Disturbance.BAD_JSON),
    "slow": Behaviour(disturbance=Disturbance.SLOW, delay_ms=50),
    "drip": Behaviour(disturbance=Disturbance.DRIP, delay_ms=1),
    "split": Behaviour(disturbance=Disturbance.SPLIT, delay_ms=1),
    "crlf": Behaviour(dress=Dress.CRLF),
    "tight": Behaviour(dress=Dress.TIGHT),
    "pings": Behaviour(dress=Dress.PINGS),
    "unknown_events": Behaviour(dress=Dress.UNKNOWN),
    "usage_missing": Behaviour(telling=Telling.MISSING),
    "usage_zero": Behaviour(telling=Telling.ZERO),
    "usage_wrong": Behaviour(telling=Telling.WRONG),
    "usage_twice": Behaviour(telling=Telling.TWICE),
    "usage_lookalike": Behaviour(telling=Telling.LOOKALIKE),
    "usage_null_choices": Behaviour(telling=Telling.NULL_CHOICES),
    "tier_lowered": Behaviour(lowers_tier=True),
    "empty": Behaviour(oddity=Oddity.EMPTY),
    "refused": Behaviour(oddity=Oddity.REFUSED),
    "endless": Behaviour(
        disturbance=Disturbance.CUT,
        oddity=Oddity.ENDLESS,
        after_events=ENDLESS_EVENTS,
    ),
}
NO_FAULT: Final = Behaviour()


@dataclass(frozen=True)
class Fault:
    """
    A fault about to happen to one call.

    ``after_events`` events go out untouched before it strikes, unless ``at`` names
    the place. ``delay_ms`` is its pause, or the wait that a refusal tells.
    ``percent`` is how much of the true usage a wrong one tells; ``headers`` are sent
    with a refusal, beyond its own.
    """

    name: str
    after_events: int | None = None
    at: Point | None = None
    delay_ms: int | None = None
    percent: int = 150
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def behaviour(self) -> Behaviour:
        """What the table says, with this fault's own numbers."""
        known = BEHAVIOURS[self.name]
        if self.after_events is not None:
            known = replace(known, after_events=self.after_events)
        if self.delay_ms is not None:
            known = replace(known, delay_ms=self.delay_ms)
        return known

    def strikes(self, number: int, stage: Stage) -> bool:
        """Say whether the fault happens before this event, counted from 0."""
        match self.at:
            case None:
                return number == self.behaviour.after_events
            case Point.START:
                return stage is not Stage.OPENING
            case Point.END:
                return stage is Stage.ENDING

    def refusal(self, now: float) -> Failure | None:
        """Return the error that is the whole answer, None if something else is."""
        behaviour = self.behaviour
        if behaviour.refusal is None or behaviour.disturbance is not None:
            return None
        hints = {
            name: value
            for hint in behaviour.hints
            for name, value in [_header(hint, behaviour.delay_ms, now)]
        }
        headers = tuple({**hints, **self.headers}.items())
        return replace(behaviour.refusal, headers=headers)


def _header(hint: Hint, wait_ms: int, now: float) -> tuple[str, str]:
    match hint:
        case Hint.SECONDS:
            return "retry-after", str(math.ceil(wait_ms / 1000))
        case Hint.DATE:
            moment = math.ceil(now + wait_ms / 1000)
            return "retry-after", formatdate(moment, usegmt=True)
        case Hint.MILLISECONDS:
            return "retry-after-ms", str(wait_ms)
        case Hint.AGAIN:
            return "x-should-retry", "true"
        case Hint.NEVER:
            return "x-should-retry", "false"
