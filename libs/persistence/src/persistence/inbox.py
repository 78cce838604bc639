"""
The inbox: a message that was admitted once is never admitted again.

Insert before deciding, in the same transaction: a conflict means the message has
been processed, so ack it and stop. Prune only what no sender can still owe; a
pruned id counts as new when it is re-sent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final

from sqlalchemy import (
    CompoundSelect,
    Connection,
    Delete,
    Integer,
    Text,
    bindparam,
    delete,
    select,
    union_all,
)
from sqlalchemy.dialects import postgresql, sqlite

from persistence.tables import DialectName, SharedTables, dialect_of, insert_into

ASKED_MAX: Final = 1_000


class Inbox:
    """The inbox table inside one transaction."""

    def __init__(self, conn: Connection, tables: SharedTables) -> None:
        self._conn = conn
        self._sql = _statements(tables, dialect_of(conn))

    def admit(self, message_id: str, now: datetime) -> bool:
        """Record the message; False when it was seen before."""
        parameters = {"message_id": message_id, "admitted_at": now}
        return self._conn.execute(self._sql.admit, parameters).rowcount == 1

    def known(self, message_ids: Sequence[str]) -> set[str]:
        """
        Return those ids that were admitted or dead-lettered here.

        Raises:
            ValueError: More than 1 000 ids in one question.
        """
        if not message_ids:
            return set()
        if len(message_ids) > ASKED_MAX:
            message = f"{len(message_ids)} ids asked at once: ask at most {ASKED_MAX}"
            raise ValueError(message)
        asked = {"ids": list(message_ids)}
        return {row[0] for row in self._conn.execute(self._sql.known, asked)}

    def prune(self, before: datetime, limit: int) -> int:
        """Forget at most ``limit`` ids admitted before then; return how many."""
        parameters = {"before": before, "limit": limit}
        return self._conn.execute(self._sql.prune, parameters).rowcount


@dataclass(frozen=True)
class _Statements:
    admit: sqlite.Insert | postgresql.Insert
    known: CompoundSelect[str]
    prune: Delete


@lru_cache(maxsize=64)
def _statements(tables: SharedTables, dialect: DialectName) -> _Statements:
    inbox, dead = tables.inbox, tables.dead_letter
    asked = bindparam("ids", expanding=True, type_=Text())
    oldest = (
        select(inbox.c.message_id)
        .where(inbox.c.admitted_at < bindparam("before"))
        .order_by(inbox.c.admitted_at)
        .limit(bindparam("limit", type_=Integer))
    )
    return _Statements(
        admit=insert_into(inbox, dialect).on_conflict_do_nothing(),
        known=union_all(
            select(inbox.c.message_id).where(inbox.c.message_id.in_(asked)),
            select(dead.c.message_id).where(dead.c.message_id.in_(asked)),
        ),
        prune=delete(inbox).where(inbox.c.message_id.in_(oldest)),
    )
