"""
A process's life: face up, connect, subscribe, work, drain, end.

``/ready`` says 503 until everything is subscribed, and again from the moment a
signal asks the process to end. Draining loses nothing: requests that had reached
this replica are answered, work that was fetched is finished or nak'd. The process
ends with code 1 when a loop dies or NATS is closed for good, so that whoever
supervises it starts a new one.
"""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from contracts.subjects import Service
from determinism import Clock, IdSource, SystemClock, SystemIds
from faults import TransientFault
from messaging.nats_bus import NatsBus
from messaging.settings import ServiceSettings
from messaging.subscriptions import Runnable
from telemetry import configure, get_logger
from telemetry.face import Face, HttpServer

log = get_logger()

Check = Callable[[], Awaitable[None]]
STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
LOOPS_STOP_S: Final = 5.0


@dataclass(frozen=True)
class Ending:
    """Why a process ends, and with which code."""

    reason: str
    code: int


def connect_bus(
    service: Service,
    settings: ServiceSettings,
    *,
    clock: Clock | None = None,
    ids: IdSource | None = None,
) -> NatsBus:
    """Build, but do not open, the bus that a service's settings describe."""
    password = settings.nats_password
    return NatsBus(
        service,
        url=settings.nats_url,
        user=settings.nats_user,
        password=None if password is None else password.get_secret_value(),
        instance=settings.instance,
        track=settings.track,
        clock=clock or SystemClock(),
        ids=ids or SystemIds(),
    )


async def serve(
    runnable: Runnable,
    *,
    bus: NatsBus,
    checks: Mapping[str, Check],
    settings: ServiceSettings,
    on_listening: Callable[[int], None] | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """
    Run a service until a signal or a fatal fault.

    Args:
        runnable: What it listens to, and its loops.
        bus: Not yet connected.
        checks: What else must be well for readiness, by name.
        settings: Where the face listens.
        on_listening: Called once with the face's actual port.
        stop: Ends the service when set, as a signal does; for tests.

    Raises:
        SystemExit: With code 1, when a loop died or NATS is closed for good.
    """
    stopping = stop or asyncio.Event()
    bus.sink = runnable.sink
    observed = configure(
        runnable.service,
        bus.instance,
        log_level=settings.log_level,
        app_env=settings.app_env,
        trace_file=settings.trace_file,
        otlp_endpoint=settings.otlp_endpoint,
    )
    life = _Life(runnable, bus, stopping)
    face = Face(
        str(runnable.service),
        bus.instance,
        {"nats": bus.check, "subscribed": life.check_subscribed, **checks},
        observed.registry,
    )
    server = HttpServer(
        face, settings.http_host, settings.http_port, on_listening=on_listening
    )
    _listen_to_signals(stopping)
    try:
        async with server:
            log.info("service_started", port=server.port)
            ending = await life.run()
            face.drain()
            log.info("service_draining", reason=ending.reason)
            await life.end()
    finally:
        observed.shutdown()
    log.info("service_stopped", code=ending.code)
    if ending.code:
        sys.exit(ending.code)


class _Life:
    """One run of a service."""

    def __init__(self, runnable: Runnable, bus: NatsBus, stop: asyncio.Event) -> None:
        self._runnable = runnable
        self._bus = bus
        self._stop = stop
        self._is_subscribed = False
        self._tasks: list[asyncio.Task[None]] = []

    async def check_subscribed(self) -> None:
        """
        Pass once everything is subscribed.

        Raises:
            TransientFault: Not yet.
        """
        if not self._is_subscribed:
            raise TransientFault("waiting for NATS and its durables")

    async def run(self) -> Ending:
        """Start everything, then wait for what ends it."""
        starting = self._begin(self._start(), "subscribe")
        loops = [
            self._begin(_as_coroutine(loop), _name_of(loop))
            for loop in self._runnable.loops
        ]
        stopped = self._begin(_wait(self._stop), "stop")
        closed = self._begin(_wait(self._bus.closed), "closed")
        watched = {*loops, stopped, closed}
        done, _ = await asyncio.wait(
            {starting, *watched}, return_when=asyncio.FIRST_COMPLETED
        )
        if starting in done and starting.exception() is None:
            log.info("service_ready")
            done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        return _ending(done, stopped=stopped, closed=closed)

    async def end(self) -> None:
        """Drain, stop the loops, flush, close; never raises."""
        self._is_subscribed = False
        starting, *others = self._tasks
        await _cancel([starting])
        await self._bus.quiesce()
        await _cancel(others)
        await self._bus.close()

    # Any: what a coroutine yields and is sent is asyncio's business.
    def _begin(self, job: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        # tidy: owned by ``end``; a group would end all when one does
        task = asyncio.create_task(job, name=name)
        self._tasks.append(task)
        return task

    async def _start(self) -> None:
        await self._bus.connect()
        await self._bus.subscribe(*self._runnable.subscriptions)
        self._is_subscribed = True


def _ending(
    done: set[asyncio.Task[None]],
    *,
    stopped: asyncio.Task[None],
    closed: asyncio.Task[None],
) -> Ending:
    for task in done - {stopped, closed}:
        error = None if task.cancelled() else task.exception()
        log.critical("loop_failed", loop=task.get_name(), exc_info=error)
        return Ending(f"{task.get_name()} ended", 1)
    if closed in done:
        return Ending("NATS is closed for good", 1)
    return Ending("asked to stop", 0)


def _listen_to_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        try:
            loop.add_signal_handler(number, stop.set)
        except (NotImplementedError, RuntimeError, ValueError):
            # Not the main thread: whoever runs us sets ``stop`` instead.
            return


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=LOOPS_STOP_S)


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


async def _as_coroutine(loop: Callable[[], Awaitable[None]]) -> None:
    await loop()


def _name_of(loop: Callable[[], Awaitable[None]]) -> str:
    return str(getattr(loop, "__qualname__", "loop"))
