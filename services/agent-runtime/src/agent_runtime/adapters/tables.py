"""agent-runtime's tables, and how their rows become domain values."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from pydantic import TypeAdapter
from sqlalchemy import Column, Index, MetaData, Row
from sqlmodel import Field, SQLModel

from agent_runtime.domain.step import Step
from agent_runtime.domain.transcript import Transcript, Turn
from contracts.completions import Completion, ToolResultPart
from contracts.employees import Employee, EmployeeVersion
from contracts.steps import StepRequested
from persistence.tables import declare_shared
from persistence.types import Body, Instant, Json

RESULTS: Final = TypeAdapter(tuple[ToolResultPart, ...])
ANSWER: Final = "answer"
TOOLS: Final = "tools"


class RuntimeTable(SQLModel):
    """The base of this service's tables."""

    metadata = MetaData()


SHARED = declare_shared(RuntimeTable.metadata)


class EmployeeRow(RuntimeTable, table=True):
    """One version of an employee's document; never changed."""

    __tablename__ = "employee"  # pyright: ignore[reportAssignmentType] -- SQLModel

    tenant: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    version: int = Field(primary_key=True)
    digest: str
    document: bytes = Field(sa_column=Column(Body, nullable=False))
    created_at: datetime = Field(sa_column=Column(Instant, nullable=False))


class StepRow(RuntimeTable, table=True):
    """A step: its brief, its pins, and whether it has ended."""

    __tablename__ = "step"  # pyright: ignore[reportAssignmentType] -- SQLModel
    __table_args__ = (
        Index("ix_step_message_id", "message_id"),
        Index("ix_step_tenant_task_id", "tenant", "task_id"),
        Index("ix_step_finished_at", "finished_at"),
    )

    step_id: str = Field(primary_key=True)
    tenant: str
    task_id: str
    message_id: str
    brief: bytes | None = Field(default=None, sa_column=Column(Body, nullable=True))
    employee_version: int | None = None
    received_at: datetime = Field(sa_column=Column(Instant, nullable=False))
    began_at: datetime | None = Field(
        default=None, sa_column=Column(Instant, nullable=True)
    )
    finished_at: datetime | None = Field(
        default=None, sa_column=Column(Instant, nullable=True)
    )
    carrier: dict[str, str] = Field(sa_column=Column(Json, nullable=False))


class TranscriptRow(RuntimeTable, table=True):
    """A model's answer or its tools' results; only ever appended."""

    __tablename__ = "transcript"  # pyright: ignore[reportAssignmentType] -- SQLModel

    step_id: str = Field(primary_key=True)
    turn: int = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    tenant: str
    fence: int
    body: bytes = Field(sa_column=Column(Body, nullable=False))
    started_at: datetime = Field(sa_column=Column(Instant, nullable=False))
    finished_at: datetime = Field(sa_column=Column(Instant, nullable=False))


class AttemptRow(RuntimeTable, table=True):
    """A vendor call made in vain, until the step's end tells of it."""

    __tablename__ = "vain_attempt"  # pyright: ignore[reportAssignmentType] -- SQLModel

    step_id: str = Field(primary_key=True)
    attempt_id: str = Field(primary_key=True)
    tenant: str
    body: bytes = Field(sa_column=Column(Body, nullable=False))


def step_of(row: Row[Any]) -> Step:
    """Return the step that a row holds."""
    brief = None if row.brief is None else StepRequested.model_validate_json(row.brief)
    return Step(
        tenant=row.tenant,
        task_id=row.task_id,
        step_id=row.step_id,
        message_id=row.message_id,
        brief=brief,
        employee_version=row.employee_version,
        received_at=row.received_at,
        began_at=row.began_at,
        finished_at=row.finished_at,
        carrier=row.carrier,
    )


def step_values(step: Step) -> dict[str, object]:
    """Return the columns of a step."""
    return {
        "step_id": step.step_id,
        "tenant": step.tenant,
        "task_id": step.task_id,
        "message_id": step.message_id,
        "brief": None if step.brief is None else step.brief.encode(),
        "employee_version": step.employee_version,
        "received_at": step.received_at,
        "began_at": step.began_at,
        "finished_at": step.finished_at,
        "carrier": dict(step.carrier),
    }


def turn_values(step_id: str, fence: int, turn: Turn) -> list[dict[str, object]]:
    """Return the rows of a turn: its answer and, once known, its tools' results."""
    answer: dict[str, object] = {
        "step_id": step_id,
        "turn": turn.number,
        "kind": ANSWER,
        "fence": fence,
        "body": turn.completion.encode(),
        "started_at": turn.started_at,
        "finished_at": turn.answered_at,
    }
    if turn.performed_at is None:
        return [answer]
    results: dict[str, object] = {
        **answer,
        "kind": TOOLS,
        "body": RESULTS.dump_json(turn.results, exclude_none=True),
        "started_at": turn.answered_at,
        "finished_at": turn.performed_at,
    }
    return [answer, results]


def transcript_of(rows: Iterable[Row[Any]]) -> Transcript:
    """Return the transcript that rows hold, ordered by turn, answers first."""
    turns: dict[int, Turn] = {}
    for row in rows:
        if row.kind == ANSWER:
            completion = Completion.model_validate_json(row.body)
            turns[row.turn] = Turn(
                row.turn, completion, row.started_at, row.finished_at
            )
        else:
            results = RESULTS.validate_json(row.body)
            turns[row.turn] = turns[row.turn].performed(results, row.finished_at)
    return tuple(turns.values())


def employee_of(row: Row[Any]) -> EmployeeVersion:
    """Return the version that a row holds."""
    return EmployeeVersion(
        tenant=row.tenant,
        version=row.version,
        digest=row.digest,
        employee=Employee.model_validate_json(row.document),
        created_at=row.created_at,
    )
