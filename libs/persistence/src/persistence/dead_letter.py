"""Dead letters: what could not be processed, why, and whether it was replayed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    Connection,
    RowMapping,
    Select,
    Update,
    bindparam,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from contracts.deadletters import DeadLetter, DeadLetterState
from persistence.tables import DialectName, SharedTables, dialect_of, insert_into


class DeadLetters:
    """The dead letter table inside one transaction."""

    def __init__(self, conn: Connection, tables: SharedTables) -> None:
        self._conn = conn
        self._tables = tables
        self._sql = _statements(tables, dialect_of(conn))

    def add(self, row: DeadLetter) -> bool:
        """Keep the letter; False when one with this id is kept already."""
        parameters = {
            name: _storable(value) if isinstance(value, str) else value
            for name, value in row.model_dump().items()
        }
        parameters["headers"] = {
            _storable(name): _storable(value) for name, value in row.headers.items()
        }
        return self._conn.execute(self._sql.add, parameters).rowcount == 1

    def get(self, id: str, tenant: str | None) -> DeadLetter | None:  # noqa: A002
        """Read one; a tenant sees only its own, None (an operator) sees all."""
        row = self._conn.execute(self._sql.get, {"id": id}).mappings().first()
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
        rows = self._conn.execute(query.limit(limit)).mappings()
        return [_letter(row) for row in rows]

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


def _letter(row: RowMapping) -> DeadLetter:
    return DeadLetter.model_validate(dict(row))


def _storable(text: str) -> str:
    # Letters are made of what was broken: PostgreSQL takes no NUL, UTF-8 no half
    # characters, and a letter that cannot be kept would come back for ever.
    return text.encode(errors="replace").decode().replace("\0", "\ufffd")


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
