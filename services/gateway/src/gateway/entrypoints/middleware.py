"""What every request passes: a body limit, a trace, a metric, a log line."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any, Final

from starlette.requests import Request

import telemetry
from contracts.problems import Code, Problem, problem
from determinism import Clock
from gateway.entrypoints.problems import bug, respond
from telemetry import SpanKind

# ASGI's messages are mappings of anything.
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

REQUEST_TIMEOUT: Final = 408
DISCARD_LIMIT_S: Final = 2.0
DISCARD_BYTES_MAX: Final = 64 << 20
CLIENT_LEFT: Final = 499
"""Logged when no answer was begun; never sent."""
UNMATCHED: Final = "unmatched"
OTHER: Final = "OTHER"
METHODS: Final = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
"""What may be a label; callers can spell any other."""

log = telemetry.get_logger()


class LimitBody:
    """
    Read a body whole, within a size and a time; refuse it otherwise.

    Args:
        app: What gets the request once its body is whole.
        bytes_max: A larger one is refused with 413, declared or streamed.
        limit_s: A slower one is refused with 408.
        special: Paths with another ``bytes_max``.
    """

    def __init__(
        self,
        app: App,
        bytes_max: int,
        limit_s: float = 30.0,
        special: Mapping[str, int] | None = None,
    ) -> None:
        self._app = app
        self._bytes_max = bytes_max
        self._limit_s = limit_s
        self._special = dict(special or {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, once its body is whole."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        bytes_max = self._special.get(scope["path"], self._bytes_max)
        try:
            async with asyncio.timeout(self._limit_s):
                body = await _read(scope, receive, bytes_max)
        except _TooLarge:
            detail = f"the body is above {bytes_max} bytes: send less"
            found = problem(Code.TOO_LARGE, detail, instance=scope["path"])
            await _refuse(found, scope, receive, send)
        except TimeoutError:
            detail = f"the body did not come within {self._limit_s:g} s: send it again"
            found = problem(Code.DEADLINE, detail, instance=scope["path"])
            late = found.model_copy(update={"status": REQUEST_TIMEOUT})
            await _refuse(late, scope, receive, send)
        else:
            # A caller that left halfway gets no answer, and half a body no reader.
            if body is not None:
                await self._app(scope, _replay(body, receive), send)


async def _read(scope: Scope, receive: Receive, bytes_max: int) -> bytes | None:
    """Return the body; None when the caller left before its end."""
    declared = Request(scope).headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > bytes_max:
        raise _TooLarge
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        if len(body) > bytes_max:
            raise _TooLarge
        if not message.get("more_body", False):
            return bytes(body)


class _TooLarge(Exception):
    """The body is above the limit."""


async def _refuse(what: Problem, scope: Scope, receive: Receive, send: Send) -> None:
    """
    Answer at once, then let the caller finish within bounds.

    A connection closed on unread bytes is reset, and the reset overtakes the answer:
    many callers only read it once they have sent everything.
    """
    response = respond(what, scope)
    response.headers["connection"] = "close"

    async def send_unfinished(message: Message) -> None:
        if message["type"] == "http.response.body":
            message["more_body"] = True
        await send(message)

    await response(scope, receive, send_unfinished)
    with suppress(TimeoutError):
        async with asyncio.timeout(DISCARD_LIMIT_S):
            await _discard(receive)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _discard(receive: Receive) -> None:
    size = 0
    while size < DISCARD_BYTES_MAX:
        message = await receive()
        if not message.get("more_body", False):
            return
        size += len(message.get("body", b""))


class Observe:
    """Trace, count and log every request by its route's template."""

    def __init__(self, app: App, clock: Clock) -> None:
        self._app = app
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, watching the response's status."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = CLIENT_LEFT
        began = self._clock.monotonic()

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                trace_id = telemetry.trace_id()
                if trace_id is not None:
                    message["headers"] = [
                        *message["headers"],
                        (b"x-trace-id", trace_id.encode()),
                    ]
            await send(message)

        headers = {
            k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]
        }
        method: str = scope["method"] if scope["method"] in METHODS else OTHER
        with telemetry.consumer_span(f"HTTP {method}", headers, kind=SpanKind.SERVER):
            try:
                await self._app(scope, receive, watch)
            except Exception as error:
                log.exception("request_failed", method=method, route=_route(scope))
                telemetry.set_attributes({"error.type": type(error).__name__})
                if status != CLIENT_LEFT:
                    # An answer that has begun is cut, so that it looks unfinished.
                    raise
                await bug(scope)(scope, receive, watch)
            finally:
                self._record(scope, method, status, began)

    def _record(self, scope: Scope, method: str, status: int, began: float) -> None:
        route = _route(scope)
        duration_s = self._clock.monotonic() - began
        telemetry.set_attributes({"http.route": route, "http.status": status})
        telemetry.metrics.http_requests_total.add(
            1, method=method, route=route, status=status
        )
        telemetry.metrics.http_request_duration_seconds.record(
            duration_s, method=method, route=route, status=status
        )
        log.info(
            "request_finished",
            method=method,
            route=route,
            status=status,
            duration_s=round(duration_s, 4),
        )


def _route(scope: Scope) -> str:
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else UNMATCHED


def _replay(body: bytes, receive: Receive) -> Receive:
    """Give the body once, then what the server says: the client's departure."""
    is_given = False

    async def replay() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
