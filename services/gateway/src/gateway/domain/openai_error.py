"""Problems in OpenAI's envelope: ``{"error": {message, type, param, code}}``."""

from typing import Final

from contracts.message import JsonObject
from contracts.problems import STATUS, Code, FieldError, Problem, problem
from gateway.domain.fields import Unfit

REQUEST: Final = "invalid_request_error"
SERVER: Final = "server_error"

KINDS: Final[dict[Code, tuple[str, str | None]]] = {
    Code.INVALID: (REQUEST, None),
    Code.UNAUTHENTICATED: (REQUEST, "invalid_api_key"),
    Code.FORBIDDEN: ("permission_error", "forbidden"),
    Code.NOT_FOUND: (REQUEST, "not_found"),
    Code.CONFLICT: ("conflict_error", "conflict"),
    Code.IDEMPOTENCY_MISMATCH: (REQUEST, "idempotency_mismatch"),
    Code.TOO_LARGE: (REQUEST, "request_too_large"),
    Code.OVERLOADED: (SERVER, "overloaded"),
    Code.UNAVAILABLE: (SERVER, "service_unavailable"),
    Code.DEADLINE: (SERVER, "timeout"),
    Code.INTERNAL: (SERVER, None),
    Code.CANCELLED: (REQUEST, "cancelled"),
    Code.EMPLOYEE_UNKNOWN: (REQUEST, "not_found"),
    Code.MODEL_UNKNOWN: (REQUEST, "model_not_found"),
    Code.TURN_LIMIT: (REQUEST, "turn_limit_reached"),
    Code.TOKEN_LIMIT: (REQUEST, "token_limit_reached"),
    Code.OUTPUT_INVALID: (SERVER, "output_invalid"),
    Code.VENDOR_REFUSED: (REQUEST, "content_policy_violation"),
    Code.VENDOR_UNAVAILABLE: (SERVER, "vendor_unavailable"),
    Code.STREAM_CUT: (SERVER, "stream_cut"),
    Code.BUDGET_EXHAUSTED: ("insufficient_quota", "insufficient_quota"),
    Code.RATE_LIMITED: ("rate_limit_error", "rate_limit_exceeded"),
}
"""Code → OpenAI's ``type`` and ``code``."""
STATUSES: Final = {Code.VENDOR_REFUSED: 400}
"""Where OpenAI's own status differs from ours."""


def openai_error(what: Problem) -> JsonObject:
    """Return the body."""
    kind, code = KINDS[what.code]
    param = what.errors[0].pointer if what.errors else None
    return {
        "error": {"message": what.detail, "type": kind, "param": param, "code": code}
    }


def openai_status(what: Problem) -> int:
    """Return the HTTP status; one that a problem has for itself stands."""
    is_own = what.status != STATUS[what.code]
    return what.status if is_own else STATUSES.get(what.code, what.status)


def openai_problem(unfit: Unfit) -> Problem:
    """Say what does not fit, as OpenAI says it."""
    if unfit.is_unknown and "." not in unfit.field and "[" not in unfit.field:
        detail = f"Unrecognized request argument supplied: {unfit.field}"
    elif unfit.is_unknown:
        detail = f"Unknown parameter: '{unfit.field}'."
    else:
        detail = str(unfit)
    errors = (FieldError(pointer=unfit.field, detail=unfit.detail),)
    return problem(Code.INVALID, detail, errors=errors if unfit.field else ())
