"""
The settle middleware: whatever a handler does, the message is answered for.

FastStream's defaults lose messages here: one exception terms a message, a bare nak
brings it back at once, and a long handler is redelivered while it works.
``settlement`` decides; this performs, keeps a long handler's message alive, and
falls back to a delayed nak when burying fails, so that nothing is given up that
is not kept.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

import nats.errors
from faststream import BaseMiddleware
from faststream.message import StreamMessage
from nats.aio.msg import Msg

from determinism import Clock, IdSource, within
from faults import TransientFault
from messaging.answering import outcome_of
from messaging.burial import DeadLetterSink
from messaging.bus import Delivery
from messaging.limits import BusLimits
from messaging.settlement import Ack, Bury, Nak, Settlement, settle
from telemetry import consumer_span, get_logger, metrics

log = get_logger()

BUGS_REMEMBERED_MAX = 4096


class Described(Protocol):
    """Tells what a delivered message is, for its dead letter and its span."""

    def __call__(self, msg: Msg) -> Delivery:
        """Describe the message."""
        ...


@dataclass(frozen=True)
class Settling:
    """
    What settling needs, one per subscription.

    Args:
        template: The subject's template, for spans and metrics.
        describe: Tells what a message is.
        sink: Where given-up messages go.
        clock: For heartbeats and durations.
        ids: Draws the jitter.
        limits: Deadlines and tries.
        forget: Called with the message once it is settled.
    """

    template: str
    describe: Described
    sink: DeadLetterSink
    clock: Clock
    ids: IdSource
    limits: BusLimits
    forget: Callable[[Msg], None]


class Settler:
    """Runs a handler on a message and settles it."""

    def __init__(self, settling: Settling) -> None:
        self._with = settling
        self._bugs: OrderedDict[str, int] = OrderedDict()

    async def run(self, msg: Msg, handle: Callable[[], Awaitable[None]]) -> None:
        """
        Handle, decide, settle.

        Raises:
            TransientFault: The settlement could not be sent.
        """
        delivery = self._with.describe(msg)
        began_s = self._with.clock.monotonic()
        failure: Exception | None = None
        name = f"process {self._with.template}"
        # tidy: cancelled below; a group would wrap the handler's error
        beating = asyncio.create_task(self._beat(msg))
        try:
            with consumer_span(name, delivery.headers):
                limit_s = self._with.limits.work_s
                await within(limit_s, handle(), name)
        except asyncio.CancelledError:
            # Shutdown: another replica shall have it at once.
            await self._nak_best_effort(msg)
            raise
        # Supervised boundary: settlement decides about every kind of failure.
        except Exception as error:  # noqa: BLE001
            failure = error
        finally:
            beating.cancel()
        await self._settle(msg, delivery, failure)
        self._count(failure, self._with.clock.monotonic() - began_s)

    async def _settle(
        self, msg: Msg, delivery: Delivery, failure: Exception | None
    ) -> None:
        decided = settle(
            failure,
            deliveries=delivery.deliveries,
            bugs=self._bugs_of(delivery, failure),
            draw=self._with.ids.uniform(),
            limits=self._with.limits,
        )
        _note(self._with.template, delivery, failure, decided)
        if isinstance(decided, Bury):
            decided = await self._bury(msg, delivery, decided)
        try:
            match decided:
                case Ack():
                    await msg.ack()
                case Nak():
                    await msg.nak(delay=decided.delay_s)
                case Bury():
                    await msg.term()
        except nats.errors.Error as cause:
            # Raised, so that FastStream naks too instead of acking. Should that
            # fail as well, the server redelivers after the ack wait.
            raise TransientFault(f"settle {delivery.subject}: {cause!r}") from cause
        finally:
            self._with.forget(msg)

    async def _bury(self, msg: Msg, delivery: Delivery, verdict: Bury) -> Settlement:
        try:
            await within(
                self._with.limits.publish_s,
                self._with.sink.bury(delivery, msg.data, verdict),
                f"bury a message of {delivery.subject}",
            )
        # Supervised boundary: what cannot be kept must not be given up.
        except Exception as error:  # noqa: BLE001
            log.warning("bury_failed", subject=self._with.template, error=repr(error))
            return Nak(self._with.limits.nak_cap_s, "bury-failed")
        self._bugs.pop(delivery.message_id, None)
        return verdict

    def _bugs_of(self, delivery: Delivery, failure: Exception | None) -> int:
        key = delivery.message_id
        if failure is None or outcome_of(failure) != "bug":
            self._bugs.pop(key, None)
            return 0
        self._bugs[key] = self._bugs.get(key, 0) + 1
        self._bugs.move_to_end(key)
        if len(self._bugs) > BUGS_REMEMBERED_MAX:
            self._bugs.popitem(last=False)
        return self._bugs[key]

    async def _beat(self, msg: Msg) -> None:
        while True:
            await self._with.clock.sleep(self._with.limits.heartbeat_s)
            try:
                await msg.in_progress()
            except nats.errors.Error as error:
                log.debug("heartbeat_not_sent", error=repr(error))

    async def _nak_best_effort(self, msg: Msg) -> None:
        try:
            await msg.nak()
        except nats.errors.Error as error:
            log.debug("nak_not_sent", error=repr(error))
        finally:
            self._with.forget(msg)

    def _count(self, failure: Exception | None, took_s: float) -> None:
        outcome = "ok" if failure is None else outcome_of(failure)
        template = self._with.template
        metrics.messages_processed_total.add(1, subject=template, outcome=outcome)
        metrics.message_duration_seconds.record(
            took_s, subject=template, outcome=outcome
        )


# Any: FastStream's middleware is generic in what no reader of this file needs.
class SettleMiddleware(BaseMiddleware[Any, Msg]):
    """FastStream's door to ``Settler``; added per message by ``middleware``."""

    settlers: dict[str, Settler]

    async def consume_scope(
        self,
        call_next: Callable[[StreamMessage[Any]], Awaitable[Any]],
        msg: StreamMessage[Any],
    ) -> Any:
        """Handle and settle; a failed handler does not come out."""
        raw: Msg = msg.raw_message
        settler = self.settlers.get(consumer_of(raw))
        if settler is None:
            raise TransientFault(f"nobody settles {raw.subject} here")

        async def handle() -> None:
            await call_next(msg)

        await settler.run(raw, handle)


def middleware(settlers: dict[str, Settler]) -> type[SettleMiddleware]:
    """Return the middleware that settles by these, by ``<stream>.<durable>``."""

    class Bound(SettleMiddleware):
        """Knows the bus's settlers."""

    Bound.settlers = settlers
    return Bound


def consumer_of(msg: Msg) -> str:
    """Return ``<stream>.<durable>``, from the message's ack subject."""
    metadata = msg.metadata
    return f"{metadata.stream}.{metadata.consumer}"


def _note(
    template: str, delivery: Delivery, failure: Exception | None, decided: Settlement
) -> None:
    if not isinstance(decided, Nak) or failure is None:
        return
    is_bug = outcome_of(failure) == "bug"
    log.log(
        40 if is_bug else 20,
        "message_retried",
        subject=template,
        tenant=delivery.tenant,
        reason=decided.reason,
        deliveries=delivery.deliveries,
        delay_s=round(decided.delay_s, 3),
        exc_info=failure if is_bug else None,
    )
