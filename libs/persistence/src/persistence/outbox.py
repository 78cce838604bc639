"""
The outbox: a message lives until its receiver is known to have it.

    add ──► unsent ──mark_sent──► sent ──confirm──► gone
              ▲                     │
              └──────resend─────────┘   the receiver says that it is missing

A PubAck only proves that JetStream had the message, and JetStream may lose its
store. So ``mark_sent`` keeps the row; the sender asks the receiver (``missing``) for
rows that have been sent for a while, and confirms or resends them.

The committing process publishes its own rows at once. Whatever is still unsent
after a while is claimed by any replica: by state and age, never by an id cursor,
since transactions do not commit in the order of their ids.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Delete,
    Integer,
    Row,
    Select,
    Update,
    bindparam,
    delete,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import ReturningUpdate

from faults import PermanentFault
from persistence.tables import (
    SENT,
    UNSENT,
    DialectName,
    SharedTables,
    dialect_of,
    insert_into,
)
from persistence.types import EPOCH


@dataclass(frozen=True)
class OutboxMessage:
    """A message that a transaction owes to another service."""

    message_id: str
    """Stable over every re-send; what the receiver's inbox compares."""
    address: str
    """Subject without the track: ``work.orchestrator.submit.acme``."""
    receiver: str
    """Service that must have it, as in subjects: ``orchestrator``."""
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    task_key: str = ""
    """What the track is drawn by: the task id, or a request id."""


@dataclass(frozen=True)
class OutboxRow(OutboxMessage):
    """An owed message as the store holds it."""

    sends: int = field(kw_only=True)
    """Times that a PubAck came; ``Nats-Msg-Id`` is ``<message_id>.<sends>``."""
    created_at: datetime = field(kw_only=True)


class Outbox:
    """The outbox table inside one transaction."""

    def __init__(self, conn: Connection, tables: SharedTables) -> None:
        self._conn = conn
        self._sql = _statements(tables, dialect_of(conn))

    def add(self, messages: Sequence[OutboxMessage], now: datetime) -> None:
        """
        Owe the messages; the same message again changes nothing.

        Raises:
            PermanentFault: The id is already owed with another content.
        """
        for message in messages:
            added = self._conn.execute(self._sql.add, _columns(message, now))
            if added.rowcount != 1:
                self._require_same(message)

    def claim_unsent(
        self, owner: str, now: datetime, age: timedelta, hold: timedelta, limit: int
    ) -> list[OutboxRow]:
        """
        Claim unsent rows, oldest first, that nobody holds.

        Args:
            owner: The claiming process.
            now: The clock's time.
            age: Only rows that have been unsent for at least this long.
            hold: How long others must leave them alone.
            limit: At most this many.
        """
        return self._claim(self._sql.claim_unsent, owner, now, age, hold, limit)

    def claim_unconfirmed(
        self, owner: str, now: datetime, age: timedelta, hold: timedelta, limit: int
    ) -> list[OutboxRow]:
        """Claim sent rows of at least this age, to ask their receivers about."""
        return self._claim(self._sql.claim_unconfirmed, owner, now, age, hold, limit)

    def take(
        self, message_ids: Sequence[str], owner: str, now: datetime, hold: timedelta
    ) -> list[OutboxRow]:
        """Claim these rows, as far as they are unsent and no other holds them."""
        if not message_ids:
            return []
        parameters = {
            "ids": list(message_ids),
            "owner": owner,
            "now": now,
            "hold_until": now + hold,
        }
        return _rows(self._conn.execute(self._sql.take, parameters))

    def mark_sent(self, message_ids: Sequence[str], now: datetime) -> None:
        """Count one send each: a PubAck came. The rows live on until confirmed."""
        self._change(self._sql.mark_sent, message_ids, {"now": now})

    def confirm(self, message_ids: Sequence[str]) -> None:
        """Delete the rows: their receiver has the messages."""
        self._change(self._sql.confirm, message_ids, {})

    def resend(self, message_ids: Sequence[str], now: datetime) -> None:
        """Make sent rows unsent: their receiver has not got them. Sends are kept."""
        self._change(self._sql.resend, message_ids, {"now": now})

    def backlog(self, now: datetime) -> tuple[int, float]:
        """Return how many rows live and the age of the oldest in seconds."""
        found = self._conn.execute(self._sql.backlog).one()
        oldest: datetime | None = found.oldest
        age_s = 0.0 if oldest is None else (now - oldest).total_seconds()
        return found.rows, age_s

    def _claim(
        self,
        statement: ReturningUpdate[Any],
        owner: str,
        now: datetime,
        age: timedelta,
        hold: timedelta,
        limit: int,
    ) -> list[OutboxRow]:
        parameters = {
            "owner": owner,
            "now": now,
            "before": now - age,
            "hold_until": now + hold,
            "limit": limit,
        }
        return _rows(self._conn.execute(statement, parameters))

    def _change(
        self,
        statement: Update | Delete,
        message_ids: Sequence[str],
        parameters: Mapping[str, object],
    ) -> None:
        # Sorted, so that two processes lock the same rows in the same order.
        if message_ids:
            ids = sorted(message_ids)
            self._conn.execute(statement, {**parameters, "ids": ids})

    def _require_same(self, message: OutboxMessage) -> None:
        found = self._conn.execute(self._sql.one, {"ids": [message.message_id]}).first()
        if found is None:  # confirmed by another process in between: it is delivered
            return
        row = _row(found)
        same = (
            row.address == message.address
            and row.receiver == message.receiver
            and row.body == message.body
            and row.task_key == message.task_key
        )
        if not same:
            detail = (
                f"outbox message {message.message_id} to {message.address} is already "
                f"owed to {row.address} with another content: ids must be derived "
                "from what they identify"
            )
            raise PermanentFault(detail, code="outbox-conflict")


def _columns(message: OutboxMessage, now: datetime) -> dict[str, object]:
    return {
        "message_id": message.message_id,
        "address": message.address,
        "receiver": message.receiver,
        "task_key": message.task_key,
        "body": message.body,
        "headers": dict(message.headers),
        "created_at": now,
        "state": UNSENT,
        "changed_at": now,
        "sends": 0,
        "claim_owner": "",
        "claim_until": EPOCH,
    }


def _rows(found: Iterable[Row[Any]]) -> list[OutboxRow]:
    rows = [_row(row) for row in found]
    return sorted(rows, key=lambda row: (row.created_at, row.message_id))


def _row(row: Row[Any]) -> OutboxRow:
    return OutboxRow(
        message_id=row.message_id,
        address=row.address,
        receiver=row.receiver,
        body=row.body,
        headers=row.headers,
        task_key=row.task_key,
        sends=row.sends,
        created_at=row.created_at,
    )


@dataclass(frozen=True)
class _Statements:
    add: sqlite.Insert | postgresql.Insert
    one: Select[Any]
    claim_unsent: ReturningUpdate[Any]
    claim_unconfirmed: ReturningUpdate[Any]
    take: ReturningUpdate[Any]
    mark_sent: Update
    confirm: Delete
    resend: Update
    backlog: Select[int, Any]


@lru_cache(maxsize=64)
def _statements(tables: SharedTables, dialect: DialectName) -> _Statements:
    outbox = tables.outbox
    named = outbox.c.message_id.in_(bindparam("ids", expanding=True))
    free = outbox.c.claim_until <= bindparam("now")
    unclaimed = {"claim_owner": "", "claim_until": EPOCH}
    return _Statements(
        add=insert_into(outbox, dialect).on_conflict_do_nothing(),
        one=select(outbox).where(named),
        claim_unsent=_claim_statement(tables, UNSENT),
        claim_unconfirmed=_claim_statement(tables, SENT),
        take=_claiming(
            tables,
            named,
            outbox.c.state == UNSENT,
            or_(free, outbox.c.claim_owner == bindparam("owner")),
        ),
        mark_sent=update(outbox)
        .where(named)
        .values(
            state=SENT,
            sends=outbox.c.sends + 1,
            changed_at=bindparam("now"),
            **unclaimed,
        ),
        confirm=delete(outbox).where(named),
        resend=update(outbox)
        .where(named, outbox.c.state == SENT)
        .values(state=UNSENT, changed_at=bindparam("now"), **unclaimed),
        backlog=select(
            func.count().label("rows"), func.min(outbox.c.created_at).label("oldest")
        ).select_from(outbox),
    )


def _claim_statement(tables: SharedTables, state: int) -> ReturningUpdate[Any]:
    # A CTE with a row lock is evaluated once on PostgreSQL, so no more than the
    # limit is locked, and rows that another transaction is claiming are skipped.
    outbox = tables.outbox
    picked = (
        select(outbox.c.message_id)
        .where(
            outbox.c.state == state,
            outbox.c.changed_at <= bindparam("before"),
            outbox.c.claim_until <= bindparam("now"),
        )
        .order_by(outbox.c.changed_at)
        .limit(bindparam("limit", type_=Integer))
        .with_for_update(skip_locked=True)
        .cte("picked")
    )
    return _claiming(tables, outbox.c.message_id.in_(select(picked.c.message_id)))


def _claiming(
    tables: SharedTables, *which: ColumnElement[bool]
) -> ReturningUpdate[Any]:
    outbox = tables.outbox
    return (
        update(outbox)
        .where(*which)
        .values(claim_owner=bindparam("owner"), claim_until=bindparam("hold_until"))
        .returning(*outbox.c)
    )
