"""billing-meter's tables, and how their rows become domain values."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, Index, MetaData, Row, text
from sqlmodel import Field, SQLModel

from billing_meter.domain.ledger import Posting
from contracts.ledger import LedgerLine
from persistence.tables import declare_shared
from persistence.types import Instant, Json


class MeterTable(SQLModel):
    """The base of this service's tables."""

    metadata = MetaData()


SHARED = declare_shared(MeterTable.metadata)


class UsageKey(MeterTable, table=True):
    """Every (attempt, revision) that ever came; kept for the ledger's life."""

    __tablename__ = "usage_key"  # pyright: ignore[reportAssignmentType] -- SQLModel

    attempt_id: str = Field(primary_key=True)
    revision: int = Field(primary_key=True)
    digest: str
    occurred_at: datetime = Field(sa_column=Column(Instant, nullable=False))


class Line(MeterTable, table=True):
    """One transaction's line; amounts are never changed."""

    __tablename__ = "ledger_line"  # pyright: ignore[reportAssignmentType] -- SQLModel
    __table_args__ = (
        # At most one line of an attempt is in force, whatever two writers do.
        Index(
            "ux_ledger_line_in_force",
            "attempt_id",
            unique=True,
            sqlite_where=text("in_force"),
            postgresql_where=text("in_force"),
        ),
        Index("ix_ledger_line_tenant_task", "tenant", "task_id", "position"),
    )

    transaction_id: str = Field(primary_key=True)
    position: int = Field(sa_column=Column(BigInteger, nullable=False, index=True))
    attempt_id: str
    revision: int
    tenant: str
    task_id: str | None = None
    in_force: bool
    reverses_id: str | None = None
    pico_usd: int = Field(sa_column=Column(BigInteger, nullable=False))
    line: dict[str, Any] = Field(sa_column=Column(Json, nullable=False))


class EntryRow(MeterTable, table=True):
    """One side of a transaction."""

    __tablename__ = "ledger_entry"  # pyright: ignore[reportAssignmentType] -- SQLModel

    transaction_id: str = Field(primary_key=True)
    account: str = Field(primary_key=True)
    tenant: str
    pico_usd: int = Field(sa_column=Column(BigInteger, nullable=False))


class TaskRollup(MeterTable, table=True):
    """What a task has cost so far: O(1) to read, kept with each posting."""

    __tablename__ = "task_rollup"  # pyright: ignore[reportAssignmentType] -- SQLModel

    tenant: str = Field(primary_key=True)
    task_id: str = Field(primary_key=True)
    pico_usd: int = Field(sa_column=Column(BigInteger, nullable=False))
    attempts: int
    estimated_attempts: int


def line_values(posting: Posting, position: int) -> dict[str, object]:
    """Return the columns of a posting's line."""
    line = posting.line
    return {
        "transaction_id": line.transaction_id,
        "position": position,
        "attempt_id": line.attempt_id,
        "revision": line.revision,
        "tenant": line.tenant,
        "task_id": line.task_id,
        "in_force": posting.reverses_id is None,
        "reverses_id": posting.reverses_id,
        "pico_usd": line.pico_usd,
        "line": line.model_dump(mode="json"),
    }


def ledger_line(row: Row[Any]) -> LedgerLine:
    """Return the line that a row holds."""
    return LedgerLine.model_validate(row.line)
