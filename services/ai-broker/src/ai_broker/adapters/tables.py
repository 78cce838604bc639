"""ai-broker's tables, and how their rows become domain values."""

from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    LargeBinary,
    MetaData,
    Row,
    Table,
    text,
    true,
)
from sqlmodel import Field, SQLModel

from ai_broker.domain.attempt import Attempt
from ai_broker.domain.completion import Held, State
from contracts.completions import Completion
from contracts.frames import Failed
from contracts.usage import UsageRecord
from persistence.tables import declare_shared
from persistence.types import Instant

OPEN: Final = "dispatched"
"""The state of an attempt without a ledger line; settled ones have an EndState."""


class BrokerTable(SQLModel):
    """The base of this service's tables."""

    metadata = MetaData()


SHARED = declare_shared(BrokerTable.metadata)


class CompletionRow(BrokerTable, table=True):
    """One question of a tenant, and its answer for ever."""

    __tablename__ = "completion"  # pyright: ignore[reportAssignmentType] -- SQLModel
    __table_args__ = (Index("ix_completion_until", "until"),)

    tenant: str = Field(primary_key=True)
    completion_id: str = Field(primary_key=True)
    digest: str
    state: str
    owner: str
    fence: int
    until: datetime = Field(sa_column=Column(Instant, nullable=False))
    created_at: datetime = Field(sa_column=Column(Instant, nullable=False))
    answer: bytes | None = Field(sa_column=Column(LargeBinary, nullable=True))
    failure: bytes | None = Field(sa_column=Column(LargeBinary, nullable=True))


class AttemptRow(BrokerTable, table=True):
    """One vendor call; inserted before it is made."""

    __tablename__ = "attempt"  # pyright: ignore[reportAssignmentType] -- SQLModel
    __table_args__ = (
        Index(
            "ux_attempt_completion", "tenant", "completion_id", "number", unique=True
        ),
        Index("ix_attempt_state_deadline", "state", "deadline"),
        Index("ix_attempt_occurred_at", "occurred_at"),
        Index(
            "ix_attempt_untold",
            "tenant",
            "attempt_id",
            sqlite_where=text("NOT is_told"),
            postgresql_where=text("NOT is_told"),
        ),
        Index("ix_attempt_lease_id", "lease_id"),
    )

    attempt_id: str = Field(primary_key=True)
    tenant: str
    completion_id: str
    number: int
    fence: int
    vendor: str
    model: str
    state: str
    revision: int
    started_at: datetime = Field(sa_column=Column(Instant, nullable=False))
    deadline: datetime = Field(sa_column=Column(Instant, nullable=False))
    occurred_at: datetime = Field(sa_column=Column(Instant, nullable=False))
    record: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    is_told: bool = Field(
        sa_column=Column(Boolean, nullable=False, server_default=true())
    )
    """False while a settled record has not been owed to the ledger."""
    trace: str | None = None
    lease_id: str | None = None
    reserved_pico_usd: int = Field(
        sa_column=Column(BigInteger, nullable=False, server_default="0")
    )


class SliceRow(BrokerTable, table=True):
    """What the meter lent to a replica; written before it is asked for."""

    __tablename__ = "budget_slice"  # pyright: ignore[reportAssignmentType] -- SQLModel
    __table_args__ = (Index("ix_budget_slice_until", "until"),)

    lease_id: str = Field(primary_key=True)
    tenant: str
    instance: str
    until: datetime = Field(sa_column=Column(Instant, nullable=False))
    is_closed: bool


class ProfileRow(BrokerTable, table=True):
    """Which kinds of scope a tenant has limits on, for when the meter is away."""

    __tablename__ = "budget_profile"  # pyright: ignore[reportAssignmentType] -- SQLModel

    tenant: str = Field(primary_key=True)
    limited: str
    hard: str


class CachedAnswerRow(BrokerTable, table=True):
    """A tenant's question by its digest, and the completion that answered it last."""

    __tablename__ = "cached_answer"  # pyright: ignore[reportAssignmentType] -- SQLModel
    __table_args__ = (Index("ix_cached_answer_completion", "tenant", "completion_id"),)

    tenant: str = Field(primary_key=True)
    question: str = Field(primary_key=True)
    completion_id: str
    vendor: str
    model: str
    answered_at: datetime = Field(sa_column=Column(Instant, nullable=False))


class VendorCredentialRow(BrokerTable, table=True):
    """A tenant's own key for a vendor, sealed under a key that is not in the store."""

    __tablename__ = "vendor_credential"  # pyright: ignore[reportAssignmentType] -- SQLModel

    tenant: str = Field(primary_key=True)
    vendor: str = Field(primary_key=True)
    kek_id: str
    sealed: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    fingerprint: str
    last4: str | None
    created_at: datetime = Field(sa_column=Column(Instant, nullable=False))


COMPLETION: Final[Table] = BrokerTable.metadata.tables["completion"]
ATTEMPT: Final[Table] = BrokerTable.metadata.tables["attempt"]
SLICE: Final[Table] = BrokerTable.metadata.tables["budget_slice"]
PROFILE: Final[Table] = BrokerTable.metadata.tables["budget_profile"]
CACHED_ANSWER: Final[Table] = BrokerTable.metadata.tables["cached_answer"]
VENDOR_CREDENTIAL: Final[Table] = BrokerTable.metadata.tables["vendor_credential"]


def completion_values(held: Held) -> dict[str, object]:
    """Return the columns of a completion."""
    return {
        "tenant": held.tenant,
        "completion_id": held.completion_id,
        "digest": held.digest,
        "state": held.state.value,
        "owner": held.owner,
        "fence": held.fence,
        "until": held.until,
        "created_at": held.created_at,
        "answer": None if held.answer is None else held.answer.encode(),
        "failure": None if held.failure is None else held.failure.encode(),
    }


# Any: SQLAlchemy's rows are typed by their statement, not by their table.
def held_of(row: Row[Any]) -> Held:
    """Return the completion that a row holds."""
    return Held(
        tenant=row.tenant,
        completion_id=row.completion_id,
        digest=row.digest,
        state=State(row.state),
        owner=row.owner,
        fence=row.fence,
        until=row.until,
        created_at=row.created_at,
        answer=(
            None if row.answer is None else Completion.model_validate_json(row.answer)
        ),
        failure=(
            None if row.failure is None else Failed.model_validate_json(row.failure)
        ),
    )


def attempt_values(attempt: Attempt, trace: str | None = None) -> dict[str, object]:
    """Return the columns of an attempt, with the trace that settled it."""
    record = attempt.record
    return {
        "attempt_id": record.attempt_id,
        "tenant": record.tenant,
        "completion_id": record.completion_id,
        "number": record.attempt_number,
        "fence": attempt.fence,
        "vendor": record.vendor,
        "model": record.model,
        "state": record.end_state.value if attempt.settled else OPEN,
        "revision": record.revision,
        "started_at": record.started_at,
        "deadline": attempt.deadline,
        "occurred_at": record.occurred_at,
        "record": record.encode(),
        "is_told": not attempt.settled,
        "trace": trace,
        "lease_id": record.lease_id,
        "reserved_pico_usd": attempt.reserved_pico_usd,
    }


def attempt_of(row: Row[Any]) -> Attempt:
    """Return the attempt that a row holds."""
    return Attempt(
        record=UsageRecord.model_validate_json(row.record),
        fence=row.fence,
        deadline=row.deadline,
        settled=row.state != OPEN,
        reserved_pico_usd=row.reserved_pico_usd,
    )


def untold_of(record: bytes, trace: str | None) -> UsageRecord:
    """Return the record for the ledger, with the trace of its call."""
    found = UsageRecord.model_validate_json(record)
    return found.model_copy(update={"trace": trace})
