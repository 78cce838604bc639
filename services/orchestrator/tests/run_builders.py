"""Runs, and what workers tell about them, as tests need them."""

from datetime import UTC, datetime, timedelta
from typing import Final

from contracts.completions import AttemptSummary, FinishReason
from contracts.message import Json, JsonObject
from contracts.problems import Code, problem
from contracts.steps import StepFinished, StepOutcome
from contracts.tasks import SubmitTask, TaskEventType, TaskFile
from contracts.turns import ToolCallRecord, TurnFinished, TurnRecord
from contracts.usage import EndState, TokenUsage, UsageSource
from orchestrator.domain import run as runs
from orchestrator.domain.decision import Decision
from orchestrator.domain.definition import Definition, plain
from orchestrator.domain.state import Run

NOW: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)
ORIGIN: Final = runs.Origin(3600, trace_id="ab" * 16)


def brief(definition: JsonObject | None = None) -> SubmitTask:
    """Build a submission; a plain task unless a definition is given."""
    return SubmitTask(
        task_id="task_1",
        tenant="acme",
        definition=definition or plain("clerk", "File it."),
        employee=None if definition else "clerk",
        goal=None if definition else "File it.",
        input={"number": 7},
        files=(TaskFile(name="a.txt", content="text"),),
        submitted_at=NOW - timedelta(seconds=1),
    )


def sequence(*employees: str) -> JsonObject:
    """Build a workflow in which these employees work one after the other."""
    entries: list[Json] = [
        {name: {"call": "employee", "with": {"employee": name, "goal": "Go on."}}}
        for name in employees
    ]
    return {**plain("clerk", "x"), "do": entries}


def plan(submitted: SubmitTask) -> runs.Plan:
    """Return what the run was asked to do."""
    definition = runs.definition_of(submitted)
    assert isinstance(definition, Definition)
    return runs.Plan(definition, submitted)


def started(submitted: SubmitTask | None = None) -> Run:
    """Return a run that has just begun."""
    return runs.start(submitted or brief(), NOW, ORIGIN).run


def attempt(name: str) -> AttemptSummary:
    """Build a vendor call of 3 input tokens."""
    return AttemptSummary(
        attempt_id=f"attempt_{name}",
        vendor="openai",
        model="m",
        end_state=EndState.COMPLETED,
        usage=TokenUsage(input_tokens=3),
        source=UsageSource.VENDOR,
    )


def turn(number: int) -> TurnRecord:
    """Build a turn of one attempt and one tool call."""
    return TurnRecord(
        turn=number,
        model="m",
        vendor="openai",
        finish_reason=FinishReason.STOP,
        tool_calls=(ToolCallRecord(call_id="c", name="t", arguments="", result=""),),
        attempts=(attempt(str(number)),),
        started_at=NOW,
        finished_at=NOW,
    )


def bell(run: Run, number: int, fence: int = 1) -> TurnFinished:
    """Build a turn's bell."""
    return TurnFinished(
        tenant="acme",
        task_id="task_1",
        step_id=run.active[0].step_id,
        fence=fence,
        turn=turn(number),
    )


def finish(
    run: Run,
    outcome: StepOutcome = StepOutcome.COMPLETED,
    output: Json = None,
    turns: int = 0,
    fence: int = 1,
) -> StepFinished:
    """Build the end of the run's active step."""
    return StepFinished(
        tenant="acme",
        task_id="task_1",
        step_id=run.active[0].step_id,
        fence=fence,
        outcome=outcome,
        output=output,
        problem=problem(Code.TURN_LIMIT, "Too many turns.")
        if outcome is StepOutcome.FAILED
        else None,
        employee_version=4,
        turns=tuple(turn(number) for number in range(1, turns + 1)),
        attempts=(attempt("failed"),),
        finished_at=NOW,
    )


def types(decision: Decision) -> list[str]:
    """Return what the decision writes into the history."""
    return [event.type.value for event in decision.events]


def numbers(decision: Decision) -> list[object]:
    """Return the numbers of the turns that the decision writes."""
    found: list[object] = []
    for event in decision.events:
        record = event.data.get("turn")
        if event.type is TaskEventType.TURN_FINISHED and isinstance(record, dict):
            found.append(record["turn"])
    return found
