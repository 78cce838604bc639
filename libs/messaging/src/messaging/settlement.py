"""
What becomes of a delivered message; pure.

    returned              ack
    TransientFault        nak with delay, for ever
    PermanentFault,
    ValidationError       dead letter, then term
    Refused               by its envelope: retryable like transient, else permanent
    anything else         a bug: nak with backoff up to a limit, then dead letter
"""

from dataclasses import dataclass

from pydantic import ValidationError

from contracts.problems import Code
from determinism import backoff_s
from faults import BUG_CODE, PermanentFault, TransientFault
from messaging.envelopes import validation_detail
from messaging.limits import BusLimits
from messaging.refusals import Refused


@dataclass(frozen=True, slots=True)
class Ack:
    """It was processed."""


@dataclass(frozen=True, slots=True)
class Nak:
    """Deliver it again, not before ``delay_s`` seconds have passed."""

    delay_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class Bury:
    """Keep it as a dead letter, then never deliver it again."""

    reason: str
    detail: str


Settlement = Ack | Nak | Bury


def settle(
    failure: Exception | None,
    *,
    deliveries: int,
    bugs: int,
    draw: float,
    limits: BusLimits,
) -> Settlement:
    """
    Decide what becomes of a message.

    Args:
        failure: What the handler raised; None when it returned.
        deliveries: How often it was delivered, this time included.
        bugs: How often a bug was raised on it here, this time included. Counted
            apart from deliveries, so that a long outage of a database or a
            vendor never uses up a message's tries.
        draw: A number from [0, 1), for the jitter.
        limits: First and longest delay, and how many bugs are too many.
    """
    match failure:
        case None:
            return Ack()
        case TransientFault():
            delay_s = _backoff(deliveries, draw, limits)
            if failure.retry_after_s is not None:
                delay_s = min(max(failure.retry_after_s, 0.0), limits.nak_cap_s)
            return Nak(delay_s, failure.code)
        case Refused():
            return _refused(failure, deliveries, draw, limits)
        case PermanentFault():
            return Bury(failure.code, failure.detail)
        case ValidationError():
            return Bury(Code.INVALID, validation_detail(failure))
        case _:
            if bugs >= limits.bug_deliveries_max:
                name = type(failure).__name__
                detail = f"the handler raised {name} {bugs} times; fix it, then replay"
                return Bury(BUG_CODE, detail)
            return Nak(_backoff(bugs, draw, limits), BUG_CODE)


def _refused(
    refused: Refused, deliveries: int, draw: float, limits: BusLimits
) -> Settlement:
    envelope = refused.envelope
    if not envelope.retryable:
        return Bury(envelope.problem.code, envelope.problem.detail)
    delay_s = _backoff(deliveries, draw, limits)
    if envelope.retry_after_s is not None:
        delay_s = min(envelope.retry_after_s, limits.nak_cap_s)
    return Nak(delay_s, envelope.problem.code)


def _backoff(attempt: int, draw: float, limits: BusLimits) -> float:
    return backoff_s(
        attempt, first_s=limits.nak_first_s, cap_s=limits.nak_cap_s, draw=draw
    )
