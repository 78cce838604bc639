"""The broker's store on SQL: Core statements inside one transaction."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final, TypeVar

from sqlalchemy import Connection, and_, delete, exists, or_, select, tuple_, update

import telemetry
from ai_broker.adapters.answer_cache import keep_answer
from ai_broker.adapters.statements import (
    ADD_ATTEMPT,
    ADD_COMPLETION,
    END_COMPLETION,
    LOCK_COMPLETION,
    READ_ATTEMPTS,
    READ_COMPLETION,
    RENEW_CLAIM,
    SAVE_ATTEMPT,
    SAVE_COMPLETION,
    SETTLE_ATTEMPT,
)
from ai_broker.adapters.tables import (
    ATTEMPT,
    CACHED_ANSWER,
    COMPLETION,
    OPEN,
    SHARED,
    SLICE,
    attempt_of,
    attempt_values,
    completion_values,
    held_of,
    untold_of,
)
from ai_broker.domain.attempt import Attempt
from ai_broker.domain.catalogue import Candidate
from ai_broker.domain.completion import Held
from ai_broker.ports.store import Work
from contracts.completions import Completion, CompletionRequest
from contracts.owed import Owed
from contracts.usage import UsageRecord
from determinism import Bell, Clock
from persistence.database import Database
from persistence.delivery import outbox_rows
from persistence.outbox import Outbox
from persistence.prepared import Prepared

T = TypeVar("T")

TRACE: Final = "traceparent"

Wake = Callable[[Sequence[str]], None]
Committed = Callable[[Sequence[Attempt]], None]


class SqlStore:
    """
    The broker's store.

    Args:
        database: Where the tables are.
        wake: Told the ids of owed messages once they are committed.
        clock: Dates owed messages.
        settled: Rung once a settled attempt is committed.
        committed: Told which attempts a commit has opened or settled.
    """

    def __init__(
        self,
        database: Database,
        wake: Wake,
        clock: Clock,
        settled: Bell,
        committed: Committed | None = None,
    ) -> None:
        self._database = database
        self._wake = wake
        self._clock = clock
        self._settled = settled
        self._committed = committed

    async def run(self, transaction: Callable[[Work], T]) -> T:
        """Run a closure in one transaction, then let its messages leave."""
        now, trace = self._clock.now(), telemetry.carrier()

        def closure(conn: Connection) -> tuple[T, SqlWork]:
            work = SqlWork(conn, trace=trace.get(TRACE))
            result = transaction(work)
            if work.owed:
                Outbox(conn, SHARED).add(outbox_rows(work.owed, trace), now)
            return result, work

        result, work = await self._database.run(closure)
        if work.owed:
            self._wake([each.message_id for each in work.owed])
        if work.has_settled:
            self._settled.ring()
        if work.written and self._committed is not None:
            self._committed(work.written)
        return result

    async def read(self, query: Callable[[Work], T]) -> T:
        """Run a query on a snapshot."""
        return await self._database.read(lambda conn: query(SqlWork(conn, lock=False)))


class SqlWork:
    """The broker's state inside one transaction."""

    def __init__(
        self, conn: Connection, *, lock: bool = True, trace: str | None = None
    ) -> None:
        self._conn = conn
        self._lock = lock
        self._trace = trace
        self.owed: list[Owed] = []
        self.has_settled = False
        self.written: list[Attempt] = []

    def completion(self, tenant: str, completion_id: str) -> Held | None:
        """Return the completion, locked until the transaction ends."""
        query = LOCK_COMPLETION if self._lock else READ_COMPLETION
        found = query.first(self._conn, _at(tenant, completion_id))
        return None if found is None else held_of(found)

    def add_completion(self, held: Held) -> bool:
        """Insert a new completion; False when there is one already."""
        return ADD_COMPLETION.change(self._conn, completion_values(held)) == 1

    def save_completion(self, held: Held) -> None:
        """Save a completion that this transaction has read."""
        SAVE_COMPLETION.change(self._conn, _changes(held))

    def end_completion(self, held: Held) -> bool:
        """Save how a completion ended; False when its claim is lost."""
        return END_COMPLETION.change(self._conn, _changes(held)) == 1

    def renew(self, held: Held, until: datetime) -> bool:
        """Hold a claim longer; False when it is lost."""
        at = _at(held.tenant, held.completion_id)
        values = {**at, "at_fence": held.fence, "until": until}
        return RENEW_CLAIM.change(self._conn, values) == 1

    def attempts(self, tenant: str, completion_id: str) -> Sequence[Attempt]:
        """Return the attempts of a completion, by number."""
        rows = READ_ATTEMPTS.rows(self._conn, _at(tenant, completion_id))
        return [attempt_of(row) for row in rows]

    def add_attempt(self, attempt: Attempt) -> None:
        """Insert an attempt about to be dispatched."""
        ADD_ATTEMPT.change(self._conn, attempt_values(attempt))
        self.written.append(attempt)

    def save_attempt(self, attempt: Attempt) -> None:
        """Save a settled attempt, whose record the ledger has not been told."""
        self._settle(attempt, SAVE_ATTEMPT)

    def settle_attempt(self, attempt: Attempt) -> bool:
        """Save an attempt as settled; False when it has been settled already."""
        return self._settle(attempt, SETTLE_ATTEMPT)

    def take_untold(self, limit: int) -> Sequence[UsageRecord]:
        """Return records that the ledger was not told, and count them as told."""
        rows = self._conn.execute(
            select(ATTEMPT.c.attempt_id, ATTEMPT.c.record, ATTEMPT.c.trace)
            .where(~ATTEMPT.c.is_told)
            .order_by(ATTEMPT.c.tenant, ATTEMPT.c.attempt_id)
            .limit(limit)
            .with_for_update(skip_locked=True)
        ).all()
        if rows:
            told = ATTEMPT.c.attempt_id.in_([row.attempt_id for row in rows])
            self._conn.execute(update(ATTEMPT).where(told).values(is_told=True))
        return [untold_of(row.record, row.trace) for row in rows]

    def overdue(self, before: datetime, now: datetime, limit: int) -> Sequence[Attempt]:
        """Return open attempts with a deadline before then that nobody holds."""
        same = and_(
            COMPLETION.c.tenant == ATTEMPT.c.tenant,
            COMPLETION.c.completion_id == ATTEMPT.c.completion_id,
        )
        rows = self._conn.execute(
            select(ATTEMPT)
            .join(COMPLETION, same)
            .where(
                ATTEMPT.c.state == OPEN,
                ATTEMPT.c.deadline < before,
                COMPLETION.c.until < now,
            )
            .order_by(ATTEMPT.c.deadline, ATTEMPT.c.attempt_id)
            .limit(limit)
        )
        return [attempt_of(row) for row in rows]

    def prune(self, before: datetime, limit: int) -> int:
        """Forget what ended before then, with its attempts and its cache entry."""
        same = and_(
            ATTEMPT.c.tenant == COMPLETION.c.tenant,
            ATTEMPT.c.completion_id == COMPLETION.c.completion_id,
        )
        found = self._conn.execute(
            select(COMPLETION.c.tenant, COMPLETION.c.completion_id)
            .where(
                COMPLETION.c.until < before,
                ~exists().where(same, or_(ATTEMPT.c.state == OPEN, ~ATTEMPT.c.is_told)),
            )
            .order_by(COMPLETION.c.until)
            .limit(limit)
        )
        keys = [(row.tenant, row.completion_id) for row in found]
        for table in (ATTEMPT, CACHED_ANSWER, COMPLETION):
            key = tuple_(table.c.tenant, table.c.completion_id)
            self._conn.execute(delete(table).where(key.in_(keys)))
        return len(keys)

    def keep_answer(
        self, request: CompletionRequest, answer: Completion, candidate: Candidate
    ) -> None:
        """Let equal questions find an answer."""
        keep_answer(self._conn, request, answer, candidate)

    def lends(self, lease_id: str) -> bool:
        """Tell whether a lease may be reserved under; it stays so until the commit."""
        query = select(SLICE.c.is_closed).where(SLICE.c.lease_id == lease_id)
        # Shared: attempts of one lease do not wait for each other, its return does.
        return self._conn.scalar(query.with_for_update(read=True)) is False

    def owe(self, owed: Owed) -> None:
        """Owe a message; it leaves after the commit."""
        self.owed.append(owed)

    def _settle(self, attempt: Attempt, statement: Prepared) -> bool:
        values = attempt_values(attempt, self._trace)
        values["at_attempt"] = attempt.record.attempt_id
        if statement.change(self._conn, values) == 0:
            return False
        self.written.append(attempt)
        self.has_settled = True
        return True


def _at(tenant: str, completion_id: str) -> dict[str, object]:
    return {"at_tenant": tenant, "at_completion": completion_id}


def _changes(held: Held) -> dict[str, object]:
    at = _at(held.tenant, held.completion_id)
    return {**completion_values(held), **at, "at_fence": held.fence}
