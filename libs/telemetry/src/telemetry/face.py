"""
The face of a service: is it alive, is it ready, what do its metrics say.

    /health   200 while the event loop turns
    /ready    200 when every check passes and the service is not draining, else
              503; a JSON object with each check's state either way
    /metrics  Prometheus text

A bare ASGI application on its own port, so that it answers even where a service
has no HTTP of its own, and costs no framework.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Generator, Mapping, MutableMapping
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import orjson
from prometheus_client import CollectorRegistry, generate_latest

from faults import Fault, PermanentFault
from telemetry.redaction import redact

if TYPE_CHECKING:
    import uvicorn

CHECK_LIMIT_S: Final = 2.0
CONNECTIONS_MAX: Final = 64
BACKLOG: Final = 512
STOP_LIMIT_S: Final = 3
KEEP_ALIVE_S: Final = 75
"""Longer than clients and load balancers keep an idle connection (5 to 60 s): whoever
hangs up first must be the one who does not send, or a request meets a closed one."""

OK: Final = 200
NOT_FOUND: Final = 404
METHOD_NOT_ALLOWED: Final = 405
UNAVAILABLE: Final = 503

JSON: Final = b"application/json"
PROMETHEUS: Final = b"text/plain; version=0.0.4; charset=utf-8"

Check = Callable[[], Awaitable[None]]
"""Returns when well; raises, saying what is wrong, when not."""
# ASGI's messages are mappings of anything.
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class Face:
    """
    The three paths, as an ASGI application and as a server of it.

    Args:
        service: The service's name.
        instance: This process's id.
        checks: What must be well for ``/ready``, by name.
        registry: What ``/metrics`` shows; nothing when absent.
    """

    def __init__(
        self,
        service: str,
        instance: str,
        checks: Mapping[str, Check],
        registry: CollectorRegistry | None = None,
        *,
        check_limit_s: float = CHECK_LIMIT_S,
    ) -> None:
        self._service = service
        self._instance = instance
        self._checks = dict(checks)
        self._registry = registry
        self._check_limit_s = check_limit_s
        self._is_draining = False

    def drain(self) -> None:
        """Answer ``/ready`` with 503 from now on, so that no new work is sent."""
        self._is_draining = True

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Answer one ASGI request."""
        if scope["type"] != "http":
            return
        if scope["method"] not in {"GET", "HEAD"}:
            body = orjson.dumps({"detail": "Only GET is answered here."})
            await _answer(send, METHOD_NOT_ALLOWED, JSON, body)
            return
        status, media_type, body = await self.answer(str(scope["path"]))
        await _answer(send, status, media_type, body)

    async def answer(self, path: str) -> tuple[int, bytes, bytes]:
        """Return status, media type and body of a path."""
        if path == "/health":
            return OK, JSON, self._body("alive", {})
        if path == "/ready":
            return await self._ready()
        if path == "/metrics":
            text = b"" if self._registry is None else generate_latest(self._registry)
            return OK, PROMETHEUS, text
        detail = "Ask for /health, /ready or /metrics."
        return NOT_FOUND, JSON, orjson.dumps({"detail": detail})

    async def _ready(self) -> tuple[int, bytes, bytes]:
        names = list(self._checks)
        found = await asyncio.gather(*(self._check(name) for name in names))
        states = dict(zip(names, found, strict=True))
        if self._is_draining:
            return UNAVAILABLE, JSON, self._body("draining", states)
        if all(state["status"] == "ok" for state in found):
            return OK, JSON, self._body("ready", states)
        return UNAVAILABLE, JSON, self._body("not-ready", states)

    async def _check(self, name: str) -> dict[str, str]:
        try:
            async with asyncio.timeout(self._check_limit_s):
                await self._checks[name]()
        except TimeoutError:
            limit = f"no answer within {self._check_limit_s:g} s"
            return {"status": "failed", "detail": limit}
        except Exception as error:  # noqa: BLE001 -- a check reports, whatever it is
            detail = error.detail if isinstance(error, Fault) else str(error)
            text = f"{type(error).__name__}: {detail}" if detail else repr(error)
            return {"status": "failed", "detail": str(redact(text))}
        return {"status": "ok"}

    def _body(self, status: str, checks: Mapping[str, Mapping[str, str]]) -> bytes:
        return orjson.dumps(
            {
                "status": status,
                "service": self._service,
                "instance": self._instance,
                "checks": checks,
            }
        )


class HttpServer:
    """
    Serves an ASGI application while its context is open; handles no signals.

    Args:
        app: What to serve: a face, or the gateway's API.
        host: Address to listen on.
        port: 0 takes a free one; ``port`` tells which.
        connections_max: Above this many at once, 503.
        on_listening: Called once with the actual port.
    """

    def __init__(
        self,
        app: Application,
        host: str,
        port: int,
        *,
        connections_max: int = CONNECTIONS_MAX,
        on_listening: Callable[[int], None] | None = None,
    ) -> None:
        self._app = app
        self._connections_max = connections_max
        self._host = host
        self._wanted = port
        self._on_listening = on_listening
        self._server: uvicorn.Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self.port = port

    @property
    def url(self) -> str:
        """Return the base URL, once listening."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self.port}"

    async def __aenter__(self) -> Self:
        """
        Listen.

        Raises:
            PermanentFault: The address is taken or not ours.
        """
        listening = _listen(self._host, self._wanted)
        self.port = int(listening.getsockname()[1])
        self._server = _server(self._app, self._connections_max)
        # tidy: __aexit__ ends and awaits it.
        self._serving = asyncio.create_task(
            self._server.serve(sockets=[listening]), name="face"
        )
        if self._on_listening is not None:
            self._on_listening(self.port)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop listening; requests under way get a moment to end."""
        if self._server is None or self._serving is None:
            return
        self._server.should_exit = True
        await self._serving


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server(
            (host, port),
            family=socket.AF_INET6 if ":" in host else socket.AF_INET,
            backlog=BACKLOG,
        )
    except OSError as cause:
        detail = (
            f"listen on {host}:{port}: {cause.strerror}; "
            "choose another HTTP_HOST or HTTP_PORT, or 0 for a free port"
        )
        raise PermanentFault(detail, code="address-unavailable") from cause


def _server(app: Application, connections_max: int) -> "uvicorn.Server":
    import uvicorn  # noqa: PLC0415 -- slow import, wanted only by who serves

    class Server(uvicorn.Server):
        """Leaves signals to the process's own shutdown."""

        @contextmanager
        def capture_signals(self) -> Generator[None]:
            yield

    return Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            limit_concurrency=connections_max,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=STOP_LIMIT_S,
            server_header=False,
        )
    )


async def _answer(send: Send, status: int, media_type: bytes, body: bytes) -> None:
    headers = [
        (b"content-type", media_type),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
