"""
Pull subscribers of FastStream over durables that the bootstrap makes.

FastStream binds to a durable at start and drops what it has fetched when it stops;
nats-py raises when a durable is gone. So binding waits until the durable is there,
a failed pull pauses and tries again for ever, and stopping first lets the pull in
flight end, then waits for what was fetched, then naks the rest.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import nats.errors
from faststream import AckPolicy
from faststream.nats import JStream, NatsMessage, PullSub
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from determinism import Clock
from messaging.connection import Connection
from telemetry import get_logger

log = get_logger()

BIND_TIMEOUT_S: Final = 5.0
DRAIN_LOOKS_S: Final = 0.05


class Pulling(Protocol):
    """What FastStream asks of a pull subscription."""

    async def fetch(self, batch: int, timeout: float | None) -> list[Msg]:  # noqa: ASYNC109 -- FastStream's shape
        """Return what is there."""
        ...

    async def unsubscribe(self) -> None:
        """Let go of the inbox."""
        ...


class Puller:
    """
    A pull subscription that never raises anything but a timeout.

    FastStream's loop takes it in place of nats-py's, which it wraps.
    """

    def __init__(
        self,
        inner: JetStreamContext.PullSubscription,
        *,
        pause_s: float,
        clock: Clock,
    ) -> None:
        self._inner = inner
        self._pause_s = pause_s
        self._clock = clock
        self._is_stopping = False
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._is_failing = False
        self.unsettled: dict[str, Msg] = {}
        """Fetched and not settled, by ack subject; bounded by the workers."""

    async def fetch(self, batch: int, timeout: float | None) -> list[Msg]:  # noqa: ASYNC109 -- FastStream's shape
        """
        Return what is there.

        Raises:
            TimeoutError: Nothing came, or the pull failed and has paused.
        """
        if self._is_stopping:
            await self._clock.sleep(self._pause_s)
            raise nats.errors.TimeoutError
        self._is_idle.clear()
        try:
            found = await self._inner.fetch(batch=batch, timeout=timeout)
            self._is_failing = False
            for msg in found:
                self.unsettled[msg.reply] = msg
        except nats.errors.TimeoutError:
            raise
        # The durable or the server is gone; both come back.
        except nats.errors.Error as error:
            await self._pause(error)
            raise nats.errors.TimeoutError from error
        else:
            return found
        finally:
            self._is_idle.set()

    async def unsubscribe(self) -> None:
        """Let go of the inbox; a closed connection has let go already."""
        try:
            await self._inner.unsubscribe()
        except nats.errors.Error as error:
            log.debug("unsubscribe_failed", error=repr(error))

    def forget(self, msg: Msg) -> None:
        """Stop tracking a settled message."""
        self.unsettled.pop(msg.reply, None)

    async def stop(self, limit_s: float) -> None:
        """Pull no more, wait until all that was fetched is settled."""
        self._is_stopping = True
        try:
            async with asyncio.timeout(limit_s):
                await self._is_idle.wait()
                while self.unsettled:
                    await self._clock.sleep(DRAIN_LOOKS_S)
        except TimeoutError:
            log.warning("drain_incomplete", unsettled=len(self.unsettled))

    async def give_back(self) -> None:
        """Nak what nobody has settled, so that another replica has it at once."""
        for msg in tuple(self.unsettled.values()):
            self.forget(msg)
            try:
                await msg.nak()
            except nats.errors.Error as error:
                log.debug("nak_not_sent", error=repr(error))

    async def _pause(self, error: Exception) -> None:
        if not self._is_failing:
            log.warning("pull_failed", error=repr(error))
        self._is_failing = True
        await self._clock.sleep(self._pause_s)


class PullConsumer:
    """
    One durable, pulled by a FastStream subscriber.

    Args:
        connection: Whose broker subscribes.
        stream: The stream's name.
        durable: The durable's name.
        subject: What the durable filters; FastStream's name for it.
        workers: Concurrent handlers.
        handle: Takes one message; settled by the broker's middleware.
        clock: For pauses.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        stream: str,
        durable: str,
        subject: str,
        workers: int,
        handle: Callable[[Msg], Awaitable[None]],
        clock: Clock,
    ) -> None:
        self._connection = connection
        self.stream = stream
        self.durable = durable
        self._subject = subject
        self._workers = workers
        self._handle = handle
        self._clock = clock
        self._puller: Puller | None = None
        # Any: FastStream's subscriber types differ per option; two calls are used.
        self._subscriber: Any = None

    async def exists(self) -> bool:
        """Return whether the bootstrap has made the durable."""
        jetstream = self._connection.client.jetstream(timeout=BIND_TIMEOUT_S)  # pyright: ignore[reportUnknownMemberType]
        try:
            await jetstream.consumer_info(self.stream, self.durable)
        except NotFoundError:
            return False
        except nats.errors.Error as error:
            log.debug("durable_not_found", stream=self.stream, error=repr(error))
            return False
        return True

    async def start(self) -> None:
        """Wait until the durable is there, then pull from it."""
        while not await self.exists():
            await self._clock.sleep(self._connection.limits.pull_pause_s)
        limits = self._connection.limits
        subscriber: Any = self._connection.broker.subscriber(
            self._subject,
            stream=JStream(self.stream, declare=False),
            durable=self.durable,
            pull_sub=PullSub(batch_size=1, timeout=limits.pull_s),
            max_workers=self._workers,
            # FastStream's pull subscribers ignore the connection's own prefix.
            inbox_prefix=f"_INBOX.{self._connection.service}.".encode(),
            ack_policy=AckPolicy.NACK_ON_ERROR,  # the backstop; settle decides
            no_reply=True,
            decoder=_undecoded,
            persistent=False,
        )
        subscriber(self._on_message)
        await subscriber.start()
        # The pulling task has not run yet: nothing awaits between its creation
        # and here, so it finds the wrapper.
        self._puller = Puller(
            subscriber.subscription,
            pause_s=limits.pull_pause_s,
            clock=self._clock,
        )
        subscriber.subscription = self._puller
        self._subscriber = subscriber

    async def stop(self, limit_s: float) -> None:
        """Pull no more; finish or nak what was fetched."""
        if self._puller is None:
            return
        await self._puller.stop(limit_s)
        try:
            async with asyncio.timeout(self._connection.limits.flush_s):
                await self._subscriber.stop()
        except (TimeoutError, nats.errors.Error) as error:
            log.debug("subscriber_stop_incomplete", error=repr(error))
        # Handlers that outlasted the limit are cancelled now and nak their own.
        await self._clock.sleep(DRAIN_LOOKS_S)
        await self._puller.give_back()

    def forget(self, msg: Msg) -> None:
        """Stop tracking a settled message."""
        if self._puller is not None:
            self._puller.forget(msg)

    async def _on_message(self, message: NatsMessage) -> None:
        await self._handle(message.raw_message)


async def _undecoded(message: NatsMessage) -> NatsMessage:
    # Decoding happens under settle, where a body that does not fit is buried.
    return message
