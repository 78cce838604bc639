"""Dead letters: what could not be processed, why, and whether it was replayed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    Connection,
    Row,
    Select,
    Update,
    bindparam,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from persistence.tables import DialectName, SharedTables, dialect_of, insert_into


class DeadLetterState(StrEnum):
    """What became of a dead letter."""

    OPEN = "open"
    REPLAYED = "replayed"
    DISCARDED = "discarded"


@dataclass(frozen=True)
class DeadLetter:
    """One message that could not be processed, whole, so that it can be replayed."""

    id: str
    tenant: str | None
    """None when the message was too broken to tell."""
    service: str
    subject: str
    message_id: str
    reason: str
    """A code for programs: ``malformed-event``."""
    detail: str
    body: bytes
    headers: Mapping[str, str]
    deliveries: int
    created_at: datetime
    state: DeadLetterState = DeadLetterState.OPEN
    replayed_at: datetime | None = None


class DeadLetters:
    """The dead letter table inside one transaction."""

    def __init__(self, conn: Connection, tables: SharedTables) -> None:
        self._conn = conn
        self._tables = tables
        self._sql = _statements(tables, dialect_of(conn))

    def add(self, row: DeadLetter) -> bool:
        """Keep the letter; False when one with this id is kept already."""
        parameters = {
            "id": row.id,
            "tenant": row.tenant,
            "service": row.service,
            "subject": row.subject,
            "message_id": row.message_id,
            "reason": row.reason,
            "detail": row.detail,
            "body": row.body,
            "headers": dict(row.headers),
            "deliveries": row.deliveries,
            "created_at": row.created_at,
            "state": row.state.value,
            "replayed_at": row.replayed_at,
        }
        return self._conn.execute(self._sql.add, parameters).rowcount == 1

    def get(self, id: str, tenant: str | None) -> DeadLetter | None:  # noqa: A002
        """Read one; a tenant sees only its own, None (an operator) sees all."""
        row = self._conn.execute(self._sql.get, {"id": id}).first()
        letter = None if row is None else _letter(row)
        if letter is None or tenant not in (None, letter.tenant):
            return None
        return letter

    def list(
        self,
        tenant: str | None,
        state: DeadLetterState | None,
        limit: int,
        after: str | None = None,
    ) -> Sequence[DeadLetter]:
        """
        Return a page, newest first.

        Args:
            tenant: Only this tenant's; None (an operator) for all.
            state: Only those in this state; None for all.
            limit: At most this many.
            after: The id of the last letter of the previous page.
        """
        letter = self._tables.dead_letter
        query = select(letter).order_by(letter.c.created_at.desc(), letter.c.id.desc())
        if tenant is not None:
            query = query.where(letter.c.tenant == tenant)
        if state is not None:
            query = query.where(letter.c.state == state.value)
        if after is not None:
            last = select(letter.c.created_at, letter.c.id).where(letter.c.id == after)
            place = tuple_(letter.c.created_at, letter.c.id)
            query = query.where(place < last.scalar_subquery())
        return [_letter(row) for row in self._conn.execute(query.limit(limit))]

    def mark_replayed(self, id: str, now: datetime) -> bool:  # noqa: A002
        """Record that an open letter was replayed; False when it is not open."""
        return self._close(id, DeadLetterState.REPLAYED, now)

    def mark_discarded(self, id: str) -> bool:  # noqa: A002
        """Record that an open letter is given up; False when it is not open."""
        return self._close(id, DeadLetterState.DISCARDED, None)

    def _close(
        self, letter_id: str, state: DeadLetterState, replayed_at: datetime | None
    ) -> bool:
        parameters = {
            "closed_id": letter_id,
            "set_state": state.value,
            "set_replayed_at": replayed_at,
        }
        return self._conn.execute(self._sql.close, parameters).rowcount == 1


def _letter(row: Row[Any]) -> DeadLetter:
    letter = DeadLetter(*row)  # columns and fields have one order
    return replace(letter, state=DeadLetterState(letter.state))


@dataclass(frozen=True)
class _Statements:
    add: sqlite.Insert | postgresql.Insert
    get: Select[Any]
    close: Update


@lru_cache(maxsize=64)
def _statements(tables: SharedTables, dialect: DialectName) -> _Statements:
    letter = tables.dead_letter
    return _Statements(
        add=insert_into(letter, dialect).on_conflict_do_nothing(),
        get=select(letter).where(letter.c.id == bindparam("id")),
        close=update(letter)
        .where(
            letter.c.id == bindparam("closed_id"),
            letter.c.state == DeadLetterState.OPEN.value,
        )
        .values(
            state=bindparam("set_state"),
            replayed_at=bindparam("set_replayed_at"),
        ),
    )
