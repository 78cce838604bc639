"""The store on SQL: one transaction's work, in Core statements."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, TypeVar

from sqlalchemy import Connection, Table, and_, delete, func, select, update

import telemetry
from agent_runtime.adapters.tables import (
    SHARED,
    RuntimeTable,
    employee_of,
    step_of,
    step_values,
    transcript_of,
    turn_values,
)
from agent_runtime.domain.step import CANCEL, Step, StepLease
from agent_runtime.domain.transcript import Transcript, Turn
from agent_runtime.ports import Work
from contracts.completions import AttemptSummary
from contracts.employees import EmployeeVersion
from contracts.owed import Owed
from determinism import Clock
from persistence.database import Database
from persistence.delivery import outbox_rows
from persistence.inbox import Inbox
from persistence.lease import Lease, Leases
from persistence.outbox import Outbox
from persistence.tables import dialect_of, insert_into

T = TypeVar("T")

EMPLOYEE: Final[Table] = RuntimeTable.metadata.tables["employee"]
STEP: Final[Table] = RuntimeTable.metadata.tables["step"]
TRANSCRIPT: Final[Table] = RuntimeTable.metadata.tables["transcript"]
ATTEMPT: Final[Table] = RuntimeTable.metadata.tables["vain_attempt"]
_STEP_KEYS: Final = (TRANSCRIPT.c.step_id, ATTEMPT.c.step_id, STEP.c.step_id)
KIND: Final = "step"


class SqlStore:
    """
    This service's store.

    Args:
        database: Where it lives.
        clock: Stamps rows.
        wake: Told the ids of owed messages right after their commit.
        owner: This process; holds its leases.
        lease_duration: How long a lease lives without renewal.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        wake: Callable[[Sequence[str]], None],
        *,
        owner: str,
        lease_duration: timedelta,
    ) -> None:
        self._database = database
        self._clock = clock
        self._wake = wake
        self._owner = owner
        self._lease_duration = lease_duration

    async def run(self, transaction: Callable[[Work], T]) -> T:
        """Run a closure in one transaction; returns once committed."""
        # Outside the closure: it may run in another thread, without this context.
        headers = telemetry.carrier()

        def closure(conn: Connection) -> tuple[T, list[str]]:
            work = self._work(conn, headers)
            return transaction(work), work.outbox.message_ids

        result, message_ids = await self._database.run(closure)
        if message_ids:
            self._wake(message_ids)
        return result

    async def read(self, query: Callable[[Work], T]) -> T:
        """Run a query on a snapshot."""
        return await self._database.read(lambda conn: query(self._work(conn, {})))

    def _work(self, conn: Connection, headers: Mapping[str, str]) -> "SqlWork":
        leases = SqlLeases(conn, self._owner, self._lease_duration)
        return SqlWork(conn, leases, SqlOutbox(conn, headers))


class SqlWork:
    """Everything that one transaction may touch."""

    def __init__(
        self, conn: Connection, leases: "SqlLeases", outbox: "SqlOutbox"
    ) -> None:
        self._conn = conn
        self.inbox = Inbox(conn, SHARED)
        self.outbox = outbox
        self.leases = leases
        self.steps = SqlSteps(conn)
        self.employees = SqlEmployees(conn)

    def prune(self, before: datetime, limit: int) -> int:
        """Forget steps that ended before then, with all that belongs to them."""
        query = select(STEP.c.step_id).where(STEP.c.finished_at < before)
        oldest = query.order_by(STEP.c.finished_at).limit(limit)
        step_ids = list(self._conn.scalars(oldest))
        lease = SHARED.lease
        for key in (*_STEP_KEYS, lease.c.name):
            self._conn.execute(delete(key.table).where(key.in_(step_ids)))
        return max(len(step_ids), self.inbox.prune(before, limit))


class SqlOutbox:
    """Owed messages, with the trace that they are owed in."""

    def __init__(self, conn: Connection, headers: Mapping[str, str]) -> None:
        self._outbox = Outbox(conn, SHARED)
        self._headers = headers
        self.message_ids: list[str] = []

    def add(self, owed: Sequence[Owed], now: datetime) -> None:
        """Owe messages; they leave after the commit."""
        rows = outbox_rows(owed, self._headers)
        self._outbox.add(rows, now)
        self.message_ids.extend(row.message_id for row in rows)


class SqlLeases:
    """The fenced leases of steps; a step's id is its lease's name."""

    def __init__(self, conn: Connection, owner: str, duration: timedelta) -> None:
        self._leases = Leases(conn, SHARED)
        self._owner = owner
        self._duration = duration

    def claim(self, step_id: str, now: datetime) -> StepLease | None:
        """Take it for this process; None when it is held alive or finished."""
        return _ours(
            self._leases.claim(step_id, KIND, self._owner, now, self._duration)
        )

    def shelve(self, step_id: str, now: datetime) -> None:
        """Make a lease that nobody holds, for whoever sweeps first."""
        if self._leases.get(step_id) is not None:
            return
        lease = self._leases.claim(step_id, KIND, self._owner, now, self._duration)
        if lease is not None:
            self._leases.release(lease, now)

    def renew(self, lease: StepLease, now: datetime) -> StepLease | None:
        """Hold on; None when the fence is stale."""
        return _ours(self._leases.renew(_theirs(lease), now, self._duration))

    def finish(self, lease: StepLease) -> bool:
        """End it for good; False when the fence is stale."""
        return self._leases.finish(_theirs(lease))

    def release(self, lease: StepLease, now: datetime) -> None:
        """Let others claim it at once, if it is still ours."""
        self._leases.release(_theirs(lease), now)

    def ask_to_cancel(self, step_id: str, now: datetime) -> bool:
        """Leave word for the holder; False when it is finished."""
        return self._leases.flag(step_id, KIND, CANCEL, now) is not None

    def unheld(self, now: datetime, limit: int) -> Sequence[str]:
        """Return steps that nobody works on, longest first."""
        return [lease.name for lease in self._leases.expired(KIND, now, limit)]


class SqlSteps:
    """Steps and their transcripts."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    def enter(self, step: Step) -> bool:
        """Write a step down; False when its id is there already."""
        entry = insert_into(STEP, dialect_of(self._conn)).on_conflict_do_nothing()
        return self._conn.execute(entry, step_values(step)).rowcount == 1

    def get(self, step_id: str) -> Step | None:
        """Read a step."""
        query = select(STEP).where(STEP.c.step_id == step_id)
        row = self._conn.execute(query).first()
        return None if row is None else step_of(row)

    def begin(self, step_id: str, now: datetime) -> None:
        """Note when it was first worked on."""
        change = update(STEP).where(STEP.c.step_id == step_id)
        self._conn.execute(change.values(began_at=now))

    def close(self, step_id: str, now: datetime) -> None:
        """Note that it has ended."""
        change = update(STEP).where(STEP.c.step_id == step_id)
        self._conn.execute(change.values(finished_at=now))

    def append(self, step_id: str, fence: int, turn: Turn) -> None:
        """Append what is new of a turn: its answer, its tools' results."""
        entry = insert_into(TRANSCRIPT, dialect_of(self._conn)).on_conflict_do_nothing()
        tenant = self._tenant_of(step_id)
        for values in turn_values(step_id, fence, turn):
            self._conn.execute(entry, {**values, "tenant": tenant})

    def transcript(self, step_id: str) -> Transcript:
        """Read all turns, in order."""
        query = (
            select(TRANSCRIPT)
            .where(TRANSCRIPT.c.step_id == step_id)
            # "answer" sorts before "tools".
            .order_by(TRANSCRIPT.c.turn, TRANSCRIPT.c.kind)
        )
        return transcript_of(self._conn.execute(query))

    def note_attempts(self, step_id: str, attempts: Sequence[AttemptSummary]) -> None:
        """Keep vendor calls that may belong to no turn; repeats change nothing."""
        entry = insert_into(ATTEMPT, dialect_of(self._conn)).on_conflict_do_nothing()
        tenant = self._tenant_of(step_id)
        for attempt in attempts:
            values = {
                "step_id": step_id,
                "attempt_id": attempt.attempt_id,
                "tenant": tenant,
                "body": attempt.encode(),
            }
            self._conn.execute(entry, values)

    def attempts(self, step_id: str) -> tuple[AttemptSummary, ...]:
        """Read those vendor calls."""
        query = select(ATTEMPT.c.body).where(ATTEMPT.c.step_id == step_id)
        rows = self._conn.execute(query.order_by(ATTEMPT.c.attempt_id))
        return tuple(AttemptSummary.model_validate_json(row.body) for row in rows)

    def _tenant_of(self, step_id: str) -> str:
        query = select(STEP.c.tenant).where(STEP.c.step_id == step_id)
        return str(self._conn.execute(query).scalar_one())


class SqlEmployees:
    """Employees' documents, all versions."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    def newest(self, tenant: str, name: str) -> EmployeeVersion | None:
        """Read the version in force."""
        query = (
            select(EMPLOYEE)
            .where(EMPLOYEE.c.tenant == tenant, EMPLOYEE.c.name == name)
            .order_by(EMPLOYEE.c.version.desc())
            .limit(1)
        )
        row = self._conn.execute(query).first()
        return None if row is None else employee_of(row)

    def get(self, tenant: str, name: str, version: int) -> EmployeeVersion | None:
        """Read one version."""
        query = select(EMPLOYEE).where(
            EMPLOYEE.c.tenant == tenant,
            EMPLOYEE.c.name == name,
            EMPLOYEE.c.version == version,
        )
        row = self._conn.execute(query).first()
        return None if row is None else employee_of(row)

    def add(self, version: EmployeeVersion) -> bool:
        """Store a version; False when someone stored that number first."""
        entry = insert_into(EMPLOYEE, dialect_of(self._conn)).on_conflict_do_nothing()
        values = {
            "tenant": version.tenant,
            "name": version.employee.name,
            "version": version.version,
            "digest": version.digest,
            "document": version.employee.encode(),
            "created_at": version.created_at,
        }
        return self._conn.execute(entry, values).rowcount == 1

    def page(
        self, tenant: str, limit: int, after: str | None
    ) -> Sequence[EmployeeVersion]:
        """Read the newest version of each, by name."""
        newest = (
            select(EMPLOYEE.c.name, func.max(EMPLOYEE.c.version).label("version"))
            .where(EMPLOYEE.c.tenant == tenant, EMPLOYEE.c.name > (after or ""))
            .group_by(EMPLOYEE.c.name)
            .order_by(EMPLOYEE.c.name)
            .limit(limit)
            .subquery()
        )
        same = and_(
            EMPLOYEE.c.name == newest.c.name, EMPLOYEE.c.version == newest.c.version
        )
        query = (
            select(EMPLOYEE)
            .join(newest, same)
            .where(EMPLOYEE.c.tenant == tenant)
            .order_by(EMPLOYEE.c.name)
        )
        return [employee_of(row) for row in self._conn.execute(query)]


def known_steps(conn: Connection, message_ids: Sequence[str]) -> set[str]:
    """Return those doorbells whose steps are written down: the relay's question."""
    query = select(STEP.c.message_id).where(STEP.c.message_id.in_(message_ids))
    return {row.message_id for row in conn.execute(query)}


def _ours(lease: Lease | None) -> StepLease | None:
    if lease is None:
        return None
    return StepLease(lease.name, lease.owner, lease.fence, lease.until, lease.flag)


def _theirs(lease: StepLease) -> Lease:
    return Lease(
        name=lease.step_id,
        kind=KIND,
        owner=lease.owner,
        fence=lease.fence,
        until=lease.until,
        flag=lease.flag,
    )
