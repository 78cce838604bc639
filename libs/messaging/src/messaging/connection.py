"""
One connection to NATS that survives restarts and says so when it cannot.

nats-py loses things in silence: it gives up after sixty attempts, closes for good
after some errors, drops what a slow reader has not taken, and lets an oversized
message kill the connection. Here attempts never end, ``closed`` wakes whoever must
end the process, drops and refused permissions are counted and logged, and every
body passes the payload guard.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import nats.errors
from faststream import BaseMiddleware
from faststream.nats import NatsBroker
from faststream.nats.security import NatsUserPassword
from nats.aio.client import PING_PROTO, Client
from nats.aio.msg import Msg

from contracts.subjects import Service
from determinism import within
from faults import DeadlineExceeded, TransientFault
from messaging.limits import BusLimits
from messaging.wire import require_payload
from telemetry import get_logger

log = get_logger()

OUTBOUND_BYTES_MAX = 16 * 1024 * 1024
"""Two of the largest messages wait while the server is away; the next is refused."""
CONNECT_TIMEOUT_S = 5
PING_INTERVAL_S = 20
STOP_S = 0.1
"""FastStream's own drain; ours, before it, is the one that waits."""


@dataclass
class Counters:
    """What went wrong on the connection, for the log, checks and tests."""

    slow_consumers: int = 0
    permission_violations: int = 0
    disconnects: int = 0
    reconnects: int = 0
    dropped: int = 0


class Connection:
    """
    A FastStream broker's connection, guarded.

    Args:
        service: Names the connection and prefixes its inboxes.
        instance: This process.
        url: The server's URL, without credentials.
        user: The service's NATS user; None where the server asks for none.
        password: Its password.
        limits: Deadlines and bounds.
        middlewares: Around every message that FastStream consumes.
    """

    # Any: FastStream's middlewares are generic in their message.
    def __init__(
        self,
        *,
        service: Service,
        instance: str,
        url: str,
        user: str | None,
        password: str | None,
        limits: BusLimits,
        middlewares: Sequence[type[BaseMiddleware[Any, Any]]] = (),
    ) -> None:
        self.service = service
        self.instance = instance
        self.limits = limits
        self.counters = Counters()
        self.closed = asyncio.Event()
        self._is_closing = False
        self._on_reconnect: list[Callable[[], None]] = []
        self.broker = NatsBroker(
            url,
            name=f"{service}:{instance}",
            security=None if user is None else NatsUserPassword(user, password or ""),
            inbox_prefix=f"_INBOX.{service}",
            max_reconnect_attempts=-1,
            # nats-py sleeps for it, so a fraction is fine whatever the hint says.
            reconnect_time_wait=limits.reconnect_wait_s,  # pyright: ignore[reportArgumentType]
            connect_timeout=CONNECT_TIMEOUT_S,
            ping_interval=PING_INTERVAL_S,
            pending_size=OUTBOUND_BYTES_MAX,
            error_cb=self._note_error,
            disconnected_cb=self._note_disconnect,
            reconnected_cb=self._note_reconnect,
            closed_cb=self._note_closed,
            apply_types=False,
            logger=None,
            middlewares=middlewares,
            graceful_timeout=STOP_S,
        )

    @property
    def client(self) -> Client:
        """
        Return the nats-py client.

        Raises:
            TransientFault: ``open`` has not found a server yet.
        """
        if not self.broker.config.connection_state:
            raise TransientFault("NATS is not connected yet; it is retried for ever")
        return self.broker.connection

    @property
    def is_connected(self) -> bool:
        """Return whether the server is there now."""
        return bool(self.broker.config.connection_state) and self.client.is_connected

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        """Call this after every reconnect: the server may have lost its store."""
        self._on_reconnect.append(callback)

    async def open(self) -> None:
        """Connect; waits for as long as there is no server."""
        await self.broker.start()
        order_pings(self.client)
        log.info("nats_connected", server=str(self.client.connected_server_version))

    async def close(self) -> None:
        """Flush what was published and close; never raises, it is the end."""
        self._is_closing = True
        try:
            async with asyncio.timeout(self.limits.flush_s):
                await self.broker.stop()
        except (TimeoutError, nats.errors.Error) as error:
            log.warning("nats_close_incomplete", error=repr(error))
            if self.broker.config.connection_state:
                await self.client.close()

    async def flush(self) -> None:
        """Wait until the server has seen everything sent so far."""
        try:
            await within(self.limits.flush_s, self.client.flush(), "flush NATS")
        except nats.errors.Error as cause:
            raise TransientFault(f"flush NATS: {cause!r}") from cause

    async def publish(
        self, subject: str, body: bytes, headers: Mapping[str, str], reply: str = ""
    ) -> None:
        """
        Hand a message to the connection.

        Raises:
            PermanentFault: Above the payload limit; nothing was sent.
            TransientFault: Closed, or disconnected with a full buffer.
        """
        self._guard(subject, body, headers)
        try:
            await self.client.publish(subject, body, reply, dict(headers) or None)
        except nats.errors.Error as cause:
            detail = f"publish to {subject}: {cause!r}; retry when NATS is back"
            raise TransientFault(detail) from cause

    async def request(
        self, subject: str, body: bytes, headers: Mapping[str, str], timeout_s: float
    ) -> Msg:
        """
        Ask and return the first reply.

        Raises:
            PermanentFault: Above the payload limit; nothing was sent.
            TransientFault: Nobody listens, or the connection is down.
            DeadlineExceeded: No reply in time.
        """
        self._guard(subject, body, headers)
        try:
            return await self.client.request(
                subject, body, timeout=timeout_s, headers=dict(headers) or None
            )
        except nats.errors.NoRespondersError as cause:
            detail = f"ask {subject}: nobody listens now; retry"
            raise TransientFault(detail, retry_after_s=0.5) from cause
        except nats.errors.TimeoutError as cause:
            detail = f"ask {subject}: no reply within {timeout_s:g} s"
            raise DeadlineExceeded(detail) from cause
        except nats.errors.Error as cause:
            detail = f"ask {subject}: {cause!r}; retry when NATS is back"
            raise TransientFault(detail) from cause

    def _guard(self, subject: str, body: bytes, headers: Mapping[str, str]) -> None:
        require_payload(
            subject,
            body,
            headers,
            payload_bytes_max=self.client.max_payload,
            limits=self.limits,
        )

    async def _note_error(self, error: Exception) -> None:
        text = str(error)
        if isinstance(error, nats.errors.SlowConsumerError):
            self.counters.slow_consumers += 1
            log.warning("nats_slow_consumer", subject=error.subject)
        elif "permissions violation" in text.lower():
            self.counters.permission_violations += 1
            log.error("nats_permission_violation", error=text)
        elif self.is_connected:
            log.warning("nats_error", error=repr(error))

    async def _note_disconnect(self) -> None:
        self.counters.disconnects += 1
        if not self._is_closing:
            log.warning("nats_disconnected")

    async def _note_reconnect(self) -> None:
        self.counters.reconnects += 1
        log.info("nats_reconnected")
        for callback in self._on_reconnect:
            callback()

    async def _note_closed(self) -> None:
        if not self._is_closing:
            log.critical("nats_closed", consequence="this process must end")
            self.closed.set()


def order_pings(client: Client) -> None:
    """
    Put a flush's PING behind what was published before it.

    nats-py 2.16 writes the PING straight to the socket while earlier commands wait
    in its buffer. So ``flush`` returned before they had arrived, and ``drain``
    before its UNSUB had: what the server sent in between was dropped.
    """
    # Any: the method that is replaced is private, and so is the buffer.
    inner: Any = client
    unordered: Callable[[asyncio.Future[bool] | None], Awaitable[None]]
    unordered = inner._send_ping  # noqa: SLF001

    async def ordered(future: asyncio.Future[bool] | None = None) -> None:
        if not client.is_connected:
            await unordered(future)
            return
        inner._pongs.append(future or asyncio.Future[bool]())  # noqa: SLF001
        await inner._send_command(PING_PROTO)  # noqa: SLF001
        await inner._flush_pending()  # noqa: SLF001

    inner._send_ping = ordered  # noqa: SLF001
