"""
Timers: a row that becomes due, and is taken exactly once.

``claim_due`` deletes what it returns, inside the caller's transaction: what the
caller decides about a timer commits together with the timer's end, or neither does.
"""

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Delete,
    Integer,
    Select,
    bindparam,
    delete,
    func,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import ReturningDelete

from persistence.tables import DialectName, SharedTables, dialect_of, insert_into


@dataclass(frozen=True)
class Timer:
    """Something to do at or after a time."""

    timer_id: str
    kind: str
    due_at: datetime
    payload: bytes


class Timers:
    """The timer table inside one transaction."""

    def __init__(self, conn: Connection, tables: SharedTables) -> None:
        self._conn = conn
        self._sql = _statements(tables, dialect_of(conn))

    def set(self, timer_id: str, kind: str, due_at: datetime, payload: bytes) -> None:
        """Set the timer; one that has the same id is moved."""
        parameters = {
            "timer_id": timer_id,
            "kind": kind,
            "due_at": due_at,
            "payload": payload,
        }
        self._conn.execute(self._sql.set, parameters)

    def cancel(self, timer_id: str) -> bool:
        """Remove the timer; False when there is none (any more)."""
        found = self._conn.execute(self._sql.cancel, {"cancelled": timer_id})
        return found.rowcount == 1

    def claim_due(
        self, now: datetime, limit: int, kind: str | None = None
    ) -> list[Timer]:
        """Delete and return at most ``limit`` timers that are due, earliest first."""
        parameters: dict[str, object] = {"now": now, "limit": limit}
        statement = self._sql.claim_any
        if kind is not None:
            statement = self._sql.claim_kind
            parameters["of_kind"] = kind
        found = self._conn.execute(statement, parameters)
        due = [
            Timer(row.timer_id, row.kind, row.due_at, row.payload)
            for row in found.all()
        ]
        return sorted(due, key=lambda timer: (timer.due_at, timer.timer_id))

    def next_due(self) -> datetime | None:
        """Return when the earliest timer is due, so that a loop knows how long."""
        return self._conn.execute(self._sql.next_due).scalar_one()


@dataclass(frozen=True)
class _Statements:
    set: sqlite.Insert | postgresql.Insert
    cancel: Delete
    claim_any: ReturningDelete[Any]
    claim_kind: ReturningDelete[Any]
    next_due: Select[Any]


@lru_cache(maxsize=64)
def _statements(tables: SharedTables, dialect: DialectName) -> _Statements:
    timer = tables.timer
    upsert = insert_into(timer, dialect)
    return _Statements(
        set=upsert.on_conflict_do_update(
            index_elements=[timer.c.timer_id],
            set_={
                "kind": upsert.excluded.kind,
                "due_at": upsert.excluded.due_at,
                "payload": upsert.excluded.payload,
            },
        ),
        cancel=delete(timer).where(timer.c.timer_id == bindparam("cancelled")),
        claim_any=_claim_statement(tables),
        claim_kind=_claim_statement(tables, timer.c.kind == bindparam("of_kind")),
        next_due=select(func.min(timer.c.due_at)),
    )


def _claim_statement(
    tables: SharedTables, *further: ColumnElement[bool]
) -> ReturningDelete[Any]:
    timer = tables.timer
    picked = (
        select(timer.c.timer_id)
        .where(timer.c.due_at <= bindparam("now"), *further)
        .order_by(timer.c.due_at)
        .limit(bindparam("limit", type_=Integer))
        .with_for_update(skip_locked=True)
        .cte("picked")
    )
    return (
        delete(timer)
        .where(timer.c.timer_id.in_(select(picked.c.timer_id)))
        .returning(*timer.c)
    )
