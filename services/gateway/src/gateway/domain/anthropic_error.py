"""Problems in Anthropic's envelope: ``{"type": "error", "error": {type, message}}``."""

from typing import Final

from contracts.message import JsonObject
from contracts.problems import STATUS, Code, FieldError, Problem, problem
from gateway.domain.fields import Unfit

REQUEST: Final = "invalid_request_error"
SERVER: Final = "api_error"

KINDS: Final[dict[Code, str]] = {
    Code.INVALID: REQUEST,
    Code.UNAUTHENTICATED: "authentication_error",
    Code.FORBIDDEN: "permission_error",
    Code.NOT_FOUND: "not_found_error",
    Code.CONFLICT: "conflict_error",
    Code.IDEMPOTENCY_MISMATCH: REQUEST,
    Code.TOO_LARGE: "request_too_large",
    Code.OVERLOADED: "overloaded_error",
    Code.UNAVAILABLE: SERVER,
    Code.DEADLINE: "timeout_error",
    Code.INTERNAL: SERVER,
    Code.CANCELLED: REQUEST,
    Code.EMPLOYEE_UNKNOWN: "not_found_error",
    Code.MODEL_UNKNOWN: "not_found_error",
    Code.TURN_LIMIT: REQUEST,
    Code.TOKEN_LIMIT: REQUEST,
    Code.OUTPUT_INVALID: SERVER,
    Code.VENDOR_REFUSED: REQUEST,
    Code.VENDOR_UNAVAILABLE: SERVER,
    Code.STREAM_CUT: SERVER,
    Code.BUDGET_EXHAUSTED: "billing_error",
    Code.RATE_LIMITED: "rate_limit_error",
}
DETAILS: Final[dict[str, JsonObject]] = {
    "thread": {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}
}
"""
What the SDK reads of a refused field.

Its tool runner first asks the API to hold the conversation; refused so, it goes on
with the whole conversation in every request.
"""
STATUSES: Final = {Code.VENDOR_REFUSED: 400, Code.OVERLOADED: 529}
"""Where Anthropic's own status differs from ours."""


def anthropic_error(what: Problem, request_id: str | None) -> JsonObject:
    """Return the body."""
    error: JsonObject = {"type": KINDS[what.code], "message": what.detail}
    details = DETAILS.get(what.errors[0].pointer) if what.errors else None
    if details is not None:
        error["details"] = details
    return {"type": "error", "error": error, "request_id": request_id}


def anthropic_status(what: Problem) -> int:
    """Return the HTTP status; one that a problem has for itself stands."""
    is_own = what.status != STATUS[what.code]
    return what.status if is_own else STATUSES.get(what.code, what.status)


def anthropic_problem(unfit: Unfit) -> Problem:
    """Say what does not fit, as Anthropic says it."""
    detail = str(unfit)
    if unfit.is_unknown:
        detail = f"{unfit.field}: Extra inputs are not permitted"
    errors = (FieldError(pointer=unfit.field, detail=unfit.detail),)
    return problem(Code.INVALID, detail, errors=errors if unfit.field else ())
