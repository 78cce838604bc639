"""
One run of a process in the simulation, from its start to its crash.

A crash is no cancellation. Every task, timer and callback that was begun inside
the incarnation carries it in its context, and the loop runs none of them once it
is dead: no ``finally``, no ``except``, nothing. What it had handed to NATS or
committed stays; its subscriptions are gone with it.
"""

import asyncio
import contextvars
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
)
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from typing import Any, Final, Literal, TypeVar

from sqlalchemy import Connection

from contracts.completions import CompletionRequest
from contracts.embeddings import EmbeddingRequest
from contracts.message import Message
from contracts.subjects import Address
from determinism import Clock
from messaging.bus import Bus, FrameStream, Outgoing
from persistence.database import Database
from persistence.tables import SharedTables
from testkit.chance import Chance
from testkit.clock import OWNER

T = TypeVar("T")
M = TypeVar("M", bound=Message)

PAUSE_S_MAX: Final = 0.02
PAUSED: Final = 0.2
YIELDED: Final = 0.3


class Incarnation:
    """
    One run of a process.

    Args:
        name: Which process, and which run of it: ``ai-broker-1.3``.
        chance: Decides where it pauses and crashes.
        crash_after_steps: Crash when this many of its callbacks have run; None
            never does by itself.
        crashes: How likely each ``point`` is to be its last.
        on_crash: Told of the crash, once.
        record: Notes what happened.
    """

    def __init__(
        self,
        name: str,
        chance: Chance,
        *,
        crash_after_steps: int | None = None,
        crashes: float = 0.0,
        on_crash: Callable[[str], None] = lambda _where: None,
        record: Callable[[str, str], None] = lambda _what, _which: None,
    ) -> None:
        self.name = name
        self._chance = chance
        self._left = crash_after_steps
        self._crashes = crashes
        self._on_crash = on_crash
        self._record = record
        self._is_alive = True
        self._tasks: list[asyncio.Task[Any]] = []
        self.store: tuple[Database, SharedTables, Callable[[], datetime]] | None = None
        """What the planted bugs need of the process."""
        self.admitted_ahead: set[str] = set()

    @property
    def is_alive(self) -> bool:
        """Tell whether anything of it may still run."""
        return self._is_alive

    def step(self) -> None:
        """Count one callback; the one that it was to crash at does not run."""
        if self._left is None:
            return
        self._left -= 1
        if self._left <= 0:
            self.crash("step")

    def crash(self, where: str) -> None:
        """End it, now: nothing of it runs again."""
        if not self._is_alive:
            return
        self._is_alive = False
        self._record("crash", f"{self.name} {where}")
        self._on_crash(where)

    def calm(self) -> None:
        """Crash no more by itself: the quiet period has begun."""
        self._left = None
        self._crashes = 0.0

    # Any: what a coroutine yields and is sent is asyncio's business.
    def start(self, program: Coroutine[Any, Any, None]) -> None:
        """Run a program as part of this incarnation."""
        context = contextvars.copy_context()
        context.run(OWNER.set, self)
        task = asyncio.get_running_loop().create_task(program, context=context)
        # Kept, so that nothing of a dead incarnation is collected, and thereby
        # closed, in the middle of the run.
        self._tasks.append(task)

    def finished(self) -> list[asyncio.Task[Any]]:
        """Return its programs that have ended; a service's never should."""
        return [task for task in self._tasks if task.done()]

    async def point(self, name: str) -> None:
        """Pause, or crash and never return, or go on at once, by the seed."""
        if self._chance.happens(self._crashes, "crash", self.name, name):
            self.crash(name)
        draw = self._chance.draw("pause", self.name, name)
        if draw < PAUSED:
            await asyncio.sleep(PAUSE_S_MAX * draw / PAUSED)
        elif draw < PAUSED + YIELDED or not self._is_alive:
            await asyncio.sleep(0)


class GatedClock:
    """A Clock whose sleeps are places to crash."""

    def __init__(self, clock: Clock, incarnation: Incarnation) -> None:
        self._clock = clock
        self._incarnation = incarnation
        self.now = clock.now
        self.monotonic = clock.monotonic

    async def sleep(self, duration_s: float) -> None:
        """Return after ``duration_s`` virtual seconds, if the process lives."""
        await self._clock.sleep(duration_s)
        await self._incarnation.point("clock.slept")


class GatedDatabase:
    """A Database that may crash before a transaction, or after its commit."""

    def __init__(self, database: Database, incarnation: Incarnation) -> None:
        self._database = database
        self._incarnation = incarnation
        self.check = database.check
        self.close = database.close

    @property
    def dialect(self) -> Literal["sqlite", "postgresql"]:
        """Which SQL the store speaks."""
        return self._database.dialect

    @property
    def store_id(self) -> str:
        """Return the store's id."""
        return self._database.store_id

    async def run(self, transaction: Callable[[Connection], T]) -> T:
        """Run a transaction; its caller may never learn that it was committed."""
        await self._incarnation.point("store.begin")
        result = await self._database.run(transaction)
        await self._incarnation.point("store.committed")
        return result

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run a query."""
        await self._incarnation.point("store.read")
        return await self._database.read(query)


class GatedBus:
    """A Bus whose every call is a place to crash, before and after."""

    def __init__(self, bus: Bus, incarnation: Incarnation) -> None:
        self._bus = bus
        self._incarnation = incarnation

    @property
    def instance(self) -> str:
        """Return the process's id."""
        return self._bus.instance

    async def publish(self, outgoing: Outgoing) -> None:
        """Publish, and perhaps never learn of the PubAck."""
        await self._gated("publish", lambda: self._bus.publish(outgoing))

    async def announce(self, subject: str, message: Message) -> None:
        """Publish and forget."""
        await self._gated("announce", lambda: self._bus.announce(subject, message))

    async def request(
        self, address: Address, request: Message, reply: type[M], *, timeout_s: float
    ) -> M:
        """Ask, and perhaps never learn the answer."""
        return await self._gated(
            "request",
            lambda: self._bus.request(address, request, reply, timeout_s=timeout_s),
        )

    @asynccontextmanager
    async def complete(
        self, request: CompletionRequest | EmbeddingRequest
    ) -> AsyncGenerator[FrameStream]:
        """Ask ai-broker."""
        await self._incarnation.point("bus.complete")
        async with self._bus.complete(request) as stream:
            yield stream

    def watch(
        self, subject: str, message: type[M]
    ) -> AbstractAsyncContextManager[AsyncIterator[M]]:
        """Hear a core subject."""
        return self._bus.watch(subject, message)

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        """Call this after every reconnect, if the bus tells of them."""
        tell = getattr(self._bus, "on_reconnect", None)
        if tell is not None:
            tell(callback)

    async def _gated(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        await self._incarnation.point(f"bus.{name}")
        result = await call()
        await self._incarnation.point(f"bus.{name}.returned")
        return result
