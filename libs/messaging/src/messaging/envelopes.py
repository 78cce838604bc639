"""From what a handler raised to the error that its asker reads; pure."""

from typing import Final

from pydantic import ValidationError

from contracts.problems import Code, ErrorEnvelope, FieldError, problem
from faults import DeadlineExceeded, PermanentFault, TransientFault
from messaging.refusals import Refused

ERRORS_SHOWN_MAX: Final = 20
CODES: Final = {code.value: code for code in Code}


def envelope_of(failure: BaseException) -> ErrorEnvelope:
    """Return the envelope of a refusal, a fault or a bug; a bug's text stays here."""
    match failure:
        case Refused():
            return failure.envelope
        case DeadlineExceeded():
            return _fault(failure.code, Code.DEADLINE, failure.detail, failure)
        case TransientFault():
            return _fault(failure.code, Code.UNAVAILABLE, failure.detail, failure)
        case PermanentFault():
            return _fault(failure.code, Code.INVALID, failure.detail, None)
        case ValidationError():
            return ErrorEnvelope(
                problem=problem(
                    Code.INVALID,
                    validation_detail(failure),
                    errors=field_errors(failure),
                )
            )
        case _:
            detail = "something went wrong here; its log has the trace id"
            return ErrorEnvelope(problem=problem(Code.INTERNAL, detail))


def validation_detail(failure: ValidationError) -> str:
    """Say what did not fit, without repeating the input."""
    first = field_errors(failure)[0]
    more = failure.error_count() - 1
    also = f" (and {more} more)" if more else ""
    where = first.pointer or "the body"
    return f"{failure.title}: {where}: {first.detail}{also}"


def field_errors(failure: ValidationError) -> tuple[FieldError, ...]:
    """Return the fields that did not fit, at most twenty."""
    found = failure.errors(include_input=False, include_url=False)
    return tuple(
        FieldError(
            pointer="".join(f"/{part}" for part in error["loc"]), detail=error["msg"]
        )
        for error in found[:ERRORS_SHOWN_MAX]
    )


def _fault(
    code: str, otherwise: Code, detail: str, transient: TransientFault | None
) -> ErrorEnvelope:
    known = CODES.get(code, otherwise)
    return ErrorEnvelope(
        problem=problem(known, detail),
        retryable=transient is not None,
        retry_after_s=None if transient is None else transient.retry_after_s,
    )
