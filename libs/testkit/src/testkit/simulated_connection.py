"""
A connection to the simulated NATS, in the shape that messaging's own code uses.

Everything above the connection is production's: answering, frames, settling, the
events feed and the relay run unchanged. What stands in for nats-py and FastStream
is here: subscriptions that call back one message at a time, requests, and pull
subscribers with a bound of workers.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from types import SimpleNamespace
from typing import Any, Final, cast

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.errors import NotFoundError

from contracts.subjects import Service
from faults import DeadlineExceeded, TransientFault
from messaging.connection import Connection, Counters
from messaging.limits import BusLimits
from messaging.settle import Settler
from messaging.wire import require_payload
from testkit.simulated_nats import Interest, SimulatedNats
from testkit.simulated_wire import Link

PAYLOAD_BYTES_MAX: Final = 8 * 1024 * 1024

Callback = Callable[[Msg], Awaitable[None]]


class SimulatedConnection(Connection):
    """
    One process's line to the simulated server.

    Args:
        server: The server.
        service: Whose inboxes it uses.
        instance: This process.
        limits: Deadlines and bounds.
        settlers: Who settles a durable's messages, by ``<stream>.<durable>``.
        is_alive: Tells whether the process still lives.
    """

    # Not super().__init__: it would make FastStream's broker.
    def __init__(
        self,
        server: SimulatedNats,
        *,
        service: Service,
        instance: str,
        limits: BusLimits,
        settlers: Mapping[str, Settler],
        is_alive: Callable[[], bool],
    ) -> None:
        self.service = service
        self.instance = instance
        self.limits = limits
        self.counters = Counters()
        self.closed = asyncio.Event()
        self._server = server
        self._reconnected: list[Callable[[], None]] = []
        self._link = server.connect(f"{service}:{instance}", is_alive)
        self._link.on_reconnect = self._note_reconnected
        self._client = SimulatedClient(server, self._link)
        self._link.client = cast("Client", self._client)
        self._inbox = f"_INBOX.{service}.r-{instance}"
        self._asked: dict[str, asyncio.Future[Msg]] = {}
        self._count = 0
        # FastStream's broker is any object with ``subscriber``, as pulling uses it.
        self.broker = cast("Any", SimpleNamespace(subscriber=self._subscriber))
        self._settlers = settlers

    @property
    def client(self) -> Client:
        """Return what stands in for nats-py's client."""
        return cast("Client", self._client)

    @property
    def is_connected(self) -> bool:
        """Return whether the server is there now."""
        return self._server.is_up and self._link.is_alive

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        """Call this after every reconnect."""
        self._reconnected.append(callback)

    async def open(self) -> None:
        """Start listening for replies."""
        await self._client.subscribe(f"{self._inbox}.*", cb=self._on_reply)

    async def close(self) -> None:
        """End the line."""
        self._server.disconnect(self._link)

    async def flush(self) -> None:
        """Make one round trip."""
        await self._client.round_trip()
        if not self._server.is_up:
            raise TransientFault("flush NATS: the server is down")

    async def publish(
        self, subject: str, body: bytes, headers: Mapping[str, str], reply: str = ""
    ) -> None:
        """Hand a message to the server; one that is down loses it."""
        require_payload(
            subject,
            body,
            headers,
            payload_bytes_max=PAYLOAD_BYTES_MAX,
            limits=self.limits,
        )
        await self._client.publish(subject, body, reply, dict(headers))

    async def request(
        self, subject: str, body: bytes, headers: Mapping[str, str], timeout_s: float
    ) -> Msg:
        """
        Ask and return the first reply.

        Raises:
            TransientFault: Nobody listens.
            DeadlineExceeded: No reply in time.
        """
        self._count += 1
        token = str(self._count)
        answer: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        self._asked[token] = answer
        try:
            async with asyncio.timeout(timeout_s):
                await self.publish(subject, body, headers, f"{self._inbox}.{token}")
                reply = await answer
        except TimeoutError as cause:
            detail = f"ask {subject}: no reply within {timeout_s:g} s"
            raise DeadlineExceeded(detail) from cause
        finally:
            self._asked.pop(token, None)
        if (reply.headers or {}).get("Status") == "503" and not reply.data:
            detail = f"ask {subject}: nobody listens now; retry"
            raise TransientFault(detail, retry_after_s=0.5)
        return reply

    async def _on_reply(self, msg: Msg) -> None:
        answer = self._asked.get(msg.subject.rpartition(".")[2])
        if answer is not None and not answer.done():
            answer.set_result(msg)

    def _note_reconnected(self) -> None:
        for callback in self._reconnected:
            callback()

    # Any: FastStream's options, of which the simulation needs three.
    def _subscriber(
        self, _subject: str, *, stream: Any, durable: str, max_workers: int, **_: Any
    ) -> "SimulatedSubscriber":
        return SimulatedSubscriber(
            self._server,
            self._link,
            stream=str(stream.name),
            durable=durable,
            workers=max_workers,
            settler=self._settlers[f"{stream.name}.{durable}"],
        )


class SimulatedClient:
    """The part of nats-py's client that messaging calls."""

    def __init__(self, server: SimulatedNats, link: Link) -> None:
        self._server = server
        self._link = link
        self.is_connected = True
        self.is_closed = False
        self.max_payload = PAYLOAD_BYTES_MAX

    async def publish(
        self,
        subject: str,
        payload: bytes = b"",
        reply: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Hand a message to the server."""
        if not self._link.is_open:
            raise nats.errors.ConnectionClosedError
        self._server.publish(subject, payload, headers or {}, reply)

    async def subscribe(
        self, subject: str, *, queue: str = "", cb: Callback, **_limits: int
    ) -> "SimulatedSubscription":
        """Listen, one message after the other."""
        return SimulatedSubscription(self._server, self._link, subject, queue, cb)

    async def round_trip(self) -> None:
        """Wait as long as a ping takes."""
        await asyncio.sleep(self._server.faults.hop_s_max * 2)

    def jetstream(self, **_options: float) -> "SimulatedClient":
        """Return what answers for durables: the client itself."""
        return self

    async def consumer_info(self, stream: str, durable: str) -> None:
        """
        Look a durable up.

        Raises:
            NotFoundError: It is not there.
        """
        await self.round_trip()
        if not self._server.is_up:
            raise nats.errors.TimeoutError
        if not self._server.streams.has_durable(stream, durable):
            raise NotFoundError


class SimulatedSubscription:
    """A core subscription; its callback has one message at a time."""

    def __init__(
        self,
        server: SimulatedNats,
        link: Link,
        subject: str,
        queue: str,
        callback: Callback,
    ) -> None:
        self._server = server
        self._callback = callback
        self._queue: asyncio.Queue[Msg] = asyncio.Queue()
        self._interest = Interest(link, subject, queue, self._queue.put_nowait)
        self._task = asyncio.create_task(self._read())
        server.listen(self._interest)

    async def drain(self) -> None:
        """Take nothing new, and finish what has come."""
        self._server.unlisten(self._interest)
        await asyncio.sleep(self._server.faults.hop_s_max * 3)
        await self._queue.join()
        self._task.cancel()

    async def unsubscribe(self) -> None:
        """End at once."""
        self._server.unlisten(self._interest)
        self._task.cancel()

    async def _read(self) -> None:
        while True:
            msg = await self._queue.get()
            try:
                await self._callback(msg)
            finally:
                self._queue.task_done()


class SimulatedSubscriber:
    """Stands in for FastStream's pull subscriber: fetches one, hands it over."""

    def __init__(
        self,
        server: SimulatedNats,
        link: Link,
        *,
        stream: str,
        durable: str,
        workers: int,
        settler: Settler,
    ) -> None:
        # messaging wraps it right after start, as it does FastStream's.
        self.subscription: Any = SimulatedPull(server, link, stream, durable)
        self._workers = asyncio.Semaphore(workers)
        self._settler = settler
        self._on_message: Callable[[Any], Awaitable[None]] | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._handling: set[asyncio.Task[None]] = set()

    def __call__(self, on_message: Callable[[Any], Awaitable[None]]) -> None:
        """Register what takes a message."""
        self._on_message = on_message

    async def start(self) -> None:
        """Begin to fetch."""
        self._fetching = asyncio.create_task(self._fetch())

    async def stop(self) -> None:
        """Fetch no more; what is being handled is cancelled."""
        tasks = [*self._handling]
        if self._fetching is not None:
            tasks.append(self._fetching)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self.subscription.unsubscribe()

    async def _fetch(self) -> None:
        while True:
            await self._workers.acquire()
            try:
                (msg,) = await self.subscription.fetch(1, 1.0)
            except nats.errors.TimeoutError:
                self._workers.release()
                continue
            task = asyncio.create_task(self._handle(msg))
            self._handling.add(task)
            task.add_done_callback(self._done)

    async def _handle(self, msg: Msg) -> None:
        assert self._on_message is not None
        on_message = self._on_message
        wrapped = SimpleNamespace(raw_message=msg)
        await self._settler.run(msg, lambda: on_message(wrapped))

    def _done(self, task: asyncio.Task[None]) -> None:
        self._handling.discard(task)
        self._workers.release()


class SimulatedPull:
    """Stands in for nats-py's pull subscription."""

    def __init__(
        self, server: SimulatedNats, link: Link, stream: str, durable: str
    ) -> None:
        self._server = server
        self._link = link
        self._stream = stream
        self._durable = durable

    async def fetch(self, batch: int, timeout: float | None) -> list[Msg]:  # noqa: ARG002, ASYNC109 -- nats-py's shape
        """
        Return one message.

        Raises:
            TimeoutError: None came in time, or the server is down.
        """
        limit_s = timeout or 1.0
        if not self._server.streams.has_durable(self._stream, self._durable):
            await asyncio.sleep(limit_s)
            raise nats.errors.TimeoutError
        answer = self._server.streams.pull(self._stream, self._durable, self._link)
        try:
            async with asyncio.timeout(limit_s):
                return [await answer]
        except TimeoutError as cause:
            raise nats.errors.TimeoutError from cause

    async def unsubscribe(self) -> None:
        """Let go; there is nothing to let go of."""
