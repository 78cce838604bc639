"""
What a decision changes, and the draft that it is written on.

A ``Draft`` lives inside one call of the reducer: it numbers history events, moves
the state along its tables and collects what is owed. Nothing of it is shared.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from contracts import subjects
from contracts.completions import AttemptSummary
from contracts.ids import derived_id
from contracts.message import Instant, Json, JsonObject, Message
from contracts.owed import Owed
from contracts.problems import Code, Problem, problem
from contracts.steps import CancelStep, StepOutcome, StepRequested
from contracts.tasks import StepStatus, SubmitTask, TaskEvent, TaskEventType
from contracts.turns import TurnRecord
from contracts.usage import TokenUsage
from orchestrator.domain.definition import Task
from orchestrator.domain.state import (
    NEXT,
    STEP_NEXT,
    ActiveStep,
    Happening,
    Run,
    UnheardStep,
)

STEP_BYTES_MAX: Final = 900_000
"""NATS takes 1 MiB with headers; what cannot be sent must not be owed."""


class StepDeadline(Message):
    """A timer's payload: the step that it ends."""

    tenant: str
    task_id: str
    step_id: str

    @property
    def timer_id(self) -> str:
        """Return the timer's id; a step has one deadline."""
        return _timer_id(self.step_id)


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Ring at a time; the same id again is moved."""

    timer_id: str
    due_at: Instant
    payload: StepDeadline


@dataclass(frozen=True, slots=True)
class CancelTimer:
    """Do not ring any more."""

    timer_id: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """An expected no; the state is as it was."""

    code: Code
    detail: str


@dataclass(frozen=True, slots=True)
class Decision:
    """The next state and what comes with it, to be committed together."""

    run: Run
    events: tuple[TaskEvent, ...] = ()
    owed: tuple[Owed, ...] = ()
    timers: tuple[SetTimer | CancelTimer, ...] = ()


class Draft:
    """A decision in the making."""

    def __init__(self, run: Run, now: datetime) -> None:
        self.run = run
        self._now = now
        self._events: list[TaskEvent] = []
        self._owed: list[Owed] = []
        self._timers: list[SetTimer | CancelTimer] = []

    def decision(self) -> Decision:
        """Return what was drafted."""
        return Decision(
            self.run, tuple(self._events), tuple(self._owed), tuple(self._timers)
        )

    def note(self, happened: TaskEventType, data: JsonObject) -> None:
        """Append to the history; sequences have no gaps."""
        seq = self.run.seq + 1
        self._events.append(TaskEvent(seq=seq, type=happened, at=self._now, data=data))
        self.run = replace(self.run, seq=seq)

    def move(self, happening: Happening) -> None:
        """Move the run along its table; KeyError on an illegal pair is a bug."""
        status = NEXT[self.run.status, happening]
        self.run = replace(self.run, status=status)

    def end(self, happening: Happening, problem: Problem | None = None) -> None:
        """Move the run to one of its ends."""
        self.move(happening)
        self.run = replace(self.run, problem=problem, finished_at=self._now)

    def fail(self, failure: Problem) -> None:
        """End the run, and say why in its history."""
        self.end(Happening.FAIL, failure)
        self.note(
            TaskEventType.TASK_FAILED,
            {"problem": failure.model_dump(mode="json", exclude_none=True)},
        )

    def ask(self, task: Task, data: Json, brief: SubmitTask) -> None:
        """
        Begin a step: owe its request and set its deadline.

        A request that no message holds would be owed for ever: the run fails now.
        """
        run = self.run
        step_id = derived_id("step", run.task_id, task.pointer)
        deadline = self._now + timedelta(seconds=run.step_deadline_s)
        request = StepRequested(
            tenant=run.tenant,
            task_id=run.task_id,
            step_id=step_id,
            employee=task.employee,
            goal=task.goal,
            input=task.input if task.has_input else data,
            files=brief.files,
            api_key_id=brief.api_key_id,
            deadline=deadline,
        )
        size = len(request.encode())
        if size > STEP_BYTES_MAX:
            detail = (
                f"What {task.employee} is handed has {size} bytes, and at most "
                f"{STEP_BYTES_MAX} fit: give fewer or smaller files, or less input."
            )
            self.fail(problem(Code.TOO_LARGE, detail, instance=task.pointer))
            return
        self._owe(subjects.STEP, request, derived_id("step-requested", step_id))
        payload = StepDeadline(tenant=run.tenant, task_id=run.task_id, step_id=step_id)
        self._timers.append(SetTimer(payload.timer_id, deadline, payload))
        step = ActiveStep(step_id, task.pointer, task.employee)
        self.run = replace(run, active=(*run.active, step))
        self.note(
            TaskEventType.STEP_STARTED,
            {
                "step_id": step_id,
                "pointer": task.pointer,
                "employee": task.employee,
                "deadline": deadline.isoformat(),
            },
        )

    def owe_cancel(self, step: ActiveStep, reason: str) -> None:
        """Tell the worker to stop; called at most once for a step."""
        message = CancelStep(
            tenant=self.run.tenant,
            task_id=self.run.task_id,
            step_id=step.step_id,
            reason=reason,
        )
        self._owe(
            subjects.CANCEL_STEP, message, derived_id("cancel-step", step.step_id)
        )

    def update(self, step: ActiveStep) -> None:
        """Replace an active step."""
        active = tuple(
            step if each.step_id == step.step_id else each for each in self.run.active
        )
        self.run = replace(self.run, active=active)

    def add_turn(self, step: ActiveStep, turn: TurnRecord) -> None:
        """Write a turn into the history and count what it consumed."""
        self.note(
            TaskEventType.TURN_FINISHED,
            {
                "step_id": step.step_id,
                "turn": turn.model_dump(mode="json", exclude_none=True),
            },
        )
        self.run = replace(
            self.run,
            turns=self.run.turns + 1,
            tool_calls=self.run.tool_calls + len(turn.tool_calls),
        )
        self.count(turn.attempts)

    def count(self, attempts: tuple[AttemptSummary, ...]) -> None:
        """Add vendor calls to the run's sums."""
        usage = sum((each.usage for each in attempts), start=TokenUsage())
        self.run = replace(
            self.run,
            usage=self.run.usage + usage,
            attempts=self.run.attempts + len(attempts),
        )

    def close(self, step: ActiveStep, outcome: StepOutcome, data: JsonObject) -> None:
        """End a step: out of the snapshot, into the history, its timer off."""
        status = STEP_NEXT[StepStatus.RUNNING, outcome]
        active = tuple(each for each in self.run.active if each.step_id != step.step_id)
        self.run = replace(self.run, active=active)
        self._timers.append(CancelTimer(_timer_id(step.step_id)))
        self.note(
            TaskEventType.STEP_FINISHED,
            {
                "step_id": step.step_id,
                "pointer": step.pointer,
                "employee": step.employee,
                "status": status.value,
                **data,
            },
        )

    def expect_word(self, step: ActiveStep) -> None:
        """Remember a step that ended without its worker, to count its word once."""
        early = tuple(turn.turn for turn in step.early)
        unheard = UnheardStep(step.step_id, step.fence, step.turns, early)
        self.run = replace(self.run, unheard=(*self.run.unheard, unheard))

    def hear_word(self, step: UnheardStep) -> None:
        """Forget a step whose worker has told."""
        unheard = tuple(each for each in self.run.unheard if each != step)
        self.run = replace(self.run, unheard=unheard)

    def _owe(self, verb: subjects.Verb, message: Message, message_id: str) -> None:
        address = verb.to(self.run.tenant)
        self._owed.append(Owed(address, message, message_id, self.run.task_id))


def _timer_id(step_id: str) -> str:
    return f"deadline-{step_id}"
