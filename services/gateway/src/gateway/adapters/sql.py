"""The gateway's store on SQL: Core statements inside one transaction."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from typing import Final, TypeVar

from sqlalchemy import Connection, Table, insert, select, update
from sqlalchemy.exc import IntegrityError

from contracts.owed import Owed
from contracts.tenants import Tenant
from determinism import Clock
from faults import TransientFault
from gateway.adapters.tables import (
    SHARED,
    ApiKeyRow,
    SubmissionRow,
    TenantRow,
    api_key,
    submission,
    tenant,
)
from gateway.domain.admission import Submission
from gateway.domain.keys import ApiKey
from gateway.ports import Work
from persistence.database import Database
from persistence.delivery import outbox_rows
from persistence.outbox import Outbox
from persistence.tables import dialect_of, insert_into

T = TypeVar("T")

TENANT: Final[Table] = TenantRow.metadata.tables["tenant"]
KEY: Final[Table] = ApiKeyRow.metadata.tables["api_key"]
SUBMISSION: Final[Table] = SubmissionRow.metadata.tables["submission"]


class SqlStore:
    """
    The gateway's store.

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

        When another replica inserts the same key at this very moment, the closure is
        run once more and finds what the other one committed.

        Raises:
            TransientFault: The key was taken again meanwhile.
        """
        now, headers = self._clock.now(), self._carrier()
        owed: list[str] = []

        def closure(conn: Connection) -> T:
            owed.clear()
            work = SqlWork(conn, now, headers, owed)
            return transaction(work)

        try:
            result = await self._run_twice(closure)
        except IntegrityError as cause:
            message = "the same key was just inserted by another request: try again"
            raise TransientFault(message) from cause
        if owed:
            self._wake(owed)
        return result

    async def _run_twice(self, closure: Callable[[Connection], T]) -> T:
        with suppress(IntegrityError):
            return await self._database.run(closure)
        return await self._database.run(closure)

    async def read(self, query: Callable[[Work], T]) -> T:
        """Run a query on a snapshot."""
        now = self._clock.now()
        return await self._database.read(lambda conn: query(SqlWork(conn, now, {}, [])))


class SqlWork:
    """The gateway's store inside one transaction."""

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

    def submission(self, tenant: str, task_id: str) -> Submission | None:
        """Return an accepted task, if it is this tenant's."""
        row = self._conn.execute(
            select(SUBMISSION).where(
                SUBMISSION.c.task_id == task_id, SUBMISSION.c.tenant == tenant
            )
        ).first()
        return None if row is None else submission(row)

    def save_submission(self, submission: Submission) -> None:
        """Keep an accepted task."""
        values = {
            "task_id": submission.task_id,
            "tenant": submission.tenant,
            "digest": submission.digest,
            "view": submission.view.model_dump(mode="json", exclude_none=True),
            "created_at": self._now,
        }
        self._conn.execute(insert(SUBMISSION), values)

    def owe(self, owed: Sequence[Owed]) -> None:
        """Put messages into the outbox."""
        rows = outbox_rows(owed, self._headers)
        Outbox(self._conn, SHARED).add(rows, self._now)
        self._owed.extend(row.message_id for row in rows)

    def api_key(self, key_id: str) -> ApiKey | None:
        """Return a key by its id."""
        row = self._conn.execute(select(KEY).where(KEY.c.key_id == key_id)).first()
        return None if row is None else api_key(row)

    def api_keys(self, tenant: str | None) -> Sequence[ApiKey]:
        """Return a tenant's keys; None for all."""
        query = select(KEY).order_by(KEY.c.created_at)
        if tenant is not None:
            query = query.where(KEY.c.tenant == tenant)
        return [api_key(row) for row in self._conn.execute(query)]

    def add_api_key(self, key: ApiKey) -> None:
        """Keep a new key; its id must be free."""
        self._conn.execute(insert(KEY), _key_values(key))

    def put_api_key(self, key: ApiKey) -> None:
        """Keep a key in the place of whatever has its id."""
        values = _key_values(key)
        statement = insert_into(KEY, dialect_of(self._conn)).values(values)
        self._conn.execute(
            statement.on_conflict_do_update(index_elements=["key_id"], set_=values)
        )

    def revoke_api_key(self, key_id: str, now: datetime) -> bool:
        """Revoke a key at once; False when there is none."""
        changed = self._conn.execute(
            update(KEY).where(KEY.c.key_id == key_id).values(revoked_at=now)
        )
        return changed.rowcount == 1

    def tenants(self) -> Sequence[Tenant]:
        """Return every tenant."""
        rows = self._conn.execute(select(TENANT).order_by(TENANT.c.tenant))
        return [tenant(row) for row in rows]

    def add_tenant(self, tenant: Tenant) -> bool:
        """Insert a tenant; False when the id is taken."""
        statement = insert_into(TENANT, dialect_of(self._conn))
        added = self._conn.execute(
            statement.values(tenant.model_dump()).on_conflict_do_nothing()
        )
        return added.rowcount == 1


def _key_values(key: ApiKey) -> dict[str, object]:
    return {**asdict(key), "role": key.role.value}
