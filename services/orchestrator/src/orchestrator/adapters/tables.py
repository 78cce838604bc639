"""
The orchestrator's tables, and how their rows become domain values.

Documents are kept as the bytes of their JSON: what people and models write may hold
numbers and characters that a database's own JSON and text types refuse.
"""

from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Column, Index, MetaData, Row
from sqlmodel import Field, SQLModel

from contracts.events import Trigger, TriggerVersion
from contracts.message import JsonObject
from contracts.tasks import TaskEvent, TaskEventType
from faults import TransientFault
from orchestrator.domain.state import Run
from persistence.tables import declare_shared
from persistence.types import Body, Instant

_RUN: Final = TypeAdapter(Run)
_OBJECT: Final[TypeAdapter[JsonObject]] = TypeAdapter(JsonObject)


class OrchestratorTable(SQLModel):
    """The base of this service's tables."""

    metadata = MetaData()


SHARED = declare_shared(OrchestratorTable.metadata)


class RunRow(OrchestratorTable, table=True):
    """A run's snapshot; the columns beside it are what lists filter by."""

    __tablename__ = "run"  # pyright: ignore[reportAssignmentType] -- SQLModel
    __table_args__ = (
        Index("ix_run_tenant", "tenant", "created_at", "task_id"),
        Index("ix_run_status", "tenant", "status", "created_at", "task_id"),
        Index("ix_run_employee", "tenant", "employee", "created_at", "task_id"),
        Index("ix_run_finished_at", "finished_at"),
    )

    task_id: str = Field(primary_key=True)
    tenant: str
    status: str
    employee: str | None = None
    created_at: datetime = Field(sa_column=Column(Instant, nullable=False))
    finished_at: datetime | None = Field(default=None, sa_column=Column(Instant))
    version: int
    state: bytes = Field(sa_column=Column(Body, nullable=False))


class BriefRow(OrchestratorTable, table=True):
    """What a run was asked to do: definition, input and files; never changes."""

    __tablename__ = "brief"  # pyright: ignore[reportAssignmentType] -- SQLModel

    task_id: str = Field(primary_key=True)
    tenant: str
    body: bytes = Field(sa_column=Column(Body, nullable=False))


class RunEventRow(OrchestratorTable, table=True):
    """One entry of a history; inserted once, never rewritten."""

    __tablename__ = "run_event"  # pyright: ignore[reportAssignmentType] -- SQLModel

    task_id: str = Field(primary_key=True)
    seq: int = Field(primary_key=True)
    tenant: str
    type: str
    at: datetime = Field(sa_column=Column(Instant, nullable=False))
    data: bytes = Field(sa_column=Column(Body, nullable=False))


class TriggerRow(OrchestratorTable, table=True):
    """One version of a trigger; the highest is in force."""

    __tablename__ = "event_trigger"  # pyright: ignore[reportAssignmentType] -- SQLModel

    tenant: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    version: int = Field(primary_key=True)
    digest: str
    created_at: datetime = Field(sa_column=Column(Instant, nullable=False))
    document: bytes = Field(sa_column=Column(Body, nullable=False))


def run_columns(run: Run) -> dict[str, object]:
    """Return the columns that follow a run's state."""
    return {
        "status": run.status.value,
        "finished_at": run.finished_at,
        "state": _RUN.dump_json(run),
    }


def run_of(state: bytes, version: int) -> Run:
    """
    Return the run that a row's columns hold.

    Raises:
        TransientFault: A newer version wrote it; one of its replicas can read it.
    """
    try:
        return replace(_RUN.validate_json(state), version=version)
    except ValidationError as cause:
        fields = sorted({str(error["loc"]) for error in cause.errors()})
        message = f"this version cannot read a run's state: {', '.join(fields)}"
        raise TransientFault(message) from cause


def event_columns(run: Run, event: TaskEvent) -> dict[str, object]:
    """Return the row of a history event."""
    return {
        "task_id": run.task_id,
        "seq": event.seq,
        "tenant": run.tenant,
        "type": event.type.value,
        "at": event.at,
        "data": _OBJECT.dump_json(event.data),
    }


# Any: a row's columns have no static types.
def event_of(row: Row[Any]) -> TaskEvent:
    """Return the history event that a row holds."""
    return TaskEvent(
        seq=row.seq,
        type=TaskEventType(row.type),
        at=row.at,
        data=_OBJECT.validate_json(row.data),
    )


def trigger_of(row: Row[Any]) -> TriggerVersion:
    """Return the trigger version that a row holds."""
    return TriggerVersion(
        tenant=row.tenant,
        version=row.version,
        digest=row.digest,
        trigger=_trigger(row.document),
        created_at=row.created_at,
    )


@lru_cache(maxsize=1024)
def _trigger(document: bytes) -> Trigger:
    # Every event reads all triggers of its tenant; versions never change.
    return Trigger.model_validate_json(document)
