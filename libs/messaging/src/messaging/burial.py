"""Dead letters: where a message goes that could not be processed."""

from dataclasses import dataclass
from typing import Protocol

from contracts.deadletters import DeadLetter, DeadLetterNotice
from contracts.ids import derived_id
from contracts.subjects import Service, dead_letter_notice
from determinism import Clock
from messaging.bus import Bus, Delivery
from messaging.settlement import Bury
from telemetry import get_logger, metrics

log = get_logger()

DETAIL_CHARACTERS_MAX = 2000


class DeadLetterSink(Protocol):
    """Keeps what could not be processed; see ``StoreSink`` and ``LoggingSink``."""

    async def bury(self, delivery: Delivery, body: bytes, verdict: Bury) -> None:
        """
        Keep the message with the reason; the same message again changes nothing.

        Raises:
            Exception: It could not be kept; the message must not be given up.
        """
        ...


class LetterStore(Protocol):
    """What a sink needs of the service's store."""

    async def bury(self, letter: DeadLetter) -> None:
        """Keep a dead letter; the same id again changes nothing."""
        ...


@dataclass(frozen=True)
class StoreSink:
    """Keeps dead letters in the service's own store, and tells operators."""

    service: Service
    store: LetterStore
    bus: Bus
    clock: Clock

    async def bury(self, delivery: Delivery, body: bytes, verdict: Bury) -> None:
        """Commit the dead letter, then ring the operators' bell."""
        letter = self._letter(delivery, body, verdict)
        await self.store.bury(letter)
        metrics.dead_letters_total.add(
            1, service=str(self.service), reason=verdict.reason
        )
        log.error(
            "message_dead_lettered",
            dead_letter_id=letter.id,
            subject=letter.subject,
            reason=letter.reason,
            detail=letter.detail,
        )
        notice = DeadLetterNotice(
            id=letter.id,
            service=letter.service,
            tenant=letter.tenant,
            subject=letter.subject,
            reason=letter.reason,
            at=letter.created_at,
        )
        await self.bus.announce(dead_letter_notice(self.service), notice)

    def _letter(self, delivery: Delivery, body: bytes, verdict: Bury) -> DeadLetter:
        return DeadLetter(
            id=derived_id("dead", self.service, delivery.subject, delivery.message_id),
            service=str(self.service),
            tenant=delivery.tenant,
            subject=delivery.subject,
            message_id=delivery.message_id,
            reason=verdict.reason,
            detail=verdict.detail[:DETAIL_CHARACTERS_MAX],
            body=body,
            headers=dict(delivery.headers),
            deliveries=delivery.deliveries,
            created_at=self.clock.now(),
        )


class NoSink:
    """For a process without a store: burying fails, so nothing is given up."""

    async def bury(self, delivery: Delivery, body: bytes, verdict: Bury) -> None:
        """
        Refuse.

        Raises:
            RuntimeError: Always; the message is delivered again, for ever.
        """
        raise RuntimeError(
            f"no dead-letter store: {delivery.subject} cannot be given up "
            f"({verdict.reason}, {len(body)} bytes); give the bus a sink"
        )
