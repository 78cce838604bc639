"""What every request passes: a body limit, a trace, a metric, a log line."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from starlette.requests import Request

import telemetry
from contracts.problems import Code, problem
from determinism import Clock
from gateway.entrypoints.problems import respond
from telemetry import SpanKind

# ASGI's messages are mappings of anything.
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

SERVER_ERROR: Final = 500
UNMATCHED: Final = "unmatched"

log = telemetry.get_logger()


class LimitBody:
    """Refuse a body above the limit with 413, declared or streamed."""

    def __init__(self, app: App, bytes_max: int) -> None:
        self._app = app
        self._bytes_max = bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, counting what it sends."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = Request(scope).headers.get("content-length", "0")
        if declared.isdigit() and int(declared) > self._bytes_max:
            await self._refuse(scope, receive, send)
            return
        body = await self._read(receive)
        if body is None:
            await self._refuse(scope, receive, send)
            return
        await self._app(scope, _replay(body, receive), send)

    async def _read(self, receive: Receive) -> bytes | None:
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return b"".join(chunks)
            chunk: bytes = message.get("body", b"")
            size += len(chunk)
            if size > self._bytes_max:
                return None
            chunks.append(chunk)
            if not message.get("more_body", False):
                return b"".join(chunks)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        detail = (
            f"the body is above {self._bytes_max} bytes: send less, or split the task"
        )
        found = problem(Code.TOO_LARGE, detail, instance=scope["path"])
        response = respond(found)
        response.headers["connection"] = "close"
        await response(scope, receive, send)


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
        status = SERVER_ERROR
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
        method: str = scope["method"]
        with telemetry.consumer_span(f"HTTP {method}", headers, kind=SpanKind.SERVER):
            try:
                await self._app(scope, receive, watch)
            except Exception:
                log.exception("request_failed", method=method, route=_route(scope))
                raise
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
