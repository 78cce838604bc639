"""
The reducer of a run: what each message makes of it.

Every function is pure and total: a message that is stale, repeated or too late
returns the run as it was, with nothing owed. Messages may come in any order, many
times or, for turns, never:

- a turn enters the history when its predecessor is there; until then it waits in
  the snapshot, and ``StepFinished`` carries every turn, so none is missing at the
  end;
- a message under a lower fence than one heard of comes from a worker that has lost
  its lease, and counts for nothing;
- a cancelled task ends cancelled, whatever its steps still achieve;
- a step that its deadline ended stays failed; what its worker tells later only adds
  to the sums of tokens and vendor calls, once, and no event.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from contracts.message import JsonObject
from contracts.problems import Code, Problem, problem
from contracts.steps import StepFinished, StepOutcome
from contracts.tasks import SubmitTask, TaskEventType, TaskStatus
from contracts.turns import TurnFinished, TurnRecord
from orchestrator.domain.decision import Decision, Draft, Refusal
from orchestrator.domain.definition import Definition, parse, plain
from orchestrator.domain.document import digest
from orchestrator.domain.state import ActiveStep, Happening, Run

EARLY_TURNS_MAX: Final = 8
DETAIL_CHARS_MAX: Final = 4_000
"""Of a step's problem: snapshots, lists and bells carry it."""
ERRORS_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a run comes from, beside its submission."""

    step_deadline_s: float
    """Seconds that each step may take."""
    triggered_by: str | None = None
    """``<trigger>:<event id>``."""
    trace_id: str | None = None
    """The trace that accepted it, in hex."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run was asked to do; never changes while it lives."""

    definition: Definition
    brief: SubmitTask


def definition_of(brief: SubmitTask) -> Definition | Problem:
    """Return the checked definition of a submission, or what is wrong with it."""
    return parse(brief.definition, is_literal=_is_plain(brief))


def start(brief: SubmitTask, now: datetime, origin: Origin) -> Decision:
    """
    Open the run and owe its first step.

    The task was accepted, so a definition that cannot be run is no refusal: the run
    fails at once, with a pointer to what is wrong.
    """
    draft = Draft(
        Run(
            task_id=brief.task_id,
            tenant=brief.tenant,
            status=TaskStatus.SUBMITTED,
            employee=brief.employee,
            goal=brief.goal,
            definition_digest=digest(brief.definition),
            step_deadline_s=origin.step_deadline_s,
            created_at=brief.submitted_at,
            triggered_by=origin.triggered_by,
            trace_id=origin.trace_id,
        ),
        now,
    )
    started: JsonObject = {"definition": draft.run.definition_digest}
    if origin.triggered_by is not None:
        started["triggered_by"] = origin.triggered_by
    draft.note(TaskEventType.TASK_STARTED, started)
    definition = definition_of(brief)
    if isinstance(definition, Problem):
        draft.fail(definition)
        return draft.decision()
    draft.move(Happening.START)
    draft.ask(definition.tasks[0], brief.input, brief)
    return draft.decision()


def turn_finished(run: Run, message: TurnFinished, now: datetime) -> Decision:
    """Write the turn, and those that waited for it, into the history."""
    step = run.step(message.step_id)
    if step is None or message.fence < step.fence:
        return Decision(run)
    draft = Draft(run, now)
    waiting = _by_number(step, (message.turn,))
    reached = step.turns
    while reached + 1 in waiting:
        reached += 1
        draft.add_turn(step, waiting[reached])
    early = [waiting[number] for number in sorted(waiting) if number > reached]
    draft.update(
        replace(
            step,
            fence=message.fence,
            turns=reached,
            early=tuple(early[:EARLY_TURNS_MAX]),
        )
    )
    return draft.decision()


def step_finished(
    run: Run, plan: Plan, message: StepFinished, now: datetime
) -> Decision:
    """End the step, with every turn that its bells have not brought; go on."""
    step = run.step(message.step_id)
    if step is None:
        return _count_late(run, message, now)
    if message.fence < step.fence:
        return Decision(run)
    draft = Draft(run, now)
    missing = _by_number(step, message.turns)
    for number in sorted(missing):
        draft.add_turn(step, missing[number])
    draft.count(message.attempts)
    failure = _failure(step, message)
    result: JsonObject = {"turns": step.turns + len(missing)}
    if message.output is not None:
        result["output"] = message.output
    if failure is not None:
        result["problem"] = failure.model_dump(mode="json", exclude_none=True)
    if message.employee_version is not None:
        result["employee_version"] = message.employee_version
    draft.close(step, message.outcome, result)
    if run.status is TaskStatus.CANCELLING:
        _stop_when_idle(draft)
    elif failure is not None:
        draft.fail(failure)
    else:
        _go_on(draft, plan, step, message)
    return draft.decision()


def cancel(run: Run, reason: str | None, now: datetime) -> Decision | Refusal:
    """Stop the run: owe a cancel for each step, end when they have ended."""
    if run.status in {TaskStatus.CANCELLING, TaskStatus.CANCELLED}:
        return Decision(run)
    if run.status.is_end:
        detail = f"Task {run.task_id} is {run.status} and cannot be cancelled any more."
        return Refusal(Code.CONFLICT, detail)
    draft = Draft(run, now)
    draft.move(Happening.CANCEL)
    draft.note(
        TaskEventType.CANCEL_REQUESTED, {} if reason is None else {"reason": reason}
    )
    for step in run.active:
        draft.owe_cancel(step, reason or "the task was cancelled")
    _stop_when_idle(draft)
    return draft.decision()


def deadline_passed(run: Run, step_id: str, now: datetime) -> Decision:
    """Fail a step that has taken too long, and tell its worker to stop."""
    step = run.step(step_id)
    if step is None:
        return Decision(run)
    draft = Draft(run, now)
    for turn in step.early:
        draft.add_turn(step, turn)
    limit_s = f"{run.step_deadline_s:g}"
    failure = problem(
        Code.DEADLINE,
        f"{step.employee} did not finish within {limit_s} s; raise the orchestrator's "
        "step deadline or give a smaller goal.",
        instance=step.pointer,
    )
    draft.close(
        step,
        StepOutcome.FAILED,
        {
            "turns": step.turns + len(step.early),
            "problem": failure.model_dump(mode="json", exclude_none=True),
        },
    )
    draft.expect_word(step)
    if run.status is TaskStatus.CANCELLING:  # its cancel is owed already
        _stop_when_idle(draft)
    else:
        draft.owe_cancel(step, failure.detail)
        draft.fail(failure)
    return draft.decision()


def _count_late(run: Run, message: StepFinished, now: datetime) -> Decision:
    """Count what a step consumed whose end came too late; its history stays."""
    step = next((each for each in run.unheard if each.step_id == message.step_id), None)
    if step is None or message.fence < step.fence:
        return Decision(run)
    draft = Draft(run, now)
    for turn in message.turns:
        if turn.turn > step.turns and turn.turn not in step.early:
            draft.count(turn.attempts)
    draft.count(message.attempts)
    draft.hear_word(step)
    return draft.decision()


def _by_number(
    step: ActiveStep, turns: tuple[TurnRecord, ...]
) -> dict[int, TurnRecord]:
    """Return the turns that are not in the history yet."""
    known = {turn.turn: turn for turn in (*turns, *step.early)}
    return {number: known[number] for number in known if number > step.turns}


def _failure(step: ActiveStep, message: StepFinished) -> Problem | None:
    """Return why the step did not complete, pointing at it; None when it did."""
    if message.outcome is StepOutcome.COMPLETED:
        return None
    code = Code.INTERNAL
    detail = f"{step.employee} failed without saying why; see the task's history."
    if message.outcome is StepOutcome.CANCELLED:
        code, detail = Code.CANCELLED, f"{step.employee} was stopped."
    found = message.problem or problem(code, detail)
    return found.model_copy(
        update={
            "instance": step.pointer,
            "detail": found.detail[:DETAIL_CHARS_MAX],
            "errors": found.errors[:ERRORS_MAX],
        }
    )


def _go_on(draft: Draft, plan: Plan, step: ActiveStep, message: StepFinished) -> None:
    following = plan.definition.after(step.pointer)
    if following is not None:
        draft.ask(following, message.output, plan.brief)
        return
    draft.end(Happening.FINISH)
    completed: JsonObject = {}
    if message.output is not None:
        completed["output"] = message.output
    draft.note(TaskEventType.TASK_COMPLETED, completed)


def _stop_when_idle(draft: Draft) -> None:
    if not draft.run.active:
        draft.end(Happening.STOP)
        draft.note(TaskEventType.TASK_CANCELLED, {})


def _is_plain(brief: SubmitTask) -> bool:
    if brief.employee is None or brief.goal is None:
        return False
    return brief.definition == plain(brief.employee, brief.goal)
