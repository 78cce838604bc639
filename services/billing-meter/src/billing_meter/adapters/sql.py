"""The ledger on SQL: Core statements inside one transaction."""

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final, TypeVar

from sqlalchemy import Connection, func, select, tuple_, update
from sqlalchemy.exc import IntegrityError

from billing_meter.adapters.book_sql import SqlBooks
from billing_meter.adapters.statements import (
    ADD_ENTRY,
    ADD_KEY,
    ADD_LINE,
    ENTRY,
    KEY,
    LINE,
    ROLL_UP,
    ROLLUP,
)
from billing_meter.adapters.tables import SHARED, ledger_line, line_values, rollups
from billing_meter.domain.ledger import Posting
from billing_meter.domain.metering import Judged, Known
from billing_meter.ports import Work
from contracts.deadletters import DeadLetter
from contracts.ledger import LedgerPage, ListLedger, TaskCost
from determinism import Clock
from faults import PermanentFault, TransientFault
from persistence.database import Database
from persistence.dead_letter import DeadLetters
from persistence.inbox import Inbox
from persistence.types import EPOCH, MICROSECOND

T = TypeVar("T")

CURSOR: Final = re.compile(
    r"(?P<position>[0-9]{1,18}):(?P<transaction>\w{1,64})", re.ASCII
)


class SqlStore:
    """The ledger's store."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def run(self, transaction: Callable[[Work], T]) -> T:
        """
        Run a closure in one transaction.

        Raises:
            TransientFault: Another writer posted the same attempt at this very
                moment; the repeat will see its line.
        """
        now = self._clock.now()
        try:
            return await self._database.run(
                lambda conn: transaction(SqlWork(conn, now))
            )
        except IntegrityError as cause:
            message = "post to the ledger: another writer holds the attempt; try again"
            raise TransientFault(message) from cause

    async def read(self, query: Callable[[Work], T]) -> T:
        """Run a query on a snapshot."""
        now = self._clock.now()
        return await self._database.read(lambda conn: query(SqlWork(conn, now)))


class SqlWork:
    """The ledger inside one transaction."""

    def __init__(self, conn: Connection, now: datetime) -> None:
        self._conn = conn
        self._now = now
        self.books = SqlBooks(conn)

    def admit(self, message_id: str) -> bool:
        """Note a message; False when it was seen before."""
        return Inbox(self._conn, SHARED).admit(message_id, self._now)

    def known(self, attempt_ids: Sequence[str]) -> Known:
        """Return what the ledger knows of these attempts."""
        keys = self._conn.execute(select(KEY).where(KEY.c.attempt_id.in_(attempt_ids)))
        lines = self._conn.execute(
            select(LINE).where(LINE.c.attempt_id.in_(attempt_ids), LINE.c.in_force)
        )
        return Known(
            {(row.attempt_id, row.revision): row.digest for row in keys},
            {row.attempt_id: ledger_line(row) for row in lines},
        )

    def note(self, judged: Sequence[Judged]) -> None:
        """Keep the records' keys for the ledger's life."""
        keys = [
            {
                "attempt_id": each.record.attempt_id,
                "revision": each.record.revision,
                "digest": each.digest,
                "occurred_at": each.record.occurred_at,
            }
            for each in judged
        ]
        ADD_KEY.change_all(self._conn, keys)

    def append(self, postings: Sequence[Posting]) -> None:
        """Append transactions, in this order, and bring the rollups up to date."""
        undone = {each.reverses_id for each in postings} - {None}
        if undone:
            # Before the new lines: one line of an attempt may be in force.
            reversed_lines = LINE.c.transaction_id.in_(undone)
            self._conn.execute(
                update(LINE).where(reversed_lines).values(in_force=False)
            )
        position = (self._now - EPOCH) // MICROSECOND
        lines = [line_values(each, position, undone) for each in postings]
        ADD_LINE.change_all(self._conn, lines)
        entries = [
            {
                "transaction_id": entry.transaction_id,
                "account": entry.account.value,
                "tenant": entry.tenant,
                "pico_usd": entry.pico_usd,
            }
            for posting in postings
            for entry in posting.entries
        ]
        ADD_ENTRY.change_all(self._conn, entries)
        ROLL_UP.change_all(self._conn, rollups(postings))

    def bury(self, letter: DeadLetter) -> None:
        """Keep a record that must not be posted."""
        DeadLetters(self._conn, SHARED).add(letter)

    def task_costs(self, tenant: str, task_ids: Sequence[str]) -> Sequence[TaskCost]:
        """Return the rollups, one for each id that was asked."""
        rows = self._conn.execute(
            select(ROLLUP).where(
                ROLLUP.c.tenant == tenant, ROLLUP.c.task_id.in_(task_ids)
            )
        )
        found = {
            row.task_id: TaskCost(
                task_id=row.task_id,
                pico_usd=row.pico_usd,
                attempts=row.attempts,
                estimated_attempts=row.estimated_attempts,
            )
            for row in rows
        }
        nothing = TaskCost(task_id="none", pico_usd=0, attempts=0)
        return [
            found.get(task_id, nothing.model_copy(update={"task_id": task_id}))
            for task_id in task_ids
        ]

    def lines(self, request: ListLedger) -> LedgerPage:
        """Return lines in force, oldest first."""
        place = (LINE.c.position, LINE.c.transaction_id)
        query = select(LINE).where(LINE.c.tenant == request.tenant, LINE.c.in_force)
        if request.task_id is not None:
            query = query.where(LINE.c.task_id == request.task_id)
        if request.cursor is not None:
            query = query.where(tuple_(*place) > _parse_cursor(request.cursor))
        found = self._conn.execute(query.order_by(*place).limit(request.limit + 1))
        rows = found.all()
        page = rows[: request.limit]
        more = len(rows) > request.limit
        return LedgerPage(
            lines=tuple(ledger_line(row) for row in page),
            next_cursor=(
                f"{page[-1].position}:{page[-1].transaction_id}" if more else None
            ),
        )

    def imbalance(self) -> int:
        """Return the sum of all entries; 0 in a sound ledger."""
        return int(self._conn.scalar(select(func.sum(ENTRY.c.pico_usd))) or 0)


def _parse_cursor(cursor: str) -> tuple[int, str]:
    found = CURSOR.fullmatch(cursor)
    if found is None:
        message = f"{cursor!r} is no ledger cursor: pass next_cursor as it came"
        raise PermanentFault(message)
    return int(found["position"]), found["transaction"]
