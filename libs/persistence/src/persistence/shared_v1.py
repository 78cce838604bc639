"""
The shared tables as version 1 created them. Frozen: a released migration never changes.

A change to ``tables.py`` comes with a ``shared_v2.py`` whose function alters these.
"""

from typing import Final, Protocol

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
)

from determinism import SystemIds

METADATA: Final = MetaData()

Table(
    "inbox",
    METADATA,
    Column("message_id", Text, primary_key=True),
    Column("admitted_at", BigInteger, nullable=False),
    Index("ix_inbox_admitted_at", "admitted_at"),
)
Table(
    "outbox",
    METADATA,
    Column("message_id", Text, primary_key=True),
    Column("address", Text, nullable=False),
    Column("receiver", Text, nullable=False),
    Column("task_key", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("headers", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("state", SmallInteger, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
    Column("sends", Integer, nullable=False),
    Column("claim_owner", Text, nullable=False),
    Column("claim_until", BigInteger, nullable=False),
    Index("ix_outbox_state_changed_at", "state", "changed_at"),
    Index("ix_outbox_created_at", "created_at"),
)
Table(
    "lease",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("fence", Integer, nullable=False),
    Column("until", BigInteger, nullable=False),
    Column("flag", Text, nullable=True),
    Column("finished", Boolean, nullable=False),
    Index("ix_lease_kind_finished_until", "kind", "finished", "until"),
    Index("ix_lease_finished_until", "finished", "until"),
)
Table(
    "timer",
    METADATA,
    Column("timer_id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("due_at", BigInteger, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Index("ix_timer_due_at", "due_at"),
    Index("ix_timer_kind_due_at", "kind", "due_at"),
)
Table(
    "dead_letter",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("tenant", Text, nullable=True),
    Column("service", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("message_id", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("headers", Text, nullable=False),
    Column("deliveries", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("replayed_at", BigInteger, nullable=True),
    Index("ix_dead_letter_message_id", "message_id"),
    Index("ix_dead_letter_tenant_created_at", "tenant", "created_at", "id"),
    Index("ix_dead_letter_created_at", "created_at", "id"),
)
STORE_IDENTITY: Final = Table(
    "store_identity",
    METADATA,
    Column("singleton", SmallInteger, primary_key=True, autoincrement=False),
    Column("store_id", Text, nullable=False),
)


class Bound(Protocol):
    """The part of ``alembic.op`` that is needed here."""

    def get_bind(self) -> Connection:
        """Return the migration's connection."""
        ...


def create_shared_v1(op: Bound) -> None:
    """
    Create the shared tables of version 1 and name the store.

    Args:
        op: ``from alembic import op``, in a migration's ``upgrade``.
    """
    connection = op.get_bind()
    METADATA.create_all(connection, checkfirst=False)
    # The system's chance, not an argument: a migration file has none to pass, and no
    # decision ever depends on the value.
    identity = {"singleton": 1, "store_id": SystemIds().new("store")}
    connection.execute(STORE_IDENTITY.insert(), identity)
