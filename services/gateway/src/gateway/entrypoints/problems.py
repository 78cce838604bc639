"""Refusals, faults and bad input as RFC 9457 problem details."""

from collections.abc import Sequence
from math import ceil
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from contracts.problems import Code, FieldError, Problem, problem
from faults import DeadlineExceeded, PermanentFault, TransientFault
from gateway.entrypoints.dialect import Dialect, Scope, dialect_of
from gateway.entrypoints.vendor_problems import vendor_response
from messaging.refusals import Refused

MEDIA_TYPE: Final = "application/problem+json"
ERRORS_MAX: Final = 20
UNAUTHENTICATED: Final = 401
UNAVAILABLE: Final = 503
RETRY_AFTER_S: Final = 1.0

CODE_OF_STATUS: Final = {
    400: Code.INVALID,
    401: Code.UNAUTHENTICATED,
    403: Code.FORBIDDEN,
    404: Code.NOT_FOUND,
    405: Code.INVALID,
    413: Code.TOO_LARGE,
    503: Code.UNAVAILABLE,
}


def install(app: FastAPI) -> None:
    """Answer every error with a problem."""
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(TransientFault, _transient)
    app.add_exception_handler(PermanentFault, _permanent)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)


def respond(
    what: Problem,
    scope: Scope,
    retry_after_s: float | None = None,
    *,
    retryable: bool | None = None,
) -> Response:
    """
    Return the response that a problem makes, in the words of the path's dialect.

    Args:
        what: The problem.
        scope: The request that it belongs to.
        retry_after_s: How long to wait before a retry, if that is known.
        retryable: Whether a retry can help; None goes by the code.
    """
    if retry_after_s is None and what.status == UNAVAILABLE:
        retry_after_s = RETRY_AFTER_S
    dialect = dialect_of(scope)
    if dialect is not Dialect.OURS:
        return vendor_response(what, dialect, retry_after_s, retryable=retryable)
    headers: dict[str, str] = {}
    if retry_after_s is not None:
        headers["retry-after"] = str(max(1, ceil(retry_after_s)))
    if what.status == UNAUTHENTICATED:
        headers["www-authenticate"] = "Bearer"
    return JSONResponse(
        what.model_dump(mode="json", exclude_none=True),
        what.status,
        headers,
        MEDIA_TYPE,
    )


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)  # noqa: S101 -- Starlette dispatches by type
    found = error.envelope.problem
    placed = found.model_copy(update={"instance": found.instance or request.url.path})
    envelope = error.envelope
    # Our own refusals leave ``retryable`` at its default, so only a yes says something.
    retryable = True if envelope.retryable else None
    return respond(placed, request.scope, envelope.retry_after_s, retryable=retryable)


async def _transient(request: Request, error: Exception) -> Response:
    assert isinstance(error, TransientFault)  # noqa: S101 -- dispatched by type
    is_deadline = isinstance(error, DeadlineExceeded)
    code = Code.DEADLINE if is_deadline else Code.UNAVAILABLE
    found = problem(code, error.detail, instance=request.url.path)
    return respond(found, request.scope, error.retry_after_s or RETRY_AFTER_S)


async def _permanent(request: Request, error: Exception) -> Response:
    assert isinstance(error, PermanentFault)  # noqa: S101 -- dispatched by type
    # A body that is not valid was refused before any port was asked: what a port
    # can never do is a fault between services, not the caller's.
    found = problem(Code.INTERNAL, error.detail, instance=request.url.path)
    return respond(found, request.scope)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 -- by type
    return respond(invalid(error.errors(), request.url.path), request.scope)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 -- dispatched by type
    code = CODE_OF_STATUS.get(error.status_code, Code.INVALID)
    found = problem(code, str(error.detail), instance=request.url.path)
    placed = found.model_copy(update={"status": error.status_code})
    response = respond(placed, request.scope)
    response.headers.update(error.headers or {})
    return response


def bug(scope: Scope) -> Response:
    """Return what is said of an error that is ours; the log has the exception."""
    detail = "an internal error: try again, and report the x-trace-id if it stays"
    return respond(problem(Code.INTERNAL, detail, instance=scope["path"]), scope)


# pydantic's error lists are untyped dictionaries.
def invalid(errors: Sequence[Any], instance: str) -> Problem:
    """Return the problem of a body or parameter that does not validate."""
    fields = tuple(_field(error) for error in errors[:ERRORS_MAX])
    first = fields[0] if fields else None
    detail = (
        "the request is not valid"
        if first is None
        else f"{first.pointer or 'the body'}: {first.detail}"
    )
    return problem(Code.INVALID, detail, instance=instance, errors=fields)


def _field(error: Any) -> FieldError:
    if error["type"] == "json_invalid":
        reason = error.get("ctx", {}).get("error", error["msg"])
        return FieldError(pointer="", detail=f"is not JSON in UTF-8: {reason}")
    return FieldError(pointer=_pointer(error["loc"]), detail=error["msg"])


def _pointer(location: Sequence[str | int]) -> str:
    path = location[1:] if location and location[0] == "body" else location
    return "".join(f"/{part}" for part in path)
