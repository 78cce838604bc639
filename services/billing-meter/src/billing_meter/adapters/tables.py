"""billing-meter's tables, and how their rows become domain values."""

from collections.abc import Container, Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, Index, MetaData, Row, text
from sqlmodel import Field, SQLModel

from billing_meter.domain.leases import Lease
from billing_meter.domain.ledger import Posting
from contracts.ledger import LedgerLine
from contracts.usage import UsageSource
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


class BudgetRow(MeterTable, table=True):
    """A limit."""

    __tablename__ = "budget"  # pyright: ignore[reportAssignmentType] -- SQLModel

    tenant: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    scope_id: str = Field(primary_key=True)
    period: str = Field(primary_key=True)
    pico_usd: int = Field(sa_column=Column(BigInteger, nullable=False))
    is_hard: bool
    document: dict[str, Any] = Field(sa_column=Column(Json, nullable=False))


class SpentRow(MeterTable, table=True):
    """What was spent of a limit in one bucket of its time."""

    __tablename__ = "budget_spent"  # pyright: ignore[reportAssignmentType] -- SQLModel

    tenant: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    scope_id: str = Field(primary_key=True)
    period: str = Field(primary_key=True)
    bucket: datetime = Field(sa_column=Column(Instant, primary_key=True))
    pico_usd: int = Field(sa_column=Column(BigInteger, nullable=False))


class LeaseRow(MeterTable, table=True):
    """A slice that a broker replica holds."""

    __tablename__ = "budget_lease"  # pyright: ignore[reportAssignmentType] -- SQLModel
    __table_args__ = (
        Index("ix_budget_lease_tenant_state", "tenant", "state"),
        Index("ix_budget_lease_ends_at", "ends_at"),
    )

    lease_id: str = Field(primary_key=True)
    tenant: str
    instance: str
    state: str
    granted: int = Field(sa_column=Column(BigInteger, nullable=False))
    cap: int = Field(sa_column=Column(BigInteger, nullable=False))
    seen: int = Field(sa_column=Column(BigInteger, nullable=False))
    held: int = Field(sa_column=Column(BigInteger, nullable=False))
    seen_attempts: int
    told_attempts: int | None = None
    is_hard: bool
    granted_at: datetime = Field(sa_column=Column(Instant, nullable=False))
    expires_at: datetime = Field(sa_column=Column(Instant, nullable=False))
    ends_at: datetime = Field(sa_column=Column(Instant, nullable=False))


class LeaseScopeRow(MeterTable, table=True):
    """One of the scopes that a lease holds its slice on."""

    __tablename__ = "budget_lease_scope"  # pyright: ignore[reportAssignmentType] -- SQLModel
    __table_args__ = (Index("ix_budget_lease_scope_of", "tenant", "kind", "scope_id"),)

    lease_id: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    scope_id: str = Field(primary_key=True)
    tenant: str


class ChargeRow(MeterTable, table=True):
    """What an attempt costs the scopes that it was made for."""

    __tablename__ = "charge"  # pyright: ignore[reportAssignmentType] -- SQLModel
    __table_args__ = (
        Index("ix_charge_tenant_charged_at", "tenant", "charged_at"),
        Index("ix_charge_charged_at", "charged_at"),
    )

    attempt_id: str = Field(primary_key=True)
    tenant: str
    team: str | None = None
    employee: str | None = None
    task_id: str | None = None
    end_user: str | None = None
    api_key_id: str | None = None
    lease_id: str | None = None
    charged_at: datetime = Field(sa_column=Column(Instant, nullable=False))
    pico_usd: int = Field(sa_column=Column(BigInteger, nullable=False))


def line_values(
    posting: Posting, position: int, undone: Container[str | None]
) -> dict[str, object]:
    """
    Return the columns of a posting's line, the line itself as JSON text.

    Args:
        posting: What is posted.
        position: Its place in the ledger, in microseconds since 1970.
        undone: The transactions that are reversed with it.
    """
    line = posting.line
    is_reversed = line.transaction_id in undone
    return {
        "transaction_id": line.transaction_id,
        "position": position,
        "attempt_id": line.attempt_id,
        "revision": line.revision,
        "tenant": line.tenant,
        "task_id": line.task_id,
        "in_force": posting.reverses_id is None and not is_reversed,
        "reverses_id": posting.reverses_id,
        "pico_usd": line.pico_usd,
        "line": line.encode().decode(),
    }


def lease_values(lease: Lease) -> dict[str, object]:
    """Return the columns of a lease, less its scopes."""
    return {
        "lease_id": lease.lease_id,
        "tenant": lease.tenant,
        "instance": lease.instance,
        "state": lease.state.value,
        "granted": lease.granted,
        "cap": lease.cap,
        "seen": lease.seen,
        "held": lease.held,
        "seen_attempts": lease.seen_attempts,
        "told_attempts": lease.told_attempts,
        "is_hard": lease.is_hard,
        "granted_at": lease.granted_at,
        "expires_at": lease.expires_at,
        "ends_at": lease.ends_at,
    }


def rollups(postings: Iterable[Posting]) -> list[dict[str, object]]:
    """
    Return what postings add to their tasks' rollups, in the order of the keys.

    In one order in every writer, so that no two wait for each other.
    """
    added: dict[tuple[str, str], list[int]] = {}
    for posting in postings:
        line = posting.line
        if line.task_id is None:
            continue
        sign = 1 if posting.reverses_id is None else -1
        sums = added.setdefault((line.tenant, line.task_id), [0, 0, 0])
        sums[0] += line.pico_usd
        sums[1] += sign
        sums[2] += 0 if line.source is UsageSource.VENDOR else sign
    return [
        {
            "tenant": tenant,
            "task_id": task_id,
            "pico_usd": sums[0],
            "attempts": sums[1],
            "estimated_attempts": sums[2],
        }
        for (tenant, task_id), sums in sorted(added.items())
    ]


def ledger_line(row: Row[Any]) -> LedgerLine:
    """Return the line that a row holds."""
    return LedgerLine.model_validate(row.line)
