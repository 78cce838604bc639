"""
Requests answered by a stream of frames: numbered, pinged while idle, ended.

One pinger serves all open streams of the process; a task per stream would cost
more than most streams do.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as NatsSubscription

from contracts.frames import Failed, Finished, Frame, Ping
from contracts.problems import Code, ErrorEnvelope, problem
from contracts.subjects import Track
from determinism import Clock, within
from faults import Fault, PermanentFault, TransientFault
from messaging.answering import (
    count,
    drain,
    note,
    outcome_of,
    overloaded,
    reply_error,
    subscribe,
)
from messaging.bus import Delivery
from messaging.connection import Connection
from messaging.crew import Crew
from messaging.envelopes import envelope_of
from messaging.subscriptions import AnswerInFrames, FrameBody
from messaging.wire import decode, delivery_of, require_tenant
from telemetry import SpanKind, consumer_span, get_logger, metrics

log = get_logger()

NO_HEADERS: Final[Mapping[str, str]] = {}


class NatsFrameSink:
    """One answer on its way to its caller's inbox."""

    def __init__(self, connection: Connection, inbox: str, clock: Clock) -> None:
        self._connection = connection
        self._inbox = inbox
        self._clock = clock
        self._number = 0
        self.last_sent_s = clock.monotonic()
        self.is_ended = False

    async def send(self, frame: FrameBody) -> None:
        """
        Send one frame with its number.

        An end that is too large to send becomes a ``Failed`` that says so.

        Raises:
            RuntimeError: The answer has ended already; a bug of the handler.
            TransientFault: NATS is down; the caller will ask again.
        """
        if self.is_ended:
            raise RuntimeError("a frame was sent after the end of its answer")
        try:
            await self._put(frame)
        except PermanentFault as fault:
            if not isinstance(frame, Finished | Failed):
                raise
            await self._put(Failed(error=envelope_of(fault)))
        self.is_ended = isinstance(frame, Finished | Failed)

    async def ping(self, idle_s: float) -> None:
        """Say that the work goes on, if nothing was said for this long."""
        if not self.is_ended and self._clock.monotonic() - self.last_sent_s >= idle_s:
            await self._put(Ping())

    async def _put(self, frame: Frame) -> None:
        # The number is taken before the await, so that a ping and a frame that
        # are sent at the same time never share one.
        number = self._number
        body = frame.model_copy(update={"number": number}).encode()
        self._number += 1
        self.last_sent_s = self._clock.monotonic()
        try:
            await self._connection.publish(self._inbox, body, NO_HEADERS)
        except PermanentFault:
            self._number = number  # refused before anything was sent
            raise


class FrameAnswerer:
    """
    Answers one verb in frames, in a queue group with the other replicas.

    Args:
        connection: Where requests come from.
        subscription: What to answer, and by what.
        track: The track that this process serves.
        clock: For pings and durations.
    """

    # Any: a request of whatever type the subscription names.
    def __init__(
        self,
        connection: Connection,
        subscription: AnswerInFrames[Any],
        *,
        track: Track,
        clock: Clock,
    ) -> None:
        self._connection = connection
        self._what = subscription
        self._track = track
        self._clock = clock
        self._crew = Crew(subscription.concurrency)
        self._pinger = Crew(1)
        self._open: set[NatsFrameSink] = set()
        self._nats: NatsSubscription | None = None

    async def start(self) -> None:
        """Subscribe; returns once the server knows."""
        self._nats = await subscribe(
            self._connection, self._what.verb, self._track, self._on_message
        )
        self._pinger.start(self._ping())

    async def stop(self, limit_s: float) -> None:
        """Take no new request; streams under way may end within the limit."""
        await drain(self._nats, limit_s)
        await self._crew.drain(limit_s)
        await self._pinger.cancel()

    async def _on_message(self, msg: Msg) -> None:
        if not msg.reply:
            self._connection.counters.dropped += 1
            return
        if self._crew.is_full:
            await reply_error(self._connection, msg.reply, overloaded(self._what.verb))
            count(self._what.verb, "overloaded")
            return
        self._crew.start(self._answer(msg))

    async def _answer(self, msg: Msg) -> None:
        verb = self._what.verb
        sink = NatsFrameSink(self._connection, msg.reply, self._clock)
        delivery = delivery_of(msg.subject, msg.headers, otherwise=msg.reply)
        outcome = "ok"
        self._note_open(sink)
        with consumer_span(f"process {verb}", delivery.headers, kind=SpanKind.SERVER):
            try:
                await self._ask_handler(msg, delivery, sink)
                await end(sink, _unfinished())
            except asyncio.CancelledError:
                stopping = TransientFault(f"{verb}: this replica is stopping; retry")
                await end(sink, envelope_of(stopping))
                raise
            # Supervised boundary: whatever a handler raises, its caller reads an
            # explicit end.
            except Exception as error:  # noqa: BLE001
                outcome = outcome_of(error)
                note(verb, error, outcome)
                await end(sink, envelope_of(error))
            finally:
                self._note_closed(sink)
        count(verb, outcome)

    async def _ask_handler(
        self, msg: Msg, delivery: Delivery, sink: NatsFrameSink
    ) -> None:
        request = decode(self._what.request, msg.data)
        require_tenant(request, delivery, self._what.verb)
        await within(
            self._connection.limits.frames_s,
            self._what.answer(request, delivery, sink),
            f"answer {self._what.verb}",
        )

    async def _ping(self) -> None:
        """Ping idle streams; looks often enough to be at most a fifth late."""
        interval_s = self._connection.limits.ping_interval_s
        while True:
            await self._clock.sleep(interval_s / 5)
            for sink in tuple(self._open):
                try:
                    await sink.ping(interval_s * 0.8)
                except Fault as error:
                    log.debug("ping_failed", error=error.detail)

    def _note_open(self, sink: NatsFrameSink) -> None:
        self._open.add(sink)
        metrics.streams_open.set(len(self._open), service=str(self._what.verb.service))

    def _note_closed(self, sink: NatsFrameSink) -> None:
        self._open.discard(sink)
        metrics.streams_open.set(len(self._open), service=str(self._what.verb.service))


async def end(sink: NatsFrameSink, error: ErrorEnvelope) -> None:
    """End an answer that its handler left open; what cannot be sent is a cut."""
    if sink.is_ended:
        return
    try:
        await sink.send(Failed(error=error))
    except Fault as fault:
        log.warning("frame_end_failed", error=fault.detail)


def _unfinished() -> ErrorEnvelope:
    detail = "the answer ended without its end frame; ask again with the same id"
    return ErrorEnvelope(problem=problem(Code.INTERNAL, detail), retryable=True)
