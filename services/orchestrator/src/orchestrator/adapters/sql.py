"""The store on SQL: Core statements inside one transaction."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Table,
    and_,
    bindparam,
    delete,
    func,
    insert,
    literal,
    select,
    tuple_,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from contracts.events import TriggerVersion
from contracts.tasks import ListTasks, SubmitTask, TaskEvent, TaskEventType
from determinism import Clock
from faults import TransientFault
from orchestrator.adapters.tables import (
    SHARED,
    BriefRow,
    RunEventRow,
    RunRow,
    TriggerRow,
    event_columns,
    event_of,
    run_columns,
    run_of,
    trigger_of,
)
from orchestrator.domain.cursor import Cursor
from orchestrator.domain.decision import (
    CancelTimer,
    Decision,
    SetTimer,
    StepDeadline,
)
from orchestrator.domain.state import Run
from orchestrator.ports import Work
from persistence.database import Database
from persistence.delivery import outbox_rows
from persistence.inbox import Inbox
from persistence.outbox import Outbox
from persistence.tables import DialectName, dialect_of, insert_into
from persistence.timer import Timers
from persistence.types import Instant
from persistence.versions import update_versioned

T = TypeVar("T")

RUN: Final[Table] = RunRow.metadata.tables["run"]
BRIEF: Final[Table] = BriefRow.metadata.tables["brief"]
EVENT: Final[Table] = RunEventRow.metadata.tables["run_event"]
TRIGGER: Final[Table] = TriggerRow.metadata.tables["event_trigger"]

DEADLINE_KIND: Final = "step-deadline"
IDS_PER_RUN: Final = 10
PAGE_BYTES_MAX: Final = 393_216
STORY_EVENTS_MAX: Final = 4_096
STORY_TURNS_MAX: Final = 400


def _of_task(table: Table) -> ColumnElement[bool]:
    is_own = table.c.tenant == bindparam("of_tenant")
    return and_(is_own, table.c.task_id == bindparam("of_task"))


# What runs for every message is built once: building costs more than running.
_RUN: Final = select(RUN.c.state, RUN.c.version).where(_of_task(RUN))
_LOCKED_RUN: Final = _RUN.with_for_update()
_BRIEF: Final = select(BRIEF.c.body).where(_of_task(BRIEF))
_ADD_BRIEF: Final = insert(BRIEF)
_ADD_EVENTS: Final = insert(EVENT)


@lru_cache(maxsize=2)
def _add_run(dialect: DialectName) -> sqlite.Insert | postgresql.Insert:
    return insert_into(RUN, dialect).on_conflict_do_nothing()


class SqlStore:
    """
    The orchestrator's store.

    Args:
        database: Where it lives.
        clock: Stamps rows.
        wake: Told the ids of owed messages right after their commit.
        carrier: Gives the current trace context as headers.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        wake: Callable[[Sequence[str]], None],
        carrier: Callable[[], Mapping[str, str]],
    ) -> None:
        self._database = database
        self._clock = clock
        self._wake = wake
        self._carrier = carrier

    async def run(self, transaction: Callable[[Work], T]) -> T:
        """
        Run a closure in one transaction; returns once committed.

        Raises:
            TransientFault: Another transaction inserted the same key just now.
        """
        now, headers = self._clock.now(), self._carrier()
        owed: list[str] = []

        def closure(conn: Connection) -> T:
            owed.clear()  # the closure may be run again
            return transaction(SqlWork(conn, now, headers, owed))

        try:
            result = await self._database.run(closure)
        except IntegrityError as cause:
            message = "another transaction inserted the same key just now: try again"
            raise TransientFault(message) from cause
        if owed:
            self._wake(owed)
        return result

    async def read(self, query: Callable[[Work], T]) -> T:
        """Run a query on a snapshot."""
        now = self._clock.now()
        return await self._database.read(lambda conn: query(SqlWork(conn, now, {}, [])))


class SqlWork:
    """The orchestrator's store inside one transaction."""

    def __init__(
        self,
        conn: Connection,
        now: datetime,
        headers: Mapping[str, str],
        owed: list[str],
    ) -> None:
        self._conn = conn
        self._now = now
        self._headers = headers
        self._owed = owed

    def admit(self, message_id: str) -> bool:
        """Note a message; False when it was seen before."""
        return Inbox(self._conn, SHARED).admit(message_id, self._now)

    def has_admitted(self, message_id: str) -> bool:
        """Tell whether a message was noted before."""
        return bool(Inbox(self._conn, SHARED).known((message_id,)))

    def create(self, decision: Decision, brief: SubmitTask) -> bool:
        """Insert a new run with all that it begins with; False when it is there."""
        run = decision.run
        row: dict[str, object] = {
            "task_id": run.task_id,
            "tenant": run.tenant,
            "employee": run.employee,
            "created_at": run.created_at,
            "version": 1,
            **run_columns(run),
        }
        if self._conn.execute(_add_run(dialect_of(self._conn)), row).rowcount != 1:
            return False
        body = {"task_id": run.task_id, "tenant": run.tenant, "body": brief.encode()}
        self._conn.execute(_ADD_BRIEF, body)
        self._append(decision)
        return True

    def save(self, decision: Decision) -> None:
        """Store a run's next state, its events, timers and what is owed."""
        run = decision.run
        key = {"tenant": run.tenant, "task_id": run.task_id}
        update_versioned(self._conn, RUN, key, run.version, run_columns(run))
        self._append(decision)

    def load(self, tenant: str, task_id: str) -> Run | None:
        """Return a run to decide about; PostgreSQL locks its row."""
        return self._run(tenant, task_id, locked=True)

    def find(self, tenant: str, task_id: str) -> Run | None:
        """Return a run to show."""
        return self._run(tenant, task_id, locked=False)

    def brief(self, tenant: str, task_id: str) -> SubmitTask | None:
        """Return what a run was asked to do."""
        of_task = {"of_tenant": tenant, "of_task": task_id}
        body: bytes | None = self._conn.scalar(_BRIEF, of_task)
        return None if body is None else SubmitTask.model_validate_json(body)

    def page(self, request: ListTasks, after: Cursor | None) -> Sequence[Run]:
        """Return at most ``limit + 1`` runs, newest first, older than the cursor."""
        query = (
            select(RUN.c.state, RUN.c.version)
            .where(RUN.c.tenant == request.tenant)
            .order_by(RUN.c.created_at.desc(), RUN.c.task_id.desc())
            .limit(request.limit + 1)
        )
        if request.status is not None:
            query = query.where(RUN.c.status == request.status.value)
        if request.employee is not None:
            query = query.where(RUN.c.employee == request.employee)
        if after is not None:
            place = tuple_(RUN.c.created_at, RUN.c.task_id)
            last = tuple_(literal(after.created_at, Instant), literal(after.task_id))
            query = query.where(place < last)
        return [run_of(row.state, row.version) for row in self._conn.execute(query)]

    def history(
        self, tenant: str, task_id: str, after: int, limit: int
    ) -> Sequence[TaskEvent]:
        """Return events after a sequence, in order; few when they are large."""
        query = (
            select(EVENT)
            .where(
                EVENT.c.tenant == tenant,
                EVENT.c.task_id == task_id,
                EVENT.c.seq > after,
            )
            .order_by(EVENT.c.seq)
            .limit(limit)
        )
        return _fitting(self._conn.execute(query))

    def story(self, tenant: str, task_id: str) -> Sequence[TaskEvent]:
        """Return every event but the turns, and as many newest turns as fit."""
        is_turn = EVENT.c.type == TaskEventType.TURN_FINISHED.value
        of_task = select(EVENT).where(
            EVENT.c.tenant == tenant, EVENT.c.task_id == task_id
        )
        frame = of_task.where(~is_turn).order_by(EVENT.c.seq).limit(STORY_EVENTS_MAX)
        turns = of_task.where(is_turn).order_by(EVENT.c.seq.desc())
        found = [event_of(row) for row in self._conn.execute(frame)]
        found += _fitting(self._conn.execute(turns.limit(STORY_TURNS_MAX)))
        return sorted(found, key=lambda event: event.seq)

    def overdue(self, limit: int) -> Sequence[StepDeadline]:
        """Return deadlines that have passed, oldest first; they stay set."""
        timer = SHARED.timer
        query = (
            select(timer.c.payload)
            .where(timer.c.kind == DEADLINE_KIND, timer.c.due_at <= self._now)
            .order_by(timer.c.due_at)
            .limit(limit)
        )
        due = self._conn.scalars(query)
        return [StepDeadline.model_validate_json(payload) for payload in due]

    def settle_timers(self, timers: Sequence[SetTimer | CancelTimer]) -> None:
        """Set and cancel timers."""
        table = Timers(self._conn, SHARED)
        for timer in timers:
            match timer:
                case SetTimer():
                    payload = timer.payload.encode()
                    table.set(timer.timer_id, DEADLINE_KIND, timer.due_at, payload)
                case CancelTimer():
                    table.cancel(timer.timer_id)

    def prune(self, before: datetime, limit: int) -> int:
        """Forget runs that ended before then, and message ids noted before then."""
        ended = (
            select(RUN.c.task_id)
            .where(RUN.c.finished_at < before)
            .order_by(RUN.c.finished_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        task_ids = self._conn.scalars(ended).all()
        for table in (EVENT, BRIEF, RUN):
            self._conn.execute(delete(table).where(table.c.task_id.in_(task_ids)))
        noted = Inbox(self._conn, SHARED).prune(before, limit * IDS_PER_RUN)
        return max(len(task_ids), noted // IDS_PER_RUN)

    def triggers(self, tenant: str) -> Sequence[TriggerVersion]:
        """Return the newest version of each of a tenant's triggers, by name."""
        newest = (
            select(TRIGGER.c.name, func.max(TRIGGER.c.version))
            .where(TRIGGER.c.tenant == tenant)
            .group_by(TRIGGER.c.name)
        )
        query = (
            select(TRIGGER)
            .where(
                TRIGGER.c.tenant == tenant,
                tuple_(TRIGGER.c.name, TRIGGER.c.version).in_(newest),
            )
            .order_by(TRIGGER.c.name)
        )
        return [trigger_of(row) for row in self._conn.execute(query)]

    def add_trigger(self, version: TriggerVersion) -> None:
        """Insert a version; another's insert of it is an IntegrityError."""
        row: dict[str, object] = {
            "tenant": version.tenant,
            "name": version.trigger.name,
            "version": version.version,
            "digest": version.digest,
            "created_at": version.created_at,
            "document": version.trigger.encode(),
        }
        self._conn.execute(insert(TRIGGER), row)

    def _run(self, tenant: str, task_id: str, *, locked: bool) -> Run | None:
        of_task = {"of_tenant": tenant, "of_task": task_id}
        row = self._conn.execute(_LOCKED_RUN if locked else _RUN, of_task).first()
        return None if row is None else run_of(row.state, row.version)

    def _append(self, decision: Decision) -> None:
        rows = [event_columns(decision.run, event) for event in decision.events]
        if rows:
            self._conn.execute(_ADD_EVENTS, rows)
        self.settle_timers(decision.timers)
        outbox = Outbox(self._conn, SHARED)
        outbox.add(outbox_rows(decision.owed, self._headers), self._now)
        self._owed.extend(owed.message_id for owed in decision.owed)


# Any: a row's columns have no static types.
def _fitting(rows: Iterable[Row[Any]]) -> list[TaskEvent]:
    """Return the first events that fit into one reply; at least one."""
    fitting: list[TaskEvent] = []
    size = 0
    for row in rows:
        size += len(row.data)
        if fitting and size > PAGE_BYTES_MAX:
            break
        fitting.append(event_of(row))
    return fitting
