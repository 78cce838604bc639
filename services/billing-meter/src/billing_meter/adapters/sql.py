"""The ledger on SQL: Core statements inside one transaction."""

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Table, func, insert, select, tuple_, update
from sqlalchemy.exc import IntegrityError

from billing_meter.adapters.book_sql import SqlBooks
from billing_meter.adapters.tables import (
    SHARED,
    EntryRow,
    Line,
    TaskRollup,
    UsageKey,
    ledger_line,
    line_values,
)
from billing_meter.domain.ledger import Posting
from billing_meter.domain.metering import Known
from billing_meter.ports import Work
from contracts.deadletters import DeadLetter
from contracts.ledger import LedgerPage, ListLedger, TaskCost
from contracts.usage import UsageRecord, UsageSource
from determinism import Clock
from faults import PermanentFault, TransientFault
from persistence.database import Database
from persistence.dead_letter import DeadLetters
from persistence.inbox import Inbox
from persistence.tables import dialect_of, insert_into
from persistence.types import EPOCH, MICROSECOND

T = TypeVar("T")

CURSOR: Final = re.compile(
    r"(?P<position>[0-9]{1,18}):(?P<transaction>\w{1,64})", re.ASCII
)

LINE: Final[Table] = Line.metadata.tables["ledger_line"]
KEY: Final[Table] = UsageKey.metadata.tables["usage_key"]
ENTRY: Final[Table] = EntryRow.metadata.tables["ledger_entry"]
ROLLUP: Final[Table] = TaskRollup.metadata.tables["task_rollup"]


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

    def known(self, record: UsageRecord) -> Known:
        """Return what the ledger knows of the record's attempt."""
        digest = self._conn.scalar(
            select(KEY.c.digest).where(
                KEY.c.attempt_id == record.attempt_id,
                KEY.c.revision == record.revision,
            )
        )
        row = self._conn.execute(
            select(LINE).where(LINE.c.attempt_id == record.attempt_id, LINE.c.in_force)
        ).first()
        return Known(digest, None if row is None else ledger_line(row))

    def note(self, record: UsageRecord, digest: str) -> None:
        """Keep the record's key for the ledger's life."""
        values = {
            "attempt_id": record.attempt_id,
            "revision": record.revision,
            "digest": digest,
            "occurred_at": record.occurred_at,
        }
        self._conn.execute(insert(KEY), values)

    def append(self, posting: Posting) -> None:
        """Append one transaction and bring the rollup up to date."""
        if posting.reverses_id is not None:
            reversed_line = LINE.c.transaction_id == posting.reverses_id
            self._conn.execute(update(LINE).where(reversed_line).values(in_force=False))
        position = (self._now - EPOCH) // MICROSECOND
        self._conn.execute(insert(LINE), line_values(posting, position))
        entries = [
            {
                "transaction_id": entry.transaction_id,
                "account": entry.account.value,
                "tenant": entry.tenant,
                "pico_usd": entry.pico_usd,
            }
            for entry in posting.entries
        ]
        self._conn.execute(insert(ENTRY), entries)
        self._roll_up(posting)

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

    def _roll_up(self, posting: Posting) -> None:
        line = posting.line
        if line.task_id is None:
            return
        sign = 1 if posting.reverses_id is None else -1
        estimated = 0 if line.source is UsageSource.VENDOR else sign
        values: dict[str, Any] = {
            "tenant": line.tenant,
            "task_id": line.task_id,
            "pico_usd": line.pico_usd,
            "attempts": sign,
            "estimated_attempts": estimated,
        }
        statement = insert_into(ROLLUP, dialect_of(self._conn)).values(values)
        counters = ("pico_usd", "attempts", "estimated_attempts")
        upsert = statement.on_conflict_do_update(
            index_elements=["tenant", "task_id"],
            set_={
                name: ROLLUP.c[name] + getattr(statement.excluded, name)
                for name in counters
            },
        )
        self._conn.execute(upsert)


def _parse_cursor(cursor: str) -> tuple[int, str]:
    found = CURSOR.fullmatch(cursor)
    if found is None:
        message = f"{cursor!r} is no ledger cursor: pass next_cursor as it came"
        raise PermanentFault(message)
    return int(found["position"]), found["transaction"]
