"""
The store as messaging needs it: each method is one short transaction.

Messaging knows only Protocols (``relay.OutboxStore`` and
``housekeeping.HousekeepingStore``), so that neither library imports the other.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Final

from sqlalchemy import Connection

from contracts.deadletters import DeadLetter, DeadLetterPage, ListDeadLetters
from contracts.owed import Owed
from determinism import Clock
from persistence.database import Database
from persistence.dead_letter import DeadLetters
from persistence.inbox import Inbox
from persistence.outbox import Outbox, OutboxMessage, OutboxRow
from persistence.tables import SharedTables

HOLD: Final = timedelta(seconds=10)
UNSENT_AGE: Final = timedelta(seconds=2)
CONFIRM_AGE: Final = timedelta(seconds=1)
BATCH: Final = 500

Known = Callable[[Connection, Sequence[str]], set[str]]


class DeliveryStore:
    """
    Outbox, inbox and dead letters of one service's process.

    Args:
        database: The service's store.
        shared: Its shared tables.
        clock: Tells ages.
        owner: This process; holds its claims.
        known: Which message ids a doorbell's own table knows, beside the inbox.
    """

    def __init__(
        self,
        database: Database,
        shared: SharedTables,
        *,
        clock: Clock,
        owner: str,
        known: Known | None = None,
    ) -> None:
        self._database = database
        self._shared = shared
        self._clock = clock
        self._owner = owner
        self._known = known

    async def take(self, message_ids: Sequence[str]) -> Sequence[OutboxRow]:
        """Claim rows that this process has just committed."""
        now = self._clock.now()
        return await self._database.run(
            lambda conn: self._outbox(conn).take(message_ids, self._owner, now, HOLD)
        )

    async def claim_unsent(self) -> Sequence[OutboxRow]:
        """Claim rows that were left unsent, by whichever process."""
        now = self._clock.now()
        return await self._database.run(
            lambda conn: self._outbox(conn).claim_unsent(
                self._owner, now, UNSENT_AGE, HOLD, BATCH
            )
        )

    async def mark_sent(self, message_ids: Sequence[str]) -> None:
        """Record PubAcks."""
        now = self._clock.now()
        await self._database.run(
            lambda conn: self._outbox(conn).mark_sent(message_ids, now)
        )

    async def claim_unconfirmed(self) -> Sequence[OutboxRow]:
        """Claim rows whose receivers should be asked about them."""
        now = self._clock.now()
        return await self._database.run(
            lambda conn: self._outbox(conn).claim_unconfirmed(
                self._owner, now, CONFIRM_AGE, HOLD, BATCH
            )
        )

    async def confirm(self, message_ids: Sequence[str]) -> None:
        """Forget rows that their receiver has."""
        await self._database.run(lambda conn: self._outbox(conn).confirm(message_ids))

    async def resend(self, message_ids: Sequence[str]) -> None:
        """Make rows unsent again that their receiver has not got."""
        now = self._clock.now()
        await self._database.run(
            lambda conn: self._outbox(conn).resend(message_ids, now)
        )

    async def backlog(self) -> tuple[int, float]:
        """Return how many rows live and the age of the oldest in seconds."""
        now = self._clock.now()
        return await self._database.read(lambda conn: self._outbox(conn).backlog(now))

    async def known(self, message_ids: Sequence[str]) -> set[str]:
        """Return those of the ids that this service has got."""

        def query(conn: Connection) -> set[str]:
            found = Inbox(conn, self._shared).known(message_ids)
            return found | self._known(conn, message_ids) if self._known else found

        return await self._database.read(query)

    async def bury(self, letter: DeadLetter) -> None:
        """Keep a dead letter; the same id again changes nothing."""
        await self._database.run(lambda conn: self._letters(conn).add(letter))

    async def dead_letters(self, request: ListDeadLetters) -> DeadLetterPage:
        """Return a page of dead letters, newest first."""
        rows = await self._database.read(
            lambda conn: self._letters(conn).list(
                request.tenant, request.state, request.limit + 1, request.cursor
            )
        )
        page = rows[: request.limit]
        more = len(rows) > request.limit
        return DeadLetterPage(
            dead_letters=tuple(page),
            next_cursor=page[-1].id if more else None,
        )

    async def dead_letter(
        self, letter_id: str, tenant: str | None
    ) -> DeadLetter | None:
        """Return one dead letter, if it is there and this tenant's."""
        return await self._database.read(
            lambda conn: self._letters(conn).get(letter_id, tenant)
        )

    async def mark_replayed(self, letter_id: str) -> None:
        """Record that a dead letter was processed after all."""
        now = self._clock.now()
        await self._database.run(
            lambda conn: self._letters(conn).mark_replayed(letter_id, now)
        )

    def _outbox(self, conn: Connection) -> Outbox:
        return Outbox(conn, self._shared)

    def _letters(self, conn: Connection) -> DeadLetters:
        return DeadLetters(conn, self._shared)


def outbox_rows(
    owed: Sequence[Owed], headers: Mapping[str, str]
) -> list[OutboxMessage]:
    """
    Encode owed messages as outbox rows.

    Args:
        owed: What the decision owes.
        headers: Trace context of the decision, kept for whoever sends later.
    """
    return [
        OutboxMessage(
            message_id=each.message_id,
            address=str(each.address),
            receiver=each.address.verb.service.value,
            body=each.message.encode(),
            headers=dict(headers),
            task_key=each.task_id or "",
        )
        for each in owed
    ]
