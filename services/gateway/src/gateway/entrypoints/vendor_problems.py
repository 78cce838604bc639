"""Problems as either vendor's SDK reads them: envelope, status, retry headers."""

from math import ceil
from typing import Final

import orjson
from starlette.responses import Response

from contracts.problems import Code, Problem
from gateway.domain.anthropic_error import anthropic_error, anthropic_status
from gateway.domain.openai_error import openai_error, openai_status
from gateway.entrypoints.dialect import Dialect, request_id

JSON: Final = "application/json"
RETRY_AFTER_MAX_S: Final = 60.0
"""Anthropic's SDK obeys no longer wait."""
PASSING: Final = frozenset(
    {
        Code.DEADLINE,
        Code.OVERLOADED,
        Code.RATE_LIMITED,
        Code.STREAM_CUT,
        Code.UNAVAILABLE,
        Code.VENDOR_UNAVAILABLE,
    }
)
"""What a retry may not meet again, where nobody said."""


def vendor_response(
    what: Problem,
    dialect: Dialect,
    retry_after_s: float | None,
    *,
    retryable: bool | None,
) -> Response:
    """
    Return the response that a problem makes on a compatible path.

    Args:
        what: The problem.
        dialect: The vendor's.
        retry_after_s: How long to wait before a retry, if that is known.
        retryable: Whether a retry can help; None goes by the code.
    """
    found = request_id()
    if dialect is Dialect.ANTHROPIC:
        body, status = anthropic_error(what, found), anthropic_status(what)
        name = "request-id"
    else:
        body, status, name = openai_error(what), openai_status(what), "x-request-id"
    may_help = what.code in PASSING if retryable is None else retryable
    headers = {"x-should-retry": "true" if may_help else "false"}
    if found is not None:
        headers[name] = found
    if may_help and retry_after_s is not None:
        wait_s = min(retry_after_s, RETRY_AFTER_MAX_S)
        headers["retry-after"] = str(max(1, ceil(wait_s)))
        headers["retry-after-ms"] = str(max(1, ceil(wait_s * 1000)))
    if what.code is Code.UNAUTHENTICATED:
        headers["www-authenticate"] = "Bearer"
    return Response(orjson.dumps(body), status, headers, JSON)
