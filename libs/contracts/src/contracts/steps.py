"""A step: one job for one employee, between orchestrator and agent-runtime."""

from enum import StrEnum

from contracts.completions import AttemptSummary
from contracts.ids import EmployeeName, StepId, TaskId, TenantId, Token
from contracts.message import Count, Instant, Json, Message
from contracts.problems import Problem
from contracts.tasks import TaskFile
from contracts.turns import TurnRecord


class StepRequested(Message):
    """
    A doorbell that carries its brief; the lease in the worker's store decides.

    Hearing it twice is harmless: whoever holds the step's lease works, and the
    brief is stored with the first claim.
    """

    tenant: TenantId
    """Whose."""
    task_id: TaskId
    """The task."""
    step_id: StepId
    """The step; the lease's name."""
    employee: EmployeeName
    """Who shall do it."""
    goal: str
    """What is wanted."""
    input: Json = None
    """Data to work on."""
    files: tuple[TaskFile, ...] = ()
    """Documents that its tools may read."""
    api_key_id: Token | None = None
    """The API key that the task came in by."""
    deadline: Instant
    """Give up at this time."""


class StepOutcome(StrEnum):
    """How a step ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class StepFinished(Message):
    """agent-runtime → orchestrator: a step has ended, exactly once."""

    tenant: TenantId
    """Whose."""
    task_id: TaskId
    """The task."""
    step_id: StepId
    """The step."""
    fence: Count
    """The lease under which it ended; 0 when it never began."""
    outcome: StepOutcome
    """How."""
    output: Json = None
    """What a completed step produced."""
    problem: Problem | None = None
    """Why a failed step failed."""
    employee_version: int | None = None
    """The employee's version that was pinned."""
    turns: tuple[TurnRecord, ...] = ()
    """Every turn, so that the history is whole even if a turn's bell was lost."""
    attempts: tuple[AttemptSummary, ...] = ()
    """Vendor calls that belong to no finished turn: failed or cancelled ones."""
    finished_at: Instant
    """When."""


class CancelStep(Message):
    """orchestrator → agent-runtime: stop, also when it has not begun."""

    tenant: TenantId
    """Whose."""
    task_id: TaskId
    """The task."""
    step_id: StepId
    """The step."""
    reason: str
    """Why, for the record."""
