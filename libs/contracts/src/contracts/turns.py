"""One turn of an employee's loop: a model's answer and the tools it asked for."""

from pydantic import Field

from contracts.completions import AttemptSummary, FinishReason
from contracts.ids import StepId, TaskId, TenantId
from contracts.message import Instant, Message


class ToolCallRecord(Message):
    """One tool call and what came of it."""

    call_id: str
    """The model's id for it."""
    name: str
    """The tool."""
    arguments: str
    """JSON text as the model wrote it."""
    result: str
    """What the tool answered, cut at 2,000 characters here."""
    is_error: bool = False
    """Whether it failed."""


class TurnRecord(Message):
    """A finished turn, as history keeps it."""

    turn: int = Field(ge=1)
    """Its number in the step, from 1."""
    text: str = ""
    """What the model said, cut at 4,000 characters here."""
    model: str
    """The model that answered."""
    vendor: str
    """Who ran it."""
    finish_reason: FinishReason
    """Why it stopped."""
    tool_calls: tuple[ToolCallRecord, ...] = ()
    """The tools it used."""
    attempts: tuple[AttemptSummary, ...] = ()
    """The vendor calls behind it."""
    started_at: Instant
    """When the model was asked."""
    finished_at: Instant
    """When its last tool answered."""


class TurnFinished(Message):
    """agent-runtime → orchestrator: a turn is in the transcript."""

    tenant: TenantId
    """Whose."""
    task_id: TaskId
    """The task."""
    step_id: StepId
    """Its step."""
    fence: int = Field(ge=1)
    """The lease under which it was done; stale ones are refused."""
    turn: TurnRecord
    """The turn."""
