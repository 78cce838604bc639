"""
The tables that every service's store has, declared on the service's own MetaData.

Five services live in one process in the simulation, so nothing here is global:

    class GatewayTable(SQLModel):
        metadata = MetaData()

    SHARED = declare_shared(GatewayTable.metadata)

A change here needs a new ``create_shared_vN`` for migrations; a test compares them.
"""

from dataclasses import dataclass
from typing import Final, Literal

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
)
from sqlalchemy.dialects import postgresql, sqlite

from persistence.types import Body, Instant, Json

UNSENT: Final = 0
SENT: Final = 1

DialectName = Literal["sqlite", "postgresql"]


@dataclass(frozen=True, eq=False)
class SharedTables:
    """The shared tables of one service; compared by identity, like its MetaData."""

    inbox: Table
    outbox: Table
    lease: Table
    timer: Table
    dead_letter: Table
    store_identity: Table


def declare_shared(metadata: MetaData) -> SharedTables:
    """Add the shared tables to a service's MetaData."""
    return SharedTables(
        inbox=_inbox(metadata),
        outbox=_outbox(metadata),
        lease=_lease(metadata),
        timer=_timer(metadata),
        dead_letter=_dead_letter(metadata),
        store_identity=_store_identity(metadata),
    )


def _inbox(metadata: MetaData) -> Table:
    return Table(
        "inbox",
        metadata,
        Column("message_id", Text, primary_key=True),
        Column("admitted_at", Instant, nullable=False),
        Index("ix_inbox_admitted_at", "admitted_at"),
    )


def _outbox(metadata: MetaData) -> Table:
    return Table(
        "outbox",
        metadata,
        Column("message_id", Text, primary_key=True),
        Column("address", Text, nullable=False),
        Column("receiver", Text, nullable=False),
        Column("task_key", Text, nullable=False),
        Column("body", Body, nullable=False),
        Column("headers", Json, nullable=False),
        Column("created_at", Instant, nullable=False),
        Column("state", SmallInteger, nullable=False),
        # When the row entered its state: a row is due by state and age.
        Column("changed_at", Instant, nullable=False),
        Column("sends", Integer, nullable=False),
        Column("claim_owner", Text, nullable=False),
        Column("claim_until", Instant, nullable=False),
        Index("ix_outbox_state_changed_at", "state", "changed_at"),
        Index("ix_outbox_created_at", "created_at"),
    )


def _lease(metadata: MetaData) -> Table:
    return Table(
        "lease",
        metadata,
        Column("name", Text, primary_key=True),
        Column("kind", Text, nullable=False),
        Column("owner", Text, nullable=False),
        Column("fence", Integer, nullable=False),
        Column("until", Instant, nullable=False),
        Column("flag", Text, nullable=True),
        Column("finished", Boolean, nullable=False),
        Index("ix_lease_kind_finished_until", "kind", "finished", "until"),
        Index("ix_lease_finished_until", "finished", "until"),
    )


def _timer(metadata: MetaData) -> Table:
    return Table(
        "timer",
        metadata,
        Column("timer_id", Text, primary_key=True),
        Column("kind", Text, nullable=False),
        Column("due_at", Instant, nullable=False),
        Column("payload", Body, nullable=False),
        Index("ix_timer_due_at", "due_at"),
        Index("ix_timer_kind_due_at", "kind", "due_at"),
    )


def _dead_letter(metadata: MetaData) -> Table:
    return Table(
        "dead_letter",
        metadata,
        Column("id", Text, primary_key=True),
        Column("tenant", Text, nullable=True),
        Column("service", Text, nullable=False),
        Column("subject", Text, nullable=False),
        Column("message_id", Text, nullable=False),
        Column("reason", Text, nullable=False),
        Column("detail", Text, nullable=False),
        Column("body", Body, nullable=False),
        Column("headers", Json, nullable=False),
        Column("deliveries", Integer, nullable=False),
        Column("created_at", Instant, nullable=False),
        Column("state", Text, nullable=False),
        Column("replayed_at", Instant, nullable=True),
        Index("ix_dead_letter_message_id", "message_id"),
        Index("ix_dead_letter_tenant_created_at", "tenant", "created_at", "id"),
        Index("ix_dead_letter_created_at", "created_at", "id"),
    )


def _store_identity(metadata: MetaData) -> Table:
    return Table(
        "store_identity",
        metadata,
        # One row: whichever starter migrates first names the store for all.
        Column("singleton", SmallInteger, primary_key=True, autoincrement=False),
        Column("store_id", Text, nullable=False),
    )


def dialect_of(connection: Connection) -> DialectName:
    """Name the connection's dialect, refusing one that was never tested."""
    match connection.dialect.name:
        case "sqlite":
            return "sqlite"
        case "postgresql":
            return "postgresql"
        case other:
            message = f"{other} is not supported: use SQLite or PostgreSQL"
            raise ValueError(message)


def insert_into(
    table: Table, dialect: DialectName
) -> sqlite.Insert | postgresql.Insert:
    """Return an INSERT that has ``on_conflict_…`` on either dialect."""
    if dialect == "sqlite":
        return sqlite.insert(table)
    return postgresql.insert(table)
