"""A task from its acceptance to its end, as others may see it."""

from enum import StrEnum

from pydantic import Field

from contracts.ids import EmployeeName, StepId, TaskId, TenantId, Token
from contracts.message import Count, Instant, Json, JsonObject, Message
from contracts.money import PicoUsd
from contracts.problems import Problem
from contracts.turns import TurnRecord
from contracts.usage import TokenUsage


class TaskFile(Message):
    """A text document handed in with a task."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")
    """What tools read it by; no folders."""
    content: str = Field(max_length=262_144)
    """Its text."""
    media_type: str = "text/plain"
    """What kind of text."""


class SubmitTask(Message):
    """The gateway accepted a task: 202 was said, it is on disk, it must run."""

    task_id: TaskId
    """Derived from tenant and idempotency key, when one was given."""
    tenant: TenantId
    """Whose."""
    definition: JsonObject
    """The workflow, a Serverless Workflow 1.0 document."""
    employee: EmployeeName | None = None
    """Set when the task is a plain one for one employee."""
    goal: str | None = None
    """Its goal in words."""
    input: Json = None
    """The workflow's input."""
    files: tuple[TaskFile, ...] = Field(default=(), max_length=32)
    """Documents that its tools may read."""
    api_key_id: Token | None = None
    """The key it was submitted with."""
    submitted_at: Instant
    """When it was accepted."""


class TaskStatus(StrEnum):
    """Where a task stands; the last three are ends."""

    SUBMITTED = "submitted"
    RUNNING = "running"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_end(self) -> bool:
        """Tell whether nothing more will happen."""
        return self in {TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED}


class StepStatus(StrEnum):
    """Where a step stands; the last three are ends."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class StepView(Message):
    """One step of a task."""

    step_id: StepId
    """Its id."""
    pointer: str
    """Where it stands in the definition: ``/do/0/work``."""
    employee: EmployeeName
    """Who does it."""
    employee_version: int | None = None
    """The employee's version, pinned when the step began."""
    status: StepStatus
    """Where it stands."""
    turns: tuple[TurnRecord, ...] = ()
    """What happened, in order."""
    output: Json = None
    """What it produced."""
    problem: Problem | None = None
    """Why it failed."""
    started_at: Instant
    """When it was asked for."""
    finished_at: Instant | None = None
    """When it ended."""


class CostView(Message):
    """What a task has cost so far."""

    pico_usd: PicoUsd
    """The sum of its ledger lines, in pico-USD."""
    usd: str
    """The same, exact, in dollars."""
    attempts: Count
    """Ledger lines' attempts behind the sum."""
    provisional: bool
    """True until the ledger has as many attempts as the task."""


class TaskView(Message):
    """A task as its owner tells it."""

    task_id: TaskId
    """Its id."""
    tenant: TenantId
    """Whose."""
    status: TaskStatus
    """Where it stands."""
    employee: EmployeeName | None = None
    """Who works on it, when it is a plain task."""
    goal: str | None = None
    """Its goal."""
    input: Json = None
    """What was handed in."""
    output: Json = None
    """What came out."""
    problem: Problem | None = None
    """Why it failed, with a pointer to the step."""
    steps: tuple[StepView, ...] = ()
    """What was done."""
    usage: TokenUsage = TokenUsage()
    """Tokens of all attempts that its steps know of."""
    attempts: Count = 0
    """Vendor calls that its steps know of."""
    turns: Count = 0
    """Turns over all steps."""
    tool_calls: Count = 0
    """Tool calls over all steps."""
    cost: CostView | None = None
    """Added by the gateway from the ledger; absent when it could not be asked."""
    triggered_by: str | None = None
    """``<trigger>:<event id>``, when an event started it."""
    trace_id: str | None = None
    """The trace of its whole way."""
    last_seq: Count = 0
    """Sequence of its newest history event."""
    created_at: Instant
    """When it was accepted."""
    finished_at: Instant | None = None
    """When it ended."""


class TaskEventType(StrEnum):
    """What can happen to a task."""

    TASK_STARTED = "task.started"
    STEP_STARTED = "step.started"
    TURN_FINISHED = "turn.finished"
    STEP_FINISHED = "step.finished"
    CANCEL_REQUESTED = "task.cancel-requested"
    TASK_COMPLETED = "task.completed"
    TASK_FAILED = "task.failed"
    TASK_CANCELLED = "task.cancelled"


class TaskEvent(Message):
    """One entry of a task's history; sequences have no gaps."""

    seq: int = Field(ge=1)
    """Its place; the SSE ``id:``."""
    type: TaskEventType
    """What happened."""
    at: Instant
    """When."""
    data: JsonObject = Field(default_factory=dict)
    """What belongs to it."""


class TaskChanged(Message):
    """A fact for observers: a task's history grew. Losing one costs nothing."""

    task_id: TaskId
    """The task."""
    tenant: TenantId
    """Whose."""
    status: TaskStatus
    """Where it stands now."""
    seq: int = Field(ge=1)
    """Its newest history event."""
    type: TaskEventType
    """What that was."""
    at: Instant
    """When."""
    triggered_by: str | None = None
    """``<trigger>:<event id>``, so that the event's publisher can match it."""
    output: Json = None
    """At the end, when below 64 KiB."""
    problem: Problem | None = None
    """At the end, when it failed."""


class LiveDelta(Message):
    """Text of the turn in progress, for those who watch right now."""

    task_id: TaskId
    """The task."""
    step_id: StepId
    """Its step."""
    fence: int = Field(ge=0)
    """The attempt at the step; a higher one starts the turn again."""
    turn: int = Field(ge=1)
    """The turn in progress."""
    offset: Count
    """Where in the turn's text this piece begins, in characters."""
    text: str
    """The piece; from offset 0 it is a snapshot of all so far."""


class GetTask(Message):
    """Ask for a task."""

    tenant: TenantId
    """Whose."""
    task_id: TaskId
    """Which."""


class ListTasks(Message):
    """Ask for a page of tasks, newest first."""

    tenant: TenantId
    """Whose."""
    status: TaskStatus | None = None
    """Only these."""
    employee: EmployeeName | None = None
    """Only this employee's."""
    limit: int = Field(default=50, ge=1, le=200)
    """Page size."""
    cursor: str | None = None
    """Where the last page ended."""


class TaskPage(Message):
    """A page of tasks; steps are left out."""

    tasks: tuple[TaskView, ...]
    """The tasks."""
    next_cursor: str | None = None
    """Ask again with this for more; absent at the end."""


class ListTaskEvents(Message):
    """Ask for a task's history after a sequence."""

    tenant: TenantId
    """Whose."""
    task_id: TaskId
    """Which."""
    after: Count = 0
    """The last sequence that the caller has."""
    limit: int = Field(default=200, ge=1, le=500)
    """Page size."""


class TaskEventPage(Message):
    """Part of a task's history, in order."""

    events: tuple[TaskEvent, ...]
    """The events."""
    status: TaskStatus
    """Where the task stands."""
    last_seq: Count
    """The newest sequence; when the page ends there, that is all for now."""


class CancelTask(Message):
    """Ask to stop a task; asking twice changes nothing."""

    tenant: TenantId
    """Whose."""
    task_id: TaskId
    """Which."""
    reason: str | None = Field(default=None, max_length=1000)
    """Why, for the history."""
