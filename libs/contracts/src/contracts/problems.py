"""
Errors on the wire: RFC 9457 problem details, and their envelope on NATS.

The same ``Problem`` is a task's error, an HTTP error body and the inside of an
error reply, so that a reader learns one shape.
"""

from enum import StrEnum

from pydantic import Field

from contracts.message import Message
from contracts.rates import RateStanding

PROBLEM_TYPE_PREFIX = "urn:digital-employee:problem:"


class Code(StrEnum):
    """Why something was refused or failed; stable words for programs."""

    INVALID = "invalid"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not-found"
    CONFLICT = "conflict"
    IDEMPOTENCY_MISMATCH = "idempotency-mismatch"
    TOO_LARGE = "too-large"
    OVERLOADED = "overloaded"
    UNAVAILABLE = "temporarily-unavailable"
    DEADLINE = "deadline-exceeded"
    INTERNAL = "internal-error"
    CANCELLED = "cancelled"
    EMPLOYEE_UNKNOWN = "employee-unknown"
    MODEL_UNKNOWN = "model-unknown"
    TURN_LIMIT = "turn-limit-reached"
    TOKEN_LIMIT = "token-limit-reached"  # noqa: S105 -- not a password
    OUTPUT_INVALID = "output-invalid"
    VENDOR_REFUSED = "vendor-refused"
    VENDOR_UNAVAILABLE = "vendor-unavailable"
    STREAM_CUT = "stream-cut"
    BUDGET_EXHAUSTED = "budget-exhausted"
    RATE_LIMITED = "rate-limited"


STATUS: dict[Code, int] = {
    Code.INVALID: 400,
    Code.UNAUTHENTICATED: 401,
    Code.FORBIDDEN: 403,
    Code.NOT_FOUND: 404,
    Code.CONFLICT: 409,
    Code.IDEMPOTENCY_MISMATCH: 422,
    Code.TOO_LARGE: 413,
    Code.OVERLOADED: 503,
    Code.UNAVAILABLE: 503,
    Code.DEADLINE: 504,
    Code.INTERNAL: 500,
    Code.CANCELLED: 409,
    Code.EMPLOYEE_UNKNOWN: 404,
    Code.MODEL_UNKNOWN: 404,
    Code.TURN_LIMIT: 422,
    Code.TOKEN_LIMIT: 422,
    Code.OUTPUT_INVALID: 422,
    Code.VENDOR_REFUSED: 502,
    Code.VENDOR_UNAVAILABLE: 502,
    Code.STREAM_CUT: 502,
    Code.BUDGET_EXHAUSTED: 402,
    Code.RATE_LIMITED: 429,
}


class FieldError(Message):
    """One field that was wrong."""

    pointer: str
    """JSON pointer to the field: ``/goal``."""
    detail: str
    """What is wrong with it, and what would be right."""


class Problem(Message):
    """RFC 9457 problem details."""

    type: str
    """``urn:digital-employee:problem:<code>``."""
    title: str
    """The code in words; the same for every occurrence."""
    status: int = Field(ge=400, le=599)
    """The HTTP status that fits."""
    code: Code
    """Why, for programs."""
    detail: str
    """This occurrence: what was attempted, and what to do."""
    instance: str | None = None
    """What it happened to: a task's URL path, or a pointer into a workflow."""
    errors: tuple[FieldError, ...] = ()
    """The fields that were wrong, if fields were."""


class ErrorEnvelope(Message):
    """The body of a NATS reply that carries an error."""

    problem: Problem
    """What went wrong."""
    retryable: bool = False
    """Whether asking again later may help."""
    retry_after_s: float | None = Field(default=None, ge=0)
    """Seconds to wait before asking again."""
    rates: tuple[RateStanding, ...] | None = None
    """The rate limits that the call was held to, where one of them refused it."""


def problem(
    code: Code,
    detail: str,
    *,
    instance: str | None = None,
    errors: tuple[FieldError, ...] = (),
) -> Problem:
    """Build the problem of a code, with its status and title."""
    return Problem(
        type=PROBLEM_TYPE_PREFIX + code,
        title=code.replace("-", " ").capitalize(),
        status=STATUS[code],
        code=code,
        detail=detail,
        instance=instance,
        errors=errors,
    )
