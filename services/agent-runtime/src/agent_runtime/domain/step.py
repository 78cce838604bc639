"""A step in this service's books, and the messages that it owes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from agent_runtime.domain.transcript import (
    Transcript,
    Turn,
    record,
    records,
    unclaimed,
)
from contracts import subjects
from contracts.completions import AttemptSummary
from contracts.message import Json
from contracts.owed import Owed
from contracts.problems import Code, Problem, problem
from contracts.steps import CancelStep, StepFinished, StepOutcome, StepRequested
from contracts.turns import TurnFinished

CANCEL: Final = "cancel"
"""The word left on a lease for whoever holds it."""
TRANSIENT: Final = frozenset(
    {
        Code.OVERLOADED,
        Code.UNAVAILABLE,
        Code.DEADLINE,
        Code.INTERNAL,
        Code.VENDOR_UNAVAILABLE,
        Code.STREAM_CUT,
    }
)
"""Why a model call may fail and yet be worth asking again."""


@dataclass(frozen=True)
class Step:
    """What the store knows of a step; only its transcript is kept elsewhere."""

    tenant: str
    task_id: str
    step_id: str
    message_id: str
    """The doorbell's; empty when only a cancel has been heard."""
    brief: StepRequested | None
    """None when only a cancel has been heard."""
    employee_version: int | None
    """Pinned when the doorbell came; None for an unknown employee."""
    received_at: datetime
    began_at: datetime | None = None
    """When it was first worked on."""
    finished_at: datetime | None = None
    carrier: Mapping[str, str] = field(default_factory=dict[str, str])
    """The trace that the doorbell came in."""


@dataclass(frozen=True)
class StepLease:
    """The right to work on a step, as it was last read."""

    step_id: str
    owner: str
    fence: int
    until: datetime
    flag: str | None

    @property
    def wants_cancel(self) -> bool:
        """Tell whether someone asked to stop."""
        return self.flag == CANCEL


@dataclass(frozen=True)
class Ending:
    """How a step ends."""

    outcome: StepOutcome
    output: Json = None
    problem: Problem | None = None


CANCELLED: Final = Ending(StepOutcome.CANCELLED)


def completed(output: Json) -> Ending:
    """Return the ending of a step that was done."""
    return Ending(StepOutcome.COMPLETED, output)


def failed(why: Problem) -> Ending:
    """Return the ending of a step that could not be done."""
    return Ending(StepOutcome.FAILED, problem=why)


def employee_unknown(brief: StepRequested) -> Ending:
    """Return the ending of a step that nobody can do."""
    detail = (
        f"There is no employee {brief.employee!r}: apply its document first, or name "
        "another."
    )
    return failed(problem(Code.EMPLOYEE_UNKNOWN, detail))


def known_code(code: str) -> Code:
    """Return the code that a fault names; faults may have codes of their own."""
    return Code(code) if code in set(Code) else Code.INTERNAL


def cancelled_unheard(cancel: CancelStep, now: datetime) -> Step:
    """Return the tombstone of a step that is cancelled before its doorbell."""
    return Step(
        tenant=cancel.tenant,
        task_id=cancel.task_id,
        step_id=cancel.step_id,
        message_id="",
        brief=None,
        employee_version=None,
        received_at=now,
        finished_at=now,
    )


def turn_finished(step: Step, turn: Turn, fence: int) -> Owed:
    """Owe the orchestrator one turn; repeating it owes the same message."""
    return Owed(
        address=subjects.TURN.to(step.tenant),
        message=TurnFinished(
            tenant=step.tenant,
            task_id=step.task_id,
            step_id=step.step_id,
            fence=fence,
            turn=record(turn),
        ),
        message_id=f"{step.step_id}:{turn.number}:turn",
        task_id=step.task_id,
    )


def step_finished(
    step: Step,
    ending: Ending,
    now: datetime,
    *,
    fence: int = 0,
    transcript: Transcript = (),
    attempts: Sequence[AttemptSummary] = (),
) -> Owed:
    """
    Owe the orchestrator the end of a step.

    Args:
        step: Which.
        ending: How.
        now: When.
        fence: The lease under which it ended; 0 when it never began.
        transcript: Every turn.
        attempts: Failed and cancelled vendor calls, those of turns perhaps too.
    """
    return Owed(
        address=subjects.STEP_FINISHED.to(step.tenant),
        message=StepFinished(
            tenant=step.tenant,
            task_id=step.task_id,
            step_id=step.step_id,
            fence=fence,
            outcome=ending.outcome,
            output=ending.output,
            problem=ending.problem,
            employee_version=step.employee_version,
            turns=records(transcript),
            attempts=unclaimed(transcript, attempts),
            finished_at=now,
        ),
        message_id=f"{step.step_id}:finished",
        task_id=step.task_id,
    )
