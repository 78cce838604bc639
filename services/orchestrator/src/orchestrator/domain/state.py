"""
A run's snapshot, and the tables that say what may happen to it.

The snapshot holds what the next decision needs and no history: finished steps and
turns live in the run's events, the brief (input, files, definition) in a row of its
own. So it stays as small at the thousandth step as at the first.

    submitted ──start──► running ──finish──► completed
        │                   ├──fail────────► failed
        └──fail─► failed    └──cancel──► cancelling ──stop──► cancelled
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from contracts.problems import Problem
from contracts.steps import StepOutcome
from contracts.tasks import StepStatus, TaskStatus
from contracts.turns import TurnRecord
from contracts.usage import TokenUsage


class Happening(StrEnum):
    """What moves a run."""

    START = "start"
    FINISH = "finish"
    FAIL = "fail"
    CANCEL = "cancel"
    STOP = "stop"


NEXT: Final = {  # an absent pair is illegal
    (TaskStatus.SUBMITTED, Happening.START): TaskStatus.RUNNING,
    (TaskStatus.SUBMITTED, Happening.FAIL): TaskStatus.FAILED,
    (TaskStatus.RUNNING, Happening.FINISH): TaskStatus.COMPLETED,
    (TaskStatus.RUNNING, Happening.FAIL): TaskStatus.FAILED,
    (TaskStatus.RUNNING, Happening.CANCEL): TaskStatus.CANCELLING,
    (TaskStatus.CANCELLING, Happening.STOP): TaskStatus.CANCELLED,
}

STEP_NEXT: Final = {  # an absent pair is illegal
    (StepStatus.RUNNING, StepOutcome.COMPLETED): StepStatus.COMPLETED,
    (StepStatus.RUNNING, StepOutcome.FAILED): StepStatus.FAILED,
    (StepStatus.RUNNING, StepOutcome.CANCELLED): StepStatus.CANCELLED,
}


@dataclass(frozen=True, slots=True)
class ActiveStep:
    """A step that was asked for and has not ended."""

    step_id: str
    pointer: str
    """Where it stands in the definition: ``/do/0/work``."""
    employee: str
    fence: int = 0
    """The highest lease that was heard of; what comes under a lower one is stale."""
    turns: int = 0
    """Turns in the history, so also the number of the newest."""
    early: tuple[TurnRecord, ...] = ()
    """Turns that came before their predecessor, by number; bounded."""


@dataclass(frozen=True, slots=True)
class UnheardStep:
    """A step that ended before its worker told: what it consumed is yet to come."""

    step_id: str
    fence: int
    turns: int
    """Turns up to this number are counted."""
    early: tuple[int, ...] = ()
    """Numbers above it that are counted too."""


@dataclass(frozen=True, slots=True)
class Run:
    """One task as it stands; written by one transaction at a time."""

    task_id: str
    tenant: str
    status: TaskStatus
    employee: str | None
    goal: str | None
    definition_digest: str
    """The definition that this run is pinned to."""
    step_deadline_s: float
    """Seconds for each step; pinned, so that a new setting spares what runs."""
    created_at: datetime
    """When the task was accepted."""
    triggered_by: str | None = None
    """``<trigger>:<event id>``."""
    trace_id: str | None = None
    active: tuple[ActiveStep, ...] = ()
    unheard: tuple[UnheardStep, ...] = ()
    """Steps that time ended; each leaves when its worker's last word is counted."""
    seq: int = 0
    """Sequence of the newest history event."""
    usage: TokenUsage = TokenUsage()  # noqa: RUF009 -- frozen
    attempts: int = 0
    turns: int = 0
    tool_calls: int = 0
    problem: Problem | None = None
    finished_at: datetime | None = None
    version: int = 0
    """How often it was saved; 0 before the first time."""

    def step(self, step_id: str) -> ActiveStep | None:
        """Return the step if it has not ended."""
        return next((step for step in self.active if step.step_id == step_id), None)
